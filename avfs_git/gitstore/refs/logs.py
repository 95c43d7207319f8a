"""Git's logs of refs: the end of one is read, and a line is added.

Decided here: how much of a log is read, and that a log which cannot be written stops nothing. Called by all that go by
what git did, and by fetches. No state; an added line is on disk with the next sync of the disk.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from avfs_git.gitstore.formats.reflog import Logged, format_move, parse_log
from avfs_git.gitstore.repofile import read_end
from avfs_git.host.files.closing import closing_fd
from avfs_git.host.files.modes import make_dir, open_file
from avfs_git.paths import Oid


def read_log(path: Path) -> list[Logged]:
    """List the lines of a git log file, the oldest first; empty without a file."""
    return parse_log(read_end(path))


def append_log(git_dir: Path, ref: str, old: Oid | None, new: Oid, message: str) -> None:
    """Add a line to git's log of a ref, which git's `--fork-point` reads. Durable with the next sync of the disk.

    A log that cannot be written is no reason to leave the ref where it is.
    """
    append_to(git_dir, f"logs/{ref}", format_move(old, new, message))


def append_to(git_dir: Path, name: str, data: bytes) -> None:
    """Add to a log in a repository, which is made with the directories above it; where that fails, do nothing."""
    with suppress(OSError):
        for above in reversed(Path(name).parents):
            make_dir(git_dir / above, exist_ok=True)
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        with closing_fd(open_file(git_dir / name, flags)) as fd:
            os.write(fd, data)
