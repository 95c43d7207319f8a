"""Merges of lines against `git merge-tree --write-tree`, to the byte: how lines are aligned, joined and marked."""

from __future__ import annotations

import random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from avfs_git.gitstore import linediff
from avfs_git.gitstore.mergefile import ConflictStyle
from avfs_git.gitstore.trees import MODE_FILE
from tests.support.merges import Histories

_FILES = 60


@pytest.fixture(scope="module")
def histories(tmp_path_factory: pytest.TempPathFactory) -> Histories:
    """One repository for all examples."""
    return Histories(tmp_path_factory.mktemp("lines") / "lines.git")


def make_lines(rng: random.Random, count: int, kind: int) -> list[bytes]:
    """Make up lines: all different, very few different ones, each a few times, like source code, or nearly all alike."""
    words: list[bytes]
    if kind == 0:
        words = [b"line %d" % number for number in range(3 * count + 1)]
    elif kind == 1:
        words = [b"a", b"b", b"c", b"", b"  }"]
    elif kind == 2:
        words = [b"x%d" % number for number in range(max(2, count // 3))]
    elif kind == 3:
        words = [b"", b"}", b"  return", b"def f%d():" % rng.randrange(9), *(b"u%d" % number for number in range(count))]
    else:
        words = [b"same"] * 20 + [b"u%d" % number for number in range(4)]
    return [rng.choice(words) for _ in range(count)]


def edit(rng: random.Random, lines: list[bytes], kind: int, edits: int) -> list[bytes]:
    """Make up what one side did: remove, insert, replace, move, double and copy blocks."""
    lines = list(lines)
    for _ in range(rng.randint(1, edits)):
        what, at, count = rng.randrange(7), rng.randrange(len(lines) + 1), rng.choice([1, 1, 1, 2, 3, 8])
        block = lines[at : at + count]
        if what == 0:
            del lines[at : at + count]
        elif what == 1:
            lines[at:at] = make_lines(rng, count, kind)
        elif what == 2:
            lines[at : at + count] = make_lines(rng, count, kind)
        elif what == 3:
            del lines[at : at + count]
            to = rng.randrange(len(lines) + 1)
            lines[to:to] = block
        elif what == 4:
            lines[at:at] = block
        elif what == 5:
            lines[at : at + 1] = [b"changed %d" % rng.randrange(5)]
        else:
            to = rng.randrange(len(lines) + 1)
            lines[to:to] = block
    return lines


def write(rng: random.Random, lines: list[bytes], ends: list[bytes]) -> bytes:
    """Make a file of lines; the last one sometimes lacks its end."""
    data = b"".join(line + rng.choice(ends) for line in lines)
    return data[: -rng.choice([0, 0, 0, 0, 0, 1, 2]) or None]


def make_versions(rng: random.Random, count: int, edits: int) -> list[bytes]:
    """Make up a base and two sides."""
    kind = rng.randrange(5)
    base = make_lines(rng, count, kind)
    how = rng.random()
    if how < 0.8:
        sides = [edit(rng, base, kind, edits), edit(rng, base, kind, edits)]
    elif how < 0.9:  # both did much the same
        common = edit(rng, base, kind, edits)
        sides = [edit(rng, common, kind, edits), edit(rng, common, kind, edits)]
    else:
        sides = [make_lines(rng, count, kind), make_lines(rng, count, kind)]
    ends = rng.choice([[b"\n"], [b"\n"], [b"\r\n"], [b"\n", b"\r\n"]])
    return [write(rng, lines, ends if rng.random() < 0.9 else [b"\n"]) for lines in (base, *sides)]


def assert_same(histories: Histories, versions: list[list[bytes]], style: ConflictStyle = ConflictStyle.MERGE) -> None:
    """Merge many files at once; their contents show which of them are in conflict."""
    trees = [
        {b"file-%03d" % number: (MODE_FILE, contents[side]) for number, contents in enumerate(versions)} for side in range(3)
    ]
    base = histories.commit(trees[0])
    histories.assert_same_merge(histories.commit(trees[1], base), histories.commit(trees[2], base), style=style)


@settings(max_examples=25)
@given(seed=st.integers(0, 2**32), style=st.sampled_from(ConflictStyle))
def test_files_are_merged_line_by_line_as_git_merges_them(histories: Histories, seed: int, style: ConflictStyle) -> None:
    """Repeated and blank lines, moved blocks, no last end, both ends of line, empty files, lines that occur over 64 times."""
    rng = random.Random(seed)
    versions = [
        make_versions(rng, rng.choice([0, 1, 2, 5, 10, 20, 40, 80, 150]), rng.choice([1, 2, 4, 8, 20])) for _ in range(_FILES)
    ]
    assert_same(histories, versions, style)


@settings(max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 2**32))
def test_runs_that_are_kept_in_order_are_those_that_looking_again_finds(
    histories: Histories, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    """What is done for files with many edits gives the same for those with few, of which many more can be tried."""
    monkeypatch.setattr(linediff, "_MANY_RUNS", 0)
    rng = random.Random(seed)
    versions = [make_versions(rng, rng.choice([5, 20, 40, 150]), rng.choice([1, 4, 8, 20, 60])) for _ in range(_FILES)]
    assert_same(histories, versions)


@settings(max_examples=4)
@given(seed=st.integers(0, 2**32))
def test_long_files_are_merged_as_git_merges_them(histories: Histories, seed: int) -> None:
    """Where the classic comparison takes its shortcuts."""
    rng = random.Random(seed)
    versions = [make_versions(rng, rng.choice([300, 800, 2000]), rng.choice([5, 30, 100, 400])) for _ in range(8)]
    assert_same(histories, versions)
