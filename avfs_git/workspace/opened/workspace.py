"""A workspace that is open: its lock, its layers, and how much of what is in memory may be believed.

Decided here: how a process notices that another one changed the workspace, and what happens to a workspace in which a
crash left an operation unfinished. A function that changes a workspace takes a `LockedWorkspace`, which only
`OpenWorkspace.locked` and `acquire` give, so that forgetting the lock does not type-check. How files may change
meanwhile is the workspace's mode (`opened.plain`): only by this process, by programs that this process serves, by the
kernel's overlayfs, or not at all.

The upper layer on disk is the truth. The merged view and the set of changed paths are in memory; both are dropped when
the lock's epoch shows that another process wrote. A killed process loses nothing: the next capture compares everything
with the stat cache. While a session serves a workspace, it keeps the lock with a change begun (`serve`); its threads
take turns.

Where nothing may be written (a read-only disk, another user's vault), a workspace can be read: readers share its lock,
and what a crash left is reported and stays. Taking the lock without `to_read` is refused there.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from avfs_git.errors import AvfsError, ForkNotFound, HostError, NotWritable
from avfs_git.gitstore.formats.commits import Commit, Signature
from avfs_git.host.files.durable import find_refusal, host_errors
from avfs_git.host.locks.locks import LOCK_TIMEOUT_S, REFUSED_WRITING, Holder, LockFile, LookingLock, ReadingLock
from avfs_git.host.processes.boot import read_boot_id
from avfs_git.model import Identity, Warning
from avfs_git.paths import Oid, TreePath
from avfs_git.vfs.asked import Change
from avfs_git.vfs.layer.lower import LowerTree
from avfs_git.vfs.layer.upper import UpperLayer
from avfs_git.vfs.scan.scan import DirtySet
from avfs_git.vfs.scan.statcache import StatCache
from avfs_git.vfs.tree.merged import MergedTree
from avfs_git.workspace.opened.layers import Layers, check_unshown
from avfs_git.workspace.opened.plain import Flush, Plain
from avfs_git.workspace.opened.readonly import ReadOnly
from avfs_git.workspace.opened.refusal import refusal_explained
from avfs_git.workspace.opened.served import Served, serve, stop_serving
from avfs_git.workspace.opened.standstill import Standstill
from avfs_git.workspace.vault.format import WorkspaceLayout
from avfs_git.workspace.vault.gitmoves import step_aside
from avfs_git.workspace.vault.origin import load_state
from avfs_git.workspace.vault.vault import OpenVault, busy

if TYPE_CHECKING:
    from avfs_git.vfs.tree.mounted import MountedTree
    from avfs_git.workspace.capture.looked import Looked
    from avfs_git.workspace.opened.shown import Shown

_LOOK_S = 0.05
"""How long an operation that only looks waits for another one, which is mostly over by then."""
TOLD_AFTER_S = 0.2
"""After how long of waiting the caller is told for whom."""
OnWait = Callable[[str, Holder | None], object]
"""Called with the fork and the holder of its lock."""
Recovery = Callable[["LockedWorkspace"], None]


class OpenWorkspace:
    """The workspace of one fork, open."""

    def __init__(
        self,
        vault: OpenVault,
        fork: str,
        *,
        recover: Recovery,
        lock_timeout_s: float = LOCK_TIMEOUT_S,
        looks_on: bool = False,
        on_wait: OnWait | None = None,
    ) -> None:
        """Open a workspace, making it on disk if its fork is there without one.

        `recover` is called with the workspace locked when a crash left an operation unfinished, and after another boot.
        `looks_on` only reads while another process works on it: it waits for no lock, and writes nothing. `on_wait` is
        told when another process has to be waited for.

        Raises:
            ForkNotFound, ForkIsAlias: If there is no such fork.
            WorkspaceDamaged: If its files cannot be understood.
            HostError: If it can be neither written nor read.
        """
        self.vault = vault
        self.fork = fork
        self.layout: WorkspaceLayout = vault.layout.workspace(fork)
        self.lock_timeout_s = lock_timeout_s
        self.looks_on = looks_on
        self._on_wait = on_wait
        self._recover = recover
        vault.check_own_branch(fork)
        self.state = load_state(vault, self.layout)
        self.is_unfinished = False
        """Whether an operation was cut short that cannot be completed or put back, because nothing may be written."""
        with host_errors(f"open the lock of workspace '{fork}'"):
            self.lock, self.refused = self._open_lock()
        self.boot = read_boot_id()
        self.epoch = -1
        """The epoch of the lock up to which what is in memory holds; -1 for none of it."""
        self.flush_pages: Flush | None = None
        """Writes out the pages of a served tree that programs have mapped and changed; set for one operation."""
        self.confirm: Callable[[], None] | None = None
        """Of a look beside an operation: makes sure that what was read is one state, before something is made of it."""
        self.find_check: Callable[[], Callable[[Change], None] | None] = lambda: None
        """Gives what raises PluginRefused or PluginFailed if a user's plug-in rejects a change; None without any."""
        self.standstill = Standstill()
        self.is_copied_out = False
        """Whether this process runs a command in a copy of it, which is no crash's (`workspace.restore.plaincopy`)."""
        self.is_distrusted = False
        """Whether something failed, so that the disk is looked at again when the lock is next taken."""
        self._cache: StatCache | None = None
        self._cache_known = False
        self.looked: Looked | None = None
        """What the last status found, from which the next one goes on; it is as old as the stat cache at most."""
        try:
            with refusal_explained(self.layout), host_errors(f"open workspace '{fork}'"):
                is_writable = self.refused is None
                self.layers = Layers(vault, self.layout, self.state, is_writable=is_writable)
                self.mode: Plain | Shown = Plain(self.layers) if is_writable else ReadOnly(self.layers)
                if is_writable and not self.lock.epoch and self.is_unused():
                    self.layers.adopt_root()
        except BaseException as error:
            is_gone = not self.lock.is_at(self.layout.lock)
            self.lock.close()
            if is_gone and self.refused is None and isinstance(error, HostError) and error.errno == errno.ENOENT:
                raise ForkNotFound(fork) from error  # it was ended meanwhile
            raise
        self._locked = LockedWorkspace(self)
        self.is_closed = False

    @property
    def upper(self) -> UpperLayer:
        """The files that changed since the fork began."""
        return self.layers.upper

    @property
    def lower(self) -> LowerTree:
        """The commit that the fork began with."""
        return self.layers.lower

    @property
    def merged(self) -> MergedTree:
        """The merged view of the layers, for reading."""
        return self.mode.view

    @property
    def is_served(self) -> bool:
        """Whether this process keeps the lock for a session (`serve`)."""
        return self.mode.is_served

    @property
    def shown_at(self) -> Path | None:
        """Where the kernel's overlayfs shows the workspace; None where it does not."""
        return self.mode.shown_at

    @property
    def dirty(self) -> DirtySet | None:
        """The only paths that can have changed since the last capture; None if that is not known."""
        return self.mode.dirty

    @dirty.setter
    def dirty(self, dirty: DirtySet | None) -> None:
        self.mode.restart(dirty)

    def enter(self, mode: Plain | Shown) -> None:
        """Go over to another mode, of which this workspace closes what is open."""
        self.mode.close()
        self.mode = mode

    def close(self) -> None:
        """Close what is open. A second call does nothing."""
        if not self.is_closed:
            self.is_closed = True
            self.mode.close()
            self.lock.close()

    def begin_to_move(self) -> None:
        """Make readers beside a standstill wait from now on; called before an operation changes files or refs."""
        if self.standstill.move():
            self.lock.mark_operating(operating=True, is_moving=True)

    def is_gone(self) -> bool:
        """Whether the workspace was put away."""
        return self.lock.is_retired

    def _is_in_use(self) -> bool:
        """Mend a lock that says falsely that its workspace was put away, as a damaged one may."""
        in_use = self.lock.is_at(self.layout.lock) and self.vault.has_fork(self.fork)
        if in_use:
            self.lock.retire(retired=False)
        return in_use

    def forget(self) -> None:
        """Look at everything anew when the lock is next taken."""
        if self.is_served:
            self.is_distrusted = True
        else:
            self.epoch = -1

    def look_anew(self) -> None:
        """Believe nothing of the files: a program has changed them on the disk, under the lock that is held here."""
        self.mode.distrust()

    @property
    def changeable(self) -> MergedTree:
        """The merged tree through which files are changed, with the lock held.

        Raises:
            MountError: If the kernel shows the workspace, and not at the place that was told.
        """
        mounted = self.mode.mounted()
        return self.mode.view if mounted is None else mounted.tree

    @property
    def mounted(self) -> MountedTree | None:
        """The directory where the kernel shows the workspace, open for changes; None where it does not."""
        return self.mode.mounted()

    def _open_lock(self) -> tuple[LockFile, OSError | None]:
        """Open the lock; where nothing may be written, for reading, with the reason."""
        if self.looks_on:
            return LookingLock(self.layout.lock), OSError(errno.EBUSY, os.strerror(errno.EBUSY))
        try:
            return LockFile(self.layout.lock, owner=f"avfs on {self.fork}"), None
        except FileNotFoundError:
            refused = find_refusal(self.layout.root)  # where the workspace could not be made, its lock has no directory
            if refused is None:  # the fork was ended meanwhile
                raise ForkNotFound(self.fork) from None
        except OSError as error:
            if error.errno not in REFUSED_WRITING:
                raise
            refused = error
        return ReadingLock(self.layout.lock), refused

    def is_unused(self) -> bool:
        """Whether nothing was ever changed in it: its upper layer is empty."""
        return self.layers.is_unused()

    # --- the lock --------------------------------------------------------------------------------

    @contextlib.contextmanager
    def locked(self, *, to_read: bool = False, is_patient: bool = True) -> Iterator[LockedWorkspace]:
        """Hold the workspace against other processes, with everything in memory up to date.

        `to_read` says that nothing is going to be changed or recorded: allowed where nothing may be written. Without
        `is_patient`, another process is waited for only for a moment: a reader can look on instead (`looks_on`).

        Raises:
            NotWritable: If nothing may be written, and it is not to be read only.
        """
        locked = self.acquire(to_read=to_read, is_patient=is_patient)
        try:
            yield locked
        finally:
            self.release()

    def release(self) -> None:
        """Give the lock back, and before that the mounted directory, if one is open."""
        try:
            if self.lock.depth == 1:
                self.mode.leave_mounted(staging_stays=False)
        finally:
            self.lock.release()

    def acquire(self, *, to_read: bool = False, is_patient: bool = True) -> LockedWorkspace:
        """Take the lock, as `locked` does; the caller calls `release`."""
        lock = self.lock
        if self.refused is not None and not to_read:
            raise NotWritable(f"change workspace '{self.fork}'", self.refused) from self.refused
        if not self._wait_for_lock(self.lock_timeout_s if is_patient else min(_LOOK_S, self.lock_timeout_s)):
            raise busy(self.fork, lock)
        if lock.is_retired and (self.refused is not None or not self._is_in_use()):
            # The fork was deleted: what is written here now would go to the trash unseen.
            lock.release()
            raise ForkNotFound(self.fork)
        self.layers.limit()
        if self.is_served:
            if self.is_distrusted:
                try:
                    self._look_again()
                except BaseException:
                    self.release()
                    raise
            elif lock.depth == 1:
                self.mode.take_turn()
            return self._locked
        if not self.looks_on:
            try:
                if lock.session is not None:
                    self.bury_session()
                elif not lock.epoch and self.shown_at is None:
                    # a person may have removed the file, which named the session
                    check_unshown(self.layout, lock, in_sight=True)
            except BaseException:
                lock.release()
                raise
        if lock.depth == 1:  # what a command has signed with stays
            lock.sign()
        if lock.epoch != self.epoch or self.epoch % 2:
            try:
                self._catch_up()
            except BaseException:
                self.release()
                raise
        return self._locked

    def leave_git(self) -> None:
        """Let git outside move the branch again: nothing shows the tree any more.

        Does nothing where another process has the workspace, or a session shows it. What the disk refuses, the end of
        the next mount does.
        """
        if not self.lock.acquire(0):
            return
        try:
            if self.lock.session is None:
                with contextlib.suppress(AvfsError):
                    step_aside(self.vault, self.fork)
        finally:
            self.lock.release()

    def _wait_for_lock(self, timeout_s: float) -> bool:
        """Take the lock within a time; `on_wait` is called once with its holder, unless the wait is short."""
        lock = self.lock
        if self._on_wait is None or timeout_s <= TOLD_AFTER_S:
            return lock.acquire(timeout_s)
        if lock.acquire(TOLD_AFTER_S):
            return True
        if lock.session is not None or lock.is_callers:  # it is asked, or can only be refused
            return False
        self._on_wait(self.fork, lock.holder())
        return lock.acquire(timeout_s - TOLD_AFTER_S)

    def bury_session(self) -> None:
        """Remove what a dead session has left in the lock. Called with that lock held, before anything else.

        Raises:
            WorkspaceMounted: If the kernel goes on showing the workspace.
        """
        if self.shown_at is not None:
            return  # it stays until another is there: if this process died now, no other would know of the mount
        check_unshown(self.layout, self.lock)
        self._open_root()
        self.lock.clear_session()
        self.leave_git()

    def _open_root(self) -> None:
        """Let the root have the mode again that it had before a session closed it to other users."""
        if self.layers.has_upper:
            # avfs shows the right mode all the same, and the next session tries again
            with contextlib.suppress(OSError):
                self.upper.shut_root.open(self.upper.root.fd)

    # --- being served ----------------------------------------------------------------------------

    def show_at(self, directory: Path | None) -> None:
        """Say where the kernel's overlayfs shows the workspace, before anything else is done.

        None when it does no more.

        From then on the kernel changes the layers by itself: nothing in memory is believed from one operation to the
        next.
        """
        if directory is None:
            self.enter(Served(self.layers) if self.is_served else Plain(self.layers))
            return
        from avfs_git.workspace.opened.shown import Shown  # noqa: PLC0415 - of few workspaces

        with host_errors(f"look at '{directory}'"):
            shown = Shown(self.layers, directory, is_served=self.is_served, looks_on=self.looks_on)
        self.enter(shown)

    def serve(self, session: str) -> LockedWorkspace:
        """Keep the workspace for a session: its lock, with a change begun, until `stop_serving`.

        The threads of this process go on to take the lock by turns; other processes find the session's id in it. Its
        socket must be there already. The process may fork afterwards; a child that takes over from another calls
        `take_over`.
        """
        locked = self.acquire()
        try:
            with host_errors(f"use '{self.layout.work}'"):
                os.scandir(self.layout.work).close()  # a server that cannot would be started again and again
            locked.begin()
            self.epoch = self.lock.epoch
            self.mode = serve(self.mode)
            self.lock.keep(session)
        finally:
            self.release()
        return locked

    def stop_serving(self) -> None:
        """End what `serve` began, when nothing shows the workspace any more."""
        locked = self.acquire()
        try:
            self.mode = stop_serving(self.mode)
            self._open_root()
            unchanged = self.dirty is not None and not self.dirty
            locked.end()
            if unchanged and self.cache is not None:
                # Nothing changed since it was recorded: the next process has nothing to scan.
                self.lock.mark_clean(self.epoch, self.lock.clean_commit)
            self.lock.stop_keeping()
        finally:
            self.release()
        self.leave_git()

    def take_over(self) -> None:
        """Go on in a process that was forked after `serve`, in place of another that was killed at any point.

        Called before anything is served. What it had begun is completed or put back; what it knew is found by a scan.
        """
        self.is_distrusted = True
        self.upper.clean_work(keep_attic=True)
        self.acquire()
        self.release()

    def _look_again(self) -> None:
        """Believe nothing but the nodes, after a failure while the workspace is served."""
        self.is_distrusted = False
        self._forget_cache()
        try:
            self.state = load_state(self.vault, self.layout, has_lock=True)
            self.mode.distrust()
            if self.state.is_unfinished or self.vault.oplog.find_unconfirmed(self.fork) or self.list_staging():
                self._recover(self._locked)
        except BaseException:
            self.is_distrusted = True
            raise

    def read_view(self) -> MergedTree:
        """Get the merged view for reading, without the lock unless another process wrote."""
        if self.is_distrusted if self.shown_at is not None else self.lock.epoch != self.epoch:
            with self.locked(to_read=True, is_patient=False):
                pass
        return self.mode.read_view()

    def _catch_up(self) -> None:
        """Bring memory up to date with the disk, after another process or a crash."""
        state = load_state(self.vault, self.layout, has_lock=True)
        self.state = state
        if self.refused is None:
            with host_errors(f"open workspace '{self.fork}'"):
                self.layers.drop_redirects(state)
        if self.layers.are_of(state):
            self.merged.forget_all()
        else:
            self.layers.open(state)
            self.mode.renew()
        self._forget_cache()
        epoch = self.lock.epoch
        died_in_a_change = bool(epoch % 2)
        self.dirty = DirtySet() if self.is_clean() else None
        self.epoch = epoch
        if self.refused is not None:
            self.is_unfinished = not self.looks_on and (died_in_a_change or state.pending is not None)
            return
        if died_in_a_change:
            with host_errors(f"clear '{self.layout.work}'"):
                self.upper.clean_work()
        try:
            is_left = died_in_a_change and bool(self.list_staging())
            is_left = is_left or (not self.is_copied_out and self.layout.copy_note.exists())
            if (
                is_left
                or state.is_unfinished
                or state.boot != self.boot
                or self.vault.oplog.find_unconfirmed(self.fork)
            ):
                self._recover(self._locked)
            if died_in_a_change:
                self.lock.begin_change()
                self.epoch = self.lock.end_change()
        except BaseException:
            self.forget()  # what is pending stays so: the next process with the lock tries again
            raise

    def list_staging(self) -> list[bytes]:
        """List what changes of a mounted tree have left at the root that were cut short."""
        from avfs_git.vfs.layer.mounted import list_staging  # noqa: PLC0415 - after a crash, and in few workspaces

        return list_staging(self.upper.root.fd)

    def is_clean(self) -> bool:
        """Whether nothing is known to have changed since the last record; False where only a scan would tell."""
        lock, state = self.lock, self.state
        if lock.epoch != lock.clean_epoch or lock.epoch % 2 or state.pending is not None:
            return False
        # After a boot the counters may be older than the files that they speak of, and at 0 they may have been lost.
        return state.boot == self.boot and (lock.epoch > 0 or self.is_unused())

    def is_recorded_by(self, head: Oid | None) -> bool:
        """Whether the workspace is known to hold just what a commit holds; False where only a scan would tell."""
        if not self.is_clean():
            return False
        recorded = self.lock.clean_commit
        if not any(recorded):
            return head is not None and self.state.base == head.hex()
        return recorded == head

    # --- the stat cache ---------------------------------------------------------------------------

    @property
    def cache(self) -> StatCache | None:
        """What the upper layer looked like at the last capture; None if that is not known."""
        if not self._cache_known:
            self._cache = StatCache.load(self.layout.statcache)
            self._cache_known = True
            recorded = bytes(20) if self._cache is None else self._cache.commit or bytes(20)
            if self.lock.clean_epoch and (self._cache is None or recorded != self.lock.clean_commit):
                # An older one, as after a full disk: the paths changed since the last capture are not those changed
                # since then.
                self.dirty = None
        return self._cache

    def adopt_cache(self, cache: StatCache) -> None:
        """Use a stat cache that was written just now."""
        self._cache, self._cache_known, self.looked = cache, True, None

    def drop_cache(self) -> None:
        """Forget what the upper layer looked like, on disk too: the next capture reads all of it."""
        with host_errors("drop the stat cache"):
            self.layout.statcache.unlink(missing_ok=True)
        self._cache, self._cache_known, self.looked, self.dirty = None, True, None, None

    def _forget_cache(self) -> None:
        self._cache, self._cache_known, self.looked = None, False, None

    def synced_trees(self) -> tuple[Oid | None, Oid | None]:
        """Get the tree and sidecar tree of the state from which captures start."""
        held = self.cache or self.lower.root
        return held.tree, held.sidecar

    def is_beside(self, path: TreePath) -> bool:
        """Tell whether that state has a file beside history."""
        return LowerTree(self.vault.store, *self.synced_trees(), default_mtime_ns=0).has_beside(path)


class LockedWorkspace:
    """A workspace while this process holds its lock: what may change it."""

    def __init__(self, opened: OpenWorkspace) -> None:
        self.opened = opened
        self.vault = opened.vault
        self.fork = opened.fork

    def signature(self) -> Signature:
        """Make the signature of a commit that is made here now: by the fork's author, if it has one."""
        author = self.opened.state.author
        return self.vault.signature(Identity(*author) if author is not None else None)

    @property
    def merged(self) -> MergedTree:
        """The merged view, for reading; `changing` gives that for writing."""
        return self.opened.merged

    @contextlib.contextmanager
    def changing(self) -> Iterator[MergedTree]:
        """Change files: other processes see that something moved, also if this one dies in between."""
        self.begin()
        try:
            yield self.opened.changeable
        finally:
            self.end()

    def begin(self) -> None:
        """Begin to change files, as `changing` does; the caller calls `end`."""
        opened = self.opened
        opened.begin_to_move()
        if opened.state.boot != opened.boot:
            # Before the first change: after a power cut, this tells that the counters cannot be trusted.
            opened.state.boot = opened.boot
            self.write_state()
        opened.lock.begin_change()

    def end(self) -> None:
        """End what `begin` began."""
        self.opened.upper.quota.settle()
        self.opened.epoch = self.opened.lock.end_change()

    def tell_later(self, *told: Warning | str) -> None:
        """Have the next capture tell of a recovery, each once: it is in the state when that is written."""
        texts = (each if isinstance(each, str) else each.message for each in told)
        self.opened.state.recovered = list(dict.fromkeys((*self.opened.state.recovered, *texts)))

    def write_state(self) -> None:
        """Write the state of the workspace to disk."""
        self.opened.begin_to_move()
        self.opened.layout.write_state(self.opened.state)

    def head(self) -> tuple[Oid | None, Commit | None]:
        """Read the commit that the fork's branch points to."""
        oid = self.vault.read_head(self.fork)
        return oid, (self.vault.store.read_commit(oid) if oid is not None else None)
