"""The examples of docs/guides/sdk.md, run as they stand."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import avfs_git
from avfs_git import Home, sdk

GUIDE = Path(__file__).parents[2] / "docs" / "guides" / "sdk.md"


def test_the_example_of_the_guide_runs(tmp_path: Path) -> None:
    """The program in the guide runs as it is printed there and says what it promises."""
    (tmp_path / "project").mkdir()
    (tmp_path / "project" / "README").write_text("hello\n")
    program = "\n".join(re.findall(r"```python\n(.*?)```", GUIDE.read_text("utf-8"), re.DOTALL))
    path = [str(Path(avfs_git.__file__).parents[1])]

    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(path)},
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.stderr == ""
    assert "created [b'src/login.py']" in done.stdout
    assert "path.content_changed" in done.stdout
    assert "+def login(user): ..." in done.stdout


def test_the_guide_names_every_method() -> None:
    """The table of the guide holds each public method of the three classes, and no other."""
    rows = [line for line in GUIDE.read_text("utf-8").splitlines() if re.match(r"\| `(Home|Vault|Workspace)", line)]
    listed = set(re.findall(r"`(\w+)`", "".join(row.split("|")[2] for row in rows)))
    there = {
        name
        for kind in (sdk.Home, sdk.Vault, sdk.Workspace)
        for name in dir(kind)
        if callable(getattr(kind, name)) and not name.startswith("_") and name != "close"
    }

    assert listed == there


@pytest.mark.needs("fuse", "git", "user-xattrs", "whiteout")
def test_objects_show_their_names(tmp_path: Path) -> None:
    """What a person prints says which home, vault, workspace or session it is."""
    with Home(tmp_path / "home") as home:
        vault = home.create_vault("v")
        with vault.workspace().mount(tmp_path / "m") as session:
            shown = f"{home} {vault} {vault.workspace()} {session}"

    assert shown == (
        f"<Home '{tmp_path / 'home'}'> <Vault 'v'> <Workspace 'v@main'>"
        f" <Session '{session.id}' of 'v@main' at '{tmp_path / 'm'}'>"
    )
