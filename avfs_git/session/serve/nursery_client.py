"""The starter's end of a nursery (see `nursery`, which is that process).

Decided here: when there is one. A process that mounts something begins one with its first session, which comes from
there too, so that one start of an interpreter serves both; later sessions cost a fork. A process that never mounts has
none. `starting_early` begins it while the caller still imports what it needs itself. A nursery is a program of its own,
because nothing is known of the threads and the memory of the process that it serves.

A nursery belongs to one process: a fork of that lets go of it. It ends by itself, and may be killed at any time; the
next session begins another. One that refuses a session is given up for another; where that refuses as well, the session
is a program of its own, as it is where no nursery can be had. Any thread may call; a thread that sends holds up others
for a few system calls, and none while a session starts. Nothing of it is on disk.
"""

from __future__ import annotations

import _socket  # what `socket` adds to it takes a command longer to load than all of this
import fcntl
import marshal
import os
import select
import signal
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from avfs_git.errors import SessionFailed
from avfs_git.host.processes.inherited import read_environment
from avfs_git.session.life.request import Request
from avfs_git.values import as_dict

_DEVICE = "/dev/fuse"
_SOCKET = 3
"""The descriptor of the nursery's end, there."""
_ROOM = " " * 400
"""Room in its command line, into which a session writes its own."""
_DEFAULT = (signal.SIGPIPE, signal.SIGXFSZ, signal.SIGCHLD, signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


class Nursery:
    """A nursery that this process began. Its methods are called by one thread at a time, but for `reap` and `is_gone`.

    Attributes:
        has_served: Whether a session came from it.
    """

    def __init__(self, program: Sequence[str], path: Sequence[str], *, idle_s: float = 60.0) -> None:
        """Begin it. It takes requests from now on, and serves them as soon as it is there.

        `program` is the command line of sessions, without what tells one from another; `path` is where they find their
        modules. After `idle_s` without a request it ends.
        """
        self.has_served = False
        self._path = list(path)
        self._socket, theirs = _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_SEQPACKET)
        try:
            theirs.setsockopt(_socket.SOL_SOCKET, _socket.SO_PASSCRED, 1)  # before anything is sent
            given = {"path": self._path, "nursery": _SOCKET, "idle_s": idle_s}
            self._starter: int | None = _spawn([*program, "nursery", _ROOM], given, theirs)
        except BaseException:
            self._socket.close()
            raise
        finally:
            theirs.close()

    def ask(self, request: Mapping[str, object], program: Sequence[str], handed: Mapping[str, int]) -> bool:
        """Ask for a session; False if the nursery is gone, or stopped.

        `program` is the command line that the list of processes is to show; `handed` has the descriptors in `request`
        by field name.
        """
        given = {
            "request": dict(request),
            "program": list(program),
            "handed": list(handed),
            "path": self._path,
            "environment": read_environment(),
            "thread": threading.get_native_id(),
        }
        memory = _put(marshal.dumps(given))
        try:
            passed = b"".join(fd.to_bytes(4, sys.byteorder) for fd in (memory, *handed.values()))
            control = [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, passed)]
            self._socket.sendmsg([b"+"], control, _socket.MSG_NOSIGNAL | _socket.MSG_DONTWAIT)
        except (ConnectionError, BlockingIOError):  # hundreds wait already: it was stopped
            return False
        finally:
            os.close(memory)
        return True

    def reap(self) -> None:
        """Wait for the process that started it, which ends at once."""
        starter, self._starter = self._starter, None
        if starter is not None:
            with suppress(ChildProcessError):  # a process that ignores SIGCHLD has none to wait for
                os.waitpid(starter, 0)

    def is_gone(self) -> bool:
        """Whether it has ended."""
        fd = self._socket.fileno()
        if fd < 0:  # another thread has closed it
            return True
        poll = select.poll()
        poll.register(fd, 0)
        return bool(poll.poll(0))  # the other end is closed

    def serves(self, path: Sequence[str]) -> bool:
        """Whether its sessions find their modules there."""
        return self._path == list(path)

    def close(self) -> None:
        """Let it end; its sessions live on."""
        self.reap()
        self._socket.close()

    def forget(self) -> None:
        """Let go of it in a fork of the process that began it: it goes on for that."""
        self._socket.close()


def _spawn(argv: list[str], given: Mapping[str, object], theirs: _socket.socket) -> int:
    """Start the program that starts the nursery; gives its number."""
    memory = _put(_to_json(given))
    # Above the numbers that they get, so that none is overwritten before it is used.
    handles: list[int] = []
    try:
        handles += [fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, _SOCKET + 1) for fd in (memory, theirs.fileno())]
        return os.posix_spawn(
            argv[0],
            argv,
            read_environment(),
            file_actions=[
                (os.POSIX_SPAWN_DUP2, handles[0], 0),
                (os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0),
                (os.POSIX_SPAWN_DUP2, 1, 2),
                (os.POSIX_SPAWN_DUP2, handles[1], _SOCKET),
            ],
            setsigmask=(),
            setsigdef=_DEFAULT,
        )
    finally:
        for fd in (memory, *handles):
            os.close(fd)


def _to_json(given: Mapping[str, object]) -> bytes:
    import json  # noqa: PLC0415 - once in a process

    return json.dumps(given).encode()


def _put(data: bytes) -> int:
    """Make memory that holds something, to be read from its beginning."""
    memory = os.memfd_create("avfs-request", os.MFD_CLOEXEC)
    try:
        os.write(memory, data)
        os.lseek(memory, 0, os.SEEK_SET)
    except BaseException:
        os.close(memory)
        raise
    return memory


# --- the one of this process ------------------------------------------------------------------------------------------


class _Own:
    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.nursery: Nursery | None = None

    def begin(self, program: Sequence[str], path: Sequence[str]) -> Nursery:
        """Give the nursery, begun if there is none. Called with the lock held."""
        if self.nursery is not None and not self.nursery.serves(path):
            self.let_go()
        if self.nursery is None:
            self.nursery = Nursery(program, path)
        return self.nursery

    def let_go(self) -> None:
        """Have none any more. Called with the lock held."""
        nursery, self.nursery = self.nursery, None
        if nursery is not None:
            nursery.close()


_own = _Own()


def ask(request: Request, handed: Mapping[str, int]) -> Nursery | None:
    """Ask the nursery of this process for a session, and begin one if there is none.

    Returns:
        The nursery; None where sessions are programs of their own.
    """
    program, path = own_program(request.fork, request.directory)
    fields = as_dict(request)
    with _own.lock:
        try:
            for _ in range(2):
                nursery = _own.begin(program[:-2], path)
                if nursery.ask(fields, program, handed):
                    break
                _own.let_go()  # it ended since
            else:
                return None
        except OSError:  # no process, memory or descriptor: starting a program says so
            _own.let_go()
            return None
    nursery.reap()
    return nursery


def give_up(nursery: Nursery) -> None:
    """Take no more sessions from a nursery: it is gone, or has refused one."""
    with _own.lock:
        if _own.nursery is nursery:
            _own.let_go()


def own_program(fork: str, directory: str) -> tuple[tuple[str, ...], list[str]]:
    """Tell how a session runs what this process runs: its command line, and where it finds its modules.

    Fork and directory are for people who look at the list of processes.
    """
    package = os.fspath(Path(__file__).absolute().parents[2])
    if not sys.executable:
        raise SessionFailed("there is no Python interpreter to run the session with", "")
    paths = [os.path.dirname(package), *(path for path in map(os.path.abspath, filter(None, sys.path)))]
    return (sys.executable, "-I", "-S", f"{package}/session/__main__.py", fork, directory), list(dict.fromkeys(paths))


def let_go() -> None:
    """Let the nursery of this process end, where there will be no other session soon."""
    with _own.lock:
        _own.let_go()


@contextmanager
def starting_early(*, unless_mounted: tuple[Path, str] | None = None) -> Iterator[None]:
    """Begin the nursery now: it comes up while the caller does what else comes before a session.

    Failures show when a session is started. A nursery that was not used ends with the block.

    Nothing is begun where something is mounted below a directory of the second name of `unless_mounted` in the first.
    """
    begun = None
    with suppress(OSError, SessionFailed):
        if os.path.exists(_DEVICE) and not (unless_mounted and _is_mounted(*unless_mounted)):
            program, path = own_program("", "")
            with _own.lock:
                before = _own.nursery
                nursery = _own.begin(program[:-2], path)
                begun = nursery if nursery is not before else None
    try:
        yield
    finally:
        with _own.lock:
            if begun is not None and _own.nursery is begun and not begun.has_served:
                _own.let_go()


def _is_mounted(directory: Path, name: str) -> bool:
    # A name that the mount table spells otherwise is not found: what is begun then may not be needed.
    start, part = os.fsencode(os.path.realpath(directory)) + b"/", os.fsencode(f"/{name}/")
    with open("/proc/self/mountinfo", "rb") as file:
        places = (line.split(b" ", 5)[4] for line in file)
        return any(place.startswith(start) and part in place for place in places)


def _forget() -> None:
    """Have none in a fork of a process that has one: the nursery belongs to that."""
    nursery, _own.lock, _own.nursery = _own.nursery, threading.Lock(), None
    if nursery is not None:
        nursery.forget()


os.register_at_fork(after_in_child=_forget)
