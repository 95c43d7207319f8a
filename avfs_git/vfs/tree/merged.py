"""A workspace as a filesystem: the one object that the rest of avfs uses, made of the parts in this package.

Decided here: which parts a tree has, and how a path leads to a node: symbolic links are followed inside the workspace
and nowhere else.

    Nodes       which entry shows under which name; numbers, descriptors
    Pins        what stays usable without a name, and after the death of a process
    Changes     tells observers what changed
    Steps       what a change does on disk: copy-up, removing, renaming
    Contents    reading and writing files
    Attributes  stat, extended attributes, targets of links
    Making      new entries
    Namespace   removing and renaming
    Writing     replacing whole files

The server calls a tree by node, the library's file operations by path. Any number of threads may: one lock, `guard`,
guards the nodes. A caller that needs several calls to be one step takes it first. An operation fails as the system call
of its name does, with the OSError of that errno.
"""

from __future__ import annotations

import contextlib
import errno
import stat
from collections.abc import Callable, Collection, Sequence

from avfs_git.errors import PathEscapes
from avfs_git.paths import TreePath
from avfs_git.vfs.errnos import fail
from avfs_git.vfs.layer.blobcache import BlobCache
from avfs_git.vfs.layer.lower import LowerTree
from avfs_git.vfs.layer.upper import UpperLayer
from avfs_git.vfs.tree.attributes import Attributes
from avfs_git.vfs.tree.changes import Changes
from avfs_git.vfs.tree.contents import Contents
from avfs_git.vfs.tree.inodes import ROOT_INO, Node
from avfs_git.vfs.tree.making import Making
from avfs_git.vfs.tree.namespace import Namespace
from avfs_git.vfs.tree.nodes import Nodes
from avfs_git.vfs.tree.pins import Pins
from avfs_git.vfs.tree.steps import Steps, UpperSteps
from avfs_git.vfs.tree.writing import Content, Prepared, Writing
from avfs_git.vfs.values import Attr

__all__ = ["Attr", "MergedTree", "Node"]

MAX_SYMLINKS = 40  # as Linux counts them: path_resolution(7)

Found = tuple[Node, bytes, Node | None]
"""The directory, the name in it, and its node."""
MakeSteps = Callable[[Nodes, Pins], Steps]


class MergedTree:
    """A tree: an upper layer over a lower one.

    Attributes:
        nodes, pins, changes, steps, contents, attributes, making, namespace, writing: Its parts, in the order of the
        table above.
        guard: The lock of the tree.
        is_shared: Whether programs use the tree, so that nothing slow is waited for with the lock held.
        list_covered: Lists the paths where the kernel shows another mount, which removing the path would detach.
        may_change: Whether anything in it can change.
    """

    def __init__(
        self,
        lower: LowerTree,
        upper: UpperLayer,
        *,
        cache: BlobCache | None = None,
        first_ino: int = ROOT_INO,
        hides: Callable[[bytes], bool] | None = None,
        steps: MakeSteps = UpperSteps,
        may_change: bool = True,
    ) -> None:
        """Join two layers.

        `hides` tells the names at the root that are in no listing. Without a `cache`, pieces of big lower files are
        read from hidden copies in `upper`.
        """
        self.is_shared = False
        self.list_covered: Callable[[], Collection[TreePath]] = tuple
        self.may_change = may_change
        self.lower = lower
        self.upper = upper
        self.nodes = nodes = Nodes(lower, upper, has_upper=may_change, hides=hides, first_ino=first_ino)
        self.guard = self._lock = nodes.lock
        self._child = nodes.child
        self._remember_path = nodes.remember_path
        self._paths = nodes.paths
        self.pins = pins = Pins(nodes)
        self.changes = changes = Changes(nodes)
        self.steps = way = steps(nodes, pins)
        self.contents = contents = Contents(nodes, changes, way, cache)
        self.attributes = attributes = Attributes(nodes, pins, changes, way, contents)
        self.making = making = Making(nodes, pins, changes, way)
        self.namespace = namespace = Namespace(nodes, pins, changes, way, making)
        self.writing = Writing(nodes, pins, changes, way, contents, attributes, making, namespace)

    @property
    def root(self) -> Node:
        """The root directory."""
        return self.nodes.root

    def forget_all(self) -> None:
        """Drop every node and descriptor, because another process may have changed the upper layer.

        A node that a caller still holds is dead afterwards: every use of it raises ENOENT.
        """
        with self._lock:
            self.close()
            self.upper.reopen()
            self.nodes.start()
            self.pins.start()
            self.changes.report_anew()

    def close(self) -> None:
        """Drop every node and descriptor for good."""
        with self._lock:
            self.pins.close()
            self.nodes.close()

    # --- paths ---------------------------------------------------------------------------------------------

    def resolve(self, path: TreePath, *, follow_last: bool = True) -> Node:
        """Find the node at a path.

        Raises:
            FileNotFoundError: If nothing is there.
            NotADirectoryError: If something on the way is no directory.
            PathEscapes: If a symbolic link leads out of the workspace.
            OSError: ELOOP after 40 symbolic links.
        """
        node = self._paths.get(path)
        if node is not None and not (follow_last and node.kind == stat.S_IFLNK):
            return node
        with self._lock:
            found = self._walk(path, follow_last=follow_last)[2]
        if found is None:
            raise fail(errno.ENOENT, path)
        return found

    def locate(self, path: TreePath, *, follow_last: bool = True) -> Found:
        """Find the directory and the name that a path means, and the node there, if any.

        The arguments and errors are those of `resolve`.
        """
        with self._lock:
            return self._walk(path, follow_last=follow_last)

    def _walk(self, path: TreePath, *, follow_last: bool) -> Found:
        above, _, last = path.rpartition(b"/")
        start = self._paths.get(above)
        if start is not None and start.kind == stat.S_IFDIR and last:
            # The directory is known, and by a path without symbolic links: only the last name is new.
            found = self._child(start, last)
            if found is None or not (follow_last and found.kind == stat.S_IFLNK):
                if found is not None:
                    self._remember_path(path, found)
                return start, last, found
            return self._walk_slowly(path, start, [last], follow_last=follow_last)
        return self._walk_slowly(path, self.nodes.root, path.split(b"/")[::-1], follow_last=follow_last)

    def _walk_slowly(self, path: TreePath, start: Node, pending: list[bytes], *, follow_last: bool) -> Found:
        parent, name, here = start.parent or start, start.name, start
        links = 0
        while pending:
            part = pending.pop()
            if here.kind != stat.S_IFDIR:
                raise fail(errno.ENOTDIR, path)
            if part in (b"", b"."):
                continue
            if part == b"..":
                if here is self.nodes.root:
                    raise PathEscapes(path)
                if here.parent is None:
                    raise fail(errno.ENOENT, path)
                here = here.parent
                parent, name = here.parent or here, here.name
                continue
            parent, name = here, part
            found = self._child(parent, name)
            if found is None:
                if any(left not in (b"", b".") for left in pending):
                    raise fail(errno.ENOENT, path)
                if not links:
                    self._remember_path(path.rpartition(b"/")[0], parent)
                return parent, name, None
            if found.kind == stat.S_IFLNK and (pending or follow_last):
                links += 1
                if links > MAX_SYMLINKS:
                    raise fail(errno.ELOOP, path)
                pending += self._link_parts(path, found)
                parent, name = here.parent or here, here.name  # where it leads if no name follows
                continue
            here = found
        if not links:
            self._remember_path(path, here)
            if here.parent is not None:
                self._remember_path(path.rpartition(b"/")[0], parent)
        return parent, name, here  # a file with several names was found by this one

    def _link_parts(self, path: TreePath, link: Node) -> list[bytes]:
        target = self.attributes.readlink(link)
        if target.startswith(b"/"):
            raise PathEscapes(path)
        if not target:
            raise fail(errno.ENOENT, path)
        return target.split(b"/")[::-1]

    # --- reading -------------------------------------------------------------------------------------------

    def attr(self, path: TreePath) -> Attr:
        """Give the attributes of the entry at a path; symbolic links are not followed."""
        with self._lock:
            return self.attributes.getattr(self.resolve(path, follow_last=False))

    def read_file(self, path: TreePath) -> bytes:
        """Read a whole file."""
        with self._lock:
            node = self._paths.get(path)
            if node is None or node.kind == stat.S_IFLNK:
                node = self.resolve(path)
            if node.upper or node.kind != stat.S_IFREG or node.lower is None:
                return self.contents.read_all(node)
            entry = node.lower
        return self.lower.read(entry)

    # --- writing whole files -------------------------------------------------------------------------------

    def write_file(self, path: TreePath, data: Content, *, mode: int | None = None) -> Node:
        """Make a file hold exactly this, whether or not it is there; the directory must be.

        Owner, mode and extended attributes of an old file stay, and the times of its directory.

        A symbolic link at `path` is followed. `data` is whole, in pieces, or from `writing.collected`. Writing it
        blocks all other threads, unless the tree is shared: then a large one is written first, and only gets its name
        while they wait. Without a `mode` the old one stays, or the umask decides.
        """
        if self.is_shared and not isinstance(data, Prepared):
            with self.writing.collected(data) as whole, self._lock:
                return self.writing.write(*self._walk(path, follow_last=True), whole, mode)
        with self._lock:
            return self.writing.write(*self._walk(path, follow_last=True), data, mode)

    # --- names by path -------------------------------------------------------------------------------------

    def make_dir(self, path: TreePath, *, parents: bool = False, mode: int | None = None) -> Node:
        """Make a directory.

        With `parents`, make those above it that are missing, and let it be there already.
        """
        with self._lock:
            if not parents:
                parent, name, found = self._walk(path, follow_last=False)
                if found is not None:
                    raise fail(errno.EEXIST, path)
                return self.making.mkdir(parent, name, mode)
            try:
                there = self.resolve(path)
            except FileNotFoundError:
                pass
            else:
                if not there.is_dir:
                    raise fail(errno.EEXIST, path)
                return there
            parts: Sequence[bytes] = path.split(b"/")
            first = 1
            with contextlib.suppress(FileNotFoundError):  # mostly all but the last are there
                self.resolve(TreePath(path.rpartition(b"/")[0]))
                first = len(parts)
            for count in range(first, len(parts) + 1):
                here = TreePath(b"/".join(parts[:count]))
                parent, name, found = self._walk(here, follow_last=True)
                if found is None:
                    found = self.making.mkdir(parent, name, mode if count == len(parts) else None)
                    # No symbolic link leads to the parent: the next directory's walk begins here.
                    if self._paths.get(here.rpartition(b"/")[0]) is parent:
                        self._remember_path(here, found)
                elif not found.is_dir:
                    raise fail(errno.ENOTDIR if count < len(parts) else errno.EEXIST, path)
                there = found
            return there

    def is_covered(self, path: TreePath) -> bool:
        """Tell whether another mount covers a path or a path below it."""
        return any(place == path or place.startswith(path + b"/") for place in self.list_covered())

    def remove(self, path: TreePath, *, recursive: bool = False) -> None:
        """Remove the entry at a path; a directory must be empty unless `recursive`. A symbolic link is not followed."""
        with self._lock:
            parent, name, found = self._walk(path, follow_last=False)
            if found is None:
                raise fail(errno.ENOENT, path)
            if found is self.nodes.root or (found.is_dir and self.is_covered(path)):
                raise fail(errno.EBUSY, path)
            if not found.is_dir:
                self.namespace.unlink(parent, name)
            elif recursive:
                self.namespace.remove_tree(parent, name)
            else:
                self.namespace.rmdir(parent, name)

    def move(self, old: TreePath, new: TreePath, *, flags: int = 0) -> None:
        """Rename the entry at a path, see `rename`; symbolic links at the ends are not followed."""
        with self._lock:
            parent, name, found = self._walk(old, follow_last=False)
            if found is None:
                raise fail(errno.ENOENT, old)
            new_parent, new_name, target = self._walk(new, follow_last=False)
            if found is self.nodes.root or target is self.nodes.root or (found.is_dir and self.is_covered(old)):
                raise fail(errno.EBUSY, old)
            self.namespace.rename(parent, name, new_parent, new_name, flags=flags)

    def make_symlink(self, path: TreePath, target: bytes) -> Node:
        """Make a symbolic link at a path."""
        with self._lock:
            parent, name, found = self._walk(path, follow_last=False)
            if found is not None:
                raise fail(errno.EEXIST, path)
            return self.making.symlink(parent, name, target)

    def make_link(self, path: TreePath, new: TreePath) -> Node:
        """Give the file at a path one more name."""
        with self._lock:
            node = self.resolve(path, follow_last=False)
            parent, name, found = self._walk(new, follow_last=False)
            if found is not None:
                raise fail(errno.EEXIST, new)
            return self.making.link(node, parent, name)
