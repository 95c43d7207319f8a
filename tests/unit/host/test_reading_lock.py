"""The lock of who may not write to its file."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from avfs_git.host.locks.locks import LockFile, ReadingLock


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the lock is."""
    return tmp_path / "lock"


@pytest.fixture
def writer(path: Path) -> Iterator[LockFile]:
    """Somebody who may write."""
    with LockFile(path, owner="who writes") as lock:
        yield lock


def test_readers_share_it_and_keep_a_writer_away(path: Path, writer: LockFile) -> None:
    """Neither sees the other half done."""
    with ReadingLock(path) as first, ReadingLock(path) as second:
        assert first.acquire(0)
        assert second.acquire(0)
        assert not writer.acquire(0)
        first.release()
        assert not writer.acquire(0)
        second.release()

        assert writer.acquire(0)
        assert not first.acquire(0)
        writer.release()
        assert first.acquire(0)
        first.release()


def test_it_writes_nothing_and_sees_what_others_write(path: Path, writer: LockFile) -> None:
    """The counters are those of the file at every moment."""
    before = path.read_bytes()
    with ReadingLock(path) as reader:
        assert reader.acquire(0)
        reader.sign()
        reader.release()
        assert path.read_bytes() == before
        seen = []
        for change in (writer.begin_change, writer.end_change):
            change()
            seen.append(reader.epoch)
        assert seen == [1, 2]


def test_a_session_that_died_is_remembered_and_not_removed(path: Path, writer: LockFile) -> None:
    """Another session that comes is seen."""
    writer.keep("4449850c")
    kept = path.read_bytes()
    with ReadingLock(path) as reader:
        assert reader.session == "4449850c"
        reader.clear_session()
        assert path.read_bytes() == kept
        seen = [reader.session]
        writer.keep("00000001")
        seen.append(reader.session)
        assert seen == [None, "00000001"]


def test_a_file_that_comes_to_be_is_found(path: Path) -> None:
    """Until then nobody has changed anything, and there is nothing to wait for."""
    with ReadingLock(path) as reader:
        assert reader.acquire(0)
        assert (reader.epoch, reader.session) == (0, None)
        reader.release()
        assert not path.exists()
        path.touch()  # as one that is being made
        assert reader.epoch == 0
        with LockFile(path, owner="who writes") as writer:
            writer.begin_change()
            assert reader.epoch == 1
            assert writer.acquire(0)
            assert not reader.acquire(0)


def test_one_that_is_closed_opens_nothing(path: Path) -> None:
    """Nor does closing it again do anything."""
    reader = ReadingLock(path)
    reader.close()
    reader.close()
    LockFile(path, owner="who writes").close()
    assert reader.epoch == 0
