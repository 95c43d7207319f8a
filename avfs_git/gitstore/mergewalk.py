"""How a merge of trees goes through them: of what it asks where it went, and in which order it meets what changed.

Decided here: both as git's `ort` has it, because both show in the result. A file that is gone matters if it tells where its
directory went. And where several files have the same content, the one that is met first is taken for the renamed
one: directories in which only one side changed anything come last, in the order of a hash table. Used by `mergetrees`, once
for each merge; a `Walk` is used by one thread. What it asks the trees for is what lies on the way to changed paths.
"""

from __future__ import annotations

import stat
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from avfs_git.gitstore.mergerenames import DirectoryNeed
from avfs_git.gitstore.treediff import Entry

_BASE, _OURS, _THEIRS = 0, 1, 2
_SIDES = (_OURS, _THEIRS)
_BOTH = 1 << _OURS | 1 << _THEIRS
_ALL = 1 << _BASE | _BOTH

_FNV_BASE, _FNV_PRIME = 0x811C9DC5, 0x01000193
_TABLE_SIZE = 64
_TABLE_GROWTH = 4

Entries = tuple[Entry | None, Entry | None, Entry | None]
"""What the base and both sides have at a path."""


class Walk:
    """One way through three trees."""

    def __init__(self, paths: Iterable[tuple[bytes, int, bool]], entries_at: Callable[[bytes], Entries]) -> None:
        """Go through what changed.

        A directory matters when one side removed it and the other put a file directly into it, and then with all that
        is below it.

        Args:
            paths: Each path that a side changed, the sides that have a file there as a mask, and whether it is settled
                what becomes of it.
            entries_at: Looks a directory up in the three trees.
        """
        self._entries_at = entries_at
        self._inside: dict[bytes, int] = {b"": 0}
        """For each directory, the one side on which it is left, or `_ALL` where it matters where its files went."""
        self.directories: dict[int, dict[bytes, DirectoryNeed]] = {_OURS: {}, _THEIRS: {}}
        self._added: dict[bytes, int] = {}
        self._paths = list(paths)
        self._late: dict[bytes, tuple[int, bytes] | None] = {b"": None}
        """For each directory, on account of which side and with which directory above it comes late."""
        for path, files, _ in self._paths:
            if files in (1 << _OURS, 1 << _THEIRS):
                directory = path.rpartition(b"/")[0]
                self._added[directory] = self._added.get(directory, 0) | files
        for path, _, is_settled in self._paths:
            if not is_settled:
                self._look_at(path.rpartition(b"/")[0])
        for directory, sides in self._added.items():
            if self._inside.get(directory) == _ALL:
                for side in _SIDES:
                    if sides & 1 << side:
                        self.directories[3 - side][directory] = DirectoryNeed.SELF

    def is_location_needed(self, path: bytes) -> bool:
        """Whether the place a file went to tells where its directory went, and that is asked for."""
        return self._inside.get(path.rpartition(b"/")[0]) == _ALL

    def order_for(self, side: int) -> Callable[[bytes], tuple[int, bytes]]:
        """Return a key that sorts paths into the order in which they are met when a side's renames are sought."""
        first: dict[bytes, None] = {}
        for path, _, _ in self._paths:
            late = self._find_late(path.rpartition(b"/")[0])
            if late is not None and late[0] == side:
                first[late[1]] = None
        ranks = {directory: rank for rank, directory in enumerate(order_in_table(sorted(first)), 1)}

        def key(path: bytes) -> tuple[int, bytes]:
            late = self._late[path.rpartition(b"/")[0]]
            return (ranks[late[1]] if late is not None and late[0] == side else 0), path

        return key

    def _find_late(self, directory: bytes) -> tuple[int, bytes] | None:
        for place in _unknown_above(directory, self._late):
            above = place.rpartition(b"/")[0]
            self._look_at(above)
            late = self._late[above]
            if late is None and self._inside[above] != _ALL:
                side = self._only_changed_by(place)
                late = None if side is None else (side, place)
            self._late[place] = late
        return self._late[directory]

    def _only_changed_by(self, directory: bytes) -> int | None:
        """Tell which side is the only one that changed anything in a directory."""
        base, ours, theirs = entries = self._entries_at(directory)
        if [entry is not None for entry in entries] == [False, True, False]:
            return _OURS
        if [entry is not None for entry in entries] == [False, False, True]:
            return _THEIRS
        if base is not None and ours == base:
            return _THEIRS
        return _OURS if base is not None and theirs == base else None

    def _look_at(self, directory: bytes) -> None:
        for place in _unknown_above(directory, self._inside):
            above = self._inside[place.rpartition(b"/")[0]]
            here = above
            directories = _directories(self._entries_at(place))
            if directories & 1 and directories & _BOTH != _BOTH:
                need = DirectoryNeed.ANCESTOR if above == _ALL else DirectoryNeed.NONE
                for side in _SIDES:
                    if not directories & 1 << side:
                        self.directories[side][place] = need
                if above != _ALL and directories & _BOTH:
                    here = directories & _BOTH
            if here in (1 << _OURS, 1 << _THEIRS) and self._added.get(place, 0) & here:
                here = _ALL
            self._inside[place] = here


def order_in_table(names: Sequence[bytes]) -> list[bytes]:
    """Sort names as a hash table of git's returns them, into which they were put one after the other."""
    size = _TABLE_SIZE
    table: list[list[tuple[int, bytes]]] = [[] for _ in range(size)]
    for count, name in enumerate(names, 1):
        entry = _hash(name), name
        table[entry[0] % size].insert(0, entry)
        if count > size * 4 // 5:
            size *= _TABLE_GROWTH
            larger: list[list[tuple[int, bytes]]] = [[] for _ in range(size)]
            for chain in table:
                for moved in chain:
                    larger[moved[0] % size].insert(0, moved)
            table = larger
    return [name for chain in table for _, name in chain]


def _hash(name: bytes) -> int:
    found = _FNV_BASE
    for byte in name:
        found = (found * _FNV_PRIME & 0xFFFFFFFF) ^ byte
    return found


def _directories(entries: Entries) -> int:
    """The sides that have a directory, as a mask."""
    return sum(1 << side for side, entry in enumerate(entries) if entry is not None and stat.S_ISDIR(entry[0]))


def _unknown_above(directory: bytes, known: Mapping[bytes, object]) -> Iterator[bytes]:
    """List a directory and those above it that are not known yet, the uppermost first."""
    unknown = []
    while directory not in known:
        unknown.append(directory)
        directory = directory.rpartition(b"/")[0]
    return reversed(unknown)
