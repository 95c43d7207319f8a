"""Which branch of a remote a fork is updated from: changed together with the log.

Decided here: the order. The state of the workspace says what is about to be followed, then the log gets a line with the
same word, then the state says that it is followed. After a crash the next process with the workspace lock asks the log
(`complete`). Called with the workspace lock held, by `merge.catchup`, by undo and redo, and by `restore.recovery`.
"""

from __future__ import annotations

import os

from avfs_git.errors import HostError
from avfs_git.faults import reach
from avfs_git.workspace.opened.workspace import LockedWorkspace
from avfs_git.workspace.vault.format import Following
from avfs_git.workspace.vault.log.oprecord import INTENT, OpRecord


def follow(locked: LockedWorkspace, branch: str | None, record: OpRecord) -> None:
    """Update a fork from another branch from now on, with `record` as the line in the log, which is on disk on return.

    Raises:
        HostError: If the disk refuses; the fork follows what it did.
    """
    opened, lock = locked.opened, locked.opened.lock
    locked.vault.prepare()
    word = os.urandom(8).hex()
    record.more = {**record.more, INTENT: word}
    is_marked = opened.is_clean()
    locked.begin()  # other processes that have the workspace open read its state again
    try:
        try:
            opened.state.following = Following(word, branch)
            locked.write_state()
            reach("follow.announced")
            locked.vault.oplog.append(record)
        finally:
            locked.end()
        reach("follow.logged")
        if is_marked:
            lock.mark_clean(lock.epoch, lock.clean_commit)
    except BaseException:
        opened.forget()  # what the disk says is not known: the next holder of the lock asks the log
        raise
    try:
        _settle(locked, branch)
    except HostError:  # as above: the log has it
        opened.forget()


def complete(locked: LockedWorkspace) -> None:
    """Settle what a process was changing when it died."""
    state = locked.opened.state
    if state.following is not None:
        is_told = locked.vault.oplog.has_happened(locked.fork, state.following.intent)
        _settle(locked, state.following.branch if is_told else state.upstream)


def _settle(locked: LockedWorkspace, branch: str | None) -> None:
    locked.opened.state.upstream = branch
    locked.opened.state.following = None
    locked.write_state()
