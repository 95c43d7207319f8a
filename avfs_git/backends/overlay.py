"""The overlay backend: the kernel's overlayfs over the workspace's own upper layer, seen by the command alone.

Decided here: the options of the mount and what stands in its layers. The upper layer is the workspace's own, whose
format is overlayfs's; below it lies a directory with nothing but the file `.git`, and below that the base commit, a
read-only FUSE mount that all forks of the commit share. The mount is in a namespace of the command: nobody else sees
it, and it goes with the command's last process, also when avfs is killed. Files are read and written natively; only
what was never read before comes through FUSE.

`volatile`: the kernel forces nothing to disk when the mount ends, as the workspace needs no more than the next
checkpoint. Its mark in `work`, by which it would refuse the next mount, is removed before that.
"""

from __future__ import annotations

import os
import time
from contextlib import suppress
from pathlib import Path

from avfs_git.backends.lower import LowerMounts
from avfs_git.backends.shield import Mounts, make_readonly, shield_vault
from avfs_git.backends.shown import BackendName, Passed, make_root, prepare_git, remove_root, start_runner
from avfs_git.errors import FuseUnavailable, HostError, MountError
from avfs_git.host.mounts.overlayfs import clear_volatile, mark_options
from avfs_git.host.processes.runner.handle import NamespaceRefused, file_mount, overlay_mount, unmounting
from avfs_git.model import Warning
from avfs_git.paths import oid_of
from avfs_git.workspace.opened.workspace import LockedWorkspace, OpenWorkspace

_VOLATILE = "volatile"
_ATTEMPTS = 50
_PAUSE_S = 0.02


class OverlayBackend:
    """A workspace on the kernel's overlayfs."""

    name = BackendName.OVERLAY

    def __init__(self, opened: OpenWorkspace, lowers: LowerMounts, root: Path, *, readonly: bool) -> None:
        """Show it. Called with the workspace locked.

        Raises:
            Passed: If this machine does not allow it.
            AvfsError: If the disk or an object fails.
        """
        self._opened = opened
        self._lowers = lowers
        self._readonly = readonly
        self._shield: Mounts = ()
        self.root = root
        self.git_file: Path | None = None
        """The file that the tree shows as its `.git`, and that nothing else opens."""
        self._made_root = not root.exists()
        make_root(root)
        try:
            for attempt in range(_ATTEMPTS):
                try:
                    self.runner = start_runner(
                        self._mounts, check_awake=self._check_awake, held=(opened.lock.fileno(),)
                    )
                    return
                except NamespaceRefused as refused:
                    if refused.step != "find the lower layer" or attempt == _ATTEMPTS - 1:
                        raise Passed(str(refused)) from refused
                    time.sleep(_PAUSE_S)  # the process that mounted it ended just now, and the mount with it
        except (FuseUnavailable, MountError) as error:
            self._remove_root()
            raise Passed(error.message) from error
        except BaseException:
            self._remove_root()
            raise

    def _mounts(self) -> Mounts:
        opened = self._opened
        link = self.git_file = prepare_git(opened, self.root)
        lower = [link.parent] if link is not None else []
        device = None
        wanted = base_of(opened)
        if wanted is not None:
            base = self._lowers.find(*wanted, fork=opened.fork)
            try:
                device = os.stat(base).st_dev
            except OSError as error:
                raise NamespaceRefused("find the lower layer", error.errno or 0) from error
            lower.append(base)
        if not lower:
            raise Passed("the workspace has no base commit")
        clear_volatile(opened.layout.work)
        overlay = overlay_mount(
            self.root,
            lower=lower,
            device=device,
            upper=opened.layout.upper,
            work=opened.layout.work,
            options=(*mark_options(opened.upper.marks.is_trusted), _VOLATILE),
            renames_all=opened.upper.marks.is_trusted,
        )
        above = (file_mount(link, self.root / ".git"),) if link is not None else ()
        self._shield = shield_vault(opened, self.root)
        return (overlay, *above, *self._shield, *(self._frozen() if self._readonly else ()))

    def _check_awake(self) -> None:
        self._lowers.check_awake(self._opened.fork)

    def _frozen(self) -> Mounts:
        return make_readonly(self._opened, self.root)

    def renew(self) -> None:
        """Mount it anew, after the layers were changed by others than commands here. Called with the workspace locked.

        Raises:
            NamespaceRefused: If the system does not allow it any more.
        """
        self.show(readonly=False)
        self.runner.make_mounts([*_ends_of(self._shield), unmounting(self.root), *self._mounts()])

    def show(self, *, readonly: bool) -> None:
        """Refuse or allow changes from the next command on."""
        if readonly != self._readonly:
            frozen = self._frozen()
            self.runner.make_mounts(frozen if readonly else _ends_of(frozen))
            self._readonly = readonly

    def collect(self, locked: LockedWorkspace) -> list[Warning]:
        """Do nothing: what the command changed is in the workspace."""
        del locked
        return []

    def close(self) -> None:
        """End it with all that runs in it. A second call does nothing."""
        self.runner.close()
        with suppress(HostError):
            clear_volatile(self._opened.layout.work)
        self._remove_root()
        self._opened.leave_git()

    def _remove_root(self) -> None:
        if self._made_root:
            remove_root(self.root)


def _ends_of(mounts: Mounts) -> Mounts:
    return tuple(unmounting(Path(str(each["target"]))) for each in reversed(mounts))


def base_of(opened: OpenWorkspace) -> tuple[str, str | None] | None:
    """Give the base commit, and the sidecar commit to show with it where that is not its own.

    Return None if there is no base.
    """
    state = opened.state
    if state.base is None:
        return None
    commit = opened.vault.store.read_commit(oid_of(state.base))
    own = commit.sidecar.hex() if commit.sidecar is not None else None
    return state.base, state.sidecar if state.sidecar != own else None
