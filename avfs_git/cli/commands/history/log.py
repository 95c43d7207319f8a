"""`avfs log`: the history of a fork, or of one path."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import click

from avfs_git.cli.context import State
from avfs_git.cli.verb import LIMIT, TREE_PATH, verb
from avfs_git.errors import BadUsage, PathNotFound

if TYPE_CHECKING:
    from avfs_git.cli.results import History, PathHistory
    from avfs_git.paths import TreePath


@verb("log", looks=True, view="history")
@click.argument("path", required=False, type=TREE_PATH)
@click.option("-n", "--limit", type=LIMIT, default=50, show_default=True, help="Show at most N.")
@click.option("--name-status", is_flag=True, help="Also which paths each commit changed.")
@click.option("--no-bookkeeping", is_flag=True, help="Leave out commits that avfs made to save files before an operation.")
@click.option("--session", metavar="ID", help="Only checkpoints of this session of a coding agent; the beginning is enough.")
def command(
    state: State, path: TreePath | None, limit: int, name_status: bool, no_bookkeeping: bool, session: str | None
) -> History | PathHistory:
    """Show the history of a fork, or of one path

    The newest comes first. The versions of a path are numbered from the oldest, which is 1; `avfs cat --version` and
    `avfs checkout --version` take these numbers.
    """
    if path is not None and (no_bookkeeping or session is not None):
        option = "--no-bookkeeping" if no_bookkeeping else "--session"
        raise BadUsage(f"{option} is about the history of a fork, not of a path")
    with state.open_workspace() as workspace:
        if path is None:
            found = workspace.log(limit=limit, with_files=name_status, with_bookkeeping=not no_bookkeeping, session=session)
            return {"entries": found}
        try:
            return {"path": path, "versions": workspace.path_versions(path, limit=limit)}
        except PathNotFound as err:
            name = os.fsdecode(path)
            if workspace.vault.has_fork(name):
                err.hint = f"The history of that fork is shown by `avfs log --fork {name}`."
            raise
