"""Read-only mounts of commits, for overlayfs to stand on: one a commit, shared by all that run commands over it.

Decided here: where they are, that they are kept as long as their vault is open here (a pipe is their leash: they also go when
this process dies in any way), and that one of another process is used where there is one. A mount that ends while something
stands on it is served until its last user is gone; whoever mounts on it makes sure that it was still there (see `host.runner`).

A `LowerMounts` belongs to a vault that is open; any thread may call it.
"""

from __future__ import annotations

import os
import threading
import time
from contextlib import suppress
from pathlib import Path

from avfs_git.errors import MountPointUnusable
from avfs_git.model import SessionState
from avfs_git.session import point
from avfs_git.session.record import FoundSession, list_sessions
from avfs_git.session.start import start_session
from avfs_git.workspace.vault import OpenVault

_KEPT = 4
"""So many commits are kept mounted by one process."""
_PAUSE_S = 0.02
LOWER = ".lower"
"""The directory that holds them, among the mounts of a vault: no fork can have that name."""


def is_lower(session: FoundSession) -> bool:
    """Whether a mount is one of these."""
    return session.record.at is not None and session.directory.parent.name == LOWER


class LowerMounts:
    """The mounts of one vault's commits."""

    def __init__(self, vault: OpenVault, directory: Path, *, lock_timeout_s: float) -> None:
        """Know where they are.

        Args:
            vault: Whose commits.
            directory: Where they are mounted, below which nothing else is.
            lock_timeout_s: How long a mount may wait for other processes.
        """
        self._vault = vault
        self._directory = directory
        self._lock_timeout_s = lock_timeout_s
        self._lock = threading.Lock()
        self._pid = os.getpid()
        self._leashes: dict[Path, int] = {}

    def close(self) -> None:
        """Let go of them. A second call does nothing."""
        with self._lock:
            while self._leashes:
                self._let_go(next(iter(self._leashes)))

    def _let_go(self, place: Path) -> None:
        leash = self._leashes.pop(place)
        if self._pid == os.getpid():
            os.close(leash)

    def find(self, commit: str, sidecar: str | None) -> Path:
        """Give the directory at which a commit is mounted, and mount it if it is not.

        Raises:
            FuseUnavailable: If this machine, or its administrator, does not allow it.
            MountError: If it cannot be done.
        """
        place = self.place(commit, sidecar)
        with self._lock:
            if self._pid != os.getpid():
                self._leashes, self._pid = {}, os.getpid()
            if not self._is_mounted(place, commit):
                self._mount(place, commit, sidecar)
            if place in self._leashes:
                self._leashes[place] = self._leashes.pop(place)  # the last used is the last to go
        return place

    def keep(self, commit: str, sidecar: str | None, idle_s: float) -> Path:
        """Mount a commit, if it is not mounted, and let it stay when this process ends, until nobody has used it for so long.

        Raises:
            FuseUnavailable: If this machine, or its administrator, does not allow it.
            MountError: If it cannot be done.
        """
        place = self.place(commit, sidecar)
        with self._lock:
            if place in self._leashes:
                self._let_go(place)
            end = time.monotonic() + self._lock_timeout_s
            while self._find_session(place, commit) is None:
                try:
                    self._start(place, commit, sidecar, leash=None, idle_s=idle_s)
                except MountPointUnusable:
                    if time.monotonic() > end:
                        raise
                    time.sleep(_PAUSE_S)
        return place

    def place(self, commit: str, sidecar: str | None) -> Path:
        """Give the directory at which a commit is mounted, if it is."""
        return self._directory / (f"{commit}-{sidecar[:12]}" if sidecar is not None else commit)

    def _is_mounted(self, place: Path, commit: str) -> bool:
        try:
            # The common case, without a look at every session: the root of a mount is a device of its own.
            if place in self._leashes and os.stat(place).st_dev != os.stat(place.parent).st_dev:
                return True
        except OSError:
            pass
        found = self._find_session(place, commit)
        if found is not None:
            with suppress(OSError):
                os.utime(found.place.record)  # one that ends when it is idle is not
        return found is not None

    def _find_session(self, place: Path, commit: str) -> FoundSession | None:
        resolved = point.resolve(place)
        for found in list_sessions(self._vault.layout.sessions):
            here = found.record.at == commit and found.directory == resolved and found.is_visible
            if here and found.state() is SessionState.MOUNTED:
                return found
        return None

    def _mount(self, place: Path, commit: str, sidecar: str | None) -> None:
        if place in self._leashes:
            self._let_go(place)
        while len(self._leashes) >= _KEPT:
            self._let_go(next(iter(self._leashes)))
        end = time.monotonic() + self._lock_timeout_s
        while True:
            try:
                self._leashes[place] = self._start_leashed(place, commit, sidecar)
                return
            except MountPointUnusable:
                if self._is_mounted(place, commit):
                    return  # another process was faster
                if time.monotonic() > end:
                    raise
                time.sleep(_PAUSE_S)  # one that is about to end is in the way

    def _start_leashed(self, place: Path, commit: str, sidecar: str | None) -> int:
        """Mount; give the end of the leash."""
        reading, writing = os.pipe()
        try:
            self._start(place, commit, sidecar, leash=reading, idle_s=None)
        except BaseException:
            os.close(writing)
            raise
        finally:
            os.close(reading)
        return writing

    def _start(self, place: Path, commit: str, sidecar: str | None, *, leash: int | None, idle_s: float | None) -> None:
        start_session(
            self._vault.layout.sessions,
            git_dir=self._vault.git_dir,
            vault=self._vault.name,
            fork=commit[:12],
            directory=point.resolve(place),
            at=commit,
            allow_other=False,
            identity=None,
            lock_timeout_s=self._lock_timeout_s,
            leash_fd=leash,
            sidecar=sidecar,
            idle_s=idle_s,
        )
