"""Packs that go: their objects stand in other packs, or killed writers have left them.

Decided here: the index of a pack goes before the pack, and a reader that misses an object looks at the directory again;
so each object is found at every instant. `repack` and `sweep` have the objects in another pack by then. Leftovers go
after a day, longer than any writer takes. Called by maintenance, `gc` and the doctor, beside readers, writers and git.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from avfs_git import faults
from avfs_git.errors import GitFailed
from avfs_git.gitstore.formats.packfile import BadPack
from avfs_git.gitstore.formats.packindex import check_checksum
from avfs_git.gitstore.objects.packset import Pack
from avfs_git.gitstore.objects.packwriter import HOLD_MARK
from avfs_git.gitstore.objects.store import ObjectStore
from avfs_git.host.files.durable import host_errors
from avfs_git.host.files.plainfile import read_plain

_PARTS = (".pack", ".rev", ".bitmap", ".mtimes", ".promisor")
"""The files of a pack beside its index."""


def find_bar(store: ObjectStore) -> str | None:
    """Tell why no pack or object of a repository may go, where that is so."""
    top = store.objects_dir
    if (top / "pack" / "multi-pack-index").exists():
        return "git keeps a list of the packs (multi-pack-index): only git may remove any"
    for place in (top, top / "pack", *top.glob("[0-9a-f][0-9a-f]")):
        if place.is_symlink():
            return f"'{place}' is a symbolic link: what is there may be another repository's"
    return None


def remove_pack(pack: Pack) -> None:
    """Remove a pack, its index first. Raises HostError."""
    with host_errors("remove a pack"):
        pack.path.with_suffix(".idx").unlink(missing_ok=True)
        faults.reach("packs.index_removed")
        for suffix in _PARTS:
            pack.path.with_suffix(suffix).unlink(missing_ok=True)


def is_left_hold(path: Path) -> bool:
    """Tell whether a file is the mark by which a writer of ours holds a pack."""
    if path.suffix != ".keep":
        return False
    try:
        return read_plain(path) == HOLD_MARK
    except OSError:
        return False


def remove_leftovers(store: ObjectStore, *, now_s: float) -> int:
    """Remove what killed writers left beside the packs a day ago, longer than any writer takes.

    Return how many files went.

    That is temporary files of ours. A pack without an index may hold the only copy of an object: git indexes it, and
    then it is a pack like any other. A pack that git cannot index stays; `doctor` names it.
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
                from avfs_git.gitstore.gitcommand import index_pack  # noqa: PLC0415 - slow to load, and most find none

                index_pack(store.git_dir, path)
            elif name.startswith(("tmp_pack_", "tmp_idx_", ".tmp-avfs-")) or is_left_hold(path):
                path.unlink()
                count += 1
    return count


def is_index_damaged(pack: Path) -> bool:
    """Tell whether the index of a pack is not what it was, by its checksum, or not a file; False without an index."""
    index = pack.with_suffix(".idx")
    try:
        with suppress(FileNotFoundError):
            if index.exists() and not index.is_file():  # a pipe would wait
                return True
            check_checksum(index)
    except BadPack:
        return True
    return False


def is_without_index(path: Path) -> bool:
    """Tell whether a file is a pack whose index is missing: its writer died, or its removal was cut short."""
    return path.name.startswith("pack-") and path.suffix == ".pack" and not path.with_suffix(".idx").exists()
