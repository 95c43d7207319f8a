"""When a session begins to answer on its control socket.

Decided here: that a tree is served first. What the control socket's server needs takes longer to import than all that a program
in the tree needs, and whoever asked for the mount may need the processor for that; so it begins with the first client, or a
moment later. The supervisor imports it then, too, so that later servers have it, and so that none imports anything that was
replaced on disk since. Clients that come before wait: the socket listens from before the mount on.

Each server of a session makes one `Control`, in whose thread the import is done, once it has said that it is ready. Nothing here
survives a crash.
"""

from __future__ import annotations

import os
import select
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

from avfs_git import __version__
from avfs_git.session.life.log import format_log

if TYPE_CHECKING:
    from avfs_git.fuse.channel import Channel
    from avfs_git.session.control.control import ControlServer
    from avfs_git.session.life.ending import Ending
    from avfs_git.session.serve.process import Session

_SETTLED_S = 0.05
"""How long programs have the processors to themselves after the mount, where nobody asks the control socket for anything."""


class Control:
    """The control socket's server, and the thread in which it comes to be."""

    def __init__(
        self,
        session: Session,
        channel: Channel | None,
        ending: Ending,
        *,
        changed: Callable[[], object] | None = None,
    ) -> None:
        self._session = session
        self._channel = channel
        self._ending = ending
        self._changed = changed
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
        handover = self._session.handover
        # A server after the first has to make good at once what the one before it may not have told the kernel.
        is_later = handover is not None and handover.generation
        if not is_later and not self._await_client() and self._is_closing:
            return
        format_log()
        self._server = self._serve()

    def _await_client(self) -> bool:
        """Wait until somebody asks, at the most a moment; False if nobody did."""
        poll = select.poll()
        if self._session.listener is not None:
            poll.register(self._session.listener, select.POLLIN)
        return bool(poll.poll(_SETTLED_S * 1000))

    def _serve(self) -> ControlServer | None:
        """Begin to serve the control socket; None where there is no workspace."""
        session = self._session
        if session.opened is None or session.listener is None or session.held is None:
            return None
        from avfs_git.session.control.control import ControlServer  # noqa: PLC0415 - see above
        from avfs_git.session.control.wire import Served  # noqa: PLC0415 - the same

        device = os.makedev(*session.mounted.device) if session.mounted is not None and not session.is_overlay else None
        served = Served(session.held.record.id, session.request.directory, device, os.getpid(), __version__)
        control = ControlServer(
            session.listener,
            session.opened,
            self._channel,
            served=served,
            end=self._ending.ask,
            changed=self._changed,
        )
        control.start()
        return control
