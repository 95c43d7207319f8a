"""`avfs shell`: the user's own shell in the live tree of a fork."""

from __future__ import annotations

import os
import shlex
from typing import TYPE_CHECKING

import click

from avfs_git.cli.commands.running.exec import NOT_RUN
from avfs_git.cli.commands.running.run import run_program
from avfs_git.cli.context import State
from avfs_git.cli.environment import find_shell
from avfs_git.cli.verb import verb

if TYPE_CHECKING:
    from avfs_git.cli.results import ProgramRun


@verb("shell", view="commands.run", failure_status=NOT_RUN, example="avfs shell task")
@click.argument("fork_name", required=False, metavar="[FORK]")
@click.option("--discard", is_flag=True, help="Delete the fork at the end; `avfs undo` restores it.")
def command(state: State, fork_name: str | None, discard: bool) -> ProgramRun:
    """Work in a fork with your own shell

    SHELL names the shell. It has your own settings and history, and works in the live tree of the fork, at the speed of
    the disk, and its prompt begins with (VAULT:FORK). AVFS_VAULT, AVFS_FORK and AVFS_MOUNTPOINT name the fork to avfs
    and other programs. In bash and zsh, avfs's commands complete.

    Without FORK, the fork of the current directory is meant, or the vault's default one. When the shell ends, avfs
    saves what is not saved, unmounts the tree unless it was mounted before, and says what changed. `avfs run bash`
    makes a new fork instead. The status is the shell's own; 125 if avfs failed.
    """
    from avfs_git.cli.shells import prepare_shell  # noqa: PLC0415 - not for the help
    from avfs_git.sdk.running import runs  # noqa: PLC0415 - the same

    state.name_fork(fork_name)
    with state.open_vault_and_fork() as (vault, chosen):
        name, program = vault.choose_fork(chosen), find_shell()
        run = runs.resume(vault, name, below=os.fsdecode(state.tree_directory()))
        return run_program(
            state,
            run,
            [program],
            ending="discard" if discard else None,
            prepare=lambda environment: prepare_shell(program, prompt=f"{vault.name}:{name}", environment=environment),
            again=f"shell {shlex.quote(name)}",
        )
