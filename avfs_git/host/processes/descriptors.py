"""Descriptors: waiting for what can be read, those that come over a socket, and the table of all.

Decided here: what comes is closed in programs that this one starts. `socket.recv_fds` takes the flag for that and does
not pass it on. Called by both ends of the control socket; from any thread. Facts about the messages: unix(7), cmsg(3).

One descriptor is waited for with poll(2): select(2) knows none above 1,023, and a program of many files has them.

And when the kernel makes the table of a process larger, which it does whenever the number of descriptors passes the
next power of two. With several threads, the one that opens it waits until every processor was idle once: for tens of
milliseconds.
"""

from __future__ import annotations

import _socket  # what `socket` adds to it is loaded where it is needed: a mount does not wait for that
import array
import fcntl
import os
import resource
import select
from contextlib import suppress
from typing import TYPE_CHECKING

from avfs_git.host.files.closing import closing_fd

if TYPE_CHECKING:
    import socket

    from _typeshed import FileDescriptorLike

_ROOM = 4096


def is_readable(source: FileDescriptorLike, timeout_s: float | None = 0) -> bool:
    """Wait until something can be read, or the other end is closed; False if the time is up first. None: any time."""
    poll = select.poll()
    poll.register(source, select.POLLIN)
    return bool(poll.poll(None if timeout_s is None else max(timeout_s, 0) * 1000))


def receive_descriptors(source: socket.socket, bytes_max: int, descriptors_max: int) -> tuple[bytes, list[int], bool]:
    """Receive bytes, and the descriptors that came with them; the caller closes these.

    Returns:
        What came, nothing at the end; the descriptors; and whether more were sent than there was room for.
    """
    room = array.array("i")
    data, ancillary, flags, _ = source.recvmsg(
        bytes_max, _socket.CMSG_SPACE(descriptors_max * room.itemsize), _socket.MSG_CMSG_CLOEXEC
    )
    for level, kind, content in ancillary:
        if level == _socket.SOL_SOCKET and kind == _socket.SCM_RIGHTS:
            room.frombytes(content[: len(content) - len(content) % room.itemsize])
    return data, list(room), bool(flags & _socket.MSG_CTRUNC)


def make_room() -> None:
    """Have room for descriptors from now on.

    Called by a process with one thread, after fork(2), which takes room away.
    """
    most = min(_ROOM, resource.getrlimit(resource.RLIMIT_NOFILE)[0])
    # it is no more than a preparation
    with suppress(OSError), closing_fd(os.open("/", os.O_PATH | os.O_CLOEXEC)) as fd:
        os.close(fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, most - 1))
