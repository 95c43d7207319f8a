"""Temporary directories that are locked while they are used.

Decided here: mounts in a directory of a killed process go with it. `host.locks.making` decides which are in use.
Any number of threads and processes.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from avfs_git.host.locks.making import directory_filled, remove_abandoned
from avfs_git.lazy import LazyModule

if TYPE_CHECKING:
    import tempfile
else:
    tempfile = LazyModule("tempfile")  # opening a vault, which every command does, does not need it

_PREFIX = ".avfs-locked-"
"""Of directories that are locked while they are used, and of no others."""


@contextmanager
def locked_directory(parent: Path | None = None) -> Iterator[Path]:
    """Make a private directory for the time of a block, by default among the temporary ones.

    Once a process, removes those whose processes have died first. The lock is not on the directory itself but on the
    one above it: the block may lock it, and mount there.
    """
    parent = Path(tempfile.gettempdir()) if parent is None else parent
    _remove_left(parent)
    with directory_filled(parent, _PREFIX, mode=0o700) as place:
        (place / "in").mkdir()
        yield place / "in"


@cache
def _remove_left(parent: Path) -> None:
    """Remove what processes of this user that died left in a directory; once a process."""
    remove_abandoned(parent, _PREFIX, first=_unmount_in)


def _unmount_in(place: Path) -> None:
    from avfs_git.host.mounts.mounts import find_mount, list_mounts_below, unmount  # noqa: PLC0415 - only after a kill

    if os.lstat(place).st_uid != os.geteuid():
        raise PermissionError(f"{place} is another user's")
    found = place.resolve()
    for path in list_mounts_below(found):
        mounted = find_mount(found / os.fsdecode(path))
        if mounted is not None:
            unmount(mounted, lazy=True)
