"""A home with one empty vault, and its workspace."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from avfs_git.model import Identity
from avfs_git.sdk import Avfs, Vault, Workspace


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Avfs]:
    """An empty home with a clock that ticks once a look."""
    seconds = iter(range(1_700_000_000, 1_800_000_000))
    identity = Identity("Ada Author", "ada@example.org")
    with Avfs(tmp_path / "home", identity=identity, clock_ns=lambda: next(seconds) * 10**9) as avfs:
        yield avfs


@pytest.fixture
def vault(home: Avfs) -> Vault:
    """An empty vault."""
    return home.create_vault("v")


@pytest.fixture
def work(vault: Vault) -> Workspace:
    """The workspace of its first fork."""
    return vault.workspace()
