"""Another repository where a clone was: the vault of the clone's forks is not taken for its own."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from avfs_git.errors import CloneReplaced
from avfs_git.sdk import Avfs, Vault
from avfs_git.workspace.exchange.source import is_source
from tests.support.cli import Cli

pytestmark = pytest.mark.needs("git", "fuse", "user-xattrs", "whiteout")


def git(place: Path, *arguments: str) -> str:
    """Run git somewhere."""
    line = ["git", "-C", str(place), "-c", "user.name=N", "-c", "user.email=n@example.org", *arguments]
    return subprocess.run(line, check=True, capture_output=True, text=True).stdout


def make_repository(place: Path, text: str, *, commits: int = 2) -> Path:
    """Make a repository whose commits no other one has."""
    place.mkdir(parents=True)
    git(place, "init", "-q", "-b", "main")
    for number in range(commits):
        (place / "file").write_text(f"{text} {number}\n")
        git(place, "add", ".")
        git(place, "commit", "-q", "-m", f"{text} {number}")
    return place


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A clone of an upstream."""
    make_repository(tmp_path / "upstream", "upstream")
    git(tmp_path, "clone", "-q", str(tmp_path / "upstream"), "clone")
    return tmp_path / "clone"


@pytest.fixture
def home(mount_dir: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Avfs]:
    """A home."""
    monkeypatch.setenv("AVFS_HOME", str(mount_dir / "h"))
    with Avfs(mount_dir / "h") as home:
        yield home


@pytest.fixture
def vault(home: Avfs, clone: Path, mount_dir: Path) -> Vault:
    """The vault of a clone's forks, with one fork that has a checkpoint."""
    session = home.fork_directory(clone, mount_dir / "one")
    (session.path / "new").write_text("by an agent\n")
    session.stop()
    return session.vault


def _replace(clone: Path) -> None:
    shutil.rmtree(clone)
    make_repository(clone, "another")


@pytest.mark.usefixtures("vault")
def test_a_program_runs_in_another_repository(clone: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a fork of that, in a vault of its own, as `avfs fork` makes one.

    The variable of another vault does not count.
    """
    _replace(clone)
    monkeypatch.chdir(clone)

    ran = cli("run", "--", "true", env={"AVFS_VAULT": "clone"}).ok()

    assert "this one is in 'clone-2'" in ran.stderr
    assert "of vault clone-2, at" in ran.stderr


def test_nothing_is_handed_to_another_repository(vault: Vault, clone: Path) -> None:
    """Neither by push nor by apply; and nothing is fetched from it."""
    _replace(clone)
    before = git(clone, "for-each-ref"), (clone / "file").read_text()
    for step in (
        lambda: vault.push(["one"]),
        lambda: vault.push_to_origin(["one"]),
        vault.fetch,
        lambda: vault.apply("one", clone),
    ):
        with pytest.raises(CloneReplaced, match="they share no commit"):
            step()
    assert (git(clone, "for-each-ref"), (clone / "file").read_text()) == before
    assert not (clone / "new").exists()


def test_another_repository_gets_a_vault_of_its_own(home: Avfs, vault: Vault, clone: Path, mount_dir: Path) -> None:
    """The forks of the older clone stay where they are."""
    _replace(clone)
    with home.fork_directory(clone, mount_dir / "two") as session:
        assert session.vault.name == "clone-2"
        assert [warning.code for warning in session.vault.warnings] == ["fork.clone_replaced"]
        assert (session.path / "file").read_text() == "another 1\n"
    with home.fork_directory(clone, mount_dir / "three") as session:
        assert (session.vault.name, session.vault.warnings) == ("clone-2", ())
    assert [fork.name for fork in vault.list_forks()] == ["one"]


def test_the_directory_of_another_repository_does_not_mean_the_vault(vault: Vault, clone: Path) -> None:
    """A command there says so; an option still means the vault."""
    _replace(clone)
    said = [
        subprocess.run(
            [sys.executable, "-m", "avfs_git", *line], cwd=clone, capture_output=True, text=True, check=False
        )
        for line in (["status"], ["--vault", "clone@one", "status"])
    ]
    assert said[0].returncode == CloneReplaced.exit_code
    assert f"the repository at '{clone}' is not the clone that vault 'clone' has forks of" in said[0].stderr
    assert "`avfs fork " in said[0].stderr
    assert "--vault clone" in said[0].stderr
    assert said[1].returncode == 0, said[1].stderr


def _amend_all(clone: Path, upstream: Path) -> None:
    """Write another history over the branch, and forget the older one but for its root."""
    del upstream
    git(clone, "remote", "remove", "origin")
    git(clone, "reset", "-q", "--hard", "HEAD~1")
    (clone / "file").write_text("rewritten\n")
    git(clone, "commit", "-q", "-am", "rewritten")
    git(clone, "reflog", "expire", "--expire=now", "--all")
    git(clone, "gc", "-q", "--prune=now")


def _clone_anew(clone: Path, upstream: Path) -> None:
    shutil.rmtree(clone)
    (upstream / "file").write_text("later\n")
    git(upstream, "commit", "-q", "-am", "later")
    git(upstream, "clone", "-q", str(upstream), str(clone))


def _clone_shallow(clone: Path, upstream: Path) -> None:
    shutil.rmtree(clone)
    git(upstream, "clone", "-q", "--depth=1", f"file://{upstream}", str(clone))


def _move(clone: Path, upstream: Path) -> None:
    del upstream
    clone.rename(clone.with_name("elsewhere"))
    os.symlink("elsewhere", clone)


def _take_repository_away(clone: Path, upstream: Path) -> None:
    del upstream
    shutil.rmtree(clone / ".git")


@pytest.mark.parametrize("change", [_amend_all, _clone_anew, _clone_shallow, _move, _take_repository_away])
def test_a_clone_is_known_again(
    vault: Vault, clone: Path, tmp_path: Path, change: Callable[[Path, Path], None]
) -> None:
    """By one commit that both have; also where the clone had commits that nothing else had."""
    change(clone, tmp_path / "upstream")
    assert is_source(vault.path, clone)


def test_a_vault_of_a_folder_or_of_a_repository_without_commits_has_no_clone(
    home: Avfs, tmp_path: Path, mount_dir: Path
) -> None:
    """A repository that is made there later is the folder's own."""
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "file").write_text("first\n")
    home.fork_directory(tmp_path / "folder", mount_dir / "one").stop()
    git(tmp_path / "folder", "init", "-q")
    home.fork_directory(tmp_path / "folder", mount_dir / "two").stop()
    assert [info.name for info in home.list_vaults()] == ["folder"]
