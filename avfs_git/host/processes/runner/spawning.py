"""Starting a command below this process, for the process above a command (see `runner`).

Decided here: which file a program's name means, and what a command begins with: a session of its own, in it the
terminal if it is to have one, the default of every signal that this process treats in another way, its directory and
its umask. A command comes from the thread that calls `spawn` and inherits its filters of system calls: a `Spawner` is a
thread for that.

Only `runner` imports this, as a module without a package, so that it imports nothing of avfs. Nothing needs to survive
a crash.
"""

from __future__ import annotations

import _thread
import ctypes
import errno
import os
import struct

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal
    from collections.abc import Callable
    from typing import Any
else:
    import _signal as signal  # as in `runner`

_DEFAULT = (signal.SIGPIPE, signal.SIGXFSZ, signal.SIGCHLD, signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
"""Signals that this process ignores or watches, and a command does not begin with."""
_CLONE_NEWNS, _CLONE_NEWUSER = 0x20000, 0x10000000  # linux/sched.h

_libc = ctypes.CDLL(None, use_errno=True)


def _find(name: bytes, environment: dict[bytes, bytes]) -> list[bytes]:
    """List where a program may be, in the order of its PATH."""
    if b"/" in name:
        return [name]
    places = environment.get(b"PATH", os.fsencode(os.defpath)).split(b":")
    return [place + b"/" + name if place else name for place in places]


def spawn(run: dict[str, Any], handles: list[int]) -> tuple[int, str, int]:
    """Start the command from this thread, whose filters it gets.

    By vfork(2). What posix_spawn(3) has no action for is set here around it: nothing else in this process uses its
    directory, or makes files, meanwhile. With `run["terminal"]`, its standard input is a terminal that no session has:
    it becomes that of the command's, whose leader opens it once more (tty_ioctl(4)). Gives the command's number; or 0,
    the step that failed, and the errno.
    """
    keep = frozenset(run["keep"])
    environment = {name: value for name, value in os.environb.items() if name in keep}
    for name in run["unset"]:
        environment.pop(name, None)
    environment.update(run["env"])
    argv = run["argv"]
    try:
        os.chdir(run["cwd"])
        if not (os.getcwdb() + b"/").startswith(run["root"].rstrip(b"/") + b"/"):
            os.chdir("/")
            return 0, "directory", errno.EXDEV
    except OSError as error:
        return 0, "directory", error.errno or 0
    begun = [(os.POSIX_SPAWN_OPEN, 0, _path_of(handles[0]), os.O_RDWR, 0)] if run["terminal"] else []
    before = os.umask(run["umask"])
    refused = missing = 0
    try:
        for path in _find(argv[0], environment):
            try:
                os.stat(path)
                if run["locked"]:
                    return _spawn_locked(path, argv, environment, handles, has_terminal=run["terminal"]), "", 0
                pid = os.posix_spawn(
                    path,
                    argv,
                    environment,
                    file_actions=[*begun, *((os.POSIX_SPAWN_DUP2, fd, place) for place, fd in enumerate(handles))],
                    setsid=True,
                    setsigmask=(),
                    setsigdef=_DEFAULT,
                )
            except (FileNotFoundError, NotADirectoryError) as error:
                missing = error.errno or 0
            except OSError as error:
                # as execvp(3): a later directory may have one that can be executed
                refused = refused or error.errno or 0
            except ValueError:
                refused = errno.EINVAL
            else:
                return pid, "", 0
    finally:
        os.umask(before)
        os.chdir("/")
    number = refused or missing
    return 0, "start" if number in (errno.EAGAIN, errno.ENOMEM) else "command", number


def _path_of(fd: int) -> str:
    """Name what a descriptor is open for, so that it can be opened once more."""
    return f"/proc/self/fd/{fd}"


def _spawn_locked(
    path: bytes, argv: list[bytes], environment: dict[bytes, bytes], handles: list[int], *, has_terminal: bool
) -> int:
    """Start root's command in a user namespace with the same users, where it cannot change its copy of the mounts.

    Mounts of a namespace with more rights are locked there (mount_namespaces(7)). Where the system allows no user
    namespace the command is started without. Raises OSError if it cannot be executed.
    """
    asked, said = os.pipe(), os.pipe()
    pid = os.fork()
    if not pid:
        try:
            os.setsid()
            if has_terminal:
                os.close(os.open(_path_of(handles[0]), os.O_RDWR))
            is_locked = not _libc.unshare(_CLONE_NEWUSER | _CLONE_NEWNS)
            os.write(asked[1], b"1" if is_locked else b"0")
            os.close(said[1])
            os.read(said[0], 1)
            for number in _DEFAULT:
                signal.signal(number, signal.SIG_DFL)
            signal.pthread_sigmask(signal.SIG_SETMASK, ())
            for place, fd in enumerate(handles):
                os.dup2(fd, place)
            os.execve(path, argv, environment)  # noqa: S606 - it is the command
        except OSError as error:
            os.write(asked[1], struct.pack("i", error.errno or 0))
        finally:
            os._exit(127)
    os.close(asked[1])
    os.close(said[0])
    try:
        if os.read(asked[0], 1) == b"1":
            for name in ("uid_map", "gid_map"):
                with open(f"/proc/self/{name}") as table:
                    lines = [line.split() for line in table]
                ids = "".join(f"{inside} {inside} {count}\n" for inside, _, count in lines)
                with open(f"/proc/{pid}/{name}", "wb", buffering=0) as file:
                    file.write(ids.encode())
        os.write(said[1], b"1")
        failed = os.read(asked[0], 4)
    finally:
        os.close(asked[0])
        os.close(said[1])
    if failed:
        os.waitpid(pid, 0)
        raise OSError(struct.unpack("i", failed)[0], "execve")
    return pid


class Spawner:
    """A thread that starts commands, so that the filter for their renames is not that of the thread that answers."""

    def __init__(self, install: Callable[[], int | None]) -> None:
        """Start it; `install` sets the filter, and gives the descriptor that reports renames."""
        self._install = install
        self._asked, self._done = _thread.allocate_lock(), _thread.allocate_lock()
        self._asked.acquire()
        self._done.acquire()
        self._run: dict[str, Any] = {}
        self._handles: list[int] = []
        self._result = (0, "start", errno.ECHILD)
        self.listener: int | None = None
        """The descriptor that reports the renames of all commands; None where the system has none."""
        _thread.start_new_thread(self._serve, ())
        self._done.acquire()

    def spawn(self, run: dict[str, Any], handles: list[int]) -> tuple[int, str, int]:
        """Start a command, as the function `spawn` does."""
        self._run, self._handles = run, handles
        self._asked.release()
        self._done.acquire()
        return self._result

    def _serve(self) -> None:
        try:
            self.listener = self._install()
        except Exception:  # noqa: BLE001 - renames fail then as overlayfs has it
            self.listener = None
        while True:
            self._done.release()
            self._asked.acquire()
            try:
                self._result = spawn(self._run, self._handles)
            except BaseException:  # noqa: BLE001 - as above
                self._result = (0, "start", errno.EINVAL)
