"""Capturing a tree that a server shows, so that the capture is one moment and programs in the tree hardly wait for it.

Decided here: how much of a capture is done while programs go on. The first round captures all that has changed since
the last checkpoint, without the guard of the tree. Each further round captures what changed during the one before,
until a round is short. The last round holds the guard while it reads, and not while it deflates and writes. So programs
wait for as long as it takes to read what changed during one short round, however much has changed since the last
checkpoint. A file that a program writes to without a pause is left for the last round.

Called by the modes of an open workspace (`workspace.opened`), with the workspace lock held and without the guard. The
rounds of a status begin with what the last status found (`looked`). The only link between two rounds is the set of
changed paths, so it has to name all of them: it does, because each change goes through this process. A round compares
with what the rounds before it found (`StatCacheAhead`), and a path is tracked if the last checkpoint tracks it, as in a
capture of the whole. Where a `.gitignore` or a `.git` changes during a round, what the rounds found is dropped, because
rules may have placed it that were true for a moment only; then all is captured under the guard. Nothing survives a
crash, nothing is recorded.
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
from avfs_git.vfs.scan.statcache import RACY_NS, Fingerprints, StatCache, StatCacheAhead, StatCacheUpdate
from avfs_git.workspace.capture.capture import IGNORE, Capture
from avfs_git.workspace.capture.captured import Captured
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

    def begin_capture(self, rounds: Rounds | None = None) -> DirtySet | None:
        """Take the paths that have changed since the last capture was recorded; None if only a scan tells.

        If the rounds go on from a later capture, the paths that have changed since.
        """

    def extend_capture(self) -> DirtySet | None:
        """Take the paths that have changed since the last call of either method; None if only a scan tells."""


class Rounds:
    """The rounds of one capture, each of which goes on from what those before it found.

    Attributes:
        cache: What the last recorded capture found; None if that is not known.
        is_afresh: Whether the first round compares with nothing, and reads all of the upper layer.
        found: What the rounds have found so far.
        has_new_rules: Whether a `.gitignore` or a `.git` is among what a round found after others. What those found
            before may be placed by rules that were true for a moment only.
        before_each: Called before each round.
    """

    def __init__(
        self, make: MakeCapture, cache: StatCache | None, found: Captured | None = None, *, is_afresh: bool = False
    ) -> None:
        """Prepare them; `found` is what an earlier look has found, which wrote to the same sink."""
        self._make = make
        self.cache = cache
        self.is_afresh = is_afresh
        self.found = found
        self.has_new_rules = False
        self.before_each: Callable[[], object] | None = None

    def goes_on_from(self, update: StatCacheUpdate | None) -> bool:
        """Whether they begin with what a certain capture has found."""
        return self.found is not None and self.found.update is update

    @property
    def ahead(self) -> Fingerprints | None:
        """What the next round compares with."""
        if self.found is not None:
            return StatCacheAhead(self.cache, self.found.update, tree=self.found.tree, sidecar=self.found.sidecar)
        return None if self.is_afresh else self.cache

    def make(self, postponed: DirtySet | None = None) -> Capture:
        """Make the capture of the next round; `follow` is told what it found."""
        if self.before_each is not None:
            self.before_each()
        return self._make(self.ahead, postponed)

    def run(self, dirty: DirtySet | None, postponed: DirtySet | None = None) -> Captured:
        """Make one round, which looks at some paths or, with None, at all; say what all rounds have found."""
        return self.follow(self.make(postponed).run(dirty), dirty)

    def follow(self, now: Captured, dirty: DirtySet | None) -> Captured:
        """Say what all rounds have found, of which the last one looked only at some paths."""
        before = self.found
        if before is not None:
            self.has_new_rules = self.has_new_rules or now.update.names_any((IGNORE, GIT))
            looked_at = dirty or DirtySet()
            still = [
                told for told in before.warnings if told.path is None or not looked_at.may_hold(TreePath(told.path))
            ]
            now = Captured(
                now.tree,
                now.sidecar,
                before.update.join(now.update),
                # some are not about a path that was looked at, and told each time
                list(dict.fromkeys(still + now.warnings)),
                before.sidecar_touched or now.sidecar_touched,
                before.sizes | now.sizes,
                before.blob_paths | now.blob_paths,
                now.began_ns,
                before.is_partial or now.is_partial,
            )
        self.found = now
        return now


def capture_live(
    changes: ChangeSets,
    guard: AbstractContextManager[object],
    rounds: Rounds,
    *,
    flush: Callable[[], object] | None = None,
) -> Captured:
    """Capture a tree that is served.

    With `guard` held, no program changes the tree. `flush` writes out pages that programs have mapped and changed. It
    is called once, right before the last round: what programs change in mapped memory after that is in the next
    checkpoint.

    Raises:
        FileChanging, LayerNotUnderstood, HostError: See `Capture.run`.
    """
    with guard:
        dirty = changes.begin_capture(rounds)
    is_flushed = False
    for _ in range(ROUNDS_MAX):
        started = time.monotonic()
        postponed = DirtySet()
        rounds.run(dirty, postponed)
        with guard:
            dirty = _unite(changes.extend_capture(), postponed)
        if dirty is None or dirty.has_name(IGNORE) or dirty.has_name(GIT):
            rounds.found = None
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
        if rounds.found is not None:
            dirty = _unite(changes.extend_capture(), dirty)
        if rounds.found is None or dirty is None or dirty.has_name(IGNORE) or dirty.has_name(GIT):
            rounds.found = None
            return rounds.run(changes.begin_capture())
        last = rounds.make()
        later.enter_context(last.deflating_later())
        write = last.look(dirty)
    return rounds.follow(write(), dirty)


def capture_beside(
    rounds: Rounds,
    dirty: DirtySet | None,
    look_again: Callable[[Fingerprints | None], DirtySet | None],
    hold: Callable[[], AbstractContextManager[object]],
) -> Captured:
    """Capture a tree that programs change meanwhile, of one moment if that is possible.

    What one round finds and the next one finds again was there when the first round ended. After `_TRIES` rounds that
    found other files each, programs are held, for `_HELD_MAX` rounds at most. After these, every file is as it was at
    one moment, but not all at the same one: a warning says so. Only in the last rounds is a file waited for that a
    program writes to.

    Args:
        rounds: Its rounds.
        dirty: The only paths that can differ from the cache; None if that is not known.
        look_again: Called before each further round with what was found so far; gives the only paths that can differ
            from the cache now.
        hold: Holds programs, as far as possible. What it left out is found by the rounds.
    """
    left = DirtySet()
    with contextlib.ExitStack() as holding:
        for turn in range(_TRIES + _HELD_MAX):
            if turn == _TRIES:
                holding.enter_context(rounds.make().deflating_later())
                holding.enter_context(hold())
                reach("capture.held")
                time.sleep(RACY_NS / 1e9)  # after that, times tell the last writes, and each file is read only once
            if turn:
                dirty = _unite(look_again(rounds.ahead), left)
            postponed = DirtySet() if turn < _TRIES else None
            found, now = rounds.found, rounds.run(dirty, postponed)
            if (
                found is not None
                and (now.tree, now.sidecar) == (found.tree, found.sidecar)
                and not left
                and not postponed
            ):
                return now
            left = postponed or DirtySet()
            if rounds.has_new_rules:
                rounds.found, rounds.has_new_rules = None, False
    result = rounds.found or rounds.run(dirty)
    result.warnings.append(Warning("capture.per_file", _PER_FILE))
    return result


def _unite(one: DirtySet | None, other: DirtySet | None) -> DirtySet | None:
    """Join two sets of changes; the second one is not to be used afterwards."""
    if one is None or other is None:
        return None
    one.update(other)
    return one
