"""Where the files of sessions are: in the vault, or in a directory of the user's own.

Decided here: the names of the files of one session, and where the records of a read-only vault's mounts are: below
`/tmp/avfs-UID`, by the device and inode of `avfs/`, so that any path to the vault finds them. That directory is used only if it
is the user's own and closed to others. docs/design/format.md is the normative text. From any thread or process.
"""

from __future__ import annotations

import errno
import os
import stat
from contextlib import suppress
from pathlib import Path
from typing import Final

from avfs_git.errors import HostError
from avfs_git.host.files.modes import make_dir, make_private_dirs

_ELSEWHERE: Final = Path("/tmp")  # noqa: S108 - for a directory that only its owner may open, which is made sure of


class SessionPlace:
    """Where the files of one session are."""

    def __init__(self, sessions: Path, session_id: str) -> None:
        self.id = session_id
        self.root = sessions / session_id
        self.record = self.root / "record"
        self.lock = self.root / "lock"
        self.socket = self.root / "socket"
        self.log = self.root / "log"
        self.users = self.root / "users"
        self.old_logs = sessions / "logs"


def find_place(sessions: Path, session_id: str) -> SessionPlace:
    """Tell where the files of a session of a vault are."""
    place = SessionPlace(sessions, session_id)
    elsewhere = None if place.root.is_dir() else find_elsewhere(sessions)
    return place if elsewhere is None else SessionPlace(elsewhere, session_id)


def make_sessions(sessions: Path) -> None:
    """Make the directory of the sessions of a vault: for every user of the vault. Raises OSError."""
    make_private_dirs(sessions.parent)
    make_dir(sessions, exist_ok=True)


def is_elsewhere(sessions: Path) -> bool:
    """Whether a directory of sessions is that of a read-only vault."""
    return sessions.parent == _top_elsewhere()


def find_elsewhere(sessions: Path) -> Path | None:
    """Tell where this user's sessions of a vault are if the vault is read-only; None if the user has none of any such vault."""
    top = _top_elsewhere()
    try:
        found, vault = os.lstat(top), os.stat(sessions.parent)
    except OSError:
        return None
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & 0o077:
        return None
    return top / name_elsewhere(vault)


def make_elsewhere(sessions: Path) -> Path:
    """Give the directory of this user's sessions of a read-only vault, whose top is made if needed.

    Raises:
        HostError: If another user has that directory, or can open it.
    """
    top = _top_elsewhere()
    with suppress(FileExistsError):
        os.mkdir(top, 0o700)
    place = find_elsewhere(sessions)
    if place is None:
        said = "it belongs to another user, or others may open it"
        error = HostError(f"use '{top}' for a mount of a vault that may only be read", OSError(errno.EACCES, said))
        error.hint = f"Remove '{top}', or have root or its owner do so."
        raise error
    return place


def name_elsewhere(root: os.stat_result) -> str:
    """Name a read-only vault's sessions, by what `stat` says of its `avfs/`."""
    return f"{root.st_dev:x}-{root.st_ino:x}"


def _top_elsewhere() -> Path:
    return _ELSEWHERE / f"avfs-{os.geteuid()}"
