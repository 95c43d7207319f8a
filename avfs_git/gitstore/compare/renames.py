"""Renames: pairs of a deletion and an addition that are one move.

Decided here: what counts as a rename, with `git diff -M` as the measure; between candidates that are as good, git may
choose another one. Called on what `treediff` lists. Pure functions over an `ObjectSource`, safe from any thread.

As in git: equal content first; then a file that keeps its name, if it is the only one of that name on both sides and
three quarters of it are left; then the best of all remaining pairs. Similarity is the share of bytes in lines (cut at
64 bytes) that both sides have; lines are compared by a hash of 17 bits, as in git by another one, so that per cents can
differ by one. Unlike git, files above `MAX_FILE_SIZE`, and what exceeds `MAX_TOTAL_SIZE` together, are paired only by
equal content.
"""

from __future__ import annotations

import bisect
import heapq
import re
import stat
import zlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import Final

from avfs_git.gitstore.source import ObjectSource
from avfs_git.model import ChangedFile, ChangeKind
from avfs_git.paths import Oid, oid_of

MAX_FILE_SIZE = 8 << 20
MAX_TOTAL_SIZE = 64 << 20

MAX_SCORE: Final = 60_000  # diffcore.h
_HASH_BASE: Final = 107_927  # diffcore-delta.c
_PIECE: Final = re.compile(rb"[^\n]{0,63}\n|[^\n]{64}|[^\n]+")
_CANDIDATES: Final = 4
"""How many sources git keeps in mind for one destination."""
_SAME_CONTENT_TRIED: Final = 100


def detect_renames(
    source: ObjectSource,
    changes: Sequence[ChangedFile],
    *,
    threshold: int = 50,
    limit: int = 1000,
) -> list[ChangedFile]:
    """Replace deletions and additions that belong together by renames; return all changes by path.

    `threshold` is the similarity in per cent; at 100 no file is read. With more pairs than `limit` squared, edited
    files are not compared.
    """
    by_path = attrgetter("path")
    changes = sorted(changes, key=by_path)
    sources = [
        _candidate(change, change.old_oid, change.old_mode) for change in changes if change.kind is ChangeKind.DELETED
    ]
    targets = [
        _candidate(change, change.new_oid, change.new_mode) for change in changes if change.kind is ChangeKind.ADDED
    ]
    if not sources or not targets:
        return changes
    _pair_equal(sources, targets)
    minimum = max(1, threshold * MAX_SCORE // 100)
    if minimum < MAX_SCORE:
        reader = _Reader(source)
        _pair_same_name(reader, sources, targets, minimum + (MAX_SCORE - minimum) // 2)
        left_sources = [one for one in sources if not one.paired]
        left_targets = [one for one in targets if not one.paired]
        if len(left_sources) * len(left_targets) <= limit * limit:
            _pair_similar(reader, left_sources, left_targets, minimum)
    paired = {candidate.path for candidate in (*sources, *targets) if candidate.paired}
    result = [change for change in changes if change.path not in paired]
    sizes = {change.path: change.size for change in changes}
    result += [_rename(target.origin, target, sizes[target.path]) for target in targets if target.origin is not None]
    return sorted(result, key=by_path)


@dataclass(slots=True)
class _Candidate:
    """One side of a possible rename."""

    path: bytes
    name: bytes
    mode: int
    oid: Oid
    paired: bool = False
    origin: _Candidate | None = None
    score: int = 0

    @staticmethod
    def at(path: bytes, mode: int, oid: Oid) -> _Candidate:
        """Take what is, or was, at a path."""
        return _Candidate(path, path.rpartition(b"/")[2], mode, oid)

    @property
    def is_file(self) -> bool:
        """Whether its content may be compared; a link or gitlink is renamed only as it is."""
        return stat.S_ISREG(self.mode)


def _candidate(change: ChangedFile, oid: str | None, mode: int | None) -> _Candidate:
    return _Candidate.at(change.path, mode or 0, oid_of(oid or ""))


def _rename(origin: _Candidate, target: _Candidate, size: int | None) -> ChangedFile:
    return ChangedFile(
        target.path,
        ChangeKind.RENAMED,
        old_path=origin.path,
        old_oid=origin.oid.hex(),
        new_oid=target.oid.hex(),
        old_mode=origin.mode,
        new_mode=target.mode,
        size=size,
        similarity=target.score * 100 // MAX_SCORE,
    )


def _pair(source: _Candidate, target: _Candidate, score: int) -> None:
    """Make two candidates one rename."""
    source.paired = target.paired = True
    target.origin = source
    target.score = score


# --- equal content ---------------------------------------------------------------------------------------


def _pair_equal(sources: list[_Candidate], targets: list[_Candidate]) -> None:
    """Pair files of equal content, those of equal name first."""
    by_oid: dict[Oid, list[_Candidate]] = {}
    for source in sources:
        by_oid.setdefault(source.oid, []).append(source)
    for target in targets:
        best: _Candidate | None = None
        tried = 0
        for source in by_oid.get(target.oid, ()):
            if source.mode != target.mode and not (source.is_file and target.is_file):
                continue
            if source.paired:
                continue
            if source.name == target.name:
                best = source
                break
            best = best or source
            tried += 1
            if tried == _SAME_CONTENT_TRIED:
                break
        if best is not None:
            _pair(best, target, MAX_SCORE)


# --- similar content -------------------------------------------------------------------------------------


def _pair_same_name(reader: _Reader, sources: list[_Candidate], targets: list[_Candidate], minimum: int) -> None:
    """Pair files that are the only ones of their name on both sides."""
    names: dict[bytes, list[_Candidate]] = {}
    for target in targets:
        if not target.paired:
            names.setdefault(target.name, []).append(target)
    counts = Counter(source.name for source in sources if not source.paired)
    for source in sources:
        same = names.get(source.name, ())
        if not source.paired and counts[source.name] == 1 and len(same) == 1:
            score = reader.similarity(source, same[0], minimum)
            if score >= minimum:
                _pair(source, same[0], score)


def _pair_similar(reader: _Reader, sources: list[_Candidate], targets: list[_Candidate], minimum: int) -> None:
    """Pair what is most similar first, among the best few sources of each target."""
    finder = _Finder(reader, sources, minimum)
    ranking: list[tuple[int, bool, _Candidate, _Candidate]] = []
    for target in targets:
        scores = finder.scores(target)
        if max(scores.values(), default=0) < minimum:
            continue
        near = heapq.nlargest(
            _CANDIDATES, ((score, sources[at].name == target.name, -at) for at, score in scores.items())
        )
        ranking += [(score, same, target, sources[-at]) for score, same, at in near if score >= minimum]
    ranking.sort(key=lambda entry: entry[:2], reverse=True)  # stable: equals stay in the order of targets
    for score, _, target, source in ranking:
        if not target.paired and not source.paired:
            _pair(source, target, score)


class _Finder:
    """Scores of one target against all sources at once, through an index of the lines that sources hold."""

    def __init__(self, reader: _Reader, sources: list[_Candidate], minimum: int) -> None:
        self._reader = reader
        self._minimum = minimum
        self._sizes = {number: reader.size(source) for number, source in enumerate(sources) if source.is_file}
        self._by_size = sorted((size, number) for number, size in self._sizes.items())
        self._sources = sources
        self._indexed: set[int] = set()
        self._holders: dict[int, list[tuple[int, int]]] = {}

    def scores(self, target: _Candidate) -> dict[int, int]:
        """Return the scores by number of source; 0 for no similarity, or if the sizes alone rule the pair out."""
        if not target.is_file:
            return {}
        size = self._reader.size(target)
        low, high = _fitting_sizes(size, self._minimum)
        first, last = (
            bisect.bisect_left(self._by_size, (low, -1)),
            bisect.bisect_right(self._by_size, (high, len(self._sources))),
        )
        fitting = {number for _, number in self._by_size[first:last]}
        if not fitting or not size:
            return {}
        for number in fitting - self._indexed:
            self._indexed.add(number)
            for key, count in self._reader.spans(self._sources[number]).items():
                self._holders.setdefault(key, []).append((number, count))
        common: dict[int, int] = {}
        for key, count in self._reader.spans(target).items():
            for number, held in self._holders.get(key, ()):
                common[number] = common.get(number, 0) + min(held, count)
        return {
            number: common[number] * MAX_SCORE // max(size, self._sizes[number]) for number in fitting & common.keys()
        }


def _fitting_sizes(size: int, minimum: int) -> tuple[int, int]:
    """Return the least and the greatest size that a file similar to one of this size may have."""
    return -(-size * minimum // MAX_SCORE), size * MAX_SCORE // minimum


class _Reader:
    """Content of candidates, counted by line, each read once."""

    def __init__(self, source: ObjectSource) -> None:
        self._source = source
        self._spans: dict[Oid, dict[int, int]] = {}
        self._left = MAX_TOTAL_SIZE

    def size(self, candidate: _Candidate) -> int:
        """Return the length of a candidate's content."""
        return self._source.blob_size(candidate.oid)

    def similarity(self, source: _Candidate, target: _Candidate, minimum: int) -> int:
        """Return the score of a pair; 0 if it cannot reach the minimum."""
        if not source.is_file or not target.is_file:
            return 0
        size, other = self.size(source), self.size(target)
        low, high = _fitting_sizes(size, minimum)
        if not low <= other <= high or not other:
            return 0
        held = self.spans(source)
        common = sum(min(count, held.get(key, 0)) for key, count in self.spans(target).items())
        return common * MAX_SCORE // max(size, other)

    def spans(self, candidate: _Candidate) -> dict[int, int]:
        """Count the bytes of a candidate's content by the hash of the line they stand in."""
        spans = self._spans.get(candidate.oid)
        if spans is None:
            size = self.size(candidate)
            spans = {}
            if size <= min(MAX_FILE_SIZE, self._left):
                self._left -= size
                spans = _count(self._source.read_blob(candidate.oid))
            self._spans[candidate.oid] = spans
        return spans


def _count(data: bytes) -> dict[int, int]:
    """Count the bytes of a content by the hash of the line they stand in."""
    if not is_binary(data):
        data = data.replace(b"\r\n", b"\n")
    spans: dict[int, int] = {}
    for piece, count in Counter(_PIECE.findall(data)).items():
        key = zlib.crc32(piece) % _HASH_BASE
        spans[key] = spans.get(key, 0) + len(piece) * count
    return spans


def is_binary(data: bytes) -> bool:
    """Tell whether git takes content for binary: it looks for a NUL in the first 8,000 bytes."""
    return b"\0" in data[:8000]
