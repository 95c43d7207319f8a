"""`avfs update`: a fork brought up to where it comes from."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING

import click

from avfs_git.cli.context import State
from avfs_git.cli.verb import IN_CONFLICT, option_on_conflict, verb

if TYPE_CHECKING:
    from avfs_git.cli.results import Updates


@verb("update", view="remotes", example="avfs update task")
@click.argument("fork_name", metavar="[FORK]", required=False)
@click.option("--upstream", metavar="BRANCH", help="Follow this branch of a remote from now on, as origin/main.")
@option_on_conflict()
def command(state: State, fork_name: str | None, upstream: str | None, on_conflict: str) -> Updates:
    """Update a fork from its upstream

    The fork keeps its own changes. avfs merges, in this order: commits that a push added to the fork's branch; the
    branch of the same name on the vault's remote, which avfs fetches; the clone's branch that the fork was made from,
    as it is in the clone (`git pull` there brings in what its server has). A fork without any of these is updated from
    the fork that it was made from. A mounted fork is updated in place. `avfs undo` undoes the update. The exit status
    is 1 if there are conflicts.
    """
    state.name_fork(fork_name)
    with (
        state.open_vault_and_fork() as (vault, fork),
        closing(vault.workspace(fork)) as workspace,
        state.output.progress("fetching") as progress,
    ):
        remotes = vault.list_remotes()
        merges = workspace.update(on_conflict=on_conflict, upstream=upstream, progress=progress)
    if any(merge.outcome == "conflicted" for merge in merges):
        state.status = IN_CONFLICT
    return {"merges": merges, "remotes": remotes}
