"""Merging three trees into one, without a working tree or an index.

Decided here: what becomes of every path that at least one side changed. The measure is git's `ort` strategy, the
verdict and the tree of `git merge-tree --write-tree`, which libgit2's own merge of trees does not give: it knows no
renamed directories, reads whole trees and writes loose objects. What an entry is to hold is up to `mergeentry`, renames are
found by `mergerenames`, in the order of `mergewalk`. Only what changed is read: a path that neither side touched is never
looked at.

Called by `merge` with a sink that takes the new blobs and trees; the result is complete or an error is raised.
A conflict leaves in the tree what git leaves: content with markers, the file that one side kept, or both versions
under names with the side's label. One object is one merge, used by one thread.

The steps are those of git: find what each side changed; find renames, and directories that were renamed as a
whole; move what belongs together to one path; then decide path by path, children before their directory, because
a file can only take the name of a directory in which nothing is left.
"""

from __future__ import annotations

import stat
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from avfs_git.gitstore.attributes import TreeAttributes
from avfs_git.gitstore.mergeentry import EntryMerger
from avfs_git.gitstore.mergefile import FileMerger, Labels
from avfs_git.gitstore.mergerenames import SideRenames, SourceNeed, find_side_renames
from avfs_git.gitstore.mergewalk import Entries, Walk
from avfs_git.gitstore.source import ObjectSink
from avfs_git.gitstore.treediff import Entry, find_differences
from avfs_git.gitstore.trees import MODE_TREE, edit_tree, find_entry
from avfs_git.model import ConflictKind
from avfs_git.paths import Oid, TreePath

BASE, OURS, THEIRS = 0, 1, 2
_SIDES = (OURS, THEIRS)
_BOTH = 1 << OURS | 1 << THEIRS
_ALL = 1 << BASE | _BOTH


@dataclass(frozen=True, slots=True)
class Stage:
    """What one side has of a conflict."""

    path: bytes
    mode: int
    oid: Oid


@dataclass(frozen=True, slots=True)
class TreeConflict:
    """A path that needs somebody to decide; the tree holds something for it meanwhile."""

    kind: ConflictKind
    path: bytes
    base: Stage | None = None
    ours: Stage | None = None
    theirs: Stage | None = None


@dataclass(frozen=True, slots=True)
class MergedTrees:
    """What a merge gives."""

    tree: Oid | None
    """None if no file is left."""
    conflicts: tuple[TreeConflict, ...]
    changes: Mapping[TreePath, tuple[Entry | None, Entry | None]]
    """What is different from our side, by path: before and after."""
    drivers: Mapping[TreePath, bytes] = field(default_factory=dict)
    """Which files have a program of their own for merging, by name; they were merged by lines instead."""

    @property
    def is_clean(self) -> bool:
        """Whether nobody has to decide anything."""
        return not self.conflicts


@dataclass(slots=True)
class _Path:
    """What is known of one path."""

    stages: list[Entry | None]
    names: list[bytes]
    """What the path is called on each side."""
    match: int = 0
    """The sides that have the same file here, as a mask; nothing is the same as nothing."""
    directories: int = 0
    """The sides on which a directory has this name, as a mask."""
    conflict: ConflictKind | None = None
    """What about the path itself, rather than its content, needs a decision."""
    is_crowded: bool = False
    """Whether a renamed file came to where the other side put one."""
    settled: bool = False
    result: Entry | None = None

    @property
    def files(self) -> int:
        """The sides that have a file here, as a mask."""
        return sum(1 << side for side, entry in enumerate(self.stages) if entry is not None)


@dataclass(slots=True)
class _Pair:
    """A file that one side moved, or only added (then both paths are one)."""

    side: int
    old: bytes
    new: bytes
    is_rename: bool


@dataclass(slots=True)
class _Collision:
    """Paths that a renamed directory would bring to one place."""

    sources: list[bytes] = field(default_factory=list)
    reported: bool = False


class TreeMerge:
    """One merge of three trees."""

    def __init__(
        self,
        sink: ObjectSink,
        base: Oid | None,
        ours: Oid | None,
        theirs: Oid | None,
        *,
        labels: Labels,
        merger: FileMerger,
        attributes: TreeAttributes | None = None,
        depth: int = 0,
    ) -> None:
        """Prepare a merge.

        Args:
            sink: Where objects are read from and new ones go.
            base: The tree both sides come from; None is the empty tree.
            ours: One side; of two equal answers, git takes this side's.
            theirs: The other side.
            labels: What the sides are called in markers and in the names of files that are put aside.
            merger: Merges contents.
            attributes: Tells for which files otherwise; None if nothing does.
            depth: How many merges this one makes a base for; 0 for the merge itself.
        """
        self._sink = sink
        self._trees = (base, ours, theirs)
        self._labels = labels
        self._entry_merger = EntryMerger(sink, merger, labels, attributes, depth=depth)
        self._depth = depth
        self._paths: dict[bytes, _Path] = {}
        self._changed: dict[bytes, Entry | None] = {}
        """What our side has at each path that was looked at."""
        self._occupied: set[bytes] = set()
        self._more: list[TreeConflict] = []
        self._conflicts: dict[bytes, TreeConflict] = {}
        self._final: dict[bytes, Entry] = {}

    def run(self) -> MergedTrees:
        """Merge."""
        self._collect()
        self._follow_renames()
        # Children before their directory: "a" sorts before "a/b".
        for path in sorted(self._paths, key=lambda one: one.replace(b"/", b"\0"), reverse=True):
            found = self._paths.get(path)
            if found is not None:
                self._decide(path, found)
        edits: dict[TreePath, Entry | None] = {}
        changes: dict[TreePath, tuple[Entry | None, Entry | None]] = {}
        for path in sorted(self._changed.keys() | self._final.keys()):
            before = self._changed[path] if path in self._changed else self._ours_at(path)
            wanted = self._final.get(path)
            if wanted != before:
                edits[TreePath(path)] = wanted
                changes[TreePath(path)] = (before, wanted)
        tree = edit_tree(self._sink, self._sink, self._trees[OURS], edits)
        conflicts = sorted([*self._conflicts.values(), *self._more], key=lambda conflict: conflict.path)
        return MergedTrees(tree, tuple(conflicts), changes, self._entry_merger.drivers)

    def _ours_at(self, path: bytes) -> Entry | None:
        """Find what our side has at a path that neither side changed."""
        tree = self._trees[OURS]
        found = find_entry(self._sink, tree, TreePath(path)) if tree is not None else None
        return None if found is None or found[0] == MODE_TREE else found

    # --- what changed ------------------------------------------------------------------------------------------

    def _collect(self) -> None:
        base, ours, theirs = self._trees
        changes = [find_differences(self._sink, base, side) for side in (ours, theirs)]
        for path in sorted(changes[0].keys() | changes[1].keys()):
            first, second = changes[0].get(path), changes[1].get(path)
            before = first[0] if first is not None else second[0] if second is not None else None
            stages = [before, first[1] if first is not None else before, second[1] if second is not None else before]
            found = _Path(stages, [path] * 3, _match(stages))
            self._changed[path] = stages[OURS]
            if None in stages:
                found.directories = self._directories_at(path, stages)
            elif found.match:
                found.settled = True
                found.result = stages[THEIRS] if stages[OURS] == before else stages[OURS]
            self._paths[path] = found

    def _directories_at(self, path: bytes, stages: Iterable[Entry | None]) -> int:
        mask = 0
        for side, entry in enumerate(stages):
            tree = self._trees[side]
            if entry is None and tree is not None:
                found = find_entry(self._sink, tree, TreePath(path))
                if found is not None and found[0] == MODE_TREE:
                    mask |= 1 << side
        return mask

    # --- renames -----------------------------------------------------------------------------------------------

    def _follow_renames(self) -> None:
        walk = Walk(((path, found.files, found.settled) for path, found in self._paths.items()), self._entries_at)
        renames = {side: self._find_renames(side, walk) for side in _SIDES}
        if all(one is None for one in renames.values()):
            return
        found = {side: one or SideRenames() for side, one in renames.items()}
        pairs = {side: self._pairs_of(side, found[side]) for side in _SIDES}
        moved = {side: self._moved_directories(found[side]) for side in _SIDES}
        for directory in moved[OURS].keys() & moved[THEIRS].keys():
            for one in moved.values():
                del one[directory]
        collisions = {side: _collisions(pairs[side], moved[3 - side]) for side in _SIDES}
        queue: list[_Pair] = []
        for side in _SIDES:
            for pair in pairs[side]:
                new_path = self._follow_directory(pair, moved[3 - side], moved[side], collisions)
                if new_path is not None:
                    self._move_along(pair, new_path)
                if pair.is_rename:
                    queue.append(pair)
        queue.sort(key=lambda pair: (pair.old, pair.side))
        self._apply_renames(queue)

    def _find_renames(self, side: int, walk: Walk) -> SideRenames | None:
        """Find what a side moved; None if no rename of it could matter."""
        deleted: list[tuple[bytes, Entry]] = []
        added: list[tuple[bytes, Entry]] = []
        needed: dict[bytes, SourceNeed] = {}
        for path, found in self._paths.items():
            base, now = found.stages[BASE], found.stages[side]
            if base is not None and now is None:
                deleted.append((path, base))
                if not found.match & found.files:
                    needed[path] = SourceNeed.CONTENT
                elif walk.is_location_needed(path):
                    needed[path] = SourceNeed.LOCATION
            elif base is None and now is not None:
                added.append((path, now))
        if not needed or not added:
            return None
        order = walk.order_for(side)
        deleted.sort(key=lambda one: order(one[0]))
        added.sort(key=lambda one: order(one[0]))
        return find_side_renames(self._sink, deleted, added, needed, walk.directories[side])

    def _entries_at(self, path: bytes) -> Entries:
        base, ours, theirs = (None if tree is None else find_entry(self._sink, tree, TreePath(path)) for tree in self._trees)
        return base, ours, theirs

    def _pairs_of(self, side: int, renames: SideRenames) -> list[_Pair]:
        sources = {new: old for old, new in renames.files.items()}
        pairs = []
        for path, found in self._paths.items():
            if found.stages[BASE] is None and found.stages[side] is not None:
                old = sources.get(path)
                pairs.append(_Pair(side, path if old is None else old, path, is_rename=old is not None))
        return pairs

    def _moved_directories(self, renames: SideRenames) -> dict[bytes, bytes]:
        """Name where each directory that a side moved went; what has no majority is a conflict."""
        moved: dict[bytes, bytes] = {}
        if self._depth:
            return moved
        for directory, counts in renames.directories.items():
            (best, most), *others = counts.most_common(2)
            if others and others[0][1] == most:
                self._more.append(TreeConflict(ConflictKind.DIRECTORY_RENAME, directory))
            else:
                moved[directory] = best
        return moved

    def _follow_directory(
        self,
        pair: _Pair,
        moved: Mapping[bytes, bytes],
        moved_here: Mapping[bytes, bytes],
        collisions: Mapping[int, dict[bytes, _Collision]],
    ) -> bytes | None:
        """Find the path to which a directory that the other side renamed takes a file; None if it stays."""
        directory = _moved_above(pair.new, moved)
        if directory is None or pair.new in collisions[3 - pair.side]:
            return None
        if moved[directory] in moved_here:
            return None  # this side moved the directory it would go to: following would split what belongs together
        new_path = _move_path(pair.new, directory, moved[directory])
        collision = collisions[pair.side][new_path]
        if not collision.reported and (self._is_in_the_way(new_path, pair.side) or len(collision.sources) > 1):
            collision.reported = True
            self._more.append(TreeConflict(ConflictKind.DIRECTORY_RENAME, new_path))
        return None if collision.reported else new_path

    def _is_in_the_way(self, path: bytes, side: int) -> bool:
        found = self._paths.get(path)
        if found is not None:
            return found.settled or bool(1 << side & (found.files | found.directories))
        tree = self._trees[side]
        return tree is not None and find_entry(self._sink, tree, TreePath(path)) is not None

    def _move_along(self, pair: _Pair, new_path: bytes) -> None:
        """Move what a side has at a path into the directory that the other side renamed."""
        old_path, side = pair.new, pair.side
        found = self._paths[old_path]
        entry, name = found.stages[side], found.names[side]
        if found.directories:
            found.stages[side] = None
        else:
            del self._paths[old_path]
        there = self._paths.get(new_path)
        if there is None:
            stages: list[Entry | None] = [None, None, None]
            there = _Path(stages, [new_path] * 3, directories=self._directories_at(new_path, stages))
            self._paths[new_path] = there
            self._changed.setdefault(new_path, None)
            self._make_room_above(new_path)
        there.stages[side] = entry
        there.names[side] = name
        there.conflict = there.conflict or ConflictKind.LOCATION
        pair.new = new_path

    def _make_room_above(self, path: bytes) -> None:
        """Let files be decided on that neither side touched and that a path is now below; git (2.39) forgets them."""
        while path := path.rpartition(b"/")[0]:
            if path not in self._paths:
                entry = self._entries_at(path)[OURS]
                if entry is not None and not stat.S_ISDIR(entry[0]):
                    self._paths[path] = _Path([entry] * 3, [path] * 3, settled=True, result=entry)
                    self._changed[path] = entry

    def _apply_renames(self, queue: list[_Pair]) -> None:
        """Bring the versions of each renamed file together at one path."""
        index = 0
        while index < len(queue):
            pair = queue[index]
            other = queue[index + 1] if index + 1 < len(queue) and queue[index + 1].old == pair.old else None
            index += 1
            source = self._paths.get(pair.old)
            if source is None or source.settled:
                continue
            if other is not None:
                index += 1
                self._renamed_by_both(source, pair, other)
            else:
                self._renamed_by_one(source, pair)

    def _renamed_by_both(self, source: _Path, first: _Pair, second: _Pair) -> None:
        ours, theirs = self._paths[first.new], self._paths[second.new]
        base = source.stages[BASE]
        if ours is theirs:
            ours.stages[BASE] = base
            source.settled = True
            return
        mine, yours = ours.stages[OURS], theirs.stages[THEIRS]
        assert mine is not None  # noqa: S101 - a rename ends at a file
        assert yours is not None  # noqa: S101 - as above
        merged, why = self._entry_merger.merge(first.old, base, mine, yours, [first.old, first.new, second.new], more_marker=1)
        ours.stages[OURS] = merged
        # Where nothing can be merged, each name keeps its own side's content.
        theirs.stages[THEIRS] = yours if why is not None and merged == mine else merged
        for path in (source, ours, theirs):
            path.conflict = ConflictKind.RENAME_RENAME

    def _renamed_by_one(self, source: _Path, pair: _Pair) -> None:
        target = self._paths[pair.new]
        side, other = pair.side, 3 - pair.side
        base, theirs, mine = source.stages[BASE], source.stages[other], target.stages[side]
        assert mine is not None  # noqa: S101 - a rename ends at a file
        is_deleted = source.files == 1 << BASE
        collides = target.stages[other] is not None
        changes_type = not is_deleted and theirs is not None and stat.S_ISREG(theirs[0]) != stat.S_ISREG(mine[0])
        if changes_type:
            # The other side renamed it, too, and put something of another kind in its place.
            collides = False
        if collides and not is_deleted:
            assert theirs is not None  # noqa: S101 - the other side has it
            names = [pair.old] * 3
            names[side] = pair.new
            versions = (mine, theirs) if side == OURS else (theirs, mine)
            merged, _ = self._entry_merger.merge(pair.old, base, *versions, names, more_marker=1)
            target.stages[side] = merged
            target.is_crowded = True
        elif collides:
            target.conflict = ConflictKind.RENAME_DELETE
        else:
            target.stages[BASE] = base
            target.names[BASE] = pair.old
            if changes_type:
                source.stages[BASE] = None
            elif is_deleted:
                target.conflict = ConflictKind.RENAME_DELETE
            else:
                target.stages[other] = theirs
                target.names[other] = pair.old
        if not changes_type:
            source.settled, source.result = True, None

    # --- decisions ---------------------------------------------------------------------------------------------

    def _decide(self, path: bytes, found: _Path) -> None:
        if found.settled:
            if found.result is not None and path in self._occupied:
                path = self._put_aside(path, self._labels[OURS if found.result == found.stages[OURS] else THEIRS])
                self._report(ConflictKind.DIRECTORY_FILE, path, found)
            self._keep(path, found.result)
            return
        files = found.files
        if not files:
            return
        in_the_way = path in self._occupied
        if in_the_way:
            if files == 1 << BASE:
                return  # gone on both sides; a directory has the name
            # What has the name is a directory, and its files are still there: the file goes aside. The directory may
            # be one that only a renamed one made; git (2.39) forgets the file then.
            side = THEIRS if found.directories & 1 << OURS or found.stages[OURS] is None else OURS
            path = self._put_aside(path, self._labels[side])
        found.match &= ~found.directories
        if found.match:
            self._take_the_change(path, found, in_the_way=in_the_way)
            return
        base, ours, theirs = found.stages
        if ours is not None and theirs is not None:
            if stat.S_IFMT(ours[0]) != stat.S_IFMT(theirs[0]):
                self._decide_types(path, found, ours, theirs)
            else:
                self._decide_content(path, found, ours, theirs, in_the_way=in_the_way)
        elif base is not None and (ours is not None or theirs is not None):
            kind = found.conflict or ConflictKind.MODIFY_DELETE
            self._keep(path, base if self._depth else ours or theirs)
            self._report(kind, path, found)
        elif ours is not None or theirs is not None:
            self._keep(path, ours or theirs)
            self._report(ConflictKind.DIRECTORY_FILE if in_the_way else found.conflict, path, found)
        else:
            self._report(found.conflict, path, found)

    def _take_the_change(self, path: bytes, found: _Path, *, in_the_way: bool) -> None:
        """Take what one side did, or both alike."""
        if found.match == _BOTH:
            taken = found.stages[OURS]
        else:
            taken = found.stages[THEIRS if found.match == (1 << BASE | 1 << OURS) else OURS]
        self._keep(path, taken)
        if taken is not None:
            self._report(ConflictKind.DIRECTORY_FILE if in_the_way else found.conflict, path, found)

    def _decide_types(self, path: bytes, found: _Path, ours: Entry, theirs: Entry) -> None:
        """Keep a file and something else of its name, the file (or both) under a name of its own."""
        base = found.stages[BASE]
        if self._depth:
            self._keep(path, base)
            self._report(ConflictKind.TYPE, path, found)
            return
        ours_aside = stat.S_ISREG(ours[0]) or not stat.S_ISREG(theirs[0])
        theirs_aside = not stat.S_ISREG(ours[0])
        ours_path = self._put_aside(path, self._labels.ours) if ours_aside else path
        theirs_path = self._put_aside(path, self._labels.theirs) if theirs_aside else path
        self._keep(ours_path, ours)
        self._keep(theirs_path, theirs)
        self._report(ConflictKind.TYPE, path, found)

    def _decide_content(self, path: bytes, found: _Path, ours: Entry, theirs: Entry, *, in_the_way: bool) -> None:
        base = found.stages[BASE]
        merged, why = self._entry_merger.merge(path, base, ours, theirs, found.names)
        self._keep(path, merged)
        if why is ConflictKind.CONTENT and base is None:
            why = ConflictKind.RENAME_ADD if found.is_crowded else ConflictKind.ADD_ADD
        self._report(found.conflict or why or (ConflictKind.DIRECTORY_FILE if in_the_way else None), path, found)

    def _put_aside(self, path: bytes, label: bytes) -> bytes:
        """Find a free name for a file that cannot have its own."""
        wanted = name = path + b"~" + label.replace(b"/", b"_")
        number = 0
        while name in self._paths or name in self._final or self._is_anywhere(name):
            name = wanted + b"_%d" % number
            number += 1
        return name

    def _is_anywhere(self, path: bytes) -> bool:
        return any(tree is not None and find_entry(self._sink, tree, TreePath(path)) is not None for tree in self._trees)

    def _keep(self, path: bytes, entry: Entry | None) -> None:
        if entry is None:
            return
        self._final[path] = entry
        while path := path.rpartition(b"/")[0]:
            if path in self._occupied:
                break
            self._occupied.add(path)

    def _report(self, kind: ConflictKind | None, path: bytes, found: _Path) -> None:
        if kind is None:
            return
        stages = [None if entry is None else Stage(name, *entry) for name, entry in zip(found.names, found.stages, strict=True)]
        self._conflicts[path] = TreeConflict(kind, path, *stages)


def _match(stages: list[Entry | None]) -> int:
    base, ours, theirs = stages
    if base is not None and ours == base:
        return _ALL if theirs == base else 1 << BASE | 1 << OURS
    if base is not None and theirs == base:
        return 1 << BASE | 1 << THEIRS
    return _BOTH if ours is not None and ours == theirs else 0


def _moved_above(path: bytes, moved: Mapping[bytes, bytes]) -> bytes | None:
    """Find the nearest directory above a path that was moved."""
    while path := path.rpartition(b"/")[0]:
        if path in moved:
            return path
    return None


def _move_path(path: bytes, old: bytes, new: bytes) -> bytes:
    return new + path[len(old) :] if new else path[len(old) + 1 :]


def _collisions(pairs: Iterable[_Pair], moved: Mapping[bytes, bytes]) -> dict[bytes, _Collision]:
    found: dict[bytes, _Collision] = {}
    for pair in pairs:
        directory = _moved_above(pair.new, moved)
        if directory is not None:
            found.setdefault(_move_path(pair.new, directory, moved[directory]), _Collision()).sources.append(pair.new)
    return found
