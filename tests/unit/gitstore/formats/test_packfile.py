"""The index of a pack: every object is found, and nothing that only looks like one."""

from __future__ import annotations

import struct
from itertools import accumulate
from pathlib import Path

import pytest

from avfs_git.gitstore.formats.packindex import INDEX_MAGIC, PackIndex


def write_index(path: Path, oids: list[bytes]) -> None:
    """Write an index in which the object at each position is at an offset of a hundred times that."""
    counts = [sum(oid[0] == first for oid in oids) for first in range(256)]
    numbers = len(oids)
    path.write_bytes(
        INDEX_MAGIC
        + struct.pack(">256I", *accumulate(counts))
        + b"".join(oids)
        + bytes(4 * numbers)
        + struct.pack(f">{numbers}I", *(100 * number for number in range(numbers)))
        + bytes(40)
    )


@pytest.mark.parametrize("alike", [3, 2_000])
def test_every_object_is_found(tmp_path: Path, alike: int) -> None:
    """Each where it is, in a small bucket and in one that is halved; absent ones before, between and behind are not."""
    middle = [b"\x80" + b"%019d" % (2 * number) for number in range(alike)]
    oids = [bytes(20), b"\0" * 19 + b"\1", *middle, b"\xff" * 20]
    write_index(tmp_path / "i", oids)
    index = PackIndex(tmp_path / "i")
    assert [index.find(oid) for oid in oids] == [100 * number for number in range(len(oids))]
    absent = [b"\0" * 19 + b"\2", b"\x7f" * 20, b"\x80" + bytes(19), b"\xff" * 19 + b"\xfe"]
    absent += [b"\x80" + b"%019d" % (2 * number + 1) for number in range(alike)]
    assert [index.find(oid) for oid in absent] == [None] * len(absent)


def test_the_end_of_one_id_and_the_beginning_of_the_next_are_no_object(tmp_path: Path) -> None:
    """Also where the same bytes stand across two ids and, further on, as an id."""
    first, second = b"\x11" * 10 + b"\x22" * 10, b"\x11" * 10 + b"\x33" * 10
    across = first[1:] + second[:1]
    write_index(tmp_path / "i", [first, second])
    assert PackIndex(tmp_path / "i").find(across) is None
    low = b"\x11" * 19 + b"\x12"
    oids = sorted([low, low[1:] + b"\x13", b"\x11" * 18 + b"\x12\x11"])
    write_index(tmp_path / "i", oids)
    index = PackIndex(tmp_path / "i")
    assert [index.find(oid) for oid in oids] == [0, 100, 200]
