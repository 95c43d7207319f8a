"""The process above a command: it holds the command's namespaces, starts it, and outlives none of what it started.

    python -I -S avfs_git/host/runner.py SOCKET [DESCRIPTOR...]

Decided here: how all processes of a command are kept together and ended. Where the system allows it they live in a PID namespace
whose first process this is: what it kills is everything, however often something has forked and called setsid(2), and when it
dies itself, the kernel kills the rest. Elsewhere it is their subreaper: whatever loses its parent becomes its child, and it
kills its descendants until there are none. Mounts that are made for the command are in a mount namespace of its own, so that
they go with the last process in it, also after a SIGKILL.

`host.processes.Runner` starts it and speaks to it over a socket of sequenced packets, one `marshal` value each: both ends
are the same interpreter, and starting in a few milliseconds is what this program is for. Hence also that it imports next to
nothing, and nothing of avfs. When the socket closes, because its user is done or dead, everything ends; the other descriptors
stay open until then: a lock, say.

It has one thread. Nothing it does needs to survive a crash.
"""

from __future__ import annotations

import ctypes
import errno
import marshal
import os
import select
import signal
import socket
import sys
from importlib import import_module
from typing import Any, NoReturn

MESSAGE_MAX = 1 << 20
"""The longest message: a command line with its environment is limited by the kernel to less."""

_LISTENER = b"renames"
"""What a command says before it starts, with the descriptor that reports its renames."""

_CLONE_NEWNS, _CLONE_NEWUSER, _CLONE_NEWPID = 0x20000, 0x10000000, 0x20000000  # linux/sched.h
_MS_RDONLY, _MS_NOSUID, _MS_NODEV, _MS_NOEXEC, _MS_REMOUNT, _MS_BIND = 1, 2, 4, 8, 32, 4096  # linux/mount.h
_MS_REC, _MS_SLAVE = 1 << 14, 1 << 19
_MNT_DETACH = 2
_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER = 1, 36  # linux/prctl.h

_libc = ctypes.CDLL(None, use_errno=True)


def _renames() -> Any:
    """Load what answers for renames, which lies beside this file; the standard library comes first."""
    here = os.path.dirname(os.path.abspath(__file__))
    if here not in sys.path:
        sys.path.append(here)
    return import_module("renames")


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
    """Come away from the namespaces of who started this."""
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
    """Make the mounts that were asked for, in order."""
    for step in steps:
        what, target = step["what"], step["target"]
        if what == "overlay":
            _check_lower(step)
            readonly = _MS_RDONLY if step["readonly"] else 0
            _mount("mount overlayfs", "avfs", target, "overlay", _MS_NOSUID | _MS_NODEV | readonly, step["options"])
            _check_lower(step)  # once more: what was there before and after was there in between
        elif what == "readonly":
            _mount("bind a directory", target, target, "", _MS_BIND | _MS_REC)
            _mount("make a mount read-only", "none", target, "", _MS_BIND | _MS_REMOUNT | _MS_RDONLY | _MS_NOSUID | _MS_NODEV)
        elif what == "bind":
            _mount("bind a file", step["source"], target, "", _MS_BIND)
            _mount("make a mount read-only", "none", target, "", _MS_BIND | _MS_REMOUNT | _MS_RDONLY | _MS_NOSUID | _MS_NODEV)
        elif what == "unmount":
            _check("unmount", _libc.umount2(os.fsencode(target), _MNT_DETACH))


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
    """All processes that come from this one."""

    def __init__(self, *, alone: bool) -> None:
        self._alone = alone
        """Whether this is the first process of a PID namespace."""

    def signal(self, number: int) -> None:
        """Send a signal to every one."""
        if self._alone:
            try:
                os.kill(-1, number)
            except ProcessLookupError:
                pass
            return
        for pid in self._descendants():
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
            count = max(count, self._count())
            self.signal(signal.SIGKILL)
            try:
                os.waitpid(-1, 0)
            except ChildProcessError:
                return count

    def _count(self) -> int:
        return len(self._descendants())

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


def _exec(run: dict[str, Any], handles: list[int], said: socket.socket, watches: bool) -> NoReturn:
    """Become the command. Does not return; says on a pipe why it cannot."""
    step = "start"
    try:
        os.setsid()
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        for number in (signal.SIGPIPE, signal.SIGXFSZ, signal.SIGCHLD, signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, signal.SIG_DFL)
        high = [os.dup(fd) if fd > 2 else fd for fd in handles]
        for place, fd in enumerate(high):
            os.dup2(fd, place, inheritable=True)
        step = "directory"
        os.chdir(run["cwd"])
        keep = run["keep"]
        environment = {name: value for name, value in os.environb.items() if keep is None or name in keep}
        for name in run["unset"]:
            environment.pop(name, None)
        environment.update(run["env"])
        os.umask(run["umask"])
        listener = _renames().install() if watches else None
        if listener is not None:
            socket.send_fds(said, [_LISTENER], [listener])
        step = "command"
        os.execvpe(run["argv"][0], run["argv"], environment)  # noqa: S606 - running commands is its job
    except OSError as error:
        said.send(marshal.dumps((step, error.errno or 0)))
    except BaseException:  # noqa: BLE001 - whatever it is, this process must not go on as a second one
        said.send(marshal.dumps((step, errno.EINVAL)))
    finally:
        os._exit(127)


class _Server:
    """Carries out what comes over the socket."""

    def __init__(self, ours: socket.socket, setup: dict[str, Any]) -> None:
        self._socket = ours
        self._processes = _Processes(alone=setup["pids"])
        self._own = os.getpid()
        self._pid = 0
        self._overlay = next((step for step in setup["steps"] if step["what"] == "overlay"), None)
        self._renames: dict[int, Any] = {}
        if self._overlay is not None:
            _renames()  # now, and not in each command
        wake, self._woken = os.pipe()
        os.set_blocking(wake, False)
        os.set_blocking(self._woken, False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(self._woken, warn_on_full_buffer=False)
        self._wake = wake
        self._poll = select.poll()
        self._poll.register(ours, select.POLLIN)
        self._poll.register(wake, select.POLLIN)

    def serve(self) -> None:
        """Serve until the other end closes; then end whatever runs."""
        while True:
            for fd, events in self._poll.poll():
                if fd in self._renames:
                    # Without anybody left to ask, it says so for ever.
                    if not events & select.POLLIN or not self._renames[fd].answer():
                        self._poll.unregister(fd)
                        os.close(fd)
                        del self._renames[fd]
                elif fd == self._wake:
                    os.read(self._wake, 4096)
                elif not self._answer():
                    self._processes.end()
                    return
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
                self._say({"ended": os.waitstatus_to_exitcode(status), "left": left})

    def _watch(self, listener: int, overlay: dict[str, Any]) -> None:
        """Answer what the command's renames ask."""
        os.set_inheritable(listener, False)
        renames = _renames()
        self._renames[listener] = renames.Renames(
            listener, root=overlay["target"], upper=overlay["upper"], lower=overlay["lower"]
        )
        self._poll.register(listener, select.POLLIN)

    def _say(self, message: dict[str, object]) -> None:
        try:
            self._socket.send(marshal.dumps(message))
        except OSError:  # nobody is there: the next look at the socket says so, too
            pass

    def _answer(self) -> bool:
        try:
            data, handles, _, _ = socket.recv_fds(self._socket, MESSAGE_MAX, 8, socket.MSG_CMSG_CLOEXEC)
        except OSError:
            return False
        if not data:
            return False
        for fd in handles:
            os.set_inheritable(fd, False)
        message = marshal.loads(data)  # noqa: S302 - from the program that started this one, over a socket that only both have
        if "signal" in message:
            if message["all"]:
                self._processes.signal(message["signal"])
            elif self._pid:
                try:
                    os.killpg(self._pid, message["signal"])
                except OSError:  # it ended, or has not called setsid(2) yet
                    os.kill(self._pid, message["signal"])
        elif "mounts" in message:
            try:
                _make_mounts(message["mounts"])
                self._say({"mounted": True})
            except _Refused as refused:
                self._say({"refused": refused.step, "errno": refused.number})
        else:
            self._run(message, handles)
        return True

    def _run(self, run: dict[str, Any], handles: list[int]) -> None:
        said, saying = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            pid = os.fork()
        except OSError as error:
            self._say({"failed": "start", "errno": error.errno or 0})
            for end in (said, saying):
                end.close()
            return
        finally:
            if os.getpid() == self._own:
                for fd in handles:
                    os.close(fd)
        if not pid:
            _exec(run, handles, saying, self._overlay is not None)
        saying.close()
        answer, sent, _, _ = socket.recv_fds(said, 4096, 1)
        if answer == _LISTENER and self._overlay is not None:
            self._watch(sent[0], self._overlay)
            answer = said.recv(4096)  # ends when the command has started
        said.close()
        if answer:
            os.waitpid(pid, 0)
            step, number = marshal.loads(answer)  # noqa: S302 - from a fork of this program
            self._say({"failed": step, "errno": number})
        else:
            self._pid = pid
            self._say({"started": pid})


def _be_first(ours: socket.socket, setup: dict[str, Any]) -> None:
    """Make the mounts and serve, in the namespaces."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C at a terminal is for who started the command; it says what it means
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if setup["pids"]:
        _mount("mount /proc", "proc", "/proc", "proc", _MS_NOSUID | _MS_NODEV | _MS_NOEXEC)
    else:
        _check("become a subreaper", _libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0))
    _make_mounts(setup["steps"])
    ours.send(marshal.dumps({"ready": True}))
    _Server(ours, setup).serve()


def main() -> None:
    """Read what is wanted, come away, serve."""
    ours = socket.socket(fileno=int(sys.argv[1]))
    for fd in map(int, sys.argv[1:]):
        os.set_inheritable(fd, False)
    said = ours.recv(MESSAGE_MAX)
    if not said:
        return  # who started it thought better of it
    setup = marshal.loads(said)  # noqa: S302 - from the program that started this one
    try:
        _unshare(setup)
        if setup["pids"]:
            child = os.fork()
            if child:
                # The first process of a namespace is a child of one outside. This one only says when it is over.
                ours.close()
                for number in (signal.SIGINT, signal.SIGHUP, signal.SIGTERM):
                    signal.signal(number, signal.SIG_IGN)
                os.waitpid(child, 0)
                os._exit(0)
            _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        _be_first(ours, setup)
    except _Refused as refused:
        ours.send(marshal.dumps({"refused": refused.step, "errno": refused.number}))


if __name__ == "__main__":
    main()
