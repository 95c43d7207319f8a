"""A session whose tree its own servers show, through FUSE: a workspace, a commit, or the whole vault.

Decided here: how such a mount is made, and the order of steps in a server: first what answers the kernel, then the
record, then the control socket. `process` calls `mount`; the supervisor calls `LiveTree.serve` in each server that it
forks, which has every descriptor that was opened before (`fuse.handover.supervisor`). Nothing here survives a crash but
the mount, the record and the `Handover`.
"""

from __future__ import annotations

import os
import sys
import threading
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

from avfs_git.faults import reach
from avfs_git.fuse.channel import MAX_IO, Channel
from avfs_git.fuse.handover.forgetting import NODES_MAX
from avfs_git.fuse.handover.handover import Handover
from avfs_git.fuse.server import TreeServer
from avfs_git.host.mounts.mounts import find_mount, mount_fuse, set_read_ahead
from avfs_git.host.processes.descriptors import make_room
from avfs_git.lazy import LazyLogger
from avfs_git.paths import WHOLE_VAULT
from avfs_git.session.life.ending import Ending
from avfs_git.session.life.mountsource import SUBTYPE, mount_source
from avfs_git.session.life.users import await_unused
from avfs_git.session.serve.session import Session
from avfs_git.vfs.tree.merged import MergedTree

if TYPE_CHECKING:
    from avfs_git.fuse.composite import CompositeServer

_LOG = LazyLogger(__name__)
_READ_AHEAD_KIB: Final = 1024
_SWITCH_S: Final = 0.0005
"""How long another thread may keep the interpreter while the serving thread wants it: so long a program waits then."""


def mount(session: Session, tree: MergedTree | None) -> LiveTree:
    """Mount what a session shows.

    Without a `tree` it is the whole vault, whose trees the server opens.
    """
    request, vault = session.request, session.vault
    doors = -1
    if request.fork == WHOLE_VAULT and request.mounts is not None:
        doors, _ = os.pipe()  # the other end stays open in every process of this session, and in no other
    handover = Handover.make()
    fd = mount_fuse(
        session.directory,
        source=mount_source(session.held.record.id, request.fork, vault.git_dir),
        subtype=SUBTYPE,
        read_only=not request.is_workspace,
        allow_other=request.allow_other,
        max_read=MAX_IO,
    )
    reach("session.mounted")
    channel = Channel(fd)
    channel.negotiate()
    session.mounted = find_mount(session.directory)
    if session.mounted is not None:
        set_read_ahead(session.mounted.device, _READ_AHEAD_KIB)
    return LiveTree(session, tree, channel, handover, doors=doors)


class LiveTree:
    """What a session shows through FUSE.

    Attributes:
        session: The session.
        handover: What its servers leave to each other.
    """

    def __init__(
        self,
        session: Session,
        tree: MergedTree | None,
        channel: Channel,
        handover: Handover,
        *,
        doors: int,
    ) -> None:
        self.session = session
        self.handover = handover
        self._tree = tree
        self._channel = channel
        self._doors = doors
        """The leash of forks that a program walks into through a mount of the whole vault; -1 if there is none."""

    def stays(self) -> bool:
        """Tell that the mount is dead without a server."""
        return False

    def go(self, *, keep_log: bool) -> None:
        """Leave nothing behind."""
        self.session.go(keep_log=keep_log, channel=self._channel)

    def serve(self, handover: Handover) -> None:
        """Serve the tree, in a fork of the process that started the session."""
        session = self.session
        make_room()
        ending = session.begin_server(handover, leave=self._channel.leave)
        if ending is None:
            return
        # The kernel has applied the program's umask. Not set earlier: what the session itself makes (a workspace, its
        # lock) is as open as the user who mounted it wants.
        if session.request.is_workspace:  # else the server makes nothing but sessions of its own (`doors`)
            os.umask(0)
        sys.setswitchinterval(_SWITCH_S)
        server = self._make_server(handover)  # first: what changes below keeps what programs have open
        if handover.generation and session.workspace is not None:
            session.workspace.opened.take_over()
        session.be_ready(ending, is_first=not handover.generation)
        from avfs_git.session.serve.start_control import Control  # noqa: PLC0415 - programs in the tree do not wait for it
        from avfs_git.session.serve.trail import begin_trail  # noqa: PLC0415 - the same

        events = server.events if isinstance(server, TreeServer) else None
        control = Control(session, self._channel, ending, is_first=not handover.generation, events=events)
        trail = begin_trail(session, events, is_first=not handover.generation) if events is not None else None
        ending.start()  # not before, so that the record goes through its states in their order
        control.start()  # clients that connected before wait
        if session.request.is_shared:
            threading.Thread(target=self._await_users, args=(ending,), name="avfs-users", daemon=True).start()
        server.serve()
        ending.close()
        control.close()
        if trail is not None:
            trail.close()
        session.finish_serving()

    def _await_users(self, ending: Ending) -> None:
        """Ask for the end when the mount has no users any more. What stands on it is served to its end."""
        try:
            await_unused(self.session.held.place, self.session.request.leash_fd)
        except OSError:  # the session is over, or the vault was removed
            _LOG.debug("the users of the mount cannot be counted", exc_info=True)
        ending.ask()

    def _make_server(self, handover: Handover) -> TreeServer | CompositeServer:
        request, vault, tree = self.session.request, self.session.vault, self._tree
        if tree is not None:
            return TreeServer(
                tree,
                self._channel,
                handover,
                most_nodes=None if request.is_shared else NODES_MAX,
                xattr_search=tree.lower.search_xattrs() if request.is_shared else None,
                wait_elsewhere=vault.store.wait_elsewhere,
                allows=self.session.allows,
            )
        from avfs_git.fuse.composite import CompositeServer  # noqa: PLC0415 - only for a whole vault
        from avfs_git.session.serve.catalogue import open_catalogue, reopen  # noqa: PLC0415

        enter = None
        if self._doors >= 0 and request.mounts is not None:
            from avfs_git.session.serve import doors  # noqa: PLC0415 - the same

            enter = partial(doors.enter, vault, request, Path(request.mounts), self._doors)
        return CompositeServer(
            open_catalogue(vault, enter),
            self._channel,
            handover,
            statvfs=lambda: os.statvfs(vault.git_dir),
            reopen=lambda identity: reopen(vault, identity),
        )
