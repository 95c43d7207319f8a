"""What is asked of `exec`, and what it answers: the fields of the envelope.

Decided here: the names and meanings of these fields; `schema/proxy_exec_result.json` is the same for programs, and tests compare
every answer with it. `cli.records` spells them as JSON. Values without behaviour, but for what follows from their fields.
"""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Literal

from avfs_git.model import ChangedFile, Warning
from avfs_git.proxy.policy.request import Decision
from avfs_git.values import value_class

TIMEOUT_MS = 300_000
"""How long a command may last where nobody says it."""
MAX_OUTPUT = 1 << 20
MAX_OUTPUT_FILE = 1 << 30
"""How many bytes of each stream stand in the result where nobody says it."""


class View(StrEnum):
    """How a command sees the workspace."""

    READ_ONLY = "read_only"
    """The kernel refuses every change to the workspace and its vault (EROFS)."""
    READ_WRITE = "read_write"


@value_class
class Command:
    """A command to run in a workspace. Exactly one of `argv` and `shell` is given."""

    argv: tuple[bytes, ...] | None = None
    shell: str | None = None
    """Text for `bash`, or `sh` where there is none."""
    cwd: bytes = b""
    """A path in the workspace."""
    env: tuple[tuple[str, str], ...] = ()
    """What is added to the environment of avfs."""
    let_in: tuple[str, ...] = ()
    """Variables of avfs's own environment that it gets although they look like secrets, or although it is isolated."""
    stdin: bytes | int | None = None
    """What it reads: bytes, or a descriptor; None for nothing."""
    timeout_ms: int | None = TIMEOUT_MS
    """None for no limit."""
    grace_ms: int = 2000
    """How long it may take to end by itself after SIGTERM."""
    readonly: bool = False
    """Refuse every change to files."""
    writable: bool = False
    """Let it change files although the policy takes it for a command that only reads; save what is uncommitted before it."""
    checkpoint: bool = True
    """Whether to save before it what is uncommitted, where the policy says so."""
    commit: bool = True
    """Whether to commit what it changed."""
    commit_failed: bool = True
    """Whether to commit also if it fails."""
    message: str | None = None
    """The commit's message; by default it names the command."""
    max_output: int = MAX_OUTPUT
    """How many bytes of each stream to keep in the result."""
    max_output_file: int = MAX_OUTPUT_FILE
    """How many bytes the file of a longer one holds at most."""
    backend: str = "auto"
    """`auto`, or one of `backends.shown.BackendName`."""
    root: Path | None = None
    """Where the command sees the workspace, for backends that can choose."""
    approve: str | None = None
    """The token of an approval."""
    isolate: bool = False
    """Whether it runs under bubblewrap, see `isolate`."""
    network: bool = False
    """Whether it has the network then."""


@value_class
class ExecResult:
    """How a command ended, and what it changed."""

    vault: str
    fork: str
    mountpoint: Path
    """Where it saw the workspace."""
    cwd: str
    """Its directory, from the root of the workspace."""
    command: str
    command_mode: Literal["argv", "shell"]
    exit_code: int
    """Its own status; 128 + N if signal N killed it, 124 if it timed out, 126 or 127 if it could not be executed."""
    signal: int | None
    timed_out: bool
    interrupted: bool
    stdout: bytes
    stderr: bytes
    stdout_size: int
    """How many bytes it wrote in all."""
    stderr_size: int
    stdout_truncated: bool
    """Whether `stdout` leaves out the middle."""
    stderr_truncated: bool
    stdout_file: Path | None
    """Where all of it is, if `stdout` leaves something out."""
    stderr_file: Path | None
    readonly: bool
    """Whether a read-only view was asked for."""
    view: View
    """`read_only` also where the policy decided that the command only reads."""
    duration_ms: float
    """Of the command alone."""
    total_ms: float
    checkpoint: str | None
    """The commit that holds what was uncommitted before; None if nothing was, or it was not saved."""
    commit: str | None
    """The commit that holds what the command changed; None if it changed nothing, or it was not committed."""
    changed_files: tuple[ChangedFile, ...]
    """Exactly what the command changed, from the commit."""
    sidecar_changed: tuple[ChangedFile, ...]
    """Ignored files, nested repositories and empty directories that it changed."""
    decision: Decision
    backend: str
    backend_reasons: tuple[str, ...]
    """Why each better backend was passed over."""
    left_processes: int
    """How many processes it left behind; they were killed. 0 for an isolated command, whose processes are not counted."""
    left_out_variables: tuple[str, ...] = ()
    """The variables of avfs's own environment that it did not get."""
    isolated: bool = False
    """Whether it ran under bubblewrap."""
    kept_mounted: bool = False
    state: Literal["completed"] = "completed"
    warnings: tuple[Warning, ...] = ()

    @property
    def success(self) -> bool:
        """Whether the command's status was 0."""
        return self.exit_code == 0


@value_class
class ExecPlan:
    """What would be done with a command: the answer to a dry run."""

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
    """Whether what is uncommitted would be saved before."""
