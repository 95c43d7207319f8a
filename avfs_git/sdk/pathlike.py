"""How callers of the API write the paths of a workspace.

Decided here: what may be given, and that the root among several paths means no restriction at all.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

from avfs_git.paths import ROOT, TreePath, parse_tree_path

PathLike = str | bytes | os.PathLike[str]


def parse_tree_paths(paths: Sequence[PathLike]) -> list[TreePath]:
    """Convert what callers write; nothing where the root is among them, which is everything."""
    found = [parse_tree_path(path) for path in paths]
    return [] if ROOT in found else found
