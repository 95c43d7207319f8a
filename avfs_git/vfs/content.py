"""Reading files of the merged view, whole or in pieces, from whichever layer holds them.

Decided here: where the bytes of a file come from, and what is held in memory of them: a large file of the lower
layer is copied to a file without a name before pieces of it are read. No file is read while the tree's lock is
held. Callers and assumptions are those of `vfs.view`.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator

from avfs_git.host.beneath import POOL, Descriptor, open_at
from avfs_git.host.durable import write_all
from avfs_git.vfs.inodes import Node
from avfs_git.vfs.lower import LowerEntry
from avfs_git.vfs.view import MergedView, fail

READ_CHUNK = 65_536
SPOOL_ABOVE = 1 << 20
"""Lower files larger than this are read piecewise from a hidden copy, so that no read holds one whole."""


class ReadingView(MergedView):
    """The merged view with the content of files."""

    def read(self, node: Node, size: int, offset: int) -> bytes:
        """Read a piece of a file; short only at its end."""
        with self._lock:
            if node.kind != stat.S_IFREG:
                raise fail(errno.EISDIR if node.is_dir else errno.EINVAL, node.name)
            entry = None if node.upper else node.lower
            held = None if entry is not None and self.lower.size_of(entry) <= SPOOL_ABOVE else self._readable(node)
        if held is not None:
            return read_at(held.fd, size, offset)
        if entry is None:
            raise fail(errno.ENOENT, node.name)
        return self.lower.read(entry)[offset : offset + size]

    def _readable(self, node: Node) -> Descriptor:
        if node.upper:
            return self._data_fd(node, write=False)
        entry = node.lower
        if entry is None:
            raise fail(errno.ENOENT, node.name)
        found = node.descriptor
        if found is None:
            found = Descriptor(self._spool(entry))
            POOL.keep(node, found)
        return found

    def _spool(self, entry: LowerEntry) -> int:
        """Copy a lower file to one without a name, which can be read at any place in bounded memory."""
        fd = self.upper.make_hidden_file()
        try:
            for piece in self.lower.stream(entry):
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
            return self.lower.read(entry)
        try:
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
        finally:
            os.close(fd)

    def stream(self, node: Node, chunk: int = 1 << 20) -> Iterator[bytes]:
        """Read a file in pieces, in bounded memory; what it is at the start is read, should it be replaced."""
        with self._lock:
            if node.kind != stat.S_IFREG:
                raise fail(errno.EISDIR if node.is_dir else errno.EINVAL, node.name)
            entry = None if node.upper else node.lower
            held = self._data_fd(node, write=False) if entry is None else None
        if held is None:
            assert entry is not None  # noqa: S101 - one of the two is there
            yield from self.lower.stream(entry)
            return
        offset = 0
        while data := os.pread(held.fd, chunk, offset):
            yield data
            offset += len(data)


def read_at(fd: int, size: int, offset: int) -> bytes:
    """Read a piece of an open file; short only at its end."""
    data = os.pread(fd, size, offset)
    while 0 < len(data) < size:
        more = os.pread(fd, size - len(data), offset + len(data))
        if not more:
            break
        data += more
    return data
