"""Undo and redo, where the fork is open here or mounted.

Decided here: what is recorded before an operation is taken back, and whether its session does that.
`sdk.repository.history` and `sdk.workspace.states` call it; safe from several threads. What the operation log says of
an undo is decided in `workspace.history.undo`, and that is what survives a crash.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from avfs_git.errors import AvfsError, NoForks, WorkspaceBusy, WorkspaceMounted, quote
from avfs_git.model import Operation, UndoResult, Warning
from avfs_git.sdk.parts import forkrename, gitmoves, opdetails, operations, oprecord, undo
from avfs_git.values import replace

if TYPE_CHECKING:
    from avfs_git.sdk.dispatch import Dispatch
    from avfs_git.workspace.vault.log.oprecord import OpRecord


def turn(at: Dispatch, fork: str | None, *, back: bool, inside: bool = False, alone: bool = False) -> UndoResult:
    """Undo or redo the last operation on a fork; see `Vault.undo`. `inside` and `alone` as in `undo.turn`."""
    fork = _choose_turned(at, fork, back=back)
    if fork is not None:
        at.check_left(fork, "undo")
    told: tuple[Warning, ...] = ()
    recorded_at = None
    if fork is not None and at.core.has_fork(fork) and (back or not _redo_ends(at, fork)):
        told = at.record_changes(fork)  # newer work is undone first, and nothing is done again over it
        recorded_at = at.open_workspace(fork).epoch if back else None
    done = _turn_next(at, fork, back=back, recorded_at=recorded_at, inside=inside, alone=alone)
    return replace(done, warnings=tuple(dict.fromkeys((*told, *done.warnings)))) if told else done


def plan_undo(at: Dispatch, fork: str | None, *, inside: bool = False, alone: bool = False) -> UndoResult:
    """Tell what `turn` would take back; newer changes of files are recorded first, as they are then.

    Where another process works in the fork, nothing is recorded, and the log tells what there is.
    """
    at_hand = fork or at.core.default_fork()
    user = _find_user(at, at_hand) if at_hand is not None and at.core.has_fork(at_hand) else None
    fork = _choose_turned(at, fork, back=True, records=user is None)
    told: tuple[Warning, ...] = ()
    if user is None:
        told = at.record_changes(fork) if fork is not None and at.core.has_fork(fork) else ()
        _adopt_moves(at, fork)
    elif fork == at_hand:
        text = f"fork '{fork}' is in use by {user}: once that has ended, what it changed is taken back first"
        told = (Warning("workspace.in_use", text),)
    record = undo.find_next(at.core, fork, oprecord.UNDO, alone=alone)
    if record is not None:
        if inside:
            undo.check_outside(record, fork)
        _is_of_session(at, record, oprecord.UNDO)
        if record.kind == oprecord.FORK_RENAME and user is None and at.core.has_fork(record.fork):
            with at.open_workspace(record.fork).locked(to_read=True) as locked:
                forkrename.check_at_rest(locked)
    return replace(planned := opdetails.plan_undo(at.core, fork, alone=alone), warnings=(*told, *planned.warnings))


def find_undo(at: Dispatch, fork: str) -> Operation | None:
    """Tell which operation undo takes back next, by the log alone; None where that would be refused now."""
    try:
        record = undo.require_next(at.core, fork, oprecord.UNDO)
        undo.check_planned(at.core, record)
        _is_of_session(at, record, oprecord.UNDO)
    except AvfsError:
        return None
    return record.to_operation()


def _find_user(at: Dispatch, fork: str) -> str | None:
    """Tell which process works in a fork that is not mounted, and would be waited for."""
    opened = at.open_workspace(fork)
    try:
        with opened.locked(to_read=True, is_patient=False):
            return None
    except WorkspaceBusy as busy:
        return str(busy.details["holder"] or "another process") if opened.lock.session is None else None


def _choose_turned(at: Dispatch, fork: str | None, *, back: bool, records: bool = True) -> str | None:
    """Choose the fork whose operation is undone or redone; None if the vault has no fork."""
    if fork is None:
        if back and records:
            at.record_work(at.core.default_fork())  # it is newer than what the log has
        fork = undo.find_ended(at.core, oprecord.UNDO if back else oprecord.REDO)
    with contextlib.suppress(NoForks):  # the deletion of the last one is taken back
        fork = at.core.choose_fork(fork)
    return fork


def _adopt_moves(at: Dispatch, fork: str | None) -> None:
    """Learn what git has done in live trees since avfs last looked, in their sessions where they are mounted."""
    for name in gitmoves.list_with_git_dir(at.core, fork):
        at.run(at.open_workspace(name), operations.adopt_git_moves)


def _redo_ends(at: Dispatch, fork: str) -> bool:
    """Whether redo would delete this fork again, for which its files count by their counters, recorded or not."""
    record = undo.find_next(at.core, fork, oprecord.REDO)
    return record is not None and record.fork == fork and record.kind in oprecord.OF_FORKS


def _turn_next(
    at: Dispatch, fork: str | None, *, back: bool, recorded_at: int | None, inside: bool, alone: bool
) -> UndoResult:
    direction = oprecord.UNDO if back else oprecord.REDO
    while True:
        _adopt_moves(at, fork)
        record = undo.find_next(at.core, fork, direction, alone=alone)
        if record is not None and inside and back:
            undo.check_outside(record, fork)  # before it is asked to be unmounted for that
        if record is not None and _is_of_session(at, record, direction):
            return at.run(at.open_workspace(record.fork), operations.turn, record.id, back, alone)
        try:
            return undo.turn(
                at.core, fork, direction, at.open_workspace, recorded_at=recorded_at, inside=inside, alone=alone
            )
        except WorkspaceBusy:  # another operation may come next by now, in a fork whose session has to be asked
            record = undo.find_next(at.core, fork, direction, alone=alone)
            if record is None or record.kind in oprecord.OF_FORKS or not at.is_mounted(record.fork):
                raise


def _is_of_session(at: Dispatch, record: OpRecord, direction: str) -> bool:
    """Tell whether the session of a fork turns an operation.

    Raises:
        CannotUndo: If it would bring a fork back whose name a branch has: that is not to be unmounted.
        WorkspaceMounted: If it is one of the fork as a whole, which has to be unmounted for it.
    """
    undo.check_name(at.core, record, direction)
    mounted = next(filter(at.is_mounted, oprecord.names_of(record)), None)
    if mounted is not None and record.kind in oprecord.OF_FORKS:
        try:
            at.check_unmounted(mounted)
        except WorkspaceMounted as err:
            err.hint = f"What comes next is {quote(record.description)}, of the fork as a whole. {err.hint}"
            raise
        return False  # it has just ended
    return mounted is not None
