"""Writing out what programs have changed in memory, and waiting for what they write.

Decided here: which system calls do that, and when it is done. Never called by the process that serves the file system
in question, which would wait for itself. Fails silently: its callers want to see more, not to save.

Of a FUSE file system, the kernel sends the pages to the server and does not wait until they are written. So the server
is asked something afterwards: requests wait in one line, and the answer comes when those before it are done. The line
has room for so many writes at once; hence one question for each time that many pages are under way.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
from contextlib import suppress

_libc = ctypes.CDLL(None, use_errno=True)
_PAGE_KIB = 4
_WAIT_BEFORE, _WRITE = 1, 2  # sync_file_range(2)
_IN_LINE = 12
"""So many writes stand in line at least: what a kernel allows a server that asks for no more."""
_UNTOLD = 2 * 125
"""Pages that may be under way beyond the kernel's count: two processors each add up to 125 later (`mm/vmstat.c`).

One of the two sends, the other is told of the end.
"""

_QUESTIONS_MAX = 4096
"""So many are asked at the most, a tenth of a second: what is under way may be all another disk's."""


def flush_file_system(directory: str, device: int) -> bool:
    """Write out the changed pages of all files on a directory's file system, if it has the device number `device`."""
    try:
        fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        if os.fstat(fd).st_dev != device or _libc.syncfs(fd):
            return False
        for _ in range(min(1 + (_pages_under_way() + _UNTOLD) // _IN_LINE, _QUESTIONS_MAX)):
            os.fstatvfs(fd)
    except OSError:
        return False
    finally:
        os.close(fd)
    return True


def show_later_writes(fd: int) -> bool:
    """Make every later write to a file move its time of change, also a write to memory that a program has mapped.

    A page that is changed already may be written again without the system noticing. So where a process has the file
    open for writing, or mapped, its changed pages are sent to the disk, without waiting, and with that the next write
    is noticed. A lease for reading tells whether a process has it open, and is given back at once: a process that opens
    the file in between waits for that long, and this process gets SIGIO, which its caller has blocked.

    True if no process has the file open for writing, or mapped for that. Raises OSError if the disk fails.
    """
    try:
        fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_RDLCK)
    except OSError:  # somebody has it open, or there are no leases here
        if _libc.sync_file_range(fd, ctypes.c_int64(0), ctypes.c_int64(0), _WAIT_BEFORE | _WRITE):
            number = ctypes.get_errno()
            if number not in (errno.ENOSYS, errno.EINVAL, errno.ESPIPE):  # a pipe by now, which its reader sees
                raise OSError(number, os.strerror(number)) from None
            os.fsync(fd)
        return False
    fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    return True


def begin_writing(fd: int, offset: int, size: int) -> None:
    """Send a piece of a file to the disk, and do not wait for it; a size of 0 means up to the end.

    Else an `fsync` at the end finds all of the file, and every process that makes, removes or renames something in the
    same file system waits for the journal, which waits for that. What the disk refuses, the `fsync` tells.
    """
    _libc.sync_file_range(fd, ctypes.c_int64(offset), ctypes.c_int64(size), _WRITE)


def await_writes(fd: int) -> None:
    """Wait until every write to a file that has begun is done.

    A write moves the times of a file when it begins, and a read before its end sees half of it. A writer holds the lock
    of the inode; so does a process that looks for data (`SEEK_DATA`: ext4, btrfs, f2fs, tmpfs). XFS lets no process
    read meanwhile. Moves the place in the file that `read` goes on from.
    """
    with suppress(OSError):  # ENXIO of an empty file; EINVAL where it is not known
        os.lseek(fd, 0, os.SEEK_DATA)


def _pages_under_way() -> int:
    """Tell how many pages of all file systems are being written, at the most."""
    try:
        with open("/proc/meminfo", "rb") as file:
            lines = file.read().splitlines()
    except OSError:
        return 0
    return (
        sum(int(line.split()[1]) for line in lines if line.startswith((b"Writeback:", b"WritebackTmp:"))) // _PAGE_KIB
    )
