"""How many files a walk through trees may meet.

Decided here: the limit, and how a walk learns that it will pass it. Ten trees, each naming the next ten times, stand
for ten thousand million files: no walk through them ends. A walk makes a `Bound` and tells it what it meets. After
`ASKED_AFTER` entries the `Bound` counts the rest, once; it reads each pair of trees once however often it is named, so
that the count costs what is stored.

Every walk through several levels of trees uses this, or visits each tree once (`visit_once`). Pure functions over an
`ObjectSource`; a `Bound` belongs to one thread.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, TypeVar

from avfs_git.errors import TooManyFiles
from avfs_git.gitstore.formats.trees import MODE_TREE, differing_names
from avfs_git.gitstore.source import ObjectSource, Tree
from avfs_git.paths import Oid

FILES_MAX: Final = 2_000_000
"""Files and directories that one walk may meet. At up to 1 KB of memory for each, a walk stays below 2 GB."""
ASKED_AFTER: Final = 200_000
"""Entries after which a walk counts the rest: few repositories have so many, and counting takes as long as walking."""

Pair = tuple[Oid | None, Oid | None]
"""A tree before and after; None for the empty tree."""
_NOTHING: Tree = {}
_T = TypeVar("_T")


class Bound:
    """Counts what a walk meets, and ends the walk of what is too much."""

    __slots__ = ("_count", "_pairs", "_source")

    def __init__(self, source: ObjectSource, *pairs: Pair) -> None:
        """Begin a walk through the differences between pairs of trees; `(None, tree)` is all of a tree."""
        self._source = source
        self._pairs = pairs
        self._count = 0

    def meet(self, count: int = 1) -> None:
        """Count entries that were met.

        Raises:
            TooManyFiles: If the whole walk would meet more than `FILES_MAX`.
        """
        self._count += count
        if self._count > ASKED_AFTER and self._pairs:
            self.ask()

    def ask(self) -> None:
        """Find out what the whole walk will meet, before it is begun: for walks that leave something behind."""
        pairs, self._pairs = self._pairs, ()
        if sum(count_differences(self._source, *pair) for pair in pairs) > FILES_MAX:
            raise TooManyFiles(FILES_MAX)


def count_differences(source: ObjectSource, old: Oid | None, new: Oid | None) -> int:
    """Count the files and directories that differ between two trees. Reads each pair of trees once."""
    counts: dict[Pair, int] = {}

    def list_below(pair: Pair) -> list[Pair]:
        counts[pair], below = _list_differences(source, pair)
        return below

    def add(pair: Pair, below: Sequence[Pair]) -> None:
        counts[pair] += sum([counts[child] for child in below])

    visit_once((old, new), list_below, add)
    return counts[old, new]


def visit_once(top: _T, list_below: Callable[[_T], list[_T]], add: Callable[[_T, Sequence[_T]], None]) -> None:
    """Visit each tree once, however often it is named, and after those in it."""
    done: set[_T] = set()
    entered: dict[_T, list[_T]] = {}
    pending = [top]
    while pending:
        tree = pending[-1]
        if tree in done:
            pending.pop()
        elif tree in entered:
            add(tree, entered.pop(tree))
            done.add(tree)
            pending.pop()
        else:
            entered[tree] = list_below(tree)
            pending += [below for below in entered[tree] if below not in done]


def _list_differences(source: ObjectSource, pair: Pair) -> tuple[int, list[Pair]]:
    """Count the entries that differ between two directories, and list the directories among them."""
    before, after = (_NOTHING if oid is None else source.read_tree(oid) for oid in pair)
    names = differing_names(before, after)
    below: list[Pair] = []
    for name in names:
        old, new = (_tree_in(tree.get(name)) for tree in (before, after))
        if old != new:
            below.append((old, new))
    return len(names), below


def _tree_in(entry: tuple[int, Oid] | None) -> Oid | None:
    return entry[1] if entry is not None and entry[0] == MODE_TREE else None
