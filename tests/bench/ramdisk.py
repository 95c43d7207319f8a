"""A journaled ext4 in memory, on which the work that waits for the disk is measured once more.

Decided here: what that file system is, and where it can be had: as root, with loop devices and a tmpfs that has the
room. Its figures tell what the code costs on any disk from what this machine's disk adds. Nothing of it is left behind.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.capabilities import find_tool
from tests.support.powercut import image

_MEMORY = Path("/dev/shm")
_SIZE = 8 << 30
"""Of the file system, which is sparse."""
_ROOM = 6 << 30
"""What has to be free in memory."""


@contextmanager
def journaled_in_ram() -> Iterator[Path | None]:
    """Give a directory on such a file system, for as long as this lasts; None where there can be none."""
    if os.geteuid() or find_tool("mkfs.ext4") is None or not Path("/dev/loop-control").exists() or not _has_room():
        yield None
        return
    with tempfile.TemporaryDirectory(prefix="avfs-bench-", dir=_MEMORY) as name:
        # All of it made now: what the kernel would do later in the background would be measured with the rest.
        options = ("-O", "has_journal", "-E", "lazy_itable_init=0,lazy_journal_init=0")
        with image("ext4", Path(name), size=_SIZE, options=options) as disk:
            yield disk.point


def _has_room() -> bool:
    return _MEMORY.is_dir() and shutil.disk_usage(_MEMORY).free >= _ROOM
