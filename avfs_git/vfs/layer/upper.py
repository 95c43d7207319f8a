"""The upper layer on disk: the changes of a workspace relative to its base.

Decided here: the steps by which entries, whiteouts and opaque directories come and go, and what stands in `work`. The
marks of overlayfs are spelled in `vfs.layer.marks`. `vfs.tree` and captures call this.

Everything is relative to directory descriptors, and no symbolic link is followed. Readers need no lock; writers hold
the workspace lock. A kill between any two system calls leaves the layer as it was or as promised: a new entry stands in
`work` until one rename shows it. `clean_work` removes what a kill leaves there. Nothing is synced: checkpoints protect
against a power cut.
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import operator
import os
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path

from avfs_git import faults
from avfs_git.host.files.beneath import (
    OPEN_DIR,
    OPEN_LIST,
    RENAME_EXCHANGE,
    RENAME_NOREPLACE,
    Descriptor,
    change_in,
    chmod_at,
    lending,
    open_at,
    open_beneath,
    open_dir,
    rename_at,
)
from avfs_git.host.files.closing import closing_fd
from avfs_git.host.files.freeing import unlink_last
from avfs_git.host.files.removal import remove_entry
from avfs_git.host.files.xattrs import Target, entry_of, write_xattr
from avfs_git.paths import ROOT, TreePath, components, join
from avfs_git.vfs.layer.marks import USER, WHITEOUT_RDEV, DirMarks, Marks, is_whiteout
from avfs_git.vfs.layer.quota import Quota
from avfs_git.vfs.layer.shutroot import ShutRoot
from avfs_git.vfs.scan.scan import DIRECTORY, FILE, OTHER, SYMLINK, WHITEOUT, Found

_TEMPORARY = b"avfs-"
_SHARED_WHITEOUT = b"avfs-whiteout"
_LEFTOVER = b"avfs-leftover-"
_ATTIC = b"avfs-held-"
_UNNAMED = b"avfs-made-"
_PROCESS = _TEMPORARY + os.urandom(4).hex().encode() + b"-"
"""Distinguishes temporary names of this process from those of a dead process with the same pid."""
_numbers = itertools.count()


def attic_name(ino: int, *, unnamed: bool = False) -> bytes:
    """Choose the name in `work` of a file that has none in the layer.

    `unnamed`: it was made without a name and may get its first one.
    """
    return b"%s%x" % (_UNNAMED if unnamed else _ATTIC, ino)


def was_made_unnamed(name: bytes) -> bool:
    """Whether a name in `work` belongs to a file that was made without a name."""
    return name.startswith(_UNNAMED)


class UpperLayer:
    """The two directories of an upper layer: its entries, and `work` for new ones.

    Attributes:
        directory: The upper directory.
        work_dir: A directory of the same file system, for this layer alone.
        root: Descriptor of the upper directory.
        work: Descriptor of the work directory.
        marks: How the marks of its entries are spelled.
        follows_redirects: Whether redirects name directories of the present lower layer; else they mean nothing.
        quota: What it may hold.
        shut_root: Whether its root is closed to other users, and with which mode avfs shows it.
        copies_on_opening: Whether a file that is opened for writing is copied for that.
    """

    copies_on_opening = False

    def __init__(self, directory: Path, work: Path, marks: Marks = USER, *, follows_redirects: bool = True) -> None:
        self.directory = directory
        self.work_dir = work
        self.marks = marks
        self.follows_redirects = follows_redirects
        self.root = Descriptor(os.open(directory, OPEN_DIR))
        self.work = Descriptor(os.open(work, OPEN_DIR))
        self.quota = Quota(self)
        self.shut_root = ShutRoot(os.fsencode(directory.parent))
        self._attic: dict[int, bytes] = {}

    def reopen(self) -> None:
        """Open both directories again: another process may have replaced them."""
        self.root = Descriptor(os.open(self.directory, OPEN_DIR))
        self.work = Descriptor(os.open(self.work_dir, OPEN_DIR))

    # --- reading -------------------------------------------------------------------------------------------

    def open_dir(self, path: TreePath) -> Descriptor:
        """Open a directory of the layer to name its entries, one component at a time.

        Raises:
            FileNotFoundError: If the layer does not hold it.
            NotADirectoryError: If something on the way is no directory.
        """
        return open_beneath(self.root.fd, components(path)) if path else self.root

    def hold(self, fd: int) -> Descriptor:
        """Hold an open file or directory of the layer: a node keeps it, for later calls."""
        return Descriptor(fd)

    def open_child(self, directory: int, name: bytes) -> Descriptor:
        """Open a directory in an open one, to name its entries."""
        return open_dir(directory, name)

    def scan_dir(self, directory: int, path: TreePath) -> list[Found]:
        """List a directory with the stat of each entry, sorted by name.

        Raises:
            LayerNotUnderstood: If the directory or one in it has an unknown mark. Marks of files: see
                `check_file_marks`.
        """
        xattr_whiteouts = False
        found: list[Found] = []
        with closing_fd(open_at(directory, b".", OPEN_LIST | os.O_NOATIME)) as listing:
            # The marks of the directory itself are asked for through the descriptor that is open anyway.
            xattr_whiteouts = self.read_dir_marks(listing, path).xattr_whiteouts
            with os.scandir(listing) as entries:
                for entry in entries:
                    try:
                        name, status = os.fsencode(entry.name), entry.stat(follow_symlinks=False)
                        if not xattr_whiteouts and stat.S_ISREG(status.st_mode):  # most of them
                            found.append(Found(name, status, FILE, opaque=False))
                        else:
                            found.append(self._describe(listing, path, name, status, xattr_whiteouts=xattr_whiteouts))
                    except FileNotFoundError:  # gone since it was listed
                        continue
        found.sort(key=operator.itemgetter(0))
        return found

    def _describe(
        self, directory: int, path: bytes, name: bytes, found: os.stat_result, *, xattr_whiteouts: bool
    ) -> Found:
        kind = stat.S_IFMT(found.st_mode)
        if kind == stat.S_IFREG:
            if xattr_whiteouts and self.marks.is_xattr_whiteout(found, entry_of(directory, name)):
                return Found(name, found, WHITEOUT, opaque=False)
            return Found(name, found, FILE, opaque=False)
        if kind == stat.S_IFDIR:
            marks = self.read_dir_marks(entry_of(directory, name), path + b"/" + name if path else name)
            return Found(name, found, DIRECTORY, marks.opaque, marks.redirect)
        if kind == stat.S_IFLNK:
            return Found(name, found, SYMLINK, opaque=False)
        return Found(name, found, WHITEOUT if is_whiteout(found) else OTHER, opaque=False)

    def list_names(self, directory: int, *, xattr_whiteouts: bool) -> dict[bytes, int]:
        """List a directory cheaply: the type bits of `st_mode` by name, 0 for a whiteout."""
        found: dict[bytes, int] = {}
        with closing_fd(open_at(directory, b".", OPEN_LIST)) as listing, os.scandir(listing) as entries:
            for entry in entries:
                if entry.is_symlink():
                    kind = stat.S_IFLNK
                elif entry.is_dir(follow_symlinks=False):
                    kind = stat.S_IFDIR
                elif entry.is_file(follow_symlinks=False) and not xattr_whiteouts:
                    kind = stat.S_IFREG
                else:
                    try:
                        status = entry.stat(follow_symlinks=False)
                    except FileNotFoundError:
                        continue
                    kind = stat.S_IFMT(status.st_mode)
                    if is_whiteout(status) or (
                        xattr_whiteouts
                        and self.marks.is_xattr_whiteout(status, entry_of(listing, os.fsencode(entry.name)))
                    ):
                        kind = 0
                found[os.fsencode(entry.name)] = kind
        return found

    def list_nameless(self) -> Iterator[os.stat_result]:
        """Stat each file without a name that is still in use."""
        for name in self._list_work():
            if name.startswith((_ATTIC, _UNNAMED)):
                with contextlib.suppress(FileNotFoundError):
                    found = os.stat(name, dir_fd=self.work.fd, follow_symlinks=False)
                    if not is_whiteout(found):
                        yield found

    def list_below(self, top: TreePath) -> Iterator[os.stat_result]:
        """Stat each entry below a directory but whiteouts, in no order."""
        pending = [top]
        while pending:
            path = pending.pop()
            try:
                directory = self.open_dir(path)
                listing = open_at(directory.fd, b".", OPEN_LIST)
            except OSError:  # gone since it was listed, or closed to this user
                continue
            with closing_fd(listing), os.scandir(listing) as entries:
                for entry in entries:
                    with contextlib.suppress(OSError):  # as above
                        found = entry.stat(follow_symlinks=False)
                        if not is_whiteout(found):
                            yield found
                        if stat.S_ISDIR(found.st_mode):
                            pending.append(join(path, os.fsencode(entry.name)))

    def find_names(self, device: int, ino: int) -> list[TreePath]:
        """List the paths of a file by its numbers on disk. Costs a stat of each entry of the layer.

        Raises:
            OSError: If a directory cannot be read: the file may have a name there.
        """
        found: list[TreePath] = []
        pending = [ROOT]
        while pending:
            path = pending.pop()
            directory = self.open_dir(path)
            with closing_fd(open_at(directory.fd, b".", OPEN_LIST)) as listing, os.scandir(listing) as entries:
                for entry in entries:
                    there = join(path, os.fsencode(entry.name))
                    if entry.is_dir(follow_symlinks=False):
                        pending.append(there)
                        continue
                    status = entry.stat(follow_symlinks=False)
                    if (status.st_dev, status.st_ino) == (device, ino):
                        found.append(there)
        return found

    # --- making things in work -----------------------------------------------------------------------------

    def new_name(self) -> bytes:
        """Choose a name in `work` that no other living thread or process uses."""
        return b"%s%x-%x" % (_PROCESS, os.getpid(), next(_numbers))

    def make_file(self, mode: int = 0o666, flags: int = os.O_WRONLY) -> tuple[bytes, int]:
        """Make an empty file in `work`; give its name and an open descriptor."""
        while True:
            name = self.new_name()
            try:
                return name, open_at(self.work.fd, name, flags | os.O_CREAT | os.O_EXCL, mode)
            except FileExistsError:  # left by a dead process that had our number
                continue

    def make_dir(self) -> bytes:
        """Make an empty directory of mode 0700 in `work`; give its name."""
        while True:
            name = self.new_name()
            try:
                os.mkdir(name, 0o700, dir_fd=self.work.fd)
            except FileExistsError:
                continue
            return name

    def make_hidden_file(self) -> int:
        """Open a file without a name, for reading and writing; it vanishes with its last descriptor."""
        name, fd = self.make_file(0o600, os.O_RDWR)
        os.unlink(name, dir_fd=self.work.fd)
        return fd

    # --- files without a name in the layer -------------------------------------------------------------------

    def link_to_attic(self, directory: int, name: bytes, ino: int) -> bytes:
        """Link a file into `work` before its last name goes; return the new name."""
        kept = attic_name(ino)
        try:
            os.link(name, kept, src_dir_fd=directory, dst_dir_fd=self.work.fd, follow_symlinks=False)
        except FileExistsError:
            os.unlink(kept, dir_fd=self.work.fd)
            os.link(name, kept, src_dir_fd=directory, dst_dir_fd=self.work.fd, follow_symlinks=False)
        return kept

    def move_to_attic(self, directory: int, name: bytes, ino: int, *, hide: bool) -> bytes:
        """Take a file's name away and give it one in `work`, in one step; gives that name.

        With `hide`, a whiteout takes its place.
        """
        kept = attic_name(ino)
        if hide:
            self.add_whiteout(self.work.fd, kept)
            faults.reach("upper.whiteout_made")
            try:
                rename_at(self.work.fd, kept, directory, name, RENAME_EXCHANGE)
            except OSError:
                self.discard(kept)
                raise
        else:
            rename_at(directory, name, self.work.fd, kept)
        faults.reach("upper.moved_to_attic")
        return kept

    def is_in_attic(self, ino: int) -> bytes | None:
        """Give the name in `work` of the file of a node; None if it has none."""
        return self._attic.get(ino)

    def clean_attic(self, is_known: Callable[[int], bool]) -> None:
        """Find the files without a name that another process left, and remove those whose nodes are not known."""
        self._attic = {}
        for name in self._list_work():
            if not name.startswith((_ATTIC, _UNNAMED)):
                continue
            ino = int(name.rpartition(b"-")[2], 16)
            # A whiteout stands here if its maker died before it was exchanged with the file.
            if is_known(ino) and not is_whiteout(os.stat(name, dir_fd=self.work.fd, follow_symlinks=False)):
                self._attic[ino] = name
            else:
                self.discard(name)

    def _list_work(self) -> list[bytes]:
        with closing_fd(open_at(self.work.fd, b".", OPEN_LIST)) as listing:
            return [os.fsencode(name) for name in os.listdir(listing)]

    def make_removed_dir(self, mode: int, uid: int, gid: int) -> Descriptor:
        """Make and open a directory without a name, in place of one that was removed while in use."""
        name = self.make_dir()
        try:
            made = open_dir(self.work.fd, name)
            if (uid, gid) != (os.geteuid(), os.getegid()):
                os.chown(name, uid, gid, dir_fd=self.work.fd, follow_symlinks=False)
            chmod_at(self.work.fd, name, mode)
        finally:
            os.rmdir(name, dir_fd=self.work.fd)
        return made

    def discard(self, name: bytes) -> None:
        """Remove an entry of `work`, with everything below it, if that can be done; `clean_work` tries again."""
        try:
            remove_entry(self.work.fd, name)
        except OSError:
            pass

    def clean_work(self, *, keep_attic: bool = False) -> None:
        """Remove what killed processes left: in `work`, but for the kernel's directories, and whiteouts they noted.

        With `keep_attic` files without a name stay: this process goes on for a dead one, and programs use them.
        """
        for name in self._list_work():
            if name.startswith(_LEFTOVER):
                self._remove_leftover_whiteouts(name)
            if name.startswith(_TEMPORARY) and not (keep_attic and name.startswith((_ATTIC, _UNNAMED))):
                remove_entry(self.work.fd, name)

    def note_leftover_whiteouts(self, path: TreePath) -> bytes:
        """Write a note to `work` that a directory with whiteouts is about to become opaque; give the note's name."""
        note = _LEFTOVER + self.new_name()
        with closing_fd(open_at(self.work.fd, note, os.O_WRONLY | os.O_CREAT | os.O_EXCL)) as fd:
            os.write(fd, path)
        return note

    def _remove_leftover_whiteouts(self, note: bytes) -> None:
        """Remove the whiteouts below a directory that a killed process noted, if it is opaque."""
        with closing_fd(open_at(self.work.fd, note, os.O_RDONLY)) as fd:
            path = TreePath(os.read(fd, os.fstat(fd).st_size))
        try:
            directory = self.open_dir(path)
        except OSError:  # it is gone since, or was never made
            return
        if not path or not self.read_dir_marks(entry_of(directory.fd, b"."), path).opaque:
            return
        pending = [directory]
        while pending:
            here = pending.pop()
            before = os.stat(here.fd)
            for name, kind in self.list_names(here.fd, xattr_whiteouts=False).items():
                if not kind:
                    remove_stray(here.fd, name)
                elif kind == stat.S_IFDIR:
                    below = open_dir(here.fd, name)
                    if self.read_dir_marks(entry_of(below.fd, b"."), path).redirect is None:  # else they hide something
                        pending.append(below)
            put_times(here.fd, before)

    # --- whiteouts, opaque directories ---------------------------------------------------------------------

    def add_whiteout(self, directory: int, name: bytes) -> None:
        """Make a whiteout under a free name: a link to one device, so that whiteouts need no inode each."""
        work = self.work.fd
        for _ in range(100):
            try:
                os.link(_SHARED_WHITEOUT, name, src_dir_fd=work, dst_dir_fd=directory, follow_symlinks=False)
            except FileNotFoundError:
                self._make_shared_whiteout()
            except OSError as error:
                if error.errno in (errno.EPERM, errno.ENOTSUP, errno.EACCES):  # no hard links to devices here
                    os.mknod(name, stat.S_IFCHR, WHITEOUT_RDEV, dir_fd=directory)
                    return
                if error.errno != errno.EMLINK:
                    raise
                os.unlink(_SHARED_WHITEOUT, dir_fd=work)
            else:
                return
        raise FileNotFoundError(errno.ENOENT, "the work directory keeps changing", self.work_dir)

    def _make_shared_whiteout(self) -> None:
        try:
            os.mknod(_SHARED_WHITEOUT, stat.S_IFCHR, WHITEOUT_RDEV, dir_fd=self.work.fd)
        except FileExistsError:
            pass  # another thread made it first

    def replace_by_whiteout(self, directory: int, name: bytes, *, is_dir: bool) -> None:
        """Remove an upper-layer entry, with everything below it, and hide that of the lower layer, in one step."""
        temporary = self.new_name()
        self.add_whiteout(self.work.fd, temporary)
        faults.reach("upper.whiteout_made")
        try:
            # A device cannot be renamed over a directory, so the two change places.
            if is_dir:
                _rename(self.work.fd, temporary, directory, name, RENAME_EXCHANGE)
            else:
                rename_at(self.work.fd, temporary, directory, name)
        except OSError:
            self.discard(temporary)
            raise
        faults.reach("upper.whiteout_placed")
        if is_dir:
            self.discard(temporary)

    def remove_dir(self, directory: int, name: bytes) -> None:
        """Remove a directory with everything below it in one step, where the lower layer has nothing to hide."""
        temporary = self.new_name()
        _rename(directory, name, self.work.fd, temporary, RENAME_NOREPLACE)
        faults.reach("upper.dir_taken")
        self.discard(temporary)

    def set_opaque(self, target: Target) -> None:
        """Make a directory hide the lower directory of the same name."""
        self.marks.mark_opaque(target)

    def clear_opaque(self, target: Target) -> None:
        """Let a directory show the lower directory of the same name."""
        self.marks.unmark_opaque(target)

    def redirect(self, target: Target, place: TreePath) -> None:
        """Make a directory show a directory of the lower layer, wherever it is itself."""
        write_xattr(target, self.marks.redirect, b"/" + place)

    def list_redirected(self) -> list[TreePath]:
        """List the directories that show another one of the lower layer, or did before that was another one."""
        found: list[TreePath] = []
        pending = [ROOT] if self.marks.is_trusted else []
        while pending:
            path = pending.pop()
            here = self.open_dir(path)
            if path and self.marks.read_dir_marks(entry_of(here.fd, b"."), path).redirect is not None:
                found.append(path)
            names = self.list_names(here.fd, xattr_whiteouts=False)
            pending += [join(path, name) for name, kind in names.items() if kind == stat.S_IFDIR]
        return found

    def clear_redirects(self) -> None:
        """Let each directory show what the lower layer has at its place."""
        for path in self.list_redirected():
            directory = self.open_dir(path)
            self.marks.unmark_redirect(entry_of(directory.fd, b"."))

    # --- showing what was made -----------------------------------------------------------------------------

    def show(self, temporary: bytes, directory: int, name: bytes) -> None:
        """Move an entry from `work` to a free name.

        Raises:
            FileExistsError: If it is not.
        """
        _rename(self.work.fd, temporary, directory, name, RENAME_NOREPLACE)

    def show_instead(self, temporary: bytes, directory: int, name: bytes) -> None:
        """Move an entry from `work` to a name, and remove the old entry with everything below it.

        The two are exchanged, then the old one is removed. That is faster than a rename over it: ext4 writes the data
        of a file out at once when it replaces another by rename (`auto_da_alloc`).
        """
        _rename(self.work.fd, temporary, directory, name, RENAME_EXCHANGE)
        faults.reach("upper.exchanged")
        try:
            unlink_last(self.work.fd, temporary)
        except OSError:  # a directory, or what only a second attempt can remove
            self.discard(temporary)

    def put(self, temporary: bytes, directory: int, name: bytes) -> None:
        """Move an entry from `work` to a name that is free, or that a whiteout has."""
        try:
            self.show(temporary, directory, name)
        except FileExistsError:
            self.show_instead(temporary, directory, name)

    def show_over_whiteout(self, temporary: bytes, directory: int, name: bytes) -> None:
        """Move an entry from `work` to a name that only a whiteout can have."""
        self.show_instead(temporary, directory, name)

    # --- marks and attributes ------------------------------------------------------------------------------

    def read_dir_marks(self, target: Target, path: bytes) -> DirMarks:
        """Read the marks of a directory, see `Marks`."""
        found = self.marks.read_dir_marks(target, path)
        return found if found.redirect is None or self.follows_redirects else found._replace(redirect=None)

    def write_user_xattrs(
        self, target: Target, attributes: Mapping[bytes, bytes] | Iterable[tuple[bytes, bytes]]
    ) -> None:
        """Give a new entry the attributes of another one.

        Like `cp -a`, skip attributes that this process may not set, or that this file system does not support.
        """
        pairs = attributes.items() if isinstance(attributes, Mapping) else attributes
        for name, value in pairs:
            try:
                write_xattr(target, self.marks.store_xattr_name(name), value)
            except OSError as error:
                if error.errno not in (errno.EPERM, errno.ENOTSUP, errno.EACCES):
                    raise


def _rename(source: int, old: bytes, target: int, new: bytes, flags: int) -> None:
    """Rename an entry. Moving a directory writes its `..`, which the mode of an own one does not forbid."""
    try:
        rename_at(source, old, target, new, flags)
    except PermissionError:
        with contextlib.ExitStack() as stack:
            for directory, name in ((source, old), (target, new)):
                with contextlib.suppress(FileNotFoundError, NotADirectoryError):
                    place = stack.enter_context(closing_fd(open_at(directory, name, OPEN_DIR)))
                    stack.enter_context(lending(place, 0o200))
            rename_at(source, old, target, new, flags)


def put_times(directory: int, before: os.stat_result) -> None:
    """Restore the times of a directory, as the kernel does after a copy-up, if that can be done."""
    try:
        os.utime(b".", ns=(before.st_atime_ns, before.st_mtime_ns), dir_fd=directory)
    except OSError:
        pass  # the change itself succeeded


def remove_stray(directory: int, name: bytes) -> None:
    """Remove a whiteout that hides nothing, if that can be done; it is harmless."""
    with contextlib.suppress(OSError):
        change_in(directory, partial(os.unlink, name, dir_fd=directory))
