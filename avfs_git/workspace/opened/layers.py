"""The two layers of an open workspace: the files that its fork changed, over the commit that it began with.

Decided here: what is opened for a workspace's state, also where nothing may be written and there is no upper layer yet.
`OpenWorkspace` has one and opens it anew when the state has moved to another base; the modes make their trees of it.
"""

from __future__ import annotations

import contextlib
import os
import stat

from avfs_git.host.files.modes import make_dir
from avfs_git.host.files.xattrs import entry_of
from avfs_git.paths import oid_of
from avfs_git.vfs.layer.lower import LowerTree
from avfs_git.vfs.layer.upper import UpperLayer
from avfs_git.workspace.vault.format import WorkspaceLayout, WorkspaceState
from avfs_git.workspace.vault.vault import OpenVault


class Layers:
    """The upper and the lower layer."""

    def __init__(self, vault: OpenVault, layout: WorkspaceLayout, state: WorkspaceState, *, is_writable: bool) -> None:
        """Open them; make the directories of the upper layer where that is allowed."""
        self.vault = vault
        self._layout = layout
        self._is_writable = is_writable
        if is_writable:
            with contextlib.suppress(FileExistsError):
                os.mkdir(layout.upper)  # shown as the root of the workspace, so that its mode is that of any new directory
            with contextlib.suppress(FileExistsError):
                make_dir(layout.work)
        self.open(state)

    def open(self, state: WorkspaceState) -> None:
        """Open the layers of a state."""
        self.upper = self._open_upper()
        self.lower = self._open_lower(state)
        self._base = (state.base, state.sidecar)

    def are_of(self, state: WorkspaceState) -> bool:
        """Whether these are still the layers of a state."""
        return self._base == (state.base, state.sidecar) and self.has_upper

    @property
    def has_upper(self) -> bool:
        """Whether there is an upper layer."""
        return self.upper.directory == self._layout.upper

    def is_unused(self) -> bool:
        """Whether the upper layer is empty: nothing was ever changed."""
        if not self.has_upper:
            return True
        with os.scandir(self._layout.upper) as entries:
            return next(entries, None) is None

    def adopt_root(self) -> None:
        """Give the root of an unused upper layer the attributes of the lower one, which it hides."""
        entry = self.lower.root
        with contextlib.suppress(OSError):  # they are a comfort: a capture reads what is there
            os.chmod(self._layout.upper, stat.S_IMODE(entry.mode))
            os.utime(self._layout.upper, ns=(entry.mtime_ns, entry.mtime_ns))
            self.upper.write_user_xattrs(entry_of(self.upper.root.fd, b"."), entry.xattrs)

    def _open_upper(self) -> UpperLayer:
        if not self._is_writable and not (self._layout.upper.is_dir() and self._layout.work.is_dir()):
            from avfs_git.vfs.tree.readonly import NoUpper  # noqa: PLC0415 - of few workspaces

            return NoUpper(self.vault.git_dir)
        return UpperLayer(self._layout.upper, self._layout.work)

    def _open_lower(self, state: WorkspaceState) -> LowerTree:
        store = self.vault.store
        if state.base is None:
            return LowerTree(store, None, None, default_mtime_ns=state.created_at_ns or 0)
        commit = store.read_commit(oid_of(state.base))
        sidecar = store.read_commit(oid_of(state.sidecar)).tree if state.sidecar else None
        return LowerTree(store, commit.tree, sidecar, default_mtime_ns=commit.committer.when_s * 1_000_000_000)
