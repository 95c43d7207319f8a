"""What this machine can do for avfs, found out by trying: `avfs doctor --host`.

Decided here: what is tried, and which packages bring what is missing. Nothing is concluded from a version or a file of
/proc alone: a mount is made, an attribute is set, a block is shared. All of it happens in a scratch directory, which is
removed, and in a child process where it takes a mount namespace of its own. A trial that fails is a result and no
error. Runs as the calling user, whose abilities it reports; starts processes and takes about half a second. One thread.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import re
import shutil
import signal
import stat
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path
from typing import NoReturn

from avfs_git.errors import AvfsError, FuseUnavailable
from avfs_git.host.fanotify import Accesses, Changes, Openings
from avfs_git.host.lockedplace import locked_directory
from avfs_git.host.mounts.mounts import Mounted, find_helper, find_mount, mount_by_helper, mount_fuse, unmount
from avfs_git.host.mounts.overlayfs import layer_options, mark_options, mount_overlay
from avfs_git.host.processes.watches import Watches, read_room
from avfs_git.model import HostAbility, HostReport
from avfs_git.values import NamedTuple

_NEWUSER, _NEWNS = 0x10000000, 0x00020000  # linux/sched.h
_REC, _PRIVATE = 0x4000, 0x40000  # linux/mount.h
_FICLONE = 0x40049409  # linux/fs.h
_NOBODY = 65534
_MAX_READ = 131072
_ROOM = 64 << 20
"""How many bytes are allocated, and freed again, to show that the disk has room."""
_LIMIT_S = 20

_PLACE = re.compile(r"^cannot mount at '[^']*': ")

_libc = ctypes.CDLL(None, use_errno=True)


class _Lacking(Exception):
    """The trial failed; says how."""


class _Missing(_Lacking):
    """A program or a library is missing or too old: a package brings it."""


class _Trial(NamedTuple):
    """Something to try."""

    name: str
    run: Callable[[Path], str]
    """Tries it with a scratch directory; tells what was found."""
    purpose: str
    remedy: str
    packages: tuple[str, str] = ("", "")
    """Which bring it, in Debian and in Fedora."""


def examine_host(directory: Path) -> HostReport:
    """Try what avfs can use of this machine, as the calling user.

    Args:
        directory: Where vaults are, or will be; the nearest directory above it that exists and can be written stands in
            for it.
    """
    place = next((above for above in (directory, *directory.parents) if _is_writable(above)), None)
    with locked_directory(place) as scratch:
        abilities = tuple(_examine(trial, scratch.resolve()) for trial in _TRIALS)
    return HostReport(os.geteuid(), Path(place if place is not None else tempfile.gettempdir()), abilities)


def _is_writable(directory: Path) -> bool:
    return directory.is_dir() and os.access(directory, os.W_OK | os.X_OK) and not _is_read_only(directory)


def _is_read_only(directory: Path) -> bool:
    return bool(os.statvfs(directory).f_flag & os.ST_RDONLY)


def _examine(trial: _Trial, scratch: Path) -> HostAbility:
    place = scratch / trial.name
    place.mkdir()
    works, remedy, packages = False, trial.remedy, {}
    try:
        found, works = trial.run(place), True
    except _Missing as missing:
        found = str(missing)
        packages = dict(zip(("debian", "fedora"), trial.packages, strict=True))
    except _Lacking as lacking:
        found = str(lacking)
    except AvfsError as error:
        found, remedy = _PLACE.sub("", error.message), error.hint or remedy
    except OSError as error:
        found = error.strerror or str(error)
    except subprocess.TimeoutExpired:
        found = f"no answer within {_LIMIT_S} s"
    return HostAbility(trial.name, works, found, trial.purpose, None if works else remedy, packages)


# --- ways to try ---------------------------------------------------------------------------------------------


def _run(*line: str) -> str:
    """Run a program; give its first line, or say how it failed."""
    program = shutil.which(line[0])
    if program is None:
        raise _Missing(f"'{line[0]}' is not installed")
    done = subprocess.run(
        [program, *line[1:]],
        cwd="/",
        env={"PATH": os.defpath, "LC_ALL": "C"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        timeout=_LIMIT_S,
        check=False,
    )
    said = (done.stdout if done.returncode == 0 else done.stderr or f"it ended with {done.returncode}").strip()
    if done.returncode:
        raise _Lacking(said.splitlines()[-1])
    return said.partition("\n")[0]


def _check(result: int) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result


def _in_child(work: Callable[[], str]) -> str:
    """Do something in a process of its own; give what it tells, or fail as it fails."""
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        _be_child(work, writing)
    os.close(writing)
    with os.fdopen(reading, "rb") as told:
        text = told.read().decode("utf-8", "replace")
    _, status = os.waitpid(child, 0)
    if status:
        raise _Lacking(text or f"it ended with {os.waitstatus_to_exitcode(status)}")
    return text


def _be_child(work: Callable[[], str], writing: int) -> NoReturn:
    text, status = "", 1
    try:
        signal.alarm(_LIMIT_S)
        text, status = work(), 0
    except (_Lacking, AvfsError, OSError) as error:
        text = (error.strerror if isinstance(error, OSError) else None) or str(error)
    finally:
        os.write(writing, text.encode())
        os._exit(status)


def _enter_namespaces(*, with_user: bool) -> None:
    """Give this process a mount namespace of its own, where it may mount."""
    user, group = os.geteuid(), os.getegid()
    _check(_libc.unshare(_NEWNS | (_NEWUSER if with_user else 0)))
    if with_user:
        Path("/proc/self/setgroups").write_text("deny", encoding="ascii")
        Path("/proc/self/uid_map").write_text(f"0 {user} 1", encoding="ascii")
        Path("/proc/self/gid_map").write_text(f"0 {group} 1", encoding="ascii")
    _check(_libc.mount(b"none", b"/", None, ctypes.c_ulong(_REC | _PRIVATE), None))


# --- git -----------------------------------------------------------------------------------------------------


def _try_git(_: Path) -> str:
    return _run("git", "version")


# --- mounts --------------------------------------------------------------------------------------------------


def _try_fuse(place: Path) -> str:
    if os.geteuid():
        return _try_fuse_helper(place)  # that is how this user mounts
    os.close(mount_fuse(place, source="avfs-probe", subtype="avfs", max_read=_MAX_READ))
    _unmount(place)
    return "mounted and unmounted"


def _unmount(place: Path) -> None:
    mounted: Mounted | None = find_mount(place)
    if mounted is not None:
        unmount(mounted, lazy=True)


def _try_fuse_helper(place: Path) -> str:
    """Mount as an unprivileged user: root lends the trial to another user, who does not own the scratch directory."""
    try:
        find_helper()
    except FuseUnavailable as error:
        raise _Missing(error.message) from error
    if os.geteuid():
        os.close(mount_by_helper(place, ["nosuid", "nodev"]))
        _unmount(place)
        return "mounted and unmounted"
    with locked_directory() as lent:
        os.chown(lent, _NOBODY, _NOBODY)
        lent.parent.chmod(0o711)
        os.close(mount_by_helper(lent, ["nosuid", "nodev"], user=_NOBODY))
        _unmount(lent.resolve())
    return f"mounted and unmounted as user {_NOBODY}"


def _try_libfuse(_: Path) -> str:
    try:
        import_module("mfusepy")
    except (ImportError, OSError, AttributeError) as error:
        raise _Missing(str(error).partition("\n")[0]) from error
    return "loaded"


def _try_overlay(place: Path) -> str:
    is_root = os.geteuid() == 0

    def work() -> str:
        _enter_namespaces(with_user=not is_root)
        lower, upper, top = _make_layers(place)
        options = layer_options([lower], upper, place / "work", mark_options(is_trusted=is_root))
        mount_overlay(top, source="avfs-probe", options=options)
        (top / "file").unlink()
        if (top / "file").exists() or not (lower / "file").exists():
            raise _Lacking("a removed file is not hidden")
        if not is_root:
            return (
                "mounted in a user namespace, with attributes of `user.overlay`; directories of the base are "
                "copied, not renamed"
            )
        (top / "directory").rename(top / "renamed")
        return "mounted, with attributes of `trusted.overlay`; a directory of the base was renamed"

    return _in_child(work)


def _make_layers(place: Path) -> tuple[Path, Path, Path]:
    for name in ("lower", "upper", "work", "top"):
        (place / name).mkdir()
    (place / "lower" / "directory").mkdir()
    (place / "lower" / "file").write_bytes(b"")
    return place / "lower", place / "upper", place / "top"


def _try_user_namespaces(_: Path) -> str:
    def work() -> str:
        _enter_namespaces(with_user=True)
        return "made one, with a mount namespace"

    return _in_child(work)


def _try_bubblewrap(_: Path) -> str:
    apart = (
        "--unshare-user-try",
        "--unshare-pid",
        "--unshare-ipc",
        "--unshare-uts",
        "--unshare-net",
        "--cap-drop",
        "ALL",
    )
    _run("bwrap", "--die-with-parent", *apart, "--ro-bind", "/", "/", "--dev", "/dev", "--proc", "/proc", "true")
    return "ran a program without the network"


# --- files ---------------------------------------------------------------------------------------------------


def _try_room(place: Path) -> str:
    with (place / "room").open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, _ROOM)
    at = os.statvfs(place)
    inodes = f", {at.f_favail:,} inodes" if at.f_files else ""
    return f"{at.f_bavail * at.f_frsize / (1 << 30):.1f} GiB free{inodes}"


def _try_user_xattrs(place: Path) -> str:
    os.setxattr(place, "user.avfs.probe", b"1")
    if os.getxattr(place, "user.avfs.probe") != b"1":
        raise _Lacking("set, and read back otherwise")
    return "set and read"


def _try_whiteout(place: Path) -> str:
    os.mknod(place / "whiteout", stat.S_IFCHR, os.makedev(0, 0))
    return "a mark of a removed file was made"


def _try_reflink(place: Path) -> str:
    with (place / "one").open("wb") as one, (place / "two").open("wb") as two:
        one.write(b"x" * (1 << 16))
        one.flush()
        fcntl.ioctl(two.fileno(), _FICLONE, os.open(place / "one", os.O_RDONLY | os.O_CLOEXEC))
    return "two files share their blocks"


def _try_inotify(place: Path) -> str:
    watches = Watches()
    directory = os.open(place, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        watches.add_directory(directory)
        (place / "new").write_bytes(b"")
        if not watches.read():
            raise _Lacking("a new file was not told")
    finally:
        os.close(directory)
        watches.close()
    return f"told of a new file; room for {read_room():,} watches"


def _try_fanotify(place: Path) -> str:
    file = place / "file"
    file.write_bytes(b"")
    Openings(file).close()
    Accesses(place).close()
    Changes(place).close()
    return "who opens a file can be held back; reads and writes in a mount and changes of names are told"


_TRIALS: Sequence[_Trial] = (
    _Trial("git", _try_git, "remotes, grep in history, blame, gc", "Install git.", ("git", "git")),
    _Trial(
        "fuse",
        _try_fuse,
        "live trees: avfs mount, run, shell, fork . DIR",
        "Load the kernel's module with `modprobe fuse`; give a container /dev/fuse and CAP_SYS_ADMIN. Without it use "
        "`avfs exec --backend checkout`.",
        ("fuse3", "fuse3"),
    ),
    _Trial(
        "fusermount3",
        _try_fuse_helper,
        "live trees of users other than root",
        "Install FUSE 3, whose fusermount3 belongs to root with the set-uid bit.",
        ("fuse3", "fuse3"),
    ),
    _Trial(
        "libfuse",
        _try_libfuse,
        "avfs mount --backend portable",
        "Install the library of FUSE 3.",
        ("libfuse3-3", "fuse3-libs"),
    ),
    _Trial(
        "overlayfs",
        _try_overlay,
        "avfs exec and avfs mount --backend overlay, at native speed",
        "Keep the home of avfs on ext4, XFS or btrfs, not on an overlayfs; give a container CAP_SYS_ADMIN. Users "
        "other than root "
        "need user namespaces.",
    ),
    _Trial(
        "user-namespaces",
        _try_user_namespaces,
        "overlayfs and avfs exec --isolate for users other than root",
        "Set `sysctl kernel.unprivileged_userns_clone=1` or `kernel.apparmor_restrict_unprivileged_userns=0`, where "
        "the machine "
        "has such a setting; a container needs a seccomp profile that allows unshare(2).",
    ),
    _Trial("bubblewrap", _try_bubblewrap, "avfs exec --isolate", "Install bubblewrap.", ("bubblewrap", "bubblewrap")),
    _Trial(
        "user-xattrs",
        _try_user_xattrs,
        "marks of deleted files and metadata in workspaces",
        "Keep the home of avfs on ext4, XFS, btrfs or a tmpfs of Linux 6.6 or newer.",
    ),
    _Trial(
        "whiteouts",
        _try_whiteout,
        "removing and renaming what the base of a workspace has",
        "Keep the home of avfs on ext4, XFS, btrfs or a tmpfs, in a container on a volume: an overlayfs takes no "
        "such mark.",
    ),
    _Trial(
        "free-space",
        _try_room,
        "checkpoints and changed files",
        "Free some space, or name another home with AVFS_HOME.",
    ),
    _Trial(
        "reflinks",
        _try_reflink,
        "copies of large files that share their blocks; without them the blocks are copied",
        "Keep the home of avfs on btrfs, or on XFS made with `mkfs.xfs -m reflink=1`.",
    ),
    _Trial(
        "inotify",
        _try_inotify,
        "checkpoints of overlayfs trees that look only at what changed",
        "Raise `sysctl fs.inotify.max_user_watches` and `fs.inotify.max_user_instances`.",
    ),
    _Trial(
        "fanotify",
        _try_fanotify,
        "file events on overlayfs; git's index made when git comes, and not before",
        "Run avfs as root of the machine: a container's root may not use it.",
    ),
)
