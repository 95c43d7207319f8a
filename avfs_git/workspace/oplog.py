"""The operation log: what was done to the forks of a vault, so that it can be taken back.

Decided here: the format of `avfs/oplog` and how undo and redo walk it. One line an operation, a checksum in
front; a damaged line (a torn write before a power cut) is passed over. Lines are appended under a lock on the
file and forced to disk before the operation is acknowledged. What an operation leaves behind stays reachable
by refs, of which the record names the old and new values; the log itself holds no object.

An operation is logged after its refs moved. One that died in between is not in the log, and neither is what
git does to a branch by itself; `undo` takes back what is in the log, and refuses where a ref has moved since.
"""

from __future__ import annotations

import fcntl
import json
import os
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from avfs_git.faults import reach
from avfs_git.host.durable import fsync_dir, host_errors
from avfs_git.model import Operation, RefMove

UNDO, REDO = "undo", "redo"
_TAIL = 1 << 16

RefMoveRecord = tuple[str, str | None, str | None]
"""A ref with its old and its new value in hexadecimal; None where there is none."""


@dataclass(slots=True)
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

    def to_operation(self, *, undone: bool = False) -> Operation:
        """Make the value that callers see."""
        moves = tuple(RefMove(ref, old, new) for ref, old, new in self.moves)
        return Operation(self.id, self.fork, self.kind, self.description, self.created_at_ns, moves, undone, self.target)


class OpLog:
    """The log of one vault. Usable from several threads and processes."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def append(self, record: OpRecord) -> OpRecord:
        """Add an operation, durably; its number is given here.

        Raises:
            HostError: If the disk fails. The log is as it was, or ends in a line that readers pass over.
        """
        with host_errors("write the operation log"), self._open() as (fd, fresh):
            size = os.fstat(fd).st_size
            tail = os.pread(fd, _TAIL, max(0, size - _TAIL))
            last = next(_parse_backwards(tail.split(b"\n")), None)
            record.id = (last.id if last else 0) + 1
            line = _format(record)
            if tail and not tail.endswith(b"\n"):
                line = b"\n" + line  # an append that was cut short must not take this one with it
            written = os.pwrite(fd, line, size)
            if written != len(line):
                os.ftruncate(fd, size)
                raise OSError(28, os.strerror(28))
            reach("oplog.written")
            os.fdatasync(fd)
            if fresh:
                fsync_dir(self._path.parent)
        return record

    @contextmanager
    def _open(self) -> Iterator[tuple[int, bool]]:
        flags = os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW
        fresh = False
        try:
            fd = os.open(self._path, flags)
        except FileNotFoundError:
            fd = os.open(self._path, flags | os.O_CREAT, 0o666)
            fresh = True
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
            yield fd, fresh
        finally:
            os.close(fd)

    def read(self) -> Iterator[OpRecord]:
        """Yield all operations, newest first."""
        try:
            data = self._path.read_bytes()
        except FileNotFoundError:
            return
        yield from _parse_backwards(data.split(b"\n"))

    def read_fork(self, fork: str | None) -> Iterator[OpRecord]:
        """Yield the operations of one fork, or of all, newest first."""
        return (record for record in self.read() if fork is None or record.fork == fork)

    def find_last_state(self, fork: str) -> OpRecord | None:
        """Find the last operation that recorded what the workspace of a fork holds, in its `after`."""
        return next((record for record in self.read_fork(fork) if record.after is not None), None)

    def list_operations(self, fork: str | None, limit: int) -> list[Operation]:
        """List operations, newest first, with what has been undone marked."""
        records = list(self.read_fork(fork))
        undone = {record.id for record in _replay(records)[1]}
        return [record.to_operation(undone=record.id in undone) for record in records[:limit]]

    def find_undoable(self, fork: str | None) -> OpRecord | None:
        """Find the operation that `undo` takes back next."""
        done, _ = _replay(list(self.read_fork(fork)))
        return done[-1] if done else None

    def find_redoable(self, fork: str | None) -> OpRecord | None:
        """Find the operation that `redo` does again next."""
        _, undone = _replay(list(self.read_fork(fork)))
        return undone[-1] if undone else None


def _replay(newest_first: list[OpRecord]) -> tuple[list[OpRecord], list[OpRecord]]:
    """Sort operations into those in force and those taken back, each in the order of time."""
    by_id: dict[int, OpRecord] = {}
    done: list[OpRecord] = []
    undone: list[OpRecord] = []
    for record in reversed(newest_first):
        by_id[record.id] = record
        if record.kind == UNDO and record.target in by_id:
            target = by_id[record.target]
            done = [other for other in done if other.id != target.id]
            undone.append(target)
        elif record.kind == REDO and record.target in by_id:
            target = by_id[record.target]
            undone = [other for other in undone if other.id != target.id]
            done.append(target)
        elif record.kind not in (UNDO, REDO) and (record.moves or record.before is not None):
            done.append(record)
            undone = [other for other in undone if other.fork != record.fork]
    return done, undone


def _format(record: OpRecord) -> bytes:
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
    return b"%08x %s\n" % (zlib.crc32(body), body)


def _parse_backwards(lines: list[bytes]) -> Iterator[OpRecord]:
    for line in reversed(lines):
        checksum, _, body = line.partition(b" ")
        if not body or checksum != b"%08x" % zlib.crc32(body):
            continue
        values = json.loads(body)
        yield OpRecord(
            values["id"],
            values["fork"],
            values["kind"],
            values["text"],
            values["at"],
            [(ref, old, new) for ref, old, new in values["moves"]],
            values["before"],
            values["after"],
            values["target"],
            values["more"],
        )
