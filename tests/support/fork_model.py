"""What a fork must hold, as `tests.support.turns` knows it: exactly its files, and what an undo may lead to.

Decided here: what the model knows of operations. A call that only changes files (`call`) is undone together with those
before it; another one (`operation`) alone. Where the model does not know which operation came last (`unsure`: a death,
a merge, git in a live tree, collected garbage), an undo may lead to any files that the fork had.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

Files = dict[str, bytes]
Last = Literal["made", "call", "operation", "renamed", "undone", "unsure"]


@dataclass
class Fork:
    """What a fork must be: its files, and what the model knows of its operations.

    Attributes:
        files: The files now.
        since: The files since the last operation, newest last: calls that only change files are undone together.
        ever: All files that it had.
        seen: All contents that it had, including those of the forks that it was made from or merged.
        before: The files before the last operation.
        last: What came last.
        labels: The files at its labels.
        is_mounted: Whether it has a live tree.
    """

    files: Files
    seen: set[bytes]
    last: Last = "made"
    since: list[Files] = field(default_factory=list)
    ever: list[Files] = field(default_factory=list)
    before: Files = field(default_factory=dict)
    labels: dict[str, Files] = field(default_factory=dict)
    is_mounted: bool = False

    def __post_init__(self) -> None:
        self.become(self.files, self.last)

    def become(self, files: Files, last: Last, *, is_call: bool = False) -> None:
        """Have other files."""
        self.since = [*self.since, files] if is_call else [files]
        self.before, self.files, self.last = self.files, files, last
        self.ever.append(files)
        self.seen.update(files.values())

    def undone(self) -> list[Files]:
        """List the files that an undo may lead to."""
        if self.last == "operation":
            return [self.before]
        if self.last == "call" and self.files != self.since[0]:  # else there is no change to undo
            return self.since
        return self.ever


def is_never_ignored(path: str) -> bool:
    """Whether no `.gitignore` of the sequences ignores a file, and the file is not `.gitignore` itself."""
    return path != ".gitignore" and not path.endswith(".log") and not path.startswith(("build/", "e/"))


def difference(expected: Files, found: Files) -> dict[str, tuple[bytes | None, bytes | None]]:
    """List the paths that differ, each with what is expected and what is found there."""
    paths = sorted(path for path in expected.keys() | found.keys() if expected.get(path) != found.get(path))
    return {path: (expected.get(path), found.get(path)) for path in paths}


def check_merged(ours: Fork, theirs: Fork, merged: Files) -> None:
    """Demand what is true of every merge without conflicts, whatever its base is.

    What only one side ever had is not in the base, so it is in the result. Ignored files and `.gitignore` are left out:
    git leaves the former where they are, and may combine the lines of the latter.
    """
    mine, yours = (
        {data for path, data in one.files.items() if is_never_ignored(path)} - other.seen
        for one, other in ((ours, theirs), (theirs, ours))
    )
    assert not (lost := (mine | yours) - set(merged.values())), f"the merge lost {sorted(lost)}"
    neither = {data for path, data in merged.items() if path != ".gitignore"} - ours.seen - theirs.seen
    assert not neither, f"the merge made up {sorted(neither)}"
