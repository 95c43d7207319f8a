"""The command line, read with click: which verb runs, and what is wrong with the arguments.

Decided here: what avfs says of mistakes that click finds. `app.run` calls `perform`, in the main thread. One command line comes
not here: `avfs hook HARNESS`, which `app` reads itself.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import click

from avfs_git.cli.table import MissingVerb, program
from avfs_git.errors import BadUsage, Interrupted, quote

if TYPE_CHECKING:
    from avfs_git.cli.context import State


_EXTRA = re.compile(r"^Got unexpected extra argument \((.*)\)$")
_EXTRAS = re.compile(r"^Got unexpected extra arguments \((.*)\)$")
_CLOSE = 0.8
"""From this similarity on, an option is suggested for another: `--messag`, and not `--json` for `--since`."""
_TERMINAL = frozenset({"-i", "--interactive", "--terminal", "--pty"})
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
        raise _usage_error(error, arguments) from error
    except click.Abort as error:
        raise Interrupted from error
    return state.status


def _usage_error(err: click.ClickException, arguments: list[str]) -> BadUsage:
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
            hint = "`-t` gives the command a terminal, with the keyboard as its input."
        elif ctx is not None and (owners := _list_owners(ctx, err.option_name)):
            hint = f"Did you mean {' or '.join(f'`{owner} {err.option_name}`' for owner in owners)}?"
        elif ctx is not None and (meant := _find_option(ctx, err.option_name, arguments)):
            hint = f"Did you mean `{meant}`?"
    elif isinstance(err, click.MissingParameter):
        message = f"missing {'option' if isinstance(err.param, click.Option) else 'argument'} {_name_missing(err)}"
    message = _EXTRA.sub(r"there is one argument too many: '\1'", _EXTRAS.sub(r"there are arguments too many: '\1'", message))
    message = message.replace("a valid integer range", "a whole number").replace("a valid integer", "a whole number")
    return BadUsage(message[:1].lower() + message[1:], hint=hint)


def _find_option(ctx: click.Context, typed: str, arguments: list[str]) -> str | None:
    """Find the option that a mistyped one may have meant: by its beginning, by its letters, or as other programs spell it."""
    known = [name for param in ctx.command.params if isinstance(param, click.Option) for name in param.opts]
    if typed[1:].isdigit() and "-n" in known:
        return f"-n {next((word[1:] for word in arguments if re.fullmatch('-[0-9]+', word)), typed[1:])}"
    single = next((f"-{word}" for word in arguments if word.startswith(typed) and f"-{word}" in known), None)
    if single is not None:
        return single
    if not typed.startswith("--"):
        return None
    from difflib import get_close_matches  # noqa: PLC0415 - only after a mistake

    begun = [name for name in known if name.startswith(typed)]
    close = get_close_matches(typed, [name for name in known if name.startswith("--")], 1, _CLOSE)
    return next(iter([*begun, *close]), None)


def _name_missing(err: click.MissingParameter) -> str:
    """Name what is missing; of `SOURCE... DESTINATION`, a lone argument is the source."""
    ctx, param = err.ctx, err.param
    if ctx is None or param is None:
        return str(err.param_hint or "")
    if param.nargs == -1:
        param = [each for each in ctx.command.params if isinstance(each, click.Argument)][-1]
    named = param.opts[0] if isinstance(param, click.Option) else (param.metavar or str(param.name).upper())
    choices = f": one of {', '.join(param.type.choices)}" if isinstance(param.type, click.Choice) else ""
    return f"'{named}'{choices}"


def _list_owners(ctx: click.Context, option: str) -> list[str]:
    """List the verbs of a group that have an option which was written behind the group's own name."""
    group = ctx.command
    if not isinstance(group, click.Group) or group is program:  # the program's verbs are too many to name
        return []
    verbs = ((name, group.get_command(ctx, name)) for name in group.list_commands(ctx))
    return [f"{ctx.command_path} {name}" for name, of in verbs if of and any(option in param.opts for param in of.params)]
