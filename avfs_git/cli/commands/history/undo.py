"""`avfs undo`: take back the last operation."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from avfs_git.cli.context import State
from avfs_git.cli.verb import STOPPED, verb

if TYPE_CHECKING:
    from avfs_git.model import UndoResult


@verb("undo", view="history", example="avfs undo --dry-run")
@click.option("-n", "--dry-run", is_flag=True, help="Show what would be undone, and change no file.")
def command(state: State, dry_run: bool) -> UndoResult:
    """Undo the last operation on a fork

    An operation is a command that changed files, such as `avfs exec` or `avfs rm`; everything that programs changed in
    a mount between two commands; a checkpoint, restore or merge; deleting another fork, or making one in which nothing
    was done and that is not mounted. Undo restores the files of before; a checkpoint changes no files, so they stay.
    avfs saves unsaved changes first. Undo works any number of times, and `avfs redo` reverses it. `avfs op log` lists
    the operations.
    """
    with state.open_vault_and_fork(whole=True) as (vault, fork):
        result = vault.undo(fork=fork, dry_run=dry_run)
        state.output.amend(fork=result.operation.fork)
        if result.left:
            state.status = STOPPED
        return result
