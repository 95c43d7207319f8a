"""What programs do to the files of a live tree, while they do it: for monitors, indexers, and programs that rebuild.

Decided here: how a program iterates over the events, and what it is told when the server of the tree is replaced: that
events may be missing, then those of the next one. The end of the mount ends the iteration. The session that shows the
tree tells the events (`session.control.listening`). One thread iterates; `close` may be called from any. Nothing of it
survives the process.
"""

from __future__ import annotations

import shlex
import socket
import threading
import time
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING, Self

from avfs_git.errors import NoFileEvents, RequestNotUnderstood
from avfs_git.host.files.closing import Closing
from avfs_git.model import FileEvent
from avfs_git.session.control.connection import Connection, Lost, Unread
from avfs_git.session.control.connections import close_all
from avfs_git.session.control.listening import read_events
from avfs_git.session.control.wire import NotUnderstood

if TYPE_CHECKING:
    from avfs_git.sdk.dispatch import Dispatch
    from avfs_git.workspace.opened.workspace import OpenWorkspace


class FileEvents(Closing):
    """The file events of one live tree since the call that made this: iterate over it, which waits for the next one."""

    def __init__(self, dispatch: Dispatch, opened: OpenWorkspace) -> None:
        self._dispatch = dispatch
        self._opened = opened
        self._pending: deque[FileEvent] = deque()
        self._reading = threading.Lock()
        self._is_closed = False
        connection = dispatch.mounted.listen(opened)
        if connection is None:
            hint = f"Mount it with `avfs mount {shlex.quote(opened.fork)}`."
            raise NoFileEvents(opened.fork, "it is not mounted", hint)
        self._connection: Connection | None = connection

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> FileEvent:
        with self._reading:
            while not self._pending:
                if self._is_closed or self._connection is None:
                    self._drop()
                    raise StopIteration
                self._receive(self._connection)
            return self._pending.popleft()

    def close(self) -> None:
        """End the iteration, also while it waits; from any thread. A second call does nothing."""
        self._is_closed = True
        connection = self._connection
        if connection is not None:  # a thread may wait there
            with suppress(OSError):  # it is gone
                connection.socket.shutdown(socket.SHUT_RDWR)
        with self._reading:
            self._pending.clear()
            self._drop()

    def _drop(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _receive(self, connection: Connection) -> None:
        """Wait for the next events, or for the next server; without one, the mount is over."""
        try:
            # A signal that comes just before the wait does not end it: Python sees it when the wait is over.
            line, descriptors = connection.receive(on_silence=lambda _: None)
            close_all(descriptors)  # none comes from a session of avfs
            events = read_events(line)
        except NotUnderstood as error:
            self._drop()
            raise RequestNotUnderstood(str(error)) from error
        except (Lost, Unread):
            self._drop()
            if self._is_closed:
                return
            # The server died; the next one answers at the same socket, or the mount is gone.
            self._pending.append(FileEvent(time.time_ns(), "dropped"))
            self._connection = self._dispatch.mounted.listen(self._opened)
        else:
            if events is None:
                self._drop()
            else:
                self._pending.extend(events)
