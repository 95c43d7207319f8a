"""Two actors at every point: a sample of the matrix, and the cells that once went wrong."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.seeds import choose_seed

pytestmark = [pytest.mark.slow, pytest.mark.needs("fuse", "git", "user-xattrs", "whiteout"), pytest.mark.timeout(600)]

PROJECT = Path(__file__).parents[2]


def _run(*arguments: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.support.two_actors", *arguments],
        cwd=PROJECT,
        check=False,
        stdout=subprocess.PIPE,
        text=True,
    )
    print(done.stdout)

    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("part", range(2))
def test_a_sample_of_the_matrix(part: int) -> None:
    """Whatever a second actor does at a point of an operation, nothing is lost and each actor is told.

    `AVFS_SEED` repeats a run.
    """
    _run("--seed", str(choose_seed() + part), "--count", "9", "--operations", "3", "--jobs", "1")


@pytest.mark.ordinary
def test_a_sample_of_the_matrix_as_an_ordinary_user() -> None:
    """So it is for ordinary users."""
    _run("--seed", str(choose_seed()), "--count", "6", "--operations", "2", "--jobs", "1")


@pytest.mark.parametrize(
    "name",
    [
        "exec/refs.moved_one#1/git-pack-refs/waits",  # git removed a directory of refs that was about to be synced
        "delete-mounted/worktree.put_away#1/git-gc/waits",  # git removed the directory of worktrees that was about to be synced
        "fork-live/durable.begun#2/undo/waits",  # the next to be undone was another fork's when the mounted one's was looked for
        "fetch/remotes.pruned#1/git-gc/waits",  # git collected what was fetched before a ref named it, and the ref moved
        "delete-mounted/refs.moved_one#7/push/dies",  # a push made the branch anew beside the workspace of a killed deletion
    ],
)
def test_what_once_went_wrong(name: str) -> None:
    """Cells of the matrix, each with what it stands for."""
    _run("--cell", name)
