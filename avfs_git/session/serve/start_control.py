"""When a session begins to answer on its control socket.

Decided here: the tree is served first. The control socket's server takes longer to import than all that a program in
the tree needs, so it begins with the first client, or `_ALONE_S` after the mount. The supervisor imports it then, too,
so that later servers have it and none imports what was replaced on disk since. Earlier clients wait: the socket listens
from before the mount.

Each server of a session makes one `Control` when it has said that it is ready; the import is done in the `Control`'s
thread. Nothing here survives a crash.
"""

from __future__ import annotations

import os
import select
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

from avfs_git import __version__
from avfs_git.model import SessionBackend
from avfs_git.session.life.log import format_log
from avfs_git.session.serve.session import Session

if TYPE_CHECKING:
    from avfs_git.fuse.channel import Channel
    from avfs_git.session.control.control import ControlServer
    from avfs_git.session.control.listening import EventSource
    from avfs_git.session.life.ending import Ending

_ALONE_S = 0.05
"""How long programs have the processors to themselves after the mount, while no client comes."""


class Control:
    """The control socket's server, and the thread in which it comes to be."""

    def __init__(
        self,
        session: Session,
        channel: Channel | None,
        ending: Ending,
        *,
        is_first: bool,
        changed: Callable[[], object] | None = None,
        events: EventSource | None = None,
    ) -> None:
        self._session = session
        self._channel = channel
        self._ending = ending
        self._is_first = is_first
        self._changed = changed
        self._events = events
        self._server: ControlServer | None = None
        self._is_closing = False
        self._thread = threading.Thread(target=self._run, name="avfs-control-start", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def close(self) -> None:
        """End it."""
        self._is_closing = True
        if self._thread.ident is not None:
            self._thread.join()
        if self._server is not None:
            self._server.close()

    def _run(self) -> None:
        workspace, poll = self._session.workspace, select.poll()
        if workspace is not None:
            poll.register(workspace.listener, select.POLLIN)
        # A later server makes good at once what the one before it may not have told the kernel.
        if self._is_first and not poll.poll(_ALONE_S * 1000) and self._is_closing:
            return
        format_log()
        if workspace is None:
            return
        from avfs_git.session.control.control import ControlServer  # noqa: PLC0415 - see above
        from avfs_git.session.control.wire import Served  # noqa: PLC0415 - the same

        request, mounted = self._session.request, self._session.mounted
        is_own = request.backend != SessionBackend.OVERLAY
        device = os.makedev(*mounted.device) if mounted is not None and is_own else None
        self._server = ControlServer(
            workspace.listener,
            workspace.opened,
            self._channel,
            served=Served(self._session.held.record.id, request.directory, device, os.getpid(), __version__),
            end=self._ending.ask,
            changed=self._changed,
            events=self._events,
        )
        self._server.start()
