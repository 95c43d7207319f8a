"""What has to be done to turn one state into another: the steps of a restore.

Decided here: which entries count as different (kind, content, permissions, attributes, and whether git tracks them;
not times), and in which order they are dealt with. Reads objects only. Equal subtrees are not opened, so that a plan
costs what differs.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from avfs_git.paths import ROOT, Oid, TreePath, components, join
from avfs_git.values import NamedTuple
from avfs_git.vfs.layer.lower import LowerEntry, LowerTree


class Step(NamedTuple):
    """One entry that differs."""

    path: TreePath
    before: LowerEntry | None
    after: LowerEntry | None

    @property
    def is_removal(self) -> bool:
        """Whether the old entry must be removed, because nothing or another kind of entry takes its place."""
        return self.before is not None and (self.after is None or self.before.is_dir != self.after.is_dir)


class Plan(NamedTuple):
    """The steps that lead from one state to another."""

    now: LowerTree
    target: LowerTree
    steps: Sequence[Step]


def plan_steps(now: LowerTree, target: LowerTree, paths: Sequence[TreePath] = ()) -> list[Step]:
    """List the entries that differ between two states, a directory before its contents.

    A directory that is removed or added stands for all that is in it before, and is followed by its children after.

    With `paths`, only these and what is below them.

    Raises:
        TooManyFiles: If more differ than avfs walks through.
    """
    if not paths:
        return list(_differences(ROOT, now, now.root, target, target.root))
    found: dict[TreePath, Step] = {}
    for path in paths:
        for step in _path_differences(path, now, target):
            found.setdefault(step.path, step)
    return [found[path] for path in sorted(found)]


def list_contents(steps: Iterable[Step]) -> Iterator[Oid]:
    """List the blobs of which the steps are made, files and targets of links."""
    for step in steps:
        if step.after is not None and step.after.oid is not None and not step.after.is_dir:
            yield step.after.oid


def _path_differences(path: TreePath, now: LowerTree, target: LowerTree) -> Iterator[Step]:
    before, after = now.lookup(path), target.lookup(path)
    if after is not None:
        # Directories that lead to it may be missing, or be something else by now.
        here = ROOT
        for name in components(path)[:-1]:
            here = join(here, name)
            there, wanted = now.lookup(here), target.lookup(here)
            if there is None or not there.is_dir:
                yield Step(here, there, wanted)
    yield from _compare(path, now, before, target, after)


def _differences(
    path: TreePath, now: LowerTree, left: LowerEntry, target: LowerTree, right: LowerEntry
) -> Iterator[Step]:
    stack = [(path, left, right)]
    bound = target.bound_below(right)
    while stack:
        here, before, after = stack.pop()
        if here == ROOT and _attributes_differ(before, after):
            yield Step(here, before, after)
        if (before.tree, before.sidecar) == (after.tree, after.sidecar):
            continue
        old, new = now.differing_children(before, target, after)
        bound.meet(len(new))
        for name in sorted(old.keys() | new.keys()):
            was, wanted = old.get(name), new.get(name)
            child = join(here, name)
            if was is not None and wanted is not None and was.is_dir and wanted.is_dir:
                if _attributes_differ(was, wanted) or was.kind != wanted.kind:
                    yield Step(child, was, wanted)
                stack.append((child, was, wanted))
            else:
                yield from _compare(child, now, was, target, wanted)


def _compare(
    path: TreePath, now: LowerTree, was: LowerEntry | None, target: LowerTree, wanted: LowerEntry | None
) -> Iterator[Step]:
    if was is None and wanted is None:
        return
    if was is not None and wanted is not None and was.is_dir and wanted.is_dir:
        if _attributes_differ(was, wanted):
            yield Step(path, was, wanted)
        yield from _differences(path, now, was, target, wanted)
        return
    if (
        was is not None
        and wanted is not None
        and not was.is_dir
        and not wanted.is_dir
        and not _files_differ(was, wanted)
    ):
        return
    yield Step(path, was, wanted)
    if wanted is not None and wanted.is_dir:
        yield from _contents(path, target, wanted)


def _contents(path: TreePath, tree: LowerTree, entry: LowerEntry) -> Iterator[Step]:
    stack = [(path, entry)]
    bound = tree.bound_below(entry)
    while stack:
        here, directory = stack.pop()
        children = tree.children(directory)
        bound.meet(len(children))
        for name, child in children.items():
            there = join(here, name)
            yield Step(there, None, child)
            if child.is_dir:
                stack.append((there, child))


def _attributes_differ(was: LowerEntry, wanted: LowerEntry) -> bool:
    return was.mode != wanted.mode or was.xattrs != wanted.xattrs


def _files_differ(was: LowerEntry, wanted: LowerEntry) -> bool:
    return (
        was.oid != wanted.oid
        or was.kind != wanted.kind
        or was.tracked != wanted.tracked
        or _attributes_differ(was, wanted)
    )
