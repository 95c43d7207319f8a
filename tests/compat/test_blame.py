"""`blame` against git's own: the commit of each line, and what avfs knows of that commit."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from avfs_git import Home, Vault
from avfs_git.errors import CheckpointNotFound, PathNotFound, PathUnsuitable
from tests.support.cli import spawn


@pytest.fixture
def vault(tmp_path: Path) -> Iterator[Vault]:
    """A vault in which a command, a session of an agent and another fork have each added a line to a file."""
    with Home(tmp_path / "home") as home:
        vault = home.create_vault("v")
        work = vault.workspace()
        work.write("dir/a", b"one\nlast\n")
        work.checkpoint("first", description="begin")
        work.exec("sed", "-i", "s/last/by a command\\nlast/", "dir/a", backend="checkout")
        work.write("dir/a", b"one\nby a command\nby a session\nlast\n")
        work.checkpoint(description="a step\n\nAvfs-Session: abcdefghij")
        side = vault.fork("side")
        side.write("dir/a", b"by side\none\nby a command\nby a session\nlast")
        side.checkpoint(description="aside")
        side.close()
        work.merge("side")
        yield vault


def test_each_line_has_its_commit_command_session_and_fork(vault: Vault) -> None:
    """The commits are those of `git blame`."""
    found = vault.workspace().blame("dir/a")
    git = subprocess.run(
        ["git", "blame", "--porcelain", found.state, "--", "dir/a"],
        cwd=vault.info().path,
        check=True,
        capture_output=True,
    )
    headers = [
        line.split() for line in git.stdout.decode().splitlines() if len(line.split()[0]) == 40 and line[0] != "\t"
    ]
    assert [[line.commit, str(line.old_number), str(line.number)] for line in found.lines] == [
        words[:3] for words in headers
    ]
    assert [line.text for line in found.lines] == [b"by side", b"one", b"by a command", b"by a session", b"last"]
    known = {commit.id: commit for commit in found.commits}
    commits = [known[line.commit] for line in found.lines]
    assert [commit.fork for commit in commits[:4]] == ["side", "main", "main", "main"]
    assert [commit.session for commit in commits[:4]] == [None, None, None, "abcdefghij"]
    assert [commit.subject for commit in commits[:2]] == ["aside", "begin"]
    assert commits[2].command is not None
    assert "sed -i" in commits[2].command
    assert commits[1].command is None


def test_a_commit_that_a_fork_only_moved_to_is_made_in_none(vault: Vault) -> None:
    """A person's commit, where a fork begins, to which others are fast-forwarded and rebased, and which has a label."""
    commit = b"commit refs/heads/%s\ncommitter A <a@example.org> 1 +0000\ndata 7\nby hand\nfrom refs/heads/main\n"
    person = commit % b"person" + b"M 644 inline dir/a\ndata 5\nhand\n\n"
    vault.fork("idle").close()
    subprocess.run(["git", "fast-import", "--quiet"], cwd=vault.info().path, input=person, check=True)
    work, idle = vault.fork("begun", at="person"), vault.workspace("idle")
    work.checkpoint("labelled")
    idle.rebase("person")
    vault.workspace().merge("person")
    for each in (work, idle, vault.workspace()):
        found = each.blame("dir/a")
        assert [(commit.subject, commit.fork) for commit in found.commits] == [("by hand", None)]


def test_a_past_state_and_odd_names(vault: Vault) -> None:
    """A state is named as anywhere else; a name with any letters is found, and the name that it had before."""
    work = vault.workspace()
    assert [line.text for line in work.blame("dir/a", at="first").lines] == [b"one", b"last"]
    name = b'odd "\xff\t\n\\ name'
    work.write(name, b"".join(b"line %d of the file\n" % number for number in range(20)))
    work.checkpoint()
    work.move(name, "plain")
    work.checkpoint()
    found = work.blame("plain")
    assert {line.path for line in found.lines} == {name}
    assert work.blame("dir/a").lines
    work.write("empty", b"")
    work.checkpoint()
    assert work.blame("empty").lines == ()


def test_what_has_no_lines_is_refused(vault: Vault) -> None:
    """A directory, a path that is not there, one that is not saved, and a state that is none."""
    work = vault.workspace()
    work.write("new", b"not saved\n")
    with pytest.raises(PathUnsuitable):
        work.blame("dir")
    for missing in ("nowhere", "new", "dir/a/below"):
        with pytest.raises(PathNotFound):
            work.blame(missing)
    with pytest.raises(CheckpointNotFound):
        work.blame("dir/a", at="nothing")


def test_blame_as_people_see_it(vault: Vault, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A line each, with the number and the text at its end."""
    monkeypatch.setenv("AVFS_HOME", str(tmp_path / "home"))
    shown = spawn("--vault", "v", "blame", "dir/a").ok().text.splitlines()
    assert len(shown) == 5
    assert "@side" in shown[0]
    assert shown[0].endswith(" 1) by side")
    assert ", abcdefgh@main" in shown[3]
    assert "sed -i" in shown[2]
