"""A live tree that survives the death of its server: a process that holds everything and forks servers.

Decided here: when a server is started again, how soon, and when that is given up. A session calls `supervise` in a
process of one thread in which everything is imported and open: `/dev/fuse`, the workspace with its lock, the listening
socket. Each server is a fork of it, so the next one is there a few milliseconds after a death, with all descriptors;
the kernel never sees the connection end. What a dead server knew is in the `Handover`, which all have mapped.

A server that is killed while it tells the kernel what to forget may not come to its end: the kernel makes that thread
wait for a lock, whose holder waits for an answer that only the next server can give. So the next one is started when
nothing is left of the dead one but such threads, which it has noted in the `Handover`. They end in the kernel, and
touch nothing any more. The same holds for threads that use a tree themselves: the kernel tells in which of its
functions they wait. Other threads may be about to change something on disk, and are waited for up to `_KEPT_S`.

The supervisor looks for that while a server lives, and does nothing else. It dies only by hand; then the kernel ends
its server (`PR_SET_PDEATHSIG`), the programs in the tree get ENOTCONN, and the next process that meets the mount takes
it away.
"""

from __future__ import annotations

import ctypes
import os
import signal
import time
from collections.abc import Callable
from typing import Final

from avfs_git.fuse.handover.handover import Handover
from avfs_git.host.processes.processes import find_survivors, waits_for_fuse
from avfs_git.lazy import LazyLogger

_LOG = LazyLogger(__name__)
_PR_SET_PDEATHSIG: Final = 1  # linux/prctl.h
_FORWARDED: Final = frozenset({signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1})
_WAITED_FOR: Final = _FORWARDED | {signal.SIGCHLD}
_FIRST_PAUSE_S: Final = 0.01
_LONGEST_PAUSE_S: Final = 1.0
USELESS: Final = 20
"""After so many servers in a row that answered nothing it is given up, some 15 seconds after the first."""
_FAILED: Final = 70
_LOOK_EVERY_S: Final = 1.0
"""How often to check whether the kernel keeps a dead server, which nothing else tells."""
_ALONE_S: Final = 0.05
"""How long after its start the first server and the programs that wait for it have the processors to themselves."""
_KEPT_S: Final = 10.0
"""For how long other threads of a dead server are waited for; a disk that takes longer for one call hardly works."""

Serve = Callable[[Handover], None]


def supervise(
    serve: Serve,
    handover: Handover,
    *,
    meanwhile: Callable[[], object] | None = None,
) -> int:
    """Run a server in a child process, and another one each time that it dies, until one returns.

    Called in a process of one thread. SIGTERM, SIGINT, SIGHUP and SIGUSR1 are handed to the server, which decides
    what they mean. One of the first three also sets `handover.ending`, at which a server looks after it has its
    handlers in place: one that came earlier has killed its predecessor.

    Args:
        serve: What the child does. Returning means that the tree is unmounted, or that the session is over: the child
            exits and no other is started. An exception is logged and counts as a death. `handover.generation` is 0
            for the first server and counts up: from 1 on, `serve` looks at the workspace anew before it serves.
        handover: What one server leaves to the next.
        meanwhile: Called once, a moment after the first server was started and before any other: what later ones are to
            find done. It starts no thread.

    Returns:
        0 if a server returned; else how the last one died after it was given up: its exit status, or 128 and the
        number of the signal. The programs in the tree wait until the caller closes the channel.
    """
    libc = ctypes.CDLL(None, use_errno=True)  # now, because a fork of a full machine may not be able to load it
    signal.pthread_sigmask(signal.SIG_BLOCK, _WAITED_FOR)
    try:
        return _Supervisor(serve, handover, meanwhile, libc).run()
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _WAITED_FOR)


class _Supervisor:
    def __init__(
        self, serve: Serve, handover: Handover, meanwhile: Callable[[], object] | None, libc: ctypes.CDLL
    ) -> None:
        self._serve = serve
        self._handover = handover
        self._meanwhile = meanwhile
        self._libc = libc
        self._pid = 0
        self._kept_since: float | None = None
        self._kept: list[int] = []
        """Dead servers that the kernel has not let go of yet."""

    def run(self) -> int:
        useless = 0
        while True:
            self._handover.is_serving = False
            self._handover.forget_tellers()
            self._pid = self._start()
            status = self._wait()
            if status == 0:
                return 0
            self._do_meanwhile()  # if the server died before
            self._handover.generation += 1
            if self._handover.is_serving:
                useless = 0
            else:
                useless += 1
            if useless >= USELESS:
                _LOG.error("the last %d servers died before they served (status %d): given up", useless, status)
                return status
            _LOG.warning("the server died (status %d): starting another", status)
            if useless > 1:
                self._pause(min(_FIRST_PAUSE_S * 2 ** (useless - 2), _LONGEST_PAUSE_S))

    def _start(self) -> int:
        ours = os.getpid()
        pid = os.fork()
        if pid:
            return pid
        status = _FAILED
        try:
            self._libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
            if os.getppid() != ours:  # it died before it could be watched
                os._exit(_FAILED)
            signal.signal(signal.SIGUSR1, signal.SIG_IGN)  # until the server has a use for it
            signal.pthread_sigmask(signal.SIG_UNBLOCK, _WAITED_FOR)
            self._serve(self._handover)
            status = 0
        except BaseException:  # noqa: BLE001 - whatever it is, the child must not go on as a second supervisor
            _LOG.exception("the server failed")
        finally:
            os._exit(status)

    def _wait(self) -> int:
        """Wait for the server's end and hand signals to it meanwhile; gives its exit status."""
        while True:
            self._kept = [pid for pid in self._kept if not os.waitpid(pid, os.WNOHANG)[0]]
            pid, status = os.waitpid(self._pid, os.WNOHANG)
            if pid:
                self._pid = 0
                code = os.waitstatus_to_exitcode(status)
                return code if code >= 0 else 128 - code
            got = signal.sigtimedwait(_WAITED_FOR, _LOOK_EVERY_S if self._meanwhile is None else _ALONE_S)
            if got is not None:
                self._handle(got.si_signo)
            elif self._meanwhile is not None:
                self._do_meanwhile()
            elif self._is_kept():
                self._leave_kept()
                return 128 + signal.SIGKILL

    def _do_meanwhile(self) -> None:
        meanwhile, self._meanwhile = self._meanwhile, None
        if meanwhile is not None:
            meanwhile()

    def _is_kept(self) -> bool:
        """Whether the server is dead, and what keeps it from ending is not waited for."""
        threads = find_survivors(self._pid)
        if not threads:
            self._kept_since = None
            return False
        if self._kept_since is None:
            self._kept_since = time.monotonic()
        others = threads - self._handover.find_tellers()
        waiting = all(waits_for_fuse(self._pid, thread) for thread in others)
        return waiting or time.monotonic() - self._kept_since > _KEPT_S

    def _leave_kept(self) -> None:
        _LOG.warning("the kernel keeps the server %d, which is dead", self._pid)
        self._kept.append(self._pid)
        self._pid, self._kept_since = 0, None

    def _handle(self, number: int) -> None:
        if number in _FORWARDED:
            if number != signal.SIGUSR1:
                self._handover.ending = True
            if self._pid:
                os.kill(self._pid, number)

    def _pause(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            got = signal.sigtimedwait(_WAITED_FOR, left)
            if got is not None:
                self._handle(got.si_signo)
