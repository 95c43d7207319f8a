"""What an undone checkpoint leaves: files uncommitted again, and a commit that nothing of the fork's leads to."""

from __future__ import annotations

from pathlib import Path

import pytest

from avfs_git import Avfs
from avfs_git.sdk import Vault, Workspace
from avfs_git.session.control import operations
from tests.support.servers import git

pytestmark = pytest.mark.needs("git", "whiteout", "user-xattrs")


def _clone_with_build(directory: Path) -> Path:
    """Make a clone whose commit is git's, with ignored files beside it."""
    git("init", "-q", "-b", "main", str(directory), cwd=directory.parent)
    (directory / ".gitignore").write_bytes(b".env\n*.o\n")
    (directory / "a.c").write_bytes(b"int a;\n")
    git("add", "-A", cwd=directory)
    git("commit", "-qm", "one", cwd=directory)
    (directory / ".env").write_bytes(b"old\n")
    (directory / "a.o").write_bytes(b"old object\n")
    return directory


def _check_ignored_files(vault: Vault, work: Workspace) -> None:
    """Change ignored files, save, and take that back: what is uncommitted then is what was saved."""
    work.write(".env", b"new\n")
    work.write("b.o", b"new object\n")
    work.remove("a.o")
    work.checkpoint()
    work.undo()

    assert {change.path for change in work.status().sidecar_changed} == {b".env", b"a.o", b"b.o"}

    task = vault.fork("task", source=work.fork)
    assert (task.read(".env"), task.read("b.o"), task.exists("a.o")) == (b"new\n", b"new object\n", False)
    work.write("b.o", b"newer object\n")
    assert work.checkpoint().outcome == "created"
    again = vault.fork("again", at=work.log()[0].checkpoint.id, source=work.fork)
    assert (again.read(".env"), again.read("b.o"), again.exists("a.o")) == (b"new\n", b"newer object\n", False)


def test_ignored_files_of_an_undone_checkpoint_are_uncommitted(tmp_path: Path) -> None:
    """The commit that the fork goes back to is git's and says nothing of ignored files."""
    source = _clone_with_build(tmp_path / "source")
    with Avfs(tmp_path / "home") as avfs:
        vault = avfs.create_vault("v", source=source)
        _check_ignored_files(vault, vault.workspace())


def test_ignored_files_after_a_commit_of_gits_and_an_undo(tmp_path: Path) -> None:
    """So it is where git has put a commit on a checkpoint, and a checkpoint after that is taken back."""
    source = _clone_with_build(tmp_path / "source")
    with Avfs(tmp_path / "home") as avfs:
        vault = avfs.create_vault("v", source=source)
        work = vault.workspace()
        work.write(".env", b"between\n")
        first = work.checkpoint().checkpoint
        assert first is not None
        tree = git("rev-parse", f"{first.id}^{{tree}}", cwd=vault.path)
        made = git("commit-tree", "-p", first.id, "-m", "git's", tree, cwd=vault.path)
        git("update-ref", "refs/heads/main", made, cwd=vault.path)

        assert work.status().clean
        _check_ignored_files(vault, work)


def test_a_fork_of_a_commit_of_gits_has_the_ignored_files(tmp_path: Path) -> None:
    """What a fork last recorded beside its history goes along where git has committed since."""
    source = _clone_with_build(tmp_path / "source")
    with Avfs(tmp_path / "home") as avfs:
        vault = avfs.create_vault("v", source=source)
        work = vault.workspace()
        work.write(".env", b"between\n")
        first = work.checkpoint().checkpoint
        assert first is not None
        tree = git("rev-parse", f"{first.id}^{{tree}}", cwd=vault.path)
        git(
            "update-ref",
            "refs/heads/main",
            git("commit-tree", "-p", first.id, "-m", "git's", tree, cwd=vault.path),
            cwd=vault.path,
        )
        task = vault.fork("task")

        assert (task.read(".env"), task.read("a.o")) == (b"between\n", b"old object\n")


@pytest.mark.parametrize("removes", [True, False])
def test_an_undone_commit_stays_away(removes: bool, tmp_path: Path) -> None:
    """After an undo and a push by another user, `update` merges the push with the state before.

    It does not merge the push with the undone commit.
    """
    with Avfs(tmp_path / "home") as avfs:
        vault = avfs.create_vault("v")
        work = vault.workspace()
        work.write("a", b"1\n")
        work.checkpoint()
        work.write("secret", b"xyzzy\n")
        undone = work.checkpoint().checkpoint
        assert undone is not None
        work.undo()
        if removes:
            work.remove("secret")
        clone = tmp_path / "clone"
        git("clone", "-q", str(vault.path), str(clone), cwd=tmp_path)
        (clone / "a").write_bytes(b"theirs\n")
        git("commit", "-qam", "theirs", cwd=clone)
        git("push", "-q", "origin", "HEAD:main", cwd=clone)
        theirs = git("rev-parse", "HEAD", cwd=clone)
        work.update()

        reached = git("rev-list", "main", cwd=vault.path).split()
        assert theirs in reached
        assert undone.id not in reached
        assert work.read("a") == b"theirs\n"
        assert work.exists("secret") is not removes
        if removes:
            assert git("log", "--format=%h", "--", "secret", cwd=vault.path) == ""


def test_undo_of_a_checkpoint_saves_what_is_uncommitted(work: Workspace) -> None:
    """Though the files stay, what no branch has then is a commit before anything else happens; the result names it."""
    work.write("a", b"1")
    work.checkpoint("c1")
    work.write("a", b"2")
    work.checkpoint("c2")
    work.write("a", b"3, uncommitted")
    work.write("x", b"new")
    record = work.vault._core.oplog.find_undoable("main")
    assert record is not None
    # an undo that has not recorded the changes
    result = work.vault._dispatch.run(work._opened, operations.turn, record.id, True)

    assert result.operation.description == "checkpoint c2"
    assert work.read("a") == b"3, uncommitted"
    assert result.saved is not None
    assert work.vault.diff(result.saved, result.saved).files == ()
    assert b"".join(work.open_read("a", at=result.saved)) == b"3, uncommitted"
    assert b"".join(work.open_read("x", at=result.saved)) == b"new"
    assert {change.path for change in work.status().changed_files} == {b"a", b"x"}
