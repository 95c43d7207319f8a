"""What results about commands look like to people; what the command itself wrote has gone out already."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from avfs_git.cli.output.quoting import quote_path
from avfs_git.gitstore.compare.treediff import status_letter
from avfs_git.proxy.exec.envelope import ExecPlan

if TYPE_CHECKING:
    from collections.abc import Mapping

    from avfs_git.cli.output.text import TextOutput
    from avfs_git.cli.results import AttemptsResult, CommandSession, PickedAttempt, ProgramRun, Served, SetupResult
    from avfs_git.proxy.exec.envelope import ExecResult


def proxy_exec(text: TextOutput, result: ExecResult | ExecPlan) -> None:
    """Say on standard error how the command ended and what it changed."""
    if isinstance(result, ExecPlan):
        _plan(text, result)
        return
    if result.timed_out:
        limit = text.request.get("timeout")  # the duration has the time that it was given to end in, too
        text.note(f"(timed out after {limit['millis'] / 1000:g} s)" if isinstance(limit, dict) else "(timed out)")
    elif result.signal is not None:
        text.note(f"(killed by signal {result.signal})")
    elif result.exit_code:
        text.note(f"(exit code: {result.exit_code})")
    if result.exit_code and result.stderr_size and result.left_out_variables and not result.isolated:
        names = ", ".join(result.left_out_variables)
        text.note(f"(left out of its environment: {names}; pass one on with --env NAME)")
    for change in result.changed_files:
        origin = (
            f"{quote_path(change.old_path)} -> "
            if change.old_path is not None and change.old_path != change.path
            else ""
        )
        text.note(f"{status_letter(change)} {origin}{quote_path(change.path)}")
    if result.sidecar_changed:
        text.note(f"  and {len(result.sidecar_changed)} ignored")
    if result.commit is not None:
        text.note(f"saved as {result.commit[:12]} in {text.request['vault']}@{text.request['fork']}")


_MOST_LISTED = 10
_NEXT = {
    "compare": "compare",
    "pick": "pick one",
    "resume": "go on",
    "diff": "look",
    "merge": "take it",
    "apply": "take it",
    "push": "push it",
    "unmount": "unmount it",
    "discard": "delete it",
    "restore": "restore it",
}


def setup(text: TextOutput, result: SetupResult) -> None:
    """Show the changes as a patch, or what was checked; then what else there is to know."""
    for change in result["changes"]:
        text.patch(change["diff"].encode("utf-8", "surrogateescape"))
    done = {"create": "Created", "change": "Changed", "remove": "Removed"}
    if text.request.get("dry_run"):
        done = {action: f"Would {action}" for action in done}
    changed = [change for change in result["changes"] if change["action"] != "keep"]
    for change in changed:
        text.line(f"{done[change['action']]} ", quote_path(os.fsencode(change["path"])))
    if result["changes"] and not changed:
        text.line("Nothing to change")
    for check in result["checks"]:
        text.line(
            ("ok: " if check["passed"] else "failed: ", "green" if check["passed"] else "red"),
            check["part"],
            f" ({check['detail']})",
        )
    for note in result["notes"]:
        text.note(f"note: {note}")


def run(text: TextOutput, result: ProgramRun | AttemptsResult) -> None:
    """Say on standard error what the program changed in its fork, and how to continue.

    Say nothing if the program changed nothing.
    """
    if "attempts" in result:
        attempts_compare(text, result)
        return
    fork, files = result["fork"], result["diff"].files
    if result["outcome"] == "unchanged":
        text.note(f"(nothing changed: fork {fork} is deleted again)")
        return
    if result["outcome"] == "gone":  # a warning says so
        _list_next(text, result["next"])
        return
    plus, minus = sum(file.additions for file in files), sum(file.deletions for file in files)
    made = result["checkpoints"]
    beside = len(result["diff"].sidecar)
    ignored = f", {beside} ignored or not known to git" if beside else ""
    text.note(
        f"{text.count(len(files), 'file')} changed (+{plus} -{minus}){ignored}, in {text.count(len(made), 'commit')}"
    )
    for file in files[:_MOST_LISTED]:
        counts = "binary" if file.binary else f"+{file.additions} -{file.deletions}"
        text.note(f"  {status_letter(file.change)} {quote_path(file.change.path)} | {counts}")
    if len(files) > _MOST_LISTED:
        text.note(f"  and {len(files) - _MOST_LISTED} more")
    if result["outcome"] == "discarded":
        text.note(f"Deleted fork {fork}.")
    else:
        state = "mounted still; " if result["mounted"] else ""
        pushed = (
            "" if result["pushed"] and not made else " and pushed" if result["pushed"] else ", not all of it is pushed"
        )
        text.note(f"Kept fork {fork}: {state}everything is saved{pushed}.")
    _list_next(text, result["next"])


def _list_next(text: TextOutput, commands: Mapping[str, str]) -> None:
    for purpose, words in commands.items():
        text.note(f"  {_NEXT[purpose] + ':':<12}{words}")


def attempts_compare(text: TextOutput, result: AttemptsResult) -> None:
    """List attempts with how each ended and what it changed."""
    if not result["attempts"]:
        text.hint("There are no attempts. Make some with `avfs run --attempts 3 -- PROGRAM`.")
        return
    rows = []
    for attempt in result["attempts"]:
        diff = attempt["diff"]
        counts = ("-", "-", "-")
        if diff is not None:
            plus, minus = sum(file.additions for file in diff.files), sum(file.deletions for file in diff.files)
            counts = (str(len(diff.files)), f"+{plus}", f"-{minus}")
        fork = attempt["fork"] if diff is not None else "(deleted)"
        code, took_ms = attempt["exit_code"], attempt["duration_ms"]
        ended = ("-", "-") if code is None or took_ms is None else (str(code), f"{took_ms / 1000:.1f} s")
        rows.append((str(attempt["number"]), fork, *ended, *counts))
    headings = ("Attempt", "Fork", "Exit", "Time", "Files", "Added", "Removed")
    text.table(headings, rows, right=("Attempt", "Exit", "Time", "Files", "Added", "Removed"))
    text.flush()
    _list_next(text, result["next"])


def attempts_pick(text: TextOutput, result: PickedAttempt) -> None:
    """Say which attempt was kept."""
    text.line(f"Kept attempt {result['number']}: fork ", (result["fork"], "bold"))
    for fork in result["deleted"]:
        text.line("Deleted fork ", fork)
    text.flush()
    _list_next(text, result["next"])


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
    text.line("Prepared ", (session["fork"], "bold"), f", {text.count(len(session['steps']), 'command')} so far")
    text.hint(
        "Run commands with `avfs exec -- COMMAND`; go back with `avfs proxy rollback`; end with `avfs proxy finish`."
    )


def proxy_finish(text: TextOutput, session: CommandSession) -> None:
    """Say what became of a session's changes."""
    text.line(
        "Finished ",
        (session["fork"], "bold"),
        f", {text.count(len(session['steps']), 'command')}",
        ": discarded" if session["discarded"] else ": kept",
    )


def mcp(text: TextOutput, result: Served) -> None:
    """Say that a server has ended."""
    text.note(f"served {result['url']}")
