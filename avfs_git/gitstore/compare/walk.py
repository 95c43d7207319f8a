"""Walks back through commits: logs, and the versions that one path had.

Decided here: the order of a log, and when a path counts as changed. Pure functions over an `ObjectSource`, safe from
any thread. Time follows the commits walked, and for a path the trees on the way to it that differ from one commit to
the next.

The caller names in `shallow` the commits whose parents a shallow clone left behind. Any other missing parent is an
error, so that a damaged history is never shown as a short one.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable, Collection, Iterable, Iterator

from avfs_git.gitstore.compare.treediff import Entry, changed_file
from avfs_git.gitstore.formats.commits import Commit
from avfs_git.gitstore.formats.trees import find_entry
from avfs_git.gitstore.source import ObjectSource
from avfs_git.model import ChangedFile
from avfs_git.paths import Oid, TreePath

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
    found: list[tuple[Oid, Commit, ChangedFile]] = []
    newer: tuple[Oid, Commit, Entry | None] | None = None
    for oid, commit in first_parents(source, head, shallow):
        entry = find_entry(source, commit.tree, path)
        if newer is not None and newer[2] != entry:
            found.append((newer[0], newer[1], changed_file(path, entry, newer[2])))
        newer = (oid, commit, entry)
    if newer is not None and newer[2] is not None:
        found.append((newer[0], newer[1], changed_file(path, None, newer[2])))
    return found


def first_parents(source: ObjectSource, head: Oid, shallow: Collection[Oid]) -> Iterator[tuple[Oid, Commit]]:
    """Walk back from a commit along first parents, as far as the caller looks."""
    oid: Oid | None = head
    while oid is not None:
        commit = source.read_commit(oid)
        yield oid, commit
        oid = commit.parents[0] if commit.parents and oid not in shallow else None


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
    # Commits of one second come in any order, and where clocks were wrong a parent comes before its child: what was
    # passed as one side's may turn out to be common as long as something waits that is no older.
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
