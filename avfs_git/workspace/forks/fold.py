"""Folding: making the head the new lower layer, and dropping what the upper one repeats of it.

Decided here: when a workspace may be folded, and in which order. The merged view is the same at every step:
the state with the new base is on disk before the first entry goes, and each entry that goes equals what the
new base shows in its place. A directory that was moved shows what the new base has at its place from then on: redirects
mean the old base only (`opened.layers`). What no checkpoint holds stays in the upper layer. Cut short, it leaves entries that
equal the base; the next fold drops them, and so it is after a failure.
"""

from __future__ import annotations

import contextlib
import errno
import os

from avfs_git.errors import AvfsError, LeftInForce
from avfs_git.faults import reach
from avfs_git.host.files.xattrs import entry_of
from avfs_git.model import Warning
from avfs_git.paths import ROOT, Oid, TreePath, join, split
from avfs_git.vfs.layer.lower import LowerEntry, LowerTree
from avfs_git.vfs.layer.readers import Directories
from avfs_git.vfs.layer.upper import UpperLayer
from avfs_git.vfs.scan.statcache import StatCache, StatCacheUpdate
from avfs_git.workspace.checkpoint.checkpoint import save_first
from avfs_git.workspace.opened.workspace import LockedWorkspace
from avfs_git.workspace.vault.log.oprecord import OpRecord
from avfs_git.workspace.vault.origin import facts_of


def fold_workspace(locked: LockedWorkspace) -> tuple[bool, tuple[Warning, ...]]:
    """Fold a workspace, after saving what is uncommitted; False if there is nothing to fold. Tell what saving left out.

    Raises:
        LeftInForce: If the disk refuses when the base has moved. The next fold goes on.
        HostError: If the disk refuses; the base is the old one. What the workspace shows is the same in any case.
    """
    opened, vault = locked.opened, locked.vault
    told = save_first(locked, "save before fold").warnings
    head = vault.read_head(locked.fork)
    if head is None:
        return False, told
    commit = vault.store.read_commit(head)
    sidecar = commit.sidecar if commit.sidecar is not None else vault.read_sidecar_ref(locked.fork)
    trees = (commit.tree, vault.store.read_commit(sidecar).tree if sidecar is not None else None)
    if opened.synced_trees() != trees:
        return False, told  # the branch holds something else than the workspace: its base stays what it is
    moves = opened.state.base != head.hex()
    if not moves and not opened.upper.scan_dir(opened.upper.root.fd, ROOT):
        return False, told
    # Where what was moved is not in the head, the base it was moved in has to stay.
    shown = LowerTree(vault.store, *trees, default_mtime_ns=0)
    for path in opened.upper.list_redirected() if moves else ():
        there = shown.lookup(path)
        if there is None or not there.is_dir:
            return False, told
    locked.begin()
    try:
        if moves:
            _move_base(locked, head, sidecar)
        # Also where the base is there already: a fold that failed or died goes on here.
        lower = LowerTree(vault.store, *trees, default_mtime_ns=0)
        try:
            opened.layers.drop_redirects(opened.state)
            reach("fold.redirects_dropped")
            dropped = _drop_repeated(opened.upper, lower)
            reach("fold.emptied")
            opened.layout.statcache.unlink(missing_ok=True)
        except OSError as error:
            raise LeftInForce("fold the workspace", error, {}) from error
        # If it cannot be written, everything is read.
        StatCache(opened.layout.statcache).commit_update(StatCacheUpdate(), tree=trees[0], sidecar=trees[1], commit=Oid(head))
    finally:
        locked.end()
        opened.forget()
    return moves or dropped, told


def _move_base(locked: LockedWorkspace, head: Oid, sidecar: Oid | None) -> None:
    """Make the head the base, in the state and in the log."""
    vault, state = locked.vault, locked.opened.state
    before = (state.base, state.sidecar)
    state.base, state.sidecar = head.hex(), sidecar.hex() if sidecar is not None else None
    more = facts_of(state)
    try:
        locked.write_state()
        reach("fold.base_moved")
        # After the state: were it lost in a power cut, the log says below what the upper layer belongs.
        vault.oplog.append(OpRecord(0, locked.fork, "fold", f"fold {locked.fork}", vault.clock_ns(), more=more))
    except BaseException:
        # Nothing was dropped: over either base the layer shows the same.
        state.base, state.sidecar = before
        with contextlib.suppress(AvfsError):
            locked.write_state()
        raise


def _drop_repeated(upper: UpperLayer, lower: LowerTree) -> bool:
    """Remove from the upper layer what the lower one shows as well; tell whether anything went."""
    dropped = False
    directories = Directories(upper.root)
    stack: list[tuple[TreePath, LowerEntry, os.stat_result | None]] = [(ROOT, lower.root, None)]
    while stack:
        path, entry, before = stack.pop()
        if before is not None:
            dropped |= _drop_directory(directories, path, entry, before)
            continue
        directory = directories.get(path)
        below = lower.children(entry)
        stack.append((path, entry, os.stat(entry_of(directory, b"."))))
        for found in upper.scan_dir(directory, path):
            there = below.get(found.name)
            if found.kind == "whiteout":
                if there is None:
                    os.unlink(found.name, dir_fd=directory)
                    dropped = True
            elif found.kind == "dir":
                if there is not None and there.is_dir:
                    if found.opaque:
                        # First: what is removed below it shows from the lower layer from now on.
                        upper.clear_opaque(entry_of(directory, found.name))
                    stack.append((join(path, found.name), there, None))
            elif there is not None and found.kind == there.kind and found.stat.st_mtime_ns == there.mtime_ns:
                # A file that was only touched makes no checkpoint; its time stays in the upper layer.
                os.unlink(found.name, dir_fd=directory)
                dropped = True
            reach("fold.entry")
    return dropped


def _drop_directory(directories: Directories, path: TreePath, entry: LowerEntry, before: os.stat_result) -> bool:
    """Remove an empty directory; a directory that stays gets back its time, which the fold has moved."""
    if path != ROOT and before.st_mtime_ns == entry.mtime_ns:
        above, name = split(path)
        try:
            os.rmdir(name, dir_fd=directories.get(above))
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise
        else:
            return True
    os.utime(entry_of(directories.get(path), b"."), ns=(before.st_atime_ns, before.st_mtime_ns))
    return False
