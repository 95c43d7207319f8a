"""`avfs add`: put files into history that were kept beside it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from avfs_git.cli.context import State
from avfs_git.cli.verb import TREE_PATH, verb

if TYPE_CHECKING:
    from avfs_git.model import CheckpointResult
    from avfs_git.paths import TreePath


@verb("add", view="history")
@click.argument("paths", nargs=-1, required=True, type=TREE_PATH, metavar="PATH...")
@click.option("-f", "--force", is_flag=True, help="Also files that are ignored, and repositories below a directory PATH.")
def command(state: State, paths: tuple[TreePath, ...], force: bool) -> CheckpointResult:
    """Put files into history that were kept beside it

    A file that was ignored when a checkpoint was made stays out of history, also when the rule goes, until it is added here or
    with `git add` in a live tree. This makes a checkpoint with what is at and below each PATH. What is not saved is saved before
    it, and `avfs undo` takes the addition back. Files that were never ignored need no `add`: each checkpoint takes them.
    """
    with state.open_workspace() as workspace:
        return workspace.add(*paths, force=force)
