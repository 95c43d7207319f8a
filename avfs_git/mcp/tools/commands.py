"""The tools that run commands, and what the policy says to them.

Decided here: how a command is named, and what the model reads of its result. `tool` asks the user where the policy
wants that.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, TypedDict

from pydantic import Field

from avfs_git.errors import InvalidInput, escape
from avfs_git.mcp.answers import Record
from avfs_git.mcp.scope import Call, Reach
from avfs_git.mcp.tool import READS, RUNS, CommandDir, ForkName, Toolbox, VaultName
from avfs_git.proxy.exec.envelope import ExecResult
from avfs_git.proxy.policy.approvals import Approval
from avfs_git.proxy.policy.decision import Decision
from avfs_git.sdk import Workspace
from avfs_git.sdk.workspace.modelpaths import find_path

_MAX_OUTPUT = 12_000
"""Bytes of each stream in the answer; the whole of it is in a file of the vault."""
_Shell = Annotated[str | None, Field(description="Text for bash.")]
_Argv = Annotated[
    list[str], Field(description="A program and its arguments instead, without a shell.", max_length=10_000)
]

tools = Toolbox()


class Approvals(TypedDict):
    """Requests for approval, the newest first."""

    approvals: Sequence[Approval]


class Decided(TypedDict):
    """What the policy says to a command."""

    decision: Decision


def _show_result(record: Record) -> str:
    lines = [f"exit status {record['exit_code']}" + (" (time limit)" if record["timed_out"] else "")]
    for stream in ("stdout", "stderr"):
        if record[stream]:
            cut = f" (cut from {record[f'{stream}_size']} bytes)" if record[f"{stream}_truncated"] else ""
            lines.append(f"{stream}{cut}:\n{record[stream].rstrip()}")
    changed = [f"{change['kind']} {escape(change['path'])}" for change in record["changed_files"]]
    changed += [f"{change['kind']} {escape(change['path'])} (beside history)" for change in record["sidecar_changed"]]
    lines.append(f"changed files: {', '.join(changed)}" if changed else "no file changed")
    return "\n".join(lines)


@tools.tool("Run a command", RUNS, render=_show_result)
def exec(  # noqa: A001 - the verb's name
    call: Call,
    command: _Shell = None,
    argv: _Argv = [],  # noqa: B006 - pydantic copies it
    cwd: CommandDir = "/",
    stdin: Annotated[str, Field(description="What the command reads.")] = "",
    timeout_ms: Annotated[
        int, Field(ge=1, le=86_400_000, description="Time limit; then every process of it is killed.")
    ] = 300_000,
    readonly: Annotated[bool, Field(description="Refuse every change to files.")] = False,
    message: Annotated[str | None, Field(description="Message of the commit of its changes.")] = None,
    approve: Annotated[str | None, Field(description="Token of an approval.")] = None,
    vault: VaultName = None,
    fork: ForkName = None,
) -> ExecResult:
    """Run a command in a fork's files, under the vault's policy, and commit what it changed.

    Give `command` (text for a shell) or `argv`. A command that fails is a result, too: see `exit_code`. The user may be
    asked for approval. `undo` takes back what it changed in the fork.
    """
    if (command is None) == (not argv):
        raise InvalidInput("give `command` or `argv`, and not both")
    workspace = call.workspace(vault, fork)
    running = workspace.exec_stream(
        *argv,
        shell=command,
        cwd=find_path(call.home, workspace, cwd),
        stdin=stdin.encode("utf-8", "surrogateescape"),
        timeout_ms=timeout_ms,
        readonly=readonly,
        message=message,
        approve=approve,
        max_output=_MAX_OUTPUT,
    )
    with running, call.stoppable(running.stop):
        for piece in running:
            lines = piece.data.decode("utf-8", "replace").strip().splitlines()
            call.message = lines[-1][:200] if lines else call.message
        return running.result


@tools.tool("Ask the policy about a command", READS)
def policy_check(
    workspace: Workspace,
    command: _Shell = None,
    argv: _Argv = [],  # noqa: B006 - as above
    cwd: CommandDir = "/",
) -> Decided:
    """Say what the policy would decide about a command, and why. Nothing runs."""
    return {"decision": workspace.vault.policy.check(argv, shell=command, fork=workspace.fork, cwd=cwd)}


@tools.tool("List approvals", READS, reach=Reach.VAULT)
def approvals(
    call: Call,
    all: Annotated[bool, Field(description="Also those that are over.")] = False,  # noqa: A002 - the option's name
    vault: VaultName = None,
) -> Approvals:
    """List the commands that wait for a person, or were granted and have not run yet.

    Only a person grants or denies them.
    """
    return {"approvals": call.vault(vault).policy.approvals(every=all)}
