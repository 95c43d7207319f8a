"""Deflating objects for a pack.

Decided here: how an object becomes an entry of a pack, by which library, and when that is worth another thread.

ISA-L deflates three to five times as fast as zlib's quickest level, and smaller; zlib does the work on a processor that ISA-L
does not know. Both release the interpreter's lock, but each hand-over costs tens of microseconds where processors sleep: more
than a file of a few KiB takes. So the calling thread deflates small objects, and other threads several large ones at once.

Called by `packwriter` alone, from one thread at a time. Holds a bounded amount of data.
"""

from __future__ import annotations

import os
import zlib
from collections import deque
from functools import cache
from typing import TYPE_CHECKING, NamedTuple, Protocol

from avfs_git.gitstore.formats import packfile

if TYPE_CHECKING:
    from concurrent.futures import Future, ThreadPoolExecutor
    from types import ModuleType

STORED = 0
"""The level at which nothing is compressed."""
WORTH_A_THREAD = 64 << 10
"""From this size on, deflating takes several times as long as handing over."""
_WAITING_BYTES = 8 << 20
"""Of content that is held until what came before it is deflated."""
_THREADS_MAX = 4
_FAST_LEVEL_MAX = 3
"""ISA-L's."""
_MEMORY_BITS = 6
"""The bits of zlib's window less its memory level: more memory takes small objects longer to clear, less ends blocks too soon."""


class Entry(NamedTuple):
    """An object as a pack holds it, and the checksum that the index of the pack holds of that."""

    data: bytes
    crc: int


class Deflater:
    """Deflates objects, and gives them back in the order in which they came."""

    def __init__(self) -> None:
        self._waiting: deque[tuple[Entry | Future[Entry], int]] = deque()
        """Large objects that are being deflated, and what came after them, with the size of each."""
        self._waiting_bytes = 0
        self._workers: ThreadPoolExecutor | None = None

    def add(self, kind: int, data: bytes, level: int) -> list[Entry]:
        """Take an object; return the entries that are ready, in order: its own, if nothing before it is being deflated."""
        size = len(data)
        if size < WORTH_A_THREAD:
            entry = deflate_entry(kind, data, level)
            if not self._waiting:
                return [entry]
            self._waiting.append((entry, size))
        else:
            self._waiting.append((self._start_workers().submit(deflate_entry, kind, data, level), size))
        self._waiting_bytes += size
        return self._take_ready()

    def _start_workers(self) -> ThreadPoolExecutor:
        if self._workers is None:
            from concurrent.futures import ThreadPoolExecutor  # noqa: PLC0415 - only large objects need threads

            self._workers = ThreadPoolExecutor(min(_THREADS_MAX, os.cpu_count() or 1), thread_name_prefix="avfs-deflate")
        return self._workers

    def _take_ready(self, *, all_of_it: bool = False) -> list[Entry]:
        ready: list[Entry] = []
        while self._waiting:
            held, size = self._waiting[0]
            if not isinstance(held, Entry):
                if not held.done() and not all_of_it and self._waiting_bytes <= _WAITING_BYTES:
                    break
                held = held.result()
            self._waiting.popleft()
            self._waiting_bytes -= size
            ready.append(held)
        return ready

    def drain(self) -> list[Entry]:
        """Return the entries of all objects that are not returned yet."""
        return self._take_ready(all_of_it=True)

    def close(self) -> None:
        """Forget what is not returned yet, and end the threads."""
        for held, _ in self._waiting:
            if not isinstance(held, Entry):
                held.cancel()
        self._waiting.clear()
        self._waiting_bytes = 0
        if self._workers is not None:
            self._workers.shutdown(wait=True)
            self._workers = None


def deflate_entry(kind: int, data: bytes, level: int) -> Entry:
    """Make the entry of a pack that holds an object."""
    entry = packfile.entry_header(kind, len(data)) + deflate(data, level)
    return Entry(entry, zlib.crc32(entry))


class Stream(Protocol):
    """What deflates content piece by piece."""

    def compress(self, data: bytes, /) -> bytes:
        """Take a piece; give what is ready."""
        ...

    def flush(self) -> bytes:
        """Give the rest."""
        ...


def start_stream(level: int) -> Stream:
    """Begin to deflate content that comes in pieces."""
    fast = _fast_library() if level != STORED else None
    if fast is None:
        return zlib.compressobj(level)
    stream: Stream = fast.compressobj(min(level, _FAST_LEVEL_MAX))
    return stream


def deflate(data: bytes, level: int) -> bytes:
    """Deflate content that is there as a whole."""
    fast = _fast_library() if level != STORED else None
    if fast is not None:
        deflated: bytes = fast.compress(data, min(level, _FAST_LEVEL_MAX))
        return deflated
    # With a window no larger than the content: setting up zlib's largest takes longer than deflating most objects.
    bits = max(12, len(data).bit_length())
    if bits >= zlib.MAX_WBITS:
        return zlib.compress(data, level)
    stream = zlib.compressobj(level, zlib.DEFLATED, bits, bits - _MEMORY_BITS)
    return stream.compress(data) + stream.flush()


@cache
def _fast_library() -> ModuleType | None:
    try:
        from isal import isal_zlib  # noqa: PLC0415 - loaded when something is deflated: most commands only read
    except ImportError:  # not built for this processor
        return None
    return isal_zlib
