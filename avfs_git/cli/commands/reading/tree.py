"""`avfs tree`: a directory with everything below it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from avfs_git.cli.context import State
from avfs_git.cli.verb import LIMIT, TREE_PATH, verb

if TYPE_CHECKING:
    from avfs_git.cli.results import Tree
    from avfs_git.paths import TreePath


@verb("tree", looks=True, view="files", pages=True, example="avfs tree src -L 2")
@click.argument("path", required=False, type=TREE_PATH)
@click.option("-L", "--level", type=LIMIT, metavar="N", help="Only so many levels deep.")
def command(state: State, path: TreePath | None, level: int | None) -> Tree:
    """Show a directory and everything below it"""
    if path is None:
        path = state.tree_directory()
        state.output.amend(path=path)
    with state.open_workspace() as workspace:
        return {"tree": workspace.tree(path, depth=level, sizes=state.output.structured)}
