"""`avfs rm`: remove files and directories."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from avfs_git.cli.context import State
from avfs_git.cli.verb import verb
from avfs_git.errors import InvalidInput, PathUnsuitable

if TYPE_CHECKING:
    from avfs_git.cli.results import Removed
    from avfs_git.paths import TreePath


def _read_path(text: str) -> TreePath:
    """Read a path of the workspace, and refuse any name that this machine has, too."""
    state: State = click.get_current_context().obj
    try:
        return state.tree_path(text, "avfs rm", refuses_names=True)
    except InvalidInput as error:
        if text and "\0" not in text and Path(text).is_dir():
            error.hint = " ".join(filter(None, (error.hint, f"End the fork of a directory with `avfs end {text}`.")))
        raise


@verb("rm", view="files")
@click.argument("paths", nargs=-1, required=True, type=_read_path, metavar="PATH...")
@click.option("-r", "-R", "--recursive", is_flag=True, help="Remove directories with everything below them, too.")
@click.option("-f", "--force", is_flag=True, help="Ignore missing paths.")
def command(state: State, paths: tuple[TreePath, ...], recursive: bool, force: bool) -> Removed:
    """Remove files and directories

    `avfs checkout PATH --at STATE` restores a path from a checkpoint. avfs refuses a path that exists on this machine, unless
    the path is relative to a directory in a mount, or --vault or --fork is given. To end the fork of a directory, use `avfs
    end DIR`.
    """
    with state.open_workspace() as workspace:
        present = [path for path in paths if workspace.exists(path)]
        for path in paths:
            try:
                workspace.remove(path, recursive=recursive, missing_ok=force)
            except PathUnsuitable as error:
                if not recursive and workspace.exists(path) and workspace.stat(path).kind == "directory":
                    error.hint = "Remove it with everything in it with `-r`."
                raise
        return {"removed": [{"path": path} for path in present]}
