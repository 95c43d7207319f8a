"""The process of a session: how it starts, lives under a supervisor, and goes.

Decided here: the order of steps from the record to the mount. `__main__` or a nursery calls `run` in a process of its
own, which `session.serve.start` began and waits for on a pipe. One line on that pipe says that programs can use the
tree, or which error stood in the way. A failure before that line takes everything back. The states of a session, and
what follows from a kill in each of them, are in docs/design/architecture.md.

This process has one thread until the first server is forked. Every server has what it opened.
"""

from __future__ import annotations

import errno
import fcntl
import gc
import os
import resource
import signal
from collections.abc import Mapping
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from avfs_git.errors import AvfsError, HostError, InternalError
from avfs_git.faults import reach
from avfs_git.fuse.handover.supervisor import supervise
from avfs_git.lazy import LazyLogger, LazyModule
from avfs_git.model import Identity, SessionBackend, SessionState
from avfs_git.paths import WHOLE_VAULT, oid_of
from avfs_git.session.life import point
from avfs_git.session.life.ending import ENDING
from avfs_git.session.life.log import format_log, open_log
from avfs_git.session.life.record import HeldSession, await_ending, begin
from avfs_git.session.life.request import Request
from avfs_git.session.life.users import make_users_file
from avfs_git.session.serve import live
from avfs_git.session.serve.session import Session, mounted_elsewhere, refuse_second, tell
from avfs_git.vfs.tree.merged import MergedTree
from avfs_git.workspace.gitdir import GitDir
from avfs_git.workspace.vault.commits import open_commit
from avfs_git.workspace.vault.vault import OpenVault

if TYPE_CHECKING:
    from avfs_git.session.serve import portable
    from avfs_git.session.serve.overlay import tree as overlay

    Shown = live.LiveTree | overlay.OverlayTree
else:  # only for sessions of that kind
    overlay = LazyModule("avfs_git.session.serve.overlay.tree")
    portable = LazyModule("avfs_git.session.serve.portable")

_LOG = LazyLogger(__name__)
NEEDED = (
    "avfs_git.session.serve.start_control",
    "avfs_git.session.control.control",
    "avfs_git.workspace.restore.recovery",
    "concurrent.futures.thread",
    "traceback",
)
"""What a session imports in the course of its life.

A supervisor has all of it: what is on disk may have been replaced since.
"""
_MAKE_TRIES = 5
NEEDED_ON_OVERLAYFS = (
    "avfs_git.session.serve.overlay.tree",
    "avfs_git.session.serve.overlay.events",
    "avfs_git.vfs.tree.mounted",
    "avfs_git.vfs.scan.upperwatch",
    "termios",
)
"""What it imports besides, on overlayfs."""


def run(given: Mapping[str, Any]) -> None:
    """Be the session that `given` describes, until its tree is unmounted."""
    request = Request(**given)
    _leave_starter(request)
    try:
        shown = _start(request)
    except BaseException as error:
        _LOG.debug("the session did not start", exc_info=True)
        from avfs_git.session.control.wire import encode_error  # noqa: PLC0415 - only after a failure

        tell(request.ready_fd, {"error": encode_error(_as_ours(error))})
        raise SystemExit(1) from error
    if shown is not None:
        _live(shown)


def _leave_starter(request: Request) -> None:
    """Make this process independent of its starter."""
    # Until there is a server that knows what they mean; `supervise` takes those that came meanwhile.
    signal.pthread_sigmask(signal.SIG_SETMASK, {*ENDING, signal.SIGUSR1})
    for caught in (*ENDING, signal.SIGUSR1, signal.SIGCHLD):
        signal.signal(caught, signal.SIG_DFL)
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 0)
    os.close(null)
    for number in (1, 2):
        os.dup2(request.said_fd, number)
    os.close(request.said_fd)
    for limit in (resource.RLIMIT_NOFILE, resource.RLIMIT_FSIZE):  # the limits of a program are not those of its disk
        _, most = resource.getrlimit(limit)
        resource.setrlimit(limit, (most, most))
    if request.leash_fd is not None and not request.is_shared:
        _take_leash(request.leash_fd)


def _take_leash(leash_fd: int) -> None:
    """Let this process get a signal when the other end of the leash is closed."""
    fcntl.fcntl(leash_fd, fcntl.F_SETOWN, os.getpid())
    fcntl.fcntl(leash_fd, fcntl.F_SETSIG, signal.SIGTERM)
    fcntl.fcntl(leash_fd, fcntl.F_SETFL, os.O_ASYNC)
    with suppress(BlockingIOError):
        os.set_blocking(leash_fd, False)
        if not os.read(leash_fd, 1):  # it was let go before this process listened
            os.kill(os.getpid(), signal.SIGTERM)


# --- starting --------------------------------------------------------------------------------------------------


def _start(request: Request) -> Shown | None:
    """Come to be, up to the mount; None if the session is over already (`portable`).

    A failure leaves nothing behind.
    """
    identity = Identity(*request.identity) if request.identity is not None else None
    # The process that asks for a session is the same user's, and has opened the vault.
    vault = OpenVault(
        Path(request.git_dir),
        name=request.vault,
        identity=identity,
        remote_environment=request.remote_environment,
        is_trusted=True,
        is_foreign=request.is_foreign,
    )
    vault.prepare()
    vault.store.keep_fewer_trees()  # each mount has a process, and the kernel keeps what that has looked up
    if request.adopted is not None:
        shown: Shown | None = overlay.adopt(request, vault, request.adopted)
    else:
        session = Session(request, vault, _begin(request, vault))
        try:
            shown = _show(session)
        except BaseException:
            _abandon(session)
            raise
    # What is here now is shared with every server and hardly garbage; a collector that looks at it copies its pages.
    gc.freeze()
    # Every thread stops while the collector looks: 1 ms for so many new objects, so that programs hardly notice.
    gc.set_threshold(10_000, 10, 1000)
    gc.enable()
    return shown


def _begin(request: Request, vault: OpenVault) -> HeldSession:
    sessions, directory = vault.layout.sessions, Path(request.directory)
    ending = await_ending(sessions, fork=request.fork, directory=directory, timeout_s=request.lock_timeout_s)
    if request.is_workspace:
        if ending is not None:
            raise mounted_elsewhere(ending, is_ending=True)
        refuse_second(vault, request)
    is_overlay = request.backend == SessionBackend.OVERLAY
    return begin(
        sessions,
        fork=request.fork,
        directory=directory,
        readonly=not request.is_workspace,
        at=request.at,
        backend=request.backend,
        backend_reasons=tuple(request.backend_reasons),
        upper=vault.layout.workspace(request.fork).upper if is_overlay else None,
    )


def _show(session: Session) -> Shown | None:
    """Make the directory and show there what is asked for."""
    request, held = session.request, session.held
    open_log(held.place.log)
    if request.is_shared:
        make_users_file(held.place)
    for left in reversed(range(_MAKE_TRIES)):
        missing = point.check(session.directory, session.vault.git_dir)
        if missing:
            held.write(SessionState.STARTING, made=missing)  # before they are made, so that cleaning up knows of them
        try:
            point.make(missing)
            break
        except HostError as error:
            if error.errno != errno.ENOENT or not left:  # else one above it went with the mount it was made for
                raise
    reach("session.point_made")
    with point.claimed(session.directory, wait_s=request.lock_timeout_s):
        return _mount(session)


def _mount(session: Session) -> Shown | None:
    """Open what is shown, and mount it; of a mount through libfuse, also serve it."""
    request = session.request
    if request.backend == SessionBackend.OVERLAY:
        opened = session.open_workspace()
        reach("session.opened")
        return overlay.mount(session, opened)
    tree = _open_tree(session)
    reach("session.opened")
    if request.backend == SessionBackend.PORTABLE:
        portable.serve(session, tree)
        return None
    return live.mount(session, tree)


def _open_tree(session: Session) -> MergedTree | None:
    """Open the tree to show; None for a whole vault, whose server opens its trees on demand."""
    request = session.request
    if request.fork == WHOLE_VAULT:
        return None
    if request.at is not None:
        sidecar = oid_of(request.sidecar) if request.sidecar is not None else None
        return open_commit(session.vault, oid_of(request.at), sidecar=sidecar)
    opened = session.open_workspace()
    GitDir(opened).show(session.directory)
    return opened.merged


def _abandon(session: Session) -> None:
    if session.workspace is not None and session.workspace.opened.is_served:
        with suppress(Exception):
            session.workspace.opened.stop_serving()
    session.go(keep_log=False)


# --- living ----------------------------------------------------------------------------------------------------


def _live(shown: Shown) -> None:
    """Have servers serve the tree until it is unmounted, then go."""
    session, failed = shown.session, True
    try:
        failed = bool(supervise(shown.serve, shown.handover, meanwhile=lambda: _load_rest(session)))
    except Exception:  # noqa: BLE001 - whatever it is, the mount must not stay
        _LOG.exception("the session failed")
    if failed and shown.stays():
        _LOG.error("the mount stays: the next process that needs the workspace attends to it")
        return
    if failed and session.workspace is not None:
        with suppress(Exception):  # else the next process that takes the lock does the same
            session.workspace.opened.take_over()
            session.workspace.opened.stop_serving()
    shown.go(keep_log=failed)


def _load_rest(session: Session) -> None:
    """Import what the first server imports while it serves."""
    format_log()
    for name in (*NEEDED, *(NEEDED_ON_OVERLAYFS if session.request.backend == SessionBackend.OVERLAY else ())):
        import_module(name)
    gc.collect()
    gc.freeze()


def _as_ours(error: BaseException) -> AvfsError:
    """Make an error that the starter can be told of any that stood in the way."""
    if isinstance(error, AvfsError):
        return error
    if isinstance(error, OSError):
        return HostError("mount", error)
    import traceback  # noqa: PLC0415 - only after a failure

    trace = "".join(traceback.format_exception(error))
    return InternalError(
        f"{type(error).__name__}: {error}", details={"exception": type(error).__name__, "trace": trace}
    )
