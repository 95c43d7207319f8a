"""The numbers of a mount that shows many trees: whose each one is, and what is left of them when a server dies.

Decided here: that all trees of a `fuse.composite` take their numbers from one count, so that one `Handover` has a slot
for each, and how a tree is found again by the number of anything in it. A tree's root is noted as an entry of the
folder that it was entered from, by its name there and what it showed then, which no name in a folder can be taken for.
All else is noted as in a mount of one tree (`vfs.tree.pins`).

One thread calls, that of the server. What is noted survives the server and ends with the mount.
"""

from __future__ import annotations

import errno
import stat
from array import array
from collections.abc import Container, Iterator

from avfs_git.fuse.handover.handover import Handover
from avfs_git.vfs.errnos import fail
from avfs_git.vfs.tree.inodes import Node, Noted, Place

_SEPARATOR = b"\0"
_DEEPEST = 100_000
"""More directories above each other than a damaged note may make this process look at."""


class Register:
    """All numbers of one mount."""

    def __init__(self, handover: Handover) -> None:
        """Go on with the numbers that a server before this one has noted, or begin."""
        self.handover = handover
        """What notes and reads what a node is, and whether a number is free."""
        self.roots: dict[int, int] = {}
        """The number of the root of the tree that a number belongs to, of what is in a tree."""
        self.below, _ = handover.load()
        """Numbers that were noted by a server before this one, by those of their directories."""
        self._names: dict[int, dict[bytes, int]] = {}
        self.numbers = handover.numbers()

    def take(self) -> int:
        """Take a number that nothing has."""
        return next(number for number in self.numbers if self.handover.is_free(number))

    def way_to(self, ino: int, known: Container[int]) -> list[tuple[int, Noted]]:
        """List the records of a node and of its parents that are not in `known`, the uppermost first.

        Raises:
            OSError: ESTALE if one of them has no record.
        """
        way: list[tuple[int, Noted]] = []
        while ino not in self.roots and ino not in known:
            about = self.handover.read(ino)
            if about is None or about.place is not Place.NAMED or len(way) > _DEEPEST:
                raise fail(errno.ESTALE)
            way.append((ino, about))
            ino = about.parent
        return way[::-1]

    def recall(self, folder: int, name: bytes, identity: bytes | None = None) -> tuple[int, int] | None:
        """Find the number that an earlier server gave to something in a folder, and how often the kernel knows it.

        `identity` is of a tree: what it shows.
        """
        text = _text(name, identity)
        noted = self.below.pop(folder, None)
        if noted is not None:
            found = ((self.handover.read(ino), ino) for ino in noted)
            self._names[folder] = {
                about.text: ino for about, ino in found if about is not None and about.parent == folder
            }
        ino = self._names.get(folder, {}).pop(text, None)
        about = None if ino is None else self.handover.read(ino)
        return (
            None if ino is None or about is None or (about.parent, about.text) != (folder, text) else (ino, about.pins)
        )

    def note(self, ino: int, kind: int, folder: int, name: bytes, pins: int) -> None:
        """Note an entry of a folder with how often the kernel knows it."""
        self.handover.keep(_entry(ino, kind, folder, name, pins))

    def drop(self, ino: int) -> None:
        """Forget a number."""
        self.roots.pop(ino, None)
        self.handover.drop(ino)

    def drop_tree(self, root: int, nodes: Iterator[Node] | None) -> None:
        """Forget whose the numbers of a tree are that is closed, and with its nodes all that is noted of it."""
        self.roots = {ino: other for ino, other in self.roots.items() if other != root}
        for node in nodes or ():
            self.drop(node.ino)


class TreeLedger:
    """The ledger of one tree, see `vfs.tree.inodes.Ledger`; nothing in such a tree ever changes its place."""

    def __init__(self, register: Register, root: int, folder: int, name: bytes, identity: bytes) -> None:
        """Note what a tree with a root of this number is told."""
        self._register = register
        self._root = root
        self._folder = folder
        self._text = _text(name, identity)

    def keep(self, node: Node, place: Place = Place.NAMED, text: bytes | None = None) -> None:
        """Note a node with its pins and its place."""
        self._register.roots[node.ino] = self._root
        if node.ino == self._root:
            self._register.note(node.ino, stat.S_IFDIR, self._folder, self._text, node.pins)
        else:
            self._register.handover.keep(node, place, text)

    def keep_both(self, one: Node, other: Node) -> None:
        """Note two nodes."""
        self.keep(one)
        self.keep(other)

    def count(self, node: Node) -> None:
        """Note the pins of a node that is noted."""
        self._register.roots[node.ino] = self._root
        self._register.handover.count(node)

    def drop(self, ino: int) -> None:
        """Forget a node."""
        self._register.drop(ino)

    def read(self, ino: int) -> Noted | None:
        """Read what is noted of a number."""
        return self._register.handover.read(ino)

    def load(self) -> tuple[dict[int, array[int]], list[int]]:
        """List all numbers by their directories: no two trees have one of the same number."""
        return self._register.below, []

    def is_free(self, ino: int) -> bool:
        """Whether a number can be given to a node."""
        return self._register.handover.is_free(ino)

    def numbers(self) -> Iterator[int]:
        """Give the numbers that nodes get, as far as they are free."""
        return self._register.numbers

    def begin(self, ino: int, over: int, on_disk: int) -> None:
        """Do nothing: no disk changes."""


def split(text: bytes) -> tuple[bytes, bytes | None]:
    """Take apart what is noted of an entry of a folder: its name and, of a tree, what it shows."""
    name, separator, identity = text.partition(_SEPARATOR)
    return name, identity if separator else None


def _text(name: bytes, identity: bytes | None) -> bytes:
    return name if identity is None else name + _SEPARATOR + identity


def _entry(ino: int, kind: int, folder: int, name: bytes, pins: int) -> Node:
    above = Node(stat.S_IFDIR, None, b"", None, upper=False)
    above.ino, above.pins = folder, 1  # it is noted itself
    node = Node(kind, above, name, None, upper=False)
    node.ino, node.pins = ino, pins
    return node
