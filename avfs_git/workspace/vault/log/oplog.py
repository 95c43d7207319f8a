"""The operation log: what was done to the forks of a vault, so that it can be taken back.

Decided here: when a line counts, and how undo and redo walk it. One line an operation, a checksum in front; a damaged
line (a torn write before a power cut) is passed over. Lines are appended under a lock on the file and forced to disk.
What an operation leaves behind stays reachable by refs, of which the record names the old and new values; the log
itself holds no object.

An operation that moves refs is *announced*: its line is on the disk before the first of them moves, with a mark that
says so, and the mark is changed in place when the outcome is known. Changing it is not forced to disk, and a process
that dies does not do it: then the refs tell. Where they still hold what they held before, it never happened; a later
operation's line tells what they held in between. So nothing has to be written after the refs have moved, and a
death at any instant leaves an operation that is complete and can be undone, or none.

`expire` forgets old operations by putting a shorter file in the place of the log. A process that waits for the lock of
the old file looks again.

An operation that happened also gets a line of the audit log, after all else: what it lacks, `AuditLog.note_missing`
adds.

What git does to a branch by itself stands in the log once avfs has seen it; `undo` refuses where a ref has moved since.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from itertools import islice, takewhile
from pathlib import Path
from typing import Any

from avfs_git.faults import reach
from avfs_git.host.files.closing import closing_fd
from avfs_git.host.files.durable import fsync_dir, host_errors, sync_file, write_file_atomically
from avfs_git.host.files.modes import open_file
from avfs_git.host.files.plainfile import open_plain, read_plain
from avfs_git.model import Operation
from avfs_git.paths import Oid, at_most, maybe_oid
from avfs_git.values import record_class
from avfs_git.workspace.vault.format import HEADS
from avfs_git.workspace.vault.log.announced import Announced
from avfs_git.workspace.vault.log.audit import AuditLog
from avfs_git.workspace.vault.log.lives import (
    Reader,
    Span,
    find_given_back,
    find_name_today,
    read_life,
    read_since_made,
    read_spans,
    under_name,
)
from avfs_git.workspace.vault.log.loglines import (
    ANNOUNCED,
    HAPPENED,
    INDEXED_ABOVE,
    Key,
    Line,
    LogView,
    open_line,
)
from avfs_git.workspace.vault.log.oprecord import (
    BASE,
    BY,
    FORK_CREATE,
    FORK_DELETE,
    FORK_RENAME,
    INTENT,
    OF_FORKS,
    REDO,
    RENAMED_FROM,
    UNDO,
    OpRecord,
    by_key,
    end_key,
    fact_key,
    fork_key,
    format_line,
    is_end,
    keys_of,
    names_of,
    parse_line,
    parse_lines,
    parse_places,
    ref_key,
)
from avfs_git.workspace.vault.log.outcomes import Outcomes
from avfs_git.workspace.vault.log.replay import find_undone, replay

_LINES = 4096
"""So much at the end of the log holds its last line, as good as always."""
_TAIL = 1 << 16
_TURNS = 64
"""So many of the newest operations are looked at first for what undo takes back next."""


@record_class
class Chosen:
    """Which operations stay in the log."""

    newest: int
    """So many of the newest, as they are."""
    whole: set[int]
    """Of the others these, by position, the newest being 0, as they are."""
    spent: set[int]
    """And these, which cannot be undone: a newer operation of the same fork is gone."""
    facts: set[int]
    """And these for what they say of their fork; they cannot be undone."""


class OpLog:
    """The log of one vault. Usable from several threads and processes."""

    def __init__(
        self,
        path: Path,
        read_ref: Callable[[str], Oid | None],
        *,
        indexed_above: int = INDEXED_ABOVE,
        audit: AuditLog | None = None,
    ) -> None:
        """Name a log, which need not exist; its index counts if the log has more than so many bytes.

        `audit` gets a line of each operation that happened.
        """
        self._path = path
        self._audit = audit
        self._read_ref = read_ref
        self._indexed_above = indexed_above
        self.has_written = False
        """Whether an operation was added through this object."""

    def append(self, record: OpRecord) -> OpRecord:
        """Add an operation that has happened, durably; its number is given here.

        Raises:
            HostError: If the disk fails. The log is as it was, or ends in a line that readers pass over.
        """
        os.close(self._append((record,), HAPPENED)[0])
        self._note(record)
        return record

    def announce(self, *records: OpRecord) -> Announced:
        """Add operations that are about to move refs, or happen if those do, durably; their numbers are given here.

        An operation that moves no ref happens if the one after it does; it has the fork and the time of that one.
        Called with these refs locked. The caller closes what it gets.

        Raises:
            HostError: If the disk fails. The log is as it was, or ends in a line that readers pass over.
        """
        return Announced(*self._append(records, ANNOUNCED), partial(self._note, *records))

    def _note(self, *records: OpRecord) -> None:
        if self._audit is not None:
            self._audit.note(*records)

    def _append(self, records: Sequence[OpRecord], mark: bytes) -> tuple[int, list[int]]:
        """Write lines; give the open file, and where the lines begin in it."""
        self.has_written = True
        with host_errors("write the operation log"):
            fd, fresh = self._open_locked()
            try:
                size = os.fstat(fd).st_size
                tail, last = b"", None
                for window in (_LINES, _TAIL, size):  # a line may be longer than most
                    tail = os.pread(fd, window, max(0, size - window))
                    opened = (open_line(line) for line in reversed(tail.split(b"\n")))
                    last = next(filter(None, (parse_line(found[1]) for found in opened if found is not None)), None)
                    if last is not None or len(tail) == size:
                        break
                # An append that was cut short must not take this one with it.
                written = b"\n" if tail and not tail.endswith(b"\n") else b""
                starts: list[int] = []
                for number, record in enumerate(records, (last.id if last else 0) + 1):
                    record.id = number
                    starts.append(size + len(written))
                    written += format_line(record, mark)
                try:
                    if os.pwrite(fd, written, size) != len(written):
                        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                    reach("oplog.written")
                    sync_file(fd, data_only=True)
                    if fresh:
                        fsync_dir(self._path.parent)
                    reach("oplog.synced")
                except BaseException:
                    with suppress(OSError):
                        os.ftruncate(fd, size)  # what was not acknowledged is not there
                    raise
                fcntl.flock(fd, fcntl.LOCK_UN)
            except BaseException:
                os.close(fd)
                raise
            return fd, starts

    def _open_locked(self) -> tuple[int, bool]:
        """Open the log for writing, with its lock taken; tell whether it was made just now."""
        while True:
            try:
                fd, fresh = open_plain(self._path, os.O_RDWR), False
            except FileNotFoundError:
                fd, fresh = open_file(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW), True
            try:
                fcntl.flock(fd, fcntl.LOCK_EX)
                # While this waited, `expire` may have put another file in its place.
                with suppress(FileNotFoundError):
                    if os.path.samestat(os.fstat(fd), os.stat(self._path)):
                        return fd, fresh
            except BaseException:
                os.close(fd)
                raise
            os.close(fd)

    def expire(self, choose: Callable[[list[OpRecord]], Chosen]) -> int:
        """Forget old operations, durably: they can no longer be undone.

        `choose` gets all operations that happened, the newest first, and says which stay.

        Returns:
            How many operations can no longer be undone.

        Raises:
            HostError: If the disk refuses; the log is as it was.
        """
        with host_errors("shorten the operation log"):
            try:
                fd = open_plain(self._path, os.O_RDWR)
            except FileNotFoundError:
                return 0
            os.close(fd)
            fd, _ = self._open_locked()
            with closing_fd(fd):
                return self._shorten(choose, stat.S_IMODE(os.fstat(fd).st_mode))

    def _shorten(self, choose: Callable[[list[OpRecord]], Chosen], mode: int) -> int:
        before = read_plain(self._path)
        with self._view() as view:
            outcomes = self._outcomes(view)
            found = [
                (at, record) for at, record, mark in parse_places(view.lines()) if outcomes.happened(at, record, mark)
            ]
        records = [record for _, record in found]
        chosen = choose(records)
        if chosen.newest >= len(records):
            return 0
        # The end stays byte for byte: a line in it may be that of an operation under way.
        end = before[found[chosen.newest][0] :].partition(b"\n")[2]
        undone = find_undone(records)  # the lines that say so may go
        kept: list[bytes] = []
        gone = 0
        for at in range(len(records) - 1, chosen.newest - 1, -1):
            record = records[at]
            if at in chosen.whole:
                kept.append(format_line(record, HAPPENED))
                continue
            gone += record.is_lost_without()
            if at in chosen.spent:
                kept.append(format_line(record.expired(undone=record.id in undone), HAPPENED))
            elif at in chosen.facts:
                kept.append(format_line(record.without_moves(undone=record.id in undone), HAPPENED))
        content = b"".join(kept) + end
        if content != before:
            reach("oplog.expiring")
            write_file_atomically(self._path, content, mode=mode)
        return gone

    def read(self) -> Iterator[OpRecord]:
        """Yield all operations that happened, newest first; reads no more of the log than the caller asks for."""
        with self._view() as view:
            yield from self._outcomes(view).choose(view.lines())

    def _outcomes(self, view: LogView) -> Outcomes:
        return Outcomes(view, self._read_ref)

    @contextmanager
    def _view(self) -> Iterator[LogView]:
        with (
            host_errors("read the operation log"),
            LogView(self._path, keys_of, indexed_above=self._indexed_above) as view,
        ):
            yield view

    def write_index(self, *, beyond: int = 0) -> bool:
        """Make the index cover the whole log, if it lacks more than so many bytes; tell whether it was made.

        Raises:
            HostError: If the disk refuses; the old index is there.
        """
        with self._view() as view:
            return view.size - view.covered > beyond and view.write_index()

    def measure_end(self) -> int:
        """Tell how many bytes of the log the index does not cover."""
        with self._view() as view:
            return view.size - view.covered

    def count_damaged(self) -> int:
        """Count the lines that were written whole and are not as they were.

        A crash leaves parts of lines, which do not count.
        """
        with self._view() as view:
            return sum(line.endswith(b"}") and open_line(line) is None for _, line in view.lines())

    def has_happened(self, fork: str, intent: str) -> bool:
        """Tell whether the operation on a fork that was announced by an intent has happened."""
        return any(record.more.get(INTENT) == intent for record in self.read_fork(fork))

    def find_unconfirmed(self, fork: str) -> list[OpRecord]:
        """List the operations of a fork that announced moves of refs, which no later record confirms or replaces."""
        found: list[OpRecord] = []
        with self._view() as view:
            outcomes = self._outcomes(view)
            for at, record, mark in parse_places(view.announced()):
                refs = [ref for ref, _, _ in record.moves] if record.fork == fork else []
                if (
                    refs
                    and outcomes.happened(at, record, mark)
                    and not any(outcomes.is_moved_after(ref, at) for ref in refs)
                ):
                    found.append(record)
        return found

    def read_fork(self, fork: str | None) -> Iterator[OpRecord]:
        """Yield the operations of one fork, or of all, newest first; also what gave a fork that name or took it."""
        if fork is None:
            yield from self.read()
            return
        with self._view() as view:
            yield from self._find(view, fork_key(fork), partial(_is_of, fork))

    def read_naming(self, oids: Collection[Oid], newest: int) -> Iterator[OpRecord]:
        """Yield the operations whose line names an object, among so many of the newest lines, newest first."""
        with self._view() as view:
            yield from self._outcomes(view).choose(view.naming([f'"{oid.hex()}"'.encode() for oid in oids], newest))

    def _find(self, view: LogView, key: Key, concerns: Callable[[OpRecord], bool]) -> Iterator[OpRecord]:
        """Yield the operations that happened and concern a key, newest first."""
        outcomes = self._outcomes(view)
        for at, record, mark in parse_places(view.find(key)):
            if concerns(record) and outcomes.happened(at, record, mark):
                yield record

    def find_making(self, fork: str) -> OpRecord | None:
        """Find the operation that made a fork, or the vault with it.

        Return None if the log does not say it of today's fork.
        """
        turned: dict[int | None, str] = {}
        for record in self.read_life(fork):
            if record.kind in (UNDO, REDO):
                turned.setdefault(record.target, record.kind)  # the newest of these counts
            elif record.kind in (FORK_CREATE, FORK_DELETE, "vault_create") and turned.get(record.id) != UNDO:
                return record if record.kind != FORK_DELETE else None
        return None

    def read_life(self, fork: str) -> Iterator[OpRecord]:
        """Yield the operations of a fork, newest first, and before it was renamed those of the names that it had."""
        return (record for record, _ in read_life(self.read_fork, fork))

    def read_listed(self, fork: str | None) -> Iterator[OpRecord]:
        """Yield what `list_operations` lists: all, or the life of a fork, or of the last one of a name that is gone."""
        return (record for record, _ in self._follow(self.read_fork, fork))

    def read_spans(self, fork: str) -> tuple[Span, ...]:
        """List the parts of a fork's life; reads all that the log has of it."""
        return read_spans(self.read_fork, fork, is_gone=not self._is_there(fork))

    def find_name_today(self, record: OpRecord) -> str:
        """Name the fork that an operation was on as it is called today."""
        return find_name_today(self.read_fork, record.fork, record.id)

    def find_last_state(self, fork: str) -> OpRecord | None:
        """Find the last operation that recorded what the workspace of a fork holds, in its `after`.

        What was done to another fork of that name, before this one was made, does not count.
        """
        for record in read_since_made(self.read_fork(fork)):
            if record.after is not None and record.fork == fork:
                return record
            if record.kind == FORK_RENAME:
                return None
        return None

    def find_bases(self, forks: Iterable[str]) -> dict[str, tuple[OpRecord, bool]]:
        """Find the last operation of each fork that says what its workspace begins with, in `base`.

        Without the forks of which no operation says it since their branch was last removed. With each: whether an
        operation recorded a state of the workspace since.
        """
        found: dict[str, tuple[OpRecord, bool]] = {}
        with self._view() as view:
            for fork in forks:
                told = next(self._find(view, fact_key(fork, BASE), partial(_says, fork, BASE)), None)
                gone = next(self._find(view, end_key(fork), partial(is_end, fork)), None)
                if told is None or (gone is not None and gone.id > told.id):
                    continue  # what comes before was another fork of that name
                since = takewhile(partial(_is_after, told.id), self._find(view, fork_key(fork), partial(_is_of, fork)))
                # what was done under the old name counts
                is_recorded = told.kind == FORK_RENAME or RENAMED_FROM in told.more
                found[fork] = told, is_recorded or any(record.after is not None for record in since)
        return found

    def find_last_fact(self, fork: str, name: str) -> Any:
        """Find what the last operation of a fork says that says a fact in `more`, one of `FACTS`.

        Return None if no operation does.
        """
        with self._view() as view:
            found = self._find(view, fact_key(fork, name), partial(_says, fork, name))
            return next((record.more[name] for record in found), None)

    def find_last_value(self, ref: str) -> tuple[str | None, int]:
        """Find the newest value of a ref that the log names, and its time in nanoseconds since the epoch.

        For a ref that does not say what it holds: an operation that was announced counts, whether or not it happened.
        """
        with self._view() as view:
            found = (
                (new, record.created_at_ns)
                for record, _ in parse_lines(view.find(ref_key(ref)))
                for name, _, new in record.moves
                if name == ref
            )
            return next(found, (None, 0))

    def find_last_position(self, ref: str, made_ns: int | None = None) -> tuple[Oid | None, int]:
        """Find what a branch was last moved to together with its workspace, and when, in ns; 0 if by an undo.

        None if no operation that the log still has moved it so, or the last one removed it. `made_ns` is when the
        workspace was made: a later removal does not count, because a crash has cut it short and left the workspace, or
        undo has brought that back. Nor does such an undo: the branch comes back with what others had put on it, and the
        files without that.
        """

        def counts(record: OpRecord) -> bool:
            is_later = made_ns is not None and record.created_at_ns > made_ns
            is_back = record.kind in (UNDO, REDO) and RENAMED_FROM not in record.more
            return any(
                name == ref and (not is_later if new is None else not (is_back and old is None))
                for name, old, new in record.moves
            )

        with self._view() as view:
            records = self._find(view, ref_key(ref), counts)
            record = next(records, None)
        when_ns = record.created_at_ns if record is not None and record.kind != UNDO else 0
        return maybe_oid(record.position(ref)) if record is not None else None, when_ns

    def list_operations(self, fork: str | None, limit: int, *, at_hand: bool = False) -> list[Operation]:
        """List operations, newest first, with what has been undone marked.

        With `at_hand`, also those on other forks for which this one was at hand.
        """
        listed = self._follow(self._read_turns if at_hand else self.read_fork, fork)
        found = [record for record, _ in islice(listed, at_most(limit))]
        undone = find_undone(found)  # what takes back one of these is newer, so it is among them
        return [record.to_operation(undone=record.id in undone) for record in found]

    def find_undoable(
        self, fork: str | None, is_as_made: Callable[[OpRecord], bool] = lambda _: True, *, alone: bool = False
    ) -> OpRecord | None:
        """Find what `undo` takes back next: on a fork, or another fork's making or deletion with this one at hand.

        The making of another fork counts until something is done there. `is_as_made` tells of a line that made another
        fork whether nothing was done there that the log does not say. The deletion or rename of a fork is passed over
        where avfs has done something since to another fork of that name, with all that came before it there. A branch
        of that name that the log does not know is in the way, and the caller says so. With `alone`, all that was done
        to other forks is passed over.
        """
        remade: set[str] = set()

        def is_next(record: OpRecord) -> bool:
            if remade & {record.fork, fork}:
                return False
            if record.kind == FORK_DELETE and self._is_remade(record.fork, record):
                remade.add(record.fork)
                return False
            if record.kind == FORK_RENAME and record.fork != fork:
                old = record.more[RENAMED_FROM]
                is_away = fork == old and (alone or self._is_used(record))
                if is_away or self._is_remade(old, record):
                    remade.add(old)
                    return False
            if fork in (None, record.fork):
                return True
            if record.kind == FORK_RENAME:
                return not alone and not self._is_used(record)
            return not alone and (record.kind != FORK_CREATE or (not self._is_used(record) and is_as_made(record)))

        before = find_given_back(self.read_fork, fork) if fork is not None and not self._is_there(fork) else None
        for done, _ in self._replay_back(fork, before):
            remade.clear()
            found = next(filter(is_next, reversed(done)), None)
            if found is not None:
                return found
        return None

    def _is_there(self, fork: str) -> bool:
        return self._read_ref(HEADS + fork) is not None

    def _is_remade(self, name: str, left: OpRecord) -> bool:
        """Tell whether there is another fork of a name that an operation has taken from one, and the log knows it."""
        if not self._is_there(name):
            return False
        newest = next(self.read_fork(name), left)
        return left.id not in (newest.id, newest.target)

    def _is_used(self, made: OpRecord) -> bool:
        """Tell whether anything was done in a fork since it was made, or to the whole fork so that it is gone."""
        since = list(takewhile(partial(_is_after, made.id), self.read_fork(made.fork)))
        is_worked_in = any(record.kind not in (*OF_FORKS, UNDO, REDO) for record in since)
        return is_worked_in or any(record.kind in (FORK_DELETE, FORK_RENAME) for record in replay(since)[0])

    def find_redoable(
        self, fork: str | None, is_as_left: Callable[[OpRecord], bool] = lambda _: True, *, alone: bool = False
    ) -> OpRecord | None:
        """Find the operation that `redo` does again next.

        Args:
            fork: Which fork; all if not given.
            is_as_left: Tells of a line that deleted a fork whether nothing was done there since undo brought it back.
            alone: Whether to pass over what was done to other forks.
        """
        for _, undone in self._replay_back(fork):
            own = (record for record in reversed(undone) if not alone or fork in names_of(record))
            found = next((record for record in own if record.kind != FORK_DELETE or is_as_left(record)), None)
            if found is not None:
                return found
        return None

    def _replay_back(
        self, fork: str | None, before: int | None = None
    ) -> Iterator[tuple[list[OpRecord], list[OpRecord]]]:
        """Sort the newest operations at hand into those in force and those taken back, then more of them, at last all.

        An undo or redo whose target is older than the operations read does not count: more are read first.
        """
        turns = (under_name(record, names, fork) for record, names in self._follow(self._read_turns, fork, before))
        records: list[OpRecord] = []
        while True:
            more = list(islice(turns, max(_TURNS, len(records))))
            records += more
            ids = {record.id for record in records}
            is_all = len(more) < _TURNS
            if is_all or all(record.target in ids for record in records if record.kind in (UNDO, REDO)):
                yield replay(records)
            if is_all:
                return

    def _follow(
        self, read: Reader, fork: str | None, before: int | None = None
    ) -> Iterator[tuple[OpRecord, frozenset[str]]]:
        """Yield what `read` has of the life of a fork, or all, newest first, with the names that the fork had then."""
        if fork is not None:
            return read_life(read, fork, is_gone=not self._is_there(fork), before=before)
        return ((record, frozenset()) for record in self.read())

    def _read_turns(self, fork: str) -> Iterator[OpRecord]:
        """Yield the operations of a fork of that name and those on others for which it was at hand, newest first."""
        from heapq import merge  # noqa: PLC0415 - only undo needs it

        with self._view() as view:
            outcomes = self._outcomes(view)
            lines = merge(view.find(fork_key(fork)), view.find(by_key(fork)), key=_negative_offset)
            last = -1
            for at, record, mark in parse_places(lines):
                if (
                    at != last
                    and fork in (*names_of(record), record.more.get(BY))
                    and outcomes.happened(at, record, mark)
                ):
                    yield record
                last = at


def _negative_offset(line: Line) -> int:
    return -line[0]


def _is_after(number: int, record: OpRecord) -> bool:
    return record.id > number


def _is_of(fork: str, record: OpRecord) -> bool:
    return fork in names_of(record)


def _says(fork: str, fact: str, record: OpRecord) -> bool:
    return record.fork == fork and fact in record.more
