"""Permissions of what avfs makes: those of the directory that it is made in.

Decided here: that a file or directory of a vault is open to those who may use the directory above it, so that one
choice, at the top of a vault, holds for everything in it. A directory that a group may write to is shared on purpose:
there the umask of a process, which is meant for its own files, does not count. Functions without state, safe from any
thread.
"""

from __future__ import annotations

import errno
import os
import stat

_RESTRICTED = 0o066
"""What a private directory does not allow others.

Passing through is allowed: it is needed for a shared vault in a home.
"""


def mode_below(directory: bytes | str | os.PathLike[str]) -> int:
    """Tell the permissions of a directory, as they are passed on to what is made in it. Raises OSError."""
    return os.stat(directory).st_mode & (stat.S_ISGID | 0o777)


def open_file(path: bytes | str | os.PathLike[str], flags: int, mode: int = 0o666) -> int:
    """Open a file; one that is made gets the permissions in `mode` that its directory has. Raises OSError."""
    above = mode_below(_parent(path))
    fd = os.open(path, flags, mode & above)
    if above & stat.S_IWGRP and os.fstat(fd).st_uid == os.geteuid():
        os.fchmod(fd, mode & above & 0o777)
    return fd


def make_dir(path: bytes | str | os.PathLike[str], *, exist_ok: bool = False) -> None:
    """Make a directory with the permissions of the one above it, unless it may be there and is. Raises OSError."""
    above = mode_below(_parent(path)) | 0o700
    try:
        os.mkdir(path, above & 0o777)
    except FileExistsError:
        if exist_ok and os.path.isdir(path):
            return
        raise
    if above & stat.S_IWGRP:
        os.chmod(path, above)


def make_private_dirs(path: str | os.PathLike[str]) -> None:
    """Make a directory and those above it that are missing, closed to other users. Raises OSError."""
    if os.path.isdir(path):
        return
    make_private_dirs(os.path.dirname(os.path.abspath(path)))
    try:
        os.mkdir(path, 0o700)
    except FileExistsError:
        if not os.path.isdir(path):
            raise


def _parent(path: bytes | str | os.PathLike[str]) -> bytes:
    return os.path.dirname(os.fsencode(path)) or b"."


def is_open(directory: os.PathLike[str]) -> bool:
    """Tell whether a directory of the caller's can be read or written by other users.

    One that they may pass through is not open.

    Raises OSError.
    """
    try:
        status = os.lstat(directory)
    except FileNotFoundError:
        return False
    return stat.S_ISDIR(status.st_mode) and status.st_uid == os.geteuid() and bool(status.st_mode & _RESTRICTED)


def make_private(path: os.PathLike[str]) -> None:
    """Close a file or directory to other users; on a disk that may only be read it stays as it is. Raises OSError."""
    try:
        os.chmod(path, stat.S_IMODE(os.lstat(path).st_mode) & 0o700)
    except OSError as error:
        if error.errno not in (errno.EROFS, errno.EPERM, errno.EACCES):
            raise
