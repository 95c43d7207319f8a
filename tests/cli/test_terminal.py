"""What people see at a terminal: tables, trees, colours, questions."""

from __future__ import annotations

import os
import pty
import re
import subprocess
import sys

import pytest

from avfs_git.cli.output.text import TextOutput
from tests.support.cli import Cli

_SGR = re.compile(r"\x1b\[[0-9;]*m")


def at_terminal(*arguments: str, answer: str = "", env: dict[str, str] | None = None) -> tuple[int, str]:
    """Run `avfs` with a terminal as its standard streams; return its status and what stood there."""
    controller, terminal = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "avfs_git", *arguments],
        stdin=terminal,
        stdout=terminal,
        stderr=terminal,
        env={**os.environ, "TERM": "xterm-256color", "COLUMNS": "100", **(env or {})},
    )
    os.close(terminal)
    os.write(controller, answer.encode())
    shown = b""
    while True:
        try:
            piece = os.read(controller, 65536)
        except OSError:  # EIO: the other side is closed
            break
        if not piece:
            break
        shown += piece
    os.close(controller)
    return process.wait(), shown.decode().replace("\r\n", "\n")


def plain(text: str) -> str:
    """Take the colours away."""
    return _SGR.sub("", text)


def test_lists_are_tables(cli: Cli, work: str) -> None:
    """At a terminal a list has a heading and aligned columns."""
    status, shown = at_terminal("vault", "list")

    assert status == 0
    assert re.search(r"Vault +Forks +Made", plain(shown))
    assert re.search(r"\* +work +1 +\d{4}-\d\d-\d\d \d\d:\d\d:\d\d \+0000", plain(shown))


@pytest.mark.parametrize("width", [50, 20])
def test_a_narrow_table_loses_nothing(width: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """The widest column breaks, the others as well where they leave it no room."""
    monkeypatch.setenv("COLUMNS", str(width))
    text = TextOutput(color=False)
    text.on_terminal = True
    text.table(("A", "B", "C"), [("1", "second-column-of-some", "third-column" * 5)])
    text.table(("A", "B"), [])
    shown = capsys.readouterr().out

    assert ("second-column-of-some" in shown) == (width == 50)
    assert [sum(shown.count(letter) for letter in letters) for letters in ("1", "f", "t")] == [1, 1, 5]


def test_tree_is_drawn(cli: Cli, work: str) -> None:
    """At a terminal a tree has branches."""
    shown = plain(at_terminal("tree", "src")[1])

    assert shown == "src/\n├── data.bin\n└── main.py\n(vault work, fork main)\n"


@pytest.mark.parametrize("arguments", [["status"], ["nosuch"], ["checkpoint", "list"]])
def test_no_color_is_respected(cli: Cli, work: str, arguments: list[str]) -> None:
    """NO_COLOR takes colours away and leaves the rest."""
    cli("write", "README", "x").ok()
    coloured, bare = at_terminal(*arguments)[1], at_terminal(*arguments, env={"NO_COLOR": "1"})[1]

    assert not re.search(r"\x1b\[[0-9;]*3[0-9]", bare)
    assert plain(coloured) == plain(bare)


def test_patch_is_coloured(cli: Cli, work: str) -> None:
    """Added lines are green, removed ones red."""
    cli("write", "README", "x\n").ok()
    shown = at_terminal("diff")[1]

    assert "\x1b[32m+x" in shown
    assert "\x1b[31m-hello" in shown


def test_names_cannot_steer_the_terminal(cli: Cli, work: str) -> None:
    """Escape sequences in names, messages and content of patches are shown, not obeyed."""
    cli("write", "\x1b]0;owned\x07", "\x1b[2J\n").ok()
    cli("checkpoint", "save", "-d", "evil \x1b[31m message").ok()

    for arguments in (["tree"], ["log", "--name-status"], ["checkpoint", "list"], ["show"]):
        shown = at_terminal(*arguments, env={"NO_COLOR": "1"})[1]
        assert "\x1b]0;" not in shown, arguments
        assert "\x1b[2J" not in shown, arguments
        assert "\x1b[31m" not in shown, arguments


@pytest.mark.parametrize(("answer", "status", "left"), [("n\n", 2, 1), ("\n", 2, 1), ("y\n", 0, 0), ("yes\n", 0, 0)])
def test_deleting_a_vault_asks(cli: Cli, work: str, answer: str, status: int, left: int) -> None:
    """At a terminal the question decides."""
    ended, shown = at_terminal("vault", "delete", "work", answer=answer)

    assert "Delete vault 'work' with everything in it? [y/N]" in plain(shown)
    assert ended == status
    assert len(cli("vault", "list", "--json").result["vaults"]) == left


def test_document_is_indented_at_a_terminal(cli: Cli, work: str) -> None:
    """People can read the document, too."""
    assert at_terminal("vault", "list", "--json")[1].startswith('{\n  "schema_version": 1,\n')


def test_hints_name_the_next_command(cli: Cli) -> None:
    """A person learns what to do next; a pipe is left alone."""
    assert "hint: Make a fork with" in plain(at_terminal("vault", "create", "one")[1])
    assert cli("vault", "create", "two").stderr == ""


def test_grep_paints_what_matches(cli: Cli, work: str) -> None:
    """As `git grep` does; without colours nothing is painted."""
    cli("write", "a", stdin=b"one two one\n").ok()
    assert "one two \x1b[1;31mone\x1b[0m\n" in at_terminal("grep", "one$", "a")[1]
    assert "\x1b[1;31mone\x1b[0m two \x1b[1;31mone\x1b[0m\n" in at_terminal("grep", "-w", "one", "a")[1]
    assert "\x1b" not in at_terminal("grep", "one", "a", env={"NO_COLOR": "1"})[1]
