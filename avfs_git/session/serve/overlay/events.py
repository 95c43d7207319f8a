"""File events on overlayfs, where no request reaches avfs: what the kernel tells of a tree's mount and upper layer.

Decided here: which of the two tells what. The mount tells reads. The file system of the upper layer tells changes with
their process, among those of everything else on it: only what is in a directory of the upper layer counts
(`upperchanges`). It tells where a file was when it was written to, but not writes of sendfile(2), splice(2) and
io_uring past the page cache, and on some kernels none: the mount tells each write as well, a moment later. What the
upper layer told is not told again. There are no sizes. Equal calls may be one event. What the session itself does is
not told. The kernel waits for no listener, and drops events when 16,384 wait. An error ends no stream: listeners are
told `dropped`, and what comes afterwards.

The server of an overlayfs tree makes one, as the `EventSource` of its control socket. A thread runs while something
listens; `add` and `remove` may be called from any thread. One lock is held while events are told. Nothing survives a
crash.
"""

from __future__ import annotations

import errno
import os
import select
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, suppress
from pathlib import Path
from typing import Final

from avfs_git.errors import NoFileEvents
from avfs_git.host.fanotify import Access, Accesses, Changes
from avfs_git.host.files.closing import closing_fd
from avfs_git.host.processes.descriptors import is_readable
from avfs_git.lazy import LazyLogger
from avfs_git.model import FileEvent
from avfs_git.session.serve.overlay.upperchanges import QUEUED, UpperChanges

_LOG = LazyLogger(__name__)
Listener = Callable[[FileEvent], object]
_Write = tuple[int, bytes | None]
"""A process, and the handle or the path of what it wrote to."""
_PAUSE_S: Final = 1.0
"""How long nothing is told after an error, which may come again at once."""


class OverlayEvents:
    """The listeners of one mount."""

    def __init__(self, fork: str, directory: Path, device: int, *, upper: Path, work: Path) -> None:
        """Prepare: `device` is that of the mount, which may be gone from its directory."""
        self._fork = fork
        self._places = directory, device, upper, work
        self._lock = threading.Lock()
        self._listeners: tuple[Listener, ...] = ()
        self._running: tuple[_Watch, threading.Thread] | None = None

    def add(self, listener: Listener) -> None:
        """Call a function with each event from now on.

        Raises:
            NoFileEvents: If the kernel does not tell them to this process.
        """
        with self._lock:
            if self._running is None:
                self._running = self._begin()
            else:
                self._tell_waiting(self._running[0])
            self._listeners = (*self._listeners, listener)

    def _begin(self) -> tuple[_Watch, threading.Thread]:
        try:
            with ExitStack() as held:
                watch = held.enter_context(closing(_Watch(*self._places)))
                thread = threading.Thread(target=self._run, args=(watch,), name="avfs-events", daemon=True)
                thread.start()
                held.pop_all()
        except (OSError, RuntimeError) as error:  # RuntimeError: no thread can be started
            what = f"the kernel does not let its session watch the mount ({getattr(error, 'strerror', None) or error})"
            raise NoFileEvents(
                self._fork, what, "Trees through FUSE tell them: mount it without `--backend`."
            ) from error
        return watch, thread

    def remove(self, listener: Listener) -> None:
        """Tell it what waits, and call it no more. Not from a listener."""
        with self._lock:
            if self._running is None:
                return
            watch, thread = self._running
            self._tell_waiting(watch)
            self._listeners = tuple(other for other in self._listeners if other != listener)
            if self._listeners:
                return
            self._running = None
        os.eventfd_write(watch.stop, 1)
        thread.join()  # it may wait for the lock
        watch.close()

    def _run(self, watch: _Watch) -> None:
        while True:
            watch.wait()
            with self._lock:
                if self._running is None or self._running[0] is not watch:
                    return
                is_well = self._tell_waiting(watch)
            if not is_well:
                watch.pause()

    def _tell_waiting(self, watch: _Watch) -> bool:
        """Tell all listeners what waits; False after an error. Under the lock."""
        try:
            for event in watch.read():
                self._tell(event)
        except Exception:  # noqa: BLE001 - listeners are told that events are missing
            watch.forget()
            self._tell(FileEvent(time.time_ns(), "dropped"))
            _LOG.exception("file events of an overlayfs tree are missing")
            return False
        return True

    def _tell(self, event: FileEvent) -> None:
        for listener in self._listeners:
            listener(event)


class _Watch:
    """What the kernel tells of one mount and its upper layer."""

    def __init__(self, directory: Path, device: int, upper: Path, work: Path) -> None:
        """Begin. Raises OSError."""
        self._top = os.fsencode(directory) + b"/"
        self._own = (os.getpid(), os.getppid())
        self._upper = upper
        self._written: tuple[set[_Write], set[_Write]] = set(), set()
        """The writes that the upper layer told in this round and in the one before: the mount tells one after it."""
        self._users: tuple[dict[int, int | None], dict[int, int | None]] = {}, {}
        """The users of the processes of this round and of the one before: some have ended by now."""
        with ExitStack() as held:
            self._changes = held.enter_context(closing(Changes(upper)))
            with closing_fd(os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)) as fd:
                if os.fstat(fd).st_dev != device:  # it would be told what is done outside of the tree
                    raise OSError(errno.ENODEV, "it is not at its place")
                mount = Path(f"/proc/self/fd/{fd}")
                self._accesses = held.enter_context(closing(Accesses(mount)))
            self._names = UpperChanges(self._changes, upper, work)
            self.stop = os.eventfd(0, os.EFD_CLOEXEC)
            """Can be read when the watch is to end."""
            held.callback(os.close, self.stop)
            self._held = held.pop_all()

    def close(self) -> None:
        """End. What waits in a queue keeps the mount from being unmounted until then."""
        self._held.close()

    def wait(self) -> None:
        """Wait until something can be read, or the watch is to end."""
        poll = select.poll()
        for waiting in (self.stop, self._accesses, self._changes):
            poll.register(waiting, select.POLLIN)
        poll.poll()

    def pause(self) -> None:
        """Wait for `_PAUSE_S`, or until the watch is to end."""
        is_readable(self.stop, _PAUSE_S)

    def read(self) -> Iterator[FileEvent]:
        """Give what waits, but for what the session itself does."""
        self._users = {}, self._users[0]
        self._written = set(), self._written[0]
        # taken before the changes: the creation of a file is told before what is read in it
        accessed: list[Access] = []
        while len(accessed) <= QUEUED and (more := self._accesses.read()):
            accessed += more
        for (op, path, old_path), pid, file in self._names.read():
            if op == "write" and pid is not None:
                self._written[0].update(((pid, file), (pid, path), (pid, None)))
            yield from self._make(op, path, old_path, pid)
        for access in accessed:
            path = None  # also where the mount is out of sight, or was moved
            if access.path is not None and access.path.startswith(self._top):
                path = access.path[len(self._top) :]
            if not access.is_complete:
                yield from self._make("dropped")
            if access.reads:
                yield from self._make("read", path, None, access.pid)
            if access.writes and not self._is_told(access.pid, path):
                yield from self._make("write", path, None, access.pid)

    def _is_told(self, pid: int, path: bytes | None) -> bool:
        """Whether the upper layer told a write in the mount: of a file that was renamed, its handle tells."""
        keys: set[_Write] = {(pid, path)}
        if path is not None and pid not in self._own:
            with suppress(OSError):  # it was renamed or removed just now
                keys.add((pid, self._changes.find_handle(self._upper / os.fsdecode(path))))
        return any(keys & told for told in self._written)

    def forget(self) -> None:
        """Go on after an error: listeners miss what the watch had taken."""
        self._names.forget()

    def _make(
        self, op: str, path: bytes | None = None, old_path: bytes | None = None, pid: int | None = None
    ) -> Iterator[FileEvent]:
        if pid is None:
            yield FileEvent(time.time_ns(), op)
        elif pid not in self._own:  # 0 is a process of a PID namespace that is not seen here
            yield FileEvent(time.time_ns(), op, path, old_path, pid or None, self._find_user(pid), verdict="allowed")

    def _find_user(self, pid: int) -> int | None:
        users, before = self._users
        if pid not in users:
            try:
                status = Path(f"/proc/{pid}/status").read_bytes()
            except OSError:  # it has ended
                users[pid] = before.get(pid)
            else:
                users[pid] = int(status.split(b"\nUid:", 1)[1].split(None, 4)[3])  # with whose rights it uses files
        return users[pid]
