"""Writing the objects of one operation as one pack.

Decided here: how objects are collected, compressed and made durable. One `PackWriter` belongs to one thread; any number
of them, in any number of processes, work beside readers and git. From its start until `discard` it holds the objects of
the repository (`gitstore.holding`): an object that it need not store again stays there until refs name it.

Until `finish` nothing is visible, and a crash leaves at most `.tmp-avfs-*` files, which maintenance and the doctor
remove. `finish` has the vault note the commits as its own (`owncommits`), syncs pack and index, renames the pack, then
the index (git takes a pack for one only by its index), then syncs the directory. When `finish` returns, the objects
survive a power cut.
"""

from __future__ import annotations

import hashlib
import os
import zlib
from array import array
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Self

from avfs_git import faults
from avfs_git.errors import ObjectCorrupt, ObjectMissing
from avfs_git.gitstore.config.trust import is_private
from avfs_git.gitstore.formats import packfile
from avfs_git.gitstore.formats.commits import parse_commit
from avfs_git.gitstore.formats.deflate import STORED, deflate, start_stream
from avfs_git.gitstore.formats.packfile import KIND_BLOB, KIND_COMMIT, KIND_NAMES, KIND_TREE
from avfs_git.gitstore.formats.packindex import build_index
from avfs_git.gitstore.holding import hold_objects, release_objects
from avfs_git.gitstore.objects.blobfile import hash_file, read_pieces, read_whole, start_blob_hash
from avfs_git.gitstore.objects.overstore import OverStore
from avfs_git.gitstore.objects.store import SMALL_BLOB, ObjectStore, hash_object
from avfs_git.host.files.closing import closing_fd
from avfs_git.host.files.durable import fsync_dir, host_errors, sync_files, write_all
from avfs_git.host.files.flush import begin_writing
from avfs_git.host.files.modes import open_file
from avfs_git.paths import Oid
from avfs_git.progress import STORING, listener

CHUNK = packfile.CHUNK
_HELD_BYTES = 8 << 20
"""Of a pack that are held in memory before it goes on to a file."""
_SENT_AT_ONCE = 8 << 20
"""Of a pack's file, before it is sent on its way to the disk."""
_TOLD_BYTES = 256 << 10
"""Of a pack, before the caller that watches is told again."""
_WHOLE_FILE = 4 << 20
"""Up to which a file is read whole instead of in pieces."""
_WHOLE_BYTES = 64 << 20
"""Of blobs that are held in memory before they are deflated."""
_HEADERS = {kind: name + b" %d\0" for kind, name in KIND_NAMES.items()}
_PROBE = 64 << 10
_TEMPORARY_PACK = ".tmp-avfs-pack-"
"""Not `tmp_*`: `git prune` would remove those, also of writers that live."""
_TEMPORARY_INDEX = ".tmp-avfs-idx-"
HOLD_MARK = b"avfs: until a ref names what is in this pack\n"
_BLOBS_KEPT = 256
_LEVEL = 1
"""zlib's, 0 to 9."""
_TREE_LEVEL = STORED
"""Trees are mostly ids, which do not get smaller: deflating one saves a quarter of it and takes ten times as long."""


def hold_pack(keep: Path) -> bool:
    """Put git's own mark on a pack that is about to be visible.

    Return False if another process has, which means it to stay.
    """
    try:
        fd = open_file(keep, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileExistsError:
        return False
    with closing_fd(fd):
        write_all(fd, HOLD_MARK)
    return True


def release_pack(keep: Path) -> None:
    """Let git collect a pack that `hold_pack` has marked."""
    with suppress(OSError):  # the doctor removes a mark that stays
        os.unlink(keep)


class PackWriter(OverStore):
    """Collects objects and writes them as one pack; reads them back, and everything else from the store."""

    def __init__(self, store: ObjectStore) -> None:
        """Start a pack; nothing is written yet."""
        super().__init__(store)
        self._objects: int | None = hold_objects(store.git_dir)
        self._offsets: dict[Oid, int] = {}  # in the order of adding, as `_crcs` is
        self._crcs = array("I")
        self._held = bytearray()
        self._held_from = packfile.PACK_HEADER.size  # the offset of the first byte held; what is before is in the file
        self._file: tuple[int, Path] | None = None
        self._sent = 0  # up to where the file is on its way to the disk
        self._blobs: dict[Oid, bytes] = {}
        self._whole: dict[Oid, bytes] = {}
        """Blobs that are not deflated yet."""
        self._whole_room = 0
        self._held_by: Path | None = None
        self._commits: dict[Oid, Oid | None] = {}
        """Commits that were made here, and their sidecars."""
        self._told = listener()
        self._told_at = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.discard()

    # --- taking objects ----------------------------------------------------------------------------------

    def add(self, kind: int, data: bytes, *, keep: bool = False) -> Oid:
        """Take an object and return its id. With `keep`, reading a blob back costs a look-up.

        A big object in the store is not stored again. A small one is: asking would cost more.
        """
        size = len(data)
        hasher = hashlib.sha1(_HEADERS[kind] % size, usedforsecurity=False)
        hasher.update(data)
        oid = Oid(hasher.digest())
        if keep and kind == KIND_BLOB and size <= SMALL_BLOB and len(self._blobs) < _BLOBS_KEPT:
            self._blobs[oid] = bytes(data)
        if kind == KIND_COMMIT:
            self._commits[oid] = parse_commit(data, oid).sidecar
        if oid in self._offsets:
            return oid
        if kind == KIND_BLOB and 0 < size <= self._whole_room:
            if oid not in self._whole:
                self._whole[oid] = bytes(data)
                self._whole_room -= size
            return oid
        if size > SMALL_BLOB and self._store_has(oid):
            return oid
        level = _TREE_LEVEL if kind == KIND_TREE else _LEVEL if size <= SMALL_BLOB else _level_for(data[:_PROBE])
        entry = packfile.entry_header(kind, size) + deflate(data, level)
        self._offsets[oid] = self._held_from + len(self._held)
        self._crcs.append(zlib.crc32(entry))
        self._held += entry
        if self._told is not None:
            self._tell(self._held_from + len(self._held))
        if len(self._held) > _HELD_BYTES:  # what a full disk keeps back stays for the next call
            self._spill()
        return oid

    @contextmanager
    def deflating_later(self) -> Iterator[None]:
        """Only hash the blobs that are added in the block, and deflate them at its end: programs wait for the block."""
        self._whole_room = _WHOLE_BYTES
        try:
            yield
        finally:
            self._whole_room = 0
            whole, self._whole = self._whole, {}  # after an exception, no pack has them
        for data in whole.values():
            self.add(KIND_BLOB, data)

    def _tell(self, end: int) -> None:
        if self._told is not None and end - self._told_at >= _TOLD_BYTES:
            self._told_at = end
            self._told(STORING, end, 0)

    def add_file(self, fd: int, size: int, *, goes_on: bool = False) -> Oid:
        """Take a file of that size, from its start, as a blob; in bounded memory.

        Raises:
            SizeChanged: If the file ends earlier, or goes on and may not; nothing was taken.
            OSError: If the file cannot be read; nothing was taken.
        """
        if size <= max(_WHOLE_FILE, self._whole_room):
            return self.add(KIND_BLOB, read_whole(fd, size, goes_on=goes_on))
        # Hashing is 20 times as fast as deflating: what the store has costs a reading, not a writing.
        oid = hash_file(fd, size, goes_on=goes_on)
        if oid in self._offsets or self._store_has(oid):
            return oid
        return self._deflate_file(fd, size, goes_on=goes_on)

    def _store_has(self, oid: Oid) -> bool:
        # The order matters: only what is there *after* its time was renewed is safe from a `git prune` under way.
        return self.store.exists(oid) and self.store.freshen(oid) and self._is_whole(oid)

    def _is_whole(self, oid: Oid) -> bool:
        """Tell whether the store's copy of a blob matches its id: a damaged or forged copy does not replace ours."""
        try:
            for _ in self.store.stream_blob(oid):
                pass
        except (ObjectCorrupt, ObjectMissing):
            return False
        return True

    def _deflate_file(self, fd: int, size: int, *, goes_on: bool) -> Oid:
        """Write a file to the pack piece by piece."""
        self._spill()
        assert self._file is not None  # noqa: S101 - `_spill` opened it
        out = self._file[0]
        start = self._held_from
        hasher = start_blob_hash(size)
        deflater = start_stream(_level_for(os.pread(fd, _PROBE, 0)))
        crc, end = 0, start

        def put(piece: bytes) -> None:
            nonlocal crc, end
            crc = zlib.crc32(piece, crc)
            end += len(piece)
            with host_errors("write a pack"):
                write_all(out, piece)
            self._send(out, end)
            self._tell(end)

        try:
            put(packfile.entry_header(KIND_BLOB, size))
            for data in read_pieces(fd, size, goes_on=goes_on):
                hasher.update(data)
                if piece := deflater.compress(data):
                    put(piece)
            put(deflater.flush())
        except BaseException:
            with suppress(OSError):
                _cut_off(out, start)
            raise
        oid = Oid(hasher.digest())
        if oid in self._offsets:  # the file changed meanwhile into something known
            with host_errors("write a pack"):
                _cut_off(out, start)
            return oid
        self._offsets[oid] = start
        self._crcs.append(crc)
        self._held_from = end
        return oid

    def _spill(self) -> None:
        """Move what is held in memory on to the file."""
        with host_errors("write a pack"):
            if self._file is None:
                self._file = _open_temporary(self.store.objects_dir / "pack", _TEMPORARY_PACK)
                # the header counts objects: it comes last
                os.lseek(self._file[0], packfile.PACK_HEADER.size, os.SEEK_SET)
            fd = self._file[0]
            try:
                write_all(fd, self._held)
            except OSError:
                # A part may be there: a caller that goes on after the error must find the file as it was.
                _cut_off(fd, self._held_from)
                raise
        self._held_from += len(self._held)
        self._held = bytearray()
        self._send(fd, self._held_from)

    def _send(self, fd: int, end: int) -> None:
        if end - self._sent >= _SENT_AT_ONCE:
            begin_writing(fd, self._sent, end - self._sent)
            self._sent = end

    # --- making them visible -----------------------------------------------------------------------------

    def __len__(self) -> int:
        """Say how many objects the pack holds."""
        return len(self._offsets)

    def finish(self, *, hold: bool = False) -> Path | None:
        """Write the pack, durably, and return its path; None if it would be empty. On failure nothing is visible.

        With `hold`, git does not collect it as garbage until `release` or `discard`: for as long as no ref names what
        it holds.
        """
        if not self._offsets:
            self._give_up()
            return None
        try:
            self.store.own_commits.add(self._commits)
            with host_errors("write a pack"):
                pack_path = self._write(hold=hold)
        except BaseException:
            self.discard()
            raise
        trees, blobs = self._trees, self._blobs
        self._forget()
        self.store.packs.add(pack_path)
        # What was written now is what the next writer reads first.
        self.store.remember_trees(trees)
        self.store.remember_blobs(blobs)
        return pack_path

    def _write(self, *, hold: bool) -> Path:
        directory = self.store.objects_dir / "pack"
        header = packfile.PACK_HEADER.pack(b"PACK", 2, len(self._offsets))
        if self._file is None:
            self._file = _open_temporary(directory, _TEMPORARY_PACK)
            fd, temporary = self._file
            hasher = hashlib.sha1(header, usedforsecurity=False)
            hasher.update(self._held)
            checksum = hasher.digest()
            write_all(fd, b"".join((header, self._held, checksum)))
        else:
            self._spill()
            fd, temporary = self._file
            os.pwrite(fd, header, 0)
            checksum = _hash_start(fd, self._held_from)
            write_all(fd, checksum)
        pack_path = directory / f"pack-{checksum.hex()}.pack"
        is_new = not pack_path.with_suffix(".idx").exists()
        renamed = False
        index_fd, index_temporary = _open_temporary(directory, _TEMPORARY_INDEX)
        try:
            write_all(index_fd, build_index(list(self._offsets), list(self._offsets.values()), self._crcs, checksum))
            if hold:
                self._hold(pack_path.with_suffix(".keep"))
            faults.reach("pack.written")
            # At once: what is created between two of these waits for the journal.
            sync_files(fd, index_fd)
            faults.reach("pack.synced")
            os.rename(temporary, pack_path)
            renamed = True
            self._close_file()
            faults.reach("pack.renamed")
            os.rename(index_temporary, pack_path.with_suffix(".idx"))
        except BaseException:
            with suppress(OSError):
                os.unlink(index_temporary)
            if is_new and renamed:
                with suppress(OSError):
                    os.unlink(pack_path)
            raise
        finally:
            os.close(index_fd)
        try:
            faults.reach("pack.visible")
            fsync_dir(directory)
        except BaseException:
            if is_new:  # it is not known to be on the disk: the next attempt must not take it for stored
                with suppress(OSError):
                    os.unlink(pack_path.with_suffix(".idx"))
                    os.unlink(pack_path)
            raise
        return pack_path

    def _hold(self, keep: Path) -> None:
        if hold_pack(keep):
            self._held_by = keep

    def release(self) -> None:
        """Let git collect the pack, once refs name what it holds."""
        keep, self._held_by = self._held_by, None
        if keep is not None:
            release_pack(keep)

    def discard(self) -> None:
        """Give everything up that is not finished; nothing of it stays. What is finished is no longer held."""
        self.release()
        objects, self._objects = self._objects, None
        if objects is not None:
            release_objects(objects)
        self._give_up()

    def _give_up(self) -> None:
        if self._file is not None:
            with suppress(OSError):
                os.unlink(self._file[1])
        self._forget()

    def _close_file(self) -> None:
        if self._file is not None:
            os.close(self._file[0])
            self._file = None

    def _forget(self) -> None:
        self._close_file()
        self._offsets = {}
        self._crcs = array("I")
        self._held = bytearray()
        self._held_from = packfile.PACK_HEADER.size
        self._trees = {}
        self._blobs = {}
        self._whole = {}
        self._commits = {}

    # --- reading back ------------------------------------------------------------------------------------

    def _entry(self, offset: int, length: int) -> bytes:
        """Return bytes of the pack to be, from an offset on."""
        if offset >= self._held_from:
            start = offset - self._held_from
            return bytes(memoryview(self._held)[start : start + length])
        assert self._file is not None  # noqa: S101 - what is not held was spilled
        with host_errors("read a pack"):
            return os.pread(self._file[0], length, offset)

    def _find_new(self, oid: Oid) -> tuple[int, bytes] | None:
        kept, offset = self._blobs.get(oid, self._whole.get(oid)), self._offsets.get(oid)
        if kept is not None:
            return KIND_BLOB, kept
        if offset is None:
            return None
        kind, size, start = packfile.parse_entry_header(self._entry(offset, 32))
        if offset < self._held_from:
            assert self._file is not None  # noqa: S101 - what is not held was spilled
            try:
                with host_errors("read a pack"):
                    data = packfile.inflate_entry(self._file[0], offset, self._entry(offset, 4096), start, size)
            except packfile.BadPack as error:
                raise ObjectCorrupt(oid.hex(), str(error)) from error
        else:
            data = zlib.decompressobj().decompress(self._entry(offset + start, _deflated_at_most(size)))
        if hash_object(kind, data) != oid:
            raise ObjectCorrupt(oid.hex(), "its content is not what its id says")
        return kind, data

    def blob_size(self, oid: Oid) -> int:
        """Say how long a blob is, without reading it."""
        if oid in self._whole:
            return len(self._whole[oid])
        offset = self._offsets.get(oid)
        return self.store.blob_size(oid) if offset is None else packfile.parse_entry_header(self._entry(offset, 32))[1]

    def exists(self, oid: Oid) -> bool:
        """Tell whether an object is here or in the store."""
        return oid in self._offsets or oid in self._whole or self.store.exists(oid)

    def stream_blob(self, oid: Oid) -> Iterator[bytes]:
        """Read the content of a blob in pieces of at most 1 MiB."""
        offset = self._offsets.get(oid)
        if offset is None and oid not in self._whole:
            yield from self.store.stream_blob(oid)
            return
        if offset is not None and offset < self._held_from and self._file is not None:
            _, size, start = packfile.parse_entry_header(self._entry(offset, 32))
            if size > CHUNK:
                yield from packfile.inflate_stream(self._file[0], offset + start, size)
                return
        data = self.read_blob(oid)
        for position in range(0, len(data), CHUNK):
            yield data[position : position + CHUNK]


def _level_for(probe: bytes) -> int:
    """Choose a level for big content: none if its start shows that it is compressed already."""
    return STORED if len(deflate(probe, _LEVEL)) > len(probe) * 0.97 else _LEVEL


def _deflated_at_most(size: int) -> int:
    return size + (size >> 10) + 64


def _cut_off(fd: int, length: int) -> None:
    """Leave of a file what is before a place, and write on from there."""
    os.ftruncate(fd, length)
    os.lseek(fd, length, os.SEEK_SET)


def _hash_start(fd: int, length: int) -> bytes:
    """Hash a file from its start up to a length."""
    hasher = hashlib.sha1(usedforsecurity=False)
    position = 0
    while position < length:
        data = os.pread(fd, min(CHUNK, length - position), position)
        if not data:
            raise OSError(5, "the pack is shorter than what was written to it")
        hasher.update(data)
        position += len(data)
    return hasher.digest()


def _open_temporary(directory: Path, prefix: str) -> tuple[int, Path]:
    """Open a new file for writing and reading, under a name that git removes in the end."""
    path = directory / (prefix + os.urandom(8).hex())
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
    # A pack may hold ignored files: in a vault that is not shared, only its owner may read it.
    return open_file(path, flags, 0o400 if is_private(directory.parent.parent) else 0o444), path
