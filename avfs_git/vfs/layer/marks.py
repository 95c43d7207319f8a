"""How overlayfs's marks are spelled on the entries of an upper layer.

Decided here and nowhere else: how a deletion (whiteout), a directory that hides the one below it (opaque) and the other marks of
overlayfs are spelled, so that the kernel's overlayfs (mounted with `userxattr`) and avfs can each show the same workspace, one
after the other.

    whiteout    a character device 0:0; also read: an empty file with `user.overlay.whiteout` in a directory
                with `user.overlay.opaque=x`
    opaque      a directory with `user.overlay.opaque=y`
    harmless    `user.overlay.` origin, impure, nlink, uuid, upper, protattr: hints for the kernel
    anything else under `user.overlay.` or `trusted.overlay.` is refused (`LayerNotUnderstood`), never guessed
    an attribute `user.overlay.X` that a program sets is kept as `user.overlay.overlay.X`, as the kernel does

Called by `vfs.layer.upper`, which keeps the layer, and by those who read one. No state, no locks; each call asks the disk.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterable
from typing import NamedTuple

from avfs_git.errors import LayerNotUnderstood
from avfs_git.host.files.xattrs import Target, list_xattrs, read_xattr, remove_xattr, write_xattr

WHITEOUT_RDEV = 0  # Documentation/filesystems/overlayfs.rst: "a character device with 0/0 device number"
_MARKS = b"user.overlay."
_ESCAPED = b"user.overlay.overlay."
_FOREIGN_MARKS = b"trusted.overlay."
_OPAQUE = _MARKS + b"opaque"
_XWHITEOUT = _MARKS + b"whiteout"
_HARMLESS = frozenset(_MARKS + name for name in (b"origin", b"impure", b"nlink", b"uuid", b"upper", b"protattr"))


class DirMarks(NamedTuple):
    """What overlayfs notes on a directory."""

    opaque: bool
    xattr_whiteouts: bool
    """Whether whiteouts in it may be spelled as empty files with an attribute."""


def is_whiteout(found: os.stat_result) -> bool:
    """Tell whether this is a deletion in its usual spelling."""
    return stat.S_ISCHR(found.st_mode) and found.st_rdev == WHITEOUT_RDEV


def is_xattr_whiteout(found: os.stat_result, target: Target) -> bool:
    """Tell whether this is a deletion in its other spelling; only asked in a directory that allows it."""
    return stat.S_ISREG(found.st_mode) and found.st_size == 0 and read_xattr(target, _XWHITEOUT) is not None


def read_dir_marks(target: Target, path: bytes) -> DirMarks:
    """Read the marks of a directory."""
    names = list_xattrs(target)
    if not names:
        return DirMarks(opaque=False, xattr_whiteouts=False)
    _check_marks(names, path)
    try:
        value = read_xattr(target, _OPAQUE) if _OPAQUE in names else None
    except PermissionError:  # a directory that its owner may not read: no program lists it
        value = b"y"
    if value not in (None, b"y", b"x"):
        raise LayerNotUnderstood(path, f"{_OPAQUE.decode()}={value!r}")
    return DirMarks(opaque=value == b"y", xattr_whiteouts=value == b"x")


def mark_opaque(target: Target) -> None:
    """Make a directory hide what the lower layer has in its place."""
    write_xattr(target, _OPAQUE, b"y")


def unmark_opaque(target: Target) -> None:
    """Let a directory show what the lower layer has in its place."""
    remove_xattr(target, _OPAQUE)


def check_file_marks(target: Target, path: bytes) -> bool:
    """Make sure that a file holds its own data and is what it seems; tell whether it carries any attribute."""
    names = list_xattrs(target)
    if not names:
        return False
    _check_marks(names, path)
    return True


def _check_marks(names: Iterable[bytes], path: bytes) -> None:
    for name in names:
        if name.startswith(_FOREIGN_MARKS) or (
            name.startswith(_MARKS) and not name.startswith(_ESCAPED) and name not in _HARMLESS and name != _OPAQUE
        ):
            raise LayerNotUnderstood(path, name.decode("utf-8", "replace"))


def read_user_xattrs(target: Target, path: bytes) -> dict[bytes, bytes]:
    """Read the attributes that programs gave an entry, under the names they used."""
    names = list_xattrs(target)
    if not names:
        return {}
    _check_marks(names, path)
    found: dict[bytes, bytes] = {}
    for name in names:
        shown = show_xattr_name(name)
        value = None if shown is None else read_xattr(target, name)
        if shown is not None and value is not None:
            found[shown] = value
    return found


def show_xattr_name(name: bytes) -> bytes | None:
    """Give the name under which programs see an attribute of the upper layer; None for a mark of overlayfs."""
    if not name.startswith(_MARKS):
        return None if name.startswith(_FOREIGN_MARKS) else name
    return _MARKS + name[len(_ESCAPED) :] if name.startswith(_ESCAPED) else None


def store_xattr_name(name: bytes) -> bytes:
    """Give the name under which the upper layer keeps an attribute of programs.

    Raises:
        PermissionError: For names that would be marks of a layer without `userxattr`.
    """
    if name.startswith(_FOREIGN_MARKS):
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM), name)
    return _ESCAPED + name[len(_MARKS) :] if name.startswith(_MARKS) else name
