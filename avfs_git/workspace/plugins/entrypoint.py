"""Plug-ins in Python: a function that an installed distribution names in the group `avfs.plugins` of its entry points.

Decided here: that the function is the one whose place and distribution were enabled. Called where a plug-in is enabled
or listed, and in its own process, which alone loads it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib.metadata import EntryPoint, entry_points
from typing import Any

GROUP = "avfs.plugins"


def find_all() -> dict[str, list[str]]:
    """List what is installed: by each name the functions that have it, as `describe` spells them."""
    found: dict[str, list[str]] = {}
    for point in entry_points(group=GROUP):
        found.setdefault(point.name, []).append(describe(point))
    return found


def describe(point: EntryPoint) -> str:
    """Name the function and the distribution of an entry point: `shop.guard:decide of shop-guard`."""
    return f"{point.value} of {point.dist.name if point.dist is not None else 'no distribution'}"


def load(name: str, wanted: str) -> Callable[[Mapping[str, Any]], str | None]:
    """Load the function of that name.

    Raises:
        LookupError: If that is not the function that was enabled, or not the only one.
        BaseException: What importing it raises.
    """
    found = list(entry_points(group=GROUP, name=name))
    if [describe(point) for point in found] != [wanted]:
        installed = ", ".join(map(describe, found)) or "nothing"
        raise LookupError(f"the entry point was enabled as {wanted}, and {installed} is installed")
    function = found[0].load()
    if not callable(function):
        raise TypeError(f"{found[0].value} cannot be called")
    return function  # type: ignore[no-any-return]
