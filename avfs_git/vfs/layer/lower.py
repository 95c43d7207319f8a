"""The lower layer: what a commit shows as a directory, that is its tree joined with its sidecar.

Decided here: how git modes, sidecar entries and their metadata become one read-only filesystem. The merged
view, restoring and the read-only live tree use it. A `LowerTree` is immutable in what it shows; its caches
are bounded and safe to use from several threads. Nothing is written; hostile trees are refused by the
object layer underneath while they are read.
"""

from __future__ import annotations

import stat
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping

from avfs_git.errors import LayerNotUnderstood, ObjectCorrupt
from avfs_git.gitstore.bounds import Bound
from avfs_git.gitstore.formats.trees import MODE_EXEC, MODE_GITLINK, MODE_SYMLINK, MODE_TREE, differing_names
from avfs_git.gitstore.objects.store import ObjectStore
from avfs_git.gitstore.source import ObjectSource, Tree
from avfs_git.paths import Oid, TreePath, components
from avfs_git.values import NamedTuple
from avfs_git.vfs.layer.sidecar import (
    META_NAME,
    SELF,
    Meta,
    Record,
    SideEntry,
    any_xattrs,
    differ_beyond_times,
    find_child,
    find_record,
    limit_time,
    parse_differing_records,
    parse_record,
    parse_records,
    parse_sidecar,
    parse_time,
)

DIRECTORY_MODE = 0o755
_TARGET_MAX = 4095
"""Bytes of a symbolic link's target, as Linux has it (PATH_MAX without the NUL)."""
CACHED_BYTES = 12 << 20
"""Bound of the directory cache, by an estimate: some 30,000 entries of ordinary names."""

_NO_META = Meta()
_NOTHING = Oid(bytes(20))
_NO_ENTRIES: Tree = {}
_LEARNT_MAX = 10_000
"""Of so many files of one directory sizes are found out together: fewer than are remembered, and in a moment."""
_FEW = 8
"""Up to so many names of a directory are looked up one by one."""
_PERMISSIONS = {MODE_EXEC: 0o755, MODE_SYMLINK: 0o777, MODE_TREE: DIRECTORY_MODE, MODE_GITLINK: DIRECTORY_MODE}


class LowerEntry:
    """One entry of the lower layer.

    Attributes:
        kind: `file`, `symlink`, `dir`, or `gitlink` (a submodule: programs see a directory).
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
        # Root's overlayfs would take such attributes of a foreign sidecar for its own marks.
        self.xattrs = tuple(pair for pair in meta.xattrs if not pair[0].startswith(b"trusted.")) if meta.xattrs else ()
        self.tracked = tracked

    @property
    def is_dir(self) -> bool:
        """Whether it shows as a directory."""
        return self.kind in ("dir", "gitlink")


class FixedFile(LowerEntry):
    """A file that no object holds: one that a live tree shows and no checkpoint has."""

    __slots__ = ("content",)

    def __init__(self, content: bytes, mtime_ns: int) -> None:
        super().__init__("file", stat.S_IFREG | 0o644, mtime_ns, None, None, None, _NO_META, tracked=False)
        self.content = content


class Stored(NamedTuple):
    """What a tree and a sidecar tree hold of one directory."""

    tree: Mapping[bytes, tuple[int, Oid]]
    side: Mapping[bytes, SideEntry]
    records: Mapping[bytes, Record]
    meta: Oid
    """The blob that the records stand in, for messages."""

    def mtime_ns(self, name: bytes, default_ns: int) -> int:
        """Tell the time of an entry; the default one if none is recorded."""
        record = self.records.get(name)
        if record is None:
            return default_ns
        time = record.partition(b" ")[0]
        return default_ns if time == b"-" else parse_time(time)


class _Trees(NamedTuple):
    """The trees of one directory as they are; of its records only where they are."""

    source: ObjectSource
    tree_oid: Oid | None
    tree: Tree
    side_oid: Oid
    side: Tree
    meta: Oid | None


def _read_trees(source: ObjectSource, tree: Oid | None, sidecar: Oid | None) -> _Trees:
    entries = source.read_tree(tree) if tree is not None else _NO_ENTRIES
    side = source.read_tree(sidecar) if sidecar is not None else _NO_ENTRIES
    meta = side.get(META_NAME)
    return _Trees(source, tree, entries, sidecar or _NOTHING, side, meta[1] if meta is not None else None)


def _read_records(trees: _Trees) -> bytes:
    return trees.source.read_blob(trees.meta) if trees.meta is not None else b""


def _read_directory(source: ObjectSource, tree: Oid | None, sidecar: Oid | None) -> Stored:
    trees = _read_trees(source, tree, sidecar)
    side = parse_sidecar(trees.side, trees.side_oid)[0]
    meta = trees.meta or _NOTHING
    return Stored(trees.tree, side, parse_records(_read_records(trees), meta), meta)


def _select(trees: _Trees, names: set[bytes]) -> Stored:
    """Parse the records of some names; where these are few, only them."""
    data, meta = _read_records(trees), trees.meta or _NOTHING
    if len(names) > _FEW:
        return Stored(trees.tree, parse_sidecar(trees.side, trees.side_oid)[0], parse_records(data, meta), meta)
    side = {name: child for name in names if (child := find_child(trees.side, name)) is not None}
    records = {name: record for name in names if (record := find_record(data, name, meta)) is not None}
    return Stored(trees.tree, side, records, meta)


def _meta_of(records: Mapping[bytes, Record], name: bytes, meta: Oid) -> Meta:
    record = records.get(name)
    return _NO_META if record is None else parse_record(record, meta)


def set_execute_bits(mode: int, *, is_executable: bool) -> int:
    """Give the mode of a file the execute bits that git's one bit stands for: the owner's, and those of its readers."""
    return mode & ~0o111 | ((mode & 0o444) >> 2 | stat.S_IXUSR if is_executable else 0)


def _name_differing(mine: _Trees, theirs: _Trees) -> set[bytes]:
    """Name the children that two directories show differently, times aside."""
    names: set[bytes] = set()
    if mine.side_oid != theirs.side_oid:
        odd = differing_names(mine.side, theirs.side)
        for trees in (mine, theirs):
            names |= parse_sidecar({name: trees.side[name] for name in odd if name in trees.side}, trees.side_oid)[
                0
            ].keys()
    if mine.tree_oid != theirs.tree_oid:
        names.update(differing_names(mine.tree, theirs.tree))
    if mine.meta != theirs.meta:
        old, new = _read_records(mine), _read_records(theirs)
        records, others = parse_differing_records(old, mine.meta or _NOTHING, new, theirs.meta or _NOTHING)
        names |= {
            name for name in records.keys() | others.keys() if differ_beyond_times(records.get(name), others.get(name))
        }
    return names


def _name_untracked(mine: _Trees, theirs: _Trees) -> set[bytes]:
    """Name the children that only the first one's sidecar holds, or holds differently."""
    kept = {name: held for name, held in mine.side.items() if name != META_NAME and name[:1] != b"+"}
    return set(
        parse_sidecar({name: held for name, held in kept.items() if theirs.side.get(name) != held}, mine.side_oid)[0]
    )


def read_target(source: ObjectSource, oid: Oid) -> bytes:
    """Read the target of a symbolic link.

    Raises:
        ObjectMissing: If it is not there.
        ObjectCorrupt: If its content is not what its id says, or no disk takes it as a target.
    """
    content = source.read_blob(oid)
    if not content or len(content) > _TARGET_MAX or b"\0" in content:
        raise ObjectCorrupt(oid.hex(), "it is the target of a symbolic link, and no path")
    return content


def find_redirected(lower: LowerTree, above: LowerEntry | None, redirect: bytes, path: bytes) -> LowerEntry:
    """Find the directory that a directory of the upper layer shows instead of the one at its place.

    Args:
        lower: The lower layer.
        above: What the directory above it shows of that.
        redirect: What its mark says, see `vfs.layer.marks`.
        path: Where it is, for messages.

    Raises:
        LayerNotUnderstood: If the mark leads to no directory of the lower layer.
    """
    names = redirect[1:].split(b"/") if redirect.startswith(b"/") else [redirect]
    here = lower.root if redirect.startswith(b"/") else above
    for name in names:
        here = lower.children(here).get(name) if here is not None and here.is_dir else None
    if here is None or not here.is_dir:
        raise LayerNotUnderstood(path, f"redirect={redirect!r}, which leads to no directory of the base")
    return here


def _weigh(children: Mapping[bytes, LowerEntry]) -> int:
    """Estimate the memory of the entries of a directory: their names, their attributes, and some 350 bytes each."""
    attributes = sum(len(key) + len(value) for child in children.values() for key, value in child.xattrs)
    return 300 + 350 * len(children) + sum(map(len, children)) + attributes


class LowerTree:
    """A tree and its sidecar as a read-only filesystem.

    What reads raises ObjectMissing, ObjectCorrupt, and HostileTree for a name that must not reach a disk.
    """

    def __init__(self, source: ObjectSource, tree: Oid | None, sidecar: Oid | None, *, default_mtime_ns: int) -> None:
        self.source = source
        self.default_mtime_ns = limit_time(default_mtime_ns)
        trees = _read_trees(source, None, sidecar)
        parse_sidecar(trees.side, trees.side_oid)  # one that is none is refused before anything is shown of it
        meta = trees.meta or _NOTHING
        record = find_record(_read_records(trees), SELF, meta)
        self.root = self._make_dir(tree, sidecar, _NO_META if record is None else parse_record(record, meta))
        self._cache: OrderedDict[tuple[Oid | None, Oid | None], Mapping[bytes, LowerEntry]] = OrderedDict()
        self._cached = 0

    def children(self, entry: LowerEntry) -> Mapping[bytes, LowerEntry]:
        """List a directory."""
        key = (entry.tree, entry.sidecar)
        cache = self._cache
        found = cache.get(key)
        if found is None:
            found = self._read_children(entry)
            cache[key] = found
            self._cached += _weigh(found)
            while self._cached > CACHED_BYTES and len(cache) > 1:
                try:
                    _, dropped = cache.popitem(last=False)
                except KeyError:  # another thread emptied it first
                    break
                self._cached -= _weigh(dropped)
        return found

    def read_stored(self, entry: LowerEntry) -> Stored:
        """Read the stored form of a directory: costs a fraction of `children`, and caches nothing."""
        return _read_directory(self.source, entry.tree, entry.sidecar)

    def child_dir(self, held: Stored, name: bytes) -> LowerEntry | None:
        """Find a directory in a directory that was read; None if there is none."""
        found = self._show(held, {name}).get(name)
        return found if found is not None and found.is_dir else None

    def _read_children(self, entry: LowerEntry) -> Mapping[bytes, LowerEntry]:
        return self._show(_read_directory(self.source, entry.tree, entry.sidecar), None)

    def _show(self, held: Stored, names: set[bytes] | None) -> dict[bytes, LowerEntry]:
        """Make the entries of a directory: those of some names, or all."""
        found: dict[bytes, LowerEntry] = {}
        closed: list[LowerEntry] = []
        records = held.records
        for name in held.tree if names is None else names.intersection(held.tree):
            mode, oid = held.tree[name]
            entry = found[name] = self._make(mode, oid, _meta_of(records, name, held.meta), tracked=True)
            if mode == MODE_TREE and not entry.mode & stat.S_IXUSR:
                closed.append(entry)
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
        for entry in closed:
            if entry.sidecar is None:  # the record may be of a file that had the name: nobody could enter
                entry.mode |= (entry.mode & 0o444) >> 2
        return found

    def differing_children(
        self, entry: LowerEntry, other: LowerTree, there: LowerEntry
    ) -> tuple[Mapping[bytes, LowerEntry], Mapping[bytes, LowerEntry]]:
        """List two directories without what both show alike, times aside: most of it, which is never taken apart."""
        return self._compare(entry, other, there, _name_differing)

    def differing_untracked(
        self, entry: LowerEntry, other: LowerTree, there: LowerEntry
    ) -> tuple[Mapping[bytes, LowerEntry], Mapping[bytes, LowerEntry]]:
        """List, in two directories, what only the first's sidecar holds or holds differently, and what leads to it."""
        return self._compare(entry, other, there, _name_untracked)

    def _compare(
        self, entry: LowerEntry, other: LowerTree, there: LowerEntry, choose: Callable[[_Trees, _Trees], set[bytes]]
    ) -> tuple[Mapping[bytes, LowerEntry], Mapping[bytes, LowerEntry]]:
        mine = _read_trees(self.source, entry.tree, entry.sidecar)
        theirs = _read_trees(other.source, there.tree, there.sidecar)
        names = choose(mine, theirs)
        if not names:
            return {}, {}
        return self._show(_select(mine, names), names), other._show(_select(theirs, names), names)

    def _make(self, mode: int, oid: Oid, meta: Meta, *, tracked: bool) -> LowerEntry:
        mtime_ns = self.default_mtime_ns if meta.mtime_ns is None else meta.mtime_ns
        permissions = _PERMISSIONS.get(mode, 0o644) if meta.mode is None else meta.mode
        if mode == MODE_TREE:
            held = (oid, None) if tracked else (None, oid)
            return LowerEntry(
                "dir", stat.S_IFDIR | permissions, mtime_ns, None, held[0], held[1], meta, tracked=tracked
            )
        if mode == MODE_GITLINK:
            return LowerEntry("gitlink", stat.S_IFDIR | permissions, mtime_ns, oid, None, None, meta, tracked=tracked)
        if mode == MODE_SYMLINK:
            return LowerEntry("symlink", stat.S_IFLNK | 0o777, mtime_ns, oid, None, None, meta, tracked=tracked)
        if meta.mode is not None and bool(meta.mode & 0o100) != (mode == MODE_EXEC):
            # Git's mode was changed after the sidecar was written (a merge, a commit by git): its bit wins.
            permissions = set_execute_bits(permissions, is_executable=mode == MODE_EXEC)
        return LowerEntry("file", stat.S_IFREG | permissions, mtime_ns, oid, None, None, meta, tracked=tracked)

    def _make_dir(self, tree: Oid | None, sidecar: Oid | None, meta: Meta) -> LowerEntry:
        mtime_ns = self.default_mtime_ns if meta.mtime_ns is None else meta.mtime_ns
        mode = stat.S_IFDIR | (DIRECTORY_MODE if meta.mode is None else meta.mode)
        return LowerEntry("dir", mode, mtime_ns, None, tree, sidecar, meta, tracked=tree is not None)

    def bound_below(self, entry: LowerEntry) -> Bound:
        """Begin a walk through all that is below a directory; in a tree bomb it ends with TooManyFiles."""
        return Bound(self.source, (None, entry.tree), (None, entry.sidecar))

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

    def has_file(self, path: TreePath) -> bool:
        """Tell whether it has a file at a path."""
        found = self.lookup(path)
        return found is not None and not found.is_dir

    def has_beside(self, path: TreePath) -> bool:
        """Tell whether it has a file at a path that only the sidecar holds."""
        found = self.lookup(path)
        return found is not None and not found.is_dir and not found.tracked

    def search_xattrs(self) -> Iterator[bool]:
        """Look for extended attributes in the whole tree, a directory at a time: whether one was found in it."""
        yield bool(self.root.xattrs)
        seen: set[Oid] = set()
        pending = [self.root.sidecar] if self.root.sidecar is not None else []
        while pending:
            sidecar = pending.pop()
            if sidecar in seen:
                continue
            seen.add(sidecar)
            raw = self.source.read_tree(sidecar)
            meta = raw.get(META_NAME)
            yield meta is not None and any_xattrs(self.source.read_blob(meta[1]))
            pending += [oid for mode, oid in raw.values() if mode == MODE_TREE]

    def learn_sizes(self, entry: LowerEntry) -> None:
        """Find out the sizes of the files of a directory before it is shown: together they cost less than singly."""
        source = self.source
        children = self.children(entry)
        if isinstance(source, ObjectStore) and len(children) <= _LEARNT_MAX:
            source.learn_sizes([child.oid for child in children.values() if child.oid is not None and not child.is_dir])

    def size_of(self, entry: LowerEntry) -> int:
        """Tell the size of a file or of a symlink's target, without reading it; 0 for a directory."""
        if entry.oid is None:
            return len(entry.content) if isinstance(entry, FixedFile) else 0
        return 0 if entry.is_dir else self.source.blob_size(entry.oid)

    def size_here(self, entry: LowerEntry) -> int:
        """Tell the size as `size_of` does.

        Return 0 where a partial clone has not fetched the content, which this does not do either.
        """
        return (
            0
            if entry.oid is not None and not entry.is_dir and not self.source.exists(entry.oid)
            else self.size_of(entry)
        )

    def read(self, entry: LowerEntry) -> bytes:
        """Read a whole file, or a symlink's target."""
        if isinstance(entry, FixedFile):
            return entry.content
        assert entry.oid is not None  # noqa: S101 - callers look at the kind first
        return read_target(self.source, entry.oid) if entry.kind == "symlink" else self.source.read_blob(entry.oid)

    def stream(self, entry: LowerEntry) -> Iterator[bytes]:
        """Read a file in pieces, in bounded memory."""
        if isinstance(entry, FixedFile):
            return iter((entry.content,))
        assert entry.oid is not None  # noqa: S101 - callers look at the kind first
        return self.source.stream_blob(entry.oid)
