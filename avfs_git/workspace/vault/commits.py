"""Commits as trees that can be looked at, without a workspace.

Decided here: what a commit shows when it is mounted or listed by itself. Nothing is locked and nothing is written but
the vault's cache of big files; any process may call this at any time.
"""

from __future__ import annotations

from avfs_git.paths import Oid
from avfs_git.vfs.layer.lower import LowerTree
from avfs_git.vfs.tree.inodes import ROOT_INO
from avfs_git.vfs.tree.merged import MergedTree
from avfs_git.vfs.tree.readonly import open_commit_tree
from avfs_git.workspace.vault.vault import OpenVault


def lower_of(vault: OpenVault, oid: Oid, *, sidecar: Oid | None = None) -> LowerTree:
    """Join the tree of a commit with its sidecar, or with that of another sidecar commit."""
    commit = vault.store.read_commit(oid)
    beside = vault.sidecar_tree(commit) if sidecar is None else vault.store.read_commit(sidecar).tree
    return LowerTree(vault.store, commit.tree, beside, default_mtime_ns=commit.committer.when_s * 1_000_000_000)


def open_commit(vault: OpenVault, oid: Oid, *, first_ino: int = ROOT_INO, sidecar: Oid | None = None) -> MergedTree:
    """Open a commit as a read-only tree, for `fuse.server.TreeServer` and for callers that read files by path.

    Its root has the number `first_ino`.
    """
    return open_commit_tree(
        lower_of(vault, oid, sidecar=sidecar), vault.git_dir, cache=vault.blob_cache, first_ino=first_ino
    )
