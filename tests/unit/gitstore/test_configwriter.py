"""Changing a repository's configuration beside git."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from avfs_git.errors import HostError
from avfs_git.gitstore.configwriter import rewrite_config


def _listed(directory: Path) -> dict[str, os.stat_result]:
    return {entry.name: entry.stat() for entry in os.scandir(directory)}


def test_what_is_changed_replaces_the_file(tmp_path: Path) -> None:
    """It has the mode of the one before; the lock is gone."""
    (tmp_path / "config").write_bytes(b"[core]\n")
    (tmp_path / "config").chmod(0o640)
    before = _listed(tmp_path)

    rewrite_config(tmp_path, lambda data: data + b"\tbare = true\n", wait_s=0)

    after = _listed(tmp_path)
    assert after.keys() == before.keys()
    assert after["config"].st_mode == before["config"].st_mode
    assert (tmp_path / "config").read_bytes() == b"[core]\n\tbare = true\n"


def test_what_stays_the_same_is_not_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who comes when another has done it waits for no disk; the file is the one that it was, and so is one that is not there."""
    synced: list[int] = []
    monkeypatch.setattr(os, "fsync", synced.append)
    rewrite_config(tmp_path, lambda data: data, wait_s=0)
    assert _listed(tmp_path) == {}
    (tmp_path / "config").write_bytes(b"[core]\n")
    before = _listed(tmp_path)

    rewrite_config(tmp_path, lambda data: data, wait_s=0)

    assert _listed(tmp_path) == before
    assert synced == []


def test_a_lock_that_stays_is_told(tmp_path: Path) -> None:
    """It is git's, and is left."""
    (tmp_path / "config.lock").touch()
    with pytest.raises(HostError) as caught:
        rewrite_config(tmp_path, lambda data: data + b"x", wait_s=0)

    assert caught.value.__cause__ is not None
    assert getattr(caught.value.__cause__, "errno", None) == errno.EBUSY
    assert [*_listed(tmp_path)] == ["config.lock"]
