"""What the tests of the object layer share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from avfs_git.gitstore.objects.store import ObjectStore
from avfs_git.gitstore.repository import init_vault_repo


@pytest.fixture
def git_dir(tmp_path: Path) -> Path:
    """An empty repository."""
    path = tmp_path / "vault.git"
    init_vault_repo(path)
    return path


@pytest.fixture
def store(git_dir: Path) -> Iterator[ObjectStore]:
    """Its objects."""
    with ObjectStore(git_dir) as opened:
        yield opened
