"""The process that sessions come from: it has imported all that they need, and forks one for each request.

Decided here: a session from here is what its starter would have started as a program. Environment, umask and
descriptors come with the request; all else that is inherited (`host.processes.inherited`), the code on disk and the
module path have to be the nursery's own. The nursery compares them itself for each request: a process that gave up
rights after it began a nursery must not get at them through it. Where something differs it refuses, and the starter
goes another way.

It is nobody's child, so that its starter has no child that it does not know of. It opens nothing of a vault, has one
thread, and ends when its starter closes the socket, dies, or asks for nothing for a minute. Sessions outlive it; a fork
has nothing of another's request.

`nursery_client` is the starter's end; `__main__` calls `live`. A request is one packet of one byte, with process ID and
user by the kernel's word, and descriptors: memory that holds a `marshal` value (both ends are the same interpreter),
and those of the session's `Request`. Nothing survives a crash: a starter that gets no answer goes another way.
"""

from __future__ import annotations

import _socket  # what `socket` adds to it takes longer to load than a session may
import ctypes
import gc
import json
import marshal
import os
import select
import signal
import struct
import sys
from collections.abc import Sequence
from contextlib import suppress
from importlib import import_module
from typing import Any, Final, NoReturn

import avfs_git
from avfs_git import patterns, values
from avfs_git.gitstore.formats.commits import Commit, Signature
from avfs_git.host.processes.inherited import close_others, is_proc_ours, read_inherited, take_environment
from avfs_git.session.life.record import SessionRecord
from avfs_git.session.life.request import REFUSED, Request
from avfs_git.session.serve import process  # what a session is: loaded before the first request
from avfs_git.workspace.vault.format import WorkspaceState

_QUIET_S: Final = 1.0
"""After so long without a request it imports what sessions need later: a starter that mounts once is gone by then."""
_HANDLES_MAX: Final = 16
_HANDLE: Final = struct.Struct("=i")
_CREDENTIALS: Final = struct.Struct("=iII")
_DEFAULT: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)

_Sender = tuple[int, int, int]
"""Number of process, user and group."""


class _RefusedError(Exception):
    """A session from here would not be what the starter's own would be."""


def live(fd: int, path: Sequence[str], idle_s: float) -> NoReturn:
    """Be a nursery and fork a session for each request, or be one of these, to the end.

    The interpreter finishes nothing then: nothing is open that has to be closed, and in a fork of the starter nothing
    may be.

    `path` is where Python finds its modules here. After `idle_s` without a request it ends.
    """
    try:
        for number in _DEFAULT:  # Python's own handlers would print a trace
            signal.signal(number, signal.SIG_DFL)
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # no process waits for sessions that end
        close_others(fd)  # what the starter let its programs inherit: a nursery outlives what that was meant for
        request = _Nursery(_socket.socket(fileno=fd), list(path)).serve(idle_s)
        if request is not None:
            process.run(request)
    except Exception:  # noqa: BLE001 - what the interpreter says at the end of a program
        sys.excepthook(*sys.exc_info())
    finally:
        os._exit(0)  # the starter waits at the pipe, not for this process


class _Nursery:
    def __init__(self, ours: _socket.socket, path: list[str]) -> None:
        self._ours = ours
        self._path = path
        self._code = _stamp()
        self._sees_others = is_proc_ours()

    def serve(self, idle_s: float) -> dict[str, Any] | None:
        gc.freeze()  # a collector that looks at it in a session copies its pages
        poll = select.poll()
        poll.register(self._ours, select.POLLIN)
        has_rest = False
        while True:
            if not poll.poll((idle_s if has_rest else _QUIET_S) * 1000):
                if has_rest:
                    return None
                _load_rest()
                has_rest = True
                continue
            received = _receive(self._ours)
            if received is None:
                return None
            handles, sender = received
            try:
                request = self._fork(handles, sender)
            finally:
                for fd in handles:  # else a pipe of a session would stay open as long as the nursery
                    os.close(fd)
            if request is not None:
                return request

    def _fork(self, handles: list[int], sender: _Sender) -> dict[str, Any] | None:
        memory, *rest = handles
        given: dict[str, Any] = {}
        try:
            given = marshal.loads(os.pread(memory, os.fstat(memory).st_size, 0))  # noqa: S302 - from the starter of this program
            umask = self._check(sender, given)
            if os.fork():
                return None
        except (_RefusedError, OSError, ValueError) as error:
            with suppress(OSError, IndexError):  # it does not wait any more
                os.write(rest[given["handed"].index("ready_fd")], json.dumps({REFUSED: str(error)}).encode() + b"\n")
            return None
        os.setsid()
        self._ours.close()  # first of all: by its end the starter knows that of the nursery
        os.umask(umask)
        take_environment(given["environment"])
        _take_name(given["program"])
        request: dict[str, Any] = given["request"]
        request |= {name: os.dup(fd) for name, fd in zip(given["handed"], rest, strict=True)}
        return request

    def _check(self, sender: _Sender, given: dict[str, Any]) -> int:
        """Make sure that a session from here is what the starter's own would be; gives its umask."""
        pid, uid, gid = sender
        if not self._sees_others or (uid, gid) != (os.getuid(), os.getgid()):
            raise _RefusedError("the starter cannot be looked at")
        if given["path"] != self._path or _stamp() != self._code:
            raise _RefusedError("the code is another")
        own, _ = read_inherited(os.getpid(), os.getpid())
        theirs, umask = read_inherited(pid, given["thread"])
        if own != theirs:
            raise _RefusedError("what the starter passes on is not what it was")
        return umask


def _receive(ours: _socket.socket) -> tuple[list[int], _Sender] | None:
    """Wait for a request; None when the starter is gone."""
    room = _socket.CMSG_SPACE(_HANDLES_MAX * _HANDLE.size) + _socket.CMSG_SPACE(_CREDENTIALS.size)
    handles: list[int] = []
    sender = (0, 0, 0)
    try:
        data, ancillary, _, _ = ours.recvmsg(1, room, _socket.MSG_CMSG_CLOEXEC)
    except ConnectionError:
        return None
    for level, kind, held in ancillary:
        if level == _socket.SOL_SOCKET and kind == _socket.SCM_RIGHTS:
            handles += [fd for (fd,) in _HANDLE.iter_unpack(held[: len(held) - len(held) % _HANDLE.size])]
        elif level == _socket.SOL_SOCKET and kind == _socket.SCM_CREDENTIALS:
            pid, uid, gid = _CREDENTIALS.unpack(held)
            sender = (pid, uid, gid)
    return (handles, sender) if data else None


def _stamp() -> tuple[int, ...]:
    """Tell this version on disk from one that replaces it: its first file, which each release changes."""
    status = os.stat(avfs_git.__file__)
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


def _take_name(program: Sequence[str]) -> None:
    """Let the list of processes show a session as the program that it would be, as far as there is room."""
    with suppress(OSError, ValueError, IndexError):
        with open("/proc/self/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
        start, end, env_start, env_end = map(int, fields[45:49])  # from arg_start on: proc_pid_stat(5)
        words = b"\0".join(map(os.fsencode, program))
        if len(words) >= end - start and end == env_start < env_end:
            # In a fork of the starter the room is that of its own command line. Where that does not end with a zero,
            # the kernel shows what follows up to the next one, too; there stood the environment.
            words, end = words.replace(b"\0", b" "), env_end
        if 0 < start < end:
            # The last byte has to be one, else the kernel goes on to show what follows.
            ctypes.memmove(start, words[: end - start - 1].ljust(end - start, b"\0"), end - start)


def _load_rest() -> None:
    """Import what sessions import while they are used, and do what each would do for itself on its way to the mount."""
    of_root = process.NEEDED_ON_OVERLAYFS if os.geteuid() == 0 else ()
    for name in (*process.NEEDED, *of_root, "logging", "socket"):
        import_module(name)
    patterns.compile_all()
    values.prepare(Request, SessionRecord, WorkspaceState, Commit, Signature)
    gc.collect()
    gc.freeze()
