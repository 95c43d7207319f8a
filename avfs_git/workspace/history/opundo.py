"""Taking back what one operation of the log did, and keeping what was done after it.

Decided here: what is merged. `opdetails` tells the states before and after the operation. The files get a three-way
merge of the present state with the state before the operation; its base is the state after it. The merge is tried in
memory before anything is saved: an operation whose files were changed since is refused, and nothing changes. What is
ignored has no lines to merge and stays, with a warning.

What is uncommitted is saved first; then the branch and the files move on in one step (`advance`), as an operation of
its own. Called with the workspace lock held; crashes as `advance`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence

from avfs_git.errors import CannotUndo, OperationNotFound, UndoConflicts, name_some
from avfs_git.gitstore.compare.treediff import diff_trees, sizes_here
from avfs_git.gitstore.formats.commits import Commit
from avfs_git.gitstore.holding import objects_held
from avfs_git.gitstore.merge.engine import Labels
from avfs_git.gitstore.objects.drywriter import DryWriter
from avfs_git.gitstore.objects.packwriter import PackWriter
from avfs_git.model import MergeStrategy, UndoResult, Warning
from avfs_git.paths import Oid, show_path
from avfs_git.values import NamedTuple, replace
from avfs_git.workspace.checkpoint.checkpoint import check_not_merging, check_seen
from avfs_git.workspace.history.opdetails import diff_beside, find_operation, is_first, states_of
from avfs_git.workspace.merge.merge import join_warnings, open_engine, save_target
from avfs_git.workspace.merge.preview import Preview
from avfs_git.workspace.opened.workspace import LockedWorkspace
from avfs_git.workspace.restore.advance import AdvanceRequest, advance
from avfs_git.workspace.vault.gitmoves import check_head
from avfs_git.workspace.vault.log.oprecord import EXPIRED, OF_FORKS, OpRecord
from avfs_git.workspace.vault.vault import OpenVault

OP_UNDO = "op_undo"
"""The kind of the operation that takes another one back."""
_REMOVED = "`avfs gc` has removed the state before it"


class _Sides(NamedTuple):
    """The trees between which an operation lies."""

    after: Oid
    before: Oid | None
    """None if nothing was there."""


def undo_operation(locked: LockedWorkspace, number: int, *, dry_run: bool = False) -> UndoResult:
    """Take back what an operation on this fork did, and keep what was done after it.

    Raises:
        CannotUndo: If the operation changed no files of the fork, or `gc` removed a state of it.
        HeadElsewhere: If git's HEAD in the live tree is not on the fork's branch.
        MergeInProgress: If the workspace is in the middle of a merge.
        RefConflict: If the branch holds changes that the workspace has not seen.
        UndoConflicts: If files were changed since; nothing is changed then.
    """
    vault = locked.vault
    if not dry_run:
        vault.prepare()
    # the log may be all that names the states
    with contextlib.nullcontext() if dry_run else objects_held(vault.git_dir):
        record = find_undone(vault, number)
        of = vault.oplog.find_name_today(record)
        if of != locked.fork:
            raise OperationNotFound(number, fork=locked.fork, of=of)
        sides = _find_sides(locked, record)
        check_not_merging(locked)
        check_head(vault, locked.fork)
        check_seen(locked)
        told = _warn_of_ignored([change.path for change in diff_beside(vault, record)])
        tried = Preview(locked)
        now = tried.read_commit(tried.add_uncommitted()).tree
        tree = _merge(tried, record, sides, now)
        if not dry_run and tree != now:
            return _undo(locked, record, sides, told)
        changed = tuple(diff_trees(tried, now, tree, size_of=sizes_here(tried)))
        return UndoResult(
            replace(record.to_operation(), fork=locked.fork),
            changed,
            warnings=join_warnings(told, tried.captured.warnings),
        )


def find_undone(vault: OpenVault, number: int) -> OpRecord:
    """Find an operation that can be taken back by itself.

    Raises:
        CannotUndo: If it changed no files of a fork, or the log does not have the state before it any more.
    """
    record = find_operation(vault, number)
    before, after = states_of(record)
    if record.kind in OF_FORKS or after is None:
        hint = f"`avfs op show {number}` tells what it did; `avfs undo` takes back the last operation."
        raise CannotUndo(record.description, "it changed no files of a fork", hint=hint)
    if EXPIRED in record.more or (before is None and not is_first(record)):
        raise CannotUndo(record.description, _REMOVED)
    if record.kind == "merge_abort":  # its files had conflict markers, which a commit would hold
        hint = (
            "Begin the merge again; what was resolved then is in commit "
            f"{before.hex()[:12] if before is not None else 'none'}."
        )
        raise CannotUndo(record.description, "the merge is over", hint=hint)
    return record


def _undo(locked: LockedWorkspace, record: OpRecord, sides: _Sides, told: tuple[Warning, ...]) -> UndoResult:
    """Save what is uncommitted, then move the fork on to the merged tree."""
    text = f"op undo {record.id}"
    start = save_target(locked, f"save before {text}")
    with PackWriter(locked.vault.store) as pack:
        now = pack.read_commit(start.head).tree
        tree = _merge(pack, record, sides, now)
        changed = tuple(diff_trees(pack, now, tree, size_of=sizes_here(pack)))

        def make_head(sink: PackWriter, sidecar: Oid | None) -> Oid:
            signature = locked.signature()
            message = f"{text}: {record.description}\n"
            return sink.add_commit(Commit(tree, (start.head,), signature, signature, message, sidecar=sidecar))

        description = f"{text} ({record.description})"
        request = AdvanceRequest(tree, make_head, start.head, start.now, OP_UNDO, description, asks=False)
        done = advance(locked, pack, request)
    warnings = join_warnings(told, start.warnings, done.warnings)
    operation = replace(record.to_operation(undone=True), fork=locked.fork)  # as it is called today
    return UndoResult(operation, changed, start.saved, warnings, done.sidecar_changed)


def _find_sides(locked: LockedWorkspace, record: OpRecord) -> _Sides:
    """Find the trees after and before an operation."""
    before, after = states_of(record)
    assert after is not None  # noqa: S101 - `find_undone` has looked
    store = locked.vault.store
    store.packs.refresh()
    if not all(store.exists(state) for state in (after, before) if state is not None):
        raise CannotUndo(record.description, _REMOVED)
    return _Sides(store.read_commit(after).tree, store.read_commit(before).tree if before is not None else None)


def _warn_of_ignored(paths: Sequence[bytes]) -> tuple[Warning, ...]:
    """Tell which paths the operation changed that history does not hold."""
    if not paths:
        return ()
    text = f"what is ignored or not known to git stays as it is: {name_some(list(map(show_path, paths)), 1)}"
    return (Warning("undo.ignored_stay", text, paths[0]),)


def _merge(sink: PackWriter | DryWriter, record: OpRecord, sides: _Sides, now: Oid) -> Oid:
    """Merge what taking an operation back changes into a tree.

    Raises:
        UndoConflicts: If both changed the same.
    """
    after, before = sides.after, sides.before or sink.add_tree({})
    if after == before:
        return now
    if after == now:
        return before
    engine = open_engine(sink, MergeStrategy.NORMAL, in_workspace=False)
    labels = Labels(b"after operation %d" % record.id, b"HEAD", b"before operation %d" % record.id)
    merged = engine.merge_trees(after, now, before, labels=labels)
    if not merged.is_clean:
        raise UndoConflicts(record.id, [conflict.path for conflict in merged.conflicts])
    return merged.tree or sink.add_tree({})
