"""Working beneath a directory by descriptors: no step follows a symbolic link, no path gets too long.

Decided here: how a directory below another is reached (one component at a time, `O_NOFOLLOW`), how many descriptors
stay open (`DescriptorPool`), and how a rename with flags is spelled (`rename_at`). Used for every tree that others may
change at the same time.

Any thread may call; a `Descriptor` is closed when its last holder lets go, so that the pool never closes one in use.
Nothing here is durable: see `host.files.durable`.
"""

from __future__ import annotations

import ctypes
import errno
import os
import resource
import stat
import threading
import weakref
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import Protocol

from avfs_git.host.files.closing import closing_fd

RENAME_NOREPLACE = 1  # linux/fs.h
RENAME_EXCHANGE = 2
RENAME_WHITEOUT = 4

OPEN_DIR = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW
"""Enough to name entries of a directory; needs no permission to list it."""
OPEN_LIST = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW
"""Needed to list a directory or to fsync it."""
_LISTED = stat.S_IRUSR | stat.S_IXUSR
"""What lets the owner of a directory list and enter it."""


class Descriptor:
    """An open descriptor that closes itself when no caller holds it any more.

    Attributes:
        fd: The number, good for as long as this object is held.
        used: Whether it was asked for since the pool last looked; the caller that takes it from a holder sets it.
        writable: For the holder's use: whether data can be written through it.
    """

    __slots__ = ("__weakref__", "fd", "used", "writable")

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self.used = True
        self.writable = False

    def close(self, close: Callable[[int], None] = os.close) -> None:
        """Close it now, although a caller may hold it: the frames of an error do, until the collector comes by."""
        # The default argument keeps close() alive while the interpreter is taken down.
        fd, self.fd = self.fd, -1
        if fd >= 0:
            close(fd)

    __del__ = close


class Holder(Protocol):
    """Something that keeps a pooled descriptor and can do without it."""

    descriptor: Descriptor | None


class DescriptorPool:
    """A bound on how many descriptors a process keeps open at leisure.

    Holders are asked to let go in the order in which they came; one whose descriptor was used meanwhile gets a second
    chance. The pool itself keeps neither a holder nor a descriptor alive.
    """

    def __init__(self, limit: int | None = None) -> None:
        self._limit = limit
        self._queue: deque[tuple[weakref.ref[Holder], weakref.ref[Descriptor]]] = deque()
        self._lock = threading.Lock()

    def keep(self, holder: Holder, descriptor: Descriptor) -> None:
        """Let a holder keep a descriptor until the room is needed."""
        with self._lock:
            holder.descriptor = descriptor
            queue = self._queue
            queue.append((weakref.ref(holder), weakref.ref(descriptor)))
            if self._limit is None:
                self._limit = max(16, min(1024, resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 4))
            while len(queue) > self._limit:
                old_ref, held_ref = queue.popleft()
                old, held = old_ref(), held_ref()
                if old is None or held is None or old.descriptor is not held:
                    continue
                if held.used or held is descriptor:  # the newest is about to be used
                    held.used = False
                    queue.append((old_ref, held_ref))
                    continue
                old.descriptor = None

    def clear(self) -> None:
        """Ask every holder to let go, as after EMFILE."""
        with self._lock:
            for old_ref, held_ref in self._queue:
                old = old_ref()
                if old is not None and old.descriptor is held_ref():
                    old.descriptor = None
            self._queue.clear()


MODES = threading.RLock()
"""A thread holds it while it lends a mode, or sets one for a program: else it would put an older mode back."""
POOL = DescriptorPool()
"""The pool of this process: the limit on open files is the process's, too."""


def open_at(directory: int | None, name: bytes, flags: int, mode: int = 0o666) -> int:
    """Open an entry of a directory (None: the current one), never a link's target.

    Makes room when too many files are open.

    `O_NOATIME` is dropped where the kernel refuses it, as for another user's file.
    """
    try:
        return os.open(name, flags | os.O_NOFOLLOW, mode, dir_fd=directory)
    except OSError as error:
        if error.errno == errno.EPERM and flags & os.O_NOATIME:
            return open_at(directory, name, flags & ~os.O_NOATIME, mode)
        if error.errno not in (errno.EMFILE, errno.ENFILE):
            raise
    POOL.clear()
    return os.open(name, flags | os.O_NOFOLLOW, mode, dir_fd=directory)


def reopen_at(directory: int, name: bytes, flags: int) -> int:
    """Open a file for a program that has it open, with any mode, see `lending`.

    Raises:
        PermissionError: If the file is another user's, or not a regular file.
    """
    try:
        return open_at(directory, name, flags)
    except PermissionError:
        with closing_fd(open_at(directory, name, os.O_PATH)) as place:
            return reopen(place, flags)


def reopen(place: int, flags: int) -> int:
    """Open a file again that is held by a descriptor of any kind, as `reopen_at` does."""
    path = b"/proc/self/fd/%d" % place
    try:
        return os.open(path, flags)
    except PermissionError:
        if not stat.S_ISREG(os.fstat(place).st_mode):
            raise
        with lending(place, 0o600):
            return os.open(path, flags)


@contextmanager
def lending(place: int, bits: int) -> Iterator[None]:
    """Give this user rights on an own file or directory for a moment, if its mode keeps its owner out.

    Root needs none. The mode is put back, unless a program has set another one; a kill in between leaves the rights to
    the owner.
    """
    with MODES:
        status = os.fstat(place)
        mode = stat.S_IMODE(status.st_mode)
        if mode & bits == bits or status.st_uid != os.geteuid():
            yield
            return
        path = b"/proc/self/fd/%d" % place
        os.chmod(path, mode | bits)
        try:
            yield
        finally:
            if stat.S_IMODE(os.fstat(place).st_mode) == mode | bits:
                os.chmod(path, mode)


def change_in(directory: int, change: Callable[[], None]) -> None:
    """Change the names in a directory with any mode, see `lending`."""
    try:
        change()
    except PermissionError:
        with lending(directory, 0o300):
            change()


def let_owner_in(directory: int) -> None:
    """Let this user list and enter an own directory, which a program has closed; root may do that with any mode.

    Where the disk refuses, it stays closed.
    """
    status = os.fstat(directory)
    if status.st_mode & _LISTED != _LISTED and status.st_uid == os.geteuid() != 0:
        with suppress(OSError):
            os.chmod(b"/proc/self/fd/%d" % directory, stat.S_IMODE(status.st_mode) | _LISTED)


def open_dir(directory: int, name: bytes) -> Descriptor:
    """Open a directory in a directory, to name its entries.

    Raises:
        NotADirectoryError: If something else is there, be it a symbolic link to a directory.
    """
    return Descriptor(open_at(directory, name, OPEN_DIR))


def open_beneath(root: int, names: Iterable[bytes]) -> Descriptor:
    """Open a directory below another, one component at a time."""
    here: Descriptor | None = None
    for name in names:
        here = open_dir(root if here is None else here.fd, name)
    return open_dir(root, b".") if here is None else here


def chmod_at(directory: int | None, name: bytes, mode: int) -> None:
    """Set the permission bits of an entry of a directory, never those of a symbolic link's target."""
    with closing_fd(open_at(directory, name, os.O_PATH)) as fd:
        os.chmod(b"/proc/self/fd/%d" % fd, mode)


# --- renames with flags ----------------------------------------------------------------------------------

_SYSCALL_RENAMEAT2 = {
    "x86_64": 316,
    "aarch64": 276,
    "riscv64": 276,
    "ppc64le": 357,
    "s390x": 347,
    "armv7l": 382,
    "i686": 353,
}


def _load_renameat2() -> Callable[[int, bytes, int, bytes, int], int] | None:
    libc = ctypes.CDLL(None, use_errno=True)
    arguments = (ctypes.c_int, ctypes.c_char_p, ctypes.c_int, ctypes.c_char_p, ctypes.c_uint)
    found = getattr(libc, "renameat2", None)
    if found is not None:
        found.argtypes = arguments
        return found  # type: ignore[no-any-return]
    number = _SYSCALL_RENAMEAT2.get(os.uname().machine)  # a C library older than the call
    syscall = getattr(libc, "syscall", None)
    if number is None or syscall is None:
        return None
    syscall.argtypes = (ctypes.c_long, *arguments)
    return lambda *given: int(syscall(number, *given))


_renameat2 = _load_renameat2()


def rename_at(source: int, old: bytes, target: int, new: bytes, flags: int = 0) -> None:
    """Rename an entry of one open directory into another.

    Flags as `RENAME_NOREPLACE`, `RENAME_EXCHANGE`, `RENAME_WHITEOUT`.

    Raises:
        OSError: EINVAL where the file system does not know a flag, ENOSYS where the system does not.
    """
    if not flags:
        os.rename(old, new, src_dir_fd=source, dst_dir_fd=target)
        return
    if b"\0" in old or b"\0" in new:  # C would stop reading there
        raise ValueError("embedded null byte")
    if _renameat2 is None:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS), old)
    if _renameat2(source, old, target, new, flags):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), old, None, new)
