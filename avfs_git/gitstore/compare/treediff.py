"""Which paths differ between two trees, and what each change is called.

Decided here: that trees of equal id are never read, so that the cost follows what changed; how an entry before and
after becomes a `ChangedFile`; which letter of git's a change has. Pure functions over an `ObjectSource`, safe from any
thread.
"""

from __future__ import annotations

import operator
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from avfs_git.gitstore.bounds import Bound
from avfs_git.gitstore.formats.trees import MODE_GITLINK, MODE_TREE, differing_names
from avfs_git.gitstore.source import ObjectSource, Tree
from avfs_git.model import ChangedFile, ChangeKind
from avfs_git.paths import Oid, TreePath, components

Entry = tuple[int, Oid]
"""A mode of git's and an object id, as in a tree."""

_NOTHING: Tree = {}
_LETTERS: Mapping[ChangeKind, str] = {
    ChangeKind.ADDED: "A",
    ChangeKind.DELETED: "D",
    ChangeKind.MODIFIED: "M",
    ChangeKind.MODE: "M",
    ChangeKind.RENAMED: "R",
    ChangeKind.TYPE: "T",
}


def diff_trees(
    source: ObjectSource,
    old: Oid | None,
    new: Oid | None,
    *,
    paths: Sequence[TreePath] = (),
    size_of: Callable[[Oid], int | None] | None = None,
) -> list[ChangedFile]:
    """List the files that differ between two trees, by path; None is the empty tree. `paths` restricts them.

    A directory in place of a file, or the reverse, is one file deleted or added and the files below. A directory
    without files does not count. Sizes stay unknown without `size_of`, for which `sizes_here` is made: a size is no
    reason to ask a server.

    Raises:
        TooManyFiles: If more differ than avfs walks through.
    """
    found = find_differences(source, old, new, paths=paths)
    changes = [changed_file(path, *entries, size_of) for path, entries in found.items()]
    changes.sort(key=operator.attrgetter("path"))
    return changes


def sizes_here(source: ObjectSource) -> Callable[[Oid], int | None]:
    """Make a function that tells how long blobs are, and None of a content that a partial clone has not fetched."""
    return lambda oid: source.blob_size(oid) if source.exists(oid) else None


def find_differences(
    source: ObjectSource, old: Oid | None, new: Oid | None, *, paths: Sequence[TreePath] = ()
) -> dict[TreePath, tuple[Entry | None, Entry | None]]:
    """Find what stands at each path that differs between two trees, before and after; otherwise as `diff_trees`."""
    return {path: (was, now) for path, was, now in walk_differences(source, old, new, paths=paths)}


def walk_differences(
    source: ObjectSource, old: Oid | None, new: Oid | None, *, paths: Sequence[TreePath] = ()
) -> Iterator[tuple[TreePath, Entry | None, Entry | None]]:
    """Yield what `find_differences` finds, in no order, and hold one directory after the other in memory."""
    wanted = _Wanted.of(paths)
    # Not by recursion: a hostile tree may be thousands of directories deep.
    pending: list[tuple[bytes, Oid | None, Oid | None, _Wanted | None]] = (
        [(b"", old, new, wanted)] if old != new else []
    )
    bound = Bound(source, (old, new))
    while pending:
        prefix, old_tree, new_tree, wanted = pending.pop()
        before = _NOTHING if old_tree is None else source.read_tree(old_tree)
        after = _NOTHING if new_tree is None else source.read_tree(new_tree)
        names = differing_names(before, after) if wanted is None else wanted.names(before, after)
        bound.meet(len(names))
        for name in names:
            path = prefix + name
            was, now = before.get(name), after.get(name)
            old_below = new_below = None
            if was is not None and was[0] == MODE_TREE:
                old_below, was = was[1], None
            if now is not None and now[0] == MODE_TREE:
                new_below, now = now[1], None
            below = None if wanted is None else wanted.below[name]
            if old_below != new_below:
                pending.append((path + b"/", old_below, new_below, below))
            # What is asked for below a file is not that file.
            if (was is not None or now is not None) and below is None:
                yield TreePath(path), was, now


def changed_file(
    path: TreePath, old: Entry | None, new: Entry | None, size_of: Callable[[Oid], int | None] | None = None
) -> ChangedFile:
    """Describe what became of a path, of whose entries at least one is there and which differ."""
    if old is None:
        kind = ChangeKind.ADDED
    elif new is None:
        kind = ChangeKind.DELETED
    elif stat.S_IFMT(old[0]) != stat.S_IFMT(new[0]):
        kind = ChangeKind.TYPE
    elif old[1] == new[1]:
        kind = ChangeKind.MODE
    else:
        kind = ChangeKind.MODIFIED
    return ChangedFile(
        path,
        kind,
        old_oid=None if old is None else old[1].hex(),
        new_oid=None if new is None else new[1].hex(),
        old_mode=None if old is None else old[0],
        new_mode=None if new is None else new[0],
        size=None if new is None or size_of is None or new[0] == MODE_GITLINK else size_of(new[1]),
    )


def status_letter(change: ChangedFile) -> str:
    """Return what `git diff --name-status` prints for a change: `A`, `D`, `M`, `T`, or `R` with the per cent."""
    letter = _LETTERS[change.kind]
    return f"{letter}{change.similarity or 0:03d}" if change.kind is ChangeKind.RENAMED else letter


class _Wanted:
    """Which names matter in a directory; None in its place means all, here and below."""

    __slots__ = ("below",)

    def __init__(self) -> None:
        self.below: dict[bytes, _Wanted | None] = {}

    @staticmethod
    def of(paths: Iterable[TreePath]) -> _Wanted | None:
        top = _Wanted()
        for path in paths:
            parts = components(path)
            if not parts:
                return None  # the root: everything
            at: _Wanted | None = top
            for part in parts[:-1]:
                if at is not None:
                    at = at.below.setdefault(part, _Wanted())
            if at is not None:
                at.below[parts[-1]] = None
        return top if top.below else None

    def names(self, before: Tree, after: Tree) -> list[bytes]:
        """List the names that matter and differ."""
        return [name for name in self.below if before.get(name) != after.get(name)]
