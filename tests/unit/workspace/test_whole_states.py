"""The whole state of a fork that a label or a log operation stands for, even with its branch at a commit of git's."""

from __future__ import annotations

from pathlib import Path

import pytest

from avfs_git.sdk import Avfs, Vault
from tests.support.oracle import git


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A clone that ignores `.env`, which is there, and has a file that is not committed."""
    place = tmp_path / "clone"
    place.mkdir()
    git("init", "-q", "-b", "main", cwd=place)
    (place / ".gitignore").write_bytes(b".env\n*.log\n")
    (place / "a").write_bytes(b"a\n")
    git("add", "-A", cwd=place)
    git("commit", "-q", "-m", "first", cwd=place)
    (place / ".env").write_bytes(b"TOKEN=1\n")
    return place


@pytest.fixture
def vault(tmp_path: Path, clone: Path) -> Vault:
    """A vault of the clone."""
    return Avfs(tmp_path / "home").create_vault("v", source=clone)


def test_a_label_on_an_unchanged_fork_keeps_what_is_ignored(vault: Vault) -> None:
    """Git's commit has none of it; the label brings it back here, in a fork of it, and removes what came later."""
    work = vault.workspace()
    base = git("rev-parse", "main", cwd=vault.path)
    made = work.checkpoint("start")
    assert made.outcome == "created"
    assert made.changed_files == ()
    assert git("rev-parse", "main^", cwd=vault.path) == base
    assert git("rev-parse", "main^{tree}", cwd=vault.path) == git("rev-parse", "main^^{tree}", cwd=vault.path)
    work.remove(".env")
    work.write("x.log", b"later\n")

    work.restore("start")

    assert work.read(".env") == b"TOKEN=1\n"
    assert not work.exists("x.log")
    assert vault.fork("f", at="start").read(".env") == b"TOKEN=1\n"
    assert work.checkpoint("again").outcome == "unchanged"


def test_a_label_needs_no_commit_where_nothing_is_beside(tmp_path: Path, clone: Path) -> None:
    """Then git's own commit is all of the state."""
    (clone / ".env").unlink()
    vault = Avfs(tmp_path / "home").create_vault("v", source=clone)
    assert vault.workspace().checkpoint("start").outcome == "unchanged"


def test_without_a_label_git_keeps_its_commit(vault: Vault) -> None:
    """The log has what is ignored; the history of the branch stays git's."""
    assert vault.workspace().checkpoint().outcome == "unchanged"


def test_the_state_after_the_making_of_a_fork_is_restored_whole(vault: Vault, tmp_path: Path) -> None:
    """With what the source had not committed, and with what it ignores."""
    vault.workspace().write("unc", b"not committed\n")
    work = vault.fork("f", with_changes=True)
    (made,) = (each for each in vault.operations(fork="f") if each.kind == "fork_create")
    for path in (".env", "unc"):
        work.remove(path)
    work.write("x.log", b"later\n")

    vault.restore_operation(made.id)

    assert (work.read(".env"), work.read("unc")) == (b"TOKEN=1\n", b"not committed\n")
    assert not work.exists("x.log")
