"""Read-only mounts of commits as lower layers of overlayfs: one per commit and user, shared by all commands over it.

Decided here: where they are, and how long they last. A process that uses one counts as its user (`session.life.users`)
as long as its vault is open; the mount ends when its last user has closed its vault or died. So commands in many forks
of one base read it through one cache. A process uses only mounts that the kernel says its own user has made, because
another user's server can show anything as a commit. If a user unmounts one below an overlayfs, its server goes on until
that overlayfs is gone; the process that mounts the overlayfs checks that the mount was still there (see
`host.processes.runner`).

A `LowerMounts` belongs to a vault that is open; any thread may call it. Where a commit cannot be mounted it raises
MountError, or FuseUnavailable if this machine, or its administrator, does not allow it.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from avfs_git.errors import MountPointUnusable
from avfs_git.gitstore.repository import is_partial
from avfs_git.host.files.closing import closing_fd
from avfs_git.host.files.durable import host_errors
from avfs_git.host.files.modes import open_file
from avfs_git.host.locks.flocks import take
from avfs_git.model import SessionState
from avfs_git.session.life import point
from avfs_git.session.life.places import make_sessions
from avfs_git.session.life.record import FoundSession, list_sessions
from avfs_git.session.life.request import Request
from avfs_git.session.life.users import begin_use
from avfs_git.session.serve.start import start_session
from avfs_git.values import NamedTuple
from avfs_git.workspace.vault.vault import OpenVault

_KEPT = 4
"""So many commits are kept mounted by one process."""
_PAUSE_S = 0.02


class _Use(NamedTuple):
    fd: int
    """What counts it as a user until it is closed."""
    device: int
    session: FoundSession


class LowerMounts:
    """The mounts of one vault's commits."""

    def __init__(self, vault: OpenVault, directory: Path, *, lock_timeout_s: float) -> None:
        """Know where they are."""
        self._vault = vault
        self._directory = directory
        self._lock_timeout_s = lock_timeout_s
        self._lock = threading.Lock()
        self._pid = os.getpid()
        self._uses: dict[Path, _Use] = {}

    def close(self) -> None:
        """Let go of them. A second call does nothing."""
        with self._lock:
            while self._uses:
                self._let_go(next(iter(self._uses)))

    def _let_go(self, place: Path) -> None:
        os.close(self._uses.pop(place).fd)

    def find(self, commit: str, sidecar: str | None, *, fork: str) -> Path:
        """Give the directory at which a commit is mounted, for a fork on it, and mount it if it is not.

        Raises:
            WorkspaceBusy: If the process that has it mounted is stopped.
        """
        place = self.place(commit, sidecar)
        with self._lock:
            self._find(place, commit, sidecar, fork)
        return place

    def check_awake(self, fork: str) -> None:
        """Refuse to show a fork over mounts of which one's server is stopped. Raises WorkspaceBusy."""
        for use in tuple(self._uses.values()):
            use.session.check_awake(fork)

    def _find(self, place: Path, commit: str, sidecar: str | None, fork: str) -> None:
        self._notice_fork()
        used = self._uses.get(place)
        if used is not None:
            used.session.check_awake(fork)  # before the first look into the mount
        if used is None or not self._is_mounted(place):
            self._begin_use(place, commit, sidecar)
            self._uses[place].session.check_awake(fork)
        self._uses[place] = self._uses.pop(place)  # the last used is the last to go

    @contextmanager
    def holding(self, commit: str, sidecar: str | None, *, fork: str) -> Iterator[tuple[Path, int]]:
        """Give the directory at which a commit is mounted, as `find` does, and a descriptor that counts as its user.

        Who gets the descriptor, or a copy of it, is one for as long as it is open; here it is until the block ends.
        """
        place = self.place(commit, sidecar)
        with self._lock:
            self._find(place, commit, sidecar, fork)
            fd = os.dup(self._uses[place].fd)
        with closing_fd(fd):
            yield place, fd

    def keep(self, commit: str, sidecar: str | None, idle_s: float) -> Path:
        """Mount a commit, if it is not mounted, and let it outlive its users until it has been idle for `idle_s`."""
        place = self.place(commit, sidecar)
        with self._lock:
            self._notice_fork()
            self._begin_use(place, commit, sidecar, idle_s=idle_s)
        return place

    def place(self, commit: str, sidecar: str | None) -> Path:
        """Give the directory at which a commit is mounted, if it is."""
        name = f"{commit}-{sidecar[:12]}" if sidecar is not None else commit
        return self._directory / f"{name}.{os.geteuid()}"

    def _notice_fork(self) -> None:
        """Use nothing that a process which this one was forked from uses: each counts for itself."""
        if self._pid != os.getpid():
            while self._uses:
                self._let_go(next(iter(self._uses)))
            self._pid = os.getpid()

    def _is_mounted(self, place: Path) -> bool:
        """Whether a mount that this process uses is where it was, without a look at every session."""
        use = self._uses.get(place)
        try:
            return use is not None and os.stat(place).st_dev == use.device
        except OSError:
            return False

    def _begin_use(self, place: Path, commit: str, sidecar: str | None, *, idle_s: float = 0.0) -> None:
        """Become a user of the mount at a place, of one that is there or of one that is made for it."""
        if place in self._uses:
            self._let_go(place)
        while len(self._uses) >= _KEPT:
            self._let_go(next(iter(self._uses)))
        end = time.monotonic() + self._lock_timeout_s
        while not self._share(place, commit, idle_s):
            try:
                with self._starting(end):
                    if not self._share(place, commit, idle_s):  # nobody was faster
                        self._start(place, commit, sidecar, idle_s)
                    return
            except MountPointUnusable:  # one that is about to end is in the way
                if time.monotonic() > end:
                    raise
                time.sleep(_PAUSE_S)

    @contextmanager
    def _starting(self, end: float) -> Iterator[None]:
        """Hold the lock for mounting bases; after the time limit, go on without it.

        Two that do not know of each other would mount one over the other: neither finds anything at the place when it
        looks.
        """
        sessions = self._vault.layout.sessions
        with host_errors(f"make '{sessions}'"):
            make_sessions(sessions)
            fd = open_file(sessions / "bases.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW)
        with closing_fd(fd):
            take(fd, wait_s=end - time.monotonic())
            yield

    def _share(self, place: Path, commit: str, idle_s: float) -> bool:
        """Become a user of the mount that is at a place; False if there is none."""
        resolved = point.resolve(place)
        for found in list_sessions(self._vault.layout.sessions):
            if found.record.at != commit or found.directory != resolved or not found.is_visible:
                continue
            if found.state() is SessionState.MOUNTED and self._use(found, place, idle_s):
                return True
        return False

    def _use(self, found: FoundSession, place: Path, idle_s: float) -> bool:
        fd = begin_use(found.place, idle_s=idle_s)
        if fd is None:
            return False
        # Now it does not end by itself. Whether it is there, and whose it is, only the mount table can tell.
        mounted = found.find_mount()
        if mounted is None or f"user_id={os.geteuid()}" not in mounted.options.split(","):
            os.close(fd)
            return False
        self._uses[place] = _Use(fd, os.makedev(*mounted.device), found)
        return True

    def _remote_environment(self) -> dict[str, str] | None:
        """Give what a partial clone needs to fetch contents: of who mounts it, for all of this user's who use it."""
        if not is_partial(self._vault.git_dir):
            return None
        from avfs_git.gitstore.remote.runner import Access  # noqa: PLC0415 - few vaults are

        return dict(Access(self._vault.remote_environment).without_prompts())

    def _start(self, place: Path, commit: str, sidecar: str | None, idle_s: float) -> None:
        leash, hand = os.pipe()
        try:
            request = Request(
                git_dir=os.fspath(self._vault.git_dir),
                is_foreign=self._vault.is_foreign,
                vault=self._vault.name,
                fork=commit[:12],
                directory=os.fspath(point.resolve(place)),
                lock_timeout_s=self._lock_timeout_s,
                at=commit,
                sidecar=sidecar,
                leash_fd=leash,
                is_shared=True,
                remote_environment=self._remote_environment(),
            )
            found = start_session(self._vault.layout.sessions, request)
            if not self._use(found, place, idle_s):
                raise MountPointUnusable(os.fspath(place), "it was unmounted at once")
        finally:
            os.close(hand)
            os.close(leash)
