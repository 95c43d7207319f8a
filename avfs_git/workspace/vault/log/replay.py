"""Which operations are in force, and which are taken back.

Decided here: what an undo, a redo or a merge does to the operations before it. Pure functions.
`workspace.vault.log.oplog` calls this with the lines at hand.
"""

from __future__ import annotations

from collections.abc import Iterable

from avfs_git.workspace.vault.log.oprecord import (
    BY,
    EXPIRED,
    GIT_HEAD,
    IN_MERGE,
    MERGING,
    REDO,
    TAKEN_BACK,
    UNDO,
    UPSTREAM,
    OpRecord,
)

_OF_MERGES = ("merge_begin", "merge_abort", "merge", "rebase", "cherry_pick")


def replay(newest_first: list[OpRecord]) -> tuple[list[OpRecord], list[OpRecord]]:
    """Sort operations into those in force and those taken back, each in the order of time."""
    by_id: dict[int, OpRecord] = {}
    done: list[OpRecord] = []
    undone: list[OpRecord] = []
    for record in reversed(newest_first):
        if EXPIRED not in record.more:
            by_id[record.id] = record
        if record.kind in _OF_MERGES:
            done = [other for other in done if other.fork != record.fork or IN_MERGE not in other.more]
            undone = [each for each in undone if each.fork != record.fork or {IN_MERGE, MERGING}.isdisjoint(each.more)]
        if record.kind == UNDO and record.target in by_id:
            target = by_id[record.target]
            done = [other for other in done if other.id != target.id]
            undone.append(target)
        elif record.kind == REDO and record.target in by_id:
            target = by_id[record.target]
            undone = [other for other in undone if other.id != target.id]
            done.append(target)
        elif record.kind not in (UNDO, REDO) and record.id in by_id and _has_effect(record):
            done.append(record)
            undone = [other for other in undone if _at_hand(other) != _at_hand(record)]
    return done, undone


def find_undone(newest_first: Iterable[OpRecord]) -> set[int]:
    """Find the numbers of operations whose last undo or redo is an undo, whether or not redo still does them again."""
    turned: dict[int | None, bool] = {}
    for record in newest_first:
        if record.kind in (UNDO, REDO):
            turned.setdefault(record.target, record.kind == UNDO)
        elif TAKEN_BACK in record.more:
            turned.setdefault(record.id, True)
    return {number for number, is_undone in turned.items() if is_undone and number is not None}


def _has_effect(record: OpRecord) -> bool:
    return bool(record.moves) or record.before is not None or GIT_HEAD in record.more or UPSTREAM in record.more


def _at_hand(record: OpRecord) -> str:
    """Name the fork at hand when an operation was done."""
    return str(record.more.get(BY, record.fork))
