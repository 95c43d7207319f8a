"""Forks that a program walks into through the mount of a whole vault: they are mounted then, for reading and writing.

Decided here: such a fork gets a session of its own, as `avfs mount` makes it, at its place among the mounts of the
home, so that programs meet the same locks, control socket and checkpoints however it came to be mounted. That session
ends with the mount of the vault. `catalogue` calls `enter` on the one thread of `fuse.composite`: other programs in the
mount of the vault wait until the fork is there. Nothing here touches that mount, which no server would answer
meanwhile.

The leash of those sessions is a pipe whose other end every process of the vault's session holds, so that the death of
one server, after which another goes on, ends none of them.
"""

from __future__ import annotations

import errno
import os
from pathlib import Path

from avfs_git.errors import AvfsError, MountPointUnusable, WorkspaceBusy, WorkspaceMounted
from avfs_git.lazy import LazyLogger
from avfs_git.model import SessionState
from avfs_git.session.life import point
from avfs_git.session.life.record import FoundSession, find_workspace_session
from avfs_git.session.life.request import Request
from avfs_git.session.serve.start import start_session
from avfs_git.workspace.vault.vault import OpenVault

_LOG = LazyLogger(__name__)
_PATIENCE_S = 2.0
"""How long to wait for a fork that other processes use: programs elsewhere in the vault's mount may wait as long."""


def enter(vault: OpenVault, request: Request, mounts: Path, leash: int, fork: str) -> Path:
    """Give the directory at which a fork is mounted, and mount it below `mounts` if it is not.

    `request` is that of the session of the whole vault. `leash` is the reading end of a pipe: sessions end with the
    other.

    Raises:
        OSError: EBUSY if other processes work in it, or something is in the way; EIO if it cannot be mounted: the log
            says why.
    """
    try:
        found = find_mounted(vault, fork) or _mount(vault, request, mounts, leash, fork)
    except (WorkspaceBusy, WorkspaceMounted, MountPointUnusable) as error:
        _LOG.warning("fork '%s' cannot be mounted now: %s", fork, error.message)
        raise OSError(errno.EBUSY, os.strerror(errno.EBUSY), fork) from error
    except AvfsError as error:
        _LOG.error("fork '%s' cannot be mounted: %s", fork, error.message)
        raise OSError(errno.EIO, os.strerror(errno.EIO), fork) from error
    return found.directory


def _mount(vault: OpenVault, request: Request, mounts: Path, leash: int, fork: str) -> FoundSession:
    # An end of its own: the process that the kernel signals is noted with the open file, not with the pipe.
    leash = os.open(f"/proc/self/fd/{leash}", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        wanted = Request(
            git_dir=request.git_dir,
            is_foreign=request.is_foreign,
            vault=request.vault,
            fork=fork,
            directory=os.fspath(point.resolve(mounts / fork)),
            lock_timeout_s=min(request.lock_timeout_s, _PATIENCE_S),
            allow_other=request.allow_other,
            identity=request.identity,
            leash_fd=leash,
            remote_environment=request.remote_environment,
            home=request.home,
        )
        return start_session(vault.layout.sessions, wanted)
    except WorkspaceMounted:
        found = find_mounted(vault, fork)  # another process was faster
        if found is None:
            raise
        return found
    finally:
        os.close(leash)


def find_mounted(vault: OpenVault, fork: str) -> FoundSession | None:
    """Find the mount of a fork's workspace, if programs can use it from here."""
    found = find_workspace_session(vault.layout.sessions, fork)
    is_usable = found is not None and found.record.state == SessionState.MOUNTED and found.is_visible
    return found if is_usable else None
