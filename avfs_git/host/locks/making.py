"""Directories in the making: one process fills such a directory, and a later one removes what a dead process has left.

Decided here: a lock on the directory (flock(2)) tells that its process lives. The number of a process does not: in
another PID namespace, as in a container that shares a home, it is that of another process, or of none. Called from any
thread. A crash leaves the directory without the lock.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from avfs_git.errors import AvfsError, HostError
from avfs_git.host.files.closing import closing_fd
from avfs_git.host.files.removal import remove_tree
from avfs_git.host.locks.flocks import take

MAKING = ".making-"
"""How the names of such directories begin, where nothing else is said."""
_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | os.O_NOFOLLOW
_WAIT_S = 60.0
"""How long a process that looks may keep the lock."""


@contextmanager
def directory_filled(parent: Path, prefix: str = MAKING, *, mode: int = 0o777) -> Iterator[Path]:
    """Make a directory, whose name begins so, for a block. At the end it goes, with what was not renamed out of it.

    Raises:
        OSError: If the disk refuses.
    """
    fd, place = _make(parent, prefix, mode)
    with closing_fd(fd):
        try:
            yield place
        finally:
            with suppress(OSError, HostError):  # the next process that looks removes it
                remove_tree(place)


def _make(parent: Path, prefix: str, mode: int) -> tuple[int, Path]:
    while True:
        place = parent / f"{prefix}{os.urandom(6).hex()}"
        place.mkdir(mode)
        try:
            fd = os.open(place, _FLAGS)
        except FileNotFoundError:  # a process that looked was faster than the lock
            continue
        try:
            if _lock(fd) and place.exists():
                return fd, place
        except BaseException:
            os.close(fd)
            raise
        os.close(fd)


def _lock(fd: int) -> bool:
    """Lock a directory, from which another process may be about to remove it; tell whether that was possible."""
    try:
        return take(fd, wait_s=_WAIT_S)
    except OSError:  # a file system without locks: no process finds it unlocked either
        return True


def remove_abandoned(parent: Path, prefix: str = MAKING, *, first: Callable[[Path], object] = lambda _: None) -> None:
    """Remove directories, whose names begin so, that dead processes were filling.

    `first` is called with each before; where that fails, the directory stays.
    """
    with suppress(OSError):
        for place in [entry for entry in parent.iterdir() if entry.name.startswith(prefix)]:
            with suppress(OSError, AvfsError), closing_fd(os.open(place, _FLAGS)) as fd:
                if take(fd):
                    first(place)
                    remove_tree(place)
