"""`avfs undo`: take back the last operation."""

from __future__ import annotations

from typing import TYPE_CHECKING

from avfs_git.cli.context import State
from avfs_git.cli.verb import verb

if TYPE_CHECKING:
    from avfs_git.model import UndoResult


@verb("undo", view="history")
def command(state: State) -> UndoResult:
    """Undo the last operation on a fork

    An operation is a command that changed files, such as `avfs exec` or `avfs rm`; everything that programs changed in a mount
    between two commands; a checkpoint, restore or merge; deleting another fork, or making one in which nothing was done and that
    is not mounted. Undo restores the files of before; a checkpoint changes no files, so they stay. avfs saves unsaved changes
    first. Undo works any number of times, and `avfs redo` reverses it. `avfs op log` lists the operations.
    """
    with state.open_vault_and_fork() as (vault, fork):
        result = vault.undo(fork=fork)
        state.output.amend(fork=result.operation.fork)
        return result
