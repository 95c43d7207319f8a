"""Changing a repository's `config` file beside git.

Decided here: the lock is git's own (`config.lock`, made anew, renamed over the file), so that neither overwrites what the other
writes. Called by `remotes` and `worktree`; from any thread. After a crash the file is the old one or the new one; a lock that
a crash left is git's to complain of, as its own are.
"""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable
from pathlib import Path

from avfs_git.host.durable import fsync_dir, host_errors, write_all


def rewrite_config(git_dir: Path, change: Callable[[bytes], bytes], *, wait_s: float) -> None:
    """Replace the file by what `change` makes of it; one that is not there counts as empty. What stays the same is not written.

    That is so where several do the same at once, as when forks are mounted for the first time: who waited finds it done, and
    keeps the others waiting no longer than it takes to read.

    Raises:
        HostError: If the disk refuses, or git is changing it for longer than `wait_s`.
    """
    place, lock = git_dir / "config", git_dir / "config.lock"
    with host_errors(f"write '{place}'"):
        until = time.monotonic() + wait_s
        while True:
            try:
                fd = os.open(lock, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
            except FileExistsError:
                if time.monotonic() > until:
                    raise OSError(errno.EBUSY, os.strerror(errno.EBUSY), os.fspath(lock)) from None
                time.sleep(0.01)
            else:
                break
        try:
            try:
                try:
                    data = place.read_bytes()
                    os.fchmod(fd, place.stat().st_mode & 0o777)
                except FileNotFoundError:
                    data = b""
                changed = change(data)
                if changed == data:
                    lock.unlink()
                    return
                write_all(fd, changed)
                os.fsync(fd)  # before the rename: else a power cut may leave the name with no content
            finally:
                os.close(fd)
            lock.rename(place)
        except BaseException:
            lock.unlink(missing_ok=True)
            raise
        fsync_dir(git_dir)
