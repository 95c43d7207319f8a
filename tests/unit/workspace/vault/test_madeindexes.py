"""Indexes that are kept for further forks: made once, believed only when whole, few."""

from __future__ import annotations

import hashlib
import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from avfs_git.workspace.vault.madeindexes import MadeIndexes


def _index(text: bytes) -> bytes:
    data = text * (100_000 // len(text))
    return data + hashlib.sha1(data).digest()


def _made_again() -> bytes:
    raise AssertionError("it is kept")


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """Where they are."""
    return tmp_path / "cache" / "indexes"


@pytest.fixture
def made(place: Path) -> MadeIndexes:
    """A cache without a bound."""
    return MadeIndexes(place, limit_bytes=lambda: 1 << 30)


def test_many_who_come_at_once_make_one(made: MadeIndexes) -> None:
    """The others wait for it, and find it."""
    calls: list[int] = []
    start = threading.Barrier(4)

    def make() -> bytes:
        calls.append(1)
        time.sleep(0.05)
        return _index(b"a")

    def find(_: int) -> bytes:
        start.wait()
        return made.find_or_make(b"a", make)

    with ThreadPoolExecutor(4) as pool:
        assert set(pool.map(find, range(4))) == {_index(b"a")}
    assert len(calls) == 1
    assert made.find_or_make(b"b", lambda: _index(b"b")) == _index(b"b")
    assert made.find_or_make(b"a", _made_again) == _index(b"a")


@pytest.mark.parametrize("left", [b"", b"short", bytes(100_000), _index(b"a")[:-1], b"x" + _index(b"a")[1:]])
def test_what_is_damaged_is_made_again(made: MadeIndexes, place: Path, left: bytes) -> None:
    """As after a power cut: nothing forces these files to disk."""
    made.find_or_make(b"a", lambda: _index(b"a"))
    (file,) = place.iterdir()
    file.write_bytes(left)

    assert made.find_or_make(b"a", lambda: _index(b"a")) == _index(b"a")
    assert made.find_or_make(b"a", _made_again) == _index(b"a")


def test_the_last_used_stay(made: MadeIndexes, place: Path) -> None:
    """Four files, one that a killed writer has left among them."""
    for number in range(4):
        made.find_or_make(b"%d" % number, lambda: _index(b"a"))
        for file in place.iterdir():
            os.utime(file, ns=(file.stat().st_atime_ns, file.stat().st_mtime_ns - 10**9))
    made.find_or_make(b"0", _made_again)
    (place / ".left.tmp").touch()
    made.find_or_make(b"4", lambda: _index(b"a"))

    assert len(list(place.iterdir())) == 4
    for number in (0, 3, 4):
        made.find_or_make(b"%d" % number, _made_again)


@pytest.mark.parametrize(("limit", "size"), [(1 << 30, 1000), (300_000, 100_000), (0, 100_000)])
def test_what_is_small_or_too_large_is_not_kept(place: Path, limit: int, size: int) -> None:
    """It is given all the same."""
    data = _index(b"a")[-size:]

    assert MadeIndexes(place, limit_bytes=lambda: limit).find_or_make(b"a", lambda: data) == data
    assert not list(place.iterdir())


def test_where_nothing_can_be_kept_each_makes_its_own(place: Path, made: MadeIndexes) -> None:
    """And an error of who makes it is told."""
    place.parent.write_text("in the way")

    for _ in range(2):
        assert made.find_or_make(b"a", lambda: _index(b"a")) == _index(b"a")
    with pytest.raises(AssertionError, match="kept"):
        made.find_or_make(b"a", _made_again)
