"""What results about commands look like to people; what the command itself wrote has gone out already."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from avfs_git.cli.output.quoting import quote_path
from avfs_git.gitstore.compare.treediff import status_letter
from avfs_git.proxy.exec.envelope import ExecPlan

if TYPE_CHECKING:
    from avfs_git.cli.output.text import TextOutput
    from avfs_git.cli.results import CommandSession
    from avfs_git.model import Diff, RestoreResult
    from avfs_git.proxy.exec.envelope import ExecResult


def proxy_exec(text: TextOutput, result: ExecResult | ExecPlan) -> None:
    """Say on standard error how the command ended and what it changed."""
    if isinstance(result, ExecPlan):
        _plan(text, result)
        return
    if result.timed_out:
        text.note(f"(timed out after {result.duration_ms / 1000:.1f} s)")
    elif result.signal is not None:
        text.note(f"(killed by signal {result.signal})")
    elif result.exit_code:
        text.note(f"(exit code: {result.exit_code})")
    if result.exit_code and result.stderr_size and result.left_out_variables and not result.isolated:
        names = ", ".join(result.left_out_variables)
        text.note(f"(left out of its environment: {names}; pass one on with --env NAME)")
    for change in result.changed_files:
        origin = f"{quote_path(change.old_path)} -> " if change.old_path is not None and change.old_path != change.path else ""
        text.note(f"{status_letter(change)} {origin}{quote_path(change.path)}")
    if result.sidecar_changed:
        text.note(f"  and {len(result.sidecar_changed)} ignored")
    if result.commit is not None:
        text.note(f"saved as {result.commit[:12]} in {text.request['vault']}@{text.request['fork']}")


def _plan(text: TextOutput, plan: ExecPlan) -> None:
    decision = plan.decision
    text.facts(
        [
            ("Command", plan.command),
            ("Fork", plan.fork),
            ("Directory", plan.cwd),
            ("Seen at", quote_path(os.fsencode(plan.mountpoint))),
            ("Backend", plan.backend),
            ("Categories", ", ".join(decision.categories)),
            ("Decision", decision.action),
            ("Reason", decision.reason),
            ("Checkpoint", "if anything is uncommitted" if plan.would_checkpoint else "none"),
        ]
    )


def proxy_prepare(text: TextOutput, session: CommandSession) -> None:
    """Say what can be done in a session."""
    text.line("Prepared ", (session["fork"], "bold"), f", {_count(session)} so far")
    text.hint("Run commands with `avfs exec -- COMMAND`; go back with `avfs proxy rollback`; end with `avfs proxy finish`.")


def proxy_rollback(text: TextOutput, result: RestoreResult) -> None:
    """Show it as any other restore."""
    from avfs_git.cli.output.views.history import checkpoint_restore  # noqa: PLC0415 - `exec` itself does without

    checkpoint_restore(text, result)


def proxy_inspect(text: TextOutput, difference: Diff) -> None:
    """Show it as any other difference."""
    from avfs_git.cli.output.views.history import diff  # noqa: PLC0415 - as above

    diff(text, difference)


def proxy_finish(text: TextOutput, session: CommandSession) -> None:
    """Say what became of a session's changes."""
    text.line("Finished ", (session["fork"], "bold"), f", {_count(session)}", ": discarded" if session["discarded"] else ": kept")


def _count(session: CommandSession) -> str:
    count = len(session["steps"])
    return "1 command" if count == 1 else f"{count} commands"
