"""Folding: making the head the new lower layer, and dropping what the upper one repeats of it.

Decided here: when a workspace may be folded, and in which order. The merged view is the same at every step:
the state with the new base is on disk before the first entry goes, and each entry that goes equals what the
new base shows in its place. What no checkpoint holds stays in the upper layer. Cut short, it leaves entries that
equal the base; the next fold drops them.
"""

from __future__ import annotations

import errno
import os

from avfs_git.faults import reach
from avfs_git.host.durable import host_errors
from avfs_git.host.xattrs import entry_of
from avfs_git.paths import ROOT, Oid, TreePath, join, split
from avfs_git.vfs.lower import LowerEntry, LowerTree
from avfs_git.vfs.statcache import StatCache, StatCacheUpdate
from avfs_git.vfs.upper import UpperLayer
from avfs_git.workspace.checkpoint import save_checkpoint
from avfs_git.workspace.oplog import OpRecord
from avfs_git.workspace.workspace import LockedWorkspace


def fold_workspace(locked: LockedWorkspace) -> bool:
    """Fold a workspace, after saving what is uncommitted. False if there is nothing to fold."""
    opened, vault = locked.opened, locked.vault
    save_checkpoint(locked, message="save before fold", description="save before fold")
    head = vault.read_head(locked.fork)
    if head is None or opened.state.base == head.hex():
        return False
    commit = vault.store.read_commit(head)
    sidecar = commit.sidecar if commit.sidecar is not None else vault.read_sidecar_ref(locked.fork)
    trees = (commit.tree, vault.store.read_commit(sidecar).tree if sidecar is not None else None)
    if opened.synced_trees() != trees:
        return False  # the branch holds something else than the workspace: its base stays what it is
    state = opened.state
    state.base, state.sidecar = head.hex(), sidecar.hex() if sidecar is not None else None
    more = {key: getattr(state, key) for key in ("base", "sidecar", "parent", "forked_at", "ephemeral")}
    locked.begin()
    try:
        locked.write_state()
        reach("fold.base_moved")
        # After the state: were it lost in a power cut, the log says below what the upper layer belongs.
        vault.oplog.append(OpRecord(0, locked.fork, "fold", f"fold {locked.fork}", vault.clock_ns(), more=more))
        lower = LowerTree(vault.store, *trees, default_mtime_ns=0)
        with host_errors("fold the workspace"):
            _drop_repeated(opened.upper, lower)
            reach("fold.emptied")
            opened.layout.statcache.unlink(missing_ok=True)
        StatCache(opened.layout.statcache).commit_update(StatCacheUpdate(), tree=trees[0], sidecar=trees[1], commit=Oid(head))
    finally:
        locked.end()
        opened.forget()
    return True


def _drop_repeated(upper: UpperLayer, lower: LowerTree) -> None:
    """Remove from the upper layer what the lower one shows as well."""
    stack: list[tuple[TreePath, LowerEntry, os.stat_result | None]] = [(ROOT, lower.root, None)]
    while stack:
        path, entry, before = stack.pop()
        if before is not None:
            _drop_directory(upper, path, entry, before)
            continue
        directory = upper.open_dir(path)
        below = lower.children(entry)
        stack.append((path, entry, os.stat(entry_of(directory.fd, b"."))))
        for found in upper.scan_dir(directory.fd, path):
            there = below.get(found.name)
            if found.kind == "whiteout":
                if there is None:
                    os.unlink(found.name, dir_fd=directory.fd)
            elif found.kind == "dir":
                if there is not None and there.is_dir:
                    if found.opaque:
                        # First: what is removed below it shows from the lower layer from now on.
                        upper.clear_opaque(entry_of(directory.fd, found.name))
                    stack.append((join(path, found.name), there, None))
            elif there is not None and found.kind == there.kind and found.stat.st_mtime_ns == there.mtime_ns:
                # One that was only touched is no change that a checkpoint is made for; its time stays up here.
                os.unlink(found.name, dir_fd=directory.fd)
            reach("fold.entry")


def _drop_directory(upper: UpperLayer, path: TreePath, entry: LowerEntry, before: os.stat_result) -> None:
    """Remove a directory of which nothing is left; one that stays gets back its time, which the fold has moved."""
    if path != ROOT and before.st_mtime_ns == entry.mtime_ns:
        above, name = split(path)
        parent = upper.open_dir(above)
        try:
            os.rmdir(name, dir_fd=parent.fd)
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise
        else:
            return
    directory = upper.open_dir(path)
    os.utime(entry_of(directory.fd, b"."), ns=(before.st_atime_ns, before.st_mtime_ns))
