"""Saving what is uncommitted beside the branch: as a commit that no branch holds, kept reachable.

Decided here: what that commit holds. Undo, abort, catch-up and recovery call it before they change files. The caller holds the
lock of the workspace. After a crash the commit is complete, or the workspace still holds everything.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from avfs_git.gitstore.formats.commits import Commit, serialize_commit
from avfs_git.gitstore.formats.trees import EMPTY_TREE
from avfs_git.gitstore.objects.packwriter import PackWriter
from avfs_git.gitstore.objects.store import KIND_COMMIT, KIND_TREE
from avfs_git.model import Warning
from avfs_git.paths import Oid
from avfs_git.workspace.checkpoint.bookkeeping import bookkeeping
from avfs_git.workspace.checkpoint.checkpoint import recorded_sidecar, take
from avfs_git.workspace.checkpoint.mark import mark_captured, mark_recorded
from avfs_git.workspace.opened.workspace import LockedWorkspace

Trees = tuple[Oid | None, Oid | None]
"""The tree and the sidecar tree of a state."""


class Aside(NamedTuple):
    """What `save_aside` did."""

    commit: str | None
    """The commit that holds what was uncommitted, if anything was."""
    warnings: tuple[Warning, ...]
    """What the commit lacks, and what the disk refused."""

    def add_to(self, recovered: Sequence[str]) -> list[str]:
        """Add the warnings to what the next result tells of a recovery, each once: saving may have cleared that list."""
        return list(dict.fromkeys((*recovered, *(told.message for told in self.warnings))))


def save_aside(locked: LockedWorkspace, description: str, *, onto: Oid | None = None) -> Aside:
    """Save what is uncommitted as a commit that no branch holds, kept reachable.

    The workspace counts as captured at that commit afterwards. The commit follows `onto`, by default the head of the fork, and is
    compared with it.
    """
    vault = locked.vault
    pack = PackWriter(vault.store)
    try:
        taken = take(locked, pack, onto=onto)
        captured = taken.captured
        warnings = captured.warnings.copy()
        if taken.is_unchanged:
            if taken.head is not None:
                warnings += mark_recorded(locked, captured, taken.head, recorded_sidecar(locked, taken.head, taken.commit))
            return Aside(None, tuple(warnings))
        signature = locked.signature()
        sidecar = None
        if captured.sidecar is not None:
            held = vault.read_sidecar_ref(locked.fork)
            text = f"sidecar of {locked.fork}\n"
            sidecar = pack.add(
                KIND_COMMIT, serialize_commit(Commit(captured.sidecar, (held,) if held else (), signature, signature, text))
            )
        tree = captured.tree if captured.tree is not None else pack.add(KIND_TREE, b"")
        parents = (taken.head,) if taken.head else ()
        oid = pack.add(
            KIND_COMMIT, serialize_commit(Commit(tree, parents, signature, signature, bookkeeping(description), sidecar=sidecar))
        )
        pack.finish(hold=True)
        vault.refs.update(vault.hold(sidecar, oid))
        warnings += mark_captured(locked, captured, commit=oid)
    finally:
        pack.discard()
    return Aside(oid.hex(), tuple(warnings))


def saved_trees(locked: LockedWorkspace, saved: str | None) -> Trees:
    """Find the trees of a workspace that was saved just now; None says that its head holds everything already.

    Either may be a commit of which the stat cache does not know, as after a crash, or on a disk that failed then.
    """
    if saved is not None:
        made = locked.vault.store.read_commit(Oid(bytes.fromhex(saved)))
        return None if made.tree == EMPTY_TREE else made.tree, locked.vault.sidecar_tree(made)
    head, commit = locked.head()
    if commit is None:
        return locked.opened.synced_trees()
    return None if commit.tree == EMPTY_TREE else commit.tree, recorded_sidecar(locked, head, commit)
