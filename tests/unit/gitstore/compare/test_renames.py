"""Finding renames: what is compared, and within which bounds."""

from __future__ import annotations

import pytest

from avfs_git.gitstore.compare import renames
from avfs_git.gitstore.compare.renames import detect_renames
from avfs_git.gitstore.compare.treediff import diff_trees
from avfs_git.model import ChangedFile, ChangeKind
from tests.support.objects import MemorySource

FILE = 0o100644
LINES = b"".join(b"line %d\n" % number for number in range(20))


def changes_between(old: dict[bytes, bytes], new: dict[bytes, bytes], *, limit: int = 1000) -> list[ChangedFile]:
    """Compare two sets of files."""
    source = MemorySource()
    before, after = (
        source.add_tree({path: (FILE, content) for path, content in files.items()}) for files in (old, new)
    )
    return detect_renames(source, diff_trees(source, before, after), limit=limit)


def test_an_edited_file_is_found_under_its_new_name() -> None:
    """A rename holds both sides and how much is left."""
    [change] = changes_between({b"old/a": LINES}, {b"new/b": LINES + b"more\n"})
    assert (change.kind, change.old_path, change.path) == (ChangeKind.RENAMED, b"old/a", b"new/b")
    assert change.similarity == len(LINES) * 100 // (len(LINES) + 5)
    assert change.old_oid != change.new_oid


def test_other_changes_stay_and_all_are_in_order() -> None:
    """What is no rename is passed through."""
    old = {b"a": b"1\n", b"m": LINES, b"z": b"unlike\n"}
    new = {b"a": b"2\n", b"b": LINES, b"c": b"quite different\n"}
    found = [(change.path, change.kind) for change in changes_between(old, new)]
    expected = [
        (b"a", ChangeKind.MODIFIED),
        (b"b", ChangeKind.RENAMED),
        (b"c", ChangeKind.ADDED),
        (b"z", ChangeKind.DELETED),
    ]
    assert found == expected


def test_more_pairs_than_the_limit_are_left_but_equal_content_and_names_are_not() -> None:
    """The limit bounds only the comparison of everything with everything."""
    old = {b"a/1": LINES, b"a/2": LINES * 2, b"a/same": LINES * 3, b"a/equal": b"equal\n"}
    new = {b"b/3": LINES + b"x\n", b"b/4": LINES * 2 + b"y\n", b"b/same": LINES * 3 + b"z\n", b"b/moved": b"equal\n"}
    found = {change.path for change in changes_between(old, new, limit=1) if change.kind is ChangeKind.RENAMED}
    assert found == {b"b/same", b"b/moved"}
    assert len(changes_between(old, new, limit=2)) == 4


def test_files_beyond_the_bounds_are_paired_only_if_equal(monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that is too large is not read; nor is one more when enough was read."""
    old, new = {b"a": LINES, b"c": b"same\n" * 99}, {b"b": LINES + b"x\n", b"d": b"same\n" * 99}
    assert {change.kind for change in changes_between(old, new)} == {ChangeKind.RENAMED}
    monkeypatch.setattr(renames, "MAX_FILE_SIZE", 100)
    assert [str(change.kind) for change in changes_between(old, new)] == ["deleted", "added", "renamed"]
    monkeypatch.setattr(renames, "MAX_FILE_SIZE", 10_000)
    monkeypatch.setattr(renames, "MAX_TOTAL_SIZE", len(LINES) + 10)
    assert [str(change.kind) for change in changes_between(old, new)] == ["deleted", "added", "renamed"]


def test_no_content_is_read_for_exact_renames() -> None:
    """A threshold of 100 per cent compares ids."""
    source = MemorySource()
    old, new = (
        source.add_tree({b"a": (FILE, LINES), b"b": (FILE, LINES * 2)}),
        source.add_tree({b"c": (FILE, LINES), b"d": (FILE, b"")}),
    )
    plain = diff_trees(source, old, new)
    source.objects.clear()
    found = detect_renames(source, plain, threshold=100)
    assert [(change.path, str(change.kind), change.similarity) for change in found] == [
        (b"b", "deleted", None),
        (b"c", "renamed", 100),
        (b"d", "added", None),
    ]
