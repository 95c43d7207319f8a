"""The tools that show states, with the names of git's commands: status, changes, history.

Decided here: changes come as one patch, as `git diff` prints it, and a list of the files.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, TypedDict

from pydantic import Field

from avfs_git.errors import escape
from avfs_git.mcp.answers import Record
from avfs_git.mcp.scope import Reach
from avfs_git.mcp.tool import READS, Paths, State, Toolbox, TreePath
from avfs_git.model import ChangedFile, ChangeKind, CheckpointDetails, Diff, LogEntry, PathVersion, Status
from avfs_git.sdk import Workspace

_Context = Annotated[int, Field(ge=0, le=100, description="Unchanged lines around each change.")]

tools = Toolbox()


class FileChange(TypedDict):
    """One path that differs."""

    path: bytes
    kind: ChangeKind
    old_path: bytes | None
    additions: int
    deletions: int
    binary: bool


class Changes(TypedDict):
    """How two states differ."""

    old: str
    new: str
    files: Sequence[FileChange]
    patch: bytes
    """As `git diff` prints it."""
    sidecar_changed: Sequence[ChangedFile]
    """Ignored files, nested repositories and empty directories, which no patch has."""


class History(TypedDict):
    """Commits, the newest first."""

    entries: Sequence[LogEntry]


class PathHistory(TypedDict):
    """Versions of a path, the newest first."""

    path: bytes
    versions: Sequence[PathVersion]


class Shown(TypedDict):
    """A commit and what it changed."""

    details: CheckpointDetails
    changes: Changes


def to_changes(diff: Diff) -> Changes:
    """Take a diff's files and patches, without its lines one by one."""
    files: list[FileChange] = [
        {
            "path": file.change.path,
            "kind": file.change.kind,
            "old_path": file.change.old_path,
            "additions": file.additions,
            "deletions": file.deletions,
            "binary": file.binary,
        }
        for file in diff.files
    ]
    patch = b"".join(file.patch for file in diff.files)
    return {"old": diff.old, "new": diff.new, "files": files, "patch": patch, "sidecar_changed": diff.sidecar}


def show_changes(record: Record) -> str:
    """Show the patch, and what is in none."""
    return str(record["patch"]) + "\n".join(list_beside(record)) or "no changes"


def list_beside(record: Record) -> list[str]:
    """List what changed beside history, a line each."""
    return [f"{change['kind']:>9}: {escape(change['path'])} (beside history)" for change in record["sidecar_changed"]]


def _show_status(record: Record) -> str:
    lines = [f"On fork {record['fork']}" + ("" if record["clean"] else ", with uncommitted changes:")]
    lines += [f"{change['kind']:>9}: {escape(change['path'])}" for change in record["changed_files"]]
    lines += list_beside(record)
    if record["merging"] is not None:
        lines.append(
            f"merging {record['merging']['source']}: {len(record['merging']['unresolved'])} conflicts to resolve"
        )
    return "\n".join(lines)


@tools.tool("Show uncommitted changes", READS, render=_show_status)
def git_status(workspace: Workspace) -> Status:
    """List what a checkpoint would save now: files that were added, changed or deleted since the last one."""
    return workspace.status()


@tools.tool("Show uncommitted changes as a patch", READS, render=show_changes)
def git_diff(
    workspace: Workspace,
    target: Annotated[
        str | None, Field(description="Compare with this state; with the last checkpoint if not given.")
    ] = None,
    paths: Paths = [],  # noqa: B006 - pydantic copies it
    context: _Context = 3,
) -> Changes:
    """Show how the files of a fork differ now from its last checkpoint, or from another state."""
    return to_changes(workspace.diff(target, paths=list[str | bytes](paths), context=context))


@tools.tool("Compare two states", READS, reach=Reach.VAULT, render=show_changes)
def diff(
    workspace: Workspace,
    old: State,
    new: State,
    paths: Paths = [],  # noqa: B006 - as above
    context: _Context = 3,
) -> Changes:
    """Compare two states that are saved: checkpoints, forks or commits of the vault."""
    found = workspace.diff(old, new, paths=list[str | bytes](paths), context=context)
    return to_changes(found)


def _show_log(record: Record) -> str:
    lines = []
    for entry in record["entries"]:
        checkpoint = entry["checkpoint"]
        labels = f" ({', '.join(checkpoint['labels'])})" if checkpoint["labels"] else ""
        subject = (checkpoint["message"].splitlines() or [""])[0]
        lines.append(
            f"{checkpoint['id'][:12]} {checkpoint['created_at']} {checkpoint['author']['name']}{labels}: {subject}"
        )
    return "\n".join(lines) or "no commits"


@tools.tool("Show history", READS, render=_show_log)
def git_log(workspace: Workspace, max_count: Annotated[int, Field(ge=1, le=1000)] = 20) -> History:
    """List the commits of a fork, the newest first."""
    return {"entries": workspace.log(limit=max_count)}


@tools.tool("Show the versions of a path", READS)
def path_history(
    workspace: Workspace, path: TreePath, max_count: Annotated[int, Field(ge=1, le=1000)] = 20
) -> PathHistory:
    """List the versions of one file or directory in a fork's history, the newest first."""
    found = workspace.path_versions(path, limit=max_count)
    return {"path": path.encode("utf-8", "surrogateescape"), "versions": found}


def _show_commit(record: Record) -> str:
    checkpoint = record["details"]["checkpoint"]
    author = checkpoint["author"]
    head = (
        f"commit {checkpoint['id']}\nAuthor: {author['name']} <{author['email']}>\nDate: {checkpoint['created_at']}\n"
    )
    return f"{head}\n{checkpoint['message']}\n\n{show_changes(record['changes'])}"


@tools.tool("Show one commit", READS, render=_show_commit)
def git_show(workspace: Workspace, revision: State) -> Shown:
    """Show a checkpoint or commit: its message, its author, how many files it has, and its changes as a patch."""
    details = workspace.checkpoint_details(revision)
    parents = details.checkpoint.parents
    found = workspace.vault.diff(parents[0] if parents else None, details.checkpoint.id, fork=workspace.fork)
    return {"details": details, "changes": to_changes(found)}
