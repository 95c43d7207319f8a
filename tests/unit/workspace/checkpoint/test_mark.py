"""What becomes of an operation when the disk takes nothing more into the lock file of its workspace."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from avfs_git import Avfs
from avfs_git.errors import HostError
from avfs_git.model import Warning

pytestmark = pytest.mark.needs("git", "whiteout", "user-xattrs")


@contextmanager
def _refusing(start: int) -> Iterator[None]:
    """Refuse, from the n-th on, each write of a counter into a lock file; as a disk does that fails or is read-only."""
    seen = 0
    write = os.pwrite

    def refuse(fd: int, data: bytes, offset: int) -> int:
        nonlocal seen
        if os.readlink(f"/proc/self/fd/{fd}").endswith("/lock") and offset < 64:
            seen += 1
            if seen >= start:
                raise OSError(errno.EROFS, os.strerror(errno.EROFS))
        return write(fd, data, offset)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(os, "pwrite", refuse)
        yield


def _tries(act: Callable[[], object]) -> bool:
    try:
        act()
    except HostError:
        return False
    return True


@pytest.mark.parametrize("start", range(1, 14))
def test_what_stands_is_no_failure(tmp_path: Path, start: int) -> None:
    """What is recorded is a success, with a warning; what cannot begin fails as anything does, and changes nothing."""
    with Avfs(tmp_path) as avfs, avfs.create_vault("v") as vault, vault.fork("work") as work:
        work.write("a", b"one\n")
        work.checkpoint("one")
        work.write("a", b"two\n")
        told: list[Warning] = []
        with _refusing(start):
            is_saved = _tries(lambda: told.extend(work.checkpoint("two").warnings))
            is_restored = _tries(lambda: work.restore("one"))

    assert [warning.code for warning in told] in ([], ["cache.not_written"])
    with Avfs(tmp_path) as avfs, avfs.open_vault("v").workspace("work") as work:
        labels = [label for checkpoint in work.list_checkpoints() for label in checkpoint.labels]
        assert ("two" in labels) == is_saved
        assert work.read("a") == (b"one\n" if is_restored else b"two\n")
        work.write("b", b"more\n")
        assert work.checkpoint().outcome == "created"
        assert work.status().clean
