"""Git's own cache of which commits lead to which: the commit-graph that `git gc` and `git commit-graph write` leave.

Decided here: when it is believed. What it says of a commit never changes, so an old one is as right as a new one; but it is a
file beside the objects, so it is checked as a whole when it is opened, by the hash at its end, and one that is
damaged, cut short or of another version counts as none. `objects` asks it in far walks, where it spares reading and
inflating each commit, and never in a shallow repository, whose commits it shows otherwise. Nothing here writes. Open
ones may be used from threads; git replaces the files as a whole, so that what is mapped stays as it is.
"""

from __future__ import annotations

import hashlib
import mmap
import os
import struct
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Self

from avfs_git.errors import NotAVault
from avfs_git.gitstore.formats.commits import Links
from avfs_git.gitstore.formats.plainfile import open_plain_file, read_plain_file
from avfs_git.paths import Oid

# The format is that of gitformat-commit-graph(5).
_HEADER = struct.Struct(">4sBBBB")
_CHUNK = struct.Struct(">4sQ")
_COMMIT = struct.Struct(">20sIIII")
_WORD = struct.Struct(">I")
_HASH_SIZE = 20
_MAX_LAYERS = 64
_NO_PARENT = 0x70000000
_HIGHEST = 0x80000000


class _Unusable(Exception):
    """A file that is not what git writes."""


class _Layer:
    """One file."""

    def __init__(self, path: Path, first: int) -> None:
        """Map a file and check it. Its commits are numbered from `first` on, behind those of the layers below.

        Raises:
            _Unusable: If it is damaged, or of a version that is not known.
        """
        with open_plain_file(path) as file:
            if os.fstat(file.fileno()).st_size < _HEADER.size + _CHUNK.size + _HASH_SIZE:
                raise _Unusable
            self._data = data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        magic, version, hash_version, chunks, _ = _HEADER.unpack_from(data)
        if (magic, version, hash_version) != (b"CGPH", 1, 1):
            raise _Unusable
        with memoryview(data) as view:
            if hashlib.sha1(view[:-_HASH_SIZE], usedforsecurity=False).digest() != view[-_HASH_SIZE:]:
                raise _Unusable
        table = [_CHUNK.unpack_from(data, _HEADER.size + number * _CHUNK.size) for number in range(chunks + 1)]
        starts = {name: (start, table[number + 1][1]) for number, (name, start) in enumerate(table[:-1])}
        self._fanout, fanout_end = starts[b"OIDF"]
        self._oids, oids_end = starts[b"OIDL"]
        self._commits, commits_end = starts[b"CDAT"]
        self._edges, self._edges_end = starts.get(b"EDGE", (0, 0))
        self.first = first
        self.count = (oids_end - self._oids) // _HASH_SIZE
        if fanout_end - self._fanout != 256 * _WORD.size or commits_end - self._commits != self.count * _COMMIT.size:
            raise _Unusable
        if max(commits_end, oids_end, fanout_end, self._edges_end) > len(data) - _HASH_SIZE:
            raise _Unusable

    def find(self, oid: Oid) -> int | None:
        """Find the place of a commit in this layer."""
        data, oids = self._data, self._oids
        high: int = _WORD.unpack_from(data, self._fanout + _WORD.size * oid[0])[0]
        low: int = _WORD.unpack_from(data, self._fanout + _WORD.size * (oid[0] - 1))[0] if oid[0] else 0
        while low < high:
            middle = (low + high) >> 1
            at = oids + _HASH_SIZE * middle
            here = data[at : at + _HASH_SIZE]
            if here < oid:
                low = middle + 1
            elif here > oid:
                high = middle
            else:
                return middle
        return None

    def oid_at(self, place: int) -> Oid:
        """Tell which commit is at a place."""
        at = self._oids + _HASH_SIZE * place
        return Oid(self._data[at : at + _HASH_SIZE])

    def read(self, place: int) -> tuple[list[int], int]:
        """Tell the numbers of a commit's parents, and when it was committed."""
        _, first, second, upper, lower = _COMMIT.unpack_from(self._data, self._commits + _COMMIT.size * place)
        parents = [] if first == _NO_PARENT else [first]
        if second & _HIGHEST:
            at = self._edges + _WORD.size * (second & ~_HIGHEST)
            while at < self._edges_end:
                edge = _WORD.unpack_from(self._data, at)[0]
                parents.append(edge & ~_HIGHEST)
                if edge & _HIGHEST:
                    break
                at += _WORD.size
        elif second != _NO_PARENT:
            parents.append(second)
        return parents, (upper & 3) << 32 | lower


class CommitGraph:
    """All layers of a repository's commit-graph; of one that has none, an empty one."""

    def __init__(self, layers: Sequence[_Layer]) -> None:
        self._layers = layers

    @classmethod
    def open(cls, objects_dir: Path) -> Self:
        """Open what a repository has; never fails."""
        info = objects_dir / "info"
        with suppress(OSError, NotAVault, _Unusable, ValueError, KeyError, struct.error):
            return cls([_Layer(info / "commit-graph", 0)])
        layers: list[_Layer] = []
        with suppress(OSError, NotAVault, _Unusable, ValueError, KeyError, struct.error):
            names = read_plain_file(info / "commit-graphs" / "commit-graph-chain").decode("ascii").split()
            for name in names[:_MAX_LAYERS]:  # what is above one that is not usable cannot be used either
                first = layers[-1].first + layers[-1].count if layers else 0
                layers.append(_Layer(info / "commit-graphs" / f"graph-{bytes.fromhex(name).hex()}.graph", first))
        return cls(layers)

    def find(self, oid: Oid) -> Links | None:
        """Tell what a commit leads to; None if it is not known here."""
        for layer in reversed(self._layers):
            place = layer.find(oid)
            if place is not None:
                numbers, when_s = layer.read(place)
                parents = [self._oid_of(number) for number in numbers]
                return None if None in parents else Links(tuple(parent for parent in parents if parent is not None), when_s)
        return None

    def _oid_of(self, number: int) -> Oid | None:
        for layer in reversed(self._layers):
            if number >= layer.first:
                return layer.oid_at(number - layer.first) if number < layer.first + layer.count else None
        return None
