"""`avfs apply`: what a fork has changed, as edits in a directory."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from avfs_git.cli.context import State
from avfs_git.cli.verb import HOST_PATH, TREE_PATH, is_dry_run, verb

if TYPE_CHECKING:
    from avfs_git.model import ApplyResult
    from avfs_git.paths import TreePath


@verb("apply", looks=is_dry_run, view="remotes", example="avfs apply task --to ../shop --dry-run")
@click.argument("fork_name", metavar="[FORK]", required=False)
@click.option("--to", "directory", type=HOST_PATH, required=True, metavar="DIR", help="The directory to write into.")
@click.option("--since", metavar="STATE", help="Count changes from this state; default: what the fork began with.")
@click.option(
    "--path",
    "paths",
    type=TREE_PATH,
    multiple=True,
    metavar="PATH",
    help="Only this and what is below it; may be repeated.",
)
@click.option("-n", "--dry-run", is_flag=True, help="Show what would be written, and write nothing.")
def command(
    state: State, fork_name: str | None, directory: Path, since: str | None, paths: tuple[TreePath, ...], dry_run: bool
) -> ApplyResult:
    """Write the changes of a fork into a directory, unstaged

    For the working tree that a vault was made from. Only files change there: the index, branches and hooks stay as they
    are. If the directory has changes of its own in the same files, avfs writes nothing.
    """
    state.name_fork(fork_name)
    with state.open_vault_and_fork() as (vault, fork):
        return vault.apply(vault.choose_fork(fork), directory, since=since, paths=paths, dry_run=dry_run)
