"""A kernel for the server's tests: the other end of a socket that stands in for `/dev/fuse`."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from avfs_git.fuse import protocol as p
from avfs_git.fuse.channel import Channel
from avfs_git.vfs.layer.lower import LowerTree
from avfs_git.vfs.layer.upper import UpperLayer
from avfs_git.vfs.tree.merged import MergedTree
from tests.support.objects import MemorySource

OFFERED = (1 << 44) - 1 & ~(1 << 31)


class Kernel:
    """Sends requests as the kernel lays them out, and takes replies apart."""

    def __init__(self, end: socket.socket) -> None:
        self.end = end
        self.unique = 0

    def send(self, operation: int, ino: int, body: bytes = b"", *, uid: int | None = None) -> int:
        """Send a request; give its number."""
        self.unique += 2
        caller = (os.getuid() if uid is None else uid, os.getgid(), os.getpid())
        self.end.send(p.IN_HEADER.pack(p.BODY + len(body), operation, self.unique, ino, *caller, 0, 0) + body)
        return self.unique

    def receive(self) -> tuple[int, int, bytes]:
        """Receive a message: the number of its request, its errno or notification, its body."""
        data = self.end.recv(2 << 20)
        length, error, unique = p.OUT_HEADER.unpack_from(data)
        assert length == len(data)
        return unique, -error, data[p.OUT_HEADER.size :]

    def ask(self, operation: int, ino: int, body: bytes = b"", *, uid: int | None = None) -> bytes:
        """Send a request and take its reply, which must not be an error."""
        number, found = self._exchange(operation, ino, body, uid=uid)
        assert number == 0, os.strerror(number)
        return found

    def fail(self, operation: int, ino: int, body: bytes = b"") -> int:
        """Send a request that fails; give the errno."""
        number, found = self._exchange(operation, ino, body, uid=None)
        assert number != 0
        assert found == b""
        return number

    def _exchange(self, operation: int, ino: int, body: bytes, *, uid: int | None) -> tuple[int, bytes]:
        unique = self.send(operation, ino, body, uid=uid)
        found, number, reply = self.receive()
        assert found == unique
        return number, reply

    def init(self, *, major: int = 7, minor: int = 45, flags: int = OFFERED) -> tuple[Any, ...]:
        """Begin a conversation; give what the server wants."""
        return p.INIT_OUT.unpack(self.ask(p.INIT, 0, self.init_body(major=major, minor=minor, flags=flags)))

    @staticmethod
    def init_body(*, major: int = 7, minor: int = 45, flags: int = OFFERED) -> bytes:
        """Lay out what the kernel offers."""
        return (
            p.INIT_IN.pack(major, minor, 1 << 17, flags & 0xFFFF_FFFF)
            + (flags >> 32).to_bytes(4, sys.byteorder)
            + bytes(44)
        )

    @staticmethod
    def make_tree(directory: Path) -> MergedTree:
        """Make an empty workspace of two directories."""
        lower = LowerTree(MemorySource(), None, None, default_mtime_ns=10**18)
        return MergedTree(lower, UpperLayer(directory / "upper", directory / "work"))

    def hang_up(self) -> None:
        """Unmount."""
        self.end.close()

    def look_up(self, parent: int, name: bytes) -> tuple[Any, ...]:
        """Ask for a name; give the entry."""
        return p.ENTRY_OUT.unpack(self.ask(p.LOOKUP, parent, name + b"\0"))


Ends = tuple[Kernel, Channel]


@pytest.fixture
def ends() -> Iterator[Ends]:
    """A kernel and the channel to it."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    for end in (ours, theirs):
        end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4 << 20)
    channel = Channel(theirs.detach())
    with ours:
        yield Kernel(ours), channel
    channel.close()


@pytest.fixture
def tree(tmp_path: Path) -> Iterator[MergedTree]:
    """An empty workspace."""
    (tmp_path / "upper").mkdir()
    (tmp_path / "work").mkdir()
    tree = Kernel.make_tree(tmp_path)
    yield tree
    tree.close()
