"""Extended attributes, bytes in and out."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from avfs_git.host.files.beneath import OPEN_DIR, Descriptor
from avfs_git.host.files.closing import closing_fd
from avfs_git.host.files.xattrs import (
    entry_of,
    has_user_xattrs,
    list_xattrs,
    read_xattr,
    read_xattrs,
    remove_xattr,
    write_xattr,
)

pytestmark = pytest.mark.needs("user-xattrs")


def test_by_entry_of_a_directory_and_by_descriptor(tmp_path: Path) -> None:
    """Both name the same file; names and values are bytes."""
    (tmp_path / "file").touch()
    directory = Descriptor(os.open(tmp_path, OPEN_DIR))
    place = entry_of(directory.fd, b"file")
    write_xattr(place, b"user.\xff", b"\0value")
    with closing_fd(os.open(tmp_path / "file", os.O_RDONLY)) as fd:
        for target in (place, fd):
            assert list_xattrs(target) == [b"user.\xff"]
            assert read_xattrs(target) == {b"user.\xff": b"\0value"}
            assert read_xattr(target, b"user.none") is None
        remove_xattr(fd, b"user.\xff")
    assert read_xattrs(place) == {}
    with pytest.raises(OSError, match="No data"):
        remove_xattr(place, b"user.\xff")
    with pytest.raises(FileNotFoundError):
        list_xattrs(entry_of(directory.fd, b"missing"))


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    """A link has no attributes of users, whatever it points to."""
    (tmp_path / "file").touch()
    os.setxattr(tmp_path / "file", "user.x", b"1")
    (tmp_path / "link").symlink_to("file")
    directory = Descriptor(os.open(tmp_path, OPEN_DIR))
    place = entry_of(directory.fd, b"link")
    assert read_xattrs(place) == {}
    assert read_xattr(place, b"user.x") is None
    with pytest.raises(OSError, match="not permitted"):
        write_xattr(place, b"user.y", b"1")


def test_where_there_are_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file system without attributes has none; a failing one fails."""

    def refuse(number: int) -> None:
        def raise_it(*args: object, **kwargs: object) -> None:
            raise OSError(number, os.strerror(number))

        monkeypatch.setattr(os, "listxattr", raise_it)
        monkeypatch.setattr(os, "getxattr", raise_it)

    place = os.fsencode(tmp_path)
    refuse(errno.ENOTSUP)
    assert list_xattrs(place) == []
    assert read_xattr(place, b"user.x") is None
    refuse(errno.EIO)
    with pytest.raises(OSError, match="Input/output"):
        list_xattrs(place)
    with pytest.raises(OSError, match="Input/output"):
        read_xattr(place, b"user.x")


def test_attributes_of_users_are_told_from_others(tmp_path: Path) -> None:
    """Labels of the system count as none, nor do those of what is not there or can have none."""
    place = os.fsencode(tmp_path / "file")
    (tmp_path / "link").symlink_to("file")
    assert not has_user_xattrs(place)
    (tmp_path / "file").touch()
    if os.geteuid() == 0:
        write_xattr(place, b"trusted.label", b"x")
    assert not has_user_xattrs(place)
    write_xattr(place, b"user.note", b"x")
    assert has_user_xattrs(place)
    assert not has_user_xattrs(os.fsencode(tmp_path / "link"))
