"""Merging small packs, so that their number stays small however many checkpoints are made.

Decided here: which packs are merged, and when. Called after checkpoints and by maintenance. One process at a time does it;
readers, writers and `git gc` go on meanwhile.

Entries are copied as they are, each checked against its checksum. Only packs of whole objects are taken, as all of ours are; a
delta could refer to something that is not copied. The merged pack is complete, on disk and read back before the first old one
goes; the index of an old one goes before its pack, and a reader that misses an object looks at the directory again. So at every
instant each object is found. A crash leaves both old and new.
"""

from __future__ import annotations

import errno
import os
import zlib
from contextlib import suppress
from pathlib import Path

from avfs_git import faults
from avfs_git.errors import GitFailed
from avfs_git.gitstore.formats.packfile import KIND_NAMES, BadPack, parse_entry_header
from avfs_git.gitstore.formats.packindex import read_back
from avfs_git.gitstore.holding import packs_to_oneself
from avfs_git.gitstore.objects.packset import Pack
from avfs_git.gitstore.objects.packwriter import HOLD_MARK, PackWriter
from avfs_git.gitstore.objects.store import ObjectStore
from avfs_git.host.files.durable import host_errors
from avfs_git.host.files.plainfile import read_plain

_PARTS = (".pack", ".rev", ".bitmap", ".mtimes", ".promisor")
"""The files of a pack beside its index."""
MANY_SMALL = 32
_BIG_PACK = 4 << 20
"""Bytes above which a pack is left alone: a checkpoint waits for this, and each is read whole. Maintenance joins larger ones
(`gitstore.objects.repack`)."""


def consolidate_packs(store: ObjectStore, *, more_than: int = MANY_SMALL) -> int:
    """Merge small packs if there are more than so many; return how many became one.

    Packs are merged from the smallest on, as long as each is at most as big as those before it together: so an
    object is copied only a logarithmic number of times in the life of a repository.

    Raises:
        HostError: If the disk refuses; the old packs are then all there.
    """
    if len(store.packs.packs()) <= more_than or len(list_candidates(store)) <= more_than:
        return 0
    if (store.objects_dir / "pack" / "multi-pack-index").exists():
        return 0  # git's own list of packs names them: only git may remove any
    with packs_to_oneself(store.git_dir) as is_alone, host_errors("merge packs"):
        try:
            return _merge(store, choose_packs(list_candidates(store), more_than)) if is_alone else 0
        except BadPack as error:  # the disk holds other data than was written
            raise OSError(errno.EIO, str(error)) from error


def list_candidates(store: ObjectStore, *, below: int = _BIG_PACK) -> list[tuple[int, Pack]]:
    """List the packs of up to so many bytes that may be merged, with their sizes, the smallest first."""
    found: list[tuple[int, Pack]] = []
    for pack in store.packs.packs():
        with suppress(OSError):
            size = pack.path.stat().st_size
            marked = any(pack.path.with_suffix(suffix).exists() for suffix in (".keep", ".promisor", ".mtimes", ".bitmap"))
            if size <= below and not marked:
                found.append((size, pack))
    return sorted(found, key=lambda item: (item[0], item[1].path.name))


def choose_packs(candidates: list[tuple[int, Pack]], more_than: int) -> list[Pack]:
    """Choose the packs to merge: at least half of the surplus."""
    total = 0
    chosen: list[Pack] = []
    for size, pack in candidates:
        if size > total and len(chosen) > max(more_than // 2, 1):
            break
        total += size
        chosen.append(pack)
    return chosen


def _merge(store: ObjectStore, chosen: list[Pack]) -> int:
    merged: list[Pack] = []
    with PackWriter(store) as writer:
        for pack in chosen:
            # A pack that holds deltas, is damaged or has gone stays as it is; doctor reports a damaged pack.
            with suppress(BadPack, FileNotFoundError):
                _copy(pack, writer)
                merged.append(pack)
        if len(merged) < 2:
            return 0
        faults.reach("consolidate.copied")
        result = writer.finish()
    held = set(read_back(result)) if result is not None else set()
    if not all(held.issuperset(pack.index.oids()) for pack in merged):
        raise BadPack("it does not hold all that was merged")
    for pack in merged:
        if pack.path != result:
            remove_pack(pack)
    store.packs.refresh()
    return len(merged)


def remove_pack(pack: Pack) -> None:
    """Remove a pack, its index first. Raises HostError."""
    with host_errors("remove a pack"):
        pack.path.with_suffix(".idx").unlink(missing_ok=True)
        faults.reach("packs.index_removed")
        for suffix in _PARTS:
            pack.path.with_suffix(suffix).unlink(missing_ok=True)


def _copy(pack: Pack, writer: PackWriter) -> None:
    """Copy all entries of a pack, if all of them are whole.

    Raises:
        BadPack: If one of them is a delta, or is not what its checksum says; nothing is copied then.
        FileNotFoundError: If the pack has gone.
    """
    held = pack.file()
    size = os.fstat(held.fd).st_size
    index = pack.index
    order = sorted(zip(index.offsets(), index.oids(), index.crcs(), strict=True))
    ends = [offset for offset, _, _ in order[1:]] + [size - 20]
    entries = [(offset, stop, oid, crc) for (offset, oid, crc), stop in zip(order, ends, strict=True)]
    data = memoryview(os.pread(held.fd, size, 0))
    for offset, stop, _, crc in entries:
        if zlib.crc32(data[offset:stop]) != crc:
            raise BadPack("an entry of the pack is damaged")
        if parse_entry_header(data[offset:stop])[0] not in KIND_NAMES:
            raise BadPack("the pack holds deltas")
    for offset, stop, oid, crc in entries:
        writer.add_entry(oid, data[offset:stop], crc)


def is_left_hold(path: Path) -> bool:
    """Tell whether a file is the mark by which a writer of ours holds a pack."""
    if path.suffix != ".keep":
        return False
    try:
        return read_plain(path) == HOLD_MARK
    except OSError:
        return False


def remove_leftovers(store: ObjectStore, *, now_s: float) -> int:
    """Remove what killed writers left beside the packs a day ago, longer than any writer takes; return how many files went.

    That is temporary files of ours. A pack without an index may hold the only copy of an object: git indexes it, and then it is a
    pack like any other. A pack that git cannot index stays; `doctor` names it.
    """
    directory = store.objects_dir / "pack"
    names = set(os.listdir(directory))
    count = 0
    for name in names:
        with suppress(OSError, GitFailed):
            path = directory / name
            if path.stat().st_mtime >= now_s - 24 * 3600:
                continue
            if is_without_index(path):
                from avfs_git.gitstore.gitcommand import run  # noqa: PLC0415 - slow to load, and most find none of these

                run(store.git_dir, "index-pack", operands=[os.fspath(path.absolute())])
            elif name.startswith(("tmp_pack_", "tmp_idx_", ".tmp-avfs-")) or is_left_hold(path):
                path.unlink()
                count += 1
    return count


def is_without_index(path: Path) -> bool:
    """Tell whether a file is a pack whose index is missing: its writer died, or merging packs was cut short."""
    return path.name.startswith("pack-") and path.suffix == ".pack" and not path.with_suffix(".idx").exists()
