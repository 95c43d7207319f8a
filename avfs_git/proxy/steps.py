"""What was run in a prepared session: where it began, and the state before each of its commands.

Decided here: that this is kept beside the workspace (`commands`, JSON; docs/format.md), so that a session of the command line is
the same from one program to the next, and what survives: all of it, until `end`. Whoever writes holds the workspace, or is alone.
"""

from __future__ import annotations

import json
from pathlib import Path

from avfs_git.errors import NotPrepared
from avfs_git.host.durable import host_errors, write_file_atomically
from avfs_git.values import value_class


@value_class
class Step:
    """A command of a session."""

    command: str
    before: str | None
    """The commit with the state before it; None for a fork without commits."""


@value_class
class Steps:
    """A session: where it began, and its commands."""

    start: str | None
    steps: tuple[Step, ...] = ()


class StepLog:
    """The session of one workspace, if there is one."""

    def __init__(self, workspace: Path, fork: str) -> None:
        """Name its file; `workspace` is the directory of the workspace."""
        self._path = workspace / "commands"
        self._fork = fork

    def begin(self, start: str | None) -> Steps:
        """Begin one, or go on with the one that there is.

        Raises:
            HostError: If the disk refuses.
        """
        try:
            return self.read()
        except NotPrepared:
            return self._write(Steps(start))

    def read(self) -> Steps:
        """Read it.

        Raises:
            NotPrepared: If there is none.
        """
        try:
            values = json.loads(self._path.read_bytes())
            return Steps(values["start"], tuple(Step(step["command"], step["before"]) for step in values["steps"]))
        except (FileNotFoundError, ValueError, KeyError, TypeError):
            raise NotPrepared(self._fork) from None

    def add(self, step: Step) -> None:
        """Note a command, if there is a session."""
        if self._path.exists():
            held = self.read()
            self._write(Steps(held.start, (*held.steps, step)))

    def drop(self, count: int) -> None:
        """Forget the last commands: their changes were taken back."""
        held = self.read()
        self._write(Steps(held.start, held.steps[: len(held.steps) - count]))

    def end(self) -> None:
        """End it. A second call does nothing."""
        with host_errors(f"remove '{self._path}'"):
            self._path.unlink(missing_ok=True)

    def _write(self, steps: Steps) -> Steps:
        values = {"start": steps.start, "steps": [{"command": step.command, "before": step.before} for step in steps.steps]}
        with host_errors(f"write '{self._path}'"):
            write_file_atomically(self._path, json.dumps(values).encode() + b"\n", durable=False)
        return steps
