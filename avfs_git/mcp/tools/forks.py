"""The tools for many forks: making and comparing them, merging, pushing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal, TypedDict

from pydantic import Field

from avfs_git.mcp.scope import Call, Reach
from avfs_git.mcp.tool import ADDS, CHANGES, PUBLISHES, READS, ForkName, State, Toolbox, TreePath, VaultName
from avfs_git.model import ForkInfo, MergeProgress, MergeResult, Overlap, PushResult, UndoResult, VaultInfo
from avfs_git.sdk import Workspace

tools = Toolbox()


class Vaults(TypedDict):
    """The vaults of the home."""

    vaults: Sequence[VaultInfo]


class Forks(TypedDict):
    """The forks of a vault."""

    forks: Sequence[ForkInfo]


class ForkMade(TypedDict):
    """A fork that was made."""

    vault: str
    fork: ForkInfo


@tools.tool("List vaults", READS, reach=Reach.HOME)
def vault_list(call: Call) -> Vaults:
    """List the vaults: repositories with their forks."""
    return {"vaults": call.home.list_vaults()}


@tools.tool("List forks", READS, reach=Reach.VAULT)
def fork_list(call: Call, vault: VaultName = None) -> Forks:
    """List the forks of a vault: branches with a workspace of their own."""
    return {"forks": call.vault(vault).list_forks()}


@tools.tool("Make a fork", ADDS, reach=Reach.VAULT)
def fork_create(
    call: Call,
    name: Annotated[str, Field(description="Its name: any name of a branch in git.")],
    source: Annotated[str | None, Field(description="The fork to begin with, with its uncommitted changes.")] = None,
    at: Annotated[str | None, Field(description="A checkpoint, commit or fork to begin with instead.")] = None,
    vault: VaultName = None,
) -> ForkMade:
    """Make a fork: a branch with files of its own, in milliseconds; the size of the tree does not matter.

    Try risky work in one; `merge` takes it over, `fork_delete` drops it.
    """
    opened = call.vault(vault)
    opened.fork(
        name, source=source if source is not None or at is not None else call.scope.choose(vault, None)[1], at=at
    )
    return {"vault": opened.name, "fork": opened.fork_info(name)}


@tools.tool("Delete a fork", CHANGES, reach=Reach.VAULT)
def fork_delete(call: Call, name: Annotated[str, Field(description="The fork.")], vault: VaultName = None) -> ForkInfo:
    """Delete a fork. Its commits are kept, and undoing it brings the files back."""
    return call.vault(vault).delete_fork(name, by=call.scope.choose(vault, None)[1])


@tools.tool("Rename a fork", CHANGES, reach=Reach.VAULT)
def fork_rename(
    call: Call,
    name: Annotated[str, Field(description="The fork.")],
    new_name: Annotated[str, Field(description="Its new name: any name of a branch in git.")],
    vault: VaultName = None,
) -> ForkInfo:
    """Rename a fork that is not mounted.

    Its checkpoints, labels and files stay as they are; undoing it brings the name back.
    """
    return call.vault(vault).rename_fork(name, new_name, by=call.scope.choose(vault, None)[1])


@tools.tool("Merge a fork", CHANGES, reach=Reach.VAULT)
def merge(
    call: Call,
    source: Annotated[str, Field(description="The fork, checkpoint or commit to merge.")],
    strategy: Annotated[
        Literal["normal", "ours", "theirs", "union"],
        Field(description="What becomes of lines that both sides changed."),
    ] = "normal",
    mode: Literal["normal", "no_ff", "ff_only", "squash"] = "normal",
    message: Annotated[str | None, Field(description="Of the commit.")] = None,
    dry_run: Annotated[bool, Field(description="Only tell the result.")] = False,
    on_conflict: Annotated[
        Literal["report", "workspace"],
        Field(description="`report` changes nothing; `workspace` writes the conflicts into the files, to resolve."),
    ] = "report",
    vault: VaultName = None,
    fork: Annotated[str | None, Field(description="The fork to merge into; the server's own if not given.")] = None,
) -> MergeResult:
    """Merge another fork into a fork. Uncommitted changes of both are committed first; `undo` takes it back.

    With conflicts, `outcome` is `conflicted`, and `conflicts` has them with the lines of both sides.
    """
    return call.workspace(vault, fork).merge(
        source, strategy=strategy, mode=mode, message=message, dry_run=dry_run, on_conflict=on_conflict
    )


@tools.tool("Resolve a conflict", CHANGES, reach=Reach.VAULT)
def resolve(
    workspace: Workspace,
    path: TreePath,
    side: Annotated[
        Literal["ours", "theirs", "union"] | None,
        Field(description="Take this side; the file as it is now if not given."),
    ] = None,
) -> MergeProgress:
    """Resolve a path of a merge in progress; the answer has the conflicts that are left."""
    return workspace.resolve(path, side)


@tools.tool("Complete a merge", CHANGES, reach=Reach.VAULT)
def merge_continue(
    workspace: Workspace, message: Annotated[str | None, Field(description="Of the commit.")] = None
) -> MergeResult:
    """Commit the merge in progress, when all its conflicts are resolved."""
    return workspace.continue_merge(message=message)


@tools.tool("Give up a merge", CHANGES, reach=Reach.VAULT)
def merge_abort(workspace: Workspace) -> UndoResult:
    """Bring the files back from before the merge in progress; `undo` takes it up again."""
    return workspace.abort_merge(operation="merge")


@tools.tool("Compare forks", READS, reach=Reach.VAULT)
def overlap(
    call: Call,
    names: Annotated[list[State], Field(description="Forks or other states; all forks if empty.", max_length=100)] = [],  # noqa: B006 - pydantic copies it
    vault: VaultName = None,
) -> Overlap:
    """Say which forks changed the same files, and which would conflict. Nothing is written."""
    return call.vault(vault).overlap(names)


@tools.tool("Push a fork", PUBLISHES)
def push(
    call: Call,
    remote: Annotated[str | None, Field(description="The remote; the only one, or `origin`, if not given.")] = None,
    vault: VaultName = None,
    fork: ForkName = None,
) -> PushResult:
    """Push a fork's checkpoints to a remote repository, as a branch. Nothing there is overwritten."""
    workspace = call.workspace(vault, fork)
    return workspace.vault.push([workspace.fork], remote, progress=call.report)
