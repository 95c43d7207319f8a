"""How flags and environment become a home, a vault and a fork."""

from __future__ import annotations

from pathlib import Path

import pytest

from avfs_git.cli.context import State, Target, find_home, find_identity, parse_target
from avfs_git.cli.output.envelope import EnvelopeOutput
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


def test_identity_prefers_our_own_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    """AVFS_AUTHOR_* wins over GIT_AUTHOR_*; without any, it is the user at this host."""
    assert find_identity() == Identity("Ada Author", "ada@example.org")

    monkeypatch.setenv("AVFS_AUTHOR_NAME", "Agent 7")
    assert find_identity() == Identity("Agent 7", "ada@example.org")

    for name in ("AVFS_AUTHOR_NAME", "GIT_AUTHOR_NAME", "GIT_AUTHOR_EMAIL"):
        monkeypatch.delenv(name, raising=False)
    assert find_identity().email.partition("@")[0] == find_identity().name


def make_state(vault: str | None = None, fork: str | None = None) -> State:
    """Make a state as the flags would."""
    state = State(EnvelopeOutput([]))
    state.vault_flag, state.fork_flag = vault, fork
    return state


def test_flags_win_over_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """`--vault` leaves AVFS_FORK aside, which belongs to AVFS_VAULT; `--fork` wins over all."""
    monkeypatch.setenv("AVFS_VAULT", "env@one")

    assert make_state().target() == Target("env", "one")
    assert make_state(fork="two").target() == Target("env", "two")
    assert make_state(vault="flag").target() == Target("flag", None)

    monkeypatch.setenv("AVFS_FORK", "three")

    assert make_state().target() == Target("env", "three")
    assert make_state(vault="flag").target() == Target("flag", None)
    assert make_state(vault="flag@four").target() == Target("flag", "four")


def test_two_different_forks_are_refused() -> None:
    """A fork named twice must be the same."""
    assert make_state(vault="v@f", fork="f").target() == Target("v", "f")
    with pytest.raises(BadUsage):
        make_state(vault="v@f", fork="g").target()
