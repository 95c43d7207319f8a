"""Which fork a name means: the fork that a caller has seen, or a newer fork of that name.

Decided here: what tells two forks of one name apart, and when a branch is that of the fork which the log says was made.
Avfs removes git's log of a branch with the branch, as git does, and begins none. So where git's log of a branch has its
beginning, git made the branch of today. Where git keeps no log, the commit tells: the branch of the fork is where the
operation log has it. Reads small files, refs and the log; no lock. What has to hold at a later step is asked again with
the fork's name locked.
"""

from __future__ import annotations

from avfs_git.gitstore.merge.bases import is_ancestor
from avfs_git.gitstore.refs.logs import read_log
from avfs_git.paths import Oid, maybe_hex, maybe_oid
from avfs_git.values import value_class
from avfs_git.workspace.vault.format import HEADS
from avfs_git.workspace.vault.log.oprecord import BASE, FORK_CREATE, OpRecord
from avfs_git.workspace.vault.origin import peek_state
from avfs_git.workspace.vault.vault import OpenVault


@value_class
class ForkIdentity:
    """What no other fork of the same name has: when its workspace was made, and when and where git made its branch."""

    made_ns: int | None
    by_git: tuple[str, int] | None


def identify(vault: OpenVault, fork: str) -> ForkIdentity:
    """Tell what distinguishes the fork that has a name now from older and newer forks of that name."""
    state = peek_state(vault, fork)
    return ForkIdentity(state.created_at_ns if state is not None else None, _find_beginning(vault, fork))


def find_making(vault: OpenVault, fork: str, *, allow_newer: bool = False) -> OpRecord | None:
    """Find the operation that made the fork that has a name now, or the vault with it.

    None if git made its branch, or if that is not known: neither does the operation log have the branch where it is,
    nor does git's log lead there from where avfs had left it. With `allow_newer`, the branch may also have got further
    commits.
    """
    made = vault.oplog.find_making(fork)
    if made is None:
        return None
    if (made.kind == FORK_CREATE or made.more.get(BASE) is not None) and _find_beginning(vault, fork) is not None:
        return None
    head, last = vault.read_head(fork), _find_last(vault, fork)
    if head is None or head == last:
        return made
    if last is None or not _is_moved_by_git(vault, fork, last, head):
        is_newer = (
            allow_newer and last is not None and vault.store.exists(last) and is_ancestor(vault.store, last, head)
        )
        return made if is_newer else None
    return made


def _find_beginning(vault: OpenVault, fork: str) -> tuple[str, int] | None:
    """Find at which commit and when git made a branch, by git's log of it; None if that does not have the beginning."""
    logged = read_log(vault.git_dir / "logs" / (HEADS + fork))
    return next(((line.new.hex(), line.when_s) for line in reversed(logged) if line.old is None), None)


def _find_last(vault: OpenVault, fork: str) -> Oid | None:
    """Find where the log has a branch."""
    ref = HEADS + fork
    return next(
        (maybe_oid(new) for record in vault.oplog.read_fork(fork) for name, _, new in record.moves if name == ref), None
    )


def _is_moved_by_git(vault: OpenVault, fork: str, last: Oid, head: Oid) -> bool:
    """Tell whether git's log of a branch leads from one commit to another."""
    at = maybe_hex(head)
    for line in reversed(read_log(vault.git_dir / "logs" / (HEADS + fork))):
        if line.new.hex() != at:
            return False
        at = maybe_hex(line.old)
        if line.old == last:
            return True
    return False
