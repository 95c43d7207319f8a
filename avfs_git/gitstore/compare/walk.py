"""Walks back through commits: logs, and the versions that one path had.

Decided here: the order of a log, and when a path counts as changed. Pure functions over an `ObjectSource`, safe from any
thread. Time follows the commits walked, and for a path the trees on the way to it that differ from one commit to the next.

The caller names in `shallow` the commits whose parents a shallow clone left behind. Any other missing parent is an error, so
that a damaged history is never shown as a short one.
"""

from __future__ import annotations

import heapq
import math
import re
from collections.abc import Callable, Collection, Iterable, Iterator
from typing import Final

from avfs_git.gitstore.compare.treediff import Entry, changed_file
from avfs_git.gitstore.formats.commits import Commit
from avfs_git.gitstore.formats.packfile import KIND_TREE
from avfs_git.gitstore.formats.trees import MODE_FILE, MODE_TREE
from avfs_git.gitstore.source import ObjectSource
from avfs_git.model import ChangedFile
from avfs_git.paths import Oid, TreePath, components

_COUNTED_AT_MOST = 2000


def log(
    source: ObjectSource,
    heads: Iterable[Oid],
    limit: int | None = None,
    *,
    shallow: Collection[Oid] = (),
    only_if: Callable[[Commit], bool] = lambda _: True,
) -> list[tuple[Oid, Commit]]:
    """List the commits that can be reached, newest first by the committer's date, as `git log` does.

    Where clocks were wrong, a parent may stand before its child; the walk looks no further ahead than git's.
    """
    found: list[tuple[Oid, Commit]] = []
    seen: set[Oid] = set()
    queue: list[tuple[int, int, Oid, Commit]] = []

    def add(oid: Oid) -> None:
        if oid not in seen:
            seen.add(oid)
            commit = source.read_commit(oid)
            # The number keeps commits of one second in the order in which they were met.
            heapq.heappush(queue, (-commit.committer.when_s, len(seen), oid, commit))

    for head in heads:
        add(head)
    while queue and (limit is None or len(found) < limit):
        _, _, oid, commit = heapq.heappop(queue)
        if only_if(commit):
            found.append((oid, commit))
        if oid not in shallow:
            for parent in commit.parents:
                add(parent)
    return found


def path_versions(
    source: ObjectSource, head: Oid, path: TreePath, *, shallow: Collection[Oid] = ()
) -> list[tuple[Oid, Commit, ChangedFile]]:
    """List the commits that changed a path, newest first along first parents, each with what it did.

    A directory changes with anything below it; its ids are those of its trees. A commit that removed the
    path is a version as well. Renames are not followed.
    """
    tracker = _Tracker(source, path)
    found: list[tuple[Oid, Commit, ChangedFile]] = []
    newer: tuple[Oid, Commit, Entry | None] | None = None
    for oid, commit in _first_parents(source, head, shallow):
        entry = tracker.find(commit.tree)
        if newer is not None and newer[2] != entry:
            found.append((newer[0], newer[1], changed_file(path, entry, newer[2])))
        newer = (oid, commit, entry)
    if newer is not None and newer[2] is not None:
        found.append((newer[0], newer[1], changed_file(path, None, newer[2])))
    return found


def _first_parents(source: ObjectSource, head: Oid, shallow: Collection[Oid]) -> Iterator[tuple[Oid, Commit]]:
    oid: Oid | None = head
    while oid is not None:
        commit = source.read_commit(oid)
        yield oid, commit
        oid = commit.parents[0] if commit.parents and oid not in shallow else None


class _Tracker:
    """Finds one path in tree after tree; where a directory on the way is the same as last time, so is the rest."""

    def __init__(self, source: ObjectSource, path: TreePath) -> None:
        self._source = source
        self._patterns = [(name, _entry_pattern(name)) for name in components(path)]
        self._trees: list[Oid] = []  # the directories on the way, as last seen
        self._entry: Entry | None = None

    def find(self, tree: Oid) -> Entry | None:
        """Return the entry at the path below a tree."""
        entry: Entry | None = (MODE_TREE, tree)
        trees: list[Oid] = []
        for depth, (name, pattern) in enumerate(self._patterns):
            if entry is None or entry[0] != MODE_TREE:
                entry = None
                break
            if depth < len(self._trees) and self._trees[depth] == entry[1]:
                trees += self._trees[depth:]
                entry = self._entry
                break
            trees.append(entry[1])
            entry = _find_in_tree(self._source, entry[1], name, pattern)
        self._trees, self._entry = trees, entry
        return entry


# One name is searched for in a thousand trees that nothing else will need. Parsing them would take three
# times as long, and push the trees of workspaces out of the object store's cache.
_SOUND_TREE: Final = re.compile(rb"(?:[0-7]{5,6} [^\0/]+\0.{20})*", re.DOTALL)
_GROUP_WRITABLE: Final = 0o100664  # as git wrote files until 2005


def _entry_pattern(name: bytes) -> re.Pattern[bytes]:
    # From the start of the tree entry by entry: an id may hold any bytes, even those of a name.
    return re.compile(rb"(?:[^\0]*\0.{20})*?([0-7]+) %b\0(.{20})" % re.escape(name), re.DOTALL)


def _find_in_tree(source: ObjectSource, tree: Oid, name: bytes, pattern: re.Pattern[bytes]) -> Entry | None:
    kind, data = source.read(tree)
    if kind == KIND_TREE:
        match = pattern.match(data)
        if match is not None:
            mode = int(match[1], 8)
            return (MODE_FILE if mode == _GROUP_WRITABLE else mode), Oid(match[2])
        if _SOUND_TREE.fullmatch(data):
            return None
    return source.read_tree(tree).get(name)  # which says what is wrong with it


def count_apart(
    read: Callable[[Oid], Commit], ours: Oid, theirs: Oid, shallow: Collection[Oid] = ()
) -> tuple[int | None, int | None]:
    """Count the commits that one side has and the other has not, if they are not too many."""
    sides: dict[Oid, int] = {}
    waiting: list[tuple[int, Oid, int]] = []
    apart = 0
    """How many that wait are known to one side only: without any, all that is older is common."""
    oldest_s: float = math.inf
    """When the oldest commit was made that was known to one side only as the walk passed it."""

    def see(oid: Oid, side: int) -> None:
        nonlocal apart
        if sides.get(oid, 0) | side != sides.get(oid, 0):
            sides[oid] = sides.get(oid, 0) | side
            apart += sides[oid] != 3
            heapq.heappush(waiting, (-read(oid).committer.when_s, oid, sides[oid]))

    see(ours, 1)
    see(theirs, 2)
    # Commits of one second come in any order, and where clocks were wrong a parent comes before its child: what was passed
    # as one side's may turn out to be common as long as something waits that is no older.
    while waiting and (apart or -waiting[0][0] >= oldest_s):
        newest, oid, side = heapq.heappop(waiting)
        apart -= side != 3
        if sides[oid] != 3:
            oldest_s = min(oldest_s, -newest)
        if len(sides) > _COUNTED_AT_MOST:
            return None, None
        for parent in () if oid in shallow else read(oid).parents:
            see(parent, sides[oid])
    return sum(side == 1 for side in sides.values()), sum(side == 2 for side in sides.values())
