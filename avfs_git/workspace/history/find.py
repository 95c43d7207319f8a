"""Finding entries by name and other facts: of a commit, and of a workspace as it is.

Decided here: what each condition means. Takes no lock: a workspace was captured before (`lent`). Reads only
directories, and of what meets the other conditions the sizes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from collections.abc import Set as AbstractSet
from itertools import chain

from avfs_git.errors import InvalidInput, PathNotFound
from avfs_git.gitstore.compare.treediff import diff_trees
from avfs_git.gitstore.objects.drywriter import DryWriter
from avfs_git.globs import PathGlobs, check_glob
from avfs_git.model import ChangeKind, FindQuery, FindResult, FoundEntry, Kind, TagCount, TagList
from avfs_git.paths import TreePath, climb, join, whole
from avfs_git.vfs.layer.lower import LowerEntry, LowerTree
from avfs_git.vfs.tags import attribute_of, check_tag, tags_of
from avfs_git.workspace.capture.sidecardiff import diff_sidecars
from avfs_git.workspace.history.lent import LentObjects, State
from avfs_git.workspace.vault.revisions import resolve_revision
from avfs_git.workspace.vault.states import tree_of
from avfs_git.workspace.vault.vault import OpenVault

_KINDS = {"file": Kind.FILE, "dir": Kind.DIRECTORY, "symlink": Kind.SYMLINK, "gitlink": Kind.GITLINK}


def find(vault: OpenVault, objects: LentObjects, state: State, query: FindQuery) -> FindResult:
    """Find entries of a state.

    Raises:
        InvalidInput: If the query cannot mean anything.
        PathNotFound: If nothing is at one of its paths.
        CheckpointNotFound: If no state has the name of `changed_since`.
    """
    check_query(query)
    changed = _list_changed(vault, objects, state, query)
    return FindResult(
        state.fork, state.name, tuple(_find(objects, objects.show(state), query, changed)), state.warnings
    )


def list_tags(objects: LentObjects, state: State) -> TagList:
    """List the tags of a state, ignored files included, with how many files and directories have each."""
    lower = objects.show(state)
    entries = chain([lower.root], (entry for _, entry in _walk(lower, FindQuery(ignored=True))))
    counts = Counter(tag for entry in entries if entry.xattrs for tag in tags_of(entry.xattrs))
    return TagList(state.fork, tuple(TagCount(tag, count) for tag, count in sorted(counts.items())), state.warnings)


def check_query(query: FindQuery) -> None:
    """Check what can be checked without looking.

    Raises:
        InvalidInput: If the query cannot mean anything.
    """
    for glob in query.names:
        check_glob(glob)
    numbers = (query.min_size, query.max_size, query.min_depth, query.max_depth)
    if any(number is not None and whole(number) < 0 for number in numbers):
        raise InvalidInput("a size or depth is negative")
    for tag in query.tags:
        check_tag(tag)
    for condition in query.meta:
        attribute_of(condition.key)


def _list_changed(vault: OpenVault, source: LentObjects, state: State, query: FindQuery) -> AbstractSet[bytes] | None:
    """List what is there and was not, or not so, in the state of `changed_since`; None if none is named."""
    if query.changed_since is None:
        return None
    commit = vault.store.read_commit(resolve_revision(vault, query.changed_since, fork=state.fork))
    changes = diff_trees(source, tree_of(commit), state.tree)
    sidecar = vault.sidecar_tree(commit)
    if query.ignored and sidecar is not None:  # a commit that git made says nothing of what it does not track
        changes += diff_sidecars(source, sidecar, state.sidecar)
    return {change.path for change in changes if change.kind is not ChangeKind.DELETED}


def _find(
    source: DryWriter, lower: LowerTree, query: FindQuery, changed: AbstractSet[bytes] | None
) -> Iterator[FoundEntry]:
    globs = PathGlobs(query.names, ignore_case=query.ignore_case)
    tags, meta = (
        set(map(check_tag, query.tags)),
        {attribute_of(condition.key): condition.value for condition in query.meta},
    )
    for path, entry in _walk(lower, query):
        kind = _KINDS[entry.kind]
        depth = path.count(b"/") + 1 if path else 0
        if (
            (query.kinds and kind not in query.kinds)
            or (query.names and not globs.match(path))
            or (query.min_depth is not None and depth < query.min_depth)
            or (query.newer_ns is not None and entry.mtime_ns < query.newer_ns)
            or (query.older_ns is not None and entry.mtime_ns > query.older_ns)
            or (changed is not None and changed.isdisjoint(climb(path)))
            or not tags.issubset(tags_of(entry.xattrs))
            or not _has_meta(dict(entry.xattrs), meta)
        ):
            continue
        size = None
        has_bound = query.min_size is not None or query.max_size is not None
        if kind is Kind.FILE and entry.oid is not None and (has_bound or source.exists(entry.oid)):
            size = source.blob_size(entry.oid)
        if has_bound and (
            size is None
            or (query.min_size is not None and size < query.min_size)
            or (query.max_size is not None and size > query.max_size)
        ):
            continue
        yield FoundEntry(path, kind, entry.mode & 0o7777, size, entry.mtime_ns)


def _has_meta(attributes: Mapping[bytes, bytes], wanted: Mapping[bytes, bytes | None]) -> bool:
    return all(name in attributes and value in (None, attributes[name]) for name, value in wanted.items())


def _walk(lower: LowerTree, query: FindQuery) -> Iterator[tuple[TreePath, LowerEntry]]:
    """Visit what is below the paths of a query, and these; each directory before its entries."""
    bound = lower.bound_below(lower.root)
    includes_ignored = query.ignored or bool(query.tags or query.meta)
    pending: list[tuple[TreePath, LowerEntry]] = []
    tops = sorted(set(query.paths))
    for path in reversed([top for top in tops if not any(top.startswith(other + b"/") for other in tops)]):
        entry = lower.lookup(TreePath(path))
        if entry is None:
            raise PathNotFound(b"/" + path)
        pending.append((TreePath(path), entry))
    if not tops:
        pending.append((TreePath(b""), lower.root))
    while pending:
        path, entry = pending.pop()
        if path and not (entry.tracked or includes_ignored):
            continue
        if path or query.tags or query.meta:  # else the root is nothing to find
            yield path, entry
        if entry.kind == "dir" and (query.max_depth is None or (path.count(b"/") + 1 if path else 0) < query.max_depth):
            children = lower.children(entry)
            bound.meet(len(children))
            pending += [(join(path, name), children[name]) for name in sorted(children, reverse=True)]
