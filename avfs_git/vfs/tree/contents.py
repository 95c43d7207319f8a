"""The contents of files: reading and writing, whole or in pieces, in whichever layer they are.

Decided here: where the bytes of a file come from, and which of them stay in memory. A large file of the lower layer is
fetched as a plain file before pieces of it are read: from the vault's cache, or else as a hidden copy. The last few
blobs of middle size stay in memory. A file that is written to is copied up first.

The server calls this by node, `vfs.tree.writing` by path. Any thread may; methods take the tree's lock, and read no
file of the lower layer while they have it. A change is on disk before it is reported.
"""

from __future__ import annotations

import errno
import os
import stat
import threading
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import nullcontext

from avfs_git.host.files.beneath import POOL, Descriptor, open_at, reopen, reopen_at
from avfs_git.host.files.closing import closing_fd
from avfs_git.host.files.durable import write_all
from avfs_git.host.files.ranges import INSERT_RANGE, KEEP_SIZE, PUNCH_HOLE, fallocate
from avfs_git.vfs.errnos import fail
from avfs_git.vfs.layer.blobcache import BlobCache
from avfs_git.vfs.layer.lower import FixedFile, LowerEntry
from avfs_git.vfs.tree.changes import Changes
from avfs_git.vfs.tree.inodes import Node
from avfs_git.vfs.tree.nodes import Nodes
from avfs_git.vfs.tree.steps import Steps
from avfs_git.vfs.values import SPOOL_ABOVE

READ_CHUNK = 65_536
_RECENT = 8
"""How many smaller blobs stay in memory while pieces of them are read: at most 8 MiB."""


class Contents:
    """The contents of a tree's files."""

    def __init__(self, nodes: Nodes, changes: Changes, steps: Steps, cache: BlobCache | None) -> None:
        self._nodes = nodes
        self._lock = nodes.lock
        self._lower = nodes.lower
        self._upper = nodes.upper
        self._dir_fd = nodes.dir_fd
        self._data_fd = nodes.data_fd
        self._changes = changes
        self._bring_up = steps.bring_up
        self._cache = cache
        self._quota = nodes.upper.quota
        self._recent: OrderedDict[LowerEntry, bytes] = OrderedDict()
        self._fetching = threading.Lock()

    def read(self, node: Node, size: int, offset: int) -> bytes:
        """Read a piece of a file that a program has open, whatever its mode is now; short only at its end."""
        found = self.read_now(node, size, offset)
        if found is not None:
            return found
        entry = node.lower
        if isinstance(entry, FixedFile):
            if self._nodes.before_git is not None:
                self._nodes.is_git_behind = not self._nodes.before_git()
            return entry.content[offset : offset + size]
        if entry is None or node.upper:  # brought up meanwhile
            return self.read(node, size, offset)
        try:
            held = self.fetch(node, entry)
        except OSError:  # no room for a copy: slowly, then, but a full disk is no reason not to be read
            return self._read_past(entry, size, offset)
        return read_at(held.fd, size, offset)

    def read_now(self, node: Node, size: int, offset: int) -> bytes | None:
        """Read a piece of a file as `read` does; None if that takes long, as taking a big blob out of its pack does."""
        with self._lock:
            if node.kind != stat.S_IFREG:
                raise fail(errno.EISDIR if node.is_dir else errno.EINVAL, node.name)
            entry = None if node.upper else node.lower
            held = self._data_fd(node, write=False, is_open=True) if node.upper else node.descriptor
        if held is not None:
            held.used = True
            return read_at(held.fd, size, offset)
        if entry is None:
            raise fail(errno.ENOENT, node.name)
        if node is self._nodes.git_file:
            return None
        return self._read_small(entry, size, offset) if self._lower.size_of(entry) <= SPOOL_ABOVE else None

    def _read_small(self, entry: LowerEntry, size: int, offset: int) -> bytes:
        """Read a piece of a blob that is taken out of its pack whole.

        The last few that are read in pieces stay in memory.
        """
        recent = self._recent
        data = recent.get(entry)
        if data is None:
            data = self._lower.read(entry)
            if len(data) <= size:
                return data[offset:] if offset else data
            # Without a lock: at worst another thread keeps the same blob, or drops one that is read again.
            recent[entry] = data
            while len(recent) > _RECENT:
                try:
                    recent.popitem(last=False)
                except KeyError:
                    break
        return data[offset : offset + size]

    def _read_past(self, entry: LowerEntry, size: int, offset: int) -> bytes:
        found: list[bytes] = []
        for piece in self._lower.stream(entry):
            part = piece[offset : offset + size]
            offset = max(0, offset - len(piece))
            size -= len(part)
            found.append(part)
            if not size:
                break
        return b"".join(found)

    def fetch(self, node: Node, entry: LowerEntry) -> Descriptor:
        """Open a file of the lower layer as one that can be read at any place in bounded memory.

        Called without the lock. Files are fetched one after the other, so that none is fetched twice.
        """
        with self._fetching:
            found = node.descriptor
            if found is not None and not node.upper:
                return found
            found = Descriptor(self._spool(entry))
            with self._lock:
                if not node.upper and node.lower is entry:
                    POOL.keep(node, found)
        return found

    def _spool(self, entry: LowerEntry) -> int:
        if self._cache is not None and entry.oid is not None:
            size = self._lower.size_of(entry)
            return self._cache.open(entry.oid, size, self._lower.stream(entry), share=size > SPOOL_ABOVE)
        fd = self._upper.make_hidden_file()
        try:
            for piece in self._lower.stream(entry):
                write_all(fd, piece)
        except BaseException:
            os.close(fd)
            raise
        return fd

    def read_all(self, node: Node) -> bytes:
        """Read a whole file."""
        with self._lock:
            if node.kind != stat.S_IFREG:
                raise fail(errno.EISDIR if node.is_dir else errno.EINVAL, node.name)
            if not node.upper:
                entry = node.lower
                if entry is None:
                    raise fail(errno.ENOENT, node.name)
                fd = -1
            elif node.held is not None or node.parent is None:
                held = self._data_fd(node, write=False)
                fd = os.dup(held.fd)
            else:
                directory = self._dir_fd(node.parent)
                fd = open_at(directory.fd, node.name, os.O_RDONLY | os.O_NONBLOCK)
        if fd < 0:
            assert entry is not None  # noqa: S101 - looked at under the lock
            return self._lower.read(entry)
        with closing_fd(fd):
            data = os.pread(fd, READ_CHUNK, 0)
            if len(data) < READ_CHUNK:
                return data
            pieces = [data]
            offset = len(data)
            # The size is a hint: the file may grow meanwhile, and its end is where nothing more comes.
            while data := os.pread(fd, max(READ_CHUNK, os.fstat(fd).st_size - offset), offset):
                pieces.append(data)
                offset += len(data)
            return b"".join(pieces)

    def stream(self, node: Node, *, is_open: bool = False) -> Iterator[bytes]:
        """Read a file in pieces; a file that replaces it meanwhile is not read.

        `is_open`: a program has the file open, so that its mode is not checked.
        """
        with self._lock:
            if node.kind != stat.S_IFREG:
                raise fail(errno.EISDIR if node.is_dir else errno.EINVAL, node.name)
            entry = None if node.upper else node.lower
            held = self._data_fd(node, write=False, is_open=is_open) if entry is None else None
        if held is None:
            assert entry is not None  # noqa: S101 - one of the two is there
            yield from self._lower.stream(entry)
            return
        offset = 0
        while data := os.pread(held.fd, 1 << 20, offset):
            yield data
            offset += len(data)

    def write(self, node: Node, data: bytes | memoryview, offset: int) -> int:
        """Write a piece of a file that a program has open, whatever its mode is now; give the number of bytes written.

        It is less than all only if the disk or the quota refused the rest: as with pwrite(2), the next write fails
        then.
        """
        with self._lock:
            held = open_data(node) or self.writable(node, is_open=True)
            quota = self._quota
            before = -1
            if quota.limits is not None:
                before = os.fstat(held.fd).st_size
                data = data[: quota.room(before, offset, len(data))]
            size = len(data)
            done = 0
            try:
                done = os.pwrite(held.fd, data, offset) if size else 0
                while done < size:
                    try:
                        done += os.pwrite(held.fd, memoryview(data)[done:], offset + done)
                    except OSError:
                        break
            finally:
                # What was written before the disk was full is in the file.
                if before >= 0 and done:
                    quota.add(grows=max(0, offset + done - before))
                changes = self._changes
                if node is not changes.reported or changes.observer is not None:
                    changes.of_node(node)
            return done

    def append(self, node: Node, data: bytes | memoryview) -> int:
        """Write at the end of a file; give the number of bytes written, as `write`."""
        with self._lock:
            held = self.writable(node)
            end = os.fstat(held.fd).st_size
            self._quota.check(grows=len(data), size=end + len(data))  # not a part of it, as a program's write
            return self.write(node, data, end)

    def writable(self, node: Node, *, is_open: bool = False) -> Descriptor:
        """Copy a file up and give a descriptor to write to. Called with the lock."""
        if node.kind != stat.S_IFREG:
            raise fail(errno.EISDIR if node.is_dir else errno.EINVAL, node.name)
        if not node.upper:
            self._bring_up(node)
        return self._data_fd(node, write=True, is_open=is_open)

    def truncate(self, node: Node, size: int) -> None:
        """Set the size of a file, whatever its mode is."""
        with self._lock:
            if size or node.upper or node.kind != stat.S_IFREG:
                held = self.writable(node, is_open=True)
                self.resize(held.fd, size)
            else:
                self._bring_up(node, with_data=False)
            self._changes.of_node(node)

    def resize(self, fd: int, size: int) -> None:
        """Set the size of an open file of the upper layer. Called with the lock."""
        quota = self._quota
        if quota.limits is None:
            os.ftruncate(fd, size)
            return
        grows = size - os.fstat(fd).st_size
        quota.check(grows=grows, size=size)
        os.ftruncate(fd, size)
        quota.add(grows=grows)

    def allocate(self, node: Node, mode: int, offset: int, length: int) -> None:
        """Change the space that a range of a file takes, as fallocate(2) does.

        Raises:
            OSError: EOPNOTSUPP where a limit is set and the space would not show in the size of the file.
        """
        quota = self._quota
        with self._lock:
            held = self.writable(node, is_open=True)
        try:
            if quota.limits is None:
                fallocate(held.fd, mode, offset, length)
                return
            with self._lock:
                before = os.fstat(held.fd).st_size
                end = before + length if mode & INSERT_RANGE else offset + length
                if end > before and not mode & PUNCH_HOLE:
                    if mode & KEEP_SIZE:
                        raise fail(errno.EOPNOTSUPP, node.name)
                    quota.check(grows=end - before, size=end)
                fallocate(held.fd, mode, offset, length)
                quota.add(grows=os.fstat(held.fd).st_size - before)
        finally:
            self.mark_changed(node)

    def copy_range(self, source: Node, offset: int, target: Node, target_offset: int, length: int) -> int:
        """Copy a range of a file into another, as copy_file_range(2) does; give the number of bytes copied."""
        # First: if both are one file, it is copied up before it is read.
        out = self.open_file(target, os.O_RDWR, is_open=True)
        try:
            guard = self._lock if self._quota.limits is not None else nullcontext()
            with closing_fd(self.open_file(source, os.O_RDONLY, is_open=True)) as into, guard:
                before = os.fstat(out).st_size
                left = max(0, os.fstat(into).st_size - offset)
                length = self._quota.room(before, target_offset, min(length, left))
                done = os.copy_file_range(into, out, length, offset, target_offset)
                self._quota.add(grows=max(0, target_offset + done - before) if done else 0)
                return done
        finally:
            os.close(out)
            self.mark_changed(target)

    def open_file(self, node: Node, flags: int, *, is_open: bool = False) -> int:
        """Open a file; the caller closes the descriptor.

        `is_open`: a program has it open, so that its mode is not checked.

        A file opened for writing is copied up and reported as changed now; a caller that writes through the descriptor
        later reports that with `mark_changed`. A lower file opened for reading stays as it is now, even if it is
        written to.
        """
        writes = flags & os.O_ACCMODE != os.O_RDONLY or bool(flags & os.O_TRUNC)
        flags &= ~(os.O_CREAT | os.O_EXCL)
        entry = node.lower
        if not writes and not node.upper and entry is not None and node.kind == stat.S_IFREG:
            held = self.fetch(node, entry)
            return os.dup(held.fd)
        with self._lock:
            if node.kind != stat.S_IFREG:
                raise fail(errno.EISDIR if node.is_dir else errno.ENXIO, node.name)
            if flags & os.O_TRUNC:
                self._quota.distrust()
            if writes:
                self._bring_up(node, with_data=not flags & os.O_TRUNC)
            if node.held is not None:
                fd = reopen(node.held.fd, flags)
            elif node.parent is None:
                raise fail(errno.ENOENT, node.name)
            else:
                directory = self._dir_fd(node.parent)
                fd = (reopen_at if is_open else open_at)(directory.fd, node.name, flags)
            if writes:
                self._changes.of_node(node)
            return fd

    def seek(self, node: Node, offset: int, whence: int) -> int:
        """Find the next data or hole of a file, as lseek(2) does with SEEK_DATA and SEEK_HOLE."""
        with self._lock:
            if not node.upper:  # stored whole: no holes but the one behind its end
                size = 0 if node.lower is None else self._lower.size_of(node.lower)
                if not 0 <= offset < size:
                    raise fail(errno.ENXIO, node.name)
                return size if whence == os.SEEK_HOLE else offset
            fd = self.open_file(node, os.O_RDONLY, is_open=True)
        with closing_fd(fd):
            return os.lseek(fd, offset, whence)

    def mark_changed(self, node: Node) -> None:
        """Report that the content of a file was changed through a descriptor."""
        with self._lock:
            self._changes.of_node(node)

    def sync(self, node: Node, *, data_only: bool = False) -> None:
        """Force a file or directory of the upper layer to disk, as fsync(2) does."""
        with self._lock:
            if not node.upper:
                return
            if node.is_dir:
                directory = self._dir_fd(node)
                held = self._upper.hold(open_at(directory.fd, b".", os.O_RDONLY | os.O_DIRECTORY))
            elif node.kind == stat.S_IFREG:
                held = self._data_fd(node, write=False, is_open=True)
            else:
                return
        (os.fdatasync if data_only else os.fsync)(held.fd)


def open_data(node: Node) -> Descriptor | None:
    """Give the descriptor through which a file of the upper layer is written, if it is open already."""
    data = node.descriptor
    if data is None or not data.writable or node.held is not None or not node.upper:
        return None
    data.used = True
    return data


def read_at(fd: int, size: int, offset: int) -> bytes:
    """Read a piece of an open file; short only at its end."""
    data = os.pread(fd, size, offset)
    while 0 < len(data) < size:
        more = os.pread(fd, size - len(data), offset + len(data))
        if not more:
            break
        data += more
    return data
