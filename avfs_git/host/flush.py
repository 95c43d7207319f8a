"""Writing out what programs have changed in memory.

Decided here: which system call does that. Never called by a process that serves the file system in question, which
would wait for itself. Fails silently: it is asked for to see more, not to save.
"""

from __future__ import annotations

import ctypes
import os

_libc = ctypes.CDLL(None, use_errno=True)


def flush_file_system(directory: str, device: int) -> bool:
    """Write out the changed pages of all files on the file system of a directory, if it is the one of that device number."""
    try:
        fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        return os.fstat(fd).st_dev == device and _libc.syncfs(fd) == 0
    except (OSError, AttributeError):  # a libc without it
        return False
    finally:
        os.close(fd)
