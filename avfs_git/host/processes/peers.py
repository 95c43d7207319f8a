"""The process at the other end of a Unix socket.

Decided here: how a server tells, by the kernel's word alone, that a client is the same user in the same namespaces. A
process that is kept apart (a container, a command under bubblewrap) may reach a socket through the file system or a
descriptor; its user is the same, its PID or mount namespace is not. `session.control.control` calls this for each
connection, in its own thread; and how a client (`session.control.client`) tells that the server is no other user's.

A process is looked up in /proc by its number, which the kernel gives to another process when the first one has ended.
So its namespaces count only if a pidfd says afterwards that it still lives. SO_PEERPIDFD (Linux 6.5) gives the pidfd of
the very process that connected; on older kernels the number is opened, which leaves a gap: a client that ends between
its connect(2) and that moment, and whose number goes to a process of the server's own user and namespaces.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from enum import Enum, auto
from pathlib import Path
from typing import Final

from avfs_git.host.processes.descriptors import is_readable

_CREDENTIALS: Final = struct.Struct("=iII")  # ucred: pid, uid, gid; unix(7)
_SO_PEERPIDFD: Final = 77  # asm-generic/socket.h
_NAMESPACES: Final = ("pid", "mnt")


class Peer(Enum):
    """What a client is to its server."""

    OWN = auto()
    """The server's own user in its own namespaces; or root, which no server can keep out."""
    ANOTHER_USER = auto()
    APART = auto()
    """The same user in another PID or mount namespace, or a process that has ended."""


def read_peer_pid(connection: socket.socket) -> int:
    """Tell the number of the process that made a connection; 0 where the kernel does not say."""
    try:
        return _read_credentials(connection)[0]
    except OSError:
        return 0


def _read_credentials(connection: socket.socket) -> tuple[int, int]:
    pid, uid, _ = _CREDENTIALS.unpack(connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size))
    return pid, uid


def identify_peer(connection: socket.socket) -> Peer:
    """Tell which kind of peer made a connection. Costs some 20 µs."""
    pid, uid = _read_credentials(connection)
    if uid not in (0, os.geteuid()):
        return Peer.ANOTHER_USER
    if uid != os.geteuid():
        return Peer.OWN  # an ordinary user's server may not look at root's processes
    return Peer.OWN if pid and _is_beside_us(connection, pid) else Peer.APART


def is_servers_own(connection: socket.socket, path: Path) -> bool:
    """Tell a client whether this user's own process listens at a socket; for root, also one of the directory's owner.

    Where several users may write in a vault, one of them could listen in the place of another one's session: it would
    be handed descriptors, and believed. The kernel names the process that called listen(2).
    """
    _, uid = _read_credentials(connection)
    return uid == os.geteuid() or (os.geteuid() == 0 and uid == os.stat(path.parent).st_uid)


def _is_beside_us(connection: socket.socket, pid: int) -> bool:
    try:
        pidfd = _open_peer(connection, pid)
    except OSError:  # it has ended
        return False
    try:
        for name in _NAMESPACES:
            if not os.path.samestat(os.stat(f"/proc/{pid}/ns/{name}"), os.stat(f"/proc/self/ns/{name}")):
                return False
        return not is_readable(pidfd)  # readable once it has ended: then the number may have been another's
    except OSError:
        return False
    finally:
        os.close(pidfd)


def _open_peer(connection: socket.socket, pid: int) -> int:
    try:
        return connection.getsockopt(socket.SOL_SOCKET, _SO_PEERPIDFD)
    except OSError as error:
        if error.errno != errno.ENOPROTOOPT:
            raise
    return os.pidfd_open(pid)
