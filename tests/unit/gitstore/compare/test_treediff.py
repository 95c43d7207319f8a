"""Comparing trees: what is read, what a change is called, trees of hostile depth."""

from __future__ import annotations

from avfs_git.gitstore.compare.treediff import changed_file, diff_trees, status_letter, walk_differences
from avfs_git.gitstore.formats.packfile import KIND_TREE
from avfs_git.gitstore.formats.trees import MODE_EXEC, MODE_FILE, MODE_GITLINK, MODE_SYMLINK, MODE_TREE, serialize_tree
from avfs_git.model import ChangedFile, ChangeKind
from avfs_git.paths import Oid, TreePath
from tests.support.objects import MemorySource

X, Y = Oid(b"\x01" * 20), Oid(b"\x02" * 20)


def test_trees_of_equal_id_are_not_read() -> None:
    """The cost of a comparison follows what changed, not what is there."""
    source = MemorySource()
    files = {b"d%d/e%d/f" % (outer, inner): (MODE_FILE, b"x") for outer in range(20) for inner in range(20)}
    old = source.add_tree(files)
    new = source.add_tree({**files, b"d3/e4/f": (MODE_FILE, b"y")})
    diff_trees(source, old, new)  # parses
    source.read_count = 0
    assert [change.path for change in diff_trees(source, old, new)] == [b"d3/e4/f"]
    assert source.read_count == 6  # root, d3 and d3/e4, on each side


def test_differences_come_while_trees_are_read() -> None:
    """One directory after the other is read: a comparison of large trees holds no list of all that differs."""
    source = MemorySource()
    new = source.add_tree({b"d%d/f" % number: (MODE_FILE, b"x") for number in range(20)})
    source.read_count = 0
    found = walk_differences(source, None, new)
    path, was, now = next(found)
    assert was is None
    assert now is not None
    assert source.read_count < 10
    assert {path, *(path for path, _, _ in found)} == {b"d%d/f" % number for number in range(20)}


def test_paths_keep_reading_to_what_was_asked_for() -> None:
    """A directory that nobody asked about is not read, even if it differs."""
    source = MemorySource()
    old = source.add_tree({b"a/f": (MODE_FILE, b"1"), b"b/f": (MODE_FILE, b"1")})
    new = source.add_tree({b"a/f": (MODE_FILE, b"2"), b"b/f": (MODE_FILE, b"2")})
    diff_trees(source, old, new)
    source.read_count = 0
    assert [change.path for change in diff_trees(source, old, new, paths=[TreePath(b"b")])] == [b"b/f"]
    assert source.read_count == 4


def test_changes_have_their_kind_and_letter() -> None:
    """The entries before and after tell what happened."""

    def letter(old: tuple[int, Oid] | None, new: tuple[int, Oid] | None) -> tuple[ChangeKind, str]:
        change = changed_file(TreePath(b"p"), old, new)
        return change.kind, status_letter(change)

    assert letter(None, (MODE_FILE, X)) == (ChangeKind.ADDED, "A")
    assert letter((MODE_FILE, X), None) == (ChangeKind.DELETED, "D")
    assert letter((MODE_FILE, X), (MODE_FILE, Y)) == (ChangeKind.MODIFIED, "M")
    assert letter((MODE_FILE, X), (MODE_EXEC, Y)) == (ChangeKind.MODIFIED, "M")
    assert letter((MODE_FILE, X), (MODE_EXEC, X)) == (ChangeKind.MODE, "M")
    assert letter((MODE_FILE, X), (MODE_SYMLINK, X)) == (ChangeKind.TYPE, "T")
    assert letter((MODE_GITLINK, X), (MODE_FILE, Y)) == (ChangeKind.TYPE, "T")
    assert status_letter(ChangedFile(b"b", ChangeKind.RENAMED, old_path=b"a", similarity=7)) == "R007"


def test_a_change_holds_both_entries() -> None:
    """Ids are hexadecimal, modes are git's, what is not there is None."""
    change = changed_file(TreePath(b"p"), None, (MODE_EXEC, X))
    assert (change.old_oid, change.old_mode, change.new_oid, change.new_mode) == (None, None, "01" * 20, MODE_EXEC)
    assert change.size is None


def test_a_very_deep_tree_is_compared() -> None:
    """Depth costs no recursion."""
    source = MemorySource()

    def nest(content: bytes) -> Oid:
        tree = source.add_tree({b"f": (MODE_FILE, content)})
        for _ in range(4000):
            tree = source.add(KIND_TREE, serialize_tree({b"d": (MODE_TREE, tree)}))
        return tree

    [change] = diff_trees(source, nest(b"1"), nest(b"2"))
    assert change.path == b"d/" * 4000 + b"f"


def test_large_directories_are_compared_name_by_name_when_names_come_and_go() -> None:
    """The short cut for equal names does not hide an addition next to a deletion."""
    source = MemorySource()
    files = {b"%03d" % number: (MODE_FILE, b"x") for number in range(300)}
    old = source.add_tree(files)
    del files[b"007"]
    files[b"0071"] = files[b"298"] = (MODE_FILE, b"y")
    kinds = {change.path: change.kind for change in diff_trees(source, old, source.add_tree(files))}
    assert kinds == {b"007": ChangeKind.DELETED, b"0071": ChangeKind.ADDED, b"298": ChangeKind.MODIFIED}
