"""Mounting and unmounting FUSE file systems, and the table of mounts.

Decided here: how a live tree gets onto a directory: root asks the kernel, other users the set-uid helper `fusermount3`.
Nothing of the tree is executed as another user or as a device (`nosuid`, `nodev`). Any thread may call. A mount
outlives the process that made it; a process that finds one whose server is gone (`is_dead`) unmounts it. A mount that
stands over the one that the caller means, or in it, stays (`MountCovered`). What only one of the ways needs is imported
there: a session starts in as many milliseconds as its imports take.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Sequence
from pathlib import Path

from avfs_git.errors import FuseUnavailable, MountCovered, MountError
from avfs_git.faults import reach
from avfs_git.host.files.closing import closing_fd
from avfs_git.host.locks.flocks import directory_held
from avfs_git.patterns import compiled
from avfs_git.values import NamedTuple

_MS_RDONLY, _MS_NOSUID, _MS_NODEV = 1, 2, 4  # linux/mount.h
_MNT_DETACH, _UMOUNT_NOFOLLOW = 2, 8
_HELPERS = ("fusermount3", "fusermount")
_HELPER_PATH = "/usr/local/bin:/usr/bin:/bin:/usr/local/sbin:/usr/sbin:/sbin:/run/wrappers/bin"
"""Where set-uid helpers are; the caller's PATH is not asked, because what it names is executed."""
_DEVICE = "/dev/fuse"
_OCTAL = compiled(rb"\\([0-7]{3})")
_GONE = frozenset({errno.ENOTCONN, errno.ECONNABORTED})
_TELLS = "`avfs doctor --host` tells what this machine can do."
_INSTALL = f"Install FUSE 3, on Debian with `apt install fuse3`; {_TELLS}"


class Mounted(NamedTuple):
    """One line of the kernel's mount table."""

    directory: Path
    kind: str
    source: str
    device: tuple[int, int]
    number: int
    """Tells it from all others, also from those of the same file system; `/proc/PID/fdinfo` names it."""
    parent: int
    """The number of the mount that it stands on."""
    options: str
    """Those of its file system, as that spells them."""
    root: Path
    """Which directory of its file system it shows, from the top: another one than `/` after `mount --bind`."""


def list_mounts(process: int | str = "self") -> list[Mounted]:
    """List what is mounted in the mount namespace of a process, in the order in which it was.

    See proc_pid_mountinfo(5).
    """
    found = []
    for line in Path(f"/proc/{process}/mountinfo").read_bytes().splitlines():
        before, _, after = line.partition(b" - ")
        fields, kind_and_source = before.split(b" "), after.split(b" ")
        major, _, minor = fields[2].partition(b":")
        found.append(
            Mounted(
                Path(os.fsdecode(_unescape(fields[4]))),
                os.fsdecode(kind_and_source[0]),
                os.fsdecode(_unescape(kind_and_source[1])),
                (int(major), int(minor)),
                int(fields[0]),
                int(fields[1]),
                os.fsdecode(_unescape(kind_and_source[2])) if len(kind_and_source) > 2 else "",
                Path(os.fsdecode(_unescape(fields[3]))),
            )
        )
    return found


def _unescape(text: bytes) -> bytes:
    return _OCTAL.sub(lambda match: bytes([int(match[1], 8)]), text)


def list_mounts_below(directory: Path) -> list[bytes]:
    """List the paths from a directory to the mounts below it."""
    return [
        os.fsencode(found.directory.relative_to(directory))
        for found in list_mounts()
        if directory in found.directory.parents
    ]


def find_mount(directory: Path) -> Mounted | None:
    """Find what is mounted at a directory, the last that was; None if nothing is. The directory is not looked into."""
    found = [mounted for mounted in list_mounts() if mounted.directory == directory]
    return found[-1] if found else None


def find_cover(mounted: Mounted) -> Mounted | None:
    """Find the mount that hides another one: at its directory, or at a directory above.

    Return None if the path of the mount leads to it, or if it is gone.
    """
    all_mounts = list_mounts()
    by_number = {found.number: found for found in all_mounts}
    below = mounted if mounted in all_mounts else None
    hidden_at, passed = mounted.directory, None
    while below is not None:
        for found in all_mounts:
            is_other = found.parent == below.number and found.number not in (below.number, passed)
            if is_other and (found.directory == hidden_at or found.directory in hidden_at.parents):
                return found
        hidden_at, passed = below.directory, below.number
        below = by_number.get(below.parent) if below.parent != below.number else None
    return None


def is_dead(directory: Path) -> bool:
    """Whether a mount has lost its server. Asks the server of one that has not, and waits for it."""
    try:
        os.statvfs(directory)  # the one question about a file system that no cache of the kernel answers
    except OSError as error:
        return error.errno in _GONE
    return False


def mount_fuse(
    directory: Path, *, source: str, subtype: str, read_only: bool = False, allow_other: bool = False, max_read: int
) -> int:
    """Mount a FUSE file system; give the descriptor on which the kernel speaks to its server.

    The kernel checks permissions itself (`default_permissions`), except where only root can come in, who may do
    everything: then it asks the server what access(2) says. Else it would ask for the attributes of a directory again
    after each change of what is in it, only to check.

    `source` and `subtype` are what the mount table shows, the latter after `fuse.`. With `read_only` the kernel refuses
    every change. `allow_other` lets in other users than the one who mounts; for ordinary users only if the machine
    allows it.
    """
    if os.geteuid() == 0:
        return _mount_as_root(
            directory, source, subtype, read_only=read_only, allow_other=allow_other, max_read=max_read
        )
    options = ["rw" if not read_only else "ro", "nosuid", "nodev", "default_permissions", f"max_read={max_read}"]
    if allow_other:
        options.append("allow_other")
    escaped = source.replace("\\", "\\\\").replace(",", "\\,")
    return mount_by_helper(directory, [*options, f"subtype={subtype}", f"fsname={escaped}"])


def _mount_as_root(
    directory: Path, source: str, subtype: str, *, read_only: bool, allow_other: bool, max_read: int
) -> int:
    import ctypes  # noqa: PLC0415 - only where root mounts

    fd = _open_device()
    try:
        options = f"fd={fd},rootmode=40000,user_id={os.getuid()},group_id={os.getgid()},max_read={max_read}"
        if allow_other:
            options += ",allow_other,default_permissions"
        flags = _MS_NOSUID | _MS_NODEV | (_MS_RDONLY if read_only else 0)
        libc = ctypes.CDLL(None, use_errno=True)
        kind = f"fuse.{subtype}".encode()
        if libc.mount(os.fsencode(source), os.fsencode(directory), kind, ctypes.c_ulong(flags), options.encode()):
            number = ctypes.get_errno()
            kind_of_failure = FuseUnavailable if number in (errno.EPERM, errno.ENODEV) else MountError
            raise kind_of_failure(f"cannot mount at '{directory}': {os.strerror(number)}", details={"errno": number})
    except BaseException:
        os.close(fd)
        raise
    return fd


def _open_device() -> int:
    try:
        return os.open(_DEVICE, os.O_RDWR | os.O_CLOEXEC)
    except OSError as error:
        hint = f"Load the kernel module with `modprobe fuse`; a container has to be given the device. {_TELLS}"
        if error.errno == errno.EACCES:
            hint = f"Let users read and write it: `chmod 666 {_DEVICE}`."
        details = {"errno": error.errno}
        raise FuseUnavailable(f"cannot open {_DEVICE}: {error.strerror}", hint=hint, details=details) from error


def check_device() -> None:
    """Check that this user may open the device of FUSE, before anything is made for a mount.

    The helper opens it as the user.

    Raises:
        FuseUnavailable: If not, or if an ordinary user lacks the set-uid program.
    """
    if os.geteuid():
        find_helper()
    os.close(_open_device())


def find_helper() -> str:
    """Find the set-uid program of FUSE.

    Raises:
        FuseUnavailable: If it is not installed.
    """
    import shutil  # noqa: PLC0415 - only where an ordinary user mounts

    for name in _HELPERS:
        found = shutil.which(name, path=_HELPER_PATH)
        if found is not None:
            return found
    raise FuseUnavailable("there is no 'fusermount3' here", hint=_INSTALL)


def mount_by_helper(directory: Path, options: Sequence[str], *, user: int | None = None) -> int:
    """Mount a FUSE file system as an ordinary user does: with the set-uid program of FUSE.

    Root may do so as another `user`.

    Raises:
        FuseUnavailable: If there is no such program, or it may not use the device.
        MountError: If it refuses.
    """
    import socket  # noqa: PLC0415 - only where an ordinary user mounts
    import subprocess  # noqa: PLC0415

    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    with ours:
        with theirs:
            done = subprocess.run(
                [find_helper(), "-o", ",".join(options), "--", os.fsdecode(directory)],
                check=False,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                pass_fds=[theirs.fileno()],
                env={"_FUSE_COMMFD": str(theirs.fileno()), "PATH": _HELPER_PATH, "LC_ALL": "C"},
                user=user,
                group=user,
                extra_groups=None if user is None else [],
            )
        if done.returncode:
            said = done.stderr.decode("utf-8", "replace").strip() or f"it ended with {done.returncode}"
            if "allow_other" in said:
                hint = "Let `user_allow_other` stand in /etc/fuse.conf, or mount without `--allow-other`."
                raise FuseUnavailable(f"cannot mount at '{directory}': {said}", hint=hint)
            if _DEVICE in said or "fuse device" in said:
                hint = f"Let users read and write it: `chmod 666 {_DEVICE}`."
                raise FuseUnavailable(f"cannot mount at '{directory}': {said}", hint=hint)
            raise MountError(f"cannot mount at '{directory}': {said}")
        _, descriptors, _, _ = socket.recv_fds(ours, 1, 1)
    if not descriptors:
        raise MountError(f"cannot mount at '{directory}': the helper gave no descriptor")
    os.set_inheritable(descriptors[0], False)
    return descriptors[0]


def unmount(mounted: Mounted, *, lazy: bool = False) -> None:
    """Take a mount away; with `lazy` also one in use, which vanishes from the tree now and ends with its last user.

    The kernel unmounts what a path leads to. The check that nothing covers the mount comes directly before; a mount
    that another process places there in between is not noticed.

    Raises:
        MountCovered: If another mount stands over it, or in it; both stay.
        MountError: If it is in use (`errno` in the details is then EBUSY), or not mounted any more (EINVAL).
    """
    place = os.fspath(mounted.directory)
    if mounted not in list_mounts():
        raise MountError(f"cannot unmount '{place}': {os.strerror(errno.EINVAL)}", details={"errno": errno.EINVAL})
    if lazy:
        detach(mounted)
        return
    _refuse_covered(mounted)
    _unmount_path(mounted.directory, lazy=False)


def check_in_sight(mounted: Mounted) -> None:
    """Make sure that the path of a mount leads to it.

    Raises:
        MountCovered: If another mount stands over it.
    """
    _refuse(mounted, find_cover(mounted))


def _refuse_covered(mounted: Mounted) -> None:
    check_in_sight(mounted)
    _refuse(mounted, next((found for found in list_mounts() if found.parent == mounted.number), None))


def _refuse(mounted: Mounted, other: Mounted | None) -> None:
    if other is not None:
        raise MountCovered(
            os.fspath(mounted.directory), os.fspath(other.directory), kind=other.kind, source=other.source
        )


def _unmount_path(directory: Path, *, lazy: bool) -> None:
    if os.geteuid() == 0:
        _unmount_as_root(directory, (_MNT_DETACH if lazy else 0) | _UMOUNT_NOFOLLOW)
        return
    import subprocess  # noqa: PLC0415 - only where an ordinary user unmounts

    flags = ["-u", "-z"] if lazy else ["-u"]
    done = subprocess.run(
        [find_helper(), *flags, "--", os.fsdecode(directory)],
        check=False,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        env={"PATH": _HELPER_PATH, "LC_ALL": "C"},
    )
    if done.returncode:
        said = done.stderr.decode("utf-8", "replace").strip()
        is_gone = any(words in said for words in ("not found", "Invalid", "No such file"))
        number = errno.EBUSY if "busy" in said else errno.EINVAL if is_gone else errno.EPERM
        raise MountError(f"cannot unmount '{directory}': {said}", details={"errno": number})


def _unmount_as_root(place: Path, flags: int) -> None:
    import ctypes  # noqa: PLC0415 - only where root unmounts

    libc = ctypes.CDLL(None, use_errno=True)
    if libc.umount2(os.fsencode(place), flags):
        number = ctypes.get_errno()
        details = {"errno": errno.EINVAL if number == errno.ENOENT else number}
        raise MountError(f"cannot unmount '{place}': {os.strerror(number)}", details=details)


def detach(mounted: Mounted) -> None:
    """Take a mount out of sight at once, also while programs use it; nothing is done where another process was faster.

    Another process may have detached it and mounted something there since the caller looked: that stays. Root detaches
    the mount that it has open, so that a mount in its place is safe. The helper of an ordinary user takes a path:
    processes of avfs lock the directory above it meanwhile. A mount that is placed over it after the check is not
    noticed, as in `unmount`.

    Raises:
        MountCovered: If another mount stands over it, or in it: the kernel detaches that, too. Both stay.
        MountError: If this user may not.
    """
    _refuse_covered(mounted)
    try:
        if os.geteuid() == 0:
            _detach_opened(mounted)
        else:
            with contextlib.ExitStack() as stack:
                with contextlib.suppress(OSError):  # one that this user may not read
                    stack.enter_context(directory_held(mounted.directory.parent))
                if mounted in list_mounts():
                    _refuse_covered(mounted)
                    reach("mounts.detaching")
                    _unmount_path(mounted.directory, lazy=True)
    except (MountError, OSError) as error:
        if mounted in list_mounts():
            if isinstance(error, MountError):
                raise
            raise MountError(
                f"cannot unmount '{mounted.directory}': {error.strerror}", details={"errno": error.errno}
            ) from error


def _detach_opened(mounted: Mounted) -> None:
    # While it is open, no other mount gets its number.
    with closing_fd(os.open(mounted.directory, os.O_PATH | os.O_CLOEXEC | os.O_NOFOLLOW)) as fd:
        shown = Path(f"/proc/self/fdinfo/{fd}").read_text("ascii")
        if f"mnt_id:\t{mounted.number}\n" in shown and mounted in list_mounts():
            reach("mounts.detaching")
            _unmount_as_root(Path(f"/proc/self/fd/{fd}"), _MNT_DETACH)


def hold_conversation(mounted: Mounted) -> int | None:
    """Open what ends the conversation between a mount and its server (`cut_off`); the caller closes it.

    Device numbers are reused as soon as a mount has ended; what is open belongs to the mount that it was opened for.
    None if that is gone, for a user who has not mounted it, or if FUSE's control file system is not there.
    """
    try:
        fd = os.open(f"/sys/fs/fuse/connections/{mounted.device[1]}/abort", os.O_WRONLY | os.O_CLOEXEC)
    except OSError:
        return None
    if mounted in list_mounts():  # so it was there when that was opened
        return fd
    os.close(fd)
    return None


def cut_off(conversation: int) -> bool:
    """End the conversation between a mount and its server: whoever uses the tree gets errors from now on.

    Tells whether it could be done. One that has ended by itself is no failure.
    """
    try:
        os.write(conversation, b"1")
    except OSError:
        return False
    return True


def set_read_ahead(device: tuple[int, int], kib: int) -> bool:
    """Let the kernel read ahead that far on a mount; tell whether it may be set here (root)."""
    try:
        Path(f"/sys/class/bdi/{device[0]}:{device[1]}/read_ahead_kb").write_text(str(kib), "ascii")
    except OSError:
        return False
    return True
