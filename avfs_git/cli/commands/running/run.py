"""`avfs run`: a program of the user, on its terminal, in a fork of its own."""

from __future__ import annotations

import os
import shlex
import time
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import click

from avfs_git.cli.commands.running.exec import NOT_RUN
from avfs_git.cli.context import State
from avfs_git.cli.environment import program_environment, read_environment
from avfs_git.cli.verb import AFTER_DASHES, verb
from avfs_git.errors import AvfsError, BadUsage
from avfs_git.model import Warning

if TYPE_CHECKING:
    from avfs_git.cli.results import ProgramRun
    from avfs_git.sdk.runs import Run, RunEnd


@verb("run", view="commands", unrecorded=("words",), splits_at_dashes=True)
@click.argument("words", nargs=-1, metavar="-- PROGRAM [ARGUMENT]...")
@click.option("--name", metavar="NAME", help="The name of the fork; default: that of the program, and four letters.")
@click.option("--resume", metavar="FORK", help="Run it in this fork again, instead of a new one.")
@click.option("--keep", "ending", flag_value="keep", help="Keep the fork, also if nothing has changed.")
@click.option("--discard", "ending", flag_value="discard", help="Delete the fork at the end; `avfs undo` restores it.")
def command(state: State, words: tuple[str, ...], name: str | None, resume: str | None, ending: str | None) -> ProgramRun:
    """Run a program of yours, such as an agent, in a fork of its own

    The program has the terminal, and works in a live tree with everything that the current directory has now, ignored files
    included. The current directory stays as it is. At the end avfs saves what is not saved, unmounts the tree, and says what
    changed and what to do next. A fork in which something changed is kept; one in which nothing did is deleted.

    avfs forks the clone or folder that the current directory is in, or the fork that is mounted there; with --vault or
    --fork, the fork that they name. The policy is not asked about the program. The status is the program's own: 126 or 127 if it
    cannot be executed, 128+N if signal N killed it, 125 if avfs failed. With --json, the program writes to standard error.
    """
    argv = [*words, *click.get_current_context().meta.get(AFTER_DASHES, ())]
    if not argv:
        raise BadUsage("a program is needed, as in `avfs run -- claude`")
    if name is not None and resume is not None:
        raise BadUsage("--name is for a new fork, --resume for an existing fork", hint="Give one of them.")
    from avfs_git.session.serve.nursery_client import let_go, starting_early  # noqa: PLC0415 - not for the help

    try:
        with ExitStack() as stack:
            with starting_early():
                run = _begin(state, stack, argv[0], name=name, resume=resume)
            let_go()  # no other session begins here
            state.output.amend(command=shlex.join(argv))
            return _run(state, run, argv, ending)
    except AvfsError as error:
        state.output.failure(error)
        raise click.exceptions.Exit(NOT_RUN) from error


def _begin(state: State, stack: ExitStack, program: str, *, name: str | None, resume: str | None) -> Run:
    """Mount the fork: that which is resumed, or a new one of what the command line or the directory means."""
    from avfs_git.sdk import runs  # noqa: PLC0415 - not for the help

    if resume is not None:
        state.name_fork(resume)
        vault, _ = stack.enter_context(state.open_vault_and_fork())
        return runs.resume(vault, resume, below=os.fsdecode(state.tree_directory()))
    place = state.place()
    is_named = state.vault_flag is not None or state.fork_flag is not None
    if is_named or (place is None and read_environment()[0].vault is not None):
        vault, fork = stack.enter_context(state.open_vault_and_fork())
        return runs.begin_in_vault(vault, fork, name=name, program=program, below=os.fsdecode(state.tree_directory()))
    if place is not None:
        state.check_undisputed()
    run = runs.begin_in_directory(state.avfs, Path.cwd(), name=name, program=program)
    state.output.warn(run.vault.warnings)
    return run


def _run(state: State, run: Run, argv: list[str], ending: str | None) -> ProgramRun:
    from avfs_git.host.processes.foreground import run_foreground  # noqa: PLC0415 - not for the help

    directory = run.directory()
    state.output.note(f"(fork {run.fork} of vault {run.vault.name}, at {run.session.path})")
    began = time.monotonic_ns()
    finished = run_foreground(
        argv,
        directory=directory,
        environment=program_environment(run.environment(), directory),
        stdout=2 if state.output.structured else None,
    )
    took_ms = (time.monotonic_ns() - began) // 1_000_000
    state.status = finished.exit_code
    if finished.problem is not None:
        state.output.warn([Warning("run.not_started", finished.problem)])
    ended = run.end(keep=ending == "keep", discard=ending == "discard")
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
        "next": _list_next(run, ended, argv),
    }


def _list_next(run: Run, ended: RunEnd, argv: list[str]) -> dict[str, str]:
    """Spell the commands that continue from here; each works from any directory."""
    avfs, fork = f"avfs --vault {shlex.quote(run.vault.name)}", shlex.quote(run.fork)
    if ended.outcome == "unchanged":
        return {}
    if ended.outcome == "discarded":
        return {"restore": f"{avfs} --fork {fork} undo"}
    found = {
        "resume": f"{avfs} run --resume {fork} -- {shlex.join(argv)}",
        "diff": f"{avfs} --fork {fork} diff {run.start[:12]}",
    }
    origin, parent = run.vault.origin(), run.vault.fork_info(run.fork).parent
    if parent is not None and run.vault.has_fork(parent):
        found["merge"] = f"{avfs} merge {fork} --into {shlex.quote(parent)}"
    elif origin is not None:
        found["apply"] = f"{avfs} apply {fork} --to {shlex.quote(os.fspath(origin))}"
    if run.vault.list_remotes() and not ended.pushed:
        found["push"] = f"{avfs} push {fork}"
    if ended.mounted:
        found["unmount"] = f"avfs stop {shlex.quote(os.fspath(run.session.path))}"
    found["discard"] = f"{avfs} fork delete {fork}"
    return found
