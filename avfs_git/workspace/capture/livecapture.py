"""Capturing a tree that a server shows, so that the capture is one moment and programs in the tree hardly wait for it.

Decided here: how much of a capture is done while programs go on. The first round captures all that has changed since the last
checkpoint, without the guard of the tree. Each further round captures what changed during the one before, until a round is
short. The last round holds the guard while it reads, and not while it deflates and writes. So programs wait for as long as it
takes to read what changed during one short round, however much has changed since the last checkpoint. A file that a program
writes to without a pause is left for the last round.

Called by `LockedWorkspace.capture`, with the workspace lock held and without the guard. The only link between two rounds is the
set of changed paths, so it has to name all of them: it does, because each change goes through this process. A round compares
with what the rounds before it found (`StatCacheAhead`), and a path is tracked if the last checkpoint tracks it, as in a capture
of the whole. Where a `.gitignore` or a `.git` changes during a round, what the rounds found is dropped, because rules may have
placed it that were true for a moment only; then all is captured under the guard. Nothing survives a crash, nothing is recorded.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Final, Protocol

from avfs_git.faults import reach
from avfs_git.model import Warning
from avfs_git.paths import TreePath
from avfs_git.vfs.scan.scan import DirtySet
from avfs_git.vfs.scan.statcache import RACY_NS, Fingerprints, StatCache, StatCacheAhead
from avfs_git.workspace.capture.capture import IGNORE, Capture, Captured
from avfs_git.workspace.capture.placing import GIT

ROUNDS_MAX: Final = 4
"""How many rounds are made without the guard at most."""
_TRIES: Final = 3
"""How many rounds `capture_beside` makes before it has programs held."""
_HELD_MAX: Final = 3
"""How many rounds are made while programs are held at most: one reads, the next finds that nothing changed."""
_SHORT_S: Final = 0.005
"""After a round that takes no longer, what changed during it is captured under the guard."""

_PER_FILE = "programs changed files without a pause: each file is as it was at one moment, but not all at the same one"

MakeCapture = Callable[[Fingerprints | None, DirtySet | None], Capture]
"""Makes the capture of a round, given what it compares with and a set for the files that are being written to."""


class ChangeSets(Protocol):
    """Knows which paths change, round by round. Called with the guard."""

    def begin_capture(self) -> DirtySet | None:
        """Take the paths that have changed since the last capture was recorded; None if only a scan tells."""

    def extend_capture(self) -> DirtySet | None:
        """Take the paths that have changed since the last call of either method; None if only a scan tells."""


def capture_live(
    changes: ChangeSets,
    guard: AbstractContextManager[object],
    cache: StatCache | None,
    make: MakeCapture,
    *,
    flush: Callable[[], object] | None = None,
) -> Captured:
    """Capture a tree that is served.

    With `guard` held, no program changes the tree. `make` makes the capture of a round.
    `flush` writes out pages that programs have mapped and changed. It is called once, right before the last round: what programs
    change in mapped memory after that is in the next checkpoint.

    Raises:
        FileChanging, LayerNotUnderstood, HostError: See `Capture.run`.
    """
    with guard:
        dirty = changes.begin_capture()
    found: Captured | None = None
    is_flushed = False
    for _ in range(ROUNDS_MAX):
        started = time.monotonic()
        postponed = DirtySet()
        found = _follow(found, make(_ahead(cache, found), postponed).run(dirty), dirty)
        with guard:
            dirty = _unite(changes.extend_capture(), postponed)
        if dirty is None or dirty.has_name(IGNORE) or dirty.has_name(GIT):
            found = None
            break
        if time.monotonic() - started > _SHORT_S:
            continue
        if flush is None or is_flushed:
            break
        flush()
        is_flushed = True
        with guard:
            dirty = _unite(changes.extend_capture(), dirty)
        if dirty is None or not dirty:
            break
    if flush is not None and not is_flushed:
        flush()
    with contextlib.ExitStack() as later, guard:
        if found is not None:
            dirty = _unite(changes.extend_capture(), dirty)
        if found is None or dirty is None or dirty.has_name(IGNORE) or dirty.has_name(GIT):
            return make(cache, None).run(changes.begin_capture())
        last = make(_ahead(cache, found), None)
        later.enter_context(last.deflating_later())
        write = last.look(dirty)
    return _follow(found, write(), dirty)


def capture_beside(
    cache: StatCache | None,
    make: MakeCapture,
    dirty: DirtySet | None,
    look_again: Callable[[Fingerprints | None], DirtySet | None],
    hold: Callable[[], AbstractContextManager[object]],
) -> Captured:
    """Capture a tree that programs change meanwhile, of one moment if that is possible.

    What one round finds and the next one finds again was there when the first round ended. After `_TRIES` rounds that found
    other files each, programs are held, for `_HELD_MAX` rounds at most. After these, every file is as it was at one moment,
    but not all at the same one: a warning says so. Only in the last rounds is a file waited for that a program writes to.

    Args:
        cache: What the last capture found; None to read everything.
        make: Makes the capture of a round.
        dirty: The only paths that can differ from the cache; None if that is not known.
        look_again: Called before each further round with what was found so far; gives the only paths that can differ from the
            cache now.
        hold: Holds programs, as far as possible. What it left out is found by the rounds.
    """
    found: Captured | None = None
    left = DirtySet()
    with contextlib.ExitStack() as holding:
        for turn in range(_TRIES + _HELD_MAX):
            ahead = _ahead(cache, found)
            if turn == _TRIES:
                holding.enter_context(make(ahead, None).deflating_later())
                holding.enter_context(hold())
                reach("capture.held")
                time.sleep(RACY_NS / 1e9)  # after that, times tell the last writes, and each file is read only once
            if turn:
                dirty = _unite(look_again(ahead), left)
            postponed = DirtySet() if turn < _TRIES else None
            now = make(ahead, postponed).run(dirty)
            if found is not None and (now.tree, now.sidecar) == (found.tree, found.sidecar) and not left and not postponed:
                return _follow(found, now, dirty)
            left = postponed or DirtySet()
            # What was found before may be placed by rules that were true for a moment only.
            is_void = found is not None and now.update.names_any((IGNORE, GIT))
            found = None if is_void else _follow(found, now, dirty)
    if found is None:
        found = make(cache, None).run(dirty)
    found.warnings.append(Warning("capture.per_file", _PER_FILE))
    return found


def _ahead(cache: StatCache | None, found: Captured | None) -> Fingerprints | None:
    if found is None:
        return cache
    return StatCacheAhead(cache, found.update, tree=found.tree, sidecar=found.sidecar)


def _unite(one: DirtySet | None, other: DirtySet | None) -> DirtySet | None:
    """Join two sets of changes; the second one is not to be used afterwards."""
    if one is None or other is None:
        return None
    one.update(other)
    return one


def _follow(before: Captured | None, after: Captured, dirty: DirtySet | None) -> Captured:
    """Say what two captures found, of which the second one looked only at some paths."""
    if before is None:
        return after
    looked_at = dirty or DirtySet()
    still = [warning for warning in before.warnings if warning.path is None or not looked_at.may_hold(TreePath(warning.path))]
    return Captured(
        after.tree,
        after.sidecar,
        before.update.join(after.update),
        list(dict.fromkeys(still + after.warnings)),  # some are not about a path that was looked at, and told each time
        before.sidecar_touched or after.sidecar_touched,
        before.sizes | after.sizes,
        before.blob_paths | after.blob_paths,
        after.began_ns,
        before.is_partial or after.is_partial,
    )
