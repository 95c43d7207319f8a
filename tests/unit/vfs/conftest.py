"""Layers for tests of the merged view."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from avfs_git.paths import TreePath
from avfs_git.vfs.layer.upper import UpperLayer
from avfs_git.vfs.tree.merged import MergedTree
from tests.support.trees import DirectoryLower


class Layers:
    """A lower and an upper layer in a directory, and a merged tree of them."""

    def __init__(self, base: Path) -> None:
        self.base = base
        self.lower, self.upper, self.work = base / "lower", base / "upper", base / "work"
        for directory in (self.lower, self.upper, self.work):
            directory.mkdir()
        self.reported: list[tuple[TreePath, bool]] = []

    def open(self) -> MergedTree:
        """Open a merged tree that knows nothing of what was before."""
        tree = MergedTree(DirectoryLower(self.lower), UpperLayer(self.upper, self.work))
        tree.changes.report_to(lambda path, deep: self.reported.append((path, deep)))
        return tree


@pytest.fixture
def layers(tmp_path: Path) -> Layers:
    """Give two empty layers."""
    return Layers(tmp_path)


@pytest.fixture
def fill(layers: Layers) -> Callable[[dict[str, bytes | None]], MergedTree]:
    """Fill the lower layer with files, and directories where the content is None, and open the tree."""

    def fill_lower(content: dict[str, bytes | None]) -> MergedTree:
        for path, data in content.items():
            place = layers.lower / path
            (place if data is None else place.parent).mkdir(parents=True, exist_ok=True)
            if data is not None:
                place.write_bytes(data)
        return layers.open()

    return fill_lower
