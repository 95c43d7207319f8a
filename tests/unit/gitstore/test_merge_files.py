"""Merging the lines of one file, and telling of those that are in conflict."""

from __future__ import annotations

import pytest

from avfs_git.gitstore.merge.engine import ConflictStyle, Labels
from avfs_git.gitstore.merge.files import FileMerger, find_hunks
from avfs_git.model import ConflictHunk, MergeStrategy

LABELS = Labels(b"base", b"ours", b"theirs")


@pytest.mark.parametrize(
    ("favor", "expected"),
    [
        (MergeStrategy.OURS, b"a\nours\nz\nnew\n"),
        (MergeStrategy.THEIRS, b"a\ntheirs\nz\nnew\n"),
        (MergeStrategy.UNION, b"a\nours\ntheirs\nz\nnew\n"),
    ],
)
def test_a_favor_decides_on_conflicts_alone(favor: MergeStrategy, expected: bytes) -> None:
    """What only one side changed is taken in any case."""
    base, ours, theirs = b"a\nb\nz\n", b"a\nours\nz\n", b"a\ntheirs\nz\nnew\n"

    assert FileMerger(favor=favor).merge(base, ours, theirs, LABELS) == (expected, True)


def test_a_favor_does_not_decide_in_a_base() -> None:
    """The base of another merge keeps its conflicts, with longer markers."""
    merged = FileMerger(favor=MergeStrategy.OURS).merge(b"b\n", b"o\n", b"t\n", LABELS, for_base=True, marker_size=9)

    assert merged == (b"<<<<<<<<< ours\no\n=========\nt\n>>>>>>>>> theirs\n", False)


def test_union_ends_a_last_line_that_has_no_end() -> None:
    """Lines of both sides never run into each other."""
    merged = FileMerger(favor=MergeStrategy.UNION).merge(b"a\r\nb", b"a\r\no", b"a\r\nt", LABELS)

    assert merged.content == b"a\r\no\r\nt"


@pytest.mark.parametrize(
    ("style", "shown"),
    [
        (ConflictStyle.MERGE, b"a\n<<<<<<< ours\nx\n=======\ny\n>>>>>>> theirs\nz\n"),
        (ConflictStyle.DIFF3, b"<<<<<<< ours\na\nx\n||||||| base\nb\n=======\na\ny\n>>>>>>> theirs\nz\n"),
        (ConflictStyle.ZDIFF3, b"a\n<<<<<<< ours\nx\n||||||| base\nb\n=======\ny\n>>>>>>> theirs\nz\n"),
    ],
)
def test_conflicts_are_shown_in_three_styles(style: ConflictStyle, shown: bytes) -> None:
    """With the base's lines or without, and with what both sides begin with inside or above."""
    merged = FileMerger(style=style).merge(b"b\nz\n", b"a\nx\nz\n", b"a\ny\nz\n", LABELS)

    assert merged == (shown, False)


def test_what_is_no_text_is_one_side_s() -> None:
    """Contents with a zero byte are not merged; a favored side decides."""
    merger, favoring = FileMerger(), FileMerger(favor=MergeStrategy.THEIRS)

    assert merger.merge(b"1\0", b"2\0", b"3\0", LABELS) == (b"2\0", False)
    assert favoring.merge(b"1\0", b"2\0", b"3\0", LABELS) == (b"3\0", True)
    assert merger.merge(b"1\0", b"2\0", b"3\0", LABELS, for_base=True) == (b"1\0", False)


def test_hunks_tell_of_what_is_different_only() -> None:
    """Both sides' lines as they are in the files, and the base's; where both did the same there is no hunk."""
    base, ours, theirs = b"same\n1\n2\n3\nend", b"alike\n1\n2\nx\nend", b"alike\n1\n2\ny\nend"

    assert find_hunks(base, ours, theirs) == (ConflictHunk(4, b"3\n", b"x\n", b"y\n"),)
    assert find_hunks(None, b"x", b"y") == (ConflictHunk(1, b"", b"x", b"y"),)
    assert find_hunks(None, b"x\r\n\r", b"y\r\n") == (ConflictHunk(1, b"", b"x\r\n\r", b"y\r\n"),)
    assert find_hunks(base, b"\0", theirs) == ()
    assert find_hunks(base, ours, ours) == ()


def test_hunks_stand_at_lines_of_our_version() -> None:
    """Also below lines that only the other side put in or took out, and where our version has none."""
    lines = [b"%d\n" % number for number in range(30)]
    ours, theirs = list(lines), list(lines)
    ours[10], theirs[10] = b"mine\n", b"yours\n"
    theirs[25] = b"changed\n"
    del ours[25], theirs[20]
    theirs[2:4] = [b"more\n"] * 5
    ours[15:15] = [b"only\n", b"ours\n"]

    found = find_hunks(*(b"".join(each) for each in (lines, ours, theirs)))

    assert found == (ConflictHunk(11, b"10\n", b"mine\n", b"yours\n"), ConflictHunk(28, b"25\n", b"", b"changed\n"))


def test_lines_that_look_like_markers_are_lines() -> None:
    """Whatever stands in a file, the hunks are those of the merge."""
    marked = b"<<<<<<< a\n=======\n||||||| b\n>>>>>>> c\n=================\n"

    found = find_hunks(marked + b"x\n", marked + b"y\n" + marked, marked + b"z\n")

    assert found == (ConflictHunk(6, b"x\n", b"y\n" + marked, b"z\n"),)
