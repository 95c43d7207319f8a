"""Temporary directories that are locked while they are used.

Decided here: that the lock tells which are in use. A killed process leaves its directory unlocked, and the next process that
makes one at the same place removes it, with what is mounted in it. Any number of threads and processes.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from avfs_git.errors import AvfsError
from avfs_git.host.files.closing import closing_fd
from avfs_git.host.files.removal import remove_tree
from avfs_git.host.locks.flocks import take
from avfs_git.lazy import LazyModule

if TYPE_CHECKING:
    import tempfile
else:
    tempfile = LazyModule("tempfile")  # opening a vault, which every command does, does not need it

_PREFIX = ".avfs-locked-"
"""Of directories that are locked while they are used, and of no others."""
_PATIENCE_S = 10.0


@contextmanager
def locked_directory(parent: Path | None = None) -> Iterator[Path]:
    """Make a private directory for the time of a block, by default among the temporary ones.

    Once a process, removes those whose processes have died first. The lock is not on the directory itself but on the one above
    it: the block may lock it, and mount there.
    """
    parent = Path(tempfile.gettempdir()) if parent is None else parent
    _remove_left(parent)
    while True:
        place = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=parent))
        try:
            fd = os.open(place, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except FileNotFoundError:  # another process found it not locked yet
            continue
        try:
            if _lock(fd) and place.exists():
                (place / "in").mkdir()
                yield place / "in"
                return
        finally:
            with suppress(OSError):
                remove_tree(place)
            os.close(fd)


def _lock(fd: int) -> bool:
    """Lock a directory, from which another process may be about to remove it; tell whether that was possible."""
    try:
        return take(fd, wait_s=_PATIENCE_S)
    except OSError:  # a file system without locks: no process finds it unlocked either
        return True


@cache
def _remove_left(parent: Path) -> None:
    """Remove what processes of this user that died left in a directory; once a process."""
    with suppress(OSError):
        for name in os.listdir(parent):
            if name.startswith(_PREFIX):
                with suppress(OSError, AvfsError):
                    _remove_unlocked(parent / name)


def _remove_unlocked(place: Path) -> None:
    from avfs_git.host.mounts.mounts import find_mount, list_mounts_below, unmount  # noqa: PLC0415 - only after a kill

    with closing_fd(os.open(place, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)) as fd:
        if os.fstat(fd).st_uid == os.geteuid() and take(fd):
            found = place.resolve()
            for path in list_mounts_below(found):
                mounted = find_mount(found / os.fsdecode(path))
                if mounted is not None:
                    unmount(mounted, lazy=True)
            remove_tree(place)
