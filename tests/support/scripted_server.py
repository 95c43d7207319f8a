"""A git server that says what a test wants, true or not, in version 0 of git's `git://` protocol (gitprotocol-pack).

Decided here: how a conversation goes. Which refs are told, what the pack holds and what is said of a push is for the
tests.
"""

from __future__ import annotations

import hashlib
import socket
import struct
import threading
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import BinaryIO

from avfs_git.gitstore.formats.packfile import KIND_BLOB, KIND_COMMIT, KIND_TREE, entry_header
from avfs_git.gitstore.formats.trees import MODE_FILE, serialize_tree
from avfs_git.gitstore.objects.store import hash_object
from avfs_git.paths import Oid

_UPLOAD = (
    b"side-band-64k thin-pack ofs-delta shallow no-progress include-tag allow-tip-sha1-in-want filter "
    b"object-format=sha1"
)
_RECEIVE = b"report-status report-status-v2 delete-refs side-band-64k ofs-delta object-format=sha1"
_PIECE = 60_000
_FLUSH = b"0000"
_BY_ID = 7

Object = tuple[int, bytes]
"""A kind and a content."""


def make_history(content: bytes = b"hello\n", name: bytes = b"f") -> tuple[Object, Object, Object]:
    """Make a blob, a tree with it, and a commit of that."""
    blob = (KIND_BLOB, content)
    tree = (KIND_TREE, serialize_tree({name: (MODE_FILE, hash_object(*blob))}))
    return blob, tree, make_commit(tree)


def make_commit(tree: Object) -> Object:
    """Make a commit of a tree."""
    who = b"A <a@b> 1700000000 +0000"
    return KIND_COMMIT, b"tree %b\nauthor %b\ncommitter %b\n\nx\n" % (hash_object(*tree).hex().encode(), who, who)


def make_pack(*objects: Object | bytes) -> bytes:
    """Write a pack of objects, and of entries as they are."""
    pack = b"PACK" + struct.pack(">II", 2, len(objects))
    for each in objects:
        pack += each if isinstance(each, bytes) else entry_header(each[0], len(each[1])) + zlib.compress(each[1])
    return pack + hashlib.sha1(pack, usedforsecurity=False).digest()


def make_copying_delta(base: Object, times: int) -> bytes:
    """Write the entry of a delta that repeats an object of 16 MiB less one byte."""

    def number(value: int) -> bytes:
        found = bytearray()
        while value >= 0x80:
            found.append(value & 0x7F | 0x80)
            value >>= 7
        return bytes((*found, value))

    size = len(base[1])
    delta = number(size) + number(size * times) + b"\xf0\xff\xff\xff" * times
    return entry_header(_BY_ID, len(delta)) + hash_object(*base) + zlib.compress(delta)


@dataclass
class Script:
    """What the server says."""

    refs: Sequence[tuple[str, Oid]]
    pack: bytes = b""
    report: Callable[[list[bytes]], list[bytes]] = lambda names: []
    """What is said of a push of some refs."""
    cut_at: int | None = None
    """After so many bytes of the pack, the connection ends."""
    url: str = ""


@contextmanager
def play(script: Script) -> Iterator[Script]:
    """Serve a script, which may be changed between two conversations."""
    listener = socket.create_server(("127.0.0.1", 0))
    script.url = f"git://127.0.0.1:{listener.getsockname()[1]}/x.git"

    def accept() -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            with client, client.makefile("rb") as heard, suppress(OSError, ValueError):
                _talk(script, client, heard)

    thread = threading.Thread(target=accept, daemon=True)
    thread.start()
    try:
        yield script
    finally:
        with suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join(20)


def _packet(data: bytes) -> bytes:
    return b"%04x%b" % (len(data) + 4, data)


def _read(heard: BinaryIO) -> bytes | None:
    length = int(heard.read(4), 16)
    return heard.read(length - 4) if length > 4 else None


def _read_all(heard: BinaryIO) -> list[bytes]:
    lines = []
    while (line := _read(heard)) is not None:
        lines.append(line)
    return lines


def _talk(script: Script, client: socket.socket, heard: BinaryIO) -> None:
    pushes = (_read(heard) or b"").startswith(b"git-receive-pack")
    lines = [b"%b %b" % (oid.hex().encode(), name.encode()) for name, oid in script.refs]
    if pushes and not lines:
        lines = [b"0" * 40 + b" capabilities^{}"]
    lines[0] += b"\0" + (_RECEIVE if pushes else _UPLOAD)
    client.sendall(b"".join(_packet(line + b"\n") for line in lines) + _FLUSH)
    if pushes:
        names = [line.partition(b"\0")[0].split()[2] for line in _read_all(heard)]
        said = b"".join(map(_packet, script.report(names))) + _FLUSH
        client.sendall(_packet(b"\1" + said) + _FLUSH)
        client.shutdown(socket.SHUT_WR)
        while heard.read(1 << 16):  # the pack
            pass
        return
    if not _read_all(heard):
        return
    while (line := _read(heard)) is None or line.strip() != b"done":
        if line is None:
            client.sendall(_packet(b"NAK\n"))
    client.sendall(_packet(b"NAK\n"))
    pack = script.pack[: script.cut_at]
    for start in range(0, len(pack), _PIECE):
        client.sendall(_packet(b"\1" + pack[start : start + _PIECE]))
    if script.cut_at is None:
        client.sendall(_FLUSH)
