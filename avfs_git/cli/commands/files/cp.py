"""`avfs cp`: copy files and directories."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, TypeVar

import click

from avfs_git.cli.context import State
from avfs_git.cli.verb import TREE_PATH, read_tree_path, verb
from avfs_git.errors import AvfsError, PathNotFound, PathUnsuitable, name_some
from avfs_git.paths import ROOT, climb, join, show_path, split

if TYPE_CHECKING:
    from avfs_git.cli.results import Transfers
    from avfs_git.paths import TreePath
    from avfs_git.sdk import Workspace

_Result = TypeVar("_Result")
_NAMES_DIRECTORY = "avfs.destination_names_directory"


def read_destination(text: str | bytes) -> TreePath:
    """Read a path of the workspace; a slash at its end says that it is a directory, see `check_destination`."""
    click.get_current_context().meta[_NAMES_DIRECTORY] = os.fsencode(text).endswith(b"/")
    return read_tree_path(text)


def check_destination(
    workspace: Workspace, sources: tuple[TreePath, ...], destination: TreePath, *, recursive: bool
) -> None:
    """Make sure that several sources go into a directory, and that a file does not become what was named as one.

    Of several sources, each is looked at before the first one goes there.

    Raises:
        PathNotFound: If one of several sources is missing.
        PathUnsuitable: If something else is not so.
    """
    if len(sources) == 1 and not click.get_current_context().meta[_NAMES_DIRECTORY]:
        return
    if workspace.exists(destination) and workspace.stat(destination, follow=True, sizes=False).kind == "directory":
        if len(sources) > 1:
            _check_sources(workspace, sources, destination, recursive=recursive)
        return
    if len(sources) > 1 or workspace.stat(sources[0], sizes=False).kind != "directory":
        error = PathUnsuitable(destination, "is not a directory")
        if not workspace.exists(destination):
            error.hint = "Make it with `avfs mkdir`."
        raise error


def _check_sources(
    workspace: Workspace, sources: tuple[TreePath, ...], destination: TreePath, *, recursive: bool
) -> None:
    places: set[TreePath] = set()
    for source in sources:
        place = join(destination, split(source)[1])
        is_directory = workspace.stat(source, sizes=False).kind == "directory"
        if is_directory and not recursive:
            raise PathUnsuitable(b"/" + source, "is a directory; copy it with `-r`")
        if is_directory and (source == ROOT or source in climb(destination)):
            raise PathUnsuitable(b"/" + source, "cannot go into itself")
        if place in places:
            raise PathUnsuitable(b"/" + place, "would be the place of two sources")
        with suppress(PathNotFound):
            workspace.stat(place, sizes=False)
            raise PathUnsuitable(b"/" + place, "is there already")
        places.add(place)


@contextmanager
def nothing_overwritten() -> Iterator[None]:
    """Say what to do where something has the name already."""
    try:
        yield
    except PathUnsuitable as error:
        if error.details["reason"] == "is there already":
            error.hint = "Nothing is overwritten. Remove what is there with `avfs rm PATH`, or name another path."
        raise


def do_each(change: Callable[[TreePath], _Result], paths: Sequence[TreePath], done: str) -> list[_Result]:
    """Change one path after the other; an error names the paths that were changed before it, and stay so."""
    results: list[_Result] = []
    for path in paths:
        try:
            results.append(change(path))
        except AvfsError as error:
            if before := paths[: len(results)]:
                error.message += f"; {done} before: {name_some(before)}"
                error.args = (error.message,)
                error.details["done"] = [show_path(each) for each in before]
            raise
    return results


@verb("cp", view="files", example="avfs cp -r src build")
@click.argument("sources", nargs=-1, required=True, type=TREE_PATH, metavar="SOURCE...")
@click.argument("destination", type=read_destination)
@click.option("-r", "-R", "--recursive", is_flag=True, help="Also directories with everything below them.")
def command(state: State, sources: tuple[TreePath, ...], destination: TreePath, recursive: bool) -> Transfers:
    """Copy files and directories

    Inside the workspace; into the destination where it is a directory. A file that is there already is not
    overwritten. If one of several sources is missing, or has no free place there, none is copied. A later error, such
    as a plug-in's, names the sources that were copied before it.
    """
    with state.open_workspace() as workspace, nothing_overwritten():
        check_destination(workspace, sources, destination, recursive=recursive)
        copies = do_each(lambda source: workspace.copy(source, destination, recursive=recursive), sources, "copied")
    return {"moved": [{"source": source, "destination": to.path} for source, to in zip(sources, copies, strict=True)]}
