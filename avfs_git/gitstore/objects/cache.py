"""A bounded cache whose hits cost one look-up.

Decided here: which entries the cache keeps. It has two generations instead of a list in order of use: a hit moves its
entry to the young one; when that is full it becomes the old one, and the cache drops the old one. Threads need no lock:
each step is one operation on a dict, and a race costs at most a second reading.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

K = TypeVar("K")
V = TypeVar("V")


class GenerationCache(Generic[K, V]):
    """Values by key, up to a weight."""

    __slots__ = ("_limit", "_old", "_weigh", "_weight", "young")

    def __init__(self, limit: int, weigh: Callable[[V], int]) -> None:
        self.young: dict[K, V] = {}
        """What was used lately; callers in a hurry look here themselves first."""
        self._old: dict[K, V] = {}
        self.limit(limit)
        self._weigh = weigh
        self._weight = 0

    def limit(self, weight: int) -> None:
        """Keep up to another weight from the next value on."""
        self._limit = weight // 2

    def get(self, key: K) -> V | None:
        """Return what is kept under a key, or None."""
        value = self.young.get(key)
        if value is None:
            value = self._old.get(key)
            if value is not None:
                self.put(key, value)
        return value

    def put(self, key: K, value: V) -> None:
        """Keep a value, and drop others above the limit; a value above the limit is kept alone."""
        weight = self._weigh(value)
        if self._weight + weight > self._limit:
            self._old = self.young
            self.young = {}
            self._weight = 0
        self.young[key] = value
        self._weight += weight

    def clear(self) -> None:
        """Forget everything."""
        self.young = {}
        self._old = {}
        self._weight = 0
