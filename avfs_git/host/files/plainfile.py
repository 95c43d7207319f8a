"""Reading a small file of avfs's own: anything but a regular file is refused, and no reader waits for it.

A repository that came from elsewhere, or a program that may write to a vault, can put a pipe, a device or a symbolic
link where avfs has a file. All files of a vault, a home or a session are opened here, or the same way. Safe from any
thread.
"""

from __future__ import annotations

import errno
import os
import stat


class NotAFile(OSError):
    """Something that is no regular file stands where avfs reads one."""

    def __init__(self, path: str | bytes | os.PathLike[str], what: str) -> None:
        super().__init__(errno.EINVAL, f"it is {what}, not a regular file", os.fspath(path))
        self.what = what


def open_plain(path: str | bytes | os.PathLike[str], flags: int = os.O_RDONLY) -> int:
    """Open a file that is there.

    Raises:
        NotAFile: If it is a symbolic link, or no regular file.
    """
    try:
        fd = os.open(path, flags | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise NotAFile(path, "a symbolic link") from None
        if error.errno == errno.ENXIO:  # a pipe that nobody reads, opened for writing, or a socket
            raise NotAFile(path, "a pipe, socket or device") from None
        raise
    mode = os.fstat(fd).st_mode
    if not stat.S_ISREG(mode):
        os.close(fd)
        raise NotAFile(path, "a directory" if stat.S_ISDIR(mode) else "a pipe, socket or device")
    return fd


def read_plain(path: str | bytes | os.PathLike[str]) -> bytes:
    """Read a file whole."""
    with os.fdopen(open_plain(path), "rb") as file:
        return file.read()


def holds(path: str | bytes | os.PathLike[str], content: bytes) -> bool:
    """Tell whether a file is there that holds just this."""
    try:
        return read_plain(path) == content
    except (FileNotFoundError, NotAFile):
        return False
