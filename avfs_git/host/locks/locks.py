"""The lock file of a workspace: its holder, and how often the workspace has changed.

Decided here: how processes exclude each other from a workspace, and how a process learns cheaply that another wrote
meanwhile. The lock is flock(2): the kernel drops it when its holder dies. The file has the layout of
`docs/design/format.md`, "lock"; each process maps it to read it. How long a lock is waited for: `LOCK_TIMEOUT_S`; what
a message says of the holder: `Holder`.

- The *epoch* grows with each change, and is odd during one: an odd epoch without a holder means that the holder died in
  a change.
- The *clean epoch* is the epoch at which the last capture had recorded everything, with the commit that did.
- *Retired*: the workspace was put away, so no process may write there any more.
- The *session* that keeps the lock while it lives: other processes ask it instead of waiting. It may be stale, like the
  holder's record: only the flock counts. A session looks every few seconds whether the file is there (`attend`). A file
  whose epoch is 0 is new, and says nothing of sessions: a process that opens it looks (`name_session`).

One `LockFile` serves one process, from any thread; taking it is reentrant within a thread. A process that keeps the
lock (`keep`) may fork: its child has the same lock and the same counters. A process that may not write to the file has
a `ReadingLock`, which excludes writers and writes nothing. A `LookingLock` excludes no process.
"""

from __future__ import annotations

import errno
import fcntl
import mmap
import os
import struct
import threading
import time
from array import array
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import overload

from avfs_git.errors import LeftInForce
from avfs_git.host.files.closing import Closing, closing_fd
from avfs_git.host.files.durable import host_errors
from avfs_git.host.files.modes import open_file
from avfs_git.host.files.plainfile import open_plain
from avfs_git.values import NamedTuple

REFUSED_WRITING = frozenset({errno.EROFS, errno.EACCES, errno.EPERM})
"""The errors for a file that this user may not write, but perhaps read."""
LOCK_TIMEOUT_S = 10.0
"""How long a caller waits for a lock, unless it says otherwise."""
_COMMIT = slice(16, 36)
_RETIRED = 36
_OPERATING = 37
_SESSION = slice(40, 64)
_SESSION_MAX = 24
_OWNER_AT = 64
_OWNER_MAX = 168
_ABOVE_AT = _OWNER_AT + _OWNER_MAX
_ABOVE = struct.Struct("<3Q")
_SIZE = _ABOVE_AT + _ABOVE.size
_GET_FLAGS, _SET_FLAGS, _NOCOW = 0x80086601, 0x40086602, 0x00800000  # linux/fs.h: FS_IOC_GETFLAGS and so on
_COUNTERS_END = 1 << 64
"""A counter that is damaged may stand just below it; it wraps around, and stays odd or even as it should be."""


class Holder(NamedTuple):
    """Who holds a lock."""

    pid: int
    since_ns: int
    name: str

    def describe(self) -> str:
        """Say it for a message, with for how long."""
        seconds = max(0, time.time_ns() - self.since_ns) // 1_000_000_000
        return (
            f"{self.name} (pid {self.pid}) for {seconds // 60} min"
            if seconds >= 120
            else f"{self.name} (pid {self.pid}) for {seconds} s"
        )


def _look_at(pid: int) -> tuple[bytes, int]:
    """Tell a process from every other of this boot, and the number of the one above it.

    Raises:
        OSError: If it is gone, or is not shown.
    """
    fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()  # proc_pid_stat(5)
    return _ABOVE.pack(os.stat("/proc/self/ns/pid").st_ino, pid, int(fields[19])), int(fields[1])


class _Content:
    """The content of a lock file: read through a map, written by calls.

    A copy-on-write file system (btrfs) needs room for each write, and on a full disk or at a quota it kills a process
    that writes through a map (SIGBUS). A call fails there, or succeeds where the file is no copy (`_write_in_place`).
    """

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._map = mmap.mmap(fd, _SIZE, access=mmap.ACCESS_READ)

    @overload
    def __getitem__(self, place: int) -> int: ...

    @overload
    def __getitem__(self, place: slice) -> bytes: ...

    def __getitem__(self, place: int | slice) -> int | bytes:
        """Read a byte, or several."""
        return self._map[place]

    def __setitem__(self, place: int | slice, value: int | bytes) -> None:
        """Write a byte, or several, in one call: a reader sees all of them or none, and a kill leaves all or none."""
        start = place.start if isinstance(place, slice) else place
        os.pwrite(self._fd, value if isinstance(value, bytes) else bytes((value,)), start)

    def close(self) -> None:
        """Give up the map."""
        self._map.close()


def _write_in_place(fd: int) -> None:
    """Have a new, empty file written in place on a file system that makes copies (FS_NOCOW_FL); else do nothing."""
    with suppress(OSError):
        flags = array("L", [0])
        fcntl.ioctl(fd, _GET_FLAGS, flags)
        flags[0] |= _NOCOW
        fcntl.ioctl(fd, _SET_FLAGS, flags)


def _spell_session(session: str) -> bytes:
    return session.encode("ascii").ljust(_SESSION_MAX, b"\0")


def _open_whole(path: Path) -> int:
    """Open a lock's file for writing, as long as it has to be; make it if needed."""
    fd = open_file(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        found = os.fstat(fd)
        if found.st_size < _SIZE or not found.st_blocks:
            if not found.st_size:
                _write_in_place(fd)
            os.posix_fallocate(fd, 0, _SIZE)  # the blocks, too: later writes need none on a full disk
    except BaseException:
        os.close(fd)
        raise
    return fd


class LockFile(Closing):
    """An exclusive lock between processes, with change counters.

    If the file system fails, what says that something begins raises HostError, what says that it ended does without,
    and any other method raises OSError.

    Attributes:
        left: The dead session that this process continues, or None. While the file still names it, `acquire` waits as
            for any process: the holder is another process that looks, not that session.
    """

    _kind = fcntl.LOCK_EX

    def __init__(self, path: Path, *, owner: str) -> None:
        """Open the lock, making its file if needed. `owner` is what `holder` tells other processes, beside the pid."""
        self._fd = _open_whole(path)
        try:
            self._map: _Content | mmap.mmap = _Content(self._fd)
        except BaseException:
            os.close(self._fd)
            raise
        self._owner = owner
        self._begin()

    def _begin(self) -> None:
        self._thread_lock = threading.RLock()
        self.depth = 0
        """How often the thread that holds the lock has taken it; meaningful only for that thread."""
        self._changing = 0
        self._kept = False
        self.left: str | None = None

    def is_at(self, path: Path) -> bool:
        """Whether this lock is the one at a path: it may have been moved away, or another put there."""
        try:
            return os.path.samestat(os.stat(path), os.fstat(self._fd))
        except OSError:
            return False

    def fileno(self) -> int:
        """Give its descriptor: a process that has a copy of it has the lock, too, until one of them releases it."""
        return self._fd

    def close(self) -> None:
        """Give up the file. A second call does nothing."""
        if self._fd >= 0:
            self._map.close()
            os.close(self._fd)
            self._fd = -1

    def acquire(self, timeout_s: float) -> bool:
        """Take the lock; False if another process or thread has it for that long, or a session keeps it."""
        if not self._thread_lock.acquire(timeout=max(timeout_s, 0)):
            return False
        if self.depth:
            self.depth += 1
            return True
        try:
            taken = self._lock_file(timeout_s)
        except BaseException:
            self._thread_lock.release()
            raise
        if not taken:
            self._thread_lock.release()
            return False
        self.depth = 1
        return True

    def _lock_file(self, timeout_s: float) -> bool:
        pause_s = 0.0005
        deadline: float | None = None
        while True:
            try:
                fcntl.flock(self._fd, self._kind | fcntl.LOCK_NB)
                return True
            except OSError as error:
                if error.errno not in (errno.EWOULDBLOCK, errno.EINTR):
                    raise
                if error.errno == errno.EWOULDBLOCK and self.session not in (None, self.left):
                    return False  # it keeps the lock, and can be asked
            now = time.monotonic()
            if deadline is None:
                deadline = now if self.is_callers else now + timeout_s
            if now >= deadline:
                return False
            # flock has no timeout of its own, and a blocking one cannot be interrupted from another thread.
            time.sleep(min(pause_s, deadline - now))
            pause_s = min(pause_s * 2, 0.05)

    def release(self) -> None:
        """Give the lock back."""
        self.depth -= 1
        if self.depth == 0 and not self._kept:
            fcntl.flock(self._fd, fcntl.LOCK_UN)
        self._thread_lock.release()

    def keep(self, session: str) -> None:
        """Keep the lock between other processes from now on, also when every thread has released it.

        Called with the lock held.

        `session` tells other processes who keeps it: an id of at most 24 ASCII letters and digits.
        """
        self._kept = True
        self._map[_SESSION] = _spell_session(session)

    def name_session(self, session: str) -> None:
        """Have this process and others find a session that a lock file made anew does not name."""
        with host_errors("note the session of the workspace"):
            self._map[_SESSION] = _spell_session(session)

    def attend(self, path: Path, session: str) -> None:
        """Have others find the session that keeps the lock, although a person has removed or damaged its file.

        Without it, another process would make a new lock, and take that. Does nothing while an operation is under way
        here, once the workspace is put away, and while another process has the new lock: it is called every few
        seconds.
        """
        if not self._kept or not self._thread_lock.acquire(blocking=False):
            return
        try:
            is_here = self.is_at(path)
            if self.depth or (self.is_retired and not is_here):
                return
            if not is_here:
                self._move_to(path)
            if self._map[_SESSION] != _spell_session(session):
                self.keep(session)
        finally:
            self._thread_lock.release()

    def _move_to(self, path: Path) -> None:
        """Take the lock at a path in place of the file that was there, with what that says."""
        with closing_fd(_open_whole(path)) as fd:
            try:
                fcntl.flock(fd, self._kind | fcntl.LOCK_NB)
            except BlockingIOError:
                return
            os.pwrite(fd, self._map[0:_SIZE], 0)
            os.dup2(fd, self._fd, inheritable=False)  # both are one open file, and the lock stays with it
        self._map = _Content(self._fd)  # another thread may be reading the map before

    def stop_keeping(self) -> None:
        """End what `keep` began. Called with the lock held."""
        self._kept = False
        self.clear_session()

    def clear_session(self) -> None:
        """Remove the name of a session, or what one that died has left. Called with the lock held."""
        self._map[_SESSION] = bytes(_SESSION_MAX)

    @property
    def session(self) -> str | None:
        """The session of another process that says it keeps this lock; None if there is none, or it is our own."""
        if self._kept or not self._map[40]:
            return None
        session = self._map[_SESSION].rstrip(b"\0").decode("ascii", "replace")
        return None if "/" in session else session  # a stranger's vault must not name a socket of any directory

    @property
    def is_operating(self) -> bool:
        """Whether an operation is under way of which a kernel that shows the workspace has not been told."""
        return bool(self._map[_OPERATING])

    def mark_operating(self, *, operating: bool, is_moving: bool = False) -> None:
        """Say whether an operation is in progress, and whether it changes what must not be seen before it is done.

        The next holder reads it after a kill.
        """
        if not operating:  # what is not taken back costs the next holder some work
            with suppress(OSError):
                self._map[_OPERATING] = 0
            return
        with host_errors("note that an operation runs"):
            self._map[_OPERATING] = 2 if is_moving else 1

    @property
    def is_moving(self) -> bool:
        """Whether the current operation must not be seen half done, so that a process that only looks waits for it."""
        return self._map[_OPERATING] == 2

    def sign(self, *, command: str | None = None) -> None:
        """Write down who holds the lock, or for which command, and since when, as far as the disk allows."""
        self._sign(Holder(os.getpid(), time.time_ns(), self._owner if command is None else f"'{command}'"))

    def _sign(self, holder: Holder) -> None:
        record = f"{holder.pid} {holder.since_ns} {holder.name}".encode("utf-8", "replace")
        with suppress(OSError):  # only messages need it
            self._map[_OWNER_AT:_SIZE] = record[:_OWNER_MAX].ljust(_SIZE - _OWNER_AT, b"\0")

    def name_above(self, pid: int) -> None:
        """Note the process above the command that the lock was signed for: what comes from it would wait for itself."""
        with suppress(OSError):  # then it waits
            self._map[_ABOVE_AT:_SIZE] = _look_at(pid)[0]

    @contextmanager
    def signed(self, holder: Holder) -> Iterator[None]:
        """Name another holder for a block: the client that a session works for and that other processes wait for."""
        before = self._map[_OWNER_AT:_SIZE]
        self._sign(holder)
        try:
            yield
        finally:
            with suppress(OSError):
                self._map[_OWNER_AT:_SIZE] = before

    def holder(self) -> Holder | None:
        """Tell who last signed. Meaningful only while the lock cannot be taken."""
        words = self._map[_OWNER_AT:_ABOVE_AT].rstrip(b"\0").decode("utf-8", "replace").split(" ", 2)
        if len(words) != 3 or not all(word.isascii() and word.isdigit() for word in words[:2]):
            return None
        return Holder(int(words[0]), int(words[1]), words[2])

    @property
    def is_callers(self) -> bool:
        """Whether the lock is held for a command that this process is part of, and would wait for.

        As meaningful as `holder`.
        """
        named, pid = self._map[_ABOVE_AT:_SIZE], os.getppid()
        with suppress(OSError):
            while pid and any(named):
                found, pid = _look_at(pid)
                if found == named:
                    return True
        return False

    @property
    def epoch(self) -> int:
        """How often what the lock guards has changed; odd while a change is under way."""
        return int.from_bytes(self._map[0:8], "little")

    @property
    def clean_epoch(self) -> int:
        """The epoch at which everything was last recorded; 0 for never."""
        return int.from_bytes(self._map[8:16], "little")

    def begin_change(self) -> int:
        """Mark that a change begins, before anything is touched; nests. Returns the epoch before."""
        before = self.epoch
        if self._changing == 0:
            # Odd already: a process died in a change. Staying odd here would hide our own change from others.
            with host_errors("note that files change"):
                self._map[0:8] = ((before + 1 + before % 2) % _COUNTERS_END).to_bytes(8, "little")
        self._changing += 1
        return before

    def end_change(self) -> int:
        """Mark that a change is complete. Returns the new epoch.

        Where the disk refuses it, the epoch stays odd, as after a death in the change: the next process looks at
        everything.
        """
        self._changing -= 1
        if self._changing == 0:
            with suppress(OSError):
                self._map[0:8] = ((self.epoch + 1) % _COUNTERS_END).to_bytes(8, "little")
        return self.epoch

    @property
    def clean_commit(self) -> bytes:
        """The commit that held everything at `clean_epoch`, as 20 bytes; zeros for what the workspace began with."""
        return self._map[_COMMIT]

    def mark_clean(self, epoch: int, commit: bytes) -> OSError | None:
        """Remember that everything up to this epoch is recorded in a commit.

        Returns what the disk refused: then the next capture looks at everything.
        """
        # The epoch last: a reader that sees it sees the commit that belongs to it.
        try:
            self._map[8:16] = (0).to_bytes(8, "little")
            self._map[_COMMIT] = commit
            self._map[8:16] = epoch.to_bytes(8, "little")
        except OSError as error:
            return error
        return None

    @property
    def is_retired(self) -> bool:
        """Whether the workspace was put away: a process that still has it open must not write there."""
        return bool(self._map[_RETIRED])

    def retire(self, *, retired: bool = True) -> None:
        """Say, to all who have the lock open, whether what it guards is put away."""
        with host_errors("put away or bring back the workspace"):
            self._map[_RETIRED] = retired

    @contextmanager
    def retiring(self) -> Iterator[None]:
        """Retire it for a block that puts away what it guards.

        If that fails, other than by `LeftInForce`, it is as before.
        """
        self.retire()
        try:
            yield
        except LeftInForce:
            raise
        except BaseException:
            self.retire(retired=False)
            raise


class ReadingLock(LockFile):
    """The lock of a process that may not write to its file: held together with other readers, never with a writer.

    Writes nothing: it has no `keep`, `begin_change`, `mark_clean` or `retire`. Without a file, nothing has changed yet;
    each call looks for the file again, because another user may have made it.
    """

    _kind = fcntl.LOCK_SH

    def __init__(self, path: Path) -> None:  # it signs nothing
        """Open the lock for reading, if its file is there."""
        self._path = path
        self._fd = -1
        self._map = mmap.mmap(-1, _SIZE)
        self._buried: str | None = None
        self._is_closed = False
        self._begin()
        self._look()

    def _look(self) -> None:
        """Open the file, if it has come to be; one that is being made counts as none."""
        if self._fd >= 0 or self.depth or not self._thread_lock.acquire(blocking=False):
            return  # one look at a time, and none at something that is to be locked while it is not
        try:
            self._open()
        finally:
            self._thread_lock.release()

    def _open(self) -> None:
        if self._fd >= 0 or self.depth or self._is_closed:  # by now
            return
        try:
            fd = open_plain(self._path)
        except FileNotFoundError:
            return
        try:
            if os.fstat(fd).st_size >= _SIZE:
                self._map = mmap.mmap(fd, _SIZE, access=mmap.ACCESS_READ)
                self._fd, fd = fd, -1
        finally:
            if fd >= 0:
                os.close(fd)

    def close(self) -> None:
        """Give up the file. A second call does nothing."""
        self._is_closed = True
        super().close()

    def _lock_file(self, timeout_s: float) -> bool:
        self._look()
        return True if self._fd < 0 else super()._lock_file(timeout_s)

    def release(self) -> None:
        """Give the lock back."""
        self.depth -= 1
        if self.depth == 0 and self._fd >= 0:
            fcntl.flock(self._fd, fcntl.LOCK_UN)
        self._thread_lock.release()

    def sign(self, *, command: str | None = None) -> None:
        """Do nothing: a process that waits for a reader does not learn its name."""

    @property
    def session(self) -> str | None:
        """The session that says it keeps this lock; None if there is none, or it was found to have died."""
        self._look()
        session = super().session
        return session if session != self._buried else None

    def clear_session(self) -> None:
        """Remember that the session that is named died. Called with the lock held."""
        self._buried = super().session

    @property
    def epoch(self) -> int:
        """How often what the lock guards has changed; odd while a change is under way."""
        self._look()
        return super().epoch


class LookingLock(ReadingLock):
    """The lock of a process that only looks while others write: `acquire` always succeeds, and excludes no process."""

    def _lock_file(self, timeout_s: float) -> bool:
        del timeout_s
        self._look()
        return True
