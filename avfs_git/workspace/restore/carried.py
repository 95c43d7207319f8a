"""Attributes that a merge carries: what the other side changed in those of tracked files and directories.

Decided here: how the `user.` attributes and the permission bits of three states become those of one. What one side
changed is as that side has it. If both changed it, the target's stays, with a warning; tags of both sides come
together. Of the bits that git has, the merge of the trees decides. A file that either side renamed has, under its new
name, what the other side changed under the old one. `advance` calls this while it plans; reads objects only, and of the
two sidecars the parts that differ.
"""

from __future__ import annotations

import stat
from collections.abc import Iterator, Sequence

from avfs_git.gitstore.compare.renames import detect_renames
from avfs_git.gitstore.compare.treediff import diff_trees
from avfs_git.gitstore.formats.trees import MODE_TREE
from avfs_git.gitstore.source import ObjectSource
from avfs_git.model import Warning
from avfs_git.paths import ROOT, Oid, TreePath, join, show_path
from avfs_git.vfs.layer.lower import LowerEntry, LowerTree, set_execute_bits
from avfs_git.vfs.layer.plan import Step
from avfs_git.vfs.layer.sidecar import (
    SELF,
    Meta,
    differ_beyond_times,
    parse_differing_records,
    parse_sidecar,
)
from avfs_git.vfs.tags import USER, join_tags

_NONE = Oid(bytes(20))
_Attributes = dict[bytes, bytes]
_OF_GIT = (0o644, 0o755)
_BITS_OF_GIT = 0o111
"""What the merge of the trees decides of a mode."""


def carry_attributes(
    source: ObjectSource, steps: Sequence[Step], ours: LowerTree, base: LowerTree, theirs: LowerTree, wanted: LowerTree
) -> tuple[list[Step], list[Warning]]:
    """Give the steps to `wanted` the attributes that the other side changed; say which of them did not come."""
    planned = {step.path: step for step in steps}
    carried: dict[TreePath, tuple[TreePath, TreePath]] = {}
    """The paths that may get attributes, with those at which the base and the other side have them."""
    missing: list[TreePath] = []
    for path in _list_changed(source, base.root.sidecar, theirs):
        if wanted.lookup(path) is not None:
            carried[path] = path, path
        elif base.lookup(path) is not None:
            missing.append(path)
    if missing:
        renamed = _find_renames(source, base, ours)
        carried |= {renamed[path]: (path, path) for path in missing if path in renamed}
    lost = [path for step in steps if step.is_removal for path in _list_own(ours, step)]
    if lost:
        renamed = _find_renames(source, base, theirs)
        carried |= {renamed[path]: (path, renamed[path]) for path in lost if path in renamed}
    warnings = []
    for path, (old, there) in sorted(carried.items()):
        entry = wanted.lookup(path)
        step = planned.get(path)
        if entry is None or not entry.tracked or entry.kind == "symlink" or (step is not None and step.after is None):
            continue
        entry = step.after if step is not None and step.after is not None else entry
        mine = ours.lookup(old if ours.lookup(path) is None else path)
        states = base.lookup(old), mine, theirs.lookup(there)
        merged, refused = _merge(*map(_read, states))
        mode, is_refused = _merge_modes(states, entry)
        told = [f"the attribute '{show_path(name)}'" for name in refused]
        if is_refused:
            told.append("the permission bits")
        warnings += [
            Warning("merge.attribute_kept", f"both sides changed {what} of '{show_path(path)}'", path) for what in told
        ]
        if merged != _read(entry) or mode != entry.mode:
            before = step.before if step is not None else ours.lookup(path)
            planned[path] = Step(path, before, _with(entry, merged, mode))
    return list(planned.values()), warnings


def _list_changed(source: ObjectSource, base: Oid | None, theirs: LowerTree) -> Iterator[TreePath]:
    """List the tracked paths whose attributes differ between the sidecar of the base and that of the other side."""
    stack: list[tuple[TreePath, Oid | None, Oid]] = []
    if theirs.root.sidecar is not None:
        stack.append((ROOT, base, theirs.root.sidecar))
    while stack:
        path, old, new = stack.pop()
        if old == new:
            continue
        was, old_meta = parse_sidecar(source.read_tree(old), old) if old is not None else ({}, None)
        now, new_meta = parse_sidecar(source.read_tree(new), new)
        if old_meta != new_meta:
            before = source.read_blob(old_meta) if old_meta is not None else b""
            after = source.read_blob(new_meta) if new_meta is not None else b""
            left, right = parse_differing_records(before, old_meta or _NONE, after, new_meta or _NONE)
            for name in left.keys() | right.keys():
                there = path if name == SELF else join(path, name)
                if differ_beyond_times(left.get(name), right.get(name)) and _is_tracked(theirs, there):
                    yield there
        for name, child in now.items():
            held = was.get(name)
            below = join(path, name)
            if child.mode == MODE_TREE and (not child.untracked or _is_tracked(theirs, below)):
                stack.append((below, held.oid if held is not None and held.mode == MODE_TREE else None, child.oid))


def _is_tracked(tree: LowerTree, path: TreePath) -> bool:
    entry = tree.lookup(path)
    return entry is not None and (entry.tracked or path == ROOT)


def _list_own(ours: LowerTree, step: Step) -> Iterator[TreePath]:
    """List the tracked files with attributes, or with a mode that is not git's, that a step removes."""
    assert step.before is not None  # noqa: S101 - a removal removes an entry
    pending = [(step.path, step.before)]
    while pending:
        path, entry = pending.pop()
        if entry.kind == "dir":
            pending += [(join(path, name), child) for name, child in ours.children(entry).items() if child.tracked]
        elif entry.tracked and (entry.xattrs or stat.S_IMODE(entry.mode) not in _OF_GIT):
            yield path


def _find_renames(source: ObjectSource, base: LowerTree, side: LowerTree) -> dict[TreePath, TreePath]:
    """Find where a side has the files that it renamed since the base."""
    changes = detect_renames(source, diff_trees(source, base.root.tree, side.root.tree))
    return {TreePath(change.old_path): TreePath(change.path) for change in changes if change.old_path is not None}


def _read(entry: LowerEntry | None) -> _Attributes:
    return {name: value for name, value in entry.xattrs if name.startswith(USER)} if entry is not None else {}


def _merge(base: _Attributes, ours: _Attributes, theirs: _Attributes) -> tuple[_Attributes, list[bytes]]:
    """Merge the attributes of three states; give also the names of what both sides changed."""
    refused = []
    found: dict[bytes, bytes | None] = {}
    for name in sorted({*base, *ours, *theirs}):
        before, mine, other = base.get(name), ours.get(name), theirs.get(name)
        if mine in (before, other):
            found[name] = other
        elif other == before:
            found[name] = mine
        elif (tags := join_tags(name, before, mine, other)) is not None:
            found[name] = tags or None
        else:
            found[name] = mine
            refused.append(name)
    return {name: value for name, value in found.items() if value is not None}, refused


def _merge_modes(states: Sequence[LowerEntry | None], merged: LowerEntry) -> tuple[int, bool]:
    """Merge the modes of three states of a path; give also whether both sides changed what git's trees do not have."""
    entries = [entry for entry in states if entry is not None and entry.kind == merged.kind]
    if len(entries) < len(states):
        return merged.mode, False
    before, own, other = (entry.mode for entry in entries)
    mode = other if own == before else own
    if merged.kind == "file" and (mode ^ merged.mode) & stat.S_IXUSR:  # that is what the trees say
        mode = set_execute_bits(mode, is_executable=bool(merged.mode & stat.S_IXUSR))
    return mode, not {own, other} & {before} and bool((other ^ own) & ~_BITS_OF_GIT)


def _with(entry: LowerEntry, attributes: _Attributes, mode: int) -> LowerEntry:
    """Show an entry with other `user.` attributes, and another mode."""
    others = [pair for pair in entry.xattrs if not pair[0].startswith(USER)]
    meta = Meta(xattrs=tuple(sorted([*others, *attributes.items()])))
    return LowerEntry(
        entry.kind, mode, entry.mtime_ns, entry.oid, entry.tree, entry.sidecar, meta, tracked=entry.tracked
    )
