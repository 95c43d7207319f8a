"""Objects become entries of a pack in the order in which they come, large ones in threads, by whichever library is there."""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterator

import pytest

from avfs_git.gitstore.formats import deflate
from avfs_git.gitstore.formats.deflate import STORED, WORTH_A_THREAD, Deflater, Entry
from avfs_git.gitstore.formats.packfile import KIND_BLOB, parse_entry_header

SMALL, LARGE = WORTH_A_THREAD // 100, 4 * WORTH_A_THREAD


@pytest.fixture(params=["fast", "zlib"], autouse=True)
def library(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Deflate by the fast library, where this processor has it, and by zlib."""
    if request.param == "zlib":
        monkeypatch.setattr(deflate, "_fast_library", lambda: None)


@pytest.fixture
def deflater() -> Iterator[Deflater]:
    """Give a deflater, and end its threads."""
    made = Deflater()
    yield made
    made.close()


def content_of(entry: Entry) -> bytes:
    """Take an entry apart again."""
    kind, size, start = parse_entry_header(entry.data)
    data = zlib.decompress(entry.data[start:])
    assert (kind, size, entry.crc) == (KIND_BLOB, len(data), zlib.crc32(entry.data))
    return data


def test_a_small_object_is_ready_at_once(deflater: Deflater) -> None:
    """Nothing waits where nothing large came before."""
    data = os.urandom(SMALL)
    assert [content_of(entry) for entry in deflater.add(KIND_BLOB, data, 1)] == [data]
    assert deflater.drain() == []


def test_small_objects_do_not_overtake_large_ones(deflater: Deflater) -> None:
    """Whatever the threads do, entries come in the order of their objects."""
    contents = [os.urandom(LARGE if number % 3 else SMALL) for number in range(60)]
    found = [entry for data in contents for entry in deflater.add(KIND_BLOB, data, 1)] + deflater.drain()
    assert [content_of(entry) for entry in found] == contents


def test_what_waits_is_bounded(deflater: Deflater, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever brings objects faster than they are deflated waits for them."""
    monkeypatch.setattr("avfs_git.gitstore.formats.deflate._WAITING_BYTES", 3 * LARGE)
    brought = given = 0
    for _ in range(20):
        brought += LARGE
        given += sum(len(content_of(entry)) for entry in deflater.add(KIND_BLOB, os.urandom(LARGE), 1))
        assert brought - given <= 3 * LARGE


def test_what_is_given_up_is_forgotten(deflater: Deflater) -> None:
    """A deflater that is closed holds nothing, and begins anew."""
    for _ in range(5):
        deflater.add(KIND_BLOB, os.urandom(LARGE), 1)
    deflater.close()
    assert deflater.drain() == []
    assert [content_of(entry) for entry in deflater.add(KIND_BLOB, b"next", 1)] == [b"next"]


@pytest.mark.parametrize("level", [STORED, 1, 9])
@pytest.mark.parametrize("size", [0, 1, 300, 5_000, 200_000])
def test_what_is_deflated_is_what_any_zlib_reads(level: int, size: int) -> None:
    """As a whole and in pieces, what compresses and what does not."""
    for data in (b"what repeats " * (size // 13), os.urandom(size)):
        whole = deflate.deflate(data, level)
        stream = deflate.start_stream(level)
        pieces = [stream.compress(data[start : start + 1000]) for start in range(0, size, 1000)]
        assert zlib.decompress(whole) == zlib.decompress(b"".join(pieces) + stream.flush()) == data
        assert len(whole) <= len(data) + len(data) // 1000 + 64
        assert level == STORED or size < 300 or data[:4] != b"what" or len(whole) < len(data) // 3
