"""When git ran in a command: this tells the command's own commits from commits that another program makes beside it.

Decided here: that git itself is asked. In a tree that other programs use, too, a command gets the variable
`GIT_TRACE2`, by which each of its gits leaves a file: the name has the start, the last line the end (git's api-trace2).
Git's log of a branch has seconds, so that two gits of one second cannot be told apart. `execute` makes one `GitTrace`
for a command, in one thread. The files lie in a private temporary directory and go with `end`; those of a killed
process go as `host.lockedplace` says.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from datetime import UTC, datetime
from pathlib import Path

from avfs_git.host.lockedplace import locked_directory
from avfs_git.patterns import compiled

_VARIABLE = "GIT_TRACE2"
_MOST = 2000
"""So many gits of a command are traced; git traces no more then, and says so."""
_DISCARDED = "git-trace2-discard"
_NAME = compiled(r"(\d{8}T\d{6})\.\d+Z-.*")
_TAIL = 200

Seconds = tuple[tuple[int, int], ...]
"""The first and the last second of each git, since the epoch."""


class GitTrace:
    """The traces of one command's gits."""

    def __init__(self, *, is_shared: bool, may_commit: bool, named: Sequence[str]) -> None:
        """Begin, if other programs use the tree of the command, too, and its git may move the branch.

        `named` are the variables that the command gets: its own trace of git stays.
        """
        self._directory: Path | None = None
        self._held = ExitStack()
        self._known: Seconds | None = () if is_shared and not may_commit else None
        if is_shared and may_commit and _VARIABLE not in named:
            with suppress(OSError):
                # Once it is gone, a git that goes on leaves nothing: it makes no directory above it.
                self._directory = self._held.enter_context(locked_directory())

    @property
    def environment(self) -> dict[str, str]:
        """What the command gets in its environment."""
        if self._directory is None:
            return {}
        return {_VARIABLE: os.fspath(self._directory), f"{_VARIABLE}_MAX_FILES": str(_MOST)}

    def end(self) -> Seconds | None:
        """Tell when git ran, once the command has ended, and remove the traces; None if that is not known."""
        directory, self._directory = self._directory, None
        if directory is None:
            return self._known
        try:
            files = list(directory.iterdir())
            return None if directory / _DISCARDED in files else tuple(map(_read, files))
        except (OSError, ValueError):
            return None
        finally:
            self._held.close()


def _read(path: Path) -> tuple[int, int]:
    began = _NAME.fullmatch(path.name)
    if began is None:
        raise ValueError(path.name)
    with path.open("rb") as file:
        status = os.fstat(file.fileno())
        file.seek(max(0, status.st_size - _TAIL))
        has_ended = b" atexit " in file.read()
    first = datetime.strptime(began[1], "%Y%m%dT%H%M%S").replace(tzinfo=UTC)
    last = status.st_mtime if has_ended else datetime.now(tz=UTC).timestamp()
    return int(first.timestamp()), int(last)
