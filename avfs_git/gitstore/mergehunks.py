"""The lines over which two versions of a file are in conflict, as data instead of markers.

Decided here: what a hunk of a conflict is, and where it stands: at a line of our version, with the lines of all three.
The merge itself is that of `linemerge`, with conflicts as large as the base's lines that both sides changed. Called
where conflicts are told to people and programs; pure functions over contents, safe from any thread.
"""

from __future__ import annotations

from collections.abc import Sequence

from avfs_git.gitstore.linediff import number_lines
from avfs_git.gitstore.linemerge import Verdict, merge_lines
from avfs_git.gitstore.renames import is_binary
from avfs_git.model import ConflictHunk


def find_hunks(base: bytes | None, ours: bytes, theirs: bytes) -> tuple[ConflictHunk, ...]:
    """List where two versions of a text changed the same lines; none of what is no text.

    Args:
        base: What both come from; None where each side made the file.
        ours: Our version.
        theirs: The other.
    """
    base = base or b""
    if any(is_binary(content) for content in (base, ours, theirs)):
        return ()
    texts = number_lines(base, ours, theirs)
    hunks = []
    for piece in merge_lines(*texts, with_base=True):
        if piece.verdict is Verdict.CONFLICT:
            mine = _take(texts[1].lines, piece.our_start, piece.our_count)
            other = _take(texts[2].lines, piece.their_start, piece.their_count)
            # Where both came to the same on different ways, a merge takes it.
            if mine != other:
                old = _take(texts[0].lines, piece.base_start, piece.base_count)
                hunks.append(ConflictHunk(piece.our_start + 1, old, mine, other))
    return tuple(hunks)


def _take(lines: Sequence[bytes], start: int, count: int) -> bytes:
    return b"".join(lines[start : start + count])
