"""The first hour of a new user: the README's commands as they stand, with node_modules and a virtual environment."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

from avfs_git import Avfs

pytestmark = [pytest.mark.slow, pytest.mark.needs("fuse", "git", "user-xattrs", "whiteout", "npm")]

_README = Path(__file__).resolve().parents[2] / "README.md"
_LOGIN = "# Ask, and retry.\n\n\ndef login(ask):\n    return any(ask() for _ in range(3))\n"
_TEST = """
import unittest
from src.login import login
import helper  # of the virtual environment

class Login(unittest.TestCase):
    def test_asks(self):
        self.assertTrue(login(lambda: helper.YES))
"""
_CLAUDE = """#!/bin/sh
# An agent: it looks around, works, and tests what it did.
set -e
test -f .env && test -d node_modules/left-hand && .venv/bin/python -c 'import helper'
echo "# by attempt ${AVFS_ATTEMPT:-0}" >> src/login.py
make test
"""


def _blocks() -> list[str]:
    """Read the commands of the README's chapter on use, a block at a time."""
    use = _README.read_text(encoding="utf-8").partition("\n## Use\n")[2].partition("\n## ")[0]
    return re.findall(r"^```(?:python)?\n(.*?)^```", use, re.DOTALL | re.MULTILINE)


@pytest.fixture
def user(mount_dir: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The home of a user with a project."""
    monkeypatch.setenv("HOME", str(mount_dir))
    for name in ("AVFS_HOME", "XDG_DATA_HOME", "XDG_CONFIG_HOME", "GIT_CONFIG_GLOBAL"):
        monkeypatch.delenv(name, raising=False)
    programs = mount_dir / "bin"
    programs.mkdir()
    (programs / "avfs").write_text(f'#!/bin/sh\nexec {sys.executable} -m avfs_git "$@"\n')
    (programs / "claude").write_text(_CLAUDE)
    for program in programs.iterdir():
        program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    yield mount_dir
    with Avfs(mount_dir / ".local/share/avfs") as avfs:
        for session in avfs.sessions():
            with avfs.open_vault(session.vault) as vault:
                if (found := vault.find_session(session.fork)) is not None:
                    found.unmount(lazy=True)
                    found.wait()


def _type(home: Path, script: str, *, status: int = 0) -> str:
    """Run what a user types; give what it shows."""
    done = subprocess.run(
        ["bash", "-eo", "pipefail", "-c", script],
        cwd=home,
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        check=False,
    )
    assert done.returncode == status, (script, done.stdout, done.stderr)
    return done.stdout + done.stderr


def _make_project(home: Path) -> None:
    project = home / "src" / "project"
    files = {
        "src/login.py": _LOGIN,
        "src/__init__.py": "",
        "test_login.py": _TEST,
        "Makefile": "test:\n\t.venv/bin/python -m unittest -q\n\tnode -e 'require(\"left-hand\")'\n",
        ".gitignore": "node_modules\n.venv\n.env\n__pycache__\n",
        ".env": "KEY=secret\n",
        "package.json": '{"name": "shop", "version": "1.0.0", "private": true}',
    }
    left = {
        "package.json": '{"name": "left-hand", "version": "1.0.0", "main": "hand.js"}',
        "hand.js": "module.exports = 1\n",
    }
    for top, content in ((project, files), (home / "left-hand", left)):
        for name, text in content.items():
            (top / name).parent.mkdir(parents=True, exist_ok=True)
            (top / name).write_text(text)
    _type(
        home,
        f"""
        git config --global user.name 'New User' && git config --global user.email new@example.org
        git config --global init.defaultBranch main
        npm pack --silent ./left-hand && cd src/project
        npm install --silent --offline --no-audit --no-fund ~/left-hand-1.0.0.tgz
        {sys.executable} -m venv --without-pip .venv
        echo 'YES = True' > "$(.venv/bin/python -c 'import site; print(site.getsitepackages()[0])')/helper.py"
        make test && git init -q && git add -A && git commit -qm 'the shop' && test -z "$(git status --porcelain)"
        """,
    )


def _replace(block: str, changes: dict[str, str]) -> str:
    """Put other words in place of some of a block's, each of which has to be there."""
    for old, new in changes.items():
        assert old in block, f"the README says no longer: {old}"
        block = block.replace(old, new)
    return block


@pytest.mark.usefixtures("person")
def test_the_readme_works_as_it_stands(user: Path) -> None:
    """Agents in forks, a fork of one's own, a vault of one's own, commands under a policy, merges, the SDK."""
    _make_project(user)
    agents, fork, vault, commands, joined, program = _blocks()
    project = user / "src/project"

    shown = _type(user, agents)
    assert "1 file changed (+1 -0)" in shown
    assert (project / "src/login.py").read_text() == _LOGIN
    compared = _type(user, "cd src/project && avfs attempts compare")
    assert [line.split()[0] for line in compared.splitlines()[:3]] == ["1", "2", "3"], compared

    ask = "sed -i 's/retry/again/' src/login.py && make test\navfs status    "
    _type(user, _replace(fork, {"avfs status    ": ask}))
    assert "again" in _type(user, "cd src/project && git show ask-again:src/login.py")
    assert not (user / "src/ask-again").exists()
    assert _type(user, "cd src/project && git status --porcelain") == ""

    (user / "new_login.py").write_text(_LOGIN + "\n\ndef logout():\n    return True\n")
    _type(user, _replace(vault, {"/tmp/out": "~/out"}))
    assert "logout" in (user / "out/src/login.py").read_text()
    assert (user / "out/.env").read_text() == "KEY=secret\n"

    use = "export AVFS_VAULT=work AVFS_FORK=fix-login\n"
    curl = "avfs --fork tests-first exec -- curl https://example.org"
    shown = _type(
        user, use + _replace(commands, {curl: curl + " && exit 1"}).replace("# refused", "|| echo refused: $? #")
    )
    assert "\\nOK\\n" in shown
    assert "refused: 125" in shown

    _type(user, use + joined)
    merged = _type(user, "avfs --vault work@main cat src/login.py")
    assert "ask again" in merged
    assert "logout" in merged
    assert "ask again" in _type(user, "cd src/project && git show tests-first:src/login.py")

    (user / "hour.py").write_text(textwrap.dedent(program))
    assert "created" in _type(user, f"{sys.executable} hour.py")
    _type(user, "git -C ~/.local/share/avfs/vaults/work.git fsck --strict && avfs doctor && avfs --vault work doctor")
