"""What git's index may hold besides plain entries, told without taking it apart.

Decided here: one search over the bytes of an index, where it is another than the last time, tells whether a caller has
to read its entries. It may say so of an index that has none such, and never the reverse.
"""

from __future__ import annotations

import os
from contextlib import suppress
from functools import lru_cache
from pathlib import Path

from avfs_git.gitstore.formats.index import is_plain_format, may_be_flagged
from avfs_git.gitstore.repofile import open_plain_file
from avfs_git.host.files.durable import host_errors
from avfs_git.values import NamedTuple


class IndexMarks(NamedTuple):
    """What an index may hold."""

    leaves_out: bool = False
    """Paths that git was told to leave out of the working tree, or not to look at."""
    is_unmerged: bool = False
    """Paths in conflict."""


def look_for_marks(index: Path) -> IndexMarks:
    """Tell what an index may hold; without one, nothing. Reads it where it is another than the last time.

    Raises:
        HostError: If the disk fails.
    """
    with host_errors(f"read '{index}'"), suppress(FileNotFoundError):
        status = os.stat(index, follow_symlinks=False)
        return _look(index, (status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns))
    return IndexMarks()


@lru_cache(maxsize=64)
def _look(index: Path, _state: tuple[int, ...]) -> IndexMarks:
    shared = [name for name in os.listdir(index.parent) if name.startswith("sharedindex.")]
    is_plain, is_flagged = not shared, False
    for name in (index.name, *shared):
        with open_plain_file(index.parent / name) as file:
            data = file.read()
        is_plain, is_flagged = is_plain and is_plain_format(data), is_flagged or may_be_flagged(data)
    return IndexMarks(not is_plain or is_flagged, is_flagged)
