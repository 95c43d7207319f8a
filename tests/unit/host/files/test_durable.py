"""Durable writing: old content or new, never a part, and errors of one kind."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from avfs_git.errors import HostError
from avfs_git.host.files.durable import (
    fsync_dir,
    host_errors,
    make_dirs_durably,
    sync_file_system,
    write_all,
    write_file_atomically,
)


def test_a_file_is_replaced_and_nothing_stays_beside_it(tmp_path: Path) -> None:
    """A write gives the file its new content and leaves no temporary file."""
    path = tmp_path / "state"
    write_file_atomically(path, b"one")
    write_file_atomically(path, b"two" * 100_000)

    assert path.read_bytes() == b"two" * 100_000
    assert os.listdir(tmp_path) == ["state"]


def test_the_mode_is_as_asked_for(tmp_path: Path) -> None:
    """A file gets the mode that was asked for, less the umask."""
    path = tmp_path / "secret"
    write_file_atomically(path, b"", mode=0o600)

    assert path.stat().st_mode & 0o777 == 0o600


def test_a_name_may_be_as_long_as_names_can_be(tmp_path: Path) -> None:
    """The temporary name fits wherever the name itself fits."""
    path = tmp_path / ("n" * 255)
    write_file_atomically(path, b"x")

    assert path.read_bytes() == b"x"


@pytest.mark.parametrize("call", ["fsync", "write", "rename"])
def test_a_failed_write_keeps_the_old_content(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str) -> None:
    """When the disk refuses at any step, the file is as it was and nothing stays beside it."""
    path = tmp_path / "state"
    write_file_atomically(path, b"old")

    def refuse(*_: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, call, refuse)
        with pytest.raises(HostError) as raised:
            write_file_atomically(path, b"new")

    assert raised.value.errno == errno.ENOSPC
    assert raised.value.hint is not None
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["state"]


def test_short_writes_are_continued(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All of the data is written, however little the system takes at a time."""
    real = os.write
    fd = os.open(tmp_path / "f", os.O_CREAT | os.O_WRONLY)
    with monkeypatch.context() as patch:
        patch.setattr(os, "write", lambda fd, data: real(fd, bytes(data[:7])))
        write_all(fd, bytes(range(200)))
    os.close(fd)

    assert (tmp_path / "f").read_bytes() == bytes(range(200))


def test_missing_directories_are_made(tmp_path: Path) -> None:
    """All missing directories of a path are made, and making them again is no error."""
    path = tmp_path / "a" / "b" / "c"
    make_dirs_durably(path)
    make_dirs_durably(path)

    assert path.is_dir()


def test_a_file_in_the_way_of_a_directory_is_an_error(tmp_path: Path) -> None:
    """A file where a directory is needed is reported as a failure of the host."""
    (tmp_path / "a").write_bytes(b"")

    with pytest.raises(HostError):
        make_dirs_durably(tmp_path / "a" / "b")


def test_syncing_what_is_not_there_is_an_error(tmp_path: Path) -> None:
    """A directory that cannot be synced is reported, not passed over."""
    with pytest.raises(HostError):
        fsync_dir(tmp_path / "missing")


def test_a_file_system_can_be_synced_as_a_whole(tmp_path: Path) -> None:
    """Syncing everything at once works on a real file system, and reports a path that is not there."""
    sync_file_system(tmp_path)

    with pytest.raises(HostError):
        sync_file_system(tmp_path / "missing")


def test_errors_of_the_system_say_what_was_done() -> None:
    """An `OSError` comes out as one typed error with the action and the errno."""
    with pytest.raises(HostError) as raised, host_errors("write 'x'"):
        raise OSError(errno.EIO, "Input/output error")

    assert raised.value.message == "cannot write 'x': Input/output error"
    assert raised.value.details == {"errno": errno.EIO}
