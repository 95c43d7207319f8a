"""How much each fork changed, against `git diff --shortstat UPSTREAM...FORK`."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

from avfs_git import Home
from avfs_git.model import ForkStat


def test_counts_are_those_of_git(tmp_path: Path) -> None:
    """From the merge base on: files renamed, binary, removed, without an end of line.

    With two merge bases nothing is counted.
    """
    with Home(tmp_path / "home") as home:
        vault = home.create_vault("v")
        main = vault.workspace()
        main.write("moved", b"".join(b"line %d\n" % number for number in range(40)))
        main.write("binary", bytes(range(256)))
        main.write("gone", b"1\n2\n")
        main.write("both", b"1\n2\n3\n")
        main.checkpoint()
        one, same = vault.fork("one"), vault.fork("same")
        one.move("moved", "elsewhere")
        one.write("binary", bytes(range(255, -1, -1)))
        one.remove("gone")
        one.write("both", b"1\ntwo\n3\nfour")
        one.checkpoint()
        two = vault.fork("two", source="one")
        two.write("elsewhere", b"all\n" * 10)
        two.checkpoint()
        main.write("more", b"main\n")
        main.checkpoint()
        cross = vault.fork("cross", source="one")
        cross.merge("main")
        main.merge("two")
        one.write("last", b"1\n2\n")
        one.checkpoint()

        plain = {standing.fork: standing.stat for standing in vault.compare_forks()}
        counted = {standing.fork: standing.stat for standing in vault.compare_forks(stat=True)}
        git_dir = vault.info().path
        for workspace in (main, one, two, same, cross):
            workspace.close()

    assert set(plain.values()) == {None}
    assert counted.pop("main") is None
    assert counted.pop("cross") is None
    assert counted == {fork: _ask_git(git_dir, fork) for fork in ("one", "same", "two")}
    assert counted["two"] == counted["same"] == ForkStat(0, 0, 0)


def _ask_git(git_dir: Path, fork: str) -> ForkStat:
    line = ["git", "-C", str(git_dir), "diff", "--shortstat", "-M", f"main...{fork}"]
    text = subprocess.run(line, check=True, capture_output=True, text=True).stdout
    found = [re.search(rf"(\d+) {word}", text) for word in ("file", "insertion", "deletion")]
    return ForkStat(*(int(each[1]) if each else 0 for each in found))
