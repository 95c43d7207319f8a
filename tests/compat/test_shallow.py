"""Vaults of shallow repositories: history ends where git lets it end, in a log, a merge, a rebase and every check."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from avfs_git.errors import UnrelatedHistories
from avfs_git.sdk import Avfs, Vault

pytestmark = pytest.mark.needs("git", "whiteout", "user-xattrs")

_ENV = {**os.environ, "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"}


def git(where: Path, *argv: str) -> str:
    """Run git."""
    identity = ["-c", "user.name=Ada", "-c", "user.email=ada@example.org"]
    done = subprocess.run(["git", *identity, *argv], cwd=where, check=True, capture_output=True, text=True, env=_ENV)
    return done.stdout


def git_commit(where: Path, name: str, content: str) -> None:
    """Commit one file."""
    (where / name).write_text(content)
    git(where, "add", name)
    git(where, "commit", "-q", "-m", f"{name} {content.splitlines()[0]}")


@pytest.fixture
def origin(tmp_path: Path) -> Path:
    """Two branches that parted after the third commit, and a third one that was merged into the first."""
    place = tmp_path / "origin"
    git(tmp_path, "init", "-q", "-b", "main", str(place))
    for number in range(3):
        git_commit(place, "text", f"{number}\n" + "same\n" * 20)
    git(place, "branch", "topic")
    git(place, "branch", "side")
    git_commit(place, "main", "1\n")
    git_commit(place, "text", "main\n" + "same\n" * 20)
    git(place, "checkout", "-q", "side")
    git_commit(place, "side", "1\n")
    git(place, "checkout", "-q", "main")
    git(place, "merge", "-q", "-m", "join", "side")
    git(place, "checkout", "-q", "topic")
    git_commit(place, "topic", "1\n")
    git_commit(place, "text", "2\n" + "same\n" * 20 + "topic\n")
    git(place, "checkout", "-q", "main")
    return place


def clone(origin: Path, tmp_path: Path, depth: int) -> Path:
    """Clone both branches with so much of their history."""
    place = tmp_path / f"depth{depth}"
    git(tmp_path, "clone", "-q", f"--depth={depth}", "--no-single-branch", f"file://{origin}", str(place))
    for name in ("topic", "side"):
        git(place, "branch", name, f"origin/{name}")
    return place


def make_vault(home: Avfs, clone: Path, how: str) -> Vault:
    """Make a vault of a shallow clone: taken over where it is, or cloned from it."""
    if how == "source":
        return home.create_vault("v", source=clone)
    home.clone_vault(f"file://{clone}", "v")
    vault = home.open_vault("v")
    for name in ("topic", "side"):
        vault.fork(name, at=f"origin/{name}")
    return vault


@pytest.mark.parametrize("how", ["source", "clone"])
@pytest.mark.parametrize("depth", [1, 2, 3, 4])
def test_history_ends_where_git_ends_it(home: Avfs, origin: Path, tmp_path: Path, depth: int, how: str) -> None:
    """Log, merge, rebase and overlap say what git says in the same clone.

    Nothing is missing, before and after a collection.
    """
    place = clone(origin, tmp_path, depth)
    vault = make_vault(home, place, how)
    for fork in ("main", "topic", "side"):
        work = vault.workspace(fork)

        told = [entry.checkpoint.message for entry in work.log()]
        assert sorted(told) == sorted(git(place, "log", "--format=%s", f"refs/heads/{fork}", "--").splitlines())

    for ours, theirs in (("main", "topic"), ("topic", "main"), ("topic", "side")):
        argv = ["git", "merge-tree", "--write-tree", ours, theirs]
        merged = subprocess.run(argv, cwd=place, check=False, capture_output=True, text=True, env=_ENV)
        work = vault.workspace(ours)
        if "unrelated histories" in merged.stderr:
            with pytest.raises(UnrelatedHistories):
                work.merge(theirs, dry_run=True)
            with pytest.raises(UnrelatedHistories):
                vault.overlap([ours, theirs])
            continue
        planned = work.merge(theirs, dry_run=True)

        assert (planned.tree, planned.outcome == "conflicted") == (
            merged.stdout.splitlines()[0],
            bool(merged.returncode),
        )
        assert bool(vault.overlap([ours, theirs]).pairs) == bool(
            planned.conflicts or "text" in str(planned.changed_files)
        )

    work = vault.workspace("topic")
    work.write("own", b"1\n")
    work.checkpoint()
    picked = work.list_checkpoints(limit=1)[0].id
    assert vault.workspace("main").cherry_pick([picked]).outcome == "rewritten"
    vault.workspace("main").undo()
    if depth == 4:
        done = work.rebase("main")

        assert (done.outcome, len(done.commits)) == ("rewritten", 3)
        assert git(vault.path, "merge-base", "main", "topic") == git(vault.path, "rev-parse", "main")
    for _ in range(2):
        assert vault.doctor().healthy
        assert git(vault.path, "fsck", "--strict", "--no-dangling") == ""
        vault.gc()


def test_what_arrives_later_is_history(home: Avfs, origin: Path, tmp_path: Path) -> None:
    """A vault that is open while git fetches the rest of its history knows that."""
    vault = home.create_vault("v", source=clone(origin, tmp_path, 1))
    with pytest.raises(UnrelatedHistories):
        vault.workspace().merge("topic", dry_run=True)

    git(vault.path, "fetch", "-q", "--unshallow", f"file://{origin}", "+refs/heads/*:refs/fetched/*")

    assert vault.workspace().merge("topic", dry_run=True).outcome == "clean"
    assert [entry.checkpoint.message for entry in vault.workspace("topic").log()][-1] == "text 0"
