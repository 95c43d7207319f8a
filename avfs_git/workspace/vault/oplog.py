"""The operation log: what was done to the forks of a vault, so that it can be taken back.

Decided here: the format of `avfs/oplog`, when a line counts, and how undo and redo walk it. One line an operation, a
checksum in front; a damaged line (a torn write before a power cut) is passed over. Lines are appended under a lock
on the file and forced to disk. What an operation leaves behind stays reachable by refs, of which the record
names the old and new values; the log itself holds no object.

An operation that moves refs is *announced*: its line is on the disk before the first of them moves, with a mark that
says so, and the mark is changed in place when the outcome is known. Changing it is not forced to disk, and a process
that dies does not do it: then the refs tell. Where they still hold what they held before, it never happened; a later
operation's line tells what they held in between. So nothing has to be written after the refs have moved, and a
death at any instant leaves an operation that is complete and can be undone, or none.

`expire` forgets old operations by putting a shorter file in the place of the log. A process that waits for the lock of the old
file looks again.

What git does to a branch by itself is not in the log; `undo` refuses where a ref has moved since.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import re
import stat
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from avfs_git.faults import reach
from avfs_git.host.files.durable import fsync_dir, host_errors, sync_file, write_file_atomically
from avfs_git.host.files.modes import open_file
from avfs_git.host.files.plainfile import open_plain, read_plain
from avfs_git.model import Operation, RefMove
from avfs_git.paths import Oid, maybe_oid
from avfs_git.patterns import compiled
from avfs_git.values import field, record_class, replace
from avfs_git.workspace.vault.format import HEADS

UNDO, REDO = "undo", "redo"
FORK_CREATE, FORK_DELETE = "fork_create", "fork_delete"
OF_FORKS = (FORK_CREATE, FORK_DELETE)
"""The operations on a fork as a whole."""
_LINES = 4096
"""So much at the end of the log holds its last line, as good as always."""
_TAIL = 1 << 16
_HAPPENED, _ANNOUNCED, _WITHDRAWN = b" ", b"?", b"-"
"""The mark of a line, between its checksum and its text."""
_MARK_AT = 8
_ANNOUNCED_LINE = compiled(rb"^[0-9a-f]{8}\?\{", re.MULTILINE)

FILES = "files"
"""The operation that changed files and no branch: see `workspace.checkpoint.changes`."""
SINCE = "since_ns"
"""The name, in `more`, of the time when an operation began to change files, all that was there before being saved."""
SIDECAR = "sidecar_after"
"""The name, in `more`, of the sidecar commit of the state after, where the commit names another."""
SIDECAR_BEFORE = "sidecar_before"
"""Likewise of the state before."""
EXACT = "exact"
"""The name, in `more`, of whether the commits before and after tell all: one without a sidecar has nothing beside."""
LEFT_AT = "left_at"
"""The name, in `more`, of the epoch of a fork's files, and the commit that holds them all, when undo brought the fork back."""
BY = "by"
"""The name, in `more`, of the fork at hand when another fork was made or deleted: `undo` there takes it back."""
CAPTURED = "captured_ns"
"""The name, in `more`, of a time of the kernel's at which nothing had been changed yet that the state after does not hold."""
INTENT = "intent"
"""The name, in `more`, of the word that ties a line to what was to be done to files (`format.Pending.intent`)."""

FROM = "branch_from"
"""The name, in `more`, of where the branch was when a command began in which git moved it: undo takes both moves back."""
GIT_HEAD = "git_head"
"""The name, in `more`, of where git's HEAD was in the live tree before and after: a ref or a commit; null on the fork's."""
IN_MERGE = "in_merge"
"""The name, in `more`, of whether files changed while conflicts were in them: that can be undone until the merge ends."""
_OF_MERGES = ("merge_begin", "merge_abort", "merge", "rebase", "cherry_pick")
OURS = "ours"
"""The name, in `more`, of the commit that the workspace held where others had moved the branch: undo leaves it there."""

RefMoveRecord = tuple[str, str | None, str | None]
"""A ref with its old and its new value in hexadecimal; None where it does not exist."""


@record_class
class OpRecord:
    """One line of the log."""

    id: int
    fork: str
    kind: str
    description: str
    created_at_ns: int
    moves: list[RefMoveRecord] = field(default_factory=list)
    before: str | None = None
    """The commit whose state the workspace had, where the operation changed files."""
    after: str | None = None
    target: int | None = None
    """For undo and redo: the operation that they speak of."""
    more: dict[str, Any] = field(default_factory=dict)
    is_confirmed: bool = True
    """Whether its line says that it happened; otherwise the refs were asked."""

    def without_moves(self) -> OpRecord:
        """Make a record that says of the fork what this one says, and that cannot be undone."""
        return replace(self, moves=[], before=None)

    def whole_moves(self) -> list[RefMoveRecord]:
        """List what the operation did to refs, with what git did to the branch in it."""
        ref = HEADS + self.fork
        return [(name, self.more.get(FROM, old) if name == ref else old, new) for name, old, new in self.moves]

    def to_operation(self, *, undone: bool = False) -> Operation:
        """Make the value that callers see."""
        moves = tuple(RefMove(ref, old, new) for ref, old, new in self.whole_moves())
        return Operation(self.id, self.fork, self.kind, self.description, self.created_at_ns, moves, undone, self.target)


@record_class
class Chosen:
    """Which operations stay in the log."""

    newest: int
    """So many of the newest, as they are."""
    whole: set[int]
    """Of the others these, by position, the newest being 0, as they are."""
    facts: set[int]
    """And these for what they say of their fork; they cannot be undone."""


class Announced:
    """Lines that were written before what they speak of. Used by one thread; closed when the outcome is known."""

    def __init__(self, fd: int, offsets: Sequence[int]) -> None:
        self._fd = fd
        self._offsets = offsets

    def close(self, *, happened: bool | None) -> None:
        """Say whether it happened; None leaves that to the refs. A second call does nothing.

        Not forced to disk, and no failure counts: the refs say the same.
        """
        fd, self._fd = self._fd, -1
        if fd < 0:
            return
        with suppress(OSError):
            if happened is not None:
                for offset in self._offsets:
                    os.pwrite(fd, _HAPPENED if happened else _WITHDRAWN, offset + _MARK_AT)
        os.close(fd)


class OpLog:
    """The log of one vault. Usable from several threads and processes."""

    def __init__(self, path: Path, read_ref: Callable[[str], Oid | None]) -> None:
        self._path = path
        self._read_ref = read_ref

    def append(self, record: OpRecord) -> OpRecord:
        """Add an operation that has happened, durably; its number is given here.

        Raises:
            HostError: If the disk fails. The log is as it was, or ends in a line that readers pass over.
        """
        os.close(self._append((record,), _HAPPENED)[0])
        return record

    def announce(self, *records: OpRecord) -> Announced:
        """Add operations that are about to move refs, or happen if those do, durably; their numbers are given here.

        Of an operation that moves no ref, only the caller that closes the result knows that it happened.

        Called with these refs locked. The caller closes what it gets.

        Raises:
            HostError: If the disk fails. The log is as it was, or ends in a line that readers pass over.
        """
        return Announced(*self._append(records, _ANNOUNCED))

    def _append(self, records: Sequence[OpRecord], mark: bytes) -> tuple[int, list[int]]:
        """Write lines; give the open file, and where the lines begin in it."""
        with host_errors("write the operation log"):
            fd, fresh = self._open_locked()
            try:
                size = os.fstat(fd).st_size
                tail, last = b"", None
                for window in (_LINES, _TAIL, size):  # a line may be longer than most
                    tail = os.pread(fd, window, max(0, size - window))
                    last = next(_parse_backwards(tail.split(b"\n"), withdrawn=True), None)
                    if last is not None or len(tail) == size:
                        break
                # An append that was cut short must not take this one with it.
                written = b"\n" if tail and not tail.endswith(b"\n") else b""
                starts: list[int] = []
                for number, record in enumerate(records, (last[0].id if last else 0) + 1):
                    record.id = number
                    starts.append(size + len(written))
                    written += _format(record, mark)
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
            fd, fresh = self._open()
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
            try:
                return self._shorten(choose, stat.S_IMODE(os.fstat(fd).st_mode))
            finally:
                os.close(fd)

    def _shorten(self, choose: Callable[[list[OpRecord]], Chosen], mode: int) -> int:
        lines = self._read_all().split(b"\n")
        found = [(at, line) for at in reversed(range(len(lines))) for line in _parse_backwards(lines[at : at + 1])]  # one or none
        place_of = {id(record): at for at, (record, _) in found}
        records = list(self._resolve(line for _, line in found))
        chosen = choose(records)
        if chosen.newest >= len(records):
            return 0
        # The end stays byte for byte: a line in it may be that of an operation under way.
        end = lines[place_of[id(records[chosen.newest])] + 1 :]
        kept: list[bytes] = []
        gone = 0
        for at in range(len(records) - 1, chosen.newest - 1, -1):
            record = records[at]
            if at in chosen.whole:
                kept.append(_format(record, _HAPPENED))
                continue
            gone += bool(record.moves) or record.before is not None
            if at in chosen.facts:
                kept.append(_format(record.without_moves(), _HAPPENED))
        content = b"".join(kept) + b"\n".join(end)
        if content != b"\n".join(lines):
            reach("oplog.expiring")
            write_file_atomically(self._path, content, mode=mode)
        return gone

    def _open(self) -> tuple[int, bool]:
        """Open the log for writing; tell whether it was made just now."""
        try:
            return open_plain(self._path, os.O_RDWR), False
        except FileNotFoundError:
            return open_file(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW), True

    def read(self) -> Iterator[OpRecord]:
        """Yield all operations that happened, newest first."""
        yield from self._resolve(_parse_backwards(self._read_all().split(b"\n")))

    def _read_all(self) -> bytes:
        """Read the whole log; empty where it does not exist."""
        with host_errors("read the operation log"):
            try:
                return read_plain(self._path)
            except FileNotFoundError:
                return b""

    def _resolve(self, found: Iterable[tuple[OpRecord, bytes]]) -> Iterator[OpRecord]:
        """Yield the operations that happened, newest first, of the last lines of the log with their marks."""
        later: dict[str, str | None] = {}
        """What refs held before the operations that were passed already."""
        for record, mark in found:
            if mark == _ANNOUNCED:
                record.is_confirmed = False
                if not self._has_happened(record, later):
                    continue
            later.update({ref: old for ref, old, _ in record.moves})
            yield record

    def _has_happened(self, record: OpRecord, later: dict[str, str | None]) -> bool:
        """Ask the refs whether an operation that was announced has moved them, or the branch if that is one of them.

        A branch moves before what depends on it, and after what it depends on.
        """
        branches = [move for move in record.moves if move[0].startswith(HEADS)]
        if branches and all(old == new for _, old, new in branches):
            return True  # announced when all files were in place: nothing else was left to do
        for ref, old, _ in branches or record.moves:
            if ref in later:
                held = later[ref]
            else:
                oid = self._read_ref(ref)
                held = oid.hex() if oid is not None else None
            if held != old:
                return True
        return False

    def has_happened(self, fork: str, intent: str) -> bool:
        """Tell whether the operation on a fork that was announced by an intent has happened."""
        return any(record.more.get(INTENT) == intent for record in self.read_fork(fork))

    def find_unconfirmed(self, fork: str) -> list[OpRecord]:
        """List the operations of a fork that announced moves of refs, which no later record confirms or replaces.

        Reads the log as bytes, and parses it from the first line on that is only announced: most logs have no such line.
        """
        data = self._read_all()
        first = _ANNOUNCED_LINE.search(data) if _ANNOUNCED + b"{" in data else None
        if first is None:
            return []
        found: list[OpRecord] = []
        touched: set[str] = set()
        for record in self._resolve(_parse_backwards(data[first.start() :].split(b"\n"))):
            refs = {ref for ref, _, _ in record.moves}
            if record.fork == fork and not record.is_confirmed and not refs & touched:
                found.append(record)
            touched |= refs
        return found

    def read_fork(self, fork: str | None) -> Iterator[OpRecord]:
        """Yield the operations of one fork, or of all, newest first."""
        return (record for record in self.read() if fork is None or record.fork == fork)

    def find_last_state(self, fork: str) -> OpRecord | None:
        """Find the last operation that recorded what the workspace of a fork holds, in its `after`.

        What was done to another fork of that name, before this one was made, does not count.
        """
        brought_back: set[int | None] = set()
        for record in self.read_fork(fork):
            if record.after is not None:
                return record
            if record.kind == FORK_CREATE:
                return None
            for ref, old, new in record.moves:
                if ref == HEADS + fork and old is None and record.kind in (UNDO, REDO):
                    brought_back.add(record.target)
                elif ref == HEADS + fork and new is None and not brought_back & {record.id, record.target}:
                    return None
        return None

    def find_last_fact(self, fork: str, name: str) -> Any:
        """Find what the last operation of a fork says that says a fact in `more`; None if no operation does."""
        if f'"{name}"'.encode() not in self._read_all():
            return None
        return next((record.more[name] for record in self.read_fork(fork) if name in record.more), None)

    def find_last_value(self, ref: str) -> tuple[str | None, int]:
        """Find the newest value of a ref that the log names, and its time in nanoseconds since the epoch.

        For a ref that does not say what it holds: an operation that was announced counts, whether or not it happened.
        """
        lines = self._read_all().split(b"\n")
        found = (
            (new, record.created_at_ns) for record, _ in _parse_backwards(lines) for name, _, new in record.moves if name == ref
        )
        return next(found, (None, 0))

    def find_last_position(self, ref: str) -> Oid | None:
        """Find what a branch was last moved to together with its workspace.

        None if no operation that the log still has moved it so, or the last one removed it.
        """
        moves = ((record, new) for record in self.read() for name, _, new in record.moves if name == ref)
        record, new = next(moves, (None, None))
        if record is not None and record.kind == UNDO:  # of an update: the files have only our side again
            new = record.more.get(OURS, new)
        return maybe_oid(new)

    def list_operations(self, fork: str | None, limit: int, *, unrecorded: Sequence[OpRecord] = ()) -> list[Operation]:
        """List operations, newest first, with what has been undone marked.

        The operations `unrecorded`, which git has done since, get the numbers that come next.
        """
        records = list(self.read())
        for record in unrecorded:
            records.insert(0, replace(record, id=records[0].id + 1 if records else 1))
        records = [record for record in records if fork in (None, record.fork)]
        undone = {record.id for record in _replay(records)[1]}
        return [record.to_operation(undone=record.id in undone) for record in records[:limit]]

    def find_undoable(self, fork: str | None, is_as_made: Callable[[OpRecord], bool] = lambda _: True) -> OpRecord | None:
        """Find the operation that `undo` takes back next: on a fork, or where it was at hand when another was made or deleted.

        The making of another fork counts until something is done there. `is_as_made` tells of a line that made another fork
        whether nothing was done there that the log does not say.
        """
        records = self._list_turns(fork)
        done, _ = _replay(records)
        used = (
            {record.fork for record in self.read() if record.kind not in (*OF_FORKS, UNDO, REDO)} if fork is not None else set()
        )
        mine = (record for record in reversed(done) if fork in (None, record.fork) or record.kind != FORK_CREATE)
        made = (record for record in reversed(done) if record.kind == FORK_CREATE and record.fork not in used)
        others = (record for record in made if record.fork == fork or is_as_made(record))
        return max(next(mine, None), next(others, None), key=lambda record: done.index(record) if record is not None else -1)

    def find_redoable(self, fork: str | None, is_as_left: Callable[[OpRecord], bool] = lambda _: True) -> OpRecord | None:
        """Find the operation that `redo` does again next.

        Args:
            fork: Which fork; all if not given.
            is_as_left: Tells of a line that deleted a fork whether nothing was done there since undo brought it back.
        """
        _, undone = _replay(self._list_turns(fork))
        return next((record for record in reversed(undone) if record.kind != FORK_DELETE or is_as_left(record)), None)

    def _list_turns(self, fork: str | None) -> list[OpRecord]:
        return [record for record in self.read() if fork is None or fork in (record.fork, record.more.get(BY))]


def _replay(newest_first: list[OpRecord]) -> tuple[list[OpRecord], list[OpRecord]]:
    """Sort operations into those in force and those taken back, each in the order of time."""
    by_id: dict[int, OpRecord] = {}
    done: list[OpRecord] = []
    undone: list[OpRecord] = []
    for record in reversed(newest_first):
        by_id[record.id] = record
        if record.kind in _OF_MERGES:
            done = [other for other in done if other.fork != record.fork or IN_MERGE not in other.more]
            undone = [other for other in undone if other.fork != record.fork or IN_MERGE not in other.more]
        if record.kind == UNDO and record.target in by_id:
            target = by_id[record.target]
            done = [other for other in done if other.id != target.id]
            undone.append(target)
        elif record.kind == REDO and record.target in by_id:
            target = by_id[record.target]
            undone = [other for other in undone if other.id != target.id]
            done.append(target)
        elif record.kind not in (UNDO, REDO) and (record.moves or record.before is not None or GIT_HEAD in record.more):
            done.append(record)
            undone = [other for other in undone if _at_hand(other) != _at_hand(record)]
    return done, undone


def _at_hand(record: OpRecord) -> str:
    """Name the fork at hand when an operation was done."""
    return str(record.more.get(BY, record.fork))


def _format(record: OpRecord, mark: bytes) -> bytes:
    body = json.dumps(
        {
            "id": record.id,
            "fork": record.fork,
            "kind": record.kind,
            "text": record.description,
            "at": record.created_at_ns,
            "moves": record.moves,
            "before": record.before,
            "after": record.after,
            "target": record.target,
            "more": record.more,
        },
        separators=(",", ":"),
    ).encode()
    return b"%08x%s%s\n" % (zlib.crc32(body), mark, body)


def _parse_backwards(lines: list[bytes], *, withdrawn: bool = False) -> Iterator[tuple[OpRecord, bytes]]:
    """Read lines, the last first, with their marks; without those that were withdrawn, unless asked for."""
    for line in reversed(lines):
        checksum, mark, body = line[:_MARK_AT], line[_MARK_AT : _MARK_AT + 1], line[_MARK_AT + 1 :]
        if mark not in (_HAPPENED, _ANNOUNCED, _WITHDRAWN) or not body or checksum != b"%08x" % zlib.crc32(body):
            continue
        if mark == _WITHDRAWN and not withdrawn:
            continue
        record = _parse(body)
        if record is not None:
            yield record, mark


def _parse(body: bytes) -> OpRecord | None:
    """Read what a line says; None for a line that this program did not write, whose checksum is right all the same."""
    try:
        held = json.loads(body)
        names = ("id", "fork", "kind", "text", "at", "moves", "before", "after", "target", "more")
        id_, fork, kind, text, at_ns, moves, before, after, target, more = [held[name] for name in names]
        texts = [fork, kind, text, *(value for value in (before, after) if value is not None)]
        for ref, *values in moves:
            old, new = values
            texts += [ref, *(value for value in (old, new) if value is not None)]
            bytes.fromhex((old or "") + (new or ""))
        is_sound = all(isinstance(value, str) for value in texts) and isinstance(more, dict)
        is_sound = is_sound and type(id_) is type(at_ns) is int and (target is None or type(target) is int)
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    if not is_sound:
        return None
    return OpRecord(id_, fork, kind, text, at_ns, [(ref, old, new) for ref, old, new in moves], before, after, target, more)
