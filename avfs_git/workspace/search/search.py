"""Full text search: of a commit, and of a workspace as it is.

Decided here: which files of a tree a search reads, which index it asks, and what it shows of a file. As `grep`, it reads regular
files that git tracks; binary ones have no words. A content that no commit has goes into the index by the id that it would have.
A result names contents that a partial clone lacks; avfs does not fetch them. Called by the SDK, and in a session's process.

`prepare` takes no lock and indexes the contents of the head; a search of the workspace holds its lock while it indexes the rest.
Usable from threads. A crash leaves an index with fewer contents.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import re
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from avfs_git.errors import AvfsError, HostError, InvalidInput, PathNotFound
from avfs_git.gitstore.formats.trees import MODE_GITLINK, MODE_SYMLINK, MODE_TREE
from avfs_git.gitstore.objects.drywriter import DryWriter
from avfs_git.gitstore.source import ObjectSource
from avfs_git.model import GrepLine, SearchHit, SearchQuery, SearchResult, Span, UnsearchedFile
from avfs_git.paths import Oid, TreePath, join
from avfs_git.workspace.history.compare import WORKSPACE
from avfs_git.workspace.history.grep import has_path
from avfs_git.workspace.merge.preview import Preview
from avfs_git.workspace.opened.workspace import LockedWorkspace
from avfs_git.workspace.search.index import LARGEST, Index
from avfs_git.workspace.search.words import Term, parse_query, split_word
from avfs_git.workspace.vault.states import tree_of
from avfs_git.workspace.vault.vault import OpenVault

_LINE_BYTES = 300
"""Bytes of a line that are shown: the lines of generated files are long."""
_LOOKED_AT = 64
"""Places of a file that are compared for the line that is shown."""
_WORD_BYTES = 64
_SKIPPED = (MODE_SYMLINK, MODE_GITLINK)


def prepare(vault: OpenVault, fork: str) -> None:
    """Index what a fork has committed, as far as that can be done; takes no lock."""
    head = vault.read_head(fork)
    if head is None:
        return
    with contextlib.suppress(sqlite3.Error, OSError, AvfsError):
        tree = tree_of(vault.store.read_commit(head))
        if tree is not None:
            source = DryWriter(vault.store)
            with Index.open(vault.layout.search_index) as index:
                _bring_up(index, source, tree)


def search_workspace(locked: LockedWorkspace, query: SearchQuery) -> SearchResult:
    """Search a workspace as it is.

    Raises:
        InvalidInput: If the query has no word, or too many.
        PathNotFound: If nothing is at one of its paths.
        FileChanging: If a program changed a file that was to be searched.
    """
    terms = _check(query)
    writer = Preview(locked)
    captured = writer.taken.captured
    found = _search(locked.vault, writer, captured.tree, query, terms)
    return SearchResult(locked.fork, WORKSPACE, *found, tuple(captured.warnings))


def search_commit(vault: OpenVault, fork: str, oid: Oid, query: SearchQuery) -> SearchResult:
    """Search the files of a commit.

    Raises:
        InvalidInput, PathNotFound: As `search_workspace`.
    """
    terms = _check(query)
    source = DryWriter(vault.store)
    return SearchResult(fork, oid.hex(), *_search(vault, source, tree_of(vault.store.read_commit(oid)), query, terms))


def _check(query: SearchQuery) -> tuple[Term, ...]:
    if query.limit < 1:
        raise InvalidInput("at least one file has to be given")
    return parse_query(query.words)


def _search(
    vault: OpenVault, source: DryWriter, tree: Oid | None, query: SearchQuery, terms: Sequence[Term]
) -> tuple[int, tuple[SearchHit, ...], tuple[UnsearchedFile, ...]]:
    for path in query.paths:
        if path and (tree is None or not has_path(source, tree, path)):
            raise PathNotFound(b"/" + path)
    if tree is None:
        return 0, (), ()
    found, unsearched = _ask(vault.layout.search_index, source, tree, terms)
    files = _list_files(source, tree)
    hits = sorted((-score, path, oid) for oid, score in found for path in files.get(oid, ()) if _is_within(path, query.paths))
    shown = tuple(SearchHit(path, -score, _excerpt(source.read_blob(oid), terms)) for score, path, oid in hits[: query.limit])
    return len(hits), shown, tuple(file for file in unsearched if _is_within(file.path, query.paths))


_Answer = tuple[list[tuple[Oid, float]], tuple[UnsearchedFile, ...]]


def _ask(path: Path, source: DryWriter, tree: Oid, terms: Sequence[Term]) -> _Answer:
    """Ask the index of the vault; a new one in its place if it is damaged; a temporary one if it cannot be used."""
    for _ in range(2):
        try:
            return _ask_at(path, source, tree, terms)
        except (sqlite3.OperationalError, OSError):  # busy, full or read-only
            break
        except sqlite3.DatabaseError:
            with contextlib.suppress(OSError):
                path.unlink()
    try:
        return _ask_at(None, source, tree, terms)
    except sqlite3.Error as error:  # a Python whose SQLite has no full text search; a temporary directory that is full
        raise HostError("search", OSError(errno.EIO, f"SQLite: {error}")) from error


def _ask_at(path: Path | None, source: DryWriter, tree: Oid, terms: Sequence[Term]) -> _Answer:
    with Index.open(path) as index:
        unsearched = _bring_up(index, source, tree)
        return index.find(terms), unsearched


def _bring_up(index: Index, source: DryWriter, tree: Oid) -> tuple[UnsearchedFile, ...]:
    """Index what is missing of a tree; give what cannot be."""
    if index.has_tree(tree):
        return ()
    files = _list_files(source, tree)
    here = {oid for oid in files if source.exists(oid)}
    large = {oid for oid in here if source.blob_size(oid) > LARGEST}
    index.add_missing(source, here - large)
    unsearched = [
        UnsearchedFile(path, "large" if oid in large else "missing")
        for oid, paths in files.items()
        if oid in large or oid not in here
        for path in paths
    ]
    if not unsearched:
        with contextlib.suppress(sqlite3.OperationalError):  # another process is writing: looked through again next time
            index.add_tree(tree)
    return tuple(sorted(unsearched, key=lambda file: file.path))


def _list_files(source: ObjectSource, tree: Oid) -> Mapping[Oid, Sequence[TreePath]]:
    """List where each content is in a tree. Kept for the last two trees: a listing takes long."""
    return _listing(_Listed(source, tree))


class _Listed:
    """A tree as a key: what is in it follows from its id, wherever it is read."""

    def __init__(self, source: ObjectSource, tree: Oid) -> None:
        self.source: ObjectSource | None = source
        self.tree = tree

    def __hash__(self) -> int:
        return hash(self.tree)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Listed) and self.tree == other.tree


@functools.lru_cache(maxsize=2)
def _listing(listed: _Listed) -> Mapping[Oid, Sequence[TreePath]]:
    source, listed.source = listed.source, None  # a key stays
    assert source is not None  # noqa: S101 - for mypy: a key is made for each call
    files: dict[Oid, list[TreePath]] = {}
    pending = [(TreePath(b""), listed.tree)]
    while pending:
        above, tree = pending.pop()
        for name, (mode, oid) in source.read_tree(tree).items():
            if mode == MODE_TREE:
                pending.append((join(above, name), oid))
            elif mode not in _SKIPPED:
                files.setdefault(oid, []).append(join(above, name))
    return files


def _is_within(path: bytes, tops: Sequence[bytes]) -> bool:
    return not tops or any(top in (b"", path) or path.startswith(top + b"/") for top in tops)


def _excerpt(data: bytes, terms: Sequence[Term]) -> GrepLine | None:
    """Choose the line that has most of the words, the first of several; all of a long line is not given."""
    best: tuple[int, int] | None = None
    for begin, _, _ in _find_words(data, terms):
        start = data.rfind(b"\n", 0, begin) + 1
        end = data.find(b"\n", begin)
        line = data[start : min(end if end >= 0 else len(data), begin + _LINE_BYTES)]
        count = len({term for _, _, term in _find_words(line, terms)})
        if best is None or count > best[0]:
            best = (count, start)
            if count == len(terms):
                break
    if best is None:
        return None
    start = best[1]
    first = next(_find_words(data[start:], terms))[0]
    start = max(start, start + first - _LINE_BYTES // 2) if first > _LINE_BYTES // 2 else start
    end = data.find(b"\n", start)
    text = data[start : min(end if end >= 0 else len(data), start + _LINE_BYTES)]
    spans = tuple(Span(begin, stop) for begin, stop, _ in _find_words(text, terms))
    line_start = data.rfind(b"\n", 0, start) + 1
    column = start - line_start + spans[0].begin + 1 if spans else None
    return GrepLine(data.count(b"\n", 0, start) + 1, column, text, spans)


def _find_words(data: bytes, terms: Sequence[Term]) -> Iterator[tuple[int, int, Term]]:
    """Find words of a query where they stand in a text, at most 64 places; words with accents are passed over."""
    texts = [term.text for term in terms if term.text.isascii()]
    if not texts:
        return
    candidates = re.compile(rb"|".join(map(re.escape, map(str.encode, texts))), re.IGNORECASE)
    end = -1
    for _, match in zip(range(_LOOKED_AT), candidates.finditer(data), strict=False):
        if match.start() < end:
            continue
        begin, end = _widen(data, match.start(), match.end())
        found = split_word(data[begin:end].decode("utf-8", "replace"))
        term = next((term for term in terms if any(map(term.matches, found))), None)
        if term is not None:
            yield begin, end, term


def _widen(data: bytes, begin: int, end: int) -> tuple[int, int]:
    """Widen a match to its word, or to as much of it as a term has at most."""
    first, last = max(0, begin - _WORD_BYTES), min(len(data), end + _WORD_BYTES)
    while begin > first and _is_of_word(data[begin - 1]):
        begin -= 1
    while end < last and _is_of_word(data[end]):
        end += 1
    return begin, end


def _is_of_word(byte: int) -> bool:
    return byte == 0x5F or byte >= 0x80 or chr(byte).isalnum()
