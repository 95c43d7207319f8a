"""Restoring: bringing the files of a workspace to another state, while programs run in it.

Decided here: what is saved before, and in which order files change. Only differing paths are touched, and they get new
times, so that build tools notice. The order, and what each step guards against:

1. What is uncommitted is saved as a checkpoint: nothing is lost, and the state before is a known one.
2. The intent (`restore.intent`) is forced to disk. From here on, the process that opens the workspace after a crash
   puts it back.
3. The new files are written beside the workspace. A full disk shows here, before anything has changed.
4. Entries change, each by one rename.
5. The result is confirmed or else captured (see `confirm`), and committed, with a line in the log that repeats the
   intent's word. If the log says that it happened, the restore is complete, whatever the intent says. If the disk
   refuses, the files are put back.
6. The intent is removed. A failure here is a warning: the next holder of the lock removes it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass

from avfs_git.errors import InternalError, LeftInForce, ObjectMissing, PathNotFound, RefConflict, quote
from avfs_git.faults import reach
from avfs_git.gitstore.compare.treediff import diff_trees, find_differences, sizes_here
from avfs_git.gitstore.formats.commits import Commit
from avfs_git.gitstore.formats.trees import EMPTY_TREE, MODE_GITLINK, edit_tree, find_entry
from avfs_git.gitstore.holding import objects_held
from avfs_git.gitstore.objects.drywriter import DryWriter
from avfs_git.gitstore.objects.packwriter import PackWriter
from avfs_git.gitstore.refs.refs import RefChange
from avfs_git.gitstore.source import ObjectSource
from avfs_git.model import ChangedFile, RestoreResult, Warning
from avfs_git.paths import ROOT, Oid, TreePath, oid_of, show_path
from avfs_git.values import NamedTuple
from avfs_git.vfs.layer.lower import LowerTree
from avfs_git.vfs.layer.plan import Plan, Step, list_contents, plan_steps
from avfs_git.workspace.capture.captured import Captured
from avfs_git.workspace.capture.requests import Applied, CaptureRequest, CheckpointRequest
from avfs_git.workspace.capture.sidecardiff import diff_sidecars
from avfs_git.workspace.checkpoint.aftermath import aftermath
from avfs_git.workspace.checkpoint.changes import keep_state, list_changed, list_work, record_changes
from avfs_git.workspace.checkpoint.checkpoint import (
    check_not_merging,
    save_checkpoint,
    save_first,
    saving_first,
)
from avfs_git.workspace.checkpoint.compared import capture, recorded_sidecar
from avfs_git.workspace.checkpoint.confirm import confirm_restored
from avfs_git.workspace.checkpoint.mark import mark_captured
from avfs_git.workspace.checkpoint.prepare import capture_workspace
from avfs_git.workspace.checkpoint.unseen import find_unseen_head, record_seen
from avfs_git.workspace.opened.workspace import LockedWorkspace
from avfs_git.workspace.restore.application import CHANGED_MEANWHILE, Application
from avfs_git.workspace.restore.aside import Saved, save_aside, saved_trees
from avfs_git.workspace.restore.intent import announced
from avfs_git.workspace.sidecars.kept import find_named_sidecar
from avfs_git.workspace.vault.format import HEADS, Merging
from avfs_git.workspace.vault.gitmoves import check_not_under_way, open_worktree
from avfs_git.workspace.vault.log.oprecord import CAPTURED, EXACT, FILES, GIT_HEAD, SAVED, OpRecord
from avfs_git.workspace.vault.states import Trees, tree_of
from avfs_git.workspace.vault.vault import OpenVault

Barrier = Callable[[Collection[TreePath]], AbstractContextManager[object]]
"""Keeps the programs in a live tree waiting for as long as its block runs, given the paths that will change."""


def restore_state(
    locked: LockedWorkspace,
    target: Oid,
    *,
    paths: Sequence[TreePath] = (),
    name: str | None = None,
    kind: str = "restore",
    barrier: Barrier | None = None,
) -> RestoreResult:
    """Bring the workspace, or some paths of it, to the state of a commit.

    `barrier` keeps programs that change files waiting; None if no program does, or they wait already. It begins when
    the uncommitted changes are saved.

    Raises:
        PathNotFound: If a path is neither in the workspace nor in the target.
        GitUnderWay: If git is in the middle of a rebase, merge, cherry-pick or revert there.
        HostError: If the disk is full or fails; the state is the old one.
    """
    vault = locked.vault
    shown, paths = name or target.hex(), _narrow(paths)
    vault.prepare()
    with objects_held(vault.git_dir):  # the target may be a commit that nothing else keeps
        vault.store.packs.refresh()
        if not vault.store.exists(target):
            raise ObjectMissing(target.hex())
        return _restore(locked, _find_target(locked, target, shown), paths, shown, kind, barrier)


class _Target(NamedTuple):
    """The state that a workspace is brought to."""

    oid: Oid
    commit: Commit
    sidecar: Oid | None
    """The sidecar commit of what is beside it; None if that is not known: what is here stays."""

    def trees(self, source: ObjectSource, now: Trees) -> Trees:
        """Give the trees of the state; `now` has what stays."""
        return tree_of(self.commit), source.read_commit(self.sidecar).tree if self.sidecar is not None else now[1]


def _find_target(locked: LockedWorkspace, oid: Oid, name: str) -> _Target:
    return _Target(oid, locked.vault.store.read_commit(oid), find_named_sidecar(locked.vault, locked.fork, name, oid))


def plan_restore(
    locked: LockedWorkspace,
    target: Oid,
    *,
    paths: Sequence[TreePath] = (),
    name: str | None = None,
    beside: Oid | None = None,
) -> RestoreResult:
    """Tell what a restore would change; nothing is written.

    `beside` is the sidecar commit of the target, where none is known.

    Raises:
        PathNotFound: If a path is neither in the workspace nor in the target.
    """
    paths, found = _narrow(paths), _find_target(locked, target, name or target.hex())
    if beside is not None:
        found = found._replace(sidecar=beside)
    writer = DryWriter(locked.vault.store)
    captured = capture(locked, writer)
    now = (captured.tree, captured.sidecar)
    wanted = found.trees(writer, now)
    _check_known(writer, found, (now[0], wanted[0]), paths)
    steps = _plan(writer, now, wanted, found.commit, paths).steps
    files, untracked = _preview(writer, steps, now, wanted, paths)
    return RestoreResult(
        "planned" if steps or files else "unchanged", target.hex(), files, untracked, warnings=tuple(captured.warnings)
    )


def _narrow(paths: Sequence[TreePath]) -> Sequence[TreePath]:
    """Give the paths to restore; none for all, as where the root is among them."""
    return () if ROOT in paths else paths


def _restore(
    locked: LockedWorkspace, target: _Target, paths: Sequence[TreePath], shown: str, kind: str, barrier: Barrier | None
) -> RestoreResult:
    vault, commit = locked.vault, target.commit
    state = _lower(vault.store, target.trees(vault.store, (None, None)), commit)
    missing = [path for path in paths if state.lookup(path) is None]
    for path in missing:
        if not is_there(locked, path):
            raise PathNotFound(path)
    check_not_merging(locked)
    check_not_under_way(vault, locked.fork)
    if (
        not locked.opened.is_recorded_by(vault.read_head(locked.fork))
        and (paths or not _is_heads(locked, target))
        and (missing or not _differs_untouched(locked, commit, paths))
    ):
        dry = DryWriter(vault.store)
        captured = capture(locked, dry)
        if _find_steps(dry, target, (captured.tree, captured.sidecar), paths) is None:
            return RestoreResult("unchanged", target.oid.hex(), (), warnings=tuple(captured.warnings))
    text = f"save before {kind} of {shown}"
    save = _save(locked, text)
    if barrier is None:
        return _replace_files(locked, target, paths, shown, kind, save)
    found = _find_steps(vault.store, target, save.trees, paths)
    with barrier([step.path for step in found[1].steps] if found is not None else ()):
        if locked.opened.dirty is None or locked.opened.dirty:  # programs went on until now
            more = _save(locked, text)
            save = Saved(more.commit or save.commit, more.trees, tuple(dict.fromkeys((*save.warnings, *more.warnings))))
        return _replace_files(locked, target, paths, shown, kind, save)


def _replace_files(
    locked: LockedWorkspace, target: _Target, paths: Sequence[TreePath], shown: str, kind: str, save: Saved
) -> RestoreResult:
    """Bring files to a state; the caller has saved the uncommitted changes."""
    vault, commit = locked.vault, target.commit
    saved, now, left_out = save
    found = _find_steps(vault.store, target, now, paths)
    if found is None:
        return RestoreResult("unchanged", target.oid.hex(), (), saved=saved, warnings=left_out)
    wanted, plan = found
    vault.store.expect(list_contents(plan.steps))
    unseen = find_unseen_head(locked)
    before = _keep_present(locked, unseen, saved, now)
    with announced(locked, kind, now, plan) as intent:
        change = Application(locked, plan.now, plan.target, asks=True, brings_times=not paths)
        change.apply(plan.steps)
        reach("restore.applied")
        # Without a sidecar of its own the commit says nothing of what else is there, nor of its times.
        is_whole = (
            not paths and not change.warnings and commit.sidecar is not None and locked.opened.synced_trees() == now
        )
        confirmed = confirm_restored(locked, plan, change.known, wanted) if is_whole else None
        result = save_checkpoint(
            locked,
            CheckpointRequest(
                kind=kind,
                message=f"{kind} {shown}",
                description=f"{kind} {shown}" + (f" ({_count(paths)})" if paths else ""),
            ),
            Applied(
                before=before.hex(),
                known=change.known,
                index=lambda pack: _tracked_after(pack, now[0], wanted[0], paths),
                beside=wanted[1],
                captured=confirmed,
                more={**intent.facts, EXACT: True},
            ),
        )
        # the branch had that state, where others had moved it: only files have changed
        if result.outcome == "unchanged":
            after = keep_state(locked, vault.read_head(locked.fork), locked.opened.synced_trees())
            record = OpRecord(
                0,
                locked.fork,
                FILES,
                f"{kind} {shown}",
                vault.clock_ns(),
                before=before.hex(),
                after=after.hex(),
                more={**intent.facts, EXACT: True},
            )
            record_seen(locked, record, unseen)
        recorded = result.checkpoint.tree if result.checkpoint is not None else None
        if not paths and not change.warnings and recorded != (wanted[0] or EMPTY_TREE).hex():
            if locked.opened.shown_at is None:
                raise InternalError("the restored workspace does not hold what was wanted")
            told = "programs changed files while they were restored; the checkpoint holds what they made of them"
            intent.warnings.append(Warning(CHANGED_MEANWHILE, told))
    return RestoreResult(
        "restored",
        target.oid.hex(),
        result.changed_files,
        result.sidecar_changed,
        saved=saved,
        checkpoint=result.checkpoint,
        warnings=tuple(dict.fromkeys((*left_out, *result.warnings, *change.warnings, *intent.warnings))),
    )


def _keep_present(locked: LockedWorkspace, unseen: tuple[Oid, Oid] | None, saved: str | None, now: Trees) -> Oid:
    """Give the commit that says all of what a workspace holds, when what was uncommitted has been saved."""
    came_from = unseen[1] if unseen is not None else locked.vault.read_head(locked.fork)
    return keep_state(locked, came_from if saved is None else oid_of(saved), now)


def _is_heads(locked: LockedWorkspace, target: _Target) -> bool:
    """Tell whether a state is that of the branch: then saving finds out by itself whether the workspace has it, too.

    Looking before that would take as long as the saving. Times do not count: a restored file has a new one.
    """
    head, last = locked.head()
    if last is None or last.tree != target.commit.tree:
        return False
    source, beside = locked.vault.store, recorded_sidecar(locked, head, last)
    return not diff_sidecars(source, beside, target.trees(source, (None, beside))[1])


def _differs_untouched(locked: LockedWorkspace, commit: Commit, paths: Sequence[TreePath]) -> bool:
    """Tell whether a file unchanged since it was recorded differs from a state: then the workspace is not in it."""
    opened = locked.opened
    opened.mode.give_up_capture()  # what a look has captured counts as changed
    dirty = opened.dirty
    if dirty is None:
        return False
    differing = find_differences(locked.vault.store, opened.synced_trees()[0], tree_of(commit), paths=paths)
    return any(
        not dirty.may_hold(path) and all(entry is None or entry[0] != MODE_GITLINK for entry in entries)
        for path, entries in differing.items()
    )


def _find_steps(
    source: ObjectSource, target: _Target, now: Trees, paths: Sequence[TreePath]
) -> tuple[Trees, Plan] | None:
    """Find the trees of a state, and what leads from the present one to it; None if nothing has to be done."""
    wanted = target.trees(source, now)
    _check_known(source, target, (now[0], wanted[0]), paths)
    plan = _plan(source, now, wanted, target.commit, paths)
    # submodules are at no file's commit
    if not plan.steps and not find_differences(source, now[0], wanted[0], paths=paths):
        return None
    return wanted, plan


def is_there(locked: LockedWorkspace, path: TreePath) -> bool:
    """Tell whether the workspace has something at a path, saved or not: a refusal for a wrong path saves nothing."""
    try:
        locked.merged.resolve(path, follow_last=False)
    except OSError:
        return False
    return True


def _count(paths: Sequence[TreePath]) -> str:
    return quote(show_path(paths[0])) if len(paths) == 1 else f"{len(paths)} paths"


def _check_known(source: ObjectSource, target: _Target, trees: Trees, paths: Sequence[TreePath]) -> None:
    """Refuse untracked paths of a commit of git's, which says nothing of them; `trees` are the present one and its own.

    Raises:
        PathNotFound: If there is one.
    """
    if target.sidecar is not None:
        return
    for path in paths:
        if not any(tree is not None and find_entry(source, tree, path) is not None for tree in trees):
            raise PathNotFound(b"/" + path, state=target.oid.hex()[:12])


def _tracked_after(pack: PackWriter, now: Oid | None, wanted: Oid | None, paths: Sequence[TreePath]) -> Oid | None:
    """Find the tree with the paths tracked after a restore: what comes back is tracked if it was, as in git's index."""
    if not paths:
        return wanted
    edits = {path: find_entry(pack, wanted, path) if wanted is not None else None for path in paths}
    # Of paths within each other the outer one says all.
    outer = {path: edit for path, edit in edits.items() if not any(path.startswith(other + b"/") for other in paths)}
    return edit_tree(pack, pack, now, outer)


def _lower(source: ObjectSource, trees: Trees, commit: Commit) -> LowerTree:
    return LowerTree(source, *trees, default_mtime_ns=commit.committer.when_s * 1_000_000_000)


def _plan(source: ObjectSource, now: Trees, wanted: Trees, commit: Commit, paths: Sequence[TreePath]) -> Plan:
    left = LowerTree(source, *now, default_mtime_ns=0)
    right = _lower(source, wanted, commit)
    for path in paths:
        if left.lookup(path) is None and right.lookup(path) is None:
            raise PathNotFound(path)
    return Plan(left, right, plan_steps(left, right, paths))


def _preview(
    source: ObjectSource, steps: Sequence[Step], now: Trees, wanted: Trees, paths: Sequence[TreePath]
) -> tuple[tuple[ChangedFile, ...], tuple[ChangedFile, ...]]:
    files = diff_trees(source, now[0], wanted[0], paths=paths, size_of=sizes_here(source))
    touched = {step.path for step in steps}
    untracked = [change for change in diff_sidecars(source, now[1], wanted[1]) if not paths or change.path in touched]
    return tuple(files), tuple(untracked)


def _save(locked: LockedWorkspace, description: str) -> Saved:
    """Save what is uncommitted; where the branch has moved by other hands, beside it."""
    try:
        result = save_first(locked, description)
    except RefConflict:
        told = record_changes(locked)  # an operation of its own, as a save makes one
        saved, trees, left_out = save_aside(locked, description)
        return Saved(saved, trees, tuple(dict.fromkeys((*told, *left_out))))
    saved = result.checkpoint.id if result.outcome == "created" and result.checkpoint else None
    return Saved(saved, saved_trees(locked, saved), result.warnings)


@dataclass(slots=True)
class Replay:
    """An operation that is taken back or done again."""

    record: OpRecord
    changes: list[RefChange]
    state: Oid | None
    """The commit whose state the workspace is brought to; None if files stay as they are."""
    sidecar: Oid | None = None
    """The sidecar commit of that state, where the commit names another."""
    begins: Merging | None = None
    """The merge in which the workspace is afterwards."""
    ends_merge: bool = False
    """Whether a merge in the workspace ends with it."""
    head_at: str | None = None
    """Where git has put HEAD in the live tree, if it is to go back to the fork's branch from there."""
    is_exact: bool = False
    """Whether the commit tells all of the state: one without a sidecar had nothing beside it."""
    placed: Oid | None = None
    """The checkpoint that is done again; it says which files are in history and which beside it, if all are as it has
    them."""


@dataclass(frozen=True, slots=True)
class Replayed:
    """What taking an operation back, or doing it again, did to files."""

    changed_files: tuple[ChangedFile, ...] = ()
    saved: str | None = None
    """The commit that holds what was uncommitted, if anything was."""
    warnings: tuple[Warning, ...] = ()
    sidecar_changed: tuple[ChangedFile, ...] = ()


def replay_operation(locked: LockedWorkspace, replay: Replay) -> Replayed:
    """Bring files and refs to where they were before, or after, an operation.

    Raises:
        LeftInForce: If the disk refuses so late that the new state stays.
    """
    vault = locked.vault
    vault.prepare()
    kept = vault.hold(*(change.old for change in replay.changes))
    worktree = open_worktree(vault, locked.fork)
    if replay.head_at is not None and worktree.find_head() == replay.head_at and not worktree.is_rebasing:
        replay.record.more[GIT_HEAD] = [replay.head_at, None]
    moves_branch = any(change.name == HEADS + locked.fork for change in replay.changes)
    saved, now, left_out = Saved(None, (None, None), ())
    if moves_branch or replay.state:
        with saving_first():
            saved, now, left_out = save_aside(locked, f"save before {replay.record.description}")
    if replay.placed is not None and _is_only_placed(vault, now, replay.placed):
        replay.state = replay.placed
    if replay.state is None:
        if saved is not None:
            replay.record.after = saved  # what the files hold, for `recovery`
            replay.record.more = {**replay.record.more, SAVED: saved}
        try:
            vault.move_refs([*kept, *replay.changes], replay.record)
        except LeftInForce:
            locked.opened.forget()  # the next holder of the lock completes it
            raise
        return Replayed(saved=saved, warnings=(*left_out, *_bring_head_back(locked, replay)))
    commit = vault.store.read_commit(replay.state)
    sidecar = replay.sidecar or commit.sidecar
    beside = vault.store.read_commit(sidecar).tree if sidecar is not None else None
    wanted = tree_of(commit), now[1] if sidecar is None and not replay.is_exact else beside
    plan = _plan(vault.store, now, wanted, commit, ())
    vault.store.expect(list_contents(plan.steps))
    changed = diff_trees(vault.store, now[0], wanted[0], size_of=sizes_here(vault.store))
    sidecar_changed = diff_sidecars(vault.store, now[1], wanted[1])
    if not replay.ends_merge:
        _open_conflicts(locked, changed)
    if replay.record.before is None:  # of a merge that is given up
        replay.record.before = _keep_present(locked, find_unseen_head(locked), saved, now).hex()
    kind, begins = replay.record.kind, replay.begins
    with announced(locked, kind, now, plan, begins=begins, ends_merge=replay.ends_merge) as intent:
        change = Application(locked, plan.now, plan.target, brings_times=True)
        change.apply(plan.steps)
        reach("undo.applied")
        writer = DryWriter(vault.store)
        request = CaptureRequest(known=change.known, index=wanted[0] or EMPTY_TREE, beside=wanted[1])
        captured = capture_workspace(locked, writer, request)
        replay.record.more = {**replay.record.more, SAVED: saved, **intent.facts, CAPTURED: captured.began_ns}
        vault.move_refs([*kept, *replay.changes], replay.record)
        with aftermath(intent.warnings, "the next checkpoint reads more than it would have to"):
            # The sidecar that was captured is stored nowhere: what differs from the target's is times alone.
            is_other = locked.opened.shown_at is not None and _is_other(writer, captured, wanted)
            captured.tree, captured.sidecar = wanted
            if is_other and not change.warnings:
                text = "programs changed files while they were replaced; what they made of them is uncommitted"
                intent.warnings.append(Warning(CHANGED_MEANWHILE, text))
            if change.warnings or is_other:
                locked.opened.drop_cache()  # something stayed: the workspace is not quite in that state
            else:
                intent.warnings.extend(mark_captured(locked, captured, commit=replay.state))
    told = dict.fromkeys((*left_out, *change.warnings, *intent.warnings, *_bring_head_back(locked, replay)))
    return Replayed(tuple(changed), saved, tuple(told), tuple(sidecar_changed))


def _is_only_placed(vault: OpenVault, now: Trees, oid: Oid) -> bool:
    """Tell whether a state has the files of a commit, and others of them beside history."""
    commit = vault.store.read_commit(oid)
    wanted = tree_of(commit), vault.sidecar_tree(commit)
    return now[0] != wanted[0] and not list_work(vault.store, list_changed(vault.store, now, wanted))


def _open_conflicts(locked: LockedWorkspace, changed: Sequence[ChangedFile]) -> None:
    """Let what the files hold decide again on conflicts whose resolution is taken back.

    Called before the intent is written: after a crash no conflict whose markers are back may count as resolved.
    """
    merging = locked.opened.state.merging
    paths = {change.path for change in changed}
    for conflict in merging.conflicts if merging is not None else ():
        if os.fsencode(conflict.path) in paths:
            conflict.resolved = False


def _bring_head_back(locked: LockedWorkspace, replay: Replay) -> tuple[Warning, ...]:
    """Put git's HEAD on the fork's branch again, as the log says; tell where it stays elsewhere."""
    warnings: list[Warning] = []
    worktree = open_worktree(locked.vault, locked.fork)
    if GIT_HEAD in replay.record.more:
        with aftermath(warnings, "git's HEAD stays where it is"):
            worktree.bring_head_back()
            if not locked.opened.is_served:
                locked.opened.leave_git()
    elif replay.head_at is not None and worktree.find_head() is not None:
        why = "git is in the middle of a rebase" if worktree.is_rebasing else "git has moved it since"
        warnings.append(Warning("git.head_stays", f"git's HEAD stays where it is in the tree, because {why}"))
    return tuple(warnings)


def _is_other(source: ObjectSource, captured: Captured, wanted: Trees) -> bool:
    """Whether a workspace differs from a state in more than times, because a program wrote meanwhile."""
    return captured.tree != wanted[0] or bool(diff_sidecars(source, wanted[1], captured.sidecar))
