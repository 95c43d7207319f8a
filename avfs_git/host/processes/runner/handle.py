"""The user's end of the process above a command (see `runner`, which is that process).

Decided here: how it is started and spoken to, and what may be asked of it when. A `Runner` belongs to one thread at a
time. When it is closed, or its user dies in any way, every process that it started is killed and every mount that was
made for it is gone.
"""

from __future__ import annotations

import errno
import marshal
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from avfs_git.errors import HostError
from avfs_git.host.files.closing import Closing
from avfs_git.host.mounts.overlayfs import layer_options
from avfs_git.host.processes.descriptors import is_readable
from avfs_git.host.processes.processes import await_end, list_family
from avfs_git.values import value_class

_PROGRAM = os.path.join(os.path.dirname(os.path.abspath(__file__)), "runner.py")
"""Is never imported here: what it needs, only a process of its own needs."""
STUCK_S = 10.0
"""How long to wait for a process to die of SIGKILL."""
_MESSAGE_MAX = 1 << 20
"""As in the program."""
_SILENCE_S = 0.2
"""So long an answer may take before `on_silence` is called, and after each call."""

_UNSET = (
    # Of a git that runs avfs, in a hook say: they would send every git of the command to another repository.
    *(b"GIT_" + name for name in (b"DIR", b"WORK_TREE", b"INDEX_FILE", b"OBJECT_DIRECTORY", b"COMMON_DIR", b"PREFIX")),
    b"OLDPWD",
    b"CDPATH",  # of a person at a terminal: `cd build` would lead to another place than the text says
)


class NamespaceRefused(Exception):
    """The system does not allow what was asked for.

    Attributes:
        step: What, in a few words.
        number: The errno.
    """

    def __init__(self, step: str, number: int) -> None:
        reason = os.strerror(number) if number else "it ended"
        # the kernel's answer for a root that is no mount point
        if (step, number) == ("make mounts private", errno.EINVAL):
            reason = (
                "the root directory is no mount point, as in a plain chroot; run `mount --bind DIR DIR` before "
                "`chroot DIR`"
            )
        super().__init__(f"cannot {step}: {reason}")
        self.step = step
        self.number = number


class CannotStart(Exception):
    """A command could not be started.

    Attributes:
        step: `directory` if its directory is not there, `command` if the program cannot be executed, else `start`.
        number: The errno.
    """

    def __init__(self, step: str, number: int) -> None:
        super().__init__(f"{step}: {os.strerror(number)}")
        self.step = step
        self.number = number


class LeaseRefused(Exception):
    """The system cannot make a process that opens a file wait."""


def overlay_mount(
    target: Path,
    *,
    lower: Sequence[Path],
    device: int | None,
    upper: Path,
    work: Path,
    options: Sequence[str],
    renames_all: bool = False,
) -> Mapping[str, object]:
    """Describe a mount of the kernel's overlayfs.

    The topmost of the lower layers is the first; `device` is what the last is mounted from, None if it is not mounted.
    With `renames_all`, overlayfs itself renames directories of the lower layers.
    """
    return {
        "what": "overlay",
        "renames_all": renames_all,
        "target": os.fspath(target),
        "upper": os.fspath(upper),
        "lower": os.fspath(lower[-1]),
        "device": device,
        "options": layer_options(lower, upper, work, options),
    }


def readonly_mount(target: Path) -> Mapping[str, object]:
    """Describe a bind mount that makes a file or directory read-only for the command."""
    return {"what": "readonly", "target": os.fspath(target)}


def writable_mount(target: Path) -> Mapping[str, object]:
    """Describe a bind mount of a directory on itself that stays writable when the one above becomes read-only later."""
    return {"what": "writable", "target": os.fspath(target)}


def hiding_mount(target: Path, *, kept: Sequence[str], files: Mapping[str, bytes]) -> Mapping[str, object]:
    """Describe a mount that shows a directory without its contents, read-only.

    Of `target`, the directories `kept` stay visible, as relative paths; small `files` show instead of the rest.
    """
    return {"what": "hiding", "target": os.fspath(target), "kept": list(kept), "files": dict(files)}


def file_mount(source: Path, target: Path) -> Mapping[str, object]:
    """Describe a bind mount of one file, which nothing can change or remove."""
    return {"what": "bind", "source": os.fspath(source), "target": os.fspath(target)}


def unmounting(target: Path) -> Mapping[str, object]:
    """Describe the end of a mount."""
    return {"what": "unmount", "target": os.fspath(target)}


@value_class
class Launch:
    """A command to start."""

    argv: Sequence[bytes]
    """The program, which is searched for in PATH, and its arguments."""
    cwd: bytes
    """Where it runs."""
    root: bytes
    """A directory that it has to run in: a symbolic link in `cwd` may not lead out of it."""
    env: Mapping[bytes, bytes]
    """What is added to the environment of this process."""
    keep: tuple[bytes, ...]
    """The variables of this process that it gets."""
    umask: int
    is_sandboxed: bool = False
    """Whether it is bubblewrap: what runs below has fewer rights than the process above, which does nothing for it."""
    is_locked: bool = False
    """Whether it cannot remove mounts, though it is root: it runs in a user namespace where the system allows one."""


@value_class
class Ended:
    """How a command ended."""

    status: int
    """Its exit status, or minus the number of the signal that killed it."""
    left: int
    """How many processes it left behind; they were killed."""


_spare: list[tuple[socket.socket, subprocess.Popen[bytes]]] = []
"""Processes that were started early."""
_left: list[subprocess.Popen[bytes]] = []
"""Those that `close` has left, because what they ran waits in the kernel."""


@contextmanager
def starting_early() -> Iterator[None]:
    """Start a process for the next `Runner` now: it comes up while the caller does what else a command begins with.

    It does nothing until it is asked. One that was not used is ended with the block. Where none can be started, the
    runner says so.
    """
    with suppress(HostError):
        _spare.append(_start())
    try:
        yield
    finally:
        while _spare:
            ours, process = _spare.pop()
            ours.close()
            process.kill()
            process.wait()


def _start() -> tuple[socket.socket, subprocess.Popen[bytes]]:
    try:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    except OSError as error:
        raise HostError("start a command", error) from error
    with theirs:
        try:
            process = subprocess.Popen(
                [sys.executable, "-I", "-S", _PROGRAM, str(theirs.fileno())],
                stdin=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
                start_new_session=True,
                cwd="/",
            )
        except OSError as error:
            ours.close()
            raise HostError("start a command", error) from error
    return ours, process


class Runner(Closing):
    """A process that runs commands, one at a time."""

    def __init__(self, *, held: Sequence[int] = (), on_silence: Callable[[], object] | None = None) -> None:
        """Start it; it waits for `isolate`.

        It keeps `held` open until everything that it ran has ended; commands do not get them. `on_silence` is called
        while it makes mounts or starts a command and does not get on: it raises if the server of a tree that is looked
        into is stopped.
        """
        self._on_silence = on_silence
        _left[:] = [process for process in _left if process.poll() is None]
        try:
            self.socket, self._process = _spare.pop()
        except IndexError:
            self.socket, self._process = _start()
        self._held = tuple(held)

    @property
    def pid(self) -> int:
        """Its number; all that it runs comes from it."""
        return self._process.pid

    def isolate(self, mounts: Sequence[Mapping[str, object]] = (), *, pids: bool = True) -> None:
        """Let it come into its namespaces, and make the mounts that it is to have. Called once, before anything else.

        Args:
            mounts: Those to make in a mount namespace, in order: see `overlay_mount` and its like.
            pids: Give its processes a PID namespace, in which nothing else is; one needs a mount namespace for its
                /proc.

        Raises:
            NamespaceRefused: If the system does not allow them; it has ended then.
        """
        try:
            steps = [dict(mount) for mount in mounts]
            self._tell({"pids": pids, "mounts": pids or bool(steps), "steps": steps}, self._held)
            self._await_done("ready", step="start")
        except BaseException:
            self.close()
            raise

    def _await_answer(self) -> dict[str, Any] | None:
        """Wait for the answer to a request; None if the process is gone.

        A wait that is given up ends all of it at once: what waits in the kernel for a FUSE server heeds no closed
        socket.
        """
        try:
            while self._on_silence is not None and not is_readable(self.socket, _SILENCE_S):
                self._on_silence()
            return self.receive()
        except BaseException:
            for pid in list_family(self._process.pid):
                with suppress(OSError):
                    os.kill(pid, signal.SIGKILL)
            raise

    def _await_done(self, done: str, *, step: str) -> None:
        """Wait until it says that something is done; a process that is gone has failed at `step`."""
        answer = self._await_answer() or {}
        if done not in answer:
            raise NamespaceRefused(str(answer.get("refused", step)), int(answer.get("errno", 0)))

    def leave(self) -> None:
        """Let it end, with what runs; `close` waits for that."""
        self.socket.close()

    def close(self) -> None:
        """Kill what runs, and wait until nothing of it is left. A second call does nothing.

        What waits in the kernel and cannot be killed is waited for `STUCK_S` seconds only; it ends when the kernel lets
        it go.
        """
        self.socket.close()
        if await_end(self._process, STUCK_S):
            self._process.wait()
        else:
            _left.append(self._process)

    def _tell(self, message: dict[str, object], handles: Sequence[int] = ()) -> None:
        data = marshal.dumps(message)
        if len(data) > _MESSAGE_MAX:
            raise CannotStart("command", errno.E2BIG)
        try:
            if self.socket.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF) < len(data) * 2:
                self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, len(data) * 2)
            socket.send_fds(self.socket, [data], handles)
        except OSError as error:
            raise CannotStart("command" if error.errno == errno.EMSGSIZE else "start", error.errno or 0) from error

    def receive(self) -> dict[str, Any] | None:
        """Wait for a message; None if the process is gone."""
        try:
            data = self.socket.recv(_MESSAGE_MAX)
        except OSError:
            return None
        message: dict[str, Any] | None = marshal.loads(data) if data else None  # noqa: S302 - from the program started here
        return message

    def make_mounts(self, mounts: Sequence[Mapping[str, object]]) -> None:
        """Make further mounts, or end some.

        Raises:
            NamespaceRefused: If the system does not allow them; those before in the list are made.
        """
        self._tell({"mounts": [dict(mount) for mount in mounts]})
        self._await_done("mounted", step="mount")

    def start(
        self, launch: Launch, handles: tuple[int, ...], *, has_terminal: bool = False, lease: int | None = None
    ) -> int:
        """Start a command; give its number as its own namespace has it.

        Args:
            launch: The command.
            handles: Its standard input, output and error, and what else it is to have, as descriptors 3 and up.
            has_terminal: Its standard input is a terminal of no session: it becomes the controlling terminal of the
                command's.
            lease: A file that no other process has open: the first to open it while the command runs waits until
                `release`. A message tells of that, see `is_asked`.

        Raises:
            CannotStart: If it cannot be started.
            LeaseRefused: If no process can be made to wait; nothing was started.
        """
        message: dict[str, object] = {
            "argv": list(launch.argv),
            "cwd": launch.cwd,
            "env": {b"PWD": launch.cwd, **launch.env},
        }
        message |= {
            "root": launch.root,
            "keep": launch.keep,
            "unset": _UNSET,
            "umask": launch.umask,
            "lease": lease is not None,
        }
        message |= {"terminal": has_terminal, "sandboxed": launch.is_sandboxed, "locked": launch.is_locked}
        self._tell(message, (*handles, lease) if lease is not None else handles)
        answer = self._await_answer()
        if answer is None:
            raise CannotStart("start", errno.ECHILD)
        if "unleased" in answer:
            raise LeaseRefused
        if "failed" in answer:
            raise CannotStart(str(answer["failed"]), int(answer["errno"]))
        return int(answer["started"])

    def signal(self, number: int, *, everybody: bool) -> None:
        """Send a signal to the command's process group, or to every process that comes from it."""
        try:
            self._tell({"signal": int(number), "all": everybody})
        except CannotStart:  # it is gone, and so is what it ran
            pass

    @staticmethod
    def is_asked(message: Mapping[str, Any] | None) -> bool:
        """Whether a message says that a process waits for the file that `start` was given."""
        return message is not None and "asked" in message

    def release(self) -> None:
        """Let the process that waits for the file go on."""
        try:
            self._tell({"released": True})
        except CannotStart:  # it is gone, and so is the process that waited
            pass

    @staticmethod
    def ended(message: Mapping[str, Any] | None) -> Ended | None:
        """Read a message that says how the command ended; None if it says something else."""
        if message is None:
            return Ended(-9, 0)
        return Ended(int(message["ended"]), int(message["left"])) if "ended" in message else None
