"""The results that are more than one value of the SDK: lists under a name, and the like.

Decided here: their fields. All are JSON objects, never bare lists, so that fields can be added. Commands return them,
`records` maps them, `output.views` shows them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NotRequired, TypedDict, final

if TYPE_CHECKING:
    from collections.abc import Sequence

    from avfs_git.model import Checkpoint as CheckpointValue
    from avfs_git.model import (
        CheckpointDetails,
        Diff,
        FileInfo,
        ForkInfo,
        LogEntry,
        Operation,
        PathVersion,
        RemoveResult,
        SessionInfo,
        TreeNode,
        VaultInfo,
    )


class VersionResult(TypedDict):
    """What `avfs --version --json` gives."""

    version: str


class VaultList(TypedDict):
    """The vaults of the home."""

    vaults: Sequence[VaultInfo]


class ConfigResult(TypedDict):
    """Settings of a vault: all of them, or the one that was asked for or changed."""

    config: dict[str, str]
    changed: bool


class ForkResult(TypedDict):
    """A fork that was made."""

    fork: ForkInfo
    vault: str


class DirectoryFork(TypedDict):
    """A fork of a directory, and where it is mounted."""

    fork: str
    vault: str
    session: SessionInfo
    pushes_to: str | None
    """The remote that git in the fork's tree can push to; None where the directory is no clone."""


class ForkList(TypedDict):
    """The forks of a vault."""

    forks: Sequence[ForkInfo]


class SessionList(TypedDict):
    """What is mounted, the oldest first."""

    sessions: Sequence[SessionInfo]


class CheckpointList(TypedDict):
    """Checkpoints, the newest first."""

    checkpoints: Sequence[CheckpointValue]


class DeletedCheckpoint(TypedDict):
    """The label that is gone; its commit stays where history or another label holds it."""

    label: str
    checkpoint: CheckpointValue


@final
class History(TypedDict):
    """Commits of a fork, the newest first."""

    entries: Sequence[LogEntry]


@final
class PathHistory(TypedDict):
    """States of a path, the newest first."""

    path: bytes
    versions: Sequence[PathVersion]


class ShowResult(TypedDict):
    """A checkpoint and what it changed."""

    details: CheckpointDetails
    diff: Diff


class OperationList(TypedDict):
    """Operations, the newest first."""

    operations: Sequence[Operation]


class Listing(TypedDict):
    """Entries of a directory, in the order of their names; with `--recursive` of all below it."""

    path: bytes
    entries: Sequence[FileInfo]


class Content(TypedDict, total=False):
    """A file's content: exact, and as text where it is UTF-8."""

    path: bytes
    size: int
    content: str
    content_b64: str


class Written(TypedDict):
    """A file that was written."""

    file: FileInfo
    appended: bool


class Entries(TypedDict):
    """Entries as they are after the command."""

    entries: Sequence[FileInfo]


class PathOnly(TypedDict):
    """A path."""

    path: bytes


class Removed(TypedDict):
    """Paths that are gone."""

    removed: Sequence[PathOnly]
    ended: NotRequired[RemoveResult]
    """Where the path was that of a forked directory."""


class Moved(TypedDict):
    """One source and where it is now."""

    source: bytes
    destination: bytes


class Transfers(TypedDict):
    """Entries that were copied or moved inside the workspace."""

    moved: Sequence[Moved]


class Tree(TypedDict):
    """A directory with everything below it."""

    tree: TreeNode
