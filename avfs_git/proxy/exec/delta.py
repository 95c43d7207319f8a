"""What a command changed: the difference between the workspace before it and after it.

Decided here: that the answer comes from what is committed where the workspace was clean before the command, and else
from a comparison of what was uncommitted before with what is uncommitted after, so that a change by another process is
never the command's. Pure functions.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from avfs_git.model import ChangedFile, ChangeKind

_State = tuple[str | None, int | None, int | None]
"""Id, mode and size of a path; the id of a missing path is None."""


def subtract(before: Sequence[ChangedFile], after: Sequence[ChangedFile]) -> tuple[ChangedFile, ...]:
    """Tell what changed between two states, each given by how it differs from a third."""
    old, new = _states(before), _states(after)
    origin = {**_origins(before), **_origins(after)}
    found = []
    for path in sorted({*old, *new}):
        was, now = old.get(path, origin.get(path)), new.get(path, origin.get(path))
        if was is None or now is None or was[:2] == now[:2]:
            continue
        found.append(
            ChangedFile(
                path,
                _kind(was, now),
                old_oid=was[0],
                new_oid=now[0],
                old_mode=was[1],
                new_mode=now[1],
                size=now[2],
            )
        )
    return tuple(found)


def _states(changes: Iterable[ChangedFile]) -> dict[bytes, _State]:
    found: dict[bytes, _State] = {}
    for change in changes:
        if change.old_path is not None and change.old_path != change.path:
            found[change.old_path] = (None, None, None)
        found[change.path] = (change.new_oid, change.new_mode, change.size)
    return found


def _origins(changes: Iterable[ChangedFile]) -> dict[bytes, _State]:
    return {change.old_path or change.path: (change.old_oid, change.old_mode, None) for change in changes}


def _kind(was: _State, now: _State) -> ChangeKind:
    if was[0] is None:
        return ChangeKind.ADDED
    if now[0] is None:
        return ChangeKind.DELETED
    if was[0] == now[0]:
        return ChangeKind.MODE
    # The kind of an entry is in the upper bits of its mode.
    return (
        ChangeKind.TYPE
        if was[1] is not None and now[1] is not None and was[1] >> 12 != now[1] >> 12
        else ChangeKind.MODIFIED
    )
