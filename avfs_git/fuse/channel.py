"""The conversation with the kernel about one live tree.

Decided here: what is negotiated, how requests are received and answers sent, and how the kernel is told to forget what
it caches. `fuse.server` uses it: one thread of a process receives, any thread sends. A reply or notification is one
system call.

- **Warm trees ask nothing.** Opening, closing and listing need no request; names and attributes are good until they are
  invalidated; contents, symbolic links and listings stay in the page cache. So a thread that changes the tree by
  another way than the mount calls `forget_content` and `forget_name`. It must not serve requests: the kernel takes
  locks of the inode, which a request that is being served may hold.
- **The kernel's write-back cache is off** (docs/decisions/writeback-cache.md).
- **Direct writes are not asynchronous** (no `ASYNC_DIO`): the kernel would drop cached pages of the range only before
  the write, and a reader beside it would cache old content for good.
- **A receiving thread stays awake for `_AWAKE_NS`** while requests follow each other closely and no other thread wants
  the processor (docs/decisions/awake-server.md).

Nothing survives a crash but the mount itself.
"""

from __future__ import annotations

import errno
import io
import os
import select
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Protocol

from avfs_git.errors import MountError
from avfs_git.fuse import protocol as p
from avfs_git.lazy import LazyLogger

MAX_IO = 1 << 20
"""The largest read or write: what the kernel allows without a sysctl, 256 pages."""
_LOG = LazyLogger(__name__)
BUFFER_SIZE = MAX_IO + 4096
"""How much memory a request is received into."""
_PARALLEL = 64
"""How many requests in the background (read-ahead, write-back) may wait at once."""
_AWAKE_NS = 60_000
"""How long a thread looks for the next request before it sleeps."""
_SOON_NS = 200_000
"""When two requests are closer than this, the thread stays awake for the next."""
_unpack_head = p.IN_HEAD.unpack_from
_JOINED = 1 << 16
"""Answers up to this size are joined with their header: copying them is cheaper than a second piece."""

_WANTED = (
    p.ASYNC_READ
    | p.BIG_WRITES
    | p.DO_READDIRPLUS
    | p.NO_OPEN_SUPPORT
    | p.PARALLEL_DIROPS
    | p.ABORT_ERROR
    | p.MAX_PAGES
    | p.CACHE_SYMLINKS
    | p.NO_OPENDIR_SUPPORT
    | p.EXPLICIT_INVAL_DATA
    | p.HANDLE_KILLPRIV_V2
    | p.HAS_EXPIRE_ONLY
)
_NEEDED = p.NO_OPEN_SUPPORT | p.NO_OPENDIR_SUPPORT | p.MAX_PAGES
_GONE = frozenset({errno.ENODEV, errno.ECONNABORTED, errno.ECONNRESET})


def _open_load() -> int:
    """Open what says how many threads run, or could; -1 where the kernel does not say it itself.

    In a container another server may answer instead (lxcfs), which would cost as much as a request.
    """
    with suppress(OSError):
        if Path("/proc/loadavg").stat().st_dev == Path("/proc/self").lstat().st_dev:
            return os.open("/proc/loadavg", os.O_RDONLY | os.O_CLOEXEC)
    return -1


class Request:
    """One request of the kernel; each receiving thread uses one object again and again.

    Attributes:
        buffer: The request as it came, and what was there before behind its end.
        end: Where it ends.
        operation: What is asked for.
        unique: Its number, which the answer repeats.
        ino: The node that it is about.
        uid: The user of the program that asks.
        gid: Its group.
    """

    __slots__ = ("buffer", "end", "gid", "ino", "operation", "uid", "unique", "view")

    def __init__(self, buffer: memoryview | None = None) -> None:
        """Make a request to receive into, in memory of its own or in what is given, of `BUFFER_SIZE`."""
        self.view = memoryview(bytearray(BUFFER_SIZE)) if buffer is None else buffer
        self.buffer = self.view
        self.end = 0
        self.operation = 0
        self.unique = 0
        self.ino = 0
        self.uid = 0
        self.gid = 0

    @property
    def thread(self) -> int:
        """The thread that asks, as the session numbers it; 0 if it is one of another namespace, or the kernel's own."""
        return int.from_bytes(self.view[p.PROCESS_AT : p.PROCESS_AT + 4], sys.byteorder)

    def read_header(self) -> None:
        """Take apart the beginning of what was received."""
        self.end, self.operation, self.unique, self.ino, self.uid, self.gid = p.IN_HEAD.unpack_from(self.buffer)

    def copy(self) -> Request:
        """Copy a request of a few hundred bytes, for a thread that answers it later."""
        found = Request.__new__(Request)
        found.buffer = found.view = memoryview(bytearray(self.view[: self.end]))
        found.end, found.operation, found.unique = self.end, self.operation, self.unique
        found.ino, found.uid, found.gid = self.ino, self.uid, self.gid
        return found

    def name_at(self, start: int) -> bytes:
        """Take the name that stands there, up to the end of the request."""
        return bytes(self.view[start : self.end - 1])

    def names_at(self, start: int) -> tuple[bytes, bytes]:
        """Take two names that stand one after the other."""
        first, _, second = bytes(self.view[start : self.end - 1]).partition(b"\0")
        return first, second

    def renamed(self) -> tuple[bytes, int, bytes, int]:
        """Read a RENAME or RENAME2: the name, the new directory's number, the new name, and the renameat2(2) flags."""
        if self.operation == p.RENAME:
            (above,), flags, start = p.RENAME_IN.unpack_from(self.buffer, p.BODY), 0, p.BODY + p.RENAME_IN.size
        else:
            (above, flags), start = p.RENAME2_IN.unpack_from(self.buffer, p.BODY), p.BODY + p.RENAME2_IN.size
        name, new_name = self.names_at(start)
        return name, above, new_name, flags

    def forgotten(self) -> list[tuple[int, int]]:
        """Read a FORGET or BATCH_FORGET: nodes, and how often each is forgotten."""
        if self.operation == p.FORGET:
            return [(self.ino, *p.FORGET_IN.unpack_from(self.buffer, p.BODY))]
        count, _ = p.BATCH_FORGET_IN.unpack_from(self.buffer, p.BODY)
        start = p.BODY + p.BATCH_FORGET_IN.size
        return list(p.FORGET_ONE.iter_unpack(self.view[start : start + count * p.FORGET_ONE.size]))


class Noting(Protocol):
    """Where threads are noted that the kernel may keep waiting: a `fuse.handover.handover.Handover`."""

    def begin_telling(self) -> int:
        """Note this thread."""
        ...

    def end_telling(self, at: int) -> None:
        """Take the note back."""
        ...


class Channel:
    """The descriptor on which the kernel speaks to the server of one mount."""

    def __init__(self, fd: int) -> None:
        """Take over a descriptor of `/dev/fuse`, which is closed with this object."""
        self.fd = fd
        os.set_blocking(fd, False)
        self._take = io.FileIO(fd, "r+b", closefd=False).readinto
        self._is_lively = False
        self._handover: Noting | None = None
        self.spare: Callable[[], bool] | None = None
        """Work that a receiving thread does piece by piece before it waits; False when none is left."""
        self._is_left = False
        self._is_queue = False
        """Whether the last request was there already when it was looked for."""
        self._bell = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        waiting = select.poll()
        waiting.register(fd, select.POLLIN)
        waiting.register(self._bell, select.POLLIN)
        self._poll = waiting.poll
        self._load = _open_load()
        self._processors = os.cpu_count() or 1

    def close(self) -> None:
        """End the conversation: what still uses the tree gets errors. A second call does nothing."""
        fd, self.fd = self.fd, -1
        if fd >= 0:
            os.close(fd)
            os.close(self._bell)
            if self._load >= 0:
                os.close(self._load)

    def follow(self, handover: Noting) -> None:
        """Note in a hand-over which threads tell the kernel something."""
        self._handover = handover

    def leave(self) -> None:
        """Let `receive` return False, as if the tree were unmounted.

        For good, and in every process that has the channel.
        """
        self._is_left = True  # for a thread that finds a request each time and never waits
        os.eventfd_write(self._bell, 1)

    def negotiate(self) -> None:
        """Answer the kernel's first request.

        Raises:
            MountError: If the kernel is too old, or the mount has ended already.
        """
        request = Request()
        while self.receive(request):
            if request.operation != p.INIT:
                self.reply_error(request, errno.EIO)
                continue
            major, minor, read_ahead, offered = p.INIT_IN.unpack_from(request.buffer, p.BODY)
            if major > p.MAJOR:  # it asks again, in our version
                self.reply(request, p.INIT_OUT.pack(p.MAJOR, p.MINOR_MAX, *[0] * 11))
                continue
            if offered & p.INIT_EXT:
                offered |= int.from_bytes(request.view[p.BODY + p.INIT_IN.size :][:4], sys.byteorder) << 32
            if major < p.MAJOR or minor < p.MINOR_MIN or offered & _NEEDED != _NEEDED:
                self.reply_error(request, errno.EPROTO)
                raise MountError(
                    f"the kernel's FUSE {major}.{minor} is too old",
                    hint="Linux 5.4 or newer is needed.",
                    details={"version": f"{major}.{minor}"},
                )
            flags = offered & _WANTED
            if offered & p.INIT_EXT:
                flags |= p.INIT_EXT
            minor = min(minor, p.MINOR_MAX)
            self.reply(
                request,
                p.INIT_OUT.pack(
                    p.MAJOR, minor, max(read_ahead, MAX_IO), flags & 0xFFFF_FFFF, _PARALLEL, _PARALLEL * 3 // 4,
                    MAX_IO, 1, MAX_IO // 4096, 0, flags >> 32, 0, 0,
                ),
            )  # fmt: skip
            return
        raise MountError("the mount ended before it was ready")

    def receive(self, request: Request) -> bool:
        """Wait for a request; False when the tree is unmounted, or to be left (`leave`)."""
        buffer = request.buffer
        while not self._is_left:
            if not self._is_queue and not self._wait():
                break
            try:
                size = self._take(buffer)
            except OSError as error:
                if error.errno in _GONE:
                    break
                if error.errno in (errno.ENOENT, errno.EAGAIN, errno.EINTR):  # taken back before we had it
                    continue
                raise
            if size is None:
                self._is_queue = False
                continue
            if not size:
                break
            # As `read_header` does, which is not called for it: this is done for every request.
            request.end, request.operation, request.unique, request.ino, request.uid, request.gid = _unpack_head(buffer)
            return True
        return False

    def _wait(self) -> bool:
        """Wait until a request is there; False after `leave`.

        Looking first costs less than a read that finds nothing; while requests queue up, nothing has to be looked for.
        """
        poll, clock, spare = self._poll, time.monotonic_ns, self.spare
        found = poll(0)
        self._is_queue = bool(found)
        while not found and spare is not None and spare():
            found = poll(0)
        if not found:
            began = clock()
            if self._is_lively and self._has_room():
                while not found and clock() - began < _AWAKE_NS:
                    found = poll(0)
            if not found:
                found = poll()
                self._is_lively = clock() - began < _SOON_NS
        return all(fd != self._bell for fd, _ in found)

    def _has_room(self) -> bool:
        """Whether the machine has a processor for each thread that wants one, this one included."""
        return self._load < 0 or int(os.pread(self._load, 64, 0).split()[3].partition(b"/")[0]) <= self._processors

    def reply(self, request: Request, body: bytes | memoryview) -> None:
        """Answer a request."""
        size = 16 + len(body)
        head = p.OUT_HEADER.pack(size, 0, request.unique)
        try:
            if size <= _JOINED:
                os.write(self.fd, head + body)
            else:
                os.writev(self.fd, [head, body])
        except OSError as error:
            self._check_refused(error, size)

    def reply_error(self, request: Request, number: int) -> None:
        """Answer that a request failed."""
        try:
            os.write(self.fd, p.OUT_HEADER.pack(16, -number, request.unique))
        except OSError as error:
            self._check_refused(error, 16)

    @staticmethod
    def _check_refused(error: OSError, size: int) -> None:
        """Raise an error of a reply, unless the tree can go on."""
        if error.errno == errno.EINVAL:
            # The kernel has told the program EIO; ending the tree would take it from all programs.
            _LOG.error("the kernel refused a reply of %d bytes", size, exc_info=error)
            return
        # ENOENT: the program was killed. The others: the tree is unmounted.
        if error.errno != errno.ENOENT and error.errno not in _GONE:
            raise error

    # --- telling the kernel ----------------------------------------------------------------------------------

    def forget_content(self, ino: int) -> bool:
        """Let the kernel forget attributes and content of a node; False if it did not know it."""
        return self._notify(p.NOTIFY_INVAL_INODE, p.INVAL_INODE_OUT.pack(ino, 0, 0))

    def forget_attributes(self, ino: int) -> bool:
        """Let the kernel forget attributes of a node, and keep its content; False if it did not know it."""
        return self._notify(p.NOTIFY_INVAL_INODE, p.INVAL_INODE_OUT.pack(ino, -1, 0))

    def forget_name(self, parent: int, name: bytes) -> bool:
        """Let the kernel forget what a name in a directory means, also that there is nothing.

        Return False if it did not know.
        """
        return self._notify(p.NOTIFY_INVAL_ENTRY, p.INVAL_ENTRY_OUT.pack(parent, len(name), 0) + name + b"\0")

    def _notify(self, code: int, body: bytes) -> bool:
        handover = self._handover
        noted = handover.begin_telling() if handover is not None else 0
        try:
            os.writev(self.fd, [p.OUT_HEADER.pack(16 + len(body), code, 0), body])
        except OSError as error:
            if error.errno == errno.ENOENT or error.errno in _GONE:
                return False
            raise
        finally:
            if handover is not None:
                handover.end_telling(noted)
        return True
