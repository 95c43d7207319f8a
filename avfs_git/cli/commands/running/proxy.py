"""`avfs proxy`: run commands in a workspace, one by one or many in a session."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from avfs_git.cli.commands.history.diff import check_options, diff_options, summarize
from avfs_git.cli.commands.running.exec import command as exec_
from avfs_git.cli.context import State
from avfs_git.cli.table import VerbGroup
from avfs_git.cli.verb import LIMIT, verb

if TYPE_CHECKING:
    from avfs_git.cli.results import CommandSession
    from avfs_git.model import Diff, RestoreResult
    from avfs_git.paths import TreePath
    from avfs_git.sdk import Workspace


@verb("proxy prepare", view="commands", example="avfs proxy prepare --idle 60")
@click.option(
    "--idle",
    type=click.FloatRange(min=0.1),
    default=600,
    show_default=True,
    metavar="SECONDS",
    help="Stay warm for so long.",
)
def prepare(workspace: Workspace, idle: float) -> CommandSession:
    """Begin a session of commands, which can be rolled back one by one

    What is uncommitted is saved first. Commands that follow start faster, until none has come for a while.
    """
    with workspace.prepare(idle_s=idle) as prepared:
        return {
            "fork": workspace.fork,
            "start": prepared.steps().start,
            "steps": prepared.steps().steps,
            "discarded": False,
        }


@verb("proxy rollback", view="history.checkpoint_restore", example="avfs proxy rollback 2")
@click.argument("count", type=LIMIT, default=1, metavar="[COMMANDS]")
def rollback(workspace: Workspace, count: int) -> RestoreResult:
    """Bring back the state before the last command of the session, or before as many as are named

    `avfs undo` takes that back.
    """
    return workspace.prepared().rollback(count)


@verb(
    "proxy inspect",
    looks=True,
    view="history.diff",
    unrecorded=("paths",),
    pages=True,
    example="avfs proxy inspect --stat",
)
@diff_options
def inspect(state: State, stat: bool, name_status: bool, unified: int, paths: tuple[TreePath, ...]) -> Diff:
    """Show what the commands of the session have changed"""
    check_options(stat=stat, name_status=name_status)
    state.output.amend(paths=paths)
    with state.open_workspace() as workspace:
        start = workspace.prepared().steps().start
        found = workspace.diff(start, paths=paths, context=unified, patches=not name_status)
        return summarize(found) if stat else found


@verb("proxy finish", view="commands", example="avfs proxy finish")
@click.option("--discard", is_flag=True, help="Bring back the state before the first command.")
def finish(workspace: Workspace, discard: bool) -> CommandSession:
    """End the session, and keep what its commands have changed

    `avfs undo` takes back what `--discard` does.
    """
    prepared = workspace.prepared()
    steps = prepared.steps()
    prepared.finish(discard=discard)
    return {"fork": workspace.fork, "start": steps.start, "steps": steps.steps, "discarded": discard}


command = VerbGroup("proxy", commands=[exec_, prepare, rollback, inspect, finish])
