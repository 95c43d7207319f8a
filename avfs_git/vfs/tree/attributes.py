"""The attributes of nodes: stat, extended attributes, targets of symbolic links.

Decided here: which attributes an entry shows, and how they are changed. Attributes of the upper layer are asked of the
disk each time; those of the lower layer come from the sidecar. A node is copied up before its attributes change.

The server calls this by node, the library's file operations too. Any thread may: methods take the tree's lock. A change
is on disk before it is reported.
"""

from __future__ import annotations

import errno
import os
import stat

from avfs_git.errors import ObjectCorrupt, ObjectMissing
from avfs_git.host.files.beneath import MODES, Descriptor, chmod_at
from avfs_git.host.files.xattrs import as_owner, entry_of, remove_xattr, write_xattr
from avfs_git.vfs.errnos import fail
from avfs_git.vfs.layer.lower import LowerEntry
from avfs_git.vfs.tree.changes import Changes
from avfs_git.vfs.tree.contents import Contents, open_data
from avfs_git.vfs.tree.inodes import Node
from avfs_git.vfs.tree.nodes import Nodes
from avfs_git.vfs.tree.pins import Pins
from avfs_git.vfs.tree.steps import Steps
from avfs_git.vfs.values import ACCESS_LISTS, LOWER_DIR_SIZE, Attr, Listed, attr_of, missing_xattr, new


class Attributes:
    """The attributes of a tree's nodes."""

    def __init__(self, nodes: Nodes, pins: Pins, changes: Changes, steps: Steps, contents: Contents) -> None:
        self._nodes = nodes
        self._lock = nodes.lock
        self._lower = nodes.lower
        self._upper = nodes.upper
        self._attic = nodes.attic
        self._dir_fd = nodes.dir_fd
        self._target = nodes.target
        self._uid, self._gid = nodes.owner
        self._pins = pins
        self._changes = changes
        self._bring_up = steps.bring_up
        self._truncate = contents.truncate
        self._resize = contents.resize

    # --- reading ---------------------------------------------------------------------------------------------

    def statvfs(self) -> os.statvfs_result:
        """Tell the sizes of the disk that changes go to."""
        return os.fstatvfs(self._upper.root.fd)

    def getattr(self, node: Node, *, sizes: bool = True) -> Attr:
        """Tell the attributes of a node; `sizes` as in `list_attrs`."""
        with self._lock:
            if not node.upper:
                entry = node.lower
                if entry is None:
                    raise fail(errno.ENOENT, node.name)
                attr = self._lower_attr(entry, node.ino, sizes=sizes)
                return attr if node.parent is not None or node is self._nodes.root else attr._replace(nlink=0)
            if node.held is not None:
                return attr_of(node.ino, os.stat(node.held.fd))
            if node.is_dir:
                directory = self._dir_fd(node)
                found = os.stat(directory.fd)
                attr = attr_of(node.ino, found if node is not self._nodes.root else self._upper.shut_root.show(found))
                # The number of sub-directories of both layers is not known; 1 says so, as overlayfs does.
                return attr if node.lower is None else attr._replace(nlink=1)
            if node.parent is None:
                raise fail(errno.ENOENT, node.name)
            data = node.descriptor
            if data is not None and node.parent is not self._attic:  # half the cost of a stat by name
                found = os.stat(data.fd)
                if found.st_nlink:  # else another process removed it: its name means nothing, or another file
                    return attr_of(node.ino, found)
            directory = self._dir_fd(node.parent)
            attr = attr_of(node.ino, os.stat(node.name, dir_fd=directory.fd, follow_symlinks=False))
            return attr if node.parent is not self._attic else attr._replace(nlink=attr.nlink - 1)

    def _lower_attr(self, entry: LowerEntry, ino: int, *, sizes: bool = True) -> Attr:
        size_of = self._lower.size_of if sizes else self._lower.size_here
        return self._attr_of_lower(entry, ino, LOWER_DIR_SIZE if entry.is_dir else size_of(entry))

    def _attr_of_lower(self, entry: LowerEntry, ino: int, size: int) -> Attr:
        mtime_ns = entry.mtime_ns
        times = (mtime_ns, mtime_ns, mtime_ns)
        return new(Attr, (ino, entry.mode, 1, self._uid, self._gid, 0, size, (size + 511) >> 9, *times))

    def may_have_xattrs(self, node: Node) -> bool:
        """Tell without asking the disk whether a node may carry extended attributes; no lock is needed."""
        entry = node.lower
        return (node.has_xattrs or node.kind == stat.S_IFDIR) if node.upper or entry is None else bool(entry.xattrs)

    def read_xattrs(self, node: Node) -> dict[bytes, bytes]:
        """Read all extended attributes that programs see on a node."""
        with self._lock:
            if not node.upper:
                if node.lower is None:
                    raise fail(errno.ENOENT, node.name)
                return dict(node.lower.xattrs)
            if not node.has_xattrs and not node.is_dir:
                return {}
            if node.kind == stat.S_IFLNK and node.held is not None:
                return {}
            keep, target = self._target(node)
            found = self._upper.marks.read_user_xattrs(target, node.name)
            del keep
            return found

    def get_xattr(self, node: Node, name: bytes) -> bytes:
        """Read an extended attribute."""
        found = self.read_xattrs(node).get(name)
        if found is None:
            raise fail(missing_xattr(name), name)
        return found

    def readlink(self, node: Node) -> bytes:
        """Read the target of a symbolic link."""
        if node.kind != stat.S_IFLNK:
            raise fail(errno.EINVAL, node.name)
        with self._lock:
            if node.held is not None:
                return os.readlink(b"", dir_fd=node.held.fd)
            if node.upper and node.parent is not None:
                directory = self._dir_fd(node.parent)
                return os.readlink(node.name, dir_fd=directory.fd)
            entry = node.lower
        if entry is None:
            raise fail(errno.ENOENT, node.name)
        return self._lower.read(entry)

    def list_attrs(self, node: Node, *, sizes: bool = True) -> list[Listed]:
        """List a directory with attributes but without making nodes, sorted by name; numbers not known are 0.

        Without `sizes`, these are 0 where only a server knows them.
        """
        with self._lock:
            found: list[Listed] = []
            known = node.children
            directory: Descriptor | None = None
            for name, _, entry in self._nodes.merged_names(node):
                child = known.get(name)
                ino = 0 if child is None else child.ino
                if entry is not None:
                    try:
                        found.append(Listed(name, self._lower_attr(entry, ino, sizes=sizes), entry))
                    except (ObjectMissing, ObjectCorrupt) as error:  # of one file: the others are listed
                        found.append(Listed(name, self._attr_of_lower(entry, ino, 0), entry, error.message))
                    continue
                directory = directory or self._dir_fd(node)
                try:
                    status = os.stat(name, dir_fd=directory.fd, follow_symlinks=False)
                except FileNotFoundError:
                    continue
                found.append(Listed(name, attr_of(ino, status), None))
            found.sort()
            return found

    # --- changing --------------------------------------------------------------------------------------------

    def set_attributes(
        self,
        node: Node,
        *,
        size: int | None = None,
        uid: int = -1,
        gid: int = -1,
        mode: int | None = None,
        atime_ns: int | None = None,
        mtime_ns: int | None = None,
    ) -> Attr:
        """Do what `truncate`, `chown`, `chmod` and `utimens` do, in this order, and give the new attributes.

        The mode comes after the owner, a change of which clears set-uid; the times come last, because all others set
        them.
        """
        with self._lock:
            data = open_data(node)
            if data is None or node.parent is self._attic:
                if size is not None:
                    self._truncate(node, size)
                if uid >= 0 or gid >= 0:
                    self.chown(node, uid, gid)
                if mode is not None:
                    self.chmod(node, mode)
                if atime_ns is not None or mtime_ns is not None:
                    self.utimens(node, atime_ns=atime_ns, mtime_ns=mtime_ns)
                return self.getattr(node)
            fd = data.fd
            try:
                if size is not None:
                    self._resize(fd, size)
                if uid >= 0 or gid >= 0:
                    os.fchown(fd, uid, gid)
                if mode is not None:
                    with MODES:
                        os.fchmod(fd, mode)
                if atime_ns is not None or mtime_ns is not None:
                    if atime_ns is None or mtime_ns is None:
                        now = os.stat(fd)
                        atime_ns = now.st_atime_ns if atime_ns is None else atime_ns
                        mtime_ns = now.st_mtime_ns if mtime_ns is None else mtime_ns
                    os.utime(fd, ns=(atime_ns, mtime_ns))
            finally:
                changes = self._changes
                if node is not changes.reported or changes.observer is not None:
                    changes.of_node(node)
            found = os.stat(fd)
            return attr_of(node.ino, found) if found.st_nlink else self.getattr(node)

    def chmod(self, node: Node, mode: int) -> None:
        """Set the permission bits."""
        with self._lock, MODES:
            if node.kind == stat.S_IFLNK:
                raise fail(errno.ENOTSUP, node.name)
            self._bring_up(node)
            if node.held is not None:
                os.chmod(b"/proc/self/fd/%d" % node.held.fd, mode)
            elif node.kind == stat.S_IFREG and (data := node.descriptor) is not None:
                os.fchmod(data.fd, mode)
            elif node is self._nodes.root:
                self._upper.shut_root.chmod(self._dir_fd(node).fd, mode)
            elif node.parent is None:
                directory = self._dir_fd(node)
                os.chmod(entry_of(directory.fd, b"."), mode)
            else:
                directory = self._dir_fd(node.parent)
                chmod_at(directory.fd, node.name, mode)
            node.sets_group = None
            self._changes.of_node(node)

    def chown(self, node: Node, uid: int = -1, gid: int = -1) -> None:
        """Set the owner, the group or both; -1 keeps."""
        with self._lock:
            self._bring_up(node)
            keep, target = self._target(node)
            os.chown(target, uid, gid, follow_symlinks=isinstance(target, int))
            del keep
            node.sets_group = None
            self._changes.of_node(node)

    def utimens(self, node: Node, *, atime_ns: int | None = None, mtime_ns: int | None = None) -> None:
        """Set the times of last access and change; None keeps."""
        with self._lock:
            self._bring_up(node)
            keep, target = self._target(node)
            follow = isinstance(target, int)
            if atime_ns is None or mtime_ns is None:
                now = os.stat(target, follow_symlinks=follow)
                atime_ns = now.st_atime_ns if atime_ns is None else atime_ns
                mtime_ns = now.st_mtime_ns if mtime_ns is None else mtime_ns
            os.utime(target, ns=(atime_ns, mtime_ns), follow_symlinks=follow)
            del keep
            self._changes.of_node(node)

    def set_xattr(self, node: Node, name: bytes, value: bytes, *, flags: int = 0) -> None:
        """Set an extended attribute, with any mode: of programs, the kernel asks before.

        Raises:
            PermissionError: For a `user.` attribute of anything but a file or directory, and for marks of overlayfs.
            OSError: EOPNOTSUPP for an access control list: neither the kernel nor a checkpoint obeys it, so that the
                file would be open to other users than the list says.
        """
        if name.startswith(ACCESS_LISTS):
            raise fail(errno.EOPNOTSUPP, name)
        stored = self._upper.marks.store_xattr_name(name)
        with self._lock:
            self._check_takes_xattr(node, name)
            if flags:  # before anything is copied up in vain
                there = name in self.read_xattrs(node)
                if there and flags & os.XATTR_CREATE:
                    raise fail(errno.EEXIST, name)
                if not there and flags & os.XATTR_REPLACE:
                    raise fail(errno.ENODATA, name)
            self._bring_up(node)
            keep, target = self._target(node)
            self._pins.begin()
            as_owner(target, lambda: write_xattr(target, stored, value, flags=flags))
            del keep
            node.has_xattrs = True
            self._changes.of_node(node)

    def remove_xattr(self, node: Node, name: bytes) -> None:
        """Remove an extended attribute."""
        stored = self._upper.marks.store_xattr_name(name)
        with self._lock:
            self._check_takes_xattr(node, name)
            if name not in self.read_xattrs(node):
                raise fail(errno.ENODATA, name)
            self._bring_up(node)
            keep, target = self._target(node)
            self._pins.begin()
            as_owner(target, lambda: remove_xattr(target, stored))
            del keep
            self._changes.of_node(node)

    @staticmethod
    def _check_takes_xattr(node: Node, name: bytes) -> None:
        if name.startswith(b"user.") and node.kind not in (stat.S_IFREG, stat.S_IFDIR):
            raise fail(errno.EPERM, name)
