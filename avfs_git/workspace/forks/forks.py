"""Forks: making, listing and ending them.

Decided here: what a fork starts from, what is written when one is made, and where everything goes when one is deleted.
Making one costs a ref and a line in the log, in a tree of any size; its sidecar is the one that the commit names, which
the fork that it came from keeps reachable. Its workspace is made when it is first opened (`workspace.vault.origin`).
The order of steps, under the lock of the fork's name (`OpenVault.fork_locked`), after another look whether the fork is
there:

- make: the log announces the branch, then the branch. A crash leaves a fork or none.
- delete: refs that keep what was there, then the log announces that the branch goes, then it goes (in one update), then
  the workspace moves to the trash. A crash in between leaves a workspace without a branch: undo brings both back, and
  the next process that makes a fork of that name puts it into the trash. A failure to move it brings the branch back.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial

from avfs_git.errors import (
    AvfsError,
    CheckpointNotFound,
    ForkExists,
    ForkNotFound,
    InvalidInput,
    InvalidName,
    RefConflict,
    quote,
)
from avfs_git.faults import reach
from avfs_git.gitstore.config.trust import is_shared
from avfs_git.gitstore.formats.trees import edit_tree
from avfs_git.gitstore.holding import objects_held
from avfs_git.gitstore.objects.packwriter import PackWriter
from avfs_git.gitstore.refs.refs import RefChange
from avfs_git.host.processes.boot import read_boot_id
from avfs_git.model import ForkInfo, Identity
from avfs_git.paths import Oid, check_fork_name, maybe_hex, maybe_oid, oid_of
from avfs_git.workspace.capture.requests import CheckpointRequest
from avfs_git.workspace.checkpoint.bookkeeping import bookkeeping
from avfs_git.workspace.checkpoint.checkpoint import save_checkpoint, saving_first
from avfs_git.workspace.checkpoint.staged import list_staged
from avfs_git.workspace.forks.trash import clear_orphan, move_to_trash, name_in_trash, note_deletion
from avfs_git.workspace.opened.layers import make_workspace
from avfs_git.workspace.opened.vaultroom import check_not_full
from avfs_git.workspace.opened.workspace import LockedWorkspace, OpenWorkspace
from avfs_git.workspace.restore.aside import save_aside
from avfs_git.workspace.sidecars.kept import find_kept, find_shown
from avfs_git.workspace.vault.forkinfo import fork_info
from avfs_git.workspace.vault.format import HEADS, REMOTES, SIDECARS, WorkspaceState, label_ref
from avfs_git.workspace.vault.gitmoves import find_under_way, has_command
from avfs_git.workspace.vault.log.oprecord import (
    BY,
    FORK_CREATE,
    FORK_DELETE,
    WAS_DEFAULT,
    OpRecord,
    RefMoveRecord,
)
from avfs_git.workspace.vault.origin import Beside, facts_of, settle_times
from avfs_git.workspace.vault.revisions import find_owner, resolve_revision
from avfs_git.workspace.vault.states import add_state
from avfs_git.workspace.vault.vault import OpenVault

Opener = Callable[[str], OpenWorkspace]
Saver = Callable[[OpenWorkspace, str, str], Oid | None]
"""Saves what a workspace has not committed, as `save_source` does."""


def save_source(opened: OpenWorkspace, message: str, description: str) -> Oid | None:
    """Save a workspace's uncommitted work, with a commit message and a description for the log; return the commit.

    While a command runs there, the commit is beside the branch: a checkpoint would split the operation that the command
    is. So it is in the middle of a command of git's, which could not be ended or given up then.
    """
    vault, fork = opened.vault, opened.fork
    with opened.locked() as locked:
        is_at_rest = not has_command(vault, fork) and find_under_way(vault, fork) is None
        if is_at_rest or vault.read_head(fork) is None:
            save_checkpoint(locked, CheckpointRequest(message=message, description=description))
        elif (aside := save_aside(locked, description, marks=False).commit) is not None:
            return oid_of(aside)
        return vault.read_head(fork)


def create_fork(
    vault: OpenVault,
    name: str,
    *,
    open_workspace: Opener,
    source: str | None = None,
    at: str | None = None,
    ephemeral: bool = False,
    with_changes: bool = True,
    author: Identity | None = None,
    save: Saver = save_source,
) -> None:
    """Make a fork.

    It starts from `source`, by default the vault's default fork: from its present state, or from the checkpoint `at`.
    At a branch of a remote, as `origin/main`, it follows that.
    `with_changes` brings uncommitted work of the source along, which `save` checkpoints there first.

    Raises:
        ForkExists: If the name is taken.
        ForkNotFound, CheckpointNotFound: If there is nothing to start from.
        NoForkChosen, NoForks: If neither a source nor a state is named, and the vault has no default fork.
    """
    check_fork_name(name)
    check_not_full(vault)
    vault.prepare()
    check_free(vault, name)
    source = source or (vault.choose_fork() if at is None else vault.default_fork())
    with objects_held(vault.git_dir):  # what it starts from may be what nothing else keeps, or soon nothing
        try:
            if at is not None:
                commit, beside = _find_state(vault, source, at)
            elif source is not None:
                commit, beside = _settle_source(vault, source, open_workspace, save, with_changes=with_changes)
            else:
                raise CheckpointNotFound("HEAD", vault=vault.name)
            upstream = at if at is not None and vault.refs.list(REMOTES).get(REMOTES + at) == commit else None
            state = WorkspaceState(
                fork=name,
                base=commit.hex(),
                sidecar=maybe_hex(settle_times(vault, name, beside, commit)),
                parent=source if upstream is None else None,
                upstream=upstream,
                forked_at=commit.hex(),
                ephemeral=ephemeral,
                author=[author.name, author.email] if author is not None else None,
                boot=read_boot_id(),
            )
            more = {BY: source} if source is not None else {}
            text = f"fork {name} from {source}" if at is None else f"fork {name} at {at}"
            record_fork(vault, state, text, more, check=partial(check_free, vault, name))
        except RefConflict:
            check_free(vault, name)  # another process was faster
            raise


def record_fork(
    vault: OpenVault,
    state: WorkspaceState,
    text: str,
    more: Mapping[str, object],
    *,
    check: Callable[[], object],
    sidecar: Oid | None = None,
) -> None:
    """Make the branch of a fork whose workspace begins in a state, with its log line, which says `text` and `more`.

    `check` refuses a name that is taken. `sidecar` is a new commit that nothing else keeps.
    """
    name, head = state.fork, oid_of(str(state.forked_at))
    reach("fork.settled")
    with vault.fork_locked(name):
        check()
        note_deletion(vault, name)  # else only the trash would know of the older fork
        clear_orphan(vault, name)
        state.created_at_ns = vault.clock_ns()
        # What an older fork of that name has left, whose branch was deleted by hand, or by a process that died then.
        left_over = {label_ref(name, label): oid for label, oid in vault.list_labels(name).items()}
        changes = [*vault.hold(*left_over.values()), *(RefChange(ref, oid, None) for ref, oid in left_over.items())]
        sidecar_left = vault.refs.read(SIDECARS + name)
        if sidecar_left != sidecar:
            changes += [*vault.hold(sidecar_left), RefChange(SIDECARS + name, sidecar_left, sidecar)]
        if state.base != state.forked_at:
            changes += vault.hold(maybe_oid(state.base))
        changes.append(RefChange(HEADS + name, None, head))  # last: by it the fork is found
        moves: list[RefMoveRecord] = [(HEADS + name, None, head.hex())]
        record = OpRecord(
            0, name, FORK_CREATE, text, state.created_at_ns, moves=moves, more={**facts_of(state), **more}
        )
        vault.move_refs(changes, record)
        if is_shared(vault.git_dir):
            with suppress(AvfsError):  # the fork is there; the first process that opens it makes the rest
                make_workspace(vault, state)


def _find_state(vault: OpenVault, source: str | None, at: str) -> tuple[Oid, Beside | None]:
    """Find a state by its name, and what is beside it; where a fork is at it, what that has there."""
    commit = resolve_revision(vault, at, fork=source)
    return commit, find_shown(vault, find_owner(vault, at, fork=source), commit, at)


def check_free(vault: OpenVault, name: str) -> None:
    """Refuse a name that a branch cannot get, before anything is saved."""
    if vault.has_fork(name):
        raise ForkExists(name, hint=f"Work in that one with `--fork {shlex.quote(name)}`, or choose another name.")
    check_room(vault, name)


def check_room(vault: OpenVault, name: str) -> None:
    """Refuse a name above or below that of a fork: git has no branch there.

    Raises:
        InvalidName: If there is such a fork.
    """
    other = find_in_the_way(vault, name)
    if other is not None:
        reason = f"there is a fork {quote(other)}, and git has no branch both at a name and below it"
        raise InvalidName("fork", name, reason)


def find_in_the_way(vault: OpenVault, name: str) -> str | None:
    """Find a fork whose name is below a name, or above it."""
    parts = name.split("/")
    above = ("/".join(parts[:count]) for count in range(1, len(parts)))
    below = (ref.removeprefix(HEADS) for ref in vault.refs.list(f"{HEADS}{name}/"))
    return next((other for other in above if vault.has_fork(other)), None) or next(below, None)


def _settle_source(
    vault: OpenVault, source: str, open_workspace: Opener, save: Saver, *, with_changes: bool
) -> tuple[Oid, Beside | None]:
    """Find what a fork starts from, after saving what its source has not committed."""
    head = vault.read_head(source)
    if head is None and not vault.has_fork(source):
        raise ForkNotFound(source, vault=vault.name)
    kept = find_kept(vault, source, head) if head is not None else None
    if head is None or with_changes:
        opened = open_workspace(source)
        is_kept = kept is None or kept.commit == head  # else git has gone to it, perhaps to an undone one
        if head is None or not (is_kept and opened.is_recorded_by(head)):
            with saving_first():
                head = save(opened, bookkeeping("save before a fork") if head else "empty", "save before a fork")
            kept = find_kept(vault, source, head) if head is not None else None
    if head is None:
        raise CheckpointNotFound(source, vault=vault.name)
    return head, kept


def end_fork(
    vault: OpenVault,
    fork: str,
    open_workspace: Opener,
    record: OpRecord,
    *,
    only_if: Callable[[LockedWorkspace], bool] | None = None,
) -> bool:
    """Take a fork away: its refs, kept reachable under others, and its workspace, kept in the trash.

    Tell whether that was done.

    The refs that move and the name in the trash are put into `record`. `only_if` is asked with the workspace locked.

    Raises:
        ForkNotFound: If another process has ended it.
        LeftInForce: If the disk refuses so late that the fork stays away.
        HostError: If the disk refuses; the fork is there.
    """
    trashed = name_in_trash(vault, fork)

    def put_away() -> None:
        reach("fork.refs_gone")
        with opened.lock.retiring():
            move_to_trash(vault, fork, trashed)

    with vault.fork_locked(fork):
        is_default = vault.head_fork() == fork
        opened = open_workspace(fork)
        with opened.locked() as locked:
            if only_if is not None and not only_if(locked):
                return False
            moves = _list_refs(vault, fork)
            staged = _save_staged(vault, fork)
            record.moves = [(move.name, move.old.hex() if move.old else None, None) for move in moves]
            record.more = {**record.more, "trash": trashed}
            vault.move_refs([*vault.hold(staged, *(move.old for move in moves)), *moves], record, then=put_away)
        if is_default and vault.layout.read_origin() is not None:
            _leave_default(vault, fork)
    opened.close()
    return True


def _save_staged(vault: OpenVault, fork: str) -> Oid | None:
    """Commit what only a fork's git index holds, which goes into the trash with the fork: it stays reachable."""
    staged = list_staged(vault, fork)
    if not staged:
        return None
    head = vault.read_head(fork)
    with PackWriter(vault.store) as pack:
        tree = edit_tree(pack, pack, vault.store.read_commit(head).tree if head is not None else None, staged)
        commit, _ = add_state(pack, fork, vault.signature(), (tree, None), f"staged in {fork}\n", head)
        pack.finish(hold=True)
    return commit


def _list_refs(vault: OpenVault, fork: str) -> list[RefChange]:
    """List the changes that take a fork's refs away, its branch first."""
    found = [(HEADS + fork, vault.read_head(fork)), (SIDECARS + fork, vault.refs.read(SIDECARS + fork))]
    found += [(label_ref(fork, label), oid) for label, oid in vault.list_labels(fork).items()]
    return [RefChange(ref, oid, None) for ref, oid in found if oid is not None]


def delete_fork(
    vault: OpenVault,
    fork: str,
    *,
    open_workspace: Opener,
    by: str | None = None,
    only_if: Callable[[LockedWorkspace], bool] | None = None,
) -> ForkInfo | None:
    """Delete a fork. Its commits stay reachable and its files stay in the trash, so that it can be undone.

    `by` is the fork at hand, where `undo` brings this one back. Returns None if `only_if`, asked with the workspace
    locked, says that the fork stays.

    Raises:
        InvalidInput: If it is the default fork, and the vault is not that of a directory: there, another fork becomes
            it.
        HostError: If the disk refuses; the fork is there, unless the error says otherwise.
    """
    info = fork_info(vault, fork)
    is_default = vault.head_fork() == fork
    if is_default and vault.layout.read_origin() is None:
        raise InvalidInput(
            f"{quote(fork)} is the vault's default fork", hint="Delete the vault instead, or another fork."
        )
    vault.prepare()
    more: dict[str, object] = {BY: by} if by not in (None, fork) else {}
    if is_default:
        more[WAS_DEFAULT] = True
    record = OpRecord(0, fork, FORK_DELETE, f"delete fork {fork}", vault.clock_ns(), more=more)
    reach("fork.ending")
    if not end_fork(vault, fork, open_workspace, record, only_if=only_if):
        return None
    return info


def _leave_default(vault: OpenVault, fork: str) -> None:
    """Let the vault of a directory have another default fork than a deleted one.

    After a crash before, HEAD names no fork.
    """
    others = sorted(vault.list_heads().keys() - {fork})
    vault.refs.set_head(HEADS + (others[0] if others else "main" if fork != "main" else "none"))
