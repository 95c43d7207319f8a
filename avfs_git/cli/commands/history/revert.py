"""`avfs revert`: bring back the version of a path before the present one."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import click

from avfs_git.cli.verb import TREE_PATH, verb
from avfs_git.errors import PathNotFound

if TYPE_CHECKING:
    from avfs_git.model import RestoreResult
    from avfs_git.paths import TreePath
    from avfs_git.sdk import Workspace


@verb("revert", view="history.checkpoint_restore", example="avfs revert src/main.py")
@click.argument("path", type=TREE_PATH)
def command(workspace: Workspace, path: TreePath) -> RestoreResult:
    """Restore the previous version of a path

    avfs saves unsaved changes first; `avfs undo` undoes the restore.
    """
    try:
        return workspace.revert_path(path)
    except PathNotFound as error:
        from avfs_git.cli.names import is_state  # noqa: PLC0415 - only after a mistake

        if is_state(workspace, os.fsdecode(path)):
            error.hint = "To take back what one operation changed, use `avfs op undo NUMBER`; `avfs op log` lists them."
        raise
