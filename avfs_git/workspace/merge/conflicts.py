"""Conflicts as values: what a merge in trees found, for people and programs.

Decided here: what is told of each side, and for which conflicts the lines are shown: where both sides have a file of
text. Called by all merges. Reads objects only.
"""

from __future__ import annotations

from collections.abc import Sequence

from avfs_git.gitstore.formats.trees import MODE_EXEC, MODE_FILE
from avfs_git.gitstore.merge.engine import Stage, TreeConflict
from avfs_git.gitstore.merge.files import find_hunks
from avfs_git.gitstore.source import ObjectSource
from avfs_git.model import Conflict, ConflictHunk, ConflictSide


def describe_conflicts(source: ObjectSource, conflicts: Sequence[TreeConflict]) -> tuple[Conflict, ...]:
    """Make the values that callers see of conflicts."""
    return tuple(
        Conflict(
            found.kind, found.path, _side(found.base), _side(found.ours), _side(found.theirs), _hunks(source, found)
        )
        for found in conflicts
    )


def _side(stage: Stage | None) -> ConflictSide | None:
    return ConflictSide(stage.path, f"{stage.mode:06o}", stage.oid.hex()) if stage is not None else None


def _hunks(source: ObjectSource, found: TreeConflict) -> tuple[ConflictHunk, ...]:
    ours, theirs = found.ours, found.theirs
    if ours is None or theirs is None or ours.oid == theirs.oid:
        return ()
    if not all(stage.mode in (MODE_FILE, MODE_EXEC) for stage in (found.base, ours, theirs) if stage is not None):
        return ()
    base = source.read_blob(found.base.oid) if found.base is not None else None
    return find_hunks(base, source.read_blob(ours.oid), source.read_blob(theirs.oid))
