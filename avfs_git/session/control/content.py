"""What a file holds, as operations get and give it: bytes in a message, or an open file beside it.

Decided here: from which size on it is a file, and which files of a client are taken. `session.control.operations` calls
this in the thread that works, `session.control.client` and `sdk` for their side. An open file has no name: a crash
leaves nothing.
"""

from __future__ import annotations

import mmap
import os
import stat
from collections.abc import Callable, Iterable, Iterator
from itertools import chain

from avfs_git.errors import InvalidInput
from avfs_git.host.files.closing import closing_fd
from avfs_git.host.files.durable import host_errors, write_all
from avfs_git.session.control.wire import Handle
from avfs_git.values import value_class
from avfs_git.workspace.opened.workspace import OpenWorkspace

CONTENT_INLINE = 1 << 20
"""Contents above this are not carried in a message, but as an open file."""
_PIECE = 1 << 20


@value_class
class Content:
    """What a file holds: the bytes, or an open file."""

    data: bytes | None = None
    handle: Handle | None = None

    def pieces(self) -> Iterator[bytes]:
        """Read a result in pieces of at most 1 MiB; the handle is closed at the end."""
        if self.handle is None:
            yield self.data or b""
            return
        with closing_fd(self.handle.fd):
            yield from read_pieces(self.handle.fd)

    def whole(self) -> bytes | mmap.mmap:
        """Show a result that is not changed any more as one; the handle is closed."""
        if self.handle is None:
            return self.data or b""
        with closing_fd(self.handle.fd):
            return mmap.mmap(self.handle.fd, 0, access=mmap.ACCESS_READ)


def _make_temporary() -> int:
    import tempfile  # noqa: PLC0415 - for this alone

    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())


def read_pieces(fd: int) -> Iterator[bytes]:
    """Read an open file from its start, wherever it stands, in pieces of at most 1 MiB."""
    offset = 0
    while piece := os.pread(fd, _PIECE, offset):
        yield piece
        offset += len(piece)


def check_given(opened: OpenWorkspace, handle: Handle) -> int:
    """Make sure that a file which the client has filled can be read; give its descriptor, which stays the caller's.

    Raises:
        InvalidInput: If reading it could take as long as the client likes.
    """
    found = os.fstat(handle.fd)
    if not stat.S_ISREG(found.st_mode) or found.st_dev != os.fstat(opened.upper.root.fd).st_dev:
        raise InvalidInput("what is handed over must be a file beside the workspace")
    os.lseek(handle.fd, 0, os.SEEK_SET)  # its position is the client's
    return handle.fd


def put_aside(pieces: Iterable[bytes], make_file: Callable[[], int] = _make_temporary) -> Content:
    """Keep pieces in memory or, if they are large, in a file without a name, which the caller closes."""
    rest, first, size = iter(pieces), list[bytes](), 0
    for piece in rest:
        first.append(piece)
        size += len(piece)
        if size > CONTENT_INLINE:
            break
    else:
        return Content(data=b"".join(first))
    with host_errors("put contents aside"):
        fd = make_file()
    try:
        for piece in chain(first, rest):
            put_piece(fd, piece)
    except BaseException:
        os.close(fd)
        raise
    return Content(handle=Handle(fd))


def put_piece(fd: int, piece: bytes) -> None:
    """Write a piece to a file that takes contents."""
    with host_errors("put contents aside"):
        write_all(fd, piece)
