"""Upgrade in place: a session goes on with the program of another avfs, and its mount, lock and socket are never let go.

Decided here: what one version hands to the next, in which order, and what happens if that does not work. Four take part:

1. A client asks over the control socket (`session.ask_upgrade`), and names the program: a command line, and where it finds its
   modules. The server that is asked tries it (`Upgrade.prepare`): it runs once beside the session, reads what it would get,
   opens the workspace, and says its version (`try_out`). Where it does not, the client is told why, and nothing has happened.
2. The server notes the program in memory that it shares with the supervisor, refuses what waits with an error after which
   a client asks again, and signals the supervisor, which ends it as a crash would (`fuse.supervisor`).
3. The supervisor executes the program in its own place (`Upgrade.execute`): the process, its number and its locks stay, and
   the descriptors of `Resume` go over. The kernel sees no end of its connection; requests wait meanwhile. A tree on overlayfs
   needs no connection: the other program finds the mount, and programs in it notice nothing.
4. Beside it stays a *keeper*, a fork of the supervisor as it was. When a server of the other program serves, the keeper goes. If
   that program ends before, or takes too long, the keeper takes its place and goes on with the program that it is.

The two sides may be of different versions: what they exchange is JSON with a number of its own (`VERSION`), and fields that
one of them does not know are refused while the old one still serves. `execute` is called in a process of one thread; the
rest in the operations thread of a server, or in a process of its own. Nothing is on disk.
"""

from __future__ import annotations

import errno
import json
import os
import select
import signal
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import Any, Final, NoReturn

from avfs_git import __version__
from avfs_git.errors import AvfsError, UpgradeFailed
from avfs_git.faults import reach
from avfs_git.fuse.handover import Handover
from avfs_git.model import SessionBackend
from avfs_git.session.request import Request
from avfs_git.values import as_dict, value_class

VERSION: Final = 2
"""Of what one program hands to the next."""
_UNDERSTOOD: Final = frozenset({1, VERSION})
"""What this program can go on with. The first one knew no mounts on overlayfs; else it is the same."""
NEEDED: Final = (
    "avfs_git.session.process",
    "avfs_git.session.start_control",
    "avfs_git.session.control",
    "avfs_git.workspace.recovery",
    "concurrent.futures.thread",
    "traceback",
)
"""What a session imports in the course of its life. A supervisor has all of it: what is on disk may have been replaced since."""
NEEDED_ON_OVERLAYFS: Final = ("avfs_git.vfs.mounted", "avfs_git.vfs.upperwatch", "termios")
"""What it imports besides, where the kernel shows the tree."""
_TRIAL_S = 30.0
_START_S = 30.0
"""How long the other program may take until it serves; programs in the tree wait."""
_LOOK_EVERY_S = 0.02
_GIVEN_UP: Final = 70
_STDIN: Final = 0


def needed(request: Request) -> tuple[str, ...]:
    """List what a session imports in the course of its life."""
    return (*NEEDED, *NEEDED_ON_OVERLAYFS) if request.backend == SessionBackend.OVERLAY else NEEDED


@value_class
class Resume:
    """What the next program of a session finds; numbers are descriptors.

    Attributes:
        version: `VERSION`.
        session: The id of the session.
        tokens: Of the last upgrades, this one first, by which clients know them.
        lock: The lock of the session.
        workspace: The lock of the workspace.
        device: `/dev/fuse`; None where the kernel's overlayfs shows the tree, which is found in the mount table.
        handover: What the last server left.
        listener: The control socket.
        keeper: The writing end of a pipe that the keeper reads.
    """

    version: int
    session: str
    tokens: tuple[str, ...]
    lock: int
    workspace: int
    device: int | None
    handover: int
    listener: int
    keeper: int

    def descriptors(self) -> tuple[int, ...]:
        """List them."""
        device = () if self.device is None else (self.device,)
        return (self.lock, self.workspace, *device, self.handover, self.listener, self.keeper)


@value_class
class _Trial:
    """What a program finds that is only tried."""

    version: int
    handover: int


class Upgrade:
    """The upgrade of one session, as its present program sees it: in the supervisor, and in every server."""

    def __init__(self, request: Request, handover: Handover, plan: int, settle: Callable[[], object] | None = None) -> None:
        """Make it.

        Args:
            request: What the session is.
            handover: What its servers leave to each other.
            plan: Memory that the supervisor shares with all servers, and that nothing else uses.
            settle: Called when a program was found good, in the server that is about to end: does what has to be done before
                that, or raises `UpgradeFailed`.
        """
        self._settle = settle
        self._request = request
        self._handover = handover
        self._plan = plan

    # --- in a server -----------------------------------------------------------------------------------------

    def prepare(self, program: Sequence[str], path: Sequence[str], token: str) -> str:
        """Try a program, and note it for the supervisor; gives its version.

        Raises:
            UpgradeFailed: If it cannot go on with this session, or not now.
        """
        version = self._try(program, path)
        if self._settle is not None:
            self._settle()
        plan = json.dumps({"program": list(program), "path": list(path), "token": token}).encode()
        os.ftruncate(self._plan, 0)
        os.pwrite(self._plan, plan, 0)
        return version

    def begin(self) -> None:
        """Let the supervisor take the next step. It ends this process."""
        os.kill(os.getppid(), signal.SIGUSR2)

    def _try(self, program: Sequence[str], path: Sequence[str]) -> str:
        import subprocess  # noqa: PLC0415 - only for an upgrade

        fork = self._request.fork
        trial = _Trial(VERSION, self._handover.fileno())
        given = json.dumps({"path": list(path), "request": as_dict(self._request), "trial": as_dict(trial)}).encode()
        said = os.memfd_create("avfs-said", os.MFD_CLOEXEC)
        try:
            with subprocess.Popen(
                list(program), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=said, pass_fds=[trial.handover], cwd="/"
            ) as process:
                try:
                    output, _ = process.communicate(given, timeout=_TRIAL_S)
                except subprocess.TimeoutExpired:
                    process.kill()
                    raise UpgradeFailed(fork, f"the other version is not ready after {_TRIAL_S:.0f} s", log=_read(said)) from None
            try:
                answer = json.loads(output)
                if "refused" in answer:
                    raise UpgradeFailed(fork, f"the other version refuses: {answer['refused']}", log=_read(said))
                return str(answer["ready"])
            except (ValueError, KeyError, TypeError):
                raise UpgradeFailed(fork, f"the other version failed (status {process.returncode})", log=_read(said)) from None
        except OSError as error:
            raise UpgradeFailed(fork, f"the other version cannot be started: {error.strerror}") from error
        finally:
            os.close(said)

    # --- in the supervisor -----------------------------------------------------------------------------------

    def execute(self, make: Callable[[str, int], Resume], take_over: Callable[[], object]) -> None:
        """Execute the program that was noted, instead of this one. Called with no server running.

        Returns, or raises, only where this program goes on: in this process if the other was not executed, in the keeper
        if it failed.

        Args:
            make: Tells the descriptors to hand over, given the token and the descriptor for the keeper.
            take_over: Called in the keeper when it is the session's process.

        Raises:
            OSError: If there is not enough for another process.
        """
        plan = json.loads(os.pread(self._plan, 1 << 26, 0))
        reading, writing = os.pipe()
        supervisor, first = os.getpid(), os.fork()
        if not first and _is_left():
            os.close(writing)
            self._keep(supervisor, reading)
            os.close(reading)
            take_over()
            return
        _, status = os.waitpid(first, 0)
        os.close(reading)
        try:
            if status:
                raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN))
            resume = make(plan["token"], writing)
            given = {"path": plan["path"], "request": as_dict(self._request), "resume": as_dict(resume)}
            memory = os.memfd_create("avfs-resume")
            os.write(memory, json.dumps(given).encode())
            os.lseek(memory, 0, os.SEEK_SET)
            os.dup2(memory, _STDIN)
            os.close(memory)
            ours = (self._request.leash_fd, self._request.base_fd)
            passed = [*resume.descriptors(), *(fd for fd in ours if fd is not None)]
            for fd in passed:
                os.set_inheritable(fd, True)
            try:
                reach("upgrade.executing")
                os.execv(plan["program"][0], plan["program"])  # noqa: S606 - no shell is wanted
            finally:
                for fd in passed:
                    os.set_inheritable(fd, False)
        finally:
            with suppress(OSError):
                os.write(writing, b"not executed")  # else the keeper would take over beside this process
            os.close(writing)

    def _keep(self, supervisor: int, reading: int) -> None:
        """Watch the other program, in the keeper; returns when this one has to go on."""
        end = time.monotonic() + _START_S
        poll = select.poll()
        poll.register(reading, select.POLLIN)
        while True:
            if poll.poll(_LOOK_EVERY_S * 1000):
                if os.read(reading, 64):  # it was not executed
                    os._exit(0)
                return  # it has ended
            if self._handover.is_serving:
                os._exit(0)
            if time.monotonic() > end:
                os.kill(supervisor, signal.SIGKILL)  # it still is that process: it has the other end of the pipe
                end = float("inf")


def _is_left() -> bool:
    """Fork, in a child that nobody is to wait for, and go on in the fork: it is nobody's child."""
    try:
        if os.fork():
            os._exit(0)
    except OSError:
        os._exit(1)
    return True


# --- in the other program -------------------------------------------------------------------------------------------------


def read_resume(given: Mapping[str, Any]) -> Resume:
    """Read what the program before this one hands over, and keep it from other programs."""
    resume = Resume(**given)
    for fd in resume.descriptors():
        os.set_inheritable(fd, False)
    return resume


def leave_to_keeper(keeper: int) -> None:
    """End this process at once if its keeper still is there, which then goes on with the session; returns if it is not."""
    poll = select.poll()
    poll.register(keeper, 0)
    if not poll.poll(0):  # nobody reads at the other end: POLLERR
        os._exit(_GIVEN_UP)


def try_out(given: Mapping[str, Any]) -> NoReturn:
    """Find out whether this program can go on with a session, say so on standard output, and end."""
    answer = {"ready": __version__}
    try:
        trial = given["trial"]
        if trial.get("version") not in _UNDERSTOOD:
            known = " and ".join(map(str, sorted(_UNDERSTOOD)))
            raise _RefusedError(f"it does not know version {trial.get('version')} of what is handed over, only {known}")
        try:
            request = Request(**given["request"])
        except TypeError as error:
            raise _RefusedError(f"it does not know what was asked of the session ({error})") from error
        if Handover.adopt(trial["handover"]) is None:
            raise _RefusedError("it does not understand what the server knows of the files")
        for name in needed(request):
            import_module(name)
        _open(request)
    except _RefusedError as error:
        answer = {"refused": str(error)}
    except AvfsError as error:
        answer = {"refused": error.message}
    sys.stdout.write(json.dumps(answer))
    sys.stdout.flush()
    raise SystemExit(0)


class _RefusedError(Exception):
    """This program cannot go on."""


def _open(request: Request) -> None:
    """Open the workspace as it will be, but for the lock."""
    from avfs_git.workspace.vault import OpenVault  # noqa: PLC0415 - a server, which has this module too, has them already
    from avfs_git.workspace.workspace import OpenWorkspace  # noqa: PLC0415

    vault = OpenVault(Path(request.git_dir), name=request.vault, remote_environment=request.remote_environment)
    vault.prepare()
    OpenWorkspace(vault, request.fork, recover=lambda _: None, lock_timeout_s=0).close()


def _read(said: int) -> str:
    return os.pread(said, 65536, 0).decode("utf-8", "replace").strip()
