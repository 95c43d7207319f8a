"""Storing a file while programs may write to it: the blob is the file's content at one moment.

Decided here: when a file counts as unchanged while it was read, and how often a read is tried again. Captures call this
with the workspace lock held; programs in a live tree hold no lock. Reads one file, writes one object.

If the times of a file stay the same during a read, no write began meanwhile, provided that:

- no write was under way, which moved the times when it began (`host.files.flush.await_writes`);
- the clock of the file system has moved on since the last write. Where it may not have (kernels before 6.13 count in
  ticks), the file is read twice, and both reads must be equal.

A log that a program keeps appending to is never unchanged for that long. Its content up to one size is stored: it is
read twice up to there, and both reads must be equal. A file that a program keeps writing in place is read again until a
read falls between two writes.
"""

from __future__ import annotations

import os
import stat
import time
from typing import Final

from avfs_git.errors import FileChanging
from avfs_git.faults import reach
from avfs_git.gitstore.formats.packfile import KIND_BLOB
from avfs_git.gitstore.objects.blobfile import SizeChanged, hash_file
from avfs_git.gitstore.source import ObjectSink
from avfs_git.host.files.closing import closing_fd
from avfs_git.host.files.flush import await_writes
from avfs_git.paths import Oid, TreePath, join
from avfs_git.values import NamedTuple
from avfs_git.vfs.scan.scan import Layer
from avfs_git.vfs.scan.statcache import RACY_NS

WHOLE_READ_MAX = 1 << 20
"""Files up to this size are read in one piece; larger ones stream."""
READ_TRIES = 5
"""How often a file is read without a pause."""
PATIENT_TRIES: Final = 200
"""How often a file of up to `_HELD_MAX` is read after that, with pauses: up to two seconds in all."""
_PAUSE_S: Final = 0.005
_HELD_MAX: Final = 64 << 20
"""A file up to this size that changed while it was stored is read into memory next: that takes less time."""


class KnownContent(NamedTuple):
    """The blob that a file was made from, valid until the file is replaced or written to."""

    oid: Oid
    ino: int
    mtime_ns: int

    @classmethod
    def of_file(cls, oid: Oid, found: os.stat_result) -> KnownContent:
        """Note what a file was made from, given its stat right after."""
        return cls(oid, found.st_ino, found.st_mtime_ns)

    def is_of(self, found: os.stat_result) -> bool:
        """Whether a file is this one, and nothing was written to it."""
        return (self.ino, self.mtime_ns) == (found.st_ino, found.st_mtime_ns)


class Reading(NamedTuple):
    """A file as it was at one moment."""

    oid: Oid
    stat: os.stat_result
    """Its stat from the listing, if that still holds: the same object then."""
    xattrs: tuple[tuple[bytes, bytes], ...]


def read_steadily(
    layer: Layer,
    directory: TreePath,
    name: bytes,
    before: os.stat_result,
    sink: ObjectSink,
    known: KnownContent | None,
    *,
    tries: int = READ_TRIES + PATIENT_TRIES,
) -> Reading:
    """Store a file of a layer as a blob.

    If `known`, the blob that it was made from, still holds, the file is not read.

    Raises:
        FileChanging: If it changed each time while it was read, or is no file any more.
        LayerNotUnderstood: If it carries an unknown mark of overlayfs.
    """
    path = join(directory, name)
    with closing_fd(layer.open_listed(directory, name)) as fd:
        now = before
        for turn in range(1, tries + 1):
            oid: Oid | None = None
            held: bytes | None = None
            if known is not None and known.is_of(now):
                oid = known.oid
            elif now.st_size <= (WHOLE_READ_MAX if turn == 1 else _HELD_MAX):
                held = _hold(fd, now)
            else:
                oid = _store(fd, now, sink)
            reach("capture.file_read")
            after = os.fstat(fd)
            if _is_unchanged(now, after):
                if held is not None:
                    oid = sink.add(KIND_BLOB, held)
                if oid is not None:
                    # As it was listed, if it still is that file: then its caller knows it by its fingerprint.
                    return Reading(oid, now if now.st_ino == after.st_ino else after, layer.file_xattrs(fd, path))
            if not stat.S_ISREG(after.st_mode):
                break  # another kind of entry has its name: reading a device gives no content
            now = after
            if turn == READ_TRIES:
                oid = _store_growing(fd, now, sink)
                if oid is not None:
                    return Reading(oid, now, layer.file_xattrs(fd, path))
            if turn >= READ_TRIES:
                if now.st_size > _HELD_MAX:
                    break
                time.sleep(_PAUSE_S)
                now = os.fstat(fd)
        raise FileChanging(path)


def _is_unchanged(before: os.stat_result, after: os.stat_result) -> bool:
    return (
        before.st_ctime_ns == after.st_ctime_ns
        and before.st_mtime_ns == after.st_mtime_ns
        and before.st_size == after.st_size
        and before.st_mode == after.st_mode
    )


def _hold(fd: int, now: os.stat_result) -> bytes | None:
    """Read a file that should be what its stat says; None if it is not."""
    await_writes(fd)
    held = os.pread(fd, now.st_size + 1, 0)
    if len(held) != now.st_size:
        return None
    if now.st_ctime_ns > time.time_ns() - RACY_NS:
        await_writes(fd)
        if os.pread(fd, now.st_size + 1, 0) != held:
            return None
    return held


def _store(fd: int, now: os.stat_result, sink: ObjectSink) -> Oid | None:
    """Store a file that should be what its stat says; None if it has another size."""
    if 0 <= (age_ns := time.time_ns() - now.st_ctime_ns) < RACY_NS:
        time.sleep((RACY_NS - age_ns) / 1e9)
    await_writes(fd)
    os.lseek(fd, 0, os.SEEK_SET)
    try:
        return sink.add_file(fd, now.st_size)
    except SizeChanged:
        return None


def _store_growing(fd: int, now: os.stat_result, sink: ObjectSink) -> Oid | None:
    """Store what a file held when it was found to have a size; None if it changes in other ways than by growing."""
    try:
        first = hash_file(fd, now.st_size, goes_on=True)
        # A write that is under way would leave the same half of itself to both readings.
        await_writes(fd)
        if os.fstat(fd).st_mode != now.st_mode:
            return None
        oid = sink.add_file(fd, now.st_size, goes_on=True)
    except SizeChanged:
        return None
    return oid if oid == first else None
