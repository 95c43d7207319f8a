"""Locks of open files, which the kernel drops when the file is closed, also by the death of its process.

Decided here: how long such a lock is waited for, and how often it is tried meanwhile; and a lock that any number of
processes share, each with a number, and that others ask for without taking it. What is locked, and for whom, is said
where these are called. From any thread; nothing is kept.
"""

from __future__ import annotations

import fcntl
import os
import struct
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from avfs_git.host.files.closing import closing_fd

_PAUSE_S = 0.005
_FLOCK = "hhqqi"
"""struct flock(2): type, whence, start, length, pid; no length is the whole file."""


@contextmanager
def held(fd: int) -> Iterator[None]:
    """Hold an open file for a block, against all other holders, and close it."""
    with closing_fd(fd):
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield


def directory_held(path: Path) -> AbstractContextManager[None]:
    """Hold a directory for a block, against all other holders: for changes that are rare and short."""
    return held(os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC))


def take(fd: int, *, wait_s: float = 0.0) -> bool:
    """Lock an open file until it is closed; tell whether that was possible in so many seconds."""
    return _try_for(wait_s, lambda: fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB))


def take_number(fd: int, number: int, *, wait_s: float = 0.0) -> bool:
    """Lock a number in a file that is open for writing, as `take` does; other numbers are other locks.

    Raises:
        OSError: If the file system has no such locks.
    """
    wanted = struct.pack(_FLOCK, fcntl.F_WRLCK, os.SEEK_SET, number, 1, 0)
    return _try_for(wait_s, lambda: fcntl.fcntl(fd, fcntl.F_OFD_SETLK, wanted))


def _try_for(wait_s: float, lock: Callable[[], object]) -> bool:
    deadline = time.monotonic() + wait_s
    while True:
        try:
            lock()
        except BlockingIOError:
            if time.monotonic() >= deadline:
                return False
            time.sleep(_PAUSE_S)
        else:
            return True


@contextmanager
def directory_shared(path: Path, number: int) -> Iterator[None]:
    """Share a lock on a directory for a block: `find_shared` gives its number.

    It and `directory_held` do not see each other.

    Raises:
        OSError: If the file system has no such locks.
    """
    with closing_fd(os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)) as fd:
        fcntl.fcntl(fd, fcntl.F_OFD_SETLK, struct.pack(_FLOCK, fcntl.F_RDLCK, os.SEEK_SET, number, 1, 0))
        yield


def find_shared(path: Path) -> int | None:
    """Give the number with which `directory_shared` holds a directory, of several any; None if nothing holds it.

    Takes no lock, so that two that ask do not see each other.
    """
    with closing_fd(os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)) as fd:
        found = fcntl.fcntl(fd, fcntl.F_OFD_GETLK, struct.pack(_FLOCK, fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0))
    kind, _, number, _, _ = struct.unpack(_FLOCK, found)
    return None if kind == fcntl.F_UNLCK else int(number)
