"""Rewriting the history of a fork: single commits put on another state, a fork moved onto another base, many commits made one.

Decided here: which commits are put on again, what each keeps, and that nothing happens unless all of them fit. A commit is
put on another state as git does it: what it changed from its first parent is merged with what is there. It keeps
its author and its message. One that changes nothing there is left out, unless it changed nothing in the first place;
merges are left out, because what they brought is in the commits that are put on. The ignored files of the workspace
stay as they are; a commit of the fork itself that is put on again still names the sidecar it had, so that going back to it
brings back what was beside it.

The new commits are made in memory; the workspace and the branch then move on in one step (`advance`), which can be
undone. A conflict is an error that names the commit, and changes nothing. Called with the workspace lock held.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from avfs_git.errors import CommitConflicts, InvalidInput, quote
from avfs_git.gitstore.commits import Commit, serialize_commit
from avfs_git.gitstore.merge import CommitMerger
from avfs_git.gitstore.mergebase import find_merge_bases, is_ancestor
from avfs_git.gitstore.mergefile import Favor, Labels
from avfs_git.gitstore.objects import KIND_COMMIT
from avfs_git.gitstore.packwriter import PackWriter
from avfs_git.gitstore.refs import RefChange
from avfs_git.gitstore.treediff import diff_trees
from avfs_git.gitstore.trees import EMPTY_TREE
from avfs_git.model import MergeStrategy, RewriteResult
from avfs_git.paths import Oid
from avfs_git.workspace.advance import advance
from avfs_git.workspace.checkpoint import check_not_merging, tidy_packs
from avfs_git.workspace.format import HEADS
from avfs_git.workspace.merge import Start, save_target
from avfs_git.workspace.oplog import OpRecord
from avfs_git.workspace.workspace import LockedWorkspace

_LONGEST = 10_000
"""Commits that are put on again at once; more is taken for a mistake."""


def pick_commits(locked: LockedWorkspace, picked: Sequence[Oid], strategy: MergeStrategy) -> RewriteResult:
    """Put what single commits changed onto a fork, in the order in which they are given.

    Raises:
        CommitConflicts: If one does not fit; nothing is changed then.
        MergeInProgress: If the workspace is in the middle of a merge.
        HostError: If the disk refuses; the fork is as it was.
    """
    start = save_target(locked, "save before cherry-pick")
    what = _short(picked[0]) if len(picked) == 1 else f"{len(picked)} commits"
    return _put_on(locked, start, start.head, picked, strategy, kind="cherry_pick", description=f"cherry-pick {what}")


def rebase(locked: LockedWorkspace, onto: Oid, name: str, strategy: MergeStrategy) -> RewriteResult:
    """Put the commits that only a fork has onto another commit.

    Raises:
        CommitConflicts: If one does not fit; nothing is changed then.
        MergeInProgress: If the workspace is in the middle of a merge.
        HostError: If the disk refuses; the fork is as it was.
    """
    start = save_target(locked, f"save before rebase onto {name}")
    own = _own_commits(locked, start.head, onto)
    return _put_on(locked, start, onto, own, strategy, kind="rebase", description=f"rebase onto {name}", keeps_sidecars=True)


def _own_commits(locked: LockedWorkspace, head: Oid, onto: Oid) -> list[Oid]:
    """List the commits that lead to a head and not to another commit, the oldest first, without merges."""
    read = locked.vault.store.read_commit
    ends = set(find_merge_bases(read, head, onto))
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
    return [oid for oid in order if len(read(oid).parents) <= 1 and not any(is_ancestor(read, oid, end) for end in ends)]


def _put_on(
    locked: LockedWorkspace,
    start: Start,
    onto: Oid,
    picked: Sequence[Oid],
    strategy: MergeStrategy,
    *,
    kind: str,
    description: str,
    keeps_sidecars: bool = False,
) -> RewriteResult:
    vault = locked.vault
    pack = PackWriter(vault.store)
    try:
        merger = CommitMerger(pack, favor=Favor(strategy.value))
        last, tree = onto, vault.store.read_commit(onto).tree
        made: list[Oid] = []
        renewed: Commit | None = None
        for oid in picked:
            commit = vault.store.read_commit(oid)
            if renewed is None and commit.parents == (last,):  # it stands where it is to stand already
                last, tree = oid, commit.tree
                made.append(oid)
                continue
            result = _pick(pack, merger, tree, oid, commit)
            before = vault.store.read_commit(commit.parents[0]).tree if commit.parents else EMPTY_TREE
            if result == tree and commit.tree != before:
                continue
            tree = result
            signature = vault.signature()
            sidecar = commit.sidecar if keeps_sidecars else None
            renewed = replace(commit, tree=tree, parents=(last,), committer=signature, sidecar=sidecar, extra=())
            last = pack.add(KIND_COMMIT, serialize_commit(renewed))
            made.append(last)
        changed = tuple(diff_trees(pack, vault.store.read_commit(start.head).tree, tree, size_of=pack.blob_size))
        if last == start.head:
            return RewriteResult("unchanged", locked.fork, start.head.hex(), start.head.hex(), (), saved=start.saved)
        newest = renewed

        def make_head(sink: PackWriter, sidecar: Oid | None) -> Oid:
            if newest is None:
                return last
            # What was put on last names the sidecar of the present.
            return sink.add(KIND_COMMIT, serialize_commit(replace(newest, sidecar=sidecar)))

        done = advance(
            locked, pack, tree, make_head, head=start.head, now=start.now, kind=kind, description=description, keeps_head=True
        )
    finally:
        pack.discard()
    commits = tuple(oid.hex() for oid in [*made[:-1], *([done.head] if made else ())])
    return RewriteResult(
        "rewritten",
        locked.fork,
        start.head.hex(),
        done.head.hex(),
        commits,
        changed,
        saved=start.saved,
        warnings=(*done.warnings, *tidy_packs(vault)),
    )


def _pick(pack: PackWriter, merger: CommitMerger, tree: Oid, oid: Oid, commit: Commit) -> Oid:
    """Merge what a commit changed into a tree."""
    if len(commit.parents) > 1:
        raise InvalidInput(f"{_short(oid)} is a merge: what it changed is not told by one parent")
    before = pack.read_commit(commit.parents[0]).tree if commit.parents else None
    if before == tree:
        return commit.tree
    subject = commit.message.split("\n", 1)[0]
    labels = Labels(
        _short(commit.parents[0]).encode() if commit.parents else b"empty tree", b"HEAD", f"{_short(oid)} ({subject})".encode()
    )
    merged = merger.merge_trees(before, tree, commit.tree, labels=labels)
    if not merged.is_clean:
        raise CommitConflicts(oid.hex(), subject, [conflict.path for conflict in merged.conflicts])
    return merged.tree if merged.tree is not None else pack.add_tree({})


def squash_commits(locked: LockedWorkspace, first: Oid, last: Oid, message: str | None) -> RewriteResult:
    """Make one commit of those after `first` up to `last`; those after them stand on it with the trees that they had.

    No file changes.

    Raises:
        InvalidInput: If the commits are not in a line that leads to the head.
        MergeInProgress: If the workspace is in the middle of a merge.
        RefConflict: If the branch moves meanwhile.
    """
    vault = locked.vault
    vault.prepare()
    check_not_merging(locked)
    head = vault.read_head(locked.fork)
    above, squashed = _line(locked, head, first, last)
    signature = vault.signature()
    newest = vault.store.read_commit(squashed[0])
    text = message or "\n\n".join(vault.store.read_commit(oid).message.strip() for oid in reversed(squashed))
    pack = PackWriter(vault.store)
    try:
        one = replace(newest, parents=(first,), committer=signature, message=text.rstrip("\n") + "\n", extra=())
        made = [pack.add(KIND_COMMIT, serialize_commit(one))]
        for oid in reversed(above):
            commit = vault.store.read_commit(oid)
            parents = (made[-1], *commit.parents[1:])
            made.append(pack.add(KIND_COMMIT, serialize_commit(replace(commit, parents=parents, committer=signature, extra=()))))
        pack.finish(hold=True)
        assert head is not None  # noqa: S101 - the line leads to it
        change = RefChange(HEADS + locked.fork, head, made[-1])
        record = OpRecord(
            0,
            locked.fork,
            "squash",
            f"squash {len(squashed)} commits",
            vault.clock_ns(),
            moves=[(change.name, head.hex(), made[-1].hex())],
            after=made[-1].hex(),
        )
        vault.move_refs([*vault.keep(head), change], record)
    finally:
        pack.discard()
    commits = tuple(oid.hex() for oid in made)
    return RewriteResult("rewritten", locked.fork, head.hex(), made[-1].hex(), commits, warnings=tuple(tidy_packs(vault)))


def _line(locked: LockedWorkspace, head: Oid | None, first: Oid, last: Oid) -> tuple[list[Oid], list[Oid]]:
    """Walk first parents from the head; give the commits after `last`, and those after `first` up to it, newest first."""
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
            f"{quote(_short(first))}..{quote(_short(last))} is no line of commits that leads to the head of {quote(locked.fork)}"
        )
    if any(len(read(oid).parents) > 1 for oid in squashed):
        raise InvalidInput("a merge among the commits cannot be squashed")
    return above, squashed


def _short(oid: Oid) -> str:
    return oid.hex()[:12]
