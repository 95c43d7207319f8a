"""The git directories of live trees: which forks have one."""

from __future__ import annotations

from pathlib import Path

from avfs_git.sdk import Vault
from avfs_git.workspace.vault.gitmoves import list_with_git_dir, prepare_worktree


def test_forks_with_a_git_directory_are_found_by_it(vault: Vault, tmp_path: Path) -> None:
    """Whatever their names are; a directory whose fork is gone, and one of git's own, are none of a fork."""
    vault.workspace().checkpoint("first")
    core, names = vault._core, ["a/b", "c%2Fd", "plain", "without"]
    for name in (*names, "gone"):
        vault.fork(name)
    for name in ("plain", "c%2Fd", "a/b", "gone"):
        prepare_worktree(core, name, tmp_path / "tree")
    vault.delete_fork("gone")
    (core.git_dir / "worktrees" / "of-git").mkdir()

    assert list_with_git_dir(core, None) == ["a/b", "c%2Fd", "plain"]
    assert list_with_git_dir(core, "a/b") == ["a/b"]
    assert list_with_git_dir(core, "without") == []
