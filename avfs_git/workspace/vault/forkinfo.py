"""What forks there are, and what is known of each.

Decided here: where ancestry and base of a fork are read from. Apart from `forks`, which makes and ends them, so that
a light command loads nothing that writes. Reads refs and one small file a fork.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import cache

from avfs_git.errors import ForkNotFound, InvalidName, ObjectCorrupt, ObjectMissing, RefDamaged, RemoteError, quote
from avfs_git.gitstore.compare.walk import count_apart
from avfs_git.gitstore.repository import read_shallow
from avfs_git.model import ForkInfo, ForkStanding, ForkStat, Identity, Warning
from avfs_git.paths import Oid, check_fork_name, fork_dir_name, maybe_oid
from avfs_git.workspace.vault.format import HEADS, KNOWN, REMOTES, WorkspaceState
from avfs_git.workspace.vault.origin import peek_state, read_own_state, recall_states
from avfs_git.workspace.vault.vault import OpenVault


def fork_info(vault: OpenVault, fork: str) -> ForkInfo:
    """Describe a fork.

    Raises:
        InvalidName: If no fork can have it.
        ForkNotFound: If it is not there.
    """
    return _describe(vault, fork, read_head(vault, fork), peek_state(vault, fork))


def read_head(vault: OpenVault, fork: str) -> Oid | None:
    """Read the commit of a fork that is there; None if it has no commit yet.

    Raises:
        InvalidName: If no fork can have it.
        ForkNotFound: If it is not there.
    """
    try:
        head = vault.read_head(fork)
    except InvalidName:
        check_fork_name(fork)  # says so of the fork, not of its ref
        raise
    if head is None and not vault.has_fork(fork):
        is_deleted = find_deleted(vault, fork) is not None
        raise ForkNotFound(fork, vault=vault.name, is_deleted_by_git=is_deleted, renamed_to=vault.find_new_name(fork))
    return head


def check_was_there(vault: OpenVault, fork: str | None) -> None:
    """Refuse a name that no fork has, nor had as far as the log goes back; None stands for all forks.

    Raises:
        ForkNotFound: If it is such a name.
        InvalidName: If no fork can have it.
    """
    if fork is not None and not vault.has_fork(fork) and next(iter(vault.oplog.read_fork(fork)), None) is None:
        fork_info(vault, fork)


def find_deleted(vault: OpenVault, fork: str) -> Oid | None:
    """Find where a branch was last that is gone, and that avfs has not removed.

    Return None of any other, and of a lost commit.
    """
    if vault.has_fork(fork):
        return None
    moved = (new for record in vault.oplog.read_fork(fork) for ref, _, new in record.moves if ref == HEADS + fork)
    # The log does not have a branch that git made and avfs never moved.
    last = vault.refs.read(KNOWN + fork_dir_name(fork)) or maybe_oid(next(moved, None))
    return last if last is not None and vault.store.exists(last) else None


def _describe(
    vault: OpenVault, fork: str, head: Oid | None, state: WorkspaceState | None, damage: RefDamaged | None = None
) -> ForkInfo:
    at = head.hex() if head is not None else None
    problem = damage.message if damage is not None else None
    if state is None:
        return ForkInfo(fork, at, at, problem=problem)
    return ForkInfo(
        name=fork,
        head=at,
        base=state.base,
        parent=state.parent and (vault.find_new_name(state.parent) or state.parent),
        forked_at=state.forked_at,
        ephemeral=state.ephemeral,
        author=Identity(*state.author) if state.author is not None else None,
        created_at_ns=state.created_at_ns,
        problem=problem,
    )


def _list_opened(vault: OpenVault) -> set[str]:
    """List the directories of workspaces: most forks of a large vault have none."""
    try:
        return set(os.listdir(vault.layout.workspaces))
    except OSError:
        return set()


def _read_states(vault: OpenVault, forks: Iterable[str]) -> dict[str, WorkspaceState | None]:
    """Read what is known of forks, those without a workspace from the log."""
    opened = _list_opened(vault)
    states = {fork: read_own_state(vault, fork) if fork_dir_name(fork) in opened else None for fork in forks}
    states.update(recall_states(vault, {fork for fork, state in states.items() if state is None}))
    return states


def list_forks(vault: OpenVault) -> list[ForkInfo]:
    """Describe all forks, by name; say of one whose branch is damaged what is wrong."""
    heads: dict[str, Oid | None] = dict(vault.list_heads())
    problems = {
        ref.removeprefix(HEADS): RefDamaged(ref, reason) for ref, reason in vault.refs.list_damaged(HEADS).items()
    }
    for fork, head in heads.items():
        if head is not None and not vault.store.exists(head):
            problems[fork] = RefDamaged(HEADS + fork, f"it names {head.hex()}, which is missing")
    heads |= dict.fromkeys(problems)
    first = vault.head_fork()
    if first is not None and first not in heads and vault.has_fork(first):  # a fork without a commit
        heads[first] = None
    states = _read_states(vault, heads)
    return [_describe(vault, fork, heads[fork], states[fork], problems.get(fork)) for fork in sorted(heads)]


def compare_forks(
    vault: OpenVault, *, measure: Callable[[OpenVault, Oid, Oid], ForkStat | None] | None = None
) -> tuple[list[ForkStanding], list[Warning]]:
    """Compare each fork with its upstream, by name; the cost follows the forks and the commits between.

    `measure` counts what a fork changed, from its head and its upstream's; without it nothing is counted. A fork of
    which contents cannot be fetched for that gets a warning.
    """
    heads, default = vault.list_heads(), vault.head_fork()
    followed = {ref.removeprefix(REMOTES): oid for ref, oid in vault.refs.list(REMOTES).items()}
    remotes = sorted({name.partition("/")[0] for name in followed}, key=lambda name: (name != "origin", name))
    shallow, read = read_shallow(vault.git_dir), cache(vault.store.read_commit)
    found, warnings = list[ForkStanding](), list[Warning]()
    for fork, state in sorted(_read_states(vault, heads).items()):
        names = [f"{remote}/{fork}" for remote in remotes[:1]] + ([state.upstream] if state and state.upstream else [])
        upstream, theirs = next(((name, followed[name]) for name in names if name in followed), (None, None))
        if upstream is None and default != fork and default in heads:
            upstream, theirs = default, heads[default]
        ahead = behind = changed_at_ns = stat = None
        with suppress(ObjectCorrupt, ObjectMissing):  # `list_forks` names what is damaged
            changed_at_ns = read(heads[fork]).committer.when_s * 1_000_000_000
            if theirs is not None:
                ahead, behind = count_apart(read, heads[fork], theirs, shallow)
                try:
                    stat = measure(vault, heads[fork], theirs) if measure is not None else None
                except RemoteError as error:
                    text = f"what fork {quote(fork)} changed is not counted: {error.message}"
                    warnings.append(Warning("fork.not_counted", text))
        found.append(ForkStanding(fork, changed_at_ns, upstream, ahead, behind, stat=stat))
    return found, warnings
