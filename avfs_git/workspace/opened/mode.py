"""What a mode of an open workspace answers: the tree to read and to change, which paths changed, how they are captured.

`OpenWorkspace` holds one mode and calls it, in one thread, with the workspace lock held unless a method says otherwise. A mode is
memory only: after a crash the next process scans.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from avfs_git.vfs.scan.scan import DirtySet
from avfs_git.vfs.scan.statcache import StatCache
from avfs_git.vfs.tree.merged import MergedTree

if TYPE_CHECKING:
    from avfs_git.vfs.scan.scan import Layer
    from avfs_git.vfs.tree.mounted import MountedTree
    from avfs_git.workspace.capture.capture import Captured
    from avfs_git.workspace.capture.livecapture import MakeCapture

Flush = Callable[[], object]
"""Writes out the pages that programs have mapped and changed; called without the guard of the tree."""


class Mode(Protocol):
    """How the files of an open workspace may change meanwhile."""

    view: MergedTree
    """The merged view of the layers, for reading."""
    is_served: bool
    """Whether this process keeps the lock for a session, while programs change files."""

    @property
    def shown_at(self) -> Path | None:
        """Where the kernel's overlayfs shows the workspace; None where it does not."""

    @property
    def dirty(self) -> DirtySet | None:
        """The only paths that can have changed since the last capture; None if that is not known."""

    def restart(self, dirty: DirtySet | None) -> None:
        """Note changes from here on, in a given set; None where only a scan tells what has changed."""

    def renew(self) -> None:
        """Show the layers that were opened anew."""

    def take_turn(self) -> None:
        """Begin an operation of a session, which has the lock already."""

    def distrust(self) -> None:
        """Believe nothing of the files: something changed them, or failed to."""

    def read_view(self) -> MergedTree:
        """Give the tree for one read; called without the lock."""

    def mounted(self) -> MountedTree | None:
        """Open the mounted directory, through which files change; None where they change through `view`.

        Raises:
            MountError: If it is not the mount that was named.
        """

    def leave_mounted(self, *, staging_stays: bool) -> None:
        """Close what `mounted` opened; `staging_stays` leaves the staging directory to the caller."""

    def read_upper(self) -> Layer:
        """Make what a capture reads the upper layer by."""

    def capture(self, make: MakeCapture, cache: StatCache | None, *, lasts: bool, afresh: bool, flush: Flush | None) -> Captured:
        """Capture what changed. `afresh` reads all of the upper layer; `flush` is called before the last round."""

    def end_capture(self, captured: Captured) -> None:
        """Count as recorded what was captured."""

    def give_up_capture(self) -> None:
        """Count as changed what was captured and not recorded."""

    def close(self) -> None:
        """Close what is open."""
