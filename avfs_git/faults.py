"""Named points in production code at which tests make an operation fail, or the process die.

Production code calls `reach("checkpoint.packed")` at each step whose interruption matters; tests arm. Unarmed, a point
costs one comparison. A process-wide setting, meant for one thread at a time.
"""

from __future__ import annotations

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
