"""What git was told to add in a fork's live tree.

Decided here: a path in git's index was added, staged or committed, and is no longer beside history. A capture asks only about
files that are beside history and that no rule ignores. The first such question reads the index, whose length is that of the
tree; it is in memory for one capture. Called with the workspace locked; only reads.
"""

from __future__ import annotations

from avfs_git.gitstore.formats.index import BadIndex, GitIndex
from avfs_git.gitstore.formats.trees import find_entry
from avfs_git.paths import Oid, TreePath
from avfs_git.workspace.vault.gitmoves import open_worktree
from avfs_git.workspace.vault.vault import OpenVault


class StagedPaths:
    """The paths in the index of one fork."""

    def __init__(self, vault: OpenVault, fork: str) -> None:
        self._vault = vault
        self._fork = fork
        self._paths: frozenset[bytes] | None = None

    def holds(self, path: TreePath) -> bool:
        """Whether git was told to add a path."""
        if self._paths is None:
            self._paths = self._read()
        if path not in self._paths:
            return False
        has_moved, basis = open_worktree(self._vault, self._fork).basis()
        # An index that avfs has yet to bring up also says what the branch held before, which may have been undone.
        return not has_moved or basis is None or find_entry(self._vault.store, self._tree(basis), path) is None

    def _read(self) -> frozenset[bytes]:
        worktree = open_worktree(self._vault, self._fork)
        found = worktree.read_index() if worktree.is_there else None
        try:
            return frozenset(GitIndex(found[0]).paths) if found is not None and found[0].strip(b"\0") else frozenset()
        except BadIndex:  # git itself will say so, and a file that stays out of history is not lost
            return frozenset()

    def _tree(self, commit: Oid) -> Oid:
        return self._vault.store.read_commit(commit).tree
