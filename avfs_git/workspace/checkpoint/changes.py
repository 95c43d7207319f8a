"""File changes, recorded as operations: undo takes back what file calls, commands and programs in a live tree did.

Decided here: what one such operation is. All that changed since the workspace was last recorded, by whichever surface,
is one operation in the log: file calls of one program are joined, and so is all that happens in a live tree between two
operations. Its states before and after are commits. That before is the one which recorded the workspace last; that
after is made beside the branch, and kept. The branch does not move. A checkpoint records the changes that it saves as
such an operation, too, in the same write to the log (`checkpoint`).

Called with the workspace locked: at the end of a program's file calls, before a command runs, before an undo or redo,
and before an operation on refs alone, such as the deletion of a label, which is newer. While a command runs in a live
tree, nothing tells its changes from those of others: they are all its own, and its end records them. A checkpoint
meanwhile saves a part of the command's operation, and undo takes the parts back together (`gitmoves.tie_to_command`).
Costs a capture, and where the counters say that nothing changed, a look at them. A crash before the line in the log
leaves changes for the next call.
"""

from __future__ import annotations

import stat
import tempfile
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import suppress

from avfs_git.errors import FileChanging, RefConflict, RefLocked, WorkspaceBusy, and_more, quote
from avfs_git.gitstore.compare.treediff import Entry, diff_trees, find_differences
from avfs_git.gitstore.formats.index import differ_in_stat_only
from avfs_git.gitstore.formats.reflog import Logged
from avfs_git.gitstore.formats.trees import MODE_GITLINK, MODE_TREE, edit_tree, find_entry
from avfs_git.gitstore.objects.drywriter import DryWriter
from avfs_git.gitstore.objects.packwriter import PackWriter
from avfs_git.gitstore.rules.attributes import TreeAttributes, read_info_attributes
from avfs_git.gitstore.source import ObjectSource
from avfs_git.host.files.durable import host_errors
from avfs_git.model import ChangedFile, ChangeKind, Warning
from avfs_git.paths import ROOT, Oid, TreePath, climb, join, list_above, maybe_oid, oid_of, show_path, split
from avfs_git.values import NamedTuple
from avfs_git.vfs.layer.sidecar import Record, edit_sidecar, edit_untracked, find_attributes, find_below
from avfs_git.workspace.capture.requests import CaptureRequest
from avfs_git.workspace.capture.sidecardiff import diff_sidecars
from avfs_git.workspace.checkpoint.conversions import find_shown
from avfs_git.workspace.checkpoint.gitlogs import find_come_back
from avfs_git.workspace.checkpoint.mark import mark_captured, mark_recorded
from avfs_git.workspace.checkpoint.prepare import capture_workspace
from avfs_git.workspace.checkpoint.unseen import find_unseen_head, record_seen, tell_seen
from avfs_git.workspace.opened.workspace import LockedWorkspace
from avfs_git.workspace.sidecars.kept import note_amended
from avfs_git.workspace.vault.format import HEADS
from avfs_git.workspace.vault.gitmoves import (
    CommandStart,
    adopt_git_moves,
    describe_with_git,
    facts_of_moves,
    find_git_moves,
    had_files,
    has_command,
    open_worktree,
    record_head_move,
    tell_head_move,
    tie_to_command,
)
from avfs_git.workspace.vault.log.oprecord import (
    CAPTURED,
    EXACT,
    FILES,
    IN_MERGE,
    SIDECAR,
    STATE_BEFORE,
    OpRecord,
)
from avfs_git.workspace.vault.states import Trees, add_state, tree_of

BY_COMMAND = "a command that has changed it"
"""What holds a workspace, by the error of an operation that has to wait until a command in the live tree has ended."""
_HISTORY_LOOKED_AT = 10_000
_NAMED = 3
"""Paths that a description names; the others are counted."""


def record_changes(
    locked: LockedWorkspace, description: str | None = None, *, kind: str = FILES, command: CommandStart | None = None
) -> tuple[Warning, ...]:
    """Record what has changed in a workspace since it was last recorded, as one operation; tell what was left out.

    In the middle of a merge the operation can be undone until the merge ends. `description` is what the log says, by
    default the paths. Where git moved the branch in `command`, that is part of the operation. While a command runs, its
    end records all.

    Raises:
        FileChanging: If a file cannot be read whole.
    """
    opened, vault = locked.opened, locked.vault
    if opened.is_clean() or (command is None and has_command(vault, locked.fork)):
        return ()
    vault.prepare()
    with PackWriter(vault.store) as pack:
        recorded, was = find_recorded(locked)
        captured = capture_workspace(locked, pack, CaptureRequest(skips_unreadable=True))
        now = (captured.tree, captured.sidecar)
        plain = description is None and command is None
        changed = _list_told(pack, was, now) if plain else list_changed(pack, was, now)
        if not changed and (command is not None or not tell_head_move(vault, locked.fork)):
            return tuple(captured.warnings)
        held, seen = was, _find_seen(locked)
        (recorded, was), moved = record_git_moves(locked, pack, (recorded, was), now, command)
        if was != held:
            changed = _list_told(pack, was, now) if plain else list_changed(pack, was, now)
        if not changed and recorded is not None:
            return (*captured.warnings, *mark_recorded(locked, captured, recorded, was[1], pack))
        before, kept = make_recorded_commit(locked, pack, recorded, was)
        after, sidecar = _make_commit(locked, pack, now, before, description or describe_changes(changed))
        pack.finish(hold=True)
        head_move = tell_head_move(vault, locked.fork)
        went = open_worktree(vault, locked.fork).read_heads()[-1:] if head_move else []
        facts = {IN_MERGE: True} if opened.state.merging is not None else {}
        began = moved[0].old if moved else None
        vault.refs.update(vault.hold(*dict.fromkeys((*kept, after, sidecar, began))))
        record = OpRecord(
            0,
            locked.fork,
            kind,
            describe_with_git(description or describe_changes(changed), moved or (went if description is None else [])),
            vault.clock_ns(),
            moves=[(HEADS + locked.fork, began.hex() if began is not None else None, moved[-1].new.hex())]
            if moved
            else [],
            before=before.hex(),
            after=after.hex(),
            more={
                EXACT: True,
                CAPTURED: captured.began_ns,
                **head_move,
                **facts_of_moves(moved),
                **facts,
                **tie_to_command(vault, locked.fork, command),
            },
        )
        if seen is None or moved:
            vault.oplog.append(record)
        else:
            try:
                record_seen(locked, record, seen)
            except (RefConflict, RefLocked):  # others have moved the branch on
                vault.oplog.append(tell_seen(record, seen))
        return (*captured.warnings, *mark_captured(locked, captured, commit=after))


def _find_seen(locked: LockedWorkspace) -> tuple[Oid, Oid] | None:
    """Find what others have put on the branch and the files have by now: git has brought them back to the branch.

    Later, the log does not tell: what is recorded may be older or newer than the way back. Gives that commit, and
    where the workspace came from.
    """
    unseen = find_unseen_head(locked)
    came = find_come_back(locked.vault, locked.fork, unseen[1]) if unseen is not None else None
    return (came, unseen[1]) if unseen is not None and came is not None else None


def record_moves(locked: LockedWorkspace) -> None:
    """Record what git has done in the live tree, with the changes of files that it committed, and no others.

    While a command runs, its end records that. Costs a capture where git has moved the branch.
    """
    vault = locked.vault
    if has_command(vault, locked.fork):
        return
    if find_git_moves(vault, locked.fork)[0]:
        with PackWriter(vault.store) as pack:
            recorded = find_recorded(locked)
            now = recorded[1]
            with suppress(FileChanging):  # the branch may move next, after which the log gets none of git's moves
                captured = capture_workspace(locked, pack, CaptureRequest(skips_unreadable=True))
                now = (captured.tree, captured.sidecar)
                locked.opened.mode.give_up_capture()
            record_git_moves(locked, pack, recorded, now, None)
    record_head_move(vault, locked.fork)


def check_recorded(locked: LockedWorkspace) -> None:
    """Refuse an operation that would come before the work of a running command in the log, and take it from the files.

    Costs a capture where a command runs.

    Raises:
        WorkspaceBusy: If a command runs in the live tree, and something has changed since the workspace was recorded.
    """
    vault = locked.vault
    if not has_command(vault, locked.fork):
        return
    writer = DryWriter(vault.store)
    captured = capture_workspace(locked, writer, CaptureRequest(skips_unreadable=True))
    is_changed = list_changed(writer, find_recorded(locked)[1], (captured.tree, captured.sidecar))
    if is_changed or find_git_moves(vault, locked.fork)[0]:
        raise WorkspaceBusy(locked.fork, BY_COMMAND)


def record_git_moves(
    locked: LockedWorkspace,
    pack: PackWriter,
    recorded: tuple[Oid | None, Trees],
    now: Trees,
    command: CommandStart | None,
) -> tuple[tuple[Oid | None, Trees], list[Logged]]:
    """Record what git did to the branch in the live tree, and before it the changes of files that git committed.

    What else has changed since the workspace was `recorded` last comes after that: git does not tell when. `pack` has
    the state that the workspace holds `now`.

    Returns:
        The commit that records the workspace last, then, with what it holds; and the moves of git's that belong to
        `command`.
    """
    vault = locked.vault
    others, own = find_git_moves(vault, locked.fork, command)
    has_left = bool(tell_head_move(vault, locked.fork))
    if others:
        step, kept = None, tuple[Oid | None, ...]()
        with PackWriter(vault.store) as beside:
            edits = _find_committed(locked, pack, recorded[1], now, others, has_left=has_left)
            if edits:
                step = _add_committed(locked, pack, beside, recorded, now, edits)
                recorded, kept = (step.after, step.trees), step.kept
            without = _find_without_conflicts(locked)
            if without is not None:  # the conflicts are of the merge, which may have ended when this is undone
                commit = beside.read_commit(without)
                state = without, (tree_of(commit), vault.sidecar_tree(commit))
                edits = _find_committed(locked, pack, state[1], now, others, has_left=has_left)
                step = _add_committed(locked, pack, beside, state, now, edits) if edits else None
            kept = (*kept, *(step.kept if step is not None else ()))
            if kept:
                beside.finish(hold=True)
                vault.refs.update(vault.hold(*dict.fromkeys(kept)))
        if step is not None:
            at_ns, before, after = others[0].when_s * 1_000_000_000, step.before.hex(), step.after.hex()
            vault.oplog.append(
                OpRecord(0, locked.fork, FILES, step.text, at_ns, before=before, after=after, more={EXACT: True})
            )
    for move in (*others, *own):
        note_amended(vault, locked.fork, move.old, move.new)
    adopt_git_moves(vault, locked.fork, others)
    return recorded, own


class _Step(NamedTuple):
    """What git committed, as two states."""

    before: Oid
    after: Oid
    trees: Trees
    """Of the second one."""
    text: str
    kept: tuple[Oid | None, ...]
    """What has to be kept for them."""


def _add_committed(
    locked: LockedWorkspace,
    pack: PackWriter,
    beside: PackWriter,
    state: tuple[Oid | None, Trees],
    now: Trees,
    edits: Mapping[TreePath, Entry | None],
) -> _Step:
    before, kept = make_recorded_commit(locked, beside, *state)
    for entry in edits.values():  # what a file shows may be in no commit
        if entry is not None and entry[0] != MODE_GITLINK and not locked.vault.store.exists(entry[1]):
            with host_errors("copy a file"), tempfile.TemporaryFile(dir=locked.vault.git_dir) as file:
                file.writelines(pack.stream_blob(entry[1]))
                file.flush()
                beside.add_file(file.fileno(), file.tell())
    trees = commit_edits(pack, beside, state[1], now, edits)
    text = describe_changes(list_changed(beside, state[1], trees))
    after, sidecar = _make_commit(locked, beside, trees, before, text)
    return _Step(before, after, trees, text, (*kept, after, sidecar))


def _find_without_conflicts(locked: LockedWorkspace) -> Oid | None:
    """Find the commit of the state before a merge in progress, with what git has committed in it by now.

    None without a merge, and where the log does not tell it.
    """
    for record in locked.vault.oplog.read_fork(locked.fork) if locked.opened.state.merging is not None else ():
        if STATE_BEFORE in record.more:
            return oid_of(record.more[STATE_BEFORE])
        if record.kind == FILES and IN_MERGE not in record.more:
            return maybe_oid(record.after)
    return None


def _find_committed(
    locked: LockedWorkspace, source: PackWriter, was: Trees, now: Trees, moves: Sequence[Logged], *, has_left: bool
) -> dict[TreePath, Entry | None]:
    """Find what git's moves of the branch brought to paths whose files have changed since they were recorded.

    A path counts if it shows the last commit now, or if it was so when git moved there, at least in git's index. Where
    git `has_left` the branch then, the file may be as it was recorded again. A file that has been beside history is
    left out.
    """
    if not moves:
        return {}
    first, last = (source.read_commit(oid).tree if oid is not None else None for oid in (moves[0].old, moves[-1].new))
    changed = find_differences(source, was[0], now[0])
    kept = find_differences(source, was[0], last) if has_left else {}
    beside = [change.path for change in diff_sidecars(source, was[1], now[1]) if change.kind is not ChangeKind.MODE]
    attributes = TreeAttributes(source, last, read_info_attributes(locked.vault.git_dir))
    found: dict[TreePath, Entry | None] = {}
    for path, (_, there) in find_differences(source, first, last).items():
        held = changed.get(path)
        if held is None and path in kept:
            held = kept[path][0], kept[path][0]
        if held is None or held[0] == there:
            continue
        shown = find_shown(source, attributes, path, there, held[1]) if there is not None else None
        if held[1] != shown and not had_files(moves[-1]):
            continue
        if any(path == other or path.startswith(other + b"/") for other in beside):
            continue
        if shown is not None or there is None:
            found[path] = shown
    left = changed.keys() - found.keys()
    return {path: there for path, there in found.items() if left.isdisjoint(climb(path))}


def commit_edits(
    source: ObjectSource,
    sink: PackWriter,
    was: Trees,
    now: Trees,
    edits: Mapping[TreePath, Entry | None],
    *,
    beside: Collection[TreePath] = (),
) -> Trees:
    """Make the state that git committed: what a workspace `was`, with edits, and their attributes as they are `now`.

    With the attributes that were, it could be a state that no workspace can have, such as with the mode of a directory
    that is gone: that would be found changed after each undo, and undo would get no further. Of the edits, the files
    that git took out of history and that are `beside` it keep theirs.
    """
    tree = edit_tree(source, sink, was[0], edits)
    names: dict[TreePath, set[bytes]] = {}
    for path in {*edits, *list_above(edits)} - {ROOT, *beside}:
        directory, name = split(path)
        names.setdefault(directory, set()).add(name)
    attributes: dict[TreePath, dict[bytes, Record | None]] = {}
    for directory, here in names.items():
        states = ((source, was[0]), (sink, tree), (source, now[0]))
        before, after, there = (_list_entries(holder, held, directory) for holder, held in states)
        records = find_attributes(source, now[1], directory, here)
        for name in here:
            if join(directory, name) in edits or not _are_alike(before.get(name), after.get(name)):
                record = records.get(name) if _are_alike(after.get(name), there.get(name)) else None
                attributes.setdefault(directory, {})[name] = record
    emptied = {path for path in list_above(edits) - {ROOT} if tree is None or find_entry(sink, tree, path) is None}
    return tree, _keep_emptied(sink, edit_sidecar(sink, was[1], attributes), emptied, source, now[1])


def _keep_emptied(
    sink: PackWriter, sidecar: Oid | None, emptied: Collection[TreePath], source: ObjectSource, there: Oid | None
) -> Oid | None:
    """Keep the directories that git has left without files, where a workspace has them: beside history, as they are."""
    for path in sorted(emptied, reverse=True):  # those below come first
        child = find_below(source, there, path)
        if child is not None and child.mode == MODE_TREE:
            held = find_below(sink, sidecar, path)
            tree = held.oid if held is not None and held.mode == MODE_TREE else sink.add_tree({})
            sidecar = edit_untracked(sink, sidecar, {path: (MODE_TREE, tree)})
    return sidecar


def _list_entries(source: ObjectSource, tree: Oid | None, directory: TreePath) -> Mapping[bytes, Entry]:
    found = find_entry(source, tree, directory) if tree is not None else None
    return source.read_tree(found[1]) if found is not None and found[0] == MODE_TREE else {}


def _are_alike(left: Entry | None, right: Entry | None) -> bool:
    return left is not None and right is not None and stat.S_IFMT(left[0]) == stat.S_IFMT(right[0])


def list_changed(source: ObjectSource, was: Trees, now: Trees) -> list[ChangedFile]:
    """List what differs between two states, untracked files included; sizes stay unknown."""
    return [*diff_trees(source, was[0], now[0]), *diff_sidecars(source, was[1], now[1])]


def _list_told(source: PackWriter, was: Trees, now: Trees) -> list[ChangedFile]:
    return list_work(source, list_changed(source, was, now))


def list_work(source: ObjectSource, changed: Sequence[ChangedFile]) -> list[ChangedFile]:
    """Give all of some changes, or none if none is work to take back: it comes again, and undo would get no further.

    Such are files that came into history or left it as they are, by git's index and commits; and where git has only
    looked at the files of repositories inside, the next `git status` does it again.
    """
    gone = {(change.path, change.old_mode, change.old_oid) for change in changed if change.kind is ChangeKind.DELETED}
    came = {(change.path, change.new_mode, change.new_oid) for change in changed if change.kind is ChangeKind.ADDED}
    placed = {path for path, _, _ in gone & came}
    return [] if all(change.path in placed or _is_look(source, change) for change in changed) else list(changed)


def _is_look(source: ObjectSource, change: ChangedFile) -> bool:
    old, new = change.old_oid, change.new_oid
    if change.kind is not ChangeKind.MODIFIED or not change.path.endswith(b"/.git/index") or None in (old, new):
        return False
    return change.old_mode == change.new_mode and differ_in_stat_only(
        *(source.read_blob(oid_of(oid)) for oid in (old, new) if oid is not None)
    )


def describe_changes(changed: Sequence[ChangedFile]) -> str:
    """Name what changed, for the log."""
    paths = list(dict.fromkeys(change.path for change in changed))
    return f"change {', '.join(quote(show_path(path)) for path in paths[:_NAMED])}{and_more(len(paths) - _NAMED)}"


def find_recorded(locked: LockedWorkspace) -> tuple[Oid | None, Trees]:
    """Find the commit that recorded a workspace last, None if none did, and what the workspace held then.

    The log decides: of a process that died right after an operation the stat cache does not know.
    """
    opened, vault = locked.opened, locked.vault
    synced = opened.synced_trees()
    cached = opened.cache.commit if opened.cache is not None else None
    if cached is None and opened.state.base is not None:
        cached = oid_of(opened.state.base)
    last = vault.oplog.find_last_state(locked.fork)
    if last is None or last.after is None or (cached is not None and last.after == cached.hex()):
        return cached, synced
    recorded = oid_of(last.after)
    commit = vault.store.read_commit(recorded)
    sidecar = vault.sidecar_tree(commit)
    if SIDECAR in last.more:
        sidecar = vault.store.read_commit(oid_of(last.more[SIDECAR])).tree
    return recorded, (tree_of(commit), sidecar)


def list_differing(
    locked: LockedWorkspace, others: Iterable[Oid | None], *, with_ignored: bool = False
) -> list[TreePath]:
    """List the paths at which a workspace, as it was recorded last, differs from any of some commits."""
    vault, (_, now) = locked.vault, find_recorded(locked)
    found: list[TreePath] = []
    for commit in map(vault.store.read_commit, filter(None, others)):
        found += find_differences(vault.store, now[0], tree_of(commit))
        if with_ignored:
            changed = diff_sidecars(vault.store, now[1], vault.sidecar_tree(commit))
            found += [TreePath(change.path) for change in changed]
    return found


def keep_state(locked: LockedWorkspace, commit: Oid | None, held: Trees) -> Oid:
    """Give the commit that says all of what a workspace holds; make and keep it where no commit does yet.

    Undo needs it: a commit of git's does not say what was untracked, nor does a branch that others have moved.
    """
    vault = locked.vault
    with PackWriter(vault.store) as pack:
        found, kept = make_recorded_commit(locked, pack, commit, held)
        if kept:
            pack.finish(hold=True)
            vault.refs.update(vault.hold(*kept))
    return found


def make_recorded_commit(
    locked: LockedWorkspace, pack: PackWriter, recorded: Oid | None, was: Trees
) -> tuple[Oid, tuple[Oid | None, ...]]:
    """Use the commit that recorded a workspace last, or make one of what it recorded.

    Tell which commits must be kept then.

    One is made where a commit of git's does not say what was untracked, and where there was none yet.
    """
    if recorded is not None:
        commit = locked.vault.store.read_commit(recorded)
        if (tree_of(commit)) == was[0] and locked.vault.sidecar_tree(commit) == was[1]:
            return recorded, ()
    made, sidecar = _make_commit(locked, pack, was, recorded, "state before")
    return made, (made, sidecar)


def _make_commit(
    locked: LockedWorkspace, pack: PackWriter, trees: Trees, parent: Oid | None, text: str
) -> tuple[Oid, Oid | None]:
    return add_state(pack, locked.fork, locked.vault.signature(), trees, text + "\n", parent)
