"""What programs do to files, as fanotify(7) tells it: who opens one file, and reads and writes in one mount.

Decided here: that one file is watched for openings, so that nothing else on the machine waits, and that a mark of the mount tells
reads and writes with their processes. The marks that would name what is made, renamed and removed need file handles that
overlayfs does not have (EOPNOTSUPP). The kernel joins equal events that wait, and tells no sizes. Needs root. One thread waits;
any may stop it. Nothing survives the process: the kernel then lets waiting programs go on.
"""

from __future__ import annotations

import ctypes
import os
import select
import struct
from pathlib import Path
from typing import Final

from avfs_git.values import NamedTuple

_CLASS_NOTIF, _CLASS_CONTENT, _CLOEXEC, _NONBLOCK = 0, 4, 1, 2  # linux/fanotify.h
_MARK_ADD, _MARK_MOUNT = 1, 0x10
_ACCESS, _MODIFY, _OVERFLOW, _OPEN_PERM = 1, 2, 0x4000, 0x10000
_ALLOW: Final = 1
_AT_FDCWD: Final = -100
_EVENT: Final = struct.Struct("=IBBHQii")
"""The length of an event, the layout's version, a reserved byte, the length of this, what happened, a descriptor, the process."""
_RESPONSE: Final = struct.Struct("=iI")
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


class _Group:
    def __init__(self, kind: int, path: Path, mark: int, mask: int) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._fd = -1
        self._wake = os.eventfd(0, os.EFD_CLOEXEC)
        try:
            self._fd = self._libc.fanotify_init(kind | _CLOEXEC | _NONBLOCK, os.O_RDONLY | os.O_CLOEXEC)
            self._mark(path, mark, mask)
        except BaseException:
            self.close()
            raise

    def _mark(self, path: Path, mark: int, mask: int) -> None:
        given = (self._fd, _MARK_ADD | mark, ctypes.c_uint64(mask), _AT_FDCWD, os.fsencode(path))
        if self._fd < 0 or self._libc.fanotify_mark(*given):
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))

    def _wait(self) -> list[tuple[int, int, int]]:
        """Wait for events: mask, descriptor and process of each. None of them: `stop` was called."""
        poll = select.poll()
        poll.register(self._fd, select.POLLIN)
        poll.register(self._wake, select.POLLIN)
        while True:
            if self._fd not in [fd for fd, _ in poll.poll()]:  # what came before `stop` is told
                return []
            try:
                data = os.read(self._fd, _READ)
            except BlockingIOError:  # the program that waited was killed
                continue
            found, at = [], 0
            while at + _EVENT.size <= len(data):
                size, _, _, _, mask, fd, pid = _EVENT.unpack_from(data, at)
                found.append((mask, fd, pid))
                at += size
            return found

    def stop(self) -> None:
        """Let `wait` return. From any thread."""
        os.eventfd_write(self._wake, 1)

    def close(self) -> None:
        """Watch no more: each program that waits goes on. A second call does nothing."""
        for fd in (self._fd, self._wake):
            if fd >= 0:
                os.close(fd)
        self._fd = self._wake = -1


class Openings(_Group):
    """Holds back programs that open one file, whichever flags they open it with."""

    def __init__(self, path: Path) -> None:
        """Watch a file from now on. Raises OSError where this process may not, or the kernel cannot."""
        super().__init__(_CLASS_CONTENT, path, 0, _OPEN_PERM)

    def watch(self, path: Path) -> None:
        """Watch the file that has the name by now, as well; a second time changes nothing. Raises OSError as above."""
        self._mark(path, 0, _OPEN_PERM)

    def wait(self) -> list[int]:
        """Wait until another process opens the file; gives what is to be passed to `answer`. An empty list: `stop` was called."""
        while events := self._wait():
            found = []
            for _, opening, process in events:
                if process == os.getpid():  # it would wait for itself
                    self.answer(opening)
                else:
                    found.append(opening)
            if found:
                return found
        return []

    def answer(self, opening: int) -> None:
        """Let the program that opened the file go on."""
        try:
            os.write(self._fd, _RESPONSE.pack(opening, _ALLOW))
        except OSError:  # it was killed
            pass
        os.close(opening)


class Accesses(_Group):
    """Tells reads and writes in one mount."""

    def __init__(self, directory: Path) -> None:
        """Begin. Raises OSError where this process may not, or the kernel cannot."""
        super().__init__(_CLASS_NOTIF, directory, _MARK_MOUNT, _ACCESS | _MODIFY)

    def wait(self) -> list[Access]:
        """Wait for the next ones. An empty list: `stop` was called."""
        return [_read_access(*event) for event in self._wait()]


def _read_access(mask: int, fd: int, pid: int) -> Access:
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
