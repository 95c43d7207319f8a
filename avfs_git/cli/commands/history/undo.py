"""`avfs undo`: take back the last operation."""

from __future__ import annotations

from typing import TYPE_CHECKING

from avfs_git.cli.context import State
from avfs_git.cli.verb import verb

if TYPE_CHECKING:
    from avfs_git.model import UndoResult


@verb("undo", view="history")
def command(state: State) -> UndoResult:
    """Take back the last operation on a fork

    An operation is a command that changed files, such as `avfs exec` or `avfs rm`, all that programs changed in a live
    tree between two commands, a checkpoint, a restore, a merge, or the making or deletion of another fork. Its files
    are taken back with it; of a checkpoint, which changes none, they stay. What is not saved is saved first. It works
    any number of times, and `avfs redo` takes it back in turn. See the operations with `avfs op log`.
    """
    with state.open_vault_and_fork() as (vault, fork):
        result = vault.undo(fork=fork)
        state.output.amend(fork=result.operation.fork)
        return result
