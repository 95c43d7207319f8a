"""Merging the content of one file three ways.

Decided here: what a file becomes whose lines were merged (`linemerge`): markers, labels, ends of lines; what counts as
binary, and what a side's content becomes where lines cannot be merged. The measure is git's `ort` strategy, to the
byte. Merges of trees call it. Nothing is kept between merges: a `FileMerger` may be used by any thread.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import NamedTuple

from avfs_git.gitstore.linediff import Numbered, number_lines
from avfs_git.gitstore.linemerge import Piece, Verdict, merge_lines
from avfs_git.gitstore.renames import is_binary

MARKER_SIZE = 7
_MAX_SIZE = 1023 << 20
"""git's own limit (`MAX_XDIFF_SIZE`): what is larger counts as binary."""


class Favor(StrEnum):
    """What becomes of lines that both sides changed."""

    NORMAL = "normal"
    """A conflict."""
    OURS = "ours"
    THEIRS = "theirs"
    UNION = "union"
    """The lines of both, ours first."""


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

    def __init__(self, *, favor: Favor = Favor.NORMAL, with_base: bool = False) -> None:
        """Choose how conflicts are resolved or shown.

        Args:
            favor: What becomes of lines that both sides changed.
            with_base: Show the base's lines between the markers, too (`diff3`).
        """
        self.favor = favor
        self._with_base = with_base

    def merge(
        self, base: bytes | None, ours: bytes, theirs: bytes, labels: Labels, *, for_base: bool = False, more_marker: int = 0
    ) -> MergedContent:
        """Merge three contents.

        Args:
            base: What both come from; None where each side made the file.
            ours: One side.
            theirs: The other side.
            labels: What markers call them.
            for_base: The result is the base of another merge: conflicts stay in it, whatever is favored.
            more_marker: By how many characters markers are longer than usual.
        """
        base = base or b""
        if any(is_binary(content) or len(content) > _MAX_SIZE for content in (base, ours, theirs)):
            if for_base:
                return MergedContent(base, is_clean=False)
            if self.favor in (Favor.OURS, Favor.THEIRS):
                return MergedContent(theirs if self.favor is Favor.THEIRS else ours, is_clean=True)
            return MergedContent(ours, is_clean=False)
        numbered = number_lines(base, ours, theirs)
        pieces = merge_lines(*numbered, with_base=self._with_base)
        favored = Verdict.CONFLICT if for_base else _FAVORED[self.favor]
        file = _File(numbered, labels, MARKER_SIZE + more_marker, with_base=self._with_base)
        return MergedContent(file.write(pieces, favored), file.is_clean)


_FAVORED = {
    Favor.NORMAL: Verdict.CONFLICT,
    Favor.OURS: Verdict.OURS,
    Favor.THEIRS: Verdict.THEIRS,
    Favor.UNION: Verdict.BOTH,
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
