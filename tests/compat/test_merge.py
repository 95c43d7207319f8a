"""Merges against `git merge-tree --write-tree`: the verdict and the tree, over made-up histories."""

from __future__ import annotations

import random
import subprocess

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from avfs_git.gitstore.formats.trees import EMPTY_TREE, MODE_FILE
from avfs_git.gitstore.merge.bases import find_merge_bases
from avfs_git.gitstore.merge.engine import ConflictStyle, EngineName
from avfs_git.paths import Oid
from tests.support.merges import Histories, change, cross, make_files


@pytest.fixture(scope="module")
def histories(tmp_path_factory: pytest.TempPathFactory) -> Histories:
    """One repository for all examples."""
    return Histories(tmp_path_factory.mktemp("merge") / "merge.git")


@settings(max_examples=80)
@given(seed=st.integers(0, 2**32))
def test_a_merge_by_libgit2_is_what_git_makes_of_it(histories: Histories, seed: int) -> None:
    """Edits, additions, deletions, renames, modes, links, files against directories: all but directories that moved.

    The verdict is git's, and so is the tree of a clean merge; lines are all different, so that it is clear which are
    which.
    """
    rng = random.Random(seed)
    files = make_files(rng)
    base = histories.commit(files)
    ours = histories.commit(change(rng, files), base)
    theirs = histories.commit(change(rng, files), base)
    done = histories.ask_git(ours, theirs, "-c", "merge.directoryRenames=false")
    if histories.gave_up(done):
        return
    told = done.stdout.decode("utf-8", "replace")

    merged = histories.merge(EngineName.LIBGIT2, ours, theirs)

    if not histories.is_slip(told, ours, theirs):
        assert merged.is_clean == (done.returncode == 0), (told, merged.conflicts)
        assert not merged.is_clean or (merged.tree or EMPTY_TREE).hex() == told.partition("\n")[0]


@settings(max_examples=25)
@given(seed=st.integers(0, 2**32), style=st.sampled_from(ConflictStyle))
def test_a_merge_by_git_is_git_s(histories: Histories, seed: int, style: ConflictStyle) -> None:
    """Directories that moved as a whole, too, and what a conflict leaves in the tree."""
    rng = random.Random(seed)
    files = make_files(rng)
    base = histories.commit(files)
    ours, theirs = (histories.commit(change(rng, files), base) for _ in range(2))
    histories.assert_same_merge(ours, theirs, style=style)


@settings(max_examples=40)
@given(seed=st.integers(0, 2**32))
def test_merge_bases_are_those_of_git(histories: Histories, seed: int) -> None:
    """All best common ancestors are found, whatever the clocks said."""
    rng = random.Random(seed)
    commits: list[Oid] = []
    for number in range(rng.randint(4, 14)):
        histories.clock_s = 1_700_000_000 + rng.randrange(40)
        parents = rng.sample(commits, min(len(commits), rng.choice([0, 1, 1, 1, 2, 2]))) if commits else []
        commits.append(histories.commit({b"n": (MODE_FILE, b"%d %d\n" % (seed, number))}, *parents))
    for _ in range(4):
        one, two = rng.choice(commits), rng.choice(commits)
        argv = ["git", f"--git-dir={histories.git.git_dir}", "merge-base", "--all", one.hex(), two.hex()]
        expected = subprocess.run(argv, check=False, capture_output=True, text=True).stdout.split()
        found = [oid.hex() for oid in find_merge_bases(histories.store, one, two)]
        assert sorted(found) == sorted(expected)


@settings(max_examples=20)
@given(seed=st.integers(0, 2**32))
def test_a_merge_of_crossed_histories_is_git_s(histories: Histories, seed: int) -> None:
    """Two lines that merged each other once or more: git finds and merges their common ancestors itself."""
    rng = random.Random(seed)
    files = make_files(rng)
    base = histories.commit(files)
    sides = [change(rng, files), change(rng, files)]
    ours, theirs = ((histories.commit(side, base), side) for side in sides)
    for _ in range(rng.randint(1, 3)):
        ours, theirs = cross(rng, histories, ours, theirs), cross(rng, histories, theirs, ours)
    histories.assert_same_merge(ours[0], theirs[0])
