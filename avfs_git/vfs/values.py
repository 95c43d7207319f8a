"""What the tree gives to its callers: attributes and listed entries.

Pure values and functions: any thread may use them.
"""

from __future__ import annotations

import errno
import os

from avfs_git.values import NamedTuple
from avfs_git.vfs.layer.lower import LowerEntry

TYPE = 0o170000
"""The type bits of `st_mode`."""
LOWER_DIR_SIZE = 4096
SPOOL_ABOVE = 1 << 20
"""Lower files larger than this are read piecewise from a plain file, so that no read holds one whole."""
ACCESS_LISTS = b"system.posix_acl_"
"""How the names of access control lists begin."""
_LABEL = b"security.selinux"


class Attr(NamedTuple):
    """The attributes of a node, as `stat` has them."""

    ino: int
    mode: int
    nlink: int
    uid: int
    gid: int
    rdev: int
    size: int
    blocks: int
    atime_ns: int
    mtime_ns: int
    ctime_ns: int


class Listed(NamedTuple):
    """An entry of a directory with its attributes."""

    name: bytes
    attr: Attr
    entry: LowerEntry | None
    """The lower layer's entry that it shows, None if it is in the upper layer: its `oid` is known without reading."""
    problem: str | None = None
    """Why its content cannot be read; then its size is not known, and 0."""


def missing_xattr(name: bytes) -> int:
    """Choose the error for a missing attribute: ENODATA, or EOPNOTSUPP for labels and access control lists.

    `ls -l` asks for both on each file until it hears EOPNOTSUPP. The kernel caches no answer, so each costs a request.
    """
    return errno.EOPNOTSUPP if name == _LABEL or name.startswith(ACCESS_LISTS) else errno.ENODATA


def attr_of(ino: int, found: os.stat_result) -> Attr:
    """Make the attributes of a node from what the disk says."""
    return new(
        Attr,
        (
            ino,
            found.st_mode,
            found.st_nlink,
            found.st_uid,
            found.st_gid,
            found.st_rdev,
            found.st_size,
            found.st_blocks,
            found.st_atime_ns,
            found.st_mtime_ns,
            found.st_ctime_ns,
        ),
    )


new = tuple.__new__
"""Makes a named tuple in half the time that its constructor takes: done for each stat."""
