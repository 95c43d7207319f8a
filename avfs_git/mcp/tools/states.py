"""The tools that save and bring back states: checkpoints, restore, undo."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, TypedDict

from pydantic import Field

from avfs_git.mcp.scope import Call, Reach
from avfs_git.mcp.tool import ADDS_ONCE, CHANGES, CHANGES_ONCE, READS, ForkName, Paths, State, Toolbox, VaultName
from avfs_git.model import Checkpoint, CheckpointResult, Operation, RestoreResult, UndoResult
from avfs_git.sdk import Workspace

tools = Toolbox()


class Checkpoints(TypedDict):
    """Checkpoints, the newest first."""

    checkpoints: Sequence[Checkpoint]


class Operations(TypedDict):
    """Operations, the newest first."""

    operations: Sequence[Operation]


@tools.tool("Save a checkpoint", ADDS_ONCE)
def checkpoint(
    workspace: Workspace,
    label: Annotated[str | None, Field(description="A name for it, which no other checkpoint of the fork has.")] = None,
    message: Annotated[str | None, Field(description="The commit's message.")] = None,
) -> CheckpointResult:
    """Save all files of a fork as a commit. Costs what changed; `outcome` is `unchanged` if nothing did."""
    return workspace.checkpoint(label, description=message)


@tools.tool("List checkpoints", READS)
def checkpoint_list(workspace: Workspace, limit: Annotated[int, Field(ge=1, le=1000)] = 20) -> Checkpoints:
    """List the checkpoints of a fork, the newest first."""
    return {"checkpoints": workspace.list_checkpoints(limit=limit)}


@tools.tool("Restore files", CHANGES_ONCE)
def restore(
    workspace: Workspace,
    target: State,
    paths: Paths = [],  # noqa: B006 - pydantic copies it
    dry_run: Annotated[bool, Field(description="Only list what would change.")] = False,
) -> RestoreResult:
    """Make a fork's files those of an earlier state. What is uncommitted is saved first; `undo` takes it back."""
    return workspace.restore(target, paths=list[str | bytes](paths), dry_run=dry_run)


@tools.tool("Undo the last operation", CHANGES)
def undo(call: Call, vault: VaultName = None, fork: ForkName = None) -> UndoResult:
    """Undo the last operation on a fork, with its files: an edit, a command, a restore, a merge. Can be repeated."""
    if call.scope.reach == Reach.FORK:
        return call.workspace(vault, fork).undo(alone=True)
    opened, name = call.vault_and_fork(vault, fork)
    if name is None or not opened.has_fork(name):
        return _say_where(call, opened.undo(fork=name))
    return _say_where(call, opened.workspace(name).undo())


@tools.tool("Undo one operation", CHANGES)
def undo_operation(
    workspace: Workspace,
    operation: Annotated[int, Field(ge=1, description="Its number in `operations`.")],
    dry_run: Annotated[bool, Field(description="Only list what would change.")] = False,
) -> UndoResult:
    """Undo what one operation did, and keep what was done after it. Refused if that changed the same lines."""
    return workspace.undo_operation(operation, dry_run=dry_run)


@tools.tool("Redo what was undone", CHANGES)
def redo(call: Call, vault: VaultName = None, fork: ForkName = None) -> UndoResult:
    """Redo the operation that was undone last."""
    if call.scope.reach == Reach.FORK:
        return call.workspace(vault, fork).redo(alone=True)
    opened, name = call.vault_and_fork(vault, fork)
    return _say_where(call, opened.redo(fork=name))


def _say_where(call: Call, done: UndoResult) -> UndoResult:
    """Say that the call worked in the operation's fork: making or deleting another one is undone, too."""
    call.meant["fork"] = done.operation.fork
    return done


@tools.tool("List operations", READS)
def operations(
    call: Call, limit: Annotated[int, Field(ge=1, le=1000)] = 20, vault: VaultName = None, fork: ForkName = None
) -> Operations:
    """List what was done to a fork, the newest first: what `undo` takes back, one by one."""
    return {"operations": call.workspace(vault, fork).operations(limit=limit, at_hand=call.scope.reach > Reach.FORK)}
