"""What a merge engine promises, and the values that it gives.

Decided here: the interface that `bylibgit2` and `bygit` implement, and that one contract suite tests both with. An
engine is given commits or trees and a sink; it answers with a tree, the conflicts as data, and what is different from
our side. It never touches a working tree, an index or a ref, and runs no program that an attribute names. An engine is
used by one thread.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

from avfs_git.gitstore.compare.treediff import Entry
from avfs_git.gitstore.objects.store import ObjectStore
from avfs_git.gitstore.source import ObjectSink
from avfs_git.model import ConflictKind
from avfs_git.paths import Oid, TreePath
from avfs_git.values import NamedTuple


class EngineName(StrEnum):
    """Which engine merges, as the setting `merge.engine` names it."""

    LIBGIT2 = "libgit2"
    """In process; needs no git."""
    GIT = "git"
    """The installed git's own `merge-tree`."""


class ConflictStyle(StrEnum):
    """What stands between the markers of a conflict, as `merge.conflictStyle` names it."""

    MERGE = "merge"
    """The lines of both sides."""
    DIFF3 = "diff3"
    """The base's lines, too."""
    ZDIFF3 = "zdiff3"
    """The same, without lines with which both sides begin or end."""


Style = ConflictStyle | Callable[[], ConflictStyle]
"""A style, or a function that is asked for one when a conflict is first shown."""


class Labels(NamedTuple):
    """What the markers of a conflict call the three sides."""

    base: bytes
    ours: bytes
    theirs: bytes


class MergedContent(NamedTuple):
    """What became of a file's content."""

    content: bytes
    is_clean: bool


@dataclass(frozen=True, slots=True)
class Stage:
    """What one side has of a conflict."""

    path: bytes
    mode: int
    oid: Oid


@dataclass(frozen=True, slots=True)
class TreeConflict:
    """A path that needs a decision; the tree holds a version of it meanwhile."""

    kind: ConflictKind
    path: bytes
    base: Stage | None = None
    ours: Stage | None = None
    theirs: Stage | None = None


@dataclass(frozen=True, slots=True)
class MergedTrees:
    """What a merge gives."""

    tree: Oid | None
    """None if no file is left."""
    conflicts: tuple[TreeConflict, ...]
    changes: Mapping[TreePath, tuple[Entry | None, Entry | None]]
    """What is different from our side, by path: before and after."""
    drivers: Mapping[TreePath, bytes] = field(default_factory=dict)
    """Which files have a program of their own for merging, by name; they were merged by lines instead."""

    @property
    def is_clean(self) -> bool:
        """Whether no path needs a decision."""
        return not self.conflicts


class StoringSink(ObjectSink, Protocol):
    """A sink that says over which repository it stands."""

    @property
    def store(self) -> ObjectStore:
        """Where what is stored already is read from."""


class MergeEngine(Protocol):
    """Merges commits and trees of one repository."""

    def merge(
        self, ours: Oid, theirs: Oid, *, our_label: bytes, their_label: bytes, bases: Sequence[Oid] | None = None
    ) -> MergedTrees:
        """Merge the commit `theirs` into `ours`.

        `bases` are their merge bases, newest first, where the caller knows them.

        Raises:
            GitFailed: If the engine is git, and git cannot merge them.
        """

    def merge_trees(self, base: Oid | None, ours: Oid | None, theirs: Oid | None, *, labels: Labels) -> MergedTrees:
        """Merge three trees, without regard to history: the change of one commit, applied to another.

        A base of None is empty.
        """
