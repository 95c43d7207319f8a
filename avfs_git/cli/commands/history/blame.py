"""`avfs blame`: where each line of a file came from."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from avfs_git.cli.verb import TREE_PATH, verb

if TYPE_CHECKING:
    from avfs_git.model import Blame
    from avfs_git.paths import TreePath
    from avfs_git.sdk import Workspace


@verb("blame", looks=True, view="history", pages=True, example="avfs blame src/main.py")
@click.argument("path", type=TREE_PATH)
@click.option("--at", metavar="STATE", help="As the file is in that state: a checkpoint's label or id, or a fork.")
def command(workspace: Workspace, path: TreePath, at: str | None) -> Blame:
    """Show where each line of a file came from

    For each line: the checkpoint, its author, the session of a coding agent, the fork in which it was made, when, and
    the command that made it, or else the checkpoint's message. The file is that of the last checkpoint.
    """
    return workspace.blame(path, at=at)
