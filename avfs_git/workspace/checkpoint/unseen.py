"""What others have put on a fork's branch, and its workspace has not seen.

Decided here: which commit a workspace came from, what of its branch it lacks, and that an operation after which it has
all of that says so in the log. Called with the workspace locked by checkpoints, restores, merges and `changes`. Writes
nothing but that line: a crash before it leaves the branch unseen, so that nothing is committed over it.
"""

from __future__ import annotations

from avfs_git.gitstore.compare.treediff import Entry, find_differences
from avfs_git.gitstore.formats.trees import edit_tree
from avfs_git.gitstore.merge.bases import find_merge_bases, is_ancestor
from avfs_git.gitstore.refs.refs import RefChange
from avfs_git.gitstore.source import ObjectSink, ObjectSource
from avfs_git.paths import Oid, TreePath, fork_dir_name, maybe_oid
from avfs_git.values import NamedTuple, replace
from avfs_git.workspace.checkpoint.gitlogs import find_held, is_brought_back, list_made_last, list_moves_outside
from avfs_git.workspace.opened.workspace import LockedWorkspace
from avfs_git.workspace.vault.format import HEADS, KNOWN
from avfs_git.workspace.vault.gitmoves import open_worktree
from avfs_git.workspace.vault.log.oprecord import FILES, OURS, OpRecord


class Lacked(NamedTuple):
    """A file that lacks what others have put on a branch."""

    base: Entry | None
    """What it is compared with to merge it."""
    since: Entry | None
    """What it was in the commit that both sides have in common."""


def find_unseen_head(locked: LockedWorkspace) -> tuple[Oid, Oid] | None:
    """Find a branch head that another process moved, and the commit that the workspace came from; None otherwise.

    Both are the same where that process moved it back: the files may have what was on it meanwhile.
    """
    head, commit = locked.head()
    if head is None or commit is None:
        return None
    is_as_recorded = commit.tree == locked.opened.synced_trees()[0]
    if is_as_recorded and not open_worktree(locked.vault, locked.fork).is_there:
        return None  # else git may have brought other files, which are not recorded yet
    came_from, since_ns = find_came_from(locked)
    if not came_from:
        return None
    if head in came_from:
        return (head, head) if is_brought_back(locked.vault, locked.fork, head, since_ns) else None
    held = find_held(locked.vault, locked.fork, head, came_from[0])
    if held == head:
        return None
    held = held or came_from[0]
    made = list_made_last(locked.vault, locked.fork, head, held)
    store = locked.vault.store  # what git has left by a reset is no longer on the branch
    held = next((each for each in made if is_ancestor(store, each, head) and _is_held(locked, held, each)), held)
    return (head, held) if held != head else None


def _is_held(locked: LockedWorkspace, since: Oid, commit: Oid) -> bool:
    """Tell whether a workspace had all that a commit changes when it was recorded last, as after `git reset --hard`."""
    store, here = locked.vault.store, locked.opened.synced_trees()[0]
    before, there = store.read_commit(since).tree, store.read_commit(commit).tree
    return find_differences(store, before, there).keys().isdisjoint(find_differences(store, here, there))


def find_lacking(
    locked: LockedWorkspace, source: ObjectSource, unseen: tuple[Oid, Oid], here: Oid | None
) -> dict[TreePath, Lacked]:
    """Find the files of a tree which lack what an unseen head has, or are changed by both.

    `unseen` is what `find_unseen_head` gives. A file as it was before or after others moved the branch is no edit. An
    edit of a file that they have changed and taken back may be one of what they had there.
    """
    head, came_from = unseen
    store, there = locked.vault.store, _tree(locked, head)
    moves = list_moves_outside(locked.vault, locked.fork, came_from, head, find_came_from(locked)[1])
    theirs_once = {new for _, new in moves}
    passed: dict[TreePath, list[Entry | None]] = {}
    for old, new in moves:
        if old in theirs_once or is_ancestor(store, old, new):  # else they drop what is ours
            for path, (before, after) in find_differences(store, _tree(locked, old), _tree(locked, new)).items():
                passed.setdefault(path, []).extend((after, before))
    if not (is_ancestor(store, came_from, head) or is_ancestor(store, head, came_from)):
        came_from = next(iter(find_merge_bases(store, came_from, head)), came_from)
    began = find_differences(source, _tree(locked, came_from), there)
    lacking = {}
    for path, (own, theirs) in find_differences(source, here, there).items():
        since, entries = began.get(path, (theirs,))[0], passed.get(path, [])
        if own in entries:
            lacking[path] = Lacked(own, since)
        elif since != theirs:
            lacking[path] = Lacked(since, since)
        elif entries:
            lacking[path] = Lacked(next((entry for entry in entries if entry != theirs), since), since)
    return lacking


def find_base(locked: LockedWorkspace, sink: ObjectSink, unseen: tuple[Oid, Oid], here: Oid | None) -> Oid | None:
    """Make up the tree with which a tree and an unseen head are compared where they are merged.

    None if it is that of the commit which they have in common.
    """
    lacking = find_lacking(locked, sink, unseen, here)
    if all(file.base == file.since for file in lacking.values()):
        return None
    is_back = is_ancestor(locked.vault.store, *unseen)  # what came after that is ours, and goes on
    edits = {path: file.base for path, file in lacking.items() if not is_back or file.base != file.since}
    return edit_tree(sink, sink, _tree(locked, unseen[0]), edits)


def _tree(locked: LockedWorkspace, commit: Oid) -> Oid | None:
    return locked.vault.store.read_commit(commit).tree


def record_seen(locked: LockedWorkspace, record: OpRecord, unseen: tuple[Oid, Oid] | None) -> None:
    """Log an operation after which a workspace holds what its branch does, and has seen what others put there.

    Undo gives the files back, and leaves the branch. `unseen` is what `find_unseen_head` gave before the operation.

    Raises:
        RefConflict: If the branch has moved on meanwhile.
    """
    if unseen is None:
        locked.vault.oplog.append(record)
        return
    ref, head = HEADS + locked.fork, unseen[0]
    locked.vault.move_refs([RefChange(ref, head, head)], tell_seen(record, unseen))


def tell_seen(record: OpRecord, unseen: tuple[Oid, Oid]) -> OpRecord:
    """Say of an operation that its workspace has by now what others had put on the branch."""
    head, came_from = unseen
    moves = [(HEADS + record.fork, head.hex(), head.hex())]
    return replace(record, moves=moves, more={OURS: came_from.hex(), **record.more})


def find_came_from(locked: LockedWorkspace) -> tuple[list[Oid], int]:
    """List the commits that the workspace came from, the surest first; give when the log has the surest, in ns.

    The surest is where avfs last moved the branch to: the log says it or, where that was lost or never was, as in a
    clone, a ref. An undo leaves the stat cache at the commit that was undone, so that one comes later. If a deletion
    died before it put the workspace away, and git made the branch anew, positions from before the deletion count.
    """
    at, when_ns = locked.vault.oplog.find_last_position(HEADS + locked.fork, locked.opened.state.created_at_ns)
    if at is not None:
        return [at], when_ns
    known = locked.vault.refs.read(KNOWN + fork_dir_name(locked.fork))
    cache = locked.opened.cache
    cached = _leave_recorded(locked, cache.commit) if cache is not None and cache.commit is not None else None
    return [oid for oid in (known, cached, maybe_oid(locked.opened.state.base)) if oid is not None], 0


def _leave_recorded(locked: LockedWorkspace, oid: Oid) -> Oid | None:
    """Go back from commits that record file changes, which are on no branch, to the commit that they began with."""
    read, records = locked.vault.store.read_commit, locked.vault.oplog.read_life(locked.fork)
    states = {
        state: state == record.after
        for record in records
        if record.kind == FILES
        for state in (record.before, record.after)
    }
    while oid.hex() in states:
        commit = read(oid)
        if not commit.parents:
            return None
        if not states[oid.hex()] and read(commit.parents[0]).tree != commit.tree:
            break
        oid = commit.parents[0]
    return oid
