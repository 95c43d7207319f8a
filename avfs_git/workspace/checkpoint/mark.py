"""Remembering what a capture has read, once a commit records it: it is not read again.

Called with the workspace locked, after the refs of an operation have moved. The stat cache is the last step of a
checkpoint; without it the next capture only reads more, so that a refusal of the disk is a warning.
"""

from __future__ import annotations

import contextlib

from avfs_git.errors import HostError
from avfs_git.gitstore.source import ObjectSource
from avfs_git.model import Warning
from avfs_git.paths import Oid
from avfs_git.vfs.scan.statcache import StatCache
from avfs_git.workspace.capture.captured import Captured
from avfs_git.workspace.capture.sidecardiff import diff_sidecars
from avfs_git.workspace.opened.workspace import LockedWorkspace


def mark_captured(locked: LockedWorkspace, captured: Captured, *, commit: Oid | None) -> list[Warning]:
    """Remember a capture whose objects are durable. Returns what the disk refused."""
    opened = locked.opened
    cache = opened.cache
    if cache is None:
        cache = StatCache(opened.layout.statcache)
    refused = cache.commit_update(captured.update, tree=captured.tree, sidecar=captured.sidecar, commit=commit)
    opened.adopt_cache(cache)
    opened.mode.end_capture(captured)
    opened.epoch = opened.lock.epoch
    if captured.is_partial:
        opened.dirty = None  # what is in the directory that was not read may have changed
    else:
        unmarked = opened.lock.mark_clean(opened.epoch, commit or bytes(20))
        refused = refused or unmarked
    if opened.state.recovered:
        opened.state.recovered = []
        with contextlib.suppress(HostError):  # then it is told once more
            locked.write_state()
    return _cache_warnings(refused)


def mark_recorded(
    locked: LockedWorkspace, captured: Captured, commit: Oid, sidecar: Oid | None, source: ObjectSource
) -> list[Warning]:
    """Mark a capture as recorded by an older commit; the captured times may be in no object of the vault.

    Needed after a process made the commit and died before marking the capture: the next capture compares with that
    commit. `source` has the objects of the capture. Returns a warning if the stat cache could not be written.
    """
    opened = locked.opened
    cache = opened.cache
    if captured.sidecar in (sidecar, cache.sidecar if cache is not None else sidecar):
        # Not even a time is new. What was too young to be believed is old enough now, or is looked at once more.
        return mark_captured(locked, captured, commit=commit)
    if diff_sidecars(source, sidecar, captured.sidecar):
        return []  # git's commit is not all of it, and nothing else has been stored
    if cache is None or cache.commit != commit:
        cache = cache or StatCache(opened.layout.statcache)
        # What has new times is looked at again, so that they are recorded with the next commit.
        refused = cache.commit_update(captured.update.doubted(), tree=captured.tree, sidecar=sidecar, commit=commit)
        opened.adopt_cache(cache)
        return _cache_warnings(refused)
    return []


def _cache_warnings(refused: OSError | None) -> list[Warning]:
    if refused is None:
        return []
    return [
        Warning("cache.not_written", f"what was read could not be noted ({refused.strerror}): more is read next time")
    ]
