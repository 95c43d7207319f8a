"""Removing a directory with all that is below it.

Unlike `shutil.rmtree`, no depth, no length of a path and no mode of the user's own directories is in the way. Symbolic
links are removed, never followed. A removal ends with EBUSY at what is mounted below the directory, and does not enter
it. Several processes may remove one directory at once; a killed one leaves less than there was, and the next call goes
on.
"""

from __future__ import annotations

import errno
import os
import stat
from contextlib import suppress
from pathlib import Path

from avfs_git.host.files.beneath import OPEN_LIST, chmod_at, open_at

_LEVELS = 64
"""How deep a removal goes with one descriptor a level; what is deeper is moved up into the directory to be removed."""
_ATTEMPTS = 100


def remove_tree(path: Path) -> None:
    """Remove a directory and everything in it; does nothing if it is not there.

    What goes before a failure stays away.
    """
    _remove_dir(None, os.fsencode(path))


def remove_entry(directory: int, name: bytes) -> None:
    """Remove an entry of an open directory as `remove_tree` does, be it a directory or not."""
    if not _unlink(directory, name):
        _remove_dir(directory, name)


def _unlink(directory: int, name: bytes) -> bool:
    """Remove anything but a directory; tell whether it is gone."""
    try:
        os.unlink(name, dir_fd=directory)
    except FileNotFoundError:
        return True
    except (IsADirectoryError, PermissionError) as error:  # POSIX allows EPERM for a directory
        found = os.stat(name, dir_fd=directory, follow_symlinks=False)
        if not stat.S_ISDIR(found.st_mode):
            raise error from None
        return False
    return True


def _remove_dir(directory: int | None, name: bytes) -> None:
    frames: list[tuple[int, bytes, list[tuple[bytes, bool]]]] = []
    """Of each directory being emptied: its descriptor, its name in the one above, and the entries that are left."""

    def enter(above: int | None, child: bytes) -> None:
        with suppress(FileNotFoundError):  # another process removes it, too
            here = _open_to_empty(above, child)
            frames.append((here, child, []))
            if os.fstat(here).st_dev != os.fstat(frames[0][0]).st_dev:  # something is mounted there
                raise OSError(errno.EBUSY, os.strerror(errno.EBUSY), child)
            with os.scandir(here) as entries:
                frames[-1][2].extend(
                    (os.fsencode(entry.name), entry.is_dir(follow_symlinks=False)) for entry in entries
                )

    attempts = _ATTEMPTS
    try:
        enter(directory, name)
        while frames:
            here, current, left = frames[-1]
            if left:
                child, is_dir = left.pop()
                if not is_dir and _unlink(here, child):
                    continue
                if len(frames) < _LEVELS:
                    enter(here, child)
                else:
                    with suppress(FileNotFoundError):
                        frames[0][2].append((_lift(here, child, frames[0][0]), True))
                continue
            frames.pop()
            os.close(here)
            try:
                with suppress(FileNotFoundError):
                    os.rmdir(current, dir_fd=frames[-1][0] if frames else directory)
            except OSError as error:
                attempts -= 1
                if error.errno != errno.ENOTEMPTY or frames or not attempts:
                    raise
                enter(directory, name)  # another process that removes it has moved something up into it
    finally:
        for here, _, _ in frames:
            os.close(here)


def _open_to_empty(directory: int | None, name: bytes) -> int:
    """Open a directory so that it can be read and emptied, whatever its mode was."""
    try:
        inside = open_at(directory, name, OPEN_LIST)
    except PermissionError:
        chmod_at(directory, name, 0o700)
        return open_at(directory, name, OPEN_LIST)
    if stat.S_IMODE(os.fstat(inside).st_mode) & 0o700 != 0o700:
        with suppress(PermissionError):  # somebody else's: removing what is in it says so
            os.fchmod(inside, 0o700)
    return inside


def _lift(inside: int, name: bytes, top: int) -> bytes:
    lifted = b".avfs-deep-" + os.urandom(8).hex().encode("ascii")
    try:
        os.rename(name, lifted, src_dir_fd=inside, dst_dir_fd=top)
    except PermissionError:  # moving a directory writes its `..`, which an ordinary user's closed directory refuses
        chmod_at(inside, name, 0o700)
        os.rename(name, lifted, src_dir_fd=inside, dst_dir_fd=top)
    return lifted
