"""The lower layer: what a commit shows as a directory, that is its tree joined with its sidecar.

Decided here: how git modes, sidecar entries and their metadata become one read-only filesystem. The merged
view, restoring and the read-only live tree use it. A `LowerTree` is immutable in what it shows; its caches
are bounded and safe to use from several threads. Nothing is written; hostile trees are refused by the
object layer underneath while they are read.
"""

from __future__ import annotations

import stat
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from avfs_git.gitstore.source import ObjectSource
from avfs_git.gitstore.trees import MODE_EXEC, MODE_GITLINK, MODE_SYMLINK, MODE_TREE
from avfs_git.paths import Oid, TreePath, components
from avfs_git.vfs.sidecar import SELF, Meta, Record, SideEntry, differ_beyond_times, parse_record, parse_records, parse_sidecar

DIRECTORY_MODE = 0o755
CACHED_ENTRIES = 30_000
"""Bound of the directory cache, in entries over all directories: about 10 MB."""

_NO_META = Meta()
_NOTHING = Oid(bytes(20))
_PERMISSIONS = {MODE_EXEC: 0o755, MODE_SYMLINK: 0o777, MODE_TREE: DIRECTORY_MODE, MODE_GITLINK: DIRECTORY_MODE}


class LowerEntry:
    """One entry of the lower layer.

    Attributes:
        kind: `file`, `symlink`, `dir`, or `gitlink` (a submodule's place: a directory to whoever looks).
        mode: As `st_mode`, with the type.
        oid: The blob of a file or symlink, the commit of a gitlink, None for a directory.
        tree: The git tree of a directory, if it has one.
        sidecar: The sidecar tree of a directory, if it has one.
        tracked: Whether the git tree holds it (a directory: whether it holds something below it).
    """

    __slots__ = ("kind", "mode", "mtime_ns", "oid", "sidecar", "tracked", "tree", "xattrs")

    def __init__(
        self,
        kind: str,
        mode: int,
        mtime_ns: int,
        oid: Oid | None,
        tree: Oid | None,
        sidecar: Oid | None,
        meta: Meta,
        *,
        tracked: bool,
    ) -> None:
        self.kind = kind
        self.mode = mode
        self.mtime_ns = mtime_ns
        self.oid = oid
        self.tree = tree
        self.sidecar = sidecar
        self.xattrs: tuple[tuple[bytes, bytes], ...] = meta.xattrs
        self.tracked = tracked

    @property
    def is_dir(self) -> bool:
        """Whether it shows as a directory."""
        return self.kind in ("dir", "gitlink")


class _Directory(NamedTuple):
    """What a tree and a sidecar tree hold of one directory."""

    tree: Mapping[bytes, tuple[int, Oid]]
    side: Mapping[bytes, SideEntry]
    records: Mapping[bytes, Record]
    meta: Oid
    """The blob that the records stand in, for messages."""


def _read_directory(source: ObjectSource, tree: Oid | None, sidecar: Oid | None) -> _Directory:
    entries = source.read_tree(tree) if tree is not None else {}
    if sidecar is None:
        return _Directory(entries, {}, {}, _NOTHING)
    side, meta = parse_sidecar(source.read_tree(sidecar), sidecar)
    return _Directory(entries, side, parse_records(source.read_blob(meta), meta) if meta is not None else {}, meta or _NOTHING)


def _meta_of(records: Mapping[bytes, Record], name: bytes, meta: Oid) -> Meta:
    record = records.get(name)
    return _NO_META if record is None else parse_record(record, meta)


def _differing_names(left: Mapping[bytes, object], right: Mapping[bytes, object]) -> set[bytes]:
    names = {name for name, held in left.items() if right.get(name) != held}
    names.update(name for name in right if name not in left)
    return names


class LowerTree:
    """A tree and its sidecar as a read-only filesystem."""

    def __init__(self, source: ObjectSource, tree: Oid | None, sidecar: Oid | None, *, default_mtime_ns: int) -> None:
        self.source = source
        self.default_mtime_ns = default_mtime_ns
        held = _read_directory(source, None, sidecar)
        self.root = self._make_dir(tree, sidecar, _meta_of(held.records, SELF, held.meta))
        self._cache: OrderedDict[tuple[Oid | None, Oid | None], Mapping[bytes, LowerEntry]] = OrderedDict()
        self._cached = 0

    def children(self, entry: LowerEntry) -> Mapping[bytes, LowerEntry]:
        """List a directory.

        Raises:
            HostileTree: If the tree holds a name that must not reach a disk.
            ObjectMissing: If a tree is not there.
        """
        key = (entry.tree, entry.sidecar)
        cache = self._cache
        found = cache.get(key)
        if found is None:
            found = self._read_children(entry)
            cache[key] = found
            self._cached += len(found)
            while self._cached > CACHED_ENTRIES and len(cache) > 1:
                try:
                    _, dropped = cache.popitem(last=False)
                except KeyError:  # another thread emptied it first
                    break
                self._cached -= len(dropped)
        return found

    def _read_children(self, entry: LowerEntry) -> Mapping[bytes, LowerEntry]:
        return self._show(_read_directory(self.source, entry.tree, entry.sidecar), None)

    def _show(self, held: _Directory, names: set[bytes] | None) -> dict[bytes, LowerEntry]:
        """Make the entries of a directory: those of some names, or all."""
        found: dict[bytes, LowerEntry] = {}
        records = held.records
        for name in held.tree if names is None else names.intersection(held.tree):
            mode, oid = held.tree[name]
            found[name] = self._make(mode, oid, _meta_of(records, name, held.meta), tracked=True)
        for name in held.side if names is None else names.intersection(held.side):
            mode, oid, untracked = held.side[name]
            there = found.get(name)
            if there is None:
                if not untracked:
                    continue  # attributes of a directory that the git tree has no longer
                # A directory of the sidecar holds its content there, not in a git tree.
                found[name] = self._make(mode, oid, _meta_of(records, name, held.meta), tracked=False)
            elif there.is_dir and mode == MODE_TREE:
                there.sidecar = oid
            # Anything else is a name that the git tree has meanwhile given to another kind: the tree wins.
        return found

    def differing_children(
        self, entry: LowerEntry, other: LowerTree, there: LowerEntry
    ) -> tuple[Mapping[bytes, LowerEntry], Mapping[bytes, LowerEntry]]:
        """List two directories without what both show alike, times aside: that is most of them, and never taken apart.

        Raises:
            HostileTree: If a tree holds a name that must not reach a disk.
            ObjectMissing: If a tree is not there.
        """
        mine = _read_directory(self.source, entry.tree, entry.sidecar)
        theirs = _read_directory(other.source, there.tree, there.sidecar)
        names = _differing_names(mine.tree, theirs.tree) | _differing_names(mine.side, theirs.side)
        names |= {
            name
            for name in _differing_names(mine.records, theirs.records)
            if differ_beyond_times(mine.records.get(name), theirs.records.get(name))
        }
        return self._show(mine, names), other._show(theirs, names)

    def _make(self, mode: int, oid: Oid, meta: Meta, *, tracked: bool) -> LowerEntry:
        mtime_ns = self.default_mtime_ns if meta.mtime_ns is None else meta.mtime_ns
        permissions = _PERMISSIONS.get(mode, 0o644) if meta.mode is None else meta.mode
        if mode == MODE_TREE:
            held = (oid, None) if tracked else (None, oid)
            return LowerEntry("dir", stat.S_IFDIR | permissions, mtime_ns, None, held[0], held[1], meta, tracked=tracked)
        if mode == MODE_GITLINK:
            return LowerEntry("gitlink", stat.S_IFDIR | permissions, mtime_ns, oid, None, None, meta, tracked=tracked)
        if mode == MODE_SYMLINK:
            return LowerEntry("symlink", stat.S_IFLNK | 0o777, mtime_ns, oid, None, None, meta, tracked=tracked)
        if meta.mode is None or bool(meta.mode & 0o100) == (mode == MODE_EXEC):
            return LowerEntry("file", stat.S_IFREG | permissions, mtime_ns, oid, None, None, meta, tracked=tracked)
        # The git mode was changed after the sidecar was written (a merge, a commit by git): it wins.
        return LowerEntry("file", stat.S_IFREG | _PERMISSIONS.get(mode, 0o644), mtime_ns, oid, None, None, meta, tracked=tracked)

    def _make_dir(self, tree: Oid | None, sidecar: Oid | None, meta: Meta) -> LowerEntry:
        mtime_ns = self.default_mtime_ns if meta.mtime_ns is None else meta.mtime_ns
        mode = stat.S_IFDIR | (DIRECTORY_MODE if meta.mode is None else meta.mode)
        return LowerEntry("dir", mode, mtime_ns, None, tree, sidecar, meta, tracked=tree is not None)

    def lookup(self, path: TreePath) -> LowerEntry | None:
        """Find the entry at a path; symbolic links are not followed."""
        entry = self.root
        for name in components(path):
            if not entry.is_dir:
                return None
            child = self.children(entry).get(name)
            if child is None:
                return None
            entry = child
        return entry

    def size_of(self, entry: LowerEntry) -> int:
        """Tell the size of a file or of a symlink's target, without reading it; 0 for a directory."""
        return 0 if entry.oid is None or entry.is_dir else self.source.blob_size(entry.oid)

    def read(self, entry: LowerEntry) -> bytes:
        """Read a whole file, or a symlink's target."""
        assert entry.oid is not None  # noqa: S101 - callers look at the kind first
        return self.source.read_blob(entry.oid)

    def stream(self, entry: LowerEntry) -> Iterator[bytes]:
        """Read a file in pieces, in bounded memory."""
        assert entry.oid is not None  # noqa: S101 - callers look at the kind first
        return self.source.stream_blob(entry.oid)
