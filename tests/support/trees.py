"""Trees for tests of the merged view: a plain directory as the lower layer, and what a tree holds as a value.

Decided here: how a tree is compared. `DirectoryLower` stands where a git tree and its sidecar stand in the product,
so that the same directory can be the kernel's lower layer, too.
"""

from __future__ import annotations

import os
import stat
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path

from avfs_git.gitstore.bounds import Bound
from avfs_git.paths import TreePath, components
from avfs_git.vfs.layer.lower import LowerEntry, LowerTree
from avfs_git.vfs.tree.merged import Attr, MergedTree, Node
from tests.support.objects import MemorySource

_KINDS = {stat.S_IFREG: "file", stat.S_IFDIR: "dir", stat.S_IFLNK: "symlink"}


class DirectoryEntry(LowerEntry):
    """An entry of a plain directory."""

    __slots__ = ("path",)

    def __init__(self, path: bytes) -> None:  # not that of a git object
        found = os.lstat(path)
        self.path = path
        self.kind = _KINDS[stat.S_IFMT(found.st_mode)]
        self.mode = found.st_mode
        self.mtime_ns = found.st_mtime_ns
        names = sorted(os.fsencode(name) for name in os.listxattr(path, follow_symlinks=False))
        self.xattrs = tuple((name, os.getxattr(path, name)) for name in names)


class DirectoryLower(LowerTree):
    """A plain directory where the product has a git tree; read once, like an object that cannot change."""

    def __init__(self, directory: Path) -> None:
        self.root = DirectoryEntry(os.fsencode(directory))
        self._known: dict[bytes, dict[bytes, LowerEntry]] = {}

    def bound_below(self, entry: LowerEntry) -> Bound:
        """Bound nothing: no directory of the host is a tree bomb."""
        return Bound(MemorySource())

    def children(self, entry: LowerEntry) -> Mapping[bytes, LowerEntry]:
        """List a directory."""
        assert isinstance(entry, DirectoryEntry)
        found = self._known.get(entry.path)
        if found is None:
            found = self._known[entry.path] = {
                name: DirectoryEntry(entry.path + b"/" + name) for name in os.listdir(entry.path)
            }
        return found

    def lookup(self, path: TreePath) -> LowerEntry | None:
        """Find an entry."""
        here: LowerEntry = self.root
        for name in components(path):
            found = self.children(here).get(name) if here.is_dir else None
            if found is None:
                return None
            here = found
        return here

    def size_of(self, entry: LowerEntry) -> int:
        """Tell the size of a file."""
        if not isinstance(entry, DirectoryEntry):
            return super().size_of(entry)
        return 0 if entry.is_dir else os.lstat(entry.path).st_size

    def read(self, entry: LowerEntry) -> bytes:
        """Read a file or a symbolic link."""
        assert isinstance(entry, DirectoryEntry)
        if entry.kind == "symlink":
            return os.readlink(entry.path)
        return Path(os.fsdecode(entry.path)).read_bytes()

    def stream(self, entry: LowerEntry) -> Iterator[bytes]:
        """Read a file in pieces."""
        assert isinstance(entry, DirectoryEntry)
        with open(entry.path, "rb") as file:
            while piece := file.read(1 << 20):
                yield piece


Described = tuple[object, ...]
"""What is compared of an entry: kind, permission bits, content or target, extended attributes, group of hard links."""


def describe_dir(directory: Path | bytes, *, times: bool = False) -> dict[bytes, Described]:
    """Describe everything below a plain directory by path."""
    found: dict[bytes, Described] = {}
    links: dict[int, bytes] = {}
    pending = [b""]
    base = os.fsencode(directory)
    while pending:
        path = pending.pop()
        place = base + b"/" + path if path else base
        status = os.lstat(place)
        kind = stat.S_IFMT(status.st_mode)
        content: object = None
        if kind == stat.S_IFDIR:
            pending += [path + b"/" + name if path else name for name in sorted(os.listdir(place), reverse=True)]
        elif kind == stat.S_IFLNK:
            content = os.readlink(place)
        elif kind == stat.S_IFREG:
            with open(place, "rb") as file:
                content = file.read()
        xattrs = (
            {name: os.getxattr(place, name) for name in os.listxattr(place, follow_symlinks=False)}
            if kind != stat.S_IFLNK
            else {}
        )
        first = links.setdefault(status.st_ino, path) if kind != stat.S_IFDIR and status.st_nlink > 1 else None
        moment = status.st_mtime_ns if times else None
        found[path] = (kind, status.st_mode & 0o7777, content, sorted(xattrs.items()), first, moment)
    return _without_lone_links(found)


def list_nodes(tree: MergedTree, node: Node) -> list[tuple[bytes, Node, Attr]]:
    """List a directory with the node and the attributes of each entry, in one step."""
    with tree.guard:
        found = [(name, tree.nodes.find(node, name)) for name, _ in tree.nodes.readdir(node)]
        return [(name, child, tree.attributes.getattr(child)) for name, child in found if child is not None]


def describe_tree(tree: MergedTree, *, times: bool = False) -> dict[bytes, Described]:
    """Describe everything that a merged tree shows, in the terms of `describe_dir`."""
    found: dict[bytes, Described] = {}
    links: dict[int, bytes] = {}
    pending: list[tuple[bytes, Node]] = [(b"", tree.root)]
    while pending:
        path, node = pending.pop()
        attr = tree.attributes.getattr(node)
        content: object = None
        if node.kind == stat.S_IFDIR:
            below = sorted(list_nodes(tree, node), key=lambda entry: entry[0], reverse=True)
            assert sorted(name for name, _ in tree.nodes.readdir(node)) == sorted(name for name, _, _ in below)
            listed = tree.attributes.list_attrs(node)
            # How many directories a directory holds is not known in a list.
            assert [
                (name, seen._replace(nlink=1) if child.is_dir else seen) for name, child, seen in reversed(below)
            ] == [(one.name, one.attr._replace(nlink=1) if stat.S_ISDIR(one.attr.mode) else one.attr) for one in listed]
            pending += [(path + b"/" + name if path else name, child) for name, child, _ in below]
        elif node.kind == stat.S_IFLNK:
            content = tree.attributes.readlink(node)
            assert attr.size == len(tree.attributes.readlink(node))
        elif node.kind == stat.S_IFREG:
            content = tree.contents.read_all(node)
            assert content == tree.contents.read(node, attr.size + 10, 0)
            assert content == b"".join(tree.contents.stream(node))
            assert attr.size == len(tree.contents.read_all(node))
        xattrs = {os.fsdecode(name): value for name, value in tree.attributes.read_xattrs(node).items()}
        first = links.setdefault(node.ino, path) if node.kind != stat.S_IFDIR and attr.nlink > 1 else None
        moment = attr.mtime_ns if times else None
        found[path] = (node.kind, attr.mode & 0o7777, content, sorted(xattrs.items()), first, moment)
    return _without_lone_links(found)


def _without_lone_links(found: dict[bytes, Described]) -> dict[bytes, Described]:
    """Leave out what has its other names elsewhere: an open file that was removed, what a killed process left."""
    groups = Counter(entry[4] for entry in found.values())
    return {path: entry if groups[entry[4]] > 1 else (*entry[:4], None, entry[5]) for path, entry in found.items()}
