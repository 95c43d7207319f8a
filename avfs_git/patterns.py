"""Regular expressions that are compiled when they are first used.

Decided here: how a module names its expressions without compiling them, which takes `re` 100 to 400 µs each: a command
or a session imports dozens and uses a few. Usable from several threads: the second one compiles the same once more.
"""

from __future__ import annotations

import re
from contextlib import suppress
from typing import Any, AnyStr, cast


def compiled(expression: AnyStr, flags: int = 0) -> re.Pattern[AnyStr]:
    """Stand for what `re.compile` gives; a wrong expression fails when it is used."""
    return cast("re.Pattern[AnyStr]", _Pattern(expression, flags))


def compile_all() -> None:
    """Compile what was named up to now: for a process that is forked to use some of it."""
    for made in _made:
        with suppress(re.error):  # who uses it finds out
            made.prepare()


_made: list[_Pattern] = []


class _Pattern:
    """Stands for a compiled expression; asking it for anything compiles it."""

    def __init__(self, expression: str | bytes, flags: int) -> None:
        self._expression = expression
        self._flags = flags
        _made.append(self)

    def prepare(self) -> re.Pattern[Any]:
        """Compile it, if that was not done."""
        # Kept here, because `re` forgets what it compiled when that becomes much.
        real: re.Pattern[Any] | None = self.__dict__.get("_compiled")
        if real is None:
            real = self._compiled = re.compile(self._expression, self._flags)
        return real

    def __getattr__(self, name: str) -> Any:
        value = getattr(self.prepare(), name)
        setattr(self, name, value)  # the next use finds it without coming here, as fast as that of a real one
        return value
