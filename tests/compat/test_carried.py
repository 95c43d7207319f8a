"""What a vault takes over from a clone that git obeys outside of commits: the author."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from avfs_git.cli.environment import find_identity
from avfs_git.sdk import Avfs
from tests.support.oracle import git

pytestmark = pytest.mark.needs("git", "user-xattrs")


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A clone with a commit."""
    place = tmp_path / "clone"
    git("init", "-q", "-b", "main", place)
    (place / "a").write_text("a\n")
    git("add", ".", cwd=place)
    git("commit", "-qm", "one", cwd=place)
    return place


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """Where the user's configuration is, which is empty."""
    (tmp_path / "settings").touch()
    return {"PATH": os.environ["PATH"], "GIT_CONFIG_GLOBAL": str(tmp_path / "settings"), "GIT_CONFIG_NOSYSTEM": "1"}


def test_a_vault_of_a_clone_commits_as_git_does_there(
    tmp_path: Path, clone: Path, environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the clone's own author, before the user's: the commit of the import and the checkpoints, too."""
    for name in [name for name in os.environ if name.startswith(("GIT_", "AVFS_"))]:
        monkeypatch.delenv(name)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    git("config", "--file", environment["GIT_CONFIG_GLOBAL"], "user.name", "Bea")
    git("config", "--file", environment["GIT_CONFIG_GLOBAL"], "user.email", "bea@home.example")
    git("config", "user.email", "bea@work.example", cwd=clone)
    (clone / "a").write_text("changed\n")
    with (
        Avfs(tmp_path / "home", identity=find_identity, remote_environment=environment) as home,
        home.create_vault("v", source=clone) as vault,
    ):
        work = vault.workspace()
        work.write("b", b"b\n")
        work.checkpoint("b")
        said = git("log", "-2", "--format=%an <%ae>", "main", cwd=vault.path)
    assert said == b"Bea <bea@work.example>\n" * 2
