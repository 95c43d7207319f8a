"""The values that the library returns: frozen, complete, without behaviour of their own.

Decided here: what each result holds and what its fields are called; `records.py` maps them to JSON
under the same names. Object ids are full hexadecimal text, tree paths are bytes, times are integers of
nanoseconds since the epoch, sizes are bytes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import StrEnum
from pathlib import Path
from typing import Literal

from avfs_git.values import as_dict, value_class


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
    """The author of commits."""

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
    problem: str | None = None
    """In a list, why its content cannot be read; then its size is not known, and 0."""


@value_class
class EditResult:
    """What replacing text in a file did, or would do."""

    path: bytes
    replacements: int
    patch: bytes
    """As `git diff` prints it, without its header."""
    file: FileInfo | None
    """The file that was written; None where nothing was to be written."""


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
    """Of the new content; None if nothing is left, or if a partial clone has not fetched it."""
    similarity: int | None = None
    """Of a rename: per cent."""


@value_class
class DiffLine:
    """One line of a hunk."""

    origin: Literal[" ", "+", "-"]
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
class MetaEntry:
    """One key of the metadata of a path, which is the extended attribute `user.KEY`."""

    key: str
    value: bytes


@value_class
class PathMeta:
    """The tags and the metadata of a path."""

    path: bytes
    tags: tuple[str, ...]
    """Of the attribute `user.xdg.tags`, in the order in which they were given."""
    entries: tuple[MetaEntry, ...]
    """All other `user.` attributes, by key."""


@value_class
class TagCount:
    """A tag, and how many files and directories have it."""

    tag: str
    count: int


@value_class
class TagList:
    """The tags of a workspace, by name."""

    fork: str
    tags: tuple[TagCount, ...]
    warnings: tuple[Warning, ...] = ()


@value_class
class MetaCondition:
    """What is asked of the metadata of a path."""

    key: str
    value: bytes | None = None
    """None: any."""


@value_class
class FindQuery:
    """Which entries are looked for, and where.

    An entry meets all conditions, which `sdk.options.FindOptions` explains.
    """

    names: tuple[bytes, ...] = ()
    """The name or, with a slash, the path matches one of these globs; `**` stands for any directories."""
    paths: tuple[bytes, ...] = ()
    """Only these paths and what is below them; all if empty."""
    kinds: tuple[Kind, ...] = ()
    ignore_case: bool = False
    min_size: int | None = None
    max_size: int | None = None
    newer_ns: int | None = None
    older_ns: int | None = None
    min_depth: int | None = None
    max_depth: int | None = None
    changed_since: str | None = None
    ignored: bool = False
    tags: tuple[str, ...] = ()
    meta: tuple[MetaCondition, ...] = ()


@value_class
class FoundEntry:
    """An entry that was found."""

    path: bytes
    kind: Kind
    mode: int
    size: int | None
    """None for what is no file, and for a content of a partial clone that is not here."""
    mtime_ns: int


@value_class
class FindResult:
    """What was found in one state."""

    fork: str
    state: str
    """The commit that was looked through, or `workspace`."""
    entries: tuple[FoundEntry, ...]
    """A directory stands before what is in it."""
    warnings: tuple[Warning, ...] = ()


class GrepSyntax(StrEnum):
    """How the pattern of a search is read."""

    EXTENDED = "extended"
    """A POSIX extended regular expression."""
    FIXED = "fixed"
    """A text."""
    PERL = "perl"
    """A Perl-compatible regular expression."""


class GrepOutcome(StrEnum):
    """What a search tells of each file."""

    LINES = "lines"
    """The lines that match."""
    COUNT = "count"
    """How many lines match."""
    FILES = "files"
    """That a line matches."""
    FILES_WITHOUT = "files_without"
    """That no line matches."""


@value_class
class GrepQuery:
    """What a search looks for, and where; `sdk.options.GrepOptions` explains the options."""

    pattern: bytes
    """Several patterns are separated by newlines; a line matches if one of them does."""
    paths: tuple[bytes, ...] = ()
    """Only these files, and files below these directories; all if empty."""
    include: tuple[bytes, ...] = ()
    exclude: tuple[bytes, ...] = ()
    syntax: GrepSyntax = GrepSyntax.EXTENDED
    outcome: GrepOutcome = GrepOutcome.LINES
    ignore_case: bool = False
    invert: bool = False
    words: bool = False
    only_matching: bool = False
    before: int = 0
    after: int = 0
    max_count: int | None = None
    ignored: bool = False
    spans: bool = False


@value_class
class Span:
    """A part of a line, in bytes from 0."""

    begin: int
    end: int


@value_class
class GrepLine:
    """A line that a search gives."""

    number: int
    """The first line of a file has number 1."""
    column: int | None
    """Where the match begins, in bytes; the first has number 1. None for a line of context."""
    text: bytes
    """Without its newline."""
    spans: tuple[Span, ...] = ()
    """Where in the text matches are, if the search was asked for it."""


@value_class
class GrepFile:
    """A file that a search found."""

    path: bytes
    binary: bool = False
    """Whether it is binary, and so its lines are not given."""
    count: int | None = None
    """How many lines match; None where they were not counted."""
    lines: tuple[GrepLine, ...] = ()


@value_class
class GrepHit:
    """One match that a search found: a line or, where its outcome is no line, a file."""

    fork: str
    state: str
    """The commit that was searched, or `workspace`."""
    path: bytes
    line: GrepLine | None = None
    """None for a binary file that matches, and for an outcome that is no line."""
    binary: bool = False
    """Whether the file is binary, and so its lines are not given."""
    count: int | None = None
    """With the outcome `count`: how many lines of the file match."""


@value_class
class GrepResult:
    """What a search found in one state."""

    fork: str
    state: str
    """The commit that was searched, or `workspace`."""
    files: tuple[GrepFile, ...]
    """Sorted by path."""
    warnings: tuple[Warning, ...] = ()


@value_class
class SearchQuery:
    """What a full text search looks for, and where."""

    words: str
    """A file must have all of them; `word*` stands for all words that begin so."""
    paths: tuple[bytes, ...] = ()
    """Only these files, and files below these directories; all if empty."""
    limit: int = 20
    """Give at most so many files."""


@value_class
class SearchHit:
    """A file that a full text search found."""

    path: bytes
    score: float
    """The higher, the better it fits. Scores of different states cannot be compared."""
    line: GrepLine | None
    """The line that has most of the words; None if no single line shows any."""


@value_class
class UnsearchedFile:
    """A text that was not searched."""

    path: bytes
    reason: str
    """`large`: over 2 MiB; `missing`: not fetched yet, in a partial clone."""


@value_class
class SearchResult:
    """What a full text search found in one state."""

    fork: str
    state: str
    """The commit that was searched, or `workspace`."""
    total: int
    """How many files have the words."""
    hits: tuple[SearchHit, ...]
    """The best ones, the best first."""
    unsearched: tuple[UnsearchedFile, ...] = ()
    """Files that may have the words, too."""
    warnings: tuple[Warning, ...] = ()


@value_class
class BlameCommit:
    """A commit that lines came from, or that removed some."""

    id: str
    author: Identity
    created_at_ns: int
    subject: str
    command: str | None
    """The command that made it, as `exec` has noted it."""
    session: str | None
    """The session of a coding agent that made it."""
    fork: str | None
    """The fork in which it was made, as far as the newest operations tell."""


@value_class
class RemovedFile:
    """A content of a file that a full text search found in the history."""

    path: bytes
    oid: str
    """The content, as a blob: `avfs cat --at LAST_COMMIT PATH` shows it."""
    score: float
    """The higher, the better it fits."""
    line: GrepLine | None
    """The line that has most of the words; None if no single line shows any."""
    last_commit: str
    """The last commit that had it there."""
    removed_by: BlameCommit
    """The commit that removed the file, or gave it a content without the words."""


@value_class
class HistorySearchResult:
    """What a full text search found of contents that are gone."""

    fork: str
    state: str
    """The commit whose history was searched."""
    total: int
    """How many contents were found."""
    removed: tuple[RemovedFile, ...]
    """The contents that went last, the last one first."""
    unsearched: tuple[UnsearchedFile, ...] = ()
    """Removed contents that may have the words, too."""


@value_class
class BlameLine:
    """A line with where it came from."""

    number: int
    commit: str
    path: bytes
    """What the file was called in that commit."""
    old_number: int
    """The number of the line there."""
    text: bytes
    """Without its newline."""


@value_class
class Blame:
    """Where each line of a file came from."""

    path: bytes
    state: str
    """The commit whose file it is."""
    commits: tuple[BlameCommit, ...]
    """Each once, in the order of their first lines."""
    lines: tuple[BlameLine, ...]


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
    problem: str | None = None
    """Why it cannot be opened; then nothing is known of its forks."""
    problem_code: str | None = None
    """The code of that error, such as `vault.untrusted`."""
    max_bytes: int | None = None
    """The limit of the setting `quota.vault_bytes`; None for no limit, or where it was not asked for."""
    held_bytes: int | None = None
    """What the vault holds of it, with what open forks have reserved.

    None without a limit, or where that is not known.
    """


@value_class
class ForkUsage:
    """What a fork holds beyond the commit that it began with, and what it may hold."""

    size_bytes: int
    """The sizes of the files that it has written."""
    files: int
    """How many files and directories these are."""
    max_bytes: int | None = None
    """The limits of the settings `quota.…`, the fork's own or the vault's; None for no limit."""
    max_files: int | None = None
    max_file_bytes: int | None = None
    max_vault_bytes: int | None = None
    vault_bytes: int | None = None
    """What the vault holds, with what open forks have reserved; None where it has no limit."""


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
    author: Identity | None = None
    """The author of its commits, where it has one of its own."""
    problem: str | None = None
    """What is wrong with its branch, where that is damaged; then its head is not known."""
    usage: ForkUsage | None = None
    """What it holds, counted only where it was asked for."""


@value_class
class ForkStat:
    """Changes by the commits that a fork has and its upstream lacks: from where the two parted to the fork's head."""

    files: int
    additions: int
    deletions: int


@value_class
class ForkStanding:
    """How a fork stands: since when, where it is mounted, and how far it is from its upstream."""

    fork: str
    changed_at_ns: int | None = None
    """When its head was committed."""
    upstream: str | None = None
    """The branch of a remote that it follows, as it was last fetched; else the vault's default fork.

    None for that one.
    """
    ahead: int | None = None
    """How many commits it has which the upstream has not; None without an upstream, or too many to count."""
    behind: int | None = None
    """How many commits it lacks."""
    mounted_at: Path | None = None
    """The directory where its workspace is mounted."""
    stat: ForkStat | None = None
    """None unless asked for, without an upstream, without exactly one merge base, and where content is missing."""


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

    outcome: Literal["created", "unchanged", "recorded"]
    """`recorded`: in the middle of git's rebase or merge, changes are operations in the log, and the branch stays."""
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
    merging: MergeProgress | None = None
    """The merge that the workspace is in the middle of."""
    warnings: tuple[Warning, ...] = ()

    @property
    def clean(self) -> bool:
        """Whether a checkpoint now would find nothing."""
        return not self.changed_files and not self.sidecar_changed


@value_class
class RestoreResult:
    """What restoring did, or would do."""

    outcome: Literal["restored", "unchanged", "planned"]
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
    """Whether it was undone, and not redone since."""
    undoes: int | None = None


@value_class
class OperationDetails:
    """An operation with what it changed."""

    operation: Operation
    after: str | None
    """The commit that holds the state which it led to; None if it led to none, as the deletion of a label."""
    diff: Diff | None
    """How that differs from the state before; None also where `gc` has removed that."""


@value_class
class Event:
    """One entry of the operation log or of the audit log, as `Vault.events` gives it."""

    cursor: str
    """What `events(since=…)` takes to go on behind this event."""
    at_ns: int
    kind: str
    """Of an operation: `checkpoint`, `merge`, `undo` ….

    Of the audit log: `proxy_exec_completed`, `approval_granted` …
    """
    fork: str | None
    operation: Operation | None
    """Of the operation log; None for an entry of the audit log."""
    details: Mapping[str, object]
    """Of the audit log: what the entry says; else empty."""


@value_class
class FileEvent:
    """What a program did to a file of a live tree, as `Workspace.file_events` gives it."""

    at_ns: int
    op: str
    """`create`, `write`, `read`, `rename`, `unlink`, `truncate`, `setattr`; `dropped` where events are left out."""
    path: bytes | None = None
    """The file; of a `rename` its new path. None for a file that has no name any more."""
    old_path: bytes | None = None
    """Of a `rename`, and of a `create` that gives a file one more name: the path that it had before."""
    pid: int | None = None
    """The process, as the session numbers it; None where the kernel does not name it."""
    uid: int | None = None
    """Its user; None where the kernel writes out memory that any program may have changed."""
    size: int | None = None
    """How many bytes were written or handed to the kernel; of a `truncate` the new size."""
    verdict: Literal["allowed", "refused"] | None = None
    """`refused` where the program got an error."""
    error: str | None = None
    """The name of that error, such as `ENOSPC`."""
    dropped: int | None = None
    """Of `dropped`: how many events are left out; None where that is not known."""


@value_class
class UndoResult:
    """What taking an operation back, or doing it again, did."""

    operation: Operation
    """The operation that was undone or redone."""
    changed_files: tuple[ChangedFile, ...] = ()
    saved: str | None = None
    """The commit that holds what was uncommitted before."""
    warnings: tuple[Warning, ...] = ()
    sidecar_changed: tuple[ChangedFile, ...] = ()
    joined: tuple[Operation, ...] = ()
    """Other operations of the same command, which were undone or redone with it."""
    left: tuple[Operation, ...] = ()
    """Operations of the same command that stay as they are, because one of them was refused.

    The exit status is 1 then.
    """


class ConflictKind(StrEnum):
    """Why a path needs a decision."""

    CONTENT = "content"
    ADD_ADD = "add/add"
    MODIFY_DELETE = "modify/delete"
    RENAME_RENAME = "rename/rename"
    RENAME_DELETE = "rename/delete"
    RENAME_ADD = "rename/add"
    MODE = "mode"
    SYMLINK = "symlink"
    BINARY = "binary"
    SUBMODULE = "submodule"
    TYPE = "type"
    """A file on one side, a symbolic link or submodule on the other."""
    DIRECTORY_FILE = "directory/file"
    LOCATION = "location"
    """Put into a directory that the other side renamed; it was moved along."""
    DIRECTORY_RENAME = "directory rename"
    """A directory was renamed, but where what the other side put there should go is not clear."""


class MergeStrategy(StrEnum):
    """What becomes of lines that both sides changed."""

    NORMAL = "normal"
    """A conflict."""
    OURS = "ours"
    THEIRS = "theirs"
    UNION = "union"
    """The lines of both, ours first."""


class MergeMode(StrEnum):
    """What a merge makes of the history."""

    NORMAL = "normal"
    """Nothing where the target has nothing of its own: it moves on to the source's commit.

    Else a commit with two parents.
    """
    NO_FF = "no_ff"
    """A commit with two parents in any case."""
    FF_ONLY = "ff_only"
    """Moving on, or nothing."""
    SQUASH = "squash"
    """One commit that has all changes of the source, without its history."""


@value_class
class MergeOptions:
    """How to merge."""

    source: str
    """What people call the commit that is merged."""
    strategy: MergeStrategy = MergeStrategy.NORMAL
    mode: MergeMode = MergeMode.NORMAL
    message: str | None = None
    """Message of the commit; by default it names both sides."""
    in_workspace: bool = False
    """Put conflicts into the workspace, instead of only telling them."""
    joins: int | None = None
    """The operation that the same update made before: undo takes both back."""


@value_class
class ConflictSide:
    """What one side of a merge has of a path in conflict."""

    path: bytes
    git_mode: str
    """As git spells it: `100644`, `100755`, `120000`, `160000`."""
    oid: str


@value_class
class ConflictHunk:
    """Lines that both sides changed, each differently."""

    line: int
    """Where the lines begin in our version, from 1."""
    base: bytes
    ours: bytes
    theirs: bytes


@value_class
class Conflict:
    """A path that needs a decision."""

    kind: ConflictKind
    path: bytes
    base: ConflictSide | None = None
    ours: ConflictSide | None = None
    theirs: ConflictSide | None = None
    hunks: tuple[ConflictHunk, ...] = ()
    """Of text that both sides changed."""


@value_class
class MergeProgress:
    """A merge whose conflicts are in a workspace."""

    source: str
    """What is merged, as it was named."""
    theirs: str
    """Its commit."""
    unresolved: tuple[Conflict, ...]
    resolved: int
    """How many conflicts are resolved already."""
    operation: str = "merge"
    """`merge`, or the `rebase` or `cherry_pick` of which it is a part."""
    warnings: tuple[Warning, ...] = ()


MergeOutcome = Literal["up_to_date", "fast_forward", "clean", "conflicted"]


@value_class
class MergeResult:
    """What a merge did, or would do."""

    outcome: MergeOutcome
    target: str
    """The fork that is merged into."""
    source: str
    """What is merged, as it was named."""
    ours: str
    """The commit of the target before."""
    theirs: str
    """The commit that is merged."""
    tree: str | None
    """The merged files, with markers where there are conflicts.

    Stored only where a commit or a workspace holds them.
    """
    commit: str | None
    """The head of the target after; None where nothing was done, or only asked."""
    parents: tuple[str, ...] = ()
    """Those of the commit that was made, or would be."""
    changed_files: tuple[ChangedFile, ...] = ()
    """What is different in the target after, or would be: of a dry run, and where conflicts are only reported."""
    conflicts: tuple[Conflict, ...] = ()
    sidecar_changed: tuple[ChangedFile, ...] = ()
    """Ignored files of the source that came along. A dry run does not look for them."""
    saved: str | None = None
    """The checkpoint that holds what the target had not committed."""
    in_workspace: bool = False
    """Whether the conflicts are in the target's files, to be resolved."""
    warnings: tuple[Warning, ...] = ()


@value_class
class RewriteResult:
    """What rewriting the history of a fork did."""

    outcome: Literal["rewritten", "unchanged", "conflicted"]
    """`conflicted`: a commit does not fit, and the workspace holds its conflicts."""
    fork: str
    old_head: str
    head: str
    commits: tuple[str, ...] = ()
    """The new commits, the oldest first."""
    changed_files: tuple[ChangedFile, ...] = ()
    saved: str | None = None
    """The checkpoint that holds what was uncommitted before."""
    stopped_at: str | None = None
    """The commit that does not fit."""
    conflicts: tuple[Conflict, ...] = ()
    """Its conflicts."""
    warnings: tuple[Warning, ...] = ()


@value_class
class SharedPath:
    """A path that several forks have changed."""

    path: bytes
    forks: tuple[str, ...]


@value_class
class ForkPair:
    """Two forks that touch each other's work."""

    first: str
    second: str
    shared: tuple[bytes, ...]
    """Paths that both changed."""
    conflicts: tuple[Conflict, ...]
    """What merging one into the other would leave to decide; ours is the first."""


@value_class
class Overlap:
    """Which forks touch the same files, and which would conflict."""

    forks: tuple[str, ...]
    """The forks that were compared."""
    shared: tuple[SharedPath, ...]
    pairs: tuple[ForkPair, ...]
    """The pairs that share a path, or would conflict."""
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
    UNATTENDED = "unattended"
    """Its server died and the tree remains, as on overlayfs: the next process to need the workspace starts a server."""
    UNMOUNTING = "unmounting"
    """Out of the directory tree, or about to be; programs that use it may still hold it."""
    ENDED = "ended"


class SessionBackend(StrEnum):
    """Ways to mount, the best first."""

    OVERLAY = "overlay"
    """On the kernel's overlayfs, for root."""
    FUSE = "fuse"
    """On the kernel's own protocol."""
    PORTABLE = "portable"
    """Through libfuse."""


BASES = ".lower"
"""The directory, among the mounts of a vault, of the commits that commands stand on: no fork can have that name."""


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
    backend: SessionBackend = SessionBackend.FUSE
    """How it is mounted."""
    backend_reasons: tuple[str, ...] = ()
    """Why a better one was passed over, where one was."""


RunOutcome = Literal["kept", "unchanged", "discarded", "gone"]
"""What became of the fork that a program had to itself."""
UnmountOutcome = Literal["unmounted", "detached", "cut_off", "not_mounted"]


@value_class
class UnmountResult:
    """What taking a mount away did."""

    session: SessionInfo | None
    """The session that ended; None if nothing was mounted, or if no record tells of the session."""
    directory: Path | None = None
    outcome: UnmountOutcome = "unmounted"
    """`detached`: out of sight, and still used by programs; `cut_off`: taken from them."""
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
    in_use: bool = False
    """Whether programs still use it, so that the fork was kept and the session ends with the last of them."""
    repositories: tuple[bytes, ...] = ()
    """The repositories inside it for which it was kept: a push of the fork sends none of their commits."""
    left_in_git: tuple[str, ...] = ()
    """What it was kept for: branches, tags, stash entries, staged content with git's work (`stash@{0}`, `:path`)."""
    warnings: tuple[Warning, ...] = ()


@value_class
class GarbageResult:
    """What `avfs gc` gave back, or would."""

    dry_run: bool = False
    operations: int = 0
    """Operations that can no longer be undone."""
    workspaces: int = 0
    """Workspaces of deleted forks that left the trash."""
    forks: tuple[str, ...] = ()
    """Of which forks these were, as far as the operation log says that: undo cannot bring back these files."""
    refs: int = 0
    """Refs that only kept something for undo, and are gone."""
    sidecars: int = 0
    """Old checkpoints that have only git's tree from now on: what they had beside it (ignored files) is gone."""
    objects: int = 0
    """Objects that nothing reached, and that are gone."""
    waiting: int = 0
    """Objects that nothing reaches, and that stay until they are old enough."""
    packs_before: int = 0
    packs_after: int = 0
    freed_bytes: int | None = None
    """On disk, of a dry run about so much; None where nothing was done."""
    warnings: tuple[Warning, ...] = ()


@value_class
class WorkspaceUsage:
    """The room that the workspace of a fork takes on disk."""

    fork: str
    size_bytes: int


@value_class
class VaultStats:
    """What a vault holds, and the room that its parts take on disk."""

    forks: int
    """Forks that have a commit."""
    labels: int
    """Labels of checkpoints."""
    packs: int
    packed_objects: int
    """Objects in packs; an object in two packs counts twice."""
    objects_bytes: int
    """History: packs and loose objects."""
    workspaces_bytes: int
    trash_bytes: int
    """Workspaces of deleted forks, which `undo` brings back until `avfs gc` removes them."""
    log_bytes: int
    """The operation log with its index."""
    caches_bytes: int
    """The search index and other data that avfs makes or fetches again."""
    other_bytes: int
    total_bytes: int
    workspaces: tuple[WorkspaceUsage, ...] = ()
    """The workspace of each fork that has one, the largest first."""
    max_bytes: int | None = None
    """The limit of the setting `quota.vault_bytes`; None for no limit."""
    held_bytes: int | None = None
    """What the vault holds of it, with what open forks have reserved.

    None without a limit, or where that is not known.
    """


@value_class
class MaintenanceStep:
    """One step of maintenance."""

    name: str
    """`refs`, `packs`, `oplog`, `audit`, `fold` or `gc`."""
    is_due: bool
    amount: int
    """How much was due: refs with files of their own, packs, bytes of the log without an index, days, entries of
    upper layers. 0: it is not due."""
    handled: int | None = None
    """How many of them it handled; None if it did not run, or failed."""
    took_ms: int | None = None


@value_class
class MaintenanceResult:
    """What maintenance did, or would do."""

    dry_run: bool
    automatic: bool
    """Whether avfs starts it in the background by itself: the setting `maintenance.auto`."""
    steps: tuple[MaintenanceStep, ...]
    last_at_ns: int | None = None
    """When it last ended, in nanoseconds since the epoch; None if that is not known."""
    last_steps: tuple[MaintenanceStep, ...] = ()
    """The steps that were due then."""
    is_busy: bool = False
    """Whether another process maintains the vault, so that nothing was done."""
    warnings: tuple[Warning, ...] = ()


Severity = Literal["error", "warning", "note"]


@value_class
class Problem:
    """Something that the doctor found."""

    code: str
    severity: Severity
    """`note`: it could not be examined, which is no fault."""
    description: str
    remedy: str
    fixable: bool = False
    fixed: bool = False

    @property
    def is_left(self) -> bool:
        """Whether it is a fault that is still there."""
        return not self.fixed and self.severity != "note"


@value_class
class DoctorReport:
    """What the doctor looked at and found."""

    vault: str
    checked: tuple[str, ...]
    problems: tuple[Problem, ...] = ()

    @property
    def healthy(self) -> bool:
        """Whether nothing is left to mend."""
        return not any(problem.is_left for problem in self.problems)


@value_class
class HostAbility:
    """Something that avfs can use of a machine."""

    name: str
    works: bool
    """Whether it worked when it was tried."""
    found: str
    """What the trial showed."""
    purpose: str
    """What avfs needs it for."""
    remedy: str | None
    """How to get it; None where it works."""
    packages: Mapping[str, str]
    """The package that brings it where it is missing, by distribution: `debian`, `fedora`."""


@value_class
class HostReport:
    """What a machine can do for avfs, and for one of its users."""

    user_id: int
    directory: Path
    """Where files were tried: the home of avfs, or the nearest directory above it that exists and can be written."""
    abilities: tuple[HostAbility, ...]


AuditOutcome = Literal["done", "failed", "refused", "asked", "admitted"]
"""How an event of the audit log ended."""


class HookState(StrEnum):
    """Whether a hook runs."""

    MISSING = "missing"
    """The file is missing, or cannot be executed."""
    NOT_ENABLED = "not_enabled"
    """It is there, and its owner did not enable it: it does not run."""
    ENABLED = "enabled"
    CHANGED = "changed"
    """It was changed or removed since it was enabled: it does not run, and what it could refuse is refused."""


@value_class
class HookInfo:
    """A program that a vault runs, or may run, at the ends of operations."""

    name: str
    path: Path
    installed: bool
    """Whether it is there and may be executed."""
    state: HookState


class PluginKind(StrEnum):
    """What a plug-in is written in."""

    PYTHON = "python"
    LUA = "lua"
    WASM = "wasm"


class PluginState(StrEnum):
    """Whether a plug-in is asked."""

    NOT_ENABLED = "not_enabled"
    """It is installed, and the user did not enable it for this vault: it is not asked."""
    ENABLED = "enabled"
    BROKEN = "broken"
    """It is not what was enabled, or is gone: every change is refused until it is enabled again, or disabled."""


@value_class
class PluginInfo:
    """A program that is asked, or may be asked, before each change of a workspace."""

    name: str
    kind: PluginKind
    source: str
    """The function and its distribution; of a file its SHA-256."""
    state: PluginState


# --- remotes ------------------------------------------------------------------------------------------


@value_class
class RemoteInfo:
    """A remote: another repository that a vault knows by a name."""

    name: str
    url: str
    """Its address, a password in it left out."""
    push_url: str | None = None
    """Where pushes go, where that is another place."""
    branches: int = 0
    """How many branches of it are known here."""


@value_class
class RemoteBranch:
    """A branch of a remote as it was when it was last fetched: perhaps a fork of another vault."""

    name: str
    """With the remote's name in front, as it is given to `fork --at` and `merge`."""
    remote: str
    branch: str
    head: str
    fork: str | None = None
    """The fork of the same name here, if there is one."""
    ahead: int | None = None
    """How many commits that fork has which this branch has not.

    None where there is no such fork or too many to count.
    """
    behind: int | None = None
    """How many commits it lacks."""


@value_class
class FetchResult:
    """What a fetch brought."""

    remote: str
    url: str
    moves: tuple[RefMove, ...] = ()
    """What moved, is new or is gone, of what the remote has."""
    messages: tuple[str, ...] = ()
    """What the server said."""
    warnings: tuple[Warning, ...] = ()


PushOutcome = Literal["new", "updated", "forced", "deleted", "unchanged", "rejected"]


@value_class
class PushedRef:
    """What became of one ref that was pushed."""

    ref: str
    """Its full name on the remote."""
    outcome: PushOutcome
    old: str | None = None
    """What it was known to hold before."""
    new: str | None = None
    reason: str | None = None
    """Why it was rejected."""


@value_class
class PushResult:
    """What a push did."""

    remote: str
    url: str
    refs: tuple[PushedRef, ...] = ()
    messages: tuple[str, ...] = ()
    """What the server said."""
    warnings: tuple[Warning, ...] = ()


@value_class
class PullResult:
    """What a pull did: a fetch, and then a merge of what it brought, or a rebase onto it."""

    fetch: FetchResult
    upstream: str
    merge: MergeResult | None
    rebase: RewriteResult | None = None
    warnings: tuple[Warning, ...] = ()


@value_class
class CloneResult:
    """A vault that was cloned."""

    vault: VaultInfo
    url: str
    fork: str
    """The first fork: the remote's own branch."""
    head: str | None
    branches: int
    """How many branches the remote has."""
    messages: tuple[str, ...] = ()
    warnings: tuple[Warning, ...] = ()


@value_class
class PrefetchResult:
    """What was brought into a partial clone."""

    checkpoint: str
    """The commit whose files were meant."""
    files: int
    """How many contents are meant."""
    fetched: int
    """How many of them were not here."""


@value_class
class ApplyResult:
    """What laying the changes of a fork on a directory did."""

    fork: str
    directory: Path
    since: str
    """The commit whose files the directory is compared with."""
    changed_files: tuple[ChangedFile, ...] = ()
    """What was written, or would be."""
    warnings: tuple[Warning, ...] = ()


# --- warnings -----------------------------------------------------------------------------------------


def find_warnings(result: object) -> tuple[Warning, ...]:
    """List each warning of a result once, including those of the results in it.

    Only mappings, lists, tuples and values with `warnings` can hold such a result, so long lists of files cost little.
    """
    found: dict[Warning, None] = {}
    pending = [result]
    while pending:
        value = pending.pop()
        inner: Iterable[object] = ()
        if isinstance(value, Mapping):
            inner = value.values()
        elif isinstance(value, list | tuple):
            inner = value
        elif hasattr(value, "warnings"):
            found.update(dict.fromkeys(value.warnings))
            inner = [item for name, item in as_dict(value).items() if name != "warnings"]
        pending += reversed(list(inner))
    return tuple(found)
