"""Locks of open files: flock(2), which the kernel drops when the file is closed, also by the death of its process.

Decided here: how long such a lock is waited for, and how often it is tried meanwhile. What is locked, and for whom, is said where
these are called. From any thread; nothing is kept.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

_PAUSE_S = 0.005


@contextmanager
def held(fd: int) -> Iterator[None]:
    """Hold an open file for a block, against all other holders, and close it."""
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


def directory_held(path: Path) -> AbstractContextManager[None]:
    """Hold a directory for a block, against all other holders: for changes that are rare and short."""
    return held(os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC))


def take(fd: int, *, wait_s: float = 0.0) -> bool:
    """Lock an open file until it is closed; tell whether that was possible in so many seconds."""
    deadline = time.monotonic() + wait_s
    while True:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= deadline:
                return False
            time.sleep(_PAUSE_S)
        else:
            return True
