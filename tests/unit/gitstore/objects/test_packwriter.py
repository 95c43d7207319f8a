"""Writing packs: whole or not at all, in bounded memory, and readable before they are finished."""

from __future__ import annotations

import errno
import hashlib
import os
import random
import struct
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from avfs_git import faults
from avfs_git.errors import HostError, ObjectMissing
from avfs_git.gitstore.formats.packfile import CHUNK, KIND_BLOB, KIND_COMMIT, KIND_TREE, BadPack
from avfs_git.gitstore.formats.packindex import PackIndex, build_index
from avfs_git.gitstore.formats.trees import MODE_FILE, serialize_tree
from avfs_git.gitstore.objects import packwriter
from avfs_git.gitstore.objects.blobfile import SizeChanged, hash_file
from avfs_git.gitstore.objects.drywriter import DryWriter
from avfs_git.gitstore.objects.packwriter import PackWriter
from avfs_git.gitstore.objects.store import ObjectStore, hash_object
from avfs_git.gitstore.source import ObjectSink
from avfs_git.host.files.durable import write_all
from avfs_git.paths import Oid
from tests.support.failing import FailAt
from tests.support.objects import MemorySource

ROOT = Path(__file__).parents[4]


def files_in(git_dir: Path) -> list[str]:
    """List the directory of packs by kind of file."""
    return sorted(path.suffix or path.name[:8] for path in (git_dir / "objects" / "pack").iterdir())


@pytest.fixture(params=[False, True], ids=["held", "spilled"])
def writer(request: pytest.FixtureRequest, store: ObjectStore, monkeypatch: pytest.MonkeyPatch) -> PackWriter:
    """A writer that keeps the pack in memory, and one that goes on to a file at every turn."""
    if request.param:
        monkeypatch.setattr(packwriter, "_HELD_BYTES", 100)
    return PackWriter(store)


def test_a_writer_is_a_sink(writer: PackWriter, store: ObjectStore) -> None:
    """Both writers are what makers of objects ask for."""
    sinks: list[ObjectSink] = [writer, DryWriter(store)]

    assert [sink.exists(Oid(bytes(20))) for sink in sinks] == [False, False]


def test_objects_are_read_back_before_and_after(writer: PackWriter, store: ObjectStore) -> None:
    """An object reads the same from the writer, from the store once finished, and from a store opened anew."""
    memory = MemorySource()
    contents = [b"", b"x", b"text\n" * 1000, os.urandom(70_000), bytes(300_000)]
    blobs = [writer.add(KIND_BLOB, data) for data in contents]
    tree = writer.add(KIND_TREE, serialize_tree({b"%d" % n: (MODE_FILE, oid) for n, oid in enumerate(blobs)}))
    commit = writer.add(KIND_COMMIT, memory.objects[memory.add_commit(tree)][1])

    assert len(writer) == len(blobs) + 2
    with pytest.raises(ObjectMissing):
        store.read(tree)
    for source in (writer, store, ObjectStore(store.git_dir)):
        if source is store:
            assert writer.finish() is not None
        for oid, data in zip(blobs, contents, strict=True):
            assert source.read(oid) == (KIND_BLOB, data)
            assert source.read_blob(oid) == data
            assert source.blob_size(oid) == len(data)
            assert b"".join(source.stream_blob(oid)) == data
            assert source.exists(oid)
        assert set(source.read_tree(tree)) == {b"%d" % n for n in range(len(blobs))}
        assert source.read_commit(commit).tree == tree
    for source in (writer,):
        assert source.read_blob(blobs[1]) == b"x"  # a finished writer reads from the store


@pytest.mark.slow
def test_blobs_that_are_deflated_later(writer: PackWriter, store: ObjectStore, file: int) -> None:
    """They are read back at once, and are in the pack as any other.

    Beyond the room for them, they are deflated at once.
    """
    contents = [b"", b"x", os.urandom(70_000), bytes(5 << 20), os.urandom(63 << 20)]
    with writer.deflating_later():
        blobs = [writer.add(KIND_BLOB, data) for data in contents[:-2]]
        for data in contents[-2:]:
            os.ftruncate(file, 0)
            os.pwrite(file, data, 0)
            blobs.append(writer.add_file(file, len(data)))
        assert writer.add(KIND_BLOB, b"x") == blobs[1]
        assert len(writer) == 2
        for oid, data in zip(blobs, contents, strict=True):
            assert (writer.read_blob(oid), writer.blob_size(oid), writer.exists(oid)) == (data, len(data), True)
            assert b"".join(writer.stream_blob(oid)) == data
    assert len(writer) == len(contents)
    writer.finish()

    assert [store.read(oid) for oid in blobs] == [(KIND_BLOB, data) for data in contents]


def test_blobs_that_were_to_be_deflated_later_are_gone_after_an_error(writer: PackWriter) -> None:
    """A writer that is used on does not take them for stored."""
    with suppress(RuntimeError), writer.deflating_later():
        blob = writer.add(KIND_BLOB, b"x")
        raise RuntimeError
    assert not writer.exists(blob)
    assert writer.add(KIND_BLOB, b"x") == blob
    assert len(writer) == 1


def test_one_pack_and_one_index_come_out(writer: PackWriter, git_dir: Path) -> None:
    """A finished pack is two files, named after its checksum, which nobody may write to."""
    for data in (b"a", b"b"):
        writer.add(KIND_BLOB, data)
    path = writer.finish()

    assert files_in(git_dir) == [".idx", ".pack"]
    assert path is not None
    data = path.read_bytes()
    assert data[:12] == b"PACK" + struct.pack(">II", 2, 2)
    assert data[-20:] == hashlib.sha1(data[:-20]).digest()
    assert path.name == f"pack-{data[-20:].hex()}.pack"
    assert path.stat().st_mode & 0o222 == 0


def test_nothing_added_is_no_pack(writer: PackWriter, git_dir: Path) -> None:
    """An empty pack is not written."""
    assert writer.finish() is None
    assert files_in(git_dir) == []


def test_an_object_is_stored_once(writer: PackWriter) -> None:
    """The same content twice is one entry."""
    assert writer.add(KIND_BLOB, b"same") == writer.add(KIND_BLOB, b"same")
    assert len(writer) == 1


def test_big_blobs_that_are_there_are_not_stored_again(store: ObjectStore, tmp_path: Path) -> None:
    """A big blob costs no space a second time, neither from memory nor from a file, and its pack looks new to git."""
    path = tmp_path / "big"
    path.write_bytes(os.urandom(5 << 20))
    first = PackWriter(store)
    with path.open("rb") as file:
        oid = first.add_file(file.fileno(), 5 << 20)
        pack = first.finish()
        assert pack is not None
        os.utime(pack, (1, 1))
        second = PackWriter(store)

        assert second.add_file(file.fileno(), 5 << 20) == oid
        assert second.add(KIND_BLOB, path.read_bytes()) == oid
    assert second.finish() is None
    assert pack.stat().st_mtime > 1


def test_discarding_leaves_nothing(writer: PackWriter, git_dir: Path) -> None:
    """A writer that is given up, or left without finishing, leaves no file."""
    writer.add(KIND_BLOB, os.urandom(1000))
    writer.discard()
    with PackWriter(writer.store) as other:
        other.add(KIND_BLOB, os.urandom(1000))

    assert files_in(git_dir) == []


# --- files ---------------------------------------------------------------------------------------------------


@pytest.fixture
def file(tmp_path: Path) -> Iterator[int]:
    """A file to hand over, open for reading and writing."""
    fd = os.open(tmp_path / "file", os.O_RDWR | os.O_CREAT)
    yield fd
    os.close(fd)


@pytest.mark.parametrize("size", [0, 1, 1000, CHUNK, (4 << 20) + 1, 9 << 20])
@pytest.mark.parametrize("random_bytes", [False, True])
def test_files_of_any_size_are_taken(writer: PackWriter, file: int, size: int, random_bytes: bool) -> None:
    """Small and big, compressible or not, a file becomes a blob with the content it had."""
    data = (
        random.Random(size).randbytes(size) if random_bytes else b"line of text\n" * (size // 13) + b"x" * (size % 13)
    )
    os.write(file, data)
    before = writer.add(KIND_BLOB, b"before")
    oid = writer.add_file(file, size)
    after = writer.add(KIND_BLOB, b"after")

    assert oid == hash_object(KIND_BLOB, data) == hash_file(file, size)
    assert b"".join(writer.stream_blob(oid)) == data
    assert writer.finish() is not None
    assert b"".join(writer.store.stream_blob(oid)) == data
    assert [writer.store.read_blob(oid) for oid in (before, after)] == [b"before", b"after"]


@pytest.mark.parametrize("size", [10, 6 << 20])
@pytest.mark.parametrize("change", [-1, 1, CHUNK])
def test_a_file_of_another_size_is_not_taken(writer: PackWriter, file: int, size: int, change: int) -> None:
    """A file that shrank or grew is refused, and the pack goes on as if it had not been offered."""
    os.ftruncate(file, max(size + change, 0))
    writer.add(KIND_BLOB, b"before")
    with pytest.raises(SizeChanged):
        writer.add_file(file, size)
    with pytest.raises(SizeChanged):
        DryWriter(writer.store).add_file(file, size)
    after = writer.add(KIND_BLOB, b"after")
    writer.finish()

    assert writer.store.read_blob(after) == b"after"


@pytest.mark.parametrize("size", [0, 10, CHUNK, 6 << 20, (6 << 20) + 1])
@pytest.mark.parametrize("more", [0, 1, CHUNK])
def test_a_file_that_goes_on_is_taken_up_to_a_size(writer: PackWriter, file: int, size: int, more: int) -> None:
    """What is behind it is not looked at; one that is shorter is refused all the same."""
    data = bytes(size) + b"x" * more
    os.pwrite(file, data, 0)
    oid = writer.add_file(file, size, goes_on=True)
    assert oid == hash_object(KIND_BLOB, bytes(size)) == DryWriter(writer.store).add_file(file, size, goes_on=True)
    with pytest.raises(SizeChanged):
        writer.add_file(file, len(data) + 1, goes_on=True)
    writer.finish()
    assert writer.store.read_blob(oid) == bytes(size)


def test_a_file_that_shrinks_while_it_is_deflated_is_taken_back(
    writer: PackWriter, file: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was written of a file before it changed is not in the pack."""
    size = 8 << 20
    os.ftruncate(file, size)
    writer.add(KIND_BLOB, b"before")
    hash_whole = hash_file

    def hash_and_shrink(fd: int, length: int, *, goes_on: bool) -> Oid:
        oid = hash_whole(fd, length, goes_on=goes_on)
        os.ftruncate(fd, length - 5)
        return oid

    monkeypatch.setattr(packwriter, "hash_file", hash_and_shrink)
    with pytest.raises(SizeChanged):
        writer.add_file(file, size)
    after = writer.add(KIND_BLOB, b"after")
    assert len(writer) == 2
    path = writer.finish()

    assert path is not None
    assert path.stat().st_size < 500
    assert writer.store.read_blob(after) == b"after"


@pytest.mark.slow
def test_a_big_file_needs_little_memory(git_dir: Path, tmp_path: Path) -> None:
    """Writing and reading a blob of 150 MiB takes less than 64 MiB more than doing neither."""
    path = tmp_path / "big"
    with path.open("wb") as file:
        file.truncate(150 << 20)
        for position in range(0, 150 << 20, 8 << 20):
            file.seek(position)
            file.write(os.urandom(1 << 20))
    program = textwrap.dedent("""
        import os, resource, sys
        from pathlib import Path
        from avfs_git.gitstore.objects.store import ObjectStore
        from avfs_git.gitstore.objects.packwriter import PackWriter

        def peak():
            return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10

        before = peak()
        store = ObjectStore(Path(sys.argv[1]))
        writer = PackWriter(store)
        fd = os.open(sys.argv[2], os.O_RDONLY)
        oid = writer.add_file(fd, os.fstat(fd).st_size)
        writer.finish()
        assert sum(map(len, ObjectStore(store.git_dir).stream_blob(oid))) == 150 << 20
        print(peak() - before)
    """)
    argv = [sys.executable, "-c", program, str(git_dir), str(path)]
    used = int(subprocess.run(argv, check=True, capture_output=True, cwd=ROOT).stdout)

    assert used < 64 << 20


# --- failures --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [1, 2, 3, 4])
def test_a_failure_at_any_step_leaves_nothing_half_done(writer: PackWriter, git_dir: Path, number: int) -> None:
    """When the disk refuses at a step of `finish`, no pack is visible, and nothing of it stays."""
    oid = writer.add(KIND_BLOB, os.urandom(500))
    point = FailAt(number, lambda: OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)))
    faults.arm(point)
    with pytest.raises(HostError) as raised:
        writer.finish()
    faults.arm(None)

    assert raised.value.errno == errno.ENOSPC
    assert point.seen == ["pack.written", "pack.synced", "pack.renamed", "pack.visible"][:number]
    with ObjectStore(git_dir) as store:
        assert not store.exists(oid)
    assert list((git_dir / "objects" / "pack").iterdir()) == []


def test_a_full_disk_while_spilling_keeps_what_was_there(
    store: ObjectStore, git_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A failed write in the middle is reported; when there is space again, the pack goes on and is whole."""
    monkeypatch.setattr(packwriter, "_HELD_BYTES", 1000)
    writer = PackWriter(store)
    contents = [os.urandom(600) for _ in range(9)]
    full = [False]

    def write_some(fd: int, data: bytes) -> None:
        if full[0]:
            os.write(fd, data[:100])
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        write_all(fd, data)

    monkeypatch.setattr(packwriter, "write_all", write_some)
    for number, data in enumerate(contents):
        full[0] = number in (1, 4)
        if full[0]:
            with pytest.raises(HostError):
                writer.add(KIND_BLOB, data)
        else:
            writer.add(KIND_BLOB, data)
    full[0] = False
    writer.finish()

    with ObjectStore(git_dir) as anew:
        for data in contents:
            assert anew.read_blob(hash_object(KIND_BLOB, data)) == data


# --- the index -------------------------------------------------------------------------------------------------


def test_offsets_beyond_two_gibibytes_are_kept(tmp_path: Path) -> None:
    """The index of a pack that is larger than 31 bits can say has a table for the offsets beyond."""
    oids = [hash_object(KIND_BLOB, b"%d" % n) for n in range(300)]
    offsets = [12 + n * (1 << 27) for n in range(300)]
    path = tmp_path / "pack.idx"
    path.write_bytes(build_index(oids, offsets, range(300), b"c" * 20))
    index = PackIndex(path)

    assert [index.find(oid) for oid in oids] == offsets
    assert dict(zip(index.oids(), index.offsets(), strict=True)) == dict(zip(oids, offsets, strict=True))
    assert index.pack_checksum() == b"c" * 20
    assert index.find(Oid(b"\xff" * 20)) is None
    assert index.find(Oid(bytes(20))) is None


def test_a_large_index_is_searched_like_a_small_one(tmp_path: Path) -> None:
    """An index that is mapped finds the same as one that is read."""
    oids = [hash_object(KIND_BLOB, b"%d" % n) for n in range(20_000)]
    path = tmp_path / "pack.idx"
    path.write_bytes(build_index(oids, list(range(20_000)), range(20_000), b"c" * 20))
    index = PackIndex(path)

    assert [index.find(oid) for oid in oids] == list(range(20_000))
    assert index.with_prefix(oids[7].hex()[:12]) == [oids[7]]


def test_an_index_that_lies_about_its_length_is_refused(tmp_path: Path) -> None:
    """A count that the file cannot hold is an error, and a missing offset table holds nothing.

    Nothing is read beyond the end.
    """
    path = tmp_path / "pack.idx"
    good = build_index([Oid(b"a" * 20)], [12], [0], b"c" * 20)
    path.write_bytes(good[:1028] + struct.pack(">I", 1 << 30) + good[1032:])
    with pytest.raises(BadPack):
        PackIndex(path)
    at = len(good) - 44
    path.write_bytes(good[:at] + struct.pack(">I", 0x80000005) + good[at + 4 :])
    assert PackIndex(path).find(Oid(b"a" * 20)) is None
    with pytest.raises(BadPack):
        PackIndex(path).offsets()


# --- dry -------------------------------------------------------------------------------------------------------


def test_a_dry_writer_computes_the_same_ids_and_writes_nothing(store: ObjectStore, file: int) -> None:
    """What a checkpoint would be is known without touching the disk."""
    os.write(file, b"content" * 1_000_000)
    wet, dry = PackWriter(store), DryWriter(store)
    blob = dry.add_file(file, 7_000_000)
    tree = dry.add(KIND_TREE, serialize_tree({b"a": (MODE_FILE, blob)}))

    assert blob == wet.add_file(file, 7_000_000)
    assert tree == wet.add(KIND_TREE, serialize_tree({b"a": (MODE_FILE, blob)}))
    assert dry.read_tree(tree) == {b"a": (MODE_FILE, blob)}
    assert dry.read(tree)[0] == KIND_TREE
    assert dry.blob_size(blob) == 7_000_000
    assert dry.exists(blob)
    assert not store.exists(tree)
    with pytest.raises(ObjectMissing):
        dry.read_blob(blob)
    wet.discard()
