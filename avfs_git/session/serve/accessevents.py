"""File events of a tree on overlayfs: the reads and writes that the kernel tells of its mount.

Decided here: what of the file events such a tree has. No request reaches avfs there, so that `read` and `write` are all, without
sizes; the changes of names are in no event. Equal calls that follow each other may be one event. The accesses of the session
itself are not told. The kernel waits for no listener, and drops events when 16,384 wait.

The server of an overlayfs tree makes one, as the `EventSource` of its control socket. A thread runs while something listens;
`add` and `remove` may be called from any thread. Nothing survives a crash.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

from avfs_git.errors import NoFileEvents
from avfs_git.host.fanotify import Access, Accesses
from avfs_git.model import FileEvent

Listener = Callable[[FileEvent], object]


class AccessEvents:
    """The listeners of one mount."""

    def __init__(self, fork: str, directory: Path) -> None:
        self._fork = fork
        self._directory = directory
        self._top = os.fsencode(directory)
        self._own = (os.getpid(), os.getppid())
        self._lock = threading.Lock()
        self._listeners: tuple[Listener, ...] = ()
        self._running: tuple[Accesses, threading.Thread] | None = None

    def add(self, listener: Listener) -> None:
        """Call a function with each event from now on.

        Raises:
            NoFileEvents: If the kernel does not tell them to this process.
        """
        with self._lock:
            if self._running is None:
                try:
                    accesses = Accesses(self._directory)
                except OSError as error:
                    what = f"the kernel does not let its session watch the mount ({error.strerror})"
                    raise NoFileEvents(self._fork, what, "Trees through FUSE tell them: mount it without `--backend`.") from error
                thread = threading.Thread(target=self._run, args=(accesses,), name="avfs-accesses", daemon=True)
                self._running = accesses, thread
                thread.start()
            self._listeners = (*self._listeners, listener)

    def remove(self, listener: Listener) -> None:
        """Call it no more."""
        with self._lock:
            self._listeners = tuple(other for other in self._listeners if other != listener)
            if self._listeners or self._running is None:
                return
            (accesses, thread), self._running = self._running, None
        accesses.stop()
        thread.join()
        accesses.close()

    def _run(self, accesses: Accesses) -> None:
        while found := accesses.wait():
            for access in found:
                self._tell(access)

    def _tell(self, access: Access) -> None:
        now, listeners = time.time_ns(), self._listeners
        if not access.is_complete:
            events = [FileEvent(now, "dropped")]
        elif access.pid in self._own:
            return
        else:
            path = None if access.path is None else access.path[len(self._top) :].lstrip(b"/")
            ops = ["read"] * access.reads + ["write"] * access.writes
            events = [FileEvent(now, op, path, pid=access.pid, uid=_user_of(access.pid), verdict="allowed") for op in ops]
        for event in events:
            for listener in listeners:
                listener(event)


def _user_of(pid: int) -> int | None:
    try:
        return os.stat(f"/proc/{pid}").st_uid
    except OSError:  # it has ended
        return None
