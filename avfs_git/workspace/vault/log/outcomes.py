"""Which of the lines that were only announced speak of operations that happened, asked in a view of the log.

Decided here: how the refs, and what later lines say of them, tell that. One view, one thread.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from avfs_git.paths import Oid, maybe_hex
from avfs_git.workspace.vault.format import HEADS
from avfs_git.workspace.vault.log.loglines import HAPPENED, Line, LogView
from avfs_git.workspace.vault.log.oprecord import OpRecord, parse_places, ref_key


class Outcomes:
    """Tells of the lines in a view whether their operations happened; each line that names a ref is parsed once."""

    def __init__(self, view: LogView, read_ref: Callable[[str], Oid | None]) -> None:
        self._view = view
        self._read_ref = read_ref
        self._known: dict[int, bool] = {}
        self._readers: dict[str, Iterator[tuple[int, OpRecord, bytes]]] = {}
        self._moves: dict[str, list[tuple[int, OpRecord, bytes]]] = {}

    def choose(self, lines: Iterable[Line]) -> Iterator[OpRecord]:
        """Yield the operations of some lines that happened."""
        return (record for at, record, mark in parse_places(lines) if self.happened(at, record, mark))

    def happened(self, at: int, record: OpRecord, mark: bytes) -> bool:
        """Tell it of the line at an offset."""
        if mark == HAPPENED:
            return True
        if at not in self._known:
            newer = None if record.moves else next(parse_places(self._view.after(at)), None)
            is_part = newer is not None and record.is_part_of(newer[1]) and self.happened(*newer)
            self._known[at] = is_part or self._have_moved(at, record)
        return self._known[at]

    def _have_moved(self, at: int, record: OpRecord) -> bool:
        """Ask the refs whether an operation that was announced has moved them, or the branch if that is one of them.

        A branch moves before what depends on it, and after what it depends on.
        """
        branches = [move for move in record.moves if move[0].startswith(HEADS)]
        if branches and all(old == new for _, old, new in branches):
            return True  # announced when all files were in place: nothing else was left to do
        for ref, old, _ in branches or record.moves:
            is_later, held = self._held_after(at, ref)
            if (held if is_later else maybe_hex(self._read_ref(ref))) != old:
                return True
        return False

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
        outcomes = [self.happened(*move) for move in later]  # the newest first: each depends on later ones
        for (_, record, _), happened in zip(reversed(later), reversed(outcomes), strict=True):
            old = next(((old,) for name, old, _ in record.moves if name == ref), None)
            if old is not None and happened:
                return True, old[0]
        return False, None
