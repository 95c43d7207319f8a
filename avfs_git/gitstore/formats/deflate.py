"""Deflating objects for a pack.

Decided here: by which library. ISA-L deflates three to five times as fast as zlib's quickest level, and smaller; zlib
does the work on a processor that ISA-L does not know. Called by `packwriter` alone; pure functions.
"""

from __future__ import annotations

import zlib
from functools import cache
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from types import ModuleType

STORED = 0
"""The level at which nothing is compressed."""
_FAST_LEVEL_MAX = 3
"""ISA-L's."""
_MEMORY_BITS = 6
"""Window bits of zlib less its memory level: more memory clears slowly for small objects, less ends blocks too soon."""


class Stream(Protocol):
    """What deflates content piece by piece."""

    def compress(self, data: bytes, /) -> bytes:
        """Take a piece; give what is ready."""

    def flush(self) -> bytes:
        """Give the rest."""


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
