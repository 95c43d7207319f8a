"""`avfs cherry-pick`: put what single commits changed onto a fork, go on where one is in conflict, or give it up."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from avfs_git.cli.commands.merging.rebase import check_going_on, go_on, rewriting_options, tell
from avfs_git.cli.context import State
from avfs_git.cli.verb import verb
from avfs_git.errors import BadUsage

if TYPE_CHECKING:
    from avfs_git.cli.results import MergeAborted
    from avfs_git.model import RewriteResult


@verb("cherry-pick", view="merging", example="avfs --fork task cherry-pick main@v2")
@click.argument("checkpoints", nargs=-1, metavar="[CHECKPOINT]...")
@rewriting_options
def command(
    state: State,
    checkpoints: tuple[str, ...],
    strategy: str,
    on_conflict: str,
    goes_on: bool,
    skips: bool,
    gives_up: bool,
) -> RewriteResult | MergeAborted:
    """Apply the changes of single checkpoints to a fork

    The commits keep their author and message. If one conflicts, nothing changes. With `--on-conflict workspace`, its
    conflicts are written into the files instead, as by `avfs rebase`. `avfs undo` undoes all of them.
    """
    continues = check_going_on(checkpoints, goes_on=goes_on, skips=skips, gives_up=gives_up)
    if not continues and not checkpoints:
        raise BadUsage("name a checkpoint")
    with state.open_workspace() as workspace:
        if continues:
            result = go_on(workspace, "cherry_pick", skips=skips, gives_up=gives_up)
        else:
            result = workspace.cherry_pick(checkpoints, strategy=strategy, on_conflict=on_conflict)
    return tell(state, result)
