"""Big blobs as plain files, so that a piece of one is read without inflating all of it.

Decided here: where the files stand (`DIRECTORY/BOOT/OID`), when they are trusted, and which ones are removed when they
get too many. All sessions of a vault share one directory; each has a `BlobCache` over it, for any thread. A lost file
is made again from the object.

A file gets its name when it is complete; its content was checked against its id while it was made. It is never synced:
after a power cut it may hold garbage, so that files of another boot are removed. On a machine without a boot id, files
get no name and are not shared. Processes that need the same blob at once wait for its maker (`_turn`), but no longer
than making it should take: the maker may be stopped, or find no room.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from avfs_git.host.files.closing import closing_fd
from avfs_git.host.files.durable import write_all
from avfs_git.host.files.modes import make_dir
from avfs_git.host.files.removal import remove_entry
from avfs_git.host.locks.flocks import take_number
from avfs_git.host.processes.boot import read_boot_id
from avfs_git.paths import Oid

CACHE_BYTES = 1 << 30
"""The default limit for the files of one cache together."""
_OPEN = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC
_NOT_OURS = frozenset({errno.EACCES, errno.EPERM, errno.EROFS})
_ELSEWHERE = "/var/tmp"  # noqa: S108 - the file gets no name there
"""Where files are made if the vault is read-only."""
_WAIT_S = 1.0
_MADE_PER_S = 50_000_000
"""A process that makes a blob may take `_WAIT_S` plus 1 s per so many bytes before another makes it as well."""
_O_TMPFILE = getattr(os, "O_TMPFILE", 0)


class BlobCache:
    """A directory of big blobs, shared by processes."""

    def __init__(
        self, directory: Path, *, limit_bytes: int | Callable[[], int] = CACHE_BYTES, boot: str | None = None
    ) -> None:
        """Use a directory, which is made when the first file is.

        Nothing else may be in the directory. A blob larger than half of `limit_bytes` is not kept.
        """
        self._top = directory
        self._boot = read_boot_id() if boot is None else boot
        self._place = directory / self._boot
        self._turns = directory.with_name(f"{directory.name}.turns")
        """In this file blobs that are being made are locked, each by a number from its id."""
        self._limit = limit_bytes if callable(limit_bytes) else lambda: limit_bytes
        self._is_ready = False

    def open(self, oid: Oid, size: int, pieces: Iterable[bytes], *, share: bool = True) -> int:
        """Open a blob for reading at any place; the caller closes the descriptor.

        `pieces`, which the caller has checked, are taken only if there is no file yet; with `share` it is kept for
        others.
        """
        name = self._place / oid.hex()
        found = self._open_known(name, size)
        if found is not None:
            return found
        if not share or self._boot == "unknown":
            return self._make(pieces)
        limit = self._limit()
        if size > limit // 2:
            return self._make(pieces, lambda _: self._trim(limit))
        with self._turn(oid, size):
            found = self._open_known(name, size)
            return self._make(pieces, lambda fd: self._keep(fd, name, limit)) if found is None else found

    def _make(self, pieces: Iterable[bytes], keep: Callable[[int], None] | None = None) -> int:
        with closing_fd(self._make_unnamed()) as writable:
            for piece in pieces:
                write_all(writable, piece)
            os.fchmod(writable, 0o400)
            if keep is not None:
                keep(writable)
            return os.open(b"/proc/self/fd/%d" % writable, os.O_RDONLY | os.O_CLOEXEC)

    @contextlib.contextmanager
    def _turn(self, oid: Oid, size: int) -> Iterator[None]:
        """Wait until no other process makes a blob; where that cannot be told, or takes too long, go on."""
        fd = -1
        try:
            with contextlib.suppress(OSError):
                self._prepare()
                fd = os.open(self._turns, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
                take_number(fd, int.from_bytes(oid[:7], "big"), wait_s=_WAIT_S + size / _MADE_PER_S)
            yield
        finally:
            if fd >= 0:
                os.close(fd)

    @staticmethod
    def _open_known(name: Path, size: int) -> int | None:
        try:
            fd = os.open(name, _OPEN)
        except OSError:  # not there, or not to be opened by this user: it is made for us alone
            return None
        found = os.fstat(fd)
        if found.st_size != size or not stat.S_ISREG(found.st_mode):
            os.close(fd)
            return None
        with contextlib.suppress(OSError):  # another user's: only how long it stays depends on it
            os.utime(fd)
        return fd

    def _prepare(self) -> None:
        """Make the directory of this boot and remove those of others, once a process."""
        if self._is_ready:
            return
        make_dir(self._top.parent, exist_ok=True)
        # its files are trusted: in a shared vault it belongs to its first user alone
        for directory in (self._top, self._place):
            directory.mkdir(mode=0o700, exist_ok=True)
        # or it would empty another one
        top = os.open(self._top, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        with closing_fd(top):
            for name in os.listdir(top):
                if name != self._boot:
                    with contextlib.suppress(OSError):  # another process does the same, or it is another user's
                        remove_entry(top, os.fsencode(name))
        self._is_ready = True

    def _make_unnamed(self) -> int:
        """Open a file that vanishes with its last descriptor: a process that is killed leaves nothing."""
        try:
            self._prepare()
            try:
                return self._open_unnamed()
            except FileNotFoundError:  # another process cleared the cache
                self._is_ready = False
                self._prepare()
                return self._open_unnamed()
        except OSError as error:
            if error.errno not in _NOT_OURS:
                raise
        import tempfile  # noqa: PLC0415 - rarely needed, and it takes as long as a small command

        with tempfile.TemporaryFile(dir=_ELSEWHERE) as file:
            return os.dup(file.fileno())

    def _open_unnamed(self) -> int:
        if _O_TMPFILE:
            with contextlib.suppress(IsADirectoryError, NotImplementedError):
                return os.open(self._place, _O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600)
        name = self._place / f".{os.getpid()}-{os.urandom(8).hex()}"
        fd = os.open(name, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        os.unlink(name)
        return fd

    def _keep(self, fd: int, name: Path, limit: int) -> None:
        """Give a file its name and remove others."""
        with contextlib.suppress(OSError):  # it is not shared, and nothing else is lost
            try:
                _link(fd, name)
            except FileExistsError:
                # Another process was faster, or what has the name is not what it should be.
                if os.stat(name, follow_symlinks=False).st_size != os.fstat(fd).st_size:
                    os.unlink(name)
                    _link(fd, name)
            self._trim(limit, keep=name.name)

    def _trim(self, limit: int, *, keep: str = "") -> None:
        """Remove the least recently used blobs until the rest is within the limit, or this process cannot remove it."""
        files: list[tuple[int, int, str]] = []
        with contextlib.suppress(OSError), os.scandir(self._place) as entries:
            for entry in entries:
                with contextlib.suppress(FileNotFoundError):
                    found = entry.stat(follow_symlinks=False)
                    files.append((found.st_mtime_ns, found.st_size, entry.name))
        total = sum(size for _, size, _ in files)
        for _, size, name in sorted(files):
            if total <= limit:
                break
            if name != keep:
                with contextlib.suppress(OSError):
                    os.unlink(self._place / name)
                total -= size


def _link(fd: int, name: Path) -> None:
    """Give an unnamed file a name; the directory descriptor makes this linkat(2), which follows the link of /proc."""
    with closing_fd(os.open(name.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)) as directory:
        os.link(b"/proc/self/fd/%d" % fd, os.fsencode(name.name), dst_dir_fd=directory, follow_symlinks=True)
