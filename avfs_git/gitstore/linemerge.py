"""Merging the lines of a text three ways: what both sides changed is joined to pieces, each with a verdict.

Decided here: which changes of two sides touch and so belong together, when both made the same one, and how far a conflict
reaches. The measure is git's `ort` strategy: changes that touch or overlap are one piece; without the base's lines
shown, a conflict is narrowed to what is different between the sides, and conflicts with at most three lines between
them become one. `mergefile` makes a file of the pieces, `mergehunks` tells of the conflicts. Pure functions, safe from
any thread.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum
from typing import NamedTuple

from avfs_git.gitstore.gitversion import GitVersion
from avfs_git.gitstore.linediff import Change, Numbered, compare_lines
from avfs_git.gitstore.myers import Budget

_STEPS = 2_000_000
"""What all comparisons of one merge may cost together: one to two seconds."""
_SHORT_GAP = 3
"""So many lines between two conflicts take less room inside them than another set of markers."""


class Verdict(IntEnum):
    """Whose lines a piece gets."""

    CONFLICT = 0
    OURS = 1
    THEIRS = 2
    BOTH = 3
    """Ours, then theirs."""


class Piece(NamedTuple):
    """Lines that a side changed, or both; what is between two pieces is as it is on our side."""

    verdict: Verdict
    base_start: int
    base_count: int
    our_start: int
    our_count: int
    their_start: int
    their_count: int


def merge_lines(
    base: Numbered,
    ours: Numbered,
    theirs: Numbered,
    *,
    with_base: bool = False,
    trimmed: bool = False,
    git_version: GitVersion | None = None,
) -> list[Piece]:
    """List the pieces of a merge, from top to bottom.

    Args:
        base: What both sides come from; all three were numbered together.
        ours: Our side.
        theirs: The other.
        with_base: Leave conflicts as large as the base's lines that both changed, so that these can be shown. Without it,
            the base's lines of a conflict are not known.
        trimmed: With the base's lines, take lines with which both sides begin or end out of a conflict all the same.
        git_version: Whose answer is wanted; the installed git's by default.
    """
    budget = Budget(_STEPS)
    our_changes = compare_lines(base, ours, budget, git_version=git_version)
    their_changes = compare_lines(base, theirs, budget, git_version=git_version)
    pieces = _join(ours, theirs, our_changes, their_changes)
    # Where one side changed nothing the other's lines are right as they are, and no piece is a conflict.
    if not our_changes or not their_changes:
        return pieces
    if with_base:
        return [_trim(ours, theirs, piece) for piece in pieces] if trimmed else pieces
    return _close_gaps(_narrow(ours, theirs, pieces, budget, git_version))


def _join(ours: Numbered, theirs: Numbered, our_changes: Sequence[Change], their_changes: Sequence[Change]) -> list[Piece]:
    """Join the changes of both sides."""
    pieces: list[Piece] = []
    mine = yours = 0
    our_shift = their_shift = 0
    """How many lines further down the two sides are than the base, after the changes that were passed."""
    while mine < len(our_changes) or yours < len(their_changes):
        one = our_changes[mine] if mine < len(our_changes) else None
        two = their_changes[yours] if yours < len(their_changes) else None
        if two is None or (one is not None and one.old_start + one.old_count < two.old_start):
            assert one is not None  # noqa: S101 - one of both is left
            start, length = one.old_start, one.old_count
            _add(pieces, Piece(Verdict.OURS, start, length, one.new_start, one.new_count, start + their_shift, length))
            our_shift = one.new_start + one.new_count - start - length
            mine += 1
            continue
        if one is None or two.old_start + two.old_count < one.old_start:
            start, length = two.old_start, two.old_count
            _add(pieces, Piece(Verdict.THEIRS, start, length, start + our_shift, length, two.new_start, two.new_count))
            their_shift = two.new_start + two.new_count - start - length
            yours += 1
            continue
        one_end, two_end = one.old_start + one.old_count, two.old_start + two.old_count
        if not _is_same(one, two, ours, theirs):
            start, end = min(one.old_start, two.old_start), max(one_end, two_end)
            our_start, their_start = one.new_start + start - one.old_start, two.new_start + start - two.old_start
            our_end, their_end = one.new_start + one.new_count + end - one_end, two.new_start + two.new_count + end - two_end
            _add(
                pieces,
                Piece(Verdict.CONFLICT, start, end - start, our_start, our_end - our_start, their_start, their_end - their_start),
            )
        # What reaches further down may meet the other side's next change, too.
        if one_end >= two_end:
            their_shift = two.new_start + two.new_count - two_end
            yours += 1
        if two_end >= one_end:
            our_shift = one.new_start + one.new_count - one_end
            mine += 1
    return pieces


def _is_same(one: Change, two: Change, ours: Numbered, theirs: Numbered) -> bool:
    """Tell whether both sides changed the same lines to the same."""
    if (one.old_start, one.old_count, one.new_count) != (two.old_start, two.old_count, two.new_count):
        return False
    our_end, their_end = one.new_start + one.new_count, two.new_start + two.new_count
    return ours.numbers[one.new_start : our_end] == theirs.numbers[two.new_start : their_end]


def _add(pieces: list[Piece], piece: Piece) -> None:
    """Add a piece; it becomes one with the last if it touches that on either side."""
    if pieces:
        last = pieces[-1]
        our_gap = piece.our_start - last.our_start - last.our_count
        their_gap = piece.their_start - last.their_start - last.their_count
        if our_gap <= 0 or their_gap <= 0:
            pieces[-1] = Piece(
                last.verdict if last.verdict == piece.verdict else Verdict.CONFLICT,
                last.base_start,
                piece.base_start + piece.base_count - last.base_start,
                last.our_start,
                piece.our_start + piece.our_count - last.our_start,
                last.their_start,
                piece.their_start + piece.their_count - last.their_start,
            )
            return
    pieces.append(piece)


def _trim(ours: Numbered, theirs: Numbered, piece: Piece) -> Piece:
    """Take lines with which both sides of a conflict begin or end out of it."""
    verdict, base_start, base_count, our_start, our_count, their_start, their_count = piece
    if verdict is not Verdict.CONFLICT:
        return piece
    mine, yours = ours.numbers, theirs.numbers
    while our_count and their_count and mine[our_start] == yours[their_start]:
        our_start, our_count, their_start, their_count = our_start + 1, our_count - 1, their_start + 1, their_count - 1
    while our_count and their_count and mine[our_start + our_count - 1] == yours[their_start + their_count - 1]:
        our_count, their_count = our_count - 1, their_count - 1
    return Piece(verdict, base_start, base_count, our_start, our_count, their_start, their_count)


def _narrow(ours: Numbered, theirs: Numbered, pieces: list[Piece], budget: Budget, git_version: GitVersion | None) -> list[Piece]:
    """Narrow each conflict to the lines that are different between both sides."""
    narrowed: list[Piece] = []
    for piece in pieces:
        if piece.verdict is not Verdict.CONFLICT or not piece.our_count or not piece.their_count:
            narrowed.append(piece)
            continue
        our_start, their_start = piece.our_start, piece.their_start
        changes = compare_lines(
            ours.part(our_start, our_start + piece.our_count),
            theirs.part(their_start, their_start + piece.their_count),
            budget,
            git_version=git_version,
        )
        if not changes:
            # Alike on both sides. It stays a piece, because conflicts above and below it are not joined over it.
            narrowed.append(piece._replace(verdict=Verdict.OURS))
        narrowed += [
            Piece(
                Verdict.CONFLICT,
                piece.base_start,
                piece.base_count,
                our_start + change.old_start,
                change.old_count,
                their_start + change.new_start,
                change.new_count,
            )
            for change in changes
        ]
    return narrowed


def _close_gaps(pieces: list[Piece]) -> list[Piece]:
    """Make one conflict of those that are so near that this is shorter."""
    joined: list[Piece] = []
    for piece in pieces:
        if joined and piece.verdict is Verdict.CONFLICT and joined[-1].verdict is Verdict.CONFLICT:
            last = joined[-1]
            if piece.our_start - last.our_start - last.our_count <= _SHORT_GAP:
                joined[-1] = last._replace(
                    our_count=piece.our_start + piece.our_count - last.our_start,
                    their_count=piece.their_start + piece.their_count - last.their_start,
                )
                continue
        joined.append(piece)
    return joined
