"""Merging three versions of one entry of a tree: its mode, and what it holds.

Decided here: what becomes of an entry that both sides changed: files are merged by `mergefile`, as the attributes of our side
say, a symbolic link or a submodule is one side's; and what about it somebody has to decide. Which versions belong together, and
at which path the result stands, is up to `mergetrees`, the only caller. One object serves one merge, in one thread.
"""

from __future__ import annotations

import stat

from avfs_git.gitstore.attributes import TreeAttributes
from avfs_git.gitstore.mergefile import MARKER_SIZE, Driver, FileMerger, Labels, how_to_merge
from avfs_git.gitstore.objects import KIND_BLOB
from avfs_git.gitstore.renames import is_binary
from avfs_git.gitstore.source import ObjectSink
from avfs_git.gitstore.treediff import Entry
from avfs_git.model import ConflictKind, MergeStrategy
from avfs_git.paths import Oid, TreePath


class EntryMerger:
    """Merges entries, one after the other.

    Attributes:
        drivers: Which files have a program of their own for merging, by name; they were merged by lines instead.
    """

    def __init__(
        self, sink: ObjectSink, merger: FileMerger, labels: Labels, attributes: TreeAttributes | None, *, depth: int = 0
    ) -> None:
        """Prepare to merge entries.

        Args:
            sink: Where contents are read from and merged ones go.
            merger: Merges contents.
            labels: What the sides are called in markers.
            attributes: Tells for which files otherwise; None if nothing does.
            depth: How many merges this one makes a base for; 0 for the merge itself.
        """
        self._sink = sink
        self._merger = merger
        self._labels = labels
        self._attributes = attributes
        self._depth = depth
        self.drivers: dict[TreePath, bytes] = {}

    def merge(
        self, path: bytes, base: Entry | None, ours: Entry, theirs: Entry, names: list[bytes], *, more_marker: int = 0
    ) -> tuple[Entry | None, ConflictKind | None]:
        """Merge three versions of one kind, into none if a base has none; also name what could not be merged.

        Args:
            path: Where attributes look for it.
            base: What both come from, of any kind; None where each side made it.
            ours: One side.
            theirs: The other side.
            names: What base, ours and theirs call it.
            more_marker: By how many characters markers are longer than usual.

        Raises:
            ObjectMissing: If a content is not there.
        """
        why: ConflictKind | None = None
        if ours[0] == theirs[0] or (base is not None and ours[0] == base[0]):
            mode = theirs[0]
        else:
            mode = ours[0]
            if base is None or theirs[0] != base[0]:
                why = ConflictKind.MODE
        if ours[1] == theirs[1] or (base is not None and ours[1] == base[1]):
            return (mode, theirs[1]), why
        if base is not None and theirs[1] == base[1]:
            return (mode, ours[1]), why
        same_kind = base if base is not None and stat.S_IFMT(base[0]) == stat.S_IFMT(ours[0]) else None
        if stat.S_ISREG(ours[0]):
            oid, reason = self._merge_contents(path, same_kind, ours, theirs, names, more_marker)
            return (mode, oid), why or reason
        if stat.S_ISLNK(ours[0]):
            if self._depth:
                return base, ConflictKind.SYMLINK
            if self._merger.favor is MergeStrategy.NORMAL or self._merger.favor is MergeStrategy.UNION:
                return (mode, ours[1]), ConflictKind.SYMLINK
            return (mode, theirs[1] if self._merger.favor is MergeStrategy.THEIRS else ours[1]), why
        return base if self._depth else (mode, ours[1]), ConflictKind.SUBMODULE

    def _merge_contents(
        self, path: bytes, base: Entry | None, ours: Entry, theirs: Entry, names: list[bytes], more_marker: int
    ) -> tuple[Oid, ConflictKind | None]:
        labels = self._labels
        if len(set(names)) > 1:
            labels = Labels(*(label + b":" + name for label, name in zip(labels, names, strict=True)))
        driver, marker_size = self._how_to_merge(path)
        our_content, their_content = self._sink.read_blob(ours[1]), self._sink.read_blob(theirs[1])
        merged = self._merger.merge(
            None if base is None else self._sink.read_blob(base[1]),
            our_content,
            their_content,
            labels,
            for_base=bool(self._depth),
            marker_size=marker_size + 2 * self._depth + more_marker,
            driver=driver,
        )
        # Kept, because a blob that is only a base's is read again by the merge it is for.
        oid = self._sink.add(KIND_BLOB, merged.content, keep=True)
        if merged.is_clean:
            return oid, None
        is_text = driver is not Driver.BINARY and not is_binary(our_content) and not is_binary(their_content)
        return oid, ConflictKind.CONTENT if is_text else ConflictKind.BINARY

    def _how_to_merge(self, path: bytes) -> tuple[Driver, int]:
        """Tell how the contents of a file are merged, and how long its markers are, by the attributes of our side."""
        if self._attributes is None:
            return Driver.TEXT, MARKER_SIZE
        return how_to_merge(self._attributes, TreePath(path), self.drivers)
