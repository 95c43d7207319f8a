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

from avfs_git.gitstore.source import ObjectSource
from avfs_git.gitstore.trees import MODE_EXEC, MODE_GITLINK, MODE_SYMLINK, MODE_TREE
from avfs_git.paths import Oid, TreePath, components
from avfs_git.vfs.sidecar import META_NAME, SELF, Meta, parse_record, parse_records, parse_sidecar

DIRECTORY_MODE = 0o755
CACHED_ENTRIES = 30_000
"""Bound of the directory cache, in entries over all directories: about 10 MB."""

_NO_META = Meta()
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


def read_meta(source: ObjectSource, sidecar: Oid | None) -> dict[bytes, Meta]:
    """Read the metadata that a sidecar tree keeps for the entries of its directory."""
    found = source.read_tree(sidecar).get(META_NAME) if sidecar is not None else None
    if found is None:
        return {}
    oid = found[1]
    return {name: parse_record(record, oid) for name, record in parse_records(source.read_blob(oid), oid).items()}


class LowerTree:
    """A tree and its sidecar as a read-only filesystem."""

    def __init__(self, source: ObjectSource, tree: Oid | None, sidecar: Oid | None, *, default_mtime_ns: int) -> None:
        self.source = source
        self.default_mtime_ns = default_mtime_ns
        meta = read_meta(source, sidecar).get(SELF, _NO_META)
        self.root = self._make_dir(tree, sidecar, meta)
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
        source = self.source
        found: dict[bytes, LowerEntry] = {}
        meta = read_meta(source, entry.sidecar)
        if entry.tree is not None:
            for name, (mode, oid) in source.read_tree(entry.tree).items():
                found[name] = self._make(mode, oid, meta.get(name, _NO_META), tracked=True)
        if entry.sidecar is not None:
            held, _ = parse_sidecar(source.read_tree(entry.sidecar), entry.sidecar)
            for name, (mode, oid, untracked) in held.items():
                there = found.get(name)
                if there is None:
                    if not untracked:
                        continue  # attributes of a directory that the git tree has no longer
                    # A directory of the sidecar holds its content there, not in a git tree.
                    found[name] = self._make(mode, oid, meta.get(name, _NO_META), tracked=False)
                elif there.is_dir and mode == MODE_TREE:
                    there.sidecar = oid
                # Anything else is a name that the git tree has meanwhile given to another kind: the tree wins.
        return found

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
