"""What a clone's disk shows of an entry where git distrusts its modes or links (`core.fileMode`, `core.symlinks`).

Decided here: which entries `exchange.apply` takes for the same there, and what it writes for a link. Reads nothing but
settings.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from avfs_git.gitstore.config.userconfig import read_shown_kinds
from avfs_git.gitstore.formats.trees import MODE_EXEC, MODE_FILE, MODE_SYMLINK
from avfs_git.gitstore.repository import find_git_dir
from avfs_git.model import ChangedFile
from avfs_git.workspace.exchange.applied import Held


class Shown:
    """What one directory can show."""

    def __init__(self, directory: Path, environment: Mapping[str, str]) -> None:
        in_git = find_git_dir(directory) is not None
        exec_, links, _ = read_shown_kinds(directory, environment) if in_git else (True, True, True)
        self._has_links = links
        self._alike = {MODE_FILE} | (set() if exec_ else {MODE_EXEC}) | (set() if links else {MODE_SYMLINK})

    def is_any(self, held: Held, others: Sequence[Held]) -> bool:
        """Tell whether what is there may be one of some entries."""
        return held in others or any(
            held is not None and one is not None and held[1] == one[1] and {held[0], one[0]} <= self._alike
            for one in others
        )

    def as_written(self, changes: Sequence[ChangedFile]) -> list[ChangedFile]:
        """Make plain files with the target as content of links that cannot be there; git commits them as links."""
        if self._has_links:
            return list(changes)

        def plain(mode: int | None) -> int | None:
            return MODE_FILE if mode == MODE_SYMLINK else mode

        return [replace(one, old_mode=plain(one.old_mode), new_mode=plain(one.new_mode)) for one in changes]
