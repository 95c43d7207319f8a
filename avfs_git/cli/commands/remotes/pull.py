"""`avfs pull`: what a remote has of a fork, merged into it, or the fork rebased onto it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from avfs_git.cli.context import State
from avfs_git.cli.verb import IN_CONFLICT, option_on_conflict, verb
from avfs_git.errors import BadUsage, CommitConflicts

if TYPE_CHECKING:
    from avfs_git.model import PullResult


@verb("pull", view="remotes", example="avfs pull task --rebase")
@click.argument("fork_name", metavar="[FORK]", required=False)
@click.option("--remote", metavar="NAME", help="From where; default: the only remote, or `origin`.")
@click.option("--ff-only", is_flag=True, help="Refuse where both sides have commits of their own.")
@click.option(
    "-r", "--rebase", is_flag=True, help="Put the fork's own commits onto what the remote has, instead of merging."
)
@option_on_conflict()
def command(
    state: State, fork_name: str | None, remote: str | None, ff_only: bool, rebase: bool, on_conflict: str
) -> PullResult:
    """Fetch, then merge the remote's branch into a fork

    What the fork has not committed is saved first; `avfs undo` takes the merge back. With conflicts the fork stays as
    it is, the result names them, and the status is 1; with `--on-conflict workspace` they are put into the files, as by
    `avfs merge`.
    """
    if rebase and ff_only:
        raise BadUsage("--rebase and --ff-only exclude each other")
    state.name_fork(fork_name)
    with state.open_vault_and_fork() as (vault, fork), state.output.progress("fetching") as progress:
        try:
            result = vault.pull(
                fork, remote, ff_only=ff_only, rebase=rebase, on_conflict=on_conflict, progress=progress
            )
        except CommitConflicts as error:
            error.hint = (
                "Nothing was changed. Resolve it here with `--on-conflict workspace`."  # a pull takes no strategy
            )
            raise
    if "conflicted" in [done.outcome for done in (result.merge, result.rebase) if done is not None]:
        state.status = IN_CONFLICT
    return result
