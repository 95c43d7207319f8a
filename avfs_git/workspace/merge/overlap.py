"""Comparing many forks before any of them is merged: which touch the same files, and which would conflict.

Decided here: what has to be merged to know the verdict for two commits, and what can be told from what each of them
changed. The verdict is that of a merge (`gitstore.merge`) in any case: where both only changed other files than the
other, nothing is merged; where both changed lines of the same files, these files are; everything else (files that came,
went or changed their kind, directories that may have been renamed, histories that crossed) is merged as a whole, in
memory.

Nothing is locked and nothing is written. What is not committed does not count. One `Comparison` is used by one thread.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from itertools import combinations

from avfs_git.errors import ObjectCorrupt, ObjectMissing, UnrelatedHistories, quote
from avfs_git.gitstore.compare.renames import is_binary
from avfs_git.gitstore.compare.treediff import Entry, find_differences
from avfs_git.gitstore.formats.trees import MODE_EXEC, MODE_FILE
from avfs_git.gitstore.merge.bases import find_merge_bases
from avfs_git.gitstore.merge.engine import EngineName, Labels, Stage, TreeConflict
from avfs_git.gitstore.merge.files import Driver, FileMerger, how_to_merge
from avfs_git.gitstore.objects.drywriter import DryWriter
from avfs_git.gitstore.rules.attributes import TreeAttributes, read_info_attributes
from avfs_git.model import (
    ConflictKind,
    ForkPair,
    MergeMode,
    MergeOptions,
    MergeResult,
    MergeStrategy,
    Overlap,
    SharedPath,
    Warning,
)
from avfs_git.paths import Oid, TreePath, list_above
from avfs_git.workspace.merge.conflicts import describe_conflicts
from avfs_git.workspace.merge.merge import add_merge, choose_engine, describe_merge, merge_in_memory
from avfs_git.workspace.vault.vault import OpenVault

_Changes = Mapping[TreePath, tuple[Entry | None, Entry | None]]


class _Side:
    """What one commit changed since it parted from another."""

    def __init__(self, changes: _Changes) -> None:
        self.changes = changes
        self.adds = any(before is None for before, _ in changes.values())
        self.moves = self.adds and any(after is None for _, after in changes.values())
        """Whether it may have renamed something."""
        self.directories = list_above(changes)


class Comparison:
    """Compares commits of one vault, two at a time."""

    def __init__(self, vault: OpenVault, strategy: MergeStrategy = MergeStrategy.NORMAL) -> None:
        self._writer = DryWriter(vault.store)
        self._by_git = choose_engine(vault.git_dir) is EngineName.GIT
        self._strategy = strategy
        self._merger = FileMerger(favor=strategy)
        # Each fork is compared with all others: what is found of one is found once.
        self._attributes_of = cache(self._read_attributes)
        self._side = cache(self._find_side)
        self._is_clean = cache(self._merge_cleanly)

    def compare(self, first: Oid, second: Oid, names: tuple[str, str]) -> ForkPair:
        """Compare two commits.

        Raises:
            UnrelatedHistories: If they have no commit in common.
        """
        bases = find_merge_bases(self._writer, first, second)
        if first in bases or second in bases:
            return ForkPair(*names, (), ())
        shared: tuple[TreePath, ...] = ()
        if len(bases) == 1:
            one, two = self._side(bases[0], first), self._side(bases[0], second)
            shared = tuple(sorted(one.changes.keys() & two.changes.keys()))
            found = self._compare_files(one, two, shared, self._attributes_of(first))
            if found is not None:
                return ForkPair(*names, shared, describe_conflicts(self._writer, found))
        options = MergeOptions(names[1], self._strategy)
        merged = merge_in_memory(self._writer, first, second, options, target=names[0])
        return ForkPair(*names, shared, describe_conflicts(self._writer, merged.conflicts))

    def _compare_files(
        self, one: _Side, two: _Side, shared: Sequence[TreePath], attributes: TreeAttributes
    ) -> list[TreeConflict] | None:
        """Find the conflicts of two sides that only changed files; None if that does not tell all."""
        if (one.moves and two.adds) or (two.moves and one.adds):
            return None
        if one.directories & two.changes.keys() or two.directories & one.changes.keys():
            return None
        if self._by_git and shared:
            return None  # what becomes of lines, git is asked
        found: list[TreeConflict] = []
        for path in shared:
            before, ours = one.changes[path]
            theirs = two.changes[path][1]
            if ours == theirs:
                continue
            if before is None or ours is None or theirs is None:
                return None
            if before[0] not in (MODE_FILE, MODE_EXEC) or not before[0] == ours[0] == theirs[0]:
                return None
            if how_to_merge(attributes, path)[0] is not Driver.TEXT:
                return None
            if not self._is_clean(before[1], ours[1], theirs[1]):
                contents = [self._writer.read_blob(entry[1]) for entry in (ours, theirs)]
                kind = ConflictKind.BINARY if any(map(is_binary, contents)) else ConflictKind.CONTENT
                found.append(TreeConflict(kind, path, *(Stage(path, *entry) for entry in (before, ours, theirs))))
        return found

    def _merge_cleanly(self, base: Oid, ours: Oid, theirs: Oid) -> bool:
        before, mine, other = (self._writer.read_blob(oid) for oid in (base, ours, theirs))
        return self._merger.merge(before, mine, other, Labels(b"base", b"ours", b"theirs")).is_clean

    def _find_side(self, base: Oid, commit: Oid) -> _Side:
        trees = (self._writer.read_commit(oid).tree for oid in (base, commit))
        return _Side(find_differences(self._writer, *trees))

    def _read_attributes(self, commit: Oid) -> TreeAttributes:
        more = read_info_attributes(self._writer.store.git_dir)
        return TreeAttributes(self._writer, self._writer.read_commit(commit).tree, more)


def compare_forks(vault: OpenVault, forks: Sequence[tuple[str, Oid]], *, named: bool) -> Overlap:
    """Compare forks with each other.

    Two forks that cannot be compared are an error if the caller `named` them, else a warning.

    Raises:
        UnrelatedHistories, ObjectMissing, ObjectCorrupt: If two that were named cannot be compared.
    """
    comparison = Comparison(vault)
    pairs: list[ForkPair] = []
    warnings: list[Warning] = []
    for (name, one), (other, two) in combinations(forks, 2):
        try:
            pairs.append(comparison.compare(one, two, (name, other)))
        except (UnrelatedHistories, ObjectMissing, ObjectCorrupt) as error:
            if named:
                raise
            text = f"forks {quote(name)} and {quote(other)} cannot be compared: {error.message}"
            warnings.append(Warning("overlap.left_out", text))
    touched: dict[bytes, set[str]] = {}
    for pair in pairs:
        for path in pair.shared:
            touched.setdefault(path, set()).update((pair.first, pair.second))
    shared = tuple(
        SharedPath(path, tuple(name for name, _ in forks if name in touched[path])) for path in sorted(touched)
    )
    told = tuple(pair for pair in pairs if pair.shared or pair.conflicts)
    return Overlap(tuple(name for name, _ in forks), shared, told, tuple(warnings))


# --- many into one ---------------------------------------------------------------------------------------------


def order_merges(
    vault: OpenVault, target: Oid, sources: Sequence[tuple[str, Oid]], strategy: MergeStrategy
) -> list[int]:
    """Put sources into the order in which merging them leaves the fewest conflicts, as far as pairs tell.

    Sources that conflict with the fewest others come first, sources that conflict with an earlier one last; equals stay
    in the order that was given.

    Returns:
        Positions in `sources`.

    Raises:
        UnrelatedHistories: If two have no commit in common.
    """
    comparison = Comparison(vault, strategy)
    against: dict[int, set[int]] = {number: set() for number in range(len(sources))}
    for one, two in combinations(against, 2):
        if comparison.compare(sources[one][1], sources[two][1], (sources[one][0], sources[two][0])).conflicts:
            against[one].add(two)
            against[two].add(one)
    late = [
        number
        for number in against
        if comparison.compare(target, sources[number][1], ("", sources[number][0])).conflicts
    ]
    left = [number for number in against if number not in late]
    order: list[int] = []
    while left:
        best = min(left, key=lambda number: (len(against[number].intersection(left)), number))
        order.append(best)
        blocked = [number for number in left if number in against[best]]
        late += blocked
        left = [number for number in left if number != best and number not in blocked]
    return [*order, *sorted(late)]


def plan_many(
    vault: OpenVault,
    fork: str,
    target: Oid,
    sources: Sequence[tuple[str, Oid]],
    strategy: MergeStrategy,
    mode: MergeMode,
    message: str | None,
) -> list[MergeResult]:
    """Tell what merging several sources, one after the other, would do. Nothing is written."""
    writer = DryWriter(vault.store)
    found: list[MergeResult] = []
    for name, oid in sources:
        options = MergeOptions(name, strategy, mode, message)
        merged = merge_in_memory(writer, target, oid, options, target=fork)
        found.append(describe_merge(writer, fork, target, oid, merged, options))
        target = add_merge(writer, vault.signature(), target, oid, merged, options)
    return found
