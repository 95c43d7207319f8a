"""Reading objects: from packs and loose files, verified, cached, and beside a git that moves them."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import zlib
from pathlib import Path

import pytest

from avfs_git.errors import HostileTree, ObjectCorrupt, ObjectMissing
from avfs_git.gitstore.formats.packfile import (
    CHUNK,
    KIND_BLOB,
    KIND_COMMIT,
    KIND_NAMES,
    KIND_TAG,
    KIND_TREE,
    entry_header,
)
from avfs_git.gitstore.formats.trees import EMPTY_TREE, MODE_FILE, serialize_tree
from avfs_git.gitstore.objects import packset
from avfs_git.gitstore.objects.packwriter import PackWriter
from avfs_git.gitstore.objects.store import SMALL_BLOB, ObjectStore, hash_object
from avfs_git.gitstore.source import ObjectSource
from avfs_git.paths import Oid
from tests.support.objects import MemorySource

NOWHERE = Oid(b"n" * 20)
BIG = b"0123456789abcdef" * (3 * CHUNK // 16) + b"tail"


def put_loose(git_dir: Path, kind: int, data: bytes, *, oid: Oid | None = None, header: bytes | None = None) -> Oid:
    """Write a loose object, under another id or with another header where those are given."""
    oid = oid or hash_object(kind, data)
    path = git_dir / "objects" / oid.hex()[:2] / oid.hex()[2:]
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(zlib.compress((header or b"%b %d\0" % (KIND_NAMES[kind], len(data))) + data, 1))
    return oid


def put_packed(store: ObjectStore, kind: int, data: bytes) -> Oid:
    """Write an object into a pack of its own."""
    writer = PackWriter(store)
    oid = writer.add(kind, data)
    writer.finish()
    return oid


def put_somewhere(store: ObjectStore, where: str, kind: int, data: bytes) -> Oid:
    """Write an object loose or packed."""
    return put_packed(store, kind, data) if where == "packed" else put_loose(store.git_dir, kind, data)


@pytest.fixture(params=["packed", "loose"])
def where(request: pytest.FixtureRequest) -> str:
    """Both places where git keeps objects."""
    return str(request.param)


def test_the_store_is_a_source(store: ObjectStore) -> None:
    """An `ObjectStore` is what everything that reads objects asks for."""
    source: ObjectSource = store

    assert not source.exists(NOWHERE)


def test_objects_are_read_from_both_places(store: ObjectStore, where: str) -> None:
    """Kind, content, size and presence are the same wherever an object is."""
    for kind, data in ((KIND_BLOB, b""), (KIND_BLOB, b"content\n"), (KIND_TAG, b"tag\n"), (KIND_BLOB, BIG)):
        oid = put_somewhere(store, where, kind, data)

        assert store.read(oid) == (kind, data)
        assert store.header(oid) == (kind, len(data))
        assert store.exists(oid)
    assert store.read_blob(oid) == BIG
    assert store.blob_size(oid) == len(BIG)


def test_big_blobs_come_in_pieces(store: ObjectStore, where: str) -> None:
    """A stream gives all of the content, never more than 1 MiB at once."""
    for data in (b"", b"x", b"y" * CHUNK, BIG, os.urandom(2 * CHUNK)):
        pieces = list(store.stream_blob(put_somewhere(store, where, KIND_BLOB, data)))

        assert b"".join(pieces) == data
        assert all(0 < len(piece) <= CHUNK for piece in pieces)


def test_what_is_missing_is_reported_by_its_id(store: ObjectStore) -> None:
    """Every way to ask for an object that is not there gives the same error."""
    for ask in (store.read, store.read_blob, store.read_tree, store.read_commit, store.blob_size, store.header):
        with pytest.raises(ObjectMissing) as raised:
            ask(NOWHERE)
        assert raised.value.details == {"oid": NOWHERE.hex()}
    with pytest.raises(ObjectMissing):
        list(store.stream_blob(NOWHERE))


def test_light_reading_does_not_import_pygit2(store: ObjectStore, where: str) -> None:
    """Objects of ours, and missing ones, are read without the import that takes longer than a command."""
    already = sys.modules.pop("pygit2", None)
    try:
        store.read(put_somewhere(store, where, KIND_BLOB, b"light"))
        with pytest.raises(ObjectMissing):
            store.read(NOWHERE)

        assert "pygit2" not in sys.modules
    finally:
        if already is not None:
            sys.modules["pygit2"] = already


def test_the_empty_tree_needs_no_object(store: ObjectStore) -> None:
    """The empty tree can be read in a repository that does not hold it, as git has it."""
    assert store.read_tree(EMPTY_TREE) == {}
    assert not store.exists(EMPTY_TREE)


def test_trees_and_commits_are_parsed_and_kept(store: ObjectStore, where: str) -> None:
    """A tree that was read before is the same value again."""
    memory = MemorySource()
    blob = put_somewhere(store, where, KIND_BLOB, b"1")
    tree = put_somewhere(store, where, KIND_TREE, serialize_tree({b"a": (MODE_FILE, blob)}))
    commit = put_somewhere(store, where, KIND_COMMIT, memory.objects[memory.add_commit(tree)][1])

    assert store.read_tree(tree) == {b"a": (MODE_FILE, blob)}
    assert store.read_tree(tree) is store.read_tree(tree)
    assert store.read_commit(commit).tree == tree
    assert store.read_commit(commit) is store.read_commit(commit)


def test_an_object_of_another_kind_is_corrupt(store: ObjectStore, where: str) -> None:
    """What is named as one kind and is another is reported, never taken for it."""
    blob = put_somewhere(store, where, KIND_BLOB, b"no tree")
    tree = put_somewhere(store, where, KIND_TREE, b"")

    for ask, oid in (
        (store.read_tree, blob),
        (store.read_commit, tree),
        (store.read_blob, tree),
        (store.blob_size, tree),
    ):
        with pytest.raises(ObjectCorrupt):
            ask(oid)


def test_a_hostile_tree_is_never_returned(store: ObjectStore, where: str) -> None:
    """A tree with an entry that leads out of its directory is an error at every reading."""
    oid = put_somewhere(store, where, KIND_TREE, b"100644 ../x\0" + bytes(range(20)))

    for _ in range(2):
        with pytest.raises(HostileTree):
            store.read_tree(oid)


def test_small_blobs_are_kept_and_big_ones_are_not(store: ObjectStore) -> None:
    """Memory holds what is read often, within a bound."""
    small = put_packed(store, KIND_BLOB, b"s" * SMALL_BLOB)
    big = put_packed(store, KIND_BLOB, b"b" * (SMALL_BLOB + 1))

    assert store.read_blob(small) is store.read_blob(small)
    assert store.read_blob(big) is not store.read_blob(big)


def test_the_cache_forgets(store: ObjectStore) -> None:
    """More content than the cache may hold leaves it within its bound, and everything readable."""
    writer = PackWriter(store)
    oids = [writer.add(KIND_BLOB, b"%d" % number + bytes(60_000)) for number in range(1_200)]
    writer.finish()
    for oid in oids:
        store.read_blob(oid)

    held = {**store._blobs.young, **store._blobs._old}
    assert sum(map(len, held.values())) <= 32 << 20
    assert store.read_blob(oids[0]).startswith(b"0")


# --- damage --------------------------------------------------------------------------------------------------


def pack_of(git_dir: Path) -> Path:
    """Find the only pack."""
    return next((git_dir / "objects" / "pack").glob("*.pack"))


def damage(path: Path, data: bytes) -> None:
    """Replace a file's content, whatever its mode."""
    path.chmod(0o644)
    path.write_bytes(data)


def test_a_flipped_bit_in_a_pack_is_reported(git_dir: Path) -> None:
    """No single damaged byte of a pack lets content through that is not what its id says."""
    with ObjectStore(git_dir) as writing:
        data = bytes(range(256)) * 3
        oid = put_packed(writing, KIND_BLOB, data)
    path = pack_of(git_dir)
    whole = path.read_bytes()
    for position in range(12, len(whole) - 20):
        damage(path, whole[:position] + bytes([whole[position] ^ 4]) + whole[position + 1 :])
        with ObjectStore(git_dir) as store:
            try:
                assert store.read(oid) == (KIND_BLOB, data)  # some bits of a deflate stream say nothing
            except ObjectCorrupt:
                continue


def test_a_pack_that_is_cut_short_is_reported(git_dir: Path) -> None:
    """A truncated pack is an error about the object, also in the middle of a stream."""
    with ObjectStore(git_dir) as writing:
        oid = put_packed(writing, KIND_BLOB, os.urandom(3 * CHUNK))
    path = pack_of(git_dir)
    damage(path, path.read_bytes()[: 2 * CHUNK])
    with ObjectStore(git_dir) as store:
        with pytest.raises(ObjectCorrupt):
            store.read(oid)
        with pytest.raises(ObjectCorrupt):
            list(store.stream_blob(oid))


@pytest.mark.parametrize("how", ["flipped", "cut short", "header"])
@pytest.mark.parametrize("size", [3_000, 5 * CHUNK])
@pytest.mark.parametrize("other", ["pack", "loose", "large pack"])
def test_what_one_pack_holds_damaged_is_read_from_another_place(
    git_dir: Path, how: str, size: int, other: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whole, in pieces, and its size: an object is lost only when its last copy is."""
    monkeypatch.setattr(packset, "_SMALL_PACK", 0 if other == "large pack" else 250)
    data = os.urandom(size)
    with ObjectStore(git_dir) as writing:
        oid = put_packed(writing, KIND_BLOB, data)
    path = pack_of(git_dir)
    whole = path.read_bytes()
    if other == "loose":
        put_loose(git_dir, KIND_BLOB, data)
    else:
        copy = path.with_name(f"pack-{'0' * 40}.pack")
        copy.write_bytes(whole)
        copy.with_suffix(".idx").write_bytes(path.with_suffix(".idx").read_bytes())
    at = 12 if how == "header" else len(whole) * 2 // 3
    for damaged in {path, pack_of(git_dir)} if other == "loose" else {path}:
        damage(damaged, whole[:at] if how == "cut short" else whole[:at] + bytes([whole[at] ^ 0x70]) + whole[at + 1 :])
    with ObjectStore(git_dir) as store:
        assert b"".join(store.stream_blob(oid)) == data
        assert store.read(oid) == (KIND_BLOB, data)
        assert store.blob_size(oid) == size


@pytest.mark.needs("git")
def test_a_delta_is_read_from_another_pack(git_dir: Path) -> None:
    """One that libgit2 reads, too."""
    with ObjectStore(git_dir) as writing:
        base = os.urandom(20_000)
        oids = [put_packed(writing, KIND_BLOB, base + b"%d" % number) for number in range(9)]
    names = b"".join(oid.hex().encode() + b"\n" for oid in oids)
    packs = git_dir / "objects" / "pack"
    for old in list(packs.iterdir()):
        old.rename(git_dir / old.name)
    subprocess.run(["git", "init", "-q", "--bare", git_dir / "other.git"], check=True)
    for old in git_dir.glob("pack-*"):
        old.rename(git_dir / "other.git" / "objects" / "pack" / old.name)
    prefix = packs / "pack"
    subprocess.run(
        ["git", "-C", git_dir / "other.git", "pack-objects", "-q", "--window=20", prefix],
        input=names,
        check=True,
        capture_output=True,
    )
    path = pack_of(git_dir)
    whole = path.read_bytes()
    assert len(whole) < 60_000
    copy = path.with_name(f"pack-{'f' * 40}.pack")
    copy.write_bytes(whole)
    copy.with_suffix(".idx").write_bytes(path.with_suffix(".idx").read_bytes())
    damage(path, whole[:200] + bytes(len(whole) - 200))
    with ObjectStore(git_dir) as store:
        for number, oid in enumerate(oids):
            assert store.read(oid) == (KIND_BLOB, base + b"%d" % number)


def test_a_long_blob_that_is_cut_short_is_reported(git_dir: Path) -> None:
    """What came before the damage is the blob's, and no more than that is given."""
    data = os.urandom(9 * CHUNK)
    with ObjectStore(git_dir) as store:
        oid = put_packed(store, KIND_BLOB, data)
    path = pack_of(git_dir)
    damage(path, path.read_bytes()[: 3 * CHUNK])
    with ObjectStore(git_dir) as store:
        got: list[bytes] = []
        with pytest.raises(ObjectCorrupt):
            got.extend(store.stream_blob(oid))
        assert got
        assert b"".join(got) == data[: sum(map(len, got))]


def test_the_last_piece_of_damaged_content_is_held_back(git_dir: Path) -> None:
    """A stream whose content is not what its id says never comes to its end."""
    oid = hash_object(KIND_BLOB, BIG)
    put_loose(git_dir, KIND_BLOB, BIG[:-1] + b"!", oid=oid)
    with ObjectStore(git_dir) as store:
        got = b""
        stream = store.stream_blob(oid)
        try:
            while True:
                got += next(stream)
        except ObjectCorrupt:
            ended = True

    assert ended
    assert len(got) < len(BIG)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"garbage",
        zlib.compress(b"no header"),
        zlib.compress(b"blob 5\0four"),
        zlib.compress(b"blob 3\0four"),
        zlib.compress(b"blob x\0four"),
        zlib.compress(b"blob -4\0four"),
        zlib.compress(b"thing 4\0four"),
        zlib.compress(b"blob 4 \0four"),
        zlib.compress(b"blob 4\0four")[:-7],
        zlib.compress(b"blob 4\0fuor"),
    ],
)
def test_a_damaged_loose_object_is_reported(store: ObjectStore, content: bytes) -> None:
    """Empty, cut, lying or wrong: a loose object that is not what its id says is corrupt."""
    oid = hash_object(KIND_BLOB, b"four")
    path = store.git_dir / "objects" / oid.hex()[:2] / oid.hex()[2:]
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(content)

    with pytest.raises(ObjectCorrupt):
        store.read(oid)


def test_a_bomb_is_not_unpacked(store: ObjectStore) -> None:
    """Content that goes on after the size that its header claims is not inflated any further."""
    oid = put_loose(store.git_dir, KIND_BLOB, bytes(100 << 20), oid=NOWHERE, header=b"blob 10\0")

    with pytest.raises(ObjectCorrupt):
        store.read(oid)


@pytest.mark.parametrize("kind", [KIND_TREE, KIND_COMMIT])
def test_a_tree_or_commit_of_absurd_size_is_not_read(store: ObjectStore, kind: int) -> None:
    """Structures have a bound, whatever their header claims."""
    oid = put_loose(store.git_dir, kind, b"x", oid=NOWHERE, header=b"%b 999999999999\0" % KIND_NAMES[kind])

    with pytest.raises(ObjectCorrupt):
        (store.read_tree if kind == KIND_TREE else store.read_commit)(oid)


@pytest.mark.parametrize("keep", [0, 8, 500, 1099])
def test_a_damaged_index_hides_its_objects_and_nothing_else(git_dir: Path, keep: int) -> None:
    """An index that is cut short is not trusted; other objects stay readable."""
    with ObjectStore(git_dir) as writing:
        lost = put_packed(writing, KIND_BLOB, b"lost")
        index = pack_of(git_dir).with_suffix(".idx")
        kept = put_packed(writing, KIND_BLOB, b"kept")
    damage(index, index.read_bytes()[:keep])
    with ObjectStore(git_dir) as store:
        assert store.read_blob(kept) == b"kept"
        with pytest.raises(ObjectMissing):
            store.read(lost)


# --- others at work --------------------------------------------------------------------------------------------


def test_objects_of_other_writers_are_found(git_dir: Path, store: ObjectStore) -> None:
    """What another process wrote since the store was opened is there at the first asking."""
    assert not store.exists(hash_object(KIND_BLOB, b"later"))
    with ObjectStore(git_dir) as other:
        oid = put_packed(other, KIND_BLOB, b"later")

    assert store.read_blob(oid) == b"later"
    assert store.exists(put_loose(git_dir, KIND_BLOB, b"loose later"))


def test_a_pack_that_went_away_is_no_loss(git_dir: Path) -> None:
    """An object is found in its new pack when git has moved it and removed the old one."""
    with ObjectStore(git_dir) as other:
        oid = put_packed(other, KIND_BLOB, b"moves")
    with ObjectStore(git_dir) as store, ObjectStore(git_dir) as other:
        assert store.packs.find(oid) is not None  # known, not opened
        old = pack_of(git_dir)
        writer = PackWriter(other)
        writer.add(KIND_BLOB, b"moves")
        writer.add(KIND_BLOB, b"another")
        writer.finish()
        old.with_suffix(".idx").unlink()
        old.unlink()

        assert store.header(oid) == (KIND_BLOB, 5)
        assert store.read_blob(oid) == b"moves"


def test_a_listing_that_goes_on_while_packs_are_joined(git_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The listing can lack the new pack, which came behind it, and the old one, which went ahead of it.

    The object is still found.
    """
    with ObjectStore(git_dir) as other:
        oid = put_packed(other, KIND_BLOB, b"moves")
    with ObjectStore(git_dir) as store, ObjectStore(git_dir) as other:
        assert store.packs.find(oid) is not None  # known, not opened
        old = pack_of(git_dir)
        writer = PackWriter(other)
        writer.add(KIND_BLOB, b"moves")
        writer.add(KIND_BLOB, b"another")
        writer.finish()
        old.with_suffix(".idx").unlink()
        old.unlink()
        listings = []
        list_dir = os.listdir

        def list_torn(path: Path) -> list[str]:
            listings.append(path)
            return [] if len(listings) == 1 else list_dir(path)

        monkeypatch.setattr(os, "listdir", list_torn)

        assert store.read(oid) == (KIND_BLOB, b"moves")
        assert len(listings) == 2


def test_a_pack_that_went_away_for_good_is_reported(git_dir: Path) -> None:
    """An object whose only pack is gone is missing."""
    with ObjectStore(git_dir) as other:
        oid = put_packed(other, KIND_BLOB, b"goes")
    with ObjectStore(git_dir) as store:
        assert store.packs.find(oid) is not None
        pack_of(git_dir).unlink()

        with pytest.raises(ObjectMissing):
            store.read(oid)
        with pytest.raises(ObjectMissing):
            list(store.stream_blob(oid))


def test_a_stream_outlives_its_pack(git_dir: Path, store: ObjectStore) -> None:
    """A reader that has begun reads to the end, also when the pack is removed meanwhile."""
    oid = put_packed(store, KIND_BLOB, BIG)
    stream = store.stream_blob(oid)
    first = next(stream)
    path = pack_of(git_dir)
    path.with_suffix(".idx").unlink()
    path.unlink()
    store.packs.refresh()

    assert first + b"".join(stream) == BIG


def test_many_threads_read_while_packs_come(git_dir: Path) -> None:
    """Threads that share a store read every object right while another adds packs."""
    failures: list[BaseException] = []
    oids: list[tuple[Oid, bytes]] = []
    done = threading.Event()
    with ObjectStore(git_dir) as store:

        def read() -> None:
            try:
                while not done.is_set():
                    for oid, data in oids[:]:
                        assert store.read(oid)[1] == data
            except BaseException as error:  # noqa: BLE001 - carried to the test's own thread
                failures.append(error)

        threads = [threading.Thread(target=read) for _ in range(4)]
        for thread in threads:
            thread.start()
        for number in range(60):
            data = b"%d" % number * 50
            oids.append((put_packed(store, KIND_BLOB, data), data))
        done.set()
        for thread in threads:
            thread.join()

    assert failures == []


def test_objects_are_found_by_the_start_of_their_id(store: ObjectStore) -> None:
    """Four digits or more find every object that starts so, packed and loose; fewer find none."""
    packed = put_packed(store, KIND_BLOB, b"1")
    loose = put_loose(store.git_dir, KIND_BLOB, b"2")

    assert store.find_by_prefix(packed.hex()[:4]) == [packed]
    assert store.find_by_prefix(loose.hex()) == [loose]
    assert store.find_by_prefix(loose.hex()[:4] + "zz") == []
    assert store.find_by_prefix(packed.hex()[:3]) == []
    assert store.find_by_prefix("0" * 41) == []


def test_freshening_renews_the_time(store: ObjectStore, where: str) -> None:
    """An object that is to be referred to again looks new to `git prune`; a missing one says so."""
    oid = put_somewhere(store, where, KIND_BLOB, b"old")
    files = [path for path in (store.git_dir / "objects").rglob("*") if path.is_file() and path.suffix != ".idx"]
    for path in files:
        os.utime(path, (1, 1))

    assert store.freshen(oid)
    assert all(path.stat().st_mtime > 1 for path in files)
    assert not store.freshen(NOWHERE)


def test_entry_headers_hold_any_size() -> None:
    """The header of an entry grows with the size, 4 bits and then 7 at a time."""
    assert entry_header(KIND_BLOB, 15) == b"\x3f"
    assert entry_header(KIND_BLOB, 16) == b"\xb0\x01"
    assert len(entry_header(KIND_BLOB, 1 << 40)) == 7


@pytest.mark.slow
def test_what_is_kept_of_commits_and_trees_is_bounded_in_bytes(store: ObjectStore) -> None:
    """A thousand commits with long messages, and trees with long names, are forgotten by size and not by number."""
    memory = MemorySource()
    writer = PackWriter(store)
    tree = writer.add(KIND_TREE, b"")
    commits = [
        writer.add(KIND_COMMIT, memory.objects[memory.add_commit(tree, message=f"{number}" + "m" * 100_000)][1])
        for number in range(300)
    ]
    blob = writer.add(KIND_BLOB, b"")
    names = [
        {b"%d-%03d" % (number, entry) + b"n" * 240: (MODE_FILE, blob) for entry in range(200)} for number in range(500)
    ]
    trees = [writer.add(KIND_TREE, serialize_tree(entries)) for entries in names]
    writer.finish()
    for oid in commits:
        store.read_commit(oid)
    for oid in trees:
        store.read_tree(oid)
    held = {**store._commits.young, **store._commits._old}
    kept = {**store._trees.young, **store._trees._old}

    assert 4 * sum(len(commit.message) for commit in held.values()) <= 8 << 20
    assert 500 * sum(map(len, kept.values())) <= 40 << 20


@pytest.mark.parametrize("fewer", [False, True])
def test_trees_that_an_operation_reads_again_are_in_memory(store: ObjectStore, fewer: bool) -> None:
    """Some 60,000 entries are read from disk once; a process that keeps fewer trees reads them again."""
    if fewer:
        store.keep_fewer_trees()
    writer = PackWriter(store)
    blob = writer.add(KIND_BLOB, b"1")
    trees = [
        writer.add(
            KIND_TREE, serialize_tree({b"file %d %d" % (turn, number): (MODE_FILE, blob) for number in range(2000)})
        )
        for turn in range(30)
    ]
    writer.finish()
    first = [store.read_tree(oid) for oid in trees]
    again = [store.read_tree(oid) for oid in trees]

    assert again == first
    assert all(one is other for one, other in zip(first, again, strict=True)) is not fewer
