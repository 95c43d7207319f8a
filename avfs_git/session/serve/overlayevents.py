"""File events of a tree on overlayfs, where no request reaches avfs: what the kernel tells of its mount and of its upper layer.

Decided here: what the changes of an upper layer mean. The mount tells reads and writes; the file system of the upper layer tells
changes of names and attributes with their process, among those of everything else on it: only what is in a directory of the
upper layer counts (`upperchanges`). A write comes from both, where the kernel tells both, and is told once; twice, where it comes
from the two in rounds that are far apart. There are no sizes. Equal calls that follow each other may be one event. What the
session itself does is not told. The kernel waits for no listener, and drops events when 16,384 wait.

The server of an overlayfs tree makes one, as the `EventSource` of its control socket. A thread runs while something listens;
`add` and `remove` may be called from any thread. Nothing survives a crash.
"""

from __future__ import annotations

import os
import select
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack, closing
from pathlib import Path

from avfs_git.errors import NoFileEvents
from avfs_git.host.fanotify import Access, Accesses, Changes
from avfs_git.lazy import LazyLogger
from avfs_git.model import FileEvent
from avfs_git.session.serve.upperchanges import QUEUED, UpperChanges

_LOG = LazyLogger(__name__)
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
        self._running: tuple[int, threading.Thread, ExitStack] | None = None
        self._written: tuple[set[_Write], set[_Write]] = set(), set()
        """The writes that the upper layer told in this round and in the one before."""

    def add(self, listener: Listener) -> None:
        """Call a function with each event from now on.

        Raises:
            NoFileEvents: If the kernel does not tell them to this process.
        """
        with self._lock:
            if self._running is not None and not self._running[1].is_alive():  # an error ended it
                self._running[2].close()
                self._running = None
            if self._running is None:
                self._running = self._begin()
            self._listeners = (*self._listeners, listener)

    def _begin(self) -> tuple[int, threading.Thread, ExitStack]:
        with ExitStack() as held:
            try:
                accesses = held.enter_context(closing(Accesses(self._directory)))
                changes = held.enter_context(closing(Changes(self._upper)))
                names = UpperChanges(changes, self._upper, self._work)
                stop = os.eventfd(0, os.EFD_CLOEXEC)
                held.callback(os.close, stop)
                thread = threading.Thread(
                    target=self._run, args=(stop, accesses, changes, names), name="avfs-events", daemon=True
                )
                thread.start()
            except (OSError, RuntimeError) as error:  # RuntimeError: no thread can be started
                what = f"the kernel does not let its session watch the mount ({getattr(error, 'strerror', None) or error})"
                raise NoFileEvents(self._fork, what, "Trees through FUSE tell them: mount it without `--backend`.") from error
            return stop, thread, held.pop_all()

    def remove(self, listener: Listener) -> None:
        """Call it no more. The last one is told what waits before. Not from a listener."""
        with self._lock:
            if self._running is not None and self._listeners == (listener,):
                (stop, thread, held), self._running = self._running, None
                with held:
                    os.eventfd_write(stop, 1)
                    thread.join()
            self._listeners = tuple(other for other in self._listeners if other != listener)

    def _run(self, stop: int, accesses: Accesses, changes: Changes, names: UpperChanges) -> None:
        poll = select.poll()
        for waiting in (stop, accesses, changes):
            poll.register(waiting, select.POLLIN)
        is_stopped = False
        try:
            while not is_stopped:
                is_stopped = stop in [fd for fd, _ in poll.poll()]  # what came before is told
                self._tell_waiting(accesses, names)
        except Exception:  # noqa: BLE001 - listeners are told that events are missing
            self._tell("dropped")
            _LOG.exception("the file events of an overlayfs tree have ended")
        finally:  # what waits in a queue keeps the mount from being unmounted
            accesses.close()
            changes.close()

    def _tell_waiting(self, accesses: Accesses, names: UpperChanges) -> None:
        accessed: list[Access] = []
        while len(accessed) < QUEUED and (more := accesses.read()):  # first: the upper layer tells a write before the mount does
            accessed += more
        self._written = set(), self._written[0]
        for (op, path, old_path), pid in names.read():
            if op == "write" and pid is not None:
                self._written[0].add((pid, path))
            self._tell(op, path, old_path, pid)
        for access in accessed:
            path = None if access.path is None else access.path[len(self._top) :].lstrip(b"/")
            if not access.is_complete:
                self._tell("dropped")
            if access.reads:
                self._tell("read", path, None, access.pid)
            if access.writes and not any((access.pid, path) in told for told in self._written):
                self._tell("write", path, None, access.pid)

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
