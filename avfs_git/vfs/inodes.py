"""What a node of the merged view is, and its number.

Decided here: how an entry is identified while a process looks at a workspace. A node has one number from when it
is first looked up until it is forgotten, wherever it is renamed to and whether or not it is copied up; hard links
of the upper layer share one node. The numbers mean nothing to another process and survive nothing. `vfs.view`
and the modules above it call this under their lock; a server looks numbers up with `InodeTable.find`.
"""

from __future__ import annotations

import itertools
import stat
from collections.abc import Iterator

from avfs_git.host.beneath import Descriptor
from avfs_git.vfs.lower import LowerEntry

ROOT_INO = 1
DiskKey = tuple[int, int]
"""Device and inode number of a file of the upper layer."""


class Node:
    """One file, directory or other object of the merged view.

    Attributes:
        ino: Its number.
        kind: The type bits of its `st_mode`.
        parent: The directory of its (first known) name; None for the root, and for what has no name any more.
        name: Its name there.
        aliases: Its other known names, for a file with hard links.
        lower: A directory: what of the lower layer it merges with. Else: what it shows as long as it is not in
            the upper layer. None where the lower layer has nothing to do with it.
        upper: Whether it is in the upper layer. A directory that is has all its parents there.
        children: A directory's known nodes by name.
        listing: A directory's names in the upper layer with their type bits, 0 for a whiteout; None if not read.
        xattr_whiteouts: A directory: whether its whiteouts may be empty files with an attribute.
        sets_group: A directory: whether what is made in it gets its group; None if not looked at.
        has_xattrs: A file: whether it may carry extended attributes.
        links: A file of the upper layer: its number of names, known or not.
        disk_key: Where hard links to it are recognised by, if it has any.
        descriptor: A descriptor that the pool may take away: of a directory to name its entries, of a file its data.
        held: A descriptor of what has no name any more but is still in use.
        pins: How many holders outside (a kernel's references, open files) still know the node by its number.
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


class InodeTable:
    """All nodes of a merged view by number, and hard links by where they are on disk."""

    def __init__(self) -> None:
        self._nodes: dict[int, Node] = {}
        self._by_disk_key: dict[DiskKey, Node] = {}
        self._numbers = itertools.count(ROOT_INO + 1)

    def __len__(self) -> int:
        return len(self._nodes)

    def __iter__(self) -> Iterator[Node]:
        return iter(list(self._nodes.values()))

    def add(self, node: Node) -> Node:
        """Give a node its number."""
        node.ino = ROOT_INO if node.parent is None else next(self._numbers)
        self._nodes[node.ino] = node
        return node

    def find(self, ino: int) -> Node | None:
        """Find a node by its number."""
        return self._nodes.get(ino)

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
