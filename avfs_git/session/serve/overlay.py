"""A session whose tree the kernel shows by itself, on its overlayfs: files are made and written as fast as in any directory.

Decided here: what stands in the layers of such a mount, how its end is seen, and how a session goes on with a mount that is
there. The upper layer is the workspace's own, whose format is overlayfs's; below it lies a directory with nothing but the
file `.git`, and below that the base commit, a read-only FUSE mount that all who stand on the commit share. Whoever asks for the
mount finds that one (`Request.base`), and the session counts as its user. The rest is as in `process`, which calls `mount` or
`adopt`, then `serve` in each server under the supervisor: record, lock, control socket, signals.

- Nobody asks a server for anything, so that none is in the way. The one that is here answers the control socket, and has
  the kernel hold back a git that comes while its index is behind (`gitwatch`). It may die at any moment; programs notice nothing.
- The end is told by the kernel when the last user in any mount namespace is done (`host.mounts.overlayfs.watch_end`). The
  supervisor has the watch, so that no server can miss it. Only then is the workspace given back.
- The mount outlives its session. Nobody touches the workspace then (`OpenWorkspace.show_at`, `record.is_unattended`):
  whoever needs it starts another process, which goes on with the mount. A session that cannot go on leaves it to that one.
- The mount is not `volatile`: what a program syncs is on the disk.

Nothing else survives a crash, and nothing else has to.
"""

from __future__ import annotations

import errno
import os
import select
import signal
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from avfs_git.errors import BaseMoved, FuseUnavailable, HostError, MountError, WorkspaceMounted
from avfs_git.faults import reach
from avfs_git.host.files.durable import host_errors
from avfs_git.host.mounts.mounts import Mounted, find_mount, list_mounts, unmount
from avfs_git.host.mounts.overlayfs import clear_volatile, layer_options, mount_overlay, watch_end
from avfs_git.host.processes.copies import is_copy, remove_copies
from avfs_git.lazy import LazyLogger
from avfs_git.model import SessionState
from avfs_git.session.life.ending import Ending
from avfs_git.session.life.record import mount_source, read_record, session_of_source
from avfs_git.session.serve.gitwatch import GitWatch
from avfs_git.workspace.gitdir import GitDir

if TYPE_CHECKING:
    from avfs_git.fuse.handover.handover import Handover
    from avfs_git.session.serve.process import Session
    from avfs_git.workspace.capture.workspace import OpenWorkspace

_LOG = LazyLogger(__name__)
_OPTIONS = ("userxattr", "index=off")
_WITHOUT_TIMES = frozenset({"tmpfs", "ramfs"})
_LINK = "gitlink"
"""The directory in a workspace that is the layer with the file `.git`."""
_GIT = ".git"
_ABANDON_S = 5.0
"""How long programs that came into a mount which then could not be served are waited for."""
_PAUSE_S = 0.02


# --- mounting ---------------------------------------------------------------------------------------------------------


def mount(session: Session) -> int:
    """Mount the workspace of a session that serves it; gives the watch for the end.

    Raises:
        BaseMoved: If the base is another one by now, or went.
        MountError: If it cannot be mounted.
        HostError: If the disk refuses.
    """
    opened, held, directory = session.opened, session.held, session.directory
    assert opened is not None and held is not None  # noqa: PT018, S101 - it was started
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGIO])
    *wanted, base = session.request.base
    if wanted != [opened.state.base, opened.state.sidecar] or (base is None) != (opened.state.base is None):
        raise BaseMoved("it stands on another commit by now")
    _check_kind(opened.layout.upper)
    lower = [prepare_git(opened, directory).parent]
    if base is not None:
        lower.append(Path(base))
    _clear_git(opened.layout.upper)
    clear_volatile(opened.layout.work)
    before = _device_of(lower[-1])
    mount_overlay(
        directory,
        source=mount_source(held.record.id, session.request.fork, session.git_dir),
        options=layer_options(lower, opened.layout.upper, opened.layout.work, _OPTIONS),
    )
    session.is_mounted = True
    reach("session.mounted")
    # What was there before and after was there in between; without its mount, the directory of a base is an empty one.
    if _device_of(lower[-1]) != before or (base is not None and before == _device_of(lower[-1].parent)):
        raise BaseMoved("the commit that it stands on is not mounted any more")
    opened.show_at(directory)
    session.mounted = find_mount(directory)
    return watch_end(directory)


def _check_kind(upper: Path) -> None:
    """Refuse a file system that does not tell when mapped memory is written: checkpoints would miss it.

    Raises:
        FuseUnavailable: If it is one.
    """
    device = upper.stat().st_dev
    for mounted in list_mounts():
        if mounted.kind in _WITHOUT_TIMES and os.makedev(*mounted.device) == device:
            what = f"the vault is on a file system ({mounted.kind}) that does not tell when mapped files change"
            raise FuseUnavailable(f"a live tree on overlayfs is not possible here: {what}", hint="Leave out `--backend`.")


def adopt(session: Session, mounted: Mounted) -> int:
    """Go on with a mount that is there; gives the watch for its end. Called before the workspace is used.

    Raises:
        MountError: If it went just now.
    """
    assert session.opened is not None  # noqa: S101 - it was opened
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGIO])
    session.opened.show_at(mounted.directory)
    session.mounted = mounted
    fd = os.open(mounted.directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        # Held: what is watched is what was found, also when somebody takes it away right now.
        if os.fstat(fd).st_dev != os.makedev(*mounted.device):
            raise MountError(f"the mount at '{mounted.directory}' is gone")
        return watch_end(Path(f"/proc/self/fd/{fd}"))
    finally:
        os.close(fd)


def find_left(session_id: str, fork: str, directory: Path) -> Mounted:
    """Find the mount of a session whose process died.

    Raises:
        WorkspaceMounted: If only other mount namespaces have it, or programs that it was taken from.
    """
    for mounted in list_mounts():
        if mounted.kind == "overlay" and session_of_source(mounted.source) == session_id:
            return mounted
    raise WorkspaceMounted(fork, os.fspath(directory), session=session_id, is_ending=True)


def prepare_git(opened: OpenWorkspace, directory: Path) -> Path:
    """Make git work in the tree; gives the file that is to be its `.git`.

    Raises:
        HostError: If the disk refuses.
    """
    link = opened.layout.root / _LINK / _GIT
    GitDir(opened).link(link, directory)
    return link


def _clear_git(upper: Path) -> None:
    """Let the tree show its `.git` again, where a program in an earlier mount has removed or replaced it. A directory stays."""
    with host_errors(f"remove '{upper / _GIT}'"), suppress(FileNotFoundError, IsADirectoryError):
        os.unlink(upper / _GIT)


def _device_of(directory: Path) -> int:
    try:
        return os.stat(directory).st_dev
    except OSError as error:
        if error.errno in (errno.ENOTCONN, errno.ENOENT, errno.ECONNABORTED):
            raise BaseMoved("the commit that it stands on is not mounted any more") from error
        raise HostError(f"look at '{directory}'", error) from error


# --- being there -------------------------------------------------------------------------------------------------------


def serve(session: Session, watch: int, handover: Handover) -> None:
    """Be there until the tree is gone, in a fork of the process that started the session."""
    from avfs_git.session.serve.start_control import Control  # noqa: PLC0415 - programs in the tree do not wait for it

    held, opened = session.held, session.opened
    assert held is not None and opened is not None  # noqa: PT018, S101 - it was started
    held.record = read_record(held.place) or held.record  # a server before this one changed it
    if held.record.state == SessionState.ENDED:
        return  # it died in its last steps; its workspace may be somebody else's by now
    mounted = session.mounted
    ending = Ending(
        held.record.id,
        None,
        is_rooted=held.is_there,
        begin=session.say_unmounting,
        leave=_cannot_leave,
        remove_copies=lambda: remove_copies(lambda found: mounted is not None and is_copy(found, mounted)),
    )
    os.umask(0)  # as whoever serves a tree has it: what it makes for programs has the bits that are asked for
    git = GitWatch(opened, _place_of_git(session))
    ending.catch_signals()
    if handover.ending:  # a signal that came before this server could take it
        ending.ask()
    if handover.generation:
        opened.take_over()
    control = Control(session, None, ending, changed=git.renew)
    session.be_ready(ending, is_first=not handover.generation)
    handover.is_serving = True
    ending.start()  # not before, so that the record goes through its states in their order
    control.start()
    git.start()
    await_end(watch)
    ending.close()
    control.close()
    git.close()
    opened.show_at(None)
    session.finish_serving()


def _place_of_git(session: Session) -> Path | None:
    """Tell where programs find the file `.git`; None where the tree is out of sight."""
    mounted = session.mounted
    try:
        if mounted is not None and os.stat(mounted.directory).st_dev == os.makedev(*mounted.device):
            return mounted.directory / _GIT
    except OSError:
        pass
    return None


def await_end(watch: int, seconds: float | None = None) -> bool:
    """Wait until the tree is gone, everywhere; False if it is there after so many seconds."""
    poll = select.poll()
    poll.register(watch, select.POLLIN)
    return bool(poll.poll(seconds * 1000 if seconds is not None else None))


def _cannot_leave() -> None:
    _LOG.warning("overlayfs cannot be taken from the programs that use it: the session ends with them")


# --- the end without one -------------------------------------------------------------------------------------------------


def give_up(session: Session, watch: int) -> bool:
    """Take away a mount that nobody was told of; False if programs came in that do not go."""
    end = time.monotonic() + _ABANDON_S
    while (mounted := find_mount(session.directory)) is not None and _is_of(session, mounted):
        try:
            unmount(session.directory, lazy=time.monotonic() > end)
        except MountError:
            time.sleep(_PAUSE_S)
    return await_end(watch, _ABANDON_S)


def is_there(session: Session) -> bool:
    """Whether the mount of a session is there, so that another process can go on with it."""
    return any(_is_of(session, mounted) for mounted in list_mounts())


def _is_of(session: Session, mounted: Mounted) -> bool:
    return session.held is not None and session_of_source(mounted.source) == session.held.record.id
