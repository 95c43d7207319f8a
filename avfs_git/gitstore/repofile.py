"""Reading a small file of a repository that a stranger may have made: a link or a device is refused, never followed.

Called by each module that reads git's files in a repository; no state.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import BinaryIO

from avfs_git.errors import NotAVault
from avfs_git.host.files.closing import closing_fd
from avfs_git.host.files.plainfile import NotAFile, open_plain

_END_BYTES = 1 << 20
_PIECE = 1 << 16
"""A request takes memory for all that it asks for, and most of these files hold a line."""


def read_plain_file(path: Path, *, limit: int = 64 << 20) -> bytes:
    """Read a file of a repository, at most `limit` bytes of it.

    Raises:
        NotAVault: If it is a symbolic link, or no regular file.
    """
    with closing_fd(_open(path)) as fd:
        pieces = []
        while piece := os.read(fd, min(limit, _PIECE)):
            pieces.append(piece)
            limit -= len(piece)
        return b"".join(pieces)


def read_end(path: Path) -> bytes:
    """Read the last MiB of a file of a repository; empty where that cannot be read."""
    try:
        with open_plain_file(path) as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - _END_BYTES))
            return file.read()
    except (OSError, NotAVault):  # without the file nothing is known
        return b""


def open_plain_file(path: Path) -> BinaryIO:
    """Open a file of a repository."""
    return os.fdopen(_open(path), "rb")


def _open(path: Path) -> int:
    try:
        return open_plain(path)
    except NotAFile as error:
        raise NotAVault(str(path.parent), f"its '{path.name}' is {error.what}") from None


def list_worktree_dirs(git_dir: Path) -> list[str]:
    """List the directories of the linked working trees of a repository, ours and git's. Each mount and command asks."""
    try:
        with os.scandir(git_dir / "worktrees") as entries:
            return sorted(entry.path for entry in entries if entry.is_dir(follow_symlinks=False))
    except (FileNotFoundError, NotADirectoryError):
        return []


def find_no_file(git_dir: Path) -> Path | None:
    """Find something git reads in a repository that is, or leads to, neither file nor directory.

    Git waits for ever for a pipe, and reads for ever in `/dev/zero`.
    """
    pending = [git_dir / name for name in ("objects", "refs", "logs", "worktrees", "info")]
    while pending:
        try:
            with os.scandir(pending.pop()) as entries:
                for entry in entries:
                    if entry.is_dir(follow_symlinks=False):
                        pending.append(Path(entry.path))
                    elif not entry.is_file() and not entry.is_dir() and os.path.exists(entry.path):
                        return Path(entry.path)
        except (FileNotFoundError, NotADirectoryError):
            continue
    return None
