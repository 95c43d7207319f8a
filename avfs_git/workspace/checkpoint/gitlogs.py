"""What git's logs tell of a live tree's files: which commits of their branch they have.

Decided here: what git in the tree and others have each done to the branch since avfs moved it last. Called with the
workspace locked, by `unseen` and where its answers are acted on. Writes nothing. The logs tell of moves by the second,
and of none that avfs has made.
"""

from __future__ import annotations

import os
from contextlib import suppress

from avfs_git.gitstore.formats.reflog import (
    Logged,
    find_inside,
    find_led_on,
    find_way_back,
    is_led_inside,
    list_put_inside,
)
from avfs_git.gitstore.worktree import Worktree
from avfs_git.paths import Oid
from avfs_git.workspace.vault.format import HEADS
from avfs_git.workspace.vault.gitmoves import open_worktree
from avfs_git.workspace.vault.vault import OpenVault

_SECOND_NS = 1_000_000_000


def find_held(vault: OpenVault, fork: str, head: Oid, since: Oid) -> Oid | None:
    """Find the last commit of a fork's branch whose changes its live tree has, or took back by git there.

    `since` is the commit that it had when avfs looked last. None if git never worked there, or its logs lack the head.
    Git deletes its log of a branch with that; the one of HEAD tells what git has done in the tree.
    """
    worktree = open_worktree(vault, fork)
    if not worktree.is_there:
        return None
    moves, heads = worktree.read_moves(HEADS + fork), worktree.read_heads()
    logs = (log for log in (moves, heads) if log and log[-1].new == head)
    return next((find_led_on(log, heads, since) for log in logs), None)


def list_made_last(vault: OpenVault, fork: str, head: Oid, since: Oid) -> list[Oid]:
    """List the commits to which git in the fork's own live tree has moved its branch or its files, newest first.

    As `reflog.list_put_inside` does.
    """
    worktree = open_worktree(vault, fork)
    if not worktree.is_there:
        return []
    moves, heads = worktree.read_moves(HEADS + fork), worktree.read_heads()
    back = find_way_back(heads, fork)
    return list(list_put_inside(moves, heads, head, since, back.came if back is not None else None))


def list_moves_outside(vault: OpenVault, fork: str, since: Oid, head: Oid, since_ns: int) -> list[tuple[Oid, Oid]]:
    """List by which moves others than git in its live tree have brought a branch to a commit, newest first.

    They go back to where the branch was at `since` for the first time after a moment (`since_ns`), or else as far as
    git's log leads without a gap.
    """
    worktree, at = open_worktree(vault, fork), head
    is_inside = find_inside(worktree.read_heads() if worktree.is_there else ())
    found: list[tuple[Oid, Oid]] = []
    count = 0 if head == since else None  # of the moves up to the earliest `since` that was met
    for move in reversed(worktree.read_moves(HEADS + fork)):
        if move.new != at or move.old is None or not vault.store.exists(move.old):
            break
        is_own, is_before = is_inside(move), move.when_s < since_ns // _SECOND_NS
        if count is not None and (is_before or (is_own and at == since)):
            break
        if not is_own:
            found.append((move.old, at))
        at = move.old
        if at == since:
            count = len(found)
    return found[:count]


def is_brought_back(vault: OpenVault, fork: str, head: Oid, since_ns: int) -> bool:
    """Tell whether others than git in its live tree have moved a branch from a commit and back since a moment.

    Without that git, nothing has brought into the files what was there meanwhile.
    """
    with suppress(OSError):
        moved_ns = os.stat(vault.git_dir / "logs" / (HEADS + fork)).st_mtime_ns
        if moved_ns > since_ns and open_worktree(vault, fork).is_there:
            return bool(list_moves_outside(vault, fork, head, head, since_ns))
    return False


def find_come_back(vault: OpenVault, fork: str, since: Oid) -> Oid | None:
    """Find the commit of their branch that the files of a live tree have because git has come back to that branch.

    They had all of the commit `since` before. Git came back since the log recorded the files last, to this commit, or
    has made it since.
    """
    worktree = open_worktree(vault, fork)
    if not worktree.is_there or worktree.find_head() is not None:
        return None
    heads = worktree.read_heads()
    back, last = find_way_back(heads, fork), vault.oplog.find_last_state(fork)
    if back is None or (last is not None and _find_time(worktree, back.came) <= last.created_at_ns):
        return None
    moves = worktree.read_moves(HEADS + fork)
    if not is_led_inside(moves, heads, since, back.left):
        return None
    found = find_led_on(moves, heads, back.came.new)
    return found if found != since else None


def _find_time(worktree: Worktree, came: Logged) -> int:
    """Tell when HEAD came to a branch, in ns: its file has that, if git wrote it right after the line in its log."""
    with suppress(OSError):
        written_ns = os.stat(worktree.path / "HEAD").st_mtime_ns
        if 0 <= written_ns // _SECOND_NS - came.when_s <= 1:
            return written_ns
    return came.when_s * _SECOND_NS
