"""Modules that are loaded when they are first used.

Decided here: how the public API names all its parts and still lets a light command load only what it needs, and that
`logging` is loaded when something is said: a session's process would spend a tenth of its start on it. Safe
from any thread: loading is the import system's, which lets one thread load and the others wait.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module


class LazyModule:
    """Stands for a module; asking it for a name loads the module."""

    def __init__(self, name: str) -> None:
        """Stand for the module of that full name."""
        self._name = name

    def __getattr__(self, attribute: str) -> object:
        value: object = getattr(import_module(self._name), attribute)
        setattr(self, attribute, value)  # the next use finds it without coming here
        return value


class LazyLogger:
    """Stands for the logger of a module."""

    def __init__(self, name: str) -> None:
        """Stand for the logger of that name."""
        self._name = name

    def __getattr__(self, method: str) -> Callable[..., None]:
        import logging  # noqa: PLC0415 - see above

        said: Callable[..., None] = getattr(logging.getLogger(self._name), method)
        return said
