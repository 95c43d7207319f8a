"""A file of the host as the content of a blob: read, or only hashed.

Decided here: that a file counts as read when it ends where its caller said; a caller that expects more behind that gets
it up to there. Safe from any thread. A file that is written to at the same length is not noticed here: see
`vfs.scan.steady`.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING

from avfs_git.gitstore.formats.packfile import CHUNK, KIND_BLOB
from avfs_git.gitstore.objects.store import hash_object
from avfs_git.paths import Oid

if TYPE_CHECKING:
    from hashlib import _Hash


_PIECE = 64 << 10
"""Memory for larger pieces comes from the system each time, and other threads wait for that."""


class SizeChanged(ValueError):
    """A file was not as long as its caller said: it is being written to."""


def start_blob_hash(size: int) -> _Hash:
    """Begin the hash that becomes the id of a blob of that size."""
    return hashlib.sha1(b"blob %d\0" % size, usedforsecurity=False)


def hash_file(fd: int, size: int, *, goes_on: bool = False) -> Oid:
    """Compute the id that the first `size` bytes of a file have as a blob, in bounded memory.

    With `goes_on`, there may be more.

    Raises:
        SizeChanged: If the file ends earlier, or goes on and may not.
    """
    if size <= CHUNK:
        return hash_object(KIND_BLOB, read_whole(fd, size, goes_on=goes_on))
    hasher = start_blob_hash(size)
    for data in read_pieces(fd, size, goes_on=goes_on):
        hasher.update(data)
    return Oid(hasher.digest())


def read_whole(fd: int, size: int, *, goes_on: bool) -> bytes:
    """Read a file of that size, which is small, from its start."""
    data = os.pread(fd, size if goes_on else size + 1, 0)
    if len(data) != size:
        raise SizeChanged(f"a file has {len(data)} bytes where {size} were expected")
    return data


def read_pieces(fd: int, size: int, *, goes_on: bool) -> Iterator[bytes]:
    """Read a file of that size, from its start, in pieces of at most 64 KiB.

    Raises:
        SizeChanged: If the file ends earlier, or goes on and may not; it is known with the last piece.
    """
    end = size if goes_on else size + 1
    position = 0
    while position < end and (data := os.pread(fd, min(_PIECE, end - position), position)):
        position += len(data)
        if position > size:
            break
        yield data
    if position != size:
        raise SizeChanged(f"a file has {'more' if position > size else position} bytes where {size} were expected")
