"""Working beneath a directory by descriptors: no step follows a symbolic link, no path gets too long.

Decided here: how a directory below another is reached (one component at a time, `O_NOFOLLOW`), how many descriptors stay open
(`DescriptorPool`), and how a rename with flags is spelled (`rename_at`). Used for every tree that others may change at the same
time.

Any thread may call; a `Descriptor` is closed when its last holder lets go, so that the pool never closes one in use. Nothing
here is durable: see `host.files.durable`.
"""

from __future__ import annotations

import ctypes
import errno
import itertools
import os
import resource
import stat
import threading
import weakref
from collections import deque
from collections.abc import Callable, Iterable
from typing import Protocol

RENAME_NOREPLACE = 1  # linux/fs.h
RENAME_EXCHANGE = 2
RENAME_WHITEOUT = 4

O_PATH = getattr(os, "O_PATH", os.O_RDONLY)
OPEN_DIR = O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW
"""Enough to name entries of a directory; needs no permission to list it."""
OPEN_LIST = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW
"""Needed to list a directory or to fsync it."""

_trash_numbers = itertools.count()


class Descriptor:
    """An open descriptor that closes itself when nobody holds it any more.

    Attributes:
        fd: The number, good for as long as this object is held.
        used: Whether it was asked for since the pool last looked; whoever takes it from a holder sets it.
        writable: For the holder's use: whether data can be written through it.
    """

    __slots__ = ("__weakref__", "fd", "used", "writable")

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self.used = True
        self.writable = False

    def close(self, close: Callable[[int], None] = os.close) -> None:
        """Close it now, although somebody may hold it: the frames of an error do, until the collector comes by."""
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

    Holders are asked to let go in the order in which they came; one whose descriptor was used meanwhile gets a second chance.
    The pool itself keeps neither a holder nor a descriptor alive.
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


POOL = DescriptorPool()
"""The pool of this process: the limit on open files is the process's, too."""


def open_at(directory: int, name: bytes, flags: int, mode: int = 0o666) -> int:
    """Open an entry of a directory, never a symbolic link's target; makes room when too many files are open."""
    try:
        return os.open(name, flags | os.O_NOFOLLOW, mode, dir_fd=directory)
    except OSError as error:
        if error.errno not in (errno.EMFILE, errno.ENFILE):
            raise
    POOL.clear()
    return os.open(name, flags | os.O_NOFOLLOW, mode, dir_fd=directory)


def open_judged_at(directory: int, name: bytes, flags: int) -> int:
    """Open a file for somebody who was let in when it was opened, whatever its mode says by now.

    Root may do that anyhow. For anybody else the mode of a file of their own is changed for a moment, and put back: a kill in
    between leaves it open to its owner.

    Raises:
        PermissionError: If the file is somebody else's, or no regular file.
    """
    try:
        return open_at(directory, name, flags)
    except PermissionError:
        place = open_at(directory, name, O_PATH)
        try:
            return open_judged(place, flags)
        finally:
            os.close(place)


def open_judged(place: int, flags: int) -> int:
    """Open a file again that is held by a descriptor of any kind, as `open_judged_at` does."""
    path = b"/proc/self/fd/%d" % place
    try:
        return os.open(path, flags)
    except PermissionError:
        status = os.fstat(place)
        if not stat.S_ISREG(status.st_mode) or status.st_uid != os.geteuid():
            raise
        mode = stat.S_IMODE(status.st_mode)
        os.chmod(path, mode | 0o600)
        try:
            return os.open(path, flags)
        finally:
            os.chmod(path, mode)


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


def chmod_at(directory: int, name: bytes, mode: int) -> None:
    """Set the permission bits of an entry of a directory, never those of a symbolic link's target."""
    fd = open_at(directory, name, O_PATH)
    try:
        os.chmod(b"/proc/self/fd/%d" % fd, mode)
    finally:
        os.close(fd)


# --- renames with flags ----------------------------------------------------------------------------------

_SYSCALL_RENAMEAT2 = {"x86_64": 316, "aarch64": 276, "riscv64": 276, "ppc64le": 357, "s390x": 347, "armv7l": 382, "i686": 353}


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
    """Rename an entry of one open directory into another; flags as `RENAME_NOREPLACE`, `RENAME_EXCHANGE`, `RENAME_WHITEOUT`.

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


# --- removing ----------------------------------------------------------------------------------------------

_LEVELS = 64
"""How deep `remove_tree` goes with one descriptor a level, before it moves what is deeper up."""


def remove_tree(directory: int, name: bytes) -> None:
    """Remove an entry with everything below it, however deep, in bounded stack and descriptors.

    A directory that is too closed to be emptied is opened up first. What is deeper than 64 levels is moved next
    to the entry before it is removed. Entries that others remove at the same time are not missed.

    Raises:
        OSError: If something cannot be removed; what was removed until then is gone.
    """
    pending = [name]
    while pending:
        current = pending.pop()
        if not _unlink(directory, current):
            pending += _remove_dir(directory, current)


def _unlink(directory: int, name: bytes) -> bool:
    """Remove anything but a directory; tell whether it is gone."""
    try:
        os.unlink(name, dir_fd=directory)
    except FileNotFoundError:
        return True
    except (IsADirectoryError, PermissionError) as error:  # POSIX allows EPERM for a directory
        found = os.stat(name, dir_fd=directory, follow_symlinks=False)
        if not stat.S_ISDIR(found.st_mode):
            raise error from None
        return False
    return True


def _remove_dir(directory: int, name: bytes) -> list[bytes]:
    """Remove a directory; give back the names of what was too deep and stands in `directory` now."""
    lifted: list[bytes] = []
    frames: list[tuple[int, bytes, list[tuple[bytes, bool]]]] = []
    here = directory

    def enter(child: bytes) -> int:
        inside = _open_to_empty(here, child)
        frames.append((inside, child, []))
        with os.scandir(inside) as entries:
            frames[-1][2].extend((os.fsencode(entry.name), entry.is_dir(follow_symlinks=False)) for entry in entries)
        return inside

    try:
        here = enter(name)
        while frames:
            here, current, left = frames[-1]
            if left:
                child, is_dir = left.pop()
                if not is_dir and _unlink(here, child):
                    continue
                if len(frames) < _LEVELS:
                    try:
                        enter(child)
                    except FileNotFoundError:
                        continue
                else:
                    lifted.append(_lift(here, child, directory))
                continue
            frames.pop()
            os.close(here)
            here = frames[-1][0] if frames else directory
            try:
                os.rmdir(current, dir_fd=here)
            except FileNotFoundError:
                continue
    except FileNotFoundError:
        if frames:
            raise
    finally:
        for inside, _, _ in frames:
            os.close(inside)
    return lifted


def _open_to_empty(directory: int, name: bytes) -> int:
    try:
        inside = open_at(directory, name, OPEN_LIST)
    except PermissionError:
        chmod_at(directory, name, 0o700)
        return open_at(directory, name, OPEN_LIST)
    if stat.S_IMODE(os.fstat(inside).st_mode) & 0o700 != 0o700:
        os.fchmod(inside, 0o700)
    return inside


def _lift(inside: int, name: bytes, directory: int) -> bytes:
    while True:
        lifted = b"avfs-%x-t%x" % (os.getpid(), next(_trash_numbers))
        try:
            rename_at(inside, name, directory, lifted, RENAME_NOREPLACE)
        except FileExistsError:
            continue
        except PermissionError:
            # Moving a directory writes its `..`, which an ordinary user's closed directory refuses.
            chmod_at(inside, name, 0o700)
            rename_at(inside, name, directory, lifted, RENAME_NOREPLACE)
        return lifted
