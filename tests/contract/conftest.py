"""What the tests of promises share: each module has a vault of its own kind."""

from __future__ import annotations

from pathlib import Path

import pytest

from avfs_git.sdk import Vault, Workspace


@pytest.fixture
def work(vault: Vault) -> Workspace:
    """The workspace of the fork `work`, or else of the default fork."""
    return vault.workspace("work" if vault.has_fork("work") else None)


@pytest.fixture
def tree(mount_dir: Path) -> Path:
    """Where to mount; not there yet."""
    return mount_dir / "m"


@pytest.fixture
def small_source(tmp_path: Path) -> Path:
    """A directory with a file at its root and one two directories deep."""
    source = tmp_path / "source"
    (source / "d" / "below").mkdir(parents=True)
    (source / "file").write_text("content\n")
    (source / "d" / "below" / "deep").write_text("deep\n")
    return source
