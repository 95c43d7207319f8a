"""`avfs touch`: make an empty file, or give a path the present time."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from avfs_git.cli.verb import TREE_PATH, verb
from avfs_git.errors import PathNotFound
from avfs_git.paths import split

if TYPE_CHECKING:
    from avfs_git.cli.results import Entries
    from avfs_git.paths import TreePath
    from avfs_git.sdk import Workspace


@verb("touch", view="files", example="avfs touch src/__init__.py")
@click.argument("paths", nargs=-1, required=True, type=TREE_PATH, metavar="PATH...")
def command(workspace: Workspace, paths: tuple[TreePath, ...]) -> Entries:
    """Make an empty file, or set the time of a path to now

    If the directory of one of several paths is missing, none is changed.
    """
    for path in paths:
        try:
            workspace.stat(path, follow=True, sizes=False)
        except PathNotFound:
            workspace.stat(split(path)[0], follow=True, sizes=False)
    return {"entries": [workspace.touch(path) for path in paths]}
