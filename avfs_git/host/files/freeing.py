"""Taking away the last name of a file, without waiting until the disk has its room back.

Decided here: freeing the room of a large file takes the kernel 0.3 s for each GiB, within unlink(2). A thread that
others wait for leaves that to another one: a descriptor keeps the file until its name is gone, and the other thread
closes it. On a disk that has little left the room is freed at once, because the next write may need it.

Called by `vfs` with the lock of a tree. After a crash the kernel has closed the descriptor: nothing is left behind.
"""

from __future__ import annotations

import os
import stat
import threading

_LARGE = 8 << 20
"""Smaller files are freed in less than 3 ms."""


def unlink_last(directory: int, name: bytes) -> None:
    """Remove a name as `os.unlink` does; if that was the last one of a large file, its room is free a little later.

    Raises:
        OSError: As `os.unlink`.
    """
    found = os.stat(name, dir_fd=directory, follow_symlinks=False)
    if found.st_blocks * 512 < _LARGE or found.st_nlink != 1 or not stat.S_ISREG(found.st_mode):
        os.unlink(name, dir_fd=directory)
        return
    fd = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory)
    try:
        os.unlink(name, dir_fd=directory)
        if _has_room(directory, found.st_size):
            threading.Thread(target=os.close, args=(fd,), name="avfs-freeing", daemon=True).start()
            fd = -1
    finally:
        if fd >= 0:
            os.close(fd)


def _has_room(directory: int, size: int) -> bool:
    """Whether a disk has as much left as a file had, and some more."""
    room = os.fstatvfs(directory)
    return room.f_bavail * room.f_frsize > size + (1 << 30)
