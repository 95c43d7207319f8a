"""How a help text is laid out: as wide as the terminal, and readable on a narrow one.

Decided here: the width of a line, and when an option's description begins on a line of its own. Click formats for 50
columns at least, which a narrower terminal would break in the middle of words, and puts descriptions behind a column of
30. Imported by every help; one thread.
"""

from __future__ import annotations

from collections.abc import Iterable

import click

_NARROW = 60
_LEAST = 20
_WIDEST = 80


class HelpLayout(click.HelpFormatter):
    """Formats help for the width of the terminal."""

    def __init__(self, indent_increment: int = 2, width: int | None = None, max_width: int | None = None) -> None:
        """Take the terminal's width, unless one is given."""
        if width is None:
            import shutil  # noqa: PLC0415 - only for a help

            width = max(min(shutil.get_terminal_size().columns, max_width or _WIDEST) - 2, _LEAST)
        super().__init__(indent_increment, width, max_width)

    def write_dl(self, rows: Iterable[tuple[str, str]], col_max: int = 30, col_spacing: int = 2) -> None:
        """Write names with their descriptions; on a narrow terminal long names stand above theirs."""
        super().write_dl(rows, min(col_max, self.width // 3) if self.width < _NARROW else col_max, col_spacing)


class HelpContext(click.Context):
    """The context of a command whose help is laid out so."""

    formatter_class = HelpLayout
