"""The starter's end of a nursery (see `nursery`, which is that process).

Decided here: when there is one, and where it comes from. A process that mounts something begins one with its first session, which
comes from there too, so that one start of an interpreter serves both; later sessions cost a fork. A process that never mounts has
none. `starting_early` begins it while the caller still imports what it needs itself.

A nursery is a program of its own, because nothing is known of the process that it serves, of its threads and what it holds in
memory. A process that is a program of avfs's and says so is forked for it instead, which spares the start of an interpreter and
all that both import; it has one thread then, and has opened nothing yet that a session must not have (`_may_be_forked`).

A nursery belongs to one process: a fork of that lets go of it. It ends by itself, and may be killed at any time; the next session
begins another. One that refuses a session is given up for another, too; where that refuses as well, sessions are programs of
their own in this process from then on, as they are where no nursery can be had. Any thread may call; one that sends holds up
others for a few system calls, and none while a session starts. Nothing of it is on disk.
"""

from __future__ import annotations

import _socket  # what `socket` adds to it takes a command longer to load than all of this
import fcntl
import gc
import marshal
import os
import select
import signal
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NoReturn

from avfs_git.errors import SessionFailed
from avfs_git.host.inherited import close_others, read_environment
from avfs_git.session.program import own_program
from avfs_git.session.request import Request
from avfs_git.values import as_dict

_DEVICE = "/dev/fuse"
_SOCKET = 3
"""The descriptor of the nursery's end, there."""
_ROOM = " " * 400
"""In its command line: a session puts its own there, which is known only later."""
_DEFAULT = (signal.SIGPIPE, signal.SIGXFSZ, signal.SIGCHLD, signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


class Nursery:
    """A nursery that this process began. Its methods are called by one thread at a time, but for `settle` and `is_gone`.

    Attributes:
        has_served: Whether a session came from it.
    """

    def __init__(self, program: Sequence[str], path: Sequence[str], *, idle_s: float = 60.0, by_fork: bool = False) -> None:
        """Begin it. It takes requests from now on, and serves them as soon as it is there.

        Args:
            program: The command line of sessions, without what tells one from another.
            path: Where they find their modules.
            idle_s: After so long without a request it ends.
            by_fork: Fork this process for it, see `_may_be_forked`.

        Raises:
            OSError: If no process can be started.
        """
        self.has_served = False
        self._path = list(path)
        self._socket, theirs = _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_SEQPACKET)
        try:
            theirs.setsockopt(_socket.SOL_SOCKET, _socket.SO_PASSCRED, 1)  # before anything is sent
            given = {"path": self._path, "nursery": _SOCKET, "idle_s": idle_s}
            self._starter: int | None = _fork(given, theirs) if by_fork else _spawn([*program, "nursery", _ROOM], given, theirs)
        except BaseException:
            self._socket.close()
            raise
        finally:
            theirs.close()

    def ask(self, request: Mapping[str, object], program: Sequence[str], handed: Mapping[str, int]) -> bool:
        """Ask for a session; False if the nursery is gone, or stopped.

        Args:
            request: The fields of its `Request`.
            program: The command line that the list of processes is to show.
            handed: Those descriptors, by the names of their fields.

        Raises:
            OSError: If there is not enough memory.
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
        except (ConnectionError, BlockingIOError):  # hundreds wait already: somebody has stopped it
            return False
        finally:
            os.close(memory)
        return True

    def settle(self) -> None:
        """Wait for the process that started it, which leaves it alone at once."""
        starter, self._starter = self._starter, None
        if starter is not None:
            with suppress(ChildProcessError):  # whoever ignores his children has none to wait for
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
        self.settle()
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


def _may_be_forked() -> bool:
    """Whether a fork of this process, which is a program of avfs's, is what a program of its own would be."""
    # A debugger or a switch for warnings is not what sessions are to inherit. libgit2 has a state of its own. A handler of the
    # log would close, when a session makes its own, by its number what is another file there.
    is_plain = sys.gettrace() is None and sys.getprofile() is None and not sys.warnoptions and "pygit2" not in sys.modules
    logging = sys.modules.get("logging")
    is_silent = logging is None or not logging.root.handlers
    return is_plain and is_silent and len(os.listdir("/proc/self/task")) == 1


def _fork(given: Mapping[str, object], theirs: _socket.socket) -> int:
    """Fork the process that forks the nursery; gives its number."""
    # What comes meanwhile must not meet this process's handlers there, nor its unwinding.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    try:
        starter = os.fork()
        if not starter:
            _be_nursery(given, theirs.fileno())
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    return starter


def _be_nursery(given: Mapping[str, Any], theirs: int) -> NoReturn:
    """Come away from this process as a program does that it starts, and be what that would be.

    Nothing returns to what this process was about to do, and nothing of that is finished or written out: what its values hold
    stays as it is until the end, and descriptors are closed by their numbers.
    """
    try:
        if os.fork():
            os._exit(0)  # whom the starter waits for
        os.setsid()
        os.chdir("/")
        null = os.open(os.devnull, os.O_RDWR)
        for number in range(3):
            os.dup2(null, number)
        os.dup2(theirs, _SOCKET)
        close_others(_SOCKET)
        for number in signal.valid_signals():
            if callable(signal.getsignal(number)):
                signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        sys.path[:] = given["path"]
        gc.disable()  # as in `__main__`
        from avfs_git.session.nursery import live  # noqa: PLC0415 - what this loads is what the starter does not wait for

        live(_SOCKET, given["path"], given["idle_s"])
    finally:
        os._exit(1)  # it could not be loaded: the starter sees that it is gone


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


# --- the one of this process ----------------------------------------------------------------------------------------------


class _Own:
    """What this process has."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.nursery: Nursery | None = None
        self.is_refused = False
        """Whether one was refused its first session: another would be, too."""
        self.is_rash = False
        """Whether one was begun early, and not needed."""

    def begin(self, program: Sequence[str], path: Sequence[str], *, by_fork: bool = False) -> Nursery | None:
        """Give the nursery, begun if there is none; None where sessions are programs of their own. Called with the lock held."""
        if self.nursery is not None and not self.nursery.serves(path):
            self.let_go()
        if self.nursery is None and not self.is_refused:
            self.nursery = Nursery(program, path, by_fork=by_fork)
        return self.nursery

    def let_go(self) -> None:
        """Have none any more. Called with the lock held."""
        nursery, self.nursery = self.nursery, None
        if nursery is not None:
            nursery.close()


_own = _Own()


def ask(request: Request, handed: Mapping[str, int]) -> Nursery | None:
    """Ask the nursery of this process for a session, and begin one if there is none.

    Args:
        request: What the session is to be.
        handed: As for `Nursery.ask`.

    Returns:
        Who was asked; None where sessions are programs of their own.

    Raises:
        SessionFailed: If this process does not know its interpreter.
    """
    program, path = own_program(request.fork, request.directory)
    fields = as_dict(request)
    with _own.lock:
        try:
            for _ in range(2):
                nursery = _own.begin(program[:-2], path)
                if nursery is None:
                    return None
                if nursery.ask(fields, program, handed):
                    break
                _own.let_go()  # it ended since
            else:
                return None
        except OSError:  # no process, memory or descriptor to be had: who starts a program of its own says so
            _own.let_go()
            return None
    nursery.settle()
    return nursery


def give_up(nursery: Nursery, *, is_refusal: bool) -> None:
    """Take no more sessions from a nursery: it is gone, or has refused one."""
    with _own.lock:
        if _own.nursery is nursery:
            _own.is_refused = is_refusal and not nursery.has_served
            _own.let_go()


def let_go() -> None:
    """Let the nursery of this process end, where there will be no other session soon."""
    with _own.lock:
        _own.let_go()


@contextmanager
def starting_early(*, unless_mounted: tuple[Path, str] | None = None, is_program: bool = False) -> Iterator[None]:
    """Begin the nursery now: it comes up while the caller does what else comes before a session.

    Where none can be had, whoever wants a session finds out. One that nobody has used ends with the block, and none is begun
    early in this process any more.

    Args:
        unless_mounted: A directory, and a name: where something is mounted below a directory of that name in there, nothing is
            begun.
        is_program: Whether this process is a program of avfs's, which runs no code but its own and has opened nothing yet.
    """
    begun = None
    with suppress(OSError, SessionFailed):
        wanted = not _own.is_rash and os.path.exists(_DEVICE) and not (unless_mounted and _is_mounted(*unless_mounted))
        if wanted:
            program, path = own_program("", "")
            with _own.lock:
                before = _own.nursery
                nursery = _own.begin(program[:-2], path, by_fork=is_program and _may_be_forked())
                begun = nursery if nursery is not before else None
    try:
        yield
    finally:
        with _own.lock:
            if begun is not None and _own.nursery is begun and not begun.has_served:
                _own.let_go()
                _own.is_rash = True


def _is_mounted(directory: Path, name: str) -> bool:
    # A name that the mount table spells otherwise is not found: what is begun then may not be needed.
    start, part = os.fsencode(os.path.realpath(directory)) + b"/", os.fsencode(f"/{name}/")
    with open("/proc/self/mountinfo", "rb") as file:
        places = (line.split(b" ", 5)[4] for line in file)
        return any(place.startswith(start) and part in place for place in places)


def _forget() -> None:
    """Have none in a fork of a process that has one: what that is not asked for by this one, and ends with it."""
    nursery, _own.lock, _own.nursery = _own.nursery, threading.Lock(), None
    if nursery is not None:
        nursery.forget()


os.register_at_fork(after_in_child=_forget)
