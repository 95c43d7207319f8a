"""Saving a checkpoint: workspace to objects, objects to one pack, the branch to the new commit.

Decided here: the order of those steps, what is recorded with them, and when nothing needs recording. The section
"Checkpoint" of `docs/design/durability.md` lists the steps, the reason for each place, and what a crash after each
leaves. Callers hold the workspace lock.
"""

from __future__ import annotations

import contextlib
import os
import shlex
from collections.abc import Iterator, Sequence
from typing import Literal

from avfs_git.errors import CheckpointExists, HostError, LeftInForce, MergeInProgress, RefConflict, RefLocked
from avfs_git.faults import reach
from avfs_git.gitstore.formats.commits import Commit, Signature
from avfs_git.gitstore.merge.bases import is_ancestor
from avfs_git.gitstore.objects.drywriter import DryWriter
from avfs_git.gitstore.objects.packwriter import PackWriter
from avfs_git.gitstore.refs.refs import RefChange
from avfs_git.gitstore.source import ObjectSink
from avfs_git.model import ChangedFile, CheckpointResult, Status, Warning
from avfs_git.paths import Oid, check_new_label, maybe_hex, maybe_oid
from avfs_git.values import replace
from avfs_git.workspace.capture.looked import Looked
from avfs_git.workspace.capture.requests import NOTHING_APPLIED, Applied, CaptureRequest, CheckpointRequest
from avfs_git.workspace.checkpoint.bookkeeping import bookkeeping
from avfs_git.workspace.checkpoint.changes import (
    check_recorded,
    describe_changes,
    find_recorded,
    list_changed,
    list_work,
    make_recorded_commit,
    record_changes,
    record_git_moves,
)
from avfs_git.workspace.checkpoint.compared import Compared, compare_workspace, recorded_sidecar
from avfs_git.workspace.checkpoint.conversions import warn_of_conversions
from avfs_git.workspace.checkpoint.gitlogs import find_come_back
from avfs_git.workspace.checkpoint.mark import mark_captured, mark_recorded
from avfs_git.workspace.checkpoint.prepare import read_basis, warn_of_excess
from avfs_git.workspace.checkpoint.staged import refuse_left_out
from avfs_git.workspace.checkpoint.unseen import find_lacking, find_unseen_head, record_seen
from avfs_git.workspace.opened.workspace import LockedWorkspace
from avfs_git.workspace.vault import notes
from avfs_git.workspace.vault.format import HEADS, SIDECARS, Merging, label_ref
from avfs_git.workspace.vault.gitmoves import (
    describe_with_git,
    facts_of_moves,
    find_under_way,
    record_head_move,
    tell_head_move,
    tie_to_command,
    warn_of_git,
)
from avfs_git.workspace.vault.log.oprecord import CAPTURED, EXACT, FILES, FROM, OURS, OpRecord, RefMoveRecord
from avfs_git.workspace.vault.states import Trees, add_sidecar
from avfs_git.workspace.vault.vault import OpenVault


def read_status(locked: LockedWorkspace) -> Status:
    """Tell what a checkpoint would record now. Writes nothing; costs what changed since the last status."""
    basis, looked = read_basis(locked), locked.opened.looked
    if looked is None or looked.basis != basis:
        looked = Looked(basis, DryWriter(locked.vault.store))
    compared = compare_workspace(locked, looked.sink, CaptureRequest(skips_unreadable=True, before=looked.captured))
    locked.opened.looked = looked.follow(compared.captured)
    return Status(
        fork=locked.fork,
        head=compared.head.hex() if compared.head else None,
        base=locked.opened.state.base,
        changed_files=compared.changed_files,
        sidecar_changed=compared.sidecar_changed,
        warnings=(
            *_warn_of_unseen(locked, compared, looked.sink),
            *warn_of_git(locked.vault, locked.fork),
            *compared.captured.warnings,
        ),
    )


def _warn_of_unseen(locked: LockedWorkspace, compared: Compared, source: ObjectSink) -> tuple[Warning, ...]:
    """Warn of commits that another process put on the branch, and whose changes the workspace does not have.

    A merge that brings them in is no reason to warn; one of something else has to be given up for them.
    """
    unseen = find_unseen_head(locked)
    if unseen is None or not _lacks_updates(locked, compared, source, unseen):
        return ()
    head, came_from = unseen
    if merged_into(locked) == head.hex():
        return ()
    fork, merging = shlex.quote(locked.fork), locked.opened.state.merging
    moved, update = f"another process has moved '{locked.fork}'", f"`avfs update {fork}`"
    if merging is not None:
        verb = merging.kind.replace("_", "-")
        update = f"`avfs --fork {fork} {verb} --abort` and then {update}"
    if head != came_from and is_ancestor(locked.vault.store, head, came_from):
        drop = f"`avfs --fork {fork} checkpoint restore HEAD` drops it here, too"
        told = f"{moved} back to {head.hex()[:12]}; {update} puts on it again what came after that, {drop}"
    else:
        told = f"{moved} to {head.hex()[:12]}, and the files here do not have what that has; bring it in with {update}"
    return (Warning("fork.moved_outside", told),)


def save_checkpoint(
    locked: LockedWorkspace, request: CheckpointRequest, applied: Applied = NOTHING_APPLIED
) -> CheckpointResult:
    """Record the workspace as a commit on its fork.

    Durable when it returns. Costs what changed since the last capture. While a command runs, the changes are its own.

    Raises:
        MergeInProgress: If the workspace is in the middle of a merge, which this does not conclude.
        CheckpointExists: If the label is taken by another commit.
        FileChanging: If a file cannot be read whole.
        RefConflict: If the branch holds changes that the workspace has not seen.
        SparseCheckout: If files are missing because git was told to leave them out of the live tree.
        MarkedUnchanged: If programs have edited files that git was told to keep out of commits.
        LeftInForce: If the disk refuses so late that the new state stays.
        HostError: If the disk refuses; the state is the old one.
    """
    vault, label = locked.vault, request.label
    by_programs = applied is NOTHING_APPLIED
    if not applied.concludes_merge:
        check_not_merging(locked)
    vault.prepare()
    complete_moves(locked)
    if label is not None:
        check_new_label(label)
        if vault.refs.read(label_ref(locked.fork, label)) is not None:
            raise CheckpointExists(label)
    with PackWriter(vault.store) as pack:
        recorded = find_recorded(locked)
        compared = compare_workspace(locked, pack, _capture_request(pack, request, applied), captured=applied.captured)
        now = (compared.captured.tree, compared.captured.sidecar) if applied.before is None else recorded[1]
        unseen = find_unseen_head(locked)
        lacks_updates = unseen is not None and _lacks_updates(locked, compared, pack, unseen)
        recorded, moved = record_git_moves(locked, pack, recorded, now, request.command)
        tied = tie_to_command(vault, locked.fork, request.command) if by_programs else {}
        is_enough = not applied.concludes_merge and not (label is not None and compared.lacks_sidecar(pack))
        if compared.is_unchanged and is_enough and not _has_new_message(request, compared.commit):
            if request.command is None:
                record_head_move(vault, locked.fork)  # else the log has it after the label
            # What git has committed for a command is still to be recorded as the command's (`changes.record_changes`).
            vault.note_seen(locked.fork, unseen[1] if unseen is not None else None)
            if unseen is not None and unseen[0] != unseen[1] and by_programs and request.command is None:
                _record_seen_files(locked, pack, recorded, compared, unseen)
            unchanged = _label_head(locked, compared, pack, request, tied, is_recorded=not moved)
            return replace(unchanged, warnings=(*warn_of_git(locked.vault, locked.fork), *unchanged.warnings))
        refuse_left_out(vault, locked.fork, compared.changed_files, by_programs=by_programs)
        # Of a merge that others began by moving the branch, the branch is one side.
        is_side = applied.concludes_merge and compared.head is not None and compared.head.hex() == merged_into(locked)
        if lacks_updates and not is_side:
            raise _lost_updates(locked, compared)
        if unseen is not None:  # the files have what others put on the branch; undo may take it from them
            vault.note_seen(locked.fork, unseen[1])
            applied = replace(applied, more={OURS: unseen[1].hex(), **applied.more})
        if moved:
            headline = describe_with_git(request.description or request.message or request.kind, moved).partition("\n")[
                0
            ]
            request = replace(request, description=headline)
            applied = replace(applied, more={**applied.more, FROM: maybe_hex(moved[0].old), **facts_of_moves(moved)})
        if tied:
            request, applied = replace(request, with_files=True), replace(applied, more={**applied.more, **tied})
        if by_programs:  # what a merge or restore put there was stored before
            compared.captured.warnings += warn_of_conversions(
                pack, compared.was[0], compared.captured.tree, vault.git_dir, compared.changed_files
            )
        result = _record(locked, compared, pack, recorded, request, applied)
    told = (*warn_of_git(locked.vault, locked.fork), *warn_of_excess(locked, compared.changed_files))
    return replace(result, warnings=(*told, *result.warnings))


def _capture_request(pack: PackWriter, request: CheckpointRequest, applied: Applied) -> CaptureRequest:
    index = None
    if applied.index is not None and applied.captured is None:
        index = applied.index(pack) or pack.add_tree({})
    return CaptureRequest(
        known=applied.known,
        index=index,
        beside=applied.beside,
        added=request.added,
        skips_unreadable=request.skips_unreadable,
    )


def _has_new_message(request: CheckpointRequest, head: Commit | None) -> bool:
    if not request.keeps_message or not request.message or head is None:
        return False
    return head.message.strip() != request.message.strip()


def save_or_record(locked: LockedWorkspace, request: CheckpointRequest) -> CheckpointResult:
    """Save a checkpoint.

    In the middle of a rebase or merge of git's, record the changes instead, unless a label is wanted.

    A checkpoint would move the branch: git would not end the rebase, and giving up the merge would leave the conflicts
    there.

    Raises:
        As `save_checkpoint`.
    """
    vault = locked.vault
    if request.label is not None or find_under_way(vault, locked.fork) is None:
        return save_checkpoint(locked, request)
    check_not_merging(locked)
    recorded, head = find_recorded(locked)[0], vault.read_head(locked.fork)
    told = record_changes(locked, request.description or request.message, command=request.command)
    described = (
        vault.describe(head, fork=locked.fork, labels=vault.list_labels(locked.fork)) if head is not None else None
    )
    at, trees = find_recorded(locked)
    is_saved = at == recorded and head is not None and vault.store.read_commit(head).tree == trees[0]
    outcome: Literal["recorded", "unchanged"] = "unchanged" if is_saved else "recorded"
    return CheckpointResult(outcome, described, (), (), (*warn_of_git(vault, locked.fork), *told))


def save_first(locked: LockedWorkspace, description: str) -> CheckpointResult:
    """Save what is uncommitted before an operation replaces files.

    Raises:
        HostError: If the disk refuses; also if the new state stays, because a save changes no file.
        WorkspaceBusy: If a command runs in the live tree and has changed files, which would be replaced under it.
        MergeInProgress, FileChanging, RefConflict: As `save_checkpoint`.
    """
    check_recorded(locked)
    with saving_first():
        return save_checkpoint(locked, CheckpointRequest(message=bookkeeping(description), description=description))


def merged_into(locked: LockedWorkspace) -> str | None:
    """Name the commit that the merge in a workspace brings in; None if there is no merge."""
    merging = locked.opened.state.merging
    return merging.theirs if merging is not None else None


def check_not_merging(locked: LockedWorkspace) -> None:
    """Make sure that no conflicts are waiting in the workspace: they must not become a commit, nor be written over."""
    merging = locked.opened.state.merging
    if merging is not None:
        raise merge_in_progress(locked.fork, merging)


def merge_in_progress(fork: str, merging: Merging) -> MergeInProgress:
    """Make the error that says in the middle of what a fork is."""
    return MergeInProgress(fork, merging.source, merging.kind)


@contextlib.contextmanager
def saving_first() -> Iterator[None]:
    """Save uncommitted work before an operation, which has not begun and is not in force if the disk refuses.

    Raises:
        HostError: In place of `LeftInForce`: a save that stays changes no file.
    """
    try:
        yield
    except LeftInForce as error:
        raise HostError("save what is uncommitted", OSError(error.errno, os.strerror(error.errno))) from error


def complete_moves(locked: LockedWorkspace) -> None:
    """Move the refs that an operation on this fork left when its process died between two of them.

    Called with the workspace lock held: the process that announced such an operation is dead. A ref that has moved
    tells that the operation was under way; the log says that the others move, too.

    Raises:
        HostError: If the disk fails. The next one to take the lock tries again.
    """
    vault = locked.vault
    for record in vault.oplog.find_unconfirmed(locked.fork):
        changes = [RefChange(ref, maybe_oid(old), maybe_oid(new)) for ref, old, new in record.moves]
        held = {change.name: vault.refs.read(change.name) for change in changes}
        left = [change for change in changes if held[change.name] == change.old]
        if 0 < len(left) < len(changes) and all(
            held[change.name] == change.new for change in changes if change not in left
        ):
            with contextlib.suppress(RefConflict):  # another process has moved them
                vault.refs.update(left)


def check_seen(locked: LockedWorkspace) -> None:
    """Refuse an operation before which a checkpoint would be refused (`RefConflict`).

    Costs a capture only if the branch moved.

    Raises:
        RefConflict: If the branch holds changes that the workspace has not seen.
    """
    unseen = find_unseen_head(locked)
    if unseen is not None:
        writer = DryWriter(locked.vault.store)
        compared = compare_workspace(locked, writer, CaptureRequest(skips_unreadable=True))
        if _lacks_updates(locked, compared, writer, unseen):
            raise _lost_updates(locked, compared)


def _lost_updates(locked: LockedWorkspace, compared: Compared) -> RefConflict:
    """Say that a commit would take back what another process put on the branch and this workspace never held."""
    cache = locked.opened.cache
    error = RefConflict(HEADS + locked.fork, maybe_hex(cache.commit if cache else None), maybe_hex(compared.head))
    error.hint = f"Bring in what was put there with `avfs update {shlex.quote(locked.fork)}`."
    return error


def _lacks_updates(locked: LockedWorkspace, compared: Compared, source: ObjectSink, unseen: tuple[Oid, Oid]) -> bool:
    """Tell whether an unseen head has a change of a file that the workspace does not have.

    Where the workspace has changed the same file otherwise, too, only a merge has both, unless it came from the head.
    """
    came = find_come_back(locked.vault, locked.fork, unseen[1])
    if came == unseen[0]:
        return False
    return bool(find_lacking(locked, source, (unseen[0], came or unseen[1]), compared.captured.tree))


def _record_seen_files(
    locked: LockedWorkspace,
    pack: PackWriter,
    recorded: tuple[Oid | None, Trees],
    compared: Compared,
    unseen: tuple[Oid, Oid],
) -> None:
    """Log that programs have brought the files to what others had put on the branch."""
    captured = compared.captured
    before, kept = make_recorded_commit(locked, pack, *recorded)
    after, made = make_recorded_commit(locked, pack, unseen[0], (captured.tree, captured.sidecar))
    pack.finish(hold=True)
    locked.vault.refs.update(locked.vault.hold(*dict.fromkeys((*kept, *made))))
    record = OpRecord(
        0,
        locked.fork,
        FILES,
        "take over what others have put on the branch",
        locked.vault.clock_ns(),
        before=before.hex(),
        after=after.hex(),
        more={EXACT: True, CAPTURED: captured.began_ns},
    )
    record_seen(locked, record, unseen)


def _label_head(
    locked: LockedWorkspace,
    compared: Compared,
    pack: PackWriter,
    request: CheckpointRequest,
    more: dict[str, object],
    *,
    is_recorded: bool,
) -> CheckpointResult:
    """Answer that nothing changed; a label is given to the head, and the log gets the facts in `more`."""
    vault, head, label = locked.vault, compared.head, request.label
    assert head is not None  # noqa: S101 - there is a head where nothing changed
    labels = vault.list_labels(locked.fork) | ({label: head} if label is not None else {})
    described = vault.describe(head, fork=locked.fork, labels=labels)
    if label is not None:
        ref = label_ref(locked.fork, label)
        moves: list[RefMoveRecord] = [(ref, None, head.hex())]
        text = request.description or f"label {label}"
        record = OpRecord(0, locked.fork, "label", text, vault.clock_ns(), moves=moves, more=more)
        vault.move_refs([RefChange(ref, None, head)], record)
    told = (
        mark_recorded(locked, compared.captured, head, recorded_sidecar(locked, head, compared.commit), pack)
        if is_recorded
        else ()
    )
    return CheckpointResult("unchanged", described, (), (), (*compared.captured.warnings, *told))


def _record(
    locked: LockedWorkspace,
    compared: Compared,
    pack: PackWriter,
    recorded: tuple[Oid | None, Trees],
    request: CheckpointRequest,
    applied: Applied,
) -> CheckpointResult:
    vault, fork, captured, label, note = locked.vault, locked.fork, compared.captured, request.label, request.note
    signature = locked.signature()
    old_sidecar = vault.read_sidecar_ref(fork)
    # Also where there is nothing to record: without a sidecar, a commit says nothing of what else is there.
    beside = captured.sidecar if captured.sidecar is not None else pack.add_tree({})
    new_sidecar = _add_sidecar(locked, pack, signature, old_sidecar, beside, applied.parents)
    tree = captured.tree if captured.tree is not None else pack.add_tree({})
    text = request.message or (f"checkpoint {label}" if label else "checkpoint")
    commit = Commit(
        tree,
        (*((compared.head,) if compared.head else ()), *applied.parents),
        signature,
        signature,
        text.rstrip("\n") + "\n",
        sidecar=new_sidecar,
    )
    oid = pack.add_commit(commit)
    changes = []
    if new_sidecar != old_sidecar:
        changes.append(RefChange(SIDECARS + fork, vault.refs.read(SIDECARS + fork), new_sidecar, lasting=True))
    changes.append(RefChange(HEADS + fork, compared.head, oid))
    if label is not None:
        changes.append(RefChange(label_ref(fork, label), None, oid))
    record = OpRecord(
        0,
        fork,
        request.kind,
        request.description or text.splitlines()[0],
        vault.clock_ns(),
        moves=[
            (change.name, maybe_hex(change.old), maybe_hex(change.new))
            for change in changes
            if not change.name.startswith(SIDECARS)
        ],
        before=applied.before,
        after=oid.hex(),
        more={**applied.more, CAPTURED: captured.began_ns},
    )
    edits, states = _note_edits(locked, compared, pack, recorded, record, with_files=request.with_files)
    changes = [*vault.hold(*states, maybe_oid(record.more.get(FROM))), *changes]
    noted = note.write(pack, compared.head, compared.changed_files) if note is not None else None
    with notes.putting(vault, pack, oid, noted) as noting:
        pack.finish(hold=True)
        reach("checkpoint.packed")
        # Before the refs move: what fails from here on must not look like a failure of what is done.
        described = vault.describe(oid, fork=fork, labels={label: oid} if label is not None else {})
        try:
            _move(vault, changes, noting, record, edits)
        except LeftInForce:
            locked.opened.forget()  # the next process with the lock completes it
            raise
        if note is not None:
            note.is_added = bool(noting)
    warnings = (*captured.warnings, *mark_captured(locked, captured, commit=oid))
    return CheckpointResult("created", described, compared.changed_files, compared.sidecar_changed, warnings)


def _add_sidecar(
    locked: LockedWorkspace, pack: PackWriter, signature: Signature, old: Oid | None, tree: Oid, parents: Sequence[Oid]
) -> Oid:
    """Make the sidecar's commit for a tree, unless the old one has that tree."""
    read = locked.vault.store.read_commit
    # What another parent names becomes part of this fork's history, and has to stay reachable with it.
    beside = [oid for oid in (read(parent).sidecar for parent in parents) if oid not in (None, old)]
    if old is not None and not beside and read(old).tree == tree:
        return old
    return add_sidecar(pack, locked.fork, signature, tree, old or maybe_oid(locked.opened.state.sidecar), *beside)


def _note_edits(
    locked: LockedWorkspace,
    compared: Compared,
    pack: PackWriter,
    recorded: tuple[Oid | None, Trees],
    record: OpRecord,
    *,
    with_files: bool,
) -> tuple[OpRecord | None, tuple[Oid | None, ...]]:
    """Note in the log what changed in files since the workspace was last recorded; return the commits that this needs.

    With `with_files` the note is a part of `record`. A checkpoint gets an operation of its own before it, so that undo
    can take back the checkpoint and keep the files.
    """
    if record.before is not None or (record.kind != "checkpoint" and not with_files):
        return None, ()
    changed: Sequence[ChangedFile] = (*compared.changed_files, *compared.sidecar_changed)
    if recorded[1] != compared.was:  # mostly the head recorded the workspace last
        changed = list_changed(pack, recorded[1], (compared.captured.tree, compared.captured.sidecar))
    if not (changed if with_files else list_work(pack, changed)):
        return None, ()
    commit, kept = make_recorded_commit(locked, pack, *recorded)
    facts = {EXACT: True, **tell_head_move(locked.vault, locked.fork)}
    if with_files:
        record.before = commit.hex()
        record.more |= facts
        return None, kept
    text = describe_changes(changed)
    at_ns = record.created_at_ns
    return OpRecord(0, record.fork, FILES, text, at_ns, before=commit.hex(), after=record.after, more=facts), kept


def _move(
    vault: OpenVault, changes: list[RefChange], noting: list[RefChange], record: OpRecord, edits: OpRecord | None
) -> None:
    """Move a checkpoint's refs and the notes ref; if another process has that one, empty `noting`, move the others."""
    try:
        vault.move_refs([*changes, *noting], record, after=edits)
    except (RefConflict, RefLocked) as error:
        if error.details.get("ref") != notes.NOTES:
            raise
        noting.clear()
        vault.move_refs(changes, record, after=edits)
