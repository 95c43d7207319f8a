"""What one operation of the log did: its states before and after, and how they differ.

Decided here: which two states an operation lies between: the two of its line, where it changed files; else where the
branch was and went. Making and deleting a fork has none: its files are those of another state. Only `keep_whole`
writes: the commit of a state that no commit holds whole.
"""

from __future__ import annotations

from contextlib import suppress
from itertools import takewhile

from avfs_git.errors import InvalidInput, OperationNotFound
from avfs_git.gitstore.compare.treediff import diff_trees, sizes_here
from avfs_git.gitstore.formats.commits import Commit
from avfs_git.gitstore.objects.packwriter import PackWriter
from avfs_git.model import ChangedFile, Operation, OperationDetails, UndoResult, Warning
from avfs_git.paths import Oid, maybe_hex, maybe_oid
from avfs_git.values import replace
from avfs_git.workspace.capture.sidecardiff import diff_sidecars
from avfs_git.workspace.history import compare, undo
from avfs_git.workspace.vault.format import HEADS
from avfs_git.workspace.vault.gitmoves import has_command
from avfs_git.workspace.vault.log.oprecord import (
    BASE,
    EXPIRED,
    FORK_CREATE,
    JOINS,
    OF_FORKS,
    REDO,
    SIDECAR,
    SIDECAR_BEFORE,
    STATE_BEFORE,
    UNDO,
    OpRecord,
)
from avfs_git.workspace.vault.log.replay import find_undone
from avfs_git.workspace.vault.vault import OpenVault


def describe_operation(vault: OpenVault, number: int, *, context: int = 3) -> OperationDetails:
    """Describe an operation with what it changed; its fork is called as it is today."""
    record, is_undone = _find_with_turn(vault, number)
    fork = vault.oplog.find_name_today(record)
    return _describe(vault, record, replace(record.to_operation(undone=is_undone), fork=fork), context, fork)


def describe_operations(vault: OpenVault, fork: str | None, limit: int) -> list[OperationDetails]:
    """Describe the last operations, newest first."""
    wanted = vault.oplog.list_operations(fork, limit)
    oldest = wanted[-1].id if wanted else 0
    known = {
        record.id: record for record in takewhile(lambda record: record.id >= oldest, vault.oplog.read_listed(fork))
    }
    return [_describe(vault, known[each.id], each, 0, fork or each.fork) for each in wanted if each.id in known]


def find_state_after(vault: OpenVault, number: int) -> tuple[str, Oid, Oid | None]:
    """Find an operation's fork, by its present name, and the state that it led to: a commit, and the sidecar commit.

    That is given where the commit does not name it.

    Git moves a branch and leaves what is ignored as the operations before did, or as the fork began: what the new
    commit names does not count. None where an operation of avfs led to a commit that names a sidecar, or no operation
    says it. The caller's restore is refused where `gc` has removed the state.

    Raises:
        InvalidInput: If it led to no state of a fork.
    """
    record = find_operation(vault, number)
    after = _state_after(record)
    if after is None:
        reason = f"operation {number} led to no state of a fork: it was to {record.description}"
        raise InvalidInput(
            reason, hint="`avfs log` lists the commits: bring one back with `avfs checkpoint restore ID`."
        )
    if record.kind == FORK_CREATE and BASE in record.more:
        after = maybe_oid(record.more[BASE]) or after  # with what the source had not committed
    is_there = vault.store.exists(after)
    says_all = not is_there or (vault.store.read_commit(after).sidecar is not None and not _is_of_git(vault, record))
    return vault.oplog.find_name_today(record), after, None if says_all else _find_beside(vault, record)


def keep_whole(vault: OpenVault, number: int, after: Oid, beside: Oid) -> Oid:
    """Make and keep a commit of the state that an operation led to, with all that the fork held then."""
    vault.prepare()
    signature, text = vault.signature(), f"state after operation {number}\n"
    with PackWriter(vault.store) as pack:
        commit = Commit(vault.store.read_commit(after).tree, (after,), signature, signature, text, sidecar=beside)
        whole = pack.add_commit(commit)
        pack.finish(hold=True)
        vault.refs.update(vault.hold(whole, beside))
    return whole


def _find_beside(vault: OpenVault, record: OpRecord) -> Oid | None:
    """Find the sidecar commit of what a fork held after an operation, as that or the last one before it says."""
    for older in vault.oplog.read_life(vault.oplog.find_name_today(record)):
        if older.id > record.id:
            continue
        commit = maybe_oid(older.after)
        told = maybe_oid(older.more.get(SIDECAR if older.kind != FORK_CREATE else "sidecar"))
        if told is None and commit is not None and vault.store.exists(commit) and not _is_of_git(vault, older):
            told = vault.store.read_commit(commit).sidecar
        if told is not None or older.kind == FORK_CREATE:
            return told if told is not None and vault.store.exists(told) else None
    return None


def _is_of_git(vault: OpenVault, record: OpRecord) -> bool:
    """Tell whether git did what an operation is, or takes back, or does again."""
    if record.target is not None:
        with suppress(OperationNotFound):
            record = find_operation(vault, record.target)
    return record.kind == "git"


def plan_undo(vault: OpenVault, fork: str | None, *, alone: bool = False) -> UndoResult:
    """Tell what `undo` would take back, and which files would change.

    The caller has learnt what git has done in live trees.

    Raises:
        NothingToUndo: If there is no operation.
        CannotUndo, MergeInProgress: If undo would be refused.
    """
    record = undo.require_next(vault, fork, UNDO, alone=alone)
    undo.check_planned(vault, record)
    planned = _plan_undo(vault, record)
    while record.more.get(JOINS) is not None:
        try:
            record = find_operation(vault, record.more[JOINS])
        except OperationNotFound:
            break
        if EXPIRED in record.more:
            break
        more = _plan_undo(vault, record)
        planned = replace(
            planned,
            changed_files=undo.join_changes(planned.changed_files, more.changed_files),
            sidecar_changed=undo.join_changes(planned.sidecar_changed, more.sidecar_changed),
            joined=(*planned.joined, more.operation),
        )
    if fork is not None and has_command(vault, fork):
        text = f"a command runs in '{fork}': once it has ended, its changes are taken back first"
        planned = replace(planned, warnings=(Warning("undo.command_runs", text),))
    return planned


def _plan_undo(vault: OpenVault, record: OpRecord) -> UndoResult:
    before, after = states_of(record)
    operation = record.to_operation()
    if record.before is None or after is None or before is None:
        return UndoResult(operation)  # a checkpoint changes no files, nor does what makes or ends another fork
    trees = (vault.store.read_commit(state).tree for state in (after, before))
    changed = diff_trees(vault.store, *trees, size_of=sizes_here(vault.store))
    return UndoResult(operation, tuple(changed), sidecar_changed=diff_beside(vault, record))


def diff_beside(vault: OpenVault, record: OpRecord) -> tuple[ChangedFile, ...]:
    """List what taking an operation back would change of what history does not hold. It has a state after it."""
    named = [maybe_oid(record.more.get(name)) for name in (SIDECAR_BEFORE, SIDECAR)]
    read = vault.store.read_commit
    before, after = (
        read(sidecar).tree if sidecar is not None else vault.sidecar_tree(read(state) if state is not None else None)
        for sidecar, state in zip(named, states_of(record), strict=True)
    )
    if named == [None, None] and None in (before, after):  # a commit of git's says nothing of that
        return ()
    return tuple(diff_sidecars(vault.store, after, before))


def find_operation(vault: OpenVault, number: int) -> OpRecord:
    """Find an operation by its number."""
    return _find_with_turn(vault, number)[0]


def _find_with_turn(vault: OpenVault, number: int) -> tuple[OpRecord, bool]:
    """Find an operation by its number, and whether it was undone."""
    since = list(takewhile(lambda record: record.id >= number, vault.oplog.read()))
    if not since or since[-1].id != number:
        raise OperationNotFound(number)
    return since[-1], number in find_undone(since)


def _state_after(record: OpRecord) -> Oid | None:
    """Tell which commit holds the state that an operation led to, the making of a fork included."""
    moved = (new for ref, _, new in record.whole_moves() if ref == HEADS + record.fork)
    return maybe_oid(record.after or next(moved, None))


def states_of(record: OpRecord) -> tuple[Oid | None, Oid | None]:
    """Tell which commits hold the states before and after an operation; none of one on a fork as a whole.

    Without a state before it, it is the first operation of its fork (`is_first`), or that is not known any more.
    """
    if record.kind in OF_FORKS or (record.kind in (UNDO, REDO) and record.before is None and _turns_fork(record)):
        return None, None
    was = next((old for ref, old, _ in record.whole_moves() if ref == HEADS + record.fork), None)
    return maybe_oid(record.before or record.more.get(STATE_BEFORE) or was), _state_after(record)


def is_first(record: OpRecord) -> bool:
    """Tell whether an operation began the branch of its fork: nothing was there before."""
    return any(ref == HEADS + record.fork and old is None for ref, old, _ in record.whole_moves())


def _turns_fork(record: OpRecord) -> bool:
    return any(ref == HEADS + record.fork and None in (old, new) for ref, old, new in record.moves)


def _describe(vault: OpenVault, record: OpRecord, operation: Operation, context: int, fork: str) -> OperationDetails:
    before, after = states_of(record)
    if after is None or (before is None and not is_first(record)):
        return OperationDetails(operation, maybe_hex(after), None)
    return OperationDetails(
        operation, after.hex(), compare.diff_commits(vault, before, after, fork=fork, context=context)
    )
