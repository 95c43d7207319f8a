"""Branches that git moved under a workspace: a commit, a reset, `branch -f`, a push."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from avfs_git.errors import CannotUndo, RefConflict
from avfs_git.sdk import Avfs, Vault, Workspace
from tests.support.faults import check_vault, git, reachable_contents

pytestmark = pytest.mark.needs("git", "whiteout", "user-xattrs")
_WHO = ("-c", "user.name=Somebody Else", "-c", "user.email=else@example.org")


@pytest.fixture
def moved(vault: Vault, work: Workspace) -> str:
    """Two checkpoints; the first one's id."""
    work.write("a", b"1")
    work.write("b", b"1")
    first = work.checkpoint("one").checkpoint
    work.write("a", b"2")
    work.checkpoint("two")
    assert first is not None
    return first.id


def _commit(vault: Vault, path: str, content: bytes) -> str:
    """Commit a file on the branch as git does, without a working tree."""
    blob = subprocess.run(
        ["git", f"--git-dir={vault.path}", "hash-object", "-w", "--stdin"],
        input=content,
        capture_output=True,
        check=True,
    ).stdout.decode()
    entries = git(vault.path, "ls-tree", "main").splitlines()
    kept = [line for line in entries if not line.endswith(f"\t{path}")]
    tree = subprocess.run(
        ["git", f"--git-dir={vault.path}", "mktree"],
        input="\n".join([*kept, f"100644 blob {blob.strip()}\t{path}", ""]).encode(),
        capture_output=True,
        check=True,
    ).stdout.decode()
    commit = git(vault.path, *_WHO, "commit-tree", tree.strip(), "-p", "main", "-m", "by git").strip()
    git(vault.path, "update-ref", "refs/heads/main", commit)
    return commit


def test_a_commit_of_git_is_not_overwritten(vault: Vault, work: Workspace, moved: str) -> None:
    """A checkpoint that would take back what git committed is refused, and says so; nothing changes."""
    commit = _commit(vault, "b", b"by git")
    work.write("c", b"mine")

    assert {change.path for change in work.status().changed_files} == {b"b", b"c"}
    with pytest.raises(RefConflict):
        work.checkpoint()
    assert git(vault.path, "rev-parse", "main").strip() == commit
    assert work.read("c") == b"mine"
    assert work.read("b") == b"1"
    work.undo()  # of what was written since
    assert not work.exists("c")
    assert git(vault.path, "rev-parse", "main").strip() == commit
    with pytest.raises(CannotUndo):
        work.undo()
    check_vault(vault)


def test_a_squash_takes_no_commit_of_git_for_the_workspaces_own(vault: Vault, work: Workspace, moved: str) -> None:
    """The branch would be at a commit of avfs's then, whose files the workspace does not have."""
    commit = _commit(vault, "b", b"by git")

    with pytest.raises(RefConflict):
        work.squash(moved)
    assert git(vault.path, "rev-parse", "main").strip() == commit
    work.update()
    assert work.squash(moved).outcome == "rewritten"
    work.write("c", b"mine")
    work.checkpoint()
    assert git(vault.path, "show", "main:b") == "by git"


def test_restore_takes_over_what_git_committed(vault: Vault, work: Workspace, moved: str) -> None:
    """A restore of the head brings its files in; what was uncommitted is kept, and work goes on."""
    _commit(vault, "b", b"by git")
    work.write("a", b"mine, not committed")
    result = work.restore("HEAD")

    assert (work.read("a"), work.read("b")) == (b"2", b"by git")
    assert result.saved is not None
    assert b"mine, not committed" in reachable_contents(vault.path)
    work.write("c", b"more")
    assert work.checkpoint().outcome == "created"
    assert git(vault.path, "show", "main:b") == "by git"
    check_vault(vault)


@pytest.mark.parametrize("how", ["reset", "branch -f"])
def test_a_branch_that_went_back_keeps_the_files(vault: Vault, work: Workspace, moved: str, how: str) -> None:
    """Git took the branch back outside of the tree.

    No checkpoint brings back what git dropped before the user chooses.
    """
    if how == "reset":
        git(vault.path, "update-ref", "refs/heads/main", moved)
    else:
        git(vault.path, "symbolic-ref", "HEAD", "refs/heads/elsewhere")
        git(vault.path, "branch", "-f", "main", moved)
        git(vault.path, "symbolic-ref", "HEAD", "refs/heads/main")

    assert work.read("a") == b"2"
    assert [change.path for change in work.status().changed_files] == [b"a"]
    with pytest.raises(RefConflict):
        work.checkpoint("again")
    work.restore("HEAD")  # to drop it here, too
    assert work.read("a") == b"1"
    assert git(vault.path, "rev-parse", "main^{tree}") == git(vault.path, "rev-parse", f"{moved}^{{tree}}")
    work.undo()
    assert work.read("a") == b"2"
    (merge,) = work.update()  # to have it on the branch again
    assert merge.outcome == "fast_forward"
    assert work.read("a") == b"2"
    assert work.status().clean
    check_vault(vault)


def test_a_push_into_the_vault_is_seen(vault: Vault, work: Workspace, moved: str, tmp_path: Path) -> None:
    """What somebody pushes to a fork's branch shows as a difference, and comes in with a restore."""
    clone = tmp_path / "clone"
    subprocess.run(["git", "clone", "-q", str(vault.path), str(clone)], check=True)
    (clone / "pushed").write_bytes(b"from outside")
    for arguments in (["add", "-A"], [*_WHO, "commit", "-qm", "outside"], ["push", "-q", "origin", "HEAD:main"]):
        subprocess.run(["git", "-C", str(clone), *arguments], check=True)

    assert [(change.path, str(change.kind)) for change in work.status().changed_files] == [(b"pushed", "deleted")]
    assert work.diff().files[0].change.path == b"pushed"
    with pytest.raises(RefConflict):
        work.checkpoint()
    work.restore("HEAD")
    assert work.read("pushed") == b"from outside"
    assert work.status().clean
    check_vault(vault)


def test_show_and_diff_of_a_commit_of_git(vault: Vault, work: Workspace, moved: str) -> None:
    """A commit without a sidecar is shown and compared like any other."""
    commit = _commit(vault, "b", b"by git")
    details = vault.show(commit)

    assert [change.path for change in details.changed_files] == [b"b"]
    assert details.checkpoint.sidecar is None
    diff = vault.diff("two", commit, fork="main")
    assert [file.change.path for file in diff.files] == [b"b"]
    assert diff.files[0].hunks[0].lines


def test_a_lost_log_blames_nobody(tmp_path: Path) -> None:
    """Avfs knows what it put on the branch from a ref, too."""
    with Avfs(tmp_path / "home") as avfs, avfs.create_vault("v") as vault:
        work = vault.fork("work")
        work.write("a", b"1")
        work.checkpoint()
        work.write("b", b"1")
    vault.path.joinpath("avfs", "oplog").unlink()

    with Avfs(tmp_path / "home") as avfs, avfs.open_vault("v").workspace("work") as work:
        assert work.status().warnings == ()
        assert work.checkpoint().outcome == "created"
