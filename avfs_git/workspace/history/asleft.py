"""Whether a fork is still as an operation left it.

Decided here: how avfs knows that a fork is unused since it was made, or a deleted fork since its deletion:
undo and redo may then take it away, or bring it back, without a loss. Called by `undo`, which holds the lock of the
name. Reads the log and the counters of the workspace; writes nothing.
"""

from __future__ import annotations

from contextlib import closing

from avfs_git.host.locks.locks import LookingLock, ReadingLock
from avfs_git.host.mounts.overlayfs import is_upper_used
from avfs_git.host.processes.boot import read_boot_id
from avfs_git.workspace.vault.format import HEADS, WorkspaceLayout
from avfs_git.workspace.vault.log.lives import find_last_move
from avfs_git.workspace.vault.log.oprecord import (
    FILES,
    LEFT_AT,
    REDO,
    RENAMED_FROM,
    UNDO,
    OpRecord,
)
from avfs_git.workspace.vault.vault import OpenVault


def is_as_left(vault: OpenVault, deleted: OpRecord) -> bool:
    """Tell whether a fork is as undo brought it back: no branch or file has changed since, and it is not mounted.

    Only looks: it holds no lock, so a process that deletes the fork again asks again with the workspace locked.
    """
    fork = deleted.fork
    head = vault.read_head(fork)
    if head is None:  # another process has removed the branch already, unless an operation of its own did that
        last = find_last_move(vault.oplog.read_fork, fork)
        return last is not None and deleted.id in (last.id, last.target)
    if not any(ref == HEADS + fork and old == head.hex() for ref, old, _ in deleted.moves):
        return False
    for record in vault.oplog.read_fork(fork):
        if record.kind == UNDO and record.target == deleted.id:
            left_at, now = record.more.get(LEFT_AT) or [], read_counters(vault, fork)
            is_same_boot = left_at[2:] == now[2:]  # after a power cut the counters may be older than the files
            return is_same_boot and any(then == value != "" for then, value in zip(left_at[:2], now[:2], strict=False))
        if record.kind not in (UNDO, REDO, FILES) or RENAMED_FROM in record.more:
            break  # files count by the counters, which begin anew with a name: what was there may be recorded later
    return False


def read_counters(vault: OpenVault, fork: str) -> list[str]:
    """Return the epoch of a fork's files, the commit that holds them all or "", and the id of the machine's boot.

    Empty while the fork is mounted. A mount in which no file changes moves the epoch, but not the commit: either one
    tells that the files are unchanged.
    """
    try:
        with closing(LookingLock(vault.layout.workspace(fork).lock)) as lock:
            if lock.session is not None:
                return []
            return [str(lock.epoch), lock.clean_commit.hex() if lock.epoch == lock.clean_epoch else "", read_boot_id()]
    except OSError:
        return []


def is_as_made(vault: OpenVault, made: OpRecord) -> bool:
    """Whether a fork is as it was made: its branch is where it was, no file has changed, and it is not mounted.

    Only looks: it holds no lock, so a process that takes the fork away asks again with the workspace locked.
    """
    fork = made.fork
    head = vault.read_head(fork)
    if head is None:  # the branch was removed already
        return True
    if not any(ref == HEADS + fork and new == head.hex() for ref, _, new in made.moves):
        return False
    layout = vault.layout.workspace(fork)
    try:
        return not is_mounted(layout) and not any(layout.upper.iterdir())
    except FileNotFoundError:  # it was not opened yet
        return True
    except OSError:  # it is not known, so the fork stays
        return False


def is_mounted(layout: WorkspaceLayout) -> bool:
    """Whether a session keeps a workspace, or the kernel goes on showing it.

    What a dead session has left does not count.
    """
    with closing(LookingLock(layout.lock)) as looking:
        if looking.session is None:
            return False
    with closing(ReadingLock(layout.lock)) as lock:
        if not lock.acquire(0):
            return True
        lock.release()
    return is_upper_used(layout.upper)
