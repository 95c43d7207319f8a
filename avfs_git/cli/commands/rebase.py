"""`avfs rebase`: put a fork's own commits onto another state."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from avfs_git.cli.context import State
from avfs_git.cli.verb import verb
from avfs_git.errors import BadUsage

if TYPE_CHECKING:
    from avfs_git.model import RewriteResult

STRATEGY = click.option(
    "-s",
    "--strategy",
    type=click.Choice(["normal", "ours", "theirs", "union"]),
    default="normal",
    show_default=True,
    help="What becomes of lines that both sides changed; `theirs` are those of the commits.",
)


@verb("rebase", view="merging")
@click.argument("name", required=False, metavar="[FORK]")
@click.option("--onto", required=True, metavar="STATE", help="The fork, label or commit to stand on.")
@STRATEGY
def command(state: State, name: str | None, onto: str, strategy: str) -> RewriteResult:
    """Put the commits that only a fork has onto another state

    What is not committed is committed first. Nothing changes if a commit does not fit; `avfs undo` takes a rebase back.
    """
    if name is not None:
        if state.fork_flag not in (None, name):
            raise BadUsage("FORK and --fork name different forks")
        state.fork_flag = name
    with state.open_workspace() as workspace:
        return workspace.rebase(onto, strategy=strategy)
