"""Merging the content of one file three ways.

Decided here: what a file becomes whose lines were merged (`linemerge`): markers, labels, ends of lines; what counts as
binary, and what a side's content becomes where lines cannot be merged; which attributes have a file merged otherwise
(`merge`, `conflict-marker-size`). A program that one of these names is never run. The measure is git's `ort` strategy, to the
byte. Merges of trees call it. Nothing is kept between merges but the style: a `FileMerger` may be used by any thread.
"""

from __future__ import annotations

import re
from collections.abc import Callable, MutableMapping, Sequence
from enum import StrEnum
from typing import NamedTuple

from avfs_git.gitstore.attributes import TreeAttributes
from avfs_git.gitstore.linediff import Numbered, number_lines
from avfs_git.gitstore.linemerge import Piece, Verdict, merge_lines
from avfs_git.gitstore.renames import is_binary
from avfs_git.model import MergeStrategy
from avfs_git.paths import TreePath

MARKER_SIZE = 7
_MAX_SIZE = 1023 << 20
"""git's own limit (`MAX_XDIFF_SIZE`): what is larger counts as binary."""


class ConflictStyle(StrEnum):
    """What stands between the markers of a conflict, as `merge.conflictStyle` names it."""

    MERGE = "merge"
    """The lines of both sides."""
    DIFF3 = "diff3"
    """The base's lines, too."""
    ZDIFF3 = "zdiff3"
    """The same, without lines with which both sides begin or end."""


class Driver(StrEnum):
    """How the contents of a file are merged."""

    TEXT = "text"
    """By lines."""
    UNION = "union"
    """By lines, with those of both sides where both changed them, whatever is favored."""
    BINARY = "binary"
    """Not at all: it is one side's or the other's."""


_ATTRIBUTES = (b"merge", b"conflict-marker-size")
_DRIVERS = {driver.value.encode(): driver for driver in Driver}
_SIZE = re.compile(rb"[+]?(\d{1,9})")
_MAX_MARKER = 1000
"""Longer ones could only fill a disk; git has no limit."""


def how_to_merge(
    attributes: TreeAttributes, path: TreePath, drivers: MutableMapping[TreePath, bytes] | None = None
) -> tuple[Driver, int]:
    """Tell how the contents of a file are merged, and how long its markers are.

    Args:
        attributes: What is said of files.
        path: The file.
        drivers: Gets the name of a program that the file is to be merged with: none is ever run.
    """
    found = attributes.find(path, _ATTRIBUTES)
    value, size = found[b"merge"], found[b"conflict-marker-size"]
    driver = Driver.TEXT
    if value is False:
        driver = Driver.BINARY
    elif isinstance(value, bytes):
        known = _DRIVERS.get(value)
        if known is None and drivers is not None:
            drivers[path] = value
        driver = known or driver
    digits = _SIZE.match(size) if isinstance(size, bytes) else None
    return driver, min(int(digits[1]), _MAX_MARKER) or MARKER_SIZE if digits is not None else MARKER_SIZE


class Labels(NamedTuple):
    """What the markers of a conflict call the three sides."""

    base: bytes
    ours: bytes
    theirs: bytes


class MergedContent(NamedTuple):
    """What became of a file's content."""

    content: bytes
    is_clean: bool


class FileMerger:
    """Merges contents, one file after the other."""

    def __init__(
        self,
        *,
        favor: MergeStrategy = MergeStrategy.NORMAL,
        style: ConflictStyle | Callable[[], ConflictStyle] = ConflictStyle.MERGE,
    ) -> None:
        """Choose how conflicts are resolved or shown.

        Args:
            favor: What becomes of lines that both sides changed.
            style: How conflicts are shown, or what tells it; that is asked when the first file is merged by lines.
        """
        self.favor = favor
        self._style = style

    def merge(
        self,
        base: bytes | None,
        ours: bytes,
        theirs: bytes,
        labels: Labels,
        *,
        for_base: bool = False,
        marker_size: int = MARKER_SIZE,
        driver: Driver = Driver.TEXT,
    ) -> MergedContent:
        """Merge three contents.

        Args:
            base: What both come from; None where each side made the file.
            ours: One side.
            theirs: The other side.
            labels: What markers call them.
            for_base: The result is the base of another merge: conflicts stay in it, whatever is favored.
            marker_size: How many characters a marker has.
            driver: How the file is merged.
        """
        base = base or b""
        favor = MergeStrategy.UNION if driver is Driver.UNION else self.favor
        if driver is Driver.BINARY or any(is_binary(content) or len(content) > _MAX_SIZE for content in (base, ours, theirs)):
            if for_base:
                return MergedContent(base, is_clean=False)
            if favor in (MergeStrategy.OURS, MergeStrategy.THEIRS):
                return MergedContent(theirs if favor is MergeStrategy.THEIRS else ours, is_clean=True)
            return MergedContent(ours, is_clean=False)
        numbered = number_lines(base, ours, theirs)
        style = self._style if isinstance(self._style, ConflictStyle) else self._style()
        self._style = style
        with_base = style is not ConflictStyle.MERGE
        pieces = merge_lines(*numbered, with_base=with_base, trimmed=style is ConflictStyle.ZDIFF3)
        favored = Verdict.CONFLICT if for_base and driver is not Driver.UNION else _FAVORED[favor]
        file = _File(numbered, labels, marker_size, with_base=with_base)
        return MergedContent(file.write(pieces, favored), file.is_clean)


_FAVORED = {
    MergeStrategy.NORMAL: Verdict.CONFLICT,
    MergeStrategy.OURS: Verdict.OURS,
    MergeStrategy.THEIRS: Verdict.THEIRS,
    MergeStrategy.UNION: Verdict.BOTH,
}


class _File:
    """A merged file while it is written."""

    def __init__(self, texts: tuple[Numbered, Numbered, Numbered], labels: Labels, marker_size: int, *, with_base: bool) -> None:
        self._base, self._ours, self._theirs = (text.lines for text in texts)
        self._labels = labels
        self._marker_size = marker_size
        self._with_base = with_base
        self.is_clean = True

    def write(self, pieces: Sequence[Piece], favored: Verdict) -> bytes:
        """Write the pieces and what is between them.

        Args:
            pieces: What was changed, from top to bottom.
            favored: What becomes of conflicts.
        """
        out: list[bytes] = []
        at = 0
        for piece in pieces:
            verdict = piece.verdict or favored
            out += self._ours[at : piece.our_start]
            at = piece.our_start + piece.our_count
            ours = self._ours[piece.our_start : at]
            theirs = self._theirs[piece.their_start : piece.their_start + piece.their_count]
            if verdict is Verdict.OURS:
                out += ours
            elif verdict is Verdict.THEIRS:
                out += theirs
            elif verdict is Verdict.BOTH:
                out += _ended(ours, self._line_end(piece))
                out += theirs
            else:
                self.is_clean = False
                end = self._line_end(piece)
                out.append(self._marker(b"<", self._labels.ours, end))
                out += _ended(ours, end)
                if self._with_base:
                    out.append(self._marker(b"|", self._labels.base, end))
                    out += _ended(self._base[piece.base_start : piece.base_start + piece.base_count], end)
                out.append(self._marker(b"=", b"", end))
                out += _ended(theirs, end)
                out.append(self._marker(b">", self._labels.theirs, end))
        out += self._ours[at:]
        return b"".join(out)

    def _marker(self, mark: bytes, label: bytes, end: bytes) -> bytes:
        return mark * self._marker_size + (b" " + label if label else b"") + end

    def _line_end(self, piece: Piece) -> bytes:
        """Choose the end of line for what is put in: that of the lines above, if all sides agree on a carriage return."""
        for lines, above in ((self._ours, piece.our_start - 1), (self._theirs, piece.their_start - 1), (self._base, 0)):
            has_return = _ends_with_return(lines, max(above, 0))
            if has_return is False:
                return b"\n"
        return b"\r\n" if has_return else b"\n"


def _ended(lines: Sequence[bytes], end: bytes) -> Sequence[bytes]:
    """Put an end of line to the last of some lines if it has none."""
    if lines and not lines[-1].endswith(b"\n"):
        return [*lines[:-1], lines[-1] + end]
    return lines


def _ends_with_return(lines: Sequence[bytes], at: int) -> bool | None:
    """Tell whether a line ends with a carriage return; the last one without an end counts as the one above it does.

    None if there is nothing to tell it by.
    """
    if not lines:
        return None
    if not lines[at].endswith(b"\n"):
        if not at:
            return None
        at -= 1
    return lines[at].endswith(b"\r\n")
