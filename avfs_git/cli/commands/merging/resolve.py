"""`avfs resolve`: decide on a path in conflict."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from avfs_git.cli.context import State
from avfs_git.cli.verb import HOST_PATH, TREE_PATH, verb
from avfs_git.errors import BadUsage, HostError

if TYPE_CHECKING:
    from pathlib import Path

    from avfs_git.model import MergeProgress
    from avfs_git.paths import TreePath


@verb("resolve", view="merging", example="avfs resolve src/main.py --theirs")
@click.argument("path", type=TREE_PATH)
@click.option("--ours", "side", flag_value="ours", help="Take what this fork has.")
@click.option("--theirs", "side", flag_value="theirs", help="Take what is merged.")
@click.option("--union", "side", flag_value="union", help="Take the lines of both, ours first.")
@click.option(
    "--from", "source", type=HOST_PATH, metavar="FILE", help="Take the content of a file; `-` reads standard input."
)
def command(state: State, path: TreePath, side: str | None, source: Path | None) -> MergeProgress:
    """Resolve a path in conflict

    Without an option, what the workspace holds at the path is right. When nothing is left to decide, `avfs merge
    --continue` commits the merge.
    """
    if side is not None and source is not None:
        raise BadUsage("--from takes no side")
    content = None
    if source is not None:
        if str(source) == "-" and sys.stdin is None:
            raise BadUsage("standard input is closed")
        try:
            content = sys.stdin.buffer.read() if str(source) == "-" else source.read_bytes()
        except OSError as error:
            raise HostError(f"read '{source}'", error) from error
    with state.open_workspace() as workspace:
        return workspace.resolve(path, side, content=content)
