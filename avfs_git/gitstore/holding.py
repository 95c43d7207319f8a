"""Holding objects: keeping the sweep from removing what an operation is about to refer to.

Decided here: how writers and the sweep (`gitstore.objects.sweep`) exclude each other. An operation that finds an object
there, and makes a ref name it later, holds the objects from the first look to the last ref: `PackWriter` for as long as
it lives, and operations that move refs without writing objects (fetch, push, undo, fork) by `objects_held`.
`RefStore.update` checks each object once more. The sweep has the objects for itself while it removes files: it waits
for holders up to a limit, and new holders wait for it.

The lock is flock(2) on `avfs/prune.lock`, shared or exclusive, and ends with its holder. Processes that remove packs,
by joining them (`gitstore.objects.repack`) or by sweeping, exclude each other by `avfs/consolidate.lock`.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from avfs_git.host.files.closing import closing_fd
from avfs_git.host.files.durable import host_errors, make_dirs_durably
from avfs_git.host.files.modes import open_file
from avfs_git.host.locks.flocks import take

_NAME = "avfs/prune.lock"
_PACKS_NAME = "avfs/consolidate.lock"
_FLAGS = os.O_RDONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
_NOT_HELD = -1


def hold_objects(git_dir: Path) -> int:
    """Keep all objects of a repository where they are until `release_objects` is called with what this returns."""
    with host_errors("hold the objects of the vault"):
        try:
            fd = open_file(git_dir / _NAME, _FLAGS)
        except FileNotFoundError:
            return _NOT_HELD  # avfs has no directory here yet: nor has a sweeper been here
        try:
            fcntl.flock(fd, fcntl.LOCK_SH)
        except BaseException:
            os.close(fd)
            raise
        return fd


def release_objects(held: int) -> None:
    """Let go of what `hold_objects` holds."""
    if held != _NOT_HELD:
        with suppress(OSError):  # nothing was written there, and what it was held for may be done
            os.close(held)


@contextmanager
def objects_held(git_dir: Path) -> Iterator[None]:
    """Keep all objects of a repository where they are, for a block."""
    held = hold_objects(git_dir)
    try:
        yield
    finally:
        release_objects(held)


@contextmanager
def objects_to_oneself(git_dir: Path, *, wait_s: float) -> Iterator[bool]:
    """Keep processes from relying on objects, for a block; tell whether that was possible in so many seconds.

    The caller holds no objects itself.
    """
    with host_errors("lock the objects of the vault"):
        fd = open_file(git_dir / _NAME, _FLAGS)
    with closing_fd(fd):
        yield take(fd, wait_s=wait_s)


@contextmanager
def packs_to_oneself(git_dir: Path) -> Iterator[bool]:
    """Keep other processes from joining packs or sweeping, for a block; tell whether that was possible.

    Writers go on.
    """
    with host_errors("lock the packs"):
        make_dirs_durably(git_dir / "avfs", parents=False)
        fd = open_file(git_dir / _PACKS_NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC)
    with closing_fd(fd):
        yield take(fd)
