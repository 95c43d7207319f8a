"""Indexes of git that were made for forks in which nothing was changed, for other forks of the same commit.

Decided here: where they are kept (`avfs/cache/indexes`), how many, and when one is believed. Such an index says the
same in each fork: it follows from the tree of the head and from what the lower layer shows. `gitdir` asks for one when
git comes for the first time; many agents that begin on one commit at the same time make one index, not one each.

A file is named by all that it follows from, and ends with git's checksum of itself: a file that a power cut has damaged
is made again, and nothing is forced to disk. Whoever makes one has a flock on the directory, for which the others wait
a while. Nothing here is needed: where nothing can be kept, each makes its own. From any thread and process.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from avfs_git.errors import HostError
from avfs_git.host.files.durable import write_file_atomically
from avfs_git.host.files.modes import make_dir
from avfs_git.host.files.plainfile import read_plain
from avfs_git.host.locks.flocks import take

_CHECKSUM: Final = 20
_KEPT: Final = 4
"""How many stay, the last used; with what a writer that was killed has left."""
_WORTH_BYTES: Final = 64 << 10
"""A smaller one, of some 700 files, is made as soon as it is found."""
_PATIENCE_S: Final = 10.0


class MadeIndexes:
    """The indexes that are kept in one vault."""

    def __init__(self, directory: Path, *, limit_bytes: Callable[[], int]) -> None:
        self._directory = directory
        self._limit_bytes = limit_bytes

    def find_or_make(self, follows_from: bytes, make: Callable[[], bytes]) -> bytes:
        """Give the index that follows from something."""
        path = self._directory / hashlib.sha1(follows_from, usedforsecurity=False).hexdigest()
        found = _read(path)
        if found is None:
            with self._making():
                found = _read(path)
                if found is None:
                    found = make()
                    self._keep(path, found)
        return found

    @contextlib.contextmanager
    def _making(self) -> Iterator[None]:
        """Make other processes wait while this one makes an index.

        Not for long, and not where nothing can be written.
        """
        fd = -1
        try:
            for directory in (self._directory.parent, self._directory):
                make_dir(directory, exist_ok=True)
            fd = os.open(self._directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            take(fd, wait_s=_PATIENCE_S)
        except OSError:  # a vault that may only be read, or a full disk
            pass
        try:
            yield
        finally:
            if fd >= 0:
                os.close(fd)

    def _keep(self, path: Path, data: bytes) -> None:
        if not _WORTH_BYTES <= len(data) <= self._limit_bytes() // _KEPT:
            return
        with contextlib.suppress(OSError, HostError):  # then no other process has it
            write_file_atomically(path, data, durable=False)
            with os.scandir(self._directory) as entries:
                oldest_first = sorted((entry.stat(follow_symlinks=False).st_mtime_ns, entry.path) for entry in entries)
            for _, left in oldest_first[:-_KEPT]:
                os.unlink(left)


def _read(path: Path) -> bytes | None:
    """Read an index that is whole."""
    try:
        data = read_plain(path)
    except OSError:
        return None
    if hashlib.sha1(data[:-_CHECKSUM], usedforsecurity=False).digest() != data[-_CHECKSUM:]:
        return None
    with contextlib.suppress(OSError):  # another user's: only how long it stays depends on it
        os.utime(path)
    return data
