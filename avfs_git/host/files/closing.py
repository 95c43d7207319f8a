"""A descriptor that is open for a block.

Decided here: nothing but the closing. A class, because each reading of a ref or an object uses it.
"""

from __future__ import annotations

import os


class closing_fd:  # noqa: N801 - used as a context manager, as `contextlib.closing` is
    """Close a descriptor at the end of a block, which gets its number."""

    __slots__ = ("_fd",)

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def __enter__(self) -> int:
        return self._fd

    def __exit__(self, *_: object) -> None:
        os.close(self._fd)
