"""What a fork has beside its commits: ignored files, attributes, empty directories.

Decided here: which sidecar counts for a fork at a commit. The fork's log tells it of each state that avfs recorded
there; else the commit itself, if this vault counts what that names; for a commit of git's the nearest checkpoint below.
At its head a fork has what its last operation on the branch has saved, less what was undone since, wherever git has
moved the branch (`find_kept`). Each undo, redo and abort notes what counts since, so that gc may forget older ones.

Called by all that save, compare, merge, fork or push, from any thread, with or without the workspace lock: without it,
the answer is that of a moment. Reads objects and the log. Only `note_amended` writes, to the table of commits whose
sidecar counts; what a crash leaves of that is as `gitstore.objects.owncommits` says.
"""

from __future__ import annotations

from collections.abc import Iterator

from avfs_git.gitstore.objects.owncommits import find_named
from avfs_git.model import ChangeKind
from avfs_git.paths import Oid, maybe_hex, maybe_oid, oid_of
from avfs_git.workspace.capture.sidecardiff import diff_sidecars
from avfs_git.workspace.vault.format import HEADS
from avfs_git.workspace.vault.gitmoves import find_git_moves
from avfs_git.workspace.vault.identity import find_making
from avfs_git.workspace.vault.log.lives import read_since_made
from avfs_git.workspace.vault.log.oprecord import (
    BESIDE,
    EXACT,
    FILES,
    FORK_CREATE,
    OF_FORKS,
    REDO,
    RENAMED_FROM,
    SIDECAR,
    SIDECAR_BEFORE,
    UNDO,
    OpRecord,
)
from avfs_git.workspace.vault.origin import Beside, find_beside, find_naming, peek_state
from avfs_git.workspace.vault.revisions import find_owner
from avfs_git.workspace.vault.vault import OpenVault

_HISTORY_LOOKED_AT = 10_000
_PASSING = (FILES, "git", UNDO, REDO, *OF_FORKS)
"""Operations that save nothing."""


def find_kept(vault: OpenVault, fork: str, head: Oid, *, before: int | None = None) -> Beside | None:
    """Find what a fork has beside its head, whether avfs or git made that; None if no checkpoint says it.

    That is what avfs saved last and nothing has undone, whether it is on the branch or not: git brings no such files,
    and what was taken away by a checkpoint that a rebase has left does not come back. With `before`, what it was then:
    before that operation. Costs a look at the log, back to the operation that says it.
    """
    state = peek_state(vault, fork)
    if state is None:  # a branch of git's that was never opened
        return find_beside(vault, head)
    for record in read_since_made(vault.oplog.read_life(fork)):
        if before is not None and record.id >= before:
            continue
        saved = find_saved(vault, record)
        if saved is not None:
            return saved
        if record.kind in (UNDO, REDO) and record.target is not None and RENAMED_FROM not in record.more:
            before = record.target if record.kind == UNDO else record.target + 1  # of a version that notes no more
    if state.base is not None:
        return Beside(oid_of(state.base), maybe_oid(state.sidecar))
    return find_beside(vault, head)


def find_saved(vault: OpenVault, record: OpRecord) -> Beside | None:
    """Find what the fork of an operation has beside its commits since then; None if the operation does not say it.

    A merge that was given up moves no branch, and what was done to files alone may be taken back by hand.
    """
    if BESIDE in record.more:
        commit, sidecar = record.more[BESIDE]
        return Beside(oid_of(commit), maybe_oid(sidecar)) if vault.store.exists(oid_of(commit)) else None
    is_moved = any(ref == HEADS + record.fork for ref, _, _ in record.moves)
    saved = maybe_oid(record.after)
    if saved is None or not is_moved or record.kind in _PASSING or not vault.store.exists(saved):
        return None
    told = record.more.get(SIDECAR)
    sidecar = oid_of(told) if isinstance(told, str) else vault.store.read_commit(saved).sidecar
    is_said = sidecar is not None or EXACT in record.more or vault.store.own_commits.has(saved)
    return Beside(saved, sidecar) if is_said else None


def note_kept(vault: OpenVault, record: OpRecord, direction: str) -> dict[str, object]:
    """Say for the log what a fork has beside its head once an operation is undone, or done again.

    The operations that say it otherwise may be forgotten.
    """
    head = vault.read_head(record.fork)
    before = record.id if direction == UNDO else record.id + 1
    kept = find_kept(vault, record.fork, head, before=before) if head is not None else None
    return {BESIDE: [kept.commit.hex(), maybe_hex(kept.sidecar)]} if kept is not None else {}


def find_shown(vault: OpenVault, fork: str | None, at: Oid, name: str) -> Beside | None:
    """Find what is beside a commit as a fork has or had it, which was asked for by a name.

    By its own name, or at a commit of git's that is its head, that is what the fork has; else what it had there.
    """
    if fork is None:
        return find_beside(vault, at)
    is_meant = name in (fork, HEADS + fork, "HEAD", "@") or vault.store.read_commit(at).sidecar is None
    if is_meant and vault.read_head(fork) == at:
        return find_kept(vault, fork, at)
    note_moves(vault, fork)
    return find_had(vault, fork, at)


def note_moves(vault: OpenVault, fork: str) -> None:
    """Note what git has amended in the live tree of a fork by now, where the log has none of it yet."""
    for move in find_git_moves(vault, fork)[0]:
        note_amended(vault, fork, move.old, move.new)


def note_amended(vault: OpenVault, fork: str, old: Oid | None, new: Oid) -> None:
    """Let what a fork had beside a checkpoint count for the commit that git has made of it in the live tree.

    `git commit --amend` takes over a header that it does not know. What the header names counts where that is the same:
    a push sends no other.
    """
    named = find_named(vault.store.read, new)
    if named is None or old is None or find_named(vault.store.read, old) != named:
        return
    told, sidecar = find_sidecar(vault, fork, old), vault.store.read_commit(old).sidecar
    if told is not None and sidecar is not None:
        vault.store.own_commits.add({new: sidecar if are_alike(vault, told, sidecar) else told})


def are_alike(vault: OpenVault, first: Oid | None, second: Oid | None) -> bool:
    """Tell whether two sidecar commits have the same files, perhaps with other permissions."""
    trees = [vault.store.read_commit(oid).tree if oid is not None else None for oid in (first, second)]
    return first == second or all(change.kind is ChangeKind.MODE for change in diff_sidecars(vault.store, *trees))


def find_sidecar(vault: OpenVault, fork: str, oid: Oid) -> Oid | None:
    """Find the sidecar commit of what a fork had beside a commit; None of a commit that git made.

    After a fast-forward that is not the one which the commit names: that is what the source had.
    """
    named = vault.store.read_commit(oid).sidecar
    if named is None:
        return None
    told = next((told for commit, told in _read_told_sidecars(vault, fork) if commit == oid.hex()), None)
    return oid_of(told) if isinstance(told, str) else named


def find_named_sidecar(vault: OpenVault, fork: str, name: str, oid: Oid) -> Oid | None:
    """Find the sidecar commit of a state by the name with which it is asked for."""
    owner = find_owner(vault, name, fork=fork)
    return find_sidecar(vault, owner, oid) if owner is not None else vault.store.read_commit(oid).sidecar


def find_had(vault: OpenVault, fork: str | None, at: Oid) -> Beside | None:
    """Find what a fork had beside a commit; at one of git's, what it had at the last checkpoint, or began with.

    None if none says it. Costs a look at the commits since then.
    """
    if fork is None:
        return find_beside(vault, at)
    made = find_making(vault, fork, allow_newer=True)
    facts = made.more if made is not None else {}
    base, sidecar = (maybe_oid(facts.get(fact)) for fact in ("base", "sidecar"))
    naming = find_naming(vault, at, until=base, limit=_HISTORY_LOOKED_AT)
    if naming is not None and naming != base:
        sidecar = find_sidecar(vault, fork, naming)
        return Beside(naming, sidecar) if sidecar is not None else None
    return Beside(naming, sidecar) if naming is not None else None


def list_told_sidecars(vault: OpenVault, fork: str) -> dict[str, Oid]:
    """Map each commit of a fork to its `find_sidecar` result, where the log says that: one pass for many commits."""
    told: dict[object, object] = {}
    for commit, sidecar in _read_told_sidecars(vault, fork):
        told.setdefault(commit, sidecar)
    return {str(commit): oid_of(sidecar) for commit, sidecar in told.items() if isinstance(sidecar, str)}


def _read_told_sidecars(vault: OpenVault, fork: str) -> Iterator[tuple[object, object]]:
    """Yield the commits that a fork had, newest first, each with the sidecar commit that the log names, if any."""
    for record in vault.oplog.read_life(fork):
        if record.after is not None:
            yield record.after, record.more.get(SIDECAR)
        if record.kind == FORK_CREATE:
            yield record.more.get("base"), record.more.get("sidecar")
            return


def tell_sidecar(vault: OpenVault, fork: str, oid: Oid, fact: str = SIDECAR_BEFORE) -> dict[str, object]:
    """Say for the log what a fork had beside a commit, where that is not what the commit names."""
    sidecar = find_sidecar(vault, fork, oid)
    return {fact: sidecar.hex()} if sidecar not in (None, vault.store.read_commit(oid).sidecar) else {}
