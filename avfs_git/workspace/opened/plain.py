"""A workspace whose files only this process changes, under the workspace lock.

The merged view reports each changed path, which is noted. Nothing noted is believed once another process had the lock.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from avfs_git.paths import ROOT, TreePath
from avfs_git.vfs.scan.scan import DirtySet
from avfs_git.vfs.scan.statcache import StatCache
from avfs_git.vfs.tree.merged import MergedTree
from avfs_git.workspace.opened.layers import Layers
from avfs_git.workspace.opened.mode import Flush

if TYPE_CHECKING:
    from avfs_git.vfs.scan.scan import Layer
    from avfs_git.vfs.tree.mounted import MountedTree
    from avfs_git.workspace.capture.capture import Captured
    from avfs_git.workspace.capture.livecapture import MakeCapture


class Plain:
    """Only this process changes files; see `Mode`."""

    is_served = False

    def __init__(self, layers: Layers, view: MergedTree | None = None, dirty: DirtySet | None = None) -> None:
        self.layers = layers
        self.dirty = dirty
        self.view = self._make_view() if view is None else view
        self.view.is_shared = self.is_served
        self.view.changes.report_to(self.note)

    def _make_view(self) -> MergedTree:
        return MergedTree(self.layers.lower, self.layers.upper, cache=self.layers.vault.blob_cache)

    @property
    def shown_at(self) -> Path | None:
        """Tell that the kernel shows it nowhere."""
        return None

    def note(self, path: TreePath, deep: bool) -> None:
        """Note that a path changed; called with the guard of the view."""
        if self.dirty is None:
            return
        if deep and path == ROOT:
            self.restart(None)  # a file changed of which not every name is known: only a scan tells
        else:
            self.dirty.add(path, deep=deep)

    def restart(self, dirty: DirtySet | None) -> None:
        """Note changes from here on."""
        self.dirty = dirty
        self.view.changes.report_anew()  # else a file that goes on being written would stand in the old set only

    def renew(self) -> None:
        """Make a view of the layers that were opened anew."""
        self.view = self._make_view()
        self.view.changes.report_to(self.note)

    def take_turn(self) -> None:
        """Do nothing: the view saw each change."""

    def distrust(self) -> None:
        """Let the next capture scan, and forget each node."""
        self.restart(None)
        self.view.forget_all()

    def read_view(self) -> MergedTree:
        """Give the view."""
        return self.view

    def mounted(self) -> MountedTree | None:
        """Tell that files change through the view."""
        return None

    def leave_mounted(self, *, staging_stays: bool) -> None:
        """Do nothing."""

    def read_upper(self) -> Layer:
        """Read the upper layer from the disk."""
        from avfs_git.vfs.layer.readers import UpperReader  # noqa: PLC0415 - a session is ready before it captures anything

        return UpperReader(self.layers.upper)

    def capture(self, make: MakeCapture, cache: StatCache | None, *, lasts: bool, afresh: bool, flush: Flush | None) -> Captured:
        """Capture the noted paths in one round."""
        del lasts, flush
        return make(None if afresh else cache, None).run(None if afresh else self.dirty)

    def end_capture(self, captured: Captured) -> None:
        """Note changes in a new set."""
        del captured
        self.restart(DirtySet())

    def give_up_capture(self) -> None:
        """Do nothing: the captured paths are noted still."""

    def close(self) -> None:
        """Close the view."""
        self.view.close()
