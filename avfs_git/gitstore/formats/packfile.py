"""The format of packs: where an object is, and what a pack holds there.

Decided here: which packs are known, when the directory is read again, and that entries are read with
`pread` (a pack cut short under us is then an error, where a mapping would be a SIGBUS). Called by
`objects`, and by `packwriter` to announce a new pack. Entries of ours hold whole objects; of deltas, which git
makes, `deltas` has the format. A damaged pack raises `BadPack`; reading it takes no more memory than its headers announce.

Usable from threads: a descriptor is closed when the last reader lets go of it, never under one. Files of
a pack never change once they have their name; that git removes one at any time is expected, and shows as
`FileNotFoundError` or as an object that is no longer found.
"""

from __future__ import annotations

import hashlib
import mmap
import os
import struct
import sys
import threading
import zlib
from array import array
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import suppress
from itertools import accumulate
from pathlib import Path

from avfs_git.gitstore.formats.deltas import apply_delta, read_distance, read_varint
from avfs_git.paths import Oid

INDEX_MAGIC = b"\xfftOc\0\0\0\2"
PACK_HEADER = struct.Struct(">4sII")
CHUNK = 1 << 20

MAX_STRUCTURE = 128 << 20
"""Bytes of a commit, tree or tag above which it is not read: millions of entries fit, a bomb does not."""

_WHOLE = frozenset({1, 2, 3, 4})  # commit, tree, blob, tag; the other kinds are deltas
_BLOB = 3
_BY_OFFSET, _BY_ID = 6, 7
_FANOUT_END = 8 + 1024
_SMALL_PACK = 250
"""Objects up to which a pack's index is read into one dict with those of others: most checkpoints."""
_SMALL_TOTAL = 8_000
_LISTINGS = 20
"""How often the directory of packs is read before it counts as known, while others merge packs in it."""
_CHAIN_MAX = 4_096
"""Deltas that apply to each other, at most: git's own limit is 4,095."""
_MADE_MAX = 512 << 20
"""Bytes of a blob that a delta makes: git makes none of larger ones (`core.bigFileThreshold`)."""
_MADE_KEPT = 16 << 20
"""Bytes of objects that were made by deltas and are kept, because the next one often applies to them."""
_OPEN_PACKS = 64
_FIRST_READ = 4096
_WINDOW, _HEAD_MAX, _DENSE = 1 << 16, 96, 16
"""How much of a pack is read at once where many sizes are asked for, the bytes that tell one at most, and how many are many."""
_SEARCHED = 256
"""Up to how many ids are searched through as bytes: half the time of halving them again and again."""
_WHOLE_INDEX_ABOVE = 24
"""How many entries of an index are gone through in the time that one takes to be found."""


class BadPack(ValueError):
    """A pack or its index does not hold what the format says."""


def entry_header(kind: int, size: int) -> bytes:
    """Write what stands before an object in a pack: its kind and size (gitformat-pack)."""
    byte = kind << 4 | size & 15
    size >>= 4
    if size < 0x80:  # most objects
        return bytes((byte | 0x80, size)) if size else bytes((byte,))
    header = bytearray()
    while size:
        header.append(byte | 0x80)
        byte = size & 0x7F
        size >>= 7
    header.append(byte)
    return bytes(header)


def parse_entry_header(data: bytes | memoryview) -> tuple[int, int, int]:
    """Read what stands before an object in a pack: its kind, its size, and the header's length."""
    try:
        byte = data[0]
        kind = byte >> 4 & 7
        size = byte & 15
        shift = 4
        length = 1
        while byte & 0x80:
            byte = data[length]
            size |= (byte & 0x7F) << shift
            shift += 7
            length += 1
    except IndexError:
        raise BadPack("the pack is cut short") from None
    if shift > 67:
        raise BadPack("the pack holds an impossible size")
    return kind, size, length


def _delta_result_size(kind: int, data: bytes) -> int:
    """Tell the size of what comes of a delta, from what stands behind the header of its entry."""
    start = 0
    try:
        if kind == _BY_OFFSET:
            while data[start] & 0x80:
                start += 1
            start += 1
        elif kind == _BY_ID:
            start = 20
        else:
            raise BadPack("it is of no known kind")
        # A delta begins with the size of what it applies to, then that of the result; ten bytes each at most.
        head = zlib.decompressobj().decompress(data[start:], 20)
        return read_varint(head, read_varint(head, 0)[1])[0]
    except BadPack:
        raise
    except (IndexError, ValueError, zlib.error) as error:
        raise BadPack("a delta cannot be taken apart") from error


class PackIndex:
    """The index of a pack (version 2), mapped or read: where each object is."""

    __slots__ = ("_data", "_oids_end", "count")

    def __init__(self, path: Path) -> None:
        """Open an index.

        Raises:
            BadPack: If it is no index of version 2, or cut short.
        """
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)  # a pipe of that name keeps nobody waiting
        try:
            size = os.fstat(fd).st_size
            if size < _FANOUT_END + 40:
                raise BadPack("the index is cut short")
            # A small one is cheaper to read than to map.
            self._data: bytes | mmap.mmap = os.pread(fd, size, 0) if size < 1 << 18 else mmap.mmap(fd, 0, access=mmap.ACCESS_READ)
        finally:
            os.close(fd)
        if self._data[:4] != INDEX_MAGIC[:4]:
            if size != 1024 + 24 * int.from_bytes(self._data[1020:1024], "big") + 40:
                raise BadPack("the index has no known format")
            self._data = _renew(bytes(self._data))
        data = self._data
        size = max(size, len(data))
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
        start, end = (0, struct.unpack_from(">I", data, 8)[0]) if not first else struct.unpack_from(">II", data, 4 + 4 * first)
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

    def crcs(self) -> list[int]:
        """List the checksums of all entries, in order of their ids."""
        return list(struct.unpack_from(f">{self.count}I", self._data, self._oids_end))

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
    _check_checksum(index_path)
    index = PackIndex(index_path)
    if _check_checksum(path) != index.pack_checksum():
        raise BadPack("the index is that of another pack")
    with path.open("rb") as file:
        if PACK_HEADER.unpack(file.read(PACK_HEADER.size))[2] != index.count:
            raise BadPack("the index does not list what the pack holds")
    return index.oids()


def _check_checksum(path: Path) -> bytes:
    """Compare a file with the SHA-1 that it ends with (gitformat-pack), and return that."""
    with path.open("rb", buffering=0) as file:
        if hasattr(os, "posix_fadvise"):
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


class _Descriptor:
    """An open file that is closed when nobody holds this object any more."""

    __slots__ = ("fd",)

    def __init__(self, path: Path) -> None:
        self.fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)  # a pipe of that name keeps nobody waiting

    def __del__(self) -> None:
        with suppress(AttributeError, OSError):
            os.close(self.fd)


class Pack:
    """One pack: its index, and its entries as they are on disk."""

    __slots__ = ("_file", "_owner", "index", "path")

    def __init__(self, path: Path, owner: PackSet) -> None:
        self.path = path
        self.index = PackIndex(path.with_suffix(".idx"))
        self._file: _Descriptor | None = None
        self._owner = owner

    def file(self) -> _Descriptor:
        """Return the open pack; hold on to it while reading from its descriptor."""
        held = self._file
        if held is None:
            self._file = held = _Descriptor(self.path)
            self._owner.opened(self)
        return held

    def close(self) -> None:
        """Let go of the open pack; readers at work keep it open until they are done."""
        self._file = None

    def read(self, offset: int) -> tuple[int, bytes]:
        """Read the object at an offset: its kind and its content, made by deltas if the pack holds it so.

        Raises:
            BadPack: If it cannot be taken apart.
            OSError: If the pack cannot be read; `FileNotFoundError` if it has gone.
        """
        held = self.file()
        data = os.pread(held.fd, _FIRST_READ, offset)
        kind, size, start = parse_entry_header(data)
        if kind not in _WHOLE:
            return self._make(offset)
        if size > MAX_STRUCTURE and kind != _BLOB:
            raise BadPack("it is too large for what it is")
        return kind, inflate_entry(held.fd, offset, data, start, size)

    def _make(self, offset: int) -> tuple[int, bytes]:
        """Make an object of which the pack holds a delta: down the chain by its headers, and up again with its content."""
        held, made = self.file(), self._owner.made
        found: tuple[int, bytes] | None = None
        chain: list[tuple[int, int, int]] = []
        here = offset
        while found is None:
            kind, size, start, below = self._entry(here)
            if below is None:
                found = self.read(here)
                break
            chain.append((here, start, size))
            here = below
            found = made.get((self.path, here))
            if len(chain) > _CHAIN_MAX:
                raise BadPack("a chain of deltas is too long")
        kind, content = found
        most = _MADE_MAX if kind == _BLOB else MAX_STRUCTURE
        for here, start, size in reversed(chain):
            if size > most:
                raise BadPack("a delta is too large for what it makes")
            try:
                content = apply_delta(
                    content, inflate_entry(held.fd, here, os.pread(held.fd, _FIRST_READ, here), start, size), most
                )
            except ValueError as error:
                raise BadPack(str(error)) from error
            made.keep((self.path, here), (kind, content))
        return kind, content

    def _entry(self, offset: int) -> tuple[int, int, int, int | None]:
        """Read the header of an entry: kind, size, where the content begins, and of a delta the offset of what it applies to."""
        data = os.pread(self.file().fd, 64, offset)
        kind, size, start = parse_entry_header(data)
        below: int | None
        if kind in _WHOLE:
            return kind, size, start, None
        try:
            if kind == _BY_OFFSET:
                distance, start = read_distance(data, start)
                below = offset - distance if 0 < distance < offset else None
            else:
                below = self.index.find(data[start : start + 20]) if kind == _BY_ID else None
                start += 20
        except (IndexError, ValueError) as error:
            raise BadPack("the pack is cut short") from error
        if below is None:
            raise BadPack("it is a delta of what its pack does not hold")
        return kind, size, start, below

    def describe(self, offset: int) -> tuple[int, int]:
        """Tell the kind and the size of the object at an offset without reading it; of a delta, of what it makes.

        Raises:
            BadPack: If it cannot be taken apart.
            OSError: If the pack cannot be read; `FileNotFoundError` if it has gone.
        """
        kind, size, _, below = self._entry(offset)
        if below is None:
            return kind, size
        data = os.pread(self.file().fd, _HEAD_MAX + 32, offset)
        size = _delta_result_size(kind, data[parse_entry_header(data)[2] :])
        for _ in range(_CHAIN_MAX):
            kind, _, _, place = self._entry(below)
            if place is None:
                return kind, size
            below = place
        raise BadPack("a chain of deltas is too long")

    def header(self, offset: int) -> tuple[int, int]:
        """Read the kind and the size of the entry at an offset; of a delta the size is its own."""
        held = self.file()
        return parse_entry_header(os.pread(held.fd, 32, offset))[:2]

    def heads(self, offsets: Sequence[int]) -> list[tuple[int, int]]:
        """Tell the kinds and sizes of the objects at some offsets, without reading them; of a delta, how large the result is.

        Where they lie close together the pack is read in large pieces: a call for each would take longer.

        Args:
            offsets: Where they are, in ascending order.

        Raises:
            BadPack: If one cannot be taken apart.
            OSError: If the pack cannot be read; `FileNotFoundError` if it has gone.
        """
        held = self.file()
        count = len(offsets)
        data = b""
        begin, end = 0, -1
        found: list[tuple[int, int]] = []
        for number, offset in enumerate(offsets):
            if offset >= end:
                is_dense = number + _DENSE < count and offsets[number + _DENSE] - offset < _WINDOW
                data = os.pread(held.fd, _WINDOW if is_dense else _HEAD_MAX, offset)
                begin = offset
                end = offset + max(len(data) - _HEAD_MAX, 1)
            at = offset - begin
            first, second = data[at : at + 2] if at + 1 < len(data) else (0x80, 0x80)
            if first & 0xF0 == _BLOB << 4 | 0x80 and second < 0x80:  # most of all: a blob of 16 to 2047 bytes
                found.append((_BLOB, first & 15 | second << 4))
                continue
            kind, size, length = parse_entry_header(data if not at else data[at : at + 16])
            if kind not in _WHOLE:
                size = _delta_result_size(kind, data[at + length : at + _HEAD_MAX])
            found.append((kind, size))
        return found

    def stream(self, offset: int) -> Iterator[bytes]:
        """Read the object at an offset, which is no delta, in pieces of at most 1 MiB.

        Raises:
            BadPack: If it cannot be taken apart.
        """
        held = self.file()
        _, size, start = parse_entry_header(os.pread(held.fd, 32, offset))
        yield from inflate_stream(held.fd, offset + start, size)


def inflate_entry(fd: int, offset: int, data: bytes, start: int, size: int) -> bytes:
    """Inflate the object whose entry begins with `data`, reading on where that does not reach."""
    inflater = zlib.decompressobj()
    try:
        # One byte more than there should be, so that content longer than its header says shows.
        content = inflater.decompress(data[start:], size + 1)
        if inflater.eof and len(content) == size:
            return content
        pieces = [content]
        length = len(content)
        position = offset + len(data)
        while not inflater.eof and length <= size:
            source = inflater.unconsumed_tail
            if not source:
                source = os.pread(fd, min(CHUNK, max(size - length, _FIRST_READ)), position)
                if not source:
                    raise BadPack("the pack is cut short")
                position += len(source)
            piece = inflater.decompress(source, size + 1 - length)
            length += len(piece)
            pieces.append(piece)
    except zlib.error as error:
        raise BadPack(f"it cannot be inflated ({error})") from error
    if length != size:
        raise BadPack("its size is not what its header says")
    return b"".join(pieces)


def inflate_stream(fd: int, position: int, size: int) -> Iterator[bytes]:
    """Inflate from a position of a file, in pieces of at most 1 MiB, exactly `size` bytes."""
    inflater = zlib.decompressobj()
    left = size
    try:
        while not inflater.eof:
            source = inflater.unconsumed_tail
            if not source:
                source = os.pread(fd, CHUNK, position)
                if not source:
                    raise BadPack("it is cut short")
                position += len(source)
            piece = inflater.decompress(source, min(CHUNK, left + 1))
            left -= len(piece)
            if left < 0:
                break
            if piece:
                yield piece
    except zlib.error as error:
        raise BadPack(f"it cannot be inflated ({error})") from error
    if left:
        raise BadPack("its size is not what its header says")


class _Made:
    """The objects that were made by deltas last, by pack and offset, up to a number of bytes."""

    def __init__(self) -> None:
        self._kept: OrderedDict[tuple[Path, int], tuple[int, bytes]] = OrderedDict()
        self._size = 0
        self._lock = threading.Lock()

    def get(self, place: tuple[Path, int]) -> tuple[int, bytes] | None:
        """Find one."""
        with self._lock:
            found = self._kept.get(place)
            if found is not None:
                self._kept.move_to_end(place)
            return found

    def keep(self, place: tuple[Path, int], made: tuple[int, bytes]) -> None:
        """Keep one, and forget those that were not used for longest."""
        with self._lock:
            if place not in self._kept and len(made[1]) <= _MADE_KEPT // 4:
                self._kept[place] = made
                self._size += len(made[1]) + _ENTRY
            while self._size > _MADE_KEPT:
                self._size -= len(self._kept.popitem(last=False)[1][1]) + _ENTRY

    def clear(self) -> None:
        """Forget all."""
        with self._lock:
            self._kept.clear()
            self._size = 0


_ENTRY = 400
"""Bytes that an object takes beside its content."""


def _renew(data: bytes) -> bytes:
    """Write an index of version 1 as one of version 2, without checksums of the entries (gitformat-pack).

    Raises:
        BadPack: If it is no index of version 1.
    """
    if hashlib.sha1(data[:-20], usedforsecurity=False).digest() != data[-20:] or (len(data) - 1024 - 40) % 24:
        raise BadPack("the index has no known format")
    entries = [data[at : at + 24] for at in range(1024, len(data) - 40, 24)]
    offsets = [int.from_bytes(entry[:4], "big") for entry in entries]
    return bytes(build_index([Oid(entry[4:]) for entry in entries], offsets, [0] * len(entries), data[-40:-20]))


class PackSet:
    """All packs of one `objects/pack` directory."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.unreadable: set[str] = set()
        """Names of packs whose index is broken: they hold nothing."""
        self.made = _Made()
        self._packs: dict[str, Pack] = {}
        self._small: dict[Oid, tuple[Pack, int]] = {}
        self._large: list[Pack] = []
        self._latest: Pack | None = None  # among the large ones; the next object is likely to be there too
        self._open: list[Pack] = []
        self._lock = threading.Lock()
        self._listed = False
        self.generation = 0
        """Grows whenever other packs are known: whoever missed an object before looks again."""

    def find(self, oid: Oid) -> tuple[Pack, int] | None:
        """Say in which known pack an object is, and where; None does not say that no new pack holds it."""
        if not self._listed:
            self.refresh()
        found = self._small.get(oid)
        if found is not None:
            return found
        latest = self._latest
        if latest is not None:
            offset = latest.index.find(oid)
            if offset is not None:
                return latest, offset
        for pack in self._large:
            offset = pack.index.find(oid)
            if offset is not None:
                self._latest = pack
                return pack, offset
        return None

    def find_each(self, oid: Oid) -> list[tuple[Pack, int]]:
        """Say in which known packs an object is, and where in each: for where the one that `find` names is damaged."""
        found: list[tuple[Pack, int]] = []
        for pack in self._packs.values():
            offset = pack.index.find(oid)
            if offset is not None:
                found.append((pack, offset))
        return found

    def changed_since(self, generation: int) -> bool:
        """Read the directory again; tell whether other packs are known than at that generation."""
        self.refresh()
        return self.generation != generation

    def find_all(self, wanted: set[Oid]) -> Iterator[tuple[Pack, list[Oid], list[int]]]:
        """Say of many objects in which known pack they are, and where in it, in ascending order.

        Costs a fraction of finding one by one.
        """
        if not self._listed:
            self.refresh()
        small: dict[Pack, list[tuple[int, Oid]]] = {}
        left = wanted.difference(known := wanted & self._small.keys())
        for oid in known:
            pack, offset = self._small[oid]
            small.setdefault(pack, []).append((offset, oid))
        for pack, found in small.items():
            found.sort()
            yield pack, [oid for _, oid in found], [offset for offset, _ in found]
        for pack in self._large:
            if not left:
                break
            index = pack.index
            if len(left) * _WHOLE_INDEX_ABOVE < index.count:
                found = [(at, oid) for oid in left if (at := index.find(oid)) is not None]
            else:
                oids = index.oids()
                held = left.intersection(oids)
                found = [(offset, oid) for oid, offset in zip(oids, index.offsets(), strict=True) if oid in held]
            if found:
                found.sort()  # read in the order of the disk
                yield pack, [oid for _, oid in found], [offset for offset, _ in found]
                left.difference_update([oid for _, oid in found])

    def refresh(self) -> None:
        """Read the directory again."""
        with self._lock:
            # Where a pack has gone since it was listed, what took its place may have come after that, too.
            for _ in range(_LISTINGS):
                if self._list():
                    break

    def _list(self) -> bool:
        """Read the directory; False if it changed meanwhile."""
        try:
            listed = set(os.listdir(self.directory))
        except FileNotFoundError:
            listed = set()
        stems = (name[:-4] for name in listed if name.startswith("pack-") and name.endswith(".idx"))
        names = {stem for stem in stems if f"{stem}.pack" in listed}
        self._listed = True
        if names == self._packs.keys() | self.unreadable:
            return True
        self.unreadable &= names
        packs = {name: pack for name, pack in self._packs.items() if name in names}
        is_complete = True
        for name in sorted(names - packs.keys() - self.unreadable):
            try:
                packs[name] = Pack(self.directory / f"{name}.pack", self)
            except FileNotFoundError:
                is_complete = False  # gone since
            except (BadPack, OSError):
                self.unreadable.add(name)
        self._arrange(packs)
        return is_complete

    def add(self, pack_path: Path) -> None:
        """Learn of a pack that was just written."""
        with self._lock:
            if self._listed and pack_path.stem not in self._packs:
                pack = Pack(pack_path, self)
                self._packs[pack_path.stem] = pack
                self._large = _place(pack, self._small, self._large)
                self.generation += 1

    def _arrange(self, packs: dict[str, Pack]) -> None:
        """Put packs to use in place of those known before; readers see the old ones or the new ones."""
        small: dict[Oid, tuple[Pack, int]] = {}
        large: list[Pack] = []
        for name, pack in list(packs.items()):
            try:
                large = _place(pack, small, large)
            except BadPack:
                self.unreadable.add(name)
                del packs[name]
        self._small = small
        self._large = large
        self._latest = None
        self._packs = packs
        self.generation += 1
        for pack in self._open[:]:
            if pack.path.stem not in packs:
                pack.close()
                with suppress(ValueError):
                    self._open.remove(pack)

    def opened(self, pack: Pack) -> None:
        """Note that a pack was opened; the one open for longest is closed if there are too many."""
        self._open.append(pack)
        while len(self._open) > _OPEN_PACKS:
            self._open.pop(0).close()

    def packs(self) -> list[Pack]:
        """List all packs that can be read here, as the directory is now."""
        self.refresh()
        return list(self._packs.values())

    def with_prefix(self, hex_prefix: str) -> set[Oid]:
        """List the objects of all packs whose hexadecimal id starts so."""
        return {oid for pack in self.packs() for oid in pack.index.with_prefix(hex_prefix)}

    def close(self) -> None:
        """Let go of every file."""
        with self._lock:
            for pack in self._open:
                pack.close()
            self._open = []
            self.made.clear()
            self._packs = {}
            self._small = {}
            self._large = []
            self._latest = None
            self._listed = False


def _place(pack: Pack, small: dict[Oid, tuple[Pack, int]], large: list[Pack]) -> list[Pack]:
    """Put a pack's objects with the small ones, or return the large ones with it, the largest first."""
    index = pack.index
    if index.count <= _SMALL_PACK and len(small) + index.count <= _SMALL_TOTAL:
        small.update((oid, (pack, offset)) for oid, offset in zip(index.oids(), index.offsets(), strict=True))
        return large
    return sorted([*large, pack], key=lambda other: -other.index.count)


def build_index(oids: Sequence[Oid], offsets: Sequence[int], crcs: Sequence[int], pack_checksum: bytes) -> bytearray:
    """Write the index (version 2) of a pack; its objects come in any order. Costs about 60 bytes of memory an object."""
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
