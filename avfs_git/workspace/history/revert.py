"""Bringing one path back to the version before its present one.

Decided here: which version that is. What the path has and no commit holds is a version of its own, so that the one
before it is the last that was committed. A path without an earlier version is refused before anything is saved.

Called with the workspace lock held; crashes as a restore (`workspace.restore.restore`).
"""

from __future__ import annotations

from avfs_git.errors import CheckpointNotFound, PathNotFound, PathUnsuitable
from avfs_git.gitstore.formats.trees import find_entry
from avfs_git.gitstore.objects.drywriter import DryWriter
from avfs_git.model import PathVersion, RestoreResult
from avfs_git.paths import TreePath, oid_of
from avfs_git.workspace.checkpoint.checkpoint import check_not_merging
from avfs_git.workspace.checkpoint.compared import compare_workspace
from avfs_git.workspace.history.history import list_path_versions
from avfs_git.workspace.opened.workspace import LockedWorkspace
from avfs_git.workspace.restore.restore import is_there, restore_state


def revert_path(locked: LockedWorkspace, path: TreePath) -> RestoreResult:
    """Bring one path to the version before its present one.

    Raises:
        PathNotFound: If nothing was ever there.
        PathUnsuitable: If it has no earlier version, or is beside history.
    """
    check_not_merging(locked)
    versions: list[PathVersion] = []
    try:
        versions = list_path_versions(locked.vault, locked.fork, path, limit=2)
    except (CheckpointNotFound, PathNotFound):
        if not is_there(locked, path):
            raise
    wanted = versions[:1] if _is_uncommitted(locked, path) else versions[1:]
    if not wanted:
        raise PathUnsuitable(b"/" + path, "has no earlier version")
    target = oid_of(wanted[0].checkpoint)
    return restore_state(locked, target, paths=[path], name=f"version {wanted[0].number}", kind="revert")


def _is_uncommitted(locked: LockedWorkspace, path: TreePath) -> bool:
    sink = DryWriter(locked.vault.store)
    compared = compare_workspace(locked, sink)
    trees = (compared.commit.tree if compared.commit is not None else None, compared.captured.tree)
    was, now = (find_entry(sink, tree, path) if tree is not None else None for tree in trees)
    return was != now
