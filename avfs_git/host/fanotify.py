"""What programs do to files, by fanotify(7): openings of a file, reads and writes in a mount, file system changes.

Decided here: that one file is watched for openings, so that nothing else on the machine waits; that a mark of a mount
tells reads and writes with their processes; and that a mark of a whole file system tells what is made, renamed and
removed there, in directories that it names by file handles. overlayfs has no such handles (EOPNOTSUPP): its upper
layer's file system does. The kernel joins equal events that wait, and tells no sizes. Needs root. One thread reads a
group. Nothing survives the process: the kernel then lets waiting programs go on.
"""

from __future__ import annotations

import ctypes
import errno
import os
import select
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from avfs_git.host.files.closing import closing_fd
from avfs_git.values import NamedTuple

_CLASS_NOTIF, _CLASS_CONTENT, _CLOEXEC, _NONBLOCK = 0, 4, 1, 2  # linux/fanotify.h
_WITH_NAMES: Final = 0x200 | 0x400 | 0x800 | 0x1000
"""FAN_REPORT_FID, DIR_FID, NAME and TARGET_FID: handles of directory and file and the name instead of a descriptor."""
_MARK_ADD, _MARK_MOUNT, _MARK_FILESYSTEM = 1, 0x10, 0x100
_ACCESS, _MODIFY, _OVERFLOW, _OPEN_PERM = 1, 2, 0x4000, 0x10000
_ATTRIB, _CREATE, _DELETE, _RENAME, _ONDIR = 4, 0x100, 0x200, 0x10000000, 0x40000000
_OF_FILE, _OF_NAME, _OF_OLD_NAME, _OF_NEW_NAME = 1, 2, 10, 12
"""What a record behind an event tells of."""
_ALLOW, _DENY = 1, 2
_AT_FDCWD, _AT_EMPTY_PATH = -100, 0x1000
_EVENT: Final = struct.Struct("=IBBHQii")
"""Event length, layout version, a reserved byte, this struct's length, what happened, a descriptor, the process."""
_RECORD: Final = struct.Struct("=BBHQIi")
"""What it tells of, a reserved byte, its length, the file system, the length of the handle that follows, its type."""
_HANDLE_AT: Final = _RECORD.size - 8
"""Length and type are a part of the handle as the system calls take it."""
_HANDLE_MAX: Final = 128
_RESPONSE: Final = struct.Struct("=iI")
_READ: Final = 4096
_DELETED: Final = b" (deleted)"


class Access(NamedTuple):
    """One or more equal calls of a process."""

    pid: int
    reads: bool
    writes: bool
    path: bytes | None
    """Where the file is, as this process sees it.

    None for a file without a name, or with a path that the kernel cannot tell.
    """
    is_complete: bool = True
    """Whether none was lost before it."""


class Change(NamedTuple):
    """One or more calls of a process that changed the same name or file.

    Directories and files are told by their handles.
    """

    pid: int
    is_made: bool
    is_written: bool
    is_set: bool
    """Whether attributes were set."""
    is_removed: bool
    is_renamed: bool
    is_directory: bool
    parent: bytes | None
    """The directory of the name; of a renamed one, of the new name. None for a file without a name."""
    name: bytes
    target: bytes
    old_parent: bytes | None = None
    old_name: bytes = b""
    is_complete: bool = True
    """Whether none was lost before it."""


class _Group:
    def __init__(self, kind: int, path: Path, mark: int, mask: int) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._fd = -1
        try:
            self._fd = self._libc.fanotify_init(kind | _CLOEXEC | _NONBLOCK, os.O_RDONLY | os.O_CLOEXEC)
            self._mark(path, mark, mask)
        except BaseException:
            self.close()
            raise

    def _mark(self, path: Path, mark: int, mask: int) -> None:
        given = (self._fd, _MARK_ADD | mark, ctypes.c_uint64(mask), _AT_FDCWD, os.fsencode(path))
        if self._fd < 0 or self._libc.fanotify_mark(*given):
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))

    def fileno(self) -> int:
        """Give the descriptor that becomes readable with an event."""
        return self._fd

    def _read(self) -> Iterator[tuple[int, int, int, bytes]]:
        """Take waiting events, if there are any: mask, descriptor, process and records of each."""
        try:
            data = os.read(self._fd, _READ)
        except BlockingIOError:  # the program that waited was killed
            return
        at = 0
        while at + _EVENT.size <= len(data):
            size, _, _, head, mask, fd, pid = _EVENT.unpack_from(data, at)
            yield mask, fd, pid, data[at + head : at + size]
            at += size

    def close(self) -> None:
        """Watch no more: each program that waits goes on. A second call does nothing."""
        if self._fd >= 0:
            os.close(self._fd)
        self._fd = -1


class Openings(_Group):
    """Holds back programs that open one file, whichever flags they open it with."""

    def __init__(self, path: Path) -> None:
        """Watch a file from now on. Raises OSError where this process may not, or the kernel cannot."""
        self._wake = os.eventfd(0, os.EFD_CLOEXEC)
        super().__init__(_CLASS_CONTENT, path, 0, _OPEN_PERM)

    def watch(self, path: Path) -> None:
        """Watch the file that has the name by now, as well; a second time changes nothing. Raises OSError as above."""
        self._mark(path, 0, _OPEN_PERM)

    def wait(self) -> list[int]:
        """Wait until another process opens the file; gives what is to be passed to `answer`.

        An empty list: `stop` was called.
        """
        poll = select.poll()
        poll.register(self, select.POLLIN)
        poll.register(self._wake, select.POLLIN)
        while self._fd in [fd for fd, _ in poll.poll()]:  # what came before `stop` is told
            found = []
            for _, opening, process, _ in self._read():
                if process == os.getpid():  # it would wait for itself
                    self.answer(opening)
                else:
                    found.append(opening)
            if found:
                return found
        return []

    def stop(self) -> None:
        """Let `wait` return. From any thread."""
        os.eventfd_write(self._wake, 1)

    def close(self) -> None:
        """Watch no more: each program that waits goes on. A second call does nothing."""
        super().close()
        if self._wake >= 0:
            os.close(self._wake)
        self._wake = -1

    def answer(self, opening: int, *, allow: bool = True) -> None:
        """Let the program that opens the file go on; or refuse it the file, with EPERM."""
        try:
            os.write(self._fd, _RESPONSE.pack(opening, _ALLOW if allow else _DENY))
        except OSError:  # it was killed
            pass
        os.close(opening)


class Accesses(_Group):
    """Tells reads and writes in one mount."""

    def __init__(self, directory: Path) -> None:
        """Begin. Raises OSError where this process may not, or the kernel cannot."""
        super().__init__(_CLASS_NOTIF, directory, _MARK_MOUNT, _ACCESS | _MODIFY)

    def read(self) -> list[Access]:
        """Take waiting ones, if there are any."""
        try:
            events = list(self._read())
        except OSError:  # the kernel could not open the file of one, which is lost
            return [Access(0, reads=False, writes=False, path=None, is_complete=False)]
        try:
            return [_read_access(mask, fd, pid) for mask, fd, pid, _ in events]
        finally:  # each descriptor keeps the mount from being unmounted
            for _, fd, _, _ in events:
                if fd >= 0:
                    os.close(fd)


class Changes(_Group):
    """Tells changes of files and names of one whole file system."""

    def __init__(self, directory: Path) -> None:
        """Begin with the file system of a directory.

        Raises OSError where this process may not, or the kernel cannot.
        """
        self._directory = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        mask = _CREATE | _DELETE | _RENAME | _ATTRIB | _MODIFY | _ONDIR
        super().__init__(_CLASS_NOTIF | _WITH_NAMES, directory, _MARK_FILESYSTEM, mask)

    def read(self) -> list[Change]:
        """Take waiting ones, if there are any."""
        return [_read_change(mask, pid, records) for mask, _, pid, records in self._read()]

    def find_handle(self, file: Path | int) -> bytes:
        """Give the handle by which changes name a file. Raises OSError."""
        at, path, flags = (file, b"", _AT_EMPTY_PATH) if isinstance(file, int) else (_AT_FDCWD, os.fsencode(file), 0)
        handle = ctypes.create_string_buffer(struct.pack("=Ii", _HANDLE_MAX, 0), 8 + _HANDLE_MAX)
        if self._libc.name_to_handle_at(at, path, handle, ctypes.byref(ctypes.c_int()), flags):
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))
        return handle.raw[: 8 + struct.unpack_from("=I", handle)[0]]

    def look_at(self, handle: bytes) -> os.stat_result | None:
        """Give the attributes of the file of a handle; None if it is gone."""
        try:
            with closing_fd(self._open(handle)) as fd:
                return os.fstat(fd)
        except OSError:
            return None

    def find_parent(self, handle: bytes) -> tuple[bytes, bytes] | None:
        """Give the directory that a directory is in, and its name there; None for the root of the file system.

        Raises OSError, also if it is gone.
        """
        flags = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
        with closing_fd(self._open(handle)) as fd, closing_fd(os.open("..", flags, dir_fd=fd)) as parent:
            here, above = os.fstat(fd), os.fstat(parent)
            if above.st_dev != here.st_dev or above.st_ino == here.st_ino:
                return None
            if path := _find_path(fd):
                return self.find_handle(parent), os.path.basename(path)
            with os.scandir(parent) as entries:  # the path is too long for the kernel
                for entry in entries:
                    if entry.inode() == here.st_ino:
                        return self.find_handle(parent), os.fsencode(entry.name)
        raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))

    def _open(self, handle: bytes) -> int:
        fd: int = self._libc.open_by_handle_at(self._directory, handle, os.O_PATH | os.O_CLOEXEC)
        if fd < 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))
        return fd

    def close(self) -> None:
        """Watch no more. A second call does nothing."""
        super().close()
        if self._directory >= 0:
            os.close(self._directory)
        self._directory = -1


def _read_change(mask: int, pid: int, records: bytes) -> Change:
    found = {}
    at = 0
    while at < len(records):
        kind, _, size, _, length, _ = _RECORD.unpack_from(records, at)
        handle_end = at + _RECORD.size + length
        found[kind] = records[at + _HANDLE_AT : handle_end], records[handle_end : at + size].partition(b"\0")[0]
        at += size
    parent, name = found.get(_OF_NEW_NAME) or found.get(_OF_NAME) or (None, b"")
    old_parent, old_name = found.get(_OF_OLD_NAME) or (None, b"")
    return Change(
        pid,
        is_made=bool(mask & _CREATE),
        is_written=bool(mask & _MODIFY),
        is_set=bool(mask & _ATTRIB),
        is_removed=bool(mask & _DELETE),
        is_renamed=bool(mask & _RENAME),
        is_directory=bool(mask & _ONDIR),
        parent=parent,
        name=name,
        target=found.get(_OF_FILE, (b"", b""))[0],
        old_parent=old_parent,
        old_name=old_name,
        is_complete=not mask & _OVERFLOW,
    )


def _read_access(mask: int, fd: int, pid: int) -> Access:
    if mask & _OVERFLOW or fd < 0:
        return Access(0, reads=False, writes=False, path=None, is_complete=False)
    return Access(pid, bool(mask & _ACCESS), bool(mask & _MODIFY), _find_path(fd))


def _find_path(fd: int) -> bytes | None:
    try:
        path = os.readlink(f"/proc/self/fd/{fd}".encode())
    except OSError:  # it is longer than a page
        return None
    return path if not path.endswith(_DELETED) or _is_at(path, os.fstat(fd)) else None


def _is_at(path: bytes, file: os.stat_result) -> bool:
    try:
        return os.path.samestat(os.lstat(path), file)
    except OSError:
        return False
