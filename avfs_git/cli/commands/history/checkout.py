"""`avfs checkout`: bring back an earlier version of a path."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from avfs_git.cli.context import State
from avfs_git.cli.verb import LIMIT, TREE_PATH, verb
from avfs_git.errors import BadUsage

if TYPE_CHECKING:
    from avfs_git.model import RestoreResult
    from avfs_git.paths import TreePath


@verb("checkout", view="history.checkpoint_restore", example="avfs checkout src/main.py --at v1")
@click.argument("path", type=TREE_PATH)
@click.option("-v", "--version", type=LIMIT, metavar="N", help="The version, as `avfs log PATH` numbers them.")
@click.option("--at", metavar="STATE", help="The state to take it from: a checkpoint's label or id, or a fork.")
def command(state: State, path: TreePath, version: int | None, at: str | None) -> RestoreResult:
    """Restore an earlier version of a path

    avfs saves unsaved changes first; `avfs undo` undoes the restore.
    """
    if (version is None) == (at is None):
        raise BadUsage(
            "name one of --version and --at",
            hint="`avfs checkout PATH --at HEAD` drops what is not saved of a path, and `avfs log PATH` lists its "
            "versions. "
            "`avfs checkpoint restore LABEL` brings back a checkpoint, and a fork is worked in with `--fork NAME`.",
        )
    with state.open_workspace() as workspace:
        return workspace.checkout_path(path, version=version, at=at)
