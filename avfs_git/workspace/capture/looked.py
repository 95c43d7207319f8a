"""What a status has found, so that the next one reads only what changed since.

Decided here: what has to be as it was for that. What the look found says it of files (`livecapture.Rounds`), and the basis of all
else that a capture goes by. An open workspace holds one in memory, for as long as its stat cache is the same. A checkpoint does
not go on from it: that stores what it reads.
"""

from __future__ import annotations

from typing import Final

from avfs_git.gitstore.objects.drywriter import DryWriter
from avfs_git.values import replace, value_class
from avfs_git.workspace.capture.capture import Captured

Basis = tuple[object, ...]
_OBJECTS_MAX: Final = 20_000
"""With more objects in memory, the next look begins anew."""


@value_class
class Looked:
    """What a look at a workspace has found.

    Attributes:
        basis: What it went by, besides the files.
        sink: Has the trees.
        captured: What they are of; None before the first look.
    """

    basis: Basis
    sink: DryWriter
    captured: Captured | None = None

    def follow(self, captured: Captured) -> Looked | None:
        """Give what the next look can go on from, if it can: what is told of single paths is known only by reading them."""
        is_told = any(told.path is not None for told in captured.warnings)
        if is_told or captured.is_partial or self.sink.count > _OBJECTS_MAX:
            return None
        return Looked(self.basis, self.sink, replace(captured, warnings=[]))
