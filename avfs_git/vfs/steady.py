"""Reading a file whole while others may write to it: what is stored was its content at one moment.

Decided here: when a file counts as unchanged while it was read, and how often it is tried again. Called by captures,
with the workspace lock held; programs in a live tree hold no lock. Reads one file, writes one object.

A file that somebody goes on appending to, as a log, is never unchanged for that long. What is stored of it is what it held when
it had a certain size: what was read up to there is read once more, and has to be the same.
"""

from __future__ import annotations

import os
import stat
from typing import NamedTuple

from avfs_git.errors import FileChanging
from avfs_git.faults import reach
from avfs_git.gitstore.objects import KIND_BLOB
from avfs_git.gitstore.blobfile import SizeChanged
from avfs_git.gitstore.source import ObjectSink
from avfs_git.paths import Oid, TreePath, join
from avfs_git.vfs.scan import Layer

WHOLE_READ_MAX = 1 << 20
"""Files up to this size are read in one piece; larger ones stream."""
READ_TRIES = 5
_GROWING_MAX = 64 << 20
"""Files up to this size may grow while they are read: they are copied into memory for that."""


class KnownContent(NamedTuple):
    """A blob that a file was made from, good for as long as the file is the same one and was not written to."""

    oid: Oid
    ino: int
    mtime_ns: int

    @classmethod
    def of_file(cls, oid: Oid, found: os.stat_result) -> KnownContent:
        """Note what a file was made from, given its stat right after."""
        return cls(oid, found.st_ino, found.st_mtime_ns)


class Reading(NamedTuple):
    """A file as it was at one moment."""

    oid: Oid
    stat: os.stat_result
    """What it was listed as, where that still holds: the same object then."""
    xattrs: tuple[tuple[bytes, bytes], ...]


def read_steadily(
    layer: Layer, directory: TreePath, name: bytes, before: os.stat_result, sink: ObjectSink, known: KnownContent | None
) -> Reading:
    """Store a file of a layer as a blob.

    Args:
        layer: Where it is.
        directory: Its directory.
        name: Its name there.
        before: Its stat when it was listed.
        sink: What takes the blob.
        known: What it was made from, if that is known; it is not read then.

    Raises:
        FileChanging: If it changed each time while it was read, or is no file any more.
        LayerNotUnderstood: If it carries an unknown mark of overlayfs.
    """
    fd = layer.open_listed(directory, name)
    try:
        now = before
        for _ in range(READ_TRIES):
            if known is not None and (known.ino, known.mtime_ns) == (now.st_ino, now.st_mtime_ns):
                oid: Oid | None = known.oid
            else:
                oid = _store(fd, now.st_size, sink)
            reach("capture.file_read")
            after = os.fstat(fd)
            if (
                oid is not None
                and now.st_ctime_ns == after.st_ctime_ns
                and now.st_mtime_ns == after.st_mtime_ns
                and now.st_size == after.st_size
                and now.st_mode == after.st_mode
            ):
                # As it was listed, if it still is that file: then its caller knows it by its fingerprint.
                same = now if now.st_ino == after.st_ino else after
                return Reading(oid, same, layer.file_xattrs(fd, join(directory, name)))
            if not stat.S_ISREG(after.st_mode):
                break  # something else has its name: what can be read of a device, say, is nobody's content
            now = after
        else:
            oid = _store_growing(fd, now, sink)
            if oid is not None:
                return Reading(oid, now, layer.file_xattrs(fd, join(directory, name)))
        raise FileChanging(join(directory, name))
    finally:
        os.close(fd)


def _store(fd: int, size: int, sink: ObjectSink) -> Oid | None:
    """Store a file that should have that size; None if it has not."""
    if size > WHOLE_READ_MAX:
        os.lseek(fd, 0, os.SEEK_SET)
        try:
            return sink.add_file(fd, size)
        except SizeChanged:
            return None
    data = os.pread(fd, size + 1, 0)
    return sink.add(KIND_BLOB, data) if len(data) == size else None


def _store_growing(fd: int, now: os.stat_result, sink: ObjectSink) -> Oid | None:
    """Store what a file held when it was found to have a size; None if it changes in other ways than by growing."""
    size = now.st_size
    if size > _GROWING_MAX:
        return None
    held = os.pread(fd, size, 0)
    after = os.fstat(fd)
    if len(held) < size or after.st_size < size or after.st_mode != now.st_mode or os.pread(fd, size, 0) != held:
        return None
    return sink.add(KIND_BLOB, held)
