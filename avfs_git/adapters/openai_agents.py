"""A fork for the OpenAI Agents SDK: the executor of its shell tool, and the editor of its apply-patch tool.

Decided here: a command runs through `exec`, so the vault's policy is asked, and what it changes is a commit; no mount
is needed. A command that needs a person's approval does not run: the model is told how a person grants it, and the same
command runs when it comes again. An error of avfs is an answer for the model, never an exception. Shell and editor may
share a fork; each makes one call at a time, in a thread, so that the event loop goes on. A call that is given up ends
its command.
"""

from __future__ import annotations

import asyncio
import posixpath
import shlex
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from agents import (
    ApplyPatchOperation,
    ShellCallOutcome,
    ShellCommandOutput,
    ShellCommandRequest,
    ShellResult,
    apply_diff,
)
from agents.editor import ApplyPatchResult

from avfs_git.cli.environment import open_home
from avfs_git.errors import ApprovalNeeded, ApprovalRefused, AvfsError, ContentChanged
from avfs_git.proxy.exec.envelope import ExecResult
from avfs_git.sdk import Workspace
from avfs_git.sdk.workspace.commands import Running
from avfs_git.sdk.workspace.modelpaths import find_path

_MAX_OUTPUT = 1 << 20
_T = TypeVar("_T")


class _Fork:
    """A workspace that one call at a time uses."""

    def __init__(self, vault: str | None, fork: str | None, home: Path | None) -> None:
        self._home = open_home(home)
        self._workspace: Workspace = self._home.open_vault(vault).workspace(fork)
        self._guard = threading.Lock()

    async def _do(self, call: Callable[[Workspace], _T]) -> _T:
        def work() -> _T:
            with self._guard:
                return call(self._workspace)

        return await asyncio.to_thread(work)

    def close(self) -> None:
        """Close the vault."""
        self._home.close()


class ForkShell(_Fork):
    """The executor of a `ShellTool`."""

    def __init__(
        self, vault: str | None = None, fork: str | None = None, *, home: Path | None = None, timeout_ms: int = 300_000
    ) -> None:
        """Use a fork.

        Args:
            vault: The vault's name; the home's current vault by default.
            fork: The fork, which exists; the vault's default fork by default.
            home: The directory of the vaults; that of the command line by default.
            timeout_ms: Time limit of a command that names none, in milliseconds.
        """
        super().__init__(vault, fork, home)
        self._timeout_ms = timeout_ms
        self._tokens: dict[str, str] = {}
        """Of commands that wait for a person."""

    async def __call__(self, request: ShellCommandRequest) -> ShellResult:
        """Run the commands of a call, one after another, until one reaches its time limit."""
        action = request.data.action
        output: list[ShellCommandOutput] = []
        for command in action.commands:
            output.append(await self._run(command, action.timeout_ms or self._timeout_ms))
            if output[-1].status == "timeout":
                break
        return ShellResult(output=output, max_output_length=action.max_output_length)

    async def _run(self, command: str, timeout_ms: int) -> ShellCommandOutput:
        running: list[Running] = []
        is_over = threading.Event()

        def run(workspace: Workspace) -> ExecResult:
            token = self._tokens.get(command)
            with workspace.exec_stream(
                shell=command, timeout_ms=timeout_ms, max_output=_MAX_OUTPUT, approve=token
            ) as started:
                running.append(started)
                if is_over.is_set():
                    started.stop()
                for _ in started:
                    pass
            self._tokens.pop(command, None)
            return started.result

        try:
            result = await self._do(run)
        except asyncio.CancelledError:
            is_over.set()
            for started in running:
                started.stop()
            raise
        except AvfsError as error:
            self._note_approval(command, error)
            return ShellCommandOutput(
                stderr=_say(error), outcome=ShellCallOutcome("exit", error.exit_code), command=command
            )
        return ShellCommandOutput(
            stdout=result.stdout.decode("utf-8", "replace"),
            stderr=result.stderr.decode("utf-8", "replace"),
            outcome=ShellCallOutcome("timeout") if result.timed_out else ShellCallOutcome("exit", result.exit_code),
            command=command,
            provider_data={"commit": result.commit} if result.commit is not None else None,
        )

    def _note_approval(self, command: str, error: AvfsError) -> None:
        """Keep the token of a command that waits for a person; forget a token that is denied, used or over."""
        approvals = f"`avfs --vault {shlex.quote(self._workspace.vault.name)} approvals"
        if isinstance(error, ApprovalNeeded):
            token = self._tokens[command] = str(error.details["token"])
            error.hint = f"A person grants it with {approvals} grant {token.partition('.')[0]}`; then run it again."
        elif isinstance(error, ApprovalRefused) and command in self._tokens:
            if error.hint is None:  # it will never be granted
                del self._tokens[command]
            else:
                error.hint = f"{error.hint.replace('`avfs approvals', approvals)} Then run it again."


class ForkEditor(_Fork):
    """The editor of an `ApplyPatchTool`: each operation is one of `avfs undo`."""

    def __init__(self, vault: str | None = None, fork: str | None = None, *, home: Path | None = None) -> None:
        """Use a fork; the arguments are those of `ForkShell`."""
        super().__init__(vault, fork, home)

    async def create_file(self, operation: ApplyPatchOperation) -> ApplyPatchResult:
        """Write a new file; a file that is there is not replaced."""
        text = apply_diff("", operation.diff or "", mode="create")
        return await self._edit(operation, lambda work, path, _: work.write_text(path, text, expect=""))

    async def update_file(self, operation: ApplyPatchOperation) -> ApplyPatchResult:
        """Change a file, and move it if the operation says so.

        Nothing that another program wrote meanwhile is overwritten.
        """

        def update(work: Workspace, path: str, to: str | None) -> None:
            info = work.stat(path, with_oid=True, follow=True)
            text = apply_diff(work.read_text(path), operation.diff or "")
            if to is None or to == path:
                work.write_text(path, text, expect=info.oid)
                return
            if work.exists(to):
                raise ContentChanged(to, "", work.stat(to).oid)
            work.make_dir(posixpath.dirname(to), parents=True)
            work.move(path, to)
            try:
                work.write_text(to, text, expect=info.oid)
            except AvfsError:
                work.move(to, path)
                raise

        return await self._edit(operation, update)

    async def delete_file(self, operation: ApplyPatchOperation) -> ApplyPatchResult:
        """Delete a file."""
        return await self._edit(operation, lambda work, path, _: work.remove(path))

    async def _edit(
        self, operation: ApplyPatchOperation, change: Callable[[Workspace, str, str | None], object]
    ) -> ApplyPatchResult:
        def edit(work: Workspace) -> None:
            with self._home.open_vault(work.vault.path) as vault:  # closing it ends the operation
                own = vault.workspace(work.fork)
                path, to = find_path(self._home, own, operation.path), operation.move_to
                change(own, path, find_path(self._home, own, to) if to is not None else None)

        try:
            await self._do(edit)
        except AvfsError as error:
            return ApplyPatchResult("failed", _say(error))
        except ValueError as error:  # the diff does not fit the file
            return ApplyPatchResult("failed", f"{operation.path}: {error}")
        return ApplyPatchResult("completed", f"{operation.type.partition('_')[0]}d {operation.path}")


def _say(error: AvfsError) -> str:
    return f"{error.code}: {error.message}" + (f"\n{error.hint}" if error.hint else "")
