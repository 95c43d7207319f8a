"""Merging the content of one file three ways.

Decided here: which files are merged by lines, and what a side's content becomes where they are not; which attributes
have a file merged otherwise (`merge`, `conflict-marker-size`); and what is told of the lines over which two versions
are in conflict. A program that an attribute names is never run. The lines themselves are merged by libgit2 (`lines`).
Called by merges of trees, and to describe conflicts. A `FileMerger` is used by one thread.
"""

from __future__ import annotations

import re
from collections.abc import MutableMapping
from enum import StrEnum
from typing import TYPE_CHECKING

from avfs_git.gitstore.compare.renames import is_binary
from avfs_git.gitstore.merge.engine import ConflictStyle, Labels, MergedContent, Style
from avfs_git.gitstore.rules.attributes import TreeAttributes
from avfs_git.model import ConflictHunk, MergeStrategy
from avfs_git.paths import TreePath

if TYPE_CHECKING:
    from avfs_git.gitstore.merge.lines import LineMerger

MARKER_SIZE = 7
_MAX_SIZE = 1023 << 20
"""git's own limit (`MAX_XDIFF_SIZE`): what is larger counts as binary."""


class Driver(StrEnum):
    """How the contents of a file are merged."""

    TEXT = "text"
    """By lines."""
    UNION = "union"
    """By lines, with those of both sides where both changed them, also where one side is favored."""
    BINARY = "binary"
    """Not at all: it is one side's or the other's."""


_ATTRIBUTES = (b"merge", b"conflict-marker-size")
_DRIVERS = {driver.value.encode(): driver for driver in Driver}
_SIZE = re.compile(rb"[+]?(\d{1,9})")
_MAX_MARKER = 1000
"""Longer ones could only fill a disk; git has no limit."""
_LIKE_MARKERS = re.compile(rb"^(?:<+|\|+|=+|>+)", re.MULTILINE)

_LINES = re.compile(rb"[^\n]*\n|[^\n]+")


def how_to_merge(
    attributes: TreeAttributes, path: TreePath, drivers: MutableMapping[TreePath, bytes] | None = None
) -> tuple[Driver, int]:
    """Tell how the contents of a file are merged, and how long its markers are.

    `drivers` gets the name of a merge program that attributes name: none is ever run.
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


class FileMerger:
    """Merges contents, one file after the other."""

    def __init__(self, *, favor: MergeStrategy = MergeStrategy.NORMAL, style: Style = ConflictStyle.MERGE) -> None:
        """Choose how conflicts are resolved or shown; a function as `style` is asked at the first merge by lines."""
        self.favor = favor
        self._style = style
        self._lines: LineMerger | None = None

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
        """Merge three contents; without a base each side made the file.

        With `for_base` the result is the base of another merge: conflicts stay in it, also where one side is favored.
        """
        base = base or b""
        favor = MergeStrategy.UNION if driver is Driver.UNION else MergeStrategy.NORMAL if for_base else self.favor
        if driver is Driver.BINARY or any(
            is_binary(content) or len(content) > _MAX_SIZE for content in (base, ours, theirs)
        ):
            if for_base:
                return MergedContent(base, is_clean=False)
            is_decided = favor in (MergeStrategy.OURS, MergeStrategy.THEIRS)
            return MergedContent(theirs if favor is MergeStrategy.THEIRS else ours, is_clean=is_decided)
        if not isinstance(self._style, ConflictStyle):
            self._style = self._style()
        if self._lines is None:
            from avfs_git.gitstore.merge.lines import LineMerger  # noqa: PLC0415 - it imports pygit2

            self._lines = LineMerger()
        return self._lines.merge(base, ours, theirs, labels, favor=favor, style=self._style, marker_size=marker_size)


def find_hunks(base: bytes | None, ours: bytes, theirs: bytes) -> tuple[ConflictHunk, ...]:
    """List where two versions of a text changed the same lines, each differently; none if one is binary."""
    versions = (base or b"", ours, theirs)
    if any(is_binary(content) for content in versions):
        return ()
    # Longer than any marker in the files, so that the markers tell where a conflict is.
    size = (
        max((len(found) for content in versions for found in _LIKE_MARKERS.findall(content)), default=0) + MARKER_SIZE
    )
    if size > _MAX_MARKER:
        return ()
    merged = FileMerger(style=ConflictStyle.DIFF3).merge(
        *versions, Labels(b"base", b"ours", b"theirs"), marker_size=size
    )
    return () if merged.is_clean else _read_hunks(merged.content, size, versions)


def _read_hunks(merged: bytes, size: int, versions: tuple[bytes, bytes, bytes]) -> tuple[ConflictHunk, ...]:
    from avfs_git.gitstore.merge.lines import find_shifts  # noqa: PLC0415 - it imports pygit2

    markers = {mark * size: number for number, mark in enumerate((b"<", b"|", b"=", b">"))}
    sides: list[list[bytes]] = [[], [], []]
    found: list[tuple[int, list[list[bytes]]]] = []
    kept: list[bytes] = []
    """Our version with what the other side alone changed: from its lines, those of our version are counted."""
    side: int | None = None
    lines: list[bytes] = _LINES.findall(merged)
    for line in lines:
        marker = markers.get(line[:size])
        if marker == 0:
            side, sides = 1, [[], [], []]
            found.append((len(kept) + 1, sides))
        elif marker is not None:
            side = (None, 0, 2, None)[marker]
        elif side is None:
            kept.append(line)
        else:
            sides[side].append(line)
            if side == 1:
                kept.append(line)
    is_at_end = bool(lines) and markers.get(lines[-1][:size]) is not None
    shifts = find_shifts(versions[1], b"".join(kept))
    hunks = []
    for number, (place, texts) in enumerate(found):
        last = is_at_end and number == len(found) - 1
        contents = [_as_in(whole, b"".join(text), last=last) for whole, text in zip(versions, texts, strict=True)]
        moved = sum(by for at, by in shifts if at < place)
        hunks.append(ConflictHunk(place - moved, *contents))
    return tuple(hunks)


def _as_in(whole: bytes, text: bytes, *, last: bool) -> bytes:
    """Take an end of line back that a merge has put to the last line of a version without one."""
    if last and not whole.endswith(b"\n"):
        for end in (b"\r\n", b"\n"):
            if text.endswith(end) and whole.endswith(text[: -len(end)]):
                return text[: -len(end)]
    return text
