"""What a search shows of a file: the line that has most of the words of its query.

Decided here: which line, how much of a long one, and where the words stand in it. Called by `search`, with the texts of
files that the index has found. Pure functions; an `Excerpts` belongs to one thread.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from avfs_git.model import GrepLine, Span
from avfs_git.workspace.search.words import Term, split_word

_LINE_BYTES = 300
"""Bytes of a line that are shown: the lines of generated files are long."""
_LOOKED_AT = 64
"""Places of a file that are compared for the line that is shown."""
_WORD_BYTES = 64
_WORD = re.compile(rb"[0-9A-Za-z_\x80-\xff]*")


class Excerpts:
    """Chooses lines for one query."""

    def __init__(self, terms: Sequence[Term]) -> None:
        self._terms = terms
        texts = [re.escape(term.text.encode()) for term in terms if term.text.isascii()]
        self._candidates = re.compile(rb"|".join(texts)) if texts else None
        self._known: dict[bytes, Term | None] = {}

    def choose(self, data: bytes) -> GrepLine | None:
        """Choose the line that has most of the words, the first of several; all of a long line is not given."""
        best: tuple[int, int, int] | None = None
        for begin, _, _ in self._find_words(data):
            start = data.rfind(b"\n", 0, begin) + 1
            found = [*self._find_words(_cut_line(data, start, begin + _LINE_BYTES))]
            count = len({term for _, _, term in found})
            if best is None or count > best[0]:
                best = (count, start, found[0][0] if found else begin - start)
                if count == len(self._terms):
                    break
        if best is None:
            return None
        _, line_start, first = best
        start = line_start + max(0, first - _LINE_BYTES // 2)
        text = _cut_line(data, start, start + _LINE_BYTES)
        spans = tuple(Span(begin, end) for begin, end, _ in self._find_words(text))
        column = start - line_start + spans[0].begin + 1 if spans else None
        return GrepLine(data.count(b"\n", 0, start) + 1, column, text, spans)

    def _find_words(self, data: bytes) -> Iterator[tuple[int, int, Term]]:
        """Find words of the query where they stand in a text, at most 64 places; words with accents are passed over."""
        if self._candidates is None:
            return
        end = -1
        # Terms are in lower case. In a text in lower case, a literal is found six times as fast as without regard to
        # case.
        for _, match in zip(range(_LOOKED_AT), self._candidates.finditer(data.lower()), strict=False):
            if match.start() < end:
                continue
            begin, end = _widen(data, match.start(), match.end())
            word = data[begin:end]
            if word not in self._known:
                self._known[word] = self._meant(word.decode("utf-8", "replace"))
            term = self._known[word]
            if term is not None:
                yield begin, end, term

    def _meant(self, word: str) -> Term | None:
        found = split_word(word)
        return next((term for term in self._terms if any(map(term.matches, found))), None)


def _cut_line(data: bytes, start: int, limit: int) -> bytes:
    """Give a line from a place in it, up to its end or a limit."""
    end = data.find(b"\n", start, limit)
    return data[start : end if end >= 0 else limit]


def _widen(data: bytes, begin: int, end: int) -> tuple[int, int]:
    """Widen a match to its word, or to as much of it as a term has at most."""
    before = data[max(0, begin - _WORD_BYTES) : begin][::-1]
    match = _WORD.match(before)
    begin -= match.end() if match is not None else 0
    match = _WORD.match(data, end, end + _WORD_BYTES)
    return begin, match.end() if match is not None else end
