"""`avfs pull`: what a remote has of a fork, merged into it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from avfs_git.cli.context import State
from avfs_git.cli.verb import verb

if TYPE_CHECKING:
    from avfs_git.model import PullResult


@verb("pull", view="remotes")
@click.argument("fork_name", metavar="[FORK]", required=False)
@click.option("--remote", metavar="NAME", help="From where; default: the only remote, or `origin`.")
@click.option("--ff-only", is_flag=True, help="Refuse where both sides have commits of their own.")
def command(state: State, fork_name: str | None, remote: str | None, ff_only: bool) -> PullResult:
    """Fetch, and merge into a fork what the remote has of it

    What the fork has not committed is saved first; `avfs undo` takes the merge back. With conflicts the fork stays as it is, the
    result names them, and the status is 1: go on with `avfs merge REMOTE/FORK --on-conflict workspace`.
    """
    with state.open_vault_and_fork() as (vault, chosen), state.output.progress("fetching") as progress:
        result = vault.pull(fork_name or chosen, remote, ff_only=ff_only, progress=progress)
    if result.merge.outcome == "conflicted":
        state.status = 1  # as of a merge
    return result
