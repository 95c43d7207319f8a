"""A fork as a sandbox of deepagents: its live tree, for an agent's commands and files.

Decided here: what a path is: an absolute one of this machine, so that commands and file tools mean the same files; and
what a change is called in history. `adapters.live` decides when the fork is mounted and what is saved. deepagents makes
its file tools of commands, so that they reach what a command reaches. Threads may share a sandbox: deepagents uses
several.
"""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from deepagents.backends.protocol import (
    DeleteResult,
    EditResult,
    ExecuteResponse,
    FileDownloadResponse,
    FileOperationError,
    FileUploadResponse,
    WriteResult,
)
from deepagents.backends.sandbox import BaseSandbox

from avfs_git.adapters.live import LiveFork
from avfs_git.cli.environment import program_environment

_LOG = logging.getLogger(__name__)
_MAX_OUTPUT = 8 << 20
"""Bytes of a command's output that an answer has; of a longer one it says so."""
_TIMED_OUT = 124
_GRACE_S = 2.0


class ForkSandbox(BaseSandbox):  # type: ignore[misc]  # deepagents is not installed where types are checked
    """The live tree of a fork; making the object mounts it."""

    def __init__(
        self,
        vault: str | None = None,
        fork: str | None = None,
        *,
        home: Path | None = None,
        env: Mapping[str, str] | None = None,
        timeout_s: int = 300,
        checkpoints: bool = True,
    ) -> None:
        """Use a fork.

        Args:
            vault: The vault's name; the home's current vault by default.
            fork: The fork, which exists; the vault's default fork by default.
            home: The directory of the vaults; that of the command line by default.
            env: Variables for every command, beside those of this process.
            timeout_s: Time limit of a command that names none, in seconds.
            checkpoints: Save a checkpoint after each command that changed files.

        Raises:
            AvfsError: If the fork cannot be mounted.
        """
        super().__init__()
        self._fork = LiveFork(vault, fork, home=home, checkpoints=checkpoints)
        self.root = self._fork.mount()
        """Where commands start."""
        self._env = dict(env or {})
        self._timeout_s = timeout_s
        self._guard = threading.Lock()
        self._called = threading.local()

    @property
    def id(self) -> str:
        """`VAULT@FORK`."""
        return self._fork.name or ""

    def stop(self) -> None:
        """Save a last checkpoint and unmount the fork."""
        with self._guard:
            self._fork.stop()

    def close(self) -> None:
        """Close the vault; the fork stays mounted."""
        with self._guard:
            self._fork.close()

    def execute(self, command: str, *, timeout: int | None = None) -> ExecuteResponse:
        """Run a command in the live tree, then save what has changed.

        At its time limit all its processes are killed. Where the checkpoint is refused, the log says why: an additional
        line of output would break deepagents' file tools, which parse it.
        """
        try:
            return self._run(command, timeout or self._timeout_s)
        finally:
            with self._guard:
                refused = self._fork.save(getattr(self._called, "subject", command))
            if refused:
                _LOG.warning("%s", refused.strip())

    def _run(self, command: str, timeout_s: int) -> ExecuteResponse:
        running = subprocess.Popen(
            ["/bin/sh", "-c", command],
            cwd=self.root,
            env=program_environment(self._env, self.root),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        with running:
            status: int | None = None
            try:
                output, _ = running.communicate(timeout=timeout_s)
                status = running.returncode if running.returncode >= 0 else 128 - running.returncode
            except subprocess.TimeoutExpired:
                os.killpg(running.pid, signal.SIGKILL)
                try:
                    output, _ = running.communicate(timeout=_GRACE_S)
                except subprocess.TimeoutExpired as late:  # a process that left the session holds the output open
                    output = late.output or b""
                output += f"\nended after its time limit of {timeout_s} s\n".encode()
                status = _TIMED_OUT
            finally:
                if status is None:
                    os.killpg(running.pid, signal.SIGKILL)
        text = output[:_MAX_OUTPUT].decode("utf-8", "replace")
        return ExecuteResponse(output=text, exit_code=status, truncated=len(output) > _MAX_OUTPUT)

    # --- files -----------------------------------------------------------------------------------------------

    @contextmanager
    def _as(self, subject: str) -> Iterator[None]:
        """Call what commands change in a block by this name, instead of their text."""
        self._called.subject = subject
        try:
            yield
        finally:
            del self._called.subject

    def write(self, file_path: str, content: str) -> WriteResult:
        """Write a new file."""
        with self._as(f"write {file_path}"):
            return super().write(file_path, content)

    def edit(self, file_path: str, old_string: str, new_string: str, replace_all: bool = False) -> EditResult:
        """Replace text in a file."""
        with self._as(f"edit {file_path}"):
            return super().edit(file_path, old_string, new_string, replace_all)

    def delete(self, file_path: str) -> DeleteResult:
        """Delete a file or a directory."""
        with self._as(f"delete {file_path}"):
            return super().delete(file_path)

    def upload_files(self, files: list[tuple[str, bytes]]) -> list[FileUploadResponse]:
        """Write files, with missing directories; the next command's checkpoint has them."""
        return [FileUploadResponse(path=path, error=_write(path, content)) for path, content in files]

    def download_files(self, paths: list[str]) -> list[FileDownloadResponse]:
        """Read files."""
        return [_read(path) for path in paths]


def _write(path: str, content: bytes) -> FileOperationError | str | None:
    if not Path(path).is_absolute():
        return "invalid_path"
    try:
        place = Path(path)
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(content)
    except (OSError, ValueError) as error:
        return _name(error)
    return None


def _read(path: str) -> FileDownloadResponse:
    if not Path(path).is_absolute():
        return FileDownloadResponse(path=path, error="invalid_path")
    try:
        return FileDownloadResponse(path=path, content=Path(path).read_bytes())
    except (OSError, ValueError) as error:
        return FileDownloadResponse(path=path, error=_name(error))


def _name(error: OSError | ValueError) -> FileOperationError | str:
    """Say an error as the protocol does."""
    kinds: tuple[tuple[type[Exception], str], ...] = (
        (FileNotFoundError, "file_not_found"),
        (PermissionError, "permission_denied"),
        (IsADirectoryError, "is_directory"),
        (NotADirectoryError, "invalid_path"),
        (ValueError, "invalid_path"),
    )
    return next((said for kind, said in kinds if isinstance(error, kind)), str(error))
