"""What all verbs share: the options that may stand before or after the verb, and the way a result goes out.

Decided here: `--json`, `--jq`, `--vault`, `--fork`, `--verbose` and `--no-pager`, and where they are accepted; which
kind of result a verb gives; what of its arguments the request shows. Every command is a `Verb`, made by the decorator
`verb`; it returns its result, and `Verb.invoke` hands that to the output.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Required, TypedDict, Unpack

import click

from avfs_git.cli.layout import HelpContext
from avfs_git.cli.output.base import write_all
from avfs_git.errors import BadUsage, quote
from avfs_git.patterns import compiled

if TYPE_CHECKING:
    from avfs_git.cli.context import State
    from avfs_git.paths import TreePath

Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]
Looks = bool | Callable[[Mapping[str, Any]], bool]
"""Whether a verb changes nothing in a vault; or says it of its arguments."""
Unrecorded = tuple[str, ...] | Literal["all"]

_DURATION = compiled(r"([0-9]+(?:\.[0-9]+)?)(ms|s|m|h)?")
_MOST_DIGITS = 12
_UNITS_MS = {"ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000}

AFTER_DASHES = "avfs.after_dashes"
"""Where a verb with `splits_at_dashes` finds the arguments behind `--`, in `ctx.meta`."""


def _note_flag(ctx: click.Context, param: click.Parameter, value: Any) -> None:
    """Keep an option that may stand before or after the verb."""
    if value == "":
        raise BadUsage(f"--{param.name} is empty")
    if not value:
        return
    state: State = ctx.obj
    name = f"{param.name}_flag" if param.name in {"vault", "fork"} else str(param.name)
    earlier = getattr(state, name)
    if isinstance(value, str) and earlier is not None and earlier != value:
        raise BadUsage(f"--{param.name} is given twice, as '{earlier}' and '{value}'")
    setattr(state, name, value)
    if isinstance(value, str):
        state.output.named = state.named()  # for the hints at what is wrong further on in the command line


def _note_filter(ctx: click.Context, param: click.Parameter, value: str | None) -> None:  # noqa: ARG001 - click's signature
    """Keep the expression of `--jq`, which stands for `--json`, too."""
    if value is None:
        return
    from avfs_git.cli.output.filter import Filter  # noqa: PLC0415 - only with the option

    state: State = ctx.obj
    if state.output.filter is not None:
        raise BadUsage("--jq is given twice")
    state.json = True
    state.output.filter = Filter(value)


def option_on_conflict(help: str = "Leave the fork as it is, or put the conflicts into its files.") -> Decorator:  # noqa: A002 - as click's
    """Make the option of verbs that merge: what becomes of conflicts."""
    return click.option(
        "--on-conflict", type=click.Choice(["report", "workspace"]), default="report", show_default=True, help=help
    )


def option_strategy(more: str = ".") -> Decorator:
    """Make the option of verbs that merge lines."""
    choices, text = ["normal", "ours", "theirs", "union"], f"What becomes of lines that both sides changed{more}"
    return click.option("-s", "--strategy", type=click.Choice(choices), default="normal", show_default=True, help=text)


IN_CONFLICT = 1
"""The exit status of verbs that merge where a conflict is left to decide, as git's."""

STOPPED = 1
"""The exit status of `undo` and `redo` where a part of a command was refused."""


def shared_options(*, hidden: bool) -> list[click.Parameter]:
    """Make the options that all verbs and the program itself accept."""

    def option(*names: str, **settings: Any) -> click.Option:
        return click.Option(names, expose_value=False, is_eager=True, callback=_note_flag, hidden=hidden, **settings)

    return [
        option("--vault", metavar="NAME[@FORK]", help="The vault to work in, also a path to any bare repository."),
        option("--fork", metavar="NAME", help="The fork to work in."),
        option("--json", is_flag=True, help="Answer with one JSON document."),
        click.Option(
            ["--jq"],
            metavar="EXPR",
            expose_value=False,
            is_eager=True,
            callback=_note_filter,
            hidden=hidden,
            help="Answer with what a jq expression makes of that document.",
        ),
        option("--verbose", is_flag=True, help="Show the whole trace of an unexpected failure."),
        option("--no-pager", is_flag=True, help="Show a long result on a terminal without a pager."),
    ]


def show_help(ctx: click.Context, param: click.Parameter, value: bool) -> None:  # noqa: ARG001 - click's signature
    """Write the help of a command and end; it wins over `--json`."""
    if value and not ctx.resilient_parsing:
        write_all(sys.stdout, f"{ctx.get_help()}\n".encode())
        ctx.exit()


def help_option() -> click.Option:
    """Make the option that asks for help."""
    return click.Option(
        ["-h", "--help"],
        is_flag=True,
        expose_value=False,
        is_eager=True,
        callback=show_help,
        help="Show this message and exit.",
    )


def refuse_contradictions(command: click.Command, ctx: click.Context, args: list[str]) -> None:
    """Refuse two options of which each sets the same choice or value: click takes the last without a word."""
    chosen: dict[str, click.Parameter] = {}
    for param in command.make_parser(ctx).parse_args(args=list(args))[2]:
        if not isinstance(param, click.Option) or param.is_bool_flag or param.multiple or ctx.resilient_parsing:
            continue
        other = chosen.get(str(param.name))
        chosen[str(param.name)] = param
        if other is param and not param.is_flag:
            raise BadUsage(f"{' / '.join(param.opts)} is given twice", hint="Give it once.")
        if other is not None and other is not param:
            raise BadUsage(f"{other.opts[0]} and {param.opts[0]} contradict each other", hint="Give one of them.")


class VerbFacts(TypedDict, total=False):
    """What a verb says about itself, in its decorator."""

    view: Required[str]
    """The module of `output.views` that shows the result.

    With a dot, the function in it where that shows others, too.
    """
    looks: Looks
    """Whether the verb changes nothing in a vault, or with which arguments.

    Such a verb only warns where the directory and the environment contradict each other.
    """
    unrecorded: Unrecorded
    """Parameters that the request does not repeat."""
    splits_at_dashes: bool
    """Keep what stands behind `--` apart from the other arguments."""
    takes_program: bool
    """The first operand is a program: all that follows, options and `--` included, are its arguments."""
    failure_status: int
    """The exit status where avfs itself fails, also at the command line; default: that of the error."""
    example: str
    """A command line for the help."""
    pages: bool
    """A result that is longer than the screen goes through the user's pager."""


class Verb(click.Command):
    """A command of avfs: parses, runs, and gives its result to the output."""

    context_class = HelpContext

    def __init__(self, *, kind: str, facts: VerbFacts, **settings: Any) -> None:
        if facts.get("takes_program"):
            settings["context_settings"] = {"allow_interspersed_args": False}
        super().__init__(add_help_option=False, **settings)
        self.kind = kind
        self.facts = facts
        self.params.extend([*shared_options(hidden=True), help_option()])

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse; the kind is known before anything can fail."""
        ctx.obj.output.begin(self.kind, self.facts["view"], {})
        ctx.obj.failure_status = self.facts.get("failure_status")
        if self.facts.get("splits_at_dashes") and "--" in args:
            at = args.index("--")
            ctx.meta[AFTER_DASHES] = args[at + 1 :]
            args = args[:at]
        try:
            refuse_contradictions(self, ctx, args)
            return super().parse_args(ctx, args)
        except click.UsageError as error:  # click does not say of all of them where they belong to
            error.ctx = error.ctx or ctx
            raise

    def invoke(self, ctx: click.Context) -> None:
        """Run the command and hand on what it returns."""
        state: State = ctx.obj
        if state.output.structured and not state.json:  # `--json` was the value of some option
            state.use_text()
        unrecorded, looks = self.facts.get("unrecorded", ()), self.facts.get("looks", False)
        left_out = ctx.params if unrecorded == "all" else unrecorded
        names = [param.name for param in self.params if param.name in ctx.params and param.name not in left_out]
        request = {str(name): ctx.params[name] for name in names}
        state.looks = looks if isinstance(looks, bool) else looks(ctx.params)
        named = state.named()
        # An operation on forks does not run in the fork that is named.
        state.output.named = named._replace(fork=None) if self.kind.startswith("fork_") else named
        state.output.begin(
            self.kind, self.facts["view"], {"vault": state.vault_flag, "fork": state.fork_flag, **request}
        )
        try:
            result = super().invoke(ctx)
        except BadUsage as error:
            error.hint = error.hint or f"See `{ctx.command_path} --help`."
            raise
        if self.facts.get("pages") and not state.no_pager:
            state.output.page()
        state.output.result(result)

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """End every help with where the shared options are explained."""
        super().format_epilog(ctx, formatter)
        if example := self.facts.get("example"):
            with formatter.section("Example"):
                formatter.write(f"{' ' * formatter.current_indent}{example}\n")
        formatter.write_paragraph()
        formatter.write_text("--vault, --fork, --json and others work here too: see `avfs --help`.")


def verb(words: str, **facts: Unpack[VerbFacts]) -> Callable[[Callable[..., object]], Verb]:
    """Make a function a verb: `words` is what people type, as `checkpoint save`, and gives the result's kind."""

    def decorate(function: Callable[..., object]) -> Verb:
        kind = f"{words.replace(' ', '_').replace('-', '_')}_result"
        return click.command(words.rpartition(" ")[2], cls=Verb, kind=kind, facts=facts)(_open_for(function))

    return decorate


def _open_for(function: Callable[..., object]) -> Callable[..., object]:
    """Give a verb what its first argument names: the `state`, or the `workspace` or `vault` that is meant, open."""
    first = getattr(function, "__code__").co_varnames[0]  # noqa: B009 - untyped
    if first in {"state", "_state"}:
        return click.pass_obj(function)

    @functools.wraps(function)
    def run(state: State, **arguments: object) -> object:
        with state.open_workspace() if first == "workspace" else state.open_vault() as opened:
            return function(opened, **arguments)

    return click.pass_obj(run)


def read_host_path(text: str) -> Path:
    """Read a path of the machine; `-` stands for standard input or output where a verb says so.

    Raises:
        BadUsage: If it is empty or holds a NUL byte.
    """
    if not text or "\0" in text:
        raise BadUsage("a path of the machine may not be empty or hold a NUL byte")
    return Path(text)


def read_duration(text: str) -> int:
    """Read a time as milliseconds: a whole number of them, or a number with `ms`, `s`, `m` or `h`.

    Raises:
        BadUsage: If it is nothing of the kind.
    """
    match = _DURATION.fullmatch(text)
    if match is None or (match[2] is None and "." in match[1]) or len(match[1]) > _MOST_DIGITS:
        raise BadUsage(
            f"{quote(text)} is not a time", hint="Write it as 90s, 5m or 2h; a number alone means milliseconds."
        )
    return round(float(match[1]) * _UNITS_MS[match[2] or "ms"])


def read_tree_path(text: str | bytes) -> TreePath:
    """Read a path of the workspace: see `State.tree_path`.

    Raises:
        InvalidInput: If it is a path of this machine, or none at all.
    """
    ctx = click.get_current_context()
    state: State = ctx.obj
    return state.tree_path(text, ctx.command_path)


def is_dry_run(arguments: Mapping[str, Any]) -> bool:
    """Say whether a verb that has `--dry-run` looks only."""
    return bool(arguments["dry_run"])


TREE_PATH = read_tree_path
"""A path in the workspace: relative to the working directory in a mount or a clone with forks, else to the root."""
HOST_PATH = read_host_path
"""A path of the machine."""
LIMIT = click.IntRange(min=1)
