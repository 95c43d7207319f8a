"""`avfs cherry-pick`: put what single commits changed onto a fork."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from avfs_git.cli.commands.rebase import STRATEGY
from avfs_git.cli.context import State
from avfs_git.cli.verb import verb

if TYPE_CHECKING:
    from avfs_git.model import RewriteResult


@verb("cherry-pick", view="merging")
@click.argument("checkpoints", nargs=-1, required=True, metavar="CHECKPOINT...")
@STRATEGY
def command(state: State, checkpoints: tuple[str, ...], strategy: str) -> RewriteResult:
    """Put what single checkpoints changed onto a fork

    They keep their author and message. Nothing changes if one does not fit; `avfs undo` takes all of them back.
    """
    with state.open_workspace() as workspace:
        return workspace.cherry_pick(checkpoints, strategy=strategy)
