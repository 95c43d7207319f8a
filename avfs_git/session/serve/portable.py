"""A session through libfuse: the same tree where the kernel's own protocol cannot be spoken.

Decided here: how a session lives without a process above its server. libfuse mounts by itself and keeps the descriptor
of the mount, so that no other server can go on after this one: a process that is killed leaves a dead mount. `process`
calls `serve` when the workspace is open, in place of a supervisor. Record, lock, control socket, signals and end are as
in `live`.

libfuse has a thread; the control socket and the watch for the end have theirs. The kernel keeps nothing of this tree
beyond one call (`fuse.portable`), so that nothing has to be told to it. The guard of the tree is the barrier of a
checkpoint, as in `live`. Nothing survives a crash but what is on disk.
"""

from __future__ import annotations

import os
import signal
import threading

from avfs_git.errors import MountError, SessionFailed
from avfs_git.host.mounts.mounts import find_mount, unmount
from avfs_git.host.processes.descriptors import make_room
from avfs_git.lazy import LazyLogger
from avfs_git.session.life.ending import ENDING
from avfs_git.session.life.mountsource import mount_source
from avfs_git.session.serve.session import Session
from avfs_git.session.serve.start_control import Control
from avfs_git.vfs.tree.merged import MergedTree

_LOG = LazyLogger(__name__)


def serve(session: Session, tree: MergedTree | None) -> None:
    """Mount a session's tree and serve it until it is unmounted. Called by the main thread.

    Raises:
        MountError: If it cannot be mounted; the caller gives everything back then. Later failures are told in the log.
    """
    if tree is None:
        raise MountError("a whole vault cannot be shown through libfuse", hint="Leave out `--backend`.")
    _Portable(session, tree).serve()


class _Portable:
    def __init__(self, session: Session, tree: MergedTree) -> None:
        self._session = session
        self._tree = tree
        self._is_ready = False
        self._failure: Exception | None = None
        """Why the starter could not be told that the tree is ready."""
        self._ending = session.watch_end(leave=self._leave)
        self._control = Control(session, None, self._ending, is_first=True)

    def serve(self) -> None:
        """Serve until it is unmounted, and leave nothing behind."""
        session = self._session
        try:
            from avfs_git.fuse import libfuse  # noqa: PLC0415 - it loads a C library that a machine may lack
        except (OSError, AttributeError) as error:
            what = f"libfuse cannot be used here: {error}"
            raise MountError(what, hint="Install it, on Debian with `apt install libfuse3-3 fuse3`.") from error
        make_room()
        os.umask(0)  # the kernel has applied that of the program
        self._ending.catch_signals()
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {*ENDING, signal.SIGUSR1, signal.SIGUSR2})
        for number in (signal.SIGUSR1, signal.SIGUSR2):
            signal.signal(number, signal.SIG_IGN)
        try:
            libfuse.serve(
                self._tree,
                session.directory,
                source=mount_source(session.held.record.id, session.request.fork, session.vault.git_dir),
                read_only=not session.request.is_workspace,
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
        """Give everything back. Nothing here may stop at a failure: no caller is there to hear of it."""
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
        try:
            session.mounted = self._ending.mounted = find_mount(session.directory)
            session.be_ready(self._ending, is_first=True)
        except Exception as error:  # noqa: BLE001 - libfuse would go on with a tree that its starter does not know
            self._failure = error
            # Beside this thread, whose request the kernel waits for: then libfuse returns.
            if session.mounted is not None:
                threading.Thread(target=unmount, args=(session.mounted,), kwargs={"lazy": True}, daemon=True).start()
            return
        self._is_ready = True
        self._ending.start()
        self._control.start()

    def _leave(self) -> None:
        """End although the kernel may still ask: libfuse cannot be called back, so this process goes.

        Called by the watch.
        """
        self._control.close()
        self._tree.guard.acquire()  # for good: what programs still ask for must not be done any more
        self._give_back()
        os._exit(0)
