"""What a node is, and its number.

Decided here: how an entry is identified. A node has one number from its first lookup until it is forgotten, wherever it
is renamed to and whether or not it is copied up; hard links of the upper layer share one node. Numbers end with the
process, unless a `Ledger` remembers them: then a process that goes on for a dead one gives nodes their old numbers.
Called with the tree's lock held, but for `InodeTable.find`.
"""

from __future__ import annotations

import enum
import itertools
import stat
from array import array
from collections.abc import Callable, Iterator
from typing import Protocol

from avfs_git.host.files.beneath import Descriptor
from avfs_git.paths import TreePath
from avfs_git.values import NamedTuple
from avfs_git.vfs.layer.lower import LowerEntry

ROOT_INO = 1
DiskKey = tuple[int, int]
"""Device and inode number of a file of the upper layer."""


class Node:
    """One file, directory or other object of a tree.

    Attributes:
        ino: Its number.
        kind: The type bits of its `st_mode`.
        parent: The directory of its (first known) name; None for the root, and for what has no name any more.
        name: Its name there.
        aliases: Its other known names, for a file with hard links.
        lower: A directory: the lower directory that it merges with. Else: the lower entry that it shows until it is
            copied up. None if it shows nothing of the lower layer.
        upper: Whether it is in the upper layer. A directory that is has all its parents there.
        children: A directory's known nodes by name.
        listing: A directory's names in the upper layer with their type bits, 0 for a whiteout; None if not read.
        moved_from: A directory that shows another one of the lower layer than that at its place: the path of that one.
        xattr_whiteouts: A directory: whether its whiteouts may be empty files with an attribute.
        sets_group: A directory: whether new entries get its group; None if not looked at.
        has_xattrs: A file: whether it may carry extended attributes.
        links: A file of the upper layer: its number of names, known or not.
        disk_key: By which its hard links are recognised, if it has any.
        descriptor: A descriptor that the pool may close: of a directory to name its entries, of a file its data.
        held: A descriptor of a file or directory that has no name any more but is still in use.
        pins: How many holders outside (a kernel's references, open files) know the node by its number.
    """

    __slots__ = (
        "__weakref__",
        "aliases",
        "children",
        "descriptor",
        "disk_key",
        "has_xattrs",
        "held",
        "ino",
        "kind",
        "links",
        "listing",
        "lower",
        "moved_from",
        "name",
        "parent",
        "pins",
        "sets_group",
        "upper",
        "xattr_whiteouts",
    )

    def __init__(self, kind: int, parent: Node | None, name: bytes, lower: LowerEntry | None, *, upper: bool) -> None:
        self.ino = 0
        self.kind = kind
        self.parent = parent
        self.name = name
        self.aliases: list[tuple[Node, bytes]] | None = None
        self.lower = lower
        self.upper = upper
        self.children: dict[bytes, Node] = {} if kind == stat.S_IFDIR else _NO_CHILDREN
        self.listing: dict[bytes, int] | None = None
        self.moved_from: TreePath | None = None
        self.xattr_whiteouts = False
        self.sets_group: bool | None = None
        self.has_xattrs = True
        self.links = 1
        self.disk_key: DiskKey | None = None
        self.descriptor: Descriptor | None = None
        self.held: Descriptor | None = None
        self.pins = 0

    @property
    def is_dir(self) -> bool:
        """Whether it is a directory."""
        return self.kind == stat.S_IFDIR

    def names(self) -> Iterator[tuple[Node, bytes]]:
        """List its known names with the directories they stand in; none for the root."""
        if self.parent is not None:
            yield self.parent, self.name
        if self.aliases:
            yield from self.aliases

    def __repr__(self) -> str:
        return f"<Node {self.ino} {self.name!r}>"


_NO_CHILDREN: dict[bytes, Node] = {}


class Place(enum.IntEnum):
    """Where a node is found again."""

    NAMED = 1
    """Under its name in its directory."""
    ATTIC = 2
    """Among the files that are kept without a name, see `vfs.tree.pins`."""
    LOWER = 3
    """At a path of the lower layer, though the name is gone."""
    REMOVED = 4
    """Nowhere: a directory that was removed while in use."""


class Noted(NamedTuple):
    """What a ledger knows of a node."""

    parent: int
    text: bytes
    """Its name, or what else its place needs."""
    pins: int
    kind: int
    place: Place


class Ledger(Protocol):
    """Remembers pinned nodes in memory that outlives this process.

    Called under the tree's lock. Only nodes with pins are noted, and directories that had some once.
    """

    def keep(self, node: Node, place: Place = Place.NAMED, text: bytes | None = None) -> None:
        """Note a node with its pins and its place, instead of what was noted of it."""

    def keep_both(self, one: Node, other: Node) -> None:
        """Note two nodes under their names, as `keep` does, in one step: never one without the other."""

    def count(self, node: Node) -> None:
        """Note the pins of a node that is noted."""

    def drop(self, ino: int) -> None:
        """Forget a node."""

    def read(self, ino: int) -> Noted | None:
        """Read what is noted of a number."""

    def load(self) -> tuple[dict[int, array[int]], list[int]]:
        """List all numbers with a name by their directories, and those of files that may have several."""

    def is_free(self, ino: int) -> bool:
        """Whether a number can be given to a node."""

    def begin(self, ino: int, over: int, on_disk: int) -> None:
        """Note that all checks have passed and the next thing to be done changes the disk.

        `ino` loses its name or moves, `over` loses its name to it. `on_disk` is the inode number of what moves, where
        needed.
        """

    def numbers(self) -> Iterator[int]:
        """Give the numbers that were never given to a node, in order."""
        ...


class InodeTable:
    """All nodes of a tree by number, and files with hard links by their place on disk."""

    def __init__(self, first: int = ROOT_INO) -> None:
        """Number nodes from a root's number on."""
        self._first = first
        self._nodes: dict[int, Node] = {}
        self.find: Callable[[int], Node | None] = self._nodes.get
        """Find a node by its number."""
        self._by_disk_key: dict[DiskKey, Node] = {}
        self._numbers: Iterator[int] = itertools.count(first + 1)
        self._recall: Callable[[Node], int | None] | None = None
        self._is_free: Callable[[int], bool] | None = None

    def recall_with(self, recall: Callable[[Node], int | None], ledger: Ledger) -> None:
        """Give nodes the numbers that they had for a process before this one.

        `recall` is asked for the number of a node that has its place; it gives None for one that had none.
        """
        self._recall = recall
        self._is_free = ledger.is_free
        self._numbers = ledger.numbers()
        there = list(self._nodes.values())
        self._nodes.clear()
        for node in there:
            self.add(node)

    def __len__(self) -> int:
        return len(self._nodes)

    def __iter__(self) -> Iterator[Node]:
        return iter(list(self._nodes.values()))

    def known_after(self, ino: int) -> Iterator[Node]:
        """List nodes in the order in which they became known, those with higher numbers first.

        Nothing may change meanwhile.
        """
        later = (node for node in self._nodes.values() if node.ino > ino)
        return itertools.chain(later, (node for node in self._nodes.values() if node.ino <= ino))

    def add(self, node: Node) -> Node:
        """Give a node its number."""
        if node.parent is None:
            node.ino = self._first
        elif self._recall is None:
            node.ino = next(self._numbers)
        else:
            node.ino = self._recall(node) or self._free_number()
        self._nodes[node.ino] = node
        return node

    def put(self, node: Node, ino: int) -> None:
        """Give a node that has no place a number that it had before."""
        node.ino = ino
        self._nodes[ino] = node

    def _free_number(self) -> int:
        while True:
            found = next(self._numbers)
            if self._is_free is None or self._is_free(found):
                return found

    def drop(self, node: Node) -> None:
        """Forget a node; its number is not used again."""
        self._nodes.pop(node.ino, None)
        self.unlink_from_disk(node)

    def find_on_disk(self, key: DiskKey) -> Node | None:
        """Find the node of a file that has several names."""
        return self._by_disk_key.get(key)

    def link_to_disk(self, node: Node, key: DiskKey) -> None:
        """Note that a file has several names, so that each of them finds this node."""
        node.disk_key = key
        self._by_disk_key[key] = node

    def unlink_from_disk(self, node: Node) -> None:
        """Note that the file of a node has no further names."""
        if node.disk_key is not None:
            if self._by_disk_key.get(node.disk_key) is node:
                del self._by_disk_key[node.disk_key]
            node.disk_key = None

    def clear(self) -> None:
        """Forget all nodes; the numbers go on, so that none is ever used twice."""
        self._nodes.clear()
        self._by_disk_key.clear()
