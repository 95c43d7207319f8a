"""Which of the lines that were only announced speak of operations that happened, asked in a view of the log.

Decided here: nothing but the order of the questions; `OpLog` judges a line by the refs and by what later lines say of them. One
view, one thread.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

from avfs_git.workspace.vault.log.loglines import HAPPENED, LogView
from avfs_git.workspace.vault.log.oprecord import OpRecord, parse_places, ref_key


class Outcomes:
    """Tells of the lines in a view whether their operations happened; each line that names a ref is parsed once."""

    def __init__(self, view: LogView, judge: Callable[[OpRecord, Callable[[str], tuple[bool, str | None]]], bool]) -> None:
        self._view = view
        self._judge = judge
        self._known: dict[int, bool] = {}
        self._readers: dict[str, Iterator[tuple[int, OpRecord, bytes]]] = {}
        self._moves: dict[str, list[tuple[int, OpRecord, bytes]]] = {}

    def happened(self, at: int, record: OpRecord, mark: bytes) -> bool:
        """Tell it of the line at an offset."""
        if mark == HAPPENED:
            return True
        if at not in self._known:
            newer = None if record.moves else next(parse_places(self._view.after(at)), None)
            is_part = newer is not None and record.is_part_of(newer[1]) and self.happened(*newer)
            self._known[at] = is_part or self._judge(record, partial(self._held_after, at))
        return self._known[at]

    def is_moved_after(self, ref: str, at: int) -> bool:
        """Tell whether an operation whose line comes after an offset moved a ref."""
        return self._held_after(at, ref)[0]

    def _held_after(self, at: int, ref: str) -> tuple[bool, str | None]:
        """Tell whether an operation after an offset moved a ref, and what the ref held before the first of these."""
        moves = self._moves.setdefault(ref, [])
        reader = self._readers.setdefault(ref, parse_places(self._view.find(ref_key(ref))))
        while not moves or moves[-1][0] > at:
            found = next(reader, None)
            if found is None:
                break
            moves.append(found)
        later = [move for move in moves if move[0] > at]
        outcomes = [self.happened(*move) for move in later]  # the newest first: each depends on those that come after it
        for (_, record, _), happened in zip(reversed(later), reversed(outcomes), strict=True):
            old = next(((old,) for name, old, _ in record.moves if name == ref), None)
            if old is not None and happened:
                return True, old[0]
        return False, None
