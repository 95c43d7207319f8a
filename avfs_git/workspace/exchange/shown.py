"""What a clone's disk shows of an entry: permissions, and where git distrusts them or links (`core.fileMode`).

Decided here: which entries `exchange.apply` takes for the same there, what it writes for a link (`core.symlinks`), and
which permissions a file gets: of the file that it replaces, else as the fork has recorded them.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from avfs_git.gitstore.config.userconfig import read_shown_kinds
from avfs_git.gitstore.formats.trees import MODE_EXEC, MODE_FILE, MODE_SYMLINK
from avfs_git.gitstore.repository import find_git_dir
from avfs_git.gitstore.source import ObjectSource
from avfs_git.model import ChangedFile
from avfs_git.paths import Oid, TreePath, split
from avfs_git.vfs.layer.sidecar import find_attributes, parse_record
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


class Recorded:
    """The permissions that a sidecar tree has recorded: git's mode tells the right to execute only."""

    def __init__(self, source: ObjectSource, sidecar: Oid | None) -> None:
        self._source = source
        self._tree = sidecar

    def of_file(self, path: TreePath, *, is_exec: bool) -> int:
        """Tell the permissions of a file."""
        found = self._find(path)
        return (0o777 if is_exec else 0o666) if found is None else _fit(found, is_exec=is_exec)

    def of_directory(self, path: TreePath) -> int:
        """Tell the permissions of a directory, in which its owner can make files."""
        found = self._find(path)
        return 0o777 if found is None else found | 0o700

    def _find(self, path: TreePath) -> int | None:
        directory, name = split(path)
        record = find_attributes(self._source, self._tree, directory, (name,)).get(name)
        mode = parse_record(record, self._tree).mode if record is not None and self._tree is not None else None
        return mode & 0o777 if mode is not None else None


def read_permissions(directory: int, name: bytes, *, is_exec: bool) -> int | None:
    """Tell which permissions the file that replaces another one gets: its own; None if there is no file."""
    try:
        status = os.stat(name, dir_fd=directory, follow_symlinks=False)
    except FileNotFoundError:
        return None
    return _fit(status.st_mode & 0o777, is_exec=is_exec) if stat.S_ISREG(status.st_mode) else None


def _fit(mode: int, *, is_exec: bool) -> int:
    """Give permissions the right to execute that git's mode says: all readers may execute an executable file."""
    if bool(mode & stat.S_IXUSR) == is_exec:
        return mode
    return mode | (mode & 0o444) >> 2 if is_exec else mode & ~0o111
