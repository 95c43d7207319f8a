"""What git was told to take into history, and out of it, in a fork's live tree.

Decided here: a path in git's index was added, staged or committed, and is no longer beside history; what git took out
of it (`git rm --cached`) leaves history with the next capture, if an ignore rule names it. A capture asks about the
first only for files that are beside history and that no rule ignores. The first such question reads the index, whose
length is that of the tree; it is in memory for one capture. Called with the workspace locked; only reads. `list_staged`
finds what only the index has, for the end of a fork.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping, Sequence

from avfs_git.errors import MarkedUnchanged, SparseCheckout
from avfs_git.gitstore.compare.treediff import Entry
from avfs_git.gitstore.formats.index import BadIndex, CachedTree, GitIndex, parse_cached_tree
from avfs_git.gitstore.formats.trees import MODE_GITLINK, MODE_TREE, find_entry
from avfs_git.gitstore.indexmarks import look_for_marks
from avfs_git.gitstore.merge.bases import is_ancestor
from avfs_git.model import ChangedFile, ChangeKind
from avfs_git.paths import Oid, TreePath
from avfs_git.workspace.capture.placing import IgnoreRules
from avfs_git.workspace.vault.gitmoves import list_passed, open_worktree
from avfs_git.workspace.vault.vault import OpenVault


class StagedPaths:
    """The paths in the index of one fork."""

    def __init__(self, vault: OpenVault, fork: str) -> None:
        self._vault = vault
        self._fork = fork
        self._paths: frozenset[bytes] | None = None
        self._held: list[Oid] | None = None

    def holds(self, path: TreePath) -> bool:
        """Whether git was told to add a path."""
        if self._paths is None:
            self._paths = self._read()
        if path not in self._paths:
            return False
        # An index that avfs has yet to bring up also says what the branch held before, which may have been undone.
        return all(find_entry(self._vault.store, tree, path) is None for tree in self._list_held())

    def _list_held(self) -> list[Oid]:
        """List the trees of commits that an index has which avfs has yet to bring up."""
        if self._held is None:
            store, worktree = self._vault.store, open_worktree(self._vault, self._fork)
            has_moved, basis = worktree.basis()
            commits = [basis] if has_moved and basis is not None else []
            for logged in worktree.read_heads()[-1:] if commits else ():  # git may have committed there since
                if store.exists(logged.new) and is_ancestor(store, commits[0], logged.new):
                    commits.append(logged.new)
            self._held = [store.read_commit(commit).tree for commit in commits]
        return self._held

    def _read(self) -> frozenset[bytes]:
        try:
            index = open_worktree(self._vault, self._fork).read_entries(self._vault.store.read_tree)
            return frozenset(index.paths) if index is not None else frozenset()
        except BadIndex:  # git itself will say so, and a file that stays out of history is not lost
            return frozenset()


def list_removed(
    vault: OpenVault, fork: str, head: Oid, rules: IgnoreRules, is_beside: Callable[[TreePath], bool]
) -> frozenset[TreePath]:
    """List the files of the branch's commit that git was told to take out of history in a fork's live tree.

    Only ignored files: `git add -A` adds others again. Costs reading the end of the index, and trees in which something
    is staged; all of both where the index does not say in which.
    """
    worktree = open_worktree(vault, fork)
    if not worktree.has_index or worktree.find_head() is not None:
        return frozenset()
    has_moved, basis = worktree.basis()
    since = basis if has_moved else head
    known = worktree.read_cached_tree()
    if since is None or (known is not None and known.oid == vault.store.read_commit(since).tree):
        return frozenset()
    tree = vault.store.read_commit(head).tree
    found = _list_files(vault, tree, known)
    if known is not None:
        found = (path for path in found if rules.is_ignored(path, is_dir=False))
    removed = frozenset(found)
    try:
        index = worktree.read_entries(vault.store.read_tree) if removed else None
    except BadIndex:
        return frozenset()
    lacking = removed.difference(map(TreePath, index.paths)) if index is not None else frozenset[TreePath]()
    if not lacking:
        return lacking
    # What another commit lacks that avfs has had since is no removal by git: that index will follow, but for what an
    # undone one put beside history.
    store = vault.store
    passed = dict.fromkeys((*list_passed(vault, fork, since), since)) if has_moved else {}
    trees = [(store.read_commit(commit).tree, is_ancestor(store, commit, head)) for commit in passed]
    return frozenset(
        path
        for path in lacking
        if all(find_entry(store, there, path) or (not is_held and is_beside(path)) for there, is_held in trees)
    )


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
            for path, held in _list_entries(vault, index, trees)
            if vault.store.exists(held[1]) and all(find_entry(vault.store, tree, path) != held for tree in trees)
        }
    except BadIndex:
        return {}


def list_new_paths(vault: OpenVault, index: GitIndex, tree: Oid) -> Mapping[TreePath, Entry]:
    """List the files of an index at paths where a tree has nothing; costs and leaves out what `list_staged` does."""
    found = _list_entries(vault, index, [tree])
    return {path: held for path, held in found if find_entry(vault.store, tree, path) is None}


def _list_entries(vault: OpenVault, index: GitIndex, trees: Sequence[Oid]) -> Iterator[tuple[TreePath, Entry]]:
    """Yield the files of an index in directories that may not be as in a tree."""
    known = parse_cached_tree(index.extensions[b"TREE"]) if b"TREE" in index.extensions else None
    for first, last in _list_other(vault, index.paths, known, trees):
        for entry in map(index.entry, range(first, last)):
            if not entry.stage and entry.mode != MODE_GITLINK and not entry.is_promised:
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
    vault: OpenVault, paths: Sequence[bytes], known: CachedTree | None, trees: Sequence[Oid]
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
            entries = [vault.store.read_tree(tree).get(name) for tree in here]
            waiting.append(
                (path + b"/", below, begin, end, frozenset(one[1] for one in entries if one and one[0] == MODE_TREE))
            )
            inside.append((begin, end))
        for begin, end in sorted(inside):
            ranges.append((first, begin))
            first = end
        ranges.append((first, last))
    return [(begin, end) for begin, end in ranges if begin < end]
