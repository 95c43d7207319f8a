"""Merging packs: fewer files, every object there at every instant."""

from __future__ import annotations

import errno
import fcntl
import os
from pathlib import Path

import pytest

from avfs_git import faults
from avfs_git.errors import HostError
from avfs_git.gitstore.formats.packfile import KIND_BLOB
from avfs_git.gitstore.objects.packs import consolidate_packs, remove_leftovers
from avfs_git.gitstore.objects.packwriter import PackWriter
from avfs_git.gitstore.objects.store import ObjectStore
from avfs_git.paths import Oid
from tests.support.failing import FailAt


def fill(store: ObjectStore, packs: int, *, size: int = 0) -> dict[Oid, bytes]:
    """Write packs of three objects, one of which they share."""
    contents: dict[Oid, bytes] = {}
    for number in range(packs):
        writer = PackWriter(store)
        for data in (b"%d a" % number, b"%d b" % number + os.urandom(size), b"shared"):
            contents[writer.add(KIND_BLOB, data)] = data
        writer.finish()
    return contents


def packs_in(git_dir: Path) -> set[str]:
    """Name the packs that have an index."""
    return {path.stem for path in (git_dir / "objects" / "pack").glob("*.idx")}


def test_few_packs_are_left_alone(store: ObjectStore) -> None:
    """Up to the bound nothing is copied."""
    fill(store, 5)

    assert consolidate_packs(store, more_than=5) == 0
    assert len(packs_in(store.git_dir)) == 5


def test_many_packs_become_one(store: ObjectStore) -> None:
    """Above the bound the small packs become one that holds each of their objects once."""
    contents = fill(store, 6)
    with ObjectStore(store.git_dir) as other:
        before = {oid: other.read(oid) for oid in contents}  # holds the old packs open

        assert consolidate_packs(store, more_than=5) == 6
        assert len(packs_in(store.git_dir)) == 1
        assert store.packs.packs()[0].index.count == len(contents)
        for reader in (store, other):
            assert {oid: reader.read(oid) for oid in contents} == before


def test_a_big_pack_is_not_copied_again_and_again(store: ObjectStore) -> None:
    """Each pack merged is at most as big as those before it together."""
    fill(store, 1, size=100_000)
    big = packs_in(store.git_dir)
    fill(store, 6)

    assert consolidate_packs(store, more_than=5) == 6
    assert len(packs_in(store.git_dir)) == 2
    assert big < packs_in(store.git_dir)


def test_packs_that_git_marked_are_left_alone(store: ObjectStore) -> None:
    """A pack that is to be kept stays, and nothing is merged where git keeps a list of all packs."""
    fill(store, 6)
    kept = min(packs_in(store.git_dir))
    (store.objects_dir / "pack" / f"{kept}.keep").touch()

    assert consolidate_packs(store, more_than=4) == 5
    assert kept in packs_in(store.git_dir)
    fill(store, 6)
    (store.objects_dir / "pack" / "multi-pack-index").touch()
    assert consolidate_packs(store, more_than=4) == 0


def test_a_damaged_pack_is_left_alone(store: ObjectStore) -> None:
    """Damage is neither copied nor removed: what can still be read stays where it is."""
    contents = fill(store, 6)
    damaged = next((store.objects_dir / "pack").glob("*.pack"))
    data = bytearray(damaged.read_bytes())
    data[-30] ^= 1
    damaged.chmod(0o644)
    damaged.write_bytes(data)

    assert consolidate_packs(store, more_than=4) == 5
    assert damaged.stem in packs_in(store.git_dir)
    with ObjectStore(store.git_dir) as anew:
        assert all(anew.exists(oid) for oid in contents)


def test_one_process_does_it(store: ObjectStore) -> None:
    """While another process merges, there is nothing to do."""
    fill(store, 6)
    (store.git_dir / "avfs").mkdir()
    with (store.git_dir / "avfs" / "consolidate.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)

        assert consolidate_packs(store, more_than=5) == 0
    assert consolidate_packs(store, more_than=5) == 6


@pytest.mark.parametrize("number", range(1, 9))
def test_every_object_is_there_whatever_fails(store: ObjectStore, number: int) -> None:
    """A failure at any step leaves every object readable, and the next run finishes the work."""
    contents = fill(store, 6)
    faults.arm(FailAt(number, lambda: OSError(errno.EIO, "Input/output error")))
    with pytest.raises(HostError):
        consolidate_packs(store, more_than=5)
    faults.arm(None)

    for reader in (store, ObjectStore(store.git_dir)):
        for oid, data in contents.items():
            assert reader.read_blob(oid) == data
    consolidate_packs(store, more_than=1)
    assert len(packs_in(store.git_dir)) == 1
    assert {ObjectStore(store.git_dir).read_blob(oid) for oid in contents} == set(contents.values())


def test_leftovers_of_killed_writers_go_after_a_day(store: ObjectStore) -> None:
    """Temporary files are removed once no writer can still be at them, and a pack that cannot be read stays."""
    contents = fill(store, 1)
    directory = store.objects_dir / "pack"
    for name in ("tmp_pack_1", "tmp_idx_1", "pack-0123.pack", "pack-4567.keep"):
        (directory / name).write_bytes(b"")
    now_s = (directory / "tmp_pack_1").stat().st_mtime

    assert remove_leftovers(store, now_s=now_s + 3600) == 0
    assert remove_leftovers(store, now_s=now_s + 25 * 3600) == 2
    assert (directory / "pack-4567.keep").exists()
    assert (directory / "pack-0123.pack").exists()
    assert all(ObjectStore(store.git_dir).exists(oid) for oid in contents)


@pytest.mark.needs("git")
def test_a_pack_that_has_lost_its_index_gets_one(store: ObjectStore) -> None:
    """It may be the only copy of what it holds."""
    contents = fill(store, 2)
    directory = store.objects_dir / "pack"
    for path in directory.glob("*.idx"):
        path.unlink()
    now_s = min(path.stat().st_mtime for path in directory.glob("*.pack"))
    assert not any(ObjectStore(store.git_dir).exists(oid) for oid in contents)

    remove_leftovers(store, now_s=now_s + 3600)
    assert not any(ObjectStore(store.git_dir).exists(oid) for oid in contents)
    assert remove_leftovers(store, now_s=now_s + 25 * 3600) == 0
    assert {ObjectStore(store.git_dir).read_blob(oid) for oid in contents} == set(contents.values())


def test_packs_that_go_while_the_directory_is_read_lose_nothing(store: ObjectStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between the listing of packs and opening them, others may merge them into one that the listing does not name."""
    listdir = os.listdir
    merged: list[int] = []

    def list_late(path: Path) -> list[str]:
        names = listdir(path)
        if not merged:
            merged.append(0)
            merged[0] = consolidate_packs(store, more_than=5)
        return names

    with ObjectStore(store.git_dir) as reader:
        assert not reader.exists(Oid(b"x" * 20))
        contents = fill(store, 6)
        monkeypatch.setattr(os, "listdir", list_late)

        assert reader.read(next(iter(contents)))[1] == b"0 a"

    assert merged == [6]
