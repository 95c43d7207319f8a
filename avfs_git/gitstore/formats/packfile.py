"""The format of packs: what stands before an object, and how its content is inflated (gitformat-pack).

Decided here: that entries are read with `pread` (a pack cut short under us is then an error, where a mapping would be a
SIGBUS), and how much memory reading one may take: what its header announces. A damaged pack raises `BadPack`. Pure
functions over a descriptor, safe from any thread. `packindex` has the index, `deltas` what a delta does,
`objects.packset` a repository's packs.
"""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Iterator, Mapping

from avfs_git.gitstore.formats.deltas import read_varint

PACK_HEADER = struct.Struct(">4sII")
CHUNK = 1 << 20

MAX_STRUCTURE = 128 << 20
"""Bytes of a commit, tree or tag above which it is not read: millions of entries fit, a bomb does not."""

KIND_COMMIT, KIND_TREE, KIND_BLOB, KIND_TAG = 1, 2, 3, 4
KIND_NAMES: Mapping[int, bytes] = {KIND_COMMIT: b"commit", KIND_TREE: b"tree", KIND_BLOB: b"blob", KIND_TAG: b"tag"}
"""Kinds of whole objects; the other kinds of entries are deltas."""
BY_OFFSET, BY_ID = 6, 7
FIRST_READ = 4096


class BadPack(ValueError):
    """A pack or its index does not hold what the format says."""


def entry_header(kind: int, size: int) -> bytes:
    """Write what stands before an object in a pack: its kind and size (gitformat-pack)."""
    byte = kind << 4 | size & 15
    size >>= 4
    if size < 0x80:  # most objects
        return bytes((byte | 0x80, size)) if size else bytes((byte,))
    header = bytearray()
    while size:
        header.append(byte | 0x80)
        byte = size & 0x7F
        size >>= 7
    header.append(byte)
    return bytes(header)


def parse_entry_header(data: bytes | memoryview) -> tuple[int, int, int]:
    """Read what stands before an object in a pack: its kind, its size, and the header's length."""
    try:
        byte = data[0]
        kind = byte >> 4 & 7
        size = byte & 15
        shift = 4
        length = 1
        while byte & 0x80:
            byte = data[length]
            size |= (byte & 0x7F) << shift
            shift += 7
            length += 1
    except IndexError:
        raise BadPack("the pack is cut short") from None
    if shift > 67:
        raise BadPack("the pack holds an impossible size")
    return kind, size, length


def delta_result_size(kind: int, data: bytes) -> int:
    """Tell the size of what comes of a delta, from what stands behind the header of its entry."""
    start = 0
    try:
        if kind == BY_OFFSET:
            while data[start] & 0x80:
                start += 1
            start += 1
        elif kind == BY_ID:
            start = 20
        else:
            raise BadPack("it is of no known kind")
        # A delta begins with the size of what it applies to, then that of the result; ten bytes each at most.
        head = zlib.decompressobj().decompress(data[start:], 20)
        return read_varint(head, read_varint(head, 0)[1])[0]
    except BadPack:
        raise
    except (IndexError, ValueError, zlib.error) as error:
        raise BadPack("a delta cannot be taken apart") from error


def inflate_entry(fd: int, offset: int, data: bytes, start: int, size: int) -> bytes:
    """Inflate the object whose entry begins with `data`, reading on where that does not reach."""
    inflater = zlib.decompressobj()
    try:
        # One byte more than there should be, so that content longer than its header says shows.
        content = inflater.decompress(data[start:], size + 1)
        if inflater.eof and len(content) == size:
            return content
        pieces = [content]
        length = len(content)
        position = offset + len(data)
        while not inflater.eof and length <= size:
            source = inflater.unconsumed_tail
            if not source:
                source = os.pread(fd, min(CHUNK, max(size - length, FIRST_READ)), position)
                if not source:
                    raise BadPack("the pack is cut short")
                position += len(source)
            piece = inflater.decompress(source, size + 1 - length)
            length += len(piece)
            pieces.append(piece)
    except zlib.error as error:
        raise BadPack(f"it cannot be inflated ({error})") from error
    if length != size:
        raise BadPack("its size is not what its header says")
    return b"".join(pieces)


def inflate_stream(fd: int, position: int, size: int) -> Iterator[bytes]:
    """Inflate from a position of a file, in pieces of at most 1 MiB, exactly `size` bytes."""
    inflater = zlib.decompressobj()
    left = size
    try:
        while not inflater.eof:
            source = inflater.unconsumed_tail
            if not source:
                source = os.pread(fd, CHUNK, position)
                if not source:
                    raise BadPack("it is cut short")
                position += len(source)
            piece = inflater.decompress(source, min(CHUNK, left + 1))
            left -= len(piece)
            if left < 0:
                break
            if piece:
                yield piece
    except zlib.error as error:
        raise BadPack(f"it cannot be inflated ({error})") from error
    if left:
        raise BadPack("its size is not what its header says")
