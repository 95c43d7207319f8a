"""A workspace as trees that are stored nowhere, with the files behind them.

Decided here: how something is tried with what a workspace has not committed, as a merge that is only asked for: trees and
commits are made in memory, and the content of changed files is read from the workspace when it is needed. Used
with the workspace lock held, in a served one with programs kept waiting: files must not change between.
"""

from __future__ import annotations

import stat
from collections.abc import Iterator

from avfs_git.gitstore.drywriter import DryWriter
from avfs_git.gitstore.objects import KIND_BLOB
from avfs_git.paths import Oid, TreePath
from avfs_git.workspace.checkpoint import Taken, take
from avfs_git.workspace.workspace import LockedWorkspace


class Preview(DryWriter):
    """Computes what would be stored, over the vault and the files of one workspace."""

    def __init__(self, locked: LockedWorkspace) -> None:
        """Capture the workspace; nothing is written."""
        super().__init__(locked.vault.store)
        self._merged = locked.merged
        self._paths: dict[Oid, TreePath] = {}
        self.taken: Taken = take(locked, self, remember_blobs=True)
        self._paths = self.taken.captured.blob_paths

    def read(self, oid: Oid) -> tuple[int, bytes]:
        """Read an object."""
        return (KIND_BLOB, self.read_blob(oid)) if oid in self._paths else super().read(oid)

    def read_blob(self, oid: Oid) -> bytes:
        """Read a blob, from the workspace if it is a changed file."""
        path = self._paths.get(oid)
        if path is None:
            return super().read_blob(oid)
        node = self._merged.resolve(path, follow_last=False)
        if stat.S_ISLNK(self._merged.getattr(node).mode):
            return self._merged.readlink(node)
        return self._merged.read_all(node)

    def stream_blob(self, oid: Oid) -> Iterator[bytes]:
        """Read a blob in pieces."""
        return iter((self.read_blob(oid),)) if oid in self._paths else super().stream_blob(oid)
