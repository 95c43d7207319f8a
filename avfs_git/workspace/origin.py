"""Where the state of a workspace comes from, and making workspaces on disk.

Decided here: what is believed of a workspace whose state file is missing or damaged (the log, then its branch), and
what is forced to disk when one is made. Callers hold the workspace lock, or make a workspace that nobody knows yet.
"""

from __future__ import annotations

import contextlib
import os

from avfs_git.errors import ForkNotFound, HostError, WorkspaceDamaged
from avfs_git.host.boot import read_boot_id
from avfs_git.host.durable import host_errors, make_dirs_durably, write_all
from avfs_git.host.locks import REFUSED_WRITING
from avfs_git.paths import Oid
from avfs_git.workspace.format import WorkspaceLayout, WorkspaceState, serialize_state
from avfs_git.workspace.vault import OpenVault


def load_state(vault: OpenVault, layout: WorkspaceLayout) -> WorkspaceState:
    """Read a workspace's state, or make the workspace of a fork that has none yet; only its state if nothing may be written."""
    fork = layout.fork
    is_damaged = False
    try:
        state = layout.read_state()
    except WorkspaceDamaged:
        state = None
        is_damaged = layout.upper.is_dir()  # a fresh one that a power cut caught half written holds nothing yet
    if state is not None:
        return state
    head = vault.read_head(fork)
    if head is None and not vault.has_fork(fork):
        raise ForkNotFound(fork)
    # Its base is written down in the log as well. Without a record it is that of a branch of git's, whose upper layer
    # holds every change since: it never was folded.
    state = recall_state(vault, fork)
    named = None
    if state is None:
        state = fresh_state(vault, fork, head)
        named = state.sidecar
    if is_damaged:
        state.boot = None
        state.recovered = ["its state file was damaged and was made again from the log"]
    try:
        if named is not None and vault.read_sidecar_ref(fork) is None:
            # What a commit's header names, git does not keep: the workspace needs it from now on.
            vault.prepare()
            vault.refs.update(vault.keep(Oid(bytes.fromhex(named))))
        create_workspace(vault, layout, state)
    except HostError as error:
        if error.errno not in REFUSED_WRITING:
            raise
    return state


def peek_state(vault: OpenVault, fork: str) -> WorkspaceState | None:
    """Read the state of a workspace, or what the log says of it, and change nothing; None for a branch nobody has opened."""
    try:
        state = vault.layout.workspace(fork).read_state()
    except WorkspaceDamaged:  # whoever opens it makes it again, and tells so
        state = None
    return state if state is not None else recall_state(vault, fork)


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
    for record in vault.oplog.read_fork(fork):
        if "base" in record.more:
            more = record.more
            return WorkspaceState(
                fork=fork,
                base=more.get("base"),
                sidecar=more.get("sidecar"),
                parent=more.get("parent"),
                forked_at=more.get("forked_at"),
                ephemeral=bool(more.get("ephemeral")),
                created_at_ns=record.created_at_ns,
                boot=None,
            )
    return None


def create_workspace(vault: OpenVault, layout: WorkspaceLayout, state: WorkspaceState) -> None:
    """Make a workspace on disk, durably."""
    vault.prepare()
    with host_errors(f"make the workspace of '{state.fork}'"):
        make_dirs_durably(layout.root)
    layout.write_state(state)


def make_workspace(layout: WorkspaceLayout, state: WorkspaceState) -> None:
    """Make a workspace on disk, not forced to it: after a power cut it is made again from the log.

    Raises:
        FileExistsError: If there is one.
        HostError: If the disk refuses.
    """
    try:
        os.mkdir(layout.root)
        fd = os.open(layout.state, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o666)
        try:
            write_all(fd, serialize_state(state))
        finally:
            os.close(fd)
    except FileExistsError:
        raise
    except OSError as error:
        raise HostError(f"make the workspace of '{state.fork}'", error) from error


def unmake_workspace(layout: WorkspaceLayout) -> None:
    """Remove what `make_workspace` made and nobody has used."""
    with contextlib.suppress(OSError):  # what stays is an orphan, which the next fork of that name puts away
        os.unlink(layout.state)
        os.rmdir(layout.root)
