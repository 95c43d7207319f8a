"""Which engine merges.

Decided here and nowhere else; called wherever something is merged.
"""

from __future__ import annotations

from avfs_git.gitstore.merge.bylibgit2 import LibGit2Engine
from avfs_git.gitstore.merge.engine import ConflictStyle, EngineName, MergeEngine, StoringSink, Style
from avfs_git.model import MergeStrategy


def make_engine(
    name: EngineName,
    sink: StoringSink,
    *,
    favor: MergeStrategy = MergeStrategy.NORMAL,
    style: Style = ConflictStyle.MERGE,
    attributes: bytes = b"",
) -> MergeEngine:
    """Make an engine that reads from the sink and puts new objects there.

    `attributes` is the repository's own `info/attributes`, above the `.gitattributes` of our side.
    """
    if name is EngineName.GIT:
        from avfs_git.gitstore.merge.bygit import GitEngine  # noqa: PLC0415 - what runs processes is wanted by few

        return GitEngine(sink, favor=favor, style=style, attributes=attributes)
    return LibGit2Engine(sink, favor=favor, style=style, attributes=attributes)
