"""Folding upper layers in maintenance: a command costs what its fork changed since the last fold.

Decided here: which workspaces are folded, and how long one is held at a time. A workspace is folded if no other process holds
or shows it, and if it is known to hold just what its head does: nothing has to be saved first. It is held for 30 ms at a time,
and left alone for as long. The next run goes on where another process changes it meanwhile, and after 20 s, because what deletes
or examines a vault waits for maintenance. A kill leaves what a killed fold leaves (`workspace.forks.fold`).
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import closing, suppress

from avfs_git.errors import ForkNotFound, WorkspaceBusy, WorkspaceMounted
from avfs_git.faults import reach
from avfs_git.host.processes.boot import read_boot_id
from avfs_git.vfs.scan.statcache import StatCache
from avfs_git.workspace.forks.fold import fold_some
from avfs_git.workspace.opened.workspace import OpenWorkspace
from avfs_git.workspace.restore.recovery import recover
from avfs_git.workspace.vault.vault import OpenVault

MANY_ENTRIES = 2_000
_SLICE_S = 0.03
"""How long the workspace is held at a time, and let go of in between."""
_RUN_S = 20.0
_ENTRY_BYTES = 40
"""An entry takes at least so many in a stat cache."""


def list_foldable(vault: OpenVault, more_than: int) -> Iterator[tuple[str, int]]:
    """List the forks whose upper layers have more than so many entries that their heads have, too, with that number."""
    for fork in vault.layout.list_workspaces():
        layout = vault.layout.workspace(fork)
        with suppress(OSError):
            if os.stat(layout.statcache).st_size <= more_than * _ENTRY_BYTES:
                continue
            state, head, cache = layout.read_state(), vault.read_head(fork), StatCache.load(layout.statcache)
            if state is None or head is None or cache is None or cache.commit != head or state.boot != read_boot_id():
                continue
            entries = sum(map(len, cache.directories.values()))
            if entries > more_than:
                yield fork, entries


def fold_slowly(vault: OpenVault, more_than: int) -> int:
    """Fold those workspaces that no other process wants; tell how many entries went.

    Raises:
        LeftInForce, HostError: If the disk refuses. The next fold goes on.
    """
    dropped, until_s = 0, time.monotonic() + _RUN_S
    for fork, _ in list_foldable(vault, more_than):
        with (
            suppress(ForkNotFound, WorkspaceBusy, WorkspaceMounted),
            closing(OpenWorkspace(vault, fork, recover=recover)) as opened,
        ):
            count = 1
            while count and time.monotonic() < until_s:
                with opened.locked(is_patient=False) as locked:
                    count = fold_some(locked, time.monotonic() + _SLICE_S)
                dropped += count
                reach("maintain.folded_slice")
                time.sleep(_SLICE_S if count else 0)
    return dropped
