"""Reading what `git grep --null` says, as it comes.

Decided here: which records there are, where matches stand in a line, and which lines a limit leaves over. Called by
`grep`. An `Answer` is of one search and one thread; it keeps the record that is not whole yet, and nothing of the
others.
"""

from __future__ import annotations

import os
import re
from collections.abc import Generator, Iterable, Iterator, Mapping

from avfs_git.errors import GitFailed
from avfs_git.model import GrepLine, GrepOutcome, GrepQuery, Span
from avfs_git.paths import Oid
from avfs_git.values import value_class

_TREE = rb"([0-9a-f]{40})"
_RECORDS = {
    GrepOutcome.LINES: rb"--\n|" + _TREE + rb":([^\0]*)\0(\d+)\0(?:(\d+)\0)?([^\n]*)\n",
    GrepOutcome.COUNT: _TREE + rb":([^\0]*)\0(\d+)\n",
    GrepOutcome.FILES: _TREE + rb":([^\0]*)\0",
    GrepOutcome.FILES_WITHOUT: _TREE + rb":([^\0]*)\0",
}
_BINARY = re.compile(
    rb"Binary file " + _TREE + rb":(.*?) matches\n(?=(?:Binary file )?[0-9a-f]{40}:|--\n|\Z)", re.DOTALL
)
"""What comes next tells the end of a path that holds such words itself."""
_AHEAD = 64
"""More than so many bytes are not needed to see what comes next."""
_RESET = b"\x1b[m"


@value_class
class Found:
    """What git found: a line, or a file."""

    path: bytes
    line: GrepLine | None = None
    binary: bool = False
    count: int | None = None


def make_colors() -> dict[str, str]:
    """Choose a colour for each part of a line, that no file can have but by chance."""
    return {part: f"#{os.urandom(3).hex()}" for part in ("match", "selected", "context")}


class Answer:
    """Reads the answer to one query.

    Attributes:
        colors: The colours that git gives to parts of lines: no other mark tells where a match ends.
    """

    def __init__(self, query: GrepQuery, *, colors: Mapping[str, str]) -> None:
        self.colors = colors
        self._query = query
        self._record = re.compile(_RECORDS[query.outcome])
        self._parts = {_begin(color): part for part, color in colors.items()}
        self._begins = re.compile(b"(" + b"|".join(map(re.escape, self._parts)) + b")") if colors else None
        self._file: tuple[bytes, bytes] | None = None
        self._matching = self._last = 0

    def read(self, chunks: Iterable[bytes]) -> Iterator[tuple[Oid, Found]]:
        """Give what is found, with the tree that it is in."""
        pending = bytearray()
        for chunk in chunks:
            pending += chunk
            if b"\n" in chunk or b"\0" in chunk:
                end = yield from self._read_whole(pending, is_end=False)
                del pending[:end]
        if (yield from self._read_whole(pending, is_end=True)) != len(pending):
            raise GitFailed("grep", "its answer is not understood")

    def _read_whole(self, pending: bytearray, *, is_end: bool) -> Generator[tuple[Oid, Found], None, int]:
        """Read the records that are whole; return where they end."""
        at = 0
        while at < len(pending):
            match = self._record.match(pending, at)
            if match is None:
                match = _BINARY.match(pending, at)
                if match is None or not (is_end or match.end() + _AHEAD <= len(pending)):
                    break
                tree, path = match.groups()
                yield Oid(bytes.fromhex(tree.decode())), Found(path, binary=True)
            elif match[1] is not None:
                found = self._read_record(match)
                if found is not None:
                    yield Oid(bytes.fromhex(match[1].decode())), found
            at = match.end()
        return at

    def _read_record(self, match: re.Match[bytes]) -> Found | None:
        query = self._query
        if query.outcome is GrepOutcome.LINES:
            tree, path, number, column, text = match.groups()
            line = self._read_line(int(number), int(column) if column is not None else None, text)
            return Found(path, line) if query.max_count is None or self._is_wanted((tree, path), line) else None
        count = None
        if query.outcome is GrepOutcome.COUNT:
            count = int(match[3]) if query.max_count is None else min(int(match[3]), query.max_count)
        return Found(match[2], count=count)

    def _read_line(self, number: int, column: int | None, text: bytes) -> GrepLine:
        if self._begins is None:
            return GrepLine(number, column, text)
        # Each part ends in a reset right before the next one: any other reset is the file's own.
        first, *pieces = self._begins.split(text)
        plain, spans, kinds = first, [], set()
        for begin, piece in zip(pieces[::2], pieces[1::2], strict=True):
            kind, part = self._parts[begin], piece.removesuffix(_RESET)
            if kind == "match":
                spans.append(Span(len(plain), len(plain) + len(part)))
            kinds.add(kind)
            plain += part
        if self._query.invert:
            # Git gives a column to each line of an inverted search.
            return GrepLine(number, None if "context" in kinds else column, plain)
        return GrepLine(number, column, plain, tuple(spans) if self._query.spans else ())

    def _is_wanted(self, file: tuple[bytes, bytes], line: GrepLine) -> bool:
        """Tell whether a line is one of the first that match in its file, or of the context of these."""
        if file != self._file:
            self._file, self._matching, self._last = file, 0, 0
        limit = self._query.max_count or 0
        if line.column is not None and line.number != self._last and self._matching <= limit:
            self._matching += 1
            self._last = line.number if self._matching <= limit else self._last
        return self._matching < limit or (self._matching == limit and line.number <= self._last + self._query.after)


def _begin(color: str) -> bytes:
    red, green, blue = bytes.fromhex(color[1:])
    return b"\x1b[38;2;%d;%d;%dm" % (red, green, blue)
