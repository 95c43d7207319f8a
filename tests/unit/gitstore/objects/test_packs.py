"""Packs that go, and what killed writers leave: every object is there at every instant."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from avfs_git.gitstore.formats.packfile import KIND_BLOB
from avfs_git.gitstore.objects.packs import remove_leftovers
from avfs_git.gitstore.objects.packwriter import PackWriter
from avfs_git.gitstore.objects.repack import repack
from avfs_git.gitstore.objects.store import ObjectStore
from avfs_git.paths import Oid


def fill(store: ObjectStore, packs: int) -> dict[Oid, bytes]:
    """Write packs of three objects, one of which they share."""
    contents: dict[Oid, bytes] = {}
    for number in range(packs):
        writer = PackWriter(store)
        for data in (b"%d a" % number, b"%d b" % number, b"shared"):
            contents[writer.add(KIND_BLOB, data)] = data
        writer.finish()
    return contents


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


@pytest.mark.needs("git")
def test_packs_that_go_while_the_directory_is_read_lose_nothing(
    store: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the listing of packs and opening them, others may join them to one that the listing does not name."""
    listdir = os.listdir
    merged: list[int] = []

    def list_late(path: Path) -> list[str]:
        names = listdir(path)
        if not merged:
            merged.append(0)
            merged[0] = repack(store, more_than=5)
        return names

    with ObjectStore(store.git_dir) as reader:
        assert not reader.exists(Oid(b"x" * 20))
        contents = fill(store, 6)
        monkeypatch.setattr(os, "listdir", list_late)

        assert reader.read(next(iter(contents)))[1] == b"0 a"

    assert merged == [6]


@pytest.mark.timeout(30)
def test_an_index_that_leads_nowhere_ends_no_search(store: ObjectStore) -> None:
    """The pack cannot be read, and says so; what the others hold is there, what nothing holds is missing."""
    contents = fill(store, 2)
    index = min((store.objects_dir / "pack").glob("*.idx"))
    index.unlink()
    index.symlink_to("gone")

    found = ObjectStore(store.git_dir)
    assert 3 <= sum(found.exists(oid) for oid in contents) < len(contents)
    assert found.packs.unreadable == {index.stem}
    assert not found.exists(Oid(bytes(20)))
