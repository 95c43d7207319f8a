"""File events on a connection: what programs do in a live tree, sent to each client that listens.

Decided here: that no listener can hold up the tree. The thread that answers the kernel puts an event into the queue of
each listener and goes on; the client's own thread sends them. A queue that is full takes no more: what is left out is
counted, and the number stands in the stream where those events would be (`dropped`). A client that dies is noticed
within `_LOOK_S`; its queue goes with it. docs/reference/control.md is the normative text.

`session.control.control` makes one `Listeners` for its session, with what tells the events (`EventSource`), and calls
`serve` in the thread of a client; `close` lets each thread send what is queued. Nothing survives the server: the client
connects again, and the SDK says in the stream that events may be missing.
"""

from __future__ import annotations

import base64
import json
import socket
import threading
import time
from collections.abc import Callable
from typing import Final, Protocol

from avfs_git.errors import NoFileEvents
from avfs_git.model import FileEvent
from avfs_git.session.control import wire
from avfs_git.session.control.connections import Client
from avfs_git.values import as_dict

QUEUE_MAX: Final = 16_384
"""How many events wait for a listener."""
LISTENERS_MAX: Final = 16
_GATHER_S: Final = 0.005
"""How long events are gathered before they are sent."""
OVER: Final = b'{"v": 1, "over": true}'
"""The last line: the session ends."""
_BATCH: Final = 256
"""How many events one line holds."""
_LOOK_S: Final = 1.0
"""How often to check whether a client of a quiet tree is still there."""
_decode: Final = wire.codec_of(tuple[FileEvent, ...])[1]


class EventSource(Protocol):
    """What tells the events of a live tree, to functions that return at once: `fuse.observing.FileEvents`."""

    def add(self, listener: Callable[[FileEvent], object]) -> None:
        """Call a function with each event from now on. Raises NoFileEvents if that is not possible here."""
        ...

    def remove(self, listener: Callable[[FileEvent], object]) -> None:
        """Call it no more."""
        ...


def count_missing(count: int | None, event: FileEvent) -> int | None:
    """Count an event that is left out with those before it; None once a `dropped` of unknown number is among them."""
    more = event.dropped if event.op == "dropped" else 1
    return None if count is None or more is None else count + more


class EventQueue:
    """The events that wait for one listener."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._events: list[FileEvent] = []
        self._dropped: int | None = 0
        self._over = threading.Event()

    def put(self, event: FileEvent) -> None:
        """Add an event, or count it as left out."""
        with self._changed:
            if len(self._events) >= QUEUE_MAX:
                self._dropped = count_missing(self._dropped, event)
                return
            self._events.append(event)
            if len(self._events) == 1:
                self._changed.notify()

    def end(self) -> None:
        """Let `take` give what is there, and then None."""
        with self._changed:
            self._over.set()
            self._changed.notify()

    def take(self, gather_s: float) -> list[FileEvent] | None:
        """Wait for events, `_LOOK_S` at most, and for so long for more of them; take all. None at the end.

        A thread that woke for each event would take more of the processor than the events themselves.
        """
        with self._changed:
            if not self._events and (self._over.is_set() or (self._changed.wait(_LOOK_S) and not self._events)):
                return None
            is_quiet = not self._events
        if not is_quiet:
            self._over.wait(gather_s)
        with self._changed:
            taken, self._events = self._events, []
            dropped, self._dropped = self._dropped, 0
        if dropped != 0:
            taken.append(FileEvent(time.time_ns(), "dropped", dropped=dropped))
        return taken


class Listeners:
    """The clients of one session that listen to file events."""

    def __init__(self, fork: str, source: EventSource | None) -> None:
        self._fork = fork
        self._source = source
        self._lock = threading.Lock()
        self._queues: list[EventQueue] = []
        self._is_closing = False

    def begin(self) -> EventQueue:
        """Begin to collect events for one more client, which has to be served then.

        Raises:
            NoFileEvents: If the tree tells none, or there are `LISTENERS_MAX` listeners.
        """
        if self._source is None:
            raise NoFileEvents(
                self._fork,
                "the backend of its mount tells none",
                "Trees through FUSE tell them: mount it without `--backend`.",
            )
        made = EventQueue()
        with self._lock:
            if len(self._queues) >= LISTENERS_MAX:
                raise NoFileEvents(self._fork, f"it has {LISTENERS_MAX} listeners already", "End one of them.")
            self._source.add(made.put)
            self._queues.append(made)
            if self._is_closing:
                made.end()
        return made

    def serve(self, client: Client, queued: EventQueue) -> None:
        """Send events until the client goes or the session ends. In the client's thread."""
        client.is_asking = True  # it gets its last events before the connection is cut
        try:
            while (taken := queued.take(_GATHER_S)) is not None and not _has_gone(client):
                for start in range(0, len(taken), _BATCH):
                    client.send(_pack(taken[start : start + _BATCH]), [])
            client.send(OVER + b"\n", [])
        finally:
            client.is_asking, client.is_over = False, True
            self.end(queued)

    def end(self, queued: EventQueue) -> None:
        """Collect no more for a client that is gone. A second call does nothing."""
        with self._lock:
            if queued in self._queues and self._source is not None:
                self._queues.remove(queued)
                self._source.remove(queued.put)

    def close(self) -> None:
        """Let each client get what is queued, and then the end."""
        with self._lock:
            self._is_closing = True
            while self._queues:
                queued = self._queues.pop()
                if self._source is not None:
                    self._source.remove(queued.put)  # which tells what it has still to tell
                queued.end()


def _pack(events: list[FileEvent]) -> bytes:
    """Write events as one line.

    No part of it is an attachment: lines follow each other without a request between them.
    """
    spelled = [{name: _spell(value) for name, value in as_dict(event).items()} for event in events]
    return json.dumps({"v": wire.VERSION, "events": spelled}, separators=(",", ":")).encode("ascii") + b"\n"


def _spell(value: object) -> object:
    return base64.b64encode(value).decode("ascii") if isinstance(value, bytes) else value


def read_events(line: bytes) -> tuple[FileEvent, ...] | None:
    """Read a line that a session sent to a client that listens; None at the end.

    Raises:
        NotUnderstood: If it is no such line.
    """
    incoming = wire.Incoming()
    message = wire.unpack_message(line, incoming)
    if message.get("over") is True:
        return None
    found: tuple[FileEvent, ...] = _decode(wire.body_of(message, "events", incoming), incoming)
    return found


def _has_gone(client: Client) -> bool:
    """Whether a client has gone, or says something, which ends the stream as well."""
    try:
        client.socket.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
    except BlockingIOError:
        return False
    except OSError:
        pass
    return True
