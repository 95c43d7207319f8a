"""The end of a mount, seen and carried out by the server of its tree.

Decided here: when a session ends, and in which steps. It ends when a signal comes (SIGTERM, SIGINT, SIGHUP), when a
client of the control socket asks for it, when the mount is gone from the mount table, and soon after the vault below it
was removed or moved.

1. The mount is taken away. While programs use the tree this is tried for `_PATIENCE_S`, then the mount is detached: out
   of sight at once, and served until its last user is done. Only the mount table tells that it is gone. While another
   mount stands over it, or in it, it is served.
2. The kernel ends the conversation when no program uses the tree any more, and the server returns. Where other mount
   namespaces have copies of the mount the kernel does not: then the server leaves, or the copies go
   (`host.processes.copies`).
3. A signal that comes more than `_SECOND_S` after the first takes the tree from its users.

Each server makes one `Ending`. One thread does all of it, so that the serving thread can answer what unmounting asks.
The interpreter writes each signal to a descriptor: a handler in Python would run only when the serving thread comes
back from the kernel, which may wait there for ever. Nothing survives a crash: the next server sees for itself that the
mount is gone.
"""

from __future__ import annotations

import gc
import os
import select
import signal
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from types import FrameType
from typing import Final

from avfs_git.errors import MountError
from avfs_git.host.mounts.mounts import Mounted, list_mounts, unmount
from avfs_git.host.processes.copies import find_copy_users
from avfs_git.lazy import LazyLogger
from avfs_git.session.life.mountsource import session_of_source

_LOG = LazyLogger(__name__)
ENDING: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
_PATIENCE_S = 2.0
"""How long a mount in use is waited for before it is detached."""
_SECOND_S = 1.0
"""A signal that comes sooner after the first is the same: a service manager sends it to each process of a group."""
_FIRST_PAUSE_S = 0.01
_LONGEST_PAUSE_S = 0.2
_COPIES_AFTER_S = 0.05
_COPIES_EVERY_S = 10.0
"""How often, at least, to look for copies of the mount."""
_LOOK_EVERY_S = 3.0
"""How often to check whether the vault is still where it was. The number of watches that would tell is limited."""
_CALM_S = 0.1
"""How long to wait for the end of a series of changes in the mount table."""
_ASKED, _OVER = b"\0", b"\xff"  # no signal has these numbers
_CHANGE = b"change"


class _OverError(Exception):
    """The server has returned."""


class Ending:
    """Watches one mount for its end, in one server.

    Attributes:
        mounted: Its mount, as it was made; None until that is known.
    """

    def __init__(
        self,
        session: str,
        mounted: Mounted | None,
        *,
        is_rooted: Callable[[], bool],
        begin: Callable[[], object],
        leave: Callable[[], object],
        remove_copies: Callable[[], object] | None = None,
    ) -> None:
        """Prepare to watch.

        `is_rooted`, called every few seconds, tells whether the vault is where it was. `begin` is called when the end
        begins, from the thread that watches. `leave` lets the server return although the kernel may still ask.
        `remove_copies` takes away unused copies in other mount namespaces, where the server cannot leave.
        """
        self._session = session
        self._mark = f"@{session}:".encode()
        self.mounted = mounted
        self._is_rooted = is_rooted
        self._begin = begin
        self._leave = leave
        self._remove_copies = remove_copies
        self._asked_at: float | None = None
        self._reading, self._writing = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._table = os.open("/proc/self/mountinfo", os.O_RDONLY | os.O_CLOEXEC)
        self._thread = threading.Thread(target=self._run, name="avfs-ending", daemon=True)

    def catch_signals(self) -> None:
        """Take signals from now on. Called by the main thread."""
        signal.set_wakeup_fd(self._writing, warn_on_full_buffer=False)
        for number in ENDING:
            signal.signal(number, _note)

    def start(self) -> None:
        """Begin to watch; what came before is not forgotten."""
        self._thread.start()

    def ask(self) -> None:
        """Ask for the end, from any thread; the tree is served meanwhile. A second call does nothing."""
        self._write(_ASKED)

    def close(self) -> None:
        """Stop watching: the server has returned."""
        self._write(_OVER)
        if self._thread.ident is not None:
            self._thread.join()

    def _write(self, what: bytes) -> None:
        with suppress(BlockingIOError):  # it is full of the same
            os.write(self._writing, what)

    # --- the thread ------------------------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            self._await_reason()
            self._begin()
            self._take_away()
            self._await_users()
        except _OverError:
            pass
        except Exception:  # noqa: BLE001 - the log is all that a thread can tell
            _LOG.exception("the mount does not end")

    def _await_reason(self) -> None:
        while self._asked_at is None and self._is_in_table():
            if self._pause(_LOOK_EVERY_S, or_change=True) is _CHANGE:
                self._pause(_CALM_S)
            if not self._is_rooted():
                _LOG.warning("the vault is gone")
                return

    def _is_in_table(self) -> bool:
        """Whether this mount namespace has the mount: a search in the text, because there may be many mounts."""
        os.lseek(self._table, 0, os.SEEK_SET)
        while piece := os.read(self._table, 1 << 20):  # whole lines
            if self._mark in piece:
                return True
        return False

    def _take_away(self) -> None:
        gc.collect()  # the frames of errors may hold directories of the tree open, which keeps it in use
        end = time.monotonic() + _PATIENCE_S
        pause_s, is_told = _FIRST_PAUSE_S, False
        while (mounted := self._find()) is not None:
            patient = time.monotonic() < end
            try:
                unmount(mounted, lazy=not patient)
            except MountError:
                if not patient and not is_told:
                    _LOG.exception("cannot unmount, and go on trying")
                    is_told = True
                self._pause(pause_s)
                pause_s = min(pause_s * 2, _LONGEST_PAUSE_S)

    def _find(self) -> Mounted | None:
        return next((mounted for mounted in list_mounts() if session_of_source(mounted.source) == self._session), None)

    def _await_users(self) -> None:
        pause_s, idle = _COPIES_AFTER_S, 0
        while True:
            self._pause(pause_s)
            pause_s = min(pause_s * 2, _COPIES_EVERY_S)
            if self._remove_copies is not None:
                self._remove_copies()
                continue
            if self.mounted is None or find_copy_users(self.mounted) != []:
                idle = 0
                continue
            idle += 1
            pause_s = _COPIES_AFTER_S
            if idle > 1:  # twice: a program that was begun while the first look was taken is seen by the second
                _LOG.info("only other mount namespaces have the mount, and no program uses it there")
                self._leave()
                self._pause(None)

    def _pause(self, seconds: float | None, *, or_change: bool = False) -> bytes:
        """Wait until the end is asked for, the mount table changes (`or_change`) or time is up; tell which it was."""
        end = None if seconds is None else time.monotonic() + seconds
        poll = select.poll()
        poll.register(self._reading, select.POLLIN)
        if or_change:
            poll.register(self._table, select.POLLPRI)
        while True:
            ready = poll.poll(None if end is None else max(end - time.monotonic(), 0) * 1000)
            if not ready:
                return b""
            if any(fd == self._reading for fd, _ in ready):
                if self._take_signals():
                    return _ASKED
            else:
                return _CHANGE

    def _take_signals(self) -> bool:
        """Read the signals; whether they are the first."""
        came = os.read(self._reading, 4096)
        if _OVER in came:
            raise _OverError
        now = time.monotonic()
        if self._asked_at is None:
            self._asked_at = now
            return True
        if now - self._asked_at > _SECOND_S and came.strip(_ASKED):
            _LOG.warning("the tree is taken from the programs that use it")
            self._leave()
        return False


def _note(_number: int, _frame: FrameType | None) -> None:
    """Do nothing: with a handler the interpreter writes to the descriptor."""
