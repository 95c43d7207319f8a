"""A workspace that a session serves: programs change files through the merged view at any moment, in other threads.

The nodes of the view are never dropped, because the kernel knows them. A capture takes the set of changed paths and
puts a new one in its place, under the guard of the view; what it took counts as changed again unless the capture is
recorded.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from avfs_git.paths import TreePath
from avfs_git.vfs.scan.scan import DirtySet
from avfs_git.vfs.tree.changes import OnChange
from avfs_git.vfs.tree.merged import MergedTree
from avfs_git.workspace.opened.layers import Layers
from avfs_git.workspace.opened.plain import Flush, Look, Plain

if TYPE_CHECKING:
    from avfs_git.vfs.scan.statcache import StatCache
    from avfs_git.workspace.capture.captured import Captured
    from avfs_git.workspace.capture.livecapture import Rounds
    from avfs_git.workspace.opened.shown import Shown


class Served(Plain):
    """Programs change files through this process."""

    is_served = True

    def __init__(self, layers: Layers, view: MergedTree | None = None, dirty: DirtySet | None = None) -> None:
        self._in_capture: DirtySet | None = None
        self._is_captured = False
        """Whether the paths of `_in_capture` are in no other set, until the capture is recorded or given up."""
        self._followers: tuple[OnChange, ...] = ()
        self._followers_lock = threading.Lock()
        super().__init__(layers, view, dirty)

    def follow(self, follower: OnChange) -> None:
        """Report each changed path to a follower, too, with the guard."""
        with self._followers_lock:
            self._followers = (*self._followers, follower)

    def stop_following(self, follower: OnChange) -> None:
        """Report to a follower no longer."""
        with self._followers_lock:
            self._followers = tuple(each for each in self._followers if each != follower)

    def note(self, path: TreePath, deep: bool) -> None:
        """Note that a path changed; called with the guard of the view."""
        for follower in self._followers:
            follower(path, deep)
        super().note(path, deep)

    def distrust(self) -> None:
        """Let the next capture scan, and list each directory anew; nodes stay."""
        self._in_capture, self._is_captured = None, False
        self.restart(None)
        self.view.namespace.relist()

    def capture(self, rounds: Rounds, *, lasts: bool, flush: Flush | None) -> Captured:
        """Capture one moment of the tree, most of it while programs go on."""
        del lasts
        guard = self.view.guard
        if not rounds.is_afresh:
            from avfs_git.workspace.capture.livecapture import capture_live  # noqa: PLC0415 - as `read_upper`

            captured = capture_live(self, guard, rounds, flush=flush)
            self._seen = captured.update
            return captured
        with guard:
            self.begin_capture()
            return rounds.run(None)

    def confirm(self, look: Look, cache: StatCache) -> Captured | None:
        """Look at what an operation has made, while programs wait."""
        found = super().confirm(look, cache)
        if found is not None:
            self.begin_capture()  # the set so far has what the operation did
        return found

    def begin_capture(self, rounds: Rounds | None = None) -> DirtySet | None:
        """Take the set of changes for a capture; what changes now is in another set."""
        seen, self._seen = self._seen, None
        if self._is_captured and rounds is not None and rounds.goes_on_from(seen):
            return self.extend_capture()
        self.give_up_capture()
        self._in_capture, self._is_captured = self.dirty, True
        self.restart(DirtySet())
        return self._in_capture

    def extend_capture(self) -> DirtySet | None:
        """Take what has changed since into the capture that was begun; None if only a scan tells what that is."""
        moved = self.dirty
        self.restart(DirtySet())
        if moved is None or self._in_capture is None:
            self._in_capture = None
        else:
            self._in_capture.update(moved)
        return moved

    def end_capture(self, captured: Captured) -> None:
        """Drop the set that was captured."""
        del captured
        self._in_capture, self._is_captured = None, False

    def give_up_capture(self) -> None:
        """Count as changed what was captured and not recorded."""
        if self._is_captured:
            taken, self._in_capture, self._is_captured = self._in_capture, None, False
            if taken is None or self.dirty is None:
                self.restart(None)
            else:
                self.dirty.update(taken)


def serve(mode: Plain | Shown) -> Plain | Shown:
    """Give the mode that follows when a session begins to serve the workspace; the nodes stay."""
    if isinstance(mode, Plain):
        return Served(mode.layers, mode.view, mode.dirty)
    mode.is_served = mode.view.is_shared = True
    return mode


def stop_serving(mode: Plain | Shown) -> Plain | Shown:
    """Give the mode that follows when nothing shows the workspace any more."""
    if isinstance(mode, Served):
        mode.give_up_capture()
        return Plain(mode.layers, mode.view, mode.dirty)
    mode.is_served = mode.view.is_shared = False
    return mode
