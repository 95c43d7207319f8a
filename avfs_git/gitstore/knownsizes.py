"""Sizes of objects that a server has told, kept on disk: they never change, and the contents are not here to look at.

Decided here: how they are kept, and what of it is believed. A directory of tables, each written whole under a name of its own and
never changed, so that any number of processes read and add without a lock; who finds many joins them into one and removes
those. All sessions of a vault share them. Called by `lazystore`, from any thread; a fork of the process may go on with it.

A table: `avfssiz1`, CRC-32 of what follows and the number of entries (4 bytes each, little-endian), the ids in order, the
sizes (8 bytes each) in the same order. Nothing is forced to disk: one that a power cut has spoilt is removed when it is
met. Everything may be deleted at any time; it is asked for again.

A server that has told a size that was not true is believed no more: `refused` stands in the directory then. One that tells none
is asked again when `silent` is a day old.
"""

from __future__ import annotations

import mmap
import os
import struct
import time
import zlib
from bisect import bisect_left
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from avfs_git.errors import HostError
from avfs_git.host.durable import write_file_atomically
from avfs_git.paths import Oid

_MAGIC = b"avfssiz1"
_HEAD = struct.Struct("<8sII")
_SIZE = struct.Struct("<Q")
_OID = 20
_SUFFIX = ".sizes"
_REFUSED, _SILENT = "refused", "silent"
_SILENCE_S = 86_400.0
_MANY = 8
"""So many tables are joined into one."""
_LIMIT_BYTES = 64 << 20
"""With 2.4 million sizes it is full, and nothing is added."""


class _Table:
    __slots__ = ("_data", "_first", "count")

    def __init__(self, path: Path) -> None:
        """Open a table.

        Raises:
            ValueError: If it is none, or damaged.
            OSError: If it cannot be read.
        """
        with open(path, "rb") as file:
            self._data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        if len(self._data) < _HEAD.size:
            raise ValueError("it is cut off")
        magic, checksum, count = _HEAD.unpack_from(self._data)
        self.count = int(count)
        is_whole = len(self._data) == _HEAD.size + self.count * (_OID + _SIZE.size)
        with memoryview(self._data) as view, view[12:] as rest:
            if magic != _MAGIC or not is_whole or zlib.crc32(rest) != checksum:
                raise ValueError("it is damaged")
        self._first = _HEAD.size + self.count * _OID

    def _oid(self, index: int) -> bytes:
        start = _HEAD.size + index * _OID
        return self._data[start : start + _OID]

    def find(self, oid: Oid) -> int | None:
        index = bisect_left(range(self.count), bytes(oid), key=self._oid)
        if index < self.count and self._oid(index) == oid:
            return int(_SIZE.unpack_from(self._data, self._first + index * _SIZE.size)[0])
        return None

    def items(self) -> dict[Oid, int]:
        sizes = struct.unpack_from(f"<{self.count}Q", self._data, self._first)
        return {Oid(self._oid(index)): size for index, size in enumerate(sizes)}


class KnownSizes:
    """A directory of sizes, shared by processes."""

    def __init__(self, directory: Path) -> None:
        """Use a directory, which is made when the first sizes are kept; reads nothing yet.

        Args:
            directory: Where they are; nothing else may be in it. It and the one above it are made if needed.
        """
        self._directory = directory
        self._tables: dict[str, _Table] = {}
        self._stamp: int | None = -1
        self._is_refused: bool = False

    @property
    def is_refused(self) -> bool:
        """Whether the server has told something that was not true."""
        self._look()
        return self._is_refused

    @property
    def is_telling(self) -> bool:
        """Whether the server has told any."""
        self._look()
        return bool(self._tables)

    @property
    def is_silent(self) -> bool:
        """Whether the server has lately said that it tells none."""
        try:
            return time.time() - os.stat(self._directory / _SILENT).st_mtime < _SILENCE_S
        except OSError:
            return False

    @property
    def is_full(self) -> bool:
        """Whether nothing more is kept."""
        return sum(table.count for table in self._tables.values()) * (_OID + _SIZE.size) > _LIMIT_BYTES

    def find(self, oid: Oid) -> int | None:
        """Tell a size that was told; None of what nobody has told."""
        for table in [*self._tables.values()]:
            size = table.find(oid)
            if size is not None:
                return size
        if self._look():
            return next((size for table in [*self._tables.values()] if (size := table.find(oid)) is not None), None)
        return None

    def add(self, sizes: Mapping[Oid, int]) -> None:
        """Keep sizes, if the disk takes them: without, they are asked for again."""
        if not sizes or self.is_refused or self.is_full:
            return
        with suppress(OSError, HostError):
            self._make()
            self._write(sizes)
            self._look()
            old = dict(self._tables)
            if len(old) > _MANY:
                joined: dict[Oid, int] = {}
                for table in old.values():
                    joined.update(table.items())
                self._write(joined)
                for name in old:  # who misses one looks again
                    with suppress(FileNotFoundError):
                        os.unlink(self._directory / name)
                self._look()

    def note_silent(self) -> None:
        """Note that the server tells no sizes, so that it is not asked for a while."""
        with suppress(OSError, HostError):
            self._make()
            write_file_atomically(self._directory / _SILENT, b"", durable=False)

    def refuse(self) -> None:
        """Believe nothing any more of what was told, here and in later processes."""
        self._is_refused = True
        with suppress(OSError, HostError):
            self._make()
            write_file_atomically(self._directory / _REFUSED, b"", durable=False)
            for name in os.listdir(self._directory):
                if name.endswith(_SUFFIX):
                    os.unlink(self._directory / name)

    def _make(self) -> None:
        for directory in (self._directory.parent, self._directory):
            directory.mkdir(mode=0o700, exist_ok=True)  # not with `parents`, which leaves the mode to the umask

    def _write(self, sizes: Mapping[Oid, int]) -> None:
        oids = sorted(sizes)
        count = len(oids).to_bytes(4, "little")
        rest = count + b"".join(oids) + struct.pack(f"<{len(oids)}Q", *(sizes[oid] for oid in oids))
        data = _MAGIC + zlib.crc32(rest).to_bytes(4, "little") + rest
        write_file_atomically(self._directory / f"{os.urandom(8).hex()}{_SUFFIX}", data, mode=0o600, durable=False)

    def _look(self) -> bool:
        """Look whether others have changed something; tell whether."""
        try:
            stamp: int | None = os.stat(self._directory).st_mtime_ns
        except OSError:
            stamp = None
        if stamp == self._stamp:
            return False
        names: list[str] = []
        with suppress(OSError):
            names = os.listdir(self._directory)
        found: dict[str, _Table] = {}
        for name in names:
            if name.endswith(_SUFFIX):
                path = self._directory / name
                try:
                    found[name] = self._tables.get(name) or _Table(path)
                except ValueError:
                    with suppress(OSError):
                        path.unlink()
                except OSError:  # removed by who has joined it, or another user's
                    continue
        self._is_refused = self._is_refused or _REFUSED in names
        self._tables = {} if self._is_refused else found
        self._stamp = stamp  # last: whoever looks meanwhile looks again
        return True
