"""What is written down of a command that ran: the subject and message of its commit, and the note.

Decided here: the words. A commit goes on being read by others for years, so its subject names the command by its first words
only; the note has all of it without what looks like a secret (`redaction`). Pure functions, called by `execute`.
"""

from __future__ import annotations

from avfs_git.proxy.exec.envelope import Command
from avfs_git.proxy.exec.run import Finished
from avfs_git.proxy.policy.redaction import Redactor
from avfs_git.proxy.policy.request import Decision, Request

_SUBJECT_MAX = 72


def make_subject(command: Command, headline: str, finished: Finished) -> str:
    """Name a command on one line; `headline` is what `Redactor.headline` makes of it."""
    if command.message is not None:
        shown = " ".join(command.message.encode("utf-8", "replace").decode().split())
    else:
        how = "" if finished.exit_code == 0 else " (timed out)" if finished.timed_out else f" (exit {finished.exit_code})"
        shown = f"exec{how}: {headline}"
    return shown if len(shown) <= _SUBJECT_MAX else shown[: _SUBJECT_MAX - 1] + "…"


def make_message(command: Command, headline: str, finished: Finished) -> str:
    """Make the message of a command's commit."""
    status = "" if finished.exit_code == 0 else f"\n\nExit-Status: {finished.exit_code}"
    return f"{command.message or make_subject(command, headline, finished)}{status}\n"


def make_note(
    request: Request, redactor: Redactor, decision: Decision, finished: Finished, *, backend: str, changed_files: int
) -> str:
    """Sum the envelope up, a fact a line, for `git log --notes=avfs`."""
    facts = {
        "Command": redactor.command(request).encode("utf-8", "replace").decode().replace("\n", "\n    "),
        "Directory": request.cwd,
        "Exit-Status": f"{finished.exit_code}{' (timed out)' if finished.timed_out else ''}",
        "Duration": f"{finished.duration_ms / 1000:.3f} s",
        "Changed-Files": changed_files,
        "Decision": f"{decision.action} ({', '.join(decision.categories)})",
        "Backend": backend,
    }
    return "".join(f"{name}: {value}\n" for name, value in facts.items())
