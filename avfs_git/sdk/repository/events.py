"""What happens in a vault, in the order of time: for dashboards and for programs that wait for agents.

Decided here: an event is an entry of the operation log or of the audit log: nothing is recorded twice. `Events` reads
what is new when one of the files has changed, which it checks five times a second; nothing runs beside the caller. An
operation is told once its refs have moved: operations of different forks may come in another order than their numbers,
so a follower reads the last numbers again. A cursor stays good across processes; an operation that was on its way when
the event with the cursor was given may be left out by the next reader. One thread iterates; `close` may be called from
any.
"""

from __future__ import annotations

import heapq
import threading
from collections.abc import Iterator
from itertools import takewhile
from pathlib import Path
from typing import TYPE_CHECKING

from avfs_git.errors import InvalidInput, quote
from avfs_git.host.files.closing import Closing
from avfs_git.model import Event
from avfs_git.values import replace
from avfs_git.workspace.vault.log.audit import OPERATION, POLL_S
from avfs_git.workspace.vault.log.oprecord import RENAMED_FROM

if TYPE_CHECKING:
    from avfs_git.workspace.vault.log.audit import AuditEntry, AuditLog
    from avfs_git.workspace.vault.log.oprecord import OpRecord
    from avfs_git.workspace.vault.vault import OpenVault

_AGAIN = 64
"""So many operations before the newest one may still become known."""


class Events(Closing):
    """The events of a vault, the oldest first: iterate over it. With `follow`, the iteration waits for the next one."""

    def __init__(self, core: OpenVault, audit: AuditLog, *, fork: str | None, since: str | None, follow: bool) -> None:
        self._core = core
        self._audit = audit
        self._fork = fork
        self._follow = follow
        self._closed = threading.Event()
        self._pending: list[Event] = []
        self._stamp: object = None
        self._seen: set[int] = set()
        self._operation, self._entry = self._begin(since)
        self._named_at = self._last_number()
        """Up to which operation the fork has the name that the caller knows."""
        self._spans = core.oplog.read_spans(fork) if fork is not None else ()

    def close(self) -> None:
        """End the iteration, also while it waits; from any thread."""
        self._closed.set()

    @property
    def cursor(self) -> str:
        """What `since` takes to go on behind the last event that was given."""
        return f"{self._operation}.{self._entry}"

    def __iter__(self) -> Iterator[Event]:
        return self

    def __next__(self) -> Event:
        while not self._closed.is_set():
            if not self._pending:
                stamp = self._look()
                if stamp != self._stamp:
                    self._stamp = stamp
                    self._pending = self._read()
            if self._pending:
                event = self._pending.pop(0)
                self._operation, self._entry = (int(part) for part in event.cursor.split("."))
                return event
            if not self._follow:
                break
            self._closed.wait(POLL_S)
        raise StopIteration

    def _begin(self, since: str | None) -> tuple[int, int]:
        """Read a cursor; `end` is where the logs end now."""
        if since is None:
            return 0, 0
        if since == "end":
            entries = self._audit.read(limit=1)
            operation = self._last_number()
            self._seen = {record.id for record in self._since(operation - _AGAIN)}
            return operation, entries[0].seq if entries else 0
        operation_text, _, entry_text = since.partition(".")
        if not (
            operation_text.isascii() and operation_text.isdigit() and entry_text.isascii() and entry_text.isdigit()
        ):
            raise InvalidInput(
                f"{quote(since)} is no cursor of events", hint="It is the `cursor` of an event, or 'end'."
            )
        operation = int(operation_text)
        self._seen = {record.id for record in self._since(operation - _AGAIN) if record.id <= operation}
        return operation, int(entry_text)

    def _last_number(self) -> int:
        newest = next(self._core.oplog.read(), None)
        return newest.id if newest is not None else 0

    def _look(self) -> object:
        """Say what the files are like, such that it differs when one of them has changed."""
        return _stamp(self._core.layout.oplog), self._audit.stamp()

    def _since(self, number: int) -> list[OpRecord]:
        """List operations with a greater number, newest first."""
        return list(takewhile(lambda record: record.id > number, self._core.oplog.read()))

    def _read(self) -> list[Event]:
        """Read what is new in both logs, in the order of time."""
        records = self._since(self._operation - _AGAIN if self._seen else self._operation)
        new = [record for record in reversed(records) if record.id not in self._seen]
        self._seen = {record.id for record in records[:_AGAIN]} | {record.id for record in new[-_AGAIN:]}
        entries: list[AuditEntry] = []
        limit = _AGAIN
        while True:
            entries = self._audit.read(limit=limit)
            if len(entries) < limit or entries[-1].seq <= self._entry:
                break
            limit *= 8
        fresh = [entry for entry in reversed(entries) if entry.seq > self._entry]
        return self._merge(new, fresh)

    def _merge(self, records: list[OpRecord], entries: list[AuditEntry]) -> list[Event]:
        """Merge both by time; each event gets the cursor behind it."""
        operation, entry = self._operation, self._entry
        self._follow_renames(records)
        made = [
            Event("", record.created_at_ns, record.kind, record.fork, record.to_operation(), {}) for record in records
        ]
        told = [
            Event("", held.at_ns, held.event, held.fork, None, {"seq": held.seq, **held.details})
            for held in entries
            if OPERATION not in held.details  # the operation log has it
        ]
        found: list[Event] = []
        # the entries of each log stay in its order
        for event in heapq.merge(made, told, key=lambda event: event.at_ns):
            if event.operation is not None:
                operation = max(operation, event.operation.id)
            else:
                entry = max(entry, int(str(event.details["seq"])))
            if self._fork is None or self._has(event):
                found.append(replace(event, cursor=f"{operation}.{entry}"))
        if not found:
            self._operation, self._entry = operation, entry
        return found

    def _follow_renames(self, records: list[OpRecord]) -> None:
        """Learn what the fork is called after new operations, the oldest first."""
        name = fork = self._fork
        for record in records:
            if record.id > self._named_at and record.more.get(RENAMED_FROM) == name:
                name = record.fork
        self._named_at = max([self._named_at, *(record.id for record in records)])
        if name is not None and name != fork:
            self._fork, self._spans = name, self._core.oplog.read_spans(name)

    def _has(self, event: Event) -> bool:
        number = event.operation.id if event.operation is not None else None
        return any(span.has(event.fork, event.at_ns, number) for span in self._spans)


def _stamp(path: Path) -> object:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns
