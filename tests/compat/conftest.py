"""What the tests with git as the oracle share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from avfs_git.sdk import Avfs


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Avfs]:
    """An empty home."""
    with Avfs(tmp_path / "home") as avfs:
        yield avfs
