"""`avfs mv`: move or rename files and directories."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from avfs_git.cli.commands.files.cp import check_destination, do_each, nothing_overwritten, read_destination
from avfs_git.cli.context import State
from avfs_git.cli.verb import TREE_PATH, verb
from avfs_git.errors import PathUnsuitable
from avfs_git.paths import climb

if TYPE_CHECKING:
    from avfs_git.cli.results import Transfers
    from avfs_git.paths import TreePath


@verb("mv", view="files", example="avfs mv notes.txt docs")
@click.argument("sources", nargs=-1, required=True, type=TREE_PATH, metavar="SOURCE...")
@click.argument("destination", type=read_destination)
def command(state: State, sources: tuple[TreePath, ...], destination: TreePath) -> Transfers:
    """Move or rename files and directories

    Inside the workspace; into the destination where it is a directory. A file that is there already is not
    overwritten, and a directory does not go below itself. If one of several sources is missing, or has no free place
    there, none is moved. A later error, such as a plug-in's, names the sources that were moved before it.
    """
    with state.open_workspace() as workspace, nothing_overwritten():
        check_destination(workspace, sources, destination, recursive=True)
        gone: set[TreePath] = set()
        for source in sources:
            if not gone.isdisjoint(climb(source)):
                raise PathUnsuitable(b"/" + source, "goes with a directory that is named before it")
            gone.add(source)
        places = do_each(lambda source: workspace.move(source, destination), sources, "moved")
    return {"moved": [{"source": source, "destination": to.path} for source, to in zip(sources, places, strict=True)]}
