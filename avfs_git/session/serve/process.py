"""The process behind a mount, from its first line to its end.

Decided here: the order in which a session comes to be and goes, and what signals mean to it. `__main__` calls `run`
in a process of its own, which `session.serve.start` began and waits for on a pipe.

To start: the record, the directory, the workspace with its lock, the mount, the control socket, the server; then one line
on the pipe says that programs can use the tree, or which error stood in the way. To end, when the tree is unmounted by
whomever: the server records that the workspace is free, then this process removes directories, record and socket. A crash
at any point leaves a record whose lock nobody holds, and perhaps a dead mount: `record.list_sessions` cleans up both.

Until the first server is forked this process has one thread. What it opened, every server has: see `fuse.handover.supervisor`.

What signals mean, and how the mount is taken away, is decided in `ending`.
"""

from __future__ import annotations

import _socket  # what `socket` adds to it takes a twentieth of the start, and only the control socket's server needs it
import fcntl
import gc
import json
import os
import resource
import signal
import sys
import threading
from collections.abc import Mapping
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from avfs_git.errors import AvfsError, HostError, InternalError, MountError, WorkspaceBusy, WorkspaceMounted
from avfs_git.faults import reach
from avfs_git.fuse.channel import MAX_IO, Channel
from avfs_git.fuse.handover.forgetting import NODES_MAX
from avfs_git.fuse.handover.handover import Handover
from avfs_git.fuse.handover.supervisor import supervise
from avfs_git.fuse.server import TreeServer
from avfs_git.host.files.durable import find_refusal
from avfs_git.host.mounts.mounts import Mounted, find_mount, mount_fuse, set_read_ahead, unmount
from avfs_git.host.processes.descriptors import make_room
from avfs_git.lazy import LazyLogger, LazyModule
from avfs_git.model import WHOLE_VAULT, Identity, SessionBackend, SessionState
from avfs_git.paths import Oid
from avfs_git.session.control.address import listen
from avfs_git.session.life.ending import ENDING, Ending
from avfs_git.session.life.log import format_log, open_log
from avfs_git.session.life.record import (
    SUBTYPE,
    FoundSession,
    HeldSession,
    SessionPlace,
    await_ending,
    begin,
    find_workspace_session,
    mount_source,
    read_record,
    remove_made,
    session_of_source,
    take_over,
)
from avfs_git.session.life.request import Request
from avfs_git.session.life.users import await_unused, make_users_file
from avfs_git.session.serve import point
from avfs_git.values import replace
from avfs_git.vfs.tree.merged import MergedTree
from avfs_git.workspace.capture.workspace import LockedWorkspace, OpenWorkspace
from avfs_git.workspace.gitdir import GitDir
from avfs_git.workspace.vault.commits import open_commit
from avfs_git.workspace.vault.vault import OpenVault

if TYPE_CHECKING:
    from avfs_git.fuse.composite import CompositeServer
    from avfs_git.session.serve import overlay
else:
    overlay = LazyModule("avfs_git.session.serve.overlay")  # only for who asks for it

_LOG = LazyLogger(__name__)
_READ_AHEAD_KIB = 1024
NEEDED = (
    "avfs_git.session.serve.start_control",
    "avfs_git.session.control.control",
    "avfs_git.workspace.restore.recovery",
    "concurrent.futures.thread",
    "traceback",
)
"""What a session imports in the course of its life. A supervisor has all of it: what is on disk may have been replaced since."""
_NEEDED_ON_OVERLAYFS = ("avfs_git.vfs.tree.mounted", "avfs_git.vfs.scan.upperwatch", "termios")
"""What it imports besides, where the kernel shows the tree."""
_SWITCH_S = 0.0005
"""For how long a thread keeps the interpreter while the one that serves wants it: so long a program waits then."""


def run(given: Mapping[str, Any]) -> None:
    """Be the session that `given` describes, until its tree is unmounted."""
    request = Request(**given)
    _settle_in(request)
    session = None
    try:
        session = Session(request)
        session.start()
        if request.backend == SessionBackend.PORTABLE:
            from avfs_git.session.serve import portable  # noqa: PLC0415 - only for who asks for it

            portable.serve(session)
    except BaseException as error:
        _LOG.debug("the session did not start", exc_info=True)
        if session is not None:
            session.abandon()
        from avfs_git.session.control.wire import encode_error  # noqa: PLC0415 - only after a failure

        _tell(request.ready_fd, {"error": encode_error(_as_ours(error))})
        raise SystemExit(1) from error
    if request.backend != SessionBackend.PORTABLE:  # else it is over
        session.live()


def _settle_in(request: Request) -> None:
    """Make this process independent of who started it, in all that is inherited."""
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
    for limit in (resource.RLIMIT_NOFILE, resource.RLIMIT_FSIZE):  # those of programs are not those of their disk
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


class Session:
    """One session in its own process."""

    def __init__(self, request: Request) -> None:
        self.request = request
        self.git_dir = Path(request.git_dir)
        self.directory = Path(request.directory)
        identity = Identity(*request.identity) if request.identity is not None else None
        # Whoever asks for a session is the same user, and has opened the vault.
        self.vault = OpenVault(
            self.git_dir, name=request.vault, identity=identity, remote_environment=request.remote_environment, is_trusted=True
        )
        self.held: HeldSession | None = None
        self.opened: OpenWorkspace | None = None
        self.listener: _socket.socket | None = None
        self.tree: MergedTree | None = None
        self.channel: Channel | None = None
        self.is_mounted = False
        self.mounted: Mounted | None = None
        self.has_xattrs = True
        self.handover: Handover | None = None
        self.doors = -1
        """The leash of forks that somebody walks into through a mount of the whole vault."""
        self.watch = -1
        """Can be read when a mount of overlayfs is gone, everywhere."""

    @property
    def is_workspace(self) -> bool:
        """Whether it shows the workspace, for reading and writing."""
        return self.request.at is None and self.request.fork != WHOLE_VAULT

    @property
    def is_overlay(self) -> bool:
        """Whether the kernel shows the tree by itself."""
        return self.request.backend == SessionBackend.OVERLAY

    def start(self) -> None:
        """Come to be, up to the mount."""
        request = self.request
        if request.adopted is not None:
            self._adopt(request.adopted)
            return
        sessions = self.vault.layout.sessions
        self.vault.prepare()
        ending = await_ending(sessions, fork=request.fork, directory=self.directory, timeout_s=request.lock_timeout_s)
        if self.is_workspace:
            if ending is not None:
                raise _mounted(ending, is_ending=True)
            self._refuse_second()
        self.held = begin(
            sessions,
            fork=request.fork,
            directory=self.directory,
            readonly=not self.is_workspace,
            at=request.at,
            backend=request.backend,
            backend_reasons=tuple(request.backend_reasons),
            upper=self.vault.layout.workspace(request.fork).upper if self.is_overlay else None,
        )
        open_log(self.held.place.log)
        if request.is_shared:
            make_users_file(self.held.place)
        missing = point.check(self.directory, self.git_dir)
        if missing:
            # Before they are there: whoever cleans up must know of them.
            self.held.write(SessionState.STARTING, made=missing)
            point.make(missing)
        reach("session.point_made")
        self.tree = self._open_tree()
        reach("session.opened")
        if request.backend == SessionBackend.FUSE:
            self._mount()
        elif self.is_overlay:
            self.watch = overlay.mount(self)
            self.handover = Handover.make()
            self._freeze()

    def _adopt(self, left: str) -> None:
        """Come to be, for a mount whose session died."""
        request = self.request
        self.vault.prepare()
        mounted = overlay.find_left(left, request.fork, self.directory)
        self.held = take_over(SessionPlace(self.vault.layout.sessions, left), request.fork)
        open_log(self.held.place.log)
        self.held.write(SessionState.STARTING)  # however far the one before was: it is mounted, and to be used
        self.listener = listen(self.held.place.socket)
        self.opened = OpenWorkspace(self.vault, request.fork, recover=_recover, lock_timeout_s=request.lock_timeout_s)
        self.watch = overlay.adopt(self, mounted)
        self.opened.lock.left = left
        self.opened.serve(left)
        overlay.prepare_git(self.opened, mounted.directory)
        self.is_mounted = True
        self.handover = Handover.make()
        self._freeze()

    def _mount(self) -> None:
        request = self.request
        assert self.held is not None  # noqa: S101 - made before
        fd = mount_fuse(
            self.directory,
            source=mount_source(self.held.record.id, request.fork, self.git_dir),
            subtype=SUBTYPE,
            read_only=not self.is_workspace,
            allow_other=request.allow_other,
            max_read=MAX_IO,
        )
        self.is_mounted = True
        reach("session.mounted")
        self.channel = self._make_channel(fd)
        self.channel.negotiate()
        self.mounted = find_mount(self.directory)
        if self.mounted is not None:
            set_read_ahead(self.mounted.device, _READ_AHEAD_KIB)
        self.handover = Handover.make()
        self._freeze()

    def _make_channel(self, fd: int) -> Channel:
        """Take over the kernel's end of the mount, as the settings say."""
        settings = self.vault.config.read()
        self.has_xattrs = not self.is_workspace or settings["mount.xattrs"] != "0"
        return Channel(fd, keep_awake=settings["mount.keep_awake"] == "1")

    def _freeze(self) -> None:
        # What is here now is shared with every server and hardly garbage; a collector that looks at it copies its pages.
        gc.freeze()
        # Nobody runs while it looks: 1 ms for so many new objects, so that programs hardly notice.
        gc.set_threshold(10_000, 10, 1000)
        gc.enable()

    def _refuse_second(self) -> None:
        other = find_workspace_session(self.vault.layout.sessions, self.request.fork)
        if other is not None and (self.held is None or other.record.id != self.held.record.id):
            raise _mounted(other, is_ending=False)

    def _open_tree(self) -> MergedTree | None:
        request, held = self.request, self.held
        assert held is not None  # noqa: S101 - made before
        if request.fork == WHOLE_VAULT:
            if request.mounts is not None and find_refusal(self.vault.layout.sessions) is None:
                self.doors, _ = os.pipe()  # the other end stays open in every process of this session, and in no other
            return None  # what is looked at is opened by the server
        if request.at is not None:
            sidecar = Oid(bytes.fromhex(request.sidecar)) if request.sidecar is not None else None
            return open_commit(self.vault, Oid(bytes.fromhex(request.at)), sidecar=sidecar)
        self.listener = listen(held.place.socket)  # before the lock names the session: who reads that connects
        self.opened = OpenWorkspace(self.vault, request.fork, recover=_recover, lock_timeout_s=request.lock_timeout_s)
        try:
            self.opened.serve(held.record.id)
        except WorkspaceBusy:
            self._refuse_second()  # one that was faster
            raise
        if self.is_overlay:
            return None
        GitDir(self.opened).show(self.directory)
        return self.opened.merged

    def live(self) -> None:
        """Serve until the tree is unmounted, then go."""
        assert self.handover is not None  # noqa: S101 - it was started
        failed = True
        try:
            failed = bool(supervise(self.serve, self.handover, meanwhile=self._load_rest))
        except Exception:  # noqa: BLE001 - whatever it is, the mount must not stay
            _LOG.exception("the session failed")
        if failed and self.is_overlay and overlay.is_there(self):
            _LOG.error("the mount stays: who needs the workspace next goes on with it")
            return
        if failed and self.opened is not None:
            with suppress(Exception):  # whoever takes the lock next does the same
                self.opened.take_over()
                self.opened.stop_serving()
        self.go(keep_log=failed)

    def _load_rest(self) -> None:
        """Import what the first server imports while it serves."""
        format_log()
        for name in (*NEEDED, *(_NEEDED_ON_OVERLAYFS if self.is_overlay else ())):
            import_module(name)
        gc.collect()
        gc.freeze()

    def abandon(self) -> None:
        """Go, after a failed start."""
        if self.request.adopted is not None:
            return  # it is as it was found: nothing is taken away from programs
        if self.watch >= 0 and not overlay.give_up(self, self.watch):
            return
        if self.opened is not None and self.opened.is_served:
            with suppress(Exception):
                self.opened.stop_serving()
        self.go(keep_log=False)

    def go(self, *, keep_log: bool) -> None:
        """Leave nothing behind: mount, directories, record, locks."""
        # Nothing here may stop at a failure, least of all of the disk: what is left would be a dead mount.
        self._detach()
        if self.channel is not None:
            with suppress(OSError):
                self.channel.close()
        reach("session.unmounted")
        if self.opened is not None:
            self.opened.lock.close()  # the server gave the workspace back, unless it died in its last steps
        if self.held is not None:
            remove_made(self.held.record.made)
            reach("session.point_removed")
            self.held.end(keep_log=keep_log)

    def _detach(self) -> None:
        """Take the mount out of the way, if it is still there."""
        if not self.is_mounted or self.held is None:
            return
        mounted = find_mount(self.directory)
        if mounted is not None and session_of_source(mounted.source) == self.held.record.id:
            try:
                unmount(self.directory, lazy=True)
            except MountError:
                _LOG.exception("the mount stays")

    # --- in the server ---------------------------------------------------------------------------------------

    def serve(self, handover: Handover) -> None:
        """Serve the tree, in a fork of the process that started the session."""
        if self.is_overlay:
            overlay.serve(self, self.watch, handover)
            return
        assert self.held is not None  # noqa: S101 - it was started
        assert self.channel is not None  # noqa: S101
        make_room()
        self.held.record = read_record(self.held.place) or self.held.record  # a server before this one changed it
        if self.held.record.state == SessionState.ENDED:
            return  # it died in its last steps; its workspace may be somebody else's by now
        # The kernel has applied that of the program by the time the server is asked. Not earlier: what the session itself
        # makes (a workspace, its lock) is as open as whoever mounted it wants it to be.
        if self.is_workspace:  # else nothing is made here but what a session makes for itself (`doors`)
            os.umask(0)
        sys.setswitchinterval(_SWITCH_S)
        ending = Ending(
            self.held.record.id,
            self.mounted,
            is_rooted=self.held.is_there,
            begin=self.say_unmounting,
            leave=self.channel.leave,
        )
        ending.catch_signals()
        if handover.ending:  # a signal that came before this server could take it
            ending.ask()
        server = self._make_server(self.channel, handover)  # first: what changes below keeps what programs have open
        if handover.generation and self.opened is not None:
            self.opened.take_over()
        self.be_ready(ending, is_first=not handover.generation)
        from avfs_git.session.serve.start_control import Control  # noqa: PLC0415 - programs in the tree do not wait for it

        control = Control(self, self.channel, ending)
        ending.start()  # not before, so that the record goes through its states in their order
        control.start()  # whoever connected before waits
        if self.request.is_shared:
            threading.Thread(target=self._await_users, args=(ending,), name="avfs-users", daemon=True).start()
        server.serve()
        ending.close()
        control.close()
        self.finish_serving()

    def finish_serving(self) -> None:
        """Give the workspace back, when nothing shows it any more and nobody is answered."""
        self._write(SessionState.ENDED)  # before the workspace is free, so that the next session does not find this one
        reach("session.served")
        if self.opened is not None:
            self.opened.stop_serving()

    def _await_users(self, ending: Ending) -> None:
        """Ask for the end when nobody uses the mount any more. What stands on it is served to its end."""
        assert self.held is not None  # noqa: S101 - it was started
        try:
            await_unused(self.held.place, self.request.leash_fd)
        except OSError:  # the session is over, or somebody removed the vault
            _LOG.debug("the users of the mount cannot be counted", exc_info=True)
        ending.ask()

    def _make_server(self, channel: Channel, handover: Handover) -> TreeServer | CompositeServer:
        if self.tree is not None:
            search = self.tree.lower.search_xattrs() if self.request.is_shared else None
            wait_elsewhere = self.vault.store.wait_elsewhere
            return TreeServer(
                self.tree,
                channel,
                handover,
                most_nodes=None if self.request.is_shared else NODES_MAX,
                has_xattrs=self.has_xattrs,
                xattr_search=search,
                wait_elsewhere=wait_elsewhere,
            )
        from avfs_git.fuse.composite import CompositeServer  # noqa: PLC0415 - only for a whole vault
        from avfs_git.session.serve.catalogue import open_catalogue, reopen  # noqa: PLC0415

        enter = None
        if self.doors >= 0 and self.request.mounts is not None:
            from avfs_git.session.serve.doors import Doors  # noqa: PLC0415 - the same

            enter = Doors(self.vault, self.request, Path(self.request.mounts), self.doors).enter
        return CompositeServer(
            open_catalogue(self.vault, enter),
            channel,
            handover,
            statvfs=lambda: os.statvfs(self.git_dir),
            reopen=lambda identity: reopen(self.vault, identity),
        )

    def be_ready(self, ending: Ending, *, is_first: bool) -> None:
        """Tell the starter. Every server does, because one before it may have died before it could."""
        assert self.held is not None  # noqa: S101 - it was started
        if self.held.record.state == SessionState.STARTING:
            self.held.write(SessionState.MOUNTED)
        reach("session.ready")
        if not _tell(self.request.ready_fd, {"session": self.held.record.id}) and is_first:
            _LOG.warning("who asked for the mount is gone")
            ending.ask()

    def say_unmounting(self) -> None:
        """Write down that the end has begun."""
        self._write(SessionState.UNMOUNTING)

    def _write(self, state: SessionState) -> None:
        assert self.held is not None  # noqa: S101 - it was started
        try:
            self.held.write(state)
        except HostError:  # a full disk: the record is a message, what counts is the lock
            self.held.record = replace(self.held.record, state=state.value)


def _mounted(other: FoundSession, *, is_ending: bool) -> WorkspaceMounted:
    record = other.record
    return WorkspaceMounted(record.fork, record.directory, session=record.id, pid=record.pid, is_ending=is_ending)


def _recover(locked: LockedWorkspace) -> None:
    from avfs_git.workspace.restore.recovery import recover  # noqa: PLC0415 - only after a crash

    recover(locked)


def _tell(fd: int, message: dict[str, object]) -> bool:
    """Say something to the starter; False if it is gone."""
    try:
        os.write(fd, json.dumps(message).encode() + b"\n")
        os.close(fd)
    except OSError:
        return False
    return True


def _as_ours(error: BaseException) -> AvfsError:
    """Make an error that the starter can be told of any that stood in the way."""
    if isinstance(error, AvfsError):
        return error
    if isinstance(error, OSError):
        return HostError("mount", error)
    import traceback  # noqa: PLC0415 - only after a failure

    trace = "".join(traceback.format_exception(error))
    return InternalError(f"{type(error).__name__}: {error}", details={"exception": type(error).__name__, "trace": trace})
