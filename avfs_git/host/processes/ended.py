"""Whether the result of an operation is still wanted, asked while a program works for it.

Decided here: how a caller's function reaches the code that waits for the program. It holds for the thread that called
`ended_when`. A session sets it for an operation that only reads; `gitstore.gitcommand` kills its git when the client
has gone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_has_ended: ContextVar[Callable[[], bool] | None] = ContextVar("avfs ended", default=None)


@contextmanager
def ended_when(has_ended: Callable[[], bool]) -> Iterator[None]:
    """Have programs that this thread waits for in the block killed, soon after the function returns True."""
    before = _has_ended.set(has_ended)
    try:
        yield
    finally:
        _has_ended.reset(before)


def end_watch() -> Callable[[], bool] | None:
    """Give the function that tells; None where nothing but the program's own end is waited for."""
    return _has_ended.get()
