"""Forks: making, listing and ending them.

Decided here: what a fork starts from, what is written when one is made, and where everything goes when one is
deleted. Making one costs a ref and a line in the log, whatever the size of the tree; its sidecar is the one that
the commit names, which the fork that it came from keeps reachable. The order of steps:

- make: the state of the workspace, then the log announces the branch, then the branch. A crash before the branch leaves
  a workspace without one, which nobody opens: `create_fork` and the doctor put it into the trash.
- delete: refs that keep what was there, then the log announces that the branch goes, then it goes (in one update), then
  the workspace moves to the trash. A crash in between leaves a workspace without a branch. A failure to move it brings
  the branch back.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable

from avfs_git.errors import (
    CheckpointNotFound,
    ForkExists,
    ForkNotFound,
    InvalidInput,
    InvalidName,
    LeftInForce,
    RefConflict,
    quote,
)
from avfs_git.faults import reach
from avfs_git.gitstore.holding import objects_held
from avfs_git.gitstore.refs import RefChange
from avfs_git.host.boot import read_boot_id
from avfs_git.host.durable import fsync_dir, host_errors, make_dirs_durably
from avfs_git.host.locks import LockFile
from avfs_git.model import CheckpointResult, ForkInfo
from avfs_git.paths import Oid, check_fork_name, fork_dir_name
from avfs_git.workspace.checkpoint import save_checkpoint, saving_first
from avfs_git.workspace.forkinfo import fork_info
from avfs_git.workspace.format import HEADS, SIDECARS, WorkspaceState, label_ref
from avfs_git.workspace.gitmoves import bring_git_dir_back, put_git_dir_away
from avfs_git.workspace.oplog import OpRecord, RefMoveRecord
from avfs_git.workspace.origin import make_workspace, peek_state, unmake_workspace
from avfs_git.workspace.revisions import resolve_revision
from avfs_git.workspace.vault import OpenVault
from avfs_git.workspace.workspace import OpenWorkspace

Opener = Callable[[str], OpenWorkspace]
Saver = Callable[[OpenWorkspace, str | None, str], object]
"""Saves what a workspace has not committed, with a message for the commit, and a description for the log."""


def save_here(opened: OpenWorkspace, message: str | None, description: str) -> CheckpointResult:
    """Save what a workspace has not committed, in this process."""
    with opened.locked() as locked:
        return save_checkpoint(locked, message=message, description=description)


def create_fork(
    vault: OpenVault,
    name: str,
    *,
    open_workspace: Opener,
    source: str | None = None,
    at: str | None = None,
    ephemeral: bool = False,
    with_changes: bool = True,
    save: Saver = save_here,
) -> None:
    """Make a fork.

    Args:
        vault: Where.
        name: Its name, a branch's.
        open_workspace: Opens the workspace of the source.
        source: The fork that it starts from; the vault's default one if not given.
        at: A checkpoint to start from, instead of the present state of the source.
        ephemeral: Whether it is made to be thrown away.
        with_changes: Whether uncommitted work of the source comes along; it is checkpointed there first.
        save: Makes that checkpoint.

    Raises:
        ForkExists: If the name is taken.
        ForkNotFound, CheckpointNotFound: If there is nothing to start from.
    """
    check_fork_name(name)
    vault.prepare()
    default = vault.default_fork()
    if name == default or vault.read_head(name) is not None:
        raise ForkExists(name, hint=f"Work in that one with `--fork {name}`, or choose another name.")
    # A commit that is named may be one that nothing else keeps.
    with objects_held(vault.git_dir) if at is not None else contextlib.nullcontext():
        try:
            _make_fork(vault, name, source or default, at, open_workspace, save, ephemeral=ephemeral, with_changes=with_changes)
        except RefConflict as error:
            other = _find_in_the_way(vault, name)
            if other is None:
                raise
            reason = f"there is a fork {quote(other)}, and git has no branch both at a name and below it"
            raise InvalidName("fork", name, reason) from error


def _find_in_the_way(vault: OpenVault, name: str) -> str | None:
    """Find a fork whose name is below a name, or above it."""
    heads = vault.list_heads()
    return next((other for other in heads if other.startswith(f"{name}/") or name.startswith(f"{other}/")), None)


def _make_fork(
    vault: OpenVault,
    name: str,
    source: str | None,
    at: str | None,
    open_workspace: Opener,
    save: Saver,
    *,
    ephemeral: bool,
    with_changes: bool,
) -> None:
    if at is not None:
        commit = resolve_revision(vault, at, fork=source)
        sidecar = vault.store.read_commit(commit).sidecar
        if source is not None and vault.read_head(source) == commit and sidecar is None:
            sidecar = _recorded_sidecar(vault, source, commit)
        parent = source
    elif source is None:
        raise CheckpointNotFound("HEAD")
    else:
        commit, sidecar = _settle_source(vault, source, open_workspace, save, with_changes=with_changes)
        parent = source
    created_at_ns = vault.clock_ns()
    state = WorkspaceState(
        fork=name,
        base=commit.hex(),
        sidecar=sidecar.hex() if sidecar else None,
        parent=parent,
        forked_at=commit.hex(),
        ephemeral=ephemeral,
        created_at_ns=created_at_ns,
        boot=read_boot_id(),
    )
    changes: list[RefChange] = []
    # What an older fork of that name has left, whose branch was deleted by hand, or by a process that died then.
    left_over = {label_ref(name, label): oid for label, oid in vault.list_labels(name).items()}
    sidecar_left = vault.refs.read(SIDECARS + name)
    if sidecar_left is not None:
        left_over[SIDECARS + name] = sidecar_left
    if left_over:
        changes += [*vault.keep(*left_over.values()), *(RefChange(ref, oid, None) for ref, oid in left_over.items())]
    changes.append(RefChange(HEADS + name, None, commit))  # last: by it the fork is found
    layout = vault.layout.workspace(name)
    # Before the refs, because whatever is made after a sync waits for the journal. Not forced to disk: what the
    # state says stands in the log, and it is made again from there.
    try:
        make_workspace(layout, state)
    except FileExistsError:
        _clear_orphan(vault, name)
        make_workspace(layout, state)
    more = {key: getattr(state, key) for key in ("base", "sidecar", "parent", "forked_at", "ephemeral")}
    moves: list[RefMoveRecord] = [(HEADS + name, None, commit.hex())]
    record = OpRecord(0, name, "fork_create", f"fork {name} from {parent or at}", created_at_ns, moves=moves, more=more)
    try:
        reach("fork.made")
        vault.move_refs(changes, record)
    except LeftInForce:
        raise
    except BaseException:
        unmake_workspace(layout)
        raise


def _settle_source(
    vault: OpenVault, source: str, open_workspace: Opener, save: Saver, *, with_changes: bool
) -> tuple[Oid, Oid | None]:
    """Find what a fork starts from, after saving what its source has not committed."""
    head = vault.read_head(source)
    if head is None and not vault.has_fork(source):
        raise ForkNotFound(source)
    if head is None or with_changes:
        opened = open_workspace(source)
        if head is None or not opened.is_recorded_by(head):
            with saving_first():
                save(opened, None if head else "empty", "save before a fork")
            head = vault.read_head(source)
    if head is None:
        raise CheckpointNotFound(source)
    sidecar = vault.store.read_commit(head).sidecar
    return head, sidecar if sidecar is not None else _recorded_sidecar(vault, source, head)


def _recorded_sidecar(vault: OpenVault, fork: str, head: Oid) -> Oid | None:
    """Find the sidecar of a head that names none itself: a commit of git's, with which a workspace began."""
    state = peek_state(vault, fork)
    if state is not None and state.sidecar is not None and state.base == head.hex():
        return Oid(bytes.fromhex(state.sidecar))
    return None


def _clear_orphan(vault: OpenVault, fork: str) -> None:
    """Put away a workspace whose branch is gone, so that a new fork of that name does not find it."""
    if vault.layout.workspace(fork).root.exists():
        move_to_trash(vault, fork)


def name_in_trash(vault: OpenVault, fork: str) -> str:
    """Name the place in the trash for a workspace that is put away now."""
    return f"{vault.clock_ns()}-{fork_dir_name(fork)}"[:255]


def move_to_trash(vault: OpenVault, fork: str, name: str | None = None) -> None:
    """Move the workspace of a fork out of the way, whole; does nothing if there is none.

    Args:
        vault: Where.
        fork: Whose workspace.
        name: What `name_in_trash` gave, where that was written down before.

    Raises:
        HostError: If the disk refuses; the workspace is where it was.
    """
    root = vault.layout.workspace(fork).root
    held = vault.layout.trash / (name or name_in_trash(vault, fork))
    with host_errors(f"put away the workspace of '{fork}'"):
        make_dirs_durably(vault.layout.trash)
        if root.is_dir():
            put_git_dir_away(vault, fork)
        try:
            root.rename(held)
        except FileNotFoundError:
            return
        except OSError:
            bring_git_dir_back(vault, fork)
            raise
        try:
            reach("trash.moved")
            fsync_dir(vault.layout.trash)
            fsync_dir(root.parent)
        except BaseException as error:
            try:
                held.rename(root)
            except OSError as again:
                raise LeftInForce(f"put away the workspace of '{fork}'", again, {}) from error
            bring_git_dir_back(vault, fork)
            raise


def take_from_trash(vault: OpenVault, fork: str, name: str) -> str:
    """Move a workspace back to its place, and tell the name that it had in the trash; "" if it is not there any more.

    Raises:
        HostError: If the disk refuses; the workspace is where it was.
    """
    root = vault.layout.workspace(fork).root
    held = vault.layout.trash / name
    if not name or root.exists():
        return ""
    if not held.is_dir():
        # The doctor may have put it away once more, after an undo that died.
        with_its_name = sorted(place for place in vault.layout.trash.glob("*") if place.name.endswith(f"-{fork_dir_name(fork)}"))
        if not with_its_name:
            return ""
        held = with_its_name[-1]
    with host_errors(f"bring back the workspace of '{fork}'"):
        with LockFile(held / "lock", owner="avfs") as lock:
            lock.retire(retired=False)
        os.rename(held, root)
        try:
            reach("trash.left")
            fsync_dir(root.parent)
        except BaseException:
            with contextlib.suppress(OSError):  # what stays is put into the trash by the doctor
                os.rename(root, held)
            raise
    return held.name


def end_fork(vault: OpenVault, fork: str, open_workspace: Opener, record: OpRecord) -> None:
    """Take a fork away: its refs, kept reachable under others, and its workspace, kept in the trash.

    Args:
        vault: Where.
        fork: Which.
        open_workspace: Opens its workspace.
        record: What the log is to say; the refs that move and the name in the trash are put in here.

    Raises:
        LeftInForce: If the disk refuses so late that the fork stays away.
        HostError: If the disk refuses; the fork is there.
    """
    moves: list[RefChange] = []
    head = vault.read_head(fork)
    if head is not None:
        moves.append(RefChange(HEADS + fork, head, None))
    sidecar = vault.refs.read(SIDECARS + fork)
    if sidecar is not None:
        moves.append(RefChange(SIDECARS + fork, sidecar, None))
    moves += [RefChange(label_ref(fork, label), oid, None) for label, oid in vault.list_labels(fork).items()]
    trashed = name_in_trash(vault, fork)
    record.moves = [(move.name, move.old.hex() if move.old else None, None) for move in moves]
    record.more = {**record.more, "trash": trashed}
    opened = open_workspace(fork)

    def put_away() -> None:
        reach("fork.refs_gone")
        opened.lock.retire()
        try:
            move_to_trash(vault, fork, trashed)
        except LeftInForce:
            raise
        except BaseException:
            opened.lock.retire(retired=False)
            raise

    with opened.locked():
        vault.move_refs([*vault.keep(*(move.old for move in moves)), *moves], record, then=put_away)
    opened.close()


def delete_fork(vault: OpenVault, fork: str, *, open_workspace: Opener) -> ForkInfo:
    """Delete a fork. Its commits stay reachable and its files stay in the trash, so that it can be undone.

    Raises:
        ForkNotFound: If there is none of that name.
        InvalidInput: If it is the vault's default fork.
        HostError: If the disk refuses; the fork is there, unless the error says otherwise.
    """
    info = fork_info(vault, fork)
    if vault.default_fork() == fork:
        raise InvalidInput(f"{quote(fork)} is the vault's default fork", hint="Delete the vault instead, or another fork.")
    vault.prepare()
    end_fork(vault, fork, open_workspace, OpRecord(0, fork, "fork_delete", f"delete fork {fork}", vault.clock_ns()))
    return info
