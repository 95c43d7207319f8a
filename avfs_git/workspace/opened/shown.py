"""A workspace that the kernel's overlayfs shows: programs and the kernel change its layers at any moment.

Nothing in memory is believed from one operation to the next. Each capture reads the whole layer, or what the kernel
tells of (`vfs.scan.upperwatch`). Files change only through the mounted directory; they are read in the layers.
"""

from __future__ import annotations

import contextlib
import os
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING

from avfs_git.vfs.layer.mounted import MountedLayer
from avfs_git.vfs.scan.scan import DirtySet, is_staging
from avfs_git.vfs.tree.merged import MergedTree
from avfs_git.vfs.tree.mounted import MountedTree
from avfs_git.workspace.opened.layers import Layers
from avfs_git.workspace.opened.plain import Flush, Look

if TYPE_CHECKING:
    from avfs_git.vfs.scan.scan import Layer
    from avfs_git.vfs.scan.statcache import Fingerprints, StatCache
    from avfs_git.vfs.scan.upperwatch import UpperWatch
    from avfs_git.workspace.capture.captured import Captured
    from avfs_git.workspace.capture.livecapture import Rounds


class Shown:
    """The kernel's overlayfs shows it; see `Plain`."""

    def __init__(self, layers: Layers, directory: Path, *, is_served: bool, looks_on: bool) -> None:
        """Look at layers that are mounted; a workspace that only looks on watches nothing.

        Raises:
            OSError: If the directory cannot be read.
        """
        self._device = os.stat(directory).st_dev
        self.shown_at = directory
        self._layers = layers
        self._looks_on = looks_on
        self._watch: UpperWatch | None = None
        self._last: Captured | None = None
        """The last capture, until it is recorded."""
        self._mounted: MountedTree | None = None
        self.view = self.read_view()
        self.is_served = self.view.is_shared = is_served

    @property
    def dirty(self) -> DirtySet | None:
        """Tell that it is not known here: the watch is told."""
        return None

    def restart(self, dirty: DirtySet | None) -> None:
        """Let the next capture scan, if it is not known what changed."""
        if dirty is None and self._watch is not None:
            self._watch.distrust()

    def renew(self) -> None:
        """Make a view of the layers that were opened anew."""
        self.view = self.read_view()

    def take_turn(self) -> None:
        """Forget what the view knows."""
        self.view.forget_all()

    def distrust(self) -> None:
        """Let the next capture scan."""
        self.restart(None)
        self.view.forget_all()

    def read_view(self) -> MergedTree:
        """Make a view for one read: what it remembers is true for a moment only."""
        layers = self._layers
        return MergedTree(layers.lower, layers.upper, cache=layers.vault.blob_cache, hides=is_staging)

    def mounted(self) -> MountedTree:
        """Open the mounted directory, for one operation."""
        if self._mounted is None:
            self._mounted = MountedTree(
                self._layers.vault.store, MountedLayer(self.shown_at, self._device, self._layers.upper)
            )
        return self._mounted

    def leave_mounted(self, *, staging_stays: bool) -> None:
        """Close the mounted directory."""
        mounted, self._mounted = self._mounted, None
        if mounted is not None:
            mounted.upper.keeps = staging_stays
            mounted.close()

    def read_upper(self) -> Layer:
        """Read the upper layer from the disk, and tell the watch what was read."""
        from avfs_git.vfs.layer.readers import UpperReader  # noqa: PLC0415 - a session is ready before it captures anything

        return UpperReader(self._layers.upper, watch=self.watch)

    def capture(self, rounds: Rounds, *, lasts: bool, flush: Flush | None) -> Captured:
        """Capture one moment of the tree, if programs let it or can be held."""
        from avfs_git.workspace.capture.livecapture import capture_beside  # noqa: PLC0415 - as `read_upper`

        del flush
        self.view.forget_all()
        # The guard of a served view makes reads in other threads wait.
        with self.view.guard if self.is_served else contextlib.nullcontext():
            self._last = None
            watch = self.watch
            dirty = watch.begin(rounds.cache, lasts=lasts) if watch is not None else None
            if rounds.is_afresh:
                dirty = None
            if not lasts:
                return rounds.run(dirty)
            self._last = capture_beside(rounds, dirty, self._look_again, self._hold)
            return self._last

    def confirm(self, look: Look, cache: StatCache) -> Captured | None:
        """Look at what an operation has made, if the watch tells that nothing else has changed, also meanwhile."""
        self.view.forget_all()
        with self.view.guard if self.is_served else contextlib.nullcontext():
            self._last = None
            watch = self.watch
            dirty = watch.begin(cache, lasts=True) if watch is not None else None
            if watch is None or dirty is None:
                return None
            with contextlib.suppress(OSError):  # programs go on: what was there has gone
                found = look(self.read_upper(), dirty)
                again = watch.extend(None)
                self._last = found if again is not None and not again else None
                watch.settle()
            return self._last

    def _look_again(self, found: Fingerprints | None) -> DirtySet | None:
        """Begin a further round of a capture.

        Give the only entries that can differ from the record by now, None if any can.
        """
        self.view.forget_all()
        return self._watch.extend(found) if self._watch is not None else None

    def _hold(self) -> AbstractContextManager[object]:
        """Hold the programs that use the mount, as far as possible."""
        from avfs_git.host.mounts.mounts import find_mount  # noqa: PLC0415 - only where programs change files without a pause
        from avfs_git.host.processes.copies import find_numbers  # noqa: PLC0415 - the same
        from avfs_git.host.processes.hold import held  # noqa: PLC0415 - the same

        mounted = find_mount(self.shown_at)
        if os.geteuid() or mounted is None or os.makedev(*mounted.device) != self._device:
            return contextlib.nullcontext()
        return held(find_numbers(mounted), mounted.device)

    def end_capture(self, captured: Captured) -> None:
        """Let the watch count as recorded what the last capture read."""
        watch = self.watch
        if watch is not None and captured is self._last:
            watch.end()
        self._last = None

    def give_up_capture(self) -> None:
        """Do nothing: the watch counts as changed what was not recorded."""

    def close(self) -> None:
        """Close the view, the watch and the mounted directory."""
        self.leave_mounted(staging_stays=False)
        if self._watch is not None:
            self._watch.close()
        self.view.close()

    @property
    def watch(self) -> UpperWatch | None:
        """What is known of the changes that the kernel makes; None where nothing is going to be recorded."""
        if self._watch is None and not self._looks_on:
            from avfs_git.vfs.scan.upperwatch import UpperWatch  # noqa: PLC0415 - not before the first capture

            self._watch = UpperWatch(self.shown_at)
        return self._watch
