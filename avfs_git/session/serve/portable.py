"""A session through libfuse: the same tree where the kernel's own protocol is not to be spoken.

Decided here: how a session lives that has no process above its server. libfuse mounts by itself, and keeps the descriptor of the
mount to itself, so that no other server can go on after this one: a process that is killed leaves a dead mount, as the death of
any session does. The rest is as in `process`, which calls `serve` in place of a supervisor when the workspace is open: record,
lock, control socket, signals and the end of the mount.

libfuse has a thread; the control socket and the watch for the end have theirs. The kernel remembers nothing of this
tree beyond one call (`fuse.portable`), so that nobody has to tell it what to forget. The guard of the tree is the barrier of a
checkpoint here, too. Nothing survives a crash but what is on disk.
"""

from __future__ import annotations

import os
import signal
import threading
from typing import TYPE_CHECKING

from avfs_git.errors import MountError, SessionFailed
from avfs_git.fuse import portable
from avfs_git.host.mounts.mounts import find_mount, unmount
from avfs_git.host.processes.descriptors import make_room
from avfs_git.lazy import LazyLogger
from avfs_git.session.life.ending import ENDING, Ending
from avfs_git.session.life.record import mount_source
from avfs_git.session.serve.start_control import Control

if TYPE_CHECKING:
    from avfs_git.session.serve.process import Session

_LOG = LazyLogger(__name__)


def serve(session: Session) -> None:
    """Mount a session's tree and serve it until it is unmounted. Called by the main thread.

    Raises:
        MountError: If it cannot be mounted; the caller gives everything back then. Later failures are told in the log.
    """
    _Portable(session).serve()


class _Portable:
    """One tree, served by this process."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._is_ready = False
        self._failure: Exception | None = None
        """Why nobody could be told that the tree is ready."""
        held = session.held
        assert held is not None  # noqa: S101 - it was started
        if session.tree is None:
            raise MountError("a whole vault cannot be shown through libfuse", hint="Leave out `--backend`.")
        self._held, self._tree = held, session.tree
        self._ending = Ending(
            held.record.id,
            None,
            is_rooted=held.is_there,
            begin=session.say_unmounting,
            leave=self._leave,
        )
        self._control = Control(session, None, self._ending)

    def serve(self) -> None:
        """Serve until it is unmounted, and leave nothing behind."""
        session = self._session
        make_room()
        os.umask(0)  # the kernel has applied that of the program
        self._ending.catch_signals()
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {*ENDING, signal.SIGUSR1, signal.SIGUSR2})
        for number in (signal.SIGUSR1, signal.SIGUSR2):
            signal.signal(number, signal.SIG_IGN)
        try:
            portable.serve(
                self._tree,
                session.directory,
                source=mount_source(self._held.record.id, session.request.fork, session.git_dir),
                read_only=not session.is_workspace,
                allow_other=session.request.allow_other,
                ready=self._begin,
            )
            if not self._is_ready:
                raise self._failure or SessionFailed("libfuse ended before the tree was ready", "")
        except Exception:
            if not self._is_ready:
                self._ending.close()
                raise
            _LOG.exception("libfuse failed")
        self._end()

    def _end(self) -> None:
        """Give everything back. Nothing here may stop at a failure: nobody waits for it any more."""
        self._ending.close()
        self._control.close()
        self._give_back()

    def _give_back(self) -> None:
        failed = True
        try:
            self._session.finish_serving()
            failed = False
        except Exception:  # noqa: BLE001 - whatever it is, the mount must not stay
            _LOG.exception("the session failed")
        self._session.go(keep_log=failed)

    def _begin(self) -> None:
        """Tell the starter that programs can use the tree. Called by a thread of libfuse, with the mount made."""
        session = self._session
        session.is_mounted = True
        try:
            session.mounted = self._ending.mounted = find_mount(session.directory)
            session.be_ready(self._ending, is_first=True)
        except Exception as error:  # noqa: BLE001 - libfuse would go on with a tree that nobody knows of
            self._failure = error
            # Beside this thread, whose request the kernel waits for: then libfuse returns.
            threading.Thread(target=unmount, args=(session.directory,), kwargs={"lazy": True}, daemon=True).start()
            return
        self._is_ready = True
        self._ending.start()
        self._control.start()

    def _leave(self) -> None:
        """End although the kernel may still ask: libfuse cannot be called back, so this process goes. Called by the watch."""
        self._control.close()
        self._tree.guard.acquire()  # for good: what programs still ask for must not be done any more
        self._give_back()
        os._exit(0)
