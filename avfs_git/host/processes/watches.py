"""Being told that files and directories change: inotify(7), by inode.

Decided here: what is watched of a file and of a directory, and that whatever is told stays in the kernel until it is
asked for: nobody waits for it, and a program that opens a watched file pays for one short note. Of a file it is told
that it is opened, for whatever purpose, written to, or that its attributes change, whichever of its names that goes by;
of a directory, that names in it come and go. What is written to memory that somebody has mapped is not told; it was
opened before.

The kernel keeps so many notes (`fs.inotify.max_queued_events`). When there were more, that is told and nothing else
(`Watches.read`). An inode that is watched stays in memory. One thread uses it; another process must not.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import struct
from typing import Final

from avfs_git.host.files.xattrs import entry_of
from avfs_git.values import NamedTuple

_MODIFY, _ATTRIB, _OPEN = 0x2, 0x4, 0x20  # linux/inotify.h
_MOVED_FROM, _MOVED_TO, _CREATE, _DELETE = 0x40, 0x80, 0x100, 0x200
_UNMOUNT, _OVERFLOW, _IGNORED, _ISDIR = 0x2000, 0x4000, 0x8000, 0x40000000
_ONLYDIR, _DONT_FOLLOW, _MASK_CREATE = 0x01000000, 0x02000000, 0x10000000
_OF_FILES: Final = ctypes.c_uint32(_OPEN | _MODIFY | _ATTRIB)
_OF_LINKS: Final = ctypes.c_uint32(_ATTRIB | _DONT_FOLLOW | _MASK_CREATE)
_OF_DIRECTORIES: Final = ctypes.c_uint32(_CREATE | _DELETE | _MOVED_FROM | _MOVED_TO | _ATTRIB | _ONLYDIR)
_EVENT: Final = struct.Struct("=iIII")
_SIZE: Final = struct.Struct("=i")
_READ: Final = 1 << 16


def read_room() -> int:
    """Tell how many inodes all programs of this user may watch together; none if that is not known."""
    try:
        with open("/proc/sys/fs/inotify/max_user_watches", "rb") as file:
            return int(file.read())
    except (OSError, ValueError):
        return 0


class Told(NamedTuple):
    """Something that happened to an inode."""

    number: int
    """That of its watch."""
    name: bytes
    """In a directory, of which entry; empty if it is about the inode itself."""
    is_directory: bool
    """Whether the entry is a directory."""
    is_name: bool
    """Whether the entry got or lost its name."""
    is_last: bool
    """Whether the watch is gone."""


class Watches:
    """The inodes that one holder watches."""

    def __init__(self, *, spare: int = 0) -> None:
        """Begin. Raises OSError where the system allows no more of these, or fewer than `spare` after this one."""
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._fd = self._init()
        others: list[int] = []
        try:
            while len(others) < spare:
                others.append(self._init())
        except OSError:
            self.close()
            raise
        finally:
            for fd in others:
                os.close(fd)

    def _init(self) -> int:
        fd: int = self._libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        if fd < 0:
            raise _error()
        return fd

    def add_file(self, fd: int) -> int:
        """Watch an open file; gives the number of its watch. That it was opened before is not told. Raises OSError."""
        return self._add(b"/proc/self/fd/%d" % fd, _OF_FILES)

    def add_link(self, directory: int, name: bytes) -> int:
        """Watch a symbolic link. Raises OSError, also if it is watched."""
        return self._add(entry_of(directory, name), _OF_LINKS)

    def add_directory(self, fd: int) -> int:
        """Watch an open directory. Raises OSError."""
        return self._add(b"/proc/self/fd/%d" % fd, _OF_DIRECTORIES)

    def remove(self, number: int) -> None:
        """Watch an inode no more; one that is gone is none."""
        self._libc.inotify_rm_watch(self._fd, number)

    def read(self) -> list[Told] | None:
        """Tell what happened up to now, in this order; None if some of it is not known."""
        from termios import FIONREAD  # noqa: PLC0415 - of few processes

        (left,) = _SIZE.unpack(fcntl.ioctl(self._fd, FIONREAD, bytes(_SIZE.size)))
        told: list[Told] = []
        while left > 0:
            data = os.read(self._fd, min(left, _READ))
            left -= len(data)
            at = 0
            while at < len(data):
                number, mask, _, length = _EVENT.unpack_from(data, at)
                at += _EVENT.size
                name = data[at : at + length].rstrip(b"\0") if length else b""
                at += length
                if mask & (_OVERFLOW | _UNMOUNT):
                    return None
                is_name = bool(mask & (_CREATE | _DELETE | _MOVED_FROM | _MOVED_TO))
                told.append(Told(number, name, bool(mask & _ISDIR), is_name, bool(mask & _IGNORED)))
        return told

    def close(self) -> None:
        """Watch nothing any more. A second call does nothing."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

    def _add(self, path: bytes, mask: ctypes.c_uint32) -> int:
        number: int = self._libc.inotify_add_watch(self._fd, path, mask)
        if number < 0:
            raise _error()
        return number


def _error() -> OSError:
    number = ctypes.get_errno() or errno.EINVAL
    return OSError(number, os.strerror(number))
