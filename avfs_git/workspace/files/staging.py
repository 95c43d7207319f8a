"""Exports that appear only once it is known that what was read was one state.

Decided here: where the copy is made until then, and how it takes its place. It is made in a hidden directory,
`.avfs-….tmp`, of the file system that it goes to: in the destination, or in the nearest directory above it. Then each
entry is renamed into place; a directory that is there already takes what is in the new one. Nothing is written through
a symbolic link or replaced unasked.

Called by `transfer` for a look beside an operation, in any thread. A crash leaves the hidden directory, or some of the
entries in place, each whole.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Iterator
from pathlib import Path

from avfs_git.errors import PathUnsuitable
from avfs_git.host.files.beneath import RENAME_NOREPLACE, Descriptor, open_at, rename_at
from avfs_git.host.files.closing import closing_fd
from avfs_git.host.files.removal import remove_tree
from avfs_git.paths import ROOT, TreePath, join
from avfs_git.vfs.layer.readers import Directories

_UNKNOWN = (errno.EINVAL, errno.ENOSYS)
"""How a file system says that it cannot rename without replacing."""


@contextlib.contextmanager
def staging_directory(destination: Path) -> Iterator[Path]:
    """Make a hidden directory at or above a destination, and remove it with what is left in it."""
    while not destination.is_dir():
        destination = destination.parent
    place = destination / f".avfs-{os.urandom(6).hex()}.tmp"
    place.mkdir(mode=0o700)
    try:
        yield place
    finally:
        remove_tree(place)


def check_free(directory: int, name: bytes, path: bytes, *, overwrite: bool) -> bool:
    """Refuse to replace what may not be replaced; tell whether the name is free.

    Raises:
        PathUnsuitable: If a directory is there, or anything without `overwrite`.
    """
    try:
        there = os.stat(name, dir_fd=directory, follow_symlinks=False)
    except FileNotFoundError:
        return True
    if stat.S_ISDIR(there.st_mode):
        raise PathUnsuitable(path, "is a directory at the destination")
    if not overwrite:
        raise PathUnsuitable(path, "is already at the destination; export with `--overwrite` to replace it")
    return False


def move_into(source: Path, target: Path, *, overwrite: bool) -> None:
    """Move all that is in one directory into another one.

    Raises:
        PathUnsuitable: As `check_free`. What was moved before stays there.
    """
    ours, theirs = _open(source), _open(target)
    waiting = [ROOT]
    finished: list[tuple[TreePath, os.stat_result]] = []
    while waiting:
        here = waiting.pop()
        for name in _list(ours.get(here)):
            path, above, below = join(here, name), ours.get(here), theirs.get(here)
            found = os.stat(name, dir_fd=above, follow_symlinks=False)
            if stat.S_ISDIR(found.st_mode):
                os.chmod(name, 0o700, dir_fd=above)  # a user cannot move a directory that is closed to writing
                finished.append((path, found))
            if _rename(above, below, name):
                continue
            if stat.S_ISDIR(found.st_mode):
                waiting.append(path)
                _take_attributes(ours.get(path), theirs.get(path))
            elif check_free(below, name, path, overwrite=overwrite) or overwrite:
                os.rename(name, name, src_dir_fd=above, dst_dir_fd=below)
    for path, found in reversed(finished):
        # Last: entries that come into a directory change its time.
        directory = theirs.get(path)
        os.chmod(f"/proc/self/fd/{directory}", stat.S_IMODE(found.st_mode))
        os.utime(f"/proc/self/fd/{directory}", ns=(found.st_mtime_ns, found.st_mtime_ns))


def _open(directory: Path) -> Directories:
    return Directories(Descriptor(os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)))


def _list(directory: int) -> list[bytes]:
    with closing_fd(open_at(directory, b".", os.O_RDONLY | os.O_DIRECTORY)) as opened:
        return sorted(map(os.fsencode, os.listdir(opened)))


def _rename(source: int, target: int, name: bytes) -> bool:
    """Rename an entry into another directory, if the name is free there; tell whether it was."""
    try:
        rename_at(source, name, target, name, RENAME_NOREPLACE)
    except FileExistsError:
        return False
    except OSError as error:
        if error.errno not in _UNKNOWN:
            raise
        with contextlib.suppress(FileNotFoundError):
            os.stat(name, dir_fd=target, follow_symlinks=False)
            return False
        os.rename(name, name, src_dir_fd=source, dst_dir_fd=target)
    return True


def _take_attributes(source: int, target: int) -> None:
    """Give an existing directory the user attributes of the exported one."""
    left, right = f"/proc/self/fd/{source}", f"/proc/self/fd/{target}"
    with contextlib.suppress(OSError):  # the destination may know no attributes
        for key in os.listxattr(left):
            if key.startswith("user."):
                os.setxattr(right, key, os.getxattr(left, key))
