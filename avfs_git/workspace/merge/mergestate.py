"""A merge whose conflicts are in the workspace, until they are resolved.

Decided here: what the workspace holds meanwhile, when a path counts as resolved, and how the merge ends. The files are
the merged ones, with markers where both sides changed the same lines, and the source's new ignored files; the branch
stays where it was. What is to be decided stands in the state of the workspace (`format.Merging`) and survives
everything that the files survive. Until the merge is concluded or given up, each operation that would commit the
workspace is refused (`checkpoint.check_not_merging`).

A path counts as resolved when somebody says so (`resolve`), or when it is something else than the merge left there and
has no markers. A crash while a merge begins or ends leaves the state before or the one after, as with a restore: the
intent says which of the two the state belongs to. Called with the workspace lock held.
"""

from __future__ import annotations

import os
import re
import shlex
import stat
from collections.abc import Sequence
from contextlib import suppress
from functools import partial

from avfs_git.errors import ConflictsLeft, InternalError, NoMergeInProgress, PathUnsuitable, RefConflict, quote
from avfs_git.faults import reach
from avfs_git.gitstore.compare.treediff import Entry, find_differences
from avfs_git.gitstore.formats.packfile import KIND_BLOB
from avfs_git.gitstore.formats.trees import (
    EMPTY_TREE,
    MODE_EXEC,
    MODE_FILE,
    MODE_GITLINK,
    MODE_SYMLINK,
    find_entry,
)
from avfs_git.gitstore.merge.engine import Labels, Stage, TreeConflict
from avfs_git.gitstore.merge.files import FileMerger
from avfs_git.gitstore.objects.packwriter import PackWriter
from avfs_git.gitstore.objects.store import hash_object
from avfs_git.gitstore.source import ObjectSource
from avfs_git.model import Conflict, ConflictKind, MergeProgress, MergeResult, MergeStrategy, UndoResult, Warning
from avfs_git.paths import Oid, TreePath, climb, maybe_hex, maybe_oid, oid_of, split
from avfs_git.vfs.layer.sidecar import edit_untracked
from avfs_git.workspace.capture.requests import Applied, CaptureRequest, CheckpointRequest
from avfs_git.workspace.checkpoint.changes import commit_edits, keep_state, record_moves
from avfs_git.workspace.checkpoint.checkpoint import merge_in_progress, save_checkpoint
from avfs_git.workspace.checkpoint.mark import mark_captured
from avfs_git.workspace.checkpoint.prepare import adopt_submodules, capture_workspace, read_rules
from avfs_git.workspace.files.asked import ask_before
from avfs_git.workspace.merge.conflicts import describe_conflicts
from avfs_git.workspace.merge.preview import Preview
from avfs_git.workspace.opened.workspace import LockedWorkspace
from avfs_git.workspace.restore.advance import AdvancePlan, NotIgnoredHere, OtherSide, plan_advance
from avfs_git.workspace.restore.application import Application
from avfs_git.workspace.restore.aside import save_aside
from avfs_git.workspace.restore.intent import announced, put_back
from avfs_git.workspace.restore.restore import Replay, is_there, replay_operation
from avfs_git.workspace.vault.format import Merging, OpenConflict, SideRecord, spell
from avfs_git.workspace.vault.gitmoves import find_made_since
from avfs_git.workspace.vault.log.oprecord import (
    BESIDE,
    EXACT,
    MERGING,
    OURS,
    STATE_BEFORE,
    OpRecord,
)
from avfs_git.workspace.vault.states import Trees, add_state

REBASE, CHERRY_PICK, MERGE_BEGIN = "rebase", "cherry_pick", "merge_begin"
_MARKERS = re.compile(rb"^(?:<{7,}|>{7,}) ", re.MULTILINE)
"""Longer ones are in files that both sides renamed, or whose attributes ask for them."""


def begin_merge(
    locked: LockedWorkspace,
    pack: PackWriter,
    tree: Oid,
    conflicts: Sequence[TreeConflict],
    merging: Merging,
    *,
    now: Trees,
    other: OtherSide | None = None,
) -> tuple[Warning, ...]:
    """Put a merge with conflicts into the workspace.

    The pack holds the objects of `tree`, the merged files with markers; it is finished here. The new untracked files of
    `other` come along.
    """
    merging.conflicts = [_record(pack, tree, conflict) for conflict in conflicts]
    plan = plan_advance(pack, now, tree, other)
    while True:  # ends, because each turn leaves something out
        try:
            return _begin(locked, pack, tree, merging, plan, now)
        except NotIgnoredHere as found:
            put_back(locked)  # if that failed, once more: nothing may begin on what is half there
            plan.leave_out(found.paths)


def _begin(
    locked: LockedWorkspace, pack: PackWriter, tree: Oid, merging: Merging, plan: AdvancePlan, now: Trees
) -> tuple[Warning, ...]:
    vault = locked.vault
    stopped = locked.opened.state.merging  # a rewrite, which goes on to the next stop
    head, theirs = oid_of(merging.head), oid_of(merging.theirs)
    before = keep_state(locked, head, now) if stopped is None else find_state_before(locked, stopped)[0]
    facts = {STATE_BEFORE: before.hex()}
    with announced(locked, MERGE_BEGIN, now, plan.changes, begins=merging) as intent:
        change = Application(locked, plan.now, plan.wanted, gives_way=False, asks=True, brings_times=True)
        change.apply(plan.steps)
        reach("merge.applied")
        captured = capture_workspace(locked, pack, CaptureRequest(known=change.known, index=tree))
        captured.tree = adopt_submodules(pack, captured.tree, tree)
        if (captured.tree or EMPTY_TREE) != tree:
            plan.check_ignored(pack, tree, captured.tree)
        # On no branch: what a power cut takes is put back from it.
        trees, held = (captured.tree, captured.sidecar), vault.read_sidecar_ref(locked.fork)
        text = f"conflicts of merging '{merging.source}'\n"
        parents = (head, *_needed(merging), theirs)
        oid, sidecar = add_state(pack, locked.fork, locked.signature(), trees, text, *parents, sidecar_before=held)
        pack.finish(hold=True)
        vault.refs.update(vault.hold(sidecar, oid))
        text = f"begin to merge {merging.source}"
        vault.move_refs(
            [],
            OpRecord(
                0, locked.fork, MERGE_BEGIN, text, vault.clock_ns(), after=oid.hex(), more={**facts, **intent.facts}
            ),
        )
        told = mark_captured(locked, captured, commit=oid)
    return (*plan.warnings, *captured.warnings, *change.warnings, *told, *intent.warnings)


def _needed(merging: Merging) -> list[Oid]:
    """List the commits that are needed to go on, and that nothing else may lead to by then."""
    rewriting = merging.rewriting
    if rewriting is None:
        return []
    return [oid_of(rewriting.last), *map(oid_of, rewriting.left)]


def _record(source: ObjectSource, tree: Oid, conflict: TreeConflict) -> OpenConflict:
    left = find_entry(source, tree, TreePath(conflict.path))
    return OpenConflict(
        conflict.kind.value,
        os.fsdecode(conflict.path),
        _side(conflict.base),
        _side(conflict.ours),
        _side(conflict.theirs),
        (left[0], left[1].hex()) if left is not None else None,
    )


def _side(stage: Stage | None) -> SideRecord | None:
    return (os.fsdecode(stage.path), stage.mode, stage.oid.hex()) if stage is not None else None


def _stage(side: SideRecord | None) -> Stage | None:
    return Stage(os.fsencode(side[0]), side[1], oid_of(side[2])) if side is not None else None


def require_merging(locked: LockedWorkspace, kind: str | None = None) -> Merging:
    """Give the merge in a workspace; `kind` is what the caller takes it for, as in `Merging.kind`.

    Raises:
        NoMergeInProgress: If there is no merge.
        MergeInProgress: If it is of another kind.
    """
    merging = locked.opened.state.merging
    if merging is None:
        raise NoMergeInProgress(locked.fork)
    if kind not in (None, merging.kind):
        raise merge_in_progress(locked.fork, merging)
    return merging


# --- what is left to decide --------------------------------------------------------------------------------------


def list_unresolved(locked: LockedWorkspace, source: ObjectSource, tree: Oid | None) -> tuple[Conflict, ...]:
    """List the unresolved conflicts in a workspace that holds a tree."""
    merging = locked.opened.state.merging
    if merging is None:
        return ()
    left = [conflict for conflict in merging.conflicts if not _is_resolved(source, tree, conflict)]
    return describe_conflicts(
        source,
        [
            TreeConflict(
                ConflictKind(one.kind), os.fsencode(one.path), _stage(one.base), _stage(one.ours), _stage(one.theirs)
            )
            for one in left
        ],
    )


def read_progress(locked: LockedWorkspace) -> MergeProgress | None:
    """Tell how far the merge in a workspace is; None without a merge. Writes nothing."""
    merging = locked.opened.state.merging
    if merging is None:
        return None
    preview = Preview(locked)
    left = list_unresolved(locked, preview, preview.captured.tree)
    return MergeProgress(merging.source, merging.theirs, left, len(merging.conflicts) - len(left), merging.kind)


def _is_resolved(source: ObjectSource, tree: Oid | None, conflict: OpenConflict) -> bool:
    if conflict.resolved:
        return True
    now = find_entry(source, tree, TreePath(os.fsencode(conflict.path))) if tree is not None else None
    if (None if now is None else (now[0], now[1].hex())) == (None if conflict.left is None else tuple(conflict.left)):
        return False
    return not _has_markers(source, now)


def _has_markers(source: ObjectSource, entry: tuple[int, Oid] | None) -> bool:
    is_file = entry is not None and entry[0] in (MODE_FILE, MODE_EXEC)
    return entry is not None and is_file and _MARKERS.search(source.read_blob(entry[1])) is not None


def warn_of_markers(locked: LockedWorkspace, path: TreePath) -> tuple[Warning, ...]:
    """Warn if the file at a path has conflict markers: the merge would commit them."""
    preview = Preview(locked)
    tree = preview.captured.tree
    if tree is None or not _has_markers(preview, find_entry(preview, tree, path)):
        return ()
    text = f"{quote(path)} has conflict markers, which the merge commits: edit it, or resolve it with a side"
    return (Warning("merge.markers", text),)


def resolve_path(locked: LockedWorkspace, path: TreePath, take_side: str | None, content: bytes | None) -> None:
    """Decide on one path in conflict.

    `take_side` is `ours`, `theirs` or `union`; without it, what is there, or `content`, is right.

    Raises:
        NoMergeInProgress: If there is no merge.
        PluginRefused, PluginFailed: If a plug-in does not want the change.
        PathUnsuitable: If the path is not in conflict, or not text on both sides where the lines of both are asked for.
    """
    merging = require_merging(locked)
    found = next((one for one in merging.conflicts if os.fsencode(one.path) == path), None)
    if found is None:
        raise PathUnsuitable(b"/" + path, "is not in conflict")
    if content is None and _is_submodule_there(locked, found, path, take_side):
        pass  # it is there, and nothing of it is written
    elif content is not None or take_side is not None:
        wanted = _find_wanted(locked, found, path, take_side, content)
        _ask(locked, path, wanted)
        if wanted is None:
            _remove(locked, path)
        else:
            _put(locked, path, *wanted)
    _remove_aside(locked, found)
    found.resolved = True
    locked.write_state()


def _is_submodule_there(locked: LockedWorkspace, found: OpenConflict, path: TreePath, take_side: str | None) -> bool:
    """Whether a side is a submodule at a commit that the workspace has at the path."""
    side = (
        found.ours if take_side == MergeStrategy.OURS else found.theirs if take_side == MergeStrategy.THEIRS else None
    )
    if side is None or side[1] != MODE_GITLINK:
        return False
    preview = Preview(locked)
    tree = preview.captured.tree
    return tree is not None and find_entry(preview, tree, path) == (MODE_GITLINK, oid_of(side[2]))


def _find_wanted(
    locked: LockedWorkspace, found: OpenConflict, path: TreePath, take_side: str | None, content: bytes | None
) -> tuple[int, bytes] | None:
    """Find the mode and the content that a path gets; None if it is removed."""
    if content is not None:
        return _mode_for(found), content
    if take_side == MergeStrategy.UNION:
        return _union(locked, found, path)
    side = found.ours if take_side == MergeStrategy.OURS else found.theirs
    if side is None:
        return None
    if side[1] == MODE_GITLINK:
        error = PathUnsuitable(b"/" + path, f"is a submodule, which only git moves to {quote(side[2])}")
        name, verb = shlex.quote(os.fsdecode(path)), require_merging(locked).kind.replace("_", "-")
        error.hint = (
            f"Run `avfs resolve {name}`, which leaves it as it is, and `avfs {verb} --continue`; then in the live tree "
            f"`git update-index --add --cacheinfo 160000,{side[2]},{name}` and `git commit`."
        )
        raise error
    return side[1], locked.vault.store.read_blob(oid_of(side[2]))


def _remove_aside(locked: LockedWorkspace, found: OpenConflict) -> None:
    """Remove the file that the merge put beside a link or submodule of its name, unless it was edited since."""
    path = TreePath(os.fsencode(found.path))
    for side in (found.ours, found.theirs) if found.kind == ConflictKind.TYPE else ():
        aside = TreePath(os.fsencode(side[0])) if side is not None else path
        if side is not None and aside.startswith(path + b"~"):
            with suppress(OSError):
                if hash_object(KIND_BLOB, locked.merged.read_file(aside)).hex() == side[2]:
                    _ask(locked, aside, None)
                    _remove(locked, aside)


def _ask(locked: LockedWorkspace, path: TreePath, wanted: tuple[int, bytes] | None) -> None:
    """Ask the user's plug-ins before a path gets what is wanted; a directory or a link in its place goes."""
    ask = partial(ask_before, locked.opened, cause="resolve")
    try:
        kind = locked.merged.resolve(path, follow_last=False).kind
    except FileNotFoundError:
        kind = 0
    if wanted is None or kind == stat.S_IFDIR:
        ask("unlink", path, follow=False, recursive=True)
    if wanted is not None and wanted[0] == MODE_SYMLINK:
        ask("symlink", path, follow=False, target=wanted[1].decode("utf-8", "surrogateescape"))
    elif wanted is not None:
        ask("write", path, follow=kind == stat.S_IFREG)


def _mode_for(found: OpenConflict) -> int:
    """Choose the mode of a file whose content is of neither side: what the merge left, or a merge of the modes."""
    sides = [
        side[1] if side is not None and side[1] in (MODE_FILE, MODE_EXEC) else None
        for side in (found.base, found.ours, found.theirs)
    ]
    if found.left is not None and found.left[0] in (MODE_FILE, MODE_EXEC):
        return found.left[0]
    base, ours, theirs = sides
    if ours is None or (ours == base and theirs is not None):
        return theirs or MODE_FILE
    return ours


def _union(locked: LockedWorkspace, found: OpenConflict, path: TreePath) -> tuple[int, bytes]:
    stages = (found.base, found.ours, found.theirs)
    if (
        found.ours is None
        or found.theirs is None
        or any(s is not None and s[1] not in (MODE_FILE, MODE_EXEC) for s in stages)
    ):
        raise PathUnsuitable(b"/" + path, "is not a file on both sides")
    base, ours, theirs = (None if side is None else locked.vault.store.read_blob(oid_of(side[2])) for side in stages)
    assert ours is not None  # noqa: S101 - looked at above
    assert theirs is not None  # noqa: S101 - as above
    merged = FileMerger(favor=MergeStrategy.UNION).merge(base, ours, theirs, Labels(b"base", b"ours", b"theirs"))
    if not merged.is_clean:
        raise PathUnsuitable(b"/" + path, "is not text on both sides")
    return _mode_for(found), merged.content


def _remove(locked: LockedWorkspace, path: TreePath) -> None:
    """Remove what is at a path, and the directories that are empty then, as a merge does."""
    with locked.changing() as merged, suppress(OSError):
        merged.remove(path, recursive=True)
        for above in climb(split(path)[0]):
            merged.remove(above)  # one that is not empty ends it


def _put(locked: LockedWorkspace, path: TreePath, mode: int, content: bytes) -> None:
    with locked.changing() as merged:
        merged.make_dir(split(path)[0], parents=True)
        try:
            there = merged.resolve(path, follow_last=False)
            if there.kind != (stat.S_IFLNK if mode == MODE_SYMLINK else stat.S_IFREG) or mode == MODE_SYMLINK:
                merged.remove(path, recursive=True)
        except FileNotFoundError:
            pass  # the merge left nothing there
        if mode == MODE_SYMLINK:
            merged.make_symlink(path, content)
            return
        node = merged.write_file(path, content)
        bits = stat.S_IMODE(merged.attributes.getattr(node).mode)
        wanted = bits | 0o111 if mode == MODE_EXEC else bits & ~0o111
        if bits != wanted:
            merged.attributes.chmod(node, wanted)


# --- the end ------------------------------------------------------------------------------------------------------


def settle_conflicts(locked: LockedWorkspace) -> None:
    """Make sure that nothing is left to decide; what the merge put beside paths that were resolved by hand goes.

    Raises:
        ConflictsLeft: If something is not resolved.
    """
    preview = Preview(locked)
    left = list_unresolved(locked, preview, preview.captured.tree)
    if left:
        raise ConflictsLeft([conflict.path for conflict in left])
    for conflict in require_merging(locked).conflicts:
        _remove_aside(locked, conflict)


def conclude_merge(locked: LockedWorkspace, message: str | None) -> MergeResult:
    """Commit a merge whose conflicts are resolved.

    Raises:
        NoMergeInProgress: If there is no merge.
        MergeInProgress: If it is part of a rebase or cherry-pick.
        ConflictsLeft: If something is not resolved.
        RefConflict: If the branch holds changes that the workspace has not seen.
    """
    merging = require_merging(locked, "merge")
    settle_conflicts(locked)
    record_moves(locked)  # else they would come after it in the log
    head = locked.vault.read_head(locked.fork)
    # Where others had moved the branch, it stands at their commit, and ours is the other parent.
    other = merging.theirs
    before, began = find_state_before(locked, merging)
    facts: dict[str, object] = {"merged": merging.theirs, **({EXACT: True} if began is not None else {})}
    if head is not None and head.hex() == merging.theirs:
        other = facts[OURS] = merging.head
    # What would be put back after a crash has to be stored.
    _, now, left_out = save_aside(locked, f"resolved merge of {merging.source}")
    request = CheckpointRequest(kind="merge", message=message or merging.message, description=f"merge {merging.source}")
    parents = () if merging.squash else (oid_of(other),)
    with announced(locked, "merge", now, None, ends_merge=True) as intent:  # no file changes
        applied = Applied(before=before.hex(), parents=parents, concludes_merge=True, more={**facts, **intent.facts})
        try:
            result = save_checkpoint(locked, request, applied)
        except RefConflict as error:
            again = f"then `avfs update {shlex.quote(locked.fork)}`, and merge again"
            error.hint = (
                f"Give the merge up with `avfs merge --abort`, which keeps the resolution in a commit; {again}."
            )
            raise
    made = result.checkpoint
    if made is None:
        raise InternalError("a merge was concluded without a commit")
    return MergeResult(
        outcome="clean",
        target=locked.fork,
        source=merging.source,
        ours=merging.head,
        theirs=merging.theirs,
        tree=made.tree,
        commit=made.id,
        parents=made.parents,
        changed_files=result.changed_files,
        sidecar_changed=result.sidecar_changed,
        warnings=tuple(dict.fromkeys((*left_out, *result.warnings, *intent.warnings))),
    )


def find_state_before(locked: LockedWorkspace, merging: Merging) -> tuple[Oid, Oid | None]:
    """Find the commit that holds the workspace before a merge, with what git has committed since, and without that.

    Without a second one the log does not tell it: then the first says nothing of what was untracked.
    """
    head = oid_of(merging.head)
    log = locked.vault.oplog.read_fork(locked.fork)
    line = next((each for each in log if each.kind == MERGE_BEGIN or STATE_BEFORE in each.more), None)
    began = maybe_oid(line.more.get(STATE_BEFORE)) if line is not None else None
    return _add_committed_since(locked, began or head, merging), began


def list_shown(locked: LockedWorkspace, merging: Merging) -> dict[TreePath, tuple[Entry | None, Entry | None]]:
    """List what a stopped rebase shows otherwise than the branch has it: as that has it, and as the rebase shows it.

    The branch is at the last commit, of which the files have nothing yet: a commit that git makes of them takes it
    back, which no user has asked for. Empty for a merge or cherry-pick, and where the log does not tell.
    """
    if merging.rewriting is None or merging.rewriting.kind != REBASE:
        return {}
    store, ends = locked.vault.store, (oid_of(merging.head), oid_of(merging.theirs))
    for record in locked.vault.oplog.read_fork(locked.fork):
        if record.kind == MERGE_BEGIN and record.after is not None:
            commit = store.read_commit(oid_of(record.after))
            # else it is of another one, given up since
            if commit.parents[0] == ends[0] and ends[1] in commit.parents:
                return dict(find_differences(store, store.read_commit(ends[0]).tree, commit.tree))
    return {}


def _add_committed_since(locked: LockedWorkspace, before: Oid, merging: Merging) -> Oid:
    """Make the state before a merge with what git in the live tree has committed since; that state if it is nothing.

    That stays on the branch: without it in the files, the next checkpoint would take it back, as it may with what git
    took back because a rebase did not show it. A file that git only took out of history stays in the files, too, and
    beside history if a rule names it now: it may not by then.
    """
    vault, head, began = locked.vault, locked.vault.read_head(locked.fork), oid_of(merging.head)
    made = find_made_since(vault, locked.fork, began, head) if head is not None else None
    if made is None:
        return before
    state, was, now = (vault.store.read_commit(oid) for oid in (before, began, made))
    shown = list_shown(locked, merging)
    edits = {
        path: after
        for path, (_, after) in find_differences(vault.store, was.tree, now.tree).items()
        if find_entry(vault.store, state.tree, path) == find_entry(vault.store, was.tree, path)  # also of a directory
        and not (path in shown and after == shown[path][1])
    }
    # no file is both in history and beside it
    rules, beside = read_rules(locked), dict[TreePath, tuple[int, Oid] | None]()
    for path in [path for path, after in edits.items() if after is None and is_there(locked, path)]:
        if not rules.is_ignored(path, is_dir=False):
            del edits[path]
        elif (held := find_entry(vault.store, state.tree, path)) is not None:
            beside[path] = held
    beside |= {path: None for path, after in edits.items() if after is not None}
    left = {path for path, held in beside.items() if held is not None}
    preview = Preview(locked)
    here = preview.captured.tree, preview.captured.sidecar
    with PackWriter(vault.store) as pack:
        tree, sidecar = commit_edits(preview, pack, (state.tree, vault.sidecar_tree(state)), here, edits, beside=left)
        trees = tree, edit_untracked(pack, sidecar, beside)
        made, own = add_state(
            pack, locked.fork, locked.signature(), trees, "state before, with what git committed\n", before
        )
        pack.finish(hold=True)
        vault.refs.update(vault.hold(made, own))
    return made


def abort_merge(locked: LockedWorkspace, kind: str | None = None) -> UndoResult:
    """Give a merge, rebase or cherry-pick up: the files are what they were before it.

    A commit beside the branch keeps what programs did since; undo brings that back, and the merge.

    Raises:
        NoMergeInProgress: If there is no merge.
        MergeInProgress: If it is of another kind.
    """
    merging = require_merging(locked, kind)
    text = (
        f"give up merging {merging.source}"
        if merging.rewriting is None
        else f"give up: {merging.rewriting.description}"
    )
    record_moves(locked)  # else they would come after it in the log
    state, began = find_state_before(locked, merging)
    more: dict[str, object] = {MERGING: spell(merging)}
    if began is not None:  # which counts again after an undo
        more |= {EXACT: True, STATE_BEFORE: began.hex()}
        more[BESIDE] = [state.hex(), maybe_hex(locked.vault.store.read_commit(state).sidecar)]
    record = OpRecord(0, locked.fork, "merge_abort", text, locked.vault.clock_ns(), after=state.hex(), more=more)
    done = replay_operation(locked, Replay(record, [], state, None, ends_merge=True, is_exact=began is not None))
    return UndoResult(record.to_operation(), done.changed_files, done.saved, done.warnings, done.sidecar_changed)
