"""What a change of a mounted directory leaves for whoever recovers it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from avfs_git.paths import TreePath
from avfs_git.vfs.layer.marks import USER
from avfs_git.vfs.layer.mounted import MountedLayer
from avfs_git.vfs.layer.plan import Step
from avfs_git.vfs.layer.upper import UpperLayer


def test_the_plan_is_on_disk_before_anything_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a power cut an empty one would say that nothing had been changed yet, and half of the change would stay."""
    for name in ("upper", "work", "tree"):
        (tmp_path / name).mkdir()
    synced: list[bytes] = []

    def note(fd: int) -> None:
        synced.append(Path(f"/proc/self/fd/{fd}").read_bytes())

    monkeypatch.setattr(os, "fsync", note)
    below = UpperLayer(tmp_path / "upper", tmp_path / "work", USER)
    layer = MountedLayer(tmp_path / "tree", (tmp_path / "tree").stat().st_dev, below)
    try:
        layer.write_plan([Step(TreePath(b"a"), None, None)])
    finally:
        layer.close()

    assert synced == [b"+a\0"]
