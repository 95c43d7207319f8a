"""Merges against `git merge-tree --write-tree`: the verdict and the tree, over made-up histories."""

from __future__ import annotations

import random
import subprocess

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from avfs_git.gitstore.drywriter import DryWriter
from avfs_git.gitstore.merge import CommitMerger
from avfs_git.gitstore.mergebase import find_merge_bases
from avfs_git.gitstore.treediff import find_differences
from avfs_git.gitstore.trees import MODE_FILE
from avfs_git.paths import Oid, TreePath
from tests.support.merges import Histories, change, cross, make_files


@pytest.fixture(scope="module")
def histories(tmp_path_factory: pytest.TempPathFactory) -> Histories:
    """One repository for all examples."""
    return Histories(tmp_path_factory.mktemp("merge") / "merge.git")


@settings(max_examples=120)
@given(seed=st.integers(0, 2**32))
def test_a_merge_is_what_git_makes_of_it(histories: Histories, seed: int) -> None:
    """Edits, additions, deletions, renames of files and directories, modes, links and files against directories."""
    rng = random.Random(seed)
    files = make_files(rng)
    base = histories.commit(files)
    ours = histories.commit(change(rng, files), base)
    theirs = histories.commit(change(rng, files), base)
    histories.assert_same_merge(ours, theirs)


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
        found = [oid.hex() for oid in find_merge_bases(histories.store.read_links, one, two)]
        assert sorted(found) == sorted(expected)


@settings(max_examples=60)
@given(seed=st.integers(0, 2**32))
def test_a_merge_of_crossed_histories_is_what_git_makes_of_it(histories: Histories, seed: int) -> None:
    """Two lines that merged each other once or more: their common ancestors are merged first, conflicts and all.

    Some files are empty, some are copies of one another: of several that may have been renamed git takes the first it meets.
    """
    rng = random.Random(seed)
    files = make_files(rng)
    for path in sorted(files):
        if rng.random() < 0.2:
            files[path] = (MODE_FILE, rng.choice([b"", b"a line\n" * 3 + b"and another\n"]))
    base = histories.commit(files)
    sides = [change(rng, files), change(rng, files)]
    ours, theirs = ((histories.commit(side, base), side) for side in sides)
    for _ in range(rng.randint(1, 3)):
        ours, theirs = cross(rng, histories, ours, theirs), cross(rng, histories, theirs, ours)
        if rng.random() < 0.3:
            later = change(rng, ours[1])
            ours = histories.commit(later, ours[0]), later
    histories.assert_same_merge(ours[0], theirs[0])


def test_a_file_that_a_renamed_directory_meets_is_put_aside(histories: Histories) -> None:
    """Git 2.39 forgets the file that stands where the directory of a moved file has to be; nothing is lost here."""
    files = {b"c/one": (MODE_FILE, b"1\n2\n3\n"), b"c/two": (MODE_FILE, b"4\n5\n6\n"), b"moved/in": (MODE_FILE, b"stays\n")}
    base = histories.commit(files)
    moved = {path.replace(b"c/", b"moved/"): entry for path, entry in files.items()}
    added = {b"c/new": (MODE_FILE, b"new\n"), b"c/in/deep": (MODE_FILE, b"added\n")}
    ours, theirs = histories.commit(moved, base), histories.commit(files | added, base)

    assert not histories.assert_same_merge(ours, theirs)

    writer = DryWriter(histories.store)
    merged = CommitMerger(writer).merge(ours, theirs, our_label=b"ours", their_label=b"theirs")
    found = {
        path: writer.read_blob(entry[1]) for path, (_, entry) in find_differences(writer, None, merged.tree).items() if entry
    }
    assert found[TreePath(b"moved/in~ours")] == b"stays\n"
    assert found[TreePath(b"moved/in/deep")] == b"added\n"
