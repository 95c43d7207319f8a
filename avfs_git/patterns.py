"""Regular expressions that are compiled when they are first used, and what globs become.

Decided here: how a module names its expressions without compiling them, which takes `re` 100 to 400 µs each: a command or a
session imports dozens and uses a few. And how the wildcards of a glob are spelled so that a match takes no time exponential in
their number. Usable from several threads: the second one compiles the same once more.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from contextlib import suppress
from enum import Enum
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


class Gap(Enum):
    """What stands for text of any length in a glob; the value is its regular expression that takes the least."""

    TEXT = ".*?"
    NAME = "[^/]*?"
    DIRECTORIES = "(?:.*?/)??"


def join_pieces(parts: Iterable[str | Gap]) -> str:
    """Make a regular expression of a glob's gaps and of expressions of one character each, for `re.DOTALL` and a full match.

    A gap is best given as little as possible: what fits behind a later place of the piece after it also fits behind the first
    one. So a gap and its piece are an atomic group, which `re` does not try again: trying each place of each gap takes time
    exponential in their number. Two pieces remain where a later place may be the right one: the last, which is bound to the
    end, and one in front of directories that does not end in a slash, as these may be none.
    """
    rows: list[tuple[Gap | None, str]] = [(None, "")]
    for part in parts:
        gap, piece = rows[-1]
        if isinstance(part, str):
            rows[-1] = gap, piece + part
        elif not piece and gap is not None and (gap is part or Gap.TEXT in (gap, part)):
            rows[-1] = (gap if gap is part else Gap.TEXT), ""
        else:
            rows.append((part, ""))
    # A gap that takes slashes begins a group of its own; the whole group moves on where a gap inside a name does not fit.
    starts = [number for number, (gap, _) in enumerate(rows) if gap is not Gap.NAME]
    return "".join(_join_group(rows, start, end) for start, end in zip(starts, [*starts[1:], len(rows)], strict=True))


def _join_group(rows: list[tuple[Gap | None, str]], start: int, end: int) -> str:
    is_final = end == len(rows) or (rows[end][0] is Gap.DIRECTORIES and not rows[end - 1][1].endswith("/"))
    first, *others = [f"{gap.value if gap is not None else ''}{piece}" for gap, piece in rows[start:end]]
    last = others.pop() if others and is_final else ""
    group = first + "".join(f"(?>{other})" for other in others) + last
    return group if is_final else f"(?>{group})"
