"""`avfs cp`: copy files and directories."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

from avfs_git.cli.context import State
from avfs_git.cli.verb import TREE_PATH, verb
from avfs_git.errors import PathUnsuitable

if TYPE_CHECKING:
    from avfs_git.cli.results import Transfers
    from avfs_git.paths import TreePath
    from avfs_git.sdk import Workspace


def check_destination(workspace: Workspace, sources: tuple[TreePath, ...], destination: TreePath) -> None:
    """Make sure that several sources go into a directory.

    Raises:
        PathUnsuitable: If they do not.
    """
    if len(sources) > 1 and not (workspace.exists(destination) and workspace.stat(destination, follow=True).kind == "directory"):
        raise PathUnsuitable(destination, "is not a directory")


@contextmanager
def nothing_overwritten() -> Iterator[None]:
    """Say what to do where something has the name already."""
    try:
        yield
    except PathUnsuitable as error:
        if error.details["reason"] == "is there already":
            error.hint = "Nothing is overwritten. Remove what is there with `avfs rm PATH`, or name another path."
        raise


@verb("cp", view="files")
@click.argument("sources", nargs=-1, required=True, type=TREE_PATH, metavar="SOURCE...")
@click.argument("destination", type=TREE_PATH)
@click.option("-r", "-R", "--recursive", is_flag=True, help="Also directories with everything below them.")
def command(state: State, sources: tuple[TreePath, ...], destination: TreePath, recursive: bool) -> Transfers:
    """Copy files and directories

    Inside the workspace; into the destination where it is a directory. A file that is there already is not
    overwritten.
    """
    with state.open_workspace() as workspace, nothing_overwritten():
        check_destination(workspace, sources, destination)
        places = [workspace.copy(source, destination, recursive=recursive).path for source in sources]
    return {"moved": [{"source": source, "destination": place} for source, place in zip(sources, places, strict=True)]}
