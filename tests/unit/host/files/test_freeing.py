"""Taking away last names: what is seen of it, and that nothing stays open."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from avfs_git.host.files import freeing
from avfs_git.host.files.closing import closing_fd

_LARGE = 9 << 20


def _remove(path: Path) -> None:
    with closing_fd(os.open(path.parent, os.O_RDONLY)) as directory:
        freeing.unlink_last(directory, os.fsencode(path.name))


def _wait() -> None:
    for thread in threading.enumerate():
        if thread.name == "avfs-freeing":
            thread.join()


@pytest.mark.parametrize("size", [0, 1000, _LARGE])
@pytest.mark.parametrize("has_room", [True, False])
def test_the_name_goes_at_once_and_nothing_stays_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int, has_room: bool
) -> None:
    """So it is for small and large files, on an empty and on a full disk."""
    monkeypatch.setattr(freeing, "_has_room", lambda *_: has_room)
    (tmp_path / "file").write_bytes(bytes(size))
    with (tmp_path / "file").open("rb") as file:
        before = set(os.listdir("/proc/self/fd"))
        _remove(tmp_path / "file")

        assert list(tmp_path.iterdir()) == []
        assert os.fstat(file.fileno()).st_nlink == 0
        _wait()
        assert set(os.listdir("/proc/self/fd")) <= before


def test_other_names_stay(tmp_path: Path) -> None:
    """Of a large file with two names, the other one keeps the content."""
    (tmp_path / "file").write_bytes(bytes(_LARGE))
    (tmp_path / "other").hardlink_to(tmp_path / "file")
    _remove(tmp_path / "file")

    assert [path.name for path in tmp_path.iterdir()] == ["other"]
    assert (tmp_path / "other").stat().st_size == _LARGE


def test_what_is_not_a_file_is_refused_as_by_unlink(tmp_path: Path) -> None:
    """A directory stays; a symbolic link goes, and not what it names."""
    (tmp_path / "directory").mkdir()
    (tmp_path / "directory" / "large").write_bytes(bytes(_LARGE))
    (tmp_path / "link").symlink_to("directory/large")
    with pytest.raises(IsADirectoryError):
        _remove(tmp_path / "directory")
    with pytest.raises(FileNotFoundError):
        _remove(tmp_path / "absent")
    _remove(tmp_path / "link")

    assert (tmp_path / "directory" / "large").stat().st_size == _LARGE
    assert not (tmp_path / "link").is_symlink()
