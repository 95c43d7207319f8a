"""Confirming that the files of a workspace are what an operation made them, without reading or storing any of them.

Decided here: when the result of a restore, or of moving on to a merged tree, need not be captured. A capture reads what
changed, and makes trees and sidecar trees of it. After a restore of a whole state these would be the target's own but
for the times of the files that were put back: so the target's trees are recorded as they are, with its times, and a
fork of the restored state begins with the times that its sources and its build output had to each other, as a fork of
the target does. After a merge the tree is the merged one, and the sidecar the one before with the attributes of what
was made. What is looked at is that each file is still the very one that was made, and what the stat cache has to know
of it.

Called with the workspace lock held. Programs in a served tree are at a standstill. Where the kernel shows the workspace
they go on: there the kernel has to tell that nothing else has changed (`vfs.scan.upperwatch`), and attributes, which a
program may have set meanwhile, are looked at, too. Anything unusual gives None, and is captured as after any other
change. Reads the disk and changes nothing there.
"""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet

from avfs_git.gitstore.formats.trees import EMPTY_TREE, MODE_TREE, find_entry
from avfs_git.gitstore.source import ObjectSink
from avfs_git.host.files.closing import closing_fd
from avfs_git.paths import ROOT, Oid, TreePath, join, split
from avfs_git.values import NamedTuple
from avfs_git.vfs.layer.lower import DIRECTORY_MODE, LowerTree
from avfs_git.vfs.layer.plan import Plan, Step
from avfs_git.vfs.layer.readers import UpperReader
from avfs_git.vfs.layer.sidecar import SELF, Meta, Record, edit_sidecar, format_record
from avfs_git.vfs.scan.scan import DIRECTORY, FILE, WHITEOUT, WHITEOUT_PRINT, DirtySet, Found, Layer
from avfs_git.vfs.scan.statcache import (
    RACY_NS,
    DirCache,
    StatCache,
    StatCacheUpdate,
    is_same_entry,
    take_fingerprint,
    with_marks_of,
)
from avfs_git.vfs.scan.steady import KnownContent
from avfs_git.workspace.capture.captured import Captured
from avfs_git.workspace.opened.workspace import LockedWorkspace

_DECIDING = (b".git", b".gitignore")
"""Names that decide where their neighbours belong."""


class _Look(NamedTuple):
    """What steps have left on the disk."""

    prints: dict[TreePath, DirCache]
    files: dict[TreePath, os.stat_result]
    directories: dict[TreePath, os.stat_result]
    """Of directories that were copied up, or in which something changed."""
    gone: dict[TreePath, list[bytes]]
    emptied: list[TreePath]
    """Where directories were removed."""

    def sizes(self, known: Mapping[TreePath, KnownContent]) -> dict[Oid, int]:
        """Tell how large the files are: else each is looked up in the vault for that."""
        return {known[path].oid: found.st_size for path, found in self.files.items()}

    def update(self) -> StatCacheUpdate:
        """Make what the stat cache has to know."""
        update = StatCacheUpdate()
        for path in self.emptied:
            update.drop_subtree(path)
        for directory, entries in self.prints.items():
            update.set_directory(directory, entries, self.gone.get(directory, ()))
        return update


def confirm_restored(
    locked: LockedWorkspace,
    plan: Plan,
    known: Mapping[TreePath, KnownContent],
    trees: tuple[Oid | None, Oid | None],
) -> Captured | None:
    """Give what a capture would find after the steps of a restore; None if that has to be found out by capturing.

    The steps are all that was done since the last capture; `known` are the files that were made.
    """

    def confirm(layer: Layer, look: _Look) -> Captured | None:
        if locked.opened.shown_at is not None and not all(
            _is_as_wanted(layer, path, found, plan.target) for path, found in look.directories.items()
        ):
            return None
        is_touched = not all(map(_keeps_sidecar, plan.steps))
        return Captured(*trees, look.update(), sidecar_touched=is_touched, sizes=look.sizes(known))

    return _confirm(locked, plan.steps, known, confirm)


def confirm_advanced(
    locked: LockedWorkspace,
    sink: ObjectSink,
    steps: Sequence[Step],
    known: Mapping[TreePath, KnownContent],
    tree: Oid,
    now: tuple[Oid | None, Oid | None],
) -> Captured | None:
    """Give what a capture would find after moving on to a tree; None if that has to be found out by capturing.

    `steps` lead to `tree`; `now` is the tree and the sidecar tree before them.
    """
    if (
        tree == EMPTY_TREE
        or any(split(step.path)[1] in _DECIDING for step in steps)
        or not all(map(_keeps_sidecar, steps))
    ):
        return None
    # A directory that comes to hold its first file of git's, or loses its last one, has another place in the sidecar.
    for directory in {split(step.path)[0] for step in steps if step.before is None or step.after is None}:
        held = [None if root is None else find_entry(sink, root, directory) for root in (now[0], tree)]
        if any(entry is None or entry[0] != MODE_TREE for entry in held):
            return None

    def confirm(layer: Layer, look: _Look) -> Captured:
        edits: dict[TreePath, dict[bytes, Record | None]] = {directory: {} for directory in look.prints}
        for step in steps:
            directory, name = split(step.path)
            found = look.files.get(step.path)
            record = None if found is None or step.after is None else _record(found, step.after.mode, ())
            edits[directory][name] = record
        for directory, found in look.directories.items():
            above, name = split(directory) if directory != ROOT else (ROOT, SELF)
            edits.setdefault(above, {})[name] = _record(found, DIRECTORY_MODE, layer.dir_xattrs(directory))
        sidecar = edit_sidecar(sink, now[1], edits)
        return Captured(tree, sidecar, look.update(), sizes=look.sizes(known))

    return _confirm(locked, steps, known, confirm)


def _confirm(
    locked: LockedWorkspace,
    steps: Sequence[Step],
    known: Mapping[TreePath, KnownContent],
    conclude: Callable[[Layer, _Look], Captured | None],
) -> Captured | None:
    """Look at what the steps have left, if that can tell all, and conclude from it what a capture would find."""
    opened = locked.opened
    cache, is_shown = opened.cache, opened.shown_at is not None
    if cache is None or opened.state.recovered or not all(_is_simple(step, known) for step in steps):
        return None
    if opened.is_served and not is_shown and not opened.standstill.is_held:
        return None
    paths = {step.path for step in steps}

    def look_at(layer: Layer, dirty: DirtySet) -> Captured | None:
        look = _look(layer, steps, known, cache, is_shown=is_shown) if _are_all(dirty, paths) else None
        found = conclude(layer, look) if look is not None else None
        has_lists = isinstance(layer, UpperReader) and layer.with_lists  # which a capture warns of
        return None if has_lists else found

    return opened.mode.confirm(look_at, cache)


def _record(found: os.stat_result, mode: int, xattrs: tuple[tuple[bytes, bytes], ...]) -> Record:
    permissions = stat.S_IMODE(found.st_mode)
    usual = DIRECTORY_MODE if stat.S_ISDIR(found.st_mode) else 0o755 if mode & 0o100 else 0o644
    return format_record(Meta(found.st_mtime_ns, None if permissions == usual else permissions, xattrs))


def _look(
    layer: Layer, steps: Sequence[Step], known: Mapping[TreePath, KnownContent], cache: StatCache, *, is_shown: bool
) -> _Look | None:
    """Look at what the steps have left; None if it is anything else than what they made."""
    racy_after_ns = time.time_ns() - RACY_NS
    look = _Look({}, {}, {}, {}, [])
    prints = look.prints
    stats: dict[TreePath, os.stat_result] = {}
    made: dict[TreePath, dict[bytes, Found]] = {}
    """What is in the directories that were made, and was not looked at yet."""
    for step in steps:
        directory, name = split(step.path)
        if directory not in prints:
            prints[directory] = {}
            stats[directory] = layer.dir_stat(directory)
        here = prints[directory]
        found = made[directory].pop(name, None) if directory in made else layer.find(directory, name)
        if step.before is not None and step.before.is_dir:
            look.emptied.append(step.path)
        if step.after is None:
            if found is None:
                look.gone.setdefault(directory, []).append(name)
            elif found.kind == WHITEOUT:
                here[name] = WHITEOUT_PRINT
            else:
                return None
            continue
        if found is None or stat.S_IMODE(found.stat.st_mode) != stat.S_IMODE(step.after.mode):
            return None
        if step.after.is_dir:
            if found.kind != DIRECTORY or found.redirect is not None:
                return None
            made[step.path] = {entry.name: entry for entry in layer.list_dir(step.path)}
            look.directories[step.path] = found.stat
        elif (
            found.kind != FILE
            or not known[step.path].is_of(found.stat)
            or (is_shown and not _is_left_alone(layer, step.path, found))
        ):
            return None
        else:
            look.files[step.path] = found.stat
        here[name] = take_fingerprint(found.stat, opaque=found.opaque, racy_after_ns=racy_after_ns)
    if any(made.values()):
        return None
    _note_directories(cache.directories, layer, look, stats, made.keys(), racy_after_ns)
    return look


def _is_left_alone(layer: Layer, path: TreePath, found: Found) -> bool:
    """Whether a file that programs can open has no attributes and is as it was found.

    The watch is told of what they do from now on.
    """
    with closing_fd(layer.open_listed(*split(path))) as fd:
        now = os.fstat(fd)
        return take_fingerprint(now) == take_fingerprint(found.stat) and not layer.file_xattrs(fd, path)


def _is_as_wanted(layer: Layer, path: TreePath, found: os.stat_result, target: LowerTree) -> bool:
    """Whether a directory has the mode and the attributes of a state."""
    wanted = target.lookup(path)
    return (
        wanted is not None
        and stat.S_IMODE(found.st_mode) == stat.S_IMODE(wanted.mode)
        and layer.dir_xattrs(path) == wanted.xattrs
    )


def _is_simple(step: Step, known: Mapping[TreePath, KnownContent]) -> bool:
    """Tell whether a step made or removed a file or directory with nothing that a file system may refuse to keep."""
    before, after = step.before, step.after
    if step.path == ROOT or "gitlink" in (before and before.kind, after and after.kind):
        return False
    if after is None or not after.is_dir:
        return after is None or (step.path in known and not after.xattrs)
    return before is None and not after.xattrs


def _keeps_sidecar(step: Step) -> bool:
    """Whether the sidecars before and after say the same of it, times aside."""
    before, after = step.before, step.after
    if before is None or after is None:
        there = before or after
        if there is None or there.is_dir:
            return False  # of what was in a directory, files beside history too
        return there.tracked and not there.xattrs and there.mode & 0o7777 in (0o644, 0o755)
    return before.tracked and after.tracked and (before.mode, before.xattrs) == (after.mode, after.xattrs)


def _are_all(dirty: DirtySet, steps: AbstractSet[TreePath]) -> bool:
    """Whether nothing else may have changed than what is at or below some paths, and what leads to them."""
    pending = [(ROOT, dirty)]
    while pending:
        path, here = pending.pop()
        for name, below in here.names.items():
            there = join(path, name)
            if there in steps:
                continue
            if not below:
                return False
            pending.append((there, below))
    return True


def _note_directories(
    cached: Mapping[TreePath, DirCache],
    layer: Layer,
    look: _Look,
    stats: Mapping[TreePath, os.stat_result],
    made: AbstractSet[TreePath],
    racy_after_ns: int,
) -> None:
    """Add the fingerprints of the directories in which something changed, and of directories copied up for it.

    A directory in `made` has its own already.
    """
    waiting = list(look.prints)
    seen: set[TreePath] = set()
    while waiting:
        path = waiting.pop()
        if path in seen:
            continue
        seen.add(path)
        above, name = split(path) if path != ROOT else (ROOT, SELF)
        if path in made:
            waiting.append(above)
            continue
        before = cached.get(above, {}).get(name)
        found = stats.get(path) or layer.dir_stat(path)
        now = with_marks_of(before, take_fingerprint(found, racy_after_ns=racy_after_ns))
        if not is_same_entry(before, now):
            look.prints.setdefault(above, {})[name] = now
            look.directories[path] = found
        waiting.append(above)
