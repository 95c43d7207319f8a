"""What people see at a terminal: tables, trees, colours, questions."""

from __future__ import annotations

import os
import pty
import re
import shutil
import subprocess
import sys
import termios
from pathlib import Path

import pytest

from avfs_git.cli.output import bar
from avfs_git.cli.output.text import TextOutput
from avfs_git.progress import STORING
from tests.support.cli import Cli
from tests.support.terminal import Terminal

_SGR = re.compile(r"\x1b\[[0-9;]*m")


def at_terminal(
    *arguments: str,
    answer: str = "",
    env: dict[str, str] | None = None,
    screen: tuple[int, int] | None = None,
    code: str | None = None,
) -> tuple[int, str]:
    """Run `avfs` with a terminal as its standard streams; return its status and what stood there."""
    controller, terminal = pty.openpty()
    if screen is not None:
        termios.tcsetwinsize(terminal, screen)
    process = subprocess.Popen(
        [sys.executable, *(("-c", code) if code is not None else ("-m", "avfs_git")), *arguments],
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
    assert re.search(r"\* +work +1 +(just now|\d+ s ago)", plain(shown))


@pytest.mark.parametrize("width", [50, 20])
def test_a_narrow_table_loses_nothing(
    width: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The widest column breaks; where the others leave it no room, each row is a few lines that stay whole."""
    monkeypatch.setenv("COLUMNS", str(width))
    text = TextOutput(color=False)
    text.on_terminal = True
    text.table(("A", "B", "C"), [("1", "second-column-of-some", "third-column" * 5)])
    text.table(("A", "B"), [])
    text.flush()
    shown = capsys.readouterr().out

    assert "second-column-of-some" in shown
    assert ("\n  C: third-column" in shown) == (width == 20)
    assert [sum(shown.count(letter) for letter in letters) for letters in ("1", "f", "t")] == [1, 1, 5]


def test_lists_at_40_columns_keep_their_words_whole(cli: Cli, work: str) -> None:
    """Names and ids can be copied from a list on a narrow terminal."""
    cli("fork", "create", "improve-the-checkout-flow").ok()
    cli("checkpoint", "save", "first-of-many-labels", "-m", "add a greeting").ok()
    head = cli("--json", "log").ok().result["entries"][0]["checkpoint"]["id"]
    seen = {
        "fork list --stat": ["improve-the-checkout-flow", head[:12], "0 files, +0 -0"],
        "op log --stat": ["improve-the-checkout-flow", "fork_create"],
        "checkpoint list": ["first-of-many-labels", head[:12], "add a greeting"],
        "log": ["first-of-many-labels", head[:12], "add a greeting"],
        "vault list": [" work "],
    }
    for line, texts in seen.items():
        status, shown = at_terminal(*line.split(), env={"COLUMNS": "40"})

        assert status == 0
        for text in texts:
            assert text in plain(shown), (line, plain(shown))


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


LONG = "".join(f"line {number}\n" for number in range(20_000))
"""More lines than a screen has, and more bytes than a pipe holds."""


@pytest.fixture
def long(cli: Cli, work: str) -> None:
    """Save a file whose diff is longer than the screen."""
    cli("write", "long", stdin=LONG.encode()).ok()


def test_a_long_result_goes_through_the_pager(long: None) -> None:
    """The pager gets the whole text in colours, and `less` the options that git gives it.

    What is remarked comes behind it.
    """
    status, shown = at_terminal(
        "diff", screen=(24, 100), env={"AVFS_PAGER": "echo LESS=$LESS; tail -n 1; echo end", "LESS": ""}
    )
    assert (status, shown) == (0, "LESS=\n\x1b[32m+line 19999\x1b[0m\nend\n(vault work, fork main)\n")

    os.environ.pop("LESS", None)
    assert at_terminal("diff", screen=(24, 100), env={"AVFS_PAGER": "echo LESS=$LESS; cat > /dev/null"})[1].startswith(
        "LESS=FRX\n"
    )


@pytest.mark.parametrize(
    ("arguments", "screen", "env"),
    [
        (["diff", "--no-pager"], (24, 100), {}),
        (["--no-pager", "diff"], (24, 100), {}),
        (["diff", "--json"], (24, 100), {}),
        (["diff"], (40_000, 100), {}),
        (["diff"], (0, 0), {}),
        (["diff"], (24, 100), {"TERM": "dumb"}),
        (["diff"], (24, 100), {"AVFS_PAGER": ""}),
        (["diff"], (24, 100), {"AVFS_PAGER": "cat", "GIT_PAGER": "echo paged"}),
        (["cat", "long"], (24, 100), {}),
    ],
)
def test_no_pager(long: None, arguments: list[str], screen: tuple[int, int], env: dict[str, str]) -> None:
    """A document, a text that fits, a terminal that no person looks at and a person who wants none get no pager."""
    status, shown = at_terminal(*arguments, screen=screen, env={"AVFS_PAGER": "echo paged", **env})

    assert status == 0
    assert "paged" not in shown
    assert "line 19999" in shown


def test_no_pager_without_a_terminal(cli: Cli, long: None) -> None:
    """A pipe gets the text."""
    assert "line 19999" in cli("diff", env={"AVFS_PAGER": "echo paged"}).ok().text


def test_a_pager_that_quits_is_no_failure(long: None) -> None:
    """Its user has seen enough: nothing more is shown, and nobody complains."""
    status, shown = at_terminal("diff", screen=(24, 100), env={"AVFS_PAGER": "head -n 1"})

    assert (status, plain(shown)) == (0, "diff --git a/long b/long\n(vault work, fork main)\n")


@pytest.mark.parametrize("pager", ["/no/such/pager", "no-such-pager -x"])
def test_a_pager_that_is_missing_costs_nothing(long: None, pager: str) -> None:
    """The text comes without it, and a warning names it."""
    status, shown = at_terminal("diff", screen=(24, 100), env={"AVFS_PAGER": pager})

    assert status == 0
    assert f"warning: cannot run the pager '{pager}'" in plain(shown)
    assert "+line 0\n" in plain(shown)
    assert "+line 19999\n" in plain(shown)


@pytest.mark.needs("git")
def test_the_pager_is_found_as_git_finds_it(long: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """AVFS_PAGER comes before GIT_PAGER, that before the user's `core.pager`, and that before PAGER."""
    config = tmp_path / "gitconfig"
    config.write_text("[core]\n\tpager = echo core\n")
    found = {
        "PAGER": "echo pager",
        "GIT_CONFIG_GLOBAL": str(config),
        "GIT_PAGER": "echo git",
        "AVFS_PAGER": "echo avfs",
    }
    for name in ("PAGER", "GIT_PAGER", "AVFS_PAGER"):
        monkeypatch.delenv(name, raising=False)
    shown = []
    while found:
        shown.append(at_terminal("diff", screen=(24, 100), env=found)[1].partition("\n")[0])
        found.popitem()
        if list(found) == ["PAGER", "GIT_CONFIG_GLOBAL"]:
            shown.append(at_terminal("diff", screen=(24, 100), env=found)[1].partition("\n")[0])
            found.popitem()

    assert shown == ["avfs", "git", "core", "pager"]


@pytest.mark.needs("git")
def test_a_repository_names_no_pager(cli: Cli, long: None, project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`core.pager` of a vault, of the repository around the current directory or in GIT_DIR runs nothing."""
    for name in ("GIT_PAGER", "AVFS_PAGER"):
        monkeypatch.delenv(name, raising=False)
    vault = cli("vault", "info", "--json").ok().result["path"]
    subprocess.run(["git", "init", "-q", project], check=True)
    for place in (vault, project):
        subprocess.run(["git", "-C", place, "config", "core.pager", "echo owned"], check=True)
    monkeypatch.chdir(project)

    for env in ({}, {"GIT_DIR": str(project / ".git")}, {"GIT_DIR": vault}):
        shown = at_terminal("--vault", "work", "diff", screen=(24, 100), env={"PAGER": "echo mine", **env})[1]
        assert shown.startswith("mine\n"), shown


def test_interrupts_belong_to_the_pager(long: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C leaves a pager that handles it on the screen; the command ends when the pager does.

    The pager looks again and again whether it was interrupted: a shell that is just about to read would run its trap
    after that.
    """
    monkeypatch.setenv(
        "AVFS_PAGER",
        "trap 'hit=1; echo interrupted' INT; cat > /dev/null; echo shown; until [ $hit ]; do sleep 0.1; done; "
        "read x < /dev/tty; echo bye",
    )
    monkeypatch.setenv("TERM", "xterm")
    terminal = Terminal("-m", "avfs_git", "diff", screen=(24, 100))
    terminal.read_until(b"shown")
    terminal.type(b"\x03")
    terminal.read_until(b"interrupted")
    terminal.type(b"\n")
    terminal.read_until(b"bye")
    assert terminal.wait() == 0


@pytest.mark.skipif(shutil.which("less") is None, reason="less is not installed")
def test_less_shows_the_first_screen(long: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """As git's: it stops after a screen, keeps the colours, and leaves the text there when it quits."""
    monkeypatch.setenv("AVFS_PAGER", "less")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("LESS", raising=False)
    terminal = Terminal("-m", "avfs_git", "diff", screen=(24, 100))
    first = terminal.read_until(b"\n:")
    assert b"\x1b[32m+line 0\x1b[" in first
    assert b"line 100" not in first
    terminal.type(b"q")
    assert terminal.wait() == 0


def test_what_takes_long_has_a_bar(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """After half a second, with what and how much; what is over sooner has none, and a huge load is remarked once."""
    now_s = 0.0
    monkeypatch.setattr(bar, "monotonic", lambda: now_s)
    for name, value in (("COLUMNS", "100"), ("FORCE_COLOR", "1"), ("TERM", "xterm")):
        monkeypatch.setenv(name, value)
    warned: list[str] = []
    told = bar.Bar("importing data", color=False, spell_size="{} B".format, warn=warned.append)

    told(STORING, 1000, 0)
    assert not capsys.readouterr().err
    now_s = 0.6
    told(STORING, 2000, 0)
    assert "importing data: 2000 B stored" in capsys.readouterr().err
    told("looking at directories", 5000, 0)
    now_s = 0.8
    told("looking at directories", 6000, 0)
    shown = capsys.readouterr().err
    assert "6,000" in shown
    assert "5,000" not in shown
    for size in (bar.HUGE_BYTES + 1, bar.HUGE_BYTES + 2):
        told(STORING, size, 0)
    told.close()
    assert len(warned) == 1


def test_a_capture_tells_how_far_it_is(cli: Cli, work: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """To a terminal only; a home directory as the source of a fork is remarked before."""
    monkeypatch.setenv("HOME", str(tmp_path / "me"))
    (tmp_path / "me").mkdir()
    (tmp_path / "me" / "data").write_bytes(os.urandom(1 << 20))
    code = "from avfs_git.cli.output import bar; bar.AFTER_S = -1; from avfs_git.cli import app; app.main()"
    _, shown = at_terminal("vault", "create", "mine", "--from", str(tmp_path / "me"), code=code)

    assert "is a home directory" in plain(shown)
    assert "making vault 'mine'" in plain(shown)
    assert "MiB stored" in plain(shown)
    ran = cli("import", str(tmp_path / "me" / "data"), "data").ok()
    assert "stored" not in ran.stderr
