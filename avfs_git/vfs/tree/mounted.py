"""Changing a workspace while the kernel's overlayfs shows it: as a program would, through the mounted directory.

Decided here: the steps of a change where whiteouts, opaque directories and copy-up are the kernel's. The upper layer of
the tree is the mounted directory (`vfs.layer.mounted`), its lower layer is empty. Programs write at the same time, so
that only the disk knows which names are free: a name is taken only if it is free.

One operation makes a layer and a tree over it, uses them in one thread with the workspace lock held, and closes them.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat

from avfs_git import faults
from avfs_git.gitstore.source import ObjectSource
from avfs_git.host.files.beneath import (
    OPEN_LIST,
    RENAME_NOREPLACE,
    chmod_at,
    open_at,
    open_dir,
    rename_at,
)
from avfs_git.host.files.closing import closing_fd
from avfs_git.host.files.removal import remove_entry
from avfs_git.host.files.xattrs import entry_of, list_xattrs, read_xattr, write_xattr
from avfs_git.host.mounts.mounts import list_mounts_below
from avfs_git.paths import ROOT, TreePath, join, split
from avfs_git.vfs.layer.lower import LowerTree
from avfs_git.vfs.layer.mounted import MountedLayer, Taken
from avfs_git.vfs.layer.readers import Directories
from avfs_git.vfs.scan.scan import is_staging
from avfs_git.vfs.tree.inodes import Node
from avfs_git.vfs.tree.merged import MergedTree
from avfs_git.vfs.tree.nodes import Nodes


class MountedTree:
    """A workspace that the kernel shows, changed through the directory where it shows it.

    Attributes:
        tree: The tree: a merged one over nothing, because the kernel has merged the layers already.
        upper: The mounted directory.
    """

    def __init__(self, source: ObjectSource, layer: MountedLayer) -> None:
        """Show a layer, which is closed with the tree; nothing is read from `source`."""
        self.upper = layer
        lower = LowerTree(source, None, None, default_mtime_ns=0)
        self.tree = MergedTree(lower, layer, hides=is_staging, steps=lambda nodes, _: MountedSteps(nodes, layer))
        self.tree.list_covered = lambda: list(map(TreePath, list_mounts_below(layer.directory)))

    def close(self) -> None:
        """Drop every node and descriptor, and give the mounted directory back."""
        self.tree.close()
        self.upper.close()

    def give_back(self, path: TreePath, taken: Taken, *, follow: bool) -> None:
        """Give a path back what was taken out of it, unless a program has made something else there."""
        with self.tree.guard:
            self.tree.nodes.forget_paths()
            parent, name, _ = self.tree.locate(path, follow_last=follow)
            directory = self.tree.nodes.dir_fd(parent)
            self.upper.give_back(taken, directory.fd, name)


class MountedSteps:
    """The steps in a mounted directory, which programs change at the same time."""

    is_alone = False

    def __init__(self, nodes: Nodes, layer: MountedLayer) -> None:
        self._dir_fd = nodes.dir_fd
        self._upper = layer

    def defer_copies(self) -> None:
        """Do nothing: the kernel copies up."""

    def bring_up(self, node: Node, *, with_data: bool = True) -> None:
        """Do nothing: every node is in the mounted directory."""

    def prepare_to_move(self, node: Node, new_parent: Node) -> None:
        """Do nothing: the kernel copies up what it must for a rename."""

    def remove(self, parent: Node, name: bytes, node: Node, *, hides: bool, deep: bool) -> None:
        """Remove a name; a directory with everything below it as `rm -r` does, one entry after the other."""
        del hides
        directory = self._dir_fd(parent)
        if not deep:
            if node.is_dir:
                os.rmdir(name, dir_fd=directory.fd)
            else:
                self._upper.remove_file(directory.fd, name)
            return
        try:
            remove_entry(directory.fd, name)
        except OSError as error:
            if error.errno != errno.EXDEV:
                raise
            _remove_deep(directory.fd, name)

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
    ) -> bool:
        """Rename an entry; where overlayfs refuses that for a directory, make it anew with links to its files."""
        del hides
        source, sink = self._dir_fd(parent), self._dir_fd(new_parent)
        try:
            rename_at(source.fd, name, sink.fd, new_name, 0 if target is not None else RENAME_NOREPLACE)
        except OSError as error:
            if error.errno != errno.EXDEV or not node.is_dir:
                raise
            self._move_by_links(source.fd, name, sink.fd, new_name)
            return False
        return True

    def _move_by_links(self, source: int, name: bytes, sink: int, new_name: bytes) -> None:
        """Rename a directory where overlayfs refuses it: remake it with the same files, show it, remove the old one.

        Files that a program adds to the old one meanwhile, or saves in place of others, stay there.
        """
        temporary = self._upper.new_name()
        os.mkdir(temporary, 0o700, dir_fd=self._upper.work.fd)
        olds = Directories(open_dir(source, name))
        made = _copy_by_links(olds, Directories(open_dir(self._upper.work.fd, temporary)))
        _give_attributes(os.stat(name, dir_fd=source, follow_symlinks=False), self._upper.work.fd, temporary)
        faults.reach("mounted.linked")
        try:
            rename_at(self._upper.work.fd, temporary, sink, new_name, RENAME_NOREPLACE)
        except FileExistsError:
            rename_at(self._upper.work.fd, temporary, sink, new_name)  # an empty directory gives way
        faults.reach("mounted.moved")
        for path, ino in reversed(made):
            above, child = split(path)
            if ino is None:
                _remove_if_empty(olds.get(above), child)
            else:
                _remove_linked(olds.get(above), child, ino)
        _remove_if_empty(source, name)


def _remove_deep(directory: int, name: bytes) -> None:
    """Remove a directory that is too deep for `remove_entry`, which would have to move directories."""
    olds = Directories(open_dir(directory, name))
    found: list[tuple[TreePath, bool]] = []
    pending = [ROOT]
    while pending:
        here = pending.pop()
        below = [(join(here, child), is_dir) for child, is_dir in _list(olds.get(here))]
        found += below
        pending += [path for path, is_dir in below if is_dir]
    for path, is_dir in reversed(found):
        above, child = split(path)
        (os.rmdir if is_dir else os.unlink)(child, dir_fd=olds.get(above))
    os.rmdir(name, dir_fd=directory)


def _list(directory: int) -> list[tuple[bytes, bool]]:
    with closing_fd(open_at(directory, b".", OPEN_LIST)) as listing, os.scandir(listing) as entries:
        return [(os.fsencode(entry.name), entry.is_dir(follow_symlinks=False)) for entry in entries]


def _copy_by_links(olds: Directories, news: Directories) -> list[tuple[TreePath, int | None]]:
    """Fill a directory with links to the files of another; list its entries, a directory before its contents.

    Of each file, also its inode number under the old name: overlayfs may show another one under the new name.
    """
    made: list[tuple[TreePath, int | None]] = []
    pending = [ROOT]
    while pending:
        here = pending.pop()
        old, new = olds.get(here), news.get(here)
        place = entry_of(old, b".")
        for key in list_xattrs(place):
            value = read_xattr(place, key) if key.startswith(b"user.") else None
            if value is not None:
                write_xattr(entry_of(new, b"."), key, value)
        for name, is_dir in _list(old):
            path = join(here, name)
            if is_dir:
                made.append((path, None))
                os.mkdir(name, 0o700, dir_fd=new)
                pending.append(path)
            else:
                made.append((path, os.stat(name, dir_fd=old, follow_symlinks=False).st_ino))
                os.link(name, name, src_dir_fd=old, dst_dir_fd=new, follow_symlinks=False)
    for path, ino in reversed(made):
        if ino is None:
            above, name = split(path)
            _give_attributes(os.stat(name, dir_fd=olds.get(above), follow_symlinks=False), news.get(above), name)
    return made


def _give_attributes(before: os.stat_result, directory: int, name: bytes) -> None:
    os.chown(name, before.st_uid, before.st_gid, dir_fd=directory, follow_symlinks=False)
    chmod_at(directory, name, stat.S_IMODE(before.st_mode))
    os.utime(name, ns=(before.st_atime_ns, before.st_mtime_ns), dir_fd=directory, follow_symlinks=False)


def _remove_linked(directory: int, name: bytes, ino: int) -> None:
    """Remove a file that has another name by now, unless a program has saved another one in its place."""
    with contextlib.suppress(FileNotFoundError):
        if os.stat(name, dir_fd=directory, follow_symlinks=False).st_ino == ino:
            os.unlink(name, dir_fd=directory)


def _remove_if_empty(directory: int, name: bytes) -> None:
    try:
        os.rmdir(name, dir_fd=directory)
    except OSError as error:
        if error.errno not in (errno.ENOENT, errno.ENOTEMPTY):
            raise
