"""Branches that somebody else moves under a workspace, as a push into the vault does: shown, and never silently different."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from avfs_git.errors import RefConflict
from avfs_git.sdk import Avfs, Vault, Workspace
from tests.support.servers import git, make_bare


@pytest.fixture(params=["plain", pytest.param("mounted", marks=pytest.mark.needs("fuse"))])
def work(request: pytest.FixtureRequest, tmp_path: Path, mount_dir: Path) -> Iterator[Workspace]:
    """A workspace with two files and a change of its own, onto whose branch somebody has pushed; mounted, and not."""
    with Avfs(tmp_path / "home") as avfs:
        vault = avfs.create_vault("v")
        work = vault.workspace()
        for name in ("a", "b"):
            work.write(name, b"1\n")
        work.checkpoint("one")
        session = work.mount(mount_dir / "tree") if request.param == "mounted" else None
        try:
            work.write("b", b"mine\n")
            clone = tmp_path / "clone"
            git("clone", "-q", str(vault.path), str(clone), cwd=tmp_path)
            (clone / "a").write_bytes(b"theirs\n")
            git("commit", "-qam", "theirs", cwd=clone)
            if session is None:
                git("push", "-q", "origin", "HEAD:main", cwd=clone)
            else:  # git refuses a push to a branch that is checked out in a live tree; by hand it can be moved all the same
                with pytest.raises(subprocess.CalledProcessError, match="returned non-zero"):
                    git("push", "-q", "origin", "HEAD:main", cwd=clone)
                git("fetch", "-q", str(clone), "HEAD", cwd=vault.path)
                git("update-ref", "refs/heads/main", git("rev-parse", "HEAD", cwd=clone), cwd=vault.path)
            yield work
        finally:
            if session is not None:
                session.unmount()


def test_a_push_into_a_fork_is_shown(work: Workspace) -> None:
    """Status says that the branch was moved and what to do, and no checkpoint takes back what was pushed."""
    status = work.status()
    with pytest.raises(RefConflict) as refused:
        work.checkpoint("two")

    assert [warning.code for warning in status.warnings] == ["fork.moved_outside"]
    assert str(refused.value.hint) == "Bring in what was put there with `avfs update main`."
    assert work.read("a") == b"1\n"


def test_update_brings_in_what_was_pushed(work: Workspace) -> None:
    """Both changes are there afterwards, in the files and in one history; a checkpoint goes on from there, and undo goes back."""
    theirs = git("rev-parse", "main", cwd=work.vault.path)
    merges = work.update()
    status = work.status()
    head = git("rev-parse", "main", cwd=work.vault.path)
    again = work.update()

    assert [merge.outcome for merge in merges] == ["clean"]
    assert (work.read("a"), work.read("b")) == (b"theirs\n", b"mine\n")
    assert status.clean
    assert status.warnings == ()
    assert theirs in git("rev-list", head, cwd=work.vault.path).split()
    assert again == []
    work.undo()
    assert (work.read("a"), work.read("b")) == (b"1\n", b"mine\n")


def test_an_update_in_conflict_changes_nothing(work: Workspace) -> None:
    """What was pushed stays on the branch, what the workspace has stays in its files."""
    theirs = git("rev-parse", "main", cwd=work.vault.path)
    work.write("a", b"mine, too\n")

    merges = work.update()

    assert [merge.outcome for merge in merges] == ["conflicted"]
    assert git("rev-parse", "main", cwd=work.vault.path) == theirs
    assert (work.read("a"), work.read("b")) == (b"mine, too\n", b"mine\n")
    assert [warning.code for warning in work.status().warnings] == ["fork.moved_outside"]


def save(vault: Vault, fork: str, path: str, data: bytes) -> None:
    """Write a file and make a checkpoint."""
    vault.workspace(fork).write(path, data)
    vault.workspace(fork).checkpoint()


def test_update_follows_the_remote_or_the_fork_it_was_made_from(tmp_path: Path) -> None:
    """Without a remote branch of its name a fork follows its parent; with one, that."""
    bare = make_bare(tmp_path / "served.git")
    with Avfs(tmp_path / "home") as avfs:
        vault = avfs.create_vault("v")
        save(vault, "main", "a", b"1\n")
        vault.fork("topic")
        save(vault, "main", "a", b"2\n")
        vault.workspace("topic").write("own", b"1\n")
        followed = vault.workspace("topic").update()
        vault.add_remote("origin", str(bare))
        vault.push(["topic"])
        avfs.clone_vault(str(bare), "w", branch="topic")
        other = avfs.open_vault("w")
        save(other, "topic", "b", b"3\n")
        other.push()
        save(vault, "main", "c", b"4\n")
        fetched = vault.workspace("topic").update()
        nothing = vault.workspace("main").update()

        assert [(merge.source, merge.outcome) for merge in followed] == [("main", "clean")]
        assert [(merge.source, merge.outcome) for merge in fetched] == [("origin/topic", "fast_forward")]
        assert nothing == []
        assert [vault.workspace("topic").exists(name) for name in ("a", "own", "b", "c")] == [True, True, True, False]
