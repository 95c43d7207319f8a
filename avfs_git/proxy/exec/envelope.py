"""The request and the result of `exec`: the fields of the envelope.

Decided here: the names, meanings and defaults of these fields. `records` converts them to JSON. Values without
behaviour.
"""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Literal

from avfs_git.model import ChangedFile, Warning
from avfs_git.proxy.policy.decision import Decision
from avfs_git.values import value_class


class View(StrEnum):
    """How a command sees the workspace."""

    READ_ONLY = "read_only"
    """The kernel refuses every change to the workspace and its vault (EROFS)."""
    READ_WRITE = "read_write"


@value_class
class Command:
    """A command to run in a workspace: either `argv` or `shell`, and the options that `sdk.options` explains."""

    argv: tuple[bytes, ...] | None = None
    shell: str | None = None
    cwd: bytes = b""
    env: tuple[tuple[str, str], ...] = ()
    let_in: tuple[str, ...] = ()
    stdin: bytes | int | None = None
    terminal: bool = False
    timeout_ms: int | None = 300_000
    grace_ms: int = 2000
    readonly: bool = False
    writable: bool = False
    checkpoint: bool = True
    commit: bool = True
    commit_failed: bool = True
    message: str | None = None
    max_output: int = 1 << 20
    max_output_file: int = 1 << 30
    backend: str = "auto"
    root: Path | None = None
    approve: str | None = None
    isolate: bool = False
    network: bool = False


@value_class
class ExecResult:
    """How a command ended, and the changes that it made."""

    vault: str
    fork: str
    mountpoint: Path
    """Where the command saw the workspace."""
    cwd: str
    """The command's directory, from the root of the workspace."""
    command: str
    command_mode: Literal["argv", "shell"]
    exit_code: int
    """The command's status.

    128 + N if signal N killed it, 124 if it timed out, 126 or 127 if it could not be executed.
    """
    signal: int | None
    timed_out: bool
    interrupted: bool
    stdout: bytes
    stderr: bytes
    stdout_size: int
    """Size of the whole output in bytes."""
    stderr_size: int
    stdout_truncated: bool
    """Whether the middle of `stdout` is left out."""
    stderr_truncated: bool
    stdout_file: Path | None
    """The file with the whole output, if `stdout` is truncated."""
    stderr_file: Path | None
    readonly: bool
    """Whether the caller asked for a read-only view."""
    view: View
    """`read_only` also where the policy decided that the command only reads."""
    duration_ms: float
    """Duration of the command alone."""
    total_ms: float
    checkpoint: str | None
    """The commit of the changes from before the command; None if there were none, or they were not saved."""
    commit: str | None
    """The commit of the command's changes; None without changes, or if they were not committed."""
    changed_files: tuple[ChangedFile, ...]
    """The files that the command changed, from the commit."""
    sidecar_changed: tuple[ChangedFile, ...]
    """The ignored files, nested repositories and empty directories that the command changed."""
    decision: Decision
    backend: str
    backend_reasons: tuple[str, ...]
    """Why each better backend was passed over."""
    left_processes: int
    """Number of processes that the command left behind; avfs killed them. Not counted for an isolated command."""
    left_out_variables: tuple[str, ...] = ()
    """Variables of avfs's environment that the command did not get."""
    isolated: bool = False
    """Whether the command ran under bubblewrap."""
    terminal: bool = False
    """Whether the command had a terminal: `stdout` is what that showed, and `stderr` is empty."""
    kept_mounted: bool = False
    state: Literal["completed"] = "completed"
    warnings: tuple[Warning, ...] = ()

    @property
    def success(self) -> bool:
        """Whether the command's status was 0."""
        return self.exit_code == 0


@value_class
class ExecPlan:
    """What `exec` would do with a command: the result of a dry run."""

    vault: str
    fork: str
    mountpoint: Path
    cwd: str
    command: str
    command_mode: Literal["argv", "shell"]
    decision: Decision
    backend: str
    backend_reasons: tuple[str, ...]
    view: View
    would_checkpoint: bool
    """Whether uncommitted changes would be saved first."""
