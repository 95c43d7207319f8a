"""File events of a tree on overlayfs, where no request reaches avfs: what the kernel tells of its mount and of its upper layer.

Decided here: what the changes of an upper layer mean. The mount tells reads and writes; the file system of the upper layer tells
changes of names and attributes with their process, among those of everything else on it: only what is in a directory of the
upper layer counts (`upperchanges`). A write comes from both, where the kernel tells both, and is told once. There are no sizes.
Equal calls that follow each other may be one event. What the session itself does is not told. The kernel waits for no listener,
and drops events when 16,384 wait.

The server of an overlayfs tree makes one, as the `EventSource` of its control socket. A thread runs while something listens;
`add` and `remove` may be called from any thread. Nothing survives a crash.
"""

from __future__ import annotations

import os
import select
import threading
import time
from collections.abc import Callable
from pathlib import Path

from avfs_git.errors import NoFileEvents
from avfs_git.host.fanotify import Accesses, Changes
from avfs_git.model import FileEvent
from avfs_git.session.serve.upperchanges import UpperChanges

Listener = Callable[[FileEvent], object]
_Write = tuple[int, bytes | None]
"""A process, and what it wrote to."""


class OverlayEvents:
    """The listeners of one mount."""

    def __init__(self, fork: str, directory: Path, upper: Path, work: Path) -> None:
        self._fork = fork
        self._directory = directory
        self._upper = upper
        self._work = work
        self._top = os.fsencode(directory)
        self._own = (os.getpid(), os.getppid())
        self._lock = threading.Lock()
        self._listeners: tuple[Listener, ...] = ()
        self._running: tuple[int, threading.Thread] | None = None
        self._written: tuple[set[_Write], set[_Write]] = set(), set()
        """The writes that the upper layer told in this round and in the one before."""

    def add(self, listener: Listener) -> None:
        """Call a function with each event from now on.

        Raises:
            NoFileEvents: If the kernel does not tell them to this process.
        """
        with self._lock:
            if self._running is None:
                self._running = self._begin()
            self._listeners = (*self._listeners, listener)

    def _begin(self) -> tuple[int, threading.Thread]:
        changes = accesses = None
        try:
            accesses = Accesses(self._directory)
            changes = Changes(self._upper)
            names = UpperChanges(changes, self._upper, self._work)
        except OSError as error:
            for group in (accesses, changes):
                if group is not None:
                    group.close()
            what = f"the kernel does not let its session watch the mount ({error.strerror})"
            raise NoFileEvents(self._fork, what, "Trees through FUSE tell them: mount it without `--backend`.") from error
        stop = os.eventfd(0, os.EFD_CLOEXEC)
        thread = threading.Thread(target=self._run, args=(stop, accesses, changes, names), name="avfs-events", daemon=True)
        thread.start()
        return stop, thread

    def remove(self, listener: Listener) -> None:
        """Call it no more."""
        with self._lock:
            self._listeners = tuple(other for other in self._listeners if other != listener)
            if self._listeners or self._running is None:
                return
            (stop, thread), self._running = self._running, None
        os.eventfd_write(stop, 1)
        thread.join()
        os.close(stop)

    def _run(self, stop: int, accesses: Accesses, changes: Changes, names: UpperChanges) -> None:
        poll = select.poll()
        for waiting in (stop, accesses, changes):
            poll.register(waiting, select.POLLIN)
        is_stopped = False
        while not is_stopped:
            is_stopped = stop in [fd for fd, _ in poll.poll()]  # what came before is told
            accessed = accesses.read()  # first: the upper layer tells a write before the mount does
            self._written = set(), self._written[0]
            for change in changes.read():
                if not change.is_complete:
                    self._tell("dropped")
                for op, path, old_path in names.read(change):
                    if op == "write":
                        self._written[0].add((change.pid, path))
                    self._tell(op, path, old_path, change.pid)
            for access in accessed:
                path = None if access.path is None else access.path[len(self._top) :].lstrip(b"/")
                if not access.is_complete:
                    self._tell("dropped")
                if access.reads:
                    self._tell("read", path, None, access.pid)
                if access.writes and not any((access.pid, path) in told for told in self._written):
                    self._tell("write", path, None, access.pid)
        accesses.close()
        changes.close()

    def _tell(self, op: str, path: bytes | None = None, old_path: bytes | None = None, pid: int | None = None) -> None:
        if pid in self._own:
            return
        event = FileEvent(time.time_ns(), op)
        if pid is not None:
            event = FileEvent(event.at_ns, op, path, old_path, pid, _user_of(pid), verdict="allowed")
        for listener in self._listeners:
            listener(event)


def _user_of(pid: int) -> int | None:
    try:
        return os.stat(f"/proc/{pid}").st_uid
    except OSError:  # it has ended
        return None
