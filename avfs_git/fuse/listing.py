"""Directories as a program reads them, piece by piece, while they change.

Decided here: what the position in a listing is. The kernel opens and closes directories without telling, so there is no
handle to keep a place in. The position after a name is a number made from the name itself: it stays good when other
entries come and go (`rm -rf` removes what it has read), and after another server took over. Names are listed in the
order of these numbers.

A `Listings` remembers the directories that are being read; losing one costs reading it again. Of a tree that cannot
change, an `Answers` remembers replies. `fuse.operations` calls both under the tree's lock.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING
from zlib import adler32, crc32

from avfs_git.paths import NAME_MAX
from avfs_git.values import NamedTuple

if TYPE_CHECKING:
    from avfs_git.vfs.tree.inodes import Node

DOT, DOT_DOT = 1, 2
"""Positions after `.` and `..`, which come first."""
_FIRST = 16
_MASK = (1 << 29) - 1
_KEPT = 16
_ANSWERS, _ANSWER_MAX = 64, 1 << 16
"""How many answers are kept, and how long they may be."""


class Listing(NamedTuple):
    """The names of a directory as they were when a program began to read it."""

    positions: Sequence[int]
    """The position after each name, ascending."""
    names: Sequence[tuple[bytes, int]]
    """Names and type bits."""

    def after(self, position: int) -> int:
        """Find the index of the first name behind a position."""
        return bisect_right(self.positions, position)


def position_of(name: bytes) -> int:
    """Make the position of a name: positive, and so that 32-bit programs' libraries can carry it as 64 bits.

    Two checksums of different kinds: quick, and hardly ever the same for two names. Where they are, `make_listing`
    tells the names apart.
    """
    return _FIRST + (crc32(name) << 29 | adler32(name) & _MASK)


def make_listing(names: Iterable[tuple[bytes, int]]) -> Listing:
    """Put names in order.

    One that is longer than the kernel lets any program look up is left out: with it the kernel, or a program, would
    refuse the whole directory.
    """
    found = sorted((position_of(name), name, kind) for name, kind in names if len(name) <= NAME_MAX)
    positions = [position for position, _, _ in found]
    for index in range(1, len(positions)):
        # Two names of one number must not share a position: the second would be lost at the end of a piece.
        if positions[index] <= positions[index - 1]:
            positions[index] = positions[index - 1] + 1
    return Listing(positions, [(name, kind) for _, name, kind in found])


class Answers:
    """The last few replies about directories that cannot change, by node, position and size, each with its nodes.

    The kernel caches a listing when a program has read it to the end. Programs that walk through a tree side by side
    read each directory before that, all of them.
    """

    def __init__(self) -> None:
        self._kept: OrderedDict[tuple[int, int, int], tuple[bytes, Sequence[Node]]] = OrderedDict()

    def find(self, ino: int, position: int, size: int) -> tuple[bytes, Sequence[Node]] | None:
        """Find what was answered before."""
        return self._kept.get((ino, position, size))

    def keep(self, ino: int, position: int, size: int, body: bytes, nodes: Sequence[Node]) -> None:
        """Keep a reply for the next request like it."""
        if len(body) <= _ANSWER_MAX:
            self._kept[ino, position, size] = body, nodes
            if len(self._kept) > _ANSWERS:
                self._kept.popitem(last=False)


class Listings:
    """The last few directories that were read, by node."""

    def __init__(self) -> None:
        self._kept: OrderedDict[int, Listing] = OrderedDict()

    def find(self, ino: int) -> Listing | None:
        """Find what was kept of a directory."""
        return self._kept.get(ino)

    def keep(self, ino: int, listing: Listing) -> Listing:
        """Keep the listing of a directory while it is read."""
        self._kept[ino] = listing
        self._kept.move_to_end(ino)
        if len(self._kept) > _KEPT:
            self._kept.popitem(last=False)
        return listing

    def drop(self, ino: int) -> None:
        """Forget a directory that was read to its end."""
        self._kept.pop(ino, None)
