"""`avfs exec`, also `avfs proxy exec`: run one command in a workspace."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from typing import TYPE_CHECKING, Any, Unpack

import click

from avfs_git.cli.context import State
from avfs_git.cli.environment import find_home
from avfs_git.cli.output.base import OutputClosed, write_all
from avfs_git.cli.verb import HOST_PATH, TREE_PATH, is_dry_run, read_duration, verb
from avfs_git.errors import BadUsage, HostError, TerminalMissing
from avfs_git.host.files.closing import closing_fd

if TYPE_CHECKING:
    from pathlib import Path
    from types import FrameType

    from avfs_git.proxy.exec.envelope import ExecPlan, ExecResult
    from avfs_git.sdk.options import ExecOptions
    from avfs_git.sdk.workspace.commands import Running

NOT_RUN = 125
"""What it ends with if avfs fails; every other status is the command's own."""
_SHORT_MS = 1000
_SCREEN_PROGRAMS = frozenset({"vi", "vim", "vimdiff", "nvim", "nano", "pico", "joe", "mcedit", "top", "htop", "btop"})
"""They draw a screen and wait for keys, unless an option or a variable says otherwise."""
_FORWARDED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)
_TIMEOUT_MS = 300_000


def parse_variable(text: str) -> tuple[str, str]:
    """Read NAME=VALUE.

    Raises:
        BadUsage: If it is nothing of the kind.
    """
    name, equals, value = text.partition("=")
    if not name or not equals:
        raise BadUsage("a variable is written NAME=VALUE")
    return name, value


def _read_timeout(ctx: click.Context, param: click.Parameter, text: str | None) -> int | None:  # noqa: ARG001 - click's signature
    """Read a time limit; warn that a short one without a unit is ms: `--timeout 60` of other programs is a minute."""
    if text is None:
        return None
    value = read_duration(text)
    if text.isdigit() and 0 < value < _SHORT_MS:
        from avfs_git.model import Warning  # noqa: PLC0415 - only for the remark

        ctx.obj.output.warn(
            [Warning("exec.short_timeout", f"the time limit is {value} ms: `{value}s` is {value} seconds")]
        )
    return value


@verb(
    "proxy exec",
    looks=is_dry_run,
    view="commands",
    unrecorded="all",
    takes_program=True,
    failure_status=NOT_RUN,
    example="avfs exec --timeout 90s make test",
)
@click.argument("words", nargs=-1, metavar="[PROGRAM [ARGUMENT]...]")
@click.option("-c", "--shell", metavar="TEXT", help="Run a text with bash instead of a program.")
@click.option(
    "--timeout",
    "timeout_ms",
    metavar="TIME",
    callback=_read_timeout,
    help="Limit, as 90s, 5m or 2h; a number alone is ms; default: 5m; none with 0 or -t.",
)
@click.option("-t", "--tty", "terminal", is_flag=True, help="Give it a terminal, as an editor needs.")
@click.option("--cwd", type=TREE_PATH, metavar="DIR", help="Its directory; default: the current one.")
@click.option(
    "-e",
    "--env",
    "environment",
    multiple=True,
    metavar="NAME[=VALUE]",
    help="Set a variable, or pass on avfs's own.",
)
@click.option("--readonly", is_flag=True, help="Refuse every change to files.")
@click.option("--writable", is_flag=True, help="Allow changes, even of a command that reads.")
@click.option("--stdin", "input_file", type=HOST_PATH, metavar="FILE|-", help="Standard input; empty by default.")
@click.option("--stream", is_flag=True, help="With --json: its output on standard error.")
@click.option("--no-checkpoint", is_flag=True, help="Do not save uncommitted changes before it.")
@click.option("--no-commit", is_flag=True, help="Leave the command's changes uncommitted.")
@click.option("-m", "--message", metavar="TEXT", help="Message of the commit; default: the command.")
@click.option(
    "--max-output",
    type=click.IntRange(min=0),
    default=1 << 20,
    metavar="BYTES",
    help="Bytes of each stream in the result; more go to a file; default: 1 MiB.",
)
@click.option(
    "--max-output-file",
    type=click.IntRange(min=0),
    default=1 << 30,
    metavar="BYTES",
    help="Bytes kept there; default: 1 GiB.",
)
@click.option(
    "--backend",
    type=click.Choice(["auto", "overlay", "fuse", "checkout"]),
    default="auto",
    help="How to show the workspace; default: auto.",
)
@click.option("--at", type=HOST_PATH, metavar="DIR", help="Where the command sees the workspace.")
@click.option("--approve", metavar="TOKEN", help="Token of an approval.")
@click.option(
    "--isolate",
    is_flag=True,
    help="Run it in bubblewrap: no home, no network.",
)
@click.option("--network", is_flag=True, help="With --isolate: give it the network.")
@click.option("-n", "--dry-run", is_flag=True, help="Show what would happen, and change nothing.")
def command(
    state: State,
    words: tuple[str, ...],
    environment: tuple[str, ...],
    input_file: Path | None,
    stream: bool,
    no_checkpoint: bool,
    no_commit: bool,
    at: Path | None,
    dry_run: bool,
    **given: Unpack[ExecOptions],
) -> ExecResult | ExecPlan | None:
    """Run a command in the workspace, and commit what it changed

    Options of avfs stand before PROGRAM; all that follows it is passed on. The policy decides whether the command runs;
    see `avfs policy`. When the command ends, avfs kills the processes that it left. The exit status is that of the
    command; 124 if it timed out, 126 or 127 if it cannot be executed, 128+N if signal N killed it, 125 if avfs failed.
    """
    if (given["shell"] is None) == (not words):
        raise BadUsage("a command is needed, either `PROGRAM [ARGUMENT]...` or `--shell TEXT`")
    if given["readonly"] and given["writable"]:
        raise BadUsage("--readonly and --writable exclude each other")
    terminal, timeout_ms = given["terminal"], given["timeout_ms"]
    if terminal:
        _check_terminal(input_file, dry_run=dry_run)
    if timeout_ms is None:
        timeout_ms = 0 if terminal else _TIMEOUT_MS
    with (
        nullcontext() if dry_run else _starting_early(),
        state.open_workspace() as workspace,
        _opened(input_file) as reading,
    ):
        options: ExecOptions = {
            **given,
            "cwd": given["cwd"] if given.get("cwd") is not None else state.tree_directory(),
            "env": dict(parse_variable(text) for text in environment if "=" in text),
            "let_in": tuple(text for text in environment if "=" not in text),
            "stdin": 0 if terminal else reading,
            "timeout_ms": timeout_ms or None,
            "checkpoint": not no_checkpoint,
            "commit": not no_commit,
            "root": at.absolute() if at is not None else None,
        }
        plan = workspace.exec_plan(*words, **options)
        state.output.amend(
            cwd=plan.cwd,
            readonly=given["readonly"],
            keep_mount=False,
            mountpoint=plan.mountpoint,
            checkpoint_mode="never" if no_checkpoint else "auto",
            command=plan.command,
            command_mode=plan.command_mode,
            timeout={"millis": timeout_ms} if timeout_ms else "none",
            isolate=given["isolate"],
            dry_run=dry_run,
        )
        if not terminal:
            _look_for_terminal(state, plan, is_told=reading is not None or bool(environment))
        if dry_run:
            return plan
        with workspace.exec_stream(*words, **options) as running, _forwarding(running, terminal=terminal):
            _pass_on(state, running, stream=stream, terminal=terminal)
            result = running.result
    state.status = result.exit_code
    return result


def _check_terminal(stdin: Path | None, *, dry_run: bool) -> None:
    """Refuse `-t` where no person can type.

    Raises:
        BadUsage: If standard input is something else.
    """
    if stdin is not None:
        raise BadUsage("--tty and --stdin exclude each other: with a terminal, standard input is what is typed")
    if not dry_run and (sys.stdin is None or not sys.stdin.isatty()):
        hint = "Leave out `-t`; `--stdin -` passes on standard input."
        raise BadUsage("-t needs a terminal, and standard input is none", hint=hint)


def _look_for_terminal(state: State, plan: ExecPlan, *, is_told: bool) -> None:
    """Refuse a command that can only wait for a person, because it gets no terminal; say so of a command that may wait.

    Sure is only a lone screen program without options. With `is_told`, input or variables may tell it what to do.

    Raises:
        TerminalMissing: If it is sure. A command that the policy denies is left to the policy.
    """
    import shlex  # noqa: PLC0415 - not for the help

    from avfs_git.proxy.policy.decision import Action, Category  # noqa: PLC0415 - the same

    decision = plan.decision
    if Category.INTERACTIVE not in decision.categories or decision.action is Action.DENY:
        return
    words = next(
        (found.command for found in decision.findings if found.category is Category.INTERACTIVE and found.exact), ()
    )
    if (
        not is_told
        and shlex.join(words) == plan.command  # nothing stands around it that may give it a terminal, or not start it
        and words[0].rpartition("/")[2] in _SCREEN_PROGRAMS
        and not any(word.startswith(("-", "+")) for word in words)
    ):
        raise TerminalMissing(words[0])
    from avfs_git.model import Warning  # noqa: PLC0415 - only for the remark

    text = "the command may wait for a person, and gets no terminal: `avfs exec -t` gives it one"
    state.output.warn([Warning("exec.no_terminal", text)])


@contextmanager
def _starting_early() -> Iterator[None]:
    """Begin what needs longest to come up, the longest first: all else is imported meanwhile."""
    from avfs_git.model import BASES  # noqa: PLC0415 - not for the help
    from avfs_git.session.serve import nursery_client  # noqa: PLC0415 - the same

    # Where the base of any fork is mounted, that of this one is, mostly.
    with nursery_client.starting_early(unless_mounted=(find_home() / "mounts", BASES)):
        from avfs_git.host.processes.runner.handle import starting_early  # noqa: PLC0415 - takes as long to load as the other to start

        with starting_early():
            yield


@contextmanager
def _opened(path: Path | None) -> Iterator[int | None]:
    """Open what the command is to read; `-` is our own standard input."""
    if path is None or os.fspath(path) == "-":
        yield None if path is None else 0
        return
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise HostError(f"read '{path}'", error) from error
    with closing_fd(fd):
        yield fd


@contextmanager
def _forwarding(running: Running, *, terminal: bool) -> Iterator[None]:
    """Hand signals to the command: what they mean is its to say, for as long as its grace lasts.

    While avfs itself saves what was uncommitted, or what the command changed, they end that. With `terminal`, the
    command's terminal follows the size of this one, also after this process was stopped.
    """
    before: dict[int, Any] = {}  # as `signal.signal` gives and takes it

    def forward(number: int, frame: FrameType | None) -> None:
        handler = before.get(number, signal.SIG_IGN)
        if running.is_heeding or handler == signal.SIG_IGN:
            running.stop(number)
        elif callable(handler):
            handler(number, frame)
        else:
            raise KeyboardInterrupt

    def follow(_number: int, _frame: FrameType | None) -> None:
        with suppress(OSError):  # it is gone
            size = os.get_terminal_size(0)
            running.resize(size.lines, size.columns)

    before.update({number: signal.signal(number, forward) for number in _FORWARDED})
    if terminal:
        before.update({number: signal.signal(number, follow) for number in (signal.SIGWINCH, signal.SIGCONT)})
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _pass_on(state: State, running: Running, *, stream: bool, terminal: bool) -> None:
    """Write on what the command writes: beside a document, on standard error if that is asked for.

    Where it cannot be written, the command is told as it would be there, and what it has changed is saved first.

    Raises:
        HostError: If it could not be written, and its reader has not closed it.
    """
    structured = state.output.structured
    is_read = stream or terminal or not structured
    lost: HostError | None = None
    for piece in running:
        if not is_read:
            continue
        try:
            write_all(sys.stdout if piece.stream == "stdout" and not structured else sys.stderr, piece.data)
        except OutputClosed:
            is_read = False
            if not structured:
                running.stop(signal.SIGPIPE)  # as it would be told if it wrote there itself
        except HostError as error:
            is_read = False
            if terminal or not structured:
                lost = error
                running.stop(signal.SIGHUP if terminal else signal.SIGPIPE)  # a terminal has gone with its window
    if lost is not None and not structured:
        raise lost
