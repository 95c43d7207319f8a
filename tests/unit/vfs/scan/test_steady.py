"""What is stored of a file that somebody writes to while it is read: its content at one moment, or nothing."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from types import SimpleNamespace

import pytest

from avfs_git.errors import FileChanging
from avfs_git.gitstore.formats.packfile import KIND_BLOB
from avfs_git.paths import ROOT, Oid
from avfs_git.vfs.layer.readers import PlainDirectory
from avfs_git.vfs.scan import steady
from avfs_git.vfs.scan.steady import Reading, read_steadily
from tests.support.objects import MemorySource


class Sink(MemorySource):
    """What takes blobs."""

    def add(self, kind: int, data: bytes, *, keep: bool = False) -> Oid:
        """Take one."""
        del keep
        return super().add(kind, data)

    def add_file(self, fd: int, size: int, *, goes_on: bool = False) -> Oid:
        """Take one that is a file."""
        del goes_on
        return self.add(KIND_BLOB, os.pread(fd, size, 0))


@contextmanager
def beside(change: str, path: Path) -> Iterator[None]:
    """Keep changing a file, so that no two looks find the same times, until the block ends."""
    done = threading.Event()

    def go() -> None:
        with path.open("r+b" if change == "write" else "ab", buffering=0) as file:
            number = 0
            while not done.is_set():
                number += 1
                file.write(b"%08d" % number)
                if change == "write":  # the same at both ends, one after the other
                    file.seek(-8, os.SEEK_END)
                    file.write(b"%08d" % number)
                    file.seek(0)

    thread = threading.Thread(target=go)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def read(directory: Path, sink: Sink) -> Reading:
    """Read the file as a capture does."""
    layer = PlainDirectory(directory)
    found = layer.find(ROOT, b"file")
    assert found is not None
    return read_steadily(layer, ROOT, b"file", found.stat, sink, None)


def test_what_only_grows_is_stored_as_it_was(tmp_path: Path) -> None:
    """A log is in the checkpoint up to a size that it had, and is looked at again the next time."""
    path = tmp_path / "file"
    path.write_bytes(b"log\n" * 100_000)
    sink = Sink()
    with beside("append", path):
        for _ in range(10):
            reading = read(tmp_path, sink)
            held = sink.read_blob(reading.oid)
            assert len(held) == reading.stat.st_size
            assert path.read_bytes().startswith(held)


def test_what_is_written_in_place_without_an_end_is_stored_as_it_was_or_refused(tmp_path: Path) -> None:
    """No content that it never had is stored."""
    path = tmp_path / "file"
    path.write_bytes(b"00000000" * 100_000)
    sink = Sink()
    with beside("write", path):
        for _ in range(20):
            with suppress(FileChanging):
                held = sink.read_blob(read(tmp_path, sink).oid)
                assert int(held[:8]) - int(held[-8:]) in (0, 1)


_REWRITER = """
import os, sys, time
fd, size, times, pause_s, number = os.open(sys.argv[1], os.O_RDWR), int(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4]), 0
while True:
    for _ in range(times):
        number += 1
        os.pwrite(fd, number.to_bytes(8, "little") * (size // 8), 0)
        if number == 1: print("running", flush=True)
    time.sleep(pause_s)
"""


@pytest.mark.parametrize(
    ("size", "times", "pause_s", "versions"),
    [(4 << 10, 1 << 30, 0, 50), (64 << 10, 1 << 30, 0, 10), (64 << 10, 200, 0.001, 50), (2 << 20, 4, 0.01, 10)],
    ids=["a page without a pause", "a few without a pause", "a few", "many"],
)
def test_half_of_a_write_is_not_stored(tmp_path: Path, size: int, times: int, pause_s: float, versions: int) -> None:
    """A write that is under way moved the times when it began: only its end makes a version."""
    path = tmp_path / "file"
    path.write_bytes(bytes(size))
    sink = Sink()
    stored: set[bytes] = set()
    program = [sys.executable, "-c", _REWRITER, str(path), str(size), str(times), str(pause_s)]
    with subprocess.Popen(program, stdout=subprocess.PIPE, text=True) as writer:
        try:
            assert writer.stdout is not None
            assert writer.stdout.readline() == "running\n"
            while len(stored) < versions:
                with nullcontext() if pause_s else suppress(FileChanging):
                    held = sink.read_blob(read(tmp_path, sink).oid)
                    assert held == held[:8] * (size // 8)
                    stored.add(held[:8])
        finally:
            writer.kill()


def test_what_is_written_within_a_tick_of_the_clock_is_read_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where times do not tell two writes apart, two readings do."""
    path = tmp_path / "file"
    path.write_bytes(b"one")
    times = path.stat()
    later = [b"two", b"six"]

    def pread(fd: int, count: int, offset: int) -> bytes:
        data = os.pread(fd, count, offset)
        if later:
            path.write_bytes(later.pop())
        return data

    def fstat(fd: int) -> os.stat_result:
        del fd
        return times

    monkeypatch.setattr(steady, "os", SimpleNamespace(pread=pread, fstat=fstat, close=os.close))
    monkeypatch.setattr(steady, "time", SimpleNamespace(time_ns=lambda: times.st_ctime_ns + 1_000_000))
    sink = Sink()
    layer = PlainDirectory(tmp_path)
    assert sink.read_blob(read_steadily(layer, ROOT, b"file", times, sink, None).oid) == b"two"


@pytest.mark.parametrize("size", [0, 10, 900_000])
def test_what_nobody_writes_to_is_stored_whole(tmp_path: Path, size: int) -> None:
    """Also an empty one."""
    data = os.urandom(size)
    (tmp_path / "file").write_bytes(data)
    sink = Sink()
    assert sink.read_blob(read(tmp_path, sink).oid) == data
