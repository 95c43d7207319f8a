"""The ordinary user that tests run as when they are started by root.

Decided here: who that is, and what is made for it. A process of its own becomes that user, in a mount namespace and a
PID namespace that end with it: whatever is mounted or started there goes with it, also where a test failed or was
killed, and nothing of it is seen outside. In that mount namespace

- `/dev/fuse` is open to users, where the machine has it for root alone: a node of our own, in memory, is bound over it;
- the interpreter, the packages and this project can be reached, where they lie below a directory that is closed to
  others;
- the user has a name, a home and a second group: `/etc/passwd` and `/etc/group` with a line more.

Where the system refuses namespaces (no `CAP_SYS_ADMIN`), the process becomes that user without them, and what needs
more is a capability that is off. Started by an ordinary user, nothing of this is done.

    python -m tests.support.ordinary COMMAND [ARGUMENT...]

runs a command as that user, in the current directory, with the name of a scratch directory in TMPDIR.
`tests.support.as_ordinary` runs tests so.
"""

from __future__ import annotations

import ctypes
import grp
import os
import pwd
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple, NoReturn

PROJECT = Path(__file__).parents[2]
NAME = "avfs-tester"

_CLONE_NEWNS, _CLONE_NEWPID = 0x20000, 0x20000000  # linux/sched.h
_MS_NOSUID, _MS_NODEV, _MS_NOEXEC, _MS_BIND, _MS_REC, _MS_PRIVATE = 2, 4, 8, 4096, 1 << 14, 1 << 18  # linux/mount.h
_PR_SET_PDEATHSIG, _PR_SET_DUMPABLE = 1, 4  # linux/prctl.h
_FUSE = os.makedev(10, 229)
_DEVICE = "/dev/fuse"
_libc = ctypes.CDLL(None, use_errno=True)


class User(NamedTuple):
    """Whom to be."""

    uid: int
    gid: int
    team: int
    """A second group."""


def choose() -> User:
    """Choose ids that nobody has."""
    taken = {entry.pw_uid for entry in pwd.getpwall()} | {entry.gr_gid for entry in grp.getgrall()}
    uid = next(number for number in range(54_321, 59_000) if not taken & {number, number + 1})
    return User(uid, uid, uid + 1)


class Killed(Exception):
    """The process ended without its answer."""


class Process:
    """A process that is that user and does one thing, with all that comes from it."""

    def __init__(self, work: Callable[[], bytes], scratch: Path) -> None:
        """Start it.

        Args:
            work: What it does; gives what it has to say. If this fails, the process says nothing, and ends with status
                1.
            scratch: A directory for all its files, which becomes the user's, and for whoever started this to remove.
        """
        (scratch / "tmp").mkdir()
        (scratch / "home").mkdir()
        user = choose()
        for place in (scratch, scratch / "tmp", scratch / "home"):
            os.chown(place, user.uid, user.gid)
            place.chmod(0o755)
        self._told, telling = os.pipe()
        self._answer, answering = os.pipe()
        sys.stdout.flush()
        sys.stderr.flush()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # fork beside a test runner's threads
            self._outer = os.fork()
        if not self._outer:
            os.close(self._told)
            os.close(self._answer)
            _be_outer(work, scratch, user, telling, answering)
        os.close(telling)
        os.close(answering)
        # The first process of the PID namespace, by the number that it has here; none if it did not come to that.
        self._inner = int(_read_all(self._told) or b"0")
        os.close(self._told)

    def answer(self) -> bytes:
        """Wait until it is over, with all that it started; give what it said.

        Raises:
            Killed: If it did not come to its end.
        """
        said = _read_all(self._answer)
        status = self._wait()
        if status:
            raise Killed(f"the ordinary user's process ended with {status}")
        return said

    def abort(self) -> None:
        """Let the process that does the work write down what its threads do, and end; then kill what is left."""
        children = Path(f"/proc/{self._inner}/task/{self._inner}/children")
        try:
            for pid in children.read_text("ascii").split():
                os.kill(int(pid), signal.SIGABRT)
        except OSError:
            pass
        self.kill()

    def kill(self) -> None:
        """Kill it with all that it started. A second call does nothing."""
        if self._outer and self._inner:
            try:
                os.kill(self._inner, signal.SIGKILL)  # the kernel kills the rest of its namespace
            except ProcessLookupError:
                pass
        self._wait()

    def _wait(self) -> int:
        outer, self._outer = self._outer, 0
        if not outer:
            return 0
        os.close(self._answer)
        return os.waitstatus_to_exitcode(os.waitpid(outer, 0)[1])


def _read_all(fd: int) -> bytes:
    pieces = []
    while piece := os.read(fd, 1 << 16):
        pieces.append(piece)
    return b"".join(pieces)


def call(work: Callable[[], bytes]) -> bytes:
    """Do something as the ordinary user, and wait for its answer.

    Raises:
        Killed: If it failed.
    """
    scratch = Path(tempfile.mkdtemp(prefix=f"avfs-test-{os.getpid()}-"))
    try:
        process = Process(work, scratch)
        try:
            return process.answer()
        finally:
            process.kill()
    finally:
        shutil.rmtree(scratch, ignore_errors=True)  # what was mounted below it was so elsewhere


# --- the processes in between ----------------------------------------------------------------------------------------


def _be_outer(work: Callable[[], bytes], scratch: Path, user: User, telling: int, answering: int) -> NoReturn:
    """Make the namespaces; wait for what is in them."""
    status = 70
    try:
        parent = os.getppid()
        _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != parent:
            os._exit(status)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)  # whoever started this ends it
        alone = _make_namespaces(scratch, user)
        inner = os.fork()
        if not inner:
            os.close(telling)
            _be_first(work, scratch, user, answering, alone=alone)
        os.close(answering)
        os.write(telling, b"%d" % inner)
        os.close(telling)
        status = os.waitstatus_to_exitcode(os.waitpid(inner, 0)[1])
    except BaseException:  # noqa: BLE001 - it must not go on as a second test runner
        traceback.print_exc()
    finally:
        os._exit(status if status >= 0 else 128 - status)


def _be_first(work: Callable[[], bytes], scratch: Path, user: User, answering: int, *, alone: bool) -> NoReturn:
    """Be the first process of the PID namespace: wait for all others.

    End with the work, at which the kernel ends them.
    """
    status = 70
    try:
        _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if alone:
            _mount("proc", "/proc", "proc", _MS_NOSUID | _MS_NODEV | _MS_NOEXEC)
        worker = os.fork()
        if not worker:
            _be_user(work, scratch, user, answering)
        os.close(answering)
        while True:
            pid, ended = os.wait()
            if pid == worker:
                status = os.waitstatus_to_exitcode(ended)
                break
    except BaseException:  # noqa: BLE001 - the same
        traceback.print_exc()
    finally:
        os._exit(status if status >= 0 else 128 - status)


def _be_user(work: Callable[[], bytes], scratch: Path, user: User, answering: int) -> NoReturn:
    """Become the user, and do the work."""
    status = 1
    try:
        for number, handler in ((signal.SIGINT, signal.default_int_handler), (signal.SIGTERM, signal.SIG_DFL)):
            signal.signal(number, handler)
        signal.signal(signal.SIGHUP, signal.SIG_DFL)
        os.setgroups([user.gid, user.team])
        os.setresgid(user.gid, user.gid, user.gid)
        os.setresuid(user.uid, user.uid, user.uid)
        # Who has given up being root is otherwise closed to its own user's other processes, unlike any program of
        # theirs.
        _libc.prctl(_PR_SET_DUMPABLE, 1, 0, 0, 0)
        os.umask(0o022)
        for name in [name for name in os.environ if name.startswith("XDG_")]:
            del os.environ[name]
        home = str(scratch / "home")
        os.environ.update(TMPDIR=str(scratch / "tmp"), HOME=home, USER=NAME, LOGNAME=NAME, SHELL="/bin/sh")
        tempfile.tempdir = None
        said = work()
        while said:
            said = said[os.write(answering, said) :]
        status = 0
    except SystemExit as ended:
        status = ended.code if isinstance(ended.code, int) else 1
    except BaseException:  # noqa: BLE001 - told by what it did not say
        traceback.print_exc()
    finally:
        os._exit(status)


# --- what is made for the user ---------------------------------------------------------------------------------------


def _mount(source: str, target: str, kind: str, flags: int, options: str = "") -> None:
    if _libc.mount(os.fsencode(source), os.fsencode(target), kind.encode(), ctypes.c_ulong(flags), options.encode()):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), target)


def _make_namespaces(scratch: Path, user: User) -> bool:
    """Make what the user needs where nobody else sees it; tell whether that is allowed."""
    here = os.getcwd()
    if _libc.unshare(_CLONE_NEWNS | _CLONE_NEWPID):
        return False
    _mount("none", "/", "", _MS_REC | _MS_PRIVATE)
    _open_ways(_places())
    aside = scratch / "aside"
    aside.mkdir()
    _mount("avfs-tests", str(aside), "tmpfs", _MS_NOSUID, "mode=755")
    _open_device(aside / "fuse")
    _name_user(aside, scratch / "home", user)
    os.chdir(here)  # where it is now
    return True


def _places() -> list[Path]:
    return [PROJECT, Path(sys.prefix), Path(sys.base_prefix), Path(sys.executable).resolve()]


def reach_project() -> None:
    """Let this root process reach the interpreter and this project as any other user too; nobody else sees how."""
    here, mask = os.getcwd(), os.umask(0o022)
    if _libc.unshare(_CLONE_NEWNS):
        raise OSError(ctypes.get_errno(), "no mount namespace can be had")
    _mount("none", "/", "", _MS_REC | _MS_PRIVATE)
    _open_ways(_places())
    os.umask(mask)
    os.chdir(here)


def _open_ways(places: list[Path]) -> None:
    """Let the user reach some places: what is closed on the way there is covered by a directory that has only them."""
    wanted = [inside for place in places for inside in (sorted(place.iterdir()) if _is_closed(place) else [place])]
    for closed in sorted({above for place in wanted for above in [*reversed(place.parents)] if _is_closed(above)}):
        if not _is_closed(closed):
            continue  # covered by now, with what is above it
        below = [place for place in wanted if place.is_relative_to(closed)]
        links = {place: os.readlink(place) for place in below if place.is_symlink()}
        held = {place: os.open(place, os.O_PATH) for place in below if place not in links}
        kinds = {place: place.is_dir() for place in held}
        _mount("avfs-tests", str(closed), "tmpfs", _MS_NOSUID | _MS_NODEV, "mode=755")
        for place, fd in held.items():
            if not os.path.lexists(place):
                place.parent.mkdir(parents=True, exist_ok=True)
                place.mkdir() if kinds[place] else place.touch()
                _mount(f"/proc/self/fd/{fd}", str(place), "", _MS_BIND | _MS_REC)
            os.close(fd)
        for place, target in links.items():
            if not os.path.lexists(place):
                place.symlink_to(target)


def _is_closed(place: Path) -> bool:
    """Whether others may not go through a directory."""
    mode = place.stat().st_mode
    return stat.S_ISDIR(mode) and mode & 0o005 != 0o005


def _open_device(ours: Path) -> None:
    try:
        if os.stat(_DEVICE).st_mode & 0o006 == 0o006:
            return
        os.mknod(ours, stat.S_IFCHR, _FUSE)
        ours.chmod(0o666)
        _mount(str(ours), _DEVICE, "", _MS_BIND)
    except OSError:
        pass  # the capability is off


def _name_user(aside: Path, home: Path, user: User) -> None:
    lines = {
        "passwd": f"{NAME}:x:{user.uid}:{user.gid}:A test:{home}:/bin/sh\n",
        "group": f"{NAME}:x:{user.gid}:\n{NAME}-team:x:{user.team}:{NAME}\n",
    }
    for name, text in lines.items():
        ours, theirs = aside / name, Path("/etc", name)
        ours.write_text(theirs.read_text("utf-8", "surrogateescape") + text, "utf-8", "surrogateescape")
        ours.chmod(0o644)
        _mount(str(ours), str(theirs), "", _MS_BIND)


def main(*argv: str) -> None:
    """Run a command as that user."""
    scratch = Path(tempfile.mkdtemp(prefix=f"avfs-test-{os.getpid()}-"))

    def run() -> bytes:
        raise SystemExit(subprocess.run(argv, check=False).returncode & 0xFF)

    process = Process(run, scratch)
    try:
        status = process._wait()
    except KeyboardInterrupt:
        status = 130
    finally:
        process.kill()
        shutil.rmtree(scratch, ignore_errors=True)
    raise SystemExit(status)


if __name__ == "__main__":
    main(*sys.argv[1:])
