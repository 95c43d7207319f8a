"""Taking operations back, and doing them again.

Decided here: what undoing each kind of operation means. Nothing is destroyed by it: what was uncommitted is
saved first, commits that leave a branch stay reachable, deleted workspaces lie in the trash. An operation on a
ref that has moved since by other hands is refused.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace

from avfs_git.errors import AvfsError, CannotUndo, ForkNotFound, LeftInForce, NothingToUndo
from avfs_git.faults import reach
from avfs_git.gitstore.holding import objects_held
from avfs_git.gitstore.refs import RefChange
from avfs_git.model import UndoResult
from avfs_git.paths import Oid
from avfs_git.workspace.checkpoint import check_not_merging
from avfs_git.workspace.forks import Opener, end_fork, move_to_trash, name_in_trash, take_from_trash
from avfs_git.workspace.format import HEADS
from avfs_git.workspace.gitmoves import adopt_git_moves, open_worktree
from avfs_git.workspace.oplog import REDO, SIDECAR, UNDO, OpRecord, RefMoveRecord
from avfs_git.workspace.restore import Replay, replay_operation
from avfs_git.workspace.vault import OpenVault


def undo(vault: OpenVault, fork: str | None, open_workspace: Opener) -> UndoResult:
    """Take back the last operation of a fork, or of the vault, that is still in force.

    Raises:
        NothingToUndo: If there is none.
        CannotUndo: If its refs have moved since.
    """
    with objects_held(vault.git_dir):  # what the log names may be on its way out
        _adopt(vault, fork, open_workspace)
        record = vault.oplog.find_undoable(fork)
        if record is None:
            raise NothingToUndo("undo")
        return _turn(vault, record, UNDO, open_workspace)


def redo(vault: OpenVault, fork: str | None, open_workspace: Opener) -> UndoResult:
    """Do the operation again that was taken back last.

    Raises:
        NothingToUndo: If there is none, or something else was done since.
        CannotUndo: If its refs have moved since.
    """
    with objects_held(vault.git_dir):
        _adopt(vault, fork, open_workspace)
        record = vault.oplog.find_redoable(fork)
        if record is None:
            raise NothingToUndo("redo")
        return _turn(vault, record, REDO, open_workspace)


def _adopt(vault: OpenVault, fork: str | None, open_workspace: Opener) -> None:
    """Learn what git has done in live trees since avfs last looked."""
    for name in forks_with_git_dir(vault, fork):
        opened = open_workspace(name)
        if opened.lock.session is None:  # else its session has been asked to, by whoever calls this
            with opened.locked():
                adopt_git_moves(vault, name)


def forks_with_git_dir(vault: OpenVault, fork: str | None) -> list[str]:
    """List the forks in whose live trees git may have done something: all such, or one."""
    return [
        name
        for name in (vault.list_heads() if fork is None else (fork,))
        if open_worktree(vault, name).is_there and vault.has_fork(name)
    ]


def _turn(vault: OpenVault, record: OpRecord, direction: str, open_workspace: Opener) -> UndoResult:
    back = direction == UNDO
    changes = [_reverse(move) if back else _forward(move) for move in record.moves]
    still: list[RefChange] = []
    for change in changes:
        holds = vault.refs.read(change.name)
        if holds == change.old:
            still.append(change)
        elif holds != change.new:
            raise CannotUndo(record.description, f"'{change.name}' has moved since")
        # Else an undo died when it had moved this ref and was not yet in the log: this one completes it.
    ends = (record.kind == "fork_create") == back and record.kind in ("fork_create", "fork_delete")
    text = f"{direction} {record.description}"
    if record.kind in ("fork_create", "fork_delete"):
        more = {key: value for key, value in record.more.items() if key != "trash"}
        new = OpRecord(0, record.fork, direction, text, vault.clock_ns(), target=record.id, more=more)
        _turn_fork(vault, record, changes, open_workspace, new, ends=ends)
        return UndoResult(record.to_operation(undone=back))
    if not vault.has_fork(record.fork):
        raise ForkNotFound(record.fork)
    state = record.before if back else record.after
    opened = open_workspace(record.fork)
    with opened.locked() as locked:
        check_not_merging(locked)
        replay = Replay(
            record=OpRecord(
                0,
                record.fork,
                direction,
                text,
                vault.clock_ns(),
                moves=[_as_move(change) for change in changes],
                before=record.after if back else record.before,
                after=state,
                target=record.id,
                more={} if back or SIDECAR not in record.more else {SIDECAR: record.more[SIDECAR]},
            ),
            changes=still,
            state=_oid(state) if record.before is not None else None,
            sidecar=None if back else _oid(record.more.get(SIDECAR)),
        )
        done = replay_operation(locked, replay)
    return UndoResult(record.to_operation(undone=back), done.changed_files, done.saved, done.warnings)


def _turn_fork(
    vault: OpenVault, record: OpRecord, changes: list[RefChange], open_workspace: Opener, new: OpRecord, *, ends: bool
) -> None:
    """Take a fork away or bring it back, with `new` as its line in the log."""
    if ends and vault.read_head(record.fork) is None:  # somebody has removed the branch already
        new.moves = [_as_move(change) for change in changes]
        new.more["trash"] = name_in_trash(vault, record.fork)
        move_to_trash(vault, record.fork, new.more["trash"])
        vault.oplog.append(new)
        return
    if ends:
        end_fork(vault, record.fork, open_workspace, new)
        return
    gone = _last_end(vault, record)
    moves = [RefChange(ref, None, Oid(bytes.fromhex(old))) for ref, old, _ in gone.moves if old is not None] if gone else changes
    # Sidecars and labels before the branch, by which the fork is found.
    still = [
        # The others harm nothing without the branch, and a new fork of that name clears them away.
        change if change.name.startswith(HEADS) else replace(change, lasting=True)
        for change in moves
        if vault.refs.read(change.name) != change.new
    ]
    new.moves = [_as_move(change) for change in moves]
    taken = take_from_trash(vault, record.fork, str(gone.more.get("trash", "")) if gone else "")
    try:
        reach("undo.workspace_back")
        vault.move_refs(sorted(still, key=lambda change: change.name.startswith(HEADS)), new)
    except LeftInForce:
        raise
    except BaseException:
        if taken:  # else it stays where an undo that died had left it
            with suppress(AvfsError):
                move_to_trash(vault, record.fork, taken)
        raise


def _last_end(vault: OpenVault, record: OpRecord) -> OpRecord | None:
    """Find the operation that took the fork away last: it knows all its refs, and its place in the trash."""
    for other in vault.oplog.read_fork(record.fork):
        if (
            other.moves
            and all(new is None for _, _, new in other.moves)
            and any(ref == HEADS + record.fork for ref, _, _ in other.moves)
        ):
            return other
    return None


def _reverse(move: RefMoveRecord) -> RefChange:
    ref, old, new = move
    return RefChange(ref, _oid(new), _oid(old))


def _forward(move: RefMoveRecord) -> RefChange:
    ref, old, new = move
    return RefChange(ref, _oid(old), _oid(new))


def _oid(text: str | None) -> Oid | None:
    return Oid(bytes.fromhex(text)) if text is not None else None


def _as_move(change: RefChange) -> RefMoveRecord:
    return (change.name, change.old.hex() if change.old else None, change.new.hex() if change.new else None)
