"""Git inside a live tree: what makes a mounted workspace a working tree of its vault.

Decided here: what the index says of each file, when it is made, and what it says after avfs has moved the branch. A
session calls `GitDir.show` before it serves, and lets the kernel forget what `.git` holds after each operation that may
have moved the branch. The tree calls `bring_up` before it answers a reader of `.git`, which git reads first;
`proxy.exec.execute` has the kernel hold back a program that opens it in a command (`bring_up_within`).
`OpenVault.move_refs` notes where a branch stood before it moves, mounted or not.

The index is made when git first asks, not when the tree is mounted or a command begins: it costs what the tree has,
they must not. From then on it is git's. When avfs moves the branch, the commit at which avfs knew it last is
remembered, and the next git that comes waits until what differs from there is brought up: else it would show the way
back as staged. An entry as that commit has it, or a commit by which the branch came since, is not staged; what programs
have staged otherwise stays staged.

An index of a workspace without changes is kept for others (`madeindexes`).

Stat data stand in the index only for a file that is known to hold the entry's blob: one that the lower layer shows with
that id, or one of the upper layer whose fingerprint is that of the last capture. Git looks at all others. The time of
the index is that of the moment before the first look, so that git also looks at what changes while it is made.

Everything on disk is done with the workspace locked, which excludes checkpoints; git itself is excluded by
`index.lock`.
"""

from __future__ import annotations

import os
import stat
import time
from bisect import bisect_left
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from avfs_git.errors import HostError
from avfs_git.faults import reach
from avfs_git.gitstore.bounds import Bound
from avfs_git.gitstore.compare.treediff import Entry, diff_trees, find_differences
from avfs_git.gitstore.formats.index import (
    NO_STAT,
    BadIndex,
    CachedTree,
    ForeignIndex,
    GitIndex,
    IndexWriter,
    Move,
    Staged,
    make_stat,
    move_entries,
)
from avfs_git.gitstore.formats.packfile import KIND_BLOB
from avfs_git.gitstore.formats.trees import EMPTY_TREE, MODE_GITLINK, MODE_TREE, find_entry
from avfs_git.gitstore.merge.bases import is_ancestor
from avfs_git.gitstore.objects.packwriter import PackWriter
from avfs_git.gitstore.source import Tree
from avfs_git.gitstore.worktree import IndexBusy
from avfs_git.host.files.closing import closing_fd
from avfs_git.host.files.durable import host_errors, write_all
from avfs_git.lazy import LazyLogger
from avfs_git.model import ChangedFile, ChangeKind, MergeStrategy
from avfs_git.paths import ROOT, Oid, TreePath, join, oid_of, split
from avfs_git.values import replace
from avfs_git.vfs.layer.lower import LowerEntry, LowerTree, Stored, find_redirected
from avfs_git.vfs.layer.readers import UpperReader
from avfs_git.vfs.scan.scan import DIRECTORY, FILE, SYMLINK, Found
from avfs_git.vfs.scan.statcache import StatCache, is_same_entry, take_fingerprint
from avfs_git.vfs.tree.mounted import MountedTree
from avfs_git.workspace.gitlinks import prepare_tree
from avfs_git.workspace.opened.workspace import OpenWorkspace
from avfs_git.workspace.vault.format import HEADS
from avfs_git.workspace.vault.gitmoves import GIT_LINK, is_link_removed, list_passed, open_worktree

_LOG = LazyLogger(__name__)
_TRIES = 3


def _put_back(mounted: MountedTree, content: bytes) -> None:
    """Make the file `.git` of a tree on overlayfs again, as a program does: removing it left a whiteout.

    What is there stays.
    """
    flags, root = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mounted.upper.root.fd
    what = f"make '{mounted.upper.directory}/.git'"
    with host_errors(what), suppress(FileExistsError), closing_fd(os.open(".git", flags, 0o644, dir_fd=root)) as fd:
        write_all(fd, content)


def _go_on() -> None:
    """End nothing."""


class GitDir:
    """The git directory of one live tree."""

    def __init__(self, opened: OpenWorkspace) -> None:
        self.opened = opened
        self.worktree = open_worktree(opened.vault, opened.fork)

    def show(self, directory: Path) -> None:
        """Make the tree one in which git works: it shows a file `.git`. Called before anything is served."""
        opened = self.opened
        content = prepare_tree(opened, directory)
        opened.merged.nodes.show_git_file(content, opened.vault.clock_ns(), self.bring_up)

    def renew(self, directory: Path) -> bool:
        """Make it anew, with an index, where another program has removed it; tell whether it was gone."""
        with self.opened.locked():
            if self.worktree.is_there:
                return False
            content = prepare_tree(self.opened, directory)
            if (mounted := self.opened.mounted) is not None:
                _put_back(mounted, content)
            self.bring_up_within()
        return True

    def put_back_link(self) -> None:
        """Make the file `.git` of a tree on overlayfs again, if a program has removed it.

        What it put there instead stays.

        Raises:
            WorkspaceBusy: If another thread holds the workspace for too long.
            MountError: If the tree is out of sight.
        """
        opened = self.opened
        if not is_link_removed(opened.layout):
            return
        with opened.locked():
            place = opened.layout.root / GIT_LINK
            with host_errors(f"read '{place}'"):
                content = place.read_bytes()
            if (mounted := opened.mounted) is not None:
                _put_back(mounted, content)

    def bring_up(self) -> bool:
        """Make the index, or bring it to where avfs has moved the branch. Takes long only if there is much to do.

        From any thread that does not hold the workspace. False if git holds the index, which stays as it is: the next
        git has to ask again.

        Raises:
            AvfsError: If the workspace, an object or the disk fails: git must not go on with an index that shows a
                commit as if its opposite was staged.
        """
        with self.opened.locked():
            return self.bring_up_within()

    def bring_up_within(self, check: Callable[[], None] = _go_on) -> bool:
        """Do what `bring_up` does, for a caller that holds the workspace and is in the middle of changing it.

        `check` is called for each directory of an index that is made; what it raises ends that, and the index stays as
        it was.
        """
        for _ in range(_TRIES):
            try:
                self._bring_up(check)
            except IndexBusy as busy:
                if busy.is_locked:
                    break
            else:
                return True
        # Git itself is at it, or died and left its lock, which is for its user to see to.
        _LOG.warning("git holds the index of '%s': it stays as it is", self.opened.fork)
        return False

    def is_behind(self) -> bool:
        """Whether `bring_up` would have anything to do. Costs a look at two files."""
        return self.worktree.basis()[0] or not self.worktree.has_index

    def _bring_up(self, check: Callable[[], None]) -> None:
        opened, worktree = self.opened, self.worktree
        vault = opened.vault
        has_moved, basis = worktree.basis()
        if worktree.branch() != HEADS + opened.fork:
            return  # what the index lacks, git carries over until it comes back to this branch
        found = worktree.read_index()
        head = vault.read_head(opened.fork)
        has_none = found is None or not found[0].strip(b"\0")
        if found is None or has_none:
            if head is not None:
                self._make_index(head, found[1] if found else None, check)
        elif has_moved:  # also where the branch is at that commit again, as after undo of a commit of git's
            changes = diff_trees(vault.store, self._tree(basis), self._tree(head))
            try:
                index = worktree.read_entries(vault.store.read_tree, found[0])
                data = None
                if index is not None:
                    data = move_entries(index, self._with_stats(self._with_staged(index, changes, basis, head)))
            except ForeignIndex:
                _LOG.warning("the index of '%s' has an unknown extension: it stays as it is", opened.fork)
                return
            except BadIndex:
                data = None
                if head is not None:
                    self._make_index(head, found[1], check)
            if data is not None:
                # The time of the old one: what git would have looked at with that, it has to look at with this one.
                worktree.replace_index(data, instead_of=found[1], mtime_ns=found[1].st_mtime_ns)
        reach("gitdir.index_replaced")
        if vault.find_followed(opened.fork, head) == head:
            worktree.clear_basis()
        elif has_moved or has_none:
            worktree.note_basis(head)

    def _with_stats(self, moves: Sequence[Move]) -> Iterator[Move]:
        """Add the stat data of files that are as the last capture found them, with what their entries get.

        Without, commands of git's that do not look at files themselves (`git diff-index`) take them for changed.
        """
        opened = self.opened
        tree, cache, upper = opened.synced_trees()[0], opened.cache, UpperReader(opened.upper)
        for move in moves:
            directory, name = split(TreePath(move.path))
            held = (cache.directory(directory) or {}).get(name) if cache is not None and move.new is not None else None
            found = upper.find(directory, name) if held is not None else None
            if (
                tree is not None
                and move.new is not None
                and found is not None
                and found.kind in (FILE, SYMLINK)
                and is_same_entry(held, take_fingerprint(found.stat))
                and find_entry(opened.vault.store, tree, TreePath(move.path)) == move.new
            ):
                yield move._replace(stat=make_stat(move.new[0], found.stat.st_size, found.stat.st_mtime_ns))
            else:
                yield move

    def _with_staged(
        self, index: GitIndex, changes: Sequence[ChangedFile], basis: Oid | None, head: Oid | None
    ) -> list[Move]:
        """Have files that are staged otherwise than in both commits follow as far as their lines can, renamed or not.

        What was staged in them stays staged; without what has come to the branch, the next commit takes that back. As a
        commit in between has it, a file is not staged: git put it there, by a commit, reset or checkout. What is beside
        history stays out of the index where an undone commit had it so, and what git was told to add stays in it.
        """
        moves: dict[bytes, Move] = {change.path: _as_move(change) for change in changes}
        self._leave_placed(moves, basis, head)
        there = self._tree(head)
        for commit in list_passed(self.opened.vault, self.opened.fork, basis):
            passed: dict[bytes, Move] = {
                path: Move(path, *entries)
                for path, entries in find_differences(self.opened.vault.store, self._tree(commit), there).items()
            }
            self._leave_placed(passed, commit, head)
            for path, move in passed.items():
                if _is_as(index, path, move.old) and not (path in moves and _is_as(index, path, moves[path].old)):
                    moves[path] = move
        changes = [change for change in changes if change.path in moves]
        held = {path: (found.mode, found.oid) for path in moves if (found := _find_staged(index, path)) is not None}
        staged = {path for path, entry in held.items() if entry not in (moves[path].old, moves[path].new)}
        taken_out = [
            change
            for change in changes
            if None not in (moves[change.path].old, moves[change.path].new) and not _holds(index, change.path)
        ]
        if not staged and not taken_out:
            return list(moves.values())
        followed = dict(moves)
        with PackWriter(self.opened.vault.store) as pack:
            self._follow_moved(pack, followed, index, taken_out, basis)
            self._follow_staged(pack, followed, held, staged, changes)
            pack.finish()
        return list(followed.values())

    def _leave_placed(self, moves: dict[bytes, Move], commit: Oid | None, head: Oid | None) -> None:
        """Leave out what comes back to history from a commit that was undone, and is beside it still.

        So stays what leaves the branch's commit by an undo, and is in history still because the index has it.
        """
        store, opened = self.opened.vault.store, self.opened
        if commit is None or head is None or is_ancestor(store, commit, head):
            return
        from avfs_git.workspace.checkpoint.staged import is_left_by_redo  # noqa: PLC0415 - not before the tree can be used

        forced, tracked = self.worktree.read_forced(), opened.synced_trees()[0] or EMPTY_TREE
        for path, move in [(TreePath(path), move) for path, move in moves.items()]:
            if move.new is None and path in forced:
                if find_entry(store, tracked, path) is not None:
                    if not is_left_by_redo(opened.vault, opened.fork, commit):
                        del moves[path]
                else:
                    self.worktree.note_forced(forced := forced - {path})
            elif move.old is None and move.new is not None and opened.is_beside(path):
                del moves[path]

    def _follow_moved(
        self,
        pack: PackWriter,
        followed: dict[bytes, Move],
        index: GitIndex,
        taken_out: Sequence[ChangedFile],
        basis: Oid | None,
    ) -> None:
        """Give what has come to files that git was told to move (`git mv`) to their new names, where they are new."""
        tree = self._tree(basis)
        if not taken_out or tree is None:
            return
        from avfs_git.gitstore.compare.renames import detect_renames  # noqa: PLC0415 - not before the tree can be used
        from avfs_git.workspace.checkpoint.staged import list_new_paths  # noqa: PLC0415 - neither

        new = {
            path: held
            for path, held in list_new_paths(self.opened.vault.store, index, tree).items()
            if path not in followed
        }
        gone = [replace(change, kind=ChangeKind.DELETED) for change in taken_out]
        came = [
            ChangedFile(path, ChangeKind.ADDED, new_mode=mode, new_oid=oid.hex()) for path, (mode, oid) in new.items()
        ]
        for change in detect_renames(self.opened.vault.store, [*gone, *came]):
            move = followed[change.old_path] if change.old_path is not None else None
            if move is not None and move.old is not None and move.new is not None:
                held = new[TreePath(change.path)]
                followed[change.path] = Move(change.path, held, self._merge_staged(pack, move.old, held, move.new))

    def _follow_staged(
        self,
        pack: PackWriter,
        followed: dict[bytes, Move],
        held: Mapping[bytes, Entry],
        staged: Collection[bytes],
        changes: Sequence[ChangedFile],
    ) -> None:
        """Give what has come to files that are staged otherwise to them, also under another name."""
        from avfs_git.gitstore.compare.renames import detect_renames  # noqa: PLC0415 - not before the tree can be used

        moves = {change.path: _as_move(change) for change in changes}
        as_staged = [
            replace(change, new_mode=held[change.path][0], new_oid=held[change.path][1].hex())
            if change.path in staged and change.kind is ChangeKind.ADDED
            else change
            for change in changes
        ]
        # Reading what came and went is only for staged files among that: a partial clone would have to fetch it.
        is_renamed = any(None in (moves[path].old, moves[path].new) for path in staged)
        renamed = detect_renames(self.opened.vault.store, as_staged) if is_renamed else []
        origins = {change.path: change.old_path or change.path for change in renamed}
        for path, move in moves.items():
            origin = origins.get(path, path)
            at = path if path in staged else origin
            base = moves[origin].old
            if at not in staged or base is None or move.new is None or (at != path and path in held):
                continue
            followed[path] = Move(path, held.get(path), self._merge_staged(pack, base, held[at], move.new))
            if at != path:
                followed[at] = Move(at, held[at], None)

    def _merge_staged(self, pack: PackWriter, base: Entry, ours: Entry, theirs: Entry) -> Entry:
        """Give what is staged what has come to the branch; in the lines that both changed it stays."""
        from avfs_git.gitstore.merge.engine import Labels  # noqa: PLC0415 - not before the tree can be used
        from avfs_git.gitstore.merge.files import FileMerger  # noqa: PLC0415 - neither

        if ours == base or not all(stat.S_ISREG(mode) for mode, _ in (base, ours, theirs)):
            return theirs if ours == base else ours
        mode = theirs[0] if ours[0] == base[0] else ours[0]
        if base[1] in (ours[1], theirs[1]):
            return mode, theirs[1] if ours[1] == base[1] else ours[1]
        store = self.opened.vault.store
        was, staged, came = (store.read_blob(oid) for _, oid in (base, ours, theirs))
        merged = FileMerger(favor=MergeStrategy.OURS).merge(was, staged, came, Labels(b"", b"", b"")).content
        return mode, theirs[1] if merged == came else pack.add(KIND_BLOB, merged)

    def _tree(self, commit: Oid | None) -> Oid | None:
        return None if commit is None else self.opened.vault.store.read_commit(commit).tree

    def _make_index(self, head: Oid, instead_of: os.stat_result | None, check: Callable[[], None]) -> None:
        started_ns = time.time_ns()
        tree = self._tree(head)
        data = find_index(self.opened, EMPTY_TREE if tree is None else tree, check)
        self.worktree.replace_index(data, instead_of=instead_of, mtime_ns=started_ns)


def _holds(index: GitIndex, path: bytes) -> bool:
    at = bisect_left(index.paths, path)
    return at < len(index) and index.paths[at] == path


def _is_as(index: GitIndex, path: bytes, entry: Entry | None) -> bool:
    found = _find_staged(index, path)
    return not _holds(index, path) if entry is None else found is not None and (found.mode, found.oid) == entry


def _find_staged(index: GitIndex, path: bytes) -> Staged | None:
    """Find the entry of a file that is not in conflict, and not only promised."""
    found = index.entry(bisect_left(index.paths, path)) if _holds(index, path) else None
    return found if found is not None and not found.stage and not found.is_promised else None


def _as_move(change: ChangedFile) -> Move:
    old = (change.old_mode, oid_of(change.old_oid)) if change.old_oid and change.old_mode else None
    new = (change.new_mode, oid_of(change.new_oid)) if change.new_oid and change.new_mode else None
    return Move(change.path, old, new)


# --- making an index ---------------------------------------------------------------------------------------

_MADE = b"2"
"""Which index `make_index` makes of the same input; another number if that changes."""


def find_index(opened: OpenWorkspace, tree: Oid, check: Callable[[], None] = _go_on) -> bytes:
    """Give the index of `make_index`.

    Where nothing was changed in the workspace, it may have been made for another one.
    """
    lower = opened.lower
    with host_errors(f"look at the files of '{opened.fork}'"):
        is_changed = bool(UpperReader(opened.upper).list_dir(ROOT))
    if is_changed:
        return make_index(opened, tree, check)
    follows_from = repr((_MADE, tree, lower.root.tree, lower.root.sidecar, lower.default_mtime_ns)).encode("ascii")
    return opened.vault.made_indexes.find_or_make(follows_from, lambda: make_index(opened, tree, check))


def make_index(opened: OpenWorkspace, tree: Oid, check: Callable[[], None] = _go_on) -> bytes:
    """Make the index of a tree of which the workspace shows what it shows. Called with the workspace locked.

    What the workspace has beside history stays there: it is as if git had taken it out (`git rm --cached`).

    `check` is called for each directory, and ends the work by raising.

    Raises:
        TooManyFiles: If it stands for more files than avfs walks through.
    """
    cache = opened.cache
    bound = Bound(opened.vault.store, (None, tree))
    walk = _Walk(opened.vault.store.read_tree, opened.lower, UpperReader(opened.upper), cache, bound, check)
    writer = IndexWriter()
    captured = opened.synced_trees()[0]
    beside = _list_beside(opened, tree)
    try:
        top = _Place(walk, ROOT, tree, opened.lower.root, captured, in_upper=True, count=0)
        places = [top]
        while places:
            here = places[-1]
            for name, mode, oid in here.rest:
                if mode == MODE_TREE:
                    below = here.enter(name, oid, writer.count)
                    here.cached.below[name] = below.cached
                    places.append(below)
                    break
                if here.prefix + name not in beside:
                    writer.add(here.prefix + name, mode, oid, here.stat_of(name, mode, oid))
            else:
                here.cached.count = writer.count - here.count
                places.pop()
    except OSError as error:
        raise HostError(f"look at the files of '{opened.fork}'", error) from error
    for path in beside:
        top.cached.invalidate(path)
    return writer.finish(top.cached)


def _list_beside(opened: OpenWorkspace, tree: Oid) -> frozenset[bytes]:
    """List the files of a tree that the workspace has beside history: git in a clone had taken them out."""
    store, (captured, sidecar) = opened.vault.store, opened.synced_trees()
    held = LowerTree(store, captured, sidecar, default_mtime_ns=0)
    gone = find_differences(store, tree, captured or EMPTY_TREE).items()
    return frozenset(path for path, (_, now) in gone if now is None and held.has_beside(path))


class _Walk:
    """What all places of a walk have in common."""

    __slots__ = ("bound", "cache", "check", "lower", "read_tree", "size_of", "upper")

    def __init__(
        self,
        read_tree: Callable[[Oid], Tree],
        lower: LowerTree,
        upper: UpperReader,
        cache: StatCache | None,
        bound: Bound,
        check: Callable[[], None],
    ) -> None:
        self.read_tree = read_tree
        self.lower = lower
        self.upper = upper
        self.cache = cache
        self.size_of = lower.source.blob_size
        self.bound = bound
        self.check = check


_NO_TREE: Tree = {}
_NO_FILES: Mapping[bytes, Found] = {}
_NOTHING_STORED = Stored({}, {}, {}, Oid(bytes(20)))


class _Place:
    """A directory of the tree, with what the layers show there."""

    __slots__ = (
        "_captured",
        "_fingerprints",
        "_lower",
        "_oid",
        "_path",
        "_stored",
        "_upper",
        "_walk",
        "cached",
        "count",
        "prefix",
        "rest",
    )

    def __init__(
        self,
        walk: _Walk,
        path: TreePath,
        oid: Oid,
        lower: LowerEntry | None,
        captured: Oid | None,
        *,
        in_upper: bool,
        count: int,
    ) -> None:
        entries = walk.read_tree(oid)
        walk.check()
        walk.bound.meet(len(entries))
        self._walk = walk
        self._path = path
        self._lower = lower
        self._stored = _NOTHING_STORED if lower is None else walk.lower.read_stored(lower)
        self._upper = {found.name: found for found in walk.upper.list_dir(path)} if in_upper else _NO_FILES
        self._captured = walk.read_tree(captured) if in_upper and captured is not None else _NO_TREE
        self._fingerprints = (walk.cache.directory(path) if walk.cache is not None and in_upper else None) or {}
        self.prefix = path + b"/" if path else b""
        self.cached = CachedTree(oid)
        self.count = count
        self.rest: Iterator[tuple[bytes, int, Oid]] = iter(
            [(name, mode, entry) for name, (mode, entry) in entries.items()]
        )

    def enter(self, name: bytes, oid: Oid, count: int) -> _Place:
        """Go into a directory."""
        found = self._upper.get(name)
        if found is not None and found.redirect is not None:
            below: LowerEntry | None = find_redirected(
                self._walk.lower, self._lower, found.redirect, join(self._path, name)
            )
        elif found is not None and (found.kind != DIRECTORY or found.opaque):
            below = None
        else:
            below = self._walk.lower.child_dir(self._stored, name)
        mode, captured = self._captured.get(name, (0, None))
        return _Place(
            self._walk,
            join(self._path, name),
            oid,
            below,
            captured if mode == MODE_TREE else None,
            in_upper=found is not None and found.kind == DIRECTORY,
            count=count,
        )

    def stat_of(self, name: bytes, mode: int, oid: Oid) -> bytes:
        """Make the stat data of a file, if it is known to hold what the tree says."""
        if mode == MODE_GITLINK:
            return NO_STAT
        found = self._upper.get(name)
        if found is None:
            if self._stored.tree.get(name) != (mode, oid):
                return NO_STAT
            return make_stat(
                mode, self._walk.size_of(oid), self._stored.mtime_ns(name, self._walk.lower.default_mtime_ns)
            )
        if found.kind not in (FILE, SYMLINK) or self._captured.get(name) != (mode, oid):
            return NO_STAT
        if not is_same_entry(self._fingerprints.get(name), take_fingerprint(found.stat)):
            return NO_STAT
        return make_stat(mode, found.stat.st_size, found.stat.st_mtime_ns)
