"""What a capture found, and what it warns of.

Decided here: how a warning of a path reads, and the time that separates a capture from the changes after it. Made by
`workspace.capture.capture`, and read by all that save, compare or confirm a capture. A value in the memory of the
process that made it: nothing of it survives a crash.
"""

from __future__ import annotations

import time

from avfs_git.model import Warning
from avfs_git.paths import Oid, TreePath, show_path
from avfs_git.values import field, record_class
from avfs_git.vfs.scan.statcache import StatCacheUpdate

_KEPT_BESIDE = (
    "was kept out of history before, and stays out of it though no rule ignores it; `avfs add PATH` puts it in"
)
_NAMED_MAX = 20
"""Of files that stay beside history, so many are named."""
_CLOCK_REALTIME_COARSE = 5  # linux/time.h; Python has no name for it


def read_kernel_time() -> int:
    """Read the clock that file systems take times from: it is behind the system's by up to a tick, at most 10 ms."""
    return time.clock_gettime_ns(_CLOCK_REALTIME_COARSE)


@record_class
class Captured:
    """What a capture found."""

    tree: Oid | None
    sidecar: Oid | None
    update: StatCacheUpdate
    warnings: list[Warning] = field(default_factory=list)
    sidecar_touched: bool = False
    """Whether the sidecar may differ from the previous one in more than times."""
    sizes: dict[Oid, int] = field(default_factory=dict)
    """How large the files are that were read just now."""
    blob_paths: dict[Oid, TreePath] = field(default_factory=dict)
    """Where the content of blobs that were read just now can be found."""
    began_ns: int = field(default_factory=read_kernel_time)
    """A kernel time in nanoseconds since the epoch: a file changed after the capture was changed then or later."""
    is_partial: bool = False
    """Whether a directory could not be read, and is as it was at the previous state."""

    def warn_of_kept(self, paths: list[bytes]) -> None:
        """Name what stays beside history though no rule ignores it."""
        for path in paths[:_NAMED_MAX]:
            self.warn("capture.kept_beside", TreePath(path), _KEPT_BESIDE)
        if len(paths) > _NAMED_MAX:
            text = f"{len(paths) - _NAMED_MAX} more paths were kept out of history before, and stay out of it"
            self.warnings.append(Warning("capture.kept_beside", text))

    def warn(self, code: str, path: TreePath, what: str) -> None:
        """Warn of what a path is."""
        self.warnings.append(Warning(code, f"'{show_path(path)}' {what}", path))
