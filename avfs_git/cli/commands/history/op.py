"""`avfs op`: the operation log."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from avfs_git.cli.context import State
from avfs_git.cli.table import VerbGroup
from avfs_git.cli.verb import LIMIT, is_dry_run, verb

if TYPE_CHECKING:
    from avfs_git.cli.results import OperationList, OperationStat
    from avfs_git.model import Diff, OperationDetails, RestoreResult, UndoResult

_NUMBER = click.argument("number", type=LIMIT)


@verb("op log", looks=True, view="history", pages=True, example="avfs op log -n 10 --stat")
@click.option("-n", "--limit", type=LIMIT, default=50, show_default=True, help="Show at most N.")
@click.option("--stat", is_flag=True, help="Also how many files and lines each changed.")
def log(state: State, limit: int, stat: bool) -> OperationList:
    """List what was done in a vault, the newest first

    With `--fork`, only what was done to that fork. What git did in live trees is recorded first. `avfs op show` shows
    one operation, `avfs op undo` takes it back, and `avfs op restore` brings back the state after it.
    """
    with state.open_vault_and_fork(whole=True) as (vault, fork):
        if not stat:
            return {"operations": vault.operations(fork=fork, limit=limit), "stats": []}
        found = vault.describe_operations(fork=fork, limit=limit)
    return {"operations": [each.operation for each in found], "stats": [_count(each.diff) for each in found]}


def _count(diff: Diff | None) -> OperationStat:
    files = diff.files if diff is not None else ()
    return {
        "files": len(files),
        "additions": sum(file.additions for file in files),
        "deletions": sum(file.deletions for file in files),
        "beside": len(diff.sidecar) if diff is not None else 0,
    }


@verb("op show", looks=True, view="history", pages=True, example="avfs op show 12 -p")
@_NUMBER
@click.option("-p", "--patch", is_flag=True, help="Show the changed lines, not only how many.")
def show(state: State, number: int, patch: bool) -> OperationDetails:  # noqa: ARG001 - the view shows less without it
    """Show one operation and what it changed

    NUMBER is that of `avfs op log`.
    """
    with state.open_vault() as vault:
        found = vault.operation(number)
        state.output.amend(fork=found.operation.fork or None)
        return found


@verb("op restore", looks=is_dry_run, view="history.checkpoint_restore", example="avfs op restore 12 --dry-run")
@_NUMBER
@click.option("-n", "--dry-run", is_flag=True, help="Show what would change, and change nothing.")
def restore(state: State, number: int, dry_run: bool) -> RestoreResult:
    """Restore the files of a fork to their state after an operation

    NUMBER is that of `avfs op log`. avfs saves unsaved changes first, and `avfs undo` takes it back.
    """
    with state.open_vault_and_fork(whole=True) as (vault, fork):
        result = vault.restore_operation(number, fork=fork, dry_run=dry_run)
        state.output.amend(fork=vault.operation(number).operation.fork)
        return result


@verb("op undo", looks=is_dry_run, view="history", example="avfs op undo 12 --dry-run")
@_NUMBER
@click.option("-n", "--dry-run", is_flag=True, help="Show what would change, and change nothing.")
def undo(state: State, number: int, dry_run: bool) -> UndoResult:
    """Undo one operation, and keep what was done after it

    NUMBER is that of `avfs op log`. avfs merges the changes of the operation out of the files, and changes nothing if
    later changes conflict with that. Ignored files stay. avfs saves unsaved changes first, and `avfs undo` takes it
    back.
    """
    with state.open_vault_and_fork(whole=True) as (vault, fork):
        result = vault.undo_operation(number, fork=fork, dry_run=dry_run)
        state.output.amend(fork=result.operation.fork)
        return result


command = VerbGroup("op", commands=[log, show, restore, undo])
