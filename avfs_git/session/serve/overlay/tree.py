"""A session whose tree the kernel's overlayfs shows: files are made and written as fast as in any directory.

Decided here: which layers such a mount has, how its end is seen, and how a session goes on with a mount that is there.
The upper layer is the workspace's own, in overlayfs's format. Below it is a directory with nothing but the file `.git`,
and below that the base commit, a read-only FUSE mount that all forks of the commit share. The starter finds that one
(`Request.base`), and the session counts as its user. `process` calls `mount` or `adopt`; the supervisor calls
`OverlayTree.serve` in each server.

- No program waits for a server. The server answers the control socket, and has the kernel hold back a git whose index
  is behind (`gitwatch`). It may die at any moment; programs notice nothing.
- The kernel tells the end when the last user in any mount namespace is done (`host.mounts.overlayfs.watch_end`). The
  supervisor has the watch, so that no server can miss it. Only then is the workspace given back.
- The mount outlives its session, unless the vault is gone. No process uses the workspace then (`OpenWorkspace.show_at`,
  `record.is_unattended`): one that needs it starts another session, which adopts the mount. A session that cannot go on
  leaves the mount to that one.
- The mount is not `volatile`: what a program syncs is on the disk.

Nothing else survives a crash, and nothing else has to.
"""

from __future__ import annotations

import errno
import os
import signal
from contextlib import suppress
from pathlib import Path

from avfs_git.errors import BaseMoved, HostError, MountError, WorkspaceMounted
from avfs_git.faults import reach
from avfs_git.fuse.handover.handover import Handover
from avfs_git.gitstore.config.trust import is_shared
from avfs_git.host.files.durable import host_errors
from avfs_git.host.mounts.mounts import Mounted, check_in_sight, find_mount, list_mounts
from avfs_git.host.mounts.overlayfs import clear_volatile, layer_options, mark_options, mount_overlay, watch_end
from avfs_git.host.processes.copies import is_copy, remove_copies
from avfs_git.host.processes.descriptors import is_readable
from avfs_git.lazy import LazyLogger
from avfs_git.model import SessionState
from avfs_git.session.life.log import open_log
from avfs_git.session.life.mountsource import mount_source, session_of_source
from avfs_git.session.life.places import SessionPlace
from avfs_git.session.life.record import take_over
from avfs_git.session.life.request import Request
from avfs_git.session.serve.overlay.gitwatch import GitWatch
from avfs_git.session.serve.session import Session
from avfs_git.workspace.gitlinks import link_tree
from avfs_git.workspace.opened.workspace import OpenWorkspace
from avfs_git.workspace.vault.gitmoves import link_worktree
from avfs_git.workspace.vault.vault import OpenVault

_LOG = LazyLogger(__name__)
_GIT = ".git"


# --- mounting ---------------------------------------------------------------------------------------------------------


def mount(session: Session, opened: OpenWorkspace) -> OverlayTree:
    """Mount the workspace that a session serves.

    Raises:
        BaseMoved: If the base is another one by now, or went.
        MountError: If it cannot be mounted.
    """
    directory = session.directory
    handover = Handover.make()
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGIO])
    *wanted, base = session.request.base
    if wanted != [opened.state.base, opened.state.sidecar] or (base is None) != (opened.state.base is None):
        raise BaseMoved("it stands on another commit by now")
    lower = [link_tree(opened, directory).parent]
    if base is not None:
        lower.append(Path(base))
    _clear_git(opened.layout.upper)
    if not session.request.allow_other and not is_shared(opened.vault.git_dir):
        with host_errors(f"close '{opened.layout.upper}' to other users"):
            opened.upper.shut_root.shut(opened.upper.root.fd)
    clear_volatile(opened.layout.work)
    before = _device_of(lower[-1])
    mount_overlay(
        directory,
        source=mount_source(session.held.record.id, session.request.fork, session.vault.git_dir),
        options=layer_options(
            lower, opened.layout.upper, opened.layout.work, mark_options(opened.upper.marks.is_trusted)
        ),
    )
    reach("session.mounted")
    # What was there before and after was there in between; without its mount, the directory of a base is an empty one.
    if _device_of(lower[-1]) != before or (base is not None and before == _device_of(lower[-1].parent)):
        raise BaseMoved("the commit that it stands on is not mounted any more")
    opened.show_at(directory)
    session.mounted = find_mount(directory)
    return OverlayTree(session, opened, watch_end(directory), handover)


def adopt(request: Request, vault: OpenVault, left: str) -> OverlayTree:
    """Be the session of a mount whose process died. A failure leaves the mount as it was found: programs use it.

    Raises:
        WorkspaceMounted: If only other mount namespaces have the mount, or programs that it was taken from.
        SessionEnding: If another process adopts it, or it is over.
        MountCovered: If another mount stands over it.
        MountError: If it went just now.
        AvfsError: If the workspace cannot be opened.
    """
    mounted = _find_left(left, request)
    session = Session(request, vault, take_over(SessionPlace(vault.layout.sessions, left), request.fork))
    open_log(session.held.place.log)
    session.held.write(SessionState.STARTING)  # however far the one before was: it is mounted, and to be used
    opened = session.open_workspace()
    handover = Handover.make()
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGIO])
    opened.show_at(mounted.directory)
    session.mounted = mounted
    watch = _watch_found(mounted)
    opened.lock.left = left
    opened.serve(left)
    link_worktree(vault, opened.fork, mounted.directory)
    return OverlayTree(session, opened, watch, handover)


def _watch_found(mounted: Mounted) -> int:
    """Give the watch for the end of a mount that was found."""
    check_in_sight(mounted)
    fd = os.open(mounted.directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        # Held: what is watched is what was found, also when another process takes it away right now.
        if os.fstat(fd).st_dev != os.makedev(*mounted.device):
            raise MountError(f"the mount at '{mounted.directory}' is gone")
        return watch_end(Path(f"/proc/self/fd/{fd}"))
    finally:
        os.close(fd)


def _find_left(session_id: str, request: Request) -> Mounted:
    """Find the mount of a session whose process died."""
    for mounted in list_mounts():
        if mounted.kind == "overlay" and session_of_source(mounted.source) == session_id:
            return mounted
    raise WorkspaceMounted(request.fork, request.directory, session=session_id, is_ending=True, is_overlay=True)


def _clear_git(upper: Path) -> None:
    """Let the tree show its `.git` again, where a program in an earlier mount has removed or replaced it.

    A directory stays.
    """
    with host_errors(f"remove '{upper / _GIT}'"), suppress(FileNotFoundError, IsADirectoryError):
        os.unlink(upper / _GIT)


def _device_of(directory: Path) -> int:
    try:
        return os.stat(directory).st_dev
    except OSError as error:
        if error.errno in (errno.ENOTCONN, errno.ENOENT, errno.ECONNABORTED):
            raise BaseMoved("the commit that it stands on is not mounted any more") from error
        raise HostError(f"look at '{directory}'", error) from error


# --- being there ------------------------------------------------------------------------------------------------------


class OverlayTree:
    """What a session shows on overlayfs.

    Attributes:
        session: The session.
        handover: What its servers leave to each other.
    """

    def __init__(self, session: Session, opened: OpenWorkspace, watch: int, handover: Handover) -> None:
        self.session = session
        self.handover = handover
        self._opened = opened
        self._watch = watch
        """Can be read when the mount is gone, everywhere."""

    def stays(self) -> bool:
        """Whether mount and vault are there, so that another process can go on with it."""
        held = self.session.held
        return held.is_there() and any(session_of_source(mounted.source) == held.record.id for mounted in list_mounts())

    def go(self, *, keep_log: bool) -> None:
        """Leave nothing behind."""
        self.session.go(keep_log=keep_log)

    def serve(self, handover: Handover) -> None:
        """Be there until the tree is gone, in a fork of the process that started the session."""
        from avfs_git.session.serve.overlay.events import OverlayEvents  # noqa: PLC0415 - programs in the tree do not wait for it
        from avfs_git.session.serve.start_control import Control  # noqa: PLC0415 - the same
        from avfs_git.session.serve.trail import begin_trail  # noqa: PLC0415 - the same

        session, opened, mounted = self.session, self._opened, self.session.mounted
        ending = session.begin_server(
            handover,
            leave=_cannot_leave,
            remove_copies=lambda: remove_copies(lambda found: mounted is not None and is_copy(found, mounted)),
        )
        if ending is None:
            return
        os.umask(0)  # as in `live`: what it makes for programs has the bits that they ask for
        git = GitWatch(opened, _place_of_git(mounted))
        if handover.generation:
            opened.take_over()
        events = None
        if mounted is not None:
            upper, work, device = opened.layout.upper, opened.layout.work, os.makedev(*mounted.device)
            events = OverlayEvents(opened.fork, mounted.directory, device, upper=upper, work=work)
        control = Control(session, None, ending, is_first=not handover.generation, changed=git.renew, events=events)
        trail = begin_trail(session, events, is_first=not handover.generation) if events is not None else None
        session.be_ready(ending, is_first=not handover.generation)
        handover.is_serving = True
        ending.start()  # not before, so that the record goes through its states in their order
        control.start()
        git.start()
        is_readable(self._watch, None)
        ending.close()
        control.close()
        git.close()
        if trail is not None:
            trail.close()
        opened.show_at(None)
        session.finish_serving()


def _place_of_git(mounted: Mounted | None) -> Path | None:
    """Tell where programs find the file `.git`; None where the tree is out of sight."""
    try:
        if mounted is not None and os.stat(mounted.directory).st_dev == os.makedev(*mounted.device):
            return mounted.directory / _GIT
    except OSError:
        pass
    return None


def _cannot_leave() -> None:
    _LOG.warning("overlayfs cannot be taken from the programs that use it: the session ends with them")
