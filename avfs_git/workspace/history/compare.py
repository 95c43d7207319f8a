"""Comparing states: checkpoints, forks, and a workspace as it is now.

Decided here: what the two sides of a diff are when they are not named, and how the content of a workspace is
read without being stored. Reads only; costs what differs.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from avfs_git.gitstore.compare.renames import detect_renames
from avfs_git.gitstore.compare.textdiff import file_diff
from avfs_git.gitstore.compare.treediff import diff_trees
from avfs_git.gitstore.formats.trees import MODE_GITLINK
from avfs_git.gitstore.source import ObjectSource
from avfs_git.model import ChangedFile, Diff, FileDiff
from avfs_git.paths import Oid, TreePath, oid_of
from avfs_git.workspace.capture.sidecardiff import diff_sidecars
from avfs_git.workspace.checkpoint.checkpoint import recorded_sidecar
from avfs_git.workspace.merge.preview import Preview
from avfs_git.workspace.opened.workspace import LockedWorkspace
from avfs_git.workspace.vault.revisions import resolve_revision
from avfs_git.workspace.vault.vault import OpenVault

WORKSPACE = "workspace"
"""What the new side is called when it is the workspace as it is."""


def diff_workspace(
    locked: LockedWorkspace, old: str | None, *, paths: Sequence[TreePath] = (), context: int = 3, patches: bool = True
) -> Diff:
    """Compare a state, the head if none is named, with the workspace as it is.

    Raises:
        FileChanging: If a program changed a file that was to be compared.
    """
    vault = locked.vault
    writer = Preview(locked)
    taken = writer.taken
    if old is None:
        commit = taken.commit
        name = taken.head.hex() if taken.head else ""
        sidecar = recorded_sidecar(locked, taken.head, commit)
    else:
        oid = resolve_revision(vault, old, fork=locked.fork)
        commit, name = vault.store.read_commit(oid), oid.hex()
        sidecar = vault.sidecar_tree(commit)
    old_tree = commit.tree if commit is not None else None
    files = _diff_files(vault, writer, old_tree, taken.captured.tree, paths, context, patches=patches)
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
    return (oid_of(oid) for mode, oid in sides if oid is not None and mode != MODE_GITLINK)


def _is_within(path: bytes, paths: Sequence[TreePath]) -> bool:
    return not paths or any(other in (path, b"") or path.startswith(other + b"/") for other in paths)
