"""The audit logs of a vault: one line of JSON an event, each tied to the one before it.

A vault has two: operations and commands are in `audit.ndjson`, and what programs do to files, which may be thousands of
lines a build, in `audit-files.ndjson`, so that these can be released earlier.

Decided here: the format of such a log, when a file of it is full, and what a reader can tell from it. Every line names
the SHA-256 of the line before (`prev`) and a number (`seq`), so that a line that was changed or taken out from between
others shows. A change of the last line and lines taken off the end do not, and a process that may write the file can
also write a whole chain.

A line is one write to a file opened for appending, under a lock beside it, so that processes never mix their lines. It
survives the death of the process; it is not forced to disk, so that a power cut may take the last lines, because
forcing each would cost a command more than starting it. A write that was cut short leaves half a line, which is passed
over: the next line is tied to the last whole one. A full file is put aside under the next free number, and the chain
goes on in a new one.

`release` alone removes lines, the oldest ones, when the vault's owner asks for that. Before the first of them goes, the
chain has a line on the disk that says which ones go, and the hash of the last: lines up to that one count as released,
also where a process died before it had removed all of them. The next release removes these. Without such a line,
missing lines are damage.

`gate` writes, `OpLog` each operation that happened, `session.serve.trail` what programs do to files; the SDK reads; any
thread and process may.
"""

from __future__ import annotations

import errno
import json
import os
import stat
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext, suppress
from itertools import takewhile
from pathlib import Path
from typing import TYPE_CHECKING

from avfs_git.errors import AuditDamaged, HostError
from avfs_git.faults import reach
from avfs_git.host.files.durable import fsync_dir, host_errors, sync_file, write_all, write_file_atomically
from avfs_git.host.files.modes import make_private_dirs, open_file
from avfs_git.host.files.plainfile import open_plain, read_plain
from avfs_git.host.locks.flocks import held
from avfs_git.patterns import compiled
from avfs_git.values import value_class

if TYPE_CHECKING:
    from avfs_git.model import AuditOutcome
    from avfs_git.workspace.vault.log.oprecord import OpRecord

MAX_FILE_BYTES = 8 << 20
"""A file that is larger is put aside before the next line."""
MAX_TEXT = 4096
"""Longer texts are cut, in characters: a command may be megabytes long."""

_ASIDE = compiled(r"[a-z-]+\.[0-9]+\.ndjson")
_FIRST = "0" * 64
_LINES = 4096
"""So much at the end of a file holds its last line, as good as always."""
OPERATION = "operation"
"""The name, in `details`, of the number that an operation has in the operation log."""
FORMER = "renamed_from"
"""The name, in `details`, of the name that a renamed fork had before."""
FILE = "file_"
"""How the names of file events begin, such as `file_write`."""
RELEASED = "audit_released"
"""The event that says which log lines were released: `first` and `last` in `details`, and the `hash` of the last."""
REFUSED = "refused"
"""The name, in `details`, of the code of the error with which an operation was refused."""
_AGAIN = 64
"""So many of the last operations are looked at for missing lines."""
_OWN_NS = 10_000_000_000
"""An operation that is younger gets its line from the process that did it."""


POLL_S = 0.2
"""So often a reader that follows the log looks whether it has more."""
_OF_EVENTS: Mapping[str, AuditOutcome] = {
    "proxy_exec_requested": "admitted",
    "hook_admitted": "admitted",
    "approval_granted": "admitted",
    "proxy_exec_pending": "asked",
    "hook_asked": "asked",
    "proxy_exec_denied": "refused",
    "proxy_exec_refused": "refused",
    "hook_denied": "refused",
    "plugin_refused": "refused",
    "approval_denied": "refused",
}
_OF_FAILURES = ("exit_code", "timed_out", "error")


@value_class
class AuditEntry:
    """One event."""

    seq: int
    at_ns: int
    event: str
    """Such as `proxy_exec_requested`; of an operation its kind, such as `checkpoint`."""
    fork: str | None
    outcome: AuditOutcome
    """As it should, by a status other than 0, by the policy or a person, with a question, with leave to run."""
    details: Mapping[str, object]


class AuditLog:
    """One audit log of a vault."""

    def __init__(self, root: Path, name: str = "audit", *, max_file_bytes: int = MAX_FILE_BYTES) -> None:
        self.path = root / f"{name}.ndjson"
        self._max_file_bytes = max_file_bytes

    def append(self, event: str, *, fork: str | None, details: Mapping[str, object]) -> None:
        """Add an event.

        Raises:
            HostError: If the system refuses; then the event is not in the log.
        """
        with host_errors(f"write '{self.path}'"), self._locked():
            self._write((event, fork, details))

    def append_all(self, events: Iterable[tuple[str, Mapping[str, object]]], *, fork: str) -> None:
        """Add events of a fork that came together, each as a line, in one write.

        Raises:
            HostError: If the system refuses; then of the events only the first may be in the log.
        """
        with host_errors(f"write '{self.path}'"), self._locked():
            self._write(*((event, fork, details) for event, details in events))

    def note(self, *operations: OpRecord) -> None:
        """Add operations that happened, of which the operation log is the proof.

        A line that cannot be written now is no failure of the operation: `note_missing` writes it.
        """
        with suppress(HostError), host_errors(f"write '{self.path}'"), self._locked():
            for record in operations:
                self._write((record.kind, record.fork, _tell(record)))

    def note_missing(self, newest_first: Iterable[OpRecord], now_ns: int) -> None:
        """Add the last operations missing here: their process died, or the disk was full, before it wrote a line.

        Operations of the last seconds are left to their own process, and those from before the first that is here do
        not count.
        """
        if not self.path.is_file():  # a reader makes no file
            return
        with suppress(HostError), host_errors(f"write '{self.path}'"), self._locked():
            known = self.list_operations(_AGAIN)
            if not known:
                return
            recent = list(takewhile(lambda record: record.id > min(known), newest_first))
            for record in reversed(recent):
                if record.id not in known and now_ns - record.created_at_ns > _OWN_NS:
                    self._write((record.kind, record.fork, _tell(record)))

    def list_operations(self, last: int | None = None) -> set[int]:
        """List the numbers of operations that are here: of a few more than the `last`, or of all."""
        known: set[int] = set()
        for entry in self.walk():
            number = entry.details.get(OPERATION)
            if isinstance(number, int):
                known.add(number)
            if last is not None and len(known) > last:
                break
        return known

    def _write(self, *events: tuple[str, str | None, Mapping[str, object]]) -> None:
        fd = self._open()
        try:
            size = os.fstat(fd).st_size
            seq, prev, is_whole = self._last(fd, size)
            if size > self._max_file_bytes:
                os.close(fd)
                fd = -1
                self._rotate()
                fd = self._open()
                is_whole = True
            # Half a line, of a write that was cut short, must not take the next one with it.
            lines = [] if is_whole else [b""]
            for number, (event, fork, details) in enumerate(events, seq + 1):
                body = {"seq": number, "at_ns": time.time_ns(), "event": event, "fork": fork, "prev": prev}
                lines.append(json.dumps({**body, "details": _bound(details)}, ensure_ascii=True).encode("ascii"))
                prev = _hash(lines[-1])
            reach("audit.write")
            write_all(fd, b"\n".join([*lines, b""]))
        finally:
            if fd >= 0:
                os.close(fd)

    def read(self, *, limit: int | None = None, since_ns: int | None = None) -> list[AuditEntry]:
        """List events, the newest first."""
        found: list[AuditEntry] = []
        for entry in self.walk():
            if (since_ns is not None and entry.at_ns < since_ns) or (limit is not None and len(found) >= limit):
                break
            found.append(entry)
        return found

    def walk(self) -> Iterator[AuditEntry]:
        """Yield events, the newest first; reads no older file than the caller asks for."""
        last: int | None = None
        for path in self._files():
            for line in reversed(_read_lines(path)):
                parsed = _parse(line)
                if parsed is not None and (last is None or parsed[0].seq < last):  # a file may be put aside meanwhile
                    last = parsed[0].seq
                    yield parsed[0]

    def stamp(self) -> object:
        """Say what the file is like, such that it differs when a line was added."""
        try:
            found = self.path.stat()
        except OSError:
            return None
        return found.st_ino, found.st_size, found.st_mtime_ns

    def verify(self) -> int:
        """Check that every line follows the one before it. Returns how many there are.

        Raises:
            AuditDamaged: If a line was changed, added or taken out; it names the first line that does not fit.
        """
        with host_errors(f"read '{self.path}'"), self._locked_to_read():  # no file is put aside meanwhile
            count, begins, released = self._check_chain()
        if begins is not None and begins[0] > 1:
            _check_released(*begins, released)
        return count

    def _check_chain(self) -> tuple[int, tuple[int, str, Path] | None, AuditEntry | None]:
        """Check as `verify` does that lines follow each other. Called with the lock.

        Returns:
            How many lines there are; number, `prev` and file of the first; the last event that tells of a release.
        """
        count = 0
        before: tuple[int, str] | None = None
        begins: tuple[int, str, Path] | None = None
        released: AuditEntry | None = None
        for path in self._list_oldest_first():
            place, unread = "", None
            for number, line in enumerate(_read_lines(path), 1):
                parsed = _parse(line)
                if parsed is None:
                    unread = number if line and unread is None else unread
                    continue
                entry, prev = parsed
                wanted = before or ((0, _FIRST) if entry.seq == 1 else None)  # else lines before it were released
                if wanted is not None and (entry.seq, prev) != (wanted[0] + 1, wanted[1]):
                    if unread is not None:
                        raise AuditDamaged(str(path), f"line {unread} was changed")
                    if entry.seq == wanted[0] + 1 and place:
                        raise AuditDamaged(str(path), f"{place} was changed, or line {number}, which follows it")
                    raise AuditDamaged(str(path), f"line {number} does not follow the one before it")
                begins = begins or (entry.seq, prev, path)
                released = entry if entry.event == RELEASED else released
                before, place, unread = (entry.seq, _hash(line)), f"line {number}", None
                count += 1
        return count, begins, released

    def find_release(self) -> AuditEntry | None:
        """Find the event of the last release; None if nothing was released."""
        return next((entry for entry in self.walk() if entry.event == RELEASED), None)

    def find_oldest_ns(self) -> int | None:
        """Tell when the oldest line that is not about a release was written; None without any."""
        for path in self._list_oldest_first():
            for line in _read_lines(path):
                parsed = _parse(line)
                if parsed is not None and parsed[0].event != RELEASED:
                    return parsed[0].at_ns
        return None

    def release(self, before_ns: int, *, dry_run: bool = False) -> AuditEntry | None:
        """Remove the oldest lines, as far as each is from before a time, and say so in the log, durably.

        Lines that are older than a newer line before them stay with it. `dry_run` only tells.

        Returns:
            The event that says which lines these are; None if no line is that old.

        Raises:
            AuditDamaged: If a line was changed, added or taken out from between others: that stays to be seen.
            HostError: If the disk refuses. If the event is in the log by then, the next call removes the lines.
        """
        with host_errors(f"shorten '{self.path}'"), self._locked():
            _, _, last = self._check_chain()
            done = last.details.get("last") if last is not None else None
            if isinstance(done, int) and not dry_run:
                self._remove(done)  # what a process that died has left
            found = self._find_old(before_ns)
            if found is None:
                return None
            first, newest, hashed = found
            facts: dict[str, object] = {
                "text": f"release lines {first.seq} to {newest.seq}",
                "first": first.seq,
                "last": newest.seq,
                "lines": newest.seq - first.seq + 1,
                "hash": hashed,
                "oldest_ns": first.at_ns,
                "newest_ns": newest.at_ns,
                "uid": os.getuid(),
            }
            if dry_run:
                return AuditEntry(0, time.time_ns(), RELEASED, None, "done", facts)
            self._write((RELEASED, None, facts))
            with os.fdopen(self._open(), "rb") as file:
                sync_file(file.fileno())
            fsync_dir(self.path.parent)
            reach("audit.released")
            self._remove(newest.seq)
            return self.find_release()

    def _find_old(self, before_ns: int) -> tuple[AuditEntry, AuditEntry, str] | None:
        """Find the first and the last of the oldest lines that are all from before a time, and the hash of the last.

        Return None if nothing but releases would go: each would leave one more.
        """
        files = self._list_oldest_first()
        lines = (
            (parsed[0], line) for path in files for line in _read_lines(path) if (parsed := _parse(line)) is not None
        )
        first: AuditEntry | None = None
        last: tuple[AuditEntry, bytes] | None = None
        is_worth_it = False
        for entry, line in takewhile(lambda found: found[0].at_ns < before_ns, lines):
            first, last = first or entry, (entry, line)
            is_worth_it = is_worth_it or entry.event != RELEASED
        return (first, last[0], _hash(last[1])) if first is not None and last is not None and is_worth_it else None

    def _remove(self, last: int) -> None:
        """Remove the lines up to a number, the oldest first. The newest line stays."""
        for path in self._list_oldest_first():
            lines = _read_lines(path)
            numbers = [parsed[0].seq if (parsed := _parse(line)) is not None else 0 for line in lines]
            if not any(0 < number <= last for number in numbers):
                continue
            reach("audit.removing")
            kept = next((at for at, number in enumerate(numbers) if number > last), None)
            if kept is None:
                path.unlink()
                fsync_dir(path.parent)
            else:
                write_file_atomically(path, b"\n".join(lines[kept:]), mode=stat.S_IMODE(path.stat().st_mode))

    def _files(self) -> Iterator[Path]:
        """Yield the files, the newest first.

        Those put aside are listed when the caller is done with the present one.
        """
        yield self.path
        yield from self._list_aside()

    def _list_oldest_first(self) -> list[Path]:
        return [*reversed(self._list_aside()), self.path]

    def _list_aside(self) -> list[Path]:
        """List the files put aside, newest first: the numbers in their names do not tell that in older vaults."""
        found: list[tuple[int, Path]] = []
        for path in self._find_aside():
            with suppress(FileNotFoundError):  # its lines are being released
                found.append((_read_first(path), path))
        return [path for _, path in sorted(found, reverse=True)]

    def _find_aside(self) -> list[Path]:
        return [path for path in self.path.parent.glob(f"{self.path.stem}.*.ndjson") if _ASIDE.fullmatch(path.name)]

    def _locked(self) -> AbstractContextManager[None]:
        """Keep others from writing. The lock is on a file beside the log, which itself is renamed."""
        make_private_dirs(self.path.parent)
        return held(open_file(self.path.with_suffix(".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW))

    def _locked_to_read(self) -> AbstractContextManager[None]:
        """Keep others from writing, where possible: the log of a read-only vault is read without a lock."""
        try:
            return self._locked()
        except OSError as err:
            if err.errno not in (errno.EROFS, errno.EACCES, errno.EPERM):
                raise
            return nullcontext()

    def _open(self) -> int:
        flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        return open_file(self.path, flags)

    def _last(self, fd: int, size: int) -> tuple[int, str, bool]:
        """Give number and hash of the last whole line, and whether the file ends with one."""
        window = _LINES
        while size:
            tail = os.pread(fd, window, max(0, size - window))
            for line in reversed(tail.split(b"\n")):
                if (parsed := _parse(line)) is not None:
                    return parsed[0].seq, _hash(line), tail.endswith(b"\n")
            if window >= size:
                return 0, _FIRST, tail.endswith(b"\n")
            window *= 8
        for path in self._list_aside():  # put aside, and the process died before it began the next file
            for line in reversed(_read_lines(path)):
                if (parsed := _parse(line)) is not None:
                    return parsed[0].seq, _hash(line), True
        return 0, _FIRST, True

    def _rotate(self) -> None:
        """Put the file aside, under a number that no other has."""
        used = [int(path.name.split(".")[1]) for path in self._find_aside()]
        self.path.rename(self.path.with_suffix(f".{max(used, default=0) + 1}.ndjson"))


def _check_released(seq: int, prev: str, path: Path, released: AuditEntry | None) -> None:
    """Check that the lines before the first one were released.

    Raises:
        AuditDamaged: If the log does not say so.
    """
    facts = released.details if released is not None else {}
    last = facts.get("last")
    if not isinstance(last, int) or seq - 1 > last:
        gone = f"lines {last + 1 if isinstance(last, int) else 1} to {seq - 1} are gone, and were not released"
        raise AuditDamaged(str(path), gone)
    if seq - 1 == last and prev != facts.get("hash"):  # else a process died before it had removed all of them
        raise AuditDamaged(str(path), f"its first line, {seq}, does not follow the lines that were released")


def _tell(record: OpRecord) -> dict[str, object]:
    from avfs_git.workspace.vault.log.oprecord import RENAMED_FROM  # noqa: PLC0415 - commands that are only checked do without

    facts = {
        OPERATION: record.id,
        "text": record.description,
        "done_at_ns": record.created_at_ns,
        "moves": record.moves or None,
        "before": record.before,
        "after": record.after,
        "target": record.target,
        FORMER: record.more.get(RENAMED_FROM),
    }
    return {name: fact for name, fact in facts.items() if fact is not None}


def _bound(value: object) -> object:
    """Cut what is too long for a log, and make all else what JSON knows."""
    if isinstance(value, Mapping):
        return {str(name): _bound(held) for name, held in value.items()}
    if isinstance(value, list | tuple):
        return [_bound(held) for held in value[:256]]
    if isinstance(value, str):
        return value if len(value) <= MAX_TEXT else value[:MAX_TEXT] + "…"
    return value


def _hash(line: bytes) -> str:
    import hashlib  # noqa: PLC0415 - loads OpenSSL, and few commands need it

    return hashlib.sha256(line).hexdigest()


def _read_lines(path: Path) -> list[bytes]:
    with host_errors(f"read '{path}'"):
        try:
            return read_plain(path).split(b"\n")
        except FileNotFoundError:
            return []


def _read_first(path: Path) -> int:
    """Read the number of the first whole line of a file."""
    with os.fdopen(open_plain(path), "rb") as file:
        parsed = next(filter(None, (_parse(line.rstrip(b"\n")) for line in file)), None)
    return parsed[0].seq if parsed is not None else 0


def _parse(line: bytes) -> tuple[AuditEntry, str] | None:
    """Read a line; None for an incomplete line."""
    if not line.startswith(b"{"):
        return None
    try:
        found = json.loads(line)
        event, details = str(found["event"]), dict(found["details"])
        failed: AuditOutcome = "failed" if any(map(details.get, _OF_FAILURES)) else "done"
        outcome: AuditOutcome = "refused" if REFUSED in details else _OF_EVENTS.get(event, failed)
        entry = AuditEntry(int(found["seq"]), int(found["at_ns"]), event, found["fork"], outcome, details)
        return entry, str(found["prev"])
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
