"""Writing files so that they are there, whole, after a power cut.

Decided here: the order of write, fsync and rename, and that a directory is synced after a name in it came or went (else
the rename is lost, though the file's content is on the disk). Functions without state, safe from any thread; two
writers of one file each write their own temporary file, and the last rename wins.

A crash leaves the old content or the new, and perhaps a `.NAME.XXXXXXXX.tmp` beside it.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from avfs_git import faults
from avfs_git.errors import HostError
from avfs_git.host.files.closing import closing_fd
from avfs_git.host.files.modes import make_dir, mode_below, open_file


@contextmanager
def host_errors(action: str) -> Iterator[None]:
    """Turn an `OSError` into a `HostError` that says what was being done."""
    try:
        yield
    except OSError as error:
        raise HostError(action, error) from error


def is_directory(path: Path) -> bool:
    """Tell whether a path leads to a directory.

    Raises:
        HostError: If it cannot be told, because the path is too long, or leads through a directory that is closed.
    """
    with host_errors(f"look at '{path}'"):
        return path.is_dir()


def check_directory(path: Path) -> None:
    """Refuse a source that is no directory.

    Raises:
        HostError: If so.
    """
    with host_errors(f"read '{path}'"):
        if not stat.S_ISDIR(path.stat().st_mode):
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))


def find_refusal(path: Path) -> OSError | None:
    """Tell why this process may not write in a directory, or in the nearest that is there; None if it may."""
    while not path.exists():
        path = path.parent
    if os.access(path, os.W_OK | os.X_OK, effective_ids=True):
        return None
    number = errno.EROFS if os.statvfs(path).f_flag & os.ST_RDONLY else errno.EACCES
    return OSError(number, os.strerror(number))


def write_file_atomically(
    path: Path, data: bytes, *, mode: int = 0o666, durable: bool = True, despite_umask: bool = False
) -> None:
    """Replace a file's content: all of it or nothing; on disk on return if durable. On failure the old content stays.

    The file gets those of the permissions `mode` that its directory has (`modes`), `despite_umask` also where a group
    may only read the directory.
    """
    with host_errors(f"write '{path}'"):
        directory, name = os.path.split(os.fsencode(path))
        # Not derived from the whole name, which may be as long as a name can be.
        temporary = os.path.join(directory, b".%s.%s.tmp" % (name[:200], os.urandom(4).hex().encode("ascii")))
        faults.reach("durable.begun")
        fd = open_file(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, mode)
        try:
            with closing_fd(fd):
                if despite_umask:
                    os.fchmod(fd, mode & mode_below(directory))
                write_all(fd, data)
                if durable:
                    sync_file(fd)  # before the rename: else a crash may leave the name with no content
                faults.reach("durable.written")
            os.rename(temporary, os.fsencode(path))
        except BaseException:
            with suppress(OSError):
                os.unlink(temporary)
            raise
        faults.reach("durable.renamed")
        if durable:
            _fsync_dir(directory or b".")


def write_all(fd: int, data: bytes | bytearray | memoryview) -> None:
    """Write all of it; a write may take less than it is given."""
    written = os.write(fd, data)
    if written == len(data):
        return
    view = memoryview(data)
    while written < len(view):
        written += os.write(fd, view[written:])


def sync_file(fd: int, *, data_only: bool = False) -> None:
    """Force to disk what an open file holds, or which names an open directory holds.

    With `data_only`, without the file's times.

    Where XFS has shut down, because its disk fails, `fsync` of a directory succeeds: the changes in memory were
    dropped, so there is nothing to write. `fstat` fails there.
    """
    (os.fdatasync if data_only else os.fsync)(fd)
    os.fstat(fd)


def sync_files(*fds: int) -> None:
    """Force the content of several open files to disk; the writing of all begins before the first is waited for."""
    if len(fds) > 1:
        from avfs_git.host.files.flush import begin_writing  # noqa: PLC0415 - loads ctypes, which commands that only read spare

        for fd in fds[1:]:
            begin_writing(fd, 0, 0)
    refused: list[OSError] = []
    for fd in fds:
        try:
            sync_file(fd)
        except OSError as error:
            refused.append(error)
    if refused:
        raise refused[0]


def fsync_dir(path: Path) -> None:
    """Put on disk which names a directory holds."""
    with host_errors(f"sync '{path}'"):
        _fsync_dir(os.fsencode(path))


def _fsync_dir(path: bytes) -> None:
    sync_path(path, os.O_DIRECTORY)


def sync_path(path: str | bytes | os.PathLike[str], flags: int = 0) -> None:
    """Force to disk what a file or directory holds. Raises OSError."""
    with closing_fd(os.open(path, os.O_RDONLY | os.O_CLOEXEC | flags)) as fd:
        sync_file(fd)


def make_dirs_durably(path: Path, *, private: bool = False, parents: bool = True) -> None:
    """Make a directory and, with `parents`, those above it that are missing; on disk on return.

    With `private` they are closed to other users; else each gets the permissions of the directory that it is made in.
    """
    with host_errors(f"create '{path}'"):
        missing: list[Path] = []
        place = path
        while not place.is_dir():
            missing.append(place)
            if place.parent == place or not parents:
                break
            place = place.parent
        for directory in reversed(missing):
            # Another process may make it at the same time; whoever returns first has synced it all the same.
            try:
                if private:
                    os.mkdir(directory, 0o700)
                else:
                    make_dir(directory)
            except FileExistsError:
                if not directory.is_dir():
                    raise
            _fsync_dir(os.fsencode(directory.parent))


def sync_file_system(path: Path) -> None:
    """Put on disk everything that is not yet, on the file system that a path is on.

    For a great many files at once, where one sync each would take longer.
    """
    import ctypes  # noqa: PLC0415 - only here, and it takes as long as a small command

    with host_errors(f"sync '{path}'"):
        syncfs = ctypes.CDLL(None, use_errno=True).syncfs
        with closing_fd(os.open(path, os.O_RDONLY | os.O_CLOEXEC)) as fd:
            if syncfs(fd) != 0:
                code = ctypes.get_errno()
                raise OSError(code, os.strerror(code))
            os.fstat(fd)  # as `sync_file` does
