"""Where the files of sessions are, in the vault.

Decided here: the names of the files of one session. docs/design/format.md is the normative text. From any thread or
process.
"""

from __future__ import annotations

from pathlib import Path

from avfs_git.host.files.modes import make_dir, make_private_dirs


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


def make_sessions(sessions: Path) -> None:
    """Make the directory of the sessions of a vault: for every user of the vault. Raises OSError."""
    make_private_dirs(sessions.parent)
    make_dir(sessions, exist_ok=True)
