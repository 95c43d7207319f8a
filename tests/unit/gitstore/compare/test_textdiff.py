"""Diffs of single files: the structure of hunks, counts, sizes, bounds, what is read."""

from __future__ import annotations

import pytest

from avfs_git.errors import ObjectMissing
from avfs_git.gitstore.compare import textdiff
from avfs_git.gitstore.compare.renames import detect_renames
from avfs_git.gitstore.compare.textdiff import file_diff, quote_path
from avfs_git.gitstore.compare.treediff import diff_trees
from avfs_git.model import DiffLine, FileDiff
from tests.support.objects import Files, MemorySource

FILE, EXEC, LINK = 0o100644, 0o100755, 0o120000


def diff_one(old: Files, new: Files, *, context: int = 3, text: bool = True) -> FileDiff:
    """Compare two trees that differ in one file."""
    source = MemorySource()
    [change] = detect_renames(source, diff_trees(source, source.add_tree(old), source.add_tree(new)))
    return file_diff(source, change, context=context, text=text)


def test_hunks_number_their_lines_on_both_sides() -> None:
    """Content comes without its newline; the last line may say that it has none."""
    diff = diff_one({b"f": (FILE, b"a\nb\nc")}, {b"f": (FILE, b"a\nB\nc\n")}, context=1)
    [hunk] = diff.hunks
    assert (hunk.old_start, hunk.old_lines, hunk.new_start, hunk.new_lines) == (1, 3, 1, 3)
    assert hunk.lines == (
        DiffLine(" ", b"a", 1, 1),
        DiffLine("-", b"b", 2, None),
        DiffLine("-", b"c", 3, None, ends_without_newline=True),
        DiffLine("+", b"B", None, 2),
        DiffLine("+", b"c", None, 3),
    )
    assert (diff.additions, diff.deletions, diff.old_size, diff.new_size, diff.change.size) == (2, 2, 5, 6, 6)


def test_a_heading_is_the_last_line_that_starts_like_a_name() -> None:
    """Headings say where a hunk is, cut at 80 bytes."""
    old = b"def f():\n" + b"    pass\n" * 9 + b"_" * 90 + b"\n" + b"    pass\n" * 9
    diff = diff_one({b"f": (FILE, old)}, {b"f": (FILE, old.replace(b"pass\n_", b"stop\n_")[:-5] + b"stop\n")})
    assert [hunk.heading for hunk in diff.hunks] == [b"def f():", b"_" * 80]


def test_binary_files_have_no_hunks_and_their_sizes() -> None:
    """Binary content is named, not shown."""
    diff = diff_one({b"f": (FILE, b"\0")}, {b"f": (FILE, b"\0\0")})
    assert diff.binary
    assert not diff.hunks
    assert (diff.additions, diff.deletions, diff.old_size, diff.new_size) == (0, 0, 1, 2)
    assert diff.patch.endswith(b"\nBinary files a/f and b/f differ\n")


def test_a_file_that_is_too_long_is_treated_as_binary_and_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """One huge file does not take all memory."""
    monkeypatch.setattr(textdiff, "MAX_TEXT_SIZE", 100)
    source = MemorySource()
    [change] = diff_trees(source, source.add_tree({}), source.add_tree({b"f": (FILE, b"x\n" * 60)}))
    source.objects = {oid: (kind, b"" if kind == 3 else data) for oid, (kind, data) in source.objects.items()}
    source.blob_size = lambda oid: 120  # type: ignore[method-assign]
    diff = file_diff(source, change)
    assert diff.binary
    assert diff.new_size == 120


def test_counts_alone_come_without_text() -> None:
    """A summary costs neither hunks nor a patch."""
    diff = diff_one({b"f": (FILE, b"a\nb\n")}, {b"f": (FILE, b"a\nc\nd\n")}, text=False)
    assert (diff.additions, diff.deletions, diff.hunks, diff.patch) == (2, 1, (), b"")


def test_a_change_of_type_is_a_deletion_and_a_creation() -> None:
    """Hunks and patch show both; the counts compare the contents."""
    diff = diff_one({b"f": (FILE, b"target")}, {b"f": (LINK, b"target")})
    assert (diff.additions, diff.deletions) == (0, 0)
    assert diff.patch.count(b"diff --git a/f b/f\n") == 2
    assert [(hunk.old_lines, hunk.new_lines) for hunk in diff.hunks] == [(1, 0), (0, 1)]


def test_a_renamed_file_of_equal_content_has_no_body() -> None:
    """The header says it all."""
    diff = diff_one({b"a": (FILE, b"x\n")}, {b"b": (FILE, b"x\n")})
    assert diff.patch == b"diff --git a/a b/b\nsimilarity index 100%\nrename from a\nrename to b\n"
    assert diff.hunks == ()


def test_a_missing_content_is_an_error() -> None:
    """A diff is never quietly empty."""
    source = MemorySource()
    [change] = diff_trees(source, source.add_tree({}), source.add_tree({b"f": (FILE, b"x")}))
    source.blob_size = lambda oid: 1  # type: ignore[method-assign]
    source.objects.clear()
    with pytest.raises(ObjectMissing):
        file_diff(source, change)


def test_paths_are_quoted_only_where_they_must_be() -> None:
    """Spaces are common; everything else that is odd is escaped."""
    assert quote_path(b"with space/x", b"a/") == b"a/with space/x"
    assert quote_path(b'q"\t\x01\xc3\xa9', b"b/") == b'"b/q\\"\\t\\001\\303\\251"'
