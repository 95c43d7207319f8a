"""`avfs rm`: remove files and directories."""

from __future__ import annotations

import errno
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

import click

from avfs_git.cli.commands.files.cp import do_each
from avfs_git.cli.context import State
from avfs_git.cli.verb import verb
from avfs_git.errors import HostError, InvalidInput, PathNotFound, PathUnsuitable
from avfs_git.paths import ROOT

if TYPE_CHECKING:
    from avfs_git.cli.results import Removed
    from avfs_git.paths import TreePath
    from avfs_git.sdk import Workspace


def _read_path(text: str) -> TreePath:
    """Read a path of the workspace, and refuse any name that this machine has, too."""
    state: State = click.get_current_context().obj
    try:
        return state.tree_path(text, "avfs rm", refuses_names=True)
    except InvalidInput as error:
        if text and "\0" not in text and Path(text).is_dir():
            end = f"End the fork of a directory with `avfs end {shlex.quote(text)}`."
            error.hint = " ".join(filter(None, (error.hint, end)))
        raise


def _is_to_remove(workspace: Workspace, path: TreePath, *, recursive: bool, force: bool) -> bool:
    """Say whether there is something to remove; asked of each path before any is removed.

    Raises:
        PathNotFound: If nothing is at the path, and that is not to be ignored.
        PathUnsuitable: If it is a directory that is not empty, which `recursive` is for.
    """
    try:
        kind = workspace.stat(path, sizes=False).kind
    except PathNotFound:
        if force:
            return False
        raise
    if kind == "directory" and path != ROOT and not recursive and workspace.list_dir(path, sizes=False):
        error = PathUnsuitable(b"/" + path, "is a directory that is not empty")
        error.hint = "Remove it with everything in it with `-r`."
        raise error
    return True


@verb("rm", view="files", example="avfs rm -r build")
@click.argument("paths", nargs=-1, required=True, type=_read_path, metavar="PATH...")
@click.option("-r", "-R", "--recursive", is_flag=True, help="Remove directories with everything below them, too.")
@click.option(
    "-f", "--force", is_flag=True, help="Ignore missing paths, and remove what a full disk cannot record for undo."
)
def command(workspace: Workspace, paths: tuple[TreePath, ...], recursive: bool, force: bool) -> Removed:
    """Remove files and directories

    If one of several paths is missing, or needs -r, none is removed. A later error, such as a plug-in's, names the
    paths that were removed before it.

    `avfs checkout PATH --at STATE` restores a path from a checkpoint. avfs refuses a path that exists on this machine,
    unless the path is relative to a directory in a mount, or --vault or --fork is given. To end the fork of a
    directory, use `avfs end DIR`.
    """
    present = [
        path for path in dict.fromkeys(paths) if _is_to_remove(workspace, path, recursive=recursive, force=force)
    ]

    def remove(path: TreePath) -> None:
        try:  # it may have gone with an earlier one
            workspace.remove(path, recursive=recursive, missing_ok=True, unrecorded=force)
        except HostError as error:
            if not force and error.errno in (errno.ENOSPC, errno.EDQUOT):
                error.hint = (
                    f"{error.hint} With `--force` it goes all the same, and no undo brings back what is unsaved."
                )
            raise

    do_each(remove, present, "removed")
    return {"removed": [{"path": path} for path in present]}
