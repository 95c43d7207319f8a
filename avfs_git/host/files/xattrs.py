"""Extended attributes, bytes in and out.

Decided here: how an entry of an open directory is named for the xattr calls, which know no directory descriptors
(`entry_of`), and which errors mean "there are none". Any thread may call; nothing here is durable.
"""

from __future__ import annotations

import errno
import os

Target = int | bytes
"""An open descriptor, or a path; a symbolic link at the end of a path is not followed."""

_NONE_HERE = frozenset({errno.ENOTSUP, errno.EPERM})
"""What file systems say of entries that cannot carry attributes: symbolic links, devices, all of some systems."""


def entry_of(directory: int, name: bytes) -> bytes:
    """Name an entry of an open directory as a path: of bounded length, and good while the directory is open."""
    return b"/proc/self/fd/%d/%s" % (directory, name)


def list_xattrs(target: Target) -> list[bytes]:
    """List the names of attributes; none where the file system knows none."""
    try:
        names = os.listxattr(target, follow_symlinks=isinstance(target, int))
    except OSError as error:
        if error.errno in _NONE_HERE:
            return []
        raise
    return [os.fsencode(name) for name in names] if names else []  # most have none


def has_user_xattrs(path: bytes) -> bool:
    """Tell whether an entry has attributes that users gave it; one that is gone has none.

    Those of other namespaces, as the labels of security modules, are of the file system that it is on.
    """
    try:
        names = os.listxattr(path, follow_symlinks=False)
    except FileNotFoundError:
        return False
    except OSError as error:
        if error.errno in _NONE_HERE:
            return False
        raise
    return any(name.startswith("user.") for name in names) if names else False  # most have none


def read_xattr(target: Target, name: bytes) -> bytes | None:
    """Read an attribute; None where there is none of that name."""
    try:
        return os.getxattr(target, name, follow_symlinks=isinstance(target, int))
    except OSError as error:
        if error.errno == errno.ENODATA or error.errno in _NONE_HERE:
            return None
        raise


def write_xattr(target: Target, name: bytes, value: bytes, *, flags: int = 0) -> None:
    """Set an attribute by its full name; flags are `os.XATTR_CREATE` or `os.XATTR_REPLACE`."""
    os.setxattr(target, name, value, flags, follow_symlinks=isinstance(target, int))


def remove_xattr(target: Target, name: bytes) -> None:
    """Remove an attribute."""
    os.removexattr(target, name, follow_symlinks=isinstance(target, int))


def read_xattrs(target: Target) -> dict[bytes, bytes]:
    """Read all attributes; one that vanishes meanwhile is left out."""
    found: dict[bytes, bytes] = {}
    for name in list_xattrs(target):
        value = read_xattr(target, name)
        if value is not None:
            found[name] = value
    return found
