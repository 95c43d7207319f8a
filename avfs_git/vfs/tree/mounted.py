"""Changing a workspace while the kernel's overlayfs shows it: as a program would, through the mounted directory.

Decided here: how files are changed in a tree of which overlayfs believes that nobody else touches its layers, and what becomes of
what a change takes away. `MountedTree` is a merged tree whose upper layer is the mounted directory and whose lower layer is
empty: whiteouts, opaque directories and copying up are the kernel's. Programs write at the same time, and nothing can make them
wait. So nothing here replaces or removes by accident what it has not looked at: a name is taken only if it is free, and what
stands in the way of a restore is moved out whole (`MountedLayer.taking`), for the caller to compare with what it has saved.

A rename cannot lead from one file system to another. So what is being made stands in a directory at the root of the tree itself,
which is there only while something is being changed. Its name (`is_staging`) is in no listing and no checkpoint; programs may see
it for a moment. It holds:

    plan        the paths that an operation may change, each with a NUL behind it, and before it `+` where all that is below it
                comes or goes with it, else `=`
    log         a line for each file that is taken out: its name in `taken`, the inode number of what takes its place, which has
                that name before, its path, and a NUL
    taken/      what was taken out; before that, what is to take its place
    avfs-…      what is being made

A kill leaves the directory; who recovers the workspace finds in it what the operation was at and what it had taken out.

One operation makes a layer, uses it in one thread with the workspace lock held, and closes it: while it is open, the mount is in
use.
"""

from __future__ import annotations

import errno
import os
import re
import stat
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

from avfs_git import faults
from avfs_git.errors import MountError, quote
from avfs_git.gitstore.source import ObjectSource
from avfs_git.host.files.beneath import (
    OPEN_DIR,
    OPEN_LIST,
    RENAME_EXCHANGE,
    RENAME_NOREPLACE,
    Descriptor,
    chmod_at,
    open_at,
    open_dir,
    remove_tree,
    rename_at,
)
from avfs_git.host.files.durable import write_all
from avfs_git.host.files.xattrs import Target, entry_of, list_xattrs, read_xattr, write_xattr
from avfs_git.paths import ROOT, TreePath, join, split
from avfs_git.patterns import compiled
from avfs_git.vfs.layer.layers import Directories
from avfs_git.vfs.layer.lower import LowerTree
from avfs_git.vfs.layer.marks import DirMarks
from avfs_git.vfs.layer.upper import UpperLayer, put_times
from avfs_git.vfs.scan.scan import STAGING, is_staging
from avfs_git.vfs.tree.inodes import Node
from avfs_git.vfs.tree.merged import MergedTree
from avfs_git.vfs.tree.nodes import Nodes
from avfs_git.vfs.tree.plan import Step
from avfs_git.vfs.tree.values import fail

_TAKEN, _LOG, _PLAN = b"taken", b"log", b"plan"
_LINE = compiled(rb"([0-9a-f]+) ([0-9a-f]+) ([^/].*)", re.DOTALL)
_TRIES = 100
"""So often a name may come and go under somebody who wants it."""


class Taken(NamedTuple):
    """What stood in the way of an operation, and is in the staging directory now."""

    name: bytes
    """Its name in the directory `taken`."""
    path: TreePath
    """Where it was."""


class Staging:
    """A directory in which things are made, at the root of a tree: what an operation has left in it."""

    def __init__(self, root: int, name: bytes) -> None:
        """Open it.

        Raises:
            OSError: If it is not there, or is no directory.
        """
        self.name = name
        self._held = open_dir(root, name)

    @property
    def fd(self) -> int:
        """The directory itself."""
        return self._held.fd

    def read_plan(self) -> dict[TreePath, bool]:
        """List the paths that the operation may have changed; whether what is below them has come or gone with them."""
        return {TreePath(line[1:]): line.startswith(b"+") for line in self._read(_PLAN).split(b"\0")[:-1]}

    def list_taken(self) -> list[Taken]:
        """List what was taken out and is here still."""
        lines = map(_LINE.fullmatch, self._read(_LOG).split(b"\0"))  # what else is there, some program has written
        return [Taken(line[1], TreePath(line[3])) for line in lines if line and self._is_taken(line[1], int(line[2], 16))]

    def open_taken(self) -> Descriptor:
        """Open the directory of what was taken out."""
        return open_dir(self.fd, _TAKEN)

    def _is_taken(self, name: bytes, made: int) -> bool:
        """Whether something has a name that is not what was made to take its place."""
        try:
            return os.stat(_TAKEN + b"/" + name, dir_fd=self.fd, follow_symlinks=False).st_ino != made
        except FileNotFoundError:
            return False

    def _read(self, name: bytes) -> bytes:
        try:
            fd = open_at(self.fd, name, os.O_RDONLY)
        except FileNotFoundError:
            return b""
        with os.fdopen(fd, "rb") as file:
            return file.read()


def list_staging(root: int) -> list[bytes]:
    """List the directories in which things are, or were, being made in a tree."""
    listing = open_at(root, b".", OPEN_LIST)
    try:
        with os.scandir(listing) as entries:
            found = [(os.fsencode(entry.name), entry) for entry in entries]
            return sorted(name for name, entry in found if is_staging(name) and entry.is_dir(follow_symlinks=False))
    finally:
        os.close(listing)


class _Work(Descriptor):
    """The staging directory of a layer, made when it is first asked for."""

    __slots__ = ("_layer", "_made")

    def __init__(self, layer: MountedLayer) -> None:
        self._made = -1
        super().__init__(-1)
        self._layer: MountedLayer | None = layer

    @property
    def fd(self) -> int:
        if self._made < 0 and self._layer is not None:
            self._made = self._layer.make_staging()
        return self._made

    @fd.setter
    def fd(self, fd: int) -> None:
        self._made = fd

    def leave(self) -> None:
        """Close it, without making it."""
        self._layer = None
        made, self._made = self._made, -1
        if made >= 0:
            os.close(made)

    def __del__(self, close: Callable[[int], None] = os.close) -> None:
        made, self._made = self._made, -1  # not by `fd`, which would make it to close it
        if made >= 0:
            close(made)


class MountedLayer(UpperLayer):
    """A mounted directory in place of an upper layer.

    Attributes:
        taking: The path whose entry is about to be replaced or removed, if that is to be taken out; None to do as programs do.
        taken: What was taken out, until the caller has looked at it (`forget_taken`).
        keeps: Whether the staging directory stays when the layer is closed, for somebody who looks into it.
    """

    def __init__(self, directory: Path, device: int, below: UpperLayer) -> None:
        """Open it.

        Args:
            directory: Where the workspace is mounted.
            device: The device number of the mount.
            below: The upper layer on disk, for files that nobody sees.

        Raises:
            MountError: If the workspace is not there any more.
        """
        try:
            root = Descriptor(os.open(directory, OPEN_DIR))
            found = os.fstat(root.fd).st_dev
        except OSError:
            found = None
        if found != device:
            raise MountError(
                f"the live tree is not at {quote(os.fspath(directory))} any more",
                hint="Unmount it with `avfs unmount`, or wait until the programs in it have ended.",
            )
        self.directory = directory
        self.work_dir = directory
        self.root = root
        self.work = _Work(self)
        self.taking: TreePath | None = None
        self.taken: list[Taken] = []
        self.keeps = False
        self._attic = {}
        self._below = below
        self._staging: bytes | None = None
        self._taken_dir: Descriptor | None = None
        self._log: Descriptor | None = None
        self._count = 0
        self._made: dict[bytes, int] = {}
        """The inode numbers of what took the places of what was taken out, by its name."""

    # --- the staging directory -------------------------------------------------------------------------------

    def make_staging(self) -> int:
        """Make the staging directory; `work` calls this when it is needed."""
        name = STAGING + os.urandom(8).hex().encode("ascii")
        before = os.stat(self.root.fd)
        os.mkdir(name, 0o700, dir_fd=self.root.fd)
        self._staging = name
        put_times(self.root.fd, before)
        return open_at(self.root.fd, name, OPEN_DIR)

    def write_plan(self, steps: Iterable[Step]) -> None:
        """Note what an operation is about to change."""
        fd = open_at(self.work.fd, _PLAN, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        try:
            write_all(fd, b"".join(b"%c%b\0" % (_sign(step), step.path) for step in steps))
        finally:
            os.close(fd)

    def open_staging(self) -> Staging | None:
        """Open the staging directory to look at what was taken out; None if there is none."""
        return None if self._staging is None else Staging(self.root.fd, self._staging)

    def forget_taken(self) -> None:
        """Count what was taken out as looked at: it goes when the layer is closed."""
        self.taken = []

    def close(self) -> None:
        """Give the mounted directory back, without the staging directory, unless something in it was not looked at."""
        self._taken_dir = self._log = None
        if isinstance(self.work, _Work):
            self.work.leave()
        if self._staging is not None and not self.taken and not self.keeps:
            remove_staging(self.root.fd, self._staging)
        # A descriptor of the mounted directory that stayed open would hold up the end of the mount for ever.
        self.root.close()

    # --- what differs from an upper layer ----------------------------------------------------------------------

    def reopen(self) -> None:
        """Do nothing: a layer lasts for one operation."""

    def make_hidden_file(self) -> int:
        """Open a file without a name, for reading and writing."""
        return self._below.make_hidden_file()

    def show_instead(self, temporary: bytes, directory: int, name: bytes) -> None:
        """Move what was made to a name in place of what has it, which is taken out if the caller is taking.

        Raises:
            IsADirectoryError: If a directory has the name, which stays.
        """
        if self.taking is None:
            rename_at(self.work.fd, temporary, directory, name)
            return
        taken = self._take_name(os.stat(temporary, dir_fd=self.work.fd, follow_symlinks=False).st_ino)
        inside = self._taken()
        rename_at(self.work.fd, temporary, inside, taken.name)
        for _ in range(_TRIES):
            try:
                rename_at(inside, taken.name, directory, name, RENAME_EXCHANGE)
            except FileNotFoundError:  # a program removed it just now
                try:
                    rename_at(inside, taken.name, directory, name, RENAME_NOREPLACE)
                except FileExistsError:
                    continue
                return
            self.taken.append(taken)
            faults.reach("mounted.exchanged")
            if stat.S_ISDIR(os.stat(taken.name, dir_fd=inside, follow_symlinks=False).st_mode):
                self.put_back(taken, directory, name)
                raise fail(errno.EISDIR, name)
            return
        raise fail(errno.EBUSY, name)

    def show_over_whiteout(self, temporary: bytes, directory: int, name: bytes) -> None:
        """Refuse, unless the caller is taking: no whiteout has the name, but a file that a program has just made."""
        if self.taking is None:
            raise fail(errno.EEXIST, name)
        self.show_instead(temporary, directory, name)

    def remove_file(self, directory: int, name: bytes) -> None:
        """Remove a name of anything but a directory, or take it out if the caller is taking.

        Raises:
            IsADirectoryError: If a directory has the name, which stays.
        """
        if self.taking is None:
            os.unlink(name, dir_fd=directory)
            return
        taken = self._take_name(0)
        inside = self._taken()
        rename_at(directory, name, inside, taken.name, RENAME_NOREPLACE)
        self.taken.append(taken)
        faults.reach("mounted.taken")
        if stat.S_ISDIR(os.stat(taken.name, dir_fd=inside, follow_symlinks=False).st_mode):
            rename_at(inside, taken.name, directory, name, RENAME_NOREPLACE)
            raise fail(errno.EISDIR, name)

    def put_back(self, taken: Taken, directory: int, name: bytes) -> None:
        """Let what was taken out and what has its place change places again; that is to be looked at, too."""
        rename_at(self._taken(), taken.name, directory, name, RENAME_EXCHANGE)

    def give_back(self, taken: Taken, directory: int, name: bytes) -> None:
        """Let what was taken out have its name again, unless a program has given that to something else by now."""
        inside = self._taken()
        try:
            rename_at(inside, taken.name, directory, name, RENAME_NOREPLACE)
        except FileExistsError:
            rename_at(inside, taken.name, directory, name, RENAME_EXCHANGE)
            if os.stat(taken.name, dir_fd=inside, follow_symlinks=False).st_ino != self._made.get(taken.name):
                rename_at(inside, taken.name, directory, name, RENAME_EXCHANGE)

    def set_opaque(self, target: Target) -> None:
        """Refuse: a name that cannot be made belongs to somebody else, as there are no whiteouts to see here."""
        raise fail(errno.EEXIST, target if isinstance(target, bytes) else b"")

    @staticmethod
    def read_dir_marks(target: Target, path: bytes) -> DirMarks:
        """Read no marks: overlayfs keeps them to itself, and what shows has been given by programs."""
        del target, path
        return DirMarks(opaque=False, xattr_whiteouts=False)

    @staticmethod
    def check_file_marks(target: Target, path: bytes) -> bool:
        """Tell whether a file carries any attribute."""
        del path
        return bool(list_xattrs(target))

    @staticmethod
    def read_user_xattrs(target: Target, path: bytes) -> dict[bytes, bytes]:
        """Read the attributes of an entry."""
        del path
        found = {name: read_xattr(target, name) for name in list_xattrs(target)}
        return {name: value for name, value in found.items() if value is not None}

    @staticmethod
    def store_xattr_name(name: bytes) -> bytes:
        """Give the name of an attribute as it is."""
        return name

    def write_user_xattrs(self, target: Target, attributes: Mapping[bytes, bytes] | Iterable[tuple[bytes, bytes]]) -> None:
        """Give an entry that is being made attributes; such as may not be set are left out."""
        for name, value in attributes.items() if isinstance(attributes, Mapping) else attributes:
            try:
                write_xattr(target, name, value)
            except OSError as error:
                if error.errno not in (errno.EPERM, errno.ENOTSUP, errno.EACCES):
                    raise

    def _taken(self) -> int:
        if self._taken_dir is None:
            os.mkdir(_TAKEN, 0o700, dir_fd=self.work.fd)
            self._taken_dir = open_dir(self.work.fd, _TAKEN)
        return self._taken_dir.fd

    def _take_name(self, made: int) -> Taken:
        """Choose a name for what is about to be taken out, and note what it stands for.

        `made` is the inode number of what takes its place, 0 for nothing.
        """
        assert self.taking is not None  # noqa: S101 - asked by the callers
        if self._log is None:
            self._log = Descriptor(open_at(self.work.fd, _LOG, os.O_WRONLY | os.O_CREAT | os.O_APPEND))
        taken = Taken(b"%x" % self._count, self.taking)
        self._made[taken.name] = made
        self._count += 1
        write_all(self._log.fd, b"%b %x %b\0" % (taken.name, made, taken.path))
        return taken


def _sign(step: Step) -> bytes:
    return b"+" if step.is_removal or step.before is None else b"="


def remove_staging(root: int, name: bytes) -> None:
    """Remove a staging directory with all that is in it, if that can be done; the times of the root stay."""
    before = os.stat(root)
    try:
        try:
            os.rmdir(name, dir_fd=root)  # mostly nothing is in it any more
        except OSError:
            remove_tree(root, name)
    except OSError:  # whoever recovers the workspace tries again
        return
    put_times(root, before)


class MountedTree:
    """A workspace that the kernel shows, changed through the directory where it shows it.

    Attributes:
        tree: The tree: a merged one over nothing, because the kernel has merged the layers already.
        upper: The mounted directory.
    """

    def __init__(self, source: ObjectSource, layer: MountedLayer) -> None:
        """Show it.

        Args:
            source: Any; nothing is read from it.
            layer: The mounted directory; it is closed with the tree.
        """
        self.upper = layer
        lower = LowerTree(source, None, None, default_mtime_ns=0)
        self.tree = MergedTree(lower, layer, hides=is_staging, steps=lambda nodes, _: MountedSteps(nodes, layer))

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
            remove_tree(directory.fd, name)
        except OSError as error:
            if error.errno != errno.EXDEV:
                raise
            _remove_deep(directory.fd, name)

    def move(
        self, parent: Node, name: bytes, node: Node, new_parent: Node, new_name: bytes, target: Node | None, *, hides: bool
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
        """Rename a directory of which overlayfs refuses that: made anew with the same files, shown at once, the old one removed.

        What a program adds to the old one meanwhile stays there.
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
        for path, is_dir in reversed(made):
            above, child = split(path)
            _remove_if_empty(olds.get(above), child, is_dir=is_dir)
        _remove_if_empty(source, name, is_dir=True)


def _remove_deep(directory: int, name: bytes) -> None:
    """Remove a directory that is too deep for `remove_tree`, which would have to move what is far down."""
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
    """List a directory: names, and whether they are directories."""
    listing = open_at(directory, b".", OPEN_LIST)
    try:
        with os.scandir(listing) as entries:
            return [(os.fsencode(entry.name), entry.is_dir(follow_symlinks=False)) for entry in entries]
    finally:
        os.close(listing)


def _copy_by_links(olds: Directories, news: Directories) -> list[tuple[TreePath, bool]]:
    """Fill a directory with links to the files of another; give what it consists of, directories before what is in them."""
    made: list[tuple[TreePath, bool]] = []
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
            made.append((path, is_dir))
            if is_dir:
                os.mkdir(name, 0o700, dir_fd=new)
                pending.append(path)
            else:
                os.link(name, name, src_dir_fd=old, dst_dir_fd=new, follow_symlinks=False)
    for path, is_dir in reversed(made):
        if is_dir:
            above, name = split(path)
            _give_attributes(os.stat(name, dir_fd=olds.get(above), follow_symlinks=False), news.get(above), name)
    return made


def _give_attributes(before: os.stat_result, directory: int, name: bytes) -> None:
    os.chown(name, before.st_uid, before.st_gid, dir_fd=directory, follow_symlinks=False)
    chmod_at(directory, name, stat.S_IMODE(before.st_mode))
    os.utime(name, ns=(before.st_atime_ns, before.st_mtime_ns), dir_fd=directory, follow_symlinks=False)


def _remove_if_empty(directory: int, name: bytes, *, is_dir: bool) -> None:
    try:
        (os.rmdir if is_dir else os.unlink)(name, dir_fd=directory)
    except OSError as error:
        if error.errno not in (errno.ENOENT, errno.ENOTEMPTY):
            raise
