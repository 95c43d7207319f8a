"""Merging the lines of three contents by libgit2, whose xdiff is git's.

Decided here: how libgit2 is handed contents: from memory, so that it opens no repository and reads no configuration
or attributes of the user's. Imported where both sides have changed a file and not before, because pygit2 takes longer
to import than most commands to run. A `LineMerger` is used by one thread.

pygit2 offers the merge of one file without its options (`Repository.merge_file_from_index`), so the same function is
called here with them: labels, the length of markers, the style, whom to favor.
"""

from __future__ import annotations

from typing import Any

import pygit2
from pygit2.enums import DiffOption, FileMode, MergeFavor, MergeFileFlag
from pygit2.errors import check_error
from pygit2.ffi import C, ffi

from avfs_git.gitstore.formats.packfile import KIND_BLOB
from avfs_git.gitstore.merge.engine import ConflictStyle, Labels, MergedContent
from avfs_git.model import MergeStrategy

_VERSION = 1
_FAVORS = {
    MergeStrategy.NORMAL: MergeFavor.NORMAL,
    MergeStrategy.OURS: MergeFavor.OURS,
    MergeStrategy.THEIRS: MergeFavor.THEIRS,
    MergeStrategy.UNION: MergeFavor.UNION,
}
_STYLES = {
    ConflictStyle.MERGE: MergeFileFlag.STYLE_MERGE,
    ConflictStyle.DIFF3: MergeFileFlag.STYLE_DIFF3,
    ConflictStyle.ZDIFF3: MergeFileFlag.STYLE_ZDIFF3,
}


class _Memory(pygit2.OdbBackend):
    """Blobs that are held in memory, for one merge at a time."""

    def __init__(self) -> None:
        super().__init__()
        self.blobs: dict[bytes, bytes] = {}

    def read_cb(self, oid: pygit2.Oid) -> tuple[int, bytes]:
        return KIND_BLOB, self.blobs[oid.raw]

    def read_header_cb(self, oid: pygit2.Oid) -> tuple[int, int]:
        return KIND_BLOB, len(self.blobs[oid.raw])

    def exists_cb(self, oid: pygit2.Oid) -> bool:
        return oid.raw in self.blobs


class LineMerger:
    """Merges texts, one after the other."""

    def __init__(self) -> None:
        self._memory = _Memory()
        database = pygit2.Odb()
        database.add_backend(self._memory, 1)
        self._repository: Any = pygit2.Repository()
        self._repository.set_odb(database)
        self._pointer = self._repository._repo  # noqa: SLF001 - what pygit2's own calls of libgit2 take

    def merge(
        self,
        base: bytes,
        ours: bytes,
        theirs: bytes,
        labels: Labels,
        *,
        favor: MergeStrategy,
        style: ConflictStyle,
        marker_size: int,
    ) -> MergedContent:
        """Merge three texts."""
        options = ffi.new("git_merge_file_options *")
        options.version = _VERSION
        texts = [ffi.new("char[]", label) for label in labels]
        options.ancestor_label, options.our_label, options.their_label = texts
        options.favor = int(_FAVORS[favor])
        options.flags = int(_STYLES[style])
        options.marker_size = marker_size
        entries = [self._enter(content) for content in (base, ours, theirs)]
        result = ffi.new("git_merge_file_result *")
        try:
            check_error(C.git_merge_file_from_index(result, self._pointer, *(entry for entry, _ in entries), options))
            content = ffi.buffer(result.ptr, result.len)[:] if result.len else b""
            return MergedContent(content, is_clean=bool(result.automergeable))
        finally:
            C.git_merge_file_result_free(result)
            self._memory.blobs.clear()

    def _enter(self, content: bytes) -> tuple[Any, Any]:
        """Hold a content; return libgit2's entry for it, and what has to live as long."""
        oid = pygit2.hash(content)
        self._memory.blobs[oid.raw] = content
        entry, path = ffi.new("git_index_entry *"), ffi.new("char[]", b"file")
        ffi.buffer(ffi.addressof(entry, "id"))[:] = oid.raw
        entry.mode, entry.path = int(FileMode.BLOB), path
        return entry, path


def find_shifts(old: bytes, new: bytes) -> list[tuple[int, int]]:
    """List where a text was changed, by the line of the new version, and by how many lines what is below moved."""
    flags = DiffOption.FORCE_TEXT
    hunks = pygit2.Patch.create_from(old, new, "a", "a", flags, 0, 0).hunks
    return [(hunk.new_start, hunk.new_lines - hunk.old_lines) for hunk in hunks]
