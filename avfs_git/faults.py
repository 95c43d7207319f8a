"""Named points in production code at which tests make an operation fail, or the process die.

Decided here: which kinds of fault exist and how a point is armed. Production code calls
`reach("checkpoint.packed")` at each step whose interruption matters; tests arm. Unarmed, a point
costs one comparison. A process-wide setting, meant for one thread at a time.
"""

from __future__ import annotations

import os
from collections.abc import Callable

_handler: Callable[[str], None] | None = None


def reach(point: str) -> None:
    """Pass a named point. Does nothing unless a handler is armed."""
    if _handler is not None:
        _handler(point)


def arm(handler: Callable[[str], None] | None) -> None:
    """Call the handler at each point from now on; None disarms."""
    global _handler  # noqa: PLW0603 - one process-wide switch is the purpose of this module
    _handler = handler


class FailAt:
    """Fail at the n-th point reached, once or from then on; counts the points it saw."""

    def __init__(self, n: int, error: Callable[[], BaseException], *, stay: bool = False) -> None:
        self.n = n
        self.error = error
        self.stay = stay
        self.seen: list[str] = []

    def __call__(self, point: str) -> None:
        """Count the point, and fail where its turn has come."""
        self.seen.append(point)
        if len(self.seen) == self.n or (self.stay and len(self.seen) > self.n):
            raise self.error()


class DieAt:
    """End the process without any clean-up at the n-th point reached, as SIGKILL would."""

    STATUS = 137

    def __init__(self, n: int) -> None:
        self.n = n
        self.count = 0

    def __call__(self, _point: str) -> None:
        """Count the point, and die where its turn has come."""
        self.count += 1
        if self.count == self.n:
            os._exit(self.STATUS)
