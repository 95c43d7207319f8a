"""Keeping objects from being swept away while somebody is about to refer to them.

Decided here: how those who write and whoever drops what is unreachable (`gitstore.objects.sweep`) exclude each other. An
operation that relies on an object being there, and makes a ref name it later, holds the objects from the first look to the last
ref: `PackWriter` does for as long as it lives, and what moves refs to objects without writing any does by `objects_held`: a
fetch, a push, an undo, a fork, and whatever is given a state by name. `RefStore.update` looks at each object once more.
The sweeper has them for itself while it removes files. It waits for whoever is at work, and gives up after a time; those who
want to write wait for it, for as long as removing files takes.

A flock(2) on `avfs/prune.lock`, shared or exclusive, each on an open file of its own: it ends with its holder. Those who take
packs away, by merging small ones (`gitstore.objects.packs`) or by sweeping, exclude each other by another one,
`avfs/consolidate.lock`.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from avfs_git.host.files.durable import host_errors, make_dirs_durably
from avfs_git.host.files.modes import open_file

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
    """Have nobody rely on objects, for a block; tell whether that was possible in so many seconds.

    The caller holds no objects itself.
    """
    with host_errors("lock the objects of the vault"):
        fd = open_file(git_dir / _NAME, _FLAGS)
    try:
        yield _lock(fd, time.monotonic() + wait_s)
    finally:
        os.close(fd)


@contextmanager
def packs_to_oneself(git_dir: Path) -> Iterator[bool]:
    """Keep other processes from merging packs or sweeping, for a block; tell whether that was possible. Writers go on."""
    with host_errors("lock the packs"):
        make_dirs_durably(git_dir / "avfs")
        fd = open_file(git_dir / _PACKS_NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC)
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True
    finally:
        os.close(fd)


def _lock(fd: int, deadline: float) -> bool:
    while True:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= deadline:
                return False
            time.sleep(0.02)
        else:
            return True
