"""How flags and environment become a home, a vault and a fork."""

from __future__ import annotations

import os
import pwd
import subprocess
from pathlib import Path

import pytest

from avfs_git.cli.context import State
from avfs_git.cli.environment import find_home, find_identity
from avfs_git.cli.output.envelope import EnvelopeOutput
from avfs_git.cli.targets import Target, parse_target
from avfs_git.errors import BadUsage
from avfs_git.model import Identity


@pytest.mark.parametrize(
    ("text", "target"),
    [
        ("work", Target("work", None)),
        ("work@main", Target("work", "main")),
        ("work@feature/x", Target("work", "feature/x")),
        ("work@a@b", Target("work", "a@b")),
        ("work@", Target("work", None)),
        ("-work", Target("-work", None)),
        ("..", Target(Path(".."), None)),
        ("./repo.git", Target(Path("repo.git"), None)),
        ("/srv/x.git", Target(Path("/srv/x.git"), None)),
        ("/nowhere/x.git@f", Target(Path("/nowhere/x.git@f"), None)),
        ("", Target("", None)),
    ],
)
def test_target_is_a_name_or_a_path(text: str, target: Target) -> None:
    """A name with an optional fork, or what looks like a path."""
    assert parse_target(text) == target


def test_target_path_may_name_a_fork_and_may_hold_an_at(tmp_path: Path) -> None:
    """The longest directory that exists is the repository; the rest is the fork."""
    (tmp_path / "a@b").mkdir()

    assert parse_target(f"{tmp_path}/a@b") == Target(tmp_path / "a@b", None)
    assert parse_target(f"{tmp_path}/a@b@feature/x") == Target(tmp_path / "a@b", "feature/x")
    assert parse_target(f"{tmp_path}@main") == Target(tmp_path, "main")


def test_home_is_where_the_environment_says(monkeypatch: pytest.MonkeyPatch, hermetic: Path) -> None:
    """AVFS_HOME, else the data directory of XDG if it is absolute, else the one below the home."""
    assert find_home() == hermetic / "avfs"

    monkeypatch.delenv("AVFS_HOME")
    assert find_home() == hermetic / ".local/share/avfs"

    monkeypatch.setenv("XDG_DATA_HOME", "/data")
    assert find_home() == Path("/data/avfs")

    monkeypatch.setenv("XDG_DATA_HOME", "data")
    assert find_home() == hermetic / ".local/share/avfs"


def test_identity_prefers_our_own_variables(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """AVFS_AUTHOR_* wins over GIT_AUTHOR_*; without any, it is the user at this host."""
    assert find_identity(tmp_path) == Identity("Ada Author", "ada@example.org")

    monkeypatch.setenv("AVFS_AUTHOR_NAME", "Agent 7")
    assert find_identity(tmp_path) == Identity("Agent 7", "ada@example.org")

    for name in ("AVFS_AUTHOR_NAME", "GIT_AUTHOR_NAME", "GIT_AUTHOR_EMAIL"):
        monkeypatch.delenv(name, raising=False)
    user = pwd.getpwuid(os.getuid()).pw_name
    assert find_identity(tmp_path).email == f"{user}@{os.uname().nodename}"


def set_email(git_dir: Path, email: str) -> None:
    """Configure an address in a repository."""
    with (git_dir / "config").open("a") as config:
        config.write(f"[user]\n\temail = {email}\n")


def test_identity_is_the_one_of_git(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """`user.name` and `user.email` count as in git: from the global, an included or the repository's configuration."""
    for name in ("GIT_AUTHOR_NAME", "GIT_AUTHOR_EMAIL"):
        monkeypatch.delenv(name)
    (tmp_path / "included").write_text("[user]\n\tname = Grace Höpper\n")
    (tmp_path / "global").write_text(f"[user]\n\temail = g@example.org\n[include]\n\tpath = {tmp_path}/included\n")
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(tmp_path / "global"))
    monkeypatch.setenv("GIT_DIR", "/nowhere")  # of another repository, in which avfs was started by git
    vault = tmp_path / "vault.git"
    subprocess.run(["git", "init", "-q", "--bare", vault], check=True, env={**os.environ, "GIT_DIR": str(vault)})

    assert find_identity(vault) == Identity("Grace Höpper", "g@example.org")

    set_email(vault, "work@example.org")
    assert find_identity(vault) == Identity("Grace Höpper", "work@example.org")

    clone = tmp_path / "clone"
    subprocess.run(["git", "init", "-q", clone], check=True, env={**os.environ, "GIT_DIR": str(clone / ".git")})
    set_email(clone / ".git", "clone@example.org")
    (vault / "avfs").mkdir()
    (vault / "avfs/origin").write_bytes(os.fsencode(clone) + b"\0")
    assert find_identity(vault) == Identity("Grace Höpper", "clone@example.org")


def test_a_name_counts_where_git_wants_an_address_as_well(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Git would refuse the commit; work is not left unsaved for that."""
    for name in ("GIT_AUTHOR_NAME", "GIT_AUTHOR_EMAIL"):
        monkeypatch.delenv(name)
    (tmp_path / "global").write_text("[user]\n\tname = Grace Höpper\n\tuseConfigOnly = true\n")
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(tmp_path / "global"))
    assert find_identity(tmp_path).name == "Grace Höpper"


def make_state(vault: str | None = None, fork: str | None = None) -> State:
    """Make a state as the flags would."""
    state = State(EnvelopeOutput([]))
    state.vault_flag, state.fork_flag = vault, fork
    return state


def chosen(vault: str | None = None, fork: str | None = None) -> Target:
    """Say which vault and fork are meant."""
    return Target(*make_state(vault, fork).choose()[:2])


def test_flags_win_over_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """`--vault` leaves AVFS_FORK aside, which belongs to AVFS_VAULT; `--fork` wins over all."""
    monkeypatch.setenv("AVFS_VAULT", "env@one")

    assert chosen() == Target("env", "one")
    assert chosen(fork="two") == Target("env", "two")
    assert chosen(vault="flag") == Target("flag", None)

    monkeypatch.setenv("AVFS_FORK", "three")

    assert chosen(fork="two") == Target("env", "two")
    with pytest.raises(BadUsage):  # they name two
        chosen()
    assert chosen(vault="flag") == Target("flag", None)
    monkeypatch.setenv("AVFS_VAULT", "env")
    assert chosen() == Target("env", "three")
    assert chosen(vault="flag@four") == Target("flag", "four")


def test_two_different_forks_are_refused() -> None:
    """A fork named twice must be the same."""
    assert chosen("v@f", "f") == Target("v", "f")
    with pytest.raises(BadUsage):
        make_state(vault="v@f", fork="g").choose()
