"""What git has done to a fork's branch in its live tree, as avfs sees it.

Decided here: that a commit which git made in the fork's own live tree is as good as a checkpoint (it is no lost update,
and it can be undone), and where the git directory of a fork goes when the fork goes. Checkpoints and undo call this
with the workspace locked, mounted or not; `workspace.gitdir` is what makes git work there. Costs a look on disk where a
fork was never mounted.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from itertools import islice
from pathlib import Path

from avfs_git.errors import CheckpointNotFound, GitUnderWay, GitUnmerged, HeadElsewhere, HostError, and_more, name_some
from avfs_git.gitstore.formats.reflog import Logged, find_inside
from avfs_git.gitstore.merge.bases import is_ancestor
from avfs_git.gitstore.repository import ensure_config
from avfs_git.gitstore.worktree import Worktree, list_worktrees, read_heads_beside
from avfs_git.host.files.durable import host_errors, write_file_atomically
from avfs_git.host.files.plainfile import holds
from avfs_git.host.locks.flocks import directory_shared, find_shared
from avfs_git.model import Warning
from avfs_git.paths import Oid, fork_dir_name, fork_of_dir_name, is_fork_name, maybe_hex, oid_of, show_path
from avfs_git.patterns import compiled
from avfs_git.values import replace, value_class
from avfs_git.vfs.layer.marks import is_whiteout
from avfs_git.workspace.vault.format import HEADS, WorkspaceLayout
from avfs_git.workspace.vault.log.oprecord import (
    BASE,
    FORK_CREATE,
    GIT_HEAD,
    GIT_LOG,
    IN_COMMAND,
    JOINS,
    UNSEEN,
    OpRecord,
    RefMoveRecord,
)
from avfs_git.workspace.vault.revisions import peel_to_commit
from avfs_git.workspace.vault.vault import OpenVault, name_switch

PUT_AWAY = "git"
"""Where in the workspace of a deleted fork its git directory is."""
GIT_LINK = Path("gitlink", ".git")
"""Where in a workspace the file is that the kernel shows as the `.git` of its tree; nothing else is beside it."""
_TAGS, _STASH = "refs/tags/", "refs/stash"
_STASHED_ON = compiled(r"(?:WIP on|On) ([^:]+): ")
"""How git's log of the stash names the branch that an entry was made on."""
_TEXT_MAX = 200
_PASSED_MAX = 100
"""So many of the last moves of a branch tell by which commits it has come."""
_NAMED = 3
"""Paths that a warning names; the others are counted."""
_GOING = compiled(r"checkout:|reset:|[a-z -]*\(start\)|[^:]*: (Fast-forward|fast-forward|checkout)|clone:|switch:")
"""How git's log begins where HEAD went to a commit that was there already."""
_LEAVING = compiled(r"(checkout|reset|switch):")
"""How it begins where that took HEAD from a commit, and put nothing in its place as an amendment or rebase does."""


@value_class
class CommandStart:
    """Where the branch of a fork was when a command began in it, and when the command ran git."""

    head: Oid | None
    ran: tuple[tuple[int, int], ...] | None = None
    """The first and the last second of each of its gits, since the epoch.

    None where no other program's git can have moved the branch, or it is not known.
    """
    since: int = 0
    """The newest operation of the fork then."""

    def made(self, moves: Sequence[Logged]) -> bool:
        """Tell whether its own git may have made each of some moves: one of its gits ran in the second in git's log."""
        ran = self.ran
        return ran is None or all(any(first <= move.when_s <= last for first, last in ran) for move in moves)


def open_worktree(vault: OpenVault, fork: str) -> Worktree:
    """Name the git directory of a fork's live tree."""
    return Worktree(vault.git_dir, fork_dir_name(fork))


def list_with_git_dir(vault: OpenVault, fork: str | None) -> list[str]:
    """List the forks in whose live trees git may have done something: all such, or one."""
    there = list_worktrees(vault.git_dir)
    names = sorted(map(fork_of_dir_name, there)) if fork is None else [fork]
    ours = [name for name in names if is_fork_name(name) and fork_dir_name(name) in there]
    return [name for name in ours if open_worktree(vault, name).is_there and vault.has_fork(name)]


def prepare_worktree(vault: OpenVault, fork: str, directory: Path) -> bytes:
    """Make git work in a tree that is shown at a directory; give what the file `.git` in it has to hold.

    Raises:
        AvfsError: If the disk or git's configuration refuses.
    """
    worktree = open_worktree(vault, fork)
    worktree.bring_back(vault.layout.workspace(fork).root / PUT_AWAY)
    ensure_config(vault.git_dir)
    return worktree.prepare(HEADS + fork, directory)


def step_aside(vault: OpenVault, fork: str) -> None:
    """Let git outside move or delete a fork's branch, which no tree shows; note for which commit git's index is.

    Else it is taken for that of the branch, also where others have moved that. What git in the tree has done, the index
    has: as the commit before a `git reset --soft` has it, a file is staged.
    """
    head = vault.read_head(fork)
    if head is None or not list_moves_inside(vault, fork, vault.find_followed(fork, head), head):
        vault.note_seen(fork)
    open_worktree(vault, fork).step_aside()


def is_logged(vault: OpenVault, fork: str) -> bool:
    """Tell whether git ever worked in a live tree of a fork, or could: then its branch has a log of git's."""
    return (vault.git_dir / "logs" / (HEADS + fork)).exists()


def link_worktree(vault: OpenVault, fork: str, directory: Path) -> Path:
    """Do what `prepare_worktree` does, and give a file (`GIT_LINK`) to be shown as `.git`."""
    link = vault.layout.workspace(fork).root / GIT_LINK
    content = prepare_worktree(vault, fork, directory)
    with host_errors(f"make '{link}'"):
        link.parent.mkdir(exist_ok=True)
        if not holds(link, content):
            write_file_atomically(link, content, durable=False)
    return link


def is_link_removed(layout: WorkspaceLayout) -> bool:
    """Tell whether a program has removed the file `.git` of a tree on overlayfs."""
    try:
        return is_whiteout(os.lstat(layout.upper / ".git"))
    except FileNotFoundError:
        return False


def find_head_elsewhere(vault: OpenVault, fork: str) -> str | None:
    """Say where git's HEAD is in a fork's live tree, as `on branch 'o'`; None if it is on the fork's branch."""
    worktree = open_worktree(vault, fork)
    at = worktree.find_head() if worktree.is_there else None
    if at is None:
        return None
    return f"on branch '{at.removeprefix(HEADS)}'" if at.startswith(HEADS) else f"detached at {at[:12]}"


def check_head(vault: OpenVault, fork: str) -> None:
    """Refuse an operation that takes the files of the live tree for those of the fork's branch, and may move that.

    Raises:
        HeadElsewhere: If git's HEAD in the tree is not on the branch.
        GitUnderWay: If git is in the middle of a merge, cherry-pick or revert there.
        GitUnmerged: If git has unresolved conflicts there.
        BranchCheckedOut: If another working tree has the branch checked out.
    """
    vault.check_not_elsewhere(fork)
    where = find_head_elsewhere(vault, fork)
    if where is not None:
        raise HeadElsewhere(fork, where, way_back=_way_back(vault, fork))
    check_not_under_way(vault, fork)
    if unmerged := open_worktree(vault, fork).list_unmerged(vault.store.read_tree):  # as of `git stash pop`
        raise GitUnmerged(fork, [show_path(path) for path in unmerged])


def _way_back(vault: OpenVault, fork: str) -> str:
    """Name the commands that put HEAD on the branch again: git switches no branch in the middle of another command.

    Git ends a rebase only where the branch is at the commit at which that began.
    """
    worktree = open_worktree(vault, fork)
    command = worktree.under_way
    if command is None:
        return name_switch(fork)
    if command == "bisect":
        return "`git bisect reset`"
    there = f"`git {command} --continue` or `git {command} --abort`"
    if worktree.find_rebased(HEADS + fork) not in (None, vault.read_head(fork)):
        there = f"`avfs undo` of what has moved '{fork}' since that began, then {there}"
    return there if command == "rebase" else f"{there}, then {name_switch(fork)}"


def find_under_way(vault: OpenVault, fork: str) -> str | None:
    """Name the git command in the middle of which a fork's branch is, as `rebase`; None if there is no such command.

    Git ends a rebase only where the branch has not moved, and gives up a merge, cherry-pick or revert by the branch as
    it is.
    """
    worktree = open_worktree(vault, fork)
    if worktree.find_rebased(HEADS + fork) is not None:
        return "rebase"
    command = worktree.under_way
    return command if command in ("merge", "cherry-pick", "revert") and worktree.find_head() is None else None


def check_not_under_way(vault: OpenVault, fork: str) -> None:
    """Refuse to move a branch in the middle of a command of git's.

    The conflicts that it left would become a commit, and the branch would not go back.

    Raises:
        GitUnderWay: If git is in the middle of one.
    """
    command = find_under_way(vault, fork)
    if command is not None:
        raise GitUnderWay(fork, command)


def warn_of_git(vault: OpenVault, fork: str) -> tuple[Warning, ...]:
    """Warn of what git has left in a live tree, and a checkpoint saves: the files of another branch, and conflicts."""
    worktree = open_worktree(vault, fork)
    if not worktree.is_there:
        return ()
    told = []
    where = find_head_elsewhere(vault, fork)
    if where is not None:
        text = f"git's HEAD in this tree is {where}, and a checkpoint goes to '{fork}'"
        if find_under_way(vault, fork) == "rebase":
            text = (
                f"git's HEAD in this tree is {where}, and what is saved, other than with a label, is recorded "
                f"beside '{fork}'"
            )
        told.append(Warning("git.head_elsewhere", f"{text}; {_way_back(vault, fork)} in the tree brings it back"))
    unmerged = worktree.list_unmerged(vault.store.read_tree)
    if unmerged:
        named = name_some(list(map(show_path, unmerged)), _NAMED)
        text = f"git has unresolved conflicts in {named}, and a checkpoint holds the conflict markers that are there"
        if find_under_way(vault, fork) is not None:
            text = f"{text}; what is saved, other than with a label, is recorded beside '{fork}'"
        told.append(Warning("git.unmerged", f"{text}; `git add` in the tree tells git that a file is resolved"))
    return tuple(told)


def is_made_inside(vault: OpenVault, fork: str, commit: Oid) -> bool:
    """Tell whether it was git in the fork's own live tree that put a commit on its branch."""
    worktree = open_worktree(vault, fork)
    return worktree.is_there and worktree.is_made_inside(HEADS + fork, commit)


def list_moves_inside(vault: OpenVault, fork: str, old: Oid | None, new: Oid) -> list[Logged]:
    """List the moves of a branch from one commit to another by git in the fork's own live tree, newest first.

    The list is empty if git's own log says that it was not git there.
    """
    worktree = open_worktree(vault, fork)
    if not worktree.is_there or old == new:
        return []
    is_inside, at = find_inside(worktree.read_heads()), maybe_hex(new)
    found: list[Logged] = []
    for logged in reversed(worktree.read_moves(HEADS + fork)):
        if maybe_hex(logged.new) != at or not is_inside(logged):
            return []
        found.append(logged)
        at = maybe_hex(logged.old)
        if logged.old == old:
            return found
    return []


def list_made_inside(vault: OpenVault, fork: str) -> frozenset[Oid]:
    """List the commits that git has made in the fork's own live tree, as far back as its log reaches."""
    worktree = open_worktree(vault, fork)
    if not worktree.is_there:
        return frozenset()
    return frozenset(logged.new for logged in worktree.read_heads() if not _GOING.match(logged.message))


def list_left_in_git(vault: OpenVault, fork: str, since_ns: int) -> tuple[str, ...]:
    """Name where git in a fork's live tree put work that is not on its branch: other branches, tags and the stash.

    So are commits that HEAD left by a reset or checkout, or is at, and that nothing else leads to: only git's log names
    them; and a rebase that is not finished. The stash is shared by all live trees: an entry made at `since_ns` or later
    counts, unless it says that it was made on another fork that has a live tree of its own. So are the working trees
    that git itself has made: a commit made there since then counts.
    """
    worktree = open_worktree(vault, fork)
    if not worktree.is_there:
        return ()
    beside = read_heads_beside(vault.git_dir, since_ns)
    head, made = vault.read_head(fork), list_made_inside(vault, fork)
    made |= {logged.new for logged in beside if not _GOING.match(logged.message)}
    refs = _list_tips(vault) if made else {}
    found = [
        ref.removeprefix("refs/")
        for ref, oid in sorted(refs.items())
        if oid in made and oid != head and ref != HEADS + fork
    ]
    heads = [*worktree.read_heads(), *beside]
    left = [logged.old for logged in heads if logged.old in made and _LEAVING.match(logged.message)]
    at = worktree.find_head()
    left += [oid_of(at)] if at is not None and not at.startswith("refs/") and oid_of(at) in made else []
    reached = [*refs.values(), *([head] if head is not None else [])]
    found += [
        f"commit {oid.hex()[:12]}"
        for oid in dict.fromkeys(left)
        if vault.store.exists(oid) and not any(is_ancestor(vault.store, oid, tip) for tip in reached)
    ]
    command = find_under_way(vault, fork)
    found += [f"a {command} that is not finished"] if command is not None else []
    for age, logged in enumerate(reversed(worktree.read_moves(_STASH))):
        on = _STASHED_ON.match(logged.message)
        is_of_other = (
            on is not None and on[1] != fork and vault.has_fork(on[1]) and open_worktree(vault, on[1]).is_there
        )
        if logged.when_s >= since_ns // 1_000_000_000 and not is_of_other:
            found.append(f"stash@{{{age}}}")
    return tuple(found)


def _list_tips(vault: OpenVault) -> dict[str, Oid]:
    """List the commits that branches and tags lead to; git allows tags of trees and files, which lead to no commit."""
    tips = vault.refs.list(HEADS)
    for ref, oid in vault.refs.list(_TAGS).items():
        with suppress(CheckpointNotFound):
            tips[ref] = peel_to_commit(vault, oid)
    return tips


def find_git_moves(
    vault: OpenVault, fork: str, command: CommandStart | None = None
) -> tuple[list[Logged], list[Logged]]:
    """List what git has done to a fork's branch in its live tree and the operation log does not have, the oldest first.

    What others have done to the branch, and what came after that, is left alone, whether or not git's own log has it.

    Returns:
        The moves that are operations of their own, and those since `command` began that belong to it: none of them
        where another program's git made one.
    """
    chain = _list_moves(vault, fork)
    if command is not None:
        for at, logged in enumerate(chain):
            if logged.old == command.head and command.made(chain[at:]) and not _find_unseen(vault, fork, chain[at:]):
                return chain[:at], chain[at:]
    return chain, []


def adopt_git_moves(vault: OpenVault, fork: str, moves: Sequence[Logged] | None = None) -> None:
    """Record in the operation log what git has done to a fork's branch in its live tree, so that it can be undone.

    Undoing such an operation moves the branch and leaves files as they are. What others put on the branch before it
    stays there, and stays unseen.
    """
    for logged in find_git_moves(vault, fork)[0] if moves is None else moves:
        if logged.old != logged.new:
            _hold_left(vault, logged)
            vault.refs.update(vault.follow(fork, logged.new, came_from=logged.old))
            record, unseen = _make_record(fork, logged), _find_unseen(vault, fork, [logged])
            vault.oplog.append(replace(record, more={**record.more, **unseen}))


def list_passed(vault: OpenVault, fork: str, since: Oid | None) -> list[Oid]:
    """List the commits at which a fork's branch has been since it was at one, or before it was at any.

    The last `_PASSED_MAX` lines of git's log tell, which lacks where avfs has moved it, and as many operations.
    """
    store, found = vault.store, list[Oid]()
    for move in reversed(open_worktree(vault, fork).read_moves(HEADS + fork)[-_PASSED_MAX:]):
        for at in (move.new, move.old):
            if at is not None and store.exists(at) and (since is None or not is_ancestor(store, at, since)):
                found.append(at)
        if since in (move.new, move.old):
            break
    moved: list[str | None] = []
    count = 0
    for record in islice(vault.oplog.read_fork(fork), _PASSED_MAX):
        for name, old, new in reversed(record.moves):
            if name == HEADS + fork:
                moved += [new, old]
                count = len(moved) if old == maybe_hex(since) else count
    found += [oid_of(at) for at in dict.fromkeys(moved[:count]) if at not in (None, maybe_hex(since))]
    return [oid for oid in dict.fromkeys(found) if store.exists(oid)]


def find_made_since(vault: OpenVault, fork: str, since: Oid, head: Oid) -> Oid | None:
    """Find the last of the commits that git in the fork's own live tree has put on or in place of one, and head has."""
    worktree, reached, made = open_worktree(vault, fork), {since}, list[Oid]()
    is_inside = find_inside(worktree.read_heads())
    for logged in worktree.read_moves(HEADS + fork):  # which has none of avfs's, such as an undo of one of these
        if logged.new == since:
            reached, made = {since}, []
        elif logged.old in reached and is_inside(logged):
            reached.add(logged.new)
            if not _LEAVING.match(logged.message) or is_ancestor(vault.store, since, logged.new):
                made.append(logged.new)
    return next((oid for oid in reversed(made) if is_ancestor(vault.store, oid, head)), None)


def had_files(logged: Logged) -> bool:
    """Tell whether files were as in the commit to which git moved the branch, or staged so; a reset does not tell."""
    return not logged.message.startswith("reset:")


@contextmanager
def command_shown(vault: OpenVault, fork: str) -> Iterator[int]:
    """Show other processes in a block that a command runs in a fork's live tree, by locking the workspace directory.

    What changes meanwhile belongs to the command, which records it at its end. The lock ends with the process. Gives
    the number of the newest operation of the fork, which the lock tells, too.
    """
    newest = next(vault.oplog.read_fork(fork), None)
    since = newest.id if newest is not None else 0
    with ExitStack() as stack:
        with suppress(OSError):  # where nothing can be locked, what it does is recorded when it is seen
            stack.enter_context(directory_shared(vault.layout.workspace(fork).root, since))
        yield since


def has_command(vault: OpenVault, fork: str) -> bool:
    """Tell whether a process shows that a command runs in a fork's live tree."""
    return _find_command(vault, fork) is not None


def _find_command(vault: OpenVault, fork: str) -> int | None:
    try:
        return find_shared(vault.layout.workspace(fork).root)
    except OSError:
        return None


def tie_to_command(vault: OpenVault, fork: str, command: CommandStart | None) -> dict[str, object]:
    """Say to which command an operation belongs that the log is about to get at the end of `command`, or beside one.

    Undo takes it back together with the part before it.
    """
    since = command.since if command is not None else _find_command(vault, fork)
    if since is None:
        return {}
    newest = next(vault.oplog.read_fork(fork), None)
    is_next = newest is not None and newest.id > since and IN_COMMAND in newest.more
    return ({IN_COMMAND: True} if command is None else {}) | (
        {JOINS: newest.id} if newest is not None and is_next else {}
    )


def brings_commit(record: OpRecord) -> bool:
    """Tell whether an operation brought the branch to a commit made in it.

    What git last did stands in the description.
    """
    told = (
        record.description.removeprefix("git ") if record.kind == "git" else record.description.rpartition(" (git ")[2]
    )
    return GIT_LOG not in record.more or _GOING.match(told) is None


def _hold_left(vault: OpenVault, logged: Logged) -> None:
    """Hold what a move of git's has taken from the branch, for undo: git's own log forgets it after a while."""
    old = logged.old
    if old is None or not vault.store.exists(old):
        return
    if not vault.store.exists(logged.new) or old not in vault.store.read_commit(logged.new).parents:
        vault.refs.update(vault.hold(old))


def tell_head_move(vault: OpenVault, fork: str) -> dict[str, object]:
    """Say for the log where git has put HEAD in a fork's live tree since avfs last recorded that.

    The facts are empty if git has not.
    """
    worktree = open_worktree(vault, fork)
    if not worktree.is_there:
        return {}
    now = worktree.find_head()
    _, known = vault.oplog.find_last_fact(fork, GIT_HEAD) or (None, None)
    return {GIT_HEAD: [known, now]} if known != now else {}


def list_unrecorded(vault: OpenVault, fork: str) -> list[OpRecord]:
    """List what git did to a fork's branch in its live tree that the operation log does not have yet, oldest first."""
    found = [_make_record(fork, logged) for logged in _list_moves(vault, fork) if logged.old != logged.new]
    moved = make_head_record(vault, fork)
    return found if moved is None else [*found, moved]


def record_head_move(vault: OpenVault, fork: str) -> None:
    """Record in the operation log where git put HEAD in a fork's live tree, if that came with no changes to files."""
    record = make_head_record(vault, fork)
    if record is not None:
        vault.oplog.append(record)


def make_head_record(vault: OpenVault, fork: str) -> OpRecord | None:
    """Make the operation that says that git has put HEAD elsewhere in a fork's live tree; None if it has not."""
    more = tell_head_move(vault, fork)
    if not more:
        return None
    logged = open_worktree(vault, fork).read_heads()[-1:]
    when_ns = logged[0].when_s * 1_000_000_000 if logged else vault.clock_ns()
    return OpRecord(0, fork, "git", _describe(logged[0]) if logged else "git moved HEAD", when_ns, more=more)


def _describe(logged: Logged) -> str:
    return f"git {logged.message or 'moved the branch'}"[:_TEXT_MAX]


def _make_record(fork: str, logged: Logged) -> OpRecord:
    moves: list[RefMoveRecord] = [(HEADS + fork, maybe_hex(logged.old), logged.new.hex())]
    when_ns = logged.when_s * 1_000_000_000
    return OpRecord(0, fork, "git", _describe(logged), when_ns, moves=moves, more=facts_of_moves([logged]))


def _list_moves(vault: OpenVault, fork: str) -> list[Logged]:
    """List the moves of a fork's branch by git in its tree that the operation log does not have, the oldest first.

    A commit that git has taken back leaves the branch where it was: both moves count. What came before a move by avfs,
    which git's log does not have, does not.
    """
    worktree = open_worktree(vault, fork)
    if not worktree.is_there:
        return []
    ref = HEADS + fork
    head = vault.read_head(fork)
    moves_of_git = worktree.read_moves(ref)
    if head is None or not moves_of_git or moves_of_git[-1].new != head:
        return []  # before the log is read, whose length is what all forks ever did
    recorded, last = vault.oplog.find_last_fact(fork, GIT_LOG), _find_last(vault, fork)
    chain: list[Logged] = []
    for logged in islice(reversed(moves_of_git), _count_fresh(ref, moves_of_git, recorded, last)):
        if logged.new != (chain[-1].old if chain else head):
            break  # avfs has moved it between: that is not in git's log
        chain.append(logged)
    return list(filter(find_inside(worktree.read_heads()), reversed(chain)))


def _find_last(vault: OpenVault, fork: str) -> OpRecord | None:
    ref = HEADS + fork
    moved = (record for record in vault.oplog.read_fork(fork) if any(name == ref for name, _, _ in record.moves))
    return next(moved, None)


def _find_unseen(vault: OpenVault, fork: str, moves: Sequence[Logged]) -> dict[str, object]:
    """Say for the log what the workspace came from, if others moved the branch before git in its tree, or between."""
    ref, last = HEADS + fork, _find_last(vault, fork)
    if last is not None:
        at, came_from = last.head(ref), last.position(ref)
    else:
        at = came_from = vault.oplog.find_last_fact(fork, BASE)
    is_unseen = at != came_from
    for logged in moves:
        is_unseen = is_unseen or at not in (None, maybe_hex(logged.old))
        at = logged.new.hex()
    return {UNSEEN: came_from} if is_unseen else {}


def _count_fresh(ref: str, moves_of_git: Sequence[Logged], recorded: object, last: OpRecord | None) -> int:
    """Count the lines at the end of git's log that are newer than what the operation log has of it.

    Before any of them is in the operation log, these are the lines since the last operation that moved the branch: by
    their time, and lines that lead on from it, which may have any time that the user gave (`GIT_COMMITTER_DATE`).
    """
    for count, logged in enumerate(reversed(moves_of_git)):
        if _identify(logged) == recorded:
            return count
    if last is None or last.kind == FORK_CREATE:  # git's log begins with the branch
        return len(moves_of_git)
    since_s, left = last.created_at_ns // 1_000_000_000, last.head(ref)
    fresh = sum(logged.when_s >= since_s for logged in moves_of_git)
    if left == moves_of_git[-1].new.hex():
        return fresh
    led = (count for count, logged in enumerate(reversed(moves_of_git), 1) if maybe_hex(logged.old) == left)
    return max(fresh, next(led, 0))


def _identify(logged: Logged) -> list[object]:
    return [maybe_hex(logged.old), logged.new.hex(), logged.when_s, *([logged.repeats] if logged.repeats else [])]


def facts_of_moves(moves: Sequence[Logged]) -> dict[str, object]:
    """Say for the log up to where it has what git's own log says; nothing where git has done nothing."""
    return {GIT_LOG: _identify(moves[-1])} if moves else {}


def describe_with_git(description: str, moves: Sequence[Logged]) -> str:
    """Say of a command what git did in it."""
    if not moves:
        return description
    return f"{description} (git {moves[-1].message[:_TEXT_MAX]}{and_more(len(moves) - 1)})"


def put_git_dir_away(vault: OpenVault, fork: str) -> None:
    """Move the git directory of a fork that ends into its workspace, before that goes to the trash.

    Where the disk refuses, it is where it was.
    """
    open_worktree(vault, fork).put_away(vault.layout.workspace(fork).root / PUT_AWAY)


def bring_git_dir_back(vault: OpenVault, fork: str, workspace: Path | None = None) -> None:
    """Undo `put_git_dir_away` where the fork did not end after all, or has another name.

    What the disk refuses, the next mount does. `workspace` is where its workspace is, if that is not at its place.
    """
    with suppress(HostError):
        open_worktree(vault, fork).bring_back((workspace or vault.layout.workspace(fork).root) / PUT_AWAY)
