"""What is open for a block: a descriptor, or an object that has to be closed.

Decided here: nothing but the closing. `closing_fd` is a class, because each reading of a ref or an object uses it.
"""

from __future__ import annotations

import os
from abc import abstractmethod
from typing import Self


class closing_fd:  # noqa: N801 - used as a context manager, as `contextlib.closing` is
    """Close a descriptor at the end of a block, which gets its number."""

    __slots__ = ("_fd",)

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def __enter__(self) -> int:
        return self._fd

    def __exit__(self, *_: object) -> None:
        os.close(self._fd)


class Closing:
    """An object that is closed at the end of its block."""

    __slots__ = ()

    @abstractmethod
    def close(self) -> None:
        """Close it."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
