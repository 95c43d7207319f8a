"""`avfs run`: a program of the user, on its terminal, in a fork of its own."""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from avfs_git.cli.commands.running.exec import NOT_RUN
from avfs_git.cli.context import State
from avfs_git.cli.environment import program_environment, read_environment
from avfs_git.cli.verb import verb
from avfs_git.errors import AvfsError, BadUsage, CloneReplaced, ForkExists, InvalidInput, quote
from avfs_git.model import Warning
from avfs_git.paths import check_fork_name

if TYPE_CHECKING:
    from types import FrameType

    from avfs_git.cli.results import AttemptResult, AttemptsResult, ProgramRun
    from avfs_git.sdk import Vault
    from avfs_git.sdk.running.attempts import Attempts
    from avfs_git.sdk.running.runs import Run, RunEnd

_LATE_S = 2.0
Prepare = Callable[[dict[str, str]], tuple[list[str], dict[str, str]]]


@verb(
    "run",
    view="commands",
    unrecorded=("words",),
    takes_program=True,
    failure_status=NOT_RUN,
    example="avfs run --name task claude",
)
@click.argument("words", nargs=-1, metavar="PROGRAM [ARGUMENT]...")
@click.option("--name", metavar="NAME", help="The name of the fork; default: that of the program, and four letters.")
@click.option("--resume", metavar="FORK", help="Run it in this fork again, instead of a new one.")
@click.option(
    "--attempts",
    type=click.IntRange(2, 64),
    metavar="N",
    help="Run it N times at once, each in a fork, with its output in a file.",
)
@click.option("--keep", "ending", flag_value="keep", help="Keep the fork, also if nothing has changed.")
@click.option("--discard", "ending", flag_value="discard", help="Delete the fork at the end; `avfs undo` restores it.")
def command(
    state: State, words: tuple[str, ...], name: str | None, resume: str | None, attempts: int | None, ending: str | None
) -> ProgramRun | AttemptsResult:
    """Run a program of yours, such as an agent, in a fork of its own

    The program has the terminal, and works in a live tree with everything that the current directory has now, ignored
    files included. The current directory stays as it is. At the end avfs saves what is not saved, unmounts the tree,
    and says what changed and what to do next. A fork in which something changed is kept; a new one in which nothing did
    is deleted.

    avfs forks the clone or folder that the current directory is in, or the fork that is mounted there; with --vault or
    --fork, the fork that they name. The policy is not asked about the program. The status is the program's own: 126 or
    127 if it cannot be executed, 128+N if signal N killed it, 125 if avfs failed. With --json, the program writes to
    standard error.
    """
    argv = [*words]
    if not argv:
        raise BadUsage("a program is needed, as in `avfs run claude`")
    _check_program(state, argv[0])
    if name is not None and resume is not None:
        raise BadUsage("--name is for a new fork, --resume for an existing fork", hint="Give one of them.")
    if attempts is not None and (resume is not None or ending == "discard"):
        raise BadUsage("--attempts makes new forks to compare, and goes neither with --resume nor with --discard")
    from avfs_git.session.serve.nursery_client import let_go, starting_early  # noqa: PLC0415 - not for the help

    with ExitStack() as stack:
        state.output.amend(command=shlex.join(argv))
        if attempts is not None:
            return _attempt(state, stack, argv, attempts, name=name, keep=ending == "keep")
        with starting_early():
            try:
                run = _begin(state, stack, argv[0], name=name, resume=resume)
            except ForkExists as error:
                fork = shlex.quote(str(error.details["fork"]))
                error.hint = f"Run in that fork with `--resume {fork}`, or choose another name with `--name NAME`."
                raise
        let_go()  # no other session begins here
        return run_program(state, run, argv, ending=ending)


_NOT_FOUND = 127
"""The status of a shell where a program is not found."""


def _check_program(state: State, name: str) -> None:
    """Refuse a program that is not on PATH before a fork or, for a directory, a vault without forks is made for it."""
    if "/" not in name and shutil.which(name, mode=os.F_OK) is None:
        state.failure_status = _NOT_FOUND
        raise InvalidInput(
            f"there is no program {quote(name)} in the directories of PATH",
            hint=f"A command line is run by `avfs run sh -c {shlex.quote(name)}`."
            if len(name.split()) > 1
            else "Install it, or write where it is: `avfs run ./NAME`.",
        )


def _begin(state: State, stack: ExitStack, program: str, *, name: str | None, resume: str | None) -> Run:
    """Mount the fork: that which is resumed, or a new one of what the command line or the directory means."""
    from avfs_git.sdk.running import runs  # noqa: PLC0415 - not for the help

    if resume is not None:
        state.name_fork(resume)
        vault, _ = stack.enter_context(state.open_vault_and_fork())
        return runs.resume(vault, resume, below=os.fsdecode(state.tree_directory()))
    is_named = state.vault_flag is not None or state.fork_flag is not None
    is_replaced = not is_named and _is_clone_replaced(state)
    place = None if is_replaced else state.place()
    if is_named or (place is None and not is_replaced and read_environment()[0].vault is not None):
        vault, fork = stack.enter_context(state.open_vault_and_fork())
        return runs.begin_in_vault(vault, fork, name=name, program=program, below=os.fsdecode(state.tree_directory()))
    if place is not None:
        state.check_undisputed()
    run = runs.begin_in_directory(state.avfs, Path.cwd(), name=name, program=program)
    state.output.warn(run.vault.warnings)
    return run


def _is_clone_replaced(state: State) -> bool:
    """Tell whether another repository is here than the clone of which vaults have forks: it gets a vault of its own."""
    try:
        state.place()
    except CloneReplaced:
        return True
    return False


def run_program(
    state: State,
    run: Run,
    argv: list[str],
    *,
    ending: str | None,
    prepare: Prepare | None = None,
    again: str | None = None,
) -> ProgramRun:
    """Run a program on the terminal in a mounted fork, end the run, and describe it.

    Args:
        state: The run of avfs; its exit status becomes the program's.
        run: The fork.
        argv: The program and its arguments, as the result names them.
        ending: `keep` or `discard` the fork; None decides by what changed.
        prepare: Makes the command line and the variables that are really used, from the variables of the fork.
        again: The command behind `avfs --vault NAME` that goes on; default: `run --resume`.
    """
    from avfs_git.host.processes.foreground import run_foreground  # noqa: PLC0415 - not for the help

    directory = run.directory()
    state.output.note(f"(fork {run.fork} of vault {run.vault.name}, at {run.session.path})")
    environment = program_environment(run.environment(), directory)
    used, environment = prepare(environment) if prepare is not None else (argv, environment)
    began = time.monotonic_ns()
    has_ended = _outlive_program()
    finished = run_foreground(
        used,
        directory=directory,
        environment=environment,
        stdout=2 if state.output.structured else None,
    )
    has_ended()
    took_ms = (time.monotonic_ns() - began) // 1_000_000
    state.status = finished.exit_code
    if finished.problem is not None:
        state.output.warn([Warning("run.not_started", finished.problem)])
    again = again or spell_resume(run.fork, argv)
    try:
        ended = run.end(keep=ending == "keep", discard=ending == "discard")
    except AvfsError as error:
        state.output.amend(vault=run.vault.name, fork=run.fork)
        _name_unsaved(error, run, f"the program ended with {finished.exit_code}", again)
        raise
    except KeyboardInterrupt as stop:
        stop.args = stop.args or (f"{_spell_unsaved(run)}; save and unmount it with `{_spell_stop(run)}`",)
        raise
    state.output.warn(ended.warnings)
    return {
        "fork": run.fork,
        "vault": run.vault.name,
        "directory": run.session.path,
        "command": argv,
        "exit_code": finished.exit_code,
        "duration_ms": took_ms,
        "outcome": ended.outcome,
        "mounted": ended.mounted,
        "diff": ended.diff,
        "checkpoints": ended.checkpoints,
        "pushed": ended.pushed,
        "next": _list_next(run, ended, again),
    }


def _outlive_program() -> Callable[[], None]:
    """Let this process go on when its terminal has gone, which ends the program, and save what that has done.

    A shell that ends with its window sends the signal that the kernel has sent once more, at any time. Ctrl-C is often
    typed twice: what comes within `_LATE_S` of the program's end, which the caller tells, was meant for the program.
    No signal is ignored: the program would inherit that.
    """
    until = float("inf")

    def note_end() -> None:
        nonlocal until
        until = time.monotonic() + _LATE_S

    if signal.getsignal(signal.SIGHUP) is signal.SIG_DFL:
        signal.signal(signal.SIGHUP, lambda _number, _frame: None)
    for each in (signal.SIGINT, signal.SIGTERM):
        if callable(handler := signal.getsignal(each)):
            signal.signal(each, partial(_unless_late, lambda: until, handler))
    return note_end


def _unless_late(until: Callable[[], float], handler: Callable[[int, FrameType | None], object], *got: Any) -> None:
    if time.monotonic() > until():
        handler(*got)


def _attempt(
    state: State, stack: ExitStack, argv: list[str], count: int, *, name: str | None, keep: bool
) -> AttemptsResult:
    """Run the program in several forks of the present state at once, and record what came of each."""
    from avfs_git.host.processes.foreground import Started, run_beside  # noqa: PLC0415 - not for the help
    from avfs_git.sdk.running import attempts, runs  # noqa: PLC0415 - the same

    chosen = runs.make_name(argv[0]) if name is None else check_fork_name(name)
    begun: list[Run] = []
    try:
        for number in range(1, count + 1):
            begun.append(_begin(state, stack, argv[0], name=f"{chosen}-{number}", resume=None))  # noqa: PERF401 - an error ends those before it
        vault = begun[0].vault
        made_ns = [attempts.find_made(vault, run.fork) or 0 for run in begun]  # without one, the fork is gone already
        output = attempts.output_directory(state.avfs, vault, chosen)
        state.output.note(
            f"(attempts {chosen}-1 to {chosen}-{count} of vault {vault.name}; their output is in {output})"
        )
        programs = []
        for number, run in enumerate(begun, 1):
            place = run.directory()
            environment = program_environment({**run.environment(), "AVFS_ATTEMPT": str(number)}, place)
            programs.append(Started(argv, place, environment, output / f"{number}.log"))
        made = [
            attempts.Attempt(
                number, run.fork, run.start, None, None, os.fspath(programs[number - 1].output), made_ns[number - 1]
            )
            for number, run in enumerate(begun, 1)
        ]
        record = attempts.Attempts(chosen, os.fspath(vault.path), argv, made)
        attempts.write_record(state.avfs, vault, record)  # a later command finds what a kill cuts short
    except BaseException as error:  # Ctrl-C, too
        for run in begun:
            run.end()
        if isinstance(error, ForkExists):
            error.hint = "Choose another name for the attempts with `--name NAME`."
        raise
    began = time.monotonic_ns()
    codes = []
    has_ended = _outlive_program()
    for at, finished in run_beside(programs):
        took_ms = (time.monotonic_ns() - began) // 1_000_000
        made[at] = made[at]._replace(exit_code=finished.exit_code, duration_ms=took_ms)
        codes.append(finished.exit_code)
        state.output.note(f"(attempt {at + 1} ended with {finished.exit_code} after {took_ms / 1000:.1f} s)")
        if finished.problem is not None:
            state.output.warn([Warning("run.not_started", finished.problem)])
    has_ended()
    failed = _end_attempts(state, begun, keep=keep)
    attempts.write_record(state.avfs, vault, record)
    if failed is not None:
        raise failed
    state.status = min(codes)
    return describe_attempts(vault, record)


def _end_attempts(state: State, begun: Sequence[Run], *, keep: bool) -> AvfsError | None:
    """End all runs, and tell which forks stay mounted; give the first error, which holds no other one up."""
    failed = None
    for run in begun:
        try:
            ended = run.end(keep=keep)
        except AvfsError as error:
            state.output.warn([Warning("run.not_saved", f"{error.message}; {_spell_unsaved(run)}")])
            failed = failed or error
            continue
        state.output.warn(ended.warnings)
        if ended.outcome == "gone":
            words = ", then ".join(f"`{command}`" for command in _list_next(run, ended, "").values())
            state.output.warn([Warning("run.gone", f"fork '{run.fork}' is brought back by {words}")] if words else [])
        elif ended.mounted:
            text = (
                f"fork '{run.fork}' is still mounted, because programs use it: end them, then `avfs "
                f"{run.spell_unmount()}`"
            )
            state.output.warn([Warning("run.still_mounted", text)])
    return failed


def _name_unsaved(error: AvfsError, run: Run, ended: str, again: str) -> None:
    """Let the error of a run's end say where the program's work is, and how to go on."""
    vault = shlex.quote(run.vault.name)
    error.message = f"{error.message}; {ended}, and {_spell_unsaved(run)}"
    error.args = (error.message,)
    error.details |= {"fork": run.fork, "vault": run.vault.name, "directory": os.fspath(run.session.path)}
    avfs = f"avfs --vault {vault}"
    then = f"Then save and unmount it with `{_spell_stop(run)}`, or go on with `{avfs} {again}`."
    error.hint = f"{error.hint.replace(', then try again', '')} {then}" if error.hint else then


def _spell_stop(run: Run) -> str:
    return f"avfs --vault {shlex.quote(run.vault.name)} stop {shlex.quote(run.fork)}"


def _spell_unsaved(run: Run) -> str:
    return f"what is not saved is in fork '{run.fork}' of vault '{run.vault.name}', mounted at '{run.session.path}'"


def describe_attempts(vault: Vault, record: Attempts) -> AttemptsResult:
    """Show attempts with what their forks hold now."""
    from avfs_git.sdk.running import attempts  # noqa: PLC0415 - not for the help

    shown: list[AttemptResult] = [
        {
            "number": attempt.number,
            "fork": attempt.fork,
            "exit_code": attempt.exit_code,
            "duration_ms": attempt.duration_ms,
            "output": Path(attempt.output),
            "diff": attempts.compare(vault, attempt),
        }
        for attempt in record.attempts
    ]
    avfs, named = f"avfs --vault {shlex.quote(vault.name)}", f"--name {shlex.quote(record.name)}"
    found = {}
    for one in record.attempts:
        if attempts.has_fork(vault, one):
            found["diff"] = f"{avfs} --fork {shlex.quote(one.fork)} diff {one.start[:12]}"
            found["compare"] = f"{avfs} attempts compare {named}"
            found["pick"] = f"{avfs} attempts pick {named} {one.number}"
            break
    return {"name": record.name, "vault": vault.name, "command": record.command, "attempts": shown, "next": found}


def spell_resume(fork: str, argv: Sequence[str]) -> str:
    """Spell the command that runs a program in its fork again, as it follows `avfs --vault NAME`."""
    return f"run --resume {shlex.quote(fork)} -- {shlex.join(argv)}"


def _list_next(run: Run, ended: RunEnd, again: str) -> dict[str, str]:
    """Spell the commands that continue from here; each works from any directory."""
    avfs, fork = f"avfs --vault {shlex.quote(run.vault.name)}", shlex.quote(run.fork)
    if ended.outcome == "unchanged" or (ended.outcome == "gone" and run.vault.has_fork(run.fork)):
        return {}
    if ended.outcome == "gone":
        return ({"unmount": f"avfs {run.spell_unmount()}"} if ended.mounted else {}) | {
            "restore": f"{avfs} --fork {fork} undo"
        }
    if ended.outcome == "discarded":
        return {"restore": f"{avfs} --fork {fork} undo"}
    found = list_uses(run.vault, run.fork, again, start=run.start, pushed=ended.pushed)
    if ended.mounted:
        found["unmount"] = f"avfs {run.spell_unmount()}"
    is_default = run.vault.origin() is None and run.vault.info().default_fork == run.fork
    return found if is_default else {**found, "discard": f"{avfs} fork delete {fork}"}


def list_uses(vault: Vault, name: str, again: str, *, start: str, pushed: bool) -> dict[str, str]:
    """Spell the commands that look at a fork, and bring its changes elsewhere."""
    avfs, fork = f"avfs --vault {shlex.quote(vault.name)}", shlex.quote(name)
    found = {
        "resume": f"{avfs} {again}",
        "diff": f"{avfs} --fork {fork} diff {start[:12]}",
    }
    origin, parent = vault.origin(), vault.fork_info(name).parent
    if parent is not None and vault.has_fork(parent):
        found["merge"] = f"{avfs} merge {fork} --into {shlex.quote(parent)}"
    elif origin is not None:
        found["apply"] = f"{avfs} apply {fork} --to {shlex.quote(os.fspath(origin))}"
    remotes = {remote.name for remote in vault.list_remotes()}
    if remotes and not pushed:
        found["push"] = f"{avfs} push {fork}" + (
            " --remote NAME" if len(remotes) > 1 and "origin" not in remotes else ""
        )
    return found
