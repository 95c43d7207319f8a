"""Undo and redo: taking operations back, and doing them again. To *turn* an operation means either.

Decided here: what undoing each kind of operation means. Nothing is destroyed: uncommitted changes are saved first,
commits that leave a branch stay reachable, deleted workspaces are in the trash. The making of another fork is not taken
back once that fork is in use: then the last operation of the fork at hand comes next. Undo is refused if another
process has moved one of the operation's refs since. Each turn looks up its operation again when the workspace is
locked: of two processes that undo at once, the second is refused.

What is done with ignored files: `workspace.restore.restore.replay_operation`.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import partial
from itertools import takewhile

from avfs_git.errors import AvfsError, CannotUndo, ForkNotFound, LeftInForce, NothingToUndo, quote
from avfs_git.faults import reach
from avfs_git.gitstore.holding import objects_held
from avfs_git.gitstore.refs.refs import RefChange
from avfs_git.model import ChangedFile, UndoResult, Warning
from avfs_git.paths import maybe_oid, oid_of
from avfs_git.workspace.checkpoint.changes import check_recorded, record_changes
from avfs_git.workspace.checkpoint.checkpoint import merge_in_progress
from avfs_git.workspace.checkpoint.following import follow
from avfs_git.workspace.forks.forks import Opener, end_fork, find_in_the_way
from avfs_git.workspace.forks.rename import move_fork
from avfs_git.workspace.forks.trash import (
    bring_into_use,
    clear_orphan,
    is_lost,
    move_to_trash,
    name_in_trash,
    note_deletion,
    take_from_trash,
)
from avfs_git.workspace.history.asleft import is_as_left, is_as_made, read_counters
from avfs_git.workspace.opened.workspace import LockedWorkspace
from avfs_git.workspace.restore.restore import Replay, replay_operation
from avfs_git.workspace.sidecars.kept import note_kept
from avfs_git.workspace.vault.forkinfo import check_was_there, find_deleted
from avfs_git.workspace.vault.format import HEADS, Merging, parse_merging
from avfs_git.workspace.vault.gitmoves import find_git_moves, open_worktree
from avfs_git.workspace.vault.log.lives import find_name_today
from avfs_git.workspace.vault.log.oprecord import (
    BY,
    EXACT,
    FORK_CREATE,
    FORK_DELETE,
    FORK_RENAME,
    GIT_HEAD,
    IN_MERGE,
    JOINS,
    LEFT_AT,
    MERGING,
    OF_FORKS,
    OURS,
    REDO,
    SIDECAR,
    SIDECAR_BEFORE,
    STATE_BEFORE,
    UNDO,
    UNSEEN,
    UPSTREAM,
    WAS_DEFAULT,
    OpRecord,
    RefMoveRecord,
    names_of,
)
from avfs_git.workspace.vault.origin import facts_of, read_own_state
from avfs_git.workspace.vault.vault import OpenVault


def find_next(vault: OpenVault, fork: str | None, direction: str, *, alone: bool = False) -> OpRecord | None:
    """Find the operation that undo takes back, or redo does again, next, or None; `alone` as in `turn`."""
    if direction == UNDO:
        return vault.oplog.find_undoable(fork, partial(is_as_made, vault), alone=alone)
    return vault.oplog.find_redoable(fork, partial(is_as_left, vault), alone=alone)


def require_next(vault: OpenVault, fork: str | None, direction: str, *, alone: bool = False) -> OpRecord:
    """Find the next operation as `find_next` does.

    Raises:
        NothingToUndo: If there is no operation.
        ForkNotFound: If the fork is not there, and never was as far as the log goes back.
    """
    record = find_next(vault, fork, direction, alone=alone)
    if record is None:
        check_was_there(vault, fork)
        raise NothingToUndo(direction)
    return record


def find_ended(vault: OpenVault, direction: str) -> str | None:
    """Find the fork that undo restores, or redo deletes again, if no fork is named.

    Return None if another operation comes next.

    If HEAD names the vault's default fork, each deletion belongs to the fork at hand. Otherwise, as in the vault of a
    clone, a deletion may belong to no fork but to the vault: the only fork that is left is not the fork that the user
    means.
    """
    if vault.default_fork() == vault.head_fork() and vault.layout.read_origin() is None:
        return None
    record = find_next(vault, None, direction)
    return record.fork if record is not None and record.kind == FORK_DELETE and BY not in record.more else None


def check_outside(record: OpRecord, fork: str | None) -> None:
    """Refuse to take back the making of a fork for a caller that works in it.

    Raises:
        NothingToUndo: If that is what the operation did.
    """
    if record.kind == FORK_CREATE and record.fork == fork:
        raise NothingToUndo(UNDO)


def note_deletions(vault: OpenVault, forks: Iterable[str]) -> None:
    """Record which of some forks git has deleted; see `trash.note_deletion`."""
    for name in forks:
        if find_deleted(vault, name) is not None:
            with vault.fork_locked(name):
                note_deletion(vault, name)


def turn(
    vault: OpenVault,
    fork: str | None,
    direction: str,
    open_workspace: Opener,
    *,
    recorded_at: int | None = None,
    inside: bool = False,
    alone: bool = False,
) -> UndoResult:
    """Take back the last operation of a fork or the vault that is still in force, or redo what was taken back last.

    The caller has recorded what git has done in live trees (`operations.adopt_git_moves`).

    Args:
        vault: Where.
        fork: Which fork; all if not given.
        direction: `UNDO` or `REDO`.
        open_workspace: Opens a workspace.
        recorded_at: The epoch of the fork's files when the log last had all of their changes. If they have changed
            since, the making of the fork itself is not taken back.
        inside: Whether the caller works in the fork: then the making of that fork is never taken back.
        alone: Whether to pass over operations on other forks that were made, deleted or renamed from this one.

    Raises:
        NothingToUndo: If there is no operation; of a redo, also if something else was done since the undo.
        CannotUndo: If its refs have moved since, another process does the same, it made the fork and files have changed
            since, or it deleted a fork whose name a branch has that avfs did not make.
    """
    with objects_held(vault.git_dir):  # what the log names may be on its way out
        note_deletions(vault, vault.layout.list_workspaces() if fork in (None, vault.default_fork()) else (fork,))
        record = require_next(vault, fork, direction, alone=alone)
        if inside and direction == UNDO:
            check_outside(record, fork)
        reach("undo.found")
        with _locked(vault, record, open_workspace) as locked:
            if locked is not None:
                check_recorded(locked)
                if direction == REDO:
                    record_changes(locked)  # what was written since is newer, and stays
            found = find_next(vault, fork, direction, alone=alone)
            if found is None or found.id != record.id:
                raise CannotUndo(record.description, "something else was done meanwhile")
            if locked is None:
                only_if = partial(_may_go, record, fork, direction, recorded_at)
                by = record.more.get(BY)
                if by not in (None, fork):  # else it is today's already
                    by = find_name_today(vault.oplog.read_fork, by, record.id)
                return _turn_fork(vault, record, direction, open_workspace, only_if, by=by)
            done = _turn_files(locked, record, direction)
            return _turn_joined(
                locked, record, direction, done, partial(find_next, vault, fork, direction, alone=alone)
            )


def _turn_joined(
    locked: LockedWorkspace, record: OpRecord, direction: str, done: UndoResult, find: Callable[[], OpRecord | None]
) -> UndoResult:
    """Take back, or do again, what the same command did before an operation, or after it."""
    while (other := find()) is not None and other.fork == record.fork:
        later, earlier = (record, other) if direction == UNDO else (other, record)
        if later.more.get(JOINS) != earlier.id:
            break
        try:
            reach("undo.joined")
            more = _turn_files(locked, other, direction)
        except AvfsError as error:
            left = tuple(
                each.to_operation(undone=direction == REDO) for each in _list_joined(locked.vault, other, direction)
            )
            names = ", ".join(quote(each.description) for each in left)
            told = Warning("undo.stopped", f"of the same command, {names} {_stay(len(left))}: {error.message}")
            return replace(done, warnings=(*done.warnings, told), left=left)
        record = other
        done = replace(
            done,
            changed_files=join_changes(done.changed_files, more.changed_files),
            saved=done.saved or more.saved,
            warnings=tuple(dict.fromkeys((*done.warnings, *more.warnings))),
            sidecar_changed=join_changes(done.sidecar_changed, more.sidecar_changed),
            joined=(*done.joined, more.operation),
        )
    return done


def _stay(count: int) -> str:
    return "stays as it is" if count == 1 else "stay as they are"


def _list_joined(vault: OpenVault, record: OpRecord, direction: str) -> list[OpRecord]:
    """List an operation and the further ones of the same command, in the order in which undo, or redo, turns them."""
    newest_first = (
        list(takewhile(lambda each: each.id > record.id, vault.oplog.read_fork(record.fork)))
        if direction == REDO
        else []
    )
    found = [record]
    for other in reversed(newest_first) if direction == REDO else vault.oplog.read_fork(record.fork):
        later, earlier = (found[-1], other) if direction == UNDO else (other, found[-1])
        if later.more.get(JOINS) == earlier.id:
            found.append(other)
    return found


def join_changes(first: tuple[ChangedFile, ...], then: tuple[ChangedFile, ...]) -> tuple[ChangedFile, ...]:
    """Join the changed paths of two steps, each path once."""
    found = {change.path: change for change in (*first, *then)}
    return tuple(found[path] for path in sorted(found))


def _name_taken(vault: OpenVault, record: OpRecord, branch: str, direction: str) -> CannotUndo:
    """Make the error that names the branch in the way of a fork that would come back."""
    reason = f"there is another branch {quote(branch)}, which is in the way of that fork's"
    hints: list[str] = []
    if branch != record.fork or not vault.layout.workspace(branch).root.exists():  # else undo brings that one back
        rename = f"git -C {shlex.quote(str(vault.git_dir))} branch -m {shlex.quote(branch)} NAME"
        hints.append(f"Give that one another name with `{rename}`, then {direction} again.")
    head = next((oid for ref, *oids in record.moves if ref == HEADS + record.fork for oid in oids if oid), None)
    if head is not None:
        make = f"avfs --vault {shlex.quote(vault.name)} fork create NAME --at {head[:12]}"
        hints.append(f"{'Or make' if hints else 'Make'} a fork of its last commit with `{make}`.")
    trash = vault.layout.trash / str(record.more.get("trash", ""))
    if "trash" in record.more and (trash / "upper").is_dir():
        hints.append(f"Its unsaved files are in {quote(str(trash / 'upper'))}.")
    return CannotUndo(record.description, reason, hint=" ".join(hints))


@contextmanager
def _locked(vault: OpenVault, record: OpRecord, open_workspace: Opener) -> Iterator[LockedWorkspace | None]:
    """Hold what an operation changes: its fork's workspace, or the fork's name if it made or ended the fork."""
    if record.kind in OF_FORKS:
        with vault.forks_locked(*names_of(record)):
            yield None
        return
    if not vault.has_fork(record.fork):
        raise ForkNotFound(record.fork, vault=vault.name)
    with open_workspace(record.fork).locked() as locked:
        yield locked


def _find_changes(vault: OpenVault, record: OpRecord, direction: str) -> tuple[list[RefChange], list[RefChange]]:
    """List the changes that an operation's refs need, and those of them that are still to be made.

    Raises:
        CannotUndo: If one holds something else.
    """
    changes = [_reverse(move) if direction == UNDO else _forward(move) for move in record.whole_moves()]
    still: list[RefChange] = []
    for change in changes:
        holds = vault.refs.read(change.name)
        if holds == change.old:
            still.append(change)
        elif holds != change.new:
            raise _moved_since(record, change.name, direction)
        # Else an undo died when it had moved this ref and was not yet in the log: this one completes it.
    return changes, still


def _moved_since(record: OpRecord, ref: str, direction: str) -> CannotUndo:
    """Say that others have moved a ref since; on top of what they put on the fork's branch, `op undo` is the way."""
    hint = None
    if direction == UNDO and ref == HEADS + record.fork:
        fork = shlex.quote(record.fork)
        hint = (
            f"`avfs op undo {record.id} --fork {fork}` takes it back on top of what is there, after `avfs "
            f"update {fork}` has brought that in."
        )
    return CannotUndo(record.description, f"'{ref}' has moved since", hint=hint)


def _check_turn(
    vault: OpenVault, record: OpRecord, direction: str, merging: Merging | None
) -> tuple[list[RefChange], list[RefChange]]:
    """List the changes of refs as `_find_changes` does.

    Refuse what a merge in the workspace, or a rebase of git's, forbids.
    """
    found = _find_changes(vault, record, direction)
    gives_up = direction == REDO and MERGING in record.more
    if merging is not None and IN_MERGE not in record.more and not gives_up:
        raise merge_in_progress(record.fork, merging)
    ref = HEADS + record.fork
    began = open_worktree(vault, record.fork).find_rebased(ref)
    if began is not None and any(change.name == ref and change.old == began for change in found[1]):
        raise CannotUndo(
            record.description,
            "git is in the middle of a rebase of the branch, which has to be where it was when that began",
            hint="Run `git rebase --continue` or `git rebase --abort` in the tree first.",
        )
    return found


def check_planned(vault: OpenVault, record: OpRecord) -> None:
    """Refuse to plan what undo would refuse, by what the refs and the workspace are now."""
    if record.kind == FORK_RENAME:
        _check_rename(vault, record, UNDO)
    elif record.kind in OF_FORKS:
        check_name(vault, record, UNDO)
        _find_changes(vault, record, UNDO)
    elif not find_git_moves(vault, record.fork)[0]:  # a running command moved the branch: that is taken back first
        state = read_own_state(vault, record.fork)
        _check_turn(vault, record, UNDO, state.merging if state is not None else None)


def _turn_files(locked: LockedWorkspace, record: OpRecord, direction: str) -> UndoResult:
    """Take an operation on a workspace back, or do it again."""
    vault, back = locked.vault, direction == UNDO
    changes, still = _check_turn(vault, record, direction, locked.opened.state.merging)
    state = record.before if back else record.after
    sidecars = (record.more.get(SIDECAR), record.more.get(SIDECAR_BEFORE))
    left, reached = sidecars if back else sidecars[::-1]
    kept = {fact: record.more.get(fact) for fact in (OURS, UNSEEN)}
    given_up = record.more.get(MERGING)  # a merge: undo goes on with it
    began = record.more.get(STATE_BEFORE) if back and given_up is not None else None
    facts = {**kept, SIDECAR: reached, SIDECAR_BEFORE: left, STATE_BEFORE: began}
    facts |= note_kept(vault, record, direction)
    replay = Replay(
        record=OpRecord(
            0,
            record.fork,
            direction,
            f"{direction} {record.description}",
            vault.clock_ns(),
            moves=[_as_move(change) for change in changes],
            before=record.after if back else record.before,
            after=state,
            target=record.id,
            more={key: value for key, value in facts.items() if value is not None},
        ),
        changes=still,
        state=maybe_oid(state) if record.before is not None else None,
        sidecar=maybe_oid(reached),
        begins=parse_merging(given_up) if back else None,
        ends_merge=given_up is not None and not back,
        is_exact=bool(record.more.get(EXACT)),
        placed=maybe_oid(record.after) if not back and record.before is None else None,
    )
    head_was, head_at = record.more.get(GIT_HEAD, (None, None))
    if back and head_was is None:
        replay.head_at = head_at
    if UPSTREAM in record.more:  # that changed nothing else
        follow(locked, record.more[UPSTREAM][0 if back else 1], replay.record)
        return UndoResult(record.to_operation(undone=back))
    done = replay_operation(locked, replay)
    if not back and head_at is not None:
        text = "git's HEAD stays on its branch in the tree: redo does not move it"
        done = replace(done, warnings=(*done.warnings, Warning("git.head_stays", text)))
    return UndoResult(
        record.to_operation(undone=back), done.changed_files, done.saved, done.warnings, done.sidecar_changed
    )


def _may_go(
    record: OpRecord, at_hand: str | None, direction: str, recorded_at: int | None, locked: LockedWorkspace
) -> bool:
    """Whether a fork is as it was when an operation was chosen that takes it away. Called with its workspace locked."""
    if direction == REDO:
        return is_as_left(locked.vault, record)
    if record.fork != at_hand:
        return is_as_made(locked.vault, record)
    return recorded_at in (None, locked.opened.lock.epoch) or locked.opened.is_clean()


def _turn_fork(
    vault: OpenVault,
    record: OpRecord,
    direction: str,
    open_workspace: Opener,
    only_if: Callable[[LockedWorkspace], bool],
    *,
    by: str | None,
) -> UndoResult:
    """Take a fork away, if it still may go, bring it back, or rename it. Called with the fork's names locked.

    `by` is the present name of the fork that was at hand.
    """
    if record.kind == FORK_RENAME:
        return _turn_rename(vault, record, direction, open_workspace, by=by)
    back = direction == UNDO
    check_name(vault, record, direction)
    changes, _ = _find_changes(vault, record, direction)
    more = {BY: by} if by is not None else {}
    text = f"{direction} {record.description}"
    new = OpRecord(0, record.fork, direction, text, vault.clock_ns(), target=record.id, more=more)
    warnings: tuple[Warning, ...] = ()
    if _brings_back(record, direction):
        warnings = _bring_back(vault, record, changes, new)
    elif vault.read_head(record.fork) is not None:
        if not end_fork(vault, record.fork, open_workspace, new, only_if=only_if):
            raise CannotUndo(record.description, f"somebody works in {quote(record.fork)} since")
    else:  # the branch was removed already
        new.moves = [_as_move(change) for change in changes]
        new.more["trash"] = name_in_trash(vault, record.fork)
        clear_orphan(vault, record.fork, new.more["trash"])
        vault.oplog.append(new)
    return UndoResult(record.to_operation(undone=back), warnings=warnings)


def _turn_rename(
    vault: OpenVault, record: OpRecord, direction: str, open_workspace: Opener, *, by: str | None
) -> UndoResult:
    """Rename a fork back, or once more: with all that it has by now."""
    source, target = _check_rename(vault, record, direction)
    more = {BY: by} if by is not None else {}
    new = OpRecord(0, target, direction, f"{direction} {record.description}", 0, target=record.id, more=more)
    move_fork(vault, source, target, open_workspace, new)
    return UndoResult(replace(record.to_operation(undone=direction == UNDO), fork=target))


def _check_rename(vault: OpenVault, record: OpRecord, direction: str) -> tuple[str, str]:
    """Tell which name a fork has, and which one it gets; refuse if there is no such fork, or another has that name."""
    name, old = names_of(record)
    source, target = (name, old) if direction == UNDO else (old, name)
    if not vault.has_fork(source):
        raise CannotUndo(record.description, f"there is no fork {quote(source)} any more")
    other = target if vault.has_fork(target) else find_in_the_way(vault, target)
    if other is not None:
        reason = f"there is another fork {quote(other)}, which is in the way of that name"
        raise CannotUndo(record.description, reason, hint=_clear_name(vault, other, source, direction))
    return source, target


def _clear_name(vault: OpenVault, other: str, fork: str, direction: str) -> str:
    """Tell how another fork gives up the name that a fork needs: by a turn of its own rename first, or a new rename.

    That rename is what a turn comes to next with another fork at hand: the hint names the fork that is meant.
    """
    program = f"avfs --vault {shlex.quote(vault.name)}"
    first = find_next(vault, other, direction)
    if first is not None and first.kind == FORK_RENAME and other == names_of(first)[direction == REDO]:
        return f"First {direction} the rename of that one with `{program} {direction} --fork {shlex.quote(other)}`."
    rename, then = f"fork rename {shlex.quote(other)} NAME", f"{direction} --fork {shlex.quote(fork)}"
    return f"Give that one another name with `{program} {rename}`, then `{program} {then}`."


def check_name(vault: OpenVault, record: OpRecord, direction: str) -> None:
    """Refuse to bring a fork back whose name a branch has, or is in the way of.

    Raises:
        CannotUndo: If undo or redo of this operation would do that.
    """
    fork = record.fork
    if not _brings_back(record, direction):
        return
    other = fork if vault.read_head(fork) is not None else find_in_the_way(vault, fork)
    if other is not None:
        raise _name_taken(vault, record, other, direction)


def _brings_back(record: OpRecord, direction: str) -> bool:
    return record.kind == (FORK_DELETE if direction == UNDO else FORK_CREATE)


def _bring_back(vault: OpenVault, record: OpRecord, changes: list[RefChange], new: OpRecord) -> tuple[Warning, ...]:
    """Bring a fork back: its workspace from the trash, then its refs, with `new` as the line in the log.

    Returns:
        What is not in the trash any more.
    """
    fork = record.fork
    gone = _last_end(vault, record)
    warnings: tuple[Warning, ...] = ()
    if gone is not None and is_lost(vault, gone):
        where = vault.layout.trash / str(gone.more["trash"])
        what = (
            f"the workspace of fork {quote(fork)} is not in the trash, or not whole ('{where}'): files that were not "
            "saved may be missing"
        )
        warnings = (Warning("undo.workspace_missing", what),)
    moves = [RefChange(ref, None, oid_of(old)) for ref, old, _ in gone.moves if old is not None] if gone else changes
    # Sidecars and labels before the branch, by which the fork is found.
    still = [
        # The others harm nothing without the branch, and a new fork of that name clears them away.
        change if change.name.startswith(HEADS) else replace(change, lasting=True)
        for change in moves
        if vault.refs.read(change.name) != change.new
    ]
    new.moves = [_as_move(change) for change in moves]
    taken = take_from_trash(vault, fork, str(gone.more.get("trash", "")) if gone else "")
    state = read_own_state(vault, fork)
    if state is not None:
        new.more.update(facts_of(state))
    if record.kind == FORK_DELETE:
        new.more[LEFT_AT] = read_counters(vault, fork)
    try:
        reach("undo.workspace_back")
        vault.move_refs(sorted(still, key=lambda change: change.name.startswith(HEADS)), new)
    except LeftInForce:
        raise
    except BaseException:
        with suppress(AvfsError):
            # A signal may come when the branch is back. Without `taken` it stays where an undo that died had left it.
            if taken and vault.read_head(fork) is None:
                move_to_trash(vault, fork, taken)
        raise
    bring_into_use(vault, fork)
    if record.more.get(WAS_DEFAULT) is True:
        vault.refs.set_head(HEADS + fork)
    return warnings


def _last_end(vault: OpenVault, record: OpRecord) -> OpRecord | None:
    """Find the line that took the fork away last: that of `record`, or of an undo or redo of it.

    It has all the fork's refs, and its place in the trash. Other forks of that name have operations of their own.
    """
    for other in vault.oplog.read_fork(record.fork):
        if (
            record.id in (other.id, other.target)
            and other.moves
            and all(new is None for _, _, new in other.moves)
            and any(ref == HEADS + record.fork for ref, _, _ in other.moves)
        ):
            return other
    return None


def _reverse(move: RefMoveRecord) -> RefChange:
    ref, old, new = move
    return RefChange(ref, maybe_oid(new), maybe_oid(old))


def _forward(move: RefMoveRecord) -> RefChange:
    ref, old, new = move
    return RefChange(ref, maybe_oid(old), maybe_oid(new))


def _as_move(change: RefChange) -> RefMoveRecord:
    return (change.name, change.old.hex() if change.old else None, change.new.hex() if change.new else None)
