"""`avfs shell`: the user's own shell in the live tree of a fork, on a terminal."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import pytest

from avfs_git.cli.shells import prepare_shell
from tests.support.cli import spawn
from tests.support.terminal import Terminal

pytestmark = [pytest.mark.needs("fuse", "git", "user-xattrs", "whiteout")]
_START = {"bash": "~/.bashrc", "zsh": "~/.zshrc", "fish": "~/.config/fish/config.fish", "sh": None}
_INSTALLED = [shell for shell in _START if shutil.which(shell)]


@pytest.fixture
def shop(mount_dir: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home with a vault `shop` that has a fork `main` with a directory; the person's own home is empty."""
    monkeypatch.setenv("AVFS_HOME", str(mount_dir / "home"))
    monkeypatch.setenv("HOME", str(mount_dir))
    monkeypatch.setenv("TERM", "dumb")
    for name in ("ZDOTDIR", "XDG_CONFIG_HOME", "XDG_DATA_HOME", "ENV", "BASH_ENV", "PROMPT_COMMAND"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(mount_dir)
    spawn("vault", "create", "shop").ok()
    spawn("--vault", "shop", "write", "src/main", stdin=b"one\n").ok()
    spawn("--vault", "shop", "checkpoint", "save").ok()
    return mount_dir


@pytest.mark.parametrize("shell", _INSTALLED)
def test_the_users_shell_works_in_the_fork(shop: Path, monkeypatch: pytest.MonkeyPatch, shell: str) -> None:
    """Its prompt names vault and fork behind what the user's own file has set; at the end it is said what changed."""
    monkeypatch.setenv("SHELL", str(shutil.which(shell)))
    start = _START[shell]
    if start is not None:
        file = Path(start).expanduser()
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("echo own file is read\n" if shell == "fish" else "PS1='own> '; echo own file is read\n")
    # Else fish reads all manuals in the background at its first start, and is in the tree meanwhile.
    (shop / ".local/share/fish/generated_completions").mkdir(parents=True)
    terminal = Terminal("-m", "avfs_git", "--vault", "shop", "shell", "main")
    if start is not None:
        terminal.read_until(b"own file is read")
    terminal.read_until(b"(shop:main) own> " if shell in {"bash", "zsh"} else b"(shop:main) ")
    terminal.type(b'echo "in [$AVFS_FORK] $(cat src/main)"; echo two > src/more\n')
    terminal.read_until(b"in [main] one")
    terminal.read_until(b"(shop:main) ")
    terminal.type(b"exit 3\n")
    assert terminal.wait() == 3
    assert b"1 file changed (+1 -0), in 1 commit" in terminal.shown
    assert b"avfs --vault shop shell main" in terminal.shown
    assert spawn("sessions", "--json").ok().result["sessions"] == []
    assert spawn("--vault", "shop", "cat", "/src/more").ok().text == "two\n"


def test_a_fork_that_is_mounted_stays_so(shop: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The shell works in its mount, in the current directory of it; `--json` describes what changed."""
    monkeypatch.setenv("SHELL", "/bin/sh")
    tree = shop / "tree"
    spawn("--vault", "shop", "mount", "main", str(tree)).ok()
    try:
        monkeypatch.chdir(tree / "src")
        ran = spawn("shell", "--json", stdin=b"pwd; echo $AVFS_PROMPT; echo x > made\n").ok()
        assert (ran.result["directory"], ran.result["mounted"]) == (str(tree), True)
        assert ran.stderr.splitlines()[-2:] == [str(tree / "src"), "shop:main"]
        assert ran.result["next"]["resume"] == "avfs --vault shop shell main"
        assert "discard" not in ran.result["next"]  # the default fork is not deleted
        assert [file["change"]["path"] for file in ran.result["diff"]["files"]] == ["src/made"]
    finally:
        monkeypatch.chdir(shop)
        spawn("stop", str(tree)).ok()


def test_what_is_no_fork_is_refused(shop: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With avfs's own status, and a name that is near; two names contradict each other."""
    ran = spawn("--vault", "shop", "shell", "maim")
    assert (ran.status, "no fork 'maim'" in ran.stderr, "'main'" in ran.stderr) == (125, True, True)
    assert "named twice" in spawn("--vault", "shop", "--fork", "main", "shell", "other").stderr
    monkeypatch.setenv("AVFS_HOME", str(shop / "empty"))
    assert spawn("shell").status == 125


def test_names_are_no_text_for_the_shell() -> None:
    """What a prompt begins with is in a variable, which no shell expands again; zsh finds the user's files again."""
    for program in ("/bin/bash", "/usr/bin/zsh", "fish"):
        words, variables = prepare_shell(program, prompt="shop:$(x)`y`%m", environment={"ZDOTDIR": "/mine"})
        assert words[0] == program
        assert "$(x)" not in "".join(words)
        assert variables["AVFS_PROMPT"] == "shop:$(x)`y`%m"
    assert prepare_shell("zsh", prompt="p", environment={"ZDOTDIR": "/mine"})[1]["AVFS_USER_ZDOTDIR"] == "/mine"
    assert prepare_shell("/bin/dash", prompt="p", environment={})[1]["PS1"] == "(p) $ "


def test_bash_completes_avfs_from_the_first_tab_on(shop: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The script is asked for then, and bash is told to look again; a completion that the user has already stays."""
    monkeypatch.setenv("SHELL", str(shutil.which("bash")))
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    terminal = Terminal("-m", "avfs_git", "--vault", "shop", "shell")
    terminal.read_until(b"(shop:main) ")
    terminal.type(b"complete -p avfs; _avfs_load; echo again=$?; complete -p avfs\n")
    terminal.read_until(b"-F _avfs_load avfs")
    terminal.read_until(b"again=124")
    terminal.read_until(b"-F _avfs_completion avfs")
    terminal.type(b"exit\n")
    assert terminal.wait() == 0
    (shop / ".bashrc").write_text("complete -W 'a b' avfs\n")
    terminal = Terminal("-m", "avfs_git", "--vault", "shop", "shell")
    terminal.read_until(b"(shop:main) ")
    terminal.type(b"complete -p avfs; exit\n")
    terminal.read_until(b"-W 'a b' avfs")
    assert terminal.wait() == 0
