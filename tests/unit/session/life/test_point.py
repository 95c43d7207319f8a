"""The directory of a mount: which are fit."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from avfs_git.errors import MountPointUnusable
from avfs_git.session.life import point


def refuse(directory: Path, git_dir: Path = Path("/v.git")) -> str:
    """Have a directory refused; tell why."""
    with pytest.raises(MountPointUnusable) as caught:
        point.check(directory, git_dir)
    return str(caught.value.details["reason"])


def test_missing_directories_are_listed_and_made(tmp_path: Path) -> None:
    """What is missing is made, the outermost first, for nobody else to look into."""
    missing = point.check(tmp_path / "a" / "b", Path("/v.git"))
    assert missing == (str(tmp_path / "a"), str(tmp_path / "a" / "b"))

    point.make(missing)

    assert (tmp_path / "a" / "b").stat().st_mode & 0o777 == 0o700
    assert point.check(tmp_path / "a" / "b", Path("/v.git")) == ()


def test_unfit_directories_are_refused(tmp_path: Path) -> None:
    """Nothing is mounted over anything."""
    (tmp_path / "file").write_bytes(b"")
    (tmp_path / "dangling").symlink_to("nowhere")

    assert refuse(tmp_path) == "it is not empty"
    assert refuse(tmp_path / "file") == "it is not a directory"
    assert refuse(tmp_path / "file" / "below") == "a part of its path is not a directory"
    assert refuse(Path("/proc")) == "something is mounted there already"


def test_vault_and_mount_keep_out_of_each_other(tmp_path: Path) -> None:
    """A mount inside the vault would be part of it; one around the vault would hide it from its own server."""
    git_dir = tmp_path / "home" / "v.git"
    (git_dir / "empty").mkdir(parents=True)
    (tmp_path / "link").symlink_to(git_dir)

    assert refuse(git_dir / "empty", git_dir) == "it is inside the vault"
    assert refuse(git_dir, git_dir) == "it is inside the vault"
    assert refuse(point.resolve(tmp_path / "link" / "empty"), tmp_path / "link") == "it is inside the vault"
    assert refuse(tmp_path / "home", git_dir) == "the vault is inside it"


def test_paths_are_resolved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the mount table will show is what is compared, also for a path that is not there yet."""
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    monkeypatch.chdir(tmp_path)

    assert point.resolve("link/new") == tmp_path / "real" / "new"
    assert point.resolve(os.fsdecode(b"\xff")) == tmp_path / os.fsdecode(b"\xff")
    for bad in ("", "a\0b"):
        with pytest.raises(MountPointUnusable):
            point.resolve(bad)


def test_default_directories_differ_by_vault_fork_and_commit() -> None:
    """Each mount that may stand beside another has a place of its own."""
    mounts = Path("/home/mounts")

    assert point.default_directory(mounts, "v", "feature/x", None) == mounts / "v" / "feature" / "x"
    assert point.default_directory(mounts, "v", "main", "0123456789abcdef") == mounts / "v" / "main@0123456789ab"
    assert point.name_of_vault(Path("/a/v.git")) != point.name_of_vault(Path("/b/v.git"))
