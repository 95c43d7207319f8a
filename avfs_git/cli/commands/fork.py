"""`avfs fork`: make, look at and delete forks."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from avfs_git.cli.app import VerbGroup
from avfs_git.cli.context import State
from avfs_git.cli.verb import verb

if TYPE_CHECKING:
    from avfs_git.cli.results import ForkList, ForkResult
    from avfs_git.model import ForkInfo


def make_fork(
    state: State,
    name: str,
    *,
    source: str | None = None,
    at: str | None = None,
    ephemeral: bool = False,
    with_changes: bool = True,
) -> ForkResult:
    """Make a fork in the vault that is meant; `vault fork` does the same under another name."""
    with state.open_vault_and_fork() as (vault, chosen):
        # Closed and not left: leaving a `with` block of an ephemeral fork deletes it.
        vault.fork(name, source=source or chosen, at=at, ephemeral=ephemeral, with_changes=with_changes).close()
        return {"fork": vault.fork_info(name), "vault": vault.name}


@verb("fork create", view="vaults")
@click.argument("name")
@click.option(
    "--from", "source", metavar="FORK", help="The fork to start from; default: the one that `--fork` names, else the vault's own."
)
@click.option("--at", metavar="STATE", help="The state to start from: a checkpoint's label or id; default: the present one.")
@click.option("--ephemeral", is_flag=True, help="A fork to throw away: the Python API deletes it when it is left.")
@click.option("--committed", is_flag=True, help="Leave out what the source has not saved in a checkpoint.")
def create(state: State, name: str, source: str | None, at: str | None, ephemeral: bool, committed: bool) -> ForkResult:
    """Make a fork: a branch with a workspace of its own

    It starts with everything that its source holds, ignored files and what is not yet saved included. It costs the
    same in a tree of any size.
    """
    return make_fork(state, name, source=source, at=at, ephemeral=ephemeral, with_changes=not committed)


@verb("fork list", view="vaults")
def list_(state: State) -> ForkList:
    """List the forks of a vault"""
    with state.open_vault() as vault:
        return {"forks": vault.list_forks()}


@verb("fork info", view="vaults")
@click.argument("name", required=False)
def info(state: State, name: str | None) -> ForkInfo:
    """Show what is known of a fork"""
    with state.open_vault_and_fork() as (vault, chosen):
        name = name or chosen
        if name is None:
            name = vault.workspace().fork
        return vault.fork_info(name)


@verb("fork delete", view="vaults")
@click.argument("name")
def delete(state: State, name: str) -> ForkInfo:
    """Delete a fork: its branch and its workspace

    `avfs undo` brings it back.
    """
    with state.open_vault() as vault:
        return vault.delete_fork(name)


command = VerbGroup(
    "fork",
    help="Manage forks: branches with a workspace of their own",
    commands=[create, list_, info, delete],
)
