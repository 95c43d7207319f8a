"""The lines over which two versions of a file are in conflict, as data instead of markers.

Decided here: what a hunk of a conflict is, and where it stands: at a line of our version, with the lines of all three.
The merge itself is that of `mergefile`, whose result is read back by markers that no file can hold by chance. Called
where conflicts are told to people and programs; pure functions over contents. A `FileMerger` of its own is used for
each call, so that any thread may call it.
"""

from __future__ import annotations

import os

import pygit2

from avfs_git.gitstore.mergefile import MARKER_SIZE, FileMerger, Labels
from avfs_git.gitstore.renames import is_binary
from avfs_git.model import ConflictHunk

_LONGER = 25


def find_hunks(base: bytes | None, ours: bytes, theirs: bytes) -> tuple[ConflictHunk, ...]:
    """List where two versions of a text changed the same lines; none of what is no text.

    Args:
        base: What both come from; None where each side made the file.
        ours: Our version.
        theirs: The other.
    """
    if any(is_binary(content) for content in (base or b"", ours, theirs)):
        return ()
    word = os.urandom(8).hex().encode()
    merger = FileMerger(with_base=True)
    merged = merger.merge(base or b"", ours, theirs, Labels(word, word, word), more_marker=_LONGER)
    if merged.is_clean:
        return ()
    size = MARKER_SIZE + _LONGER
    begin, middle, split, end = (
        b"<" * size + b" " + word,
        b"|" * size + b" " + word,
        b"=" * size,
        b">" * size + b" " + word,
    )
    found: list[tuple[int, list[bytes], list[bytes], list[bytes]]] = []
    resolved: list[bytes] = []
    """What the file would be, were all conflicts ours."""
    into: list[bytes] = resolved
    for line in merged.content.splitlines(keepends=True):
        mark = line.rstrip(b"\r\n")
        if mark == begin:
            found.append((len(resolved), [], [], []))
            into = found[-1][2]
        elif into is not resolved and mark == middle:
            into = found[-1][1]
        elif into is not resolved and mark == split:
            into = found[-1][3]
        elif into is not resolved and mark == end:
            resolved += found[-1][2]
            into = resolved
        else:
            into.append(line)
    shifts = _shifts(b"".join(resolved), ours)
    return tuple(
        ConflictHunk(at + 1 + sum(shift for line, shift in shifts if line <= at), b"".join(old), b"".join(mine), b"".join(other))
        for at, old, mine, other in found
    )


def _shifts(resolved: bytes, ours: bytes) -> list[tuple[int, int]]:
    """List after which lines of a text another one is how many lines ahead of it."""
    if resolved == ours:
        return []
    patch = pygit2.Patch.create_from(resolved, ours, context_lines=0)
    # A hunk without old lines names the one before it, one with old lines the first of them.
    return [(hunk.old_start + max(hunk.old_lines - 1, 0), hunk.new_lines - hunk.old_lines) for hunk in patch.hunks]
