"""A read-only workspace: on a read-only disk, in another user's vault, or beside a process that works on it.

A workspace without an upper layer shows its lower one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from avfs_git.vfs.tree.merged import MergedTree
from avfs_git.workspace.opened.plain import Plain

if TYPE_CHECKING:
    from avfs_git.vfs.scan.scan import Layer


class ReadOnly(Plain):
    """Nothing is changed here; `OpenWorkspace.acquire` refuses it."""

    def _make_view(self) -> MergedTree:
        if self.layers.has_upper:
            return super()._make_view()
        from avfs_git.vfs.tree.readonly import open_commit_tree  # noqa: PLC0415 - of few workspaces

        return open_commit_tree(self.layers.lower, self.layers.vault.git_dir, cache=self.layers.vault.blob_cache)

    def read_upper(self) -> Layer:
        """Read the upper layer, if there is one."""
        if self.layers.has_upper:
            return super().read_upper()
        from avfs_git.vfs.tree.readonly import NothingChanged  # noqa: PLC0415 - of few workspaces

        return NothingChanged(self.layers.lower)
