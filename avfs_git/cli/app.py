"""The program: the table of verbs, and `main`, the only exit and the only catch-all.

Decided here: which verbs exist and where they are, and how every outcome becomes an exit status and a message or
document. Commands are imported when they are asked for, so that `avfs --help` loads neither the SDK nor rich.
"""

from __future__ import annotations

import contextlib
import gc
import os
import signal
import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

import click

from avfs_git.cli.context import State, is_directory_gone, wants_color
from avfs_git.cli.output.base import OutputClosed, OutputLost
from avfs_git.cli.verb import help_option, shared_options
from avfs_git.errors import AvfsError, BadUsage, DirectoryGone, HostError, InternalError, Interrupted, Terminated, quote

if TYPE_CHECKING:
    from avfs_git.cli.output.base import Output

CLOSED_PIPE_STATUS = 141
"""128 + SIGPIPE: what a shell reports of any program whose reader went away."""
_GARBAGE_AT = 100_000
"""So many objects more than there were start a search for garbage."""


class Entry(NamedTuple):
    """A verb, or a group of them, as the help of its parent lists it."""

    module: str
    help: str
    section: str = ""


VAULTS, HISTORY, FILES, UPKEEP = "Vaults and forks", "Checkpoints and history", "Files", "Upkeep"
REMOTES = "Remotes"
MOUNTS = "Mounts"
COMMANDS = "Commands"

_FORK = Entry("fork", "Manage forks: branches with a workspace of their own", VAULTS)
_CHECKPOINT = Entry("checkpoint", "Manage checkpoints: saved states of a workspace", HISTORY)
_EXEC = Entry("exec", "Run a command in the workspace, and commit what it changed", COMMANDS)
_SESSIONS = Entry("sessions", "List what is mounted", MOUNTS)

VERBS: dict[str, Entry] = {
    "vault": Entry("vault", "Manage vaults: repositories with their workspaces", VAULTS),
    "fork": _FORK,
    "mount": Entry("mount", "Show the workspace of a fork as a real directory", MOUNTS),
    "unmount": Entry("unmount", "Take a mount away, without a checkpoint", MOUNTS),
    "sessions": _SESSIONS,
    "ps": _SESSIONS,
    "stop": Entry("stop", "Save a last checkpoint and take a mount away", MOUNTS),
    "end": Entry("end", "End the fork of a directory that `avfs fork SOURCE DIR` made", MOUNTS),
    "exec": _EXEC,
    "proxy": Entry("proxy", "Run commands in a workspace, one by one or many in a session", COMMANDS),
    "policy": Entry("policy", "Look at the rules about commands", COMMANDS),
    "approvals": Entry("approvals", "Say yes or no to commands that need a person", COMMANDS),
    "audit": Entry("audit", "List the commands that were run, refused and approved, the newest first", COMMANDS),
    "checkpoint": _CHECKPOINT,
    "snapshot": _CHECKPOINT,
    "add": Entry("add", "Put files into history that were kept beside it", HISTORY),
    "status": Entry("status", "Show what the next checkpoint would save", HISTORY),
    "log": Entry("log", "Show the history of a fork, or of one path", HISTORY),
    "diff": Entry("diff", "Show how two states differ", HISTORY),
    "show": Entry("show", "Show one checkpoint and what it changed", HISTORY),
    "checkout": Entry("checkout", "Bring back an earlier version of a path", HISTORY),
    "revert": Entry("revert", "Bring back the version of a path before the present one", HISTORY),
    "merge": Entry("merge", "Merge forks into a fork", HISTORY),
    "overlap": Entry("overlap", "Show which forks touch the same files, and which would conflict", HISTORY),
    "resolve": Entry("resolve", "Decide on a path in conflict", HISTORY),
    "rebase": Entry("rebase", "Put the commits that only a fork has onto another state", HISTORY),
    "cherry-pick": Entry("cherry_pick", "Put what single checkpoints changed onto a fork", HISTORY),
    "squash": Entry("squash", "Make one commit of those after FROM up to TO", HISTORY),
    "undo": Entry("undo", "Take back the last operation on a fork", HISTORY),
    "redo": Entry("redo", "Do again what was undone last", HISTORY),
    "op": Entry("op", "Look at the operation log", HISTORY),
    "clone": Entry("clone", "Make a vault from another repository, which it knows as the remote `origin`", REMOTES),
    "remote": Entry("remote", "Manage remotes: other repositories that a vault knows", REMOTES),
    "fetch": Entry("fetch", "Bring what a remote has; no fork changes", REMOTES),
    "pull": Entry("pull", "Fetch, and merge into a fork what the remote has of it", REMOTES),
    "push": Entry("push", "Hand forks to a remote, as branches", REMOTES),
    "prefetch": Entry("prefetch", "Bring the contents of files into a vault that was cloned with --lazy", REMOTES),
    "update": Entry("update", "Bring what is newest of where a fork comes from into it, keeping its own changes", REMOTES),
    "apply": Entry("apply", "Write what a fork has changed into a directory, as edits that nobody has staged", REMOTES),
    "ls": Entry("ls", "List a directory", FILES),
    "cat": Entry("cat", "Write out a file", FILES),
    "write": Entry("write", "Write a file", FILES),
    "mkdir": Entry("mkdir", "Make directories", FILES),
    "rm": Entry("rm", "Remove files and directories", FILES),
    "cp": Entry("cp", "Copy files and directories", FILES),
    "mv": Entry("mv", "Move or rename files and directories", FILES),
    "tree": Entry("tree", "Show a directory with everything below it", FILES),
    "stat": Entry("stat", "Show what is known of a path", FILES),
    "touch": Entry("touch", "Make an empty file, or give a path the present time", FILES),
    "import": Entry("import_", "Copy files of the machine into the workspace", FILES),
    "export": Entry("export", "Copy files of the workspace to the machine", FILES),
    "hooks": Entry("hooks", "Manage hooks: programs that run at the ends of operations", UPKEEP),
    "doctor": Entry("doctor", "Check a vault, and mend what can be mended", UPKEEP),
    "gc": Entry("gc", "Give back what nobody can need any more", UPKEEP),
}
"""All verbs in the order of the help; a module's command has the module's name, without a trailing underscore."""

ALIASES = {"snapshot": "checkpoint", "ps": "sessions"}
"""Names that are accepted and not listed."""


class VerbGroup(click.Group):
    """A group of verbs; without one it fails, and it suggests what a mistyped one may have meant."""

    def __init__(self, *args: Any, **settings: Any) -> None:
        settings |= {"no_args_is_help": False, "add_help_option": False}
        super().__init__(*args, **settings)
        self.params.extend([*shared_options(hidden=type(self) is VerbGroup), help_option()])

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        """List the verbs in the order they were given."""
        return list(self.commands)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse; a lone group is a mistake that its help answers."""
        rest = super().parse_args(ctx, args)
        if not rest and not ctx._protected_args and not ctx.resilient_parsing:  # noqa: SLF001 - click has no other way
            raise MissingVerb(ctx)
        return rest

    def resolve_command(self, ctx: click.Context, args: list[str]) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the verb.

        Raises:
            BadUsage: If there is none of that name.
        """
        name = args[0]
        command = self.get_command(ctx, name)
        if command is None:
            from difflib import get_close_matches  # noqa: PLC0415 - only after a mistake

            known = [*self.list_commands(ctx), *ALIASES] if ctx.parent is None else self.list_commands(ctx)
            close = get_close_matches(name, known, n=1)
            place = ctx.command_path
            hint = f"Did you mean `{place} {close[0]}`?" if close else f"See `{place} --help`."
            raise BadUsage(f"there is no command {quote(name)}", hint=hint)
        return name, command, args[1:]


class MissingVerb(BadUsage):
    """A group without a verb."""

    def __init__(self, ctx: click.Context) -> None:
        super().__init__("a command is missing", hint=f"See `{ctx.command_path} --help`.")
        self.help_text = ctx.get_help()


class Program(VerbGroup):
    """The top of the command line: loads a verb when it is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        """List the verbs in the order of the help."""
        return [name for name in VERBS if name not in ALIASES]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 - click's signature
        """Import a verb."""
        entry = VERBS.get(cmd_name)
        if entry is None:
            return None
        module = import_module(f"avfs_git.cli.commands.{entry.module}")
        command: click.Command = module.command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the verbs by section, without importing any."""
        names = self.list_commands(ctx)
        width = max(map(len, names))
        for section in (VAULTS, MOUNTS, COMMANDS, HISTORY, REMOTES, FILES, UPKEEP):
            with formatter.section(section):
                formatter.write_dl([(name.ljust(width), VERBS[name].help) for name in names if VERBS[name].section == section])


def _show_version(ctx: click.Context, param: click.Parameter, value: bool) -> None:  # noqa: ARG001 - click's signature
    if not value or ctx.resilient_parsing:
        return
    from avfs_git import __version__  # noqa: PLC0415 - only where it is asked for

    state: State = ctx.obj
    if state.output.structured:
        state.output.begin("version_result", "", {"version": True})
        state.output.result({"version": __version__})
    else:
        state.output.data([f"avfs {__version__}\n".encode()])
    ctx.exit(0)


PROGRAM_HELP = """Git-compatible workspaces for AI agents

A vault is a bare git repository; a fork is a branch in it with a workspace of its own; a checkpoint is a commit of a
workspace. Nothing is lost: every operation can be undone.

Options say which vault and fork are meant, else the current directory, else AVFS_VAULT and AVFS_FORK, else the current vault.
In a mount or a clone with forks, paths of the workspace are relative to the current directory; elsewhere, and with a leading
slash, to its root. Without --vault or --fork, a path that this machine has outside of a mount is refused if it begins with
/ or ~, or elsewhere with a dot. Names of states are labels of checkpoints, FORK@LABEL, forks, ids of commits (four letters or
more) and HEAD, each also with ~N.
"""

program = Program(
    "avfs",
    help=PROGRAM_HELP,
    params=[
        click.Option(
            ["-V", "--version"],
            is_flag=True,
            expose_value=False,
            is_eager=True,
            callback=_show_version,
            help="Show the version and exit.",
        )
    ],
)


def wants_document(arguments: list[str]) -> bool:
    """Look for `--json` before anything is parsed, for the failures of parsing itself; behind `--` it is not ours."""
    own = arguments[: arguments.index("--")] if "--" in arguments else arguments
    return "--json" in own


def _make_output(arguments: list[str], *, document: bool) -> Output:
    if document:
        from avfs_git.cli.output.envelope import EnvelopeOutput  # noqa: PLC0415 - one of two

        return EnvelopeOutput([argument for argument in arguments if argument != "--json"])
    from avfs_git.cli.output.text import TextOutput  # noqa: PLC0415 - one of two

    return TextOutput(color=wants_color())


def run(arguments: list[str]) -> int:
    """Run one command line and return its exit status; nothing escapes but `SystemExit` of a second Ctrl-C.

    Args:
        arguments: The command line.
    """
    state = State(_make_output(arguments, document=wants_document(arguments)))
    error: AvfsError | None = None
    trace: str | None = None
    try:
        try:
            with program.make_context("avfs", list(arguments), obj=state) as ctx:
                program.invoke(ctx)
        finally:
            state.close()
    except click.exceptions.Exit as done:
        return _finish(state, done.exit_code)
    except OutputClosed:
        return _give_up_stdout()
    except OutputLost as err:
        return _report_lost_stdout(err)
    except AvfsError as err:
        error = err
        if isinstance(err, InternalError):
            trace = _trace_if(state)
    except click.ClickException as err:
        error = _usage_error(err)
    except _Ended:
        error = Terminated()
    except (KeyboardInterrupt, click.Abort):
        error = Interrupted()
    except BrokenPipeError:
        return _give_up_stdout()
    except OSError as err:
        error = DirectoryGone(err) if is_directory_gone() else HostError("finish", err)
        trace = _trace_if(state)
    except Exception as err:  # noqa: BLE001 - the one catch-all: whatever it is, the caller gets a document or a message
        error = InternalError(
            f"{type(err).__name__}: {err}",
            hint="This is a bug in avfs. Run it again with `--verbose` and report what it shows.",
            details={"exception": type(err).__name__},
        )
        trace = _trace_if(state)
    if error is None:
        return _finish(state, state.status)
    if isinstance(error, MissingVerb) and not state.output.structured:
        state.output.note(error.help_text + "\n")
    state.output.failure(error, trace=trace)
    return _finish(state, error.exit_code)


def _finish(state: State, status: int) -> int:
    try:
        state.output.close()
    except OutputClosed:
        return _give_up_stdout()
    except OutputLost as err:
        return _report_lost_stdout(err)
    return status


def _report_lost_stdout(err: OutputLost) -> int:
    """Say on the other stream that the result could not be written, whatever form it had."""
    from avfs_git.cli.output.text import TextOutput  # noqa: PLC0415 - only where it is needed

    TextOutput(color=False).failure(err)
    _give_up_stdout()
    return err.exit_code


def _give_up_stdout() -> int:
    """Leave quietly when nobody reads: also the interpreter's own flush at its end must not complain."""
    try:
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, 1)
        os.close(null)
    except OSError:
        pass  # nothing is left to protect
    return CLOSED_PIPE_STATUS


def _trace_if(state: State) -> str | None:
    if not state.verbose:
        return None
    import traceback  # noqa: PLC0415 - only for a bug

    return traceback.format_exc()


def _usage_error(err: click.ClickException) -> BadUsage:
    """Say what click found in the words and with the code that all errors have."""
    message = err.format_message().strip().rstrip(".")
    ctx = getattr(err, "ctx", None)
    hint = f"See `{ctx.command_path} --help`." if ctx is not None else None
    if isinstance(err, click.NoSuchOption):
        message = f"there is no option {quote(err.option_name)}"
        if err.possibilities:
            hint = f"Did you mean `{min(err.possibilities)}`?"
        elif ctx is not None and "words" in {param.name for param in ctx.command.params}:
            hint = f"What a command is given stands behind `--`, as in `{ctx.command_path} -- ls -l`."
    message = message.replace("a valid integer range", "a whole number").replace("a valid integer", "a whole number")
    return BadUsage(message[:1].lower() + message[1:], hint=hint)


def _open_standard_descriptors() -> None:
    """Fill descriptors 0 to 2 where the caller closed them: a vault's file must never become standard output."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)


class _Ended(KeyboardInterrupt):
    """SIGTERM came: what is being done is left as by Ctrl-C, so that nothing half made stays behind."""


def _end(number: int, _frame: object) -> NoReturn:
    signal.signal(number, signal.SIG_DFL)  # a second one ends it at once: whatever that leaves, a crash may leave
    raise _Ended


def main() -> NoReturn:
    """Run the program with the arguments of the process, and exit."""
    _open_standard_descriptors()
    if signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:  # else whoever started it wants it to go on
        signal.signal(signal.SIGTERM, _end)
    # A program that imports much and ends soon makes little garbage; looking for it now and then takes a twentieth of the start.
    gc.set_threshold(_GARBAGE_AT)
    _leave(run(sys.argv[1:]))


def _leave(status: int) -> NoReturn:
    """Exit at once: everything is closed and written, and taking the interpreter apart takes a sixth of a short command."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError, AttributeError):  # nobody reads it, or it was closed
            stream.flush()
    os._exit(status)
