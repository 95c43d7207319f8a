"""Making entries: files, directories, links, devices, and files without a name.

Decided here: the steps on disk by which a new entry becomes visible at once, and its owner and mode. It is made in
place; over a whiteout, it is made in `work` and the two change places. A file without a name stands in `work` until it
gets one.

The server calls this by node, `vfs.tree.merged` by path. Public methods take the tree's lock, unless they say
otherwise. A kill between any two system calls leaves the name free or the entry whole; a stray whiteout that hides
nothing may stay.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable

from avfs_git import faults
from avfs_git.host.files.beneath import POOL, Descriptor, chmod_at, open_at
from avfs_git.host.files.xattrs import entry_of
from avfs_git.paths import NAME_MAX
from avfs_git.vfs.errnos import fail
from avfs_git.vfs.layer.upper import attic_name, was_made_unnamed
from avfs_git.vfs.tree.changes import Changes
from avfs_git.vfs.tree.inodes import Node
from avfs_git.vfs.tree.nodes import Nodes
from avfs_git.vfs.tree.pins import Pins
from avfs_git.vfs.tree.steps import Steps
from avfs_git.vfs.values import Attr, attr_of

Owner = tuple[int, int]


class Making:
    """Makes the entries of a tree."""

    def __init__(self, nodes: Nodes, pins: Pins, changes: Changes, steps: Steps) -> None:
        self._nodes = nodes
        self._lock = nodes.lock
        self._upper = nodes.upper
        self._dir_fd = nodes.dir_fd
        self._pins = pins
        self._changes = changes
        self._bring_up = steps.bring_up
        self._quota = nodes.upper.quota

    def create(self, parent: Node, name: bytes, mode: int | None = None, *, owner: Owner | None = None) -> Node:
        """Make an empty file.

        `mode` is exact; without one the process's umask decides. A directory that hands its group on does so in any
        case.
        """
        return self.create_described(parent, name, mode, owner=owner)[0]

    def create_described(
        self, parent: Node, name: bytes, mode: int | None = None, *, owner: Owner | None = None
    ) -> tuple[Node, Attr]:
        """Make an empty file as `create` does, and give its attributes, too."""
        with self._lock:
            directory = self._prepare_new(parent, name, is_exclusive=True)
            masked = 0o666 if mode is None else mode & 0o777
            try:
                data = self._upper.hold(open_at(directory.fd, name, os.O_CREAT | os.O_EXCL | os.O_RDWR, masked))
            except FileExistsError:
                self._check_new(parent, name)  # a whiteout gives way, nothing else
                temporary, fd = self._upper.make_file(masked, os.O_RDWR)
                data = self._upper.hold(fd)
                self._show_new(parent, directory.fd, name, temporary, mode, owner)
                made = os.stat(data.fd)
            else:
                made = self._give_owner_open(parent, directory.fd, name, data.fd, mode, owner)
            node = self._add_new(parent, name, stat.S_IFREG)
            data.writable = True
            POOL.keep(node, data)
            return node, attr_of(node.ino, made)

    def mkdir(self, parent: Node, name: bytes, mode: int | None = None, *, owner: Owner | None = None) -> Node:
        """Make a directory; the arguments are those of `create`."""
        masked = 0o777 if mode is None else mode & 0o777
        return self._make(parent, name, stat.S_IFDIR, lambda at, made: os.mkdir(made, masked, dir_fd=at), mode, owner)

    def symlink(self, parent: Node, name: bytes, target: bytes, *, owner: Owner | None = None) -> Node:
        """Make a symbolic link; what it points to is not looked at."""
        return self._make(parent, name, stat.S_IFLNK, lambda at, made: os.symlink(target, made, dir_fd=at), None, owner)

    def mknod(self, parent: Node, name: bytes, mode: int, rdev: int = 0, *, owner: Owner | None = None) -> Node:
        """Make a file, fifo, socket or device.

        Raises:
            PermissionError: For a character device 0:0, which would be a whiteout.
        """
        kind = stat.S_IFMT(mode)
        if kind in (stat.S_IFREG, 0):
            return self.create(parent, name, mode & 0o7777, owner=owner)
        if kind == stat.S_IFCHR and rdev == 0:
            raise fail(errno.EPERM, name)
        masked = mode & ~0o7000
        return self._make(
            parent, name, kind, lambda at, made: os.mknod(made, masked, rdev, dir_fd=at), mode & 0o7777, owner
        )

    def _make(
        self,
        parent: Node,
        name: bytes,
        kind: int,
        make: Callable[[int, bytes], None],
        mode: int | None,
        owner: Owner | None,
    ) -> Node:
        with self._lock:
            directory = self._prepare_new(parent, name)
            try:
                make(directory.fd, name)
            except FileExistsError:
                temporary = self._upper.new_name()
                make(self._upper.work.fd, temporary)
                if kind == stat.S_IFDIR:  # else it would show the lower directory that the whiteout hid until now
                    self._upper.set_opaque(entry_of(self._upper.work.fd, temporary))
                self._show_new(parent, directory.fd, name, temporary, mode, owner)
            else:
                try:
                    self.give_owner(parent, directory.fd, name, mode, owner)
                except BaseException:
                    (os.rmdir if kind == stat.S_IFDIR else os.unlink)(name, dir_fd=directory.fd)
                    raise
            node = self._add_new(parent, name, kind)
            if kind == stat.S_IFDIR:
                node.listing = {}
            return node

    def show_dir(self, parent: Node, name: bytes, temporary: bytes) -> Node:
        """Give a directory that is complete in `work` a free name. Takes the lock. On failure it stays in `work`."""
        with self._lock:
            directory = self._prepare_new(parent, name)
            try:
                self._upper.show(temporary, directory.fd, name)
            except FileExistsError:  # as in `_make`
                self._upper.set_opaque(entry_of(self._upper.work.fd, temporary))
                self._upper.show_over_whiteout(temporary, directory.fd, name)
            node = self._nodes.add_made(parent, name, stat.S_IFDIR)
            self._quota.forget()  # what is in it came with it
            self._changes.of_name(parent, name, deep=True)
            return node

    def create_unnamed(self, parent: Node, mode: int | None = None, *, owner: Owner | None = None) -> Node:
        """Make an empty file without a name, as O_TMPFILE does.

        It is there while it is pinned, and `link` can name it.
        """
        with self._lock:
            if not parent.is_dir:
                raise fail(errno.ENOTDIR, parent.name)
            if self._nodes.is_gone(parent):
                raise fail(errno.ENOENT, parent.name)
            self._quota.check(files=1)
            self._bring_up(parent)
            masked = 0o666 if mode is None else mode & 0o777
            node = self._nodes.inodes.add(Node(stat.S_IFREG, parent, b"", None, upper=True))
            node.parent, node.name = self._nodes.attic, attic_name(node.ino, unnamed=True)
            node.has_xattrs = False
            node.links = 0
            try:
                self._make_unnamed(parent, node, mode, masked, owner)
            except BaseException:
                self._pins.release(node)
                raise
            self._quota.add(files=1)
            return node

    def _make_unnamed(self, parent: Node, node: Node, mode: int | None, masked: int, owner: Owner | None) -> None:
        data = self._upper.hold(open_at(self._upper.work.fd, node.name, os.O_CREAT | os.O_EXCL | os.O_RDWR, masked))
        data.writable = True
        uid, gid = owner or (-1, -1)
        if self.hands_group_on(parent):
            directory = self._dir_fd(parent)
            gid = os.stat(directory.fd).st_gid
        if uid >= 0 or gid >= 0:
            os.fchown(data.fd, uid, gid)
        if mode is not None:
            os.fchmod(data.fd, mode & 0o7777)
        POOL.keep(node, data)

    def link(self, node: Node, parent: Node, name: bytes) -> Node:
        """Give a file one more name."""
        with self._lock:
            self._check_new(parent, name)
            if node.is_dir:
                raise fail(errno.EPERM, name)
            is_lost = node.parent is self._nodes.attic and node.links <= 0 and not was_made_unnamed(node.name)
            if node.parent is None or is_lost:
                raise fail(errno.ENOENT, name)
            self._bring_up(node)
            self._bring_up(parent)
            directory = self._dir_fd(parent)
            source = self._dir_fd(node.parent)
            status = os.stat(node.name, dir_fd=source.fd, follow_symlinks=False)
            self._pins.begin()
            try:
                os.link(node.name, name, src_dir_fd=source.fd, dst_dir_fd=directory.fd, follow_symlinks=False)
            except FileExistsError:
                temporary = self._upper.new_name()
                os.link(
                    node.name, temporary, src_dir_fd=source.fd, dst_dir_fd=self._upper.work.fd, follow_symlinks=False
                )
                faults.reach("namespace.linked")
                self._upper.show_over_whiteout(temporary, directory.fd, name)
            self._nodes.inodes.link_to_disk(node, (status.st_dev, status.st_ino))
            node.links = status.st_nlink + (node.parent is not self._nodes.attic)
            self._nodes.add_name(node, parent, name)
            if parent.listing is not None:
                parent.listing[name] = node.kind
            self._changes.of_name(parent, name)
            return node

    def _prepare_new(self, parent: Node, name: bytes, *, is_exclusive: bool = False) -> Descriptor:
        """Make sure that a name can be made, and copy its directory up. Exclusive: the caller's call asks the disk."""
        known = parent.listing
        if (
            is_exclusive
            and name not in parent.children
            and (known is None or name not in known)
            and (parent.lower is None or self._nodes.lower_child(parent, name) is None)
        ):
            self.check_name(parent, name)
        else:
            self._check_new(parent, name)
        if self._quota.limits is not None:
            self._quota.check(files=1)
        self._bring_up(parent)
        self._pins.begin()
        return self._dir_fd(parent)

    def _check_new(self, parent: Node, name: bytes) -> None:
        self.check_name(parent, name)
        if self._nodes.child(parent, name) is not None:
            raise fail(errno.EEXIST, name)

    def check_name(self, parent: Node, name: bytes) -> None:
        """Refuse a name that no entry of a directory can have. Called with the lock."""
        if name in (b"", b".", b"..") or b"/" in name or b"\0" in name:
            raise fail(errno.EINVAL, name)
        if len(name) > NAME_MAX:
            raise fail(errno.ENAMETOOLONG, name)
        if parent.kind != stat.S_IFDIR:
            raise fail(errno.ENOTDIR, parent.name)
        if parent.parent is None and parent is not self._nodes.root:
            raise fail(errno.ENOENT, name)
        if self._nodes.is_reserved(parent, name):
            raise fail(errno.EPERM, name)

    def _show_new(
        self, parent: Node, directory: int, name: bytes, temporary: bytes, mode: int | None, owner: Owner | None
    ) -> None:
        """Put an entry made in `work` in place of the whiteout that has its name."""
        try:
            self.give_owner(parent, self._upper.work.fd, temporary, mode, owner, hidden=True)
            faults.reach("namespace.made")
            self._upper.show_over_whiteout(temporary, directory, name)
        except BaseException:
            self._upper.discard(temporary)
            raise

    def _give_owner_open(
        self, parent: Node, directory: int, name: bytes, fd: int, mode: int | None, owner: Owner | None
    ) -> os.stat_result:
        """Do what `give_owner` does for an open file that has its name already, or remove it; gives its attributes."""
        try:
            made = os.stat(fd)
            uid, gid = owner or (made.st_uid, made.st_gid)
            wanted = stat.S_IMODE(made.st_mode) if mode is None else mode & 0o7777
            if self.hands_group_on(parent):
                above = self._dir_fd(parent)
                gid = os.stat(above.fd).st_gid
            moved = (uid, gid) != (made.st_uid, made.st_gid)
            if moved:
                os.fchown(fd, uid, gid)
            if moved or wanted != stat.S_IMODE(made.st_mode):
                os.fchmod(fd, wanted)
                made = os.stat(fd)
        except BaseException:
            os.unlink(name, dir_fd=directory)
            raise
        return made

    def give_owner(
        self, parent: Node, directory: int, name: bytes, mode: int | None, owner: Owner | None, *, hidden: bool = False
    ) -> None:
        """Give a new entry its owner and its exact mode. Called with the lock.

        An entry made in its directory already has the group that the directory hands on; one made hidden, in `work`,
        gets it here.
        """
        if mode is None and owner is None and not (hidden and self.hands_group_on(parent)):
            return
        made = os.stat(name, dir_fd=directory, follow_symlinks=False)
        uid, gid = owner or (made.st_uid, made.st_gid)
        is_dir = stat.S_ISDIR(made.st_mode)
        wanted = stat.S_IMODE(made.st_mode) if mode is None else mode & 0o7777
        if self.hands_group_on(parent):
            above = self._dir_fd(parent)
            gid = os.stat(above.fd).st_gid
            if is_dir:
                wanted |= stat.S_ISGID
        moved = (uid, gid) != (made.st_uid, made.st_gid)
        if moved:
            os.chown(name, uid, gid, dir_fd=directory, follow_symlinks=False)
        if not stat.S_ISLNK(made.st_mode) and (moved or wanted != stat.S_IMODE(made.st_mode)):
            chmod_at(directory, name, wanted)

    def complete(self, parent: Node, name: bytes, mode: int | None = None, *, owner: Owner | None = None) -> None:
        """Give an existing entry the owner and mode with which it was to be made, see `create`."""
        with self._lock:
            directory = self._dir_fd(parent)
            self.give_owner(parent, directory.fd, name, mode, owner, hidden=True)

    def hands_group_on(self, parent: Node) -> bool:
        """Whether a directory gives its group to new entries. Called with the lock."""
        found = parent.sets_group
        if found is None:
            directory = self._dir_fd(parent)
            found = bool(os.stat(directory.fd).st_mode & stat.S_ISGID)
            parent.sets_group = found
        return found

    def _add_new(self, parent: Node, name: bytes, kind: int) -> Node:
        node = self._nodes.add_made(parent, name, kind)
        self._quota.add(files=1)
        self._changes.of_name(parent, name)
        if kind == stat.S_IFREG:
            self._changes.reported = node  # under its only name, so that a write to it now needs no report
        return node
