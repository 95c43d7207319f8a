"""What every session has, whatever shows its tree: request, vault, record, workspace, and its last steps.

Decided here: what a session writes down of its state, and in which order it gives everything back. `process` makes a
`Session` with its record; `live` (FUSE), `overlay` or `portable` shows the tree and calls the rest. See `process` for
the states.

One thread until the first server is forked; a server calls from its serving thread and from that of `life.ending`. A
crash at any point leaves a record whose lock nobody holds, and perhaps a dead mount: `life.record.list_sessions` cleans
up both.
"""

from __future__ import annotations

import _socket  # `socket` takes a twentieth of the start, and only the control socket's server needs it
import json
import os
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from avfs_git.errors import HostError, MountError, WorkspaceBusy, WorkspaceMounted, quote
from avfs_git.faults import reach
from avfs_git.fuse.channel import Channel
from avfs_git.fuse.handover.handover import Handover
from avfs_git.host.mounts.mounts import Mounted, find_mount, list_mounts_below, unmount
from avfs_git.lazy import LazyLogger
from avfs_git.model import SessionBackend, SessionState
from avfs_git.paths import TreePath
from avfs_git.session.control.address import listen
from avfs_git.session.life.ending import Ending
from avfs_git.session.life.mountsource import session_of_source
from avfs_git.session.life.record import FoundSession, HeldSession, find_workspace_session, read_record, remove_made
from avfs_git.session.life.request import Request
from avfs_git.values import NamedTuple, replace
from avfs_git.vfs.asked import Allows
from avfs_git.workspace.opened.workspace import LockedWorkspace, OpenWorkspace
from avfs_git.workspace.vault.format import ENABLED_PLUGINS
from avfs_git.workspace.vault.vault import OpenVault

if TYPE_CHECKING:
    from collections.abc import Callable

_LOG = LazyLogger(__name__)


class Workspace(NamedTuple):
    """The workspace of a session, which this process serves."""

    opened: OpenWorkspace
    listener: _socket.socket
    """The control socket. It listens before the workspace's lock names the session: clients that read that connect."""


class Session:
    """One session in its own process.

    Attributes:
        workspace: What it serves for reading and writing; None for a read-only mount, and until it is opened.
        allows: What is asked before programs change something; None where there are no plug-ins.
        mounted: Its mount; None where the mount table does not have it, and until it is made.
    """

    def __init__(self, request: Request, vault: OpenVault, held: HeldSession) -> None:
        self.request = request
        self.vault = vault
        self.held = held
        self.directory = Path(request.directory)
        self.workspace: Workspace | None = None
        self.allows: Allows | None = None
        self.mounted: Mounted | None = None

    def open_workspace(self) -> OpenWorkspace:
        """Open the workspace and serve it from now on.

        Raises:
            WorkspaceMounted: If another session serves it.
            WorkspaceBusy: If another process works in it for too long.
            AvfsError: If it cannot be opened.
        """
        held, request = self.held, self.request
        listener = listen(held.place.socket)
        opened = OpenWorkspace(self.vault, request.fork, recover=_recover, lock_timeout_s=request.lock_timeout_s)
        self.workspace = Workspace(opened, listener)
        self._find_plugins(opened)
        if request.adopted is not None:
            return opened  # `overlay.adopt` serves it, when it knows where it is shown
        try:
            opened.serve(held.record.id)
        except WorkspaceBusy:
            refuse_second(self.vault, request, held)  # another session was faster
            raise
        opened.merged.list_covered = lambda: list(map(TreePath, list_mounts_below(self.directory)))
        return opened

    def _find_plugins(self, opened: OpenWorkspace) -> None:
        """Have the user's plug-ins asked before each change, if any is enabled now.

        With the record of this session on disk, no other process enables or disables one until it is over.

        Raises:
            MountError: If programs would change the workspace without a request to the server.
        """
        request = self.request
        if request.home is None or not os.path.lexists(Path(request.home, ENABLED_PLUGINS)):
            return
        from avfs_git.workspace.plugins.enabled import EnabledPlugins  # noqa: PLC0415 - most vaults have none

        enabled = EnabledPlugins(Path(request.home), self.vault)
        specs = enabled.find()
        if not specs:
            return
        if request.backend != SessionBackend.FUSE:
            why = (
                f"the plug-in {quote(specs[0].name)} is asked before each change, which is not possible by "
                f"'{request.backend}'"
            )
            raise MountError(why, hint="Mount without `--backend`, or see `avfs plugins list`.")
        plugins = enabled.asking(lambda: specs)
        opened.find_check = partial(plugins.check_of, request.fork)
        self.allows = partial(plugins.allows, fork=request.fork)

    def go(self, *, keep_log: bool, channel: Channel | None = None) -> None:
        """Leave nothing behind: mount, channel, directories, record, locks."""
        # Nothing here may stop at a failure, least of all of the disk: what is left would be a dead mount.
        mounted = find_mount(self.directory)
        if mounted is not None and session_of_source(mounted.source) == self.held.record.id:
            try:
                unmount(mounted, lazy=True)
            except MountError:
                _LOG.exception("the mount stays")
        if channel is not None:
            with suppress(OSError):
                channel.close()
        reach("session.unmounted")
        if self.workspace is not None:
            self.workspace.opened.lock.close()  # the server gave the workspace back, unless it died in its last steps
        remove_made(self.held.record.made)
        reach("session.point_removed")
        if self.request.base_fd is not None:
            with suppress(OSError):
                os.close(
                    self.request.base_fd
                )  # before the session counts as ended: an unmount waits then for an unused base
        self.held.end(keep_log=keep_log)

    # --- in a server -----------------------------------------------------------------------------------------

    def begin_server(
        self, handover: Handover, *, leave: Callable[[], object], remove_copies: Callable[[], object] | None = None
    ) -> Ending | None:
        """Begin to catch signals, in a server; None if the session ended with the server before this one."""
        self.held.record = read_record(self.held.place) or self.held.record  # a server before this one changed it
        if self.held.record.state == SessionState.ENDED:
            return None  # that one died in its last steps; the workspace may be another session's by now
        ending = self.watch_end(leave=leave, remove_copies=remove_copies)
        ending.catch_signals()
        if handover.ending:  # a signal that came before this server could take it
            ending.ask()
        return ending

    def watch_end(self, *, leave: Callable[[], object], remove_copies: Callable[[], object] | None = None) -> Ending:
        """Make what watches for the end of the mount."""
        return Ending(
            self.held.record.id,
            self.mounted,
            is_rooted=self._attend,
            begin=lambda: self._write(SessionState.UNMOUNTING),
            leave=leave,
            remove_copies=remove_copies,
        )

    def _attend(self) -> bool:
        """Mend what other processes find this session by; tell whether the vault is where it was."""
        if not self.held.attend():
            return False
        if self.workspace is not None:
            opened = self.workspace.opened
            with suppress(OSError):  # the next time may do
                opened.lock.attend(opened.layout.lock, self.held.record.id)
        return True

    def be_ready(self, ending: Ending, *, is_first: bool) -> None:
        """Tell the starter that programs can use the tree.

        Every server does: one before it may have died before it could.
        """
        if self.held.record.state == SessionState.STARTING:
            self.held.write(SessionState.MOUNTED)
        reach("session.ready")
        if not tell(self.request.ready_fd, {"session": self.held.record.id}) and is_first:
            _LOG.warning("the process that asked for the mount is gone")
            ending.ask()

    def finish_serving(self) -> None:
        """Give the workspace back, when nothing shows it any more and no client is answered."""
        self._write(SessionState.ENDED)  # before the workspace is free, so that the next session does not find this one
        reach("session.served")
        if self.workspace is not None:
            self.workspace.opened.stop_serving()

    def _write(self, state: SessionState) -> None:
        try:
            self.held.write(state)
        except HostError:  # a full disk: the record is a message, what counts is the lock
            self.held.record = replace(self.held.record, state=state.value)


def refuse_second(vault: OpenVault, request: Request, held: HeldSession | None = None) -> None:
    """Refuse a session of a workspace that another one serves.

    Raises:
        WorkspaceMounted: If there is another one.
    """
    other = find_workspace_session(vault.layout.sessions, request.fork)
    if other is not None and (held is None or other.record.id != held.record.id):
        raise mounted_elsewhere(other, is_ending=False)


def mounted_elsewhere(other: FoundSession, *, is_ending: bool) -> WorkspaceMounted:
    """Make the error that says which session has the workspace."""
    record = other.record
    is_overlay = record.backend == SessionBackend.OVERLAY
    return WorkspaceMounted(
        record.fork, record.directory, session=record.id, pid=record.pid, is_ending=is_ending, is_overlay=is_overlay
    )


def tell(fd: int, message: dict[str, object]) -> bool:
    """Tell the starter something; False if it is gone."""
    try:
        os.write(fd, json.dumps(message).encode() + b"\n")
        os.close(fd)
    except OSError:
        return False
    return True


def _recover(locked: LockedWorkspace) -> None:
    from avfs_git.workspace.restore.recovery import recover  # noqa: PLC0415 - only after a crash

    recover(locked)
