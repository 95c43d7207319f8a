"""What looks at history say of a path that history does not have, though it is there: ignored and saved, or new."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from avfs_git.errors import PathNotFound, PathUnsuitable
from avfs_git.sdk import Vault, Workspace
from tests.support.oracle import git


@pytest.fixture
def side(vault: Vault) -> Workspace:
    """A fork with a commit of git's, and two checkpoints beside which `.env` was saved."""
    work = vault.workspace("main")
    work.write(".gitignore", b".env\n")
    work.write("a", b"a\n")
    work.checkpoint("start")
    tree = git("rev-parse", "main^{tree}", cwd=vault.path).decode().strip()
    commit = git("commit-tree", "-m", "by git", tree, cwd=vault.path).decode().strip()
    git("update-ref", "refs/heads/side", commit, cwd=vault.path)
    side = vault.workspace("side")
    for label in ("one", "two"):
        side.write(".env", label.encode())
        side.checkpoint(label)
    side.write(".env", b"unsaved")
    return side


@pytest.mark.parametrize(
    "look",
    [
        lambda side: side.path_versions(".env"),
        lambda side: side.draw_log(paths=[".env"]),
        lambda side: side.blame(".env"),
        lambda side: side.revert_path(".env"),
    ],
    ids=["log", "drawn log", "blame", "revert"],
)
def test_a_saved_file_beside_history_is_told_as_such(side: Workspace, look: Callable[[Workspace], object]) -> None:
    """It is no path of nothing, and a checkpoint brings it back."""
    with pytest.raises(PathUnsuitable, match="is beside history") as raised:
        look(side)
    assert "avfs checkout .env --at LABEL" in (raised.value.hint or "")
    assert side.checkout_path(".env", at="one").outcome == "restored"
    assert side.read(".env") == b"one"


def test_a_new_file_is_in_no_history_yet(side: Workspace) -> None:
    """The state that lacks it is named: the workspace has it."""
    side.write("new", b"new")
    for look in (side.path_versions, side.blame):
        with pytest.raises(PathNotFound, match=r"nothing at '/new' in '"):
            look("new")


def test_an_ignored_file_does_not_come_from_a_commit_of_gits(side: Workspace) -> None:
    """That state says nothing of what git does not know: nothing is restored of it, and nothing saved."""
    first = "side~2"
    operations = side.vault.operations()
    with pytest.raises(PathNotFound, match=r"nothing at '/.env' in '"):
        side.checkout_path(".env", at=first)
    for dry_run in (False, True):
        with pytest.raises(PathNotFound, match=r"nothing at '/.env' in '"):
            side.restore(first, paths=["a", ".env"], dry_run=dry_run)
    assert side.vault.operations() == operations
    assert side.read(".env") == b"unsaved"
