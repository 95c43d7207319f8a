"""How far an operation is, told while it goes on.

Decided here: how a caller's function reaches the loops that know. It holds for the thread, or the task, that called
`telling`, and for nothing that another process does, such as the session of a mounted fork. A loop asks `listener`
once, so that an operation without a listener costs nothing. Telling changes nothing; an exception of the function ends
the operation like Ctrl-C.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

Progress = Callable[[str, int, int], None]
"""Told what is done, how far it is, and of how much; 0 where that is not known."""

STORING = "storing"
"""What is done where `how far` is the number of bytes that were stored."""

_listener: ContextVar[Progress | None] = ContextVar("avfs progress", default=None)


@contextmanager
def telling(progress: Progress | None) -> Iterator[None]:
    """Have the operations of a block tell how far they are."""
    before = _listener.set(progress)
    try:
        yield
    finally:
        _listener.reset(before)


def listener() -> Progress | None:
    """Say whom an operation that begins now tells."""
    return _listener.get()
