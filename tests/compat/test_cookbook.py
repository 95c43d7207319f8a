"""The recipes of docs/guides/cookbook.md, run as they stand, with a script for the agent."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

import avfs_git
from tests.support.oracle import git

_PAGE = (Path(__file__).parents[2] / "docs" / "guides" / "cookbook.md").read_text("utf-8")
_RECIPES = {part.partition("\n")[0]: part for part in _PAGE.split("\n## ")[1:]}

_AGENT = """#!/bin/sh
case "${AVFS_ATTEMPT:-}$1" in
    2*|add|one|fix) echo fixed > app.txt ;;
    *) echo almost > app.txt ;;
esac
echo "$1" > "said-$1"
"""


def blocks(recipe: str, language: str) -> list[str]:
    """Read the programs of a recipe."""
    return re.findall(rf"```{language}\n(.*?)```", _RECIPES[recipe], re.DOTALL)


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    """A clone of a server, whose check fails until somebody writes `fixed`."""
    bin_dir, clone = tmp_path / "bin", tmp_path / "shop"
    bin_dir.mkdir()
    (bin_dir / "agent").write_text(_AGENT)
    (bin_dir / "agent").chmod(0o755)
    (bin_dir / "avfs").write_text(f'#!/bin/sh\nexec {sys.executable} -m avfs_git "$@"\n')
    (bin_dir / "avfs").chmod(0o755)
    git("init", "-q", "-b", "main", clone)
    (clone / "Makefile").write_text("check:\n\tgrep -q fixed app.txt\n")
    (clone / "app.txt").write_text("broken\n")
    git("add", "-A", cwd=clone)
    git("commit", "-q", "-m", "start", cwd=clone)
    git("clone", "-q", "--bare", clone, tmp_path / "server.git")
    return clone


def run(script: str, cwd: Path, home: str, *argv: str, env: Mapping[str, str] | None = None) -> str:
    """Run a program where `agent` and `avfs` are on the path, and give what it says."""
    root = cwd.parent
    found = {
        **os.environ,
        "PATH": f"{root / 'bin'}:{os.environ['PATH']}",
        "PYTHONPATH": str(Path(avfs_git.__file__).parents[1]),
        "AVFS_HOME": str(root / home),
        **(env or {}),
    }
    done = subprocess.run(
        [*(argv or ("sh", "-e", "-c")), script],
        cwd=cwd,
        env=found,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.needs("fuse", "git", "user-xattrs", "whiteout")
def test_best_of_n(shop: Path) -> None:
    """The attempt that passes is kept, and its change is in the directory, uncommitted."""
    run(blocks("Best of N", "sh")[0], shop, "home")

    assert (shop / "app.txt").read_text() == "fixed\n"
    assert b"app.txt" in git("diff", "--name-only", cwd=shop)


@pytest.mark.needs("git")
def test_a_fleet_on_one_server(shop: Path) -> None:
    """What an agent pushed on one machine is in `main` on the server, in its name, after another took it in."""
    server = shop.parent / "server.git"
    agents, taker = blocks("A fleet on one git server", "sh")
    run(agents, shop, "agents", env={"SERVER": str(server)})
    run(taker, shop, "taker", env={"SERVER": str(server)})

    assert git("log", "-1", "--format=%an", "main", cwd=server) == b"Agent one\n"
    assert git("show", "main:app.txt", cwd=server) == b"fixed\n"
    assert git("show", "two:app.txt", cwd=server) == b"almost\n"


@pytest.mark.needs("git")
def test_review_before_merge(shop: Path) -> None:
    """The fork is looked at, checked and merged, and what an undo would do is said."""
    begin = "avfs vault create shop --from . && avfs fork create fix && avfs exec --fork fix -- agent fix\n"
    said = run(begin + blocks("Review before merge", "sh")[0], shop, "home")

    assert "+fixed" in said
    assert "Would undo in main: merge fix" in said


@pytest.mark.needs("git")
def test_evaluations_with_resets(shop: Path) -> None:
    """Each case begins with the state of the beginning, also the second time."""
    (shop.parent / "evals").mkdir()
    shop.rename(shop.parent / "evals" / "project")
    said = run(blocks("Evaluations with resets", "python")[0], shop.parent / "evals", "unused", sys.executable, "-c")

    rows = [line.split() for line in said.splitlines()]
    assert rows == [["adds", "0", "0", "None", "2"], ["breaks", "0", "2", "2", "2"], ["waits", "0", "2", "2", "2"]]
