"""Ranges of open files: reserving, punching, collapsing and copying them, finding holes, by calls that Python lacks.

Any thread may call; nothing here is durable.
"""

from __future__ import annotations

import ctypes
import os

KEEP_SIZE = 1  # linux/falloc.h
PUNCH_HOLE = 2
INSERT_RANGE = 32


def fallocate(fd: int, mode: int, offset: int, length: int) -> None:
    """Change the space that a range of a file takes: reserve, punch, zero, collapse or insert it."""
    libc = ctypes.CDLL(None, use_errno=True)
    call = getattr(libc, "fallocate64", None) or libc.fallocate  # in musl, that takes offsets of 64 bits
    call.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64)
    if call(fd, mode, offset, length):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
