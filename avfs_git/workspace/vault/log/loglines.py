"""The lines of the operation log, newest first: all of them, or only the lines that can concern a fork or a ref.

Decided here: how a line is framed (checksum, mark, text), how the log is read without reading all of it, and the format
of `avfs/oplog.index`. What lines mean, and under which keys the index has them, is said in `oprecord`; `oplog` is the
only caller.

The index maps keys (the name of a fork or a ref, or a fact) to the offsets of lines, for the log up to an offset; what
comes after that offset is searched as bytes. So a look-up costs the lines that it finds and the end of the log, not the
log. The index holds nothing that the log does not: a reader ignores it if it belongs to another file, and maintenance
makes it anew (`LogView.write_index`). It is forced to disk before it gets its name, because an index with holes would
hide operations.

A `LogView` belongs to one thread. It shows the log as it was when the view was opened, also after another file took its
place.
"""

from __future__ import annotations

import fcntl
import os
import re
import struct
import zlib
from collections.abc import Callable, Collection, Iterable, Iterator
from pathlib import Path
from typing import Self

from avfs_git.faults import reach
from avfs_git.host.files.durable import write_file_atomically
from avfs_git.host.files.plainfile import open_plain
from avfs_git.patterns import compiled
from avfs_git.values import value_class

HAPPENED, ANNOUNCED, WITHDRAWN = b" ", b"?", b"-"
"""The mark of a line, between its checksum and its text."""
MARK_AT = 8
UNDECIDED = "\0announced"
"""The key of lines that were only announced when the index was made."""

Line = tuple[int, bytes]
"""Where a line begins in the log, and the line without its line feed."""

_ANNOUNCED_LINE = compiled(rb"^[0-9a-f]{8}\?\{", re.MULTILINE)
_BLOCK = 256 << 10
_FIRST = 32 << 10
"""So much of the end of the log is read first: most callers need the newest lines only."""
INDEXED_ABOVE = 256 << 10
"""Bytes up to which a log is searched faster than its index is opened."""
_LINE = 2048
"""So much at an offset holds most lines."""
_MANY_LOOKUPS = 8
"""After so many look-ups in a view, the log's end is parsed once, not searched each time, and the index read whole."""
_MAGIC = b"avfs-oplogindex2"
_HEAD = struct.Struct("<16sQQQQ8sI")
"""Magic, inode of the log, covered bytes, entry count, offset and checksum of the last covered line, CRC of entries."""
_HEAD_SIZE = _HEAD.size + 4
_ENTRY = 12
"""A key's CRC32 and a line's offset, both big-endian, so that sorted bytes are sorted numbers."""


def open_line(line: bytes) -> tuple[bytes, bytes] | None:
    """Split a line into its mark and its text; None if the checksum says that it is no line."""
    checksum, mark, body = line[:MARK_AT], line[MARK_AT : MARK_AT + 1], line[MARK_AT + 1 :]
    if mark not in (HAPPENED, ANNOUNCED, WITHDRAWN) or not body or checksum != b"%08x" % zlib.crc32(body):
        return None
    return mark, body


@value_class
class Key:
    """What to look up."""

    name: str
    """Under which the index has the lines."""
    needle: bytes
    """What each such line has in its bytes."""


class LogView:
    """A log as it is at one moment, open for reading. Closed by its `with` block."""

    def __init__(self, path: Path, keys_of: Callable[[bytes], Iterable[str]], *, indexed_above: int) -> None:
        """Open a log, which need not exist.

        `keys_of` tells the keys of a line, given its text. A log of less than `indexed_above` bytes is read without its
        index.
        """
        self._path = path
        self._keys_of = keys_of
        self.size = 0
        """How many bytes the log has."""
        self._index: _Index | None = None
        self._lookups = 0
        self._end: list[tuple[int, bytes]] | None = None
        self._groups: dict[str, list[int]] | None = None
        try:
            self._fd = open_plain(path)
        except FileNotFoundError:
            self._fd = -1
            return
        try:
            status = os.fstat(self._fd)
            self.size = status.st_size
            if self.size > indexed_above:
                self._index = _Index.open(path, self._fd, status)
        except BaseException:
            os.close(self._fd)
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._index is not None:
            self._index.close()
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    @property
    def covered(self) -> int:
        """How many bytes of the log the index covers."""
        return self._index.covered if self._index is not None else 0

    def lines(self) -> Iterator[Line]:
        """Yield all lines, newest first."""
        for start, block in self._blocks(0):
            yield from _split(start, block)

    def naming(self, needles: Collection[bytes], newest: int) -> Iterator[Line]:
        """Yield those of so many of the newest lines that have any of some bytes, newest first."""
        for start, block in self._blocks(0):
            count, cut = block.count(b"\n"), 0
            if count > newest:
                cut = len(block)
                for _ in range(newest + 1):
                    cut = block.rfind(b"\n", 0, cut)
                cut += 1
            piece = block[cut:]
            yield from sorted(
                {line for needle in needles for line in _search(start + cut, piece, needle)}, reverse=True
            )
            newest -= count
            if newest <= 0:
                return

    def find(self, key: Key) -> Iterator[Line]:
        """Yield the lines that can concern a key, newest first; others may be among them."""
        self._lookups += 1
        if self._lookups > _MANY_LOOKUPS:
            if self._index is not None:
                self._index.load()
            yield from (self._line_at(at) for at in reversed(self._group_end().get(key.name, [])))
        else:
            for start, block in self._read_end():
                yield from _search(start, block, key.needle)
        if self._index is not None:
            yield from (self._line_at(at) for at in self._index.find(key.name))

    def announced(self) -> Iterator[Line]:
        """Yield the lines that are only announced, newest first."""
        for start, block in self._read_end():
            if b"?{" in block:
                for match in reversed(list(_ANNOUNCED_LINE.finditer(block))):
                    stop = block.find(b"\n", match.start())
                    yield start + match.start(), block[match.start() : stop if stop >= 0 else len(block)]
        if self._index is not None:
            for at in self._index.find(UNDECIDED):
                found = self._line_at(at)
                if found[1][MARK_AT : MARK_AT + 1] == ANNOUNCED:
                    yield found

    def after(self, at: int) -> Iterator[Line]:
        """Yield the lines after the one at an offset, the first one first."""
        at += len(self._line_at(at)[1]) + 1
        while at < self.size:
            yield (found := self._line_at(at))
            at += len(found[1]) + 1

    def _blocks(self, down_to: int) -> Iterator[tuple[int, bytes]]:
        """Yield the log in pieces of whole lines with their offsets, the last one first."""
        stop, size = self.size, _FIRST
        while stop > down_to:
            start, data = stop, b""
            while start > down_to:
                piece = max(down_to, start - max(size, len(data)))
                data = os.pread(self._fd, start - piece, piece) + data
                start = piece
                if start > down_to and (cut := data.find(b"\n")) >= 0 and cut + 1 < len(data):
                    start += cut + 1
                    data = data[cut + 1 :]
                    break
            yield start, data
            stop, size = start, _BLOCK

    def _read_end(self) -> Iterable[tuple[int, bytes]]:
        """Give the pieces of the log that the index does not cover; kept if they are small."""
        if self._end is not None:
            return self._end
        pieces = self._blocks(self.covered)
        if self.size - self.covered > 8 * _BLOCK:
            return pieces
        self._end = list(pieces)
        return self._end

    def _group_end(self) -> dict[str, list[int]]:
        """Map the keys of lines that the index does not cover to their offsets, ascending."""
        if self._groups is None:
            self._groups = {}
            for start, block in reversed(list(self._read_end())):
                for at, line in reversed(list(_split(start, block))):
                    opened = open_line(line)
                    for name in self._keys_of(opened[1]) if opened is not None else ():
                        self._groups.setdefault(name, []).append(at)
        return self._groups

    def _line_at(self, at: int) -> Line:
        length = _LINE
        while True:
            data = os.pread(self._fd, length, at)
            stop = data.find(b"\n")
            if stop >= 0 or len(data) < length:
                return at, data[:stop] if stop >= 0 else data
            length *= 16

    def write_index(self) -> bool:
        """Make an index that covers the whole log; False if there is nothing to do. On disk on return.

        Raises:
            HostError: If the disk refuses; the old index is there.
            OSError: If the log cannot be read.
        """
        if self._fd < 0:
            return False
        # While no process appends, all lines are complete, and none is taken back.
        fcntl.flock(self._fd, fcntl.LOCK_SH)
        status = os.fstat(self._fd)
        fcntl.flock(self._fd, fcntl.LOCK_UN)
        os.fdatasync(self._fd)  # of a process that died before it did that
        self.size = status.st_size
        known = self._index.entries() if self._index is not None else None
        covered = self.covered if known is not None else 0
        end = covered
        last: Line | None = None
        fresh: list[bytes] = []
        for start, block in self._blocks(covered):
            if end == covered:
                end = start + block.rfind(b"\n") + 1
            for at, line in _split(start, block):
                opened = open_line(line) if at + len(line) < end else None
                if opened is not None:
                    last = last or (at, line)
                    fresh += self._entries_of(at, *opened)
        if last is None:
            return False
        body = b"".join(sorted([*(known or ()), *fresh]))
        head = _HEAD.pack(_MAGIC, status.st_ino, end, len(body) // _ENTRY, last[0], last[1][:MARK_AT], zlib.crc32(body))
        reach("oplog.indexing")
        write_file_atomically(index_path(self._path), head + zlib.crc32(head).to_bytes(4, "little") + body)
        return True

    def _entries_of(self, at: int, mark: bytes, body: bytes) -> list[bytes]:
        """Make the entries of a line."""
        if mark == WITHDRAWN:
            return []
        names = {*self._keys_of(body), *((UNDECIDED,) if mark == ANNOUNCED else ())}
        return [_key(name) + at.to_bytes(8, "big") for name in names]


class _Index:
    """An index that belongs to an open log."""

    def __init__(self, fd: int, covered: int, count: int, crc: int) -> None:
        self._fd = fd
        self.covered = covered
        self._count = count
        self._crc = crc
        self._entries: bytes | None = None

    @classmethod
    def open(cls, log: Path, log_fd: int, status: os.stat_result) -> Self | None:
        """Open the index beside a log; None if it is missing, or is that of another file."""
        try:
            fd = open_plain(index_path(log))
        except OSError:  # without it, all is read
            return None
        try:
            head = os.pread(fd, _HEAD_SIZE, 0)
            if len(head) == _HEAD_SIZE and zlib.crc32(head[:-4]).to_bytes(4, "little") == head[-4:]:
                magic, inode, covered, count, last, checksum, crc = _HEAD.unpack(head[:-4])
                if (
                    (magic, inode) == (_MAGIC, status.st_ino)
                    and count * _ENTRY <= covered <= status.st_size  # each key stands in its line, and is longer there
                    and os.fstat(fd).st_size == _HEAD_SIZE + count * _ENTRY
                    and os.pread(log_fd, MARK_AT, last) == checksum
                    and os.pread(log_fd, 1, covered - 1) == b"\n"
                ):
                    return cls(fd, covered, count, crc)
        except (OSError, ValueError):  # as above
            pass
        os.close(fd)
        return None

    def close(self) -> None:
        """Close its file."""
        os.close(self._fd)

    def find(self, name: str) -> Iterator[int]:
        """Yield the offsets of lines that have a key, the last one first."""
        wanted = _key(name)
        after = int.from_bytes(wanted, "big") + 1
        stop = self._bisect(after.to_bytes(4, "big")) if after < 1 << 32 else self._count
        piece = 4
        while stop > 0:
            start = max(0, stop - piece)
            data = self._read(start, stop - start)
            for at in range(len(data) - _ENTRY, -1, -_ENTRY):
                if data[at : at + 4] != wanted:
                    return
                yield int.from_bytes(data[at + 4 : at + _ENTRY], "big")
            stop, piece = start, 256

    def load(self) -> None:
        """Read the whole index into memory: many look-ups follow."""
        if self._entries is None:
            self._entries = os.pread(self._fd, self._count * _ENTRY, _HEAD_SIZE)

    def _read(self, first: int, count: int) -> bytes:
        if self._entries is not None:
            return self._entries[first * _ENTRY : (first + count) * _ENTRY]
        return os.pread(self._fd, count * _ENTRY, _HEAD_SIZE + first * _ENTRY)

    def _bisect(self, key: bytes) -> int:
        """Find the first entry whose key is not below one."""
        low, high = 0, self._count
        while low < high:
            middle = (low + high) // 2
            if self._read(middle, 1)[:4] < key:
                low = middle + 1
            else:
                high = middle
        return low

    def entries(self) -> list[bytes] | None:
        """Read all entries; None if they are not as they were written."""
        data = os.pread(self._fd, self._count * _ENTRY, _HEAD_SIZE)
        if len(data) != self._count * _ENTRY or zlib.crc32(data) != self._crc:
            return None
        return [data[at : at + _ENTRY] for at in range(0, len(data), _ENTRY)]


def index_path(log: Path) -> Path:
    """Name the index of a log."""
    return log.with_name(log.name + ".index")


def _key(name: str) -> bytes:
    return zlib.crc32(name.encode("utf-8", "surrogatepass")).to_bytes(4, "big")


def _split(start: int, block: bytes) -> Iterator[Line]:
    """Yield the lines of a piece of the log, the last one first."""
    stop = len(block)
    while stop > 0:
        if block[stop - 1 : stop] == b"\n":
            stop -= 1
        begin = block.rfind(b"\n", 0, stop) + 1
        yield start + begin, block[begin:stop]
        stop = begin


def _search(start: int, block: bytes, needle: bytes) -> Iterator[Line]:
    """Yield the lines of a piece of the log that have some bytes, the last one first."""
    stop = len(block)
    while (at := block.rfind(needle, 0, stop)) >= 0:
        begin = block.rfind(b"\n", 0, at) + 1
        end = block.find(b"\n", at)
        yield start + begin, block[begin : end if end >= 0 else len(block)]
        stop = begin
