"""A commit as a filesystem, or a workspace without an upper layer on a read-only disk: nothing in it can change.

Decided here: what a tree is without an upper layer. Every change is refused with EROFS before anything is touched,
where it would be brought up. So showing a commit needs no workspace, no lock and no room on the disk, and any number of
processes may show one commit.

Everything belongs to the user who runs the process: overlayfs refuses a lower layer whose owners it cannot map.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from avfs_git.host.files.beneath import OPEN_DIR, Descriptor
from avfs_git.paths import TreePath
from avfs_git.vfs.errnos import fail
from avfs_git.vfs.layer.blobcache import BlobCache
from avfs_git.vfs.layer.lower import LowerTree
from avfs_git.vfs.layer.marks import USER
from avfs_git.vfs.layer.quota import Quota
from avfs_git.vfs.layer.shutroot import ShutRoot
from avfs_git.vfs.layer.upper import UpperLayer
from avfs_git.vfs.scan.scan import Found
from avfs_git.vfs.tree.inodes import ROOT_INO, Node
from avfs_git.vfs.tree.merged import MergedTree
from avfs_git.vfs.tree.nodes import Nodes
from avfs_git.vfs.tree.pins import Pins


class NoUpper(UpperLayer):
    """Stands for an upper layer that does not exist. It has only `root`, a directory of the disk, for `statvfs`."""

    def __init__(self, disk: Path) -> None:
        self.directory = self.work_dir = disk
        self.root = Descriptor(os.open(disk, OPEN_DIR))
        self.quota = Quota(self)
        self.shut_root = ShutRoot(os.fsencode(disk))
        self._attic = {}
        self.marks = USER
        self.follows_redirects = False

    def reopen(self) -> None:
        """Do nothing: no other process can have changed it."""


def open_commit_tree(lower: LowerTree, disk: Path, *, cache: BlobCache, first_ino: int = ROOT_INO) -> MergedTree:
    """Show a lower layer.

    `disk` is a directory on the disk of the objects, for `statvfs`.
    """
    return MergedTree(lower, NoUpper(disk), cache=cache, first_ino=first_ino, steps=ReadOnly, may_change=False)


class ReadOnly:
    """The steps of a tree that cannot change: each is refused."""

    is_alone = True

    def __init__(self, nodes: Nodes, pins: Pins) -> None:
        del nodes, pins

    def defer_copies(self) -> None:
        """Do nothing: nothing is copied up."""

    def bring_up(self, node: Node, *, with_data: bool = True) -> NoReturn:
        """Refuse a change."""
        del with_data
        raise fail(errno.EROFS, node.name)

    def remove(self, parent: Node, name: bytes, node: Node, *, hides: bool, deep: bool) -> NoReturn:
        """Refuse."""
        del parent, node, hides, deep
        raise fail(errno.EROFS, name)

    def prepare_to_move(self, node: Node, new_parent: Node) -> NoReturn:
        """Refuse."""
        del new_parent
        raise fail(errno.EROFS, node.name)

    def move(
        self,
        parent: Node,
        name: bytes,
        node: Node,
        new_parent: Node,
        new_name: bytes,
        target: Node | None,
        *,
        hides: bool,
    ) -> NoReturn:
        """Refuse."""
        del parent, node, new_parent, new_name, target, hides
        raise fail(errno.EROFS, name)


class NothingChanged:
    """What a missing upper layer shows a capture: a root with the attributes of the lower one, and nothing in it."""

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
