"""Which lines differ between two versions of a text, as git's merges see it.

Decided here: how lines are aligned. git's `ort` strategy uses the histogram comparison: of all runs of lines that both
versions have, the one whose rarest line occurs least often in the old version is kept, the longest of such, and what
is before and after it is compared in the same way. Where every common line occurs too often, the classic comparison
(`myers`) takes over for that part. Then each change slides: up as far as it goes, down as far as it goes, and back to
where the other version changed something as well, so that changes become whole. All of it is git's answer to the
line; that is what makes merges agree.

Lines are compared as numbers (`number_lines`). Comparisons work within a budget of steps: what git takes seconds for
would take minutes here, so beyond the budget libgit2 aligns the lines, with the classic comparison. Merges of
contents (`linemerge`) call this; pure functions over their arguments, safe from any thread.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from heapq import heapify, heappop, heappush, heapreplace
from io import BytesIO
from itertools import compress, count
from operator import attrgetter, ne
from typing import NamedTuple

from avfs_git.gitstore.gitversion import GitVersion, installed_git
from avfs_git.gitstore.myers import Block, Budget, BudgetSpent, compare_classic

_MAX_OCCURRENCES = 64
"""What occurs more often is no anchor: git's limit."""
_MANY_RUNS = 48
"""From so many runs on, going through them again for each part costs more than keeping them in order."""
_REFINES_SINCE: GitVersion = (2, 54)
"""git compares what a sliding change has joined once more."""
_WIDTH = array("i").itemsize
_CHUNK = 64
_MAX_CHUNK = 1 << 16


class Change(NamedTuple):
    """Lines of the old version that others of the new one take the place of; one of both may be none."""

    old_start: int
    old_count: int
    new_start: int
    new_count: int


class Numbered:
    """A text as numbers: equal lines have equal ones."""

    __slots__ = ("_places", "lines", "numbers", "raw")

    def __init__(self, lines: Sequence[bytes], numbers: list[int], raw: bytes) -> None:
        """Take a text.

        Args:
            lines: Each with its end of line, which the last one may lack.
            numbers: A number for each line.
            raw: The same numbers, for comparing many at once.
        """
        self.lines = lines
        self.numbers = numbers
        self.raw = raw
        self._places: tuple[dict[int, int], dict[int, list[int]]] | None = None

    def places(self) -> tuple[dict[int, int], dict[int, list[int]]]:
        """Tell where each line occurs last, and of those that occur more than once all places, in order."""
        if self._places is None:
            numbers = self.numbers
            last = dict(zip(numbers, count(), strict=False))
            many: dict[int, list[int]] = {}
            if len(last) < len(numbers):
                # Each of these is some line but not its last occurrence; found without code of ours for each line.
                for place in compress(count(), map(ne, map(last.__getitem__, numbers), count())):
                    many.setdefault(numbers[place], []).append(place)
                for number, places in many.items():
                    places.append(last[number])
            self._places = last, many
        return self._places

    def part(self, start: int, end: int) -> Numbered:
        """Take some of the lines."""
        return Numbered(self.lines[start:end], self.numbers[start:end], self.raw[start * _WIDTH : end * _WIDTH])


def number_lines(base: bytes, ours: bytes, theirs: bytes) -> tuple[Numbered, Numbered, Numbered]:
    """Split three contents into lines and number them, alike in all of them."""
    split = [BytesIO(content).readlines() for content in (base, ours, theirs)]  # which ends lines at \n alone
    known: dict[bytes, int] = {}
    start = 0
    for lines in split:
        # Any number will do: that of a line's last appearance needs no code of ours for each line.
        known.update(zip(lines, count(start), strict=False))
        start += len(lines)
    first, second, third = (_number(lines, known) for lines in split)
    return first, second, third


def _number(lines: list[bytes], known: dict[bytes, int]) -> Numbered:
    numbers = list(map(known.__getitem__, lines))
    return Numbered(lines, numbers, array("i", numbers).tobytes())


def compare_lines(old: Numbered, new: Numbered, budget: Budget, *, git_version: GitVersion | None = None) -> list[Change]:
    """List what differs between two texts that were numbered together, from top to bottom.

    Args:
        old: The version that is compared with.
        new: The other.
        budget: What this and further comparisons may cost; libgit2 makes those that it does not suffice for.
        git_version: Whose answer is wanted; the installed git's by default.
    """
    if old.raw == new.raw:
        return []
    try:
        blocks = _Histogram(old, new, budget).find_blocks()
        before, after = _group(blocks, len(old.numbers), len(new.numbers))
        before, after = _slide(old, new, before, after, budget, git_version)
        after, before = _slide(new, old, after, before, budget, git_version)
    except BudgetSpent:
        return _compare_by_libgit2(old, new)
    return _join(before, after)


def _compare_by_libgit2(old: Numbered, new: Numbered) -> list[Change]:
    import pygit2  # noqa: PLC0415 - hardly any merge needs it here
    from pygit2.enums import DiffOption  # noqa: PLC0415

    patch = pygit2.Patch.create_from(
        b"".join(old.lines), b"".join(new.lines), context_lines=0, flag=DiffOption.FORCE_TEXT, interhunk_lines=0
    )
    # A hunk without lines on one side names the line before it, one with lines the first of them; lines count from 1.
    return [
        Change(
            hunk.old_start - (hunk.old_lines > 0),
            hunk.old_lines,
            hunk.new_start - (hunk.new_lines > 0),
            hunk.new_lines,
        )
        for hunk in patch.hunks
    ]


# --- the histogram comparison --------------------------------------------------------------------------------------


class _Region(NamedTuple):
    """Lines of the old version and lines of the new one that are compared with each other."""

    old_start: int
    old_end: int
    new_start: int
    new_end: int

    @property
    def size(self) -> int:
        """How many lines these are; none if either version has none."""
        old, new = self.old_end - self.old_start, self.new_end - self.new_start
        return old + new if old and new else 0

    def around(self, block: Block) -> tuple[_Region, _Region]:
        """Tell what is above and below a run."""
        return (
            _Region(self.old_start, block.old, self.new_start, block.new),
            _Region(block.old + block.length, self.old_end, block.new + block.length, self.new_end),
        )

    def clip(self, block: Block) -> Block:
        """Tell which part of a run is here; its length is not above 0 if none is."""
        cut = max(self.old_start - block.old, self.new_start - block.new, 0)
        end = min(self.old_end - block.old, self.new_end - block.new, block.length)
        return Block(block.old + cut, block.new + cut, end - cut)


class _Choice(NamedTuple):
    """Which run a region keeps."""

    block: Block | None
    fewest: int
    """How often its rarest line occurs in the old version's lines there."""
    is_common: bool
    """Whether the region has anything in common, however often."""
    is_odd: bool
    """Whether a run with a line that occurs once gave way to a longer one that has none."""

    @property
    def is_rare(self) -> bool:
        """Whether it is the longest of the runs that have a line that occurs once."""
        return self.fewest == 1 and not self.is_odd


_SIZE = attrgetter("size")

_Heap = list[tuple[int, int, int]]
"""Runs, the longest first: the length, negative, and the starts in the new and the old version."""


class _Histogram:
    """One comparison.

    Where some common line occurs once in the old version, a region keeps the longest of the runs that hold such a line. So these
    runs are collected once, and serve the larger part of what is left again and again; only the smaller one is looked
    through anew. What is different there is how far a run reaches, and which lines occur once. Before the first such
    line, others count as well, in the order in which they stand; so the beginning of each region is looked at again.
    """

    def __init__(self, old: Numbered, new: Numbered, budget: Budget) -> None:
        self._old = old
        self._new = new
        self._budget = budget
        self._last, self._many = old.places()
        self._runs: dict[tuple[int, int], tuple[int, int]] = {}
        """How far up and down the run reaches that two equal lines are in."""

    def find_blocks(self) -> list[Block]:
        """List what both versions have in common, in order."""
        blocks: list[Block] = []
        regions = [_Region(0, len(self._old.numbers), 0, len(self._new.numbers))]
        while regions:
            region = regions.pop()
            if not region.size:
                continue
            rare: _Heap = []
            found = self._choose(region, rare)
            if found.is_common and found.fewest > _MAX_OCCURRENCES:
                old, new = region.old_start, region.new_start
                numbers = self._old.numbers[old : region.old_end], self._new.numbers[new : region.new_end]
                blocks += [Block(old + one.old, new + one.new, one.length) for one in compare_classic(*numbers, self._budget)]
            elif found.block is not None and found.is_rare and len(rare) >= _MANY_RUNS:
                self._take_rare(region, found.block, rare, blocks, regions)
            elif found.block is not None:
                blocks.append(found.block)
                regions += region.around(found.block)
        blocks.sort()
        return blocks

    def _take_rare(self, region: _Region, first: Block, rare: _Heap, blocks: list[Block], regions: list[_Region]) -> None:
        """Keep one run after the other in a region and the larger part of what is left of it.

        Args:
            region: Where to look.
            first: The run that it keeps.
            rare: Each run in it with a line that occurs once there.
            blocks: Where what is kept goes.
            regions: Where what is still to be looked through goes.
        """
        heapify(rare)
        block = first
        while True:
            blocks.append(block)
            small, large = sorted(region.around(block), key=_SIZE)
            regions.append(small)
            if not large.size:
                return
            if self._many:
                self._add_rare(region, large, rare)
            region = large
            found = self._choose(region, None)
            if found.block is None or not found.is_rare:
                regions.append(region)
                return
            block = found.block
            longest = self._longest_rare(region, rare)
            if longest is not None and longest.length > block.length:
                block = longest

    def _longest_rare(self, region: _Region, rare: _Heap) -> Block | None:
        """Find the longest run with a line that occurs once in a region; it stays in the heap."""
        while rare:
            self._budget.spend(2)
            length, new, old = rare[0]
            known = Block(old, new, -length)
            here = region.clip(known)
            if here == known:
                return here
            start = here.old
            if here.length > 0 and self._rarest(start, start + here.length, region.old_start, region.old_end, 2) == 1:
                heapreplace(rare, (-here.length, here.new, start))
            else:
                heappop(rare)
        return None

    def _add_rare(self, before: _Region, region: _Region, rare: _Heap) -> None:
        """Add the runs of lines that occur once in a region and more often in the one that it is a part of."""
        numbers, many = self._old.numbers, self._many
        gone = {number for number in numbers[before.old_start : region.old_start] if number in many}
        gone.update([number for number in numbers[region.old_end : before.old_end] if number in many])
        self._budget.spend((before.old_end - before.old_start - region.old_end + region.old_start) // 4)
        last, more = self._new.places()
        for number in gone:
            known = many[number]
            first = bisect_left(known, region.old_start)
            if bisect_left(known, region.old_end, first) != first + 1 or number not in last:
                continue
            place = known[first]
            heres = more.get(number) or [last[number]]
            for here in heres[bisect_left(heres, region.new_start) : bisect_left(heres, region.new_end)]:
                self._budget.spend(4)
                up, down = self._runs.get((place, here)) or self._run(place, here)
                run = region.clip(Block(place - up, here - up, up + down))
                heappush(rare, (-run.length, run.new, run.old))

    def _choose(self, region: _Region, rare: _Heap | None) -> _Choice:
        """Choose the run to keep in a region.

        Args:
            region: Where to look.
            rare: Gets every run with a line that occurs once in the region. None for not looking on behind the first of these:
                then a longer one of these further down is to be preferred.
        """
        old_start, old_end, new_start, new_end = region
        numbers, last, many, runs = self._new.numbers, self._last, self._many, self._runs
        fewest = _MAX_OCCURRENCES + 1
        best_old = best_new = 0
        best_length = 1  # git counts a run's lines less one, so that one of a single line is not longer than none
        is_common = is_found = is_odd = False
        steps = 0
        at = new_start
        while at < new_end:
            here = at
            at += 1
            steps += 1
            number = numbers[here]
            place = last.get(number, -1)
            if place < old_start:
                continue
            known = many.get(number)
            if known is None:
                if place >= old_end:
                    continue
                is_common = True
                steps += 2
                up, down = runs.get((place, here)) or self._run(place, here)
                up = min(up, place - old_start, here - new_start)
                length = up + min(down, old_end - place, new_end - here)
                at = here - up + length
                if best_length < length or fewest > 1:
                    best_old, best_new, best_length = place - up, here - up, length
                    fewest = 1
                    is_found = True
                if rare is None:
                    break
                rare.append((-length, here - up, place - up))
                continue
            first, end = bisect_left(known, old_start), bisect_left(known, old_end)
            occurrences = end - first
            if not occurrences:
                continue
            is_common = True
            if occurrences > fewest:
                continue
            while first < end:
                place = known[first]
                steps += 4
                up, down = runs.get((place, here)) or self._run(place, here)
                up = min(up, place - old_start, here - new_start)
                length = up + min(down, old_end - place, new_end - here)
                start = place - up
                rarest = self._rarest(start, start + length, old_start, old_end, occurrences)
                at = max(at, here - up + length)
                if best_length < length or rarest < fewest:
                    is_odd = is_odd or (fewest == 1 and rarest > 1)
                    best_old, best_new, best_length = start, here - up, length
                    fewest = rarest
                    is_found = True
                if rarest == 1 and rare is not None:
                    rare.append((-length, here - up, start))
                first = bisect_left(known, start + length, first + 1, end)
            if rare is None and fewest == 1:
                break
            if steps > 4096:
                self._budget.spend(steps)
                steps = 0
        self._budget.spend(steps)
        return _Choice(Block(best_old, best_new, best_length) if is_found else None, fewest, is_common, is_odd)

    def _run(self, place: int, here: int) -> tuple[int, int]:
        """Find how many equal lines are above a pair of equal ones, and how many from it on, whatever the region."""
        old, new = self._old, self._new
        up, down = 0, 1
        if place and here and old.numbers[place - 1] == new.numbers[here - 1]:
            up = _common(old.raw, place, new.raw, here, min(place, here), above=True)
        limit = min(len(old.numbers) - place, len(new.numbers) - here)
        if limit > 1 and old.numbers[place + 1] == new.numbers[here + 1]:
            down = _common(old.raw, place, new.raw, here, limit)
        self._runs[place, here] = found = up, down
        return found

    def _rarest(self, start: int, end: int, old_start: int, old_end: int, rarest: int) -> int:
        """Count how often the rarest line of a run occurs in the region."""
        if rarest > 1:
            many = self._many
            for number in self._old.numbers[start:end]:
                known = many.get(number)
                if known is None:
                    return 1
                occurrences = bisect_left(known, old_end) - bisect_left(known, old_start)
                if occurrences < rarest:
                    rarest = occurrences
                    if rarest == 1:
                        break
        return rarest


def _common(first: bytes, i: int, second: bytes, j: int, limit: int, *, above: bool = False) -> int:
    """Count how many lines are equal from two places on, or right above them, at most as many as a limit."""
    equal, size = 0, _CHUNK
    i *= _WIDTH
    j *= _WIDTH
    while equal < limit:
        size = min(size, limit - equal)
        span = size * _WIDTH
        if above:
            i -= span
            j -= span
        left, right = first[i : i + span], second[j : j + span]
        if left != right:
            different = int.from_bytes(left, "little") ^ int.from_bytes(right, "little")
            if above:
                return equal + size - 1 - (different.bit_length() - 1) // (8 * _WIDTH)
            return equal + ((different & -different).bit_length() - 1) // (8 * _WIDTH)
        if not above:
            i += span
            j += span
        equal += size
        size = min(2 * size, _MAX_CHUNK)
    return equal


# --- sliding -------------------------------------------------------------------------------------------------------


class _Group(NamedTuple):
    """Neighbouring lines of one version that the other lacks."""

    key: int
    """How many common lines are above. The group of the other version with the same key is what took their place."""
    start: int
    end: int


def _group(blocks: Iterable[Block], old_length: int, new_length: int) -> tuple[list[_Group], list[_Group]]:
    """Turn what is common into what is not, for both versions."""
    before: list[_Group] = []
    after: list[_Group] = []
    key = old = new = 0
    for block in (*blocks, Block(old_length, new_length, 0)):
        if block.old > old:
            before.append(_Group(key, old, block.old))
        if block.new > new:
            after.append(_Group(key, new, block.new))
        key += block.length
        old, new = block.old + block.length, block.new + block.length
    return before, after


def _slide(
    text: Numbered, other: Numbered, groups: list[_Group], others: list[_Group], budget: Budget, git_version: GitVersion | None
) -> tuple[list[_Group], list[_Group]]:
    """Slide the groups of one version to where they belong; return those of both."""
    numbers, raw, length = text.numbers, text.raw, len(text.numbers)
    keys = [one.key for one in others]
    todo = groups[::-1]
    done: list[_Group] = []
    while todo:
        origin = todo.pop()
        key, start, end = origin
        while True:
            size = end - start
            # A group that touches the one above or below becomes one with it, and may slide further.
            while True:
                room = start - (done[-1].end if done else 0)
                if not room or numbers[start - 1] != numbers[end - 1]:
                    break
                by = _common(raw, start, raw, end, room, above=True)
                key, start, end = key - by, start - by, end - by
                if not done or by < room:
                    break
                start = done.pop().start
            highest = key
            while True:
                room = (todo[-1].start if todo else length) - end
                if not room or numbers[start] != numbers[end]:
                    break
                by = _common(raw, start, raw, end, room)
                key, start, end = key + by, start + by, end + by
                if not todo or by < room:
                    break
                end = todo.pop().end
            if end - start == size:
                break
        budget.spend(4)
        at = bisect_right(keys, key) - 1
        meets = at >= 0 and keys[at] >= highest
        if meets:
            by = key - keys[at]
            key, start, end = key - by, start - by, end - by
        found = _Group(key, start, end)
        if meets and found[1:] != origin[1:] and (git_version or installed_git()) >= _REFINES_SINCE:
            here, there, more = _compare_again(text, other, found, others[at], budget)
            done += here
            others[at : at + 1] = there
            budget.spend((len(others) + len(todo)) >> 3)
            below = at + len(there)
            others[below:] = [one._replace(key=one.key + more) for one in others[below:]]
            todo = [one._replace(key=one.key + more) for one in todo]
            keys = [one.key for one in others]
        else:
            done.append(found)
    return done, others


def _compare_again(
    text: Numbered, other: Numbered, here: _Group, there: _Group, budget: Budget
) -> tuple[list[_Group], list[_Group], int]:
    """Look for lines that two groups have in common; return what is left of both, and how many lines were found."""
    blocks = compare_classic(text.numbers[here.start : here.end], other.numbers[there.start : there.end], budget)
    left, right = _group(blocks, here.end - here.start, there.end - there.start)
    return (
        [_Group(here.key + one.key, here.start + one.start, here.start + one.end) for one in left],
        [_Group(there.key + one.key, there.start + one.start, there.start + one.end) for one in right],
        sum(block.length for block in blocks),
    )


def _join(before: list[_Group], after: list[_Group]) -> list[Change]:
    """Join the groups of both versions to changes."""
    old, new = {one.key: one for one in before}, {one.key: one for one in after}
    changes = []
    old_more = new_more = 0
    for key in sorted(old.keys() | new.keys()):
        old_count = old[key].end - old[key].start if key in old else 0
        new_count = new[key].end - new[key].start if key in new else 0
        changes.append(Change(key + old_more, old_count, key + new_more, new_count))
        old_more += old_count
        new_more += new_count
    return changes
