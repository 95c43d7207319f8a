"""Big blobs as plain files: what is kept, shared, believed and removed."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from avfs_git.host.files.closing import closing_fd
from avfs_git.host.processes.boot import read_boot_id
from avfs_git.paths import Oid
from avfs_git.vfs.layer.blobcache import BlobCache


def _oid(number: int) -> Oid:
    return Oid(bytes([number]) * 20)


def _read(fd: int) -> bytes:
    with closing_fd(fd):
        assert os.fstat(fd).st_mode & 0o777 == 0o400
        return os.pread(fd, 1 << 20, 0)


def _none() -> Iterator[bytes]:
    yield b"asked for what is there"


def _names(directory: Path) -> set[str]:
    return {path.name for path in directory.rglob("*") if path.is_file()}


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """Where a cache is."""
    return tmp_path / "cache" / "blobs"


def test_a_blob_is_taken_once_and_shared(directory: Path) -> None:
    """What one process took is opened by another without taking it again."""
    assert _read(BlobCache(directory).open(_oid(1), 6, [b"abc", b"def"])) == b"abcdef"
    assert _read(BlobCache(directory).open(_oid(1), 6, _none())) == b"abcdef"
    assert _names(directory) == {_oid(1).hex()}
    assert directory.parent.stat().st_mode & 0o777 == 0o700


def test_a_blob_that_is_being_made_is_waited_for(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of several that need a blob at once, one takes it apart; another blob does not wait for that."""
    begun, waits_or_done = threading.Event(), threading.Event()
    monkeypatch.setattr(time, "sleep", lambda _: waits_or_done.set())
    monkeypatch.setattr(time, "monotonic", lambda: 0.0)  # it does not get too long

    def slowly() -> Iterator[bytes]:
        yield b"abc"
        begun.set()
        waits_or_done.wait()  # a second one that does not wait is done by then, with content of its own
        yield b"def"

    def late() -> bytes:
        try:
            return _read(BlobCache(directory).open(_oid(1), 6, _none()))
        finally:
            waits_or_done.set()

    with ThreadPoolExecutor(2) as threads:
        first = threads.submit(lambda: _read(BlobCache(directory).open(_oid(1), 6, slowly())))
        begun.wait()
        second = threads.submit(late)
        assert _read(BlobCache(directory).open(_oid(2), 2, [b"ok"])) == b"ok"
        assert (first.result(), second.result()) == (b"abcdef", b"abcdef")


def test_a_maker_that_is_stopped_is_waited_for_by_the_size_of_its_blob(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever waits holds up others, a small blob for a moment only; then it is made twice, and both have it."""
    slept: list[float] = []
    monkeypatch.setattr(time, "sleep", slept.append)
    monkeypatch.setattr(time, "monotonic", lambda: sum(slept))

    def wait_for(number: int, size: int) -> float:
        slept.clear()

        def stopped() -> Iterator[bytes]:
            yield _read(BlobCache(directory).open(_oid(number), size, [b"ok"]))

        assert _read(BlobCache(directory).open(_oid(number), size, stopped())) == b"ok"
        return sum(slept)

    assert 0 < 5 * wait_for(1, 2) < wait_for(2, 500_000_000)


def test_what_fails_or_is_not_shared_leaves_no_name(directory: Path) -> None:
    """A blob that cannot be read to its end is not kept, and neither is one that only its opener wants."""

    def broken() -> Iterator[bytes]:
        yield b"half"
        raise ValueError("the disk is broken")

    with pytest.raises(ValueError, match="broken"):
        BlobCache(directory).open(_oid(1), 8, broken())
    assert _read(BlobCache(directory).open(_oid(2), 2, [b"ok"], share=False)) == b"ok"
    assert _names(directory) == set()


def test_another_boot_is_not_believed(directory: Path) -> None:
    """Files that were written before the machine last started are removed: a power cut may have garbled them."""
    os.close(BlobCache(directory, boot="before").open(_oid(1), 3, [b"old"]))
    (directory / "before" / _oid(1).hex()).chmod(0o600)
    (directory / "before" / _oid(1).hex()).write_bytes(b"\0\0\0")

    assert _read(BlobCache(directory).open(_oid(1), 3, [b"new"])) == b"new"
    assert [path.name for path in directory.iterdir()] == [read_boot_id()]


def test_a_machine_that_does_not_know_its_boot_shares_nothing(directory: Path) -> None:
    """Without a boot to tell apart, no file outlives its opener."""
    assert _read(BlobCache(directory, boot="unknown").open(_oid(1), 2, [b"ok"])) == b"ok"
    assert _names(directory) == set()


def test_a_file_of_another_length_is_replaced(directory: Path) -> None:
    """What has the name and cannot be the blob is not shown."""
    os.close(BlobCache(directory).open(_oid(1), 3, [b"abc"]))
    name = next(directory.rglob(_oid(1).hex()))
    name.unlink()
    name.write_bytes(b"")

    assert _read(BlobCache(directory).open(_oid(1), 3, [b"abc"])) == b"abc"
    assert name.read_bytes() == b"abc"


def test_the_least_used_go_first(directory: Path) -> None:
    """Files beyond the limit are removed, those first that were not opened for longest; open ones stay readable."""
    cache = BlobCache(directory, limit_bytes=30)
    held = cache.open(_oid(1), 10, [b"1" * 10])
    for number in (2, 3):
        os.close(cache.open(_oid(number), 10, [b"%d" % number * 10]))
    for age, number in enumerate((2, 1, 3)):
        os.utime(next(directory.rglob(_oid(number).hex())), ns=(age, age))
    os.close(cache.open(_oid(1), 10, _none()))
    os.close(cache.open(_oid(4), 10, [b"4" * 10]))
    os.close(cache.open(_oid(5), 10, [b"5" * 10]))

    assert _names(directory) == {_oid(number).hex() for number in (1, 4, 5)}
    os.close(cache.open(_oid(6), 16, [b"6" * 16]))  # more than half of all: for its opener alone
    assert _oid(6).hex() not in _names(directory)
    assert _read(held) == b"1" * 10
    os.close(BlobCache(directory, limit_bytes=0).open(_oid(7), 1, [b"7"]))  # a limit that was lowered counts at once
    assert _names(directory) == set()


def test_a_cache_that_is_cleared_is_made_again(directory: Path) -> None:
    """Whoever removes the cache under a session takes nothing from it."""
    cache = BlobCache(directory)
    os.close(cache.open(_oid(1), 1, [b"1"]))
    for path in sorted(directory.parent.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    directory.parent.rmdir()

    assert _read(cache.open(_oid(1), 1, [b"1"])) == b"1"
    assert _names(directory) == {_oid(1).hex()}
