"""`avfs hook`: what the harness of a coding agent runs at its events. See `cli.harness.hook`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from avfs_git.cli.context import State
from avfs_git.cli.harness.hook import find_answer
from avfs_git.cli.verb import verb

if TYPE_CHECKING:
    from avfs_git.cli.results import HookAnswer


@verb("hook", view="hook", example="avfs hook claude < event.json")
@click.argument("harness", required=False, metavar="HARNESS")
def command(state: State, harness: str | None) -> HookAnswer:
    """Answer an event of a coding agent, which its harness runs this for

    HARNESS is claude, codex, gemini, cursor, opencode or vscode. `avfs setup` registers it. The event is read from
    standard input. In a live tree, avfs asks the policy before each command of a shell, and saves a checkpoint after
    each tool call that changed something. Claude Code gets its working trees as forks, with everything that the
    directory holds, ignored files included.

    If avfs cannot ask the policy about a command, the harness asks the user, or refuses the command where it cannot
    ask. After any other failure the agent goes on: the status is 1, and standard error says why.
    """
    return find_answer(state, harness)
