"""A step of an agent, saved by the session that has the fork mounted, for a program that opens no vault.

Decided here: when that is enough. A coding agent waits for it at each of its calls, and loading what opens a vault
takes longer than the rest. `cli.harness.hook` asks, and opens the vault where this gives nothing: so it finds out what
is wrong, and tells it. To ask twice does no harm, because a checkpoint that was made leaves the next one nothing to
save.
"""

from __future__ import annotations

import os
from contextlib import closing
from pathlib import Path

from avfs_git.errors import AvfsError
from avfs_git.host.locks.locks import LOCK_TIMEOUT_S, LookingLock
from avfs_git.model import CheckpointResult
from avfs_git.session.control.connection import Connection, Lost, Silent, Unread, flusher_of, give_up_after
from avfs_git.workspace.upkeep.due import is_worth_asking
from avfs_git.workspace.vault.format import VaultLayout

_ANSWERS_WITHIN_S = 2.0
"""How long a session may take to say that it is there.

Opening the vault tells the caller for which process it waits.
"""
_HINTS = {"message": str, "with_files": bool, "skips_unreadable": bool}
"""The arguments of `operations.save_checkpoint` for a step; loading that would take a third of the call."""


def save_step(git_dir: Path, fork: str, message: str) -> CheckpointResult | None:
    """Have the session of a fork save a checkpoint, as `Workspace.checkpoint(step=True)` does.

    Return None where it needs the vault.

    That is where no session answers, where the vault is another user's, has hooks of its owner or may need maintenance,
    and where the checkpoint fails.
    """
    layout = VaultLayout(git_dir)
    try:
        if os.stat(git_dir).st_uid != os.geteuid() or layout.hooks.exists() or is_worth_asking(layout):
            return None
        with closing(LookingLock(layout.workspace(fork).lock)) as lock:
            session = lock.session
        if session is None:
            return None
        silence = give_up_after(_ANSWERS_WITHIN_S)
        with closing(
            Connection(layout.sessions / session / "socket", LOCK_TIMEOUT_S, on_silence=silence)
        ) as connection:
            flush = flusher_of(connection.served)
            if flush is not None:
                flush()  # so that little is left for when its turn has come
            given = {"message": message, "with_files": True, "skips_unreadable": True}
            saved: CheckpointResult = connection.ask("save_checkpoint", _HINTS, given, CheckpointResult, flush=flush)
            return saved
    except (AvfsError, OSError, Unread, Lost, Silent):
        return None
