"""The present state of a clone, read without its files: most of them are what its index says.

Decided here: when a file of a working tree is believed to hold the blob that the clone's index names for it. Importing
a clone (`workspace.creation.create`) begins with that; what is left (changed, new and ignored files) is captured as of
any directory. The clone is only read, and no git runs on it. Nothing is written but objects, to the sink that is given.

A file is believed in when the index remembers its times, size, inode number and mode exactly as they are, when it was
changed before the index was last written (else git does not believe it either), when no attribute has git filter it on
its way, and when the blob is as long as the file: one that git changed in another way (line ends) is not what is stored
for it, and is read. Attributes come from tracked files and from the repository itself.

An entry that git was told not to look at (`skip-worktree`, as in a sparse checkout, or `assume-unchanged`) has the
content that the index names: git, too, commits nothing else for it. A file that is there and may hold something else
stays out of the fork, and a warning names it.
"""

from __future__ import annotations

import errno
import operator
import os
import stat
import struct
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from avfs_git.errors import NotAVault, ObjectCorrupt, ObjectMissing
from avfs_git.gitstore.foreign.filemodes import AS_SHOWN, FileModes
from avfs_git.gitstore.formats.fullindex import INDEX_MAX, read_full_index
from avfs_git.gitstore.formats.index import BadIndex, CachedTree, GitIndex, parse_cached_tree
from avfs_git.gitstore.formats.packfile import KIND_BLOB
from avfs_git.gitstore.formats.trees import (
    MODE_EXEC,
    MODE_FILE,
    MODE_GITLINK,
    MODE_SYMLINK,
    MODE_TREE,
    is_forbidden_name,
)
from avfs_git.gitstore.objects.store import ObjectStore
from avfs_git.gitstore.repofile import open_plain_file
from avfs_git.gitstore.rules.attributes import FILE_MAX_BYTES, TreeAttributes, read_info_attributes
from avfs_git.gitstore.rules.ignore import IGNORE_FILE_READ
from avfs_git.gitstore.source import ObjectSink
from avfs_git.host.files.beneath import OPEN_LIST, open_at
from avfs_git.host.files.closing import closing_fd
from avfs_git.host.files.umask import have_own_umask
from avfs_git.host.files.xattrs import entry_of, has_user_xattrs
from avfs_git.paths import ROOT, Oid, TreePath, join, split
from avfs_git.vfs.layer.lower import DIRECTORY_MODE
from avfs_git.vfs.layer.readers import PlainDirectory, Xattrs
from avfs_git.vfs.layer.sidecar import (
    Meta,
    Record,
    SideEntry,
    compose_sidecar,
    format_record,
    plain_record,
    serialize_records,
)
from avfs_git.vfs.scan.scan import DIRECTORY, Found, kind_of_mode
from avfs_git.vfs.scan.statcache import DirCache, StatCache, take_fingerprint
from avfs_git.workspace.capture.capture import COARSE_NS

_LOOK = struct.Struct(">4I4xI12xI")
"""Of an entry, when its file and what is known of it changed, its inode number and its size."""
_EXTENDED = 0x4000
_STAGE = 0x3000
_SKIP_WORKTREE, _ASSUME_VALID = 0x4000, 0x8000
_WORD = 0xFFFF_FFFF
_SECOND = 1_000_000_000
_USUAL = {stat.S_IFREG | 0o644: MODE_FILE, stat.S_IFREG | 0o755: MODE_EXEC}
"""What most files are like, and what that is in a tree."""
_MODES = {mode.to_bytes(4, "big"): mode for mode in (MODE_FILE, MODE_EXEC, MODE_SYMLINK, MODE_GITLINK)}
"""The known modes, by how an index spells them."""
_SUSPICIOUS = b".gG"
"""What names begin with that git may refuse, where they are of ASCII and have no backslash."""
_ATTRIBUTES = b".gitattributes"
_IGNORE = b".gitignore"
_CHANGING = (b"filter", b"ident", b"working-tree-encoding")
"""Attributes by which git gives a file another content than it stores (gitattributes(5)), which may be as long."""
_GONE = b"tracked".ljust(45, b"\0")
"""The fingerprint of what was tracked: like that of no entry."""


class _Tracked:
    """A directory in which something is tracked."""

    __slots__ = ("below", "entries", "is_known", "looks", "oid", "records", "sidecar", "status", "xattrs")

    def __init__(self) -> None:
        self.entries: dict[bytes, tuple[int, int]] = {}
        """Where in the index each file stands, and its mode."""
        self.below: dict[bytes, _Tracked] = {}
        self.records: dict[bytes, Record] = {}
        """The attributes of each file that may be believed in."""
        self.looks: DirCache = {}
        """How these, and the directories in which nothing is left, were found."""
        self.status: os.stat_result | None = None
        self.xattrs: Xattrs = ()
        self.is_known = False
        """Whether nothing in it is left to be captured, nor in the directories below it.

        Of a directory that is not there: whether what is tracked in it belongs to the state all the same.
        """
        self.oid: Oid | None = None
        self.sidecar: Oid | None = None

    def unknown(self, data: bytes) -> list[bytes]:
        """List what is tracked here and not known, other than what git does not look at."""
        known = self.records
        if len(known) >= len(self.entries):
            return []
        return [name for name, (at, _) in self.entries.items() if name not in known and not _is_marked(data, at)]


class KnownClone(PlainDirectory):
    """A working tree without the files that are known from its index: a capture with `cache` adds all others."""

    def __init__(self, root: Path, cache: StatCache, store: ObjectStore) -> None:
        super().__init__(root)
        self._store = store
        self.cache = cache
        """The state of what is known, as if it had been captured before."""
        self.looks: dict[TreePath, DirCache] = {}
        """How the entries look that are not left, by directory."""
        self.marked: list[TreePath] = []
        """Files that git was told not to look at, and that may differ from the index."""
        self.rules: dict[TreePath, Oid] = {}
        """Ignore files that git was told not to look at, by directory."""
        self._left: dict[TreePath, list[Found]] = {}

    def read_ignore(self, path: TreePath) -> bytes | None:
        """Read the `.gitignore` of a directory, as git does: from the index where a sparse checkout leaves it out."""
        found = super().read_ignore(path)
        if found is not None or path not in self.rules:
            return found
        text = bytearray()
        for piece in self._store.stream_blob(self.rules[path]):
            text += piece
            if len(text) >= IGNORE_FILE_READ:
                break
        return bytes(text[:IGNORE_FILE_READ])

    def list_dir(self, path: TreePath) -> Sequence[Found]:
        """List what is left of a directory."""
        left = self._left.pop(path, None)
        if left is None:
            return super().list_dir(path)
        return [found for found in left if join(path, found.name) not in self.left_out] if self.left_out else left

    def leave(self, path: TreePath, left: list[Found]) -> None:
        """Say what is left of a directory."""
        self._left[path] = left


def read_known(
    source: Path, git_dir: Path, sink: ObjectSink, store: ObjectStore, modes: FileModes = AS_SHOWN
) -> KnownClone | None:
    """Find out what is known of a clone's files.

    Trees and attributes go to `sink`; `store` holds the clone's objects already.

    Returns:
        The rest, or None if nothing is known, as without an index, or with an unknown kind of index.

    Raises:
        OSError: If the working tree or its index cannot be read.
        ObjectMissing: If a tree is missing that a sparse index names: what that leaves out would count as deleted.
    """
    try:
        with open_plain_file(git_dir / "index") as file:
            status = os.fstat(file.fileno())
            if status.st_size > INDEX_MAX:
                return None
            written_ns = status.st_mtime_ns
            index = read_full_index(file.read(), git_dir, store.read_tree)
        cached = parse_cached_tree(index.extensions[b"TREE"]) if b"TREE" in index.extensions else CachedTree()
    except (FileNotFoundError, NotAVault, BadIndex):
        return None
    top = _arrange(index)
    if top is None:
        return None
    clone = KnownClone(source, StatCache(source), store)
    reading = _Reading(clone, index, git_dir, written_ns, store, modes)
    try:
        reading.read(top)
    except ObjectMissing:  # the index speaks of what is not there: it is not believed at all
        return None
    _Writing(clone, index, cached, sink, store, reading).write()
    return clone


def _arrange(index: GitIndex) -> _Tracked | None:
    """Sort the entries of an index by directory; None if it holds what no tree may."""
    top = _Tracked()
    places: dict[bytes, _Tracked] = {b"": top}
    data, modes = index.data, _MODES
    last, entries = b"", top.entries
    for path, at in zip(index.paths, index.starts, strict=False):  # behind the last start there is the end
        above, _, name = path.rpartition(b"/")
        if above != last:
            place = places.get(above)
            if place is None:
                place = top
                here = b""
                for part in above.split(b"/"):
                    if not part or is_forbidden_name(part):
                        return None
                    here = here + b"/" + part if here else part
                    place = place.below.setdefault(part, _Tracked())
                    places[here] = place
            last, entries = above, place.entries
        # Most names are plainly allowed.
        if not name or ((name[0] in _SUSPICIOUS or b"\\" in name or not name.isascii()) and is_forbidden_name(name)):
            return None
        if data[at + 60] & _STAGE >> 8:
            continue  # in conflict: what stands there now is what counts
        mode = modes.get(data[at + 24 : at + 28])
        if mode is None:
            return None
        entries[name] = (at, mode)
    return top


class _Reading:
    """The look at each directory in which something is tracked."""

    def __init__(
        self, clone: KnownClone, index: GitIndex, git_dir: Path, written_ns: int, store: ObjectStore, modes: FileModes
    ) -> None:
        self._clone = clone
        self._modes = modes
        self._data = index.data
        self._written_ns = written_ns
        self.racy_after_ns = time.time_ns() - COARSE_NS
        """What was changed since then is not known by its times at the next fork."""
        self._store = store
        self._filters = _find_filters(index, git_dir, store)
        self._has_own_directory = False
        self._expected: dict[Oid, int] = {}
        """How long each blob has to be that a file is believed to hold."""
        self._needed: set[Oid] = set()
        """What is tracked without being there."""
        self.is_partly_gone = False
        """Whether a directory is not there of which only a part belongs to the state."""
        self.order: list[tuple[TreePath, _Tracked]] = []
        """Every such directory, each after the one above it."""

    def read(self, top: _Tracked) -> None:
        """Read all, and sort what is known from what is left.

        By a thread that goes from one directory to the next, where a thread can have a working directory of its own.
        """
        failed: list[BaseException] = []

        def read() -> None:
            try:
                self._has_own_directory = have_own_umask()
                self._read(top)
            except BaseException as error:  # noqa: BLE001 - raised in the waiting thread
                failed.append(error)

        reader = threading.Thread(target=read, name="avfs-look")
        reader.start()
        reader.join()
        if failed:
            raise failed[0]

    def _read(self, top: _Tracked) -> None:
        left: list[list[Found]] = []
        pending: list[tuple[TreePath, _Tracked]] = [(ROOT, top)]
        while pending:
            path, place = pending.pop()
            self.order.append((path, place))
            left.append(self._read_directory(path, place))
            pending += [(join(path, name), below) for name, below in place.below.items()]
        expected = self._expected
        sizes = self._store.blob_sizes(expected.keys() | self._needed)
        others = {oid for oid, size in expected.items() if sizes[oid] != size}
        for (path, place), found in zip(reversed(self.order), reversed(left), strict=True):  # from the deepest up
            for name in [name for name in place.records if self._oid_of(place, name) in others] if others else ():
                del place.records[name], place.looks[name]
                again = self._clone.find(path, name)
                if again is not None:
                    found.append(again)
            if place.status is not None:
                self._note_left(path, place, found)
            else:
                self._note_left_out(place)

    def _note_left(self, path: TreePath, place: _Tracked, found: list[Found]) -> None:
        """Note what is left of a directory; of those below it, which are done, the ones in which something is left."""
        below = place.below
        left = [one for one in found if one.kind != DIRECTORY or one.name not in below or not below[one.name].is_known]
        place.is_known = not left and all(one.is_known for one in below.values()) and not place.unknown(self._data)
        if not place.is_known or path == ROOT:  # the others are never asked for
            left.sort(key=operator.attrgetter("name"))
            self._clone.leave(path, left)

    def _note_left_out(self, place: _Tracked) -> None:
        """Note for a missing directory whether git was told not to look at something in it: that remains of it."""
        marked = {name: held for name, held in place.entries.items() if _is_marked(self._data, held[0])}
        known = [below for below in place.below.values() if below.is_known]
        place.is_known = bool(marked or known)
        if place.is_known:
            self.is_partly_gone |= len(marked) < len(place.entries) or len(known) < len(place.below)
            place.entries = marked
            place.below = {name: below for name, below in place.below.items() if below.is_known}

    def _oid_of(self, place: _Tracked, name: bytes) -> Oid:
        at = place.entries[name][0]
        return Oid(self._data[at + 40 : at + 60])

    def _read_directory(self, path: TreePath, place: _Tracked) -> list[Found]:
        """Sort the entries of a directory: what may be known is noted there, what is left is returned."""
        left: list[Found] = []
        try:
            directory = self._clone.directory_fd(path)
            listing = open_at(directory, b".", OPEN_LIST)
        except OSError as error:
            if path == ROOT or error.errno not in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.EACCES):
                raise
            # It went, is closed, or something else has its name: the one above shows that. A sparse checkout leaves it
            # out.
            self._need_marked(path, place)
            return left
        place.status = os.fstat(directory)
        place.xattrs = self._clone.dir_xattrs(path)
        entries, data, written_ns, records, looks = (
            place.entries,
            self._data,
            self._written_ns,
            place.records,
            place.looks,
        )
        racy_after_ns = self.racy_after_ns
        expect, unpack, fsencode, usual = self._expected.setdefault, _LOOK.unpack_from, os.fsencode, _USUAL.get
        here = b""  # a path from there is a third of the way to an entry of a descriptor
        if self._has_own_directory:
            os.fchdir(directory)
        else:
            here = entry_of(directory, b"")
        with closing_fd(listing), os.scandir(listing) as found:
            for entry in found:
                name = fsencode(entry.name)
                try:
                    status = entry.stat(follow_symlinks=False)
                except FileNotFoundError:  # gone since it was listed
                    continue
                held = entries.get(name)
                if held is not None and not (self._filters is not None and self._filters.changes(join(path, name))):
                    at, mode = held
                    ctime_s, ctime_ns, mtime_s, mtime_ns, ino, size = unpack(data, at)
                    touched_ns, length = status.st_mtime_ns, status.st_size
                    if (
                        touched_ns == mtime_s * _SECOND + mtime_ns
                        and status.st_ctime_ns == ctime_s * _SECOND + ctime_ns
                        and status.st_ino & _WORD == ino
                        and length & _WORD == size
                        and touched_ns < written_ns
                        and (not data[at + 60] & _EXTENDED >> 8 or _is_marked(data, at))
                    ):
                        if usual(status.st_mode) == mode:
                            record = None if has_user_xattrs(here + name) else plain_record(touched_ns)
                        else:
                            shown = self._modes.of(join(path, name), status.st_mode)
                            record = _unusual_record(touched_ns, shown, mode, here + name)
                        # Of two files of one blob and two lengths, at least one is not what is stored.
                        if record is not None and expect(Oid(data[at + 40 : at + 60]), length) == length:
                            records[name] = record
                            looks[name] = take_fingerprint(status, racy_after_ns=racy_after_ns)
                            continue
                if held is not None and held[1] != MODE_GITLINK and _is_marked(data, held[0]):
                    self._clone.marked.append(join(path, name))
                    continue
                left.append(Found(name, status, kind_of_mode(status.st_mode), opaque=False))
        self._need_marked(path, place)
        return left

    def _need_marked(self, path: TreePath, place: _Tracked) -> None:
        """Note the blobs of what git was told not to look at: they have to be there, and rules among them hold."""
        data, records = self._data, place.records
        for name, (at, mode) in place.entries.items() if len(records) < len(place.entries) else ():
            if _is_marked(data, at) and mode != MODE_GITLINK and name not in records:
                oid = Oid(data[at + 40 : at + 60])
                self._needed.add(oid)
                if name == _IGNORE and mode != MODE_SYMLINK:  # git follows no symbolic link here
                    self._clone.rules[path] = oid


class _Filters(TreeAttributes):
    """The attributes of a clone by which git gives files another content than it stores."""

    def __init__(self, store: ObjectStore, held: dict[TreePath, bytes], more: bytes) -> None:
        super().__init__(store, None, more)
        self._held = held

    def read_file(self, directory: TreePath) -> bytes:
        return self._held.get(directory, b"")

    def changes(self, path: TreePath) -> bool:
        """Whether a file may be another one than what is stored for it."""
        return any(self.find(path, _CHANGING).values())


def _find_filters(index: GitIndex, git_dir: Path, store: ObjectStore) -> _Filters | None:
    """Find the attributes that name filters; None in a clone that has none, as most."""
    held: dict[TreePath, bytes] = {}
    for number, path in enumerate(index.paths):
        if path.endswith(_ATTRIBUTES) and path[: -len(_ATTRIBUTES)][-1:] in (b"", b"/"):
            with suppress(ObjectMissing, ObjectCorrupt):
                oid = index.entry(number).oid
                if store.blob_size(oid) <= FILE_MAX_BYTES:  # as for all attributes
                    held[split(TreePath(path))[0]] = store.read_blob(oid)
    # Of a linked working tree, they are in the repository that it belongs to.
    more = read_info_attributes(git_dir.parent.parent if git_dir.parent.name == "worktrees" else git_dir)
    texts = [more, *held.values()]
    return _Filters(store, held, more) if any(word in text for word in _CHANGING for text in texts) else None


def _unusual_record(touched_ns: int, shown: int, mode: int, place: bytes) -> Record | None:
    """Tell the attributes of a file of which the index knows.

    Return None if it is not of the kind that the index says, or has more.
    """
    if stat.S_ISLNK(shown):
        return plain_record(touched_ns) if mode == MODE_SYMLINK else None
    if not stat.S_ISREG(shown) or mode != (MODE_EXEC if shown & 0o100 else MODE_FILE) or has_user_xattrs(place):
        return None
    return format_record(Meta(touched_ns, None if shown in _USUAL else shown & 0o7777))


def _is_marked(data: bytes, at: int) -> bool:
    """Whether git was told not to look whether a file has changed."""
    flags = data[at + 60]
    return bool(flags & _ASSUME_VALID >> 8) or bool(flags & _EXTENDED >> 8 and data[at + 62] & _SKIP_WORKTREE >> 8)


class _Writing:
    """The trees and attributes of what is known, as a capture would have left them."""

    def __init__(
        self,
        clone: KnownClone,
        index: GitIndex,
        cached: CachedTree,
        sink: ObjectSink,
        store: ObjectStore,
        reading: _Reading,
    ) -> None:
        self._clone = clone
        self._data = index.data
        self._cached = CachedTree() if reading.is_partly_gone else cached
        self._sink = sink
        self._store = store
        self._order = reading.order
        self._racy_after_ns = reading.racy_after_ns

    def write(self) -> None:
        """Write them, from the deepest directory up."""
        for path, place in reversed(self._order):
            self._write_directory(path, place)
        top = self._order[0][1]
        self._clone.cache.tree, self._clone.cache.sidecar = top.oid, top.sidecar

    def _write_directory(self, path: TreePath, place: _Tracked) -> None:
        records = place.records
        side: dict[bytes, SideEntry] = {}
        prints: DirCache = {}
        for name in place.unknown(self._data):
            prints[name] = _GONE  # unless the capture finds it, it is gone
        for name, below in place.below.items():
            if below.status is None:
                if not below.is_known:
                    prints[name] = _GONE
                continue
            if below.is_known:
                place.looks[name] = take_fingerprint(below.status, racy_after_ns=self._racy_after_ns)
            else:
                prints[name] = take_fingerprint(below.status)
            permissions = stat.S_IMODE(below.status.st_mode)
            records[name] = format_record(
                Meta(below.status.st_mtime_ns, None if permissions == DIRECTORY_MODE else permissions, below.xattrs)
            )
            if below.sidecar is not None:
                side[name] = SideEntry(MODE_TREE, below.sidecar, untracked=False)
        meta = self._sink.add(KIND_BLOB, serialize_records(records), keep=True) if records else None
        attributes = compose_sidecar(side, meta)
        place.sidecar = self._sink.add_tree(attributes) if attributes else None
        place.oid = self._tree_of(path, place)
        self._clone.cache.directories[path] = prints
        self._clone.looks[path] = place.looks

    def _tree_of(self, path: TreePath, place: _Tracked) -> Oid | None:
        """Find or write the tree of the entries of a directory."""
        cached: CachedTree | None = self._cached
        for name in path.split(b"/") if path else ():
            cached = cached.below.get(name) if cached is not None else None
        if cached is not None and cached.oid is not None and self._store.exists(cached.oid):
            return cached.oid
        data = self._data
        entries = {name: (mode, Oid(data[at + 40 : at + 60])) for name, (at, mode) in place.entries.items()}
        entries |= {name: (MODE_TREE, below.oid) for name, below in place.below.items() if below.oid is not None}
        return self._sink.add_tree(entries) if entries else None
