"""Computing what a `packwriter.PackWriter` would write, and storing nothing: what a checkpoint or a merge would be.

Decided here: what of it is kept in memory, to be read back. One `DryWriter` belongs to one thread. Nothing that it computed can
be relied on to be in the store.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from avfs_git.gitstore.formats.commits import Commit, Links, parse_commit, parse_links, serialize_commit
from avfs_git.gitstore.formats.packfile import KIND_BLOB, KIND_COMMIT, KIND_TREE
from avfs_git.gitstore.formats.trees import parse_tree, serialize_sorted, serialize_tree, sort_tree
from avfs_git.gitstore.objects.blobfile import hash_file
from avfs_git.gitstore.objects.store import ObjectStore, hash_object
from avfs_git.gitstore.source import Tree
from avfs_git.paths import Oid


class DryWriter:
    """Computes the ids that a `PackWriter` would, and stores nothing: what a checkpoint would be.

    Trees and commits are kept in memory, so that what was added can be compared; blobs are not, unless asked for.
    """

    def __init__(self, store: ObjectStore) -> None:
        self.store = store
        self._added: dict[Oid, tuple[int, bytes]] = {}
        self._trees: dict[Oid, Tree] = {}
        """Added trees that need not be parsed."""
        self._sizes: dict[Oid, int] = {}

    def add(self, kind: int, data: bytes, *, keep: bool = False) -> Oid:
        """Compute the id of an object."""
        oid = hash_object(kind, data)
        if kind == KIND_BLOB and not keep:
            self._sizes[oid] = len(data)
        else:
            self._added[oid] = (kind, data)
        return oid

    def add_tree(self, entries: Mapping[bytes, tuple[int, Oid]]) -> Oid:
        """Compute the id of a tree."""
        tree = sort_tree(entries)
        oid = self.add(KIND_TREE, serialize_tree(tree, in_order=True))
        self._trees[oid] = tree
        return oid

    def add_commit(self, commit: Commit) -> Oid:
        """Compute the id of a commit."""
        return self.add(KIND_COMMIT, serialize_commit(commit))

    def add_sorted(self, tree: Tree) -> Oid:
        """Compute the id of a tree whose entries are in git's order, with names that git allows; it is not copied."""
        oid = self.add(KIND_TREE, serialize_sorted(tree))
        self._trees[oid] = tree
        return oid

    def add_file(self, fd: int, size: int, *, goes_on: bool = False) -> Oid:
        """Compute the id that a file of that size has as a blob."""
        oid = hash_file(fd, size, goes_on=goes_on)
        self._sizes[oid] = size
        return oid

    def list_added(self) -> Iterator[tuple[int, Oid, bytes]]:
        """List the objects that are kept: kind, id and content."""
        return ((kind, oid, data) for oid, (kind, data) in self._added.items())

    def read(self, oid: Oid) -> tuple[int, bytes]:
        """Read an object of the store, or a tree or commit that was added."""
        return self._added.get(oid) or self.store.read(oid)

    def read_blob(self, oid: Oid) -> bytes:
        """Read the content of a blob of the store, or of a kept one."""
        added = self._added.get(oid)
        return self.store.read_blob(oid) if added is None else added[1]

    def read_tree(self, oid: Oid) -> Tree:
        """Read and check a tree."""
        added = self._added.get(oid)
        if added is None:
            return self.store.read_tree(oid)
        tree = self._trees.get(oid)
        if tree is None:
            self._trees[oid] = tree = parse_tree(added[1], oid)
        return tree

    def read_commit(self, oid: Oid) -> Commit:
        """Read a commit."""
        added = self._added.get(oid)
        return self.store.read_commit(oid) if added is None else parse_commit(added[1], oid)

    def read_links(self, oid: Oid) -> Links:
        """Read of a commit what a walk through history needs."""
        added = self._added.get(oid)
        return self.store.read_links(oid) if added is None else parse_links(added[1], oid)

    def ask_merge_bases(self, ours: Oid, theirs: Oid) -> list[Oid] | None:
        """Ask git for the merge bases of two commits that are in the store; None if it cannot tell."""
        return self.store.ask_merge_bases(ours, theirs)

    def blob_size(self, oid: Oid) -> int:
        """Say how long a blob is, without reading it."""
        size = self._sizes.get(oid)
        if size is None and oid in self._added:
            size = len(self._added[oid][1])
        return self.store.blob_size(oid) if size is None else size

    def holds(self, oid: Oid) -> bool:
        """Tell whether the content of an object is kept in memory."""
        return oid in self._added

    def exists(self, oid: Oid) -> bool:
        """Tell whether an object was added or is in the store."""
        return oid in self._added or oid in self._sizes or self.store.exists(oid)

    def stream_blob(self, oid: Oid) -> Iterator[bytes]:
        """Read the content of a blob of the store in pieces of at most 1 MiB."""
        return self.store.stream_blob(oid)
