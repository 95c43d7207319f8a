"""Rewriting a fork's history: single commits put on another state, a fork moved onto another base, commits squashed.

Decided here: which commits are put on again, what each keeps, and that nothing happens unless all of them fit. A commit
is put on another state as git does it: what it changed from its first parent is merged with what is there. It keeps its
author and its message. One that changes nothing there is left out, unless it changed nothing in the first place; merges
are left out, because what they brought is in the commits that are put on. The ignored files of the workspace stay as
they are; a commit of the fork itself that is put on again still names the sidecar it had, so that going back to it
brings back what was beside it.

The new commits are made in memory; the workspace and the branch then move on in one step (`advance`), which can be
undone. A conflict is an error that names the commit, and changes nothing; or its files are put into the workspace, to
be resolved as those of a merge (`mergestate`). The branch stays where it was until everything is put on, so that giving
up is going back to it; what was put on by then, and what is left, stands in the state of the workspace. Called with the
workspace lock held.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

from avfs_git.errors import CommitConflicts, FileChanging, InvalidInput, RefConflict, quote
from avfs_git.gitstore.compare.treediff import diff_trees, find_differences, sizes_here
from avfs_git.gitstore.formats.commits import Commit
from avfs_git.gitstore.formats.trees import EMPTY_TREE, edit_tree, find_entry
from avfs_git.gitstore.merge.bases import find_merge_bases, is_ancestor
from avfs_git.gitstore.merge.engine import Labels, MergedTrees, MergeEngine
from avfs_git.gitstore.objects.drywriter import DryWriter
from avfs_git.gitstore.objects.packwriter import PackWriter
from avfs_git.gitstore.objects.store import ObjectStore
from avfs_git.gitstore.refs.refs import RefChange
from avfs_git.gitstore.source import ObjectSource
from avfs_git.model import MergeStrategy, RewriteResult
from avfs_git.paths import Oid, oid_of
from avfs_git.workspace.checkpoint.bookkeeping import is_bookkeeping
from avfs_git.workspace.checkpoint.changes import check_recorded, record_changes, record_moves
from avfs_git.workspace.checkpoint.checkpoint import check_not_merging, check_seen, merge_in_progress
from avfs_git.workspace.merge.conflicts import describe_conflicts
from avfs_git.workspace.merge.merge import MERGED, Start, find_other_side, join_warnings, open_engine, save_target
from avfs_git.workspace.merge.mergestate import (
    CHERRY_PICK,
    REBASE,
    begin_merge,
    find_state_before,
    list_shown,
    require_merging,
    settle_conflicts,
)
from avfs_git.workspace.merge.preview import Preview
from avfs_git.workspace.opened.workspace import LockedWorkspace
from avfs_git.workspace.restore.advance import AdvanceRequest, OtherSide, advance
from avfs_git.workspace.restore.aside import save_aside
from avfs_git.workspace.sidecars.kept import list_told_sidecars
from avfs_git.workspace.vault.format import HEADS, Merging, Rewriting
from avfs_git.workspace.vault.gitmoves import check_head, list_moves_inside
from avfs_git.workspace.vault.log.oprecord import OpRecord

_LONGEST = 10_000
"""Commits that are put on again at once; more is taken for a mistake."""


@dataclass(frozen=True, slots=True)
class _Plan:
    """What is put on, and how."""

    kind: str
    description: str
    strategy: MergeStrategy
    in_workspace: bool
    """Whether the conflicts of a commit that does not fit are put into the workspace."""


@dataclass(slots=True)
class _Stand:
    """What is put on by now."""

    last: Oid
    tree: Oid
    made: list[Oid]
    newest: Commit | None = None
    """The last of these, unless it is an unchanged commit."""


@dataclass(frozen=True, slots=True)
class _Unfit:
    """A commit that does not fit where it is put."""

    oid: Oid
    commit: Commit
    merged: MergedTrees
    left: Sequence[Oid]
    """What comes after it."""


def pick_commits(
    locked: LockedWorkspace, picked: Sequence[Oid], strategy: MergeStrategy, *, in_workspace: bool = False
) -> RewriteResult:
    """Put what single commits changed onto a fork, in the order in which they are given.

    Raises:
        CommitConflicts: If one does not fit; nothing is changed then.
        HeadElsewhere: If git's HEAD in the live tree is not on the fork's branch.
        MergeInProgress: If the workspace is in the middle of a merge.
    """
    what = _short(picked[0]) if len(picked) == 1 else f"{len(picked)} commits"
    plan = _Plan(CHERRY_PICK, f"cherry-pick {what}", strategy, in_workspace)
    without_effect = _foresee(locked, None, picked, plan)
    if without_effect is not None:
        return without_effect
    start = save_target(locked, "save before cherry-pick")
    return _put_on(locked, start, start.head, picked, plan)


def rebase(
    locked: LockedWorkspace,
    onto: Oid,
    name: str,
    strategy: MergeStrategy,
    *,
    in_workspace: bool = False,
    was: Oid | None = None,
) -> RewriteResult:
    """Put the commits that only a fork has onto another commit.

    `was` is where that branch stood: its commits are not the fork's.

    Raises:
        CommitConflicts: If one does not fit; nothing is changed then.
        HeadElsewhere: If git's HEAD in the live tree is not on the fork's branch.
        MergeInProgress: If the workspace is in the middle of a merge.
    """
    plan = _Plan(REBASE, f"rebase onto {name}", strategy, in_workspace)
    without_effect = _foresee(locked, onto, None, plan, was=was)
    if without_effect is not None:
        return without_effect
    start = save_target(locked, f"save before rebase onto {name}")
    source = locked.vault.store
    base = was or next(iter(find_merge_bases(source, start.head, onto)), None)
    other = find_other_side(locked, name, onto, base, brings_untracked=False)
    return _put_on(locked, start, onto, _own_commits(source, start.head, onto, was), plan, other=other)


def check_rebase(
    locked: LockedWorkspace,
    onto: Oid | None = None,
    strategy: MergeStrategy = MergeStrategy.NORMAL,
    was: Oid | None = None,
) -> None:
    """Refuse a rebase that no state of the other side allows, or that `onto` does not, before that side is saved.

    Raises:
        CommitConflicts, HeadElsewhere, MergeInProgress, RefConflict: As `rebase`.
    """
    check_not_merging(locked)
    check_head(locked.vault, locked.fork)
    check_seen(locked)
    if onto is not None:
        _foresee(locked, onto, None, _Plan(REBASE, "", strategy, in_workspace=False), also_saved=True, was=was)


def continue_rewrite(locked: LockedWorkspace, kind: str | None = None, *, skip: bool = False) -> RewriteResult:
    """Continue a rebase or cherry-pick with conflicts resolved: to its end, or to the next commit that does not fit.

    `skip` leaves out the commit that does not fit; what was resolved of it is kept beside.

    Raises:
        NoMergeInProgress: If there is no rebase or cherry-pick.
        MergeInProgress: If what the workspace is in the middle of is a merge, or of another kind.
        HeadElsewhere: If git's HEAD in the live tree is not on the fork's branch.
        RefConflict: If the branch was moved since it stopped.
        ConflictsLeft: If something is not resolved.
    """
    merging = require_merging(locked, kind)
    rewriting = merging.rewriting
    if rewriting is None:
        raise merge_in_progress(locked.fork, merging)
    check_head(locked.vault, locked.fork)
    head = locked.vault.read_head(locked.fork) or oid_of(merging.head)
    since = _list_committed_since(locked, merging, head)
    if not skip:
        settle_conflicts(locked)
    record_moves(locked)  # else they would come after it in the log
    # What would be put back after a crash, and what becomes a commit, has to be stored.
    saved, now, left_out = save_aside(locked, f"{'skipped' if skip else 'resolved'} {merging.source}")
    start = Start(head, now, saved if skip else None, warnings=left_out)
    last = oid_of(rewriting.last)
    read = locked.vault.store.read_commit
    stand = _Stand(last, read(last).tree, [oid_of(text) for text in rewriting.made])
    if stand.made and not is_ancestor(locked.vault.store, last, start.head):  # else it stands where it did
        stand.newest = read(last)
    plan = _Plan(rewriting.kind, rewriting.description, MergeStrategy(rewriting.strategy), in_workspace=True)
    left = [*map(oid_of, rewriting.left), *_read_as_made(locked, merging, since, skip=skip)]
    resolved = None if skip else (oid_of(merging.theirs), oid_of(merging.head))
    return _put_on(locked, start, last, left, plan, stand=stand, resolved=resolved)


def _list_committed_since(locked: LockedWorkspace, merging: Merging, head: Oid) -> list[Oid]:
    """List the commits that git has made on the branch since a rewrite stopped, the oldest first: they are put on, too.

    Raises:
        RefConflict: If others have put commits there, or the branch does not go on from where it was.
    """
    source, was = locked.vault.store, oid_of(merging.head)
    if head == was:
        return []
    is_own = bool(list_moves_inside(locked.vault, locked.fork, was, head))
    if is_own and is_ancestor(source, was, head):
        return _own_commits(source, head, was, None)
    moved = RefConflict(HEADS + locked.fork, merging.head, head.hex())
    if is_own:
        moved.message = f"git in this tree has replaced the commit at which this stopped on '{locked.fork}'"
        moved.args = (moved.message,)
    verb = (merging.rewriting.kind if merging.rewriting is not None else REBASE).replace("_", "-")
    moved.hint = f"Give it up with `avfs {verb} --abort`, which keeps what is resolved in a commit beside the branch."
    raise moved


def _read_as_made(locked: LockedWorkspace, merging: Merging, since: Sequence[Oid], *, skip: bool) -> list[Oid]:
    """Make the commits of git's anew that have something of what the rewrite shows, without that.

    The branch is still where it was, so that `git commit -a` has all of it as a change: it takes back what is yet to be
    put on, and has the resolution. A commit that has nothing else is left out. With `skip` nothing else has the
    resolution: it stays in the commit.
    """
    shown, conflicts = list_shown(locked, merging), {os.fsencode(conflict.path) for conflict in merging.conflicts}
    made: list[Oid] = []
    with PackWriter(locked.vault.store) as pack:
        for oid in since:
            commit = pack.read_commit(oid)
            before = pack.read_commit(commit.parents[0])
            edits = {
                path: new if path in conflicts else shown[path][1]
                for path, (old, new) in find_differences(pack, before.tree, commit.tree).items()
                if path in shown and old == shown[path][0] and not (skip and path in conflicts)
            }
            tree = edit_tree(pack, pack, before.tree, edits) or pack.add_tree({})
            if tree == before.tree:
                made.append(oid)
            elif tree != commit.tree:
                parent = pack.add_commit(replace(before, tree=tree, parents=(), sidecar=None, extra=()))
                made.append(pack.add_commit(replace(commit, parents=(parent,), extra=())))
        pack.finish(hold=True)
        locked.vault.refs.update(locked.vault.hold(*(oid for oid in made if oid not in since)))
    return made


def _resolved_tree(pack: PackWriter, start: Start, stand: _Stand, stopped_at: Oid) -> Oid:
    """Return the tree of a resolved commit: what the workspace holds, without what git committed since the stop."""
    now = start.now[0] or pack.add_tree({})
    was, head = (pack.read_commit(oid).tree or pack.add_tree({}) for oid in (stopped_at, start.head))
    edits = {  # what stands at a path may be a directory, which a file has replaced, or that has replaced one
        path: before
        for path, (before, _) in find_differences(pack, was, head).items()
        if find_entry(pack, stand.tree, path) == find_entry(pack, was, path)
        and find_entry(pack, now, path) == find_entry(pack, head, path)
    }
    return edit_tree(pack, pack, now, edits) or pack.add_tree({})


def _foresee(
    locked: LockedWorkspace,
    onto: Oid | None,
    picked: Sequence[Oid] | None,
    plan: _Plan,
    *,
    also_saved: bool = False,
    was: Oid | None = None,
) -> RewriteResult | None:
    """Try it with uncommitted work before saving that: return the result if nothing would change; raise any refusal.

    Where nothing is uncommitted, there is nothing to try, unless it is `also_saved`.
    """
    check_not_merging(locked)
    check_head(locked.vault, locked.fork)
    head = locked.vault.read_head(locked.fork)
    if head is None or (not also_saved and locked.opened.is_recorded_by(head)):
        return None
    sink = Preview(locked)
    ours = sink.add_uncommitted()
    if picked is None:
        picked = _own_commits(sink, ours, onto or ours, was)
    stand = _Stand(onto or ours, sink.read_commit(onto or ours).tree, [])
    stop = _put_all(locked, sink, stand, picked, plan, {})
    if stop is not None and not plan.in_workspace:
        raise _refuse(stop, is_stored=stop.oid != ours or ours == head)
    if stop is None and stand.last == ours:
        return RewriteResult("unchanged", locked.fork, head.hex(), head.hex(), ())
    return None


def _own_commits(source: ObjectStore | DryWriter, head: Oid, onto: Oid, was: Oid | None) -> list[Oid]:
    """List commits that lead to a head, and neither to another commit nor to `was`, oldest first, without merges."""
    read = source.read_commit
    ends = {base for other in (onto, was) if other is not None for base in find_merge_bases(source, head, other)}
    if head in ends:
        return []
    order: list[Oid] = []
    seen: set[Oid] = set()
    # An explicit stack, and children after their parents: history is deeper than Python's own stack.
    stack: list[tuple[Oid, bool]] = [(head, False)]
    while stack:
        oid, is_done = stack.pop()
        if is_done:
            order.append(oid)
            continue
        if oid in seen or oid in ends:
            continue
        seen.add(oid)
        if len(seen) > _LONGEST:
            raise InvalidInput(f"more than {_LONGEST} commits would be put on again")
        stack.append((oid, True))
        stack += [(parent, False) for parent in reversed(read(oid).parents) if parent not in seen]
    return [
        oid for oid in order if len(read(oid).parents) <= 1 and not any(is_ancestor(source, oid, end) for end in ends)
    ]


def _put_on(
    locked: LockedWorkspace,
    start: Start,
    onto: Oid,
    picked: Sequence[Oid],
    plan: _Plan,
    *,
    stand: _Stand | None = None,
    resolved: tuple[Oid, Oid] | None = None,
    other: OtherSide | None = None,
) -> RewriteResult:
    """Put commits on another one.

    Where some are on it by now, and one of which the workspace holds what it changes, go on.

    `resolved` are that one, and where the branch was when it stopped there.
    """
    vault, merging = locked.vault, locked.opened.state.merging
    read = vault.store.read_commit
    stand = stand or _Stand(onto, read(onto).tree, [])
    own = list_told_sidecars(vault, locked.fork)
    with PackWriter(vault.store) as pack:
        if resolved is not None:
            commit, stopped_at = resolved
            _add_commit(
                locked, pack, stand, _read_own(pack, commit, own), _resolved_tree(pack, start, stand, stopped_at), plan
            )
        stop = _put_all(locked, pack, stand, picked, plan, own)
        if stop is not None:
            if not plan.in_workspace:
                raise _refuse(stop, is_stored=True)
            return _stop(locked, pack, start, stand, stop, plan, other)
        changed = tuple(diff_trees(pack, read(start.head).tree, stand.tree, size_of=sizes_here(pack)))
        if stand.last == start.head and merging is None:
            head = start.head.hex()
            return RewriteResult("unchanged", locked.fork, head, head, (), saved=start.saved, warnings=start.warnings)
        last, newest = stand.last, stand.newest
        before, began = find_state_before(locked, merging) if merging is not None else (None, None)

        def make_head(sink: PackWriter, sidecar: Oid | None) -> Oid:
            if newest is None:
                return last
            # What was put on last names the sidecar of the present.
            return sink.add_commit(replace(newest, sidecar=sidecar))

        request = AdvanceRequest(
            stand.tree,
            make_head,
            start.head,
            start.now,
            plan.kind,
            plan.description,
            other=other,
            more={MERGED: last.hex()} if newest is None else {},
            keeps_head=True,
            ends_merge=merging is not None,
            undone_to=before if began is not None else None,
        )
        done = advance(locked, pack, request)
    commits = tuple(oid.hex() for oid in [*stand.made[:-1], *([done.head] if stand.made else ())])
    return RewriteResult(
        "rewritten" if done.head != start.head else "unchanged",
        locked.fork,
        start.head.hex(),
        done.head.hex(),
        commits if done.head != start.head else (),
        changed,
        saved=start.saved,
        warnings=join_warnings(done.warnings, start.warnings),
    )


def _put_all(
    locked: LockedWorkspace,
    sink: PackWriter | DryWriter,
    stand: _Stand,
    picked: Sequence[Oid],
    plan: _Plan,
    own: Mapping[str, Oid],
) -> _Unfit | None:
    """Put commits on another one, in memory; return the first that does not fit."""
    engine = open_engine(sink, plan.strategy, in_workspace=plan.in_workspace)
    for position, oid in enumerate(picked):
        commit = _read_own(sink, oid, own)
        if stand.newest is None and commit.parents == (stand.last,):  # it stands where it is to stand already
            stand.last, stand.tree = oid, commit.tree
            stand.made.append(oid)
            continue
        merged = _pick(sink, engine, stand.tree, oid, commit)
        if not merged.is_clean:
            return _Unfit(oid, commit, merged, picked[position + 1 :])
        _add_commit(locked, sink, stand, commit, merged.tree or sink.add_tree({}), plan)
    return None


def _refuse(unfit: _Unfit, *, is_stored: bool) -> CommitConflicts:
    """Make the error that names a commit that does not fit."""
    paths = [conflict.path for conflict in unfit.merged.conflicts]
    return CommitConflicts(unfit.oid.hex() if is_stored else None, _subject(unfit.commit), paths)


def _add_commit(
    locked: LockedWorkspace, pack: PackWriter | DryWriter, stand: _Stand, commit: Commit, tree: Oid, plan: _Plan
) -> None:
    """Make a commit anew with another tree, unless it changes nothing any more."""
    before = pack.read_commit(commit.parents[0]).tree if commit.parents else EMPTY_TREE
    if tree == stand.tree and commit.tree != before:
        return
    stand.tree = tree
    signature = locked.signature()
    sidecar = commit.sidecar if plan.kind == REBASE else None
    stand.newest = replace(commit, tree=tree, parents=(stand.last,), committer=signature, sidecar=sidecar, extra=())
    stand.last = pack.add_commit(stand.newest)
    stand.made.append(stand.last)


def _pick(pack: PackWriter | DryWriter, engine: MergeEngine, tree: Oid, oid: Oid, commit: Commit) -> MergedTrees:
    """Merge what a commit changed into a tree."""
    if len(commit.parents) > 1:
        raise InvalidInput(f"{_short(oid)} is a merge: what it changed is not told by one parent")
    before = pack.read_commit(commit.parents[0]).tree if commit.parents else None
    if before == tree:
        return MergedTrees(commit.tree, (), {})
    labels = Labels(
        _short(commit.parents[0]).encode() if commit.parents else b"empty tree",
        b"HEAD",
        f"{_short(oid)} ({_subject(commit)})".encode(),
    )
    return engine.merge_trees(before, tree, commit.tree, labels=labels)


def _stop(
    locked: LockedWorkspace,
    pack: PackWriter,
    start: Start,
    stand: _Stand,
    unfit: _Unfit,
    plan: _Plan,
    other: OtherSide | None,
) -> RewriteResult:
    """Put the conflicts of a commit into the workspace."""
    oid, commit, merged = unfit.oid, unfit.commit, unfit.merged
    made, left = [one.hex() for one in stand.made], [one.hex() for one in unfit.left]
    rewriting = Rewriting(plan.kind, plan.description, stand.last.hex(), made, left, plan.strategy.value)
    merging = Merging(
        f"{oid.hex()} ({_subject(commit)})", oid.hex(), start.head.hex(), commit.message, rewriting=rewriting
    )
    tree = merged.tree or pack.add_tree({})
    conflicts = describe_conflicts(pack, merged.conflicts)
    changed = tuple(diff_trees(pack, pack.read_commit(start.head).tree, tree, size_of=sizes_here(pack)))
    told = begin_merge(locked, pack, tree, merged.conflicts, merging, now=start.now, other=other)
    head = start.head.hex()
    return RewriteResult(
        "conflicted",
        locked.fork,
        head,
        head,
        tuple(made),
        changed,
        start.saved,
        oid.hex(),
        conflicts,
        warnings=join_warnings(told, start.warnings),
    )


def _read_own(store: ObjectSource, oid: Oid, own: Mapping[str, Oid]) -> Commit:
    """Read a commit with the sidecar that the fork had beside it: after a fast-forward it names that of the source."""
    commit = store.read_commit(oid)
    return replace(commit, sidecar=own.get(oid.hex(), commit.sidecar)) if commit.sidecar is not None else commit


def squash_commits(locked: LockedWorkspace, first: Oid, last: Oid, message: str | None) -> RewriteResult:
    """Make one commit of those after `first` up to `last`; those after them stand on it with the trees that they had.

    No file changes.

    Raises:
        InvalidInput: If the commits are not in a line that leads to the head.
        MergeInProgress: If the workspace is in the middle of a merge.
        HeadElsewhere: If git's HEAD in the live tree is not on the fork's branch.
        RefConflict: If the branch holds changes that the workspace has not seen, or moves meanwhile.
        WorkspaceBusy: If a command that runs in the live tree has changed something.
    """
    vault = locked.vault
    vault.prepare()
    check_not_merging(locked)
    check_head(vault, locked.fork)
    check_seen(locked)
    head = vault.read_head(locked.fork)
    above, squashed = _line(locked, head, first, last)
    check_recorded(locked)
    with suppress(FileChanging):  # the next operation records it
        record_changes(locked)
    record_moves(locked)  # of commits that the log does not have, undo gets no further
    signature = locked.signature()
    own = list_told_sidecars(vault, locked.fork)
    newest = _read_own(vault.store, squashed[0], own)
    messages = [vault.store.read_commit(oid).message.strip() for oid in reversed(squashed)]
    told = [text for text in messages if not is_bookkeeping(text)]
    text = message or "\n\n".join(told or messages)
    with PackWriter(vault.store) as pack:
        one = replace(newest, parents=(first,), committer=signature, message=text.rstrip("\n") + "\n", extra=())
        made = [pack.add_commit(one)]
        for oid in reversed(above):
            commit = _read_own(vault.store, oid, own)
            parents = (made[-1], *commit.parents[1:])
            made.append(pack.add_commit(replace(commit, parents=parents, committer=signature, extra=())))
        pack.finish(hold=True)
        assert head is not None  # noqa: S101 - the line leads to it
        change = RefChange(HEADS + locked.fork, head, made[-1])
        record = OpRecord(
            0,
            locked.fork,
            "squash",
            f"squash {len(squashed)} commits",
            vault.clock_ns(),
            moves=[(change.name, head.hex(), made[-1].hex())],  # no state after: the workspace may hold something else
        )
        vault.move_refs([*vault.hold(head), change], record)
    commits = tuple(oid.hex() for oid in made)
    return RewriteResult("rewritten", locked.fork, head.hex(), made[-1].hex(), commits)


def _line(locked: LockedWorkspace, head: Oid | None, first: Oid, last: Oid) -> tuple[list[Oid], list[Oid]]:
    """Walk first parents from the head.

    Give the commits after `last`, and those after `first` up to it, newest first.
    """
    read = locked.vault.store.read_commit
    above: list[Oid] = []
    squashed: list[Oid] = []
    here = head
    while here is not None and here != first and len(above) + len(squashed) < _LONGEST:
        if here == last or squashed:
            squashed.append(here)
        else:
            above.append(here)
        parents = read(here).parents
        here = parents[0] if parents else None
    if here != first or not squashed:
        raise InvalidInput(
            f"{quote(_short(first))}..{quote(_short(last))} is no line of commits that leads to the head of "
            f"{quote(locked.fork)}"
        )
    if any(len(read(oid).parents) > 1 for oid in squashed):
        raise InvalidInput("a merge among the commits cannot be squashed")
    return above, squashed


def _subject(commit: Commit) -> str:
    return commit.message.split("\n", 1)[0]


def _short(oid: Oid) -> str:
    return oid.hex()[:12]
