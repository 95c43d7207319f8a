"""Which renames one side of a merge made, and where it moved whole directories.

Decided here: what a merge asks of rename detection beyond a diff, with git's `ort` strategy as the measure. A file
that went away matters only if the other side changed it, or if it tells where its directory went; what does not
matter takes no part in the search for similar content, which keeps the cost with what both sides touched. Where
a directory went is what most of its files say. Called by `mergetrees` for each side; pure functions over an
`ObjectSource`. The search itself is that of `renames`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum

from avfs_git.gitstore.gitversion import GitVersion
from avfs_git.gitstore.objects import KIND_BLOB, hash_object
from avfs_git.gitstore.renames import MAX_SCORE, Candidate, RenameReader, pair, pair_equal, pair_similar
from avfs_git.gitstore.source import ObjectSource
from avfs_git.gitstore.treediff import Entry

_EMPTY = hash_object(KIND_BLOB, b"")
_THRESHOLD = MAX_SCORE // 2
_SAME_NAME_THRESHOLD = _THRESHOLD + (MAX_SCORE - _THRESHOLD) // 2
_LIMIT = 7000
"""git's `merge.renameLimit`: beyond as many sources times targets, squared, only equal content is paired."""


class SourceNeed(IntEnum):
    """Why a merge wants to know where a file went."""

    LOCATION = 1
    """It tells where its directory went."""
    CONTENT = 2
    """The other side changed it."""


class DirectoryNeed(IntEnum):
    """Why a merge wants to know where a directory went."""

    NONE = 0
    ANCESTOR = 1
    """A directory above or below it does."""
    SELF = 2
    """The other side put a file there."""


@dataclass(slots=True)
class SideRenames:
    """What one side moved."""

    files: dict[bytes, bytes] = field(default_factory=dict)
    """New path by old path."""
    directories: dict[bytes, Counter[bytes]] = field(default_factory=dict)
    """How many files of a directory went to which directory."""


def find_side_renames(
    source: ObjectSource,
    deleted: Sequence[tuple[bytes, Entry]],
    added: Sequence[tuple[bytes, Entry]],
    needed: Mapping[bytes, SourceNeed],
    directories: Mapping[bytes, DirectoryNeed],
    *,
    git_version: GitVersion | None = None,
) -> SideRenames:
    """Pair what one side deleted with what it added.

    Args:
        source: Where contents are read from.
        deleted: Paths of the base that the side no longer has, in the order of trees.
        added: Paths that only the side has, in the order of trees.
        needed: Of which deleted paths the merge wants to know where they went.
        directories: The directories that the side removed, and what they are needed for.
        git_version: See `renames.detect_renames`.
    """
    # An empty file is like any other empty one: as git, a merge follows none.
    sources = [Candidate.at(path, *entry) for path, entry in deleted if entry[1] != _EMPTY]
    targets = [Candidate.at(path, *entry) for path, entry in added if entry[1] != _EMPTY]
    if not targets or not needed:
        return SideRenames()
    counts = _DirectoryCounts(directories)
    pair_equal(sources, targets)
    for target in targets:
        if target.origin is not None:
            counts.note(target.origin.path, target.path)
    sources = [one for one in sources if not one.paired]
    if sources and any(not target.paired for target in targets):
        reader = RenameReader(source, git_version)
        _pair_by_name(reader, sources, targets, needed, counts)
        sources = [one for one in sources if not one.paired and one.path in needed]
        sources = _without_settled(sources, needed, counts)
        left = [target for target in targets if not target.paired]
        if sources and len(sources) * len(left) <= _LIMIT * _LIMIT:
            pair_similar(reader, sources, left, _THRESHOLD)
            for target in left:
                if target.origin is not None:
                    counts.note(target.origin.path, target.path)
    return SideRenames(
        {target.origin.path: target.path for target in targets if target.origin is not None},
        {old: Counter(found) for old, found in counts.counts.items() if directories.get(old) and found},
    )


class _DirectoryCounts:
    """How many files went from which directory to which."""

    def __init__(self, directories: Mapping[bytes, DirectoryNeed]) -> None:
        self.directories = dict(directories)
        self.counts: dict[bytes, Counter[bytes]] = {}

    def note(self, old_path: bytes, new_path: bytes) -> None:
        """Count a renamed file for its directory, and for those above as long as both paths end alike."""
        old, new = old_path, new_path
        first = True
        while True:
            old, _, old_name = old.rpartition(b"/")
            if old not in self.directories:
                return
            new, _, new_name = new.rpartition(b"/")
            if not first and old_name != new_name:
                return
            need = self.directories[old]
            if first or need is DirectoryNeed.SELF:
                self.counts.setdefault(old, Counter())[new] += 1
            first = False
            if need is DirectoryNeed.NONE or not old or not new:
                return

    def guesses(self) -> dict[bytes, bytes]:
        """Name for each directory where most of its files went so far."""
        return {old: _most_frequent(found) for old, found in self.counts.items() if found}


def _most_frequent(counts: Mapping[bytes, int]) -> bytes:
    best, most = b"", 0
    for name, count in counts.items():
        if count > most:
            best, most = name, count
    return best


def _pair_by_name(
    reader: RenameReader,
    sources: Sequence[Candidate],
    targets: Sequence[Candidate],
    needed: Mapping[bytes, SourceNeed],
    counts: _DirectoryCounts,
) -> None:
    """Pair files that keep their name: the only ones of it, or where their directory seems to have gone."""
    waiting = {one.path: one for one in targets if not one.paired}
    by_name: dict[bytes, list[Candidate]] = {}
    for one in waiting.values():
        by_name.setdefault(one.name, []).append(one)
    source_names = Counter(one.name for one in sources)
    guesses = counts.guesses()
    for one in sources:
        same = by_name.get(one.name)
        if one.path not in needed or same is None:
            continue
        target: Candidate | None
        if source_names[one.name] == 1 and len(same) == 1:
            target = same[0]
        else:
            guess = guesses.get(one.path.rpartition(b"/")[0])
            target = None if guess is None else waiting.get(guess + b"/" + one.name if guess else one.name)
        if target is None or target.paired:
            continue
        score = reader.similarity(one, target, _SAME_NAME_THRESHOLD)
        if score >= _SAME_NAME_THRESHOLD:
            pair(one, target, score)
            counts.note(one.path, target.path)


def _without_settled(sources: list[Candidate], needed: Mapping[bytes, SourceNeed], counts: _DirectoryCounts) -> list[Candidate]:
    """Leave out what only tells where its directory went, where the others have decided that already."""
    directories = counts.directories
    unknown: Counter[bytes] = Counter()
    for one in sources:
        here = one.path.rpartition(b"/")[0]
        while here and directories.get(here, DirectoryNeed.NONE) is not DirectoryNeed.NONE:
            unknown[here] += 1
            here = here.rpartition(b"/")[0]
    for here, need in directories.items():
        if need is DirectoryNeed.SELF and here in counts.counts:
            first, second = ([count for _, count in counts.counts[here].most_common(2)] + [0, 0])[:2]
            if first > second + unknown[here]:
                directories[here] = DirectoryNeed.ANCESTOR
    return [one for one in sources if needed[one.path] is SourceNeed.CONTENT or _tells_a_directory(one.path, directories)]


def _tells_a_directory(path: bytes, directories: Mapping[bytes, DirectoryNeed]) -> bool:
    here = path
    while True:
        here = here.rpartition(b"/")[0]
        need = directories.get(here, DirectoryNeed.NONE)
        if need is not DirectoryNeed.ANCESTOR or not here:
            return need is DirectoryNeed.SELF
