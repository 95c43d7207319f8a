"""The process above a command: it holds the command's namespaces, starts it, and kills what it leaves behind.

    python -I -S avfs_git/host/processes/runner/runner.py SOCKET

Decided here: how all processes of a command are kept together and ended. Where the system allows it they live in a PID
namespace whose first process this is: killing all of it misses nothing, however often a program has forked and called
setsid(2), and when this process dies, the kernel kills the rest. Elsewhere it is their subreaper: orphans become its
children, and it kills its descendants until there are none. Mounts for the command are in a mount namespace of its own,
and go with its last process.

It can make the first process that opens a given file wait, by a lease (fcntl(2)), and say so: that process waits until
the user of the runner answers, at most `/proc/sys/fs/lease-break-time`.

`handle.Runner` starts it and talks to it over a socket of sequenced packets, one `marshal` value each. It has to start
in a few milliseconds, so it imports next to nothing, and nothing of avfs. When the socket closes, because its user is
done or dead, everything ends; descriptors that came with the first message, such as a lock, stay open until then.

One thread serves; a second one only starts commands (`spawning.Spawner`). Nothing it does needs to survive a crash.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import marshal
import os
import select
import struct
import sys
from importlib import import_module

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal
    import socket
    from typing import Any
else:
    # `signal` and `socket` load `enum` and `selectors`, which takes longer than the rest of the start.
    import _signal as signal
    import _socket as socket

MESSAGE_MAX = 1 << 20  # a command line with its environment is limited by the kernel to less
_HANDLES_MAX = 8

_CLONE_NEWNS, _CLONE_NEWUSER, _CLONE_NEWPID = 0x20000, 0x10000000, 0x20000000  # linux/sched.h
_MS_RDONLY, _MS_NOSUID, _MS_NODEV, _MS_NOEXEC, _MS_REMOUNT, _MS_BIND = 1, 2, 4, 8, 32, 4096  # linux/mount.h
_MS_REC, _MS_SLAVE = 1 << 14, 1 << 19
_MNT_DETACH = 2
_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER = 1, 36  # linux/prctl.h

_libc = ctypes.CDLL(None, use_errno=True)


def _beside(name: str) -> Any:
    """Load a module beside this file; the standard library comes first."""
    here = os.path.dirname(os.path.abspath(__file__))
    if here not in sys.path:
        sys.path.append(here)
    return import_module(name)


class _Refused(Exception):
    """The system refused a step of the setup."""

    def __init__(self, step: str, number: int) -> None:
        super().__init__(step)
        self.step = step
        self.number = number


def _check(step: str, result: int) -> None:
    if result:
        raise _Refused(step, ctypes.get_errno())


def _mount(step: str, source: str, target: str, kind: str, flags: int, options: str = "") -> None:
    _check(
        step,
        _libc.mount(
            os.fsencode(source),
            os.fsencode(target),
            kind.encode() or None,
            ctypes.c_ulong(flags),
            os.fsencode(options) or None,
        ),
    )


# --- namespaces ------------------------------------------------------------------------------------------------------


def _unshare(setup: dict[str, Any]) -> None:
    """Leave the namespaces of the process that started this."""
    flags = (_CLONE_NEWNS if setup["mounts"] else 0) | (_CLONE_NEWPID if setup["pids"] else 0)
    if not flags:
        return
    uid, gid = os.geteuid(), os.getegid()
    if uid:
        flags |= _CLONE_NEWUSER
    _check("unshare", _libc.unshare(flags))
    if uid:
        try:
            _write("/proc/self/setgroups", "deny")
            _write("/proc/self/uid_map", f"{uid} {uid} 1")
            _write("/proc/self/gid_map", f"{gid} {gid} 1")
        except OSError as error:
            raise _Refused("map users", error.errno or 0) from error
    if setup["mounts"]:
        # What the machine mounts or unmounts later still arrives here; nothing goes the other way.
        _mount("make mounts private", "none", "/", "", _MS_REC | _MS_SLAVE)


def _write(path: str, text: str) -> None:
    fd = os.open(path, os.O_WRONLY)
    try:
        os.write(fd, text.encode())
    finally:
        os.close(fd)


def _make_mounts(steps: list[dict[str, Any]]) -> None:
    for step in steps:
        what, target = step["what"], step["target"]
        if what == "overlay":
            _check_lower(step)
            # By descriptor: what is mounted later may hide it, and renames look into it.
            if not step["renames_all"]:
                step["upper_fd"] = os.open(step["upper"], os.O_PATH)
            _mount("mount overlayfs", "avfs", target, "overlay", _MS_NOSUID | _MS_NODEV, step["options"])
            _check_lower(step)  # once more: what was there before and after was there in between
        elif what in {"readonly", "writable"}:
            _mount("bind a directory", target, target, "", _MS_BIND | _MS_REC)
            if what == "readonly":
                _make_readonly(target)
        elif what == "hiding":
            _hide(target, step["kept"], step["files"])
        elif what == "bind":
            _mount("bind a file", step["source"], target, "", _MS_BIND)
            _make_readonly(target)
        elif what == "unmount":
            _check("unmount", _libc.umount2(os.fsencode(target), _MNT_DETACH))


def _find_overlay(steps: list[dict[str, Any]]) -> dict[str, Any] | None:
    """Find the overlayfs that refuses some renames."""
    return next((step for step in steps if step["what"] == "overlay" and not step["renames_all"]), None)


def _hide(target: str, kept: list[str], files: dict[str, bytes]) -> None:
    """Show a directory without its contents."""
    opened = [
        (f"{target}/{name}", os.open(f"{target}/{name}", os.O_PATH))
        for name in kept
        if os.path.isdir(f"{target}/{name}")
    ]
    try:
        _mount("hide a directory", "avfs", target, "tmpfs", _MS_NOSUID | _MS_NODEV | _MS_NOEXEC, "mode=755,size=64k")
        for name, data in files.items():
            fd = os.open(f"{target}/{name}", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o444)
            os.write(fd, data)
            os.close(fd)
        for place, fd in opened:
            os.makedirs(place)
            _mount("bind a directory", f"/proc/self/fd/{fd}", place, "", _MS_BIND)
            _make_readonly(place)
        _make_readonly(target)
    except OSError as error:
        raise _Refused("hide a directory", error.errno or 0) from error
    finally:
        for _, fd in opened:
            os.close(fd)


def _make_readonly(target: str) -> None:
    # In a user namespace the kernel refuses to drop the flag of a mount that came from outside.
    noexec = os.statvfs(target).f_flag & _MS_NOEXEC
    flags = _MS_BIND | _MS_REMOUNT | _MS_RDONLY | _MS_NOSUID | _MS_NODEV | noexec
    _mount("make a mount read-only", "none", target, "", flags)


def _check_lower(step: dict[str, Any]) -> None:
    """Make sure that the lower layer is mounted, and not about to go: the directory below it is empty."""
    if step["device"] is not None:
        try:
            device = os.stat(step["lower"]).st_dev
        except OSError as error:
            raise _Refused("find the lower layer", error.errno or 0) from error
        if device != step["device"]:
            raise _Refused("find the lower layer", errno.ESTALE)


# --- the command's processes -----------------------------------------------------------------------------------------


class _Processes:
    def __init__(self, *, alone: bool) -> None:
        self._alone = alone

    def signal(self, number: int, *, spared: int = 0) -> None:
        """Send a signal to every one, but for one."""
        if self._alone and not spared:  # the first process of a PID namespace
            try:
                os.kill(-1, number)
            except ProcessLookupError:
                pass
            return
        for pid in self._descendants():
            if pid == spared:
                continue
            try:
                os.kill(pid, number)
            except OSError:  # it ended, or became another user's
                pass

    def end(self) -> int:
        """Kill every one, and wait until they are gone; tell how many there were."""
        count = 0
        while True:
            try:
                pid, _ = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return count
            if pid:
                continue
            count = max(count, len(self._descendants()))
            self.signal(signal.SIGKILL)
            try:
                os.waitpid(-1, 0)
            except ChildProcessError:
                return count

    @staticmethod
    def _descendants() -> list[int]:
        parents: dict[int, list[int]] = {}
        for name in os.listdir("/proc"):
            if name.isdigit():
                try:
                    fd = os.open(f"/proc/{name}/stat", os.O_RDONLY)
                except OSError:
                    continue
                try:
                    fields = os.read(fd, 4096).rpartition(b")")[2].split()
                except OSError:
                    continue
                finally:
                    os.close(fd)
                if len(fields) > 1 and fields[0] not in (b"Z", b"X"):
                    parents.setdefault(int(fields[1]), []).append(int(name))
        found: list[int] = []
        pending = [os.getpid()]
        while pending:
            below = parents.get(pending.pop(), [])
            found += below
            pending += below
        return found


def _receive(ours: socket.socket) -> tuple[bytes, list[int]]:
    """Wait for a message, and what comes with it."""
    data, control, _, _ = ours.recvmsg(MESSAGE_MAX, socket.CMSG_SPACE(_HANDLES_MAX * 4), socket.MSG_CMSG_CLOEXEC)
    handles = [
        fd
        for level, kind, held in control
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS)
        for (fd,) in struct.iter_unpack("i", held[: len(held) // 4 * 4])
    ]
    return data, handles


def _send(ours: socket.socket, message: dict[str, object]) -> None:
    try:
        ours.send(marshal.dumps(message))
    except OSError:  # the user is gone: the next look at the socket says so, too
        pass


class _Server:
    def __init__(self, ours: socket.socket, setup: dict[str, Any]) -> None:
        self._socket = ours
        self._processes = _Processes(alone=setup["pids"])
        self._pid = 0
        self._is_sandboxed = False
        """Whether the command is bubblewrap."""
        self._overlay = _find_overlay(setup["steps"])
        self._spawning = _beside("spawning")
        self._spawner: Any = self._spawning
        self._listener: int | None = None
        self._renames: Any = None
        self._leased: int | None = None
        """The file whose first reader waits."""
        wake, self._woken = os.pipe()
        os.set_blocking(wake, False)
        os.set_blocking(self._woken, False)
        for number in (signal.SIGCHLD, signal.SIGIO):
            signal.signal(number, lambda *_: None)
        signal.set_wakeup_fd(self._woken, warn_on_full_buffer=False)
        self._wake = wake
        self._poll = select.poll()
        self._poll.register(ours, select.POLLIN)
        self._poll.register(wake, select.POLLIN)
        if self._overlay is not None:
            self._spawner = self._spawning.Spawner(_beside("renames").install)
            self._listener = self._spawner.listener
            if self._listener is not None:
                os.set_inheritable(self._listener, False)
                self._poll.register(self._listener, select.POLLIN)

    def serve(self) -> None:
        """Serve until the other end closes; then end whatever runs."""
        while True:
            for fd, events in self._poll.poll():
                if fd == self._listener:
                    if self._renames is not None and events & select.POLLIN:
                        self._renames.answer()
                elif fd == self._wake:
                    os.read(self._wake, 4096)
                    self._look_at_lease()
                elif not self._answer():
                    self._processes.end()
                    os._exit(0)  # at once, without the interpreter's own steps
            self._reap()

    def _reap(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if not pid:
                return
            if pid == self._pid:
                self._pid = 0
                left = self._processes.end()  # first: what it left behind must not write after the result is known
                self._let_go()
                self._say({"ended": os.waitstatus_to_exitcode(status), "left": left})

    def _hold_back(self, fd: int) -> None:
        """Make the first process that opens a file wait until `_let_go`. Raises OSError where the kernel cannot."""
        fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_WRLCK)
        self._leased = fd

    def _look_at_lease(self) -> None:
        """Say when a process waits: the lease is then about to become another one."""
        if self._leased is not None and fcntl.fcntl(self._leased, fcntl.F_GETLEASE) != fcntl.F_WRLCK:
            self._say({"asked": True})

    def _let_go(self) -> None:
        """Let the process that waits for the file go on."""
        if self._leased is not None:
            os.close(self._leased)
            self._leased = None

    def _say(self, message: dict[str, object]) -> None:
        _send(self._socket, message)

    def _answer(self) -> bool:
        try:
            data, handles = _receive(self._socket)
        except OSError:
            return False
        if not data:
            return False
        message = marshal.loads(data)  # noqa: S302 - from the program that started this one, over a socket that only both have
        if "signal" in message:
            if self._is_sandboxed and message["signal"] != signal.SIGKILL:
                # Bubblewrap would die of it, and take the command along at once.
                self._processes.signal(message["signal"], spared=self._pid)
            elif message["all"]:
                self._processes.signal(message["signal"])
            elif self._pid:
                try:
                    os.killpg(self._pid, message["signal"])
                except OSError:  # it ended, or has not called setsid(2) yet
                    os.kill(self._pid, message["signal"])
        elif "released" in message:
            self._let_go()
        elif "mounts" in message:
            try:
                _make_mounts(message["mounts"])
                overlay = _find_overlay(message["mounts"])
                if overlay is not None and self._overlay is not None:
                    os.close(self._overlay["upper_fd"])
                    self._overlay = overlay
                self._say({"mounted": True})
            except _Refused as refused:
                self._say({"refused": refused.step, "errno": refused.number})
        else:
            self._run(message, handles)
        return True

    def _run(self, run: dict[str, Any], handles: list[int]) -> None:
        if run["lease"]:
            try:
                self._hold_back(handles[-1])
                handles.pop()
            except OSError as error:
                for fd in handles:
                    os.close(fd)
                self._say({"unleased": error.errno or 0})
                return
        if self._listener is not None and self._overlay is not None:
            overlay = self._overlay
            self._renames = _beside("renames").Renames(
                self._listener,
                root=overlay["target"],
                upper=f"/proc/self/fd/{overlay['upper_fd']}",
                lower=overlay["lower"],
            )
        try:
            # Renames are answered with this process's rights, by paths that a command may change meanwhile: a command
            # with fewer rights is started from a thread without the filter, and gets what overlayfs says.
            self._is_sandboxed = run["sandboxed"]
            spawner = self._spawning if self._is_sandboxed else self._spawner
            pid, step, number = spawner.spawn(run, handles)
        finally:
            for fd in handles:
                os.close(fd)
        if pid:
            self._pid = pid
            self._say({"started": pid})
        else:
            self._let_go()
            self._say({"failed": step, "errno": number})


def _be_first(ours: socket.socket, setup: dict[str, Any]) -> None:
    """Make the mounts and serve, in the namespaces."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C at a terminal is for the process that asked for the command
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if setup["pids"]:
        _mount("mount /proc", "proc", "/proc", "proc", _MS_NOSUID | _MS_NODEV | _MS_NOEXEC)
    else:
        _check("become a subreaper", _libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0))
    _make_mounts(setup["steps"])
    _send(ours, {"ready": True})
    _Server(ours, setup).serve()


def main() -> None:
    """Read the setup, leave the namespaces of the starter, serve."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # the starter may ignore it: then no child can be waited for
    ours = socket.socket(fileno=int(sys.argv[1]))
    os.set_inheritable(ours.fileno(), False)
    said, _ = _receive(ours)  # what comes along is never closed
    if not said:
        return  # the starter is gone
    setup = marshal.loads(said)  # noqa: S302 - from the program that started this one
    try:
        _unshare(setup)
        if setup["pids"]:
            child = os.fork()
            if child:
                ours.close()
                for number in (signal.SIGINT, signal.SIGHUP, signal.SIGTERM):
                    signal.signal(number, signal.SIG_IGN)
                os.waitpid(child, 0)
                os._exit(0)
            _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        _be_first(ours, setup)
    except _Refused as refused:
        _send(ours, {"refused": refused.step, "errno": refused.number})


if __name__ == "__main__":
    main()
