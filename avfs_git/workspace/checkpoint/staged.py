"""What git was told to take into history, and out of it, in a fork's live tree.

Decided here: a path in git's index was added, staged or committed, and is no longer beside history; what git took out
of it (`git rm --cached`, or `git reset` of what was only staged) leaves history with the next capture, if an ignore
rule names it. The fork's git directory keeps which files are in history by the index alone (`avfs-forced`), for git may
take them out again though no commit ever had them. Called with the workspace locked; only reads: each capture notes
`Heard.forced`. `list_staged` finds what only the index has, for the end of a fork.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Container, Iterator, Mapping, Sequence
from itertools import islice

from avfs_git.errors import MarkedUnchanged, SparseCheckout
from avfs_git.gitstore.compare.treediff import Entry, find_differences
from avfs_git.gitstore.formats.index import BadIndex, CachedTree, GitIndex, parse_cached_tree
from avfs_git.gitstore.formats.trees import EMPTY_TREE, MODE_GITLINK, MODE_TREE, find_entry
from avfs_git.gitstore.indexmarks import look_for_marks
from avfs_git.gitstore.source import ObjectSource
from avfs_git.model import ChangedFile, ChangeKind
from avfs_git.paths import Oid, TreePath
from avfs_git.values import NamedTuple
from avfs_git.workspace.capture.placing import IgnoreRules
from avfs_git.workspace.checkpoint.unseen import find_came_from
from avfs_git.workspace.opened.workspace import LockedWorkspace
from avfs_git.workspace.vault.format import HEADS
from avfs_git.workspace.vault.gitmoves import is_made_inside, list_passed, open_worktree
from avfs_git.workspace.vault.log.oprecord import REDO
from avfs_git.workspace.vault.vault import OpenVault

_LOOKED_AT = 100
"""So many of a fork's last operations tell how its branch went from a commit."""


class Heard(NamedTuple):
    """What git in a fork's live tree was told of history since the last capture."""

    added: frozenset[TreePath] = frozenset()
    """Files that are in history now."""
    removed: frozenset[TreePath] = frozenset()
    """Files that are not any more; an ignore rule names them."""
    forced: frozenset[TreePath] | None = None
    """Files that are in history because the index had them: ignored, or beside it before. None if it does not tell."""


def hear_git(locked: LockedWorkspace, source: ObjectSource, tracked: Oid, rules: IgnoreRules) -> Heard:
    """Find what git's index and its commits in a fork's live tree say otherwise than a tree of what is in history.

    Where avfs has moved the branch, and has yet to bring the index there, neither is git's word: what the last capture
    had beside history stays there, and the index says nothing by what it has as a commit in between. Costs reading the
    end of the index; where something is staged, all of it, and trees in which that is.
    """
    vault, store = locked.vault, locked.vault.store
    oid, head = locked.head()
    if oid is None or head is None:
        return Heard()
    is_beside = locked.opened.is_beside
    worktree = open_worktree(vault, locked.fork)
    has_moved, basis = worktree.basis()
    since = basis if has_moved else oid
    is_told = since is not None and worktree.has_index and worktree.find_head() is None
    came, gone = _compare_head(locked, source, oid, head.tree, tracked)
    if has_moved or not is_told:
        came, gone = {path for path in came if not is_beside(path)}, set()
    known = worktree.read_cached_tree() if is_told else None
    if since is None or not is_told:
        return Heard(frozenset(came))
    forced = worktree.read_forced()
    last, here = _Files(store, locked.opened.synced_trees()[0] or EMPTY_TREE), _Files(source, tracked)
    if known is not None and known.oid == store.read_commit(since).tree:
        held: Container[bytes] = _Files(store, known.oid)
        added = came
    else:
        try:
            index = worktree.read_entries(store.read_tree)
        except BadIndex:  # git itself will say so, and a file that stays out of history is not lost
            index = None
        if index is None:
            return Heard(frozenset(came))
        held = frozenset(index.paths)
        passed = [*list_passed(vault, locked.fork, since), since] if has_moved else []
        trees = [_Files(store, store.read_commit(commit).tree) for commit in dict.fromkeys(passed)]
        new = list_new_paths(source, index, tracked, with_promised=True)
        added = {path for path in came if has_moved or path in held}
        added |= {path for path in new if not any(path in tree for tree in trees)}
        lacking = (path for path in _list_files(vault, head.tree, known) if path not in held)
        gone = {path for path in gone if path not in held}
        gone |= {path for path in lacking if all(path in tree for tree in trees)}
    at_head = _Files(store, head.tree)  # what avfs has put there comes into the index yet
    left = {path for path in forced if path not in held and path not in at_head}
    if has_moved and forced and is_left_by_redo(vault, locked.fork, since):
        left |= {path for path in forced if path not in at_head}  # as when git moved the branch the first time
    gone |= left
    removed = frozenset(path for path in gone if path in here and rules.is_ignored(path, is_dir=False))
    still = {path for path in forced if path in held or path in last}
    still |= {path for path in added if is_beside(path) or rules.is_ignored(path, is_dir=False)}
    added |= {path for path in forced if path in held and path in last and path not in left}
    return Heard(frozenset(added), removed, frozenset(still))


def is_left_by_redo(vault: OpenVault, fork: str, commit: Oid) -> bool:
    """Tell whether a fork's branch went from a commit by a redo the last time: an undo leaves what was staged."""
    for record in islice(vault.oplog.read_fork(fork), _LOOKED_AT):
        if any(name == HEADS + fork and old == commit.hex() for name, old, _ in record.moves):
            return record.kind == REDO
    return False


class _Files:
    """The paths of a tree, as a set."""

    def __init__(self, store: ObjectSource, tree: Oid) -> None:
        self._store = store
        self._tree = tree

    def __contains__(self, path: object) -> bool:
        return isinstance(path, bytes) and find_entry(self._store, self._tree, TreePath(path)) is not None


def _compare_head(
    locked: LockedWorkspace, source: ObjectSource, oid: Oid, tree: Oid, tracked: Oid
) -> tuple[set[TreePath], set[TreePath]]:
    """List the files that only the branch's commit has in history, and what git has taken out with that commit.

    A commit that another process has put on the branch says nothing of the files here.
    """
    is_of_git = tree != tracked and is_made_inside(locked.vault, locked.fork, oid)
    if tree == tracked or not (is_of_git or oid in find_came_from(locked)[0][:1]):  # else avfs has brought it there
        return set(), set()
    found = find_differences(source, tracked, tree).items()
    came = {path for path, (was, now) in found if was is None and now is not None and now[0] != MODE_GITLINK}
    gone = {path for path, (was, now) in found if was is not None and now is None and was[0] != MODE_GITLINK}
    return came, gone if is_of_git else set()


def _list_files(vault: OpenVault, tree: Oid, known: CachedTree | None) -> Iterator[TreePath]:
    """Yield the files of a tree in directories that may not be as an index has them."""
    waiting = [(b"", tree, known)]
    while waiting:
        prefix, here, node = waiting.pop()
        if node is not None and node.oid == here:
            continue
        for name, (mode, oid) in vault.store.read_tree(here).items():
            if mode == MODE_TREE:
                waiting.append((prefix + name + b"/", oid, node.below.get(name) if node is not None else None))
            elif mode != MODE_GITLINK:
                yield TreePath(prefix + name)


def list_staged(vault: OpenVault, fork: str) -> Mapping[TreePath, Entry]:
    """List what git was told to add in a fork's live tree and the branch has not, as entries of a tree.

    Entries in conflict are those of commits, and do not count. Costs reading the index, and trees in which something is
    staged.
    """
    worktree = open_worktree(vault, fork)
    head = vault.read_head(fork)
    try:
        index = worktree.read_entries(vault.store.read_tree)
        if index is None:
            return {}
        _, basis = worktree.basis()
        trees = [vault.store.read_commit(commit).tree for commit in dict.fromkeys((head, basis)) if commit is not None]
        return {
            path: held
            for path, held in _list_entries(vault.store, index, trees)
            if vault.store.exists(held[1]) and all(find_entry(vault.store, tree, path) != held for tree in trees)
        }
    except BadIndex:
        return {}


def list_new_paths(
    source: ObjectSource, index: GitIndex, tree: Oid, *, with_promised: bool = False
) -> Mapping[TreePath, Entry]:
    """List the files of an index at paths where a tree has nothing; costs what `list_staged` does.

    It leaves out what that does, too, but for what is only promised, if wanted.
    """
    found = _list_entries(source, index, [tree], with_promised=with_promised)
    return {path: held for path, held in found if find_entry(source, tree, path) is None}


def _list_entries(
    source: ObjectSource, index: GitIndex, trees: Sequence[Oid], *, with_promised: bool = False
) -> Iterator[tuple[TreePath, Entry]]:
    """Yield the files of an index in directories that may not be as in a tree, and what is only promised, if wanted."""
    known = parse_cached_tree(index.extensions[b"TREE"]) if b"TREE" in index.extensions else None
    for first, last in _list_other(source, index.paths, known, trees):
        for entry in map(index.entry, range(first, last)):
            if not entry.stage and entry.mode != MODE_GITLINK and (with_promised or not entry.is_promised):
                yield TreePath(entry.path), (entry.mode, entry.oid)


def refuse_left_out(vault: OpenVault, fork: str, changed: Sequence[ChangedFile], *, by_programs: bool) -> None:
    """Refuse to record the removal of files that git left out of a live tree, or edits it was told not to commit.

    Such an edit stays in the tree only. `by_programs`: programs changed the files, not an operation of avfs. Costs
    reading the index, if it may have an entry with such a mark (`skip-worktree`, `assume-unchanged`) and is another
    than the last time.

    Raises:
        SparseCheckout, MarkedUnchanged: If there is such a file.
    """
    kinds = {each.path: each.kind for each in changed if each.kind is not ChangeKind.ADDED}
    worktree = open_worktree(vault, fork)
    if not kinds or not worktree.is_there or not look_for_marks(worktree.index).leaves_out:
        return
    try:
        index = worktree.read_entries(vault.store.read_tree)
    except BadIndex:
        return
    at = {path: number for number, path in enumerate(index.paths)} if index is not None else {}
    entries = [(path, index.entry(at[path])) for path in kinds if path in at] if index is not None else []
    marked = [path for path, entry in entries if entry.is_left_out]
    removed = [path for path in marked if kinds[path] is ChangeKind.DELETED]
    if removed:
        raise SparseCheckout(removed[0], len(removed))
    if marked and by_programs and not worktree.is_sparse:
        raise MarkedUnchanged(marked[0], len(marked), "skip-worktree")
    assumed = [path for path, entry in entries if entry.is_assumed]
    if assumed and by_programs:
        raise MarkedUnchanged(assumed[0], len(assumed), "assume-unchanged")


def _list_other(
    source: ObjectSource, paths: Sequence[bytes], known: CachedTree | None, trees: Sequence[Oid]
) -> list[tuple[int, int]]:
    """List the ranges of an index that are not, by what it says of its directories, as in a tree."""
    ranges: list[tuple[int, int]] = []
    waiting = [(b"", known, 0, len(paths), frozenset(trees))]
    while waiting:
        prefix, node, first, last, here = waiting.pop()
        if node is not None and node.oid in here:
            continue
        inside: list[tuple[int, int]] = []
        for name, below in node.below.items() if node is not None else ():
            path = prefix + name
            # "0" comes after "/"
            begin, end = (bisect_left(paths, path + after, first, last) for after in (b"/", b"0"))
            entries = [source.read_tree(tree).get(name) for tree in here]
            waiting.append(
                (path + b"/", below, begin, end, frozenset(one[1] for one in entries if one and one[0] == MODE_TREE))
            )
            inside.append((begin, end))
        for begin, end in sorted(inside):
            ranges.append((first, begin))
            first = end
        ranges.append((first, last))
    return [(begin, end) for begin, end in ranges if begin < end]
