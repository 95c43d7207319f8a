"""Where two lines of history parted: the best common ancestors of two commits.

Decided here: which ancestors count as best, with git's answer (`git merge-base --all`) as the measure, and that
clocks that were wrong change the cost but not the result. Merges call it. Pure functions over a way to read
commits, safe from any thread; nothing is kept between calls. The cost follows the commits walked, which are those
newer than the oldest of the ancestors.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Sequence

from avfs_git.gitstore.formats.commits import Links
from avfs_git.paths import Oid

_OURS, _THEIRS, _STALE, _FOUND = 1, 2, 4, 8

ReadLinks = Callable[[Oid], Links]


def find_merge_bases(read_links: ReadLinks, ours: Oid, theirs: Oid) -> list[Oid]:
    """List the common ancestors of two commits that are no ancestors of another one, newest first."""
    if ours == theirs:
        return [ours]
    candidates = _Walk(read_links).common_ancestors(ours, [theirs])
    best = [one for one in candidates if not _is_below_another(one, candidates, read_links)]
    return sorted(best, key=lambda oid: -read_links(oid).when_s)  # stable: equals as they were met


def is_ancestor(read_links: ReadLinks, ancestor: Oid, commit: Oid) -> bool:
    """Tell whether one commit is another one or can be reached from it."""
    return ancestor == commit or ancestor in _Walk(read_links).common_ancestors(ancestor, [commit])


def _is_below_another(one: Oid, all_of_them: Sequence[Oid], read_links: ReadLinks) -> bool:
    others = [other for other in all_of_them if other != one]
    return bool(others) and one in _Walk(read_links).common_ancestors(one, others)


class _Walk:
    """One walk back from two sides, painting what each can reach."""

    def __init__(self, read_links: ReadLinks) -> None:
        self._read = read_links
        self._links: dict[Oid, Links] = {}
        self._paint: dict[Oid, int] = {}
        self._queue: list[tuple[int, int, Oid]] = []
        self._pushed = 0
        self._fresh = 0
        """How many entries of the queue stand for commits that are not stale."""
        self._queued: dict[Oid, int] = {}

    def common_ancestors(self, ours: Oid, theirs: Iterable[Oid]) -> list[Oid]:
        """List what both sides reach first; with wrong clocks, some may be ancestors of others."""
        self._add(ours, _OURS)
        for oid in theirs:
            self._add(oid, _THEIRS)
        found: list[Oid] = []
        while self._fresh:
            _, _, oid = heapq.heappop(self._queue)
            self._queued[oid] -= 1
            paint = self._paint[oid]
            if not paint & _STALE:
                self._fresh -= 1
            passed_on = paint & (_OURS | _THEIRS | _STALE)
            if passed_on == _OURS | _THEIRS:
                if not paint & _FOUND:
                    self._paint[oid] |= _FOUND
                    found.append(oid)
                passed_on |= _STALE  # what it reaches is common as well, but not the best
            for parent in self._links[oid].parents:
                if self._paint.get(parent, 0) & passed_on != passed_on:
                    self._add(parent, passed_on)
        return [oid for oid in found if not self._paint[oid] & _STALE]

    def _add(self, oid: Oid, paint: int) -> None:
        before = self._paint.get(oid, 0)
        after = before | paint
        if not before & _STALE and after & _STALE:
            self._fresh -= self._queued.get(oid, 0)
        self._paint[oid] = after
        self._pushed += 1
        self._queued[oid] = self._queued.get(oid, 0) + 1
        if not after & _STALE:
            self._fresh += 1
        links = self._links.get(oid)
        if links is None:
            links = self._links[oid] = self._read(oid)
        # The number keeps commits of one second in the order in which they were met.
        heapq.heappush(self._queue, (-links.when_s, self._pushed, oid))
