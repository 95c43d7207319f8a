"""A lower layer as a filesystem that nobody can change: a commit, or a workspace that has no upper layer on a read-only disk.

Decided here: what is left of a merged tree when nothing can be brought up. Every change is refused with EROFS, before
anything is touched, at the one place through which all of them pass. So a `CommitTree` needs no workspace, no lock and no
room on the disk; any number of processes may show one commit. Callers and assumptions are those of `vfs.tree.view`.

The owner of everything is whoever runs the process: overlayfs refuses a lower layer whose owners it cannot map.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Sequence
from pathlib import Path

from avfs_git.host.files.beneath import OPEN_DIR, Descriptor
from avfs_git.paths import TreePath
from avfs_git.vfs.layer.lower import LowerTree
from avfs_git.vfs.layer.upper import UpperLayer
from avfs_git.vfs.scan.scan import Found
from avfs_git.vfs.tree.blobcache import BlobCache
from avfs_git.vfs.tree.inodes import ROOT_INO, Node
from avfs_git.vfs.tree.merged import MergedTree
from avfs_git.vfs.tree.view import fail


class NoUpper(UpperLayer):
    """The upper layer of a tree that has none: whatever would use it is a fault."""

    def __init__(self, disk: Path) -> None:
        self.directory = self.work_dir = disk
        self._attic = {}

    def reopen(self) -> None:
        """Do nothing: there is nothing that somebody else may have changed."""


class CommitTree(MergedTree):
    """A commit, with the interface of a workspace's tree."""

    may_change = False
    may_have_holes = False

    def __init__(self, lower: LowerTree, disk: Path, *, cache: BlobCache, first_ino: int = ROOT_INO) -> None:
        """Show a lower layer.

        Args:
            lower: What is shown.
            disk: A directory on the disk that the objects are on, for `statvfs`.
            cache: Where big files are read from in pieces.
            first_ino: The number of the root; those after it follow.
        """
        self._disk = Descriptor(os.open(disk, OPEN_DIR))
        super().__init__(lower, NoUpper(disk), cache=cache, first_ino=first_ino)

    def _make_root(self) -> None:
        self.root = self.inodes.add(Node(stat.S_IFDIR, None, b"", self.lower.root, upper=False))
        self._paths = {b"": self.root}

    def statvfs(self) -> os.statvfs_result:
        """Tell the sizes of the disk that the objects are on."""
        return os.fstatvfs(self._disk.fd)

    def _bring_up(self, node: Node, *, with_data: bool = True) -> None:  # noqa: ARG002 - it is refused either way
        raise fail(errno.EROFS, node.name)


class NothingChanged:
    """What an upper layer that is not there shows a capture: a root with the attributes of the lower one, and nothing in it."""

    def __init__(self, lower: LowerTree) -> None:
        self._root = lower.root

    def list_dir(self, path: TreePath) -> Sequence[Found]:  # noqa: ARG002 - the same everywhere, here and below
        """List nothing."""
        return []

    def find(self, path: TreePath, name: bytes) -> Found | None:  # noqa: ARG002
        """Find nothing."""
        return None

    def open_listed(self, path: TreePath, name: bytes) -> int:  # noqa: ARG002
        """Open nothing."""
        raise fail(errno.ENOENT, name)

    def read_link(self, path: TreePath, name: bytes) -> bytes:  # noqa: ARG002
        """Read nothing."""
        raise fail(errno.ENOENT, name)

    def file_xattrs(self, fd: int, path: TreePath) -> tuple[tuple[bytes, bytes], ...]:  # noqa: ARG002
        """Tell of no attributes: no file was listed."""
        return ()

    def dir_xattrs(self, path: TreePath) -> tuple[tuple[bytes, bytes], ...]:  # noqa: ARG002
        """Read the attributes of the root."""
        return tuple(sorted((name, value) for name, value in self._root.xattrs if name.startswith(b"user.")))

    def dir_stat(self, path: TreePath) -> os.stat_result:  # noqa: ARG002
        """Stat the root."""
        time_ns, owner = self._root.mtime_ns, (os.geteuid(), os.getegid())
        numbers = (stat.S_IFDIR | stat.S_IMODE(self._root.mode), 0, 0, 2, *owner, 0, *[time_ns // 1_000_000_000] * 3)
        return os.stat_result(numbers, dict.fromkeys(("st_atime_ns", "st_mtime_ns", "st_ctime_ns"), time_ns))

    def forget_dir(self, path: TreePath) -> None:
        """Do nothing."""
