"""`avfs mkdir`: make directories."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from avfs_git.cli.verb import TREE_PATH, verb
from avfs_git.errors import PathNotFound, PathUnsuitable
from avfs_git.paths import split

if TYPE_CHECKING:
    from avfs_git.cli.results import Entries
    from avfs_git.paths import TreePath
    from avfs_git.sdk import Workspace


def _check(workspace: Workspace, path: TreePath, made: set[TreePath], *, parents: bool) -> None:
    """Make sure that a directory can be made; asked of each path before any is made."""
    if path in made and not parents:
        raise PathUnsuitable(b"/" + path, "is named twice")
    try:
        kind = workspace.stat(path, follow=parents, sizes=False).kind
    except PathNotFound:
        if not parents and (above := split(path)[0]) not in made:
            try:
                workspace.stat(above, follow=True, sizes=False)
            except PathNotFound as error:
                error.hint = "`-p` makes missing directories, too."
                raise
        return
    if kind == "directory" and parents:
        return
    taken = PathUnsuitable(b"/" + path, "is there already")
    if workspace.exists(path):  # no symbolic link to nowhere
        is_directory = workspace.stat(path, follow=True, sizes=False).kind == "directory"
        taken.hint = (
            "Use `-p` to accept a directory that exists."
            if is_directory
            else "It is a file. Remove it first with `avfs rm PATH`."
        )
    raise taken


@verb("mkdir", view="files", example="avfs mkdir -p build/reports")
@click.argument("paths", nargs=-1, required=True, type=TREE_PATH, metavar="PATH...")
@click.option("-p", "--parents", is_flag=True, help="Make missing parents, too; ignore existing directories.")
def command(workspace: Workspace, paths: tuple[TreePath, ...], parents: bool) -> Entries:
    """Make directories

    An empty directory is part of checkpoints, though git's trees know none. If one of several cannot be made, none is.
    """
    made: set[TreePath] = set()
    for path in paths:
        _check(workspace, path, made, parents=parents)
        made.add(path)
    for path in paths:
        workspace.make_dir(path, parents=parents)
    return {"entries": [workspace.stat(path) for path in paths]}
