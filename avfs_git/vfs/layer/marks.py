"""How overlayfs's marks are spelled on the entries of an upper layer.

Decided here and nowhere else: how a deletion (whiteout), a directory that hides the one below it (opaque), a directory
that shows another one of the lower layer (redirect) and the other marks of overlayfs are spelled, so that the kernel's
overlayfs and avfs can each show the same workspace, one after the other. A layer has one of two spellings (`Marks`) as
long as it lasts; what overlayfs shows has none (`SHOWN`):

    USER       `user.overlay.`: overlayfs is mounted with `userxattr`, and the kernel follows and writes no redirect
    TRUSTED    `trusted.overlay.`: only root can read and write them; overlayfs is mounted with `redirect_dir=on`

    whiteout    a character device 0:0; also read: an empty file with the mark `whiteout` in a directory with `opaque=x`
    opaque      a directory with the mark `opaque=y`
    redirect    TRUSTED only: a directory that shows the directory of the lower layer that the mark names: `/PATH` from
                its root, or NAME in what the directory above shows of it; hidden by `opaque`
    harmless    origin, impure, nlink, uuid, upper, protattr: hints for the kernel
    any other mark is refused (`LayerNotUnderstood`), never guessed; with USER also any `trusted.overlay.`
    an attribute of a mark's name that a program sets is kept as `PREFIX.overlay.X`, as the kernel does

A redirect is a name in the lower layer, which is a commit: it leads to no other place. A redirect to
no directory of the lower layer is refused, too: the kernel would show fewer files than there were.

Called by `vfs.layer.upper`, which keeps the layer, and by readers of one. No state, no locks; each call asks the disk.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterable
from collections.abc import Set as AbstractSet
from typing import Final

from avfs_git.errors import LayerNotUnderstood
from avfs_git.host.files.xattrs import (
    Target,
    as_owner,
    list_xattrs,
    read_xattr,
    read_xattrs,
    remove_xattr,
    write_xattr,
)
from avfs_git.paths import NAME_MAX
from avfs_git.values import NamedTuple
from avfs_git.vfs.errnos import fail

WHITEOUT_RDEV = 0  # Documentation/filesystems/overlayfs.rst: "a character device with 0/0 device number"
_TRUSTED_PREFIX: Final = b"trusted.overlay."
_HARMLESS = (b"origin", b"impure", b"nlink", b"uuid", b"upper", b"protattr")


_REDIRECT_MAX: Final = 65_536
"""Bytes of a redirect: no attribute is longer.

The kernel writes up to 256, or what its parameter `redirect_max` says.
"""


class DirMarks(NamedTuple):
    """What overlayfs notes on a directory."""

    opaque: bool
    xattr_whiteouts: bool
    """Whether whiteouts in it may be spelled as empty files with an attribute."""
    redirect: bytes | None = None
    """Which directory of the lower layer it shows instead of the one at its place."""


NO_MARKS: Final = DirMarks(opaque=False, xattr_whiteouts=False)


def is_whiteout(found: os.stat_result) -> bool:
    """Tell whether this is a deletion in its usual spelling."""
    return stat.S_ISCHR(found.st_mode) and found.st_rdev == WHITEOUT_RDEV


class Marks:
    """One spelling of the marks.

    Attributes:
        is_trusted: Whether only root can read them.
        opaque: The attribute of an opaque directory.
        redirect: The attribute of a directory that shows another one.
    """

    def __init__(self, prefix: bytes, *, is_trusted: bool) -> None:
        self.is_trusted = is_trusted
        self.opaque = prefix + b"opaque"
        self.redirect = prefix + b"redirect"
        self._prefix = prefix
        self._escaped = prefix + b"overlay."
        self._whiteout = prefix + b"whiteout"
        self._known = frozenset((self.opaque, *(prefix + name for name in _HARMLESS)))
        self._known_of_dirs = self._known | ({self.redirect} if is_trusted else set())

    def is_xattr_whiteout(self, found: os.stat_result, target: Target) -> bool:
        """Tell whether this is a deletion in its other spelling; only asked in a directory that allows it."""
        return stat.S_ISREG(found.st_mode) and found.st_size == 0 and read_xattr(target, self._whiteout) is not None

    def read_dir_marks(self, target: Target, path: bytes) -> DirMarks:
        """Read the marks of a directory.

        Raises:
            LayerNotUnderstood: If one of them is unknown, or has a value that the kernel does not write.
        """
        names = list_xattrs(target)
        if not names:
            return NO_MARKS
        self._check(names, path, self._known_of_dirs)
        try:
            value = read_xattr(target, self.opaque) if self.opaque in names else None
            redirect = read_xattr(target, self.redirect) if value != b"y" and self.redirect in names else None
        except PermissionError:  # a directory that its owner may not read: no program lists it
            value, redirect = b"y", None
        if value not in (None, b"y", b"x"):
            raise LayerNotUnderstood(path, f"{self.opaque.decode()}={value!r}")
        if redirect is not None and not _is_redirect(redirect):
            raise LayerNotUnderstood(path, f"{self.redirect.decode()}={redirect!r}")
        return DirMarks(opaque=value == b"y", xattr_whiteouts=value == b"x", redirect=redirect)

    def mark_opaque(self, target: Target) -> None:
        """Make a directory, with any mode, hide what the lower layer has in its place, or where its redirect leads."""
        as_owner(target, lambda: write_xattr(target, self.opaque, b"y"))

    def unmark_opaque(self, target: Target) -> None:
        """Let a directory, with any mode, show what the lower layer has in its place."""
        self.unmark_redirect(target)  # first: it counts again where nothing hides it
        as_owner(target, lambda: remove_xattr(target, self.opaque))

    def unmark_redirect(self, target: Target) -> bool:
        """Let a directory show what the lower layer has in its place, not elsewhere; tell whether it showed that."""
        if not self.is_trusted:
            return False
        try:
            remove_xattr(target, self.redirect)
        except OSError as error:
            if error.errno != errno.ENODATA:
                raise
            return False
        return True

    def check_file_marks(self, target: Target, path: bytes) -> bool:
        """Make sure that a file holds its own data and is what it seems; tell whether it carries any attribute.

        Raises:
            LayerNotUnderstood: If a mark says otherwise.
        """
        names = list_xattrs(target)
        if not names:
            return False
        self._check(names, path, self._known)
        return True

    def _check(self, names: Iterable[bytes], path: bytes, known: AbstractSet[bytes]) -> None:
        for name in names:
            is_foreign = not self.is_trusted and name.startswith(_TRUSTED_PREFIX)
            is_mark = name.startswith(self._prefix) and not name.startswith(self._escaped)
            if is_foreign or (is_mark and name not in known):
                raise LayerNotUnderstood(path, name.decode("utf-8", "replace"))

    def read_user_xattrs(self, target: Target, path: bytes) -> dict[bytes, bytes]:
        """Read the attributes that programs gave an entry, under the names they used.

        Raises:
            LayerNotUnderstood: If the entry carries an unknown mark of overlayfs.
        """
        names = list_xattrs(target)
        if not names:
            return {}
        is_dir = self.redirect in names and stat.S_ISDIR(
            os.stat(target, follow_symlinks=isinstance(target, int)).st_mode
        )
        self._check(names, path, self._known_of_dirs if is_dir else self._known)
        shown = {name: known for name in names if (known := self.show_xattr_name(name)) is not None}
        return {shown[name]: value for name, value in read_xattrs(target, shown).items()}

    def show_xattr_name(self, name: bytes) -> bytes | None:
        """Give the name under which programs see an attribute of the upper layer; None for a mark of overlayfs."""
        if not name.startswith(self._prefix):
            return None if name.startswith(_TRUSTED_PREFIX) else name
        return self._prefix + name[len(self._escaped) :] if name.startswith(self._escaped) else None

    def store_xattr_name(self, name: bytes) -> bytes:
        """Give the name under which the upper layer keeps an attribute of programs.

        Raises:
            PermissionError: For names that are marks in the eyes of root's overlayfs.
        """
        if name.startswith(_TRUSTED_PREFIX):
            raise PermissionError(errno.EPERM, os.strerror(errno.EPERM), name)
        return self._escaped + name[len(self._prefix) :] if name.startswith(self._prefix) else name


def _is_redirect(value: bytes) -> bool:
    """Tell whether a redirect may be the kernel's: a name, or a path from the root without empty, `.` or `..` parts."""
    if len(value) > _REDIRECT_MAX or b"\0" in value:
        return False
    parts = value[1:].split(b"/") if value.startswith(b"/") else [value]
    return all(part not in (b"", b".", b"..") and b"/" not in part and len(part) <= NAME_MAX for part in parts)


class _NoMarks(Marks):
    """None, as in a mounted directory.

    Overlayfs hides its marks and whiteouts, and programs set each attribute that shows.
    """

    def read_dir_marks(self, target: Target, path: bytes) -> DirMarks:  # noqa: ARG002 - as `Marks` has it
        return NO_MARKS

    def mark_opaque(self, target: Target) -> None:
        """Refuse: a program has taken the name, not a whiteout."""
        raise fail(errno.EEXIST, target if isinstance(target, bytes) else b"")

    def check_file_marks(self, target: Target, path: bytes) -> bool:  # noqa: ARG002 - as `Marks` has it
        return bool(list_xattrs(target))

    def read_user_xattrs(self, target: Target, path: bytes) -> dict[bytes, bytes]:  # noqa: ARG002 - as `Marks` has it
        return read_xattrs(target)

    def store_xattr_name(self, name: bytes) -> bytes:
        return name


USER: Final = Marks(b"user.overlay.", is_trusted=False)
TRUSTED: Final = Marks(_TRUSTED_PREFIX, is_trusted=True)
SHOWN: Final = _NoMarks(b"", is_trusted=False)
