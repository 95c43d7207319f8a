"""The lock of a ref, which is git's: the process that creates `REF.lock` may move `REF`.

Decided here: how avfs takes that lock so that a killed process leaves nothing for people to clean up. Git's lock file
stays when git is killed. The new value of a ref is written to a file in `avfs/reftxn`, on which a flock is held, and
that file is linked to `REF.lock`. So a lock of ours tells whether its owner lives: if the flock can be had, it does
not, and the process that has the flock removes the lock, if the name still means that file. Called by `refs` alone;
usable from threads and processes at once.
"""

from __future__ import annotations

import errno
import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from avfs_git.errors import HostError, RefConflict, RefLocked
from avfs_git.gitstore.repofile import list_worktree_dirs
from avfs_git.host.files.closing import closing_fd
from avfs_git.host.files.durable import make_dirs_durably, write_all
from avfs_git.host.files.modes import open_file
from avfs_git.values import record_class

_LOCK_WAIT_S = 5.0


@record_class
class Prepared:
    """A file in `avfs/reftxn` with what a ref is to hold, under flock: the proof that its owner lives."""

    path: bytes
    fd: int
    inode: tuple[int, int]
    """Its device and number."""


@record_class
class Lock:
    """The place of a lock, and the file that is there while it is ours."""

    path: bytes
    inode: tuple[int, int]
    linked: bool = False
    """Whether it was taken, and not renamed to what it locks."""


_LOCKED = (
    *(b"packed-refs", b"HEAD", b"config", b"shallow", b"gc.pid"),
    *(b"objects/info/commit-graph", b"objects/info/commit-graphs/commit-graph-chain"),
)
"""Files that git locks, beside refs and reflogs."""


def _inode_of(found: os.stat_result) -> tuple[int, int]:
    return found.st_dev, found.st_ino


class RefLocks:
    """The locks of one repository."""

    def __init__(self, git_dir: Path) -> None:
        self._root = os.fsencode(git_dir) + b"/"
        self._transactions = self._root + b"avfs/reftxn"

    def take(self, stack: ExitStack, prepared: Prepared, path: bytes, name: str) -> Lock:
        """Lock a file, waiting up to 5 s, until the stack ends or the lock is renamed to the file.

        Raises:
            RefLocked: If another program keeps it locked.
            RefConflict: If a part of its name is a ref.
        """
        lock = Lock(path + b".lock", prepared.inode)
        stack.callback(self.release, lock)
        self._link(prepared, lock, name)
        return lock

    def try_take(self, stack: ExitStack, prepared: Prepared, path: bytes, name: str) -> bool:
        """Lock a file until the stack ends, if no living process has it locked; tell whether that was possible."""
        lock = Lock(path + b".lock", prepared.inode)
        stack.callback(self.release, lock)
        try:
            self._link(prepared, lock, name, wait_s=0.0)
        except (RefLocked, RefConflict):
            return False
        return True

    @contextmanager
    def prepare(self, content: bytes) -> Iterator[Prepared]:
        """Write what a lock file is to hold under a name of its own, with the flock taken; remove it at the end."""
        prepared = self._create_prepared()
        try:
            if content:
                write_all(prepared.fd, content)
            yield prepared
        except BaseException:  # a signal may have come while a lock was given up
            for path in self.list_locks():
                with suppress(OSError):
                    if _inode_of(os.lstat(path)) == prepared.inode:
                        os.unlink(path)
            raise
        finally:
            with suppress(OSError):
                os.unlink(prepared.path)
            with suppress(OSError):
                os.close(prepared.fd)

    def _create_prepared(self) -> Prepared:
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
        while True:
            path = self._transactions + b"/" + os.urandom(8).hex().encode("ascii")
            try:
                fd = open_file(path, flags)
            except FileNotFoundError:
                os.stat(self._root)  # a repository that was removed or moved does not come back as an empty directory
                make_dirs_durably(Path(os.fsdecode(self._transactions)))
                continue
            try:
                fcntl.flock(fd, fcntl.LOCK_EX)
                # Until it had the flock it looked like a dead owner's: `recover` may have removed it.
                if (found := os.fstat(fd)).st_nlink:
                    return Prepared(path, fd, _inode_of(found))
            except BaseException:
                os.close(fd)
                raise
            os.close(fd)

    def _link(self, prepared: Prepared, lock: Lock, name: str, *, wait_s: float | None = None) -> None:
        """Link a prepared file to its lock's name; wait for the holder, `_LOCK_WAIT_S` unless told otherwise."""
        deadline = time.monotonic() + (_LOCK_WAIT_S if wait_s is None else wait_s)
        pause_s = 0.001
        while True:
            try:
                os.link(prepared.path, lock.path)
            except FileExistsError:
                if self._remove_dead(lock.path):
                    continue
            except FileNotFoundError:
                # Also when git removes an empty directory between the two.
                try:
                    make_dirs_durably(Path(os.fsdecode(os.path.dirname(lock.path))))
                except HostError as error:
                    if error.errno in (errno.ENOTDIR, errno.EEXIST):
                        raise RefConflict(name, None, "a part of its name is a ref") from None
                    if error.errno != errno.ENOENT:
                        raise
                else:
                    continue
            except NotADirectoryError:
                raise RefConflict(name, None, "a part of its name is a ref") from None
            else:
                lock.linked = True
                return
            if time.monotonic() > deadline:
                raise RefLocked(name, os.fsdecode(lock.path))
            time.sleep(pause_s * (0.5 + os.urandom(1)[0] / 256))  # so that waiters do not meet again
            pause_s = min(pause_s * 2, 0.05)

    def _remove_dead(self, path: bytes) -> bool:
        """Remove a lock of ours whose owner died; tell whether the lock is gone."""
        try:
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
        except FileNotFoundError:
            return True
        except OSError:
            return False
        with closing_fd(fd):
            found = os.fstat(fd)
            temporary = self._temporary_of(found)
            if temporary is None:
                return False  # git's, or another program's
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                return False  # its owner lives
            try:
                now = os.lstat(path)
            except FileNotFoundError:
                return True
            if _inode_of(now) == _inode_of(found):
                os.unlink(path)
            if os.fstat(fd).st_nlink <= 1:  # else it is a lock elsewhere too, and still has to say whose
                with suppress(FileNotFoundError):
                    os.unlink(temporary)
            return True

    def _temporary_of(self, found: os.stat_result) -> bytes | None:
        """Find the name in `avfs/reftxn` of a lock file."""
        with suppress(OSError), os.scandir(self._transactions) as entries:
            for entry in entries:
                status = entry.stat(follow_symlinks=False)
                if _inode_of(status) == _inode_of(found):
                    return entry.path
        return None

    def release(self, lock: Lock) -> None:
        """Give a lock up, if it is still held; the file in `avfs/reftxn`, which says whose it is, goes after it."""
        # The file decides: a signal may come between any two steps, and another program may have the lock by now.
        with suppress(OSError):
            if _inode_of(os.lstat(lock.path)) == lock.inode:
                os.unlink(lock.path)
                self.remove_empty_parents(os.path.dirname(lock.path))
        lock.linked = False

    def remove_empty_parents(self, directory: bytes) -> None:
        """Remove directories that hold no ref any more, up to `refs/KIND`."""
        with suppress(OSError):
            while directory.startswith(self._root + b"refs/") and directory[len(self._root) :].count(b"/") >= 2:
                os.rmdir(directory)
                directory = os.path.dirname(directory)

    def recover(self) -> int:
        """Remove the locks that killed processes of ours left, and say how many files went.

        Called when the refs are opened; a lock in the way of an update is removed there as well. What
        cannot be removed (a file system that is read-only) stays.
        """
        try:
            names = os.listdir(self._transactions)
        except OSError:
            return 0
        return sum(self._recover_one(self._transactions + b"/" + name) for name in names) if names else 0

    def _recover_one(self, temporary: bytes) -> int:
        try:
            fd = os.open(temporary, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
        except OSError:
            return 0
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            found = os.fstat(fd)
            if found.st_nlink > 1:
                # Somewhere its lock may stand. The file in `avfs/reftxn` goes last: it says whose the lock is.
                for path in self.list_locks():
                    status = os.lstat(path)
                    if _inode_of(status) == _inode_of(found):
                        os.unlink(path)
            os.unlink(temporary)
        except OSError:
            return 0  # its owner lives, or another process was faster
        finally:
            os.close(fd)
        return 1

    def list_locks(self) -> Iterator[bytes]:
        """List all lock files in the repository, and directories in their place."""
        for name in _LOCKED:
            if os.path.lexists(path := self._root + name + b".lock"):
                yield path
        worktrees = [os.fsencode(place) + b"/" for place in list_worktree_dirs(Path(os.fsdecode(self._root)))]
        for worktree in worktrees:
            yield from (worktree + name for name in os.listdir(worktree) if name.endswith(b".lock"))
        for top in (self._root, *worktrees):
            for kind in (b"refs", b"logs"):
                for directory, directories, files in os.walk(top + kind):
                    for name in (*directories, *files):
                        if name.endswith(b".lock"):
                            yield os.path.join(directory, name)


def rename_over(lock: bytes, path: bytes) -> None:
    """Rename a lock to its ref; empty directories of that name, which git leaves, make room."""
    for _ in range(3):
        try:
            os.rename(lock, path)
        except IsADirectoryError:
            for directory, _, _ in os.walk(path, topdown=False):
                with suppress(OSError):
                    os.rmdir(directory)
        else:
            return
    os.rename(lock, path)
