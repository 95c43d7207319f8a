"""Working beneath a directory by descriptors."""

from __future__ import annotations

import errno
import gc
import os
from pathlib import Path

import pytest

from avfs_git.host.files import beneath
from avfs_git.host.files.beneath import (
    POOL,
    RENAME_EXCHANGE,
    RENAME_NOREPLACE,
    Descriptor,
    DescriptorPool,
    open_at,
    open_beneath,
    open_dir,
    rename_at,
)
from avfs_git.host.files.removal import remove_entry


@pytest.fixture
def root(tmp_path: Path) -> Descriptor:
    """Open an empty directory."""
    return Descriptor(os.open(tmp_path, beneath.OPEN_DIR))


class _Holder:
    """Something that can do without its descriptor."""

    def __init__(self) -> None:
        self.descriptor: Descriptor | None = None


def test_descriptor_closes_with_its_last_holder(tmp_path: Path) -> None:
    """Whoever still uses it keeps it open."""
    held = Descriptor(os.open(tmp_path, os.O_RDONLY))
    other, fd = held, held.fd
    del held
    os.fstat(fd)
    del other
    gc.collect()
    with pytest.raises(OSError, match="Bad file"):
        os.fstat(fd)


def test_pool_gives_used_descriptors_a_second_chance(root: Descriptor) -> None:
    """The limit holds; what was asked for meanwhile outlives what was not."""
    pool = DescriptorPool(limit=3)
    holders = [_Holder() for _ in range(5)]
    for holder in holders[:3]:
        pool.keep(holder, open_dir(root.fd, b"."))
    kept = [holder.descriptor for holder in holders[:3]]
    for held in kept:
        assert held is not None
        held.used = held is kept[0]
    pool.keep(holders[3], open_dir(root.fd, b"."))
    assert [holder.descriptor is not None for holder in holders] == [True, False, True, True, False]
    pool.clear()
    assert all(holder.descriptor is None for holder in holders)


def test_open_at_makes_room_when_too_many_files_are_open(root: Descriptor, monkeypatch: pytest.MonkeyPatch) -> None:
    """The pool's descriptors are given up before an open fails."""
    holder = _Holder()
    POOL.keep(holder, open_dir(root.fd, b"."))
    real, calls = os.open, []

    def refuse_once(*args: object, **kwargs: object) -> int:
        calls.append(args)
        if len(calls) == 1:
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        return real(*args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(os, "open", refuse_once)
    os.close(open_at(root.fd, b".", os.O_RDONLY))
    assert holder.descriptor is None


def test_no_step_follows_a_link(root: Descriptor, tmp_path: Path) -> None:
    """Neither a directory nor a file is reached through one."""
    (tmp_path / "dir").mkdir()
    (tmp_path / "file").touch()
    (tmp_path / "to-dir").symlink_to("dir")
    (tmp_path / "to-file").symlink_to("file")
    for names in ([b"to-dir"], [b"to-dir", b"x"]):
        with pytest.raises(NotADirectoryError):
            open_beneath(root.fd, names)
    with pytest.raises(OSError, match="symbolic links"):
        open_at(root.fd, b"to-file", os.O_RDONLY)


def test_rename_at_knows_the_flags(root: Descriptor, tmp_path: Path) -> None:
    """Names change places, or stay when one is taken; a NUL is refused before C would cut the name there."""
    for name in "ab":
        (tmp_path / name).write_text(name)
    with pytest.raises(FileExistsError):
        rename_at(root.fd, b"a", root.fd, b"b", RENAME_NOREPLACE)
    rename_at(root.fd, b"a", root.fd, b"b", RENAME_EXCHANGE)
    assert (tmp_path / "a").read_text() == "b"
    with pytest.raises(ValueError, match="null byte"):
        rename_at(root.fd, b"a\0x", root.fd, b"c", RENAME_EXCHANGE)
    rename_at(root.fd, b"a", root.fd, b"b")
    assert os.listdir(tmp_path) == ["b"]


def test_rename_at_without_the_system_call(root: Descriptor, monkeypatch: pytest.MonkeyPatch) -> None:
    """A system that does not know the flags says so."""
    monkeypatch.setattr(beneath, "_renameat2", None)
    with pytest.raises(OSError, match="not implemented"):
        rename_at(root.fd, b"a", root.fd, b"b", RENAME_EXCHANGE)


def test_remove_entry_removes_whatever_is_there(root: Descriptor, tmp_path: Path) -> None:
    """Files, links (not their targets), closed directories, and what is missing already."""
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "kept").touch()
    tree = tmp_path / "tree"
    (tree / "closed" / "below").mkdir(parents=True)
    (tree / "link").symlink_to(outside)
    (tree / "file").touch()
    os.mkfifo(tree / "pipe")
    (tree / "closed").chmod(0)
    for name in (b"tree", b"tree", b"missing"):
        remove_entry(root.fd, name)
    assert sorted(os.listdir(tmp_path)) == ["outside"]
    assert os.listdir(outside) == ["kept"]
    (tmp_path / "link").symlink_to(outside)
    remove_entry(root.fd, b"link")
    assert os.listdir(outside) == ["kept"]


@pytest.mark.slow
def test_remove_entry_of_4000_levels(root: Descriptor, tmp_path: Path) -> None:
    """Depth costs neither recursion nor a descriptor a level."""
    os.mkdir(tmp_path / "deep")
    here = os.open(tmp_path / "deep", os.O_RDONLY)
    for _ in range(4000):
        os.mkdir("level", dir_fd=here)
        os.mkdir("beside", dir_fd=here)
        below = os.open("level", os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = below
    os.close(here)
    before = len(os.listdir("/proc/self/fd"))
    remove_entry(root.fd, b"deep")
    assert os.listdir(tmp_path) == []
    assert len(os.listdir("/proc/self/fd")) == before


def test_remove_entry_says_what_it_cannot_remove(
    root: Descriptor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An error of the disk is not taken for a directory, and no descriptor is left open."""
    (tmp_path / "dir").mkdir()
    (tmp_path / "dir" / "file").touch()

    def refuse(*args: object, **kwargs: object) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    before = len(os.listdir("/proc/self/fd"))
    with monkeypatch.context() as patch:
        patch.setattr(os, "unlink", refuse)
        with pytest.raises(OSError, match="Input/output"):
            remove_entry(root.fd, b"dir")
    assert len(os.listdir("/proc/self/fd")) == before
