"""The command line, read with click: which verb runs, and what is wrong with the arguments.

Decided here: what avfs says of mistakes that click finds. `app.run` calls `perform`, in the main thread. One command line comes
not here: `avfs hook HARNESS`, which `app` reads itself.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from avfs_git.cli.table import MissingVerb, program
from avfs_git.errors import BadUsage, Interrupted, quote

if TYPE_CHECKING:
    from avfs_git.cli.context import State


_TERMINAL = frozenset({"-t", "-i", "-it", "--tty", "--interactive"})
"""How other programs spell that a command gets a terminal."""


def perform(state: State, arguments: list[str]) -> int:
    """Run a verb, and give the status to end with.

    Raises:
        AvfsError: What the verb raises.
        BadUsage: If the arguments are wrong.
        Interrupted: If the user ended a question.
    """
    try:
        with program.make_context("avfs", list(arguments), obj=state) as ctx:
            program.invoke(ctx)
    except click.exceptions.Exit as done:
        return done.exit_code
    except MissingVerb as error:
        if not state.output.structured:
            state.output.note(error.help_text + "\n")
        raise
    except click.ClickException as error:
        raise _usage_error(error) from error
    except click.Abort as error:
        raise Interrupted from error
    return state.status


def _usage_error(err: click.ClickException) -> BadUsage:
    """Say what click found in the words and with the code that all errors have."""
    message = err.format_message().strip().rstrip(".")
    ctx = getattr(err, "ctx", None)
    hint = f"See `{ctx.command_path} --help`." if ctx is not None else None
    if isinstance(err, click.NoSuchOption):
        message = f"there is no option {quote(err.option_name)}"
        if (
            err.option_name in {"--force", "-f"}
            and ctx is not None
            and any("--force-with-lease" in p.opts for p in ctx.command.params)
        ):
            hint = "`--force-with-lease` allows a push that drops commits, unless the branch has moved since the last fetch."
        elif err.option_name in _TERMINAL and ctx is not None and ctx.info_name == "exec":
            hint = "`avfs exec` gives a command no terminal. `avfs shell` has one, and `avfs run PROGRAM` in a new fork."
        elif ctx is not None and (owners := _list_owners(ctx, err.option_name)):
            hint = f"Did you mean {' or '.join(f'`{owner} {err.option_name}`' for owner in owners)}?"
        elif err.possibilities:
            hint = f"Did you mean `{min(err.possibilities)}`?"
    message = message.replace("a valid integer range", "a whole number").replace("a valid integer", "a whole number")
    return BadUsage(message[:1].lower() + message[1:], hint=hint)


def _list_owners(ctx: click.Context, option: str) -> list[str]:
    """List the verbs of a group that have an option which was written behind the group's own name."""
    group = ctx.command
    if not isinstance(group, click.Group) or group is program:  # the program's verbs are too many to name
        return []
    verbs = ((name, group.get_command(ctx, name)) for name in group.list_commands(ctx))
    return [f"{ctx.command_path} {name}" for name, of in verbs if of and any(option in param.opts for param in of.params)]
