"""Folding: making the head the new lower layer, and dropping what the upper one repeats of it.

Decided here: when a workspace may be folded, and in which order. The merged view is the same at every step: the state
with the new base is on disk before the first entry goes, and each entry that goes equals what the new base shows in its
place. A directory that was moved shows what the new base has at its place from then on: redirects mean the old base
only (`opened.layers`). What no checkpoint holds stays in the upper layer, and so does each entry of which the base
would show less: one with another name (a hard link), another owner, an access control list, capabilities, or an
attribute of root's. Cut short, a fold leaves entries that equal the base; the next one drops them, and so it is after a
failure. Maintenance folds so, a few entries at a time.
"""

from __future__ import annotations

import contextlib
import errno
import math
import os
import time
from functools import partial

from avfs_git.errors import AvfsError, HostError, LeftInForce
from avfs_git.faults import reach
from avfs_git.host.files.beneath import change_in
from avfs_git.host.files.xattrs import entry_of, list_xattrs
from avfs_git.model import Warning
from avfs_git.paths import ROOT, Oid, TreePath, join, split
from avfs_git.vfs.layer.lower import LowerEntry, LowerTree
from avfs_git.vfs.layer.readers import Directories
from avfs_git.vfs.layer.upper import UpperLayer
from avfs_git.vfs.scan.scan import WHITEOUT, Found
from avfs_git.vfs.scan.statcache import StatCache, StatCacheUpdate, show_lower
from avfs_git.vfs.values import ACCESS_LISTS
from avfs_git.workspace.checkpoint.checkpoint import save_first
from avfs_git.workspace.opened.refusal import find_other_owner, refusal_explained
from avfs_git.workspace.opened.workspace import LockedWorkspace
from avfs_git.workspace.vault.log.oprecord import OpRecord
from avfs_git.workspace.vault.origin import facts_of

_UNRECORDED = (ACCESS_LISTS, b"security.capability", b"trusted.")
"""Attributes that no checkpoint holds. Labels, which a security module gives to each file, are left to that."""
_OWN = (b"trusted.overlay.", b"trusted.avfs.")
"""Marks of the layer among these."""


def fold_workspace(locked: LockedWorkspace) -> tuple[bool, tuple[Warning, ...]]:
    """Fold a workspace, after saving what is uncommitted; False if there is nothing to fold. Tell what saving left out.

    Raises:
        LeftInForce: If the disk refuses when the base has moved. The next fold goes on.
        HostError: If the disk refuses; the base is the old one. What the workspace shows is the same in any case.
    """
    layout = locked.opened.layout
    with refusal_explained(layout):
        if find_other_owner(layout) is not None:
            raise HostError(f"fold '{locked.fork}'", PermissionError(errno.EPERM, os.strerror(errno.EPERM)))
    told = save_first(locked, "save before fold").warnings
    head = locked.vault.read_head(locked.fork)
    return head is not None and any(_fold(locked, head, slice_s=math.inf)), told


def fold_some(locked: LockedWorkspace, slice_s: float) -> int:
    """Drop entries for so long, from the first one on; tell how many entries went.

    It takes as long as finding the first entry took where that is longer: each call lists a directory anew, and a large
    one would else take the square of its size. With 0 one entry goes. Saves nothing: does nothing if that were needed.

    Raises:
        LeftInForce, HostError: As `fold_workspace`.
    """
    opened, head = locked.opened, locked.vault.read_head(locked.fork)
    if head is None or opened.state.merging is not None or not opened.is_recorded_by(head):
        return 0
    if opened.state.base != head.hex() and opened.upper.list_redirected():
        return 0  # without redirects what they lead to is read again: not while others wait
    return _fold(locked, head, slice_s=slice_s)[1]


def _fold(locked: LockedWorkspace, head: Oid, *, slice_s: float) -> tuple[bool, int]:
    """Move the base to the head and drop entries; tell whether the base moved, and how many entries went."""
    opened, vault = locked.opened, locked.vault
    commit = vault.store.read_commit(head)
    sidecar = commit.sidecar if commit.sidecar is not None else vault.read_sidecar_ref(locked.fork)
    trees = (commit.tree, vault.store.read_commit(sidecar).tree if sidecar is not None else None)
    if opened.synced_trees() != trees:
        return False, 0  # the branch holds something else than the workspace: its base stays what it is
    moves = opened.state.base != head.hex()
    if not moves and not os.listdir(entry_of(opened.upper.root.fd, b".")):
        return False, 0
    # Where what was moved is not in the head, the base it was moved in has to stay.
    shown = LowerTree(vault.store, *trees, default_mtime_ns=0)
    for path in opened.upper.list_redirected() if moves else ():
        there = shown.lookup(path)
        if there is None or not there.is_dir:
            return False, 0
    is_recorded, is_known, cache = opened.is_recorded_by(head), False, opened.cache
    dropping = _Dropping(opened.upper, slice_s)
    locked.begin()
    try:
        if moves:
            _move_base(locked, head, sidecar)
        # Also where the base is there already: a fold that failed or died goes on here.
        lower = LowerTree(vault.store, *trees, default_mtime_ns=0)
        try:
            opened.layers.drop_redirects(opened.state)
            reach("fold.redirects_dropped")
            dropping.run(lower)
            reach("fold.emptied")
        except OSError as error:
            raise LeftInForce("fold the workspace", error, {}) from error
        # What is left needs not be read again. If it cannot be written, more is looked at.
        cache = cache or StatCache(opened.layout.statcache)
        refused = cache.commit_update(dropping.find_update(cache), tree=trees[0], sidecar=trees[1], commit=head)
        is_known = is_recorded and refused is None and not moves
    finally:
        locked.end()
        if is_known:
            opened.merged.forget_all()
        else:
            opened.forget()
    if is_recorded and refused is None:
        opened.lock.mark_clean(opened.lock.epoch, head)
    return moves, dropping.count


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


def is_repeated(kind: str, mtime_ns: int, there: LowerEntry | None) -> bool:
    """Tell whether the lower layer shows the same as an upper file, link or whiteout that holds what the head does."""
    if there is None:
        return kind == WHITEOUT
    # A file that was only touched makes no checkpoint; its time stays in the upper layer.
    return kind == there.kind and (mtime_ns - there.mtime_ns) % (1 << 64) == 0


class _Dropping:
    """Removing from the upper layer what the lower one shows as well."""

    def __init__(self, upper: UpperLayer, slice_s: float) -> None:
        self._upper = upper
        self._slice_s = slice_s
        self._owner = (os.getuid(), os.getgid())
        """As which the base shows all of it."""
        self._start_s = time.monotonic()
        self._until_s = math.inf
        self._directories = Directories(upper.root)
        self._dropped: dict[TreePath, list[bytes]] = {}
        self._uncovered: dict[TreePath, list[bytes]] = {}
        """Directories that hid the lower layer, by their parent."""
        self.count = 0

    def _is_over(self) -> bool:
        return time.monotonic() >= self._until_s

    def run(self, lower: LowerTree) -> None:
        """Remove it; end early when the time is over. Each directory that was looked into gets back its time."""
        upper, directories = self._upper, self._directories
        stack: list[tuple[TreePath, LowerEntry, os.stat_result | None]] = [(ROOT, lower.root, None)]
        while stack:
            path, entry, before = stack.pop()
            if before is not None:
                self._drop_directory(path, entry, before)
                continue
            if self._is_over():
                continue
            directory = directories.get(path)
            below = lower.children(entry)
            stack.append((path, entry, os.stat(entry_of(directory, b"."))))
            for found in upper.scan_dir(directory, path):
                there = below.get(found.name)
                if found.kind == "dir":
                    if there is not None and there.is_dir:
                        if found.opaque:
                            # First: what is removed below it shows from the lower layer from now on.
                            upper.clear_opaque(entry_of(directory, found.name))
                            self._uncovered.setdefault(path, []).append(found.name)
                        stack.append((join(path, found.name), there, None))
                elif is_repeated(found.kind, found.stat.st_mtime_ns, there) and not self._has_more(found, directory):
                    change_in(directory, partial(os.unlink, found.name, dir_fd=directory))
                    self._note(path, found.name)
                reach("fold.entry")
                if self._is_over():
                    break

    def _has_more(self, found: Found, directory: int) -> bool:
        if found.kind == WHITEOUT:  # all are names of one device
            return False
        return found.stat.st_nlink > 1 or self._has_other_access(found.stat, entry_of(directory, found.name))

    def _has_other_access(self, status: os.stat_result, place: bytes) -> bool:
        if (status.st_uid, status.st_gid) != self._owner:
            return True
        return any(name.startswith(_UNRECORDED) and not name.startswith(_OWN) for name in list_xattrs(place))

    def _note(self, directory: TreePath, name: bytes) -> None:
        if not self.count:
            now_s = time.monotonic()
            self._until_s = now_s + (self._slice_s and max(self._slice_s, now_s - self._start_s))
        self._dropped.setdefault(directory, []).append(name)
        self.count += 1

    def _drop_directory(self, path: TreePath, entry: LowerEntry, before: os.stat_result) -> None:
        """Remove an empty directory; a directory that stays gets back its time, which the fold has moved."""
        here = self._directories.get(path)
        if (
            path != ROOT
            and before.st_mtime_ns == entry.mtime_ns
            and not self._has_other_access(before, entry_of(here, b"."))
        ):
            above, name = split(path)
            directory = self._directories.get(above)
            try:
                change_in(directory, partial(os.rmdir, name, dir_fd=directory))
            except OSError as error:
                if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                    raise
            else:
                self._dropped.pop(path, None)
                self._uncovered.pop(path, None)
                self._note(above, name)
                return
        os.utime(entry_of(here, b"."), ns=(before.st_atime_ns, before.st_mtime_ns))

    def find_update(self, cache: StatCache) -> StatCacheUpdate:
        """Tell what a stat cache of the layer need not hold any more."""
        update = StatCacheUpdate()
        for path in self._dropped.keys() | self._uncovered.keys():
            dropped = self._dropped.get(path, ())
            for name in dropped:
                if cache.directory(join(path, name)) is not None:
                    update.drop_subtree(join(path, name))
            known = cache.directory(path) or {}
            prints = {name: show_lower(known[name]) for name in self._uncovered.get(path, ()) if name in known}
            update.set_directory(path, {name: prints[name] for name in prints.keys() - set(dropped)}, dropped)
        return update
