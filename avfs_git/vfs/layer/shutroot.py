"""A root directory that is closed to other users while the kernel's overlayfs shows it to the user who mounted it.

Decided here: what the mode of the root is meanwhile, and how it is known what it was. Overlayfs has no option that
keeps other users out, but its root has the mode of the upper layer's: without the bits of group and others no other
user enters the tree. The mode that it had is an attribute of the directory in which the upper layer is, written first:
after a crash at any point, the next process that opens the layer knows both. Captures and views show that mode, so that
no checkpoint, fork or other mount has the closed one. A program that gives the root another mode meant that one: it
stays, and counts.

An upper layer has one; a call changes the root through a descriptor that the caller names. Only root may write and read
the attribute: an ordinary user mounts no overlayfs, and sees no mode instead of another.
"""

from __future__ import annotations

import os
import stat
from typing import Final

from avfs_git.host.files.xattrs import entry_of, read_xattr, remove_xattr, write_xattr

_SHUT: Final = b"trusted.avfs.root"
_OTHERS: Final = 0o077
_TIMES: Final = ("st_atime_ns", "st_mtime_ns", "st_ctime_ns", "st_blksize", "st_blocks", "st_rdev")


class ShutRoot:
    """The root of one upper layer. Nothing is remembered: another process may open or close it."""

    def __init__(self, place: bytes) -> None:
        """Know where the mode is noted: `place` is the directory of the upper layer."""
        self._place = place

    def shut(self, root: int) -> None:
        """Close it to others. Raises OSError."""
        self._shut(root, stat.S_IMODE(self.show(os.fstat(root)).st_mode))

    def open(self, root: int) -> None:
        """Give it the mode that it had, when nothing shows it any more. Raises OSError."""
        if self._read() is not None:
            os.chmod(entry_of(root, b"."), stat.S_IMODE(self.show(os.fstat(root)).st_mode))
            remove_xattr(self._place, _SHUT)

    def chmod(self, root: int, mode: int) -> None:
        """Give it a mode, of which others see nothing where it is closed. Raises OSError."""
        if self._read() is None:
            os.chmod(entry_of(root, b"."), mode)
        else:
            self._shut(root, mode)

    def show(self, found: os.stat_result) -> os.stat_result:
        """Give the attributes of the root as avfs shows them, where `found` is what is there."""
        mode = self._read() if not found.st_mode & _OTHERS else None
        if mode is None or stat.S_IMODE(found.st_mode) != mode & ~_OTHERS:
            return found
        return os.stat_result((stat.S_IFDIR | mode, *found[1:]), {name: getattr(found, name) for name in _TIMES})

    def _read(self) -> int | None:
        """Read the mode that it is going to have again; None where it has it."""
        noted = read_xattr(self._place, _SHUT)
        return int(noted, 8) if noted is not None else None

    def _shut(self, root: int, mode: int) -> None:
        write_xattr(self._place, _SHUT, b"%o" % mode)
        os.chmod(entry_of(root, b"."), mode & ~_OTHERS)
