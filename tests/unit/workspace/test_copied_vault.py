"""A vault that is copied: with extended attributes it is the same; without them no change is guessed."""

from __future__ import annotations

import shutil
import subprocess

import pytest

from avfs_git.errors import LayerNotUnderstood
from avfs_git.sdk import Avfs, Vault, Workspace

pytestmark = pytest.mark.needs("user-xattrs")


def test_a_copy_with_attributes_shows_the_same(home: Avfs, vault: Vault, work: Workspace) -> None:
    """`cp -a` copies the marks of the layer."""
    work.write("d/e", b"one\n")
    work.checkpoint("one")
    work.move("d", "moved")
    vault.close()
    subprocess.run(["cp", "-a", vault.path, vault.path.with_name("copy.git")], check=True)

    assert [found.path for found in home.open_vault("copy").workspace().walk()] == [b"moved", b"moved/e"]


def test_a_copy_without_attributes_is_refused(home: Avfs, vault: Vault, work: Workspace) -> None:
    """Where something was changed; another fork of it is as it was."""
    work.write("d/e", b"one\n")
    work.checkpoint("one")
    vault.fork("idle")
    work.move("d", "moved")
    vault.close()
    subprocess.run(["cp", "-r", vault.path, vault.path.with_name("copy.git")], check=True)

    copy = home.open_vault("copy")
    with pytest.raises(LayerNotUnderstood, match="copy without extended attributes"):
        copy.workspace("main").checkpoint("all")
    assert [found.path for found in copy.workspace("idle").walk()] == [b"d", b"d/e"]


def test_a_vault_without_any_workspace_makes_them_again(vault: Vault, work: Workspace) -> None:
    """What operations have recorded comes back, as where one workspace alone is gone."""
    work.write("a", b"one\n")
    work.checkpoint("one")
    vault.fork("side").write("a", b"two\n")
    vault.close()
    shutil.rmtree(vault.path / "avfs" / "workspaces")

    with Avfs(vault.path.parents[1]) as again:
        assert again.open_vault("v").workspace("side").read("a") == b"two\n"
