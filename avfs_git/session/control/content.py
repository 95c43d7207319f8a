"""What a file holds, as operations get and give it: bytes in a message, or an open file beside it.

Decided here: from which size on it is a file, and which files of a client are taken. `session.control.operations` calls this in
the thread that works, `session.control.client` and `sdk` for their side. An open file has no name: a crash leaves nothing.
"""

from __future__ import annotations

import mmap
import os
import stat
from collections.abc import Iterator

from avfs_git.errors import InvalidInput
from avfs_git.host.files.durable import host_errors
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
        try:
            yield from read_pieces(self.handle.fd)
        finally:
            os.close(self.handle.fd)

    def whole(self) -> bytes | mmap.mmap:
        """Show a result that is not changed any more as one; the handle is closed."""
        if self.handle is None:
            return self.data or b""
        try:
            return mmap.mmap(self.handle.fd, 0, access=mmap.ACCESS_READ)
        finally:
            os.close(self.handle.fd)


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


def gather(pieces: Iterator[bytes]) -> Content:
    """Keep pieces in memory or, if they are large, in a temporary file."""
    import tempfile  # noqa: PLC0415 - for this alone

    data = bytearray()
    for piece in pieces:
        data += piece
        if len(data) > CONTENT_INLINE:
            break
    else:
        return Content(data=bytes(data))
    with host_errors("keep what is not committed"), tempfile.TemporaryFile() as file:
        file.write(data)
        file.writelines(pieces)
        file.flush()
        return Content(handle=Handle(os.dup(file.fileno())))
