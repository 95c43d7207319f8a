"""The format of a pack's index: at which offset of the pack each object is (gitformat-pack: pack-*.idx).

Decided here: that only version 2 is read and written, for git makes no other. An index is mapped or, if small, read;
a damaged one raises `BadPack`, or does not have the object. Called by `objects`; safe from any thread.
"""

from __future__ import annotations

import hashlib
import mmap
import os
import struct
import sys
from array import array
from collections.abc import Sequence
from itertools import accumulate
from pathlib import Path

from avfs_git.gitstore.formats.packfile import CHUNK, PACK_HEADER, BadPack
from avfs_git.host.files.closing import closing_fd
from avfs_git.paths import Oid

INDEX_MAGIC = b"\xfftOc\0\0\0\2"
_FANOUT_END = 8 + 1024
_SEARCHED = 256
"""Up to how many ids are searched through as bytes: half the time of halving them again and again."""


class PackIndex:
    """The index of a pack (version 2), mapped or read: where each object is."""

    __slots__ = ("_data", "_oids_end", "count")

    def __init__(self, path: Path) -> None:
        # a pipe of that name blocks no reader
        with closing_fd(os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)) as fd:
            size = os.fstat(fd).st_size
            if size < _FANOUT_END + 40:
                raise BadPack("the index is cut short")
            # A small one is cheaper to read than to map.
            self._data: bytes | mmap.mmap = (
                os.pread(fd, size, 0) if size < 1 << 18 else mmap.mmap(fd, 0, access=mmap.ACCESS_READ)
            )
        data = self._data
        if len(data) != size or data[:8] != INDEX_MAGIC:
            raise BadPack("the index has no known format")
        self.count: int = struct.unpack_from(">I", data, _FANOUT_END - 4)[0]
        self._oids_end = _FANOUT_END + 20 * self.count
        if size < _FANOUT_END + 28 * self.count + 40:
            raise BadPack("the index is cut short")

    def find(self, oid: bytes) -> int | None:
        """Say at which offset of the pack an object is, or None; an index that is damaged there does not have it."""
        try:
            return self._find(oid)
        except BadPack:
            return None

    def _find(self, oid: bytes) -> int | None:
        data = self._data
        first = oid[0]
        start, end = (
            (0, struct.unpack_from(">I", data, 8)[0]) if not first else struct.unpack_from(">II", data, 4 + 4 * first)
        )
        if end > self.count:
            raise BadPack("the index is not in order")
        if end - start > _SEARCHED:
            position: int = self._bisect(oid, start, end)
            at = _FANOUT_END + 20 * position
            return self.offset_at(position) if position < end and data[at : at + 20] == oid else None
        first_at, stop = _FANOUT_END + 20 * start, _FANOUT_END + 20 * end
        at = data.find(oid, first_at, stop)
        while at >= 0 and (at - first_at) % 20:  # from the end of one id into the next
            at = data.find(oid, at + 1, stop)
        return self.offset_at((at - _FANOUT_END) // 20) if at >= 0 else None

    def _bisect(self, key: bytes, low: int, high: int) -> int:
        data = self._data
        while low < high:
            middle = (low + high) >> 1
            at = _FANOUT_END + 20 * middle
            if data[at : at + 20] < key:
                low = middle + 1
            else:
                high = middle
        return low

    def offset_at(self, position: int) -> int:
        """Say where the object at a position of the index is in the pack."""
        offset: int = struct.unpack_from(">I", self._data, self._oids_end + 4 * self.count + 4 * position)[0]
        if offset & 0x80000000:
            at = self._oids_end + 8 * self.count + 8 * (offset & 0x7FFFFFFF)
            if at + 8 > len(self._data) - 40:
                raise BadPack("the index is cut short")
            offset = struct.unpack_from(">Q", self._data, at)[0]
        return offset

    def oids(self) -> list[Oid]:
        """List all objects, in order."""
        data = self._data[_FANOUT_END : self._oids_end]
        return [Oid(data[at : at + 20]) for at in range(0, len(data), 20)]

    def offsets(self) -> list[int]:
        """List the offsets of all objects, in order of their ids."""
        at = self._oids_end + 4 * self.count
        found = list(struct.unpack_from(f">{self.count}I", self._data, at))
        if any(offset & 0x80000000 for offset in found):
            return [self.offset_at(position) for position in range(self.count)]
        return found

    def pack_checksum(self) -> bytes:
        """Return the checksum that the pack itself ends with."""
        return bytes(self._data[-40:-20])

    def with_prefix(self, hex_prefix: str) -> list[Oid]:
        """List the objects whose hexadecimal id starts so."""
        low = bytes.fromhex(hex_prefix.ljust(40, "0"))
        found: list[Oid] = []
        for position in range(self._bisect(low, 0, self.count), self.count):
            at = _FANOUT_END + 20 * position
            oid = Oid(bytes(self._data[at : at + 20]))
            if not oid.hex().startswith(hex_prefix):
                break
            found.append(oid)
        return found


def read_back(path: Path) -> list[Oid]:
    """Read a pack and its index from the disk as they are there, and list what they hold.

    Costs reading both whole; what the kernel has of them in memory is dropped first, as far as it can be.

    Raises:
        BadPack: If either is not what its checksum says, or they do not belong together.
    """
    index_path = path.with_suffix(".idx")
    check_checksum(index_path)
    index = PackIndex(index_path)
    if check_checksum(path) != index.pack_checksum():
        raise BadPack("the index is that of another pack")
    with path.open("rb") as file:
        if PACK_HEADER.unpack(file.read(PACK_HEADER.size))[2] != index.count:
            raise BadPack("the index does not list what the pack holds")
    return index.oids()


def check_checksum(path: Path) -> bytes:
    """Compare a file with the SHA-1 that it ends with (gitformat-pack), and return that."""
    with path.open("rb", buffering=0) as file:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        left = os.fstat(file.fileno()).st_size - 20
        hasher = hashlib.sha1(usedforsecurity=False)
        while left > 0:
            piece = file.read(min(CHUNK, left))
            if not piece:
                break
            hasher.update(piece)
            left -= len(piece)
        checksum = file.read(20)
    if left or checksum != hasher.digest():
        raise BadPack(f"'{path.name}' is not what its checksum says")
    return checksum


def build_index(oids: Sequence[Oid], offsets: Sequence[int], crcs: Sequence[int], pack_checksum: bytes) -> bytearray:
    """Write the index (version 2) of a pack; its objects come in any order.

    Costs about 60 bytes of memory an object.
    """
    order = array("I", sorted(range(len(oids)), key=oids.__getitem__))
    firsts = [0] * 256
    for oid in oids:
        firsts[oid[0]] += 1
    big = array("Q")
    small = array("I")
    for position in order:
        offset = offsets[position]
        if offset < 0x80000000:
            small.append(offset)
        else:
            small.append(0x80000000 | len(big))
            big.append(offset)
    body = bytearray(INDEX_MAGIC)
    body += struct.pack(">256I", *accumulate(firsts))
    body += b"".join([oids[position] for position in order])
    body += _in_network_order(array("I", (crcs[position] for position in order)))
    body += _in_network_order(small)
    body += _in_network_order(big)
    body += pack_checksum
    body += hashlib.sha1(body, usedforsecurity=False).digest()
    return body


def _in_network_order(numbers: array[int]) -> bytes:
    if sys.byteorder == "little":
        numbers.byteswap()
    return numbers.tobytes()
