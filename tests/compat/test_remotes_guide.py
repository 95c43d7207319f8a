"""The worked example of the guide to remotes, run as it stands."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from tests.support.servers import git, make_bare

GUIDE = Path(__file__).parents[2] / "docs" / "guides" / "remotes.md"


def test_the_worked_example_works(tmp_path: Path, hermetic: Path) -> None:
    """Three agents on two machines: every command succeeds, and everybody has all of the work at the end."""
    text = GUIDE.read_text("utf-8").partition("## A worked example")[2].partition("\n## ")[0]
    scripts = re.findall(r"```sh\n(.*?)```", text, re.DOTALL)
    server = make_bare(tmp_path / "server/shop.git")
    project = tmp_path / "one/project"
    (project / "src").mkdir(parents=True)
    (tmp_path / "two").mkdir()
    (project / "README").write_text("nothing yet\n")
    git("init", "-q", "-b", "main", cwd=project)
    git("add", ".", cwd=project)
    git("commit", "-qm", "start", cwd=project)
    for machine, names in (("one", ("parser.py", "readme.txt")), ("two", ("signs.py",))):
        for name in names:
            (tmp_path / machine / name).write_text(f"{name}\n")
    avfs = f'avfs() {{ "{sys.executable}" -m avfs_git "$@"; }}\n'
    shell = [
        f"set -e\nSERVER={tmp_path}/server\nexport PYTHONPATH={GUIDE.parents[1]}\n{avfs}{script}" for script in scripts
    ]
    for machine, script in zip(("one", "two", "one"), shell, strict=True):
        place = tmp_path / machine
        argv = ["env", f"AVFS_HOME={place}/home", "sh", "-c", script]
        done = subprocess.run(argv, cwd=place, capture_output=True, text=True, check=False)
        assert done.returncode == 0, (machine, done.stdout, done.stderr)

    assert len(scripts) == 3
    assert set(git("ls-tree", "-r", "--name-only", "main", cwd=server).split()) == {
        "README",
        "src/parser.py",
        "src/signs.py",
    }
    assert (project / "src/signs.py").read_text() == "signs.py\n"
    assert (project / "README").read_text() == "readme.txt\n"
    assert git("branch", "--format=%(refname:short)", cwd=project).split() == ["main", "parser"]
    assert git("diff", "--cached", "--name-only", cwd=project) == ""
