"""The kernel's overlayfs: its options, mounting it, and what can be learnt of it from outside.

Decided here: how layers are spelled for mount(2), how to find out whether any overlayfs, wherever it is mounted, writes
to a directory, and how its end is seen. A mount outlives the process that made it, also one that was detached and that
a program still uses: no mount table lists that, so that the kernel itself is asked. Root only; any thread may call.
"""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from avfs_git.errors import MountError
from avfs_git.host.files.durable import host_errors
from avfs_git.host.files.removal import remove_tree
from avfs_git.host.mounts.mounts import Mounted, find_mount, list_mounts, unmount

_MS_NOSUID, _MS_NODEV = 2, 4  # linux/mount.h
_IN_DELETE_SELF, _IN_ONLYDIR = 0x400, 0x01000000  # inotify(7)
_ELSEWHERE: Final = "/proc"
"""A directory that is on no file system with an upper layer."""


def mark_options(is_trusted: bool) -> tuple[str, ...]:
    """Give the options for the marks of an upper layer.

    Args:
        is_trusted: Whether they are root's, so that the kernel renames directories of the lower layer. Each file keeps
            its own content up there (`metacopy=off`): no reader of the layer has to look for it elsewhere.
    """
    if is_trusted:
        return ("redirect_dir=on", "metacopy=off", "xino=auto", "index=off")
    return ("userxattr", "index=off")


def layer_options(lower: Sequence[Path], upper: Path, work: Path, options: Sequence[str]) -> str:
    """Spell the layers of an overlayfs, the topmost lower one first, and further options for mount(2)."""
    layers = ":".join(_escape(path, ",:") for path in lower)
    return ",".join(
        [f"lowerdir={layers}", f"upperdir={_escape(upper, ',')}", f"workdir={_escape(work, ',')}", *options]
    )


def _escape(path: Path, special: str) -> str:
    text = os.fspath(path).replace("\\", "\\\\")
    for letter in special:
        text = text.replace(letter, f"\\{letter}")
    return text


def mount_overlay(directory: Path, *, source: str, options: str) -> None:
    """Mount an overlayfs; `source` is what the mount table shows as the thing that is mounted.

    Raises:
        MountError: If the kernel refuses, or would show it read-only: so it does where the disk is full when it mounts.
    """
    number = _mount(source, os.fspath(directory), options)
    if number:
        raise MountError(f"cannot mount overlayfs at '{directory}': {os.strerror(number)}", details={"errno": number})
    if os.statvfs(directory).f_flag & os.ST_RDONLY:
        mounted = find_mount(directory)
        if mounted is not None:
            unmount(mounted, lazy=True)
        what = f"cannot mount overlayfs at '{directory}': the kernel makes nothing in its directory of work"
        raise MountError(what, hint="See whether the disk is full, then try again.")


def clear_volatile(work: Path) -> None:
    """Remove the kernel's note that an earlier mount did not force its files to disk: nobody relies on that."""
    with host_errors(f"clear '{work}'"):
        try:
            remove_tree(work / "work" / "incompat")
        except PermissionError:
            # The kernel makes its directory for nobody; who owns it may change that.
            os.chmod(work / "work", 0o700)
            remove_tree(work / "work" / "incompat")


def is_upper_used(upper: Path) -> bool:
    """Tell whether an overlayfs, in any mount namespace and also if it is detached, has a directory as its upper layer.

    The kernel allows one at a time if it is asked to be strict, and looks at that first; the mount that is asked for
    here cannot succeed. False also where this user may not ask: then this user made no such mount.
    """
    options = layer_options([upper], upper, Path(_ELSEWHERE), ("index=on", "userxattr"))
    return _mount("avfs", os.fspath(upper), options) == errno.EBUSY


def find_overlay(upper: Path) -> Mounted | None:
    """Find the overlayfs of this mount namespace that has a directory as its upper layer; None if it has none."""
    wanted = f"upperdir={_escape(upper, ',')}"
    return next((found for found in list_mounts() if found.kind == "overlay" and wanted in _split(found.options)), None)


def _split(options: str) -> list[str]:
    """Take the options of a mount apart, as the kernel shows them: with the escapes that they were given with."""
    return re.split(r"(?<!\\),", options)


def _mount(source: str, target: str, options: str) -> int:
    import ctypes  # noqa: PLC0415 - only where overlayfs is mounted, or one that is left is met

    libc = ctypes.CDLL(None, use_errno=True)
    flags = ctypes.c_ulong(_MS_NOSUID | _MS_NODEV)
    if libc.mount(os.fsencode(source), os.fsencode(target), b"overlay", flags, os.fsencode(options)):
        return ctypes.get_errno() or errno.EINVAL
    return 0


def watch_end(directory: Path) -> int:
    """Watch for the end of the file system at a directory; gives a descriptor that becomes readable when it is gone.

    That is when its last user in any mount namespace is done. The watch itself keeps nothing. The descriptor is the
    caller's; nothing is ever to be read from it, so that each process that has a copy sees the same.
    """
    import ctypes  # noqa: PLC0415 - as above

    libc = ctypes.CDLL(None, use_errno=True)
    fd = libc.inotify_init1(os.O_CLOEXEC | os.O_NONBLOCK)
    # The kernel tells of an end whatever is asked for; something has to be.
    if (
        fd >= 0
        and libc.inotify_add_watch(fd, os.fsencode(directory), ctypes.c_uint32(_IN_DELETE_SELF | _IN_ONLYDIR)) >= 0
    ):
        return int(fd)
    number = ctypes.get_errno()
    if fd >= 0:
        os.close(fd)
    raise MountError(f"cannot watch '{directory}': {os.strerror(number)}", details={"errno": number})
