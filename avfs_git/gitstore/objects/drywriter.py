"""Computing what a `packwriter.PackWriter` would write, and storing nothing: what a checkpoint or a merge would be.

Decided here: what of it is kept in memory, to be read back. One `DryWriter` belongs to one thread. Nothing that it
computed can be relied on to be in the store.
"""

from __future__ import annotations

from collections.abc import Iterator

from avfs_git.gitstore.formats.packfile import KIND_BLOB
from avfs_git.gitstore.objects.blobfile import hash_file
from avfs_git.gitstore.objects.overstore import OverStore
from avfs_git.gitstore.objects.store import ObjectStore, hash_object
from avfs_git.paths import Oid


class DryWriter(OverStore):
    """Computes the ids that a `PackWriter` would, and stores nothing: what a checkpoint would be.

    Trees and commits are kept in memory, so that what was added can be compared; blobs are not, unless asked for.
    """

    def __init__(self, store: ObjectStore) -> None:
        super().__init__(store)
        self._added: dict[Oid, tuple[int, bytes]] = {}
        self._sizes: dict[Oid, int] = {}

    def add(self, kind: int, data: bytes, *, keep: bool = False) -> Oid:
        """Compute the id of an object."""
        oid = hash_object(kind, data)
        if kind == KIND_BLOB and not keep:
            self._sizes[oid] = len(data)
        else:
            self._added[oid] = (kind, data)
        return oid

    def add_file(self, fd: int, size: int, *, goes_on: bool = False) -> Oid:
        """Compute the id that a file of that size has as a blob."""
        oid = hash_file(fd, size, goes_on=goes_on)
        self._sizes[oid] = size
        return oid

    @property
    def count(self) -> int:
        """How many objects it has taken."""
        return len(self._added) + len(self._sizes)

    def list_added(self) -> Iterator[tuple[int, Oid, bytes]]:
        """List the objects that are kept: kind, id and content."""
        return ((kind, oid, data) for oid, (kind, data) in self._added.items())

    def _find_new(self, oid: Oid) -> tuple[int, bytes] | None:
        return self._added.get(oid)

    def blob_size(self, oid: Oid) -> int:
        """Say how long a blob is, without reading it."""
        size = self._sizes.get(oid)
        if size is None and oid in self._added:
            size = len(self._added[oid][1])
        return self.store.blob_size(oid) if size is None else size

    def holds(self, oid: Oid) -> bool:
        """Tell whether the content of an object is kept in memory."""
        return oid in self._added

    def exists(self, oid: Oid) -> bool:
        """Tell whether an object was added or is in the store."""
        return oid in self._added or oid in self._sizes or self.store.exists(oid)

    def stream_blob(self, oid: Oid) -> Iterator[bytes]:
        """Read the content of a blob of the store in pieces of at most 1 MiB."""
        return self.store.stream_blob(oid)
