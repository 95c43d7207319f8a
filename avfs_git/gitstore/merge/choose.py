"""Which engine merges.

Decided here and nowhere else; called wherever something is merged.
"""

from __future__ import annotations

from collections.abc import Callable

from avfs_git.gitstore.merge.bylibgit2 import LibGit2Engine
from avfs_git.gitstore.merge.engine import ConflictStyle, EngineName, MergeEngine, StoringSink
from avfs_git.model import MergeStrategy


def make_engine(
    name: EngineName,
    sink: StoringSink,
    *,
    favor: MergeStrategy = MergeStrategy.NORMAL,
    style: ConflictStyle | Callable[[], ConflictStyle] = ConflictStyle.MERGE,
    attributes: bytes = b"",
) -> MergeEngine:
    """Make an engine.

    Args:
        name: Which.
        sink: Where objects are read from and new ones go.
        favor: What becomes of lines that both sides changed.
        style: How conflicts are shown, or what tells it when that is first asked.
        attributes: What the repository itself says of files (`info/attributes`), above the `.gitattributes` of our side.
    """
    if name is EngineName.GIT:
        from avfs_git.gitstore.merge.bygit import GitEngine  # noqa: PLC0415 - what runs processes is wanted by few

        return GitEngine(sink, favor=favor, style=style, attributes=attributes)
    return LibGit2Engine(sink, favor=favor, style=style, attributes=attributes)
