"""Holding back who opens a file until something is done: permission events of fanotify(7).

Decided here: that the one file is watched, and its openings only, so that nothing else on the machine waits. A program that
opens it waits until `answer`, whichever flags it opens with. When the process that watches dies, whoever waits goes on. Needs
root. One thread waits; any may stop it.
"""

from __future__ import annotations

import ctypes
import os
import select
import struct
from pathlib import Path
from typing import Final

_CLASS_CONTENT, _CLOEXEC, _NONBLOCK = 4, 1, 2  # linux/fanotify.h
_MARK_ADD, _OPEN_PERM, _ALLOW = 1, 0x10000, 1
_AT_FDCWD: Final = -100
EVENT: Final = struct.Struct("=IBBHQii")
"""The length of an event, the layout's version, a reserved byte, the length of this, what happened, a descriptor, the process."""
_RESPONSE: Final = struct.Struct("=iI")
_READ: Final = 4096


class Openings:
    """Who opens one file."""

    def __init__(self, path: Path) -> None:
        """Watch a file from now on. Raises OSError where this process may not, or the kernel cannot."""
        libc = ctypes.CDLL(None, use_errno=True)
        self._fd = -1
        self._wake = os.eventfd(0, os.EFD_CLOEXEC)
        try:
            self._fd = libc.fanotify_init(_CLASS_CONTENT | _CLOEXEC | _NONBLOCK, os.O_RDONLY | os.O_CLOEXEC)
            given = (self._fd, _MARK_ADD, ctypes.c_uint64(_OPEN_PERM), _AT_FDCWD, os.fsencode(path))
            if self._fd < 0 or libc.fanotify_mark(*given):
                number = ctypes.get_errno()
                raise OSError(number, os.strerror(number))
        except BaseException:
            self.close()
            raise

    def wait(self) -> list[int]:
        """Wait until another process opens the file; gives what is to be passed to `answer`. An empty list: `stop` was called."""
        poll = select.poll()
        poll.register(self._fd, select.POLLIN)
        poll.register(self._wake, select.POLLIN)
        while True:
            if any(fd == self._wake for fd, _ in poll.poll()):
                return []
            try:
                data = os.read(self._fd, _READ)
            except BlockingIOError:  # who came was killed
                continue
            found = []
            for at in starts_of(data):
                *_, opening, process = EVENT.unpack_from(data, at)
                if process == os.getpid():  # it would wait for itself
                    self.answer(opening)
                else:
                    found.append(opening)
            if found:
                return found

    def answer(self, opening: int) -> None:
        """Let who opened the file go on."""
        try:
            os.write(self._fd, _RESPONSE.pack(opening, _ALLOW))
        except OSError:  # it was killed
            pass
        os.close(opening)

    def stop(self) -> None:
        """Let `wait` return. From any thread."""
        os.eventfd_write(self._wake, 1)

    def close(self) -> None:
        """Watch no more: whoever waits goes on. A second call does nothing."""
        for fd in (self._fd, self._wake):
            if fd >= 0:
                os.close(fd)
        self._fd = self._wake = -1


def starts_of(data: bytes) -> list[int]:
    """Tell where each event begins in what was read, in the layout `EVENT`."""
    found, at = [], 0
    while at + EVENT.size <= len(data):
        found.append(at)
        at += EVENT.unpack_from(data, at)[0]
    return found
