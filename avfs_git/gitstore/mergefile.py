"""Merging the content of one file three ways, with libgit2.

Decided here: how content in memory gets to libgit2's file merge, which takes blobs of a repository: through an
object database of our own with nothing behind it, so that a merge writes nothing. What counts as binary, and what
a side's content becomes where lines cannot be merged, is git's answer. Merges of trees call it.

libgit2 compares lines with Myers' algorithm, where git's `ort` uses the histogram one; where they align repeated
lines differently, one may see a conflict that the other does not. A `FileMerger` is used by one thread at a time.
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import StrEnum
from typing import NamedTuple

import pygit2
from pygit2.ffi import C, ffi

from avfs_git.errors import InternalError
from avfs_git.gitstore.objects import KIND_BLOB, hash_object
from avfs_git.gitstore.renames import is_binary
from avfs_git.gitstore.trees import MODE_FILE
from avfs_git.paths import Oid

MARKER_SIZE = 7
_MAX_SIZE = 1023 << 20
"""git's own limit (`MAX_XDIFF_SIZE`): what is larger counts as binary."""


class Favor(StrEnum):
    """What becomes of lines that both sides changed."""

    NORMAL = "normal"
    """A conflict."""
    OURS = "ours"
    THEIRS = "theirs"
    UNION = "union"
    """The lines of both, ours first."""


class Labels(NamedTuple):
    """What the markers of a conflict call the three sides."""

    base: bytes
    ours: bytes
    theirs: bytes


class MergedContent(NamedTuple):
    """What became of a file's content."""

    content: bytes
    is_clean: bool


class _Blobs(pygit2.OdbBackend):
    """The three contents of the merge at hand."""

    def __init__(self) -> None:
        super().__init__()
        self.held: dict[bytes, bytes] = {}

    def read_cb(self, oid: pygit2.Oid) -> tuple[int, bytes]:
        return KIND_BLOB, self.held[oid.raw]

    def read_header_cb(self, oid: pygit2.Oid) -> tuple[int, int]:
        return KIND_BLOB, len(self.held[oid.raw])

    def exists_cb(self, oid: pygit2.Oid) -> bool:
        return oid.raw in self.held

    def refresh_cb(self) -> None:
        """Do nothing: what is held changes between merges only."""

    def __iter__(self) -> Iterator[pygit2.Oid]:
        return iter([pygit2.Oid(raw=oid) for oid in self.held])


class FileMerger:
    """Merges contents, one file after the other."""

    def __init__(self, *, favor: Favor = Favor.NORMAL, with_base: bool = False) -> None:
        """Choose how conflicts are resolved or shown.

        Args:
            favor: What becomes of lines that both sides changed.
            with_base: Show the base's lines between the markers, too (`diff3`).
        """
        self.favor = favor
        self._blobs = _Blobs()
        database = pygit2.Odb()
        database.add_backend(self._blobs, 1)
        self._repository = pygit2.Repository()
        self._repository.set_odb(database)
        self._options = ffi.new("git_merge_file_options *")
        self._options.version = 1
        self._options.flags = C.GIT_MERGE_FILE_STYLE_DIFF3 if with_base else C.GIT_MERGE_FILE_STYLE_MERGE
        self._favors = {
            Favor.NORMAL: C.GIT_MERGE_FILE_FAVOR_NORMAL,
            Favor.OURS: C.GIT_MERGE_FILE_FAVOR_OURS,
            Favor.THEIRS: C.GIT_MERGE_FILE_FAVOR_THEIRS,
            Favor.UNION: C.GIT_MERGE_FILE_FAVOR_UNION,
        }

    def merge(
        self, base: bytes | None, ours: bytes, theirs: bytes, labels: Labels, *, for_base: bool = False, more_marker: int = 0
    ) -> MergedContent:
        """Merge three contents.

        Args:
            base: What both come from; None where each side made the file.
            ours: One side.
            theirs: The other side.
            labels: What markers call them.
            for_base: The result is the base of another merge: conflicts stay in it, whatever is favored.
            more_marker: By how many characters markers are longer than usual.
        """
        contents = (base or b"", ours, theirs)
        if any(is_binary(content) or len(content) > _MAX_SIZE for content in contents):
            if for_base:
                return MergedContent(contents[0], is_clean=False)
            if self.favor in (Favor.OURS, Favor.THEIRS):
                return MergedContent(theirs if self.favor is Favor.THEIRS else ours, is_clean=True)
            return MergedContent(ours, is_clean=False)
        oids = [hash_object(KIND_BLOB, content) for content in contents]
        self._blobs.held.update(zip(oids, contents, strict=True))
        names = [ffi.new("char[]", label) for label in labels]
        options = self._options
        options.ancestor_label, options.our_label, options.their_label = names
        options.favor = C.GIT_MERGE_FILE_FAVOR_NORMAL if for_base else self._favors[self.favor]
        options.marker_size = MARKER_SIZE + more_marker
        path = ffi.new("char[]", b"file")
        entries = [_entry(oid, path) for oid in oids]
        result = ffi.new("git_merge_file_result *")
        error = C.git_merge_file_from_index(
            result,
            self._repository._repo,  # noqa: SLF001 - pygit2's own wrapper takes no options and returns text
            entries[0] if base is not None else ffi.NULL,
            entries[1],
            entries[2],
            options,
        )
        self._blobs.held.clear()
        if error:
            raise InternalError(f"libgit2 cannot merge a file (error {error})")
        try:
            content = bytes(ffi.buffer(result.ptr, result.len)) if result.len else b""
            return MergedContent(content, is_clean=bool(result.automergeable))
        finally:
            C.git_merge_file_result_free(result)


def _entry(oid: Oid, path: object) -> object:
    entry = ffi.new("git_index_entry *")
    entry.path = path
    entry.mode = MODE_FILE
    ffi.buffer(ffi.addressof(entry, "id"))[:] = oid
    return entry
