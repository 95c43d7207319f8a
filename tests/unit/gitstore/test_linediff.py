"""Comparing and merging lines where no git of another version or of unbounded patience can be asked."""

from __future__ import annotations

import random

import pytest

from avfs_git.gitstore.gitversion import GitVersion
from avfs_git.gitstore.linediff import Change, compare_lines, number_lines
from avfs_git.gitstore.mergefile import FileMerger, Labels
from avfs_git.gitstore.mergehunks import find_hunks
from avfs_git.gitstore.mergewalk import order_in_table
from avfs_git.gitstore.myers import Budget, BudgetSpent, compare_classic
from avfs_git.model import ConflictHunk, MergeStrategy

LABELS = Labels(b"base", b"ours", b"theirs")
OLD, NEW = (2, 39), (2, 54)


def compare(old: bytes, new: bytes, *, steps: int = 1_000_000, git_version: GitVersion = OLD) -> list[Change]:
    """Compare two texts."""
    before, after, _ = number_lines(old, new, b"")
    return compare_lines(before, after, Budget(steps), git_version=git_version)


def lines(text: str) -> bytes:
    """Make a text of words."""
    return "".join(word + "\n" for word in text.split()).encode()


def apply(changes: list[Change], old: bytes, new: bytes) -> bytes:
    """Make the new version of the old one."""
    before, after = old.splitlines(keepends=True), new.splitlines(keepends=True)
    out, at = [], 0
    for change in changes:
        out += before[at : change.old_start] + after[change.new_start : change.new_start + change.new_count]
        at = change.old_start + change.old_count
    return b"".join(out + before[at:])


def test_rare_lines_are_anchors() -> None:
    """Of what both have, the rarest is kept: the moved block is the one of frequent lines."""
    old, new = lines("a a a b c"), lines("b c a a a")

    assert compare(old, new) == [Change(0, 3, 0, 0), Change(5, 0, 2, 3)]


def test_changes_slide_down_as_far_as_they_go() -> None:
    """A doubled block counts as put in below."""
    assert compare(lines("x y z"), lines("x y x y z")) == [Change(2, 0, 2, 2)]


@pytest.mark.parametrize(("git_version", "expected"), [(OLD, [Change(0, 4, 0, 4)]), (NEW, [Change(3, 1, 3, 1)])])
def test_newer_gits_compare_again_what_sliding_has_joined(git_version: GitVersion, expected: list[Change]) -> None:
    """Since 2.54 git finds equal lines in groups that slid to each other; before it showed them as changed."""
    old, new = lines("A - A A A - A A A"), lines("A - A x A - A A A")

    assert compare(old, new, git_version=git_version) == expected


@pytest.mark.parametrize("repeated", [b"", b"\n}\n"])
def test_what_many_edits_cost_follows_the_length(repeated: bytes) -> None:
    """Where every fifth line is edited, twice the lines take twice the steps, not four times as many."""
    steps = []
    for length in (1_000, 2_000, 4_000):
        old = [b"line %d\n" % number + repeated * (number % 7 == 0) for number in range(length)]
        new = [b"edit %d\n" % number if number % 5 == 2 else line for number, line in enumerate(old)]
        budget = Budget(10_000_000)
        before, after, _ = number_lines(b"".join(old), b"".join(new), b"")
        changes = compare_lines(before, after, budget, git_version=OLD)
        assert len(changes) == length // 5
        steps.append(10_000_000 - budget.left)
    assert steps[2] < 2.5 * steps[1] < 2.5 * 2.5 * steps[0]


def test_beyond_the_budget_libgit2_compares() -> None:
    """What would take too long is still right, and the rest of the merge is."""
    rng = random.Random(1)
    old, new = (b"".join(rng.choice([b"a\n", b"b\n"]) for _ in range(2000)) for _ in range(2))

    with pytest.raises(BudgetSpent):
        compare_classic(list(old), list(new), Budget(100))

    assert apply(compare(old, new, steps=100), old, new) == new
    assert apply(compare(old, new), old, new) == new


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
    merged = FileMerger(favor=favor).merge(base, ours, theirs, LABELS)

    assert (merged.content, merged.is_clean) == (expected, True)


def test_a_favor_does_not_decide_in_a_base() -> None:
    """The base of another merge keeps its conflicts, with longer markers."""
    merged = FileMerger(favor=MergeStrategy.OURS).merge(b"b\n", b"o\n", b"t\n", LABELS, for_base=True, marker_size=9)

    assert not merged.is_clean
    assert merged.content == b"<<<<<<<<< ours\no\n=========\nt\n>>>>>>>>> theirs\n"


def test_union_ends_a_last_line_that_has_no_end() -> None:
    """Lines of both sides never run into each other."""
    merged = FileMerger(favor=MergeStrategy.UNION).merge(b"a\r\nb", b"a\r\no", b"a\r\nt", LABELS)

    assert merged.content == b"a\r\no\r\nt"


def test_hunks_tell_of_what_is_different_only() -> None:
    """Both sides' lines as they are in the files, and the base's; where both did the same there is no hunk."""
    base, ours, theirs = b"same\n1\n2\n3\nend", b"alike\n1\n2\nx\nend", b"alike\n1\n2\ny\nend"

    assert find_hunks(base, ours, theirs) == (ConflictHunk(4, b"3\n", b"x\n", b"y\n"),)
    assert find_hunks(None, b"x", b"y") == (ConflictHunk(1, b"", b"x", b"y"),)
    assert find_hunks(base, b"\0", theirs) == ()


def test_names_come_out_of_a_table_as_out_of_gits() -> None:
    """By a hash, and by when they were put in; a full table grows and turns its chains."""
    names = [b"d%03d" % number for number in range(200)]

    assert order_in_table([b"b", b"a"]) == order_in_table([b"a", b"b"])
    assert sorted(order_in_table(names)) == names
    assert order_in_table(names) != names
