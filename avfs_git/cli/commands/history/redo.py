"""`avfs redo`: do again what was undone last."""

from __future__ import annotations

from typing import TYPE_CHECKING

from avfs_git.cli.context import State
from avfs_git.cli.verb import STOPPED, verb

if TYPE_CHECKING:
    from avfs_git.model import UndoResult


@verb("redo", view="history", example="avfs redo")
def command(state: State) -> UndoResult:
    """Redo the operation that was undone last

    Works as often as `avfs undo` was used, until something new is done.
    """
    with state.open_vault_and_fork(whole=True) as (vault, fork):
        result = vault.redo(fork=fork)
        state.output.amend(fork=result.operation.fork)
        if result.left:
            state.status = STOPPED
        return result
