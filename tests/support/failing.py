"""Handlers for fault points (`avfs_git.faults.arm`): fail, or die, at one of them."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from avfs_git import faults

DISKS = ((errno.EIO, False), (errno.ENOSPC, True))
"""How disks fail: once, or from then on."""


@contextmanager
def armed(handler: Callable[[str], None]) -> Iterator[None]:
    """Call a handler at each point that is reached while the block runs."""
    faults.arm(handler)
    try:
        yield
    finally:
        faults.arm(None)


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
