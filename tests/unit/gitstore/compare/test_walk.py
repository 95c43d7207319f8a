"""Walking history: shallow ends, damage, what a version says."""

from __future__ import annotations

from random import Random

import pytest

from avfs_git.errors import ObjectCorrupt, ObjectMissing
from avfs_git.gitstore.compare.walk import count_apart, log, path_versions
from avfs_git.gitstore.formats.packfile import KIND_TREE
from avfs_git.model import ChangeKind
from avfs_git.paths import Oid, TreePath
from tests.support.objects import Files, MemorySource

FILE, EXEC = 0o100644, 0o100755


def chain(source: MemorySource, *states: Files) -> list[Oid]:
    """Commit one state after the other; return the commits, newest first."""
    commits: list[Oid] = []
    for number, files in enumerate(states):
        commits.insert(0, source.add_commit(source.add_tree(files), *commits[:1], when_s=1_700_000_000 + number))
    return commits


def test_versions_tell_what_happened_to_a_path() -> None:
    """Newest first: mode, deletion, coming back, change, creation; commits that left it alone are not there."""
    source = MemorySource()
    commits = chain(
        source,
        {b"other": (FILE, b"")},
        {b"d/f": (FILE, b"1")},
        {b"d/f": (FILE, b"1"), b"other": (FILE, b"")},
        {b"d/f": (FILE, b"2")},
        {b"other": (FILE, b"")},
        {b"d/f": (FILE, b"2")},
        {b"d/f": (EXEC, b"2")},
    )
    versions = path_versions(source, commits[0], TreePath(b"d/f"))
    kinds = [ChangeKind.MODE, ChangeKind.ADDED, ChangeKind.DELETED, ChangeKind.MODIFIED, ChangeKind.ADDED]
    assert [change.kind for _, _, change in versions] == kinds
    assert [oid for oid, _, _ in versions] == [commits[0], commits[1], commits[2], commits[3], commits[5]]


def test_a_directory_changes_with_what_is_below_it() -> None:
    """Its versions hold the ids of its trees."""
    source = MemorySource()
    commits = chain(
        source, {b"d/e/f": (FILE, b"1")}, {b"d/e/f": (FILE, b"2")}, {b"d/e/f": (FILE, b"2"), b"x": (FILE, b"")}
    )
    versions = path_versions(source, commits[0], TreePath(b"d"))
    assert [(oid, change.kind, change.new_mode) for oid, _, change in versions] == [
        (commits[1], ChangeKind.MODIFIED, 0o40000),
        (commits[2], ChangeKind.ADDED, 0o40000),
    ]
    assert len(path_versions(source, commits[0], TreePath(b""))) == 3


def test_a_damaged_tree_is_an_error() -> None:
    """A path is never quietly absent because a tree is broken."""
    source = MemorySource()
    head = source.add_commit(source.add(KIND_TREE, b"100644 a\0short"))
    with pytest.raises(ObjectCorrupt):
        path_versions(source, head, TreePath(b"f"))


def test_a_missing_parent_is_an_error_unless_it_was_left_behind() -> None:
    """A shallow history ends where its caller says; a damaged one is reported."""
    source = MemorySource()
    commits = chain(source, {b"f": (FILE, b"1")}, {b"f": (FILE, b"2")})
    del source.objects[commits[1]]
    with pytest.raises(ObjectMissing):
        path_versions(source, commits[0], TreePath(b"f"))
    with pytest.raises(ObjectMissing):
        log(source, commits[:1])
    assert [oid for oid, _ in log(source, [commits[0]], shallow={commits[0]})] == commits[:1]
    assert len(path_versions(source, commits[0], TreePath(b"f"), shallow={commits[0]})) == 1


@pytest.mark.parametrize("seed", range(300))
def test_commits_apart_are_counted_where_many_are_of_one_second(seed: int) -> None:
    """The oracle is plain reachability; ids decide nothing among commits of one second."""
    pick = Random(seed)
    source = MemorySource()
    tree = source.add_tree({})
    commits: list[Oid] = []
    reached: list[set[Oid]] = []
    when_s = 1_700_000_000
    for number in range(pick.randint(2, 12)):
        when_s += pick.random() < 0.3
        below = sorted(pick.sample(range(number), min(number, pick.choice([1, 1, 1, 2]))))
        oid = source.add_commit(tree, *(commits[at] for at in below), message=f"{number}", when_s=when_s)
        commits.append(oid)
        reached.append({oid}.union(*(reached[at] for at in below)))
    ours, theirs = reached[-1], reached[-2]
    assert count_apart(source.read_commit, commits[-1], commits[-2]) == (len(ours - theirs), len(theirs - ours))


def test_commits_apart_are_counted_where_a_clock_went_back() -> None:
    """A child that is older than its parents is ahead of them, and behind none of them."""
    source = MemorySource()
    commits: list[Oid] = []
    for number, when_s in enumerate([1000, 1002, 1001, 900]):
        commits.append(source.add_commit(source.add_tree({}), *commits[-1:], message=f"{number}", when_s=when_s))
    assert count_apart(source.read_commit, commits[3], commits[2]) == (1, 0)
    assert count_apart(source.read_commit, commits[3], commits[0]) == (3, 0)
