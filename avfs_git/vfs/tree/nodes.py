"""The nodes of a tree: which entry shows under which name, the upper layer over the lower one.

Decided here: what a name means, and which descriptors of the upper layer are open. The disk is the truth: a node
remembers which names exist, not their sizes, times and modes. So one tree at a time may be used while the workspace
lock is held; after another process may have changed the layer, `MergedTree.forget_all` starts anew.

The other modules of this package call it, with `lock` held unless a docstring says otherwise. No file is read while
`lock` is held.
"""

from __future__ import annotations

import errno
import os
import stat
import threading
from collections.abc import Callable, Iterator, Mapping

from avfs_git.gitstore.bounds import Bound
from avfs_git.host.files.beneath import POOL, Descriptor, let_owner_in, open_at, reopen_at
from avfs_git.host.files.freeing import unlink_last
from avfs_git.host.files.xattrs import Target, entry_of
from avfs_git.host.locks.locks import REFUSED_WRITING
from avfs_git.paths import NAME_MAX, ROOT, TreePath, join
from avfs_git.vfs.errnos import fail
from avfs_git.vfs.layer.lower import FixedFile, LowerEntry, LowerTree, find_redirected
from avfs_git.vfs.layer.marks import is_whiteout
from avfs_git.vfs.layer.upper import UpperLayer
from avfs_git.vfs.tree.inodes import InodeTable, Node
from avfs_git.vfs.values import TYPE

_PATHS_KEPT = 100_000
_NOTHING: Mapping[bytes, LowerEntry] = {}


class Nodes:
    """All nodes of a tree, and how a name leads to one.

    Attributes:
        lower: The lower layer: what the workspace began with.
        upper: The upper layer: what has changed since.
        lock: Guards the nodes and everything in this package that belongs to them.
        root: The root directory.
        attic: Stands for `work` as the directory of a file that has a name only there, see `vfs.tree.pins`.
        inodes: The nodes by number.
        paths: Nodes by path, for paths without symbolic links: a cache.
        git_file: The `.git` that programs find in the root, see `show_git_file`.
        before_git: Called before `git_file` is read; `is_git_behind` is whether it said False the last time.
        on_placed: Told each node that stands elsewhere than before; `vfs.tree.pins` writes it down.
        recall_links: Makes nodes of files that may have several names; returns whether it made any.
    """

    root: Node

    def __init__(
        self,
        lower: LowerTree,
        upper: UpperLayer,
        *,
        has_upper: bool,
        hides: Callable[[bytes], bool] | None,
        first_ino: int,
    ) -> None:
        """Join two layers; the arguments are those of `MergedTree`."""
        self.lower = lower
        self.upper = upper
        self.lock = threading.RLock()
        self.owner = (os.getuid(), os.getgid())
        self.attic = Node(stat.S_IFDIR, None, b"", None, upper=True)
        self.inodes = InodeTable(first_ino)
        self.paths: dict[bytes, Node] = {}
        self.git_file: Node | None = None
        self.before_git: Callable[[], bool] | None = None
        self.is_git_behind = False
        self.on_placed: Callable[[Node], None] = lambda _: None
        self.recall_links: Callable[[], bool] = lambda: False
        self._has_upper = has_upper
        self._hides = hides
        self.start()

    def start(self) -> None:
        """Begin with nothing known but the root."""
        self.upper.quota.forget()
        root = Node(stat.S_IFDIR, None, b"", self.lower.root, upper=self._has_upper)
        if self._has_upper:
            root.descriptor = self.upper.root
            let_owner_in(root.descriptor.fd)
            # An opaque root means nothing to the kernel, which always stacks the layers there.
            root.xattr_whiteouts = self.upper.read_dir_marks(entry_of(self.upper.root.fd, b"."), b"/").xattr_whiteouts
            self.attic.descriptor = self.upper.work
        self.root = self.inodes.add(root)
        self.forget_paths()

    def close(self) -> None:
        """Drop every node and descriptor. A node that a caller still holds is dead: every use of it raises ENOENT."""
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
        self.git_file = None

    # --- names -----------------------------------------------------------------------------------------------

    def lookup(self, parent: Node, name: bytes) -> Node:
        """Find an entry of a directory. Takes the lock."""
        with self.lock:
            found = self.child(parent, name)
        if found is None:
            raise fail(errno.ENOENT, name)
        return found

    def find(self, parent: Node, name: bytes) -> Node | None:
        """Find an entry of a directory as programs see it; None if there is none. Takes the lock."""
        with self.lock:
            found = self.child(parent, name)
            return self.git_file if found is None and self.is_reserved(parent, name) else found

    def child(self, parent: Node, name: bytes) -> Node | None:
        """Find an entry of a directory; None if there is none."""
        found = parent.children.get(name)
        if found is not None:
            return found
        if parent.kind != stat.S_IFDIR:
            raise fail(errno.ENOTDIR, parent.name)
        if self.is_reserved(parent, name) or self.is_gone(parent):
            return None
        if len(name) > NAME_MAX:
            raise fail(errno.ENAMETOOLONG, name)
        if parent.upper:
            known = parent.listing
            kind = -1 if known is None else known.get(name)
            if kind == 0:
                return None
            if kind is not None:
                directory = self.dir_fd(parent)
                try:
                    status = os.stat(name, dir_fd=directory.fd, follow_symlinks=False)
                except FileNotFoundError:
                    if known is not None:
                        del known[name]
                else:
                    return self._adopt(parent, name, status)
        entry = self.lower_child(parent, name)
        if entry is None:
            return None
        return self.add(Node(entry.mode & TYPE, parent, name, entry, upper=False))

    def _adopt(self, parent: Node, name: bytes, status: os.stat_result) -> Node | None:
        """Make the node of an entry of the upper layer; None if that is a whiteout."""
        if is_whiteout(status):
            return None
        directory = self.dir_fd(parent)
        place = entry_of(directory.fd, name)
        kind = status.st_mode & TYPE
        if kind == stat.S_IFDIR:
            node = Node(kind, parent, name, None, upper=True)
            marks = self.upper.read_dir_marks(place, self.path_in(parent, name))
            node.xattr_whiteouts = marks.xattr_whiteouts
            if marks.redirect is not None:
                self._redirect(node, parent, marks.redirect)
            elif not marks.opaque:
                below = self.lower_child(parent, name)
                node.lower = below if below is not None and below.is_dir else None
            return self.add(node)
        if parent.xattr_whiteouts and self.upper.marks.is_xattr_whiteout(status, place):
            return None
        # Even if this is its only name now: a removed name may have led to a node that is still in use.
        known = self.inodes.find_on_disk((status.st_dev, status.st_ino))
        if known is None and status.st_nlink > 1 and self.recall_links():
            known = parent.children.get(name) or self.inodes.find_on_disk((status.st_dev, status.st_ino))
            if known is not None and parent.children.get(name) is known:
                return known
        if known is not None:
            self.add_name(known, parent, name)
            return known
        node = Node(kind, parent, name, None, upper=True)
        node.has_xattrs = kind != stat.S_IFLNK and self.upper.marks.check_file_marks(place, self.path_in(parent, name))
        node.links = status.st_nlink
        if status.st_nlink > 1:
            self.inodes.link_to_disk(node, (status.st_dev, status.st_ino))
        return self.add(node)

    def _redirect(self, node: Node, parent: Node, redirect: bytes) -> None:
        """Let a directory show the directory of the lower layer that its mark names.

        Raises:
            LayerNotUnderstood: If there is no such directory.
        """
        node.lower = find_redirected(self.lower, parent.lower, redirect, self.path_in(parent, node.name))
        node.moved_from = TreePath(redirect[1:]) if redirect.startswith(b"/") else self.lower_path(parent, redirect)

    def lower_path(self, parent: Node, name: bytes) -> TreePath:
        """Give the path in the lower layer of a name in what a directory shows of it."""
        parts = [name]
        here: Node | None = parent
        while here is not self.root:
            if here is None:
                raise fail(errno.ENOENT, name)
            if here.moved_from is not None:
                parts.append(here.moved_from)
                break
            parts.append(here.name)
            here = here.parent
        parts.reverse()
        return TreePath(b"/".join(parts))

    def add(self, node: Node) -> Node:
        """Give a node its number, and let its name find it."""
        assert node.parent is not None  # noqa: S101 - only the root has none, and it is not added here
        node.parent.children[node.name] = node
        return self.inodes.add(node)

    def add_made(self, parent: Node, name: bytes, kind: int) -> Node:
        """Make the node of an entry that was just made in the upper layer."""
        node = Node(kind, parent, name, None, upper=True)
        node.has_xattrs = False
        if parent.listing is not None:
            parent.listing[name] = kind
        parent.children[name] = node
        return self.inodes.add(node)

    def add_name(self, node: Node, parent: Node, name: bytes) -> None:
        """Let one more name find a node."""
        above, old = node.parent, node.name
        if above is None or above is self.attic:
            node.parent, node.name = parent, name
            node.held = None
        else:
            node.aliases = [*(node.aliases or ()), (parent, name)]
        parent.children[name] = node
        self.on_placed(node)
        if above is self.attic:  # last, so that a process after this one finds it in one of the two places
            self.leave_attic(old)

    def leave_attic(self, name: bytes) -> None:
        """Remove a name from `work`; where that fails, the process that cleans `work` tries again."""
        try:
            unlink_last(self.upper.work.fd, name)
        except OSError:
            pass

    def is_gone(self, node: Node) -> bool:
        """Whether a node has no name any more, so that a directory shows nothing and takes nothing."""
        return node.parent is None and node is not self.root

    def is_reserved(self, parent: Node, name: bytes) -> bool:
        """Whether a name is the `.git` of the root, which belongs to avfs."""
        return parent is self.root and name == b".git"

    def lower_child(self, parent: Node, name: bytes) -> LowerEntry | None:
        """Find what the lower layer has under a name."""
        below = parent.lower
        return None if below is None else self.lower.children(below).get(name)

    def lower_children(self, node: Node) -> Mapping[bytes, LowerEntry]:
        """List what a directory shows of the lower layer, if it shows nothing else."""
        below = node.lower
        if below is None or node.upper or node.kind != stat.S_IFDIR or node is self.root or self.is_gone(node):
            return _NOTHING
        return self.lower.children(below)

    def shows(self, parent: Node, name: bytes) -> bool:
        """Ask the disk whether a name has an entry, without making a node of it. Takes the lock."""
        with self.lock:
            try:
                found = self.stat_upper(parent, name)
            except FileNotFoundError:
                return self.lower_child(parent, name) is not None
            if is_whiteout(found):
                return False
            directory = self.dir_fd(parent)
            return not (
                parent.xattr_whiteouts and self.upper.marks.is_xattr_whiteout(found, entry_of(directory.fd, name))
            )

    def stat_upper(self, parent: Node, name: bytes) -> os.stat_result:
        """Stat what the upper layer has under a name. Takes the lock."""
        with self.lock:
            if not parent.upper:
                raise fail(errno.ENOENT, name)
            directory = self.dir_fd(parent)
            return os.stat(name, dir_fd=directory.fd, follow_symlinks=False)

    def show_git_file(self, content: bytes, mtime_ns: int, before_read: Callable[[], bool] | None = None) -> Node:
        """Show programs a file `.git` in the root, which is in no layer and which nothing can change or remove.

        Only `find` and `readdir_shown` show it: operations by path and captures do not. Called before the tree is used;
        `MergedTree.forget_all` removes it. Takes the lock.

        `before_read` is called without the lock before each read; it may take long, and fails the read by raising.
        False if the next read has to ask again, also of a kernel that has the content.
        """
        with self.lock:
            self.before_git = before_read
            node = Node(stat.S_IFREG, self.root, b".git", FixedFile(content, mtime_ns), upper=False)
            self.git_file = self.inodes.add(node)
            return node

    # --- paths -----------------------------------------------------------------------------------------------

    def path_of(self, node: Node) -> TreePath:
        """Give the path of a node; one of them, if it has several names. Takes the lock."""
        with self.lock:
            return self.path_in(node.parent, node.name) if node is not self.root else ROOT

    def paths_of(self, node: Node) -> list[TreePath]:
        """Give all paths of a node, also under names without a lookup so far; none for a file without a name.

        Takes the lock.

        The upper layer is searched for names of a file that are not known, which costs a stat of each entry there.

        Raises:
            OSError: If not all of it can be read.
        """
        with self.lock:
            if node is self.root:
                return [ROOT]
            if node.upper and not node.is_dir and len(self._named(node)) < node.links:
                self._find_names(node)
            return [self.path_in(parent, name) for parent, name in self._named(node)]

    def _named(self, node: Node) -> list[tuple[Node, bytes]]:
        return [(parent, name) for parent, name in node.names() if parent is not self.attic]

    def _find_names(self, node: Node) -> None:
        """Let all names of a file find its node."""
        if node.disk_key is None:
            raise fail(errno.ESTALE, node.name)
        for path in self.upper.find_names(*node.disk_key):
            here: Node | None = self.root
            for name in path.split(b"/"):
                here = None if here is None else self.child(here, name)
        node.links = len(self._named(node))

    def path_in(self, parent: Node | None, name: bytes) -> TreePath:
        """Give the path of a name in a directory."""
        parts = [name]
        while parent is not self.root:
            if parent is None:
                raise fail(errno.ENOENT, name)
            parts.append(parent.name)
            parent = parent.parent
        parts.reverse()
        return TreePath(b"/".join(parts))

    def remember_path(self, path: bytes, node: Node) -> None:
        """Put a path without symbolic links into the cache."""
        if len(self.paths) >= _PATHS_KEPT:
            self.forget_paths()
        self.paths[path] = node

    def forget_path(self, parent: Node, name: bytes) -> None:
        """Drop the path of a name from the cache."""
        paths = self.paths
        if len(paths) > 1:
            try:
                paths.pop(
                    join(self.path_in(parent.parent, parent.name), name) if parent is not self.root else name, None
                )
            except FileNotFoundError:
                self.forget_paths()

    def forget_paths(self) -> None:
        """Drop all paths but that of the root from the cache."""
        self.paths.clear()
        self.paths[b""] = self.root

    # --- descriptors -----------------------------------------------------------------------------------------

    def dir_fd(self, node: Node) -> Descriptor:
        """Give the descriptor of a directory of the upper layer.

        It stays open while the caller holds it: assign it to a variable before using its number, because a call of
        another tree may empty the pool.
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
            found = self.upper.open_child(found.fd, child.name)
            POOL.keep(child, found)
        return found

    def target(self, node: Node) -> tuple[Descriptor, Target]:
        """Name a node of the upper layer for calls that take a path or a descriptor, and give what keeps that valid."""
        if node.held is not None:
            return node.held, entry_of(node.held.fd, b".") if node.is_dir else node.held.fd
        found = node.descriptor
        if found is not None and node.kind == stat.S_IFREG:
            return found, found.fd
        if node.parent is None:
            if node is not self.root:
                raise fail(errno.ENOENT, node.name)
            return self.upper.root, entry_of(self.upper.root.fd, b".")
        directory = self.dir_fd(node.parent)
        return directory, entry_of(directory.fd, node.name)

    def data_fd(self, node: Node, *, write: bool, is_open: bool = False) -> Descriptor:
        """Give a descriptor of the data of a file of the upper layer, or of a hidden copy of a lower one.

        `is_open`: the caller has the file open already, so that its mode is not checked again.
        """
        if node.held is not None:
            return node.held
        found = node.descriptor
        if found is not None and (found.writable or not write):
            found.used = True
            return found
        if node.parent is None:
            raise fail(errno.ENOENT, node.name)
        directory = self.dir_fd(node.parent)
        writable = write or not self.upper.copies_on_opening  # one descriptor serves both where that costs nothing
        try:
            found = self.upper.hold(
                open_at(directory.fd, node.name, (os.O_RDWR if writable else os.O_RDONLY) | os.O_NONBLOCK)
            )
            found.writable = writable
        except OSError as error:
            if error.errno not in REFUSED_WRITING or (write and not is_open):
                raise
            flags = (os.O_RDWR if write else os.O_RDONLY) | os.O_NONBLOCK
            found = self.upper.hold((reopen_at if is_open else open_at)(directory.fd, node.name, flags))
            found.writable = write
        POOL.keep(node, found)
        return found

    # --- directories -----------------------------------------------------------------------------------------

    def upper_names(self, node: Node) -> dict[bytes, int]:
        """List what a directory has in the upper layer: type bits by name, 0 for a whiteout."""
        if not node.upper:
            return {}
        found = node.listing
        if found is None:
            directory = self.dir_fd(node)
            found = self.upper.list_names(directory.fd, xattr_whiteouts=node.xattr_whiteouts)
            node.listing = found
        return found

    def merged_names(self, node: Node) -> Iterator[tuple[bytes, int, LowerEntry | None]]:
        """List what a directory shows: names, type bits, and the entry of the lower layer if it shows that one."""
        if node.kind != stat.S_IFDIR:
            raise fail(errno.ENOTDIR, node.name)
        if self.is_gone(node):
            return
        above = self.upper_names(node)
        is_root = node is self.root
        for name, kind in above.items():
            if kind and not (is_root and self._is_hidden(name)):
                yield name, kind, None
        if node.lower is not None:
            for name, entry in self.lower.children(node.lower).items():
                if name not in above and not (is_root and self._is_hidden(name)):
                    yield name, entry.mode & TYPE, entry

    def _is_hidden(self, name: bytes) -> bool:
        return name == b".git" or (self._hides is not None and self._hides(name))

    def readdir(self, node: Node) -> list[tuple[bytes, int]]:
        """List the names of a directory with their type bits, without `.` and `..`, in no order. Takes the lock."""
        with self.lock:
            return [(name, kind) for name, kind, _ in self.merged_names(node)]

    def readdir_shown(self, node: Node) -> list[tuple[bytes, int]]:
        """List the names of a directory as programs see it: with the `.git` of `show_git_file`. Takes the lock."""
        with self.lock:
            found = self.readdir(node)
            if node is self.root and self.git_file is not None:
                found.append((b".git", stat.S_IFREG))
            return found

    def is_empty(self, node: Node) -> bool:
        """Tell whether a directory shows no entry. Takes the lock."""
        with self.lock:
            return next(self.merged_names(node), None) is None

    def bound_below(self, node: Node) -> Bound:
        """Begin a walk below a directory, which ends with TooManyFiles where that is a tree bomb."""
        lower = node.lower
        return Bound(self.lower.source) if lower is None else self.lower.bound_below(lower)
