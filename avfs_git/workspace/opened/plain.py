"""A workspace whose files only this process changes, under the workspace lock; and what each workspace mode answers.

A mode says how files may change meanwhile: the tree to read and to change, which paths changed, how they are captured.
`Plain`, and `Served`, `Beside` and `ReadOnly`, which are made of it, and `shown.Shown` answer the same. `OpenWorkspace`
holds one and calls it in one thread, with the workspace lock held unless a method says otherwise. A mode is memory
only: after a crash the next process scans.

The merged view reports each changed path, which is noted. Nothing noted is believed once another process had the lock.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from avfs_git.paths import ROOT, TreePath
from avfs_git.vfs.scan.scan import DirtySet
from avfs_git.vfs.tree.merged import MergedTree
from avfs_git.workspace.opened.layers import Layers

if TYPE_CHECKING:
    from avfs_git.vfs.scan.scan import Layer
    from avfs_git.vfs.scan.statcache import StatCache, StatCacheUpdate
    from avfs_git.vfs.tree.mounted import MountedTree
    from avfs_git.workspace.capture.captured import Captured
    from avfs_git.workspace.capture.livecapture import Rounds

Flush = Callable[[], object]
"""Writes out the pages that programs have mapped and changed; called without the guard of the tree."""
Look = Callable[["Layer", DirtySet], "Captured | None"]
"""Looks at what an operation has made, given the layer and the only paths that may have changed since it was captured.

Gives what a capture would find; None where only that can tell.
"""


class Plain:
    """Only this process changes files.

    Attributes:
        view: The merged view of the layers, for reading.
        dirty: The only paths that can have changed since the last capture; None if that is not known.
    """

    is_served = False
    """Whether this process keeps the lock for a session, while programs change files."""

    def __init__(self, layers: Layers, view: MergedTree | None = None, dirty: DirtySet | None = None) -> None:
        self.layers = layers
        self.dirty = dirty
        self._since: DirtySet | None = None
        """The only paths that can have changed since the capture that found `_seen`."""
        self._seen: StatCacheUpdate | None = None
        self.view = self._make_view() if view is None else view
        self.view.is_shared = self.is_served
        self.view.changes.report_to(self.note)

    def _make_view(self) -> MergedTree:
        return MergedTree(self.layers.lower, self.layers.upper, cache=self.layers.vault.blob_cache)

    @property
    def shown_at(self) -> Path | None:
        """Where the kernel's overlayfs shows the workspace; None where it does not."""
        return None

    def note(self, path: TreePath, deep: bool) -> None:
        """Note that a path changed; called with the guard of the view."""
        if self.dirty is None:
            return
        if deep and path == ROOT:
            self.restart(None)  # a file changed of which not every name is known: only a scan tells
            return
        self.dirty.add(path, deep=deep)
        if self._since is not None:
            self._since.add(path, deep=deep)

    def restart(self, dirty: DirtySet | None) -> None:
        """Note changes from here on, in a given set; None where only a scan tells what has changed."""
        self.dirty, self._since = dirty, None
        self.view.changes.report_anew()  # else a file that goes on being written would stand in the old set only

    def renew(self) -> None:
        """Show the layers that were opened anew."""
        self.view = self._make_view()
        self.view.changes.report_to(self.note)

    def take_turn(self) -> None:
        """Begin an operation of a session, which has the lock already: the view saw each change."""

    def distrust(self) -> None:
        """Believe nothing of the files: something changed them, or failed to."""
        self.restart(None)
        self.view.forget_all()

    def read_view(self) -> MergedTree:
        """Give the tree for one read; called without the lock."""
        return self.view

    def mounted(self) -> MountedTree | None:
        """Open the mounted directory, through which files change; None where they change through `view`.

        Raises:
            MountError: If it is not the mount that was named.
        """
        return None

    def leave_mounted(self, *, staging_stays: bool) -> None:
        """Close what `mounted` opened; `staging_stays` leaves the staging directory to the caller."""

    def read_upper(self) -> Layer:
        """Make what a capture reads the upper layer by."""
        from avfs_git.vfs.layer.readers import UpperReader  # noqa: PLC0415 - a session is ready before it captures anything

        return UpperReader(self.layers.upper)

    def capture(self, rounds: Rounds, *, lasts: bool, flush: Flush | None) -> Captured:
        """Capture what changed, so that it can be recorded if it `lasts`; `flush` is called before the last round."""
        del lasts, flush
        dirty = self.dirty
        if self._since is not None and rounds.goes_on_from(self._seen):
            dirty = self._since
        self._since, self._seen = None if self.dirty is None else DirtySet(), None
        self.view.changes.report_anew()
        captured = rounds.run(None if rounds.is_afresh else dirty)
        self._seen = captured.update
        return captured

    def confirm(self, look: Look, cache: StatCache) -> Captured | None:
        """Look at what an operation has made, in place of a capture after it; None if that is needed.

        `cache` is what the last recorded capture found. The caller records the answer, or gives it up, as a capture.
        """
        del cache
        return look(self.read_upper(), self.dirty) if self.dirty is not None else None

    def end_capture(self, captured: Captured) -> None:
        """Count as recorded what was captured."""
        del captured
        self.restart(DirtySet())

    def give_up_capture(self) -> None:
        """Count as changed what was captured and not recorded: here it is noted still."""

    def close(self) -> None:
        """Close what is open."""
        self.view.close()
