"""`avfs update`: a fork brought up to where it comes from."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from avfs_git.cli.context import State
from avfs_git.cli.verb import merge_on_conflict, verb

if TYPE_CHECKING:
    from avfs_git.cli.results import Merges


@verb("update", view="remotes")
@click.argument("fork_name", metavar="[FORK]", required=False)
@merge_on_conflict
def command(state: State, fork_name: str | None, on_conflict: str) -> Merges:
    """Bring what is newest of where a fork comes from into it, keeping its own changes

    That is what somebody else has put on its branch, as by a push into the vault; then the branch of its name on the vault's
    remote, which is fetched, and the branch of the clone that it was made from; or else the fork that it was made from. Works on
    a mounted fork, too; `avfs undo` takes it back. With conflicts the status is 1.
    """
    state.name_fork(fork_name)
    with state.open_workspace() as workspace, state.output.progress("fetching") as progress:
        merges = workspace.update(on_conflict=on_conflict, progress=progress)
    if any(merge.outcome == "conflicted" for merge in merges):
        state.status = 1  # as of a merge
    return {"merges": merges}
