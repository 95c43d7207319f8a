"""Reads and writes of files in one mount, as fanotify(7) tells them.

Decided here: that a mark of the mount is used, which tells each read and write with its process. The marks that would name what
is made, renamed and removed need file handles that overlayfs does not have (EOPNOTSUPP). The kernel joins equal events that
wait, and tells no sizes. Needs root. One thread waits; any may stop it. Nothing survives the process.
"""

from __future__ import annotations

import ctypes
import os
import select
from pathlib import Path
from typing import Final

from avfs_git.host.files.openings import EVENT, starts_of
from avfs_git.values import NamedTuple

_CLASS_NOTIF, _CLOEXEC, _NONBLOCK = 0, 1, 2  # linux/fanotify.h
_MARK_ADD, _MARK_MOUNT, _ACCESS, _MODIFY, _OVERFLOW = 1, 0x10, 1, 2, 0x4000
_AT_FDCWD: Final = -100
_READ: Final = 4096
_DELETED: Final = b" (deleted)"


class Access(NamedTuple):
    """One or more equal calls of a process."""

    pid: int
    reads: bool
    writes: bool
    path: bytes | None
    """Where the file is, as this process sees it; None for a file without a name."""
    is_complete: bool = True
    """Whether none was lost before it."""


class Accesses:
    """Tells reads and writes in one mount."""

    def __init__(self, directory: Path) -> None:
        """Begin. Raises OSError where this process may not, or the kernel cannot."""
        libc = ctypes.CDLL(None, use_errno=True)
        self._fd = -1
        self._wake = os.eventfd(0, os.EFD_CLOEXEC)
        try:
            self._fd = libc.fanotify_init(_CLASS_NOTIF | _CLOEXEC | _NONBLOCK, os.O_RDONLY | os.O_CLOEXEC)
            given = (self._fd, _MARK_ADD | _MARK_MOUNT, ctypes.c_uint64(_ACCESS | _MODIFY), _AT_FDCWD, os.fsencode(directory))
            if self._fd < 0 or libc.fanotify_mark(*given):
                number = ctypes.get_errno()
                raise OSError(number, os.strerror(number))
        except BaseException:
            self.close()
            raise

    def wait(self) -> list[Access]:
        """Wait for the next ones. An empty list: `stop` was called."""
        poll = select.poll()
        poll.register(self._fd, select.POLLIN)
        poll.register(self._wake, select.POLLIN)
        while True:
            ready = [fd for fd, _ in poll.poll()]
            if self._fd not in ready:  # what came before `stop` is told
                return []
            try:
                data = os.read(self._fd, _READ)
            except BlockingIOError:
                continue
            return [_read_event(data, at) for at in starts_of(data)]

    def stop(self) -> None:
        """Let `wait` return. From any thread."""
        os.eventfd_write(self._wake, 1)

    def close(self) -> None:
        """Watch no more. A second call does nothing."""
        for fd in (self._fd, self._wake):
            if fd >= 0:
                os.close(fd)
        self._fd = self._wake = -1


def _read_event(data: bytes, at: int) -> Access:
    _, _, _, _, mask, fd, pid = EVENT.unpack_from(data, at)
    if mask & _OVERFLOW or fd < 0:
        return Access(0, reads=False, writes=False, path=None, is_complete=False)
    try:
        return Access(pid, bool(mask & _ACCESS), bool(mask & _MODIFY), _find_path(fd))
    finally:
        os.close(fd)


def _find_path(fd: int) -> bytes | None:
    path = os.readlink(f"/proc/self/fd/{fd}".encode())
    if path.endswith(_DELETED) and not os.fstat(fd).st_nlink:
        return None
    return path
