"""Interrupts as a signal handler raises them: between any two calls, of Python's or of C's."""

from __future__ import annotations

import sys
from types import TracebackType
from typing import Self


class Interrupt:
    """Raises KeyboardInterrupt in a block, once so many calls have ended in it."""

    def __init__(self, step: int) -> None:
        """Say after how many."""
        self.step = step
        self.passed = 0

    @property
    def has_come(self) -> bool:
        """Whether the block was long enough."""
        return self.passed >= self.step

    def __enter__(self) -> Self:
        """Begin to count."""
        sys.setprofile(self._look)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Count no more."""
        sys.setprofile(None)

    def _look(self, _frame: object, event: str, _argument: object) -> None:
        self.passed += event in ("return", "c_return")
        if self.has_come:
            sys.setprofile(None)
            raise KeyboardInterrupt
