"""Reading the objects of a repository.

Decided here: where an object is looked for (packs, then loose files, then repositories that this one borrows from, by
libgit2), that another copy is read where one is damaged, that nothing is returned whose content is not what its id
says, and what is kept in memory. Nothing else opens a pack or a loose object.

Usable from threads. Git may repack and prune at any time: where a pack has gone, the directory is read again, once,
before an object counts as missing. pygit2 is imported only where there are alternates: that import takes longer than
most commands.
"""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from avfs_git.errors import GitFailed, HostError, InternalError, ObjectCorrupt, ObjectMissing
from avfs_git.gitstore.formats import packfile
from avfs_git.gitstore.formats.commits import Commit, Links, parse_commit, parse_links
from avfs_git.gitstore.formats.packfile import KIND_BLOB, KIND_COMMIT, KIND_NAMES, KIND_TREE
from avfs_git.gitstore.formats.trees import EMPTY_TREE, parse_tree
from avfs_git.gitstore.objects.cache import GenerationCache
from avfs_git.gitstore.objects.looseobject import read_loose_header, stream_loose, verified
from avfs_git.gitstore.objects.owncommits import OwnCommits
from avfs_git.gitstore.objects.packset import Pack, PackSet
from avfs_git.gitstore.repofile import read_plain_file
from avfs_git.gitstore.source import Tree
from avfs_git.host.files.closing import Closing, closing_fd
from avfs_git.host.files.plainfile import open_plain
from avfs_git.paths import Oid, oid_of
from avfs_git.patterns import compiled
from avfs_git.values import replace

if TYPE_CHECKING:
    import pygit2

_T = TypeVar("_T")
_LOOSE_DIRECTORY, _LOOSE_NAME = compiled(r"[0-9a-f]{2}"), compiled(r"[0-9a-f]{38}")
_SHALLOW = compiled(rb"[0-9a-f]{40}\n?")
SMALL_BLOB = 64 << 10
_TREE_BYTES_KEPT, _FEW_TREE_BYTES = 40 << 20, 12 << 20
"""Bytes of trees as they take memory, by an estimate: some 140,000 entries of ordinary names, or 40,000.

An operation reads the same trees several times, and what does not fit into half of this is read from disk each time: a
restore of 300 files spread over 500,000 needs 18 MiB.
"""
_LARGE_TREE = 50_000
_BLOB_BYTES_KEPT = 32 << 20
_SIZES_KEPT = 64_000
_COMMIT_BYTES_KEPT = 8 << 20
_LINK_BYTES_KEPT = 16 << 20


def hash_object(kind: int, data: bytes) -> Oid:
    """Compute the id of an object."""
    hasher = hashlib.sha1(b"%b %d\0" % (KIND_NAMES[kind], len(data)), usedforsecurity=False)
    hasher.update(data)
    return Oid(hasher.digest())


def wrong_kind(oid: Oid, found: int, expected: int) -> ObjectCorrupt:
    """Make the error about an object that is not of the kind that what refers to it says."""
    return ObjectCorrupt(
        oid.hex(), f"it is a {KIND_NAMES[found].decode()} where a {KIND_NAMES[expected].decode()} was expected"
    )


def list_loose(objects_dir: Path) -> Iterator[Oid]:
    """List the objects that are files of their own."""
    for entry in _scan_loose(objects_dir):
        if not entry.is_dir():
            yield oid_of(os.path.basename(os.path.dirname(entry.path)) + entry.name)


def list_no_loose(objects_dir: Path) -> list[Path]:
    """List the directories that have the name of a loose object: git fails on each, and avfs passes over it."""
    return [Path(entry.path) for entry in _scan_loose(objects_dir) if entry.is_dir()]


def _scan_loose(objects_dir: Path) -> Iterator[os.DirEntry[str]]:
    with suppress(FileNotFoundError):
        for directory in sorted(filter(_LOOSE_DIRECTORY.fullmatch, os.listdir(objects_dir))):
            with suppress(NotADirectoryError, FileNotFoundError), os.scandir(objects_dir / directory) as entries:
                yield from [entry for entry in entries if _LOOSE_NAME.fullmatch(entry.name)]


def _weigh_tree(tree: Tree) -> int:
    """Estimate the memory of a tree: the names cost what they are long, beside some 250 bytes an entry."""
    names = sum(map(len, tree)) if len(tree) < _LARGE_TREE else 40 * len(tree)
    return 300 + 250 * len(tree) + names


def _weigh_commit(commit: Commit) -> int:
    """Estimate the memory of a commit, whose message may be as long as any file."""
    extra = sum(len(name) + len(value) for name, value in commit.extra)
    return 1_500 + 4 * len(commit.message) + 60 * len(commit.parents) + extra


class ObjectStore(Closing):
    """The objects of one repository, for reading."""

    def __init__(self, git_dir: Path) -> None:
        self.git_dir = git_dir
        self.objects_dir = git_dir / "objects"
        self.packs = PackSet(self.objects_dir / "pack")
        self._loose_prefix = os.fsencode(self.objects_dir) + b"/"
        self._shallow_path = os.fsencode(git_dir / "shallow")
        self._shallow_stamp: tuple[int, int, int] | None = None
        self._shallow: frozenset[Oid] = frozenset()
        self._odb: pygit2.Odb | None = None
        self._odb_lock = threading.Lock()
        self._trees: GenerationCache[Oid, Tree] = GenerationCache(_TREE_BYTES_KEPT, _weigh_tree)
        self._blobs: GenerationCache[Oid, bytes] = GenerationCache(_BLOB_BYTES_KEPT, lambda blob: len(blob) + 100)
        self._commits: GenerationCache[Oid, Commit] = GenerationCache(_COMMIT_BYTES_KEPT, _weigh_commit)
        self._sizes: GenerationCache[Oid, int] = GenerationCache(_SIZES_KEPT, lambda _: 1)
        self._links: GenerationCache[Oid, Links] = GenerationCache(
            _LINK_BYTES_KEPT, lambda links: 400 + 60 * len(links.parents)
        )
        self.own_commits = OwnCommits(git_dir, self.read)
        self.judge: Callable[[Tree], None] | None = None
        """Called with each tree that is read from disk; raises if the tree must not be shown. None if each may be."""

    def close(self) -> None:
        """Let go of files and memory."""
        self.packs.close()
        self.own_commits.close()
        self._odb = None
        for cache in (self._trees, self._blobs, self._commits, self._sizes, self._links):
            cache.clear()

    def keep_fewer_trees(self) -> None:
        """Keep fewer trees in memory from now on: for a process of which there are many."""
        self._trees.limit(_FEW_TREE_BYTES)

    def wait_elsewhere(self) -> None:
        """Have this thread never wait for another machine. Everything is here: there is nothing to do."""

    def expect(self, oids: Iterable[Oid]) -> None:
        """Say which blobs are read next. Everything is here: there is nothing to do, and the ids are not looked at."""

    # --- reading -----------------------------------------------------------------------------------------

    def read(self, oid: Oid) -> tuple[int, bytes]:
        """Read an object: its kind and content."""
        try:
            return self._read_first(oid)
        except ObjectCorrupt:
            found = self._read_another(oid)
            if found is None:
                raise
            return found

    def _read_first(self, oid: Oid) -> tuple[int, bytes]:
        found = self._look(oid, Pack.read, self._read_loose)
        if found is None:
            if oid == EMPTY_TREE:
                return KIND_TREE, b""  # as git has it: known without being stored
            return self._read_by_libgit2(oid)
        _check_content(oid, found)
        return found

    def _read_another(self, oid: Oid) -> tuple[int, bytes] | None:
        """Read an object of which one copy is damaged from another pack, or from its own file.

        Return None if no copy is whole.
        """
        for pack, offset in self.packs.find_each(oid):
            with suppress(ObjectCorrupt, HostError), _read_errors(oid):
                found = pack.read(offset)
                _check_content(oid, found)
                return found
        with suppress(ObjectCorrupt, HostError):
            loose = self._read_loose(oid)
            if loose is not None:
                _check_content(oid, loose)
            return loose
        return None

    def read_blob(self, oid: Oid) -> bytes:
        """Read the content of a blob; a cached small blob costs a look-up."""
        blob = self._blobs.young.get(oid)
        if blob is None:
            blob = self._blobs.get(oid)
            if blob is None:
                blob = self._read_as(KIND_BLOB, oid)
                if len(blob) <= SMALL_BLOB:
                    self._blobs.put(oid, blob)
        return blob

    def read_tree(self, oid: Oid) -> Tree:
        """Read and check a tree; a cached tree costs a look-up.

        Raises:
            HostileTree: If an entry must never be written to a disk.
        """
        tree = self._trees.young.get(oid)
        if tree is None:
            tree = self._trees.get(oid)
            if tree is None:
                tree = parse_tree(self._read_as(KIND_TREE, oid), oid)
                if self.judge is not None:
                    self.judge(tree)
                self._trees.put(oid, tree)
        return tree

    def remember_trees(self, trees: Mapping[Oid, Tree]) -> None:
        """Keep trees that were written by this process, so that reading them costs a look-up."""
        for oid, tree in trees.items():
            self._trees.put(oid, tree)

    def remember_blobs(self, blobs: Mapping[Oid, bytes]) -> None:
        """Keep small blobs that were written by this process, so that reading them costs a look-up."""
        for oid, blob in blobs.items():
            self._blobs.put(oid, blob)

    def read_commit(self, oid: Oid) -> Commit:
        """Read a commit; a cached commit costs a look-up, and two system calls if it has a sidecar.

        Its sidecar is what the vault has noted for it (`owncommits`), not what its header says: a commit from elsewhere
        has none, nor has one whose sidecar is not here any more. One whose parents a shallow clone has left behind has
        none, as git shows it.
        """
        commit = self._commits.get(oid)
        # Another process may have let an old checkpoint forget its sidecar since.
        if commit is None or (commit.sidecar is not None and commit.sidecar != self.own_commits.find(oid)):
            commit, is_whole = parse_commit(self._read_as(KIND_COMMIT, oid), oid), True
            if oid in self._read_shallow():
                commit = replace(commit, parents=())
                is_whole = False  # the rest may be fetched yet
            if commit.sidecar is not None:
                noted = self.own_commits.find(oid)
                if noted is None or not self.exists(noted):
                    noted, is_whole = None, False  # it may be fetched yet, on request
                commit = replace(commit, sidecar=noted)
            if is_whole:
                self._commits.put(oid, commit)
        return commit

    def read_links(self, oid: Oid) -> Links:
        """Read of a commit what a walk through history needs, as `read_commit` would say it."""
        links = self._links.get(oid)
        if links is None:
            commit = self._commits.get(oid)
            if commit is not None:
                return Links(commit.parents, commit.committer.when_s)
            shallow = self._read_shallow()
            links = parse_links(self._read_as(KIND_COMMIT, oid), oid)
            if oid in shallow:
                return links._replace(parents=())  # the rest may be fetched yet
            self._links.put(oid, links)
        return links

    def ask_merge_bases(self, ours: Oid, theirs: Oid) -> list[Oid] | None:
        """Ask git for the merge bases of two commits; None if it cannot tell."""
        from avfs_git.gitstore.gitcommand import run  # noqa: PLC0415 - only far walks ask

        try:
            result = run(self.git_dir, "merge-base", ["--all"], [ours.hex(), theirs.hex()])
        except GitFailed:
            return None
        # 1: they have none
        return [oid_of(line) for line in result.output.split()] if result.status in (0, 1) else None

    def _read_shallow(self) -> frozenset[Oid]:
        """List the commits whose parents are left out of a shallow repository (gitrepository-layout: shallow)."""
        try:
            status = os.stat(self._shallow_path)
            stamp = (status.st_ino, status.st_size, status.st_mtime_ns)
        except OSError:  # of nearly all repositories it is not there
            stamp = None
        if stamp != self._shallow_stamp:
            found: frozenset[Oid] = frozenset()
            try:
                if stamp is not None:
                    lines = read_plain_file(Path(os.fsdecode(self._shallow_path))).split(b"\n")
                    found = frozenset(oid_of(line) for line in lines if _SHALLOW.fullmatch(line))
            except FileNotFoundError:  # the rest has just arrived
                stamp = None
            except OSError as error:
                raise HostError("read which commits are shallow", error) from error
            self._shallow, self._shallow_stamp = found, stamp
            self._commits.clear()
            self._links.clear()
        return self._shallow

    def blob_size(self, oid: Oid) -> int:
        """Say how long a blob is, without reading it."""
        size = self._sizes.get(oid)
        if size is None:
            kind, size = self.header(oid)
            if kind != KIND_BLOB:  # if its header is not damaged: then another copy says something else
                size = len(self._read_as(KIND_BLOB, oid))
            self._sizes.put(oid, size)
        return size

    def blob_sizes(self, oids: Iterable[Oid]) -> dict[Oid, int]:
        """Say how long many blobs are, without reading them and without keeping the answers.

        Of what a pack holds as a delta, only that it is an object is known.
        """
        wanted = set(oids)
        found: dict[Oid, int] = {}
        for pack, held, offsets in self.packs.find_all(wanted):
            # Where git has moved them to another pack, or one is damaged, each is asked for below, and says so.
            with suppress(FileNotFoundError, packfile.BadPack):
                found.update(zip(held, [size for _, size in pack.heads(offsets)], strict=True))
        for oid in wanted - found.keys():
            header = self._header_loose(oid)
            found[oid] = header[1] if header is not None and header[0] == KIND_BLOB else self.blob_size(oid)
        return found

    def learn_sizes(self, oids: Iterable[Oid]) -> None:
        """Find out how long blobs are that `blob_size` is about to be asked for one by one: costs a fraction of that.

        What cannot be told so is left to it: what is not in a pack, or there as a delta, or damaged.
        """
        sizes = self._sizes
        with suppress(OSError, packfile.BadPack):
            for pack, held, offsets in self.packs.find_all({oid for oid in oids if sizes.get(oid) is None}):
                for oid, (kind, size) in zip(held, pack.heads(offsets), strict=True):
                    if kind == KIND_BLOB:
                        sizes.put(oid, size)

    def header(self, oid: Oid) -> tuple[int, int]:
        """Say the kind and size of an object, as its header claims."""
        try:
            return self._header_first(oid)
        except ObjectCorrupt:
            found = self._read_another(oid)
            if found is None:
                raise
            return found[0], len(found[1])

    def _header_first(self, oid: Oid) -> tuple[int, int]:
        header = self._look(oid, Pack.describe, self._header_loose)
        if header is not None:
            return header
        if oid == EMPTY_TREE:
            return KIND_TREE, 0
        if not self._has_alternates():
            raise ObjectMissing(oid.hex())
        with _libgit2_errors(oid):
            size_kind = self._libgit2().read_header(_pygit2_oid(oid))
        return int(size_kind[0]), int(size_kind[1])

    def exists(self, oid: Oid) -> bool:
        """Tell whether an object is there; says nothing of its content."""
        if self._look(oid, lambda *_: True, lambda _: os.path.exists(self._loose_path(oid)) or None):
            return True
        return self._has_alternates() and bool(self._libgit2().exists(_pygit2_oid(oid)))

    def stream_blob(self, oid: Oid) -> Iterator[bytes]:
        """Read the content of a blob in pieces of at most 1 MiB.

        The last piece is held back until the content is known to be what the id says. A blob that is
        stored as a delta is read whole; git does not make deltas of big files.
        """
        size = self.blob_size(oid)
        if size > packfile.CHUNK and len(self.packs.find_each(oid)) + os.path.exists(self._loose_path(oid)) > 1:
            yield from self._stream_whole(oid)
        else:
            yield from self._stream_first(oid, size)

    def _stream_whole(self, oid: Oid) -> Iterator[bytes]:
        """Read a long blob with several copies from one that is whole: twice, the first time to know that it is."""
        for pack, offset in self.packs.find_each(oid):
            with suppress(ObjectCorrupt, HostError), _read_errors(oid):
                kind, size = pack.entry(offset)[:2]
                if kind == KIND_BLOB:
                    for _ in verified(oid, size, pack.stream(offset)):
                        pass
                    yield from pack.stream(offset)
                    return
        yield self._read_as(KIND_BLOB, oid)

    def _stream_first(self, oid: Oid, size: int) -> Iterator[bytes]:
        if size > packfile.CHUNK:
            with _read_errors(oid):
                found = self.packs.find(oid)
                with suppress(FileNotFoundError):  # git has moved it to another pack: then it is read whole
                    if found is not None and found[0].entry(found[1])[0] == KIND_BLOB:
                        yield from verified(oid, size, found[0].stream(found[1]))
                        return
                if found is None and (loose := self._open_loose(oid)) is not None:
                    with closing_fd(loose):
                        yield from verified(oid, size, stream_loose(oid, loose, size))
                    return
        data = self.read_blob(oid)
        for start in range(0, len(data), packfile.CHUNK):
            yield data[start : start + packfile.CHUNK]

    def find_by_prefix(self, hex_prefix: str) -> list[Oid]:
        """List the objects whose hexadecimal id starts so, at least four digits, in order."""
        if not 4 <= len(hex_prefix) <= 40 or not set(hex_prefix) <= set("0123456789abcdef"):
            return []
        found = self.packs.with_prefix(hex_prefix)
        try:
            names = os.listdir(self.objects_dir / hex_prefix[:2])
        except OSError:
            names = []
        rest = hex_prefix[2:]
        found |= {oid_of(hex_prefix[:2] + name) for name in names if len(name) == 38 and name.startswith(rest)}
        if self._has_alternates():
            found |= self._list_by_libgit2(hex_prefix)
        return sorted(found)

    def _list_by_libgit2(self, hex_prefix: str) -> set[Oid]:
        """List what libgit2 knows as well; of a pack that it cannot take apart, nothing."""
        found: set[Oid] = set()
        with suppress(ObjectCorrupt), _libgit2_errors(Oid(bytes(20))):
            for known in self._libgit2():
                if str(known).startswith(hex_prefix):
                    found.add(Oid(bytes(known.raw)))
        return found

    def freshen(self, oid: Oid) -> bool:
        """Keep git from pruning an object that is about to be referred to again; tell whether it is there.

        Git spares what is unreachable for some time after it was last written; a writer that does not
        store an object because it is there already has to renew that time, as git's own writers do.
        """
        with _read_errors(oid):
            found = self.packs.find(oid)
        if found is not None and found[0].path.with_suffix(".mtimes").exists():
            return False  # git keeps such times elsewhere for what it has found unreachable (cruft packs)
        try:
            os.utime(self._loose_path(oid) if found is None else found[0].path)
        except OSError:
            return False
        return True

    # --- where objects are -------------------------------------------------------------------------------

    def _read_as(self, kind: int, oid: Oid) -> bytes:
        found, data = self.read(oid)
        if found != kind:
            raise wrong_kind(oid, found, kind)
        return data

    def _look(self, oid: Oid, in_pack: Callable[[Pack, int], _T], loose: Callable[[Oid], _T | None]) -> _T | None:
        """Look at an object in a pack or in its own file; None if it is in neither."""
        generation = self.packs.generation
        found = self._in_pack(oid, in_pack) or loose(oid)
        while found is None and self.packs.changed_since(generation):  # others may join packs again and again
            generation = self.packs.generation
            found = self._in_pack(oid, in_pack)
        return found

    def _in_pack(self, oid: Oid, look: Callable[[Pack, int], _T]) -> _T | None:
        """Look at an object in a pack; None if no pack holds it."""
        with _read_errors(oid):
            found = self.packs.find(oid)
            if found is None:
                return None
            try:
                return look(*found)
            except FileNotFoundError:
                return None  # git has moved it to another pack

    def _read_loose(self, oid: Oid) -> tuple[int, bytes] | None:
        with _read_errors(oid):
            loose = self._open_loose(oid)
            if loose is None:
                return None
            with closing_fd(loose):
                kind, size, length = read_loose_header(oid, os.pread(loose, 256, 0))
                _check_size(oid, kind, size)
                return kind, b"".join(packfile.inflate_stream(loose, 0, size + length))[length:]

    def _header_loose(self, oid: Oid) -> tuple[int, int] | None:
        with _read_errors(oid):
            loose = self._open_loose(oid)
            if loose is None:
                return None
            with closing_fd(loose):
                return read_loose_header(oid, os.pread(loose, 256, 0))[:2]

    def _loose_path(self, oid: Oid) -> bytes:
        name = oid.hex()
        return self._loose_prefix + f"{name[:2]}/{name[2:]}".encode("ascii")

    def _open_loose(self, oid: Oid) -> int | None:
        try:
            return open_plain(self._loose_path(oid))
        except (FileNotFoundError, NotADirectoryError):
            return None

    def _has_alternates(self) -> bool:
        """Tell whether objects may be elsewhere.

        Only then libgit2 is imported: it ends the process over some damaged packs.
        """
        return (self.objects_dir / "info" / "alternates").exists()

    def _libgit2(self, *, anew: bool = False) -> pygit2.Odb:
        with self._odb_lock:
            if self._odb is None or anew:
                import pygit2  # noqa: PLC0415 - most commands do without, see above

                self._odb = pygit2.Odb(os.fspath(self.objects_dir))
            return self._odb

    def _read_by_libgit2(self, oid: Oid) -> tuple[int, bytes]:
        """Read an object by libgit2, which verifies its content."""
        if not self._has_alternates():
            raise ObjectMissing(oid.hex())
        for anew in (False, True):
            try:
                with _libgit2_errors(oid):
                    odb = self._libgit2(anew=anew)
                    kind, size = odb.read_header(_pygit2_oid(oid))
                    _check_size(oid, int(kind), size)
                    return int(kind), odb.read(_pygit2_oid(oid))[1]
            except (ObjectMissing, ObjectCorrupt):
                # It may have opened a pack that has gone since; what it says anew is final.
                if anew:
                    raise
        raise InternalError("libgit2 was asked neither once nor twice")


def _pygit2_oid(oid: Oid) -> pygit2.Oid:
    import pygit2  # noqa: PLC0415 - most commands do without, see above

    return pygit2.Oid(raw=oid)


class _read_errors:  # noqa: N801 - used as a context manager, and on every read: cheaper as a class
    """Turn what reading an object's bytes raises into errors about that object."""

    __slots__ = ("_oid",)

    def __init__(self, oid: Oid) -> None:
        self._oid = oid

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        if error is None:
            return
        if isinstance(error, packfile.BadPack):
            raise ObjectCorrupt(self._oid.hex(), str(error)) from error
        if isinstance(error, OSError):
            raise HostError(f"read object {self._oid.hex()}", error) from error


@contextmanager
def _libgit2_errors(oid: Oid) -> Iterator[None]:
    """Turn libgit2's exceptions into errors about an object: `KeyError` means missing, any other means damaged."""
    import pygit2  # noqa: PLC0415 - most commands do without, see above

    try:
        yield
    except KeyError:
        raise ObjectMissing(oid.hex()) from None
    except (pygit2.GitError, ValueError, OSError) as error:
        reason = str(error).strip().partition("\n")[0][:200]  # without ids and paths of its own
        raise ObjectCorrupt(oid.hex(), reason or type(error).__name__) from error


def _check_content(oid: Oid, found: tuple[int, bytes]) -> None:
    if hash_object(*found) != oid:
        raise ObjectCorrupt(oid.hex(), "its content is not what its id says")


def _check_size(oid: Oid, kind: int, size: int) -> None:
    if size > packfile.MAX_STRUCTURE and kind != KIND_BLOB:
        raise ObjectCorrupt(oid.hex(), "it is too large for what it is")
