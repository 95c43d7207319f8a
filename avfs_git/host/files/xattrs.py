"""Extended attributes, bytes in and out.

Decided here: how an entry of an open directory is named for the xattr calls, which know no directory descriptors
(`entry_of`), and which errors mean "there are none". Any thread may call; nothing here is durable.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

from avfs_git.host.files.beneath import lending, open_at
from avfs_git.host.files.closing import closing_fd

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


def read_xattrs(target: Target, names: Iterable[bytes] | None = None) -> dict[bytes, bytes]:
    """Read attributes, all if they are not named; one that vanishes meanwhile is left out.

    Those of an own file or directory that is closed to its owner are read, too.
    """
    names = list_xattrs(target) if names is None else names
    try:
        found = [(name, read_xattr(target, name)) for name in names]
    except PermissionError:
        with lending_entry(target, 0o400):
            found = [(name, read_xattr(target, name)) for name in names]
    return {name: value for name, value in found if value is not None}


def as_owner(target: Target, change: Callable[[], None]) -> None:
    """Change attributes of an own file or directory with any mode, see `lending`."""
    try:
        change()
    except PermissionError:
        with lending_entry(target, 0o200):
            change()


@contextmanager
def lending_entry(target: Target, bits: int) -> Iterator[None]:
    """Give this user rights on an own entry for a moment, see `lending`."""
    if isinstance(target, int):
        with lending(target, bits):
            yield
    else:
        with closing_fd(open_at(None, target, os.O_PATH)) as place, lending(place, bits):
            yield
