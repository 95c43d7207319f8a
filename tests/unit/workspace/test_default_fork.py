"""Which fork is meant where none is named, and what is said where none can be."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from avfs_git import Avfs, Vault
from avfs_git.errors import ForkNotFound, NoForkChosen, NoForks

pytestmark = pytest.mark.needs("git")


@pytest.fixture
def vault(tmp_path: Path) -> Iterator[Vault]:
    """An empty vault."""
    with Avfs(tmp_path / "home") as avfs, avfs.create_vault("work") as made:
        yield made


def git(vault: Vault, *arguments: str) -> None:
    """Run git in the vault."""
    subprocess.run(["git", "-C", vault.path, *arguments], check=True, capture_output=True)


def test_an_empty_vault_has_the_fork_that_head_names(vault: Vault) -> None:
    """It has no commit yet; also after its first commit was undone."""
    with vault.workspace() as work:
        assert work.fork == "main"
        work.write("x", b"1")
        work.checkpoint()
    vault.undo()
    vault.undo()
    assert [fork.name for fork in vault.list_forks()] == ["main"]
    assert vault.workspace().fork == "main"


def test_undo_of_the_first_checkpoint_after_a_fold_leaves_the_fork(vault: Vault) -> None:
    """Its files stay, and redo and undo go on in it."""
    work = vault.workspace()
    work.write("x", b"1")
    work.checkpoint()
    assert work.fold()
    vault.undo()

    assert [fork.name for fork in vault.list_forks()] == ["main"]
    assert vault.workspace().read("x") == b"1"

    vault.undo()
    assert not vault.workspace().exists("x")
    vault.redo()
    vault.redo()
    assert vault.workspace().read("x") == b"1"
    assert len(vault.workspace().log()) == 1


def test_a_vault_whose_forks_are_gone_says_so(vault: Vault) -> None:
    """No empty one takes their place; undo brings the deleted branch back, and a new one of the name can be made."""
    vault.workspace().write("x", b"1")
    saved = vault.workspace().checkpoint().checkpoint
    assert saved is not None
    git(vault, "update-ref", "-d", "refs/heads/main")

    for call in (vault.workspace, lambda: vault.show("HEAD"), lambda: vault.fork("next"), vault.push_to_origin):
        with pytest.raises(NoForks, match="vault 'work' has no fork"):
            call()
    with pytest.raises(ForkNotFound, match="no fork 'main' in vault 'work'"):
        vault.workspace("main")
    assert (vault.list_forks(), vault.info().forks, vault.info().default_fork) == ([], 0, None)

    vault.fork("next", at=saved.id)
    assert vault.workspace().fork == "next"
    vault.undo(fork="main")
    assert vault.workspace().read("x") == b"1"
    assert vault.workspace().fork == "main"


def test_a_vault_with_several_forks_and_no_default_asks_which(vault: Vault) -> None:
    """It lists them; the only one is meant without a question."""
    vault.workspace().write("x", b"1")
    vault.workspace().checkpoint("start")
    vault.fork("a")
    git(vault, "update-ref", "-d", "refs/heads/main")
    assert vault.workspace().fork == "a"

    vault.fork("b")
    for call in (vault.workspace, vault.undo, lambda: vault.log("HEAD"), lambda: vault.fork("c"), vault.prefetch):
        with pytest.raises(NoForkChosen, match="several forks and no default: 'a', 'b'") as refused:
            call()
        assert refused.value.details == {"vault": "work", "forks": ["a", "b"]}
    assert vault.show("b").checkpoint.id == vault.workspace("b").log()[0].checkpoint.id


def test_head_of_a_pushed_vault_does_not_make_a_fork(vault: Vault, tmp_path: Path) -> None:
    """A branch was pushed into an empty vault whose HEAD names another: that branch is the fork."""
    clone = tmp_path / "clone"
    subprocess.run(["git", "init", "-q", "-b", "topic", clone], check=True)
    ada = ["-c", "user.name=Ada", "-c", "user.email=ada@example.org"]
    subprocess.run(["git", "-C", clone, *ada, "commit", "-q", "--allow-empty", "-m", "x"], check=True)
    subprocess.run(["git", "-C", clone, "push", "-q", vault.path, "topic"], check=True, capture_output=True)

    assert vault.workspace().fork == "topic"
    assert [fork.name for fork in vault.list_forks()] == ["topic"]
