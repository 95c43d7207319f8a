"""A branch that another process has moved under a workspace: a push into the vault, or git run there by hand.

Decided here: how the workspace comes to have both. Checkpoints refuse to record over commits that the workspace never
held (`checkpoint`); here what the workspace holds is saved beside the branch, on the commit that it came from, and
merged with what the others made. Then the branch moves, once, from where the others put it to the merge: at no time
does it lack their commits, and a push that git takes meanwhile is a conflict of the move, after which the caller begins
again. If the two conflict, the branch stands where the others put it, and what was saved is kept reachable.

Called with the workspace locked, mounted or not. It is one operation in the log. Its undo takes back our side: the
files are what they were, and the branch is where the others put it.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace

from avfs_git.errors import RefConflict
from avfs_git.faults import reach
from avfs_git.gitstore.compare.treediff import diff_trees
from avfs_git.gitstore.objects.packwriter import PackWriter
from avfs_git.host.files.durable import host_errors
from avfs_git.model import MergeOptions, MergeResult
from avfs_git.paths import Oid, oid_of
from avfs_git.workspace.checkpoint.changes import check_recorded, record_changes, record_moves
from avfs_git.workspace.checkpoint.checkpoint import check_not_merging, check_seen, saving_first
from avfs_git.workspace.checkpoint.following import follow
from avfs_git.workspace.checkpoint.gitlogs import find_come_back
from avfs_git.workspace.checkpoint.staged import refuse_left_out
from avfs_git.workspace.checkpoint.unseen import find_base, find_unseen_head
from avfs_git.workspace.merge.merge import Start, join_warnings, merge_into
from avfs_git.workspace.opened.workspace import LockedWorkspace
from avfs_git.workspace.restore.aside import save_aside
from avfs_git.workspace.vault.format import HEADS
from avfs_git.workspace.vault.gitmoves import check_head
from avfs_git.workspace.vault.log.oprecord import JOINS, UPSTREAM, OpRecord


def find_behind(locked: LockedWorkspace) -> Oid | None:
    """Name the commit that others have put on a fork's branch and its workspace does not have; None if it has all.

    Raises:
        HeadElsewhere: If git's HEAD in the live tree is not on the fork's branch.
        MergeInProgress: If the workspace is in the middle of a merge.
        WorkspaceBusy: If a command runs in the live tree and has changed files.
    """
    unseen = _find_unseen(locked)
    return unseen[0] if unseen is not None else None


def _find_unseen(locked: LockedWorkspace) -> tuple[Oid, Oid] | None:
    check_head(locked.vault, locked.fork)
    unseen = find_unseen_head(locked)
    if unseen is not None and find_come_back(locked.vault, locked.fork, unseen[1]) == unseen[0]:
        return None
    if unseen is not None:
        if unseen[0] == unseen[1]:
            with suppress(RefConflict):
                check_seen(locked)
                return None  # the files have nothing of what was there meanwhile
        check_not_merging(locked)
        check_recorded(locked)
    return unseen


def catch_up(locked: LockedWorkspace, theirs: Oid, options: MergeOptions) -> MergeResult | None:
    """Merge what others have put on a fork's branch with what its workspace holds; None if it has that by now.

    First it records what has changed since the last operation, as an operation of its own, whether or not the two
    conflict.

    Raises:
        FileChanging: If a file cannot be read whole.
        UnrelatedHistories: If the branch has no commit in common with what the workspace came from.
        RefConflict: If the branch is not at `theirs` any more.
        SparseCheckout, MarkedUnchanged: As a checkpoint: the merge would have what git was told to keep out of commits.
        HeadElsewhere, MergeInProgress, WorkspaceBusy: As `find_behind`.
    """
    if _find_unseen(locked) is None:
        return None
    with saving_first():
        told = record_changes(locked)
        record_moves(locked)
        unseen = find_unseen_head(locked)
        if unseen is None:
            return None
        head, came_from = unseen
        if head != theirs:
            raise RefConflict(HEADS + locked.fork, theirs.hex(), head.hex())
        saved, now, left_out = save_aside(locked, "save before update")
    changed = diff_trees(locked.vault.store, locked.vault.store.read_commit(came_from).tree, now[0])
    refuse_left_out(locked.vault, locked.fork, changed, by_programs=True)
    with host_errors("merge what others have put on the branch"):
        reach("catchup.saved")
    locked.vault.note_seen(locked.fork, came_from)
    ours = oid_of(saved) if saved is not None else came_from
    with PackWriter(locked.vault.store) as pack:
        base = find_base(locked, pack, unseen, now[0])
        pack.finish()
    start = Start(ours, now, saved, branch=head, base=base, warnings=join_warnings(told, left_out))
    return merge_into(locked, start, head, replace(options, source=head.hex()[:12]))


def follow_branch(locked: LockedWorkspace, branch: str, joins: int | None) -> None:
    """Update a fork from another branch of a remote from now on, as `remotes.find_branch` gives it. On disk on return.

    An operation of its own, which undo takes back with the operation that it `joins`.
    """
    was = locked.opened.state.upstream
    if was == branch:
        return
    more: dict[str, object] = {UPSTREAM: [was, branch]}
    if joins is not None:
        more[JOINS] = joins
    follow(
        locked, branch, OpRecord(0, locked.fork, "follow", f"update from {branch}", locked.vault.clock_ns(), more=more)
    )
