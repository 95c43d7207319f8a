"""Comparing states: checkpoints, forks, and a workspace as it is now.

Decided here: what the two sides of a diff are when they are not named, and how the content of a workspace is
read without being stored. Reads only; costs what differs.
"""

from __future__ import annotations

import stat
from collections.abc import Iterator, Sequence

from avfs_git.gitstore.commits import Commit
from avfs_git.gitstore.drywriter import DryWriter
from avfs_git.gitstore.objects import KIND_BLOB
from avfs_git.gitstore.renames import detect_renames
from avfs_git.gitstore.source import ObjectSource, Tree
from avfs_git.gitstore.textdiff import file_diff
from avfs_git.gitstore.treediff import diff_trees
from avfs_git.gitstore.trees import MODE_GITLINK
from avfs_git.model import ChangedFile, Diff, FileDiff
from avfs_git.paths import Oid, TreePath
from avfs_git.vfs.merged import MergedTree
from avfs_git.workspace.checkpoint import recorded_sidecar, take
from avfs_git.workspace.revisions import resolve_revision
from avfs_git.workspace.sidecardiff import diff_sidecars
from avfs_git.workspace.vault import OpenVault
from avfs_git.workspace.workspace import LockedWorkspace

WORKSPACE = "workspace"
"""What the new side is called when it is the workspace as it is."""


class _WorkspaceObjects:
    """Objects of a vault, and blobs that so far are only files of a workspace."""

    def __init__(self, source: ObjectSource, merged: MergedTree, paths: dict[Oid, TreePath]) -> None:
        self._source = source
        self._merged = merged
        self._paths = paths

    def read(self, oid: Oid) -> tuple[int, bytes]:
        """Read an object."""
        return (KIND_BLOB, self.read_blob(oid)) if oid in self._paths else self._source.read(oid)

    def read_blob(self, oid: Oid) -> bytes:
        """Read a blob, from the workspace if it is there."""
        path = self._paths.get(oid)
        if path is None:
            return self._source.read_blob(oid)
        node = self._merged.resolve(path, follow_last=False)
        if stat.S_ISLNK(self._merged.getattr(node).mode):
            return self._merged.readlink(node)
        return self._merged.read_all(node)

    def read_tree(self, oid: Oid) -> Tree:
        """Read a tree."""
        return self._source.read_tree(oid)

    def read_commit(self, oid: Oid) -> Commit:
        """Read a commit."""
        return self._source.read_commit(oid)

    def blob_size(self, oid: Oid) -> int:
        """Tell the size of a blob."""
        path = self._paths.get(oid)
        return (
            self._source.blob_size(oid)
            if path is None
            else self._merged.getattr(self._merged.resolve(path, follow_last=False)).size
        )

    def exists(self, oid: Oid) -> bool:
        """Whether an object can be read."""
        return oid in self._paths or self._source.exists(oid)

    def stream_blob(self, oid: Oid) -> Iterator[bytes]:
        """Read a blob in pieces."""
        return iter((self.read_blob(oid),)) if oid in self._paths else self._source.stream_blob(oid)


def diff_workspace(
    locked: LockedWorkspace, old: str | None, *, paths: Sequence[TreePath] = (), context: int = 3, patches: bool = True
) -> Diff:
    """Compare a state, the head if none is named, with the workspace as it is."""
    vault = locked.vault
    writer = DryWriter(vault.store)
    taken = take(locked, writer, remember_blobs=True)
    if old is None:
        commit = taken.commit
        name = taken.head.hex() if taken.head else ""
        sidecar = recorded_sidecar(locked, commit)
    else:
        oid = resolve_revision(vault, old, fork=locked.fork)
        commit, name = vault.store.read_commit(oid), oid.hex()
        sidecar = vault.sidecar_tree(commit)
    source = _WorkspaceObjects(writer, locked.merged, taken.captured.blob_paths)
    old_tree = commit.tree if commit is not None else None
    files = _diff_files(vault, source, old_tree, taken.captured.tree, paths, context, patches=patches)
    untracked = diff_sidecars(writer, sidecar, taken.captured.sidecar) if commit is None or sidecar is not None else []
    return Diff(name, WORKSPACE, files, tuple(change for change in untracked if _is_within(change.path, paths)))


def diff_commits(
    vault: OpenVault, old: Oid | None, new: Oid, *, paths: Sequence[TreePath] = (), context: int = 3, patches: bool = True
) -> Diff:
    """Compare two commits, or one with nothing."""
    left = vault.store.read_commit(old) if old is not None else None
    right = vault.store.read_commit(new)
    files = _diff_files(vault, vault.store, left.tree if left else None, right.tree, paths, context, patches=patches)
    old_sidecar, new_sidecar = vault.sidecar_tree(left), vault.sidecar_tree(right)
    # A commit that git made says nothing of what it does not track.
    untracked = (
        diff_sidecars(vault.store, old_sidecar, new_sidecar) if new_sidecar is not None and (left is None or old_sidecar) else []
    )
    return Diff(
        old.hex() if old else "", new.hex(), files, tuple(change for change in untracked if _is_within(change.path, paths))
    )


def _diff_files(
    vault: OpenVault,
    source: ObjectSource,
    old: Oid | None,
    new: Oid | None,
    paths: Sequence[TreePath],
    context: int,
    *,
    patches: bool,
) -> tuple[FileDiff, ...]:
    found = diff_trees(source, old, new, paths=paths)
    if patches:
        vault.store.expect(oid for change in found for oid in _contents_of(change) if not source.exists(oid))
    changes = detect_renames(source, found)
    if patches:
        return tuple(file_diff(source, change, context=context) for change in changes)
    return tuple(FileDiff(change, binary=False, additions=0, deletions=0) for change in changes)


def _contents_of(change: ChangedFile) -> Iterator[Oid]:
    sides = ((change.old_mode, change.old_oid), (change.new_mode, change.new_oid))
    return (Oid(bytes.fromhex(oid)) for mode, oid in sides if oid is not None and mode != MODE_GITLINK)


def _is_within(path: bytes, paths: Sequence[TreePath]) -> bool:
    return not paths or any(other in (path, b"") or path.startswith(other + b"/") for other in paths)
