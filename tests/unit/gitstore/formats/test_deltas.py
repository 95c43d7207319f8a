"""Objects that a pack holds as deltas: as git has them, and never more than they say."""

from __future__ import annotations

import hashlib
import os
import struct
import subprocess
import zlib
from pathlib import Path

import pytest

from avfs_git.errors import ObjectCorrupt
from avfs_git.gitstore.formats.deltas import apply_delta, read_distance, read_varint
from avfs_git.gitstore.formats.packfile import KIND_BLOB, entry_header
from avfs_git.gitstore.formats.packindex import build_index
from avfs_git.gitstore.objects import packset
from avfs_git.gitstore.objects.store import ObjectStore, hash_object
from avfs_git.paths import Oid


def varint(value: int) -> bytes:
    """Write a size."""
    data = bytearray()
    while value >= 0x80:
        data.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*data, value])


def write_pack(git_dir: Path, entries: list[tuple[Oid, bytes]]) -> None:
    """Write a pack of entries as they stand, and an index that names them."""
    body = struct.pack(">4sII", b"PACK", 2, len(entries))
    offsets = []
    for _, entry in entries:
        offsets.append(len(body))
        body += entry
    checksum = hashlib.sha1(body, usedforsecurity=False).digest()
    place = git_dir / "objects" / "pack" / f"pack-{checksum.hex()}"
    place.with_suffix(".pack").write_bytes(body + checksum)
    index = build_index([oid for oid, _ in entries], offsets, [zlib.crc32(entry) for _, entry in entries], checksum)
    place.with_suffix(".idx").write_bytes(index)


def by_id(base: bytes, delta: bytes, size: int | None = None) -> bytes:
    """Write a delta of an object that is named by its id."""
    return entry_header(7, len(delta) if size is None else size) + base + zlib.compress(delta)


def test_a_delta_copies_and_adds() -> None:
    """A piece of the base, what is new, and the rest of the base."""
    delta = varint(10) + varint(9) + b"\x91\x02\x04" + b"\x03new" + b"\x91\x08\x02"

    assert apply_delta(b"0123456789", delta, 100) == b"2345new89"


@pytest.mark.parametrize(
    "delta",
    [
        b"",
        varint(10),
        varint(9) + varint(4) + b"\x91\x00\x04",
        varint(10) + varint(5) + b"\x91\x00\x04",
        varint(10) + varint(3) + b"\x91\x00\x04",
        varint(10) + varint(4) + b"\x91\x08\x04",
        varint(10) + varint(4) + b"\x00",
        varint(10) + varint(4) + b"\x04abc",
        varint(10) + varint(4) + b"\x91\x00",
        varint(10) + varint(1 << 40) + b"\x91\x00\x04",
        b"\xff" * 30,
    ],
)
def test_what_is_no_delta_is_refused(delta: bytes) -> None:
    """A delta of another object is refused, and one that makes more or less than it says.

    A delta that is cut short, or that asks for too much, is refused too.
    """
    with pytest.raises(ValueError, match="delta"):
        apply_delta(b"0123456789", delta, 1 << 20)


def test_numbers_are_as_git_has_them() -> None:
    """Sizes and distances, up to what makes no sense."""
    assert read_varint(varint(1 << 40), 0) == (1 << 40, 6)
    assert read_distance(b"\x80\x00", 0) == (128, 2)
    for read in (read_varint, read_distance):
        with pytest.raises(ValueError, match="delta"):
            read(b"\xff" * 30, 0)


@pytest.mark.needs("git")
@pytest.mark.parametrize("offsets", ["true", "false"])
def test_deltas_of_git_are_read(git_dir: Path, offsets: str) -> None:
    """By offset and by id, in long chains, whole and their sizes; without libgit2."""
    place = git_dir / "objects"
    base = [b"%d %s\n" % (number, os.urandom(9).hex().encode()) for number in range(300)]
    contents = []
    for number in range(60):
        base[number * 5] = b"changed %d\n" % number
        contents.append(b"".join(base))
    oids = [hash_object(KIND_BLOB, content) for content in contents]
    for oid, content in zip(oids, contents, strict=True):
        name = oid.hex()
        (place / name[:2]).mkdir(exist_ok=True)
        (place / name[:2] / name[2:]).write_bytes(zlib.compress(b"blob %d\0%b" % (len(content), content)))
    config = ["-c", f"repack.useDeltaBaseOffset={offsets}", "-c", "pack.depth=60"]
    names = b"".join(oid.hex().encode() + b" f\n" for oid in oids)
    flag = ["--delta-base-offset"] if offsets == "true" else []
    command: list[str | Path] = [
        "git",
        "-C",
        git_dir,
        *config,
        "pack-objects",
        "-q",
        "--depth=60",
        "--window=60",
        *flag,
        place / "pack" / "pack",
    ]
    subprocess.run(command, input=names, check=True, capture_output=True)
    subprocess.run(["git", "-C", git_dir, "prune-packed", "-q"], check=True)
    pack = next((place / "pack").glob("*.pack"))
    assert pack.stat().st_size < 40_000

    with ObjectStore(git_dir) as store:
        for oid, content in zip(oids, contents, strict=True):
            assert store.header(oid) == (KIND_BLOB, len(content))
            assert store.read(oid) == (KIND_BLOB, content)
        assert store._odb is None


def test_a_delta_of_itself_is_refused(git_dir: Path) -> None:
    """And two that are deltas of each other."""
    one, two = Oid(b"1" * 20), Oid(b"2" * 20)
    delta = varint(4) + varint(4) + b"\x91\x00\x04"
    write_pack(git_dir, [(one, by_id(two, delta)), (two, by_id(one, delta))])
    with ObjectStore(git_dir) as store:
        for oid in (one, two):
            for ask in (store.read, store.header):
                with pytest.raises(ObjectCorrupt):
                    ask(oid)


def test_a_delta_bomb_is_not_made(git_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A few bytes that stand for more than a delta may make are refused before they take memory."""
    monkeypatch.setattr(packset, "_MADE_MAX", 10 << 20)
    base = hash_object(KIND_BLOB, bytes(1 << 20))
    entries = [(base, entry_header(3, 1 << 20) + zlib.compress(bytes(1 << 20)))]
    copies = b"\xf0\x00\x00\x10" * 40
    bomb = Oid(b"b" * 20)
    entries.append((bomb, by_id(base, varint(1 << 20) + varint(40 << 20) + copies)))
    write_pack(git_dir, entries)
    with ObjectStore(git_dir) as store:
        assert store.read(base) == (KIND_BLOB, bytes(1 << 20))
        with pytest.raises(ObjectCorrupt, match="delta"):
            store.read(bomb)
