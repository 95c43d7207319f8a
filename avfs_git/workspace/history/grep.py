"""Searching files: of commits, and of workspaces as they are, with one run of git.

Decided here: which trees are searched, and in which states a match is. What several states have in common is searched
once. What is not committed, and what is ignored, is searched by the same engine, so that the result is that of a scan
of the files. Takes no lock: workspaces were captured before (`lent`). Reads only.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from contextlib import closing
from itertools import groupby
from operator import attrgetter

from avfs_git.errors import TooManyFiles
from avfs_git.gitstore.compare.grep import grep_trees
from avfs_git.gitstore.compare.grepanswer import Found
from avfs_git.gitstore.compare.treediff import Entry, find_differences
from avfs_git.gitstore.formats.trees import MODE_TREE, sort_tree
from avfs_git.model import GrepFile, GrepHit, GrepQuery, GrepResult
from avfs_git.paths import ROOT, Oid, TreePath, list_above, split
from avfs_git.vfs.layer.sidecar import parse_sidecar
from avfs_git.workspace.history.lent import LentObjects, State


class _Layer:
    """Files at paths that do not exclude each other, to be searched as one tree."""

    def __init__(self) -> None:
        self.files: dict[TreePath, Entry] = {}
        self._directories: set[TreePath] = set()

    def take(self, path: TreePath, entry: Entry) -> bool:
        """Take a file, unless its path excludes that of another one; tell whether it is taken."""
        above = list_above([path])
        if path in self._directories or any(directory in self.files for directory in above):
            return False
        self.files[path] = entry
        self._directories |= above
        return True

    def make_tree(self, objects: LentObjects) -> Oid:
        """Make the tree, in memory."""
        entries: dict[TreePath, dict[bytes, Entry]] = {directory: {} for directory in self._directories}
        for path, entry in self.files.items():
            directory, name = split(path)
            entries[directory][name] = entry
        for path in sorted(self._directories - {ROOT}, reverse=True):
            directory, name = split(path)
            entries[directory][name] = (MODE_TREE, _add(objects, entries.pop(path)))
        return _add(objects, entries[ROOT])


class _Plan:
    """The trees to search for some states: the first state's, and each file once that another state has differently."""

    def __init__(self, paths: Sequence[TreePath]) -> None:
        self._paths = paths
        self._whole: dict[Oid, list[State]] = {}
        """The states of which a tree is searched, but for the paths at which one of them is `differing`."""
        self._differing: dict[TreePath, set[str]] = {}
        self._holders: dict[tuple[TreePath, Entry], list[State]] = {}
        self._layers: list[_Layer] = []
        self._next: dict[TreePath, int] = {}
        """The first layer that has nothing yet at a path."""
        self._layered: dict[Oid, _Layer] = {}

    def add(self, objects: LentObjects, state: State, tree: Oid) -> None:
        """Add what is not searched yet of the tree of a state."""
        common = next(iter(self._whole), tree)
        try:
            differing = find_differences(objects, common, tree, paths=self._paths)
        except TooManyFiles:
            common, differing = tree, {}
        self._whole.setdefault(common, []).append(state)
        for path, (_, entry) in differing.items():
            self._differing.setdefault(path, set()).add(state.fork)
            if entry is not None:
                holders = self._holders.setdefault((path, entry), [])
                if not holders:
                    self._put(path, entry)
                holders.append(state)

    def _put(self, path: TreePath, entry: Entry) -> None:
        """Put a file into the first layer that can take it."""
        number = self._next.get(path, 0)
        while number == len(self._layers) or not self._layers[number].take(path, entry):
            if number == len(self._layers):
                self._layers.append(_Layer())
            else:
                number += 1
        self._next[path] = number + 1

    def make_trees(self, objects: LentObjects) -> list[Oid]:
        """Make the trees to be searched."""
        self._layered = {layer.make_tree(objects): layer for layer in self._layers}
        return [*self._whole, *self._layered]

    def list_holders(self, tree: Oid, path: TreePath) -> tuple[State, ...]:
        """List the states that have the file at a path of a tree."""
        differing = self._differing.get(path, ())
        whole = [state for state in self._whole.get(tree, ()) if state.fork not in differing]
        layer = self._layered.get(tree)
        return (*whole, *(self._holders[path, layer.files[path]] if layer is not None else ()))


def stream(objects: LentObjects, states: Sequence[State], query: GrepQuery) -> Generator[GrepHit]:
    """Search some states; give what is found as git finds it, of all states in common first.

    Of one state, nothing is kept. Of several, the matches of one file are, so that those of a state stand together.

    Raises:
        InvalidInput: If the query cannot mean anything.
    """
    with closing(_search(objects, states, query)) as answer:
        if len(states) == 1:
            for _, found in answer:
                yield _make_hit(states[0], found)
            return
        for _, together in groupby(answer, _place):
            file = list(together)
            for state in file[0][0]:
                yield from (_make_hit(state, found) for _, found in file)


def grep(objects: LentObjects, states: Sequence[State], query: GrepQuery) -> list[GrepResult]:
    """Search some states; give a result of each.

    Raises:
        InvalidInput: If the query cannot mean anything.
    """
    files: dict[str, list[GrepFile]] = {state.fork: [] for state in states}
    for _, together in groupby(_search(objects, states, query), _place):
        found = list(together)
        file = _join([each for _, each in found])
        for state in found[0][0]:
            files[state.fork].append(file)
    return [
        GrepResult(state.fork, state.name, tuple(sorted(files[state.fork], key=attrgetter("path"))), state.warnings)
        for state in states
    ]


def _search(
    objects: LentObjects, states: Sequence[State], query: GrepQuery
) -> Generator[tuple[tuple[State, ...], Found]]:
    """Give each match once, with the states that have it; those of a file one after the other."""
    plan = _Plan([TreePath(path) for path in query.paths])
    for state in states:
        tree = _choose_tree(objects, state, ignored=query.ignored)
        if tree is not None:
            plan.add(objects, state, tree)
    place, having = None, tuple[State, ...]()
    with closing(grep_trees(objects, plan.make_trees(objects), query)) as answer:
        for tree, found in answer:
            if (tree, found.path) != place:
                place = tree, found.path
                having = plan.list_holders(tree, TreePath(found.path))
            if having:
                yield having, found


def _place(each: tuple[tuple[State, ...], Found]) -> tuple[int, bytes]:
    return id(each[0]), each[1].path


def _make_hit(state: State, found: Found) -> GrepHit:
    return GrepHit(state.fork, state.name, found.path, found.line, found.binary, found.count)


def _join(found: Sequence[Found]) -> GrepFile:
    lines = tuple(each.line for each in found if each.line is not None)
    if not lines:
        return GrepFile(found[0].path, binary=found[0].binary, count=found[0].count)
    return GrepFile(found[0].path, count=len({line.number for line in lines if line.column is not None}), lines=lines)


def _choose_tree(objects: LentObjects, state: State, *, ignored: bool) -> Oid | None:
    """Choose what is searched of a state; with what is ignored, a tree that is made in memory."""
    if not ignored or state.sidecar is None:
        return state.tree
    return _join_trees(objects, state.tree, _list_untracked(objects, state.sidecar))


def _join_trees(objects: LentObjects, tree: Oid | None, other: Oid) -> Oid:
    if tree is None:
        return other
    entries = dict(objects.read_tree(tree))
    for name, (mode, oid) in objects.read_tree(other).items():
        held = entries.get(name)
        both = held is not None and held[0] == mode == MODE_TREE
        entries[name] = (mode, _join_trees(objects, held[1], oid) if held is not None and both else oid)
    return _add(objects, entries)


def _list_untracked(objects: LentObjects, sidecar: Oid) -> Oid:
    """Make a tree, in memory, of the files that only a sidecar holds."""
    children, _ = parse_sidecar(objects.read_tree(sidecar), sidecar)
    entries: Mapping[bytes, tuple[int, Oid]] = {
        name: (entry.mode, _list_untracked(objects, entry.oid) if entry.mode == MODE_TREE else entry.oid)
        for name, entry in children.items()
        if entry.untracked
    }
    return _add(objects, entries)


def _add(objects: LentObjects, entries: Mapping[bytes, Entry]) -> Oid:
    """Make a tree in memory; its names are not checked: a nested repository has a `.git`."""
    return objects.add_sorted(sort_tree(entries))
