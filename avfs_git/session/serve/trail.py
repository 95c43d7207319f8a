"""File events in the audit log, where the vault's owner wants them: the setting `audit.files`.

Decided here: which events become lines, and that no program waits for the log. A thread writes what is in its queue;
what the queue has no room for, and what cannot be written, is a line `file_dropped` with the number. The same call
again and again, such as the writes of one long file, is one line with their count and the sum of their bytes, for
`_GATHER_S`.

`begin_trail` makes one `Trail` in each server of a workspace, if the setting says so when the server begins;
`session.serve.live` and `overlay` call `close` when the tree is unmounted. A killed server loses its queue; the next
one writes `file_dropped` without a number.
"""

from __future__ import annotations

import functools
import os
import threading
from collections.abc import Iterator
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from avfs_git.errors import HostError, NoFileEvents, NotAVault, quote
from avfs_git.lazy import LazyLogger
from avfs_git.model import FileEvent
from avfs_git.records import to_record
from avfs_git.session.control.listening import EventQueue, EventSource, count_missing
from avfs_git.values import replace
from avfs_git.workspace.vault.log.audit import FILE

if TYPE_CHECKING:
    from avfs_git.session.serve.session import Session
    from avfs_git.workspace.vault.log.audit import AuditLog

_LOG = LazyLogger(__name__)
_GATHER_S: Final = 0.1
"""How long events are gathered into one write."""
_SAME: Final = ("op", "path", "old_path", "pid", "uid", "verdict", "error")


def begin_trail(session: Session, source: EventSource, *, is_first: bool) -> Trail | None:
    """Begin where the setting asks for it.

    Where the kernel tells no events, or the setting cannot be read, a line `file_dropped` says why.
    """
    audit, fork = session.vault.file_audit, session.request.fork
    if session.workspace is None:
        return None
    try:
        wanted = session.vault.config.read()["audit.files"]
        if wanted == "none":
            return None
        is_first = is_first and session.request.adopted is None
        return Trail(source, audit, fork, reads=wanted == "all", is_first=is_first)
    except (NoFileEvents, NotAVault) as error:  # a server that died of it would leave the programs in the tree waiting
        with suppress(HostError):
            audit.append(f"{FILE}dropped", fork=fork, details={"dropped": None, "text": error.message})
        return None


class Trail:
    """Writes the file events of one live tree into the audit log."""

    def __init__(self, source: EventSource, audit: AuditLog, fork: str, *, reads: bool, is_first: bool) -> None:
        """Begin.

        `reads` includes the events `read`. `is_first`: whether no server of the mount was killed before this one.
        """
        self._source = source
        self._audit = audit
        self._fork = fork
        self._reads = reads
        self._missing: int | None = 0 if is_first else None
        """How many events were not written; None if that is not known."""
        self._queue = EventQueue()
        source.add(self._queue.put)
        self._thread = threading.Thread(target=self._run, name="avfs-audit", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Write what is queued, and end."""
        self._source.remove(self._queue.put)
        self._queue.end()
        self._thread.join()

    def _run(self) -> None:
        while (events := self._queue.take(_GATHER_S)) is not None:
            if events or self._missing != 0:
                self._write([event for event in events if self._reads or event.op != "read"])

    def _write(self, events: list[FileEvent]) -> None:
        lines = [(f"{FILE}{event.op}", _tell(event, count)) for event, count in _joined(events)]
        if self._missing != 0:
            lines.insert(0, (f"{FILE}dropped", {"dropped": self._missing}))
        if not lines:
            return
        try:
            self._audit.append_all(lines, fork=self._fork)
        except HostError as error:  # the disk is full: programs go on
            _LOG.warning("file events are missing in the audit log: %s", error.message)
            self._missing = functools.reduce(count_missing, events, self._missing)
        else:
            self._missing = 0


def _joined(events: list[FileEvent]) -> Iterator[tuple[FileEvent, int]]:
    """Join calls that follow each other and differ in their bytes only; gives how many."""
    last: FileEvent | None = None
    count = 0
    for event in events:
        if last is not None and event.op in ("read", "write") and _is_alike(last, event):
            last = replace(last, size=(last.size or 0) + (event.size or 0))
            count += 1
            continue
        if last is not None:
            yield last, count
        last, count = event, 1
    if last is not None:
        yield last, count


def _is_alike(one: FileEvent, other: FileEvent) -> bool:
    return all(getattr(one, name) == getattr(other, name) for name in _SAME)


def _tell(event: FileEvent, count: int) -> dict[str, object]:
    """Spell an event as `records` does, without what it has nothing to say of."""
    if event.op == "dropped":
        return {"dropped": event.dropped}
    found = to_record(event)
    assert isinstance(found, dict)  # noqa: S101 - records of dataclasses are
    told = {name: value for name, value in found.items() if value is not None and name not in ("at", "op", "verdict")}
    names = [quote(os.fsdecode(path)) for path in (event.old_path, event.path) if path is not None]
    facts = {"text": f"{event.op} {' -> '.join(names)}", "done_at_ns": event.at_ns, **told}
    return {**facts, "count": count} if count > 1 else facts
