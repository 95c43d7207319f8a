"""Saving what is uncommitted beside the branch: as a commit that no branch holds, kept reachable.

Decided here: what that commit holds. Undo, abort, catch-up and recovery call it before they change files. The caller
holds the lock of the workspace. After a crash the commit is complete, or the workspace still holds everything.
"""

from __future__ import annotations

from avfs_git.gitstore.objects.packwriter import PackWriter
from avfs_git.model import Warning
from avfs_git.paths import oid_of
from avfs_git.values import NamedTuple
from avfs_git.workspace.checkpoint.bookkeeping import bookkeeping
from avfs_git.workspace.checkpoint.compared import compare_workspace, recorded_sidecar
from avfs_git.workspace.checkpoint.mark import mark_captured, mark_recorded
from avfs_git.workspace.checkpoint.unseen import find_unseen_head
from avfs_git.workspace.opened.workspace import LockedWorkspace
from avfs_git.workspace.vault.states import Trees, add_state, tree_of


class Saved(NamedTuple):
    """What was uncommitted."""

    commit: str | None
    """The commit that holds it, if anything was."""
    trees: Trees
    """What the workspace holds."""
    warnings: tuple[Warning, ...]
    """What the commit lacks, and what the disk refused."""


def save_aside(locked: LockedWorkspace, description: str, *, marks: bool = True) -> Saved:
    """Save what is uncommitted as a commit that no branch holds, kept reachable.

    The workspace counts as captured at that commit afterwards; without `marks` what has changed still counts as
    changed, and is read again. The commit follows the head of the fork, and is compared with it; where others have
    moved the branch, it follows the commit that the workspace came from: one on theirs would take back what they did.
    """
    vault = locked.vault
    unseen = find_unseen_head(locked)
    onto = unseen[1] if unseen is not None else None
    with PackWriter(vault.store) as pack:
        compared = compare_workspace(locked, pack, onto=onto)
        captured = compared.captured
        warnings = captured.warnings.copy()
        if not marks:
            locked.opened.mode.give_up_capture()
        if compared.is_unchanged:
            if compared.head is not None and marks:
                warnings += mark_recorded(
                    locked, captured, compared.head, recorded_sidecar(locked, compared.head, compared.commit), pack
                )
            return Saved(None, compared.was, tuple(warnings))
        trees, held = (captured.tree, captured.sidecar), vault.read_sidecar_ref(locked.fork)
        text = bookkeeping(description)
        oid, sidecar = add_state(pack, locked.fork, locked.signature(), trees, text, compared.head, sidecar_before=held)
        pack.finish(hold=True)
        vault.refs.update(vault.hold(sidecar, oid))
        if marks:
            warnings += mark_captured(locked, captured, commit=oid)
    return Saved(oid.hex(), trees, tuple(warnings))


def saved_trees(locked: LockedWorkspace, saved: str | None) -> Trees:
    """Find the trees of a workspace that was saved just now; None says that its head holds everything already.

    Either may be a commit of which the stat cache does not know, as after a crash, or on a disk that failed then.
    """
    if saved is not None:
        made = locked.vault.store.read_commit(oid_of(saved))
        return tree_of(made), locked.vault.sidecar_tree(made)
    head, commit = locked.head()
    if commit is None:
        return locked.opened.synced_trees()
    return tree_of(commit), recorded_sidecar(locked, head, commit)
