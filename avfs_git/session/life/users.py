"""The users of a mount that several processes share, counted by a lock: the mount ends with the last of them.

Decided here: a user is a process that holds a shared lock on the session's file `users`. A process that dies in any way
loses its locks, so it is not counted. The session waits until it has the file for itself; from then on no process can
become a user, and one that comes takes another mount. So no mount ends under a process that was told that it is there.

The file holds for how many seconds the mount is to stay without users, and its time of modification says when a process
last became one. Users call `begin_use` and close what it gives; any thread may. A server of the session calls
`await_unused` in a thread of its own; after a kill the next server does. Nothing survives the session.
"""

from __future__ import annotations

import fcntl
import os
import time

from avfs_git.host.files.closing import closing_fd
from avfs_git.host.files.durable import host_errors
from avfs_git.host.files.plainfile import open_plain
from avfs_git.session.life.places import SessionPlace

_IDLE_MAX = 32
"""How many bytes the file holds at the most."""


def make_users_file(place: SessionPlace) -> None:
    """Let a session have users. Called before it is ready."""
    with host_errors(f"make '{place.users}'"):
        os.close(os.open(place.users, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))


def begin_use(place: SessionPlace, *, idle_s: float = 0.0) -> int | None:
    """Become a user of a session's mount, until the descriptor that this gives is closed; None if it is about to end.

    The mount stays for `idle_s` without users; the longest time that was asked for counts.
    """
    try:
        fd = open_plain(place.users, os.O_RDWR)
    except FileNotFoundError:
        return None
    except OSError:  # another user's
        return None
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
        with host_errors(f"write '{place.users}'"):
            if idle_s > _read_idle_s(fd):
                os.pwrite(fd, f"{idle_s:.3f}".encode().ljust(_IDLE_MAX), 0)
            os.utime(fd)
    except BlockingIOError:
        os.close(fd)
        return None
    except BaseException:
        os.close(fd)
        raise
    return fd


def is_unused(place: SessionPlace) -> bool:
    """Tell whether a session's mount is about to end, because it has no users any more and is not to stay without."""
    try:
        fd = open_plain(place.users, os.O_RDWR)
    except OSError:  # it has ended just now, or is another user's
        return False
    with closing_fd(fd):
        for lock in (fcntl.LOCK_EX, fcntl.LOCK_SH):
            try:
                fcntl.flock(fd, lock | fcntl.LOCK_NB)
            except BlockingIOError:
                continue
            return lock == fcntl.LOCK_EX and not _read_idle_s(fd)  # else others share it: it has users
        return True  # the session has it for itself


def await_unused(place: SessionPlace, starter_fd: int | None) -> None:
    """Wait until a mount has no users any more, and had none for as long as it is to stay.

    No one can become a user then.

    The process that started the session closes the other end of `starter_fd` when it counts as a user.
    """
    if starter_fd is not None:
        os.set_blocking(starter_fd, True)
        while os.read(starter_fd, 1):
            pass
    fd = os.open(place.users, os.O_RDWR | os.O_CLOEXEC)  # kept for good: it ends with this process
    while True:
        fcntl.flock(fd, fcntl.LOCK_EX)
        idle_s, used_ns = _read_idle_s(fd), os.fstat(fd).st_mtime_ns
        if not idle_s:
            return
        fcntl.flock(fd, fcntl.LOCK_UN)
        time.sleep(idle_s)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            continue
        if os.fstat(fd).st_mtime_ns == used_ns:
            return


def _read_idle_s(fd: int) -> float:
    try:
        return float(os.pread(fd, _IDLE_MAX, 0) or b"0")
    except ValueError:  # cut short by a full disk
        return 0.0
