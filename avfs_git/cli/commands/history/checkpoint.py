"""`avfs checkpoint`, also `avfs snapshot`: save states of a workspace and go back to them."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING

import click

from avfs_git.cli.commands.history.diff import compare, diff_options
from avfs_git.cli.context import State
from avfs_git.cli.table import VerbGroup
from avfs_git.cli.verb import LIMIT, TREE_PATH, is_dry_run, verb
from avfs_git.errors import BadUsage, CheckpointNotFound

if TYPE_CHECKING:
    from avfs_git.cli.results import CheckpointList, DeletedCheckpoint
    from avfs_git.model import CheckpointDetails, CheckpointResult, Diff, RestoreResult
    from avfs_git.paths import TreePath
    from avfs_git.sdk import Vault, Workspace


@verb("checkpoint save", view="history", example="avfs checkpoint save v3 -m 'Parse dates'")
@click.argument("label", required=False)
@click.option(
    "-d", "--description", "-m", "--message", metavar="TEXT", help="What the commit says; default: the label."
)
def save(state: State, label: str | None, description: str | None) -> CheckpointResult:
    """Save the present state of the workspace as a commit

    The commit holds the files that no rule ignores. A sidecar beside it keeps ignored files, empty directories, times
    and attributes. If nothing has changed since the last checkpoint, avfs makes no commit and the result is
    `unchanged`; with a description, avfs makes a commit without changes.
    """
    with state.open_workspace() as workspace, state.output.progress("saving a checkpoint"):
        return workspace.checkpoint(label, description=description)


@verb("checkpoint list", looks=True, view="history", pages=True, example="avfs checkpoint list -n 10")
@click.option("-n", "--limit", type=LIMIT, default=100, show_default=True, help="Show at most N.")
def list_(workspace: Workspace, limit: int) -> CheckpointList:
    """List the checkpoints of a fork, the newest first"""
    return {"checkpoints": workspace.list_checkpoints(limit=limit)}


@verb("checkpoint info", looks=True, view="history", pages=True, example="avfs checkpoint info v1")
@click.argument("name")
def info(workspace: Workspace, name: str) -> CheckpointDetails:
    """Show what a checkpoint holds and what it changed"""
    return workspace.checkpoint_details(name)


@verb(
    "checkpoint diff",
    looks=True,
    view="history.diff",
    unrecorded=("paths",),
    splits_at_dashes=True,
    pages=True,
    example="avfs checkpoint diff v1 v2 --stat",
)
@click.argument("old")
@click.argument("new", required=False)
@diff_options
def diff(
    state: State, old: str, new: str | None, stat: bool, name_status: bool, unified: int, paths: tuple[TreePath, ...]
) -> Diff:
    """Show how two checkpoints differ; without NEW, how the workspace differs from OLD"""
    return compare(state, old, new, stat=stat, name_status=name_status, unified=unified, paths=paths)


@verb("checkpoint restore", looks=is_dry_run, view="history", example="avfs checkpoint restore v1 src --dry-run")
@click.argument("name")
@click.argument("paths", nargs=-1, type=TREE_PATH, metavar="[PATH]...")
@click.option("-n", "--dry-run", is_flag=True, help="Show what would change, and change nothing.")
@click.option("--into", metavar="FORK", help="Leave this workspace as it is, and make a new fork of that state.")
def restore(state: State, name: str, paths: tuple[TreePath, ...], dry_run: bool, into: str | None) -> RestoreResult:
    """Bring the workspace, or single paths of it, back to a checkpoint

    avfs saves unsaved changes first, and writes only paths that differ; `avfs undo` undoes the restore.
    """
    if into is not None and paths:
        raise BadUsage("--into restores the whole state, not single paths")
    with state.open_workspace() as workspace:
        return workspace.restore(name, paths=paths, dry_run=dry_run, into=into)


@verb("checkpoint delete", view="history", example="avfs checkpoint delete v1")
@click.argument("label")
def delete(state: State, label: str) -> DeletedCheckpoint:
    """Take a label away; its commit stays where history holds it

    FORK@LABEL is a label of another fork; `avfs --fork FORK undo` brings it back.
    """
    with state.open_vault_and_fork() as (vault, fork):
        try:
            return _delete(vault, fork, label)
        except CheckpointNotFound:
            other, at, of_other = label.partition("@")
            if not at or not vault.has_fork(other):
                raise
        state.output.amend(fork=other)
        return _delete(vault, other, of_other)


def _delete(vault: Vault, fork: str | None, label: str) -> DeletedCheckpoint:
    with closing(vault.workspace(fork)) as workspace:  # an ephemeral fork stays
        return {"label": label, "checkpoint": workspace.delete_checkpoint(label)}


command = VerbGroup("checkpoint", commands=[save, list_, info, diff, restore, delete])
