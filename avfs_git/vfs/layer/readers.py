"""The directories that a capture can read: an upper layer, and a plain directory that is imported.

Decided here: how each answers what `vfs.scan.scan.Layer` asks. Nothing follows a symbolic link, and every name is
looked up in an open directory. One reader serves one capture at a time; a few directories stay open in it.
"""

from __future__ import annotations

import operator
import os
import stat
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from avfs_git.gitstore.rules.ignore import IGNORE_FILE_READ
from avfs_git.host.files.beneath import (
    OPEN_DIR,
    OPEN_LIST,
    Descriptor,
    let_owner_in,
    open_at,
    open_beneath,
    open_dir,
    reopen_at,
)
from avfs_git.host.files.closing import closing_fd
from avfs_git.host.files.xattrs import entry_of, list_xattrs, read_xattr
from avfs_git.paths import ROOT, TreePath, components, join, split
from avfs_git.vfs.layer.marks import is_whiteout
from avfs_git.vfs.layer.upper import UpperLayer
from avfs_git.vfs.scan.scan import DIRECTORY, FILE, SYMLINK, WHITEOUT, Found, kind_of_mode

if TYPE_CHECKING:
    from avfs_git.vfs.scan.upperwatch import UpperWatch

_OPEN_DIRECTORIES = 64
_KEPT_ON_THE_WAY = 32
# a pipe put in a file's place must not hang the reader
_OPEN_FILE = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOATIME

_ACCESS_LIST = b"system.posix_acl_"

Xattrs = tuple[tuple[bytes, bytes], ...]


class Directories:
    """Directories below a root, the last few of them kept open, to name their entries. Used by one thread."""

    def __init__(self, root: Descriptor) -> None:
        self._root = root
        self._open: OrderedDict[TreePath, Descriptor] = OrderedDict()

    def get(self, path: TreePath) -> int:
        """Open a directory, through no symbolic link; good until the next call."""
        found = self._open.get(path)
        if found is None:
            base, above = self._root, path
            while above:  # from the nearest one that is open: a walk from the root takes long where trees are deep
                above, _ = split(above)
                if above in self._open:
                    base = self._open[above]
                    break
            names = components(path)[len(components(above)) :]
            far, near = names[:-_KEPT_ON_THE_WAY], names[-_KEPT_ON_THE_WAY:]
            found = open_beneath(base.fd, far) if far else base
            # A walk out of a deep tree asks for the directories above, one by one.
            place = TreePath(b"/".join(components(path)[: -len(near)])) if near else ROOT
            for name in near:
                found = open_dir(found.fd, name)
                place = join(place, name)
                self._open[place] = found
            while len(self._open) > _OPEN_DIRECTORIES:
                self._open.popitem(last=False)
        return found.fd

    def forget(self, path: TreePath) -> None:
        """Let go of a directory and of those below it."""
        below = path + b"/"
        for known in [known for known in self._open if known == path or known.startswith(below)]:
            del self._open[known]


class _Reader:
    """What an upper layer and a plain directory answer alike."""

    def __init__(self, root: Descriptor, *, is_own: bool = True) -> None:
        self._directories = Directories(root)
        if is_own:
            let_owner_in(root.fd)

    def read_link(self, path: TreePath, name: bytes) -> bytes:
        """Read a symbolic link."""
        return os.fsencode(os.readlink(name, dir_fd=self._directories.get(path)))

    def dir_stat(self, path: TreePath) -> os.stat_result:
        """Stat a directory."""
        return os.fstat(self._directories.get(path))

    def forget_dir(self, path: TreePath) -> None:
        """Open a directory and those below it again when they are next read."""
        self._directories.forget(path)


class UpperReader(_Reader):
    """An upper layer, for a capture.

    Attributes:
        with_lists: The entries whose attributes were read and that have an access control list.
    """

    def __init__(self, upper: UpperLayer, *, watch: UpperWatch | None = None) -> None:
        """Read an upper layer.

        Where overlayfs writes to the layer, `watch` is told each entry that a capture reads.
        """
        super().__init__(upper.root)
        self._upper = upper
        self._watch = watch
        self.with_lists: set[TreePath] = set()

    def dir_stat(self, path: TreePath) -> os.stat_result:
        """Stat a directory."""
        found = super().dir_stat(path)
        return found if path else self._upper.shut_root.show(found)

    def list_dir(self, path: TreePath) -> Sequence[Found]:
        """List a directory."""
        directory = self._directories.get(path)
        if self._watch is None or not self._watch.is_on:
            return self._upper.scan_dir(directory, path)
        self._watch.see_directory(path, directory)
        found = self._upper.scan_dir(directory, path)
        self._watch.see_names(path, found)
        for at, entry in enumerate(found):
            if self._watch.wants(path, entry.name):
                found[at] = self._find_watched(self._watch, path, entry) or entry  # one that went is told of
        return found

    def find(self, path: TreePath, name: bytes) -> Found | None:
        """Look at one entry."""
        found = self._find(path, name)
        if self._watch is None or not self._watch.is_on:
            return found
        if found is None or found.kind not in (FILE, SYMLINK):
            self._watch.see_no_file(path, name)
            return found
        return self._find_watched(self._watch, path, found)

    def _find_watched(self, watch: UpperWatch, path: TreePath, found: Found) -> Found | None:
        """Look again at a file or link of which it is to be known that it is what was recorded."""
        name, directory = found.name, self._directories.get(path)
        if found.kind == SYMLINK:
            watch.prove_link(path, name, directory)
            now = self._find(path, name)
        else:
            watch.reopen(path, name)
            if not watch.is_recorded(path, found):
                return found  # it is read, and is open then
            try:
                fd = open_at(directory, name, _OPEN_FILE)
            except OSError:
                return self._find(path, name)
            with closing_fd(fd):
                watch.prove(path, name, fd)
                now = found._replace(stat=os.fstat(fd))
        if now is None or now.kind != found.kind or now.stat.st_ino != found.stat.st_ino:
            watch.doubt(path, name)
            return self._find(path, name)
        if watch.is_recorded(path, now):
            watch.note_equal(path, name)
        return now

    def _find(self, path: TreePath, name: bytes) -> Found | None:
        try:
            directory = self._directories.get(path)
            found = os.stat(name, dir_fd=directory, follow_symlinks=False)
            kind = kind_of_mode(found.st_mode)
            if kind == DIRECTORY:
                marks = self._upper.read_dir_marks(entry_of(directory, name), path + b"/" + name if path else name)
                return Found(name, found, kind, marks.opaque, marks.redirect)
        except (FileNotFoundError, NotADirectoryError):  # it is not there, or has gone since it was found
            return None
        if (
            kind == FILE
            and not found.st_size
            and self._upper.read_dir_marks(entry_of(directory, b"."), path).xattr_whiteouts
        ):
            hidden = self._upper.marks.is_xattr_whiteout(found, entry_of(directory, name))
            return Found(name, found, WHITEOUT if hidden else kind, opaque=False)
        return Found(name, found, WHITEOUT if is_whiteout(found) else kind, opaque=False)

    def open_listed(self, path: TreePath, name: bytes) -> int:
        """Open a listed file for reading, whatever its mode is."""
        if self._watch is None:
            return reopen_at(self._directories.get(path), name, _OPEN_FILE)
        self._watch.reopen(path, name)
        fd = reopen_at(self._directories.get(path), name, _OPEN_FILE)
        try:
            self._watch.prove(path, name, fd)
        except BaseException:
            os.close(fd)
            raise
        return fd

    def file_xattrs(self, fd: int, path: TreePath) -> Xattrs:
        """Read the user's own attributes of an open file, after a look at its marks."""
        return self._pick_users(self._upper.marks.read_user_xattrs(fd, path), path)

    def dir_xattrs(self, path: TreePath) -> Xattrs:
        """Read the user's own attributes of a directory."""
        return self._pick_users(
            self._upper.marks.read_user_xattrs(entry_of(self._directories.get(path), b"."), path), path
        )

    def _pick_users(self, found: dict[bytes, bytes], path: TreePath) -> Xattrs:
        if not found:
            return ()
        if any(name.startswith(_ACCESS_LIST) for name in found):
            self.with_lists.add(path)
        return tuple(sorted((name, value) for name, value in found.items() if name.startswith(b"user.")))


class PlainDirectory(_Reader):
    """A directory of the host, for an import. Mounts below it are read like what they stand on."""

    left_out: frozenset[TreePath] = frozenset()
    """The entries that are not shown, nor what is below them."""

    def __init__(self, root: Path, *, is_own: bool = False) -> None:
        """Open the directory. The root itself may be reached through symbolic links.

        With `is_own`, avfs made it: then a closed file is read, too, by changing its mode for a moment, and the
        root is opened to its owner.

        Raises OSError if it is not there.
        """
        super().__init__(Descriptor(os.open(root, OPEN_DIR & ~os.O_NOFOLLOW)), is_own=is_own)
        self._open = reopen_at if is_own else open_at

    def directory_fd(self, path: TreePath) -> int:
        """Open a directory; the descriptor is good until the next is asked for."""
        return self._directories.get(path)

    def list_dir(self, path: TreePath) -> Sequence[Found]:
        """List a directory, sorted by name."""
        try:
            listing = open_at(self._directories.get(path), b".", OPEN_LIST | os.O_NOATIME)
        except OSError as error:
            error.filename = path
            raise
        found: list[Found] = []
        with closing_fd(listing), os.scandir(listing) as entries:
            for entry in entries:
                try:
                    status = entry.stat(follow_symlinks=False)
                except FileNotFoundError:  # gone since it was listed
                    continue
                if self.left_out and join(path, os.fsencode(entry.name)) in self.left_out:
                    continue
                found.append(Found(os.fsencode(entry.name), status, kind_of_mode(status.st_mode), opaque=False))
        found.sort(key=operator.itemgetter(0))
        return found

    def find(self, path: TreePath, name: bytes) -> Found | None:
        """Look at one entry."""
        if self.left_out and join(path, name) in self.left_out:
            return None
        try:
            found = os.stat(name, dir_fd=self._directories.get(path), follow_symlinks=False)
        except (FileNotFoundError, NotADirectoryError):
            return None
        return Found(name, found, kind_of_mode(found.st_mode), opaque=False)

    def open_listed(self, path: TreePath, name: bytes) -> int:
        """Open what was listed as a file, for reading; it may have become something else."""
        try:
            return self._open(self._directories.get(path), name, _OPEN_FILE)
        except OSError as error:
            error.filename = join(path, name)  # in an import the name alone says little
            raise

    def open_file(self, path: TreePath, name: bytes) -> int:
        """Open a file for reading; another kind of entry counts as missing."""
        fd = self.open_listed(path, name)
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            os.close(fd)
            raise FileNotFoundError(2, "no longer a file", name)
        return fd

    def read_ignore(self, path: TreePath) -> bytes | None:
        """Read the `.gitignore` of a directory, for an `Ignorer`."""
        try:
            fd = self.open_file(path, b".gitignore")
        except OSError:
            return None
        with os.fdopen(fd, "rb") as file:
            return file.read(IGNORE_FILE_READ)

    def file_xattrs(self, fd: int, path: TreePath) -> Xattrs:  # noqa: ARG002 - a plain directory has no marks to name
        """Read the user's attributes of an open file."""
        return _read_plain_xattrs(fd)

    def dir_xattrs(self, path: TreePath) -> Xattrs:
        """Read the user's attributes of a directory."""
        return _read_plain_xattrs(entry_of(self._directories.get(path), b"."))


def _read_plain_xattrs(target: int | bytes) -> Xattrs:
    names = [name for name in list_xattrs(target) if name.startswith(b"user.")]
    pairs = [(name, read_xattr(target, name)) for name in sorted(names)]
    return tuple((name, value) for name, value in pairs if value is not None)
