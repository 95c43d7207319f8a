"""`avfs prefetch`: contents of a partial clone, before they are needed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from avfs_git.cli.context import State
from avfs_git.cli.verb import TREE_PATH, verb

if TYPE_CHECKING:
    from avfs_git.model import PrefetchResult
    from avfs_git.paths import TreePath


@verb("prefetch", view="remotes", example="avfs prefetch src")
@click.argument("paths", type=TREE_PATH, nargs=-1, metavar="[PATH]...")
@click.option("--at", metavar="STATE", help="The state whose files are meant; default: the newest of the fork.")
def command(state: State, paths: tuple[TreePath, ...], at: str | None) -> PrefetchResult:
    """Fetch file contents into a vault that was cloned with --lazy

    Of the paths and all below them; of everything without one. What is here already costs nothing.
    """
    with state.open_vault_and_fork() as (vault, chosen), state.output.working("fetching contents"):
        return vault.prefetch(paths, fork=chosen, at=at)
