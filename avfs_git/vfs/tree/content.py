"""Reading files of the merged view, whole or in pieces, from whichever layer holds them.

Decided here: where the bytes of a file come from, and what is held in memory of them. A large file of the lower layer
is fetched as a plain file before pieces of it are read, from the vault's cache or else as a hidden copy; the last few
of middle size stay in memory. No file is read while the tree's lock is held. Callers and assumptions are those of
`vfs.tree.view`.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator

from avfs_git.host.files.beneath import POOL, Descriptor, open_at
from avfs_git.host.files.durable import write_all
from avfs_git.vfs.layer.lower import FixedFile, LowerEntry
from avfs_git.vfs.tree.inodes import Node
from avfs_git.vfs.tree.pins import PinningView
from avfs_git.vfs.tree.view import fail

READ_CHUNK = 65_536
SPOOL_ABOVE = 1 << 20
"""Lower files larger than this are read piecewise from a plain file, so that no read holds one whole."""
_RECENT = 8
"""How many blobs that are not larger are kept in memory while pieces of them are read: at most 8 MiB."""


class ReadingView(PinningView):
    """The merged view with the content of files."""

    def read(self, node: Node, size: int, offset: int) -> bytes:
        """Read a piece of a file that somebody has open, whatever its mode is now; short only at its end."""
        found = self.read_now(node, size, offset)
        if found is not None:
            return found
        entry = node.lower
        if isinstance(entry, FixedFile):
            if self._before_git is not None:
                self._before_git()
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
            held = self._data_fd(node, write=False, judged=True) if node.upper else node.descriptor
        if held is not None:
            held.used = True
            return read_at(held.fd, size, offset)
        if entry is None:
            raise fail(errno.ENOENT, node.name)
        if node is self.git_file:
            return None
        return self._read_small(entry, size, offset) if self.lower.size_of(entry) <= SPOOL_ABOVE else None

    def _read_small(self, entry: LowerEntry, size: int, offset: int) -> bytes:
        """Read a piece of a blob that is taken out of its pack whole; those that are read in pieces are kept a while."""
        recent = self._recent
        data = recent.get(entry)
        if data is None:
            data = self.lower.read(entry)
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
        for piece in self.lower.stream(entry):
            part = piece[offset : offset + size]
            offset = max(0, offset - len(piece))
            size -= len(part)
            found.append(part)
            if not size:
                break
        return b"".join(found)

    def fetch(self, node: Node, entry: LowerEntry) -> Descriptor:
        """Open a file of the lower layer as one that can be read at any place in bounded memory.

        The tree's lock is not held meanwhile; one file at a time is fetched, so that nobody fetches one twice.
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
            size = self.lower.size_of(entry)
            return self._cache.open(entry.oid, size, self.lower.stream(entry), share=size > SPOOL_ABOVE)
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

    def stream(self, node: Node, chunk: int = 1 << 20, *, judged: bool = False) -> Iterator[bytes]:
        """Read a file in pieces, in bounded memory; what it is at the start is read, should it be replaced.

        Args:
            node: The file.
            chunk: How much of it at once, in bytes.
            judged: Read it also where its mode keeps its owner from that.
        """
        with self._lock:
            if node.kind != stat.S_IFREG:
                raise fail(errno.EISDIR if node.is_dir else errno.EINVAL, node.name)
            entry = None if node.upper else node.lower
            held = self._data_fd(node, write=False, judged=judged) if entry is None else None
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
