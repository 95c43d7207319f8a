"""Walking history: shallow ends, damage, what a version says."""

from __future__ import annotations

import pytest

from avfs_git.errors import ObjectCorrupt, ObjectMissing
from avfs_git.gitstore.compare.walk import log, path_versions
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
    assert path_versions(source, commits[0], TreePath(b"d/f"), 2) == versions[:2]
    assert path_versions(source, commits[0], TreePath(b"d/f"), 0) == []


def test_a_directory_changes_with_what_is_below_it() -> None:
    """Its versions hold the ids of its trees."""
    source = MemorySource()
    commits = chain(source, {b"d/e/f": (FILE, b"1")}, {b"d/e/f": (FILE, b"2")}, {b"d/e/f": (FILE, b"2"), b"x": (FILE, b"")})
    versions = path_versions(source, commits[0], TreePath(b"d"))
    assert [(oid, change.kind, change.new_mode) for oid, _, change in versions] == [
        (commits[1], ChangeKind.MODIFIED, 0o40000),
        (commits[2], ChangeKind.ADDED, 0o40000),
    ]
    assert len(path_versions(source, commits[0], TreePath(b""))) == 3


def test_a_name_inside_an_id_is_not_taken_for_an_entry() -> None:
    """Entries are walked from the start of a tree, whatever bytes its ids hold."""
    source = MemorySource()
    trap = b"100644 f\0" + b"\x55" * 11
    tree = source.add(KIND_TREE, b"100644 a\0" + trap + b"100644 z\0" + b"\x66" * 20)
    head = source.add_commit(tree)
    assert path_versions(source, head, TreePath(b"f")) == []
    assert len(path_versions(source, head, TreePath(b"z"))) == 1


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
