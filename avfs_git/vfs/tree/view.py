"""The merged view: what a workspace shows, its upper layer over its lower one.

Decided here: which entry is visible under which name, and what its attributes are. `vfs.tree.pins` adds what stays usable
without a name, `vfs.tree.content` reading files, `vfs.tree.copyup` changing what is visible, `vfs.tree.making` what is new,
`vfs.tree.namespace` removing and renaming, `vfs.tree.merged` paths; `MergedTree` there is what everybody uses.

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
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import NamedTuple

from avfs_git.errors import ObjectCorrupt, ObjectMissing
from avfs_git.gitstore.bounds import Bound
from avfs_git.host.files.beneath import POOL, Descriptor, open_at, open_dir, open_judged_at
from avfs_git.host.files.xattrs import Target, entry_of
from avfs_git.host.locks.locks import REFUSED_WRITING
from avfs_git.paths import NAME_MAX, ROOT, TreePath, join
from avfs_git.vfs.layer.lower import FixedFile, LowerEntry, LowerTree
from avfs_git.vfs.layer.marks import is_whiteout, is_xattr_whiteout
from avfs_git.vfs.layer.upper import UpperLayer
from avfs_git.vfs.tree.blobcache import BlobCache
from avfs_git.vfs.tree.inodes import ROOT_INO, InodeTable, Node

TYPE = 0o170000
LOWER_DIR_SIZE = 4096
ACCESS_LISTS = b"system.posix_acl_"
"""How the names of access control lists begin."""
_LABEL = b"security.selinux"
_NOTHING: Mapping[bytes, LowerEntry] = {}

OnChange = Callable[[TreePath, bool], None]
"""Told each path that changed; with True, everything below it may have changed, too."""
OnName = Callable[["Node", bytes], None]
"""Told each name in a directory that means something else now, or nothing."""


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
    problem: str | None = None
    """Why its content cannot be read; then its size is not known, and 0."""


def fail(number: int, name: bytes = b"") -> OSError:
    """Make the error that the system would raise; Python picks the subclass by the number."""
    return OSError(number, os.strerror(number), name)


class MergedView:
    """Nodes of the merged view, their directories and attributes."""

    may_change = True
    """Whether anything in it can become another."""

    def __init__(
        self,
        lower: LowerTree,
        upper: UpperLayer,
        *,
        reserve_git: bool = True,
        on_change: OnChange | None = None,
        cache: BlobCache | None = None,
        first_ino: int = ROOT_INO,
    ) -> None:
        """Join two layers.

        Args:
            lower: What the workspace began with.
            upper: What changed since.
            reserve_git: Hide `.git` at the root.
            on_change: Told each path that changes.
            cache: Where big files of the lower layer are read from in pieces; hidden copies in `upper` if not given.
            first_ino: The number of the root; those after it follow.
        """
        self.lower = lower
        self.upper = upper
        self._on_change = on_change
        self._reported: Node | None = None
        """The node that was reported last, under all names that it still has."""
        self.on_name: OnName | None = None
        self.on_lost: Callable[[Node], None] | None = None
        self.list_covered: Callable[[], Collection[TreePath]] = tuple
        """Lists the paths at which the kernel shows something else: removing one would detach that mount without a word."""
        self.is_shared = False
        """Whether programs use it meanwhile, so that nothing that may take long is waited for with the lock held."""
        self._reserve_git = reserve_git
        self._lock = threading.RLock()
        self._uid = os.getuid()
        self._gid = os.getgid()
        self.owner = (self._uid, self._gid)
        """User and group of what the lower layer shows."""
        self._paths: dict[bytes, Node] = {}
        self.inodes = InodeTable(first_ino)
        self._cache = cache
        self._recent: OrderedDict[LowerEntry, bytes] = OrderedDict()
        self._fetching = threading.Lock()
        self.attic = Node(stat.S_IFDIR, None, b"", None, upper=True)
        """In place of the directory of a file that has a name in `work` only, see `vfs.tree.pins`."""
        self.git_file: Node | None = None
        """The `.git` that programs find in the root, see `show_git_file`."""
        self._before_git: Callable[[], None] | None = None
        self._start()

    def _start(self) -> None:
        """Begin with nothing known but the root, at first and after `close`."""
        self._make_root()

    def _make_root(self) -> None:
        root = Node(stat.S_IFDIR, None, b"", self.lower.root, upper=True)
        root.descriptor = self.upper.root
        # An opaque root means nothing to the kernel, which always stacks the layers there.
        root.xattr_whiteouts = self.upper.read_dir_marks(entry_of(self.upper.root.fd, b"."), b"/").xattr_whiteouts
        self.root = self.inodes.add(root)
        self._paths = {b"": root}
        self.attic.descriptor = self.upper.work

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
            self.git_file = None
            self._reported = None

    # --- nodes ---------------------------------------------------------------------------------------------

    @property
    def guard(self) -> threading.RLock:
        """The lock of the nodes, for several calls that must be one step; whoever holds it may call anything here."""
        return self._lock

    def shows(self, parent: Node, name: bytes) -> bool:
        """Look at the disk whether there is an entry of a name, without making a node of it."""
        with self._lock:
            try:
                found = self.stat_upper(parent, name)
            except FileNotFoundError:
                return self._lower_child(parent, name) is not None
            if is_whiteout(found):
                return False
            directory = self._dir_fd(parent)
            return not (parent.xattr_whiteouts and is_xattr_whiteout(found, entry_of(directory.fd, name)))

    def stat_upper(self, parent: Node, name: bytes) -> os.stat_result:
        """Look at the disk what the upper layer has under a name.

        Raises:
            FileNotFoundError: If there is nothing.
        """
        with self._lock:
            if not parent.upper:
                raise fail(errno.ENOENT, name)
            directory = self._dir_fd(parent)
            return os.stat(name, dir_fd=directory.fd, follow_symlinks=False)

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
        """Find an entry of a directory as programs see it; None if there is none.

        Raises:
            NotADirectoryError: If `parent` is no directory.
        """
        with self._lock:
            found = self._child(parent, name)
            return self.git_file if found is None and self._is_reserved(parent, name) else found

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
        return self._add(Node(entry.mode & TYPE, parent, name, entry, upper=False))

    def _add(self, node: Node) -> Node:
        assert node.parent is not None  # noqa: S101 - only the root has none, and it is not added here
        node.parent.children[node.name] = node
        return self.inodes.add(node)

    def lower_children(self, node: Node) -> Mapping[bytes, LowerEntry]:
        """List what a directory shows of the lower layer, if that is all that it shows; nothing else. Called with the guard."""
        below = node.lower
        if below is None or node.upper or node.kind != stat.S_IFDIR or node is self.root or self._is_gone(node):
            return _NOTHING
        return self.lower.children(below)

    def _adopt(self, parent: Node, name: bytes, status: os.stat_result) -> Node | None:
        """Make the node of what stands in the upper layer; None if that is a whiteout."""
        if is_whiteout(status):
            return None
        directory = self._dir_fd(parent)
        place = entry_of(directory.fd, name)
        kind = status.st_mode & TYPE
        if kind == stat.S_IFDIR:
            node = Node(kind, parent, name, None, upper=True)
            marks = self.upper.read_dir_marks(place, self._path_in(parent, name))
            node.xattr_whiteouts = marks.xattr_whiteouts
            if not marks.opaque:
                below = self._lower_child(parent, name)
                node.lower = below if below is not None and below.is_dir else None
            return self._add(node)
        if parent.xattr_whiteouts and is_xattr_whiteout(status, place):
            return None
        # Even if this is its only name now: another one that is gone may have led to a node that is still in use.
        known = self.inodes.find_on_disk((status.st_dev, status.st_ino))
        if known is None and status.st_nlink > 1 and self._recall_links():
            known = parent.children.get(name) or self.inodes.find_on_disk((status.st_dev, status.st_ino))
            if known is not None and parent.children.get(name) is known:
                return known
        if known is not None:
            self._add_name(known, parent, name)
            return known
        node = Node(kind, parent, name, None, upper=True)
        node.has_xattrs = kind != stat.S_IFLNK and self.upper.check_file_marks(place, self._path_in(parent, name))
        node.links = status.st_nlink
        if status.st_nlink > 1:
            self.inodes.link_to_disk(node, (status.st_dev, status.st_ino))
        return self._add(node)

    def _add_name(self, node: Node, parent: Node, name: bytes) -> None:
        above, old = node.parent, node.name
        if above is None or above is self.attic:
            node.parent, node.name = parent, name
            node.held = None
        else:
            node.aliases = [*(node.aliases or ()), (parent, name)]
        parent.children[name] = node
        self._note(node)
        if above is self.attic:  # last, so that a process after this one finds it in one of the two places
            self._leave_attic(old)

    def _leave_attic(self, name: bytes) -> None:
        try:
            os.unlink(name, dir_fd=self.upper.work.fd)
        except OSError:  # whoever cleans `work` tries again
            pass

    def _note(self, node: Node) -> None:
        """Hear that a node stands elsewhere now; `vfs.tree.pins` writes it down."""

    def _recall_links(self) -> bool:
        """Make nodes of what may have several names, before one of these is taken for a file of its own; whether any was made."""
        return False

    def _is_gone(self, node: Node) -> bool:
        """Whether a node has no name any more, so that a directory shows nothing and takes nothing."""
        return node.parent is None and node is not self.root

    def _is_reserved(self, parent: Node, name: bytes) -> bool:
        return parent is self.root and name == b".git" and self._reserve_git

    def _lower_child(self, parent: Node, name: bytes) -> LowerEntry | None:
        below = parent.lower
        return None if below is None else self.lower.children(below).get(name)

    def show_git_file(self, content: bytes, mtime_ns: int, before_read: Callable[[], None] | None = None) -> Node:
        """Show programs a file `.git` in the root, which is in no layer and which nothing can change or remove.

        It is found by `find` and listed by `readdir_shown` only: for whoever works on the workspace by path, captures it
        or lists it, it is not there. To be called when nobody uses the tree yet; `forget_all` takes it away.

        Args:
            content: What it holds.
            mtime_ns: Its times.
            before_read: Called each time before it is read, without the lock; may take long, and fails the read by raising.
        """
        with self._lock:
            self._before_git = before_read
            node = Node(stat.S_IFREG, self.root, b".git", FixedFile(content, mtime_ns), upper=False)
            self.git_file = self.inodes.add(node)
            return node

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

    def _data_fd(self, node: Node, *, write: bool, judged: bool = False) -> Descriptor:
        """Give a descriptor of the data of a file of the upper layer, or of a hidden copy of a lower one.

        Args:
            node: Which.
            write: Whether it is to be written to.
            judged: It is for somebody who has the file open already: its mode is not asked again.
        """
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
        except OSError as error:
            if error.errno not in REFUSED_WRITING or (write and not judged):
                raise
            flags = (os.O_RDWR if write else os.O_RDONLY) | os.O_NONBLOCK
            found = Descriptor((open_judged_at if judged else open_at)(directory.fd, node.name, flags))
            found.writable = write
        POOL.keep(node, found)
        return found

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
                    yield name, entry.mode & TYPE, entry

    def readdir(self, node: Node) -> list[tuple[bytes, int]]:
        """List the names of a directory with their type bits, without `.` and `..`, in no order."""
        with self._lock:
            return [(name, kind) for name, kind, _ in self._merged_names(node)]

    def readdir_shown(self, node: Node) -> list[tuple[bytes, int]]:
        """List the names of a directory as programs see it: with the `.git` of `show_git_file`."""
        with self._lock:
            found = self.readdir(node)
            if node is self.root and self.git_file is not None:
                found.append((b".git", stat.S_IFREG))
            return found

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
                    try:
                        found.append(Listed(name, self._lower_attr(entry, ino), entry))
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

    def bound_below(self, node: Node) -> Bound:
        """Begin a walk through all that is below a directory, which ends with TooManyFiles where that is a tree bomb."""
        lower = node.lower
        return Bound(self.lower.source) if lower is None else self.lower.bound_below(lower)

    def is_empty(self, node: Node) -> bool:
        """Tell whether a directory shows no entry."""
        with self._lock:
            return next(self._merged_names(node), None) is None

    # --- attributes ----------------------------------------------------------------------------------------

    def statvfs(self) -> os.statvfs_result:
        """Tell the sizes of the disk that changes go to."""
        return os.fstatvfs(self.upper.root.fd)

    def getattr(self, node: Node) -> Attr:
        """Tell the attributes of a node."""
        with self._lock:
            if not node.upper:
                entry = node.lower
                if entry is None:
                    raise fail(errno.ENOENT, node.name)
                attr = self._lower_attr(entry, node.ino)
                return attr if node.parent is not None or node is self.root else attr._replace(nlink=0)
            if node.held is not None:
                return attr_of(node.ino, os.stat(node.held.fd))
            if node.is_dir:
                directory = self._dir_fd(node)
                attr = attr_of(node.ino, os.stat(directory.fd))
                # The number of sub-directories of both layers is not known; 1 says so, as overlayfs does.
                return attr if node.lower is None else attr._replace(nlink=1)
            if node.parent is None:
                raise fail(errno.ENOENT, node.name)
            data = node.descriptor
            if data is not None and node.parent is not self.attic:  # half as dear as by the name
                found = os.stat(data.fd)
                if found.st_nlink:  # else somebody removed it behind our back: by its name there is nothing, or another one
                    return attr_of(node.ino, found)
            directory = self._dir_fd(node.parent)
            attr = attr_of(node.ino, os.stat(node.name, dir_fd=directory.fd, follow_symlinks=False))
            return attr if node.parent is not self.attic else attr._replace(nlink=attr.nlink - 1)

    def _lower_attr(self, entry: LowerEntry, ino: int) -> Attr:
        return self._attr_of_lower(entry, ino, LOWER_DIR_SIZE if entry.is_dir else self.lower.size_of(entry))

    def _attr_of_lower(self, entry: LowerEntry, ino: int, size: int) -> Attr:
        mtime_ns = entry.mtime_ns
        times = (mtime_ns, mtime_ns, mtime_ns)
        return _new(Attr, (ino, entry.mode, 1, self._uid, self._gid, 0, size, (size + 511) >> 9, *times))

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
            found = self.upper.read_user_xattrs(target, node.name)
            del keep
            return found

    def get_xattr(self, node: Node, name: bytes) -> bytes:
        """Read an extended attribute.

        Raises:
            OSError: If there is none of that name: see `missing_xattr`.
        """
        found = self.read_xattrs(node).get(name)
        if found is None:
            raise fail(missing_xattr(name), name)
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

    @property
    def on_change(self) -> OnChange | None:
        """Who is told each path that changes."""
        return self._on_change

    @on_change.setter
    def on_change(self, on_change: OnChange | None) -> None:
        self._on_change = on_change
        self._reported = None

    def report_anew(self) -> None:
        """Report the next change of a node also where it is the one that was reported last.

        Whoever gathers what is reported calls this, with the guard, when it begins to gather anew.
        """
        self._reported = None

    def _report(self, node: Node) -> None:
        """Report that a node changed, under each of its names.

        A file is mostly changed many times in a row (each WRITE, each SETATTR of `tar`), so one that was reported last is not
        reported again. Somebody who watches one thread's changes (`on_name`) is told of each.
        """
        report = self._on_change
        if report is None or (node is self._reported and self.on_name is None):
            return
        self._reported = None
        if node.parent is self.attic:
            if node.links > 0:  # under names that nobody has looked up
                report(ROOT, True)
            return
        if node.aliases is None and node.parent is not None:  # as most are
            report(self._path_in(node.parent, node.name), False)
            count = 1
        else:
            count = 0
            for parent, name in node.names():
                count += 1
                report(self._path_in(parent, name), False)
        if node is self.root or (count and count < node.links):
            # It has names that nobody has looked up, so that the change shows at places not known.
            report(ROOT, node is not self.root)
        self._reported = node

    def _report_name(self, parent: Node, name: bytes, *, deep: bool = False) -> None:
        self._reported = None  # its path may be another one now
        if self.on_name is not None:
            self.on_name(parent, name)
        if self._on_change is not None:
            self._on_change(self._path_in(parent, name), deep)

    def _forget_path(self, parent: Node, name: bytes) -> None:
        paths = self._paths
        if len(paths) > 1:
            try:
                paths.pop(join(self._path_in(parent.parent, parent.name), name) if parent is not self.root else name, None)
            except FileNotFoundError:
                paths.clear()
                paths[b""] = self.root


def missing_xattr(name: bytes) -> int:
    """Choose the error for an attribute that is not there: ENODATA, or EOPNOTSUPP for what this tree is not made for.

    `ls -l` asks for a label and for a list of each file that it shows, until it hears that there are none on this file system.
    The kernel remembers nothing of that, so each costs a live tree a request.
    """
    return errno.EOPNOTSUPP if name == _LABEL or name.startswith(ACCESS_LISTS) else errno.ENODATA


def attr_of(ino: int, found: os.stat_result) -> Attr:
    """Describe a node by what the disk says of it."""
    return _new(
        Attr,
        (
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
        ),
    )


_new = tuple.__new__
"""Makes a named tuple in half the time that its own constructor takes: done for each look at a node."""
