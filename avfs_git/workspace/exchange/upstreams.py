"""Which branches of remotes a fork is updated from, and where its own commits begin.

Decided here: the branch of the fork's name, that of the clone it was made from, or another that the user chose.
Reads only; any thread.
"""

from __future__ import annotations

from avfs_git.errors import NoUpstream
from avfs_git.gitstore.merge.bases import find_merge_bases
from avfs_git.gitstore.refs.logs import read_log
from avfs_git.gitstore.remote.remotes import find_remote, list_remotes
from avfs_git.paths import Oid
from avfs_git.workspace.exchange.remotes import ORIGIN, choose_remote
from avfs_git.workspace.vault.format import REMOTES
from avfs_git.workspace.vault.origin import peek_state
from avfs_git.workspace.vault.revisions import resolve_revision
from avfs_git.workspace.vault.vault import OpenVault

_VALUES_MAX = 100
"""So many former values of a remote branch are compared with a fork."""


def find_upstream(vault: OpenVault, fork: str, name: str | None = None) -> str:
    """Name the branch of a remote that belongs to a fork: that of the same name.

    Raises:
        NoUpstream: If the remote has none, as far as is known here.
    """
    remote = choose_remote(vault, name)
    if vault.refs.read(f"{REMOTES}{remote.name}/{fork}") is None:
        raise NoUpstream(fork, remote.name)
    return _spell(vault, fork, f"{remote.name}/{fork}")


def _spell(vault: OpenVault, fork: str, branch: str) -> str:
    """Spell a branch of a remote so that it is meant, and no fork or label of that name."""
    known = vault.refs.read(REMOTES + branch)
    is_meant = not vault.has_fork(branch) and resolve_revision(vault, branch, fork=fork) == known
    return branch if is_meant else REMOTES + branch


def find_fork_point(vault: OpenVault, fork: str, upstream: str) -> Oid | None:
    """Find where a fork's own commits begin, though a remote took back those before (`git merge-base --fork-point`).

    That is the newest of what the remote branch stood for, by git's log of it, that the fork has. What the fork got
    otherwise of the last value before the present one is not its own, either. None if the branch never moved.
    """
    ref = REMOTES + upstream.removeprefix(REMOTES)
    head, now = vault.read_head(fork), vault.refs.read(ref)
    logged = read_log(vault.git_dir / "logs" / ref)
    stood = [oid for line in reversed(logged) for oid in (line.new, line.old) if oid is not None and oid != now]
    values = [oid for oid in dict.fromkeys(stood) if vault.store.exists(oid)][:_VALUES_MAX]
    if head is None:
        return None
    return next(
        (oid for oid in values if find_merge_bases(vault.store, head, oid) == [oid]), values[0] if values else None
    )


def find_branch(vault: OpenVault, name: str) -> str:
    """Find a branch of a remote by `REMOTE/BRANCH`, or by the name of a branch of `origin`.

    Raises:
        NoUpstream: If the remote does not have the branch, as far as is known here.
        RemoteNotFound: If there is no such remote.
    """
    for known in (name, f"{ORIGIN}/{name}"):
        if vault.refs.read(REMOTES + known) is not None:
            return known
    remote, _, branch = name.partition("/") if "/" in name else (ORIGIN, "/", name)
    raise NoUpstream(branch, find_remote(vault.git_dir, remote).name)


def list_upstreams(vault: OpenVault, fork: str, remote: str | None, followed: str | None) -> list[str]:
    """List the branches of remotes that a fork is kept up with: that of its name, and the branch that it follows."""
    names = [*([f"{remote}/{fork}"] if remote is not None else []), *([followed] if followed is not None else [])]
    return [_spell(vault, fork, name) for name in dict.fromkeys(names) if vault.refs.read(REMOTES + name) is not None]


def read_followed(vault: OpenVault, fork: str) -> str | None:
    """Tell which branch of a remote a fork is updated from beside that of its own name: the clone's, or another."""
    state = peek_state(vault, fork)
    return state.upstream if state is not None else None


def find_gone_upstream(vault: OpenVault, fork: str, followed: str | None) -> NoUpstream | None:
    """Tell of the branch that a fork follows, if its remote does not have it: not any more, or not yet."""
    if followed is None or vault.refs.read(REMOTES + followed) is not None:
        return None
    remote, _, branch = followed.partition("/")
    others = [ref.removeprefix(REMOTES) for ref in vault.refs.list(f"{REMOTES}{remote}/", symbolic=False)]
    is_removed = remote not in [each.name for each in list_remotes(vault.git_dir)]
    return NoUpstream(fork, remote, gone=branch, others=others, is_removed=is_removed)
