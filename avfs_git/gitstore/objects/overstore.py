"""New objects and a store, read as one.

Decided here: a look-up finds new objects before those of the store, and new trees stay in memory as values.
`packwriter` stores new objects, `drywriter` only computes their ids. One `OverStore` belongs to one thread.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext

from avfs_git.gitstore.formats.commits import Commit, Links, parse_commit, parse_links, serialize_commit
from avfs_git.gitstore.formats.packfile import KIND_BLOB, KIND_COMMIT, KIND_TREE
from avfs_git.gitstore.formats.trees import parse_tree, serialize_sorted, serialize_tree, sort_tree
from avfs_git.gitstore.objects.store import ObjectStore, wrong_kind
from avfs_git.gitstore.source import Tree
from avfs_git.paths import Oid

_TREES_KEPT = 1_000


class OverStore(ABC):
    """Takes objects, and reads them back, and everything else from the store."""

    def __init__(self, store: ObjectStore) -> None:
        self.store = store
        self._trees: dict[Oid, Tree] = {}
        """Some of the new trees, so that reading them costs a look-up."""

    @abstractmethod
    def add(self, kind: int, data: bytes, *, keep: bool = False) -> Oid:
        """Take an object and return its id; with `keep`, it is read again from here even if it is not stored."""

    @abstractmethod
    def _find_new(self, oid: Oid) -> tuple[int, bytes] | None:
        """Read an object that was taken: its kind and content."""

    # --- taking objects ----------------------------------------------------------------------------------

    def add_tree(self, entries: Mapping[bytes, tuple[int, Oid]]) -> Oid:
        """Take a tree by its entries, which come in any order, and return its id."""
        tree = sort_tree(entries)
        return self._remember(self.add(KIND_TREE, serialize_tree(tree, in_order=True)), tree)

    def add_sorted(self, tree: Tree) -> Oid:
        """Take, without copying it, a tree with entries in git's order and names that git allows; return its id."""
        return self._remember(self.add(KIND_TREE, serialize_sorted(tree)), tree)

    def add_commit(self, commit: Commit) -> Oid:
        """Take a commit and return its id."""
        return self.add(KIND_COMMIT, serialize_commit(commit))

    def _remember(self, oid: Oid, tree: Tree) -> Oid:
        if len(self._trees) >= _TREES_KEPT:
            self._trees = {}
        self._trees[oid] = tree
        return oid

    def deflating_later(self) -> AbstractContextManager[None]:
        """Only hash the blobs that are added in the block, and deflate them at its end, if at all."""
        return nullcontext()

    # --- reading back ------------------------------------------------------------------------------------

    def read(self, oid: Oid) -> tuple[int, bytes]:
        """Read an object: its kind and content."""
        return self._find_new(oid) or self.store.read(oid)

    def _find_as(self, kind: int, oid: Oid) -> bytes | None:
        found = self._find_new(oid)
        if found is not None and found[0] != kind:
            raise wrong_kind(oid, found[0], kind)
        return None if found is None else found[1]

    def read_blob(self, oid: Oid) -> bytes:
        """Read the content of a blob."""
        data = self._find_as(KIND_BLOB, oid)
        return self.store.read_blob(oid) if data is None else data

    def read_tree(self, oid: Oid) -> Tree:
        """Read and check a tree."""
        tree = self._trees.get(oid)
        if tree is None:
            data = self._find_as(KIND_TREE, oid)
            if data is None:
                return self.store.read_tree(oid)
            tree = parse_tree(data, oid)
            self._remember(oid, tree)
        return tree

    def read_commit(self, oid: Oid) -> Commit:
        """Read a commit."""
        data = self._find_as(KIND_COMMIT, oid)
        return self.store.read_commit(oid) if data is None else parse_commit(data, oid)

    def read_links(self, oid: Oid) -> Links:
        """Read of a commit what a walk through history needs."""
        data = self._find_as(KIND_COMMIT, oid)
        return self.store.read_links(oid) if data is None else parse_links(data, oid)

    def ask_merge_bases(self, ours: Oid, theirs: Oid) -> list[Oid] | None:
        """Ask git for the merge bases of two commits that are in the store; None if it cannot tell."""
        return self.store.ask_merge_bases(ours, theirs)
