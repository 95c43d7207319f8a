"""What objects are read from and put into.

Decided here: the two interfaces that all code above relies on, so that a checkpoint that is only asked about, a
workspace that is not stored yet and the repository itself look the same. Implemented by `objects` and
`workspace.history.compare`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Protocol

from avfs_git.paths import Oid

if TYPE_CHECKING:
    from avfs_git.gitstore.formats.commits import Commit, Links

Tree = Mapping[bytes, tuple[int, Oid]]
"""Entries by name, in git's order: mode and id. Shared between callers, never changed."""


class NotYetHere(Exception):
    """Something takes long, and this thread has others to serve meanwhile; raised only in threads that have said so.

    A content is on a server, or a large file has to be copied first. `bring` brings it: a thread that may wait calls
    it, without any lock. It raises RemoteError or OSError.
    """

    def __init__(self, bring: Callable[[], None]) -> None:
        super().__init__("it is not here yet")
        self.bring = bring


class ObjectSource(Protocol):
    """Objects that can be read."""

    def read(self, oid: Oid) -> tuple[int, bytes]:
        """Read an object: its kind and content."""

    def read_blob(self, oid: Oid) -> bytes:
        """Read the content of a blob."""

    def read_tree(self, oid: Oid) -> Tree:
        """Read and check a tree."""

    def read_commit(self, oid: Oid) -> Commit:
        """Read a commit."""

    def blob_size(self, oid: Oid) -> int:
        """Say how long a blob is, without reading it."""

    def exists(self, oid: Oid) -> bool:
        """Tell whether an object is there."""

    def stream_blob(self, oid: Oid) -> Iterator[bytes]:
        """Read the content of a blob in pieces of at most 1 MiB."""


class ObjectSink(ObjectSource, Protocol):
    """Takes new objects, and reads them back like the objects that were there."""

    def read_links(self, oid: Oid) -> Links:
        """Read of a commit what a walk through history needs."""

    def ask_merge_bases(self, ours: Oid, theirs: Oid) -> list[Oid] | None:
        """Ask git for the merge bases of two commits; None if it cannot tell, as of commits that are not stored yet."""

    def add(self, kind: int, data: bytes, *, keep: bool = False) -> Oid:
        """Take an object and return its id; with `keep`, it is read again from here even if it is not stored."""

    def add_tree(self, entries: Mapping[bytes, tuple[int, Oid]]) -> Oid:
        """Take a tree by its entries, which come in any order, and return its id."""

    def add_sorted(self, tree: Tree) -> Oid:
        """Take a tree with entries in git's order and names git allows, and return its id; reading it costs little.

        It is not copied: no caller may change it afterwards.
        """

    def add_file(self, fd: int, size: int, *, goes_on: bool = False) -> Oid:
        """Take a file of that size, from its start, as a blob; there may be more behind that if it goes on."""

    def deflating_later(self) -> AbstractContextManager[None]:
        """Only hash the blobs that are added in the block, and deflate them at its end."""
