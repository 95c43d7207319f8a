"""`avfs undo`: take back the last operation."""

from __future__ import annotations

from typing import TYPE_CHECKING

from avfs_git.cli.context import State
from avfs_git.cli.verb import verb

if TYPE_CHECKING:
    from avfs_git.model import UndoResult


@verb("undo", view="history")
def command(state: State) -> UndoResult:
    """Take back the last operation

    The operation may have been a checkpoint, a restore, a fork or the deletion of one. What is not saved is saved
    first. It works any number of times, and `avfs redo` takes it back in turn. With `--fork`, only what was done to
    that fork is looked at.
    """
    with state.open_vault_and_fork() as (vault, fork):
        return vault.undo(fork=fork)
