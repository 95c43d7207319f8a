"""What a check of the doctor finds: a problem, with what mends it, and what tells whether that worked.

Decided here: how findings are made. Called by the doctor and its checks; nothing is kept.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from avfs_git.model import Problem, Severity


@dataclass(slots=True)
class Finding:
    """A problem, with what mends it and what tells whether that worked."""

    problem: Problem
    repair: Callable[[], object] | None = None
    is_mended: Callable[[], bool] | None = None
    place: str = ""
    """Where the problem is; its description says so where this is empty."""

    @property
    def key(self) -> tuple[str, str]:
        """What a second look finds again of it: others may have changed a number in its description."""
        return self.problem.code, self.place or self.problem.description


def finding(code: str, description: str, remedy: str, *, severity: Severity = "error", place: str = "") -> Finding:
    """Make the finding of a problem that its user has to mend."""
    return Finding(Problem(code, severity, description, remedy), place=place)


def fixable(
    code: str,
    description: str,
    remedy: str,
    repair: Callable[[], object],
    is_mended: Callable[[], bool],
    *,
    severity: Severity = "warning",
    place: str = "",
) -> Finding:
    """Make the finding of a problem that the doctor can mend, and how to tell whether it has."""
    return Finding(Problem(code, severity, description, remedy, fixable=True), repair, is_mended, place)


def removable(code: str, path: Path, description: str, remedy: str) -> Finding:
    """Make the finding of a file that has only to go."""
    return fixable(code, description, remedy, lambda: path.unlink(missing_ok=True), lambda: not path.exists())
