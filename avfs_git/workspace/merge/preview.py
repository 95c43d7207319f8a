"""A workspace as trees that are stored nowhere, with the files behind them.

Decided here: how something is tried or compared with what a workspace has not committed, as a merge that is only asked
for: trees and commits are made in memory, and the content of changed files is read from the workspace when it is
needed. Programs may change files meanwhile. So what is read is compared with the id that the capture gave it: no result
mixes two states.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property

from avfs_git.errors import FileChanging
from avfs_git.gitstore.formats.commits import Commit
from avfs_git.gitstore.formats.packfile import KIND_BLOB
from avfs_git.gitstore.objects.drywriter import DryWriter
from avfs_git.gitstore.objects.store import hash_object
from avfs_git.paths import Oid, TreePath
from avfs_git.workspace.capture.requests import CaptureRequest
from avfs_git.workspace.checkpoint.compared import Compared, capture, compare_workspace
from avfs_git.workspace.opened.workspace import LockedWorkspace


class Preview(DryWriter):
    """Computes what would be stored, over the vault and the files of one workspace.

    Attributes:
        captured: The workspace as it is.
    """

    def __init__(self, locked: LockedWorkspace) -> None:
        super().__init__(locked.vault.store)
        self._locked = locked
        self._paths: dict[Oid, TreePath] = {}
        self._head, commit = locked.head()  # before: git may move it meanwhile
        self.captured = capture(locked, self, CaptureRequest(remember_blobs=True, skips_unreadable=True), onto=commit)
        self._paths = self.captured.blob_paths

    @cached_property
    def compared(self) -> Compared:
        """The workspace as it is, compared with the head of its fork."""
        return compare_workspace(self._locked, self, captured=self.captured, onto=self._head)

    def add_uncommitted(self) -> Oid:
        """Make up the commit that would hold the workspace as it is; the head's where nothing is uncommitted."""
        compared = self.compared
        if compared.is_unchanged and compared.head is not None:
            return compared.head
        tree = compared.captured.tree or self.add_tree({})
        parents = (compared.head,) if compared.head is not None else ()
        signature = self._locked.signature()
        made_up = Commit(tree, parents, signature, signature, "not committed yet\n")
        return self.add_commit(made_up)

    def read(self, oid: Oid) -> tuple[int, bytes]:
        """Read an object."""
        return (KIND_BLOB, self.read_blob(oid)) if oid in self._paths else super().read(oid)

    def read_blob(self, oid: Oid) -> bytes:
        """Read a blob, from the workspace if it is a changed file.

        Raises:
            FileChanging: If a program has changed that since, other than by appending to it.
        """
        path = self._paths.get(oid)
        if path is None:
            return super().read_blob(oid)
        try:
            tree = self._locked.merged
            data = tree.contents.read_all(tree.resolve(path, follow_last=False))[: self.blob_size(oid)]
        except OSError as error:
            raise FileChanging(path) from error
        if hash_object(KIND_BLOB, data) != oid:
            raise FileChanging(path)
        return data

    def stream_blob(self, oid: Oid) -> Iterator[bytes]:
        """Read a blob in pieces."""
        return iter((self.read_blob(oid),)) if oid in self._paths else super().stream_blob(oid)
