"""The merged view: what a workspace shows, its upper layer over its lower one.

Decided here: which entry is visible under which name, and what its attributes are. `vfs.content` adds reading
files, `vfs.copyup` changing what is visible, `vfs.namespace` names, `vfs.merged` paths; `MergedTree` there is
what everybody uses.

What is on disk in the upper layer is the truth. A view remembers which entries exist where, so one view at a
time may be used while the workspace lock is held; after somebody else may have changed the layer, `forget_all`
makes it look again. Sizes, times and modes in the upper layer are asked of the disk each time. Any number of
threads may call; one lock guards the nodes, and no file is read while it is held.
"""

from __future__ import annotations

import errno
import os
import stat
import threading
from collections.abc import Callable, Iterator
from typing import NamedTuple

from avfs_git.host.beneath import O_PATH, POOL, Descriptor, open_at, open_dir
from avfs_git.host.xattrs import Target, entry_of
from avfs_git.paths import NAME_MAX, ROOT, TreePath, join
from avfs_git.vfs.inodes import InodeTable, Node
from avfs_git.vfs.lower import LowerEntry, LowerTree
from avfs_git.vfs.upper import (
    UpperLayer,
    check_file_marks,
    is_whiteout,
    is_xattr_whiteout,
    read_dir_marks,
    read_user_xattrs,
)

_TYPE = 0o170000
_LOWER_DIR_SIZE = 4096

OnChange = Callable[[TreePath, bool], None]
"""Told each path that changed; with True, everything below it may have changed, too."""


class Attr(NamedTuple):
    """The attributes of a node, as `stat` has them."""

    ino: int
    mode: int
    nlink: int
    uid: int
    gid: int
    rdev: int
    size: int
    blocks: int
    atime_ns: int
    mtime_ns: int
    ctime_ns: int


class Listed(NamedTuple):
    """An entry of a directory with its attributes."""

    name: bytes
    attr: Attr
    entry: LowerEntry | None
    """What of the lower layer it shows, if it is not in the upper layer: its `oid` is known without reading."""


def fail(number: int, name: bytes = b"") -> OSError:
    """Make the error that the system would raise; Python picks the subclass by the number."""
    return OSError(number, os.strerror(number), name)


class MergedView:
    """Nodes of the merged view, their directories and attributes."""

    def __init__(
        self, lower: LowerTree, upper: UpperLayer, *, reserve_git: bool = True, on_change: OnChange | None = None
    ) -> None:
        self.lower = lower
        self.upper = upper
        self.on_change = on_change
        self._reserve_git = reserve_git
        self._lock = threading.RLock()
        self._uid = os.getuid()
        self._gid = os.getgid()
        self._paths: dict[bytes, Node] = {}
        self.inodes = InodeTable()
        self._pinned = 0
        self._start()

    def _start(self) -> None:
        root = Node(stat.S_IFDIR, None, b"", self.lower.root, upper=True)
        root.descriptor = self.upper.root
        # An opaque root means nothing to the kernel, which always stacks the layers there.
        root.xattr_whiteouts = read_dir_marks(entry_of(self.upper.root.fd, b"."), b"/").xattr_whiteouts
        self.root = self.inodes.add(root)
        self._paths = {b"": root}

    def forget_all(self) -> None:
        """Drop every node and descriptor, because somebody else may have changed the upper layer.

        Nodes that callers still hold are dead afterwards: every use of them raises ENOENT.
        """
        with self._lock:
            self.close()
            self.upper.reopen()
            self._start()

    def close(self) -> None:
        """Drop every node and descriptor for good."""
        with self._lock:
            for node in self.inodes:
                node.parent = None
                node.aliases = None
                node.children = {}
                node.listing = None
                node.upper = False
                node.lower = None
                node.descriptor = None
                node.held = None
            self.inodes.clear()
            self._pinned = 0

    # --- nodes ---------------------------------------------------------------------------------------------

    @property
    def guard(self) -> threading.RLock:
        """The lock of the nodes, for several calls that must be one step; whoever holds it may call anything here."""
        return self._lock

    def pin(self, node: Node, count: int = 1) -> None:
        """Keep a node usable after its last name goes, as for an open file or a kernel that knows its number."""
        with self._lock:
            node.pins += count
            self._pinned += count

    def unpin(self, node: Node, count: int = 1) -> None:
        """Take back what `pin` did; a node without name and pins is gone."""
        with self._lock:
            count = min(count, node.pins)
            node.pins -= count
            self._pinned -= count
            if not node.pins and node.parent is None and node is not self.root:
                self._release(node)

    def _release(self, node: Node) -> None:
        node.held = None
        node.descriptor = None
        self.inodes.drop(node)

    def node_at(self, ino: int) -> Node:
        """Find a node by its number.

        Raises:
            OSError: ESTALE if there is none.
        """
        found = self.inodes.find(ino)
        if found is None:
            raise fail(errno.ESTALE)
        return found

    def path_of(self, node: Node) -> TreePath:
        """Tell where a node stands; one of its names, if it has several.

        Raises:
            FileNotFoundError: If it has no name any more.
        """
        with self._lock:
            return self._path_in(node.parent, node.name) if node is not self.root else ROOT

    def _path_in(self, parent: Node | None, name: bytes) -> TreePath:
        parts = [name]
        while parent is not self.root:
            if parent is None:
                raise fail(errno.ENOENT, name)
            parts.append(parent.name)
            parent = parent.parent
        parts.reverse()
        return TreePath(b"/".join(parts))

    def lookup(self, parent: Node, name: bytes) -> Node:
        """Find an entry of a directory.

        Raises:
            FileNotFoundError: If there is none.
            NotADirectoryError: If `parent` is no directory.
        """
        with self._lock:
            found = self._child(parent, name)
        if found is None:
            raise fail(errno.ENOENT, name)
        return found

    def find(self, parent: Node, name: bytes) -> Node | None:
        """Find an entry of a directory; None if there is none.

        Raises:
            NotADirectoryError: If `parent` is no directory.
        """
        with self._lock:
            return self._child(parent, name)

    def _child(self, parent: Node, name: bytes) -> Node | None:
        found = parent.children.get(name)
        if found is not None:
            return found
        if parent.kind != stat.S_IFDIR:
            raise fail(errno.ENOTDIR, parent.name)
        if self._is_reserved(parent, name) or self._is_gone(parent):
            return None
        if len(name) > NAME_MAX:
            raise fail(errno.ENAMETOOLONG, name)
        if parent.upper:
            known = parent.listing
            kind = -1 if known is None else known.get(name)
            if kind == 0:
                return None
            if kind is not None:
                directory = self._dir_fd(parent)
                try:
                    status = os.stat(name, dir_fd=directory.fd, follow_symlinks=False)
                except FileNotFoundError:
                    if known is not None:
                        del known[name]
                else:
                    return self._adopt(parent, name, status)
        entry = self._lower_child(parent, name)
        if entry is None:
            return None
        return self._add(Node(entry.mode & _TYPE, parent, name, entry, upper=False))

    def _add(self, node: Node) -> Node:
        assert node.parent is not None  # noqa: S101 - only the root has none, and it is not added here
        node.parent.children[node.name] = node
        return self.inodes.add(node)

    def _adopt(self, parent: Node, name: bytes, status: os.stat_result) -> Node | None:
        """Make the node of what stands in the upper layer; None if that is a whiteout."""
        if is_whiteout(status):
            return None
        directory = self._dir_fd(parent)
        place = entry_of(directory.fd, name)
        kind = status.st_mode & _TYPE
        if kind == stat.S_IFDIR:
            node = Node(kind, parent, name, None, upper=True)
            marks = read_dir_marks(place, self._path_in(parent, name))
            node.xattr_whiteouts = marks.xattr_whiteouts
            if not marks.opaque:
                below = self._lower_child(parent, name)
                node.lower = below if below is not None and below.is_dir else None
            return self._add(node)
        if parent.xattr_whiteouts and is_xattr_whiteout(status, place):
            return None
        # Even if this is its only name now: another one that is gone may have led to a node that is still in use.
        known = self.inodes.find_on_disk((status.st_dev, status.st_ino))
        if known is not None:
            self._add_name(known, parent, name)
            return known
        node = Node(kind, parent, name, None, upper=True)
        node.has_xattrs = kind != stat.S_IFLNK and check_file_marks(place, self._path_in(parent, name))
        node.links = status.st_nlink
        if status.st_nlink > 1:
            self.inodes.link_to_disk(node, (status.st_dev, status.st_ino))
        return self._add(node)

    @staticmethod
    def _add_name(node: Node, parent: Node, name: bytes) -> None:
        if node.parent is None:
            node.parent, node.name = parent, name
            node.held = None
        else:
            node.aliases = [*(node.aliases or ()), (parent, name)]
        parent.children[name] = node

    def _is_gone(self, node: Node) -> bool:
        """Whether a node has no name any more, so that a directory shows nothing and takes nothing."""
        return node.parent is None and node is not self.root

    def _is_reserved(self, parent: Node, name: bytes) -> bool:
        return name == b".git" and parent is self.root and self._reserve_git

    def _lower_child(self, parent: Node, name: bytes) -> LowerEntry | None:
        below = parent.lower
        return None if below is None else self.lower.children(below).get(name)

    # --- descriptors ---------------------------------------------------------------------------------------

    def _dir_fd(self, node: Node) -> Descriptor:
        """Give the descriptor of a directory that is in the upper layer.

        It is good as long as it is held: callers give it a name before they use its number, because another tree's
        call may empty the pool at any moment.
        """
        found = node.descriptor
        if found is None:
            return self._open_dir(node)
        found.used = True
        return found

    def _open_dir(self, node: Node) -> Descriptor:
        # The way up ends at the nearest directory that is open, at the latest at the root.
        missing: list[Node] = []
        here: Node = node
        while (found := here.descriptor) is None:
            missing.append(here)
            if here.parent is None:
                raise fail(errno.ENOENT, here.name)
            here = here.parent
        for child in reversed(missing):
            found = open_dir(found.fd, child.name)
            POOL.keep(child, found)
        return found

    def _target(self, node: Node) -> tuple[Descriptor, Target]:
        """Name a node of the upper layer for calls that want a path or a descriptor, and what keeps that good."""
        if node.held is not None:
            return node.held, entry_of(node.held.fd, b".") if node.is_dir else node.held.fd
        found = node.descriptor
        if found is not None and node.kind == stat.S_IFREG:
            return found, found.fd
        if node.parent is None:
            if node is not self.root:
                raise fail(errno.ENOENT, node.name)
            return self.upper.root, entry_of(self.upper.root.fd, b".")
        directory = self._dir_fd(node.parent)
        return directory, entry_of(directory.fd, node.name)

    def _data_fd(self, node: Node, *, write: bool) -> Descriptor:
        """Give a descriptor of the data of a file of the upper layer, or of a hidden copy of a lower one."""
        if node.held is not None:
            return node.held
        found = node.descriptor
        if found is not None and (found.writable or not write):
            found.used = True
            return found
        if node.parent is None:
            raise fail(errno.ENOENT, node.name)
        directory = self._dir_fd(node.parent)
        try:
            found = Descriptor(open_at(directory.fd, node.name, os.O_RDWR | os.O_NONBLOCK))
            found.writable = True
        except PermissionError:
            if write:
                raise
            found = Descriptor(open_at(directory.fd, node.name, os.O_RDONLY | os.O_NONBLOCK))
        POOL.keep(node, found)
        return found

    def _hold(self, node: Node) -> None:
        """Keep what is about to lose its last name usable, if somebody still knows the node."""
        if not node.pins or not node.upper or node.held is not None:
            return
        if node.kind == stat.S_IFREG:
            try:
                node.held = self._data_fd(node, write=True)
            except PermissionError:
                assert node.parent is not None  # noqa: S101 - it has a name until the caller takes it
                directory = self._dir_fd(node.parent)
                node.held = Descriptor(open_at(directory.fd, node.name, O_PATH))
        elif node.is_dir:
            node.held = self._dir_fd(node)
        elif node.parent is not None:
            directory = self._dir_fd(node.parent)
            node.held = Descriptor(open_at(directory.fd, node.name, O_PATH))

    # --- directories ---------------------------------------------------------------------------------------

    def _upper_names(self, node: Node) -> dict[bytes, int]:
        if not node.upper:
            return {}
        found = node.listing
        if found is None:
            directory = self._dir_fd(node)
            found = self.upper.list_names(directory.fd, xattr_whiteouts=node.xattr_whiteouts)
            node.listing = found
        return found

    def _merged_names(self, node: Node) -> Iterator[tuple[bytes, int, LowerEntry | None]]:
        if node.kind != stat.S_IFDIR:
            raise fail(errno.ENOTDIR, node.name)
        if self._is_gone(node):
            return
        above = self._upper_names(node)
        hide_git = node is self.root and self._reserve_git
        for name, kind in above.items():
            if kind and not (hide_git and name == b".git"):
                yield name, kind, None
        if node.lower is not None:
            for name, entry in self.lower.children(node.lower).items():
                if name not in above and not (hide_git and name == b".git"):
                    yield name, entry.mode & _TYPE, entry

    def readdir(self, node: Node) -> list[tuple[bytes, int]]:
        """List the names of a directory with their type bits, without `.` and `..`, in no order."""
        with self._lock:
            return [(name, kind) for name, kind, _ in self._merged_names(node)]

    def readdir_plus(self, node: Node) -> list[tuple[bytes, Node, Attr]]:
        """List a directory with the node and the attributes of each entry."""
        with self._lock:
            found: list[tuple[bytes, Node, Attr]] = []
            for name in [name for name, _, _ in self._merged_names(node)]:
                try:
                    child = self._child(node, name)
                    if child is not None:
                        found.append((name, child, self.getattr(child)))
                except FileNotFoundError:  # removed behind our back
                    continue
            return found

    def list_attrs(self, node: Node) -> list[Listed]:
        """List a directory with attributes but without making nodes, sorted by name; numbers not known are 0."""
        with self._lock:
            found: list[Listed] = []
            known = node.children
            directory: Descriptor | None = None
            for name, _, entry in self._merged_names(node):
                child = known.get(name)
                ino = 0 if child is None else child.ino
                if entry is not None:
                    found.append(Listed(name, self._lower_attr(entry, ino), entry))
                    continue
                directory = directory or self._dir_fd(node)
                try:
                    status = os.stat(name, dir_fd=directory.fd, follow_symlinks=False)
                except FileNotFoundError:
                    continue
                found.append(Listed(name, _attr_of(ino, status), None))
            found.sort()
            return found

    def is_empty(self, node: Node) -> bool:
        """Tell whether a directory shows no entry."""
        with self._lock:
            return next(self._merged_names(node), None) is None

    # --- attributes ----------------------------------------------------------------------------------------

    def getattr(self, node: Node) -> Attr:
        """Tell the attributes of a node."""
        with self._lock:
            if not node.upper:
                entry = node.lower
                if entry is None:
                    raise fail(errno.ENOENT, node.name)
                attr = self._lower_attr(entry, node.ino)
                return attr if node.parent is not None else attr._replace(nlink=0)
            if node.held is not None:
                return _attr_of(node.ino, os.stat(node.held.fd))
            if node.is_dir:
                directory = self._dir_fd(node)
                attr = _attr_of(node.ino, os.stat(directory.fd))
                # The number of sub-directories of both layers is not known; 1 says so, as overlayfs does.
                return attr if node.lower is None else attr._replace(nlink=1)
            if node.parent is None:
                raise fail(errno.ENOENT, node.name)
            directory = self._dir_fd(node.parent)
            return _attr_of(node.ino, os.stat(node.name, dir_fd=directory.fd, follow_symlinks=False))

    def _lower_attr(self, entry: LowerEntry, ino: int) -> Attr:
        size = _LOWER_DIR_SIZE if entry.is_dir else self.lower.size_of(entry)
        mtime_ns = entry.mtime_ns
        return Attr(ino, entry.mode, 1, self._uid, self._gid, 0, size, (size + 511) >> 9, mtime_ns, mtime_ns, mtime_ns)

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
            found = read_user_xattrs(target, node.name)
            del keep
            return found

    def get_xattr(self, node: Node, name: bytes) -> bytes:
        """Read an extended attribute.

        Raises:
            OSError: ENODATA if there is none of that name.
        """
        found = self.read_xattrs(node).get(name)
        if found is None:
            raise fail(errno.ENODATA, name)
        return found

    def readlink(self, node: Node) -> bytes:
        """Read the target of a symbolic link.

        Raises:
            OSError: EINVAL if it is none.
        """
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
        return self.lower.read(entry)

    # --- reporting -----------------------------------------------------------------------------------------

    def _report(self, node: Node, *, deep: bool = False) -> None:
        """Report that a node changed, under each of its names."""
        report = self.on_change
        if report is None:
            return
        count = 0
        for parent, name in node.names():
            count += 1
            report(self._path_in(parent, name), deep)
        if node is self.root or (count and count < node.links):
            # It has names that nobody has looked up, so that the change shows at places not known.
            report(ROOT, node is not self.root)

    def _report_name(self, parent: Node, name: bytes, *, deep: bool = False) -> None:
        if self.on_change is not None:
            self.on_change(self._path_in(parent, name), deep)

    def _forget_path(self, parent: Node, name: bytes) -> None:
        paths = self._paths
        if len(paths) > 1:
            try:
                paths.pop(join(self._path_in(parent.parent, parent.name), name) if parent is not self.root else name, None)
            except FileNotFoundError:
                paths.clear()
                paths[b""] = self.root


def _attr_of(ino: int, found: os.stat_result) -> Attr:
    return Attr(
        ino,
        found.st_mode,
        found.st_nlink,
        found.st_uid,
        found.st_gid,
        found.st_rdev,
        found.st_size,
        found.st_blocks,
        found.st_atime_ns,
        found.st_mtime_ns,
        found.st_ctime_ns,
    )
