"""Descriptors that come over a socket.

Decided here: what comes is closed in programs that this one starts. `socket.recv_fds` takes the flag for that and does not
pass it on. Called by both ends of the control socket; from any thread. Facts about the messages: unix(7), cmsg(3).
"""

from __future__ import annotations

import array
import socket


def receive_descriptors(source: socket.socket, bytes_max: int, descriptors_max: int) -> tuple[bytes, list[int], bool]:
    """Receive bytes, and the descriptors that came with them; the caller closes these.

    Returns:
        What came, nothing at the end; the descriptors; and whether more were sent than there was room for.

    Raises:
        OSError: As recvmsg(2) says.
    """
    room = array.array("i")
    data, ancillary, flags, _ = source.recvmsg(
        bytes_max, socket.CMSG_SPACE(descriptors_max * room.itemsize), socket.MSG_CMSG_CLOEXEC
    )
    for level, kind, content in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            room.frombytes(content[: len(content) - len(content) % room.itemsize])
    return data, list(room), bool(flags & socket.MSG_CTRUNC)
