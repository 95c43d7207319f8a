"""The results that are more than one value of the SDK: lists under a name, and the like.

Decided here: their fields. All are JSON objects, never bare lists, so that fields can be added. Commands return them,
`records` maps them, `output.views` shows them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypedDict, final

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from avfs_git.model import Checkpoint as CheckpointValue
    from avfs_git.model import (
        CheckpointDetails,
        Diff,
        FileInfo,
        FindResult,
        ForkInfo,
        ForkStanding,
        GrepResult,
        HistorySearchResult,
        HookInfo,
        LogEntry,
        MergeResult,
        Operation,
        PathVersion,
        PluginInfo,
        RemoteBranch,
        RemoteInfo,
        RunOutcome,
        SearchResult,
        SessionInfo,
        Status,
        TreeNode,
        UndoResult,
        VaultInfo,
    )
    from avfs_git.proxy.exec.steplog import Step
    from avfs_git.proxy.policy.approvals import Approval
    from avfs_git.proxy.policy.decision import Action, Category, Decision
    from avfs_git.workspace.vault.log.audit import AuditEntry


class VersionResult(TypedDict):
    """What `avfs --version --json` gives."""

    version: str


class Whereabouts(TypedDict):
    """Which vault and fork commands mean."""

    vault: str | None
    fork: str | None
    """None where no vault or no fork is named, and the vault has several forks and no default, or none."""
    forks: Sequence[str]
    origin: Path | None
    """The directory whose forks the vault has."""
    mounted_at: Path | None
    status: Status | None
    """What the fork's next checkpoint would save."""
    undo: Operation | None
    """What `avfs undo` takes back next, as far as the log has it; null where it would be refused."""


class VaultList(TypedDict):
    """The vaults of the home."""

    vaults: Sequence[VaultInfo]


class TrustedList(TypedDict):
    """The vaults whose hooks and settings the user trusts, including vaults of other users."""

    trusted: Sequence[Path]


class ConfigResult(TypedDict):
    """Settings of a vault or a fork: all of them, or the setting that was read or changed."""

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


class HookAnswer(TypedDict):
    """What `hook` tells a harness."""

    event: str
    """As the harness calls it."""
    answer: str
    """The document or the path that the harness gets on standard output; empty where it hears nothing."""


class SetupChange(TypedDict):
    """What `setup` does with a file."""

    path: Path
    action: str
    """`create`, `change`, `remove`, or `keep` where nothing has to change."""
    diff: str
    """As a unified diff."""


class SetupCheck(TypedDict):
    """One part of what `setup --check` proves."""

    part: str
    passed: bool
    detail: str


class SetupResult(TypedDict):
    """What `setup` does for a harness."""

    harness: str
    scope: str
    """`project` or `user`."""
    root: Path
    changes: Sequence[SetupChange]
    """Empty with `--check`."""
    checks: Sequence[SetupCheck]
    """Empty without `--check`."""
    notes: Sequence[str]
    """What avfs cannot do for this harness, and what the user has to do."""


class AttemptResult(TypedDict):
    """One attempt of several."""

    number: int
    fork: str
    exit_code: int | None
    """Null while it runs, and for ever if avfs was killed in the middle."""
    duration_ms: int | None
    output: Path
    """The file with what the program wrote."""
    diff: Diff | None
    """How the files differ from those at the start of the program, without lines; null if the fork is gone."""


@final
class AttemptsResult(TypedDict):
    """Attempts that belong together: what `run --attempts` and `attempts compare` give."""

    name: str
    vault: str
    command: Sequence[str]
    attempts: Sequence[AttemptResult]
    next: Mapping[str, str]
    """Commands that continue from here, by what they are for."""


class PickedAttempt(TypedDict):
    """The attempt that was kept."""

    number: int
    fork: str
    deleted: Sequence[str]
    """The forks of the others; `avfs undo` restores them."""
    next: Mapping[str, str]


@final
class ProgramRun(TypedDict):
    """What a program did in a fork of its own: what `run` gives."""

    fork: str
    vault: str
    directory: Path
    """Where the fork is, or was, mounted."""
    command: Sequence[str]
    exit_code: int
    """128 + N if signal N killed it; 126 or 127 if it cannot be executed."""
    duration_ms: int
    outcome: RunOutcome
    """`unchanged` or `discarded`: the fork is deleted then; `gone`: another process deleted it during the run."""
    mounted: bool
    """Whether the fork is still mounted: other programs use it, or it was mounted before."""
    diff: Diff
    """How the files differ from those at the start of the program, without lines."""
    checkpoints: Sequence[CheckpointValue]
    """The commits that were made meanwhile, the newest first."""
    pushed: bool
    """Whether the clone that the fork was made of has all of them."""
    next: Mapping[str, str]
    """Commands that continue from here, by what they are for."""


@final
class ForkList(TypedDict):
    """The forks of a vault."""

    forks: Sequence[ForkInfo]
    standings: Sequence[ForkStanding]
    """How far each of them that has a commit is from its upstream, and where it is mounted."""


@final
class RemoteBranchList(TypedDict):
    """Branches of remotes, as they were when they were last fetched: what `fork list --remote` gives."""

    branches: Sequence[RemoteBranch]


class PluginList(TypedDict):
    """The plug-ins that are enabled for a vault, or could be."""

    plugins: Sequence[PluginInfo]


class HookList(TypedDict):
    """The hooks that a vault may have."""

    hooks: Sequence[HookInfo]


class RemoteList(TypedDict):
    """The remotes of a vault."""

    remotes: Sequence[RemoteInfo]


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


@final
class DrawnHistory(TypedDict):
    """A history as `git log` draws it."""

    text: bytes


class ShowResult(TypedDict):
    """A checkpoint and what it changed."""

    details: CheckpointDetails
    diff: Diff


@final
class Merges(TypedDict):
    """Several merges into one fork, in the order in which they were made."""

    merges: Sequence[MergeResult]


@final
class Updates(TypedDict):
    """The merges of an update, in the order in which they were made."""

    merges: Sequence[MergeResult]
    remotes: Sequence[RemoteInfo]
    """The remotes of the vault; avfs has just fetched from the remote that a merge names."""


@final
class MergeAborted(TypedDict):
    """A merge, rebase or cherry-pick that was given up."""

    aborted: UndoResult


class OperationStat(TypedDict):
    """How much an operation changed."""

    files: int
    additions: int
    deletions: int
    beside: int
    """Paths that are ignored or not known to git."""


class OperationList(TypedDict):
    """Operations, the newest first."""

    operations: Sequence[Operation]
    stats: Sequence[OperationStat]
    """With `--stat`: what each changed, in the same order; else empty."""


@final
class FoundEntries(TypedDict):
    """What `find` found."""

    results: Sequence[FindResult]
    """One of each state that was looked through."""


@final
class Found(TypedDict):
    """What `grep` found."""

    results: Sequence[GrepResult]
    """One of each state that was searched."""


@final
class FilesWithWords(TypedDict):
    """What `search` found."""

    results: Sequence[SearchResult]
    """One of each state that was searched."""
    history: HistorySearchResult | None
    """With `--history`: the contents that are gone; `results` is empty then."""


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


class UnreadFile(TypedDict):
    """A path whose content could not be read."""

    path: bytes
    code: str
    """The code of the error, as in `error`."""
    message: str


@final
@dataclass(frozen=True)
class Contents:
    """The contents of several files, in the order in which they were named."""

    files: Sequence[Content]
    unread: Sequence[UnreadFile]
    """The paths where nothing is, or no file."""

    @property
    def success(self) -> bool:
        """Whether all of them were read."""
        return not self.unread


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


class ShownRule(TypedDict):
    """One rule about commands; every condition that it has must hold."""

    scope: str
    """`built-in`, `user` or `vault`."""
    name: str
    categories: Sequence[Category]
    """Empty for all, as the other conditions."""
    commands: Sequence[str]
    arguments: Sequence[str]
    paths: Sequence[str]
    action: Action
    reason: str


class PolicyRules(TypedDict):
    """The rules that hold, in the order in which they are asked."""

    rules: Sequence[ShownRule]
    user_file: Path | None
    """None if there is none."""
    vault_file: Path | None
    vault_is_trusted: bool
    """Whether the vault's rules may also be milder than the user's."""


class PolicyCheck(TypedDict):
    """What the policy says to a command."""

    command: str
    command_mode: str
    """`argv` or `shell`."""
    decision: Decision


class PolicyPaths(TypedDict):
    """Where the policy files are, or would be."""

    user: Path
    vault: Path


class ApprovalList(TypedDict):
    """Requests for approval, the newest first."""

    approvals: Sequence[Approval]


class AuditLines(TypedDict):
    """Events of the audit log, the newest first."""

    entries: Sequence[AuditEntry]
    verified: int | None
    """How many lines were checked and follow each other; None where that was not asked for."""
    released: AuditEntry | None
    """With `--release`, the event that says which lines went; with `--verify`, that of the last release.

    None for none.
    """


class CommandSession(TypedDict):
    """A session of commands in a workspace."""

    fork: str
    start: str | None
    """The commit with the state before the first command."""
    steps: Sequence[Step]
    discarded: bool


class Served(TypedDict):
    """A server that has ended."""

    url: str


class CompletionScript(TypedDict):
    """`avfs completion`."""

    shell: str
    script: str


class SchemaResult(TypedDict):
    """The JSON Schema of a kind of document, or the kinds that have one."""

    kind: str | None
    kinds: Sequence[str]
    """All kinds, where none was named."""
    document: Mapping[str, object] | None
    """The schema of the whole document."""
