"""Which kind git takes a plain file of a clone for, where the clone's disk cannot show it.

Decided here: the meaning of `core.fileMode=false` and `core.symlinks=false` (git-config(1)), of a clone or of its user.
Then git has the mode of a tracked file from its index, and commits a new one without the right to execute it. Imports
ask, and `apply`; avfs's own workspaces show every mode. That git converts line ends (`core.autocrlf`) leads to a
warning, no more. The clone is only read. A value of this module may be used by any thread.
"""

from __future__ import annotations

import stat
from collections.abc import Mapping
from pathlib import Path

from avfs_git.errors import NotAVault, ObjectMissing
from avfs_git.gitstore.config.userconfig import read_shown_kinds
from avfs_git.gitstore.formats.fullindex import INDEX_MAX, ReadTree, read_full_index
from avfs_git.gitstore.formats.index import BadIndex
from avfs_git.gitstore.formats.trees import MODE_EXEC, MODE_SYMLINK
from avfs_git.gitstore.repofile import read_plain_file
from avfs_git.paths import TreePath
from avfs_git.values import field, value_class


@value_class
class FileModes:
    """What the disk of a clone shows of its files, and what its index says of the rest.

    Attributes:
        shows_exec: Whether git believes the disk on the right to execute a file.
        shows_links: Whether git can have symbolic links there.
        shows_lines: Whether git stores the line ends that the disk has, where no attribute says so.
        staged: The executable files and links of the index, by path; empty where the disk shows both.
    """

    shows_exec: bool = True
    shows_links: bool = True
    shows_lines: bool = True
    staged: Mapping[bytes, int] = field(default_factory=dict)

    def of(self, path: TreePath, shown: int) -> int:
        """Tell as what git takes a file, as a mode of stat(2), from the mode that the disk shows."""
        if (self.shows_exec and self.shows_links) or not stat.S_ISREG(shown):
            return shown
        staged = self.staged.get(path)
        if not self.shows_links and staged == MODE_SYMLINK:
            return stat.S_IFLNK | 0o777
        if self.shows_exec or bool(shown & 0o100) == (staged == MODE_EXEC):
            return shown
        return shown | (shown & 0o444) >> 2 if staged == MODE_EXEC else shown & ~0o111


AS_SHOWN = FileModes()
"""For directories whose disk shows all that git wants to know."""


def read_file_modes(source: Path, git_dir: Path, environment: Mapping[str, str], read_tree: ReadTree) -> FileModes:
    """Find out what git believes the disk of a clone on.

    Costs a process of git, and a look at the index where it matters.
    """
    shows_exec, shows_links, shows_lines = read_shown_kinds(source, environment)
    as_shown = FileModes(shows_lines=shows_lines)
    if shows_exec and shows_links:
        return as_shown
    try:
        index = read_full_index(read_plain_file(git_dir / "index", limit=INDEX_MAX), git_dir, read_tree)
    except FileNotFoundError:  # nothing is tracked
        return FileModes(shows_exec, shows_links, shows_lines)
    except (OSError, NotAVault, BadIndex, ObjectMissing):  # what is staged is not known: the disk is the best there is
        return as_shown
    staged: dict[bytes, int] = {}
    for path, at in zip(index.paths, index.starts, strict=False):  # behind the last start there is the end
        mode = int.from_bytes(index.data[at + 24 : at + 28], "big")
        stage = index.data[at + 60] >> 4 & 3
        if stage == 2 or path not in staged:  # of a conflict, git asks our side first
            staged[path] = mode
    kept = {path: mode for path, mode in staged.items() if mode in (MODE_EXEC, MODE_SYMLINK)}
    return FileModes(shows_exec, shows_links, shows_lines, kept)
