"""The command line, read with click: which verb runs, and what is wrong with the arguments.

Decided here: what avfs says of mistakes that click finds. `app.run` calls `perform`, in the main thread. One command
line comes not here: `avfs hook HARNESS`, which `app` reads itself.
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
_MEANT = {
    **dict.fromkeys(
        (("exec", "-i"), ("exec", "--interactive"), ("exec", "--terminal"), ("exec", "--pty")),
        "`-t` gives the command a terminal, with the keyboard as its input.",
    ),
    **dict.fromkeys(
        (("push", "-f"), ("push", "--force")),
        "`--force-with-lease` allows a push that drops commits, unless the branch has moved since the last fetch.",
    ),
    (
        "push",
        "-u",
    ): "The first push makes the branch: `avfs push FORK`, with `--remote NAME` if there are several remotes.",
    ("checkout", "-b"): "`avfs fork create NAME` makes a fork, and `avfs --fork NAME COMMAND` works in it.",
    **dict.fromkeys(
        (("add", "-A"), ("add", "--all"), ("add", "-u"), ("add", "-p")),
        "There is no index: `avfs checkpoint save` takes all changes.",
    ),
    **dict.fromkeys(
        (("diff", "--cached"), ("diff", "--staged")),
        "There is no index: `avfs diff` shows what the next checkpoint would save.",
    ),
    ("diff", "--name-only"): "Did you mean `--name-status`?",
    **dict.fromkeys((("status", "-s"), ("status", "--short")), "`avfs status` is short."),
    ("rm", "--cached"): "There is no index: in a live tree, `git rm --cached PATH` does it.",
    ("fetch", "--all"): "`avfs fetch NAME` for each remote of `avfs remote list`.",
    ("find", "--size"): "`--min-size 1M` and `--max-size 1M` are bounds.",
    **dict.fromkeys((("find", "--depth"), ("find", "--maxdepth")), "Did you mean `--max-depth`?"),
    **dict.fromkeys(
        (("find", "--mtime"), ("find", "-m")), "`--newer 2d` and `--older 2d` are about the time of the last change."
    ),
    **dict.fromkeys(
        (("grep", "-e"), ("grep", "--regexp")), "The pattern is the first argument, and `A|B` finds either."
    ),
    **dict.fromkeys((("doctor", "--fix"), ("doctor", "-f")), "Did you mean `--repair`?"),
    ("remote", "-v"): "Did you mean `avfs remote list`?",
    ("rebase", "-i"): "`avfs squash FROM..TO` joins commits, and `avfs cherry-pick` applies single ones.",
}
"""What is meant by options that other programs have."""
_OF_GIT = frozenset({"log"})
"""Verbs for which git itself has more options, and shows the same."""
_EXTRA_MEANT = {
    "undo": "`avfs op undo NUMBER` takes back one operation, and `avfs revert PATH` the last change of a path."
}
"""What is meant by an argument of a verb without arguments."""


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
        if ctx is not None and (ctx.info_name, err.option_name) in _MEANT:
            hint = _MEANT[ctx.info_name, err.option_name]
        elif ctx is not None and (owners := _list_owners(ctx, err.option_name)):
            hint = f"Did you mean {' or '.join(f'`{owner} {err.option_name}`' for owner in owners)}?"
        elif ctx is not None and (meant := _find_option(ctx, err.option_name, arguments)):
            hint = f"Did you mean `{meant}`?"
        elif ctx is not None and ctx.info_name in _OF_GIT:
            hint = (
                f"{hint} In a live tree and in the repository (`avfs vault info`), `git {ctx.info_name}` has more "
                "options."
            )
    elif isinstance(err, click.MissingParameter):
        message = f"missing {'option' if isinstance(err.param, click.Option) else 'argument'} {_name_missing(err)}"
    elif ctx is not None and _EXTRA.match(message):
        hint = _EXTRA_MEANT.get(str(ctx.info_name), hint)
    message = _EXTRA.sub(
        r"there is one argument too many: '\1'", _EXTRAS.sub(r"there are arguments too many: '\1'", message)
    )
    message = message.replace("a valid integer range", "a whole number").replace("a valid integer", "a whole number")
    return BadUsage(message[:1].lower() + message[1:], hint=hint)


def _find_option(ctx: click.Context, typed: str, arguments: list[str]) -> str | None:
    """Find the option that a mistyped one may mean: by its beginning, its letters, or other programs' spelling."""
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
    return [
        f"{ctx.command_path} {name}" for name, of in verbs if of and any(option in param.opts for param in of.params)
    ]
