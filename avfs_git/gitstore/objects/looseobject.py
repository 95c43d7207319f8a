"""How a loose object reads: its header, its content in pieces, and whether that is what its id says.

Decided here: what of a loose file is believed before all of it is read, and that its content is checked against the id
at the end. Called by `store` with open files and pieces of a stream. No state; nothing is written.
"""

from __future__ import annotations

import hashlib
import os
import zlib
from collections.abc import Iterator

from avfs_git.errors import ObjectCorrupt
from avfs_git.gitstore.formats import packfile
from avfs_git.gitstore.formats.packfile import KIND_NAMES
from avfs_git.paths import Oid

_KINDS = {name: kind for kind, name in KIND_NAMES.items()}


def read_loose_header(oid: Oid, data: bytes) -> tuple[int, int, int]:
    """Read what a loose object starts with: its kind, its size, and the length of that."""
    try:
        text, separator, _ = zlib.decompressobj().decompress(data, 64).partition(b"\0")
    except zlib.error as error:
        raise ObjectCorrupt(oid.hex(), f"it cannot be inflated ({error})") from error
    name, _, digits = text.partition(b" ")
    kind = _KINDS.get(name)
    if kind is None or not separator or not digits.isdigit() or len(digits) > 19:
        raise ObjectCorrupt(oid.hex(), "its header makes no sense")
    return kind, int(digits), len(text) + 1


def stream_loose(oid: Oid, fd: int, size: int) -> Iterator[bytes]:
    """Give the content of an open loose file in pieces; checked at the end."""
    length = read_loose_header(oid, os.pread(fd, 256, 0))[2]
    skip = length
    for piece in packfile.inflate_stream(fd, 0, size + length):
        yield piece[skip:]
        skip = max(0, skip - len(piece))


def verified(oid: Oid, size: int, pieces: Iterator[bytes]) -> Iterator[bytes]:
    """Pass pieces of a blob on, the last only once all of them are known to be what the id says."""
    hasher = hashlib.sha1(b"blob %d\0" % size, usedforsecurity=False)
    held = b""
    for piece in pieces:
        hasher.update(piece)
        if held:
            yield held
        held = piece
    if hasher.digest() != oid:
        raise ObjectCorrupt(oid.hex(), "its content is not what its id says")
    if held:
        yield held
