"""The classic comparison of two sequences of lines, after Eugene Myers, within the limits that git sets it.

Decided here: what is common to two sequences where the histogram comparison gives up (`linediff`, the only caller), to the
line as git has it: lines without a counterpart are left out first, and so are very frequent ones among them; the middle
of the shortest way is sought from both ends; and a search that costs too much stops at the best that it has seen. Pure
functions, safe from any thread. What Python needs for it is counted in steps, of which a caller allows so many.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

# The names of git's limits are in its xdiff library; the values are part of the answer.
_MIN_MAX_COST = 256
_HEURISTIC_MIN_COST = 256
_SNAKE = 20
"""How many equal lines in a row are worth following."""
_PROMISING = 4
"""How much further than its cost a way must have come to be taken early."""
_MAX_FREQUENT = 1024
_WINDOW = 100
_RUN = 4
_FAR = 1 << 62
_MISSING, _ORDINARY, _FREQUENT = 0, 1, 2
"""How often the other side has a line."""


class Block(NamedTuple):
    """Lines that both sequences have."""

    old: int
    new: int
    length: int


class BudgetSpent(Exception):
    """A comparison needs more steps than it may take; the caller goes another way."""


class Budget:
    """How many steps a comparison may still take; one is worth half a microsecond to one."""

    __slots__ = ("left",)

    def __init__(self, steps: int) -> None:
        self.left = steps

    def spend(self, steps: int) -> None:
        """Take some steps.

        Raises:
            BudgetSpent: If there are none left.
        """
        self.left -= steps
        if self.left < 0:
            raise BudgetSpent


def compare_classic(old: Sequence[int], new: Sequence[int], budget: Budget) -> list[Block]:
    """List what two sequences have in common, in order.

    Args:
        old: One sequence; equal lines are equal numbers.
        new: The other.
        budget: What the comparison may cost.

    Raises:
        BudgetSpent: If it costs more.
    """
    budget.spend((len(old) + len(new)) // 4)
    start = 0
    shorter = min(len(old), len(new))
    while start < shorter and old[start] == new[start]:
        start += 1
    old_end, new_end = len(old), len(new)
    while old_end > start and new_end > start and old[old_end - 1] == new[new_end - 1]:
        old_end -= 1
        new_end -= 1
    old_changed, new_changed = bytearray(len(old)), bytearray(len(new))
    in_old, in_new = Counter(old), Counter(new)
    old_kept = _leave_out(old, start, old_end, in_new, old_changed)
    new_kept = _leave_out(new, start, new_end, in_old, new_changed)
    search = _Search([old[at] for at in old_kept], [new[at] for at in new_kept], budget)
    search.run()
    for at in search.old_changed:
        old_changed[old_kept[at]] = 1
    for at in search.new_changed:
        new_changed[new_kept[at]] = 1
    return _blocks(old_changed, new_changed)


def _blocks(old_changed: bytearray, new_changed: bytearray) -> list[Block]:
    """Pair the unchanged lines of both sides, the first with the first and so on."""
    blocks: list[Block] = []
    old = new = 0
    while True:
        old, new = old_changed.find(0, old), new_changed.find(0, new)
        if old < 0 or new < 0:
            return blocks
        old_end, new_end = old_changed.find(1, old), new_changed.find(1, new)
        old_end = len(old_changed) if old_end < 0 else old_end
        new_end = len(new_changed) if new_end < 0 else new_end
        length = min(old_end - old, new_end - new)
        blocks.append(Block(old, new, length))
        old += length
        new += length


def _rough_root(number: int) -> int:
    """Round the square root of a number up to a power of two, as git does."""
    root = 1
    while number > 0:
        root <<= 1
        number >>= 2
    return root


def _leave_out(lines: Sequence[int], start: int, end: int, in_other: Counter[int], changed: bytearray) -> list[int]:
    """List which lines take part in the search; those that do not are marked as changed.

    Left out is what the other side lacks, and what it has very often where that is surrounded by lines it lacks.
    """
    many = min(_rough_root(len(lines)), _MAX_FREQUENT)
    times = [in_other[lines[at]] for at in range(start, end)]
    kinds = bytes(_MISSING if one == 0 else _FREQUENT if one >= many else _ORDINARY for one in times)
    kept = []
    for at, kind in enumerate(kinds):
        if kind == _ORDINARY or (kind == _FREQUENT and not _is_among_missing(kinds, at)):
            kept.append(start + at)
        else:
            changed[start + at] = 1
    return kept


def _is_among_missing(kinds: bytes, at: int) -> bool:
    """Tell whether a frequent line stands among lines that the other side lacks."""
    # From the line up and down to the next that is neither missing nor frequent, but not far.
    above = max(kinds.rfind(_ORDINARY, max(at - _WINDOW, 0), at) + 1, at - _WINDOW, 0)
    missing_above = kinds.count(_MISSING, above, at)
    if not missing_above:
        return False
    below = kinds.find(_ORDINARY, at + 1, at + 1 + _WINDOW)
    below = min(at + 1 + _WINDOW, len(kinds)) if below < 0 else below
    missing = missing_above + kinds.count(_MISSING, at + 1, below)
    if missing == missing_above:
        return False
    frequent = below - above - missing + 1  # the line itself counts for both directions
    return frequent * _RUN < frequent + missing


class _Search:
    """The search for the shortest way from one sequence to the other.

    A way goes through a field: a step right drops a line of the old sequence, a step down takes one of the new, and
    equal lines are passed for nothing. All points with the same difference of both coordinates are on one diagonal.
    """

    def __init__(self, old: list[int], new: list[int], budget: Budget) -> None:
        self._old = old
        self._new = new
        self._budget = budget
        self.old_changed: list[int] = []
        self.new_changed: list[int] = []
        diagonals = len(old) + len(new) + 3
        self._max_cost = max(_rough_root(diagonals), _MIN_MAX_COST)
        # How far each diagonal was reached, from either end; negative diagonals count from the list's end.
        self._forward = [0] * (diagonals + 2)
        self._backward = [0] * (diagonals + 2)

    def run(self) -> None:
        """Search; what is not common is noted."""
        old, new = self._old, self._new
        boxes = [(0, len(old), 0, len(new), False)]
        while boxes:
            old_start, old_end, new_start, new_end, is_exact = boxes.pop()
            before = old_start + old_end
            while old_start < old_end and new_start < new_end and old[old_start] == new[new_start]:
                old_start += 1
                new_start += 1
            while old_start < old_end and new_start < new_end and old[old_end - 1] == new[new_end - 1]:
                old_end -= 1
                new_end -= 1
            self._budget.spend(abs(before - old_start - old_end) // 8 + 2)
            if old_start == old_end:
                self.new_changed += range(new_start, new_end)
            elif new_start == new_end:
                self.old_changed += range(old_start, old_end)
            else:
                i, j, is_low_exact, is_high_exact = self._split(old_start, old_end, new_start, new_end, is_exact)
                boxes.append((i, old_end, j, new_end, is_high_exact))
                boxes.append((old_start, i, new_start, j, is_low_exact))

    def _split(  # noqa: PLR0912 - a call for each diagonal would double its time
        self, off1: int, lim1: int, off2: int, lim2: int, is_exact: bool
    ) -> tuple[int, int, bool, bool]:
        """Find a point on the way through a box, and tell which of the two halves must be searched to the end."""
        old, new, forward, backward = self._old, self._new, self._forward, self._backward
        lowest, highest = off1 - lim2, lim1 - off2
        middle, back_middle = off1 - off2, lim1 - lim2
        is_odd = (middle - back_middle) & 1
        low = high = middle
        back_low = back_high = back_middle
        forward[middle], backward[back_middle] = off1, lim1
        cost = 0
        while True:
            cost += 1
            self._budget.spend(high - low + 4)
            has_snake = False
            # One diagonal more on either side; at the box's edge one less, because only every other one is looked at.
            if low > lowest:
                low -= 1
                forward[low - 1] = -1
            else:
                low += 1
            if high < highest:
                high += 1
                forward[high + 1] = -1
            else:
                high -= 1
            for diagonal in range(high, low - 1, -2):
                left, right = forward[diagonal - 1], forward[diagonal + 1]
                i = left + 1 if left >= right else right
                j = i - diagonal
                if i < lim1 and j < lim2 and old[i] == new[j]:
                    begin = i
                    i += 1
                    j += 1
                    while i < lim1 and j < lim2 and old[i] == new[j]:
                        i += 1
                        j += 1
                    if i - begin > _SNAKE:
                        has_snake = True
                        self._budget.spend((i - begin) >> 3)
                forward[diagonal] = i
                if is_odd and back_low <= diagonal <= back_high and backward[diagonal] <= i:
                    return i, i - diagonal, True, True
            if back_low > lowest:
                back_low -= 1
                backward[back_low - 1] = _FAR
            else:
                back_low += 1
            if back_high < highest:
                back_high += 1
                backward[back_high + 1] = _FAR
            else:
                back_high -= 1
            for diagonal in range(back_high, back_low - 1, -2):
                left, right = backward[diagonal - 1], backward[diagonal + 1]
                i = left if left < right else right - 1
                j = i - diagonal
                if i > off1 and j > off2 and old[i - 1] == new[j - 1]:
                    begin = i
                    i -= 1
                    j -= 1
                    while i > off1 and j > off2 and old[i - 1] == new[j - 1]:
                        i -= 1
                        j -= 1
                    if begin - i > _SNAKE:
                        has_snake = True
                        self._budget.spend((begin - i) >> 3)
                backward[diagonal] = i
                if not is_odd and low <= diagonal <= high and i <= forward[diagonal]:
                    return i, i - diagonal, True, True
            if is_exact:
                continue
            if has_snake and cost > _HEURISTIC_MIN_COST:
                box = (off1, lim1, off2, lim2)
                point = self._promising(forward, box, range(high, low - 1, -2), middle, cost)
                if point is not None:
                    return *point, True, False
                point = self._promising(backward, box, range(back_high, back_low - 1, -2), back_middle, cost)
                if point is not None:
                    return *point, False, True
            if cost >= self._max_cost:
                return self._give_up(off1, lim1, off2, lim2, range(high, low - 1, -2), range(back_high, back_low - 1, -2))

    def _promising(
        self, reached: list[int], box: tuple[int, int, int, int], diagonals: range, middle: int, cost: int
    ) -> tuple[int, int] | None:
        """Find the way from an end that came furthest, if it came far for its cost and over a run of equal lines."""
        off1, lim1, off2, lim2 = box
        is_backward = reached is self._backward
        from_i, from_j = (lim1, lim2) if is_backward else (off1, off2)
        above = 0 if is_backward else _SNAKE  # how much of the run is above the point
        best, found = 0, None
        for diagonal in diagonals:
            i = reached[diagonal]
            j = i - diagonal
            value = abs(i - from_i) + abs(j - from_j) - abs(diagonal - middle)
            if value <= _PROMISING * cost or value <= best or not (off1 < i < lim1 and off2 < j < lim2):
                continue
            start, new_start = i - above, j - above
            end, new_end = start + _SNAKE, new_start + _SNAKE
            if (
                start >= off1
                and new_start >= off2
                and end <= lim1
                and new_end <= lim2
                and self._old[start:end] == self._new[new_start:new_end]
            ):
                best, found = value, (i, j)
        return found

    def _give_up(
        self, off1: int, lim1: int, off2: int, lim2: int, diagonals: range, back_diagonals: range
    ) -> tuple[int, int, bool, bool]:
        """Take the point that is furthest from the end it was reached from."""
        furthest, point = -1, off1
        for diagonal in diagonals:
            i = min(self._forward[diagonal], lim1)
            j = i - diagonal
            if lim2 < j:
                i, j = lim2 + diagonal, lim2
            if furthest < i + j:
                furthest, point = i + j, i
        nearest, back_point = _FAR, lim1
        for diagonal in back_diagonals:
            i = max(off1, self._backward[diagonal])
            j = i - diagonal
            if j < off2:
                i, j = off2 + diagonal, off2
            if i + j < nearest:
                nearest, back_point = i + j, i
        if (lim1 + lim2) - nearest < furthest - (off1 + off2):
            return point, furthest - point, True, False
        return back_point, nearest - back_point, False, True
