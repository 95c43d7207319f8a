"""The values that the library returns: frozen, complete, without behaviour of their own.

Decided here: what each result holds and what its fields are called; `cli/records.py` maps them to JSON
under the same names. Object ids are full hexadecimal text, tree paths are bytes, times are integers of
nanoseconds since the epoch, sizes are bytes.
"""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path

from avfs_git.values import value_class


class Kind(StrEnum):
    """What an entry of a tree is."""

    FILE = "file"
    DIRECTORY = "directory"
    SYMLINK = "symlink"
    GITLINK = "gitlink"
    OTHER = "other"


class ChangeKind(StrEnum):
    """What happened to a path between two trees."""

    ADDED = "added"
    DELETED = "deleted"
    MODIFIED = "modified"
    RENAMED = "renamed"
    MODE = "mode"
    """Only the executable bit changed."""
    TYPE = "type"
    """A file became a symbolic link, or the like."""


@value_class
class Warning:  # noqa: A001 - the field's word for it, and JSON's name; never used beside the built-in
    """Something the caller should know, with a stable code. Never raised."""

    code: str
    message: str
    path: bytes | None = None


@value_class
class Identity:
    """Who makes commits."""

    name: str
    email: str


@value_class
class FileInfo:
    """What is known of one entry without reading it."""

    path: bytes
    kind: Kind
    mode: int
    size: int
    mtime_ns: int
    oid: str | None = None
    """The id of its content where that is known without reading it, or was asked for."""
    target: bytes | None = None
    nlink: int = 1


@value_class
class TreeNode:
    """An entry with what stands below it."""

    info: FileInfo
    children: tuple[TreeNode, ...] = ()


@value_class
class ChangedFile:
    """One path that differs between two trees; modes are git's."""

    path: bytes
    kind: ChangeKind
    old_path: bytes | None = None
    old_oid: str | None = None
    new_oid: str | None = None
    old_mode: int | None = None
    new_mode: int | None = None
    size: int | None = None
    """Of the new content; None where there is none."""
    similarity: int | None = None
    """Of a rename: per cent."""


@value_class
class DiffLine:
    """One line of a hunk."""

    origin: str
    """`' '`, `'+'` or `'-'`."""
    content: bytes
    old_line: int | None
    new_line: int | None
    ends_without_newline: bool = False


@value_class
class Hunk:
    """A run of lines that differ, with some around them."""

    old_start: int
    old_lines: int
    new_start: int
    new_lines: int
    heading: bytes
    lines: tuple[DiffLine, ...]


@value_class
class FileDiff:
    """How one file differs."""

    change: ChangedFile
    binary: bool
    additions: int
    deletions: int
    hunks: tuple[Hunk, ...] = ()
    patch: bytes = b""
    """As `git diff` prints it."""
    old_size: int | None = None
    """Of the old content; None where there was none, or it was not looked at."""
    new_size: int | None = None


@value_class
class Diff:
    """How two states differ, by path."""

    old: str
    new: str
    files: tuple[FileDiff, ...]
    sidecar: tuple[ChangedFile, ...] = ()
    """Ignored files, nested repositories and empty directories that differ."""


@value_class
class VaultInfo:
    """A vault from outside."""

    name: str
    path: Path
    current: bool
    default_fork: str | None
    forks: int
    created_at_ns: int
    size_bytes: int | None = None
    """On disk, counted only where it was asked for."""


@value_class
class ForkInfo:
    """A fork: a branch and its workspace."""

    name: str
    head: str | None
    base: str | None
    parent: str | None = None
    """The fork that it was made from."""
    forked_at: str | None = None
    """The commit that it was made from."""
    ephemeral: bool = False
    created_at_ns: int | None = None


@value_class
class Checkpoint:
    """A commit that holds a state of a workspace."""

    id: str
    labels: tuple[str, ...]
    message: str
    author: Identity
    created_at_ns: int
    parents: tuple[str, ...]
    tree: str
    sidecar: str | None
    fork: str | None = None


@value_class
class CheckpointDetails:
    """A checkpoint with what it holds."""

    checkpoint: Checkpoint
    files: int
    total_size: int
    sidecar_files: int
    changed_files: tuple[ChangedFile, ...]


@value_class
class CheckpointResult:
    """What saving a checkpoint did."""

    outcome: str
    """`created` or `unchanged`."""
    checkpoint: Checkpoint | None
    """None only where the fork has no commit at all."""
    changed_files: tuple[ChangedFile, ...]
    sidecar_changed: tuple[ChangedFile, ...] = ()
    warnings: tuple[Warning, ...] = ()


@value_class
class Status:
    """What a workspace holds that its head does not."""

    fork: str
    head: str | None
    base: str | None
    changed_files: tuple[ChangedFile, ...]
    sidecar_changed: tuple[ChangedFile, ...]
    warnings: tuple[Warning, ...] = ()

    @property
    def clean(self) -> bool:
        """Whether a checkpoint now would find nothing."""
        return not self.changed_files and not self.sidecar_changed


@value_class
class RestoreResult:
    """What restoring did, or would do."""

    outcome: str
    """`restored`, `unchanged` or `planned`."""
    target: str
    changed_files: tuple[ChangedFile, ...]
    """What differs between the state before and the state after."""
    sidecar_changed: tuple[ChangedFile, ...] = ()
    saved: str | None = None
    """The checkpoint that holds what was uncommitted before."""
    checkpoint: Checkpoint | None = None
    """The commit that records the restored state."""
    fork: str | None = None
    """The new fork, where the target was restored into one."""
    warnings: tuple[Warning, ...] = ()


@value_class
class PathVersion:
    """One state of a path in the history of a fork; the oldest is number 1."""

    number: int
    checkpoint: str
    message: str
    author: Identity
    created_at_ns: int
    change: ChangedFile


@value_class
class LogEntry:
    """One commit of a history."""

    checkpoint: Checkpoint
    changed_files: tuple[ChangedFile, ...] = ()


@value_class
class RefMove:
    """A ref before and after an operation."""

    ref: str
    old: str | None
    new: str | None


@value_class
class Operation:
    """One entry of the operation log."""

    id: int
    fork: str
    kind: str
    description: str
    created_at_ns: int
    moves: tuple[RefMove, ...] = ()
    undone: bool = False
    undoes: int | None = None


@value_class
class UndoResult:
    """What taking an operation back, or doing it again, did."""

    operation: Operation
    """The one that was taken back or done again."""
    changed_files: tuple[ChangedFile, ...] = ()
    saved: str | None = None
    """The commit that holds what was uncommitted before."""
    warnings: tuple[Warning, ...] = ()


@value_class
class TransferResult:
    """What an import or export moved."""

    source: str
    destination: str
    files: int
    directories: int
    total_bytes: int
    warnings: tuple[Warning, ...] = ()


class SessionState(StrEnum):
    """Where in its life a mount is."""

    STARTING = "starting"
    MOUNTED = "mounted"
    UNMOUNTING = "unmounting"
    """Out of the directory tree, or about to be; programs that use it may still hold it."""
    ENDED = "ended"


WHOLE_VAULT = "*"
"""What stands for a fork where a mount shows all of a vault: no branch can have that name."""


@value_class
class SessionInfo:
    """One mount, from its start to its end."""

    id: str
    vault: str
    fork: str
    """The fork; `*` where all of the vault is shown."""
    directory: Path
    state: SessionState
    readonly: bool
    pid: int
    """The process that keeps it."""
    started_at_ns: int
    at: str | None = None
    """The commit that a read-only mount shows; None where it is the workspace, or all of the vault."""


@value_class
class UnmountResult:
    """What taking a mount away did."""

    session: SessionInfo | None
    """The one that was ended; None where nothing was mounted."""
    directory: Path | None = None
    outcome: str = "unmounted"
    """`unmounted`; `detached`: out of sight, and still held by programs; `cut_off`: taken from them; `not_mounted`."""
    checkpoint: CheckpointResult | None = None
    """The final checkpoint, where one was made."""
    users: tuple[str, ...] = ()
    """The programs that still used it."""
    warnings: tuple[Warning, ...] = ()


@value_class
class RemoveResult:
    """What ending a fork of a directory did."""

    vault: str
    fork: str
    directory: Path
    deleted: bool
    """Whether the fork is gone; else it is in the vault, and can be mounted again."""
    pushed: bool
    """Whether the directory it was made of has all its commits."""


@value_class
class Problem:
    """Something that the doctor found."""

    code: str
    severity: str
    """`error` or `warning`."""
    description: str
    remedy: str
    fixable: bool = False
    fixed: bool = False


@value_class
class DoctorReport:
    """What the doctor looked at and found."""

    vault: str
    checked: tuple[str, ...]
    problems: tuple[Problem, ...] = ()

    @property
    def healthy(self) -> bool:
        """Whether nothing is left to mend."""
        return all(problem.fixed for problem in self.problems)
