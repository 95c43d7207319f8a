"""For which commit of its branch git's index in a working tree was made.

Decided here: git's logs tell, but for `git commit -- PATH` over what others have put on the branch, where the index has
what it had before that commit and the path. There its entries tell. Called by `workspace.vault`; reads, from any
thread.
"""

from __future__ import annotations

from bisect import bisect_left

from avfs_git.gitstore.compare.treediff import Entry, find_differences
from avfs_git.gitstore.formats.index import BadIndex, GitIndex
from avfs_git.gitstore.formats.reflog import Logged, find_inside, find_last_inside, find_logged_index
from avfs_git.gitstore.source import ObjectSource
from avfs_git.gitstore.worktree import Worktree
from avfs_git.paths import Oid


def find_indexed(
    worktree: Worktree, source: ObjectSource, branch: str, head: Oid, known: Oid, basis: Oid | None
) -> Oid | None:
    """Find the last commit for which git in the working tree made its index, after the commit `known`.

    Return None if the index is still that of `basis`, or else of `known`. Costs a look at two logs; where others have
    moved the branch beneath a commit of this tree, the index and what they changed.
    """
    moves, heads, since = worktree.read_moves(f"refs/heads/{branch}"), worktree.read_heads(), (known, basis)
    made = find_logged_index(moves, heads, branch, head, since)
    while made is not None:
        others = _find_below(moves, heads, made, since)
        if others is None:
            return made
        at, older = others
        before = find_last_inside(moves[: older + 1], heads, moves[older].new, since)
        if not _lacks(worktree, source, (before or basis or known, at, made)):
            return made
        made = before
    return None


def _find_below(
    moves: list[Logged], heads: list[Logged], made: Oid, since: tuple[Oid | None, ...]
) -> tuple[Oid, int] | None:
    """Find the commit that others last put on a branch below one of the tree's own, and its line in the log."""
    is_inside, at = find_inside(heads), made
    lines = reversed(range(max((line for line, move in enumerate(moves) if move.new == made), default=-1) + 1))
    for line in lines:
        move = moves[line]
        if at in since or move.new != at or move.old is None:
            return None
        if not is_inside(move):
            return (at, line) if at != made else None
        at = move.old
    return None


def _lacks(worktree: Worktree, source: ObjectSource, commits: tuple[Oid, Oid, Oid]) -> bool:
    """Tell whether the index has nothing of what others did between two commits, and the third left as it was."""
    before, others, made = (source.read_commit(oid).tree for oid in commits)
    changed = find_differences(source, before, others)
    for path in find_differences(source, others, made):
        changed.pop(path, None)
    if not changed:
        return False
    try:
        index = worktree.read_entries(source.read_tree)
    except BadIndex:
        return False
    return index is not None and all(_find_entry(index, path) == old for path, (old, _) in changed.items())


def _find_entry(index: GitIndex, path: bytes) -> Entry | None:
    number = bisect_left(index.paths, path)
    if number == len(index) or index.paths[number] != path:
        return None
    found = index.entry(number)
    return found.mode, found.oid
