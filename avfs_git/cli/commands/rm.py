"""`avfs rm`: remove files and directories."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from avfs_git.cli.context import State
from avfs_git.cli.verb import TREE_PATH, verb

if TYPE_CHECKING:
    from avfs_git.cli.results import Removed
    from avfs_git.paths import TreePath


@verb("rm", view="files")
@click.argument("paths", nargs=-1, required=True, type=TREE_PATH, metavar="PATH...")
@click.option("-r", "-R", "--recursive", is_flag=True, help="Also directories with everything below them.")
@click.option("-f", "--force", is_flag=True, help="A path where nothing is is no failure.")
def command(state: State, paths: tuple[TreePath, ...], recursive: bool, force: bool) -> Removed:
    """Remove files and directories

    What a checkpoint holds comes back with `avfs checkout PATH --at STATE`.
    """
    with state.open_workspace() as workspace:
        present = [path for path in paths if workspace.exists(path)]
        for path in paths:
            workspace.remove(path, recursive=recursive, missing_ok=force)
        return {"removed": [{"path": path} for path in present]}
