"""A mounted directory in place of an upper layer: files are made and taken out through it while programs use it.

Decided here: what happens to a file that a change replaces or removes. Programs write at the same time, and nothing can
make them wait. So a file that stands in the way of a restore is moved out whole (`MountedLayer.taking`), for the caller
to compare with what it has saved.

A rename cannot lead from one file system to another. So new files are made in a staging directory at the root of the
tree itself, which exists only during a change. Its name (`is_staging`) is in no listing and no checkpoint; programs may
see it meanwhile:

    plan        the paths that an operation may change, each with a NUL behind it, and before it `+` where everything
                below it comes or goes with it, else `=`
    log         a line for each file that is taken out: its name in `taken`, the inode number of the file that takes its
                place, which has that name before, its path, and a NUL
    taken/      files that were taken out; before that, the files that take their places
    avfs-…      files that are being made

A kill leaves the directory: the process that recovers the workspace finds in it what the operation had done.

One operation makes a layer, uses it in one thread with the workspace lock held, and closes it: the mount is in use
meanwhile.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import stat
from collections.abc import Callable, Iterable
from pathlib import Path
from weakref import WeakSet

from avfs_git import faults
from avfs_git.errors import MountError, quote
from avfs_git.host.files.beneath import (
    OPEN_DIR,
    OPEN_LIST,
    RENAME_EXCHANGE,
    RENAME_NOREPLACE,
    Descriptor,
    open_at,
    open_dir,
    rename_at,
)
from avfs_git.host.files.closing import closing_fd
from avfs_git.host.files.durable import sync_file, write_all
from avfs_git.host.files.removal import remove_entry
from avfs_git.host.mounts.mounts import check_in_sight, list_mounts
from avfs_git.paths import TreePath, join, split
from avfs_git.patterns import compiled
from avfs_git.values import NamedTuple
from avfs_git.vfs.errnos import fail
from avfs_git.vfs.layer.marks import SHOWN
from avfs_git.vfs.layer.plan import Step
from avfs_git.vfs.layer.upper import UpperLayer, put_times
from avfs_git.vfs.scan.scan import STAGING, is_staging

_TAKEN, _LOG, _PLAN = b"taken", b"log", b"plan"
_LINE = compiled(rb"([0-9a-f]+) ([0-9a-f]+) ([^/].*)", re.DOTALL)
_TRIES = 100
"""How often a name is tried while programs take and free it."""


class Taken(NamedTuple):
    """A file that stood in the way of an operation, and is in the staging directory now."""

    name: bytes
    """Its name in the directory `taken`."""
    path: TreePath
    """Where it was."""


class Staging:
    """The staging directory that an operation left at the root of a tree."""

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
        """List the paths that the operation may have changed, and whether everything below came or went with them."""
        return {TreePath(line[1:]): line.startswith(b"+") for line in self._read(_PLAN).split(b"\0")[:-1]}

    def list_taken(self) -> list[Taken]:
        """List the files that were taken out and are still here."""
        lines = map(_LINE.fullmatch, self._read(_LOG).split(b"\0"))  # what else is there, some program has written
        return [
            Taken(line[1], TreePath(line[3])) for line in lines if line and self._is_taken(line[1], int(line[2], 16))
        ]

    def open_taken(self) -> Descriptor:
        """Open the directory of the files that were taken out."""
        return open_dir(self.fd, _TAKEN)

    def _is_taken(self, name: bytes, made: int) -> bool:
        """Whether a name in `taken` has the old file, not the one made to take its place."""
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
    """List the staging directories of a tree."""
    with closing_fd(open_at(root, b".", OPEN_LIST)) as listing, os.scandir(listing) as entries:
        found = [(os.fsencode(entry.name), entry) for entry in entries]
        return sorted(name for name, entry in found if is_staging(name) and entry.is_dir(follow_symlinks=False))


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
        taking: The path whose entry is about to be replaced or removed, to be taken out; None to do as programs do.
        taken: The files that were taken out, until the caller has compared them (`forget_taken`).
        keeps: Whether the staging directory stays when the layer is closed, for a caller who reads it.
    """

    copies_on_opening = True  # as overlayfs does with a file of the base

    def __init__(self, directory: Path, device: int, below: UpperLayer) -> None:
        """Open it.

        `below` is the upper layer on disk, for hidden files.

        Raises:
            MountCovered: If another mount stands over it.
            MountError: If the workspace is not there any more.
        """
        try:
            root = Descriptor(os.open(directory, OPEN_DIR))
            found = os.fstat(root.fd).st_dev
        except OSError:
            found = None
        if found != device:
            for mounted in list_mounts():
                if os.makedev(*mounted.device) == device and mounted.directory == directory:
                    check_in_sight(mounted)
            raise MountError(
                f"the live tree is not at {quote(os.fspath(directory))} any more",
                hint="Unmount it with `avfs unmount`, or wait until the programs in it have ended.",
            )
        self._device = device
        self._opened: WeakSet[Descriptor] = WeakSet()
        """The files and directories below the root that are open."""
        self.directory = directory
        self.work_dir = directory
        self.root = root
        self.work = _Work(self)
        self.taking: TreePath | None = None
        self.taken: list[Taken] = []
        self.keeps = False
        self.quota = below.quota
        self.shut_root = below.shut_root
        self._attic = {}
        self.marks = SHOWN
        self.follows_redirects = False
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
        """Write down which paths an operation is about to change, on disk on return.

        After a power cut, an empty plan beside changed files would say that programs have changed these.
        """
        with closing_fd(open_at(self.work.fd, _PLAN, os.O_WRONLY | os.O_CREAT | os.O_APPEND)) as fd:
            write_all(fd, b"".join(b"%c%b\0" % (_sign(step), step.path) for step in steps))
            sync_file(fd)

    def has_staging(self) -> bool:
        """Tell whether the staging directory is there with its plan: a program can remove it."""
        with contextlib.suppress(FileNotFoundError):
            os.stat(_PLAN, dir_fd=self.work.fd)
            return True
        return False

    def open_staging(self) -> Staging | None:
        """Open the staging directory; None if there is none."""
        return None if self._staging is None else Staging(self.root.fd, self._staging)

    def forget_taken(self) -> None:
        """Let the files that were taken out be removed when the layer is closed."""
        self.taken = []

    def close(self) -> None:
        """Close the mounted directory, and remove the staging directory unless files in `taken` were not compared."""
        self._taken_dir = self._log = None
        if isinstance(self.work, _Work):
            self.work.leave()
        if self._staging is not None and not self.taken and not self.keeps:
            remove_staging(self.root.fd, self._staging)
        # A descriptor of the mounted directory that stayed open, in the frames of an error, would hold up the end of
        # the mount.
        for found in (self.root, *self._opened):
            found.close()

    # --- what differs from an upper layer ----------------------------------------------------------------------

    def reopen(self) -> None:
        """Do nothing: a layer lasts for one operation."""

    def hold(self, fd: int) -> Descriptor:
        """Hold an open file or directory of the tree, at most until the layer is closed."""
        found = Descriptor(fd)
        self._opened.add(found)
        return found

    def open_child(self, directory: int, name: bytes) -> Descriptor:
        """Open a directory in an open one.

        Fails with EBUSY where another file system is mounted, which has other files.
        """
        found = self.hold(open_at(directory, name, OPEN_DIR))
        if os.fstat(found.fd).st_dev != self._device:
            raise fail(errno.EBUSY, name)
        return found

    def open_dir(self, path: TreePath) -> Descriptor:
        """Open a directory of the layer, as any upper layer does."""
        found = super().open_dir(path)
        if found is not self.root:
            self._opened.add(found)
        return found

    def make_hidden_file(self) -> int:
        """Open a file without a name, for reading and writing."""
        return self._below.make_hidden_file()

    def show_instead(self, temporary: bytes, directory: int, name: bytes) -> None:
        """Move a new file to a name in place of an old one, which is taken out if that is wanted.

        A directory or pipe stays.
        """
        if self.taking is None:
            rename_at(self.work.fd, temporary, directory, name)
            return
        made = os.stat(temporary, dir_fd=self.work.fd, follow_symlinks=False).st_ino
        (taken,) = self._log_names([self.taking], made)
        self._made[taken.name] = made
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
            if (number := _why_it_stays(inside, taken.name)) is not None:
                rename_at(inside, taken.name, directory, name, RENAME_EXCHANGE)
                if os.stat(taken.name, dir_fd=inside, follow_symlinks=False).st_ino == made:
                    self.taken.remove(taken)
                raise fail(number, name)
            return
        raise fail(errno.EBUSY, name)

    def show_over_whiteout(self, temporary: bytes, directory: int, name: bytes) -> None:
        """Refuse, unless the caller is taking: no whiteout has the name, but a file that a program has just made."""
        if self.taking is None:
            raise fail(errno.EEXIST, name)
        self.show_instead(temporary, directory, name)

    def remove_file(self, directory: int, name: bytes) -> None:
        """Remove anything but a directory, which stays (EISDIR), or take a file or link out if the caller is taking."""
        if self.taking is None:
            os.unlink(name, dir_fd=directory)
            return
        (taken,) = self._log_names([self.taking])
        self._take_out(directory, name, taken)

    def take_files(self, directory: int, path: TreePath, names: Iterable[bytes]) -> None:
        """Take files out of a directory; a name that is free by now is passed over, a directory or pipe stays."""
        for taken in self._log_names([join(path, name) for name in names]):
            with contextlib.suppress(FileNotFoundError, FileExistsError, IsADirectoryError):  # since it was listed
                self._take_out(directory, split(taken.path)[1], taken)

    def _take_out(self, directory: int, name: bytes, taken: Taken) -> None:
        inside = self._taken()
        rename_at(directory, name, inside, taken.name, RENAME_NOREPLACE)
        self.taken.append(taken)
        faults.reach("mounted.taken")
        if (number := _why_it_stays(inside, taken.name)) is not None:
            rename_at(inside, taken.name, directory, name, RENAME_NOREPLACE)
            self.taken.remove(taken)
            raise fail(number, name)

    def give_back(self, taken: Taken, directory: int, name: bytes) -> None:
        """Give a file that was taken out its name again, unless a program has made another file there."""
        inside = self._taken()
        try:
            rename_at(inside, taken.name, directory, name, RENAME_NOREPLACE)
        except FileExistsError:
            rename_at(inside, taken.name, directory, name, RENAME_EXCHANGE)
            if os.stat(taken.name, dir_fd=inside, follow_symlinks=False).st_ino != self._made.get(taken.name):
                rename_at(inside, taken.name, directory, name, RENAME_EXCHANGE)

    def _taken(self) -> int:
        if self._taken_dir is None:
            os.mkdir(_TAKEN, 0o700, dir_fd=self.work.fd)
            self._taken_dir = self.hold(open_at(self.work.fd, _TAKEN, OPEN_DIR))
        return self._taken_dir.fd

    def _log_names(self, paths: Iterable[TreePath], made: int = 0) -> list[Taken]:
        """Choose names for files that are about to be taken out, and log them.

        `made` is the inode of the successor, or 0.
        """
        if self._log is None:
            self._log = self.hold(open_at(self.work.fd, _LOG, os.O_WRONLY | os.O_CREAT | os.O_APPEND))
        taken = [Taken(b"%x" % number, path) for number, path in enumerate(paths, self._count)]
        self._count += len(taken)
        write_all(self._log.fd, b"".join(b"%b %x %b\0" % (name, made, path) for name, path in taken))
        return taken


def _why_it_stays(inside: int, name: bytes) -> int | None:
    """Give the error for what a program put in a file's place and no commit can store: a directory, pipe or device."""
    mode = os.stat(name, dir_fd=inside, follow_symlinks=False).st_mode
    if stat.S_ISREG(mode) or stat.S_ISLNK(mode):
        return None
    return errno.EISDIR if stat.S_ISDIR(mode) else errno.EEXIST


def _sign(step: Step) -> bytes:
    return b"+" if step.is_removal or step.before is None else b"="


def remove_staging(root: int, name: bytes) -> None:
    """Remove a staging directory with everything in it, if that can be done; the times of the root stay."""
    before = os.stat(root)
    try:
        try:
            os.rmdir(name, dir_fd=root)  # mostly nothing is in it any more
        except OSError:
            remove_entry(root, name)
    except OSError:  # the process that recovers the workspace tries again
        return
    put_times(root, before)
