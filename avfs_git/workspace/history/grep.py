"""Searching files: of commits, and of workspaces as they are, with one run of git.

Decided here: which trees are searched, and in which states a match is. What several states have in common is searched once. What
is not committed, and what is ignored, is searched by the same engine, so that the result is that of a scan of the files. Takes no
lock: workspaces were captured before (`lent`). Reads only.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import closing
from itertools import groupby
from operator import attrgetter

from avfs_git.errors import TooManyFiles
from avfs_git.gitstore.compare.grep import grep_trees
from avfs_git.gitstore.compare.grepanswer import Found
from avfs_git.gitstore.compare.treediff import find_differences
from avfs_git.gitstore.formats.trees import MODE_TREE, edit_tree, sort_tree
from avfs_git.model import GrepFile, GrepHit, GrepQuery, GrepResult
from avfs_git.paths import Oid
from avfs_git.values import NamedTuple
from avfs_git.vfs.layer.sidecar import parse_sidecar
from avfs_git.workspace.history.lent import LentObjects, State


class _Searched(NamedTuple):
    """How a state is searched: a tree of its own, and a common one without some paths."""

    state: State
    own: Oid | None
    differing: AbstractSet[bytes] | None
    """The paths at which it is not as the common tree; None if it has nothing of that."""

    def has(self, tree: Oid, path: bytes, common: Oid | None) -> bool:
        """Tell whether a file that is in a tree is in the state."""
        return tree == self.own or (tree == common and self.differing is not None and path not in self.differing)


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


def _search(objects: LentObjects, states: Sequence[State], query: GrepQuery) -> Generator[tuple[tuple[State, ...], Found]]:
    """Give each match once, with the states that have it; those of a file one after the other."""
    trees = [_choose_tree(objects, state, ignored=query.ignored) for state in states]
    common = next((tree for tree in trees if tree is not None), None) if len(trees) > 1 else None
    searched = [_compare(objects, common, state, tree) for state, tree in zip(states, trees, strict=True)]
    wanted = [tree for tree in (common, *(each.own for each in searched)) if tree is not None]
    place, having = None, tuple[State, ...]()
    with closing(grep_trees(objects.store, objects, wanted, query)) as answer:
        for tree, found in answer:
            if (tree, found.path) != place:
                place = tree, found.path
                having = tuple(each.state for each in searched if each.has(tree, found.path, common))
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


def _compare(objects: LentObjects, common: Oid | None, state: State, tree: Oid | None) -> _Searched:
    """Tell how a state is searched beside a common tree."""
    if common is None or tree is None:
        return _Searched(state, tree, None)
    try:
        differing = find_differences(objects, common, tree)
    except TooManyFiles:
        return _Searched(state, tree, None)
    changed = {path: now for path, (_, now) in differing.items() if now is not None}
    return _Searched(state, edit_tree(objects, objects, None, changed), differing.keys())


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
    return objects.add_sorted(sort_tree(entries))


def _list_untracked(objects: LentObjects, sidecar: Oid) -> Oid:
    """Make a tree, in memory, of the files that only a sidecar holds."""
    children, _ = parse_sidecar(objects.read_tree(sidecar), sidecar)
    entries: Mapping[bytes, tuple[int, Oid]] = {
        name: (entry.mode, _list_untracked(objects, entry.oid) if entry.mode == MODE_TREE else entry.oid)
        for name, entry in children.items()
        if entry.untracked
    }
    return objects.add_sorted(sort_tree(entries))  # unchecked: a nested repository has a `.git`
