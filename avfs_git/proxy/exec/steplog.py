"""What was run in a prepared session: where it began, and the state before each of its commands.

Decided here: that this is kept beside the workspace (`commands`, a JSON document a line; docs/design/format.md), so
that a session of the command line is the same from one program to the next, and what survives: all of it, until `end`.
A command adds a line, whatever was run before; one that was cut short by the death of its process is passed over.
Whoever writes holds the workspace, or is alone.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

from avfs_git.errors import NotPrepared
from avfs_git.host.files.closing import closing_fd
from avfs_git.host.files.durable import host_errors, write_all, write_file_atomically
from avfs_git.host.files.plainfile import open_plain, read_plain
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
        """Begin a session, or continue it."""
        try:
            return self.read()
        except NotPrepared:
            return self._write(Steps(start))

    def read(self) -> Steps:
        """Read it.

        Raises:
            NotPrepared: If there is no session.
        """
        try:
            first, *lines = read_plain(self._path).split(b"\n")
            start = json.loads(first)["start"]
        except (FileNotFoundError, ValueError, KeyError, TypeError, RecursionError):
            raise NotPrepared(self._fork) from None
        return Steps(start, tuple(step for line in lines if (step := _parse(line)) is not None))

    def add(self, step: Step) -> None:
        """Note a command, if there is a session."""
        try:
            fd = open_plain(self._path, os.O_RDWR | os.O_APPEND)
        except FileNotFoundError:
            return
        with host_errors(f"write '{self._path}'"), closing_fd(fd):
            size = os.fstat(fd).st_size
            is_whole = not size or os.pread(fd, 1, size - 1) == b"\n"
            write_all(fd, (b"" if is_whole else b"\n") + _format(step))

    def drop(self, count: int) -> None:
        """Forget the last commands: their changes were taken back."""
        held = self.read()
        self._write(Steps(held.start, held.steps[: len(held.steps) - count]))

    def end(self) -> None:
        """End it. A second call does nothing."""
        with host_errors(f"remove '{self._path}'"):
            self._path.unlink(missing_ok=True)

    def _write(self, steps: Steps) -> Steps:
        first = json.dumps({"start": steps.start}).encode() + b"\n"
        with host_errors(f"write '{self._path}'"):
            write_file_atomically(self._path, first + b"".join(map(_format, steps.steps)), durable=False)
        return steps


def _format(step: Step) -> bytes:
    return json.dumps({"command": step.command, "before": step.before}).encode() + b"\n"


def _parse(line: bytes) -> Step | None:
    """Read a line; None for an incomplete line."""
    try:
        held = json.loads(line)
        return Step(held["command"], held["before"])
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
