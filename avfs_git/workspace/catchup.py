"""A branch that somebody else has moved under a workspace: a push into the vault, or git run there by hand.

Decided here: how the workspace comes to have both. Checkpoints refuse to record over commits that the workspace never held
(`checkpoint`); here the branch is set back to the commit that the workspace came from, what the workspace changed is saved
there, and what the others made is merged with it. If that conflicts, the branch stands where the others put it, as before,
and nothing is lost: what was saved meanwhile is kept reachable.

Called with the workspace locked, mounted or not. The steps are operations of their own in the log. A crash after the first leaves
the branch set back; `undo` puts it forward again, and the commits of the others are kept reachable from before it moves.
"""

from __future__ import annotations

from dataclasses import replace

from avfs_git.faults import reach
from avfs_git.gitstore.refs import RefChange
from avfs_git.host.durable import host_errors
from avfs_git.model import MergeOptions, MergeResult
from avfs_git.paths import Oid
from avfs_git.workspace.checkpoint import find_unseen_head
from avfs_git.workspace.format import HEADS
from avfs_git.workspace.merge import merge_commit
from avfs_git.workspace.oplog import SET_BACK, OpRecord
from avfs_git.workspace.workspace import LockedWorkspace


def catch_up(locked: LockedWorkspace, options: MergeOptions) -> MergeResult | None:
    """Merge what others have put on a fork's branch with what its workspace holds; None if there is nothing of the kind.

    Args:
        locked: The workspace.
        options: How to merge; the source is told by its commit.

    Raises:
        UnrelatedHistories: If the branch has no commit in common with what the workspace came from.
        HostError: If the disk refuses.
    """
    unseen = find_unseen_head(locked)
    if unseen is None:
        return None
    head, came_from = unseen
    vault, fork = locked.vault, locked.fork
    _move(locked, head, came_from, f"set {fork} back, to merge what others have put on it")
    with host_errors("merge what others have put on the branch"):
        reach("catchup.set_back")
    merged = None
    try:
        merged = merge_commit(locked, head, replace(options, source=head.hex()[:12]))
        return merged
    finally:
        if merged is None or (merged.outcome == "conflicted" and not merged.in_workspace):
            now = vault.read_head(fork)
            if now is not None and now != head:
                _move(locked, now, head, f"put {fork} forward again")


def _move(locked: LockedWorkspace, old: Oid, new: Oid, text: str) -> None:
    vault, fork = locked.vault, locked.fork
    record = OpRecord(0, fork, SET_BACK, text, vault.clock_ns(), moves=[(HEADS + fork, old.hex(), new.hex())])
    vault.move_refs([*vault.keep(old), RefChange(HEADS + fork, old, new)], record)
