"""Holding the programs that use a mount still, for some milliseconds: none of them changes a file meanwhile.

    python -I -S avfs_git/host/processes/hold.py SERVER MOST_S DEVICE NUMBER...

Decided here: which programs are held, how, and for how long. `held` starts this module as a process of its own. That
finds the programs that have something of the mount open or mapped, or work in it, and stops all their threads with
`PTRACE_SEIZE` and `PTRACE_INTERRUPT` (ptrace(2)): no parent or shell is told, and no signal is sent. It never lets go,
and takes no stop from the kernel: it ends, and the kernel lets all go on and gives them the signals that came
meanwhile, or were on their way. So nothing stays stopped, however this process ends: killed by `held`, with the process
that started it, or by its own timer, whatever it is waiting for. Only a program that stops this process itself, by its
id or by freezing its control group, keeps them stopped as long.

What a held program can notice: a few system calls that wait (`epoll_wait`, `semop`, `msgrcv`, a read of an inotify
descriptor: signal(7) lists them) return EINTR, as after SIGSTOP and SIGCONT. These are not held: a program that another
one traces (a tracer that is held itself stops it at its next system call), one outside of this PID namespace and those
below it, one that first opens a file later; and nothing where the system refuses (Yama's scope 3). So the caller looks
whether something changed in the end.

For root. Must not import avfs: each hold begins with the start of this process.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    import ctypes
    from collections.abc import Iterable, Iterator
    from collections.abc import Set as AbstractSet

_MOST_S = 0.2
"""How long programs are held at most, from the first stop."""
_SEARCH_S = 2.0
"""How long to look for them at most."""
_STOP_S = 0.02
"""How long to wait until they have stopped.

One that is in a system call, as fsync(2), stops at its end: it runs nothing else.
"""
_PAUSE_S = 0.0002
_FIRST = -20
"""The priority of what programs wait for."""
_LOOKS = 10
"""How often at most to look for programs that were started meanwhile."""
_MOUNT_ID = b"\nmnt_id:\t"
_SEIZE, _INTERRUPT = 0x4206, 0x4207  # linux/ptrace.h
_AND_CHILDREN = 2 | 4 | 8
"""PTRACE_O_TRACEFORK, -VFORK and -CLONE: what a thread starts before it stops is seized as well, and stops."""
_LOOK = os.WSTOPPED | os.WEXITED | os.WNOHANG | os.WNOWAIT | 0x40000000
"""With __WALL (linux/wait.h): threads as well."""
_PDEATHSIG = 1  # linux/prctl.h
_DEFAULT = (signal.SIGALRM, signal.SIGPIPE, signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD)


@contextlib.contextmanager
def held(numbers: Iterable[int], device: tuple[int, int], *, most_s: float = _MOST_S) -> Iterator[None]:
    """Hold the programs that use a mount while the block runs, those that can be held, and for `most_s` at most.

    A mount is given by its numbers in all mount namespaces, and the device of its file system. The caller itself goes
    on.
    """
    name = "{:02x}:{:02x}".format(*device)
    process, reading = _start(
        [sys.executable, "-I", "-S", __file__, str(os.getpid()), str(most_s), name, *map(str, numbers)]
    )
    try:
        if process:
            os.read(reading, 1)  # until they are held, or that process has ended
        with _hurrying():
            yield
    finally:
        if process:
            os.close(reading)
            # the system reaps where SIGCHLD is ignored
            with contextlib.suppress(ProcessLookupError, ChildProcessError):
                os.kill(process, signal.SIGKILL)
                os.waitpid(process, 0)


def _start(argv: list[str]) -> tuple[int, int]:
    """Start the process that holds.

    Give it and what it writes to when it does. 0 if there are too many processes or open files.

    It has a session of its own: a signal that stops the caller's process group would stop its timer, and so all that it
    holds.
    """
    process = 0
    try:
        reading, writing = os.pipe()
    except OSError:
        return 0, -1
    files = [
        (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
        (os.POSIX_SPAWN_DUP2, writing, 1),
        (os.POSIX_SPAWN_OPEN, 2, os.devnull, os.O_WRONLY, 0),
    ]
    with contextlib.suppress(OSError):
        process = os.posix_spawn(argv[0], argv, {}, file_actions=files, setsid=True, setsigmask=(), setsigdef=_DEFAULT)
    os.close(writing)
    if not process:
        os.close(reading)
    return process, reading


@contextlib.contextmanager
def _hurrying() -> Iterator[None]:
    """Give this thread the processor before others: programs wait for it."""
    import threading  # noqa: PLC0415 - not in the process that holds

    thread = threading.get_native_id()
    before = os.getpriority(os.PRIO_PROCESS, thread)
    with contextlib.suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, thread, _FIRST)
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, thread, before)


def uses(process: bytes, numbers: AbstractSet[int], mapped: bytes) -> bool:
    """Whether a process has a file or directory of a mount open, mapped, or as its directory or root.

    False if that is not told.

    `process` is its directory in /proc, `mapped` how its maps name the file system. No file system is asked: a server
    may ask.
    """
    marks = [b"%s%d\n" % (_MOUNT_ID, number) for number in numbers]
    for link in (b"/cwd", b"/root"):
        with contextlib.suppress(OSError):
            fd = os.open(process + link, os.O_PATH | os.O_CLOEXEC)  # held, not looked into
            try:
                if any(mark in _read(b"/proc/self/fdinfo/%d" % fd) for mark in marks):
                    return True
            finally:
                os.close(fd)
    try:
        for name in os.listdir(process + b"/fdinfo"):
            with contextlib.suppress(FileNotFoundError):  # it was closed
                info = _read(process + b"/fdinfo/" + name)
                if any(mark in info for mark in marks):
                    return True
        return mapped in _read(process + b"/maps")
    except OSError:  # it ended, or is another user's
        return False


def _read(path: bytes) -> bytes:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        data = b""
        while piece := os.read(fd, 1 << 16):
            data += piece
        return data
    finally:
        os.close(fd)


# --- the process that holds -------------------------------------------------------------------------------------------


def _hold(server: int, most_s: float, mapped: bytes, numbers: AbstractSet[int]) -> None:
    """Hold what uses a mount until this process ends."""
    import ctypes  # noqa: PLC0415 - not of the process that asks

    libc = ctypes.CDLL(None, use_errno=True)
    signal.setitimer(signal.ITIMER_REAL, _SEARCH_S)
    with contextlib.suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, 0, _FIRST)  # programs wait for it
    libc.prctl(_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != server or os.readlink("/proc/self") != str(os.getpid()):
        return  # it has died; or /proc has the numbers of another PID namespace
    seen = {str(os.getpid()), str(server)}
    is_begun = False
    for _ in range(_LOOKS):
        came = {name for name in os.listdir("/proc") if name.isdigit()} - seen
        seen |= came
        found = [name for name in came if uses(os.fsencode(f"/proc/{name}"), numbers, mapped)]
        if not found:
            break
        if not is_begun:
            signal.setitimer(signal.ITIMER_REAL, most_s)
            is_begun = True
        _stop(libc, found)
    os.write(1, b"\n")
    while True:
        signal.pause()


def _stop(libc: ctypes.CDLL, processes: Iterable[str]) -> None:
    """Stop all threads of processes."""
    stopping: set[int] = set()
    for process in processes:
        threads: set[str] = set()
        with contextlib.suppress(OSError):  # it ended
            while came := set(os.listdir(f"/proc/{process}/task")) - threads:
                threads |= came
                for thread in map(int, came):
                    if not libc.ptrace(_SEIZE, thread, None, _AND_CHILDREN):
                        libc.ptrace(_INTERRUPT, thread, None, None)
                        stopping.add(thread)
    end = time.monotonic() + _STOP_S
    while time.monotonic() < end:
        stopping = {thread for thread in stopping if not _has_stopped(thread)}
        if not stopping:
            break
        time.sleep(_PAUSE_S)


def _has_stopped(thread: int) -> bool:
    """Whether a thread has stopped, or ended.

    It is looked at and not taken (WNOWAIT): of a thread that stops because a signal is on its way to it, the kernel
    forgets the signal as soon as a tracer takes the stop and says nothing of the signal.
    """
    try:
        return os.waitid(os.P_PID, thread, _LOOK) is not None
    except ChildProcessError:
        return True


if __name__ == "__main__":
    _hold(int(sys.argv[1]), float(sys.argv[2]), b" %s " % sys.argv[3].encode(), set(map(int, sys.argv[4:])))
