"""Full text search: of a commit, and of a workspace as it is.

Decided here: which files of a tree a search reads, which index it asks, and what it shows of a file. As `grep`, it
reads regular files that git tracks; binary ones have no words. A content that no commit has goes into the index by the
id that it would have. A result names contents that a partial clone lacks; avfs does not fetch them. Called by the SDK.
Takes no lock: a workspace was captured before (`workspace.history.lent`). Usable from threads. A crash leaves an index
with fewer contents.
"""

from __future__ import annotations

import contextlib
import errno
import sqlite3
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Final, TypeVar

from avfs_git.errors import AvfsError, HostError, InvalidInput, ObjectMissing
from avfs_git.gitstore.compare.treediff import find_differences
from avfs_git.gitstore.formats.trees import MODE_GITLINK, MODE_SYMLINK
from avfs_git.gitstore.objects.drywriter import DryWriter
from avfs_git.gitstore.source import ObjectSource
from avfs_git.model import SearchHit, SearchQuery, SearchResult, UnsearchedFile
from avfs_git.paths import Oid, at_most, whole
from avfs_git.workspace.history.lent import LentObjects, State
from avfs_git.workspace.search.excerpts import Excerpts
from avfs_git.workspace.search.index import Changes, Found, Index
from avfs_git.workspace.search.words import Term, parse_query
from avfs_git.workspace.vault.states import tree_of
from avfs_git.workspace.vault.vault import OpenVault

_T = TypeVar("_T")
_FAR = 64
"""Files that a head may change of the base before it becomes the base."""
SKIPPED: Final = (MODE_SYMLINK, MODE_GITLINK)


def prepare(vault: OpenVault, fork: str, *, indexed: Oid | None = None) -> Oid | None:
    """Index what a fork has committed, as far as that can be done, and return its head; takes no lock.

    A search indexes what is missing, too. So the caller may skip the head that it has `indexed` before.
    """
    head = vault.read_head(fork)
    if head is None or head == indexed:
        return head
    with contextlib.suppress(sqlite3.Error, OSError, AvfsError):
        tree = tree_of(vault.store.read_commit(head))
        if tree is not None:
            with Index.open(vault.layout.search_index) as index:
                base, changes = bring_up(index, DryWriter(vault.store), tree)
                if len(changes) > _FAR:
                    index.move_base(base, tree, changes)
    return head


def search(vault: OpenVault, objects: LentObjects, state: State, query: SearchQuery) -> SearchResult:
    """Search the files of a state.

    Raises:
        InvalidInput: If the query has no word, or too many.
        PathNotFound: If nothing is at one of its paths.
    """
    terms = check_query(query)
    objects.check_paths(state, query.paths)
    if (tree := state.tree) is None:
        return SearchResult(state.fork, state.name, 0, (), (), state.warnings)
    found = ask(vault.layout.search_index, lambda index: _find(index, objects, tree, query, terms))
    excerpts = Excerpts(terms)
    hits = tuple(SearchHit(path, score, excerpts.choose(objects.read_blob(oid))) for path, oid, score in found.hits)
    unsearched = tuple(UnsearchedFile(path, reason) for path, reason in found.unsearched)
    return SearchResult(state.fork, state.name, found.total, hits, unsearched, state.warnings)


def check_query(query: SearchQuery) -> tuple[Term, ...]:
    """Check a query, and give its terms.

    Raises:
        InvalidInput: If it has no word, or too many.
    """
    if whole(query.limit) < 1:
        raise InvalidInput("at least one file has to be given")
    return parse_query(query.words)


def ask(path: Path, find: Callable[[Index], _T]) -> _T:
    """Ask the index of a vault; a new one in its place if it is damaged; a temporary one if it cannot be used."""
    for _ in range(2):
        try:
            with Index.open(path) as index:
                return find(index)
        except (sqlite3.OperationalError, OSError):  # busy, full or read-only
            break
        except sqlite3.DatabaseError:
            with contextlib.suppress(OSError):
                path.unlink()
    try:
        with Index.open(None) as index:
            return find(index)
    except sqlite3.Error as error:  # a Python whose SQLite has no full text search; a temporary directory that is full
        raise HostError("search", OSError(errno.EIO, f"SQLite: {error}")) from error


def _find(index: Index, source: DryWriter, tree: Oid, query: SearchQuery, terms: Sequence[Term]) -> Found:
    tops = query.paths if b"" not in query.paths else ()
    is_within = partial(within, tops) if tops else None
    while True:  # until no other process changes the base meanwhile
        base, changes = bring_up(index, source, tree)
        found = index.find(base, changes, terms, is_within, at_most(query.limit))
        if found is not None:
            return found


def bring_up(index: Index, source: DryWriter, tree: Oid | None) -> tuple[Oid | None, Changes]:
    """Index what is missing of a tree; tell what it changes of the base."""
    base = index.read_base()
    try:
        changes = _list_changes(source, base, tree)
    except ObjectMissing:
        if base is None or index.read_base() is None:
            raise
        index.drop_base()  # a collected one; what `tree` lacks shows below
        base, changes = None, _list_changes(source, None, tree)
    index.add_missing(source, [oid for oid in changes.values() if oid is not None])
    return base, changes


def _list_changes(source: ObjectSource, base: Oid | None, tree: Oid | None) -> Changes:
    """List the files of a tree that another one does not have so; costs what differs."""
    return {
        path: new[1] if new is not None and new[0] not in SKIPPED else None
        for path, (_, new) in find_differences(source, base, tree).items()
    }


def within(tops: Sequence[bytes], path: bytes) -> bool:
    """Tell whether a path is one of some, or below one; True for an empty list."""
    return not tops or any(top in (b"", path) or path.startswith(top + b"/") for top in tops)
