"""Removing whole directories: deep ones, closed ones, beside others."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from avfs_git.host.files.removal import remove_tree


def _dig(directory: Path, levels: int, name: str = "d" * 100) -> None:
    """Make directories in each other, deeper than a path can say, with a file in each."""
    fd = os.open(directory, os.O_RDONLY)
    for _ in range(levels):
        os.mkdir(name, dir_fd=fd)
        below = os.open(name, os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = below
        os.close(os.open("file", os.O_WRONLY | os.O_CREAT, dir_fd=fd))
    os.close(fd)


def test_a_directory_of_any_depth_goes(tmp_path: Path) -> None:
    """Neither the depth of Python's stack nor the length of a path is in the way."""
    (tmp_path / "top").mkdir()
    _dig(tmp_path / "top", 3000)
    remove_tree(tmp_path / "top")

    assert list(tmp_path.iterdir()) == []


def test_links_are_not_followed(tmp_path: Path) -> None:
    """What a symbolic link names stays."""
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept" / "file").touch()
    (tmp_path / "top").mkdir()
    (tmp_path / "top" / "link").symlink_to(tmp_path / "kept")
    remove_tree(tmp_path / "top")

    assert (tmp_path / "kept" / "file").exists()
    assert not (tmp_path / "top").exists()


def test_what_is_not_there_is_no_error(tmp_path: Path) -> None:
    """Somebody else may have been faster."""
    remove_tree(tmp_path / "none")


def test_several_remove_one_directory(tmp_path: Path) -> None:
    """Removers do not get in each other's way."""
    (tmp_path / "top").mkdir()
    for number in range(20):
        (tmp_path / "top" / str(number)).mkdir()
        _dig(tmp_path / "top" / str(number), 20)
    threads = [threading.Thread(target=remove_tree, args=(tmp_path / "top",)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert list(tmp_path.iterdir()) == []


@pytest.mark.ordinary
def test_directories_that_their_owner_closed_go(tmp_path: Path) -> None:
    """An ordinary user's directories without any permission are no obstacle to that user."""
    here = tmp_path / "top"
    here.mkdir()
    for _ in range(12):
        here = here / "d"
        here.mkdir()
        (here / "file").touch()
    while here != tmp_path:
        here.chmod(0o000 if here.name == "d" else 0o500)
        here = here.parent

    remove_tree(tmp_path / "top")

    assert list(tmp_path.iterdir()) == []
