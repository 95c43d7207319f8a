"""The help of every verb: it fits a screen, and ends with an example that works as it is typed."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from avfs_git.cli import table
from avfs_git.cli.verb import Verb
from tests.support.cli import Cli

_COLUMNS, _LINES = 80, 40


def list_verbs(command: click.Command, ctx: click.Context) -> Iterator[click.Context]:
    """List all verbs, each with a context as wide as a screen."""
    if not isinstance(command, click.Group):
        yield ctx
        return
    for name in command.list_commands(ctx):
        below = command.get_command(ctx, name)
        assert below is not None
        yield from list_verbs(below, click.Context(below, info_name=name, parent=ctx, terminal_width=_COLUMNS))


def list_all(command: click.Command, ctx: click.Context) -> Iterator[click.Context]:
    """List all verbs and groups, each with a context wider than any terminal."""
    yield ctx
    if isinstance(command, click.Group):
        for name in command.list_commands(ctx):
            below = command.get_command(ctx, name)
            assert below is not None
            yield from list_all(below, click.Context(below, info_name=name, parent=ctx, terminal_width=10_000))


ALL = {ctx.command_path: ctx for ctx in list_all(table.program, click.Context(table.program, info_name="avfs"))}
VERBS = {ctx.command_path: ctx for ctx in list_verbs(table.program, click.Context(table.program, info_name="avfs"))}


def read_example(path: str) -> list[str]:
    """Read the words of a verb's example, without `avfs` and without what is for the shell."""
    command = VERBS[path].command
    assert isinstance(command, Verb)
    program, *words = shlex.split(command.facts["example"].partition(" < ")[0])
    assert program == "avfs"
    return words


def test_help_fits_a_screen() -> None:
    """At 80 columns no help is longer than 40 lines, and no line is wider."""
    for path, ctx in VERBS.items():
        lines = ctx.get_help().split("\n")

        assert len(lines) <= _LINES, path
        assert max(map(len, lines)) <= _COLUMNS, path


@pytest.mark.parametrize("columns", [40, 60, 80, 120, 200])
def test_help_fits_each_width(columns: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """No line is wider than the terminal, except examples and choices of an option; no word is lost or broken."""
    monkeypatch.setenv("COLUMNS", str(columns))
    for path, wide in ALL.items():
        shown = wide.command.context_class(wide.command, info_name=path).get_help()
        text, _, last = shown.partition("\nExample:\n")
        example = getattr(wide.command, "facts", {}).get("example")
        lines = [*text.split("\n"), *last.split("\n")[1 if example else 0 :]]

        choices = re.compile(r" *(-\w, )?--[\w-]+ \[\S+\]")
        assert not [line for line in lines if len(line) > columns and not choices.fullmatch(line)], path
        whole = wide.get_help().partition("\nExample:\n")[0]
        assert _join(text) == _join(whole), path
        broken = set(text.split()) - set(whole.split())
        assert all(
            any(word in long for long in whole.split() if len(long) > columns // 2 or "-" in long) for word in broken
        ), path
        assert last.split("\n")[0].strip() == (example or ""), path


def _join(text: str) -> str:
    """Leave out how a text is laid out."""
    return "".join(text.split())


def test_every_verb_has_an_example_of_itself(
    cli: Cli, work: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The words of an example parse, and reach the verb whose help shows them."""
    monkeypatch.chdir(tmp_path)
    reached: list[click.Command] = []
    monkeypatch.setattr(Verb, "invoke", lambda self, ctx: reached.append(self))
    for path, ctx in VERBS.items():
        if path == "avfs hook":  # read without click, which would take a quarter of a hook's time
            continue
        ran = cli(*read_example(path))

        assert (ran.status, reached) == (0, [ctx.command]), (path, ran.stderr)
        reached.clear()


_NOT_RUN = {
    "a terminal or a server": ("run", "shell", "mcp", "hook"),
    "the network": ("clone", "remote set-url"),
    "a person": ("vault delete", "approvals grant", "approvals deny"),
    "another package": ("plugins enable", "plugins disable"),
    "a mount": ("fork dir", "end", "mount", "unmount", "stop", "watch", "proxy exec"),
    "a session of commands": ("proxy prepare", "proxy rollback", "proxy inspect", "proxy finish"),
    "what another program made": ("vault trust", "attempts pick"),
}
"""Verbs whose examples need more than a vault, by what they need."""
_BEFORE = {
    "vault create": ["vault delete shop --yes"],
    "vault fork": ["fork delete task"],
    "fork create": ["fork delete task"],
    "redo": ["undo"],
    "meta delete": ["meta set src/main.py owner ada"],
    "meta untag": ["meta tag src/main.py urgent"],
    "resolve": ["--fork task write src/main.py theirs", "write src/main.py ours", "merge task --on-conflict workspace"],
}
"""Command lines that make what an example works on."""


@pytest.mark.needs("git")
def test_examples_work(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each example succeeds where there are a vault `shop`, forks `main` and `task`, labels and a remote."""
    here, home = tmp_path / "here", Path(os.environ["AVFS_HOME"])
    for path, text in {
        "here/src/main.py": "TODO: merge conflict\n",
        "here/Makefile": "test:\n\ttrue\n",
        "here/.gitignore": "build\n",
        "data/prices": "1\n",
        "shop/README": "\n",
    }.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text)
    subprocess.run(["git", "init", "-q", "--bare", tmp_path / "origin.git"], check=True)
    monkeypatch.chdir(here)
    made = ["vault create shop --from .", f"remote add origin {tmp_path}/origin.git", "hooks install"]
    made += ["write build/report.html 1", "write notes.txt 1", "mkdir docs", "checkpoint save v1"]
    made += ["fork create task", "--fork task write src/task.py 1", "--fork task checkpoint save", "push --all"]
    made += ["write src/main.py 'TODO: merge conflict of dates'", "checkpoint save v2"]
    made += ["write a 1", "checkpoint save", "write b 1"]
    for line in made:
        cli(*shlex.split(line)).ok()
    hook = home / "vaults/shop.git/avfs/hooks/pre-push"
    hook.write_text("#!/bin/sh\n")
    hook.chmod(0o755)
    monkeypatch.chdir(tmp_path / "data")
    left_out = {f"avfs {words}" for needing in _NOT_RUN.values() for words in needing}
    for path in (path for path in VERBS if path not in left_out):
        monkeypatch.setenv("AVFS_HOME", str(tmp_path / path))
        shutil.copytree(home, tmp_path / path, symlinks=True)
        for line in _BEFORE.get(path.removeprefix("avfs "), []):
            cli(*shlex.split(line))

        ran = cli(*read_example(path))

        assert ran.status == 0, (path, ran.stderr)
