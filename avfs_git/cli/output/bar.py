"""How far a verb is, on a terminal: a bar on standard error.

Decided here: when it comes (after half a second), how often it is drawn, and the remark on a verb that takes in very
much. It is drawn when the operation tells how far it is, and by no thread of its own: the process may fork meanwhile.
One thread.
"""

from __future__ import annotations

from time import monotonic
from typing import TYPE_CHECKING

from avfs_git.cli.output.quoting import defuse
from avfs_git.progress import STORING

if TYPE_CHECKING:
    from collections.abc import Callable

    from rich.progress import Progress as Bars

AFTER_S = 0.5
EVERY_S = 0.1
HUGE_BYTES = 400 << 20
"""What stores more than this is remarked, as long as it can be given up."""


class Bar:
    """Tells of one verb; call it with what is done, how far it is, and of how much."""

    def __init__(
        self, message: str, *, color: bool, spell_size: Callable[[int], str], warn: Callable[[str], object]
    ) -> None:
        """Name what is done, such as `importing data`."""
        self._message = message
        self._color = color
        self._spell_size = spell_size
        self._warn = warn
        self._bars: Bars | None = None
        self._due_s = monotonic() + AFTER_S
        self._is_warned = False

    def __call__(self, stage: str, done: int, total: int) -> None:
        """Draw it, if it is time."""
        if stage == STORING and done > HUGE_BYTES and not self._is_warned:
            self._is_warned = True
            self.close()
            self._warn(f"{self._message}: more than {self._spell_size(HUGE_BYTES)} until now; Ctrl-C gives it up")
        now = monotonic()
        if now < self._due_s:
            return
        self._due_s = now + EVERY_S
        if self._bars is None:
            self._bars = self._make()
        self._bars.start()  # not before: git may ask for a password first, and a bar would be drawn over that
        what = (
            f"{self._spell_size(done)} stored"
            if stage == STORING
            else stage
            if total or not done
            else f"{stage}: {done:,}"
        )
        text = f"{defuse(self._message)}: {defuse(what)}"
        self._bars.update(self._bars.task_ids[0], description=text, completed=done, total=total or None, refresh=True)

    def close(self) -> None:
        """Take it off the terminal."""
        if self._bars is not None:
            self._bars.stop()
            self._bars = None

    def _make(self) -> Bars:
        from rich.console import Console  # noqa: PLC0415 - only for what takes long
        from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn  # noqa: PLC0415 - the same

        columns = (TextColumn("{task.description}", markup=False), BarColumn(), TaskProgressColumn())
        console = Console(stderr=True, no_color=not self._color)
        bars = Progress(*columns, console=console, transient=True, auto_refresh=False)
        bars.add_task(self._message, total=None)
        return bars
