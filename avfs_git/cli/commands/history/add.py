"""`avfs add`: put files into history that were kept beside it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from avfs_git.cli.verb import TREE_PATH, verb

if TYPE_CHECKING:
    from avfs_git.model import CheckpointResult
    from avfs_git.paths import TreePath
    from avfs_git.sdk import Workspace


@verb("add", view="history", example="avfs add --force build/report.html")
@click.argument("paths", nargs=-1, required=True, type=TREE_PATH, metavar="PATH...")
@click.option("-f", "--force", is_flag=True, help="Also add ignored files, and repositories below a directory PATH.")
def command(workspace: Workspace, paths: tuple[TreePath, ...], force: bool) -> CheckpointResult:
    """Add files to history that checkpoints left out

    A file that a checkpoint left out because a rule ignored it stays out of history, even if the rule goes. `avfs add`,
    or `git add` in a mount, adds it. avfs first saves the other changes of the workspace in a checkpoint, then makes a
    second one with the files at and below each PATH; `avfs undo` removes the second one. Files that were never ignored
    need no `add`.
    """
    return workspace.add(*paths, force=force)
