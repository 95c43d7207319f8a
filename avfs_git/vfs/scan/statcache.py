"""The stat cache: what the upper layer looked like when it was last known to equal a checkpoint.

Decided here: what identifies an unchanged entry (its fingerprint) and how the cache is kept on disk.
`workspace.capture.capture` compares the upper layer with it, so that a checkpoint reads only what changed.

The file is a log of transactions, each with its length and checksum; what follows the first damaged one is
ignored. A shorter log only means an older state, from which more is read again: the cache may be deleted at
any time. It is written under the workspace lock, and forced to disk only before older states of it go.
"""

from __future__ import annotations

import hashlib
import os
import stat
import struct
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final, Protocol

from avfs_git import faults
from avfs_git.errors import HostError
from avfs_git.host.files.durable import fsync_dir, sync_file
from avfs_git.host.files.modes import open_file
from avfs_git.host.files.plainfile import open_plain, read_plain
from avfs_git.paths import Oid, TreePath, climb

RACY_NS: Final = 20_000_000
"""Nanoseconds after a change in which a file may change again and keep its times.

This is twice the coarsest clock tick of Linux file systems (`CONFIG_HZ=100`).
"""
_MAGIC = b"avfs-statcache 1\n"
_HEAD = struct.Struct("<II")  # length of the payload, its CRC-32
_SYNC = struct.Struct("<20s20s20sI")  # tree, sidecar, commit, number of directories
_DIRECTORY = struct.Struct("<IBII")  # length of the path, flags, entries set, names dropped
_NAME = struct.Struct("<H")
_FINGERPRINT = struct.Struct("<IQQQQB")  # mode, size, mtime, ctime, inode, what it shows of the lower layer
_TIME = (1 << 64) - 1
"""Times are kept modulo this plus 1: file systems hold times past 63 bits of nanoseconds (2262 is the last year)."""
FINGERPRINT_SIZE = _FINGERPRINT.size
_pack = _FINGERPRINT.pack  # looked up once: it runs for each file
_SIZE = slice(4, 12)
_CTIME = slice(20, 28)
_REDIRECTED: Final = 2
"""What a directory shows of the lower layer: another one than that at its place. 0: that one, 1: none, it is opaque."""
_RACY = struct.pack("<q", -1)
_NOTHING = bytes(20)
_SUBTREE_GONE = 1

Fingerprint = bytes
DirCache = dict[bytes, Fingerprint]


def take_fingerprint(
    found: os.stat_result, *, opaque: bool = False, redirect: bytes | None = None, racy_after_ns: int | None = None
) -> Fingerprint:
    """Condense what tells whether an entry changed.

    An entry changed at `racy_after_ns` or later may change again without its times moving (the clock of file systems
    ticks coarsely): it gets a fingerprint that is never the same again. Of a directory with a `redirect`, the hash of
    that is kept in place of the size.
    """
    ctime_ns = found.st_ctime_ns
    if racy_after_ns is not None and ctime_ns >= racy_after_ns:
        ctime_ns = -1
    if redirect is not None:
        size, shows = int.from_bytes(hashlib.blake2b(redirect, digest_size=8).digest(), "little"), _REDIRECTED
    else:
        size, shows = found.st_size, opaque
    return _pack(found.st_mode, size, found.st_mtime_ns & _TIME, ctime_ns & _TIME, found.st_ino, shows)


def show_alike(cached: Fingerprint, now: Fingerprint) -> bool:
    """Whether two fingerprints are of directories that show the same one of the lower layer, or both hide it."""
    is_dir = all(stat.S_ISDIR(int.from_bytes(print_[:4], "little")) for print_ in (cached, now))
    return is_dir and cached[-1] == now[-1] and (now[-1] != _REDIRECTED or cached[_SIZE] == now[_SIZE])


def read_mode_and_time(fingerprint: Fingerprint) -> tuple[int, int]:
    """Get the mode and the time of change, in nanoseconds and modulo 2**64, that a fingerprint was taken of."""
    mode, _, mtime_ns, *_ = _FINGERPRINT.unpack(fingerprint)
    return mode, mtime_ns


def show_lower(directory: Fingerprint) -> Fingerprint:
    """Make the fingerprint of a directory that no longer hides the lower layer."""
    return directory[:-1] + b"\0"


def with_marks_of(before: Fingerprint | None, now: Fingerprint) -> Fingerprint:
    """Add the marks that a directory had before to a fingerprint that was taken without a look at them."""
    if before is None:
        return now
    size = before[_SIZE] if before[-1] == _REDIRECTED else now[_SIZE]
    return now[: _SIZE.start] + size + now[_SIZE.stop : -1] + before[-1:]


def is_same_entry(cached: Fingerprint | None, now: Fingerprint) -> bool:
    """Whether an entry is known to be what it was: one that was taken too soon after a change never is."""
    return cached == now and now[_CTIME] != _RACY


class StatCache:
    """Fingerprints by directory, and the tree, sidecar and commit at which they hold.

    Attributes:
        tree: The git tree that the workspace equalled, or None for an empty one.
        sidecar: Its sidecar tree.
        commit: The commit that recorded it.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self.tree: Oid | None = None
        self.sidecar: Oid | None = None
        self.commit: Oid | None = None
        self.directories: dict[TreePath, DirCache] = {}
        self._size = 0

    @classmethod
    def load(cls, path: Path) -> StatCache | None:
        """Read the cache; None if there is none that can be used."""
        cache = cls(path)
        try:
            data = read_plain(path)
        except OSError:  # it is only a cache: whatever is wrong with it, everything is read again
            return None
        if not data.startswith(_MAGIC):
            return None
        at = len(_MAGIC)
        seen = False
        while at + _HEAD.size <= len(data):
            length, crc = _HEAD.unpack_from(data, at)
            payload = data[at + _HEAD.size : at + _HEAD.size + length]
            if len(payload) != length or zlib.crc32(payload) != crc:
                break
            try:
                cache._apply(payload)
            except (struct.error, IndexError):
                break
            seen = True
            at += _HEAD.size + length
        cache._size = at
        return cache if seen else None

    @staticmethod
    def read_ids(path: Path) -> set[Oid]:
        """Read which trees and which commit the cache in a file is of; none if it cannot be read.

        It is forced to disk first: else a power cut might leave an older one of the caches in the file, and these
        count, too, where the disk refuses.
        """
        try:
            data = read_plain(path)
        except OSError:  # it is only a cache
            return set()
        found: list[set[Oid]] = [set()]
        at = len(_MAGIC) if data.startswith(_MAGIC) else len(data)
        while at + _HEAD.size <= len(data):
            length, crc = _HEAD.unpack_from(data, at)
            payload = data[at + _HEAD.size : at + _HEAD.size + length]
            if len(payload) != length or zlib.crc32(payload) != crc or length < _SYNC.size:
                break
            found.append({Oid(oid) for oid in _SYNC.unpack_from(payload)[:3] if oid != _NOTHING})
            at += _HEAD.size + length
        try:
            with os.fdopen(open_plain(path), "rb") as file:
                sync_file(file.fileno())
            fsync_dir(path.parent)
        except (HostError, OSError):
            return set().union(*found)
        return found[-1]

    def directory(self, path: TreePath) -> DirCache | None:
        """Get the fingerprints of a directory of the upper layer; None if it held none."""
        return self.directories.get(path)

    def _apply(self, payload: bytes) -> None:
        tree, sidecar, commit, count = _SYNC.unpack_from(payload, 0)
        at = _SYNC.size
        gone: set[bytes] = set()
        updates: list[tuple[TreePath, Iterable[tuple[bytes, Fingerprint]], Iterable[bytes]]] = []
        for _ in range(count):
            path_length, flags, entries, drops = _DIRECTORY.unpack_from(payload, at)
            at += _DIRECTORY.size
            path = TreePath(payload[at : at + path_length])
            at += path_length
            if flags & _SUBTREE_GONE:
                gone.add(path)
                continue
            dropped = []
            for _ in range(drops):
                (length,) = _NAME.unpack_from(payload, at)
                at += 2 + length
                dropped.append(payload[at - length : at])
            there: DirCache = {}
            for _ in range(entries):
                (length,) = _NAME.unpack_from(payload, at)
                at += 2
                name = payload[at : at + length]
                at += length
                there[name] = payload[at : at + _FINGERPRINT.size]
                at += _FINGERPRINT.size
            updates.append((path, there.items(), dropped))
        self._take_over(gone, updates)
        self.tree = None if tree == _NOTHING else Oid(tree)
        self.sidecar = None if sidecar == _NOTHING else Oid(sidecar)
        self.commit = None if commit == _NOTHING else Oid(commit)

    def _take_over(
        self, gone: set[bytes], updates: Iterable[tuple[TreePath, Iterable[tuple[bytes, Fingerprint]], Iterable[bytes]]]
    ) -> None:
        # What went away is what was there before; the same capture may speak of what took its place.
        self._drop_subtrees(gone)
        for path, there, dropped in updates:
            here = self.directories.setdefault(path, {})
            for name in dropped:
                here.pop(name, None)
            here.update(there)

    def _drop_subtrees(self, gone: set[bytes]) -> None:
        if not gone:
            return
        for path in list(self.directories):
            if not gone.isdisjoint(climb(path)):
                del self.directories[path]

    def commit_update(
        self, update: StatCacheUpdate, *, tree: Oid | None, sidecar: Oid | None, commit: Oid | None
    ) -> OSError | None:
        """Take over what a capture found, in memory and on disk; give the error if the disk refuses.

        Call it only after the objects that it speaks of are durable: an entry that is marked clean is not
        read again.
        """
        payload = [_SYNC.pack(tree or _NOTHING, sidecar or _NOTHING, commit or _NOTHING, update.count)]
        payload.extend(update.encode())
        joined = b"".join(payload)
        self._take_over(update.gone, update.changed)
        self.tree, self.sidecar, self.commit = tree, sidecar, commit
        record = _HEAD.pack(len(joined), zlib.crc32(joined)) + joined
        entries = sum(map(len, self.directories.values()))
        try:
            faults.reach("statcache.begun")
            if self._size == 0 or self._size > 4096 + 400 * entries:
                self._rewrite()
            else:
                with os.fdopen(open_plain(self._path, os.O_RDWR), "r+b") as file:
                    file.truncate(self._size)
                    file.seek(self._size)
                    file.write(record)
                self._size += len(record)
            faults.reach("statcache.written")
        except OSError as error:
            # A cache that cannot be written must not fail a checkpoint that is already durable; one that
            # may hold half of this transaction is told by its checksum.
            self._size = 0
            return error
        return None

    def _rewrite(self) -> None:
        whole = StatCacheUpdate()
        for path, entries in self.directories.items():
            whole.set_directory(path, entries, ())
        joined = _SYNC.pack(
            self.tree or _NOTHING, self.sidecar or _NOTHING, self.commit or _NOTHING, whole.count
        ) + b"".join(whole.encode())
        temporary = self._path.with_name(self._path.name + ".new")
        data = _MAGIC + _HEAD.pack(len(joined), zlib.crc32(joined)) + joined
        with open(open_file(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC), "wb") as file:
            file.write(data)
        temporary.replace(self._path)
        self._size = len(data)


class Fingerprints(Protocol):
    """Fingerprints by directory, and the tree and sidecar at which they hold: what a capture compares a layer with."""

    @property
    def tree(self) -> Oid | None:
        """The git tree that the workspace equalled, or None for an empty one."""

    @property
    def sidecar(self) -> Oid | None:
        """Its sidecar tree."""

    def directory(self, path: TreePath) -> DirCache | None:
        """Get the fingerprints of a directory of the upper layer; None if it held none."""
        ...


class StatCacheAhead:
    """A stat cache as it will be once a capture that follows it is recorded; in memory only."""

    def __init__(
        self, cache: StatCache | None, update: StatCacheUpdate, *, tree: Oid | None, sidecar: Oid | None
    ) -> None:
        """Look at a cache, None if there is none, through what a capture has found since."""
        self._cache = cache
        self._gone = update.gone
        self._joined: dict[TreePath, DirCache | None] = {}
        self._changed = {path: (entries, dropped) for path, entries, dropped in update.changed}
        self.tree = tree
        self.sidecar = sidecar

    def directory(self, path: TreePath) -> DirCache | None:
        """Get the fingerprints of a directory of the upper layer; None if it held none.

        Costs the size of the directory, once.
        """
        if path not in self._joined:
            self._joined[path] = self._join(path)
        return self._joined[path]

    def _join(self, path: TreePath) -> DirCache | None:
        before = None
        if self._cache is not None and (not self._gone or self._gone.isdisjoint(climb(path))):
            before = self._cache.directory(path)
        if path not in self._changed:
            return before
        entries, dropped = self._changed[path]
        found = dict(before or {})
        for name in dropped:
            found.pop(name, None)
        found.update(entries)
        return found


class StatCacheUpdate:
    """What one capture learnt, until it is known to be recorded."""

    def __init__(self) -> None:
        self._steps: list[tuple[TreePath, int, Iterable[tuple[bytes, Fingerprint]], Iterable[bytes]]] = []

    @property
    def gone(self) -> set[bytes]:
        """The directories below which nothing is left."""
        return {path for path, flags, _, _ in self._steps if flags & _SUBTREE_GONE}

    @property
    def changed(self) -> Iterator[tuple[TreePath, Iterable[tuple[bytes, Fingerprint]], Iterable[bytes]]]:
        """Each directory with what was learnt of it, and the names that it holds no longer."""
        return ((path, entries, dropped) for path, flags, entries, dropped in self._steps if not flags & _SUBTREE_GONE)

    @property
    def count(self) -> int:
        """How many directories it speaks of."""
        return len(self._steps)

    def names_any(self, names: Iterable[bytes]) -> bool:
        """Tell whether it speaks of an entry of one of these names, in any directory."""
        wanted = frozenset(names)
        return any(
            wanted.intersection(name for name, _ in entries) or wanted.intersection(gone)
            for _, _, entries, gone in self._steps
        )

    def set_directory(self, path: TreePath, entries: DirCache, dropped: Iterable[bytes]) -> None:
        """Record fingerprints of a directory, and names that it holds no longer."""
        self._steps.append((path, 0, tuple(entries.items()), tuple(dropped)))

    def drop_subtree(self, path: TreePath) -> None:
        """Record that nothing is at and below a path in the upper layer."""
        self._steps.append((path, _SUBTREE_GONE, (), ()))

    def doubted(self) -> StatCacheUpdate:
        """Make one that knows of the same names, and after which each of them is looked at again."""
        made = StatCacheUpdate()
        for path, flags, entries, dropped in self._steps:
            # A time of change that no entry has.
            again = tuple((name, fingerprint[:20] + b"\xff" * 8 + fingerprint[28:]) for name, fingerprint in entries)
            made._steps.append((path, flags, again, dropped))
        return made

    def join(self, later: StatCacheUpdate) -> StatCacheUpdate:
        """Make one that says what this one and a later one say together."""
        gone = later.gone
        there: dict[TreePath, tuple[DirCache, set[bytes]]] = {}
        for path, entries, dropped in self.changed:
            if not gone or gone.isdisjoint(climb(path)):
                there[path] = dict(entries), set(dropped)
        for path, entries, dropped in later.changed:
            mine, mine_dropped = there.setdefault(path, ({}, set()))
            for name in dropped:
                mine.pop(name, None)
                mine_dropped.add(name)
            mine.update(entries)
        made = StatCacheUpdate()
        for top in self.gone | gone:
            made.drop_subtree(TreePath(top))
        for path, (mine, mine_dropped) in there.items():
            made.set_directory(path, mine, mine_dropped - mine.keys())
        return made

    def encode(self) -> Iterable[bytes]:
        """Yield the payload of its transaction."""
        for path, flags, entries, dropped in self._steps:
            entry_list, drop_list = list(entries), list(dropped)
            yield _DIRECTORY.pack(len(path), flags, len(entry_list), len(drop_list)) + path
            for name in drop_list:
                yield _NAME.pack(len(name)) + name
            for name, fingerprint in entry_list:
                yield _NAME.pack(len(name)) + name + fingerprint
