"""Folding upper layers in maintenance: a command costs what its fork changed since the last fold.

Decided here: which workspaces are folded, and how long one is held at a time. A workspace is folded if no other process
holds or shows it, and if it is known to hold just what its head does: nothing has to be saved first. It is held for 30
ms at a time, or twice as long as a listing of its largest directory takes, and left alone for as long; one with a very
large directory is left alone. The next run goes on where another process changes it meanwhile, and after 20 s, because
what deletes or examines a vault waits for maintenance. A kill leaves what a killed fold leaves
(`workspace.forks.fold`). A damaged fork stops no other one.
"""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Iterator
from contextlib import closing, suppress

from avfs_git.errors import AvfsError, ForkNotFound, WorkspaceBusy, WorkspaceMounted
from avfs_git.faults import reach
from avfs_git.host.processes.boot import read_boot_id
from avfs_git.paths import ROOT, join
from avfs_git.vfs.layer.lower import LowerTree
from avfs_git.vfs.scan.scan import WHITEOUT, WHITEOUT_PRINT, kind_of_mode
from avfs_git.vfs.scan.statcache import StatCache, read_mode_and_time
from avfs_git.workspace.forks.fold import fold_some, is_repeated
from avfs_git.workspace.opened.refusal import find_other_owner
from avfs_git.workspace.opened.workspace import OpenWorkspace
from avfs_git.workspace.restore.recovery import recover
from avfs_git.workspace.vault.vault import OpenVault

MANY_ENTRIES = 2_000
_SLICE_S = 0.03
"""How long entries are dropped at a time."""
_RUN_S = 20.0
_MOST_NAMES = 50_000
"""In a directory: it is listed whole while the workspace is held, and a command waits 10 s for that."""
_ENTRY_BYTES = 40
"""An entry takes at least so many in a stat cache."""


def list_foldable(vault: OpenVault, more_than: int) -> Iterator[tuple[str, int]]:
    """List the forks whose upper layers have more than so many files that a fold would drop, with that number.

    No lock is held for that. A fork that cannot be read, or whose files belong to another user, is left out.
    """
    for fork in vault.layout.list_workspaces():
        layout = vault.layout.workspace(fork)
        with suppress(OSError, AvfsError):
            if os.stat(layout.statcache).st_size <= more_than * _ENTRY_BYTES or find_other_owner(layout) is not None:
                continue
            state, head, cache = layout.read_state(), vault.read_head(fork), StatCache.load(layout.statcache)
            if state is None or head is None or cache is None or cache.commit != head or state.boot != read_boot_id():
                continue
            if (
                sum(map(len, cache.directories.values())) > more_than
                and (files := _count_repeated(vault, cache)) > more_than
            ):
                yield fork, files


def _count_repeated(vault: OpenVault, cache: StatCache) -> int:
    """Count the files of an upper layer that the state of its stat cache shows as well; 0 if a directory is too large.

    The rest stays: files that no checkpoint holds, and times that none recorded. What has another name, too, or another
    owner stays as well, and is counted: a stat cache does not tell.
    """
    lower = LowerTree(vault.store, cache.tree, cache.sidecar, default_mtime_ns=0)
    count, pending = 0, [(ROOT, lower.root)]
    while pending:
        path, entry = pending.pop()
        below, here = lower.children(entry), cache.directory(path) or {}
        if max(len(below), len(here)) > _MOST_NAMES:
            return 0
        for name, fingerprint in here.items():
            mode, mtime_ns = read_mode_and_time(fingerprint)
            there = below.get(name)
            if not stat.S_ISDIR(mode):
                kind = WHITEOUT if fingerprint == WHITEOUT_PRINT else kind_of_mode(mode)
                count += is_repeated(kind, mtime_ns, there)
            elif there is not None and there.is_dir:
                pending.append((join(path, name), there))
    return count


def fold_slowly(vault: OpenVault, more_than: int) -> int:
    """Fold those workspaces that no other process wants; tell how many entries went.

    Raises:
        AvfsError, OSError: The first one, of a fork that is damaged or whose disk refuses, after the other forks. The
            next fold of it goes on.
    """
    dropped, until_s = 0, time.monotonic() + _RUN_S
    failure: AvfsError | OSError | None = None
    for fork, _ in list_foldable(vault, more_than):
        try:
            dropped += _fold_slices(vault, fork, until_s)
        except (AvfsError, OSError) as error:
            failure = failure or error
    if failure is not None:
        raise failure
    return dropped


def _fold_slices(vault: OpenVault, fork: str, until_s: float) -> int:
    dropped = 0
    with (
        suppress(ForkNotFound, WorkspaceBusy, WorkspaceMounted),
        closing(OpenWorkspace(vault, fork, recover=recover)) as opened,
    ):
        count = 1
        while count and (start_s := time.monotonic()) < until_s:
            with opened.locked(is_patient=False) as locked:
                count = fold_some(locked, _SLICE_S)
            dropped += count
            reach("maintain.folded_slice")
            time.sleep(time.monotonic() - start_s if count else 0)
    return dropped
