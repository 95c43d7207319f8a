"""The Linux kernel's FUSE protocol: numbers and layouts, as `linux/fuse.h` has them.

Decided here: how a request is taken apart and how the parts of a reply are laid out, versions 7.31 and later.
`fuse.channel` and `fuse.server` call it; nothing here does input or output or keeps state.

Values are in the byte order of the machine and padded by hand, so the layouts name it without alignment (`=`).
Times may lie before 1970: the kernel takes its unsigned fields as signed ones.
"""

from __future__ import annotations

import os
from struct import Struct
from typing import Final

from avfs_git.vfs.values import Attr

MAJOR: Final = 7
MINOR_MIN: Final = 31
"""Linux 5.4: opening, closing and listing without a request."""
MINOR_MAX: Final = 45

# --- operations ------------------------------------------------------------------------------------------

LOOKUP: Final = 1
FORGET: Final = 2
GETATTR: Final = 3
SETATTR: Final = 4
READLINK: Final = 5
SYMLINK: Final = 6
MKNOD: Final = 8
MKDIR: Final = 9
UNLINK: Final = 10
RMDIR: Final = 11
RENAME: Final = 12
LINK: Final = 13
OPEN: Final = 14
READ: Final = 15
WRITE: Final = 16
STATFS: Final = 17
RELEASE: Final = 18
FSYNC: Final = 20
SETXATTR: Final = 21
GETXATTR: Final = 22
LISTXATTR: Final = 23
REMOVEXATTR: Final = 24
FLUSH: Final = 25
INIT: Final = 26
OPENDIR: Final = 27
READDIR: Final = 28
RELEASEDIR: Final = 29
FSYNCDIR: Final = 30
ACCESS: Final = 34
CREATE: Final = 35
INTERRUPT: Final = 36
DESTROY: Final = 38
BATCH_FORGET: Final = 42
FALLOCATE: Final = 43
READDIRPLUS: Final = 44
RENAME2: Final = 45
LSEEK: Final = 46
COPY_FILE_RANGE: Final = 47
TMPFILE: Final = 51

OPERATION_NAMES: Final[dict[int, str]] = {
    value: name.lower()
    for name, value in globals().copy().items()
    if name.isupper() and isinstance(value, int) and not name.startswith(("MAJOR", "MINOR", "ROOT"))
}

NOTIFY_INVAL_INODE: Final = 2
NOTIFY_INVAL_ENTRY: Final = 3

# --- what INIT agrees on ---------------------------------------------------------------------------------

ASYNC_READ: Final = 1 << 0
BIG_WRITES: Final = 1 << 5
DO_READDIRPLUS: Final = 1 << 13
NO_OPEN_SUPPORT: Final = 1 << 17
PARALLEL_DIROPS: Final = 1 << 18
ABORT_ERROR: Final = 1 << 21
MAX_PAGES: Final = 1 << 22
CACHE_SYMLINKS: Final = 1 << 23
NO_OPENDIR_SUPPORT: Final = 1 << 24
EXPLICIT_INVAL_DATA: Final = 1 << 25
HANDLE_KILLPRIV_V2: Final = 1 << 28
INIT_EXT: Final = 1 << 30
HAS_EXPIRE_ONLY: Final = 1 << 35

# --- bits of requests ------------------------------------------------------------------------------------

FATTR_MODE: Final = 1 << 0
FATTR_UID: Final = 1 << 1
FATTR_GID: Final = 1 << 2
FATTR_SIZE: Final = 1 << 3
FATTR_ATIME: Final = 1 << 4
FATTR_MTIME: Final = 1 << 5
FATTR_KILL_SUIDGID: Final = 1 << 11
WRITE_CACHE: Final = 1 << 0
"""The kernel writes out memory that programs have mapped, and changed some time ago.

It does not know for which of them.
"""
WRITE_KILL_SUIDGID: Final = 1 << 2
FSYNC_DATA_ONLY: Final = 1 << 0

# --- layouts ---------------------------------------------------------------------------------------------

IN_HEADER: Final = Struct("=IIQQIIIHH")
"""Length, operation, number of the request, node, user, group, process, length of extensions, padding."""
IN_HEAD: Final = Struct("=IIQQII")
"""The part of it that is looked at each time."""
OUT_HEADER: Final = Struct("=IiQ")
"""Length, negative errno or code of a notification, number of the request or 0."""
BODY: Final = IN_HEADER.size
OPERATION_AT: Final = 4
"""Where a request says what it is."""
PROCESS_AT: Final = 32
"""Where it names the thread that asks, by its number in the mounting process's namespace; 0 if it has none there."""

INIT_IN: Final = Struct("=IIII")
INIT_OUT: Final = Struct("=IIIIHHIIHHIIH22x")
FORGET_IN: Final = Struct("=Q")
BATCH_FORGET_IN: Final = Struct("=II")
FORGET_ONE: Final = Struct("=QQ")
SETATTR_IN: Final = Struct("=I4xQQQqqqIIIIIIII")
MKNOD_IN: Final = Struct("=IIII")
MKDIR_IN: Final = Struct("=II")
RENAME_IN: Final = Struct("=Q")
RENAME2_IN: Final = Struct("=QI4x")
LINK_IN: Final = Struct("=Q")
INTERRUPT_IN: Final = Struct("=Q")
READ_IN: Final = Struct("=QQIIQII")
WRITE_IN: Final = Struct("=QQIIQII")
WRITE_HEAD: Final = Struct("=8xQII")
"""The part of it that is looked at: offset, size, flags."""
FSYNC_IN: Final = Struct("=QI4x")
SETXATTR_IN: Final = Struct("=II")
GETXATTR_IN: Final = Struct("=II")
ACCESS_IN: Final = Struct("=I4x")
CREATE_IN: Final = Struct("=IIII")
FALLOCATE_IN: Final = Struct("=QQQI4x")
LSEEK_IN: Final = Struct("=QqI4x")
COPY_FILE_RANGE_IN: Final = Struct("=QQQQQQQ")

ENTRY_OUT: Final = Struct("=QQQQIIQQQqqqIIIIIIIIII")
"""Node, generation, seconds the name and the attributes are good for, their nanoseconds; then the attributes."""
ATTR_OUT: Final = Struct("=QI4xQQQqqqIIIIIIIIII")
DIRENT: Final = Struct("=QQII")
LISTED_OUT: Final = Struct(ENTRY_OUT.format + DIRENT.format[1:])
"""Both, one behind the other: an entry of a listing with attributes."""
OPEN_OUT: Final = Struct("=QII")
WRITE_OUT: Final = Struct("=I4x")
STATFS_OUT: Final = Struct("=QQQQQIIII24x")
GETXATTR_OUT: Final = Struct("=I4x")
LSEEK_OUT: Final = Struct("=Q")
INVAL_INODE_OUT: Final = Struct("=Qqq")
INVAL_ENTRY_OUT: Final = Struct("=QII")

FOREVER_S: Final = 1 << 40
"""For how long names and attributes are good: until they are invalidated."""
BLOCK_SIZE: Final = 65_536
"""What `st_blksize` says: the C library, and Python, collect so much before they write, which saves them requests."""
_SECOND_NS: Final = 1_000_000_000
_NO_ATTR: Final = (0,) * 16

NO_ENTRY: Final = ENTRY_OUT.pack(0, 0, FOREVER_S, 0, 0, 0, *_NO_ATTR)
"""Says for good that there is nothing under a name, so that the next look for it needs no request."""
HIDDEN_ENTRY: Final = ENTRY_OUT.pack(0, 0, 0, 0, 0, 0, *_NO_ATTR)
"""In a listing: an entry without a node."""


def encode_rdev(rdev: int) -> int:
    """Write a device number as the kernel's `new_encode_dev` does."""
    minor = os.minor(rdev)
    return (minor & 0xFF) | (os.major(rdev) << 8) | ((minor & ~0xFF) << 12)


def decode_rdev(value: int) -> int:
    """Read what the kernel's `new_encode_dev` wrote."""
    return os.makedev((value & 0xFFF00) >> 8, (value & 0xFF) | ((value >> 12) & 0xFFF00))


def pack_entry(attr: Attr, good_s: int = FOREVER_S) -> bytes:
    """Lay out a node with its attributes, good until invalidated or for some seconds."""
    ino, mode, nlink, uid, gid, rdev, size, blocks, atime_ns, mtime_ns, ctime_ns = attr
    return ENTRY_OUT.pack(
        ino, 0, good_s, good_s, 0, 0,
        ino, size, blocks,
        atime_ns // _SECOND_NS, mtime_ns // _SECOND_NS, ctime_ns // _SECOND_NS,
        atime_ns % _SECOND_NS, mtime_ns % _SECOND_NS, ctime_ns % _SECOND_NS,
        mode, nlink, uid, gid, rdev and encode_rdev(rdev), BLOCK_SIZE, 0,
    )  # fmt: skip


def pack_attr(attr: Attr, good_s: int = FOREVER_S) -> bytes:
    """Lay out attributes, good until invalidated or for some seconds."""
    ino, mode, nlink, uid, gid, rdev, size, blocks, atime_ns, mtime_ns, ctime_ns = attr
    return ATTR_OUT.pack(
        good_s, 0,
        ino, size, blocks,
        atime_ns // _SECOND_NS, mtime_ns // _SECOND_NS, ctime_ns // _SECOND_NS,
        atime_ns % _SECOND_NS, mtime_ns % _SECOND_NS, ctime_ns % _SECOND_NS,
        mode, nlink, uid, gid, rdev and encode_rdev(rdev), BLOCK_SIZE, 0,
    )  # fmt: skip


def pack_listed(
    ino: int, mode: int, owner: tuple[int, int], size: int, mtime_ns: int, position: int, name: bytes
) -> bytes:
    """Lay out the listing entry of a file only in the lower layer, in the format of `pack_entry` and `pack_dirent`.

    `position` is the one in the listing after it.
    """
    seconds, rest_ns = divmod(mtime_ns, _SECOND_NS)
    piece = LISTED_OUT.pack(
        ino, 0, FOREVER_S, FOREVER_S, 0, 0,
        ino, size, (size + 511) >> 9,
        seconds, seconds, seconds,
        rest_ns, rest_ns, rest_ns,
        mode, 1, *owner, 0, BLOCK_SIZE, 0,
        ino, position, len(name), mode >> 12,
    ) + name  # fmt: skip
    return piece + bytes(-len(piece) % 8)


def pack_no_entry(good_s: int) -> bytes:
    """Say for some seconds that there is nothing under a name."""
    return ENTRY_OUT.pack(0, 0, good_s, 0, 0, 0, *_NO_ATTR)


def pack_dirent(head: bytes, name: bytes) -> bytes:
    """Lay out an entry of a listing, the head of which is packed already."""
    piece = head + name
    return piece + bytes(-len(piece) % 8)


def pack_statfs(found: os.statvfs_result) -> bytes:
    """Lay out the sizes of a disk."""
    return STATFS_OUT.pack(
        found.f_blocks, found.f_bfree, found.f_bavail, found.f_files, found.f_ffree,
        found.f_bsize, min(found.f_namemax, 255), found.f_frsize, 0,
    )  # fmt: skip
