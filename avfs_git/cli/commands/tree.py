"""`avfs tree`: a directory with everything below it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from avfs_git.cli.context import State
from avfs_git.cli.verb import LIMIT, TREE_PATH, verb

if TYPE_CHECKING:
    from avfs_git.cli.results import Tree
    from avfs_git.paths import TreePath


@verb("tree", view="files")
@click.argument("path", required=False, default="/", type=TREE_PATH)
@click.option("-L", "--level", type=LIMIT, metavar="N", help="Only so many levels deep.")
def command(state: State, path: TreePath, level: int | None) -> Tree:
    """Show a directory with everything below it"""
    with state.open_workspace() as workspace:
        return {"tree": workspace.tree(path, depth=level)}
