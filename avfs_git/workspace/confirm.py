"""Confirming that the files of a workspace are what a restore made them, without reading or storing any of them.

Decided here: when the result of a restore need not be captured. A capture reads what changed, and makes trees and sidecar
trees of it; after a restore of a whole state these would be the target's own but for the times of the files that were
put back. So the target's trees are recorded as they are, with its times: a fork of the restored state then begins with
the times that its sources and its build output had to each other, as a fork of the target does. What is looked at is
that each file is still the very one that was made, and what the stat cache has to know of it.

Called with the workspace lock held, while nothing else can write to the files. Anything unusual gives None, and is
captured as after any other change. Reads the disk and changes nothing.
"""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Mapping, Sequence

from avfs_git.paths import ROOT, Oid, TreePath, split
from avfs_git.vfs.layers import UpperReader
from avfs_git.vfs.plan import Step
from avfs_git.vfs.scan import FILE, WHITEOUT, WHITEOUT_PRINT
from avfs_git.vfs.sidecar import SELF
from avfs_git.vfs.statcache import DirCache, StatCacheUpdate, is_same_entry, take_fingerprint
from avfs_git.vfs.steady import KnownContent
from avfs_git.workspace.capture import RACY_NS, Captured
from avfs_git.workspace.workspace import LockedWorkspace


def confirm_restored(
    locked: LockedWorkspace, steps: Sequence[Step], known: Mapping[TreePath, KnownContent], trees: tuple[Oid | None, Oid | None]
) -> Captured | None:
    """Give what a capture would find after the steps of a restore; None if that has to be found out by capturing.

    Args:
        locked: The workspace, in the captured state but for the steps.
        steps: All that was done to it: they lead to the state of the trees.
        known: The files that were made, by path.
        trees: The tree and the sidecar tree of that state.
    """
    opened = locked.opened
    if opened.is_served or opened.dirty is None or opened.cache is None or opened.state.recovered:
        return None
    if not all(_is_simple(step, known) for step in steps):
        return None
    racy_after_ns = time.time_ns() - RACY_NS
    reader = UpperReader(opened.upper)
    prints: dict[TreePath, DirCache] = {}
    stats: dict[TreePath, os.stat_result] = {}
    gone: dict[TreePath, list[bytes]] = {}
    for step in steps:
        directory, name = split(step.path)
        if directory not in prints:
            prints[directory] = {}
            stats[directory] = reader.dir_stat(directory)
        here = prints[directory]
        found = reader.find(directory, name)
        if step.after is None:
            if found is None:
                gone.setdefault(directory, []).append(name)
            elif found.kind == WHITEOUT:
                here[name] = WHITEOUT_PRINT
            else:
                return None
            continue
        made = known[step.path]
        if found is None or found.kind != FILE or (found.stat.st_ino, found.stat.st_mtime_ns) != (made.ino, made.mtime_ns):
            return None
        if stat.S_IMODE(found.stat.st_mode) != stat.S_IMODE(step.after.mode):
            return None
        here[name] = take_fingerprint(found.stat, racy_after_ns=racy_after_ns)
    _note_directories(opened.cache.directories, reader, prints, stats, racy_after_ns)
    update = StatCacheUpdate()
    for directory, entries in prints.items():
        update.set_directory(directory, entries, gone.get(directory, ()))
    touched = not all(_keeps_sidecar(step) for step in steps)
    return Captured(*trees, update, sidecar_touched=touched)


def _is_simple(step: Step, known: Mapping[TreePath, KnownContent]) -> bool:
    """Whether a step made or removed one file, with nothing that a file system may have refused to keep."""
    before, after = step.before, step.after
    if step.path == ROOT or (before is not None and before.is_dir):
        return False
    return after is None or (step.path in known and not after.xattrs)


def _keeps_sidecar(step: Step) -> bool:
    """Whether the sidecars before and after say the same of it, times aside."""
    before, after = step.before, step.after
    if before is None or after is None:
        return False
    return before.tracked and after.tracked and (before.mode, before.xattrs) == (after.mode, after.xattrs)


def _note_directories(
    cached: Mapping[TreePath, DirCache],
    reader: UpperReader,
    prints: dict[TreePath, DirCache],
    stats: Mapping[TreePath, os.stat_result],
    racy_after_ns: int,
) -> None:
    """Add the fingerprints of the directories in which something changed, and of those that were brought up for it."""
    waiting = list(prints)
    seen: set[TreePath] = set()
    while waiting:
        path = waiting.pop()
        if path in seen:
            continue
        seen.add(path)
        above, name = split(path) if path != ROOT else (ROOT, SELF)
        before = cached.get(above, {}).get(name)
        opaque = before is not None and bool(before[-1])
        now = take_fingerprint(stats.get(path) or reader.dir_stat(path), opaque=opaque, racy_after_ns=racy_after_ns)
        if not is_same_entry(before, now):
            prints.setdefault(above, {})[name] = now
        waiting.append(above)
