"""The packs of a repository: which are known, and reading an object from one.

Decided here: when the directory is read again, which packs are kept open, and how objects are made of deltas. Called by
`store` and by what packs are written, joined and swept with.

Usable from threads: a descriptor is closed when the last reader lets go of it, never under one. Files of a pack never
change once they have their name; that git removes one at any time is expected, and shows as `FileNotFoundError` or as
an object that is no longer found.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from avfs_git.gitstore.formats.deltas import apply_delta, read_distance
from avfs_git.gitstore.formats.packfile import (
    BY_ID,
    BY_OFFSET,
    FIRST_READ,
    KIND_BLOB,
    KIND_NAMES,
    MAX_STRUCTURE,
    BadPack,
    delta_result_size,
    inflate_entry,
    inflate_stream,
    parse_entry_header,
)
from avfs_git.gitstore.formats.packindex import PackIndex
from avfs_git.gitstore.objects.cache import GenerationCache
from avfs_git.paths import Oid

_SMALL_PACK = 250
"""Objects up to which a pack's index is read into one dict with those of others: most checkpoints."""
_SMALL_TOTAL = 8_000
_LISTINGS = 20
"""How often the directory of packs is read before it counts as known, while others join packs in it."""
_CHAIN_MAX = 4_096
"""Deltas that apply to each other, at most: git's own limit is 4,095."""
_MADE_MAX = 512 << 20
"""Bytes of a blob that a delta makes: git makes none of larger ones (`core.bigFileThreshold`)."""
_MADE_KEPT = 16 << 20
"""Bytes of objects made from deltas to store, because the next delta often applies to them: none above a quarter."""
_ENTRY = 400
"""Bytes that an object takes beside its content."""
_OPEN_PACKS = 64
_WINDOW, _HEAD_MAX, _DENSE = 1 << 16, 96, 16
"""For many sizes of a pack: the bytes to read at once, the most bytes that tell one size, and how many are many."""
_WHOLE_INDEX_ABOVE = 24
"""How many entries of an index are gone through in the time that one takes to be found."""


class _Descriptor:
    """An open file that is closed with the last reference to this object."""

    __slots__ = ("fd",)

    def __init__(self, path: Path) -> None:
        self.fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)  # a pipe of that name blocks no reader

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
        """Read the object at an offset: its kind and its content, made by deltas if the pack holds it so."""
        held = self.file()
        data = os.pread(held.fd, FIRST_READ, offset)
        kind, size, start = parse_entry_header(data)
        if kind not in KIND_NAMES:
            return self._make(offset)
        if size > MAX_STRUCTURE and kind != KIND_BLOB:
            raise BadPack("it is too large for what it is")
        return kind, inflate_entry(held.fd, offset, data, start, size)

    def _make(self, offset: int) -> tuple[int, bytes]:
        """Make an object of which the pack holds a delta: down the chain by headers, and up again with the content."""
        held, made = self.file(), self._owner.made
        found: tuple[int, bytes] | None = None
        chain: list[tuple[int, int, int]] = []
        here = offset
        while found is None:
            kind, size, start, below = self.entry(here)
            if below is None:
                found = self.read(here)
                break
            chain.append((here, start, size))
            here = below
            found = made.get((self.path, here))
            if len(chain) > _CHAIN_MAX:
                raise BadPack("a chain of deltas is too long")
        kind, content = found
        most = _MADE_MAX if kind == KIND_BLOB else MAX_STRUCTURE
        for here, start, size in reversed(chain):
            if size > most:
                raise BadPack("a delta is too large for what it makes")
            try:
                content = apply_delta(
                    content, inflate_entry(held.fd, here, os.pread(held.fd, FIRST_READ, here), start, size), most
                )
            except ValueError as error:
                raise BadPack(str(error)) from error
            if len(content) <= _MADE_KEPT // 4:
                made.put((self.path, here), (kind, content))
        return kind, content

    def entry(self, offset: int) -> tuple[int, int, int, int | None]:
        """Read an entry's header: kind, size, where the content begins, and for a delta the offset of its base."""
        data = os.pread(self.file().fd, 64, offset)
        kind, size, start = parse_entry_header(data)
        below: int | None
        if kind in KIND_NAMES:
            return kind, size, start, None
        try:
            if kind == BY_OFFSET:
                distance, start = read_distance(data, start)
                below = offset - distance if 0 < distance < offset else None
            else:
                below = self.index.find(data[start : start + 20]) if kind == BY_ID else None
                start += 20
        except (IndexError, ValueError) as error:
            raise BadPack("the pack is cut short") from error
        if below is None:
            raise BadPack("it is a delta of what its pack does not hold")
        return kind, size, start, below

    def describe(self, offset: int) -> tuple[int, int]:
        """Tell the kind and the size of the object at an offset without reading it; of a delta, of what it makes."""
        kind, size, _, below = self.entry(offset)
        if below is None:
            return kind, size
        data = os.pread(self.file().fd, _HEAD_MAX + 32, offset)
        size = delta_result_size(kind, data[parse_entry_header(data)[2] :])
        for _ in range(_CHAIN_MAX):
            kind, _, _, place = self.entry(below)
            if place is None:
                return kind, size
            below = place
        raise BadPack("a chain of deltas is too long")

    def heads(self, offsets: Sequence[int]) -> list[tuple[int, int]]:
        """Tell the kinds and sizes of the objects at ascending offsets, without reading them.

        Of a delta, the size of its result.

        Where they lie close together the pack is read in large pieces: a call for each would take longer.

        Raises:
            FileNotFoundError: If the pack has gone.
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
            if first & 0xF0 == KIND_BLOB << 4 | 0x80 and second < 0x80:  # most of all: a blob of 16 to 2047 bytes
                found.append((KIND_BLOB, first & 15 | second << 4))
                continue
            kind, size, length = parse_entry_header(data if not at else data[at : at + 16])
            if kind not in KIND_NAMES:
                size = delta_result_size(kind, data[at + length : at + _HEAD_MAX])
            found.append((kind, size))
        return found

    def stream(self, offset: int) -> Iterator[bytes]:
        """Read the object at an offset, which is no delta, in pieces of at most 1 MiB."""
        held = self.file()
        _, size, start = parse_entry_header(os.pread(held.fd, 32, offset))
        yield from inflate_stream(held.fd, offset + start, size)


class PackSet:
    """All packs of one `objects/pack` directory."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.unreadable: set[str] = set()
        """Names of packs whose index is broken: they hold nothing."""
        self.made: GenerationCache[tuple[Path, int], tuple[int, bytes]] = GenerationCache(
            _MADE_KEPT, lambda made: len(made[1]) + _ENTRY
        )
        self._packs: dict[str, Pack] = {}
        self._small: dict[Oid, tuple[Pack, int]] = {}
        self._large: list[Pack] = []
        self._latest: Pack | None = None  # among the large ones; the next object is likely to be there too
        self._open: list[Pack] = []
        self._lock = threading.Lock()
        self._listed = False
        self.generation = 0
        """Grows whenever other packs are known: a caller that missed an object looks again."""

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
        """Read the directory; False if what it holds may not be all: a pack has gone.

        A listing that goes on while others join packs can lack both: the new pack came behind it, the old one went
        ahead of it.
        """
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
        is_complete = self._packs.keys() <= names
        for name in sorted(names - packs.keys() - self.unreadable):
            try:
                packs[name] = Pack(self.directory / f"{name}.pack", self)
            except FileNotFoundError:
                if (self.directory / f"{name}.idx").is_symlink():
                    self.unreadable.add(name)  # it leads nowhere, however often it is tried
                else:
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
