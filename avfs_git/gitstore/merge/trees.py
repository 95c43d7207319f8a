"""Merging three trees into one, without a working tree or an index.

Decided here: what becomes of every path that a side changed. What only one changed, or both alike, is taken; only what
each changed otherwise is looked at, and a path that neither touched is never read. A file that one side moved and the
other changed is merged where it was moved to. Contents are merged by `files`. Called by `bylibgit2` with a sink that
takes the new blobs and trees; the result is complete or an error is raised. One object is one merge, used by one
thread.

A conflict leaves something in the tree: content with markers, our version of what has no lines, the version that is
left where the other side removed it, and under a name with the side's label what cannot have its own name.
"""

from __future__ import annotations

import stat
from collections.abc import Sequence
from dataclasses import dataclass, replace

from avfs_git.gitstore.compare.renames import detect_renames, is_binary
from avfs_git.gitstore.compare.treediff import Entry, changed_file, find_differences
from avfs_git.gitstore.formats.packfile import KIND_BLOB
from avfs_git.gitstore.formats.trees import edit_tree, find_entry
from avfs_git.gitstore.merge.engine import Labels, MergedTrees, Stage, TreeConflict
from avfs_git.gitstore.merge.files import Driver, FileMerger, how_to_merge
from avfs_git.gitstore.objects.store import hash_object
from avfs_git.gitstore.rules.attributes import TreeAttributes
from avfs_git.gitstore.source import ObjectSink
from avfs_git.model import ChangedFile, ChangeKind, ConflictKind, MergeStrategy
from avfs_git.paths import Oid, TreePath, list_above

BASE, OURS, THEIRS = 0, 1, 2
_SIDES = (OURS, THEIRS)
_EMPTY = hash_object(KIND_BLOB, b"")
_LONGER_MARKERS = 2
"""By so many characters for each merge that one is the base of, so that markers in markers can be told apart."""


@dataclass(slots=True)
class _Path:
    """What is known of one path that a side changed."""

    stages: list[Entry | None]
    """What the base and both sides have."""
    names: list[bytes]
    """What each of them calls it."""
    result: Entry | None = None
    is_open: bool = False
    """Whether both sides changed it, each otherwise."""
    conflict: ConflictKind | None = None


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
        attributes: TreeAttributes,
        depth: int = 0,
    ) -> None:
        """Prepare a merge; a tree of None is the empty one.

        `depth` is 0, or how many merges this one makes a base for.
        """
        self._sink = sink
        self._trees = (base, ours, theirs)
        self._labels = labels
        self._merger = merger
        self._attributes = attributes
        self._depth = depth
        self._paths: dict[bytes, _Path] = {}
        self._drivers: dict[TreePath, bytes] = {}

    def run(self) -> MergedTrees:
        """Merge."""
        before = self._collect()
        self._follow_renames()
        for path, found in list(self._paths.items()):
            if found.is_open:
                self._decide(TreePath(path), found)
        self._part_files_from_directories()
        changes: dict[TreePath, tuple[Entry | None, Entry | None]] = {}
        for path, found in sorted(self._paths.items()):
            if found.result != before.get(path):
                changes[TreePath(path)] = (before.get(path), found.result)
        tree = edit_tree(self._sink, self._sink, self._trees[OURS], {path: now for path, (_, now) in changes.items()})
        conflicts = tuple(_describe(path, found) for path, found in sorted(self._paths.items()) if found.conflict)
        return MergedTrees(tree, conflicts, changes, self._drivers)

    def _collect(self) -> dict[bytes, Entry | None]:
        """Find what each side changed, and take what that decides; return what our side has at each path."""
        base, ours, theirs = self._trees
        mine, yours = find_differences(self._sink, base, ours), find_differences(self._sink, base, theirs)
        for path in sorted(mine.keys() | yours.keys()):
            before = (mine.get(path) or yours[path])[0]
            now = [changes[path][1] if path in changes else before for changes in (mine, yours)]
            is_open = path in mine and path in yours and now[0] != now[1]
            result = now[1] if path not in mine else now[0]
            self._paths[path] = _Path([before, *now], [path] * 3, result, is_open)
        return {path: found.stages[OURS] for path, found in self._paths.items()}

    # --- renames -----------------------------------------------------------------------------------------------

    def _follow_renames(self) -> None:
        """Join at one path the versions of each file that one side moved and the other changed, removed or moved."""
        moved = {side: self._find_renames(side) for side in _SIDES}
        for old in sorted(moved[OURS].keys() | moved[THEIRS].keys()):
            mine, yours = moved[OURS].get(old), moved[THEIRS].get(old)
            if mine is not None and yours is not None:
                self._moved_by_both(old, mine, yours)
            elif mine is not None:
                self._moved_by_one(old, mine, OURS)
            elif yours is not None:
                self._moved_by_one(old, yours, THEIRS)

    def _find_renames(self, side: int) -> dict[bytes, bytes]:
        """Find where files went that a side moved and the other did not leave alone."""
        deleted: list[ChangedFile] = []
        added: list[ChangedFile] = []
        wanted = set()
        for path, found in self._paths.items():
            base, now, other = found.stages[BASE], found.stages[side], found.stages[3 - side]
            # An empty file is like any other empty one: it is not followed.
            if base is not None and now is None and base[1] != _EMPTY:
                deleted.append(changed_file(TreePath(path), base, None))
                if other != base:
                    wanted.add(path)
            elif base is None and now is not None and now[1] != _EMPTY:
                added.append(changed_file(TreePath(path), None, now))
        if not wanted or not added:
            return {}
        # Equal content first, which reads no file; similar content is looked for only of files that matter.
        equal = detect_renames(self._sink, [*deleted, *added], threshold=100)
        left = [
            one
            for one in equal
            if one.kind is ChangeKind.ADDED or (one.kind is ChangeKind.DELETED and one.path in wanted)
        ]
        pairs = [*equal, *detect_renames(self._sink, left)]
        return {one.old_path: one.path for one in pairs if one.kind is ChangeKind.RENAMED and one.old_path in wanted}

    def _moved_by_both(self, old: bytes, mine: bytes, yours: bytes) -> None:
        source, ours, theirs = self._paths[old], self._paths[mine], self._paths[yours]
        base = source.stages[BASE]
        if ours is theirs:
            ours.stages[BASE], ours.names[BASE] = base, old
            return
        stages = [base, ours.stages[OURS], theirs.stages[THEIRS]]
        merged, why = self._merge_entry(TreePath(old), stages, [old, mine, yours])
        # Each name gets what both made of the file, and where that cannot be merged its own side's.
        ours.stages[OURS] = merged
        if why is None or merged != stages[OURS]:
            theirs.stages[THEIRS] = merged
        for found, side in ((ours, OURS), (theirs, THEIRS)):
            if not found.is_open:
                found.result = found.stages[side]
        for found in (source, ours, theirs):
            found.conflict = ConflictKind.RENAME_RENAME

    def _moved_by_one(self, old: bytes, new: bytes, side: int) -> None:
        source, target, other = self._paths[old], self._paths[new], 3 - side
        base, changed = source.stages[BASE], source.stages[other]
        is_taken = target.stages[other] is not None
        if changed is None:
            target.conflict = ConflictKind.RENAME_DELETE
            if not is_taken:
                target.stages[BASE], target.names[BASE] = base, old
                # In a merged base, an undecided path is as it was before.
                target.result = base if self._depth else target.result
            return
        stages, names = [base, changed, changed], [old, old, old]
        stages[side], names[side] = target.stages[side], new
        source.result, source.is_open = None, False
        if not _is_one_kind(stages):
            # What has another kind by now stays where it is.
            target.stages[BASE], target.names[BASE] = base, old
            source.result, target.is_open = changed, True
        elif is_taken:
            # The other side put another file there: what is moved there is merged first, and then with that one.
            target.stages[side], _ = self._merge_entry(TreePath(old), stages, names)
            target.conflict, target.is_open = ConflictKind.RENAME_ADD, True
        else:
            target.stages, target.names, target.is_open = stages, names, True

    # --- decisions ---------------------------------------------------------------------------------------------

    def _decide(self, path: TreePath, found: _Path) -> None:
        """Decide on a path that both sides changed."""
        base, ours, theirs = found.stages
        if ours is None or theirs is None:
            # In a merged base, an undecided path is as it was before.
            found.result = base if self._depth else ours or theirs
            found.conflict = found.conflict or ConflictKind.MODIFY_DELETE
        elif not _is_one_kind(found.stages):
            self._decide_types(path, found, ours, theirs)
        else:
            found.result, why = self._merge_entry(path, found.stages, found.names)
            if why:
                found.conflict = found.conflict or why
            elif found.conflict is ConflictKind.RENAME_ADD:
                found.conflict = None

    def _decide_types(self, path: TreePath, found: _Path, ours: Entry, theirs: Entry) -> None:
        """Keep a file and something else of its name, the file under a name of its own."""
        found.conflict = ConflictKind.TYPE
        if self._depth:
            found.result = found.stages[BASE]
            return
        side, found.result = (OURS, theirs) if stat.S_ISREG(ours[0]) else (THEIRS, ours)
        found.names[side] = aside = self._free_name(path, side)
        self._paths[aside] = _Path([None] * 3, [aside] * 3, found.stages[side])

    def _merge_entry(
        self, path: TreePath, stages: Sequence[Entry | None], names: Sequence[bytes]
    ) -> tuple[Entry | None, ConflictKind | None]:
        """Merge two entries of one kind, into that of the base if a base has to do without.

        Also name what is in conflict.
        """
        base, ours, theirs = stages
        if ours is None or theirs is None:
            return ours or theirs, None
        mode, why = _merge_modes(base, ours, theirs)
        was = None if base is None else base[1]
        if ours[1] == theirs[1] or theirs[1] == was:
            return (mode, ours[1]), why
        if ours[1] == was:
            return (mode, theirs[1]), why
        if stat.S_ISREG(mode):
            oid, reason = self._merge_contents(path, base, ours[1], theirs[1], names)
            return (mode, oid), why or reason
        if self._depth:
            return base, ConflictKind.SYMLINK
        if stat.S_ISLNK(mode) and self._merger.favor in (MergeStrategy.OURS, MergeStrategy.THEIRS):
            return (mode, (ours if self._merger.favor is MergeStrategy.OURS else theirs)[1]), why
        return (mode, ours[1]), ConflictKind.SYMLINK if stat.S_ISLNK(mode) else ConflictKind.SUBMODULE

    def _merge_contents(
        self, path: TreePath, base: Entry | None, ours: Oid, theirs: Oid, names: Sequence[bytes]
    ) -> tuple[Oid, ConflictKind | None]:
        labels = self._labels
        if len(set(names)) > 1:
            labels = Labels(*(label + b":" + name for label, name in zip(labels, names, strict=True)))
        driver, marker_size = how_to_merge(self._attributes, path, self._drivers)
        mine, yours = self._sink.read_blob(ours), self._sink.read_blob(theirs)
        merged = self._merger.merge(
            self._sink.read_blob(base[1]) if base is not None and stat.S_ISREG(base[0]) else None,
            mine,
            yours,
            labels,
            for_base=bool(self._depth),
            marker_size=marker_size + _LONGER_MARKERS * self._depth,
            driver=driver,
        )
        # Kept, because a blob that is only a base's is read again by the merge it is for.
        oid = self._sink.add(KIND_BLOB, merged.content, keep=True)
        if merged.is_clean:
            return oid, None
        if driver is Driver.BINARY or is_binary(mine) or is_binary(yours):
            return oid, ConflictKind.BINARY
        return oid, ConflictKind.CONTENT if base is not None else ConflictKind.ADD_ADD

    # --- names -------------------------------------------------------------------------------------------------

    def _part_files_from_directories(self) -> None:
        """Give each file a name of its own that has that of a directory in which something is left."""
        left = {path for path, found in self._paths.items() if found.result is not None}
        for path in sorted(left & list_above(left)):
            found = self._paths[path]
            aside = self._free_name(path, OURS if found.result == found.stages[OURS] else THEIRS)
            self._paths[aside] = replace(found, conflict=found.conflict or ConflictKind.DIRECTORY_FILE)
            found.result = found.conflict = None

    def _free_name(self, path: bytes, side: int) -> bytes:
        """Find a name for a side's file that cannot have its own."""
        wanted = name = path + b"~" + self._labels[side].replace(b"/", b"_")
        number = 0
        while name in self._paths or self._is_anywhere(TreePath(name)):
            name = wanted + b"_%d" % number
            number += 1
        return name

    def _is_anywhere(self, path: TreePath) -> bool:
        return any(tree is not None and find_entry(self._sink, tree, path) is not None for tree in self._trees)


def _is_one_kind(stages: Sequence[Entry | None]) -> bool:
    """Whether both sides have a file there, or both a link, or both a submodule."""
    ours, theirs = stages[OURS:]
    return ours is not None and theirs is not None and stat.S_IFMT(ours[0]) == stat.S_IFMT(theirs[0])


def _merge_modes(base: Entry | None, ours: Entry, theirs: Entry) -> tuple[int, ConflictKind | None]:
    """Choose the mode of a file that both sides have."""
    if ours[0] == theirs[0] or (base is not None and ours[0] == base[0]):
        return theirs[0], None
    return ours[0], None if base is not None and theirs[0] == base[0] else ConflictKind.MODE


def _describe(path: bytes, found: _Path) -> TreeConflict:
    assert found.conflict is not None  # noqa: S101 - only paths in conflict are described
    stages = [
        None if entry is None else Stage(name, *entry) for name, entry in zip(found.names, found.stages, strict=True)
    ]
    return TreeConflict(found.conflict, path, *stages)
