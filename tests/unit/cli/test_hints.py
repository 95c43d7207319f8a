"""Hints name what the command line named, so that their commands work where they are read."""

from __future__ import annotations

import inspect
from collections.abc import Iterator

import click
import pytest

from avfs_git.cli import table
from avfs_git.cli.output.hints import Named, complete, complete_error
from avfs_git.errors import MergeInProgress


@pytest.mark.parametrize(
    ("named", "hint", "expected"),
    [
        (Named(), "Take it back with `avfs undo`.", "Take it back with `avfs undo`."),
        (Named("v"), "Take it back with `avfs undo`.", "Take it back with `avfs --vault v undo`."),
        (
            Named("v", "f"),
            "Save it with `avfs checkpoint save [L]`.",
            "Save it with `avfs --vault v --fork f checkpoint save [L]`.",
        ),
        (
            Named(None, "f"),
            "Run `avfs merge --continue`, or `avfs gc`.",
            "Run `avfs --fork f merge --continue`, or `avfs gc`.",
        ),
        (
            Named("v", "f"),
            "Join them with `avfs merge a --into b`.",
            "Join them with `avfs --vault v merge a --into b`.",
        ),
        (Named("v", "f"), "See it with `avfs log --fork g`.", "See it with `avfs --vault v log --fork g`."),
        (Named("v", "f"), "See it with `avfs --fork g op log`.", "See it with `avfs --vault v --fork g op log`."),
        (Named("a b/c"), "Run `avfs doctor`.", "Run `avfs --vault 'a b/c' doctor`."),
        (Named("v", "f"), "See them with `avfs vault list`.", "See them with `avfs vault list`."),
        (Named("v"), "Raise it: `avfs vault config a 1`.", "Raise it: `avfs --vault v vault config a 1`."),
        (Named("v"), "See them with `avfs vault config`.", "See them with `avfs --vault v vault config`."),
        (Named("v"), "See `avfs mount --help`.", "See `avfs mount --help`."),
        (Named("v"), "Undo it with `avfs --vault w undo`.", "Undo it with `avfs --vault w undo`."),
        (Named("v", "f"), "See it with `avfs diff`.", "See it with `avfs --vault v --fork f diff`."),
        (
            Named(opened="v"),
            "Grant it with `avfs approvals grant 1`.",
            "Grant it with `avfs --vault v approvals grant 1`.",
        ),
        (Named(opened="v"), "Take it back with `avfs undo`.", "Take it back with `avfs undo`."),
        (Named("v"), "Say it with `--yes`.", "Say it with `--yes`."),
    ],
)
def test_what_was_named_is_named_in_hints(named: Named, hint: str, expected: str) -> None:
    """Where a command needs it; a hint that names its vault, or needs none, stays as it is."""
    assert complete(hint, named) == expected


def commands_of(command: click.Command, above: click.Context) -> Iterator[click.Command]:
    """Yield a command, or the commands of a group."""
    if not isinstance(command, click.Group):
        yield command
        return
    ctx = click.Context(command, parent=above)
    for name in command.list_commands(ctx):
        below = command.get_command(ctx, name)
        assert below is not None
        yield from commands_of(below, ctx)


FORK_IS_AN_ARGUMENT = {"fork", "mount", "unmount", "pull", "push", "update", "apply", "attempts"}
"""Verbs of which hints give the fork behind the verb, where they mean one."""


@pytest.mark.parametrize("verb", [*table.VERBS, *table.ALIASES])
def test_a_hint_names_the_fork_for_each_verb_that_opens_one(verb: str) -> None:
    """A verb whose module opens a fork needs it named, unless hints give it as an argument; no other verb does."""
    ctx = click.Context(table.program)
    command = table.program.get_command(ctx, verb)
    assert command is not None
    code = "".join(
        inspect.getsource(inspect.getmodule(inspect.unwrap(each.callback)))  # type: ignore[arg-type]  # all have one
        for each in commands_of(command, ctx)
    )
    opens = any(opening in code for opening in ("open_workspace(", "open_vault_and_fork(", "workspace: Workspace"))

    named = complete(f"See `avfs {verb}`.", Named(None, "f"))

    assert (named == f"See `avfs --fork f {verb}`.") == (opens and verb not in FORK_IS_AN_ARGUMENT)


def test_the_fork_in_a_merge_is_named_where_the_command_line_names_the_vault_alone() -> None:
    """`avfs --vault w stop f` is about `f`.

    The commands of its hint, without a fork, would be about the default one.
    """
    hint = complete_error(MergeInProgress("f", "g"), Named(vault="w"), {"fork": "f"})
    assert hint is not None
    assert "`avfs --vault w --fork f merge --abort`" in hint
