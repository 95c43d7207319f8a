"""Deflating objects for a pack, beside whatever finds them.

Decided here: how an object becomes an entry of a pack, and when that is worth a second thread: zlib lets go of the
interpreter while it works, so that one thread reads and hashes files while the other deflates. Called by
`packwriter` alone, from one thread at a time. Holds a bounded amount of data; nothing of it survives.
"""

from __future__ import annotations

import zlib
from collections import deque
from typing import TYPE_CHECKING, NamedTuple

from avfs_git.gitstore import packfile

if TYPE_CHECKING:
    from concurrent.futures import Future, ThreadPoolExecutor

_BATCH_BYTES = 256 << 10
_BATCH_OBJECTS = 256
_BATCHES_IN_FLIGHT = 4


class Entry(NamedTuple):
    """An object as a pack holds it, and the checksum that the index of the pack holds of that."""

    data: bytes
    crc: int


class Deflater:
    """Deflates objects in the order in which they come."""

    def __init__(self) -> None:
        self._batch: list[tuple[int, bytes, int]] = []
        self._batch_bytes = 0
        self._in_flight: deque[Future[list[Entry]]] = deque()
        self._worker: ThreadPoolExecutor | None = None

    def add(self, kind: int, data: bytes, level: int) -> list[Entry]:
        """Take an object; return entries that are ready, of objects that came before."""
        self._batch.append((kind, data, level))
        self._batch_bytes += len(data)
        if self._batch_bytes < _BATCH_BYTES and len(self._batch) < _BATCH_OBJECTS:
            return []
        if self._worker is None:
            from concurrent.futures import ThreadPoolExecutor  # noqa: PLC0415 - only large packs need threads

            self._worker = ThreadPoolExecutor(1, thread_name_prefix="avfs-deflate")
        self._in_flight.append(self._worker.submit(_deflate_batch, self._take_batch()))
        return self._in_flight.popleft().result() if len(self._in_flight) > _BATCHES_IN_FLIGHT else []

    def _take_batch(self) -> list[tuple[int, bytes, int]]:
        batch, self._batch, self._batch_bytes = self._batch, [], 0
        return batch

    def drain(self) -> list[Entry]:
        """Return the entries of all objects that are not returned yet."""
        ready: list[Entry] = []
        while self._in_flight:
            ready += self._in_flight.popleft().result()
        if self._batch:  # few enough not to be worth another thread
            ready += _deflate_batch(self._take_batch())
        return ready

    def close(self) -> None:
        """Forget what is not returned yet, and end the thread."""
        self._take_batch()
        for future in self._in_flight:
            future.cancel()
        self._in_flight.clear()
        if self._worker is not None:
            self._worker.shutdown(wait=True)
            self._worker = None


def _deflate_batch(batch: list[tuple[int, bytes, int]]) -> list[Entry]:
    entries = []
    for kind, data, level in batch:
        entry = packfile.entry_header(kind, len(data)) + _deflate(data, level)
        entries.append(Entry(entry, zlib.crc32(entry)))
    return entries


def _deflate(data: bytes, level: int) -> bytes:
    """Compress an object, with a window no larger than it: setting up zlib's largest takes longer than most objects."""
    bits = max(12, len(data).bit_length())
    if bits >= zlib.MAX_WBITS:
        return zlib.compress(data, level)
    deflater = zlib.compressobj(level, zlib.DEFLATED, bits, bits - 7)
    return deflater.compress(data) + deflater.flush()
