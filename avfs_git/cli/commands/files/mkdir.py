"""`avfs mkdir`: make directories."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from avfs_git.cli.verb import TREE_PATH, verb
from avfs_git.errors import PathNotFound, PathUnsuitable

if TYPE_CHECKING:
    from avfs_git.cli.results import Entries
    from avfs_git.paths import TreePath
    from avfs_git.sdk import Workspace


@verb("mkdir", view="files", example="avfs mkdir -p build/reports")
@click.argument("paths", nargs=-1, required=True, type=TREE_PATH, metavar="PATH...")
@click.option("-p", "--parents", is_flag=True, help="Make missing parents, too; ignore existing directories.")
def command(workspace: Workspace, paths: tuple[TreePath, ...], parents: bool) -> Entries:
    """Make directories

    An empty directory is part of checkpoints, though git's trees know none.
    """
    for path in paths:
        try:
            workspace.make_dir(path, parents=parents)
        except PathNotFound as error:
            missing = PathNotFound(b"/" + path.rpartition(b"/")[0])
            missing.hint = "`-p` makes missing directories, too."
            raise missing from error
        except PathUnsuitable as error:
            if workspace.exists(path):
                is_dir = workspace.stat(path, follow=True, sizes=False).kind == "directory"
                error.hint = (
                    "Use `-p` to accept a directory that exists."
                    if is_dir
                    else "It is a file. Remove it first with `avfs rm PATH`."
                )
            raise
    return {"entries": [workspace.stat(path) for path in paths]}
