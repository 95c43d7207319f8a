"""Where the state of a workspace comes from, and making workspaces on disk.

Decided here: that the workspace of a fork is made when it is first opened, what is believed where its state file is missing or
damaged (the log, then its branch), and what is forced to disk. It is made under the lock of the fork's name, which is taken here,
or by the holder of the workspace lock. A crash leaves a workspace that is made again, or a state that is empty.
"""

from __future__ import annotations

from collections.abc import Set as AbstractSet
from contextlib import suppress

from avfs_git.errors import ForkNotFound, HostError, WorkspaceDamaged
from avfs_git.host.files.durable import host_errors, make_dirs_durably
from avfs_git.host.files.modes import make_dir
from avfs_git.host.locks.locks import REFUSED_WRITING
from avfs_git.host.processes.boot import read_boot_id
from avfs_git.paths import Oid, oid_of
from avfs_git.workspace.vault.format import WorkspaceLayout, WorkspaceState
from avfs_git.workspace.vault.vault import OpenVault

UNKNOWN_BOOT = ""
"""Stands for the boot in which an upper layer was last written to, where its state did not survive."""


def load_state(vault: OpenVault, layout: WorkspaceLayout, *, has_lock: bool = False) -> WorkspaceState:
    """Read a workspace's state, or make the workspace of a fork that has none yet; only its state if nothing may be written.

    With `has_lock`, no fork of that name ends meanwhile.

    Raises:
        ForkNotFound: If there is no such fork.
        HostError: If the disk refuses, other than because nothing may be written there.
    """
    state = _read_state(layout)[0]
    if state is not None:
        return state
    if not vault.has_fork(layout.fork):
        raise ForkNotFound(layout.fork, vault=vault.name)
    if has_lock:
        return _make_again(vault, layout)
    try:
        with vault.fork_locked(layout.fork):
            return _make_again(vault, layout)
    except HostError as error:
        if error.errno not in REFUSED_WRITING:
            raise
        return _state_of(vault, layout.fork)[0]


def _read_state(layout: WorkspaceLayout) -> tuple[WorkspaceState | None, bool]:
    """Read the state, if it can be read; tell whether it is damaged while the upper layer may hold something."""
    try:
        return layout.read_state(), False
    except WorkspaceDamaged:  # a power cut left a fresh workspace half written: it holds nothing yet
        return None, layout.upper.is_dir()


def _make_again(vault: OpenVault, layout: WorkspaceLayout) -> WorkspaceState:
    """Make a workspace, or its state. Looks again at both: another process may have made it, or ended the fork, meanwhile."""
    fork = layout.fork
    state, is_damaged = _read_state(layout)
    if state is not None:
        return state
    if not vault.has_fork(fork):
        raise ForkNotFound(fork, vault=vault.name)
    state, is_recorded = _state_of(vault, fork)
    if layout.upper.is_dir():
        state.boot = UNKNOWN_BOOT
    if is_damaged:
        state.recovered = ["its state file was damaged and was made again from the log"]
    try:
        if not is_recorded and state.sidecar is not None and vault.read_sidecar_ref(fork) is None:
            # What a commit's header names, git does not keep: the workspace needs it from now on.
            vault.prepare()
            vault.refs.update(vault.hold(oid_of(state.sidecar)))
        create_workspace(vault, layout, state, durable=is_damaged or not is_recorded)
    except HostError as error:
        if error.errno not in REFUSED_WRITING:
            raise
    return state


def _state_of(vault: OpenVault, fork: str) -> tuple[WorkspaceState, bool]:
    """Make the state of a workspace that has none, and tell whether the log has it.

    Without a record it is that of a branch of git's, whose upper layer holds every change since: it never was folded.
    """
    state = recall_state(vault, fork)
    return (state, True) if state is not None else (fresh_state(vault, fork, vault.read_head(fork)), False)


def peek_state(vault: OpenVault, fork: str) -> WorkspaceState | None:
    """Read the state of a workspace, or what the log says of it, and change nothing; None for a branch that was never opened."""
    state = read_own_state(vault, fork)
    return state if state is not None else recall_state(vault, fork)


def read_own_state(vault: OpenVault, fork: str) -> WorkspaceState | None:
    """Read the state of a workspace; None if it cannot be read: opening the workspace makes it again, and says so."""
    return _read_state(vault.layout.workspace(fork))[0]


def fresh_state(vault: OpenVault, fork: str, head: Oid | None) -> WorkspaceState:
    """Make the state of a workspace on a branch that has none."""
    commit = vault.store.read_commit(head) if head is not None else None
    # A commit of git's names none: what `fork` was about to record when it died stands in the ref.
    sidecar = commit.sidecar if commit is not None and commit.sidecar is not None else vault.read_sidecar_ref(fork)
    return WorkspaceState(
        fork=fork,
        base=head.hex() if head is not None else None,
        sidecar=sidecar.hex() if sidecar is not None else None,
        created_at_ns=vault.clock_ns(),
        boot=read_boot_id(),
    )


def recall_state(vault: OpenVault, fork: str) -> WorkspaceState | None:
    """Make the state of a workspace from what the log says of it; None if the log says nothing."""
    return recall_states(vault, {fork}).get(fork)


def recall_states(vault: OpenVault, forks: AbstractSet[str]) -> dict[str, WorkspaceState]:
    """Make the states of workspaces from what the log says of them, in one reading; without those of which it says nothing."""
    return {
        fork: WorkspaceState(
            fork=fork,
            base=record.more.get("base"),
            sidecar=record.more.get("sidecar"),
            parent=record.more.get("parent"),
            upstream=record.more.get("upstream"),
            forked_at=record.more.get("forked_at"),
            ephemeral=bool(record.more.get("ephemeral")),
            author=record.more.get("author"),
            created_at_ns=record.created_at_ns,
            # Where nothing was recorded since, a power cut can have taken nothing that was acknowledged.
            boot=None if is_changed else read_boot_id(),
        )
        for fork, (record, is_changed) in vault.oplog.find_bases(forks).items()
    }


def facts_of(state: WorkspaceState) -> dict[str, object]:
    """Tell what the log is to say of a workspace, so that its state can be made again from there."""
    return {key: getattr(state, key) for key in ("base", "sidecar", "parent", "upstream", "forked_at", "ephemeral", "author")}


def create_workspace(vault: OpenVault, layout: WorkspaceLayout, state: WorkspaceState, *, durable: bool = True) -> None:
    """Make a workspace on disk; not `durable` where the log has what its state says, and it is made again from there."""
    vault.prepare()
    if durable and state.base is not None:
        vault.refs.update(vault.follow(state.fork, oid_of(state.base)))
    with host_errors(f"make the workspace of '{state.fork}'"):
        if durable:
            make_dirs_durably(layout.root)
        else:
            with suppress(FileExistsError):
                make_dir(layout.root)
    layout.write_state(state, durable=durable)
