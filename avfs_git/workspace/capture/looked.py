"""What a status has found, so that the next one reads only what changed since.

Decided here: when the next status goes on from it. The basis (`checkpoint.prepare.read_basis`) has to be equal; of
files, the rounds of a capture find what changed (`livecapture.Rounds`). `checkpoint.read_status` makes and uses one,
with the workspace lock held. An open workspace keeps it in memory until its stat cache changes; nothing of it survives
the process. A checkpoint does not go on from it, because that stores what it reads.
"""

from __future__ import annotations

from typing import Final

from avfs_git.gitstore.objects.drywriter import DryWriter
from avfs_git.values import replace, value_class
from avfs_git.workspace.capture.captured import Captured

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
        """Give what the next look goes on from.

        Return None if it has to read all, as where the capture warns of a single path.
        """
        is_told = any(told.path is not None for told in captured.warnings)
        if is_told or captured.is_partial or self.sink.count > _OBJECTS_MAX:
            return None
        return Looked(self.basis, self.sink, replace(captured, warnings=[]))
