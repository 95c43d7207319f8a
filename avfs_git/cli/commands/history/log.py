"""`avfs log`: the history of a fork, or of one path."""

from __future__ import annotations

import os
import shlex
from typing import TYPE_CHECKING, Literal

import click

from avfs_git.cli.commands.history.diff import paths_of
from avfs_git.cli.context import State
from avfs_git.cli.verb import LIMIT, TREE_PATH, verb
from avfs_git.errors import BadUsage, PathNotFound

if TYPE_CHECKING:
    from avfs_git.cli.results import DrawnHistory, History, PathHistory
    from avfs_git.model import PathVersion
    from avfs_git.paths import TreePath
    from avfs_git.sdk import Workspace

_Shown = Literal["--patch", "--stat", "--name-status", "--graph"]


@verb(
    "log",
    looks=True,
    view="history",
    splits_at_dashes=True,
    pages=True,
    example="avfs log --graph --format '%h %an %s' -- src",
)
@click.argument("path", required=False, type=TREE_PATH, metavar="[PATH] [-- PATH...]")
@click.option("-n", "--limit", type=LIMIT, default=50, show_default=True, help="Show at most N.")
@click.option("-p", "--patch", is_flag=True, help="Also the changed lines of each commit.")
@click.option("--stat", is_flag=True, help="Also how many lines of each path a commit changed.")
@click.option("--name-status", is_flag=True, help="Also which paths each commit changed.")
@click.option("--graph", is_flag=True, help="Draw how the commits hang together.")
@click.option("--format", "form", metavar="FORMAT", help="As git: oneline, short, full, raw, or '%h %an %s'.")
@click.option("--oneline", "form", flag_value="%C(auto)%h%d %s", help="A line each: short id, refs, subject.")
@click.option(
    "--no-bookkeeping", is_flag=True, help="Leave out commits that avfs made to save files before an operation."
)
@click.option(
    "--session", metavar="ID", help="Only checkpoints of this session of a coding agent; the beginning is enough."
)
def command(
    state: State,
    path: TreePath | None,
    limit: int,
    patch: bool,
    stat: bool,
    name_status: bool,
    graph: bool,
    form: str | None,
    no_bookkeeping: bool,
    session: str | None,
) -> History | PathHistory | DrawnHistory:
    """Show the history of a fork, or of one path

    The newest comes first. The versions of a path are numbered from the oldest, which is 1; `avfs cat --version` and
    `avfs checkout --version` take these numbers. With paths behind `--`: the commits that changed one of them. With -p,
    --stat, --graph or --format, `git log` draws the history.
    """
    behind = paths_of(())
    if (
        len(
            [name for name, is_chosen in (("-p", patch), ("--stat", stat), ("--name-status", name_status)) if is_chosen]
        )
        > 1
    ):
        raise BadUsage("-p, --stat and --name-status exclude each other")
    draws = patch or stat or graph or form is not None
    if draws and session is not None:
        raise BadUsage("--session lists checkpoints, and excludes -p, --stat, --graph and --format")
    if path is not None and not draws and not behind and (no_bookkeeping or session is not None):
        option = "--no-bookkeeping" if no_bookkeeping else "--session"
        raise BadUsage(f"{option} is about the history of a fork, not of a path")
    paths = [*([path] if path is not None else []), *behind]
    state.output.amend(paths=paths)
    with state.open_workspace() as workspace:
        if draws:
            chosen: dict[_Shown, bool] = {
                "--patch": patch,
                "--stat": stat,
                "--name-status": name_status,
                "--graph": graph,
            }
            text = workspace.draw_log(
                paths=paths,
                limit=limit,
                form=form,
                shown=[name for name, is_chosen in chosen.items() if is_chosen],
                with_bookkeeping=not no_bookkeeping,
                color=state.output.shows_color,
            )
            return {"text": text}
        if path is not None and not behind:
            return {"path": path, "versions": _list_versions(workspace, path, limit)}
        found = workspace.log(
            limit=limit, with_files=name_status, with_bookkeeping=not no_bookkeeping, session=session, paths=paths
        )
        return {"entries": found}


def _list_versions(workspace: Workspace, path: TreePath, limit: int) -> list[PathVersion]:
    try:
        return workspace.path_versions(path, limit=limit)
    except PathNotFound as err:
        from avfs_git.cli.names import is_state  # noqa: PLC0415 - only after a mistake

        name = os.fsdecode(path)
        if workspace.vault.has_fork(name):
            err.hint = f"The history of that fork is shown by `avfs log --fork {shlex.quote(name)}`."
        elif ".." in name:
            err.hint = f"What differs between two states is shown by `avfs diff {shlex.quote(name)}`."
        elif is_state(workspace, name):
            err.hint = f"That checkpoint is shown by `avfs show {shlex.quote(name)}`."
        raise
