"""Removing a directory with all that is below it.

Unlike `shutil.rmtree`, no depth, no length of a path and no mode of the user's own directories is in the way. Symbolic links
are removed, never followed. Several processes may remove one directory at once; a killed one leaves less than there was, and
the next call goes on.
"""

from __future__ import annotations

import errno
import os
from contextlib import suppress
from pathlib import Path

_DEEP = 8
"""Levels below which directories are moved up before they are emptied: 8 names of 255 bytes still make a path."""
_ATTEMPTS = 100
_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | os.O_NOFOLLOW


def remove_tree(path: Path) -> None:
    """Remove a directory and everything in it; does nothing if it is not there.

    Raises:
        OSError: For the first entry that cannot be removed. What went until then stays away.
    """
    with suppress(FileNotFoundError):
        root = _open_dir(os.fsencode(path), None)
        try:
            for attempt in range(_ATTEMPTS):
                _empty(root)
                try:
                    os.rmdir(path)
                except OSError as error:
                    # Another remover has moved something up since.
                    if error.errno != errno.ENOTEMPTY or attempt == _ATTEMPTS - 1:
                        raise
                else:
                    return
        finally:
            os.close(root)


def _empty(root: int) -> None:
    # An explicit stack: directories may be deeper than Python's own.
    pending: list[tuple[bytes, bool]] = [(b".", False)]
    while pending:
        directory, is_empty = pending.pop()
        with suppress(FileNotFoundError):  # somebody else removes it, too
            if is_empty:
                os.rmdir(directory, dir_fd=root)
                continue
            fd = _open_dir(directory, root)
            try:
                if directory != b".":
                    pending.append((directory, True))
                pending += [(below, False) for below in _remove_files(fd, directory, root)]
            finally:
                os.close(fd)


def _remove_files(fd: int, directory: bytes, root: int) -> list[bytes]:
    """Remove what is no directory; name the directories that are left, from the root on."""
    with os.scandir(fd) as entries:
        found = [(os.fsencode(entry.name), entry.is_dir(follow_symlinks=False)) for entry in entries]
    left: list[bytes] = []
    for name, is_dir in found:
        with suppress(FileNotFoundError):
            if not is_dir:
                os.unlink(name, dir_fd=fd)
            elif directory.count(b"/") < _DEEP:
                left.append(directory + b"/" + name)
            else:
                left.append(_move_up(fd, name, root))
    return left


def _move_up(fd: int, name: bytes, root: int) -> bytes:
    above = b".deep-" + os.urandom(8).hex().encode("ascii")
    try:
        os.rename(name, above, src_dir_fd=fd, dst_dir_fd=root)
    except PermissionError:  # moving a directory writes to it
        os.close(_open_dir(name, fd))
        os.rename(name, above, src_dir_fd=fd, dst_dir_fd=root)
    return above


def _open_dir(path: bytes, above: int | None) -> int:
    """Open a directory so that it can be read and emptied, whatever its mode was."""
    try:
        fd = os.open(path, _FLAGS, dir_fd=above)
    except PermissionError:
        unread = os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC | os.O_NOFOLLOW, dir_fd=above)
        try:
            os.chmod(f"/proc/self/fd/{unread}", 0o700)  # by its descriptor: the name may have become another's
        finally:
            os.close(unread)
        fd = os.open(path, _FLAGS, dir_fd=above)
    if os.fstat(fd).st_mode & 0o700 != 0o700:
        with suppress(PermissionError):  # somebody else's: removing what is in it says so
            os.fchmod(fd, 0o700)
    return fd
