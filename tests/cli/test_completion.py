"""`avfs completion`: what a real bash adds to a command line."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.cli import Cli

Complete = Callable[[str], list[str]]
_SCRIPT = """
avfs() { "$PYTHON" -m avfs_git "$@"; }
compopt() { :; }
source <(avfs completion bash)
COMP_LINE=$LINE_TYPED
COMP_POINT=${#COMP_LINE}
_avfs_completion avfs
[[ ${#COMPREPLY[@]} == 0 ]] || printf '%s\\n' "${COMPREPLY[@]}"
"""


@pytest.fixture
def complete(cli: Cli, work: str) -> Complete:
    """What the function of the script gives in a bash; nothing is ever said on standard error."""
    cli("write", "src/deep/with space.txt", stdin=b"x").ok()
    cli("write", "src/deep/main.py", stdin=b"x").ok()
    cli("checkpoint", "save", "first").ok()
    cli("fork", "create", "task").ok()

    def run(line: str) -> list[str]:
        environment = {**os.environ, "PYTHON": sys.executable, "LINE_TYPED": line}
        ran = subprocess.run(
            ["bash", "-c", _SCRIPT], env=environment, capture_output=True, text=True, timeout=60, check=True
        )
        assert ran.stderr == ""
        return ran.stdout.splitlines()

    return run


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("avfs chec", ["checkpoint", "checkout"]),
        ("avfs fork del", ["delete"]),
        ("avfs diff --sta", ["--stat"]),
        ("avfs merge --on-conflict w", ["workspace"]),
        ("avfs vault use w", ["work"]),
        ("avfs --vault work@t", ["task"]),  # bash's word begins behind the @
        ("avfs --fork t", ["task"]),
        ("avfs merge t", ["task"]),
        ("avfs show fi", ["first"]),
        ("avfs checkout src/deep/main.py --at main@", ["first"]),
        ("avfs cat sr", ["src/"]),
        ("avfs cat src/deep/", ["src/deep/main.py", "src/deep/with\\ space.txt"]),
        ("avfs --fork task cat src/deep/m", ["src/deep/main.py"]),
        ("avfs cat 'src/deep/with sp", ["src/deep/with space.txt"]),
        ("avfs cat nosuch/", []),
        ("avfs nosuch ", []),
        ("avfs --vault nosuch cat s", []),
        ("avfs --fork nosuch cat s", []),
    ],
)
def test_bash_completes(complete: Complete, line: str, found: list[str]) -> None:
    """Each kind of name; where anything is wrong, nothing and no message."""
    assert complete(line) == found


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_each_shell_has_a_script(cli: Cli, shell: str) -> None:
    """It names the variable with which the shell asks."""
    assert f"_AVFS_COMPLETE={shell}_complete" in cli("completion", shell).ok().text


def test_a_held_lock_is_not_waited_for(complete: Complete, work: str) -> None:
    """While another process holds every lock of the vault, names still come or nothing does: no message, no wait."""
    vault = Path(os.environ["AVFS_HOME"], "vaults", f"{work}.git")
    held = [path.open("rb") for path in vault.rglob("*lock*") if path.is_file()]
    assert held
    for file in held:
        fcntl.flock(file, fcntl.LOCK_EX)
    try:
        assert complete("avfs --fork t") == ["task"]
        assert complete("avfs cat src/deep/m") in ([], ["src/deep/main.py"])
    finally:
        for file in held:
            file.close()
