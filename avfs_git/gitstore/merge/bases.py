"""Where two lines of history parted: the best common ancestors of two commits.

Decided here: which commits are on one side only; which ancestors count as best, with git's answer (`git merge-base
--all`) as the measure, and that wrong clocks change the cost but not the result. Merges and `apply` call it. Pure
functions over a way to read commits, safe from any thread; nothing is kept between calls. The cost follows the commits
walked, which are those newer than the oldest of the ancestors. After `_FAR` commits git is asked, which walks ten times
as fast and has a commit-graph; where it cannot tell, the walk goes on here.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

from avfs_git.gitstore.formats.commits import Links
from avfs_git.paths import Oid

_OURS, _THEIRS, _STALE, _FOUND = 1, 2, 4, 8

_FAR = 2_000

_ReadLinks = Callable[[Oid], Links]


class History(Protocol):
    """Commits, and where they lead."""

    def read_links(self, oid: Oid) -> Links:
        """Read of a commit what a walk through history needs."""

    def ask_merge_bases(self, ours: Oid, theirs: Oid) -> list[Oid] | None:
        """Ask git for the merge bases of two commits; None if it cannot tell."""


class _TooFar(Exception):
    """A walk has read many commits."""


def find_merge_bases(history: History, ours: Oid, theirs: Oid) -> list[Oid]:
    """List the common ancestors of two commits that are no ancestors of another one, newest first."""
    if ours == theirs:
        return [ours]
    try:
        best = _walk_to_bases(_up_to(history.read_links, _FAR), ours, theirs)
    except _TooFar:
        asked = history.ask_merge_bases(ours, theirs)
        best = _walk_to_bases(history.read_links, ours, theirs) if asked is None else asked
    return sorted(best, key=lambda oid: -history.read_links(oid).when_s)  # stable: equals as they were met


def _up_to(read_links: _ReadLinks, limit: int) -> _ReadLinks:
    left = limit

    def read(oid: Oid) -> Links:
        nonlocal left
        left -= 1
        if left < 0:
            raise _TooFar
        return read_links(oid)

    return read


def _walk_to_bases(read_links: _ReadLinks, ours: Oid, theirs: Oid) -> list[Oid]:
    candidates = _Walk(read_links).common_ancestors(ours, [theirs])
    return [one for one in candidates if not _is_below_another(one, candidates, read_links)]


def is_ancestor(history: History, ancestor: Oid, commit: Oid) -> bool:
    """Tell whether one commit is another one or can be reached from it."""
    return ancestor == commit or ancestor in find_merge_bases(history, ancestor, commit)


def list_commits(history: History, tip: Oid, known: Iterable[Oid], *, most: int = 10_000) -> list[Oid] | None:
    """List the commits that lead to a tip and to none of some known ones, newest first; None if there are too many.

    As git-rev-list(1) does: with clocks that are wrong, some may be listed that a known one leads to.
    """
    is_mine: dict[Oid, bool] = {}
    queue: list[tuple[int, int, Oid]] = []
    found: dict[Oid, None] = {}
    fresh: set[Oid] = set()
    """What was not listed yet and leads from the tip alone, as far as is known."""
    oldest_s = history.read_links(tip).when_s

    def add(oid: Oid, mine: bool) -> None:
        if is_mine.get(oid) is None or (is_mine[oid] and not mine):
            is_mine[oid] = mine
            (fresh.add if mine else fresh.discard)(oid)
            heapq.heappush(queue, (-history.read_links(oid).when_s, len(is_mine), oid))

    for oid in known:
        add(oid, False)
    add(tip, True)
    # What a known one leads to may be as old as what was listed: a script commits several times in a second.
    while queue and (fresh or -queue[0][0] >= oldest_s):
        when, _, oid = heapq.heappop(queue)
        if oid in fresh:
            fresh.remove(oid)
            found[oid] = None
            oldest_s = min(oldest_s, -when)
            if len(found) > most:
                return None
        for parent in history.read_links(oid).parents:
            add(parent, is_mine[oid])
    return [oid for oid in found if is_mine[oid]]


def _is_below_another(one: Oid, all_of_them: Sequence[Oid], read_links: _ReadLinks) -> bool:
    others = [other for other in all_of_them if other != one]
    return bool(others) and one in _Walk(read_links).common_ancestors(one, others)


class _Walk:
    """One walk back from two sides, painting what each can reach."""

    def __init__(self, read_links: _ReadLinks) -> None:
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
