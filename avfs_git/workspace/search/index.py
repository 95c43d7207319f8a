"""The index of a vault's texts: which blobs have a term, how well they fit, and where one tree has them.

Decided here: the SQLite database `avfs/cache/search`, and when it is believed. A row stands for one blob, so that
forks, checkpoints and history share it; what a blob holds never changes. The paths of one committed tree, the base,
stand there, too: another tree is searched by what it changes of the base. It is a cache: a database that is damaged, or
of another version, is made anew, and where none can be written or read, a temporary one takes its place.

The journal is a rollback journal, not a WAL: a vault that may only be read can be searched, and nothing else stands
beside the database. A process that is killed leaves a journal, which the next one rolls back; the blobs of that batch
are indexed again. Connections are opened for one search and closed, because a process that forks must not hand one on.
Several processes may search and index at once: writers take turns, each for one batch. No lock of avfs is taken.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

from avfs_git.gitstore.source import ObjectSource
from avfs_git.host.files.modes import make_dir
from avfs_git.paths import Oid, TreePath
from avfs_git.values import NamedTuple
from avfs_git.workspace.search.words import Splitter, Term

VERSION = 3
"""Of the tables and of the terms in them."""
LARGEST = 2 << 20
"""Bytes of the largest text that is indexed."""
_BATCH = 2000
_BATCH_BYTES = 16 << 20
_BINARY_PEEK = 8000
"""A file with a NUL byte in so many first bytes is binary, as for git."""
_WAIT_S = 1.0
_DEAD_SHARE = 4
_INDEXED, _LARGE, _MISSING = 0, 1, 2
_REASONS: Final = {_LARGE: "large", _MISSING: "missing"}
_TABLES = """
CREATE TABLE blobs (id INTEGER PRIMARY KEY, oid BLOB NOT NULL UNIQUE, state INTEGER NOT NULL);
CREATE INDEX unsearched ON blobs (state) WHERE state > 0;
CREATE VIRTUAL TABLE terms USING fts5(text, content='', tokenize="ascii tokenchars '_'");
CREATE TABLE base (tree BLOB NOT NULL);
CREATE TABLE files (path BLOB PRIMARY KEY, blob INTEGER NOT NULL) WITHOUT ROWID;
CREATE INDEX files_of_blob ON files (blob);
CREATE TABLE commits (id INTEGER PRIMARY KEY, oid BLOB NOT NULL UNIQUE);
CREATE TABLE removals (
    gone INTEGER NOT NULL, path BLOB NOT NULL, commit_id INTEGER NOT NULL, parent BLOB NOT NULL, next INTEGER NOT NULL
);
CREATE INDEX removals_of_blob ON removals (gone);
"""
_FOUND = """
SELECT path, oid, -rank, total FROM (
    SELECT path, blob, rank, count(*) OVER () AS total FROM ({hits}) WHERE {within} ORDER BY rank, path LIMIT ?
) JOIN blobs ON blobs.id = blob ORDER BY rank, path
"""
_HITS = (
    "SELECT path, blob, bm25(terms) AS rank FROM terms CROSS JOIN files ON files.blob = terms.rowid WHERE terms "
    "MATCH ?1"
)
_CHANGED_HITS = """
WITH hits AS (SELECT rowid AS blob, bm25(terms) AS rank FROM terms WHERE terms MATCH ?1)
SELECT path, files.blob, rank FROM hits CROSS JOIN files ON files.blob = hits.blob
    WHERE path NOT IN (SELECT path FROM changed)
UNION ALL SELECT path, changed.blob, rank FROM changed JOIN hits ON hits.blob = changed.blob
"""
_HAS_UNSEARCHED = "SELECT 1 FROM blobs WHERE state > 0 LIMIT 1"
_UNSEARCHED = """
SELECT path, state FROM (
    SELECT path, state FROM blobs CROSS JOIN files ON files.blob = blobs.id
        WHERE state > 0 AND path NOT IN (SELECT path FROM changed)
    UNION ALL SELECT path, state FROM changed JOIN blobs ON blobs.id = changed.blob WHERE state > 0
) WHERE {within} ORDER BY path
"""

_REMOVED = """
WITH hits AS (SELECT rowid AS blob, bm25(terms) AS rank FROM terms WHERE terms MATCH ?1)
SELECT removals.path, blobs.oid, -rank, parent, commits.oid
    FROM hits CROSS JOIN removals ON gone = hits.blob
    JOIN blobs ON blobs.id = gone JOIN commits ON commits.id = commit_id
    WHERE next NOT IN (SELECT blob FROM hits)
        AND gone NOT IN (SELECT blob FROM changed WHERE blob IS NOT NULL)
        AND NOT EXISTS (SELECT 1 FROM files WHERE files.blob = gone AND files.path NOT IN (SELECT path FROM changed))
"""
_REMOVED_UNSEARCHED = """
SELECT path, state, commits.oid FROM blobs CROSS JOIN removals ON gone = blobs.id JOIN commits ON commits.id = commit_id
    WHERE state > 0
"""

Changes = Mapping[TreePath, Oid | None]
"""The files of a tree that the base does not have so, with their blobs; None for a path that is no file of the tree."""


class Found(NamedTuple):
    """What a tree has of some terms."""

    total: int
    hits: list[tuple[TreePath, Oid, float]]
    """The best files, with their scores, the best first."""
    unsearched: list[tuple[TreePath, str]]
    """The files without terms in the index, and why."""


class Removal(NamedTuple):
    """A content that a commit removed from a path."""

    path: TreePath
    gone: Oid
    next: Oid | None
    """The content that is there instead."""
    parent: Oid
    """The commit that had it: a parent of the commit that removed it."""


class RemovedHit(NamedTuple):
    """A content with the terms that a commit removed, leaving none with them at the path."""

    path: TreePath
    oid: Oid
    score: float
    parent: Oid
    commit: Oid


class Index:
    """One connection to the index; of one thread."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    @classmethod
    @contextlib.contextmanager
    def open(cls, path: Path | None) -> Iterator[Index]:
        """Open the index at a path, or a temporary one. Raises sqlite3.Error or OSError if it cannot be used."""
        if path is not None and not path.exists():
            make_dir(path.parent, exist_ok=True)
            os.close(os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600))
        name = str(path) if path is not None else ""
        with contextlib.closing(sqlite3.connect(name, timeout=_WAIT_S, isolation_level=None)) as connection:
            if path is None:
                connection.execute("PRAGMA journal_mode=MEMORY")
            else:
                connection.execute("PRAGMA temp_store=MEMORY")
                connection.execute("PRAGMA cache_spill=OFF")  # else a writer shuts readers out before it is done
            if _version(connection) != VERSION:
                _make_tables(connection)
            yield cls(connection)

    def read_base(self) -> Oid | None:
        """Tell which tree's files are here."""
        row = self._connection.execute("SELECT tree FROM base").fetchone()
        return Oid(row[0]) if row is not None else None

    def move_base(self, old: Oid | None, tree: Oid, changes: Changes) -> bool:
        """Make another tree the base; its blobs are here.

        Tell whether that was done: not if `old` is not the base any more.
        """
        with _transaction(self._connection):
            if self.read_base() != old or not self._write(changes):
                return False
            self._connection.execute("DELETE FROM files WHERE path IN (SELECT path FROM changed)")
            self._connection.execute(
                "INSERT INTO files SELECT path, blob FROM changed WHERE blob IS NOT NULL ORDER BY path"
            )
            self._connection.execute("DELETE FROM base")
            self._connection.execute("INSERT INTO base VALUES (?)", (tree,))
        return True

    def drop_base(self) -> None:
        """Forget the base, which is not stored any more, and its files."""
        with _transaction(self._connection):
            self._connection.execute("DELETE FROM files")
            self._connection.execute("DELETE FROM base")

    def add_missing(self, source: ObjectSource, oids: Iterable[Oid]) -> None:
        """Index those of some blobs that are not here yet; they can be read from `source`."""
        known = "SELECT 1 FROM blobs WHERE oid = ?"
        wanted = [oid for oid in set(oids) if self._connection.execute(known, (oid,)).fetchone() is None]
        missing = [
            Oid(oid)
            for (oid,) in self._connection.execute("SELECT oid FROM blobs WHERE state > ?1 AND state > 0", (_LARGE,))
        ]
        wanted += [oid for oid in missing if source.exists(oid)]
        splitter, batch, held = Splitter(), list[tuple[Oid, int, str | None]](), 0
        for oid in sorted(wanted):
            if not source.exists(oid):
                batch.append((oid, _MISSING, None))
            elif source.blob_size(oid) > LARGEST:
                batch.append((oid, _LARGE, None))
            else:
                data = source.read_blob(oid)
                text = None if b"\0" in data[:_BINARY_PEEK] else splitter.spell(data.decode("utf-8", "replace"))
                batch.append((oid, _INDEXED, text))
                held += len(data)
            if len(batch) >= _BATCH or held >= _BATCH_BYTES:
                self._add(batch)
                batch, held = [], 0
        self._add(batch)

    def _add(self, batch: list[tuple[Oid, int, str | None]]) -> None:
        if not batch:
            return
        with _transaction(self._connection):
            for oid, state, text in batch:
                known = self._connection.execute("SELECT id, state FROM blobs WHERE oid = ?", (oid,)).fetchone()
                if known is None:
                    made = self._connection.execute("INSERT INTO blobs (oid, state) VALUES (?, ?)", (oid, state))
                    blob = made.lastrowid
                elif known[1] == _MISSING != state:
                    blob = known[0]
                    self._connection.execute("UPDATE blobs SET state = ? WHERE id = ?", (state, blob))
                else:
                    continue
                if text is not None:
                    self._connection.execute("INSERT INTO terms (rowid, text) VALUES (?, ?)", (blob, text))

    def find(
        self,
        base: Oid | None,
        changes: Changes,
        terms: Iterable[Term],
        is_within: Callable[[bytes], bool] | None,
        limit: int,
    ) -> Found | None:
        """Find the files with all terms in the tree that the base becomes by `changes`, whose blobs are here.

        Returns:
            None if another process has changed the base since, or emptied the index.
        """
        within = "TRUE" if is_within is None else "is_within(path)"
        if is_within is not None:
            self._connection.create_function("is_within", 1, is_within, deterministic=True)
        found = _FOUND.format(hits=_CHANGED_HITS if changes else _HITS, within=within)
        with self._reading():
            if self.read_base() != base or (changes and not self._write(changes)):
                return None
            rows = self._connection.execute(found, (_spell(terms), limit)).fetchall()
            unsearched = []
            if self._connection.execute(_HAS_UNSEARCHED).fetchone() is not None:
                if not changes:
                    self._write(changes)
                unsearched = self._connection.execute(_UNSEARCHED.format(within=within)).fetchall()
        hits = [(TreePath(path), Oid(oid), score) for path, oid, score, _ in rows]
        lacking = [(TreePath(path), _REASONS[state]) for path, state in unsearched]
        return Found(rows[0][3] if rows else 0, hits, lacking)

    def lacks_commit(self, commit: Oid) -> bool:
        """Tell whether what a commit removed is not here yet."""
        return self._connection.execute("SELECT 1 FROM commits WHERE oid = ?", (commit,)).fetchone() is None

    def add_removals(self, source: ObjectSource, removals: Mapping[Oid, Sequence[Removal]]) -> None:
        """Add what some commits removed, with the contents."""
        blobs = {
            oid
            for removed in removals.values()
            for each in removed
            for oid in (each.gone, each.next)
            if oid is not None
        }
        self.add_missing(source, blobs)
        with _transaction(self._connection):
            for commit, removed in removals.items():
                made = self._connection.execute("INSERT OR IGNORE INTO commits (oid) VALUES (?)", (commit,))
                if made.rowcount:
                    self._connection.executemany(
                        "INSERT INTO removals VALUES ((SELECT id FROM blobs WHERE oid = ?), ?, ?, ?, "
                        "CASE WHEN ?5 IS NULL THEN 0 ELSE (SELECT id FROM blobs WHERE oid = ?5) END)",
                        [(each.gone, each.path, made.lastrowid, each.parent, each.next) for each in removed],
                    )

    def find_removed(
        self, base: Oid | None, changes: Changes, terms: Iterable[Term]
    ) -> tuple[list[RemovedHit], list[tuple[TreePath, str, Oid]]] | None:
        """Find what commits, of any fork, removed, unless the tree that the base becomes by `changes` has the content.

        Returns:
            The hits; and what has no terms here, with path, reason and commit. None as `find`.
        """
        with self._reading():
            if self.read_base() != base or not self._write(changes):
                return None
            rows = self._connection.execute(_REMOVED, (_spell(terms),)).fetchall()
            lacking = self._connection.execute(_REMOVED_UNSEARCHED).fetchall()
        hits = [
            RemovedHit(TreePath(path), Oid(oid), score, Oid(parent), Oid(commit))
            for path, oid, score, parent, commit in rows
        ]
        return hits, [(TreePath(path), _REASONS[state], Oid(commit)) for path, state, commit in lacking]

    @contextlib.contextmanager
    def _reading(self) -> Iterator[None]:
        """Read one state of the index."""
        self._connection.execute("BEGIN")
        try:
            yield
        finally:
            self._connection.execute("ROLLBACK")

    def _write(self, changes: Changes) -> bool:
        """Write changes into a table of this connection; tell whether all their blobs are here."""
        self._connection.execute(
            "CREATE TEMP TABLE IF NOT EXISTS changed (path BLOB PRIMARY KEY, blob INTEGER) WITHOUT ROWID"
        )
        self._connection.execute("DELETE FROM changed")
        self._connection.executemany(
            "INSERT INTO changed VALUES (?, (SELECT id FROM blobs WHERE oid = ?))", [*changes.items()]
        )
        gone = self._connection.execute("SELECT count(*) FROM changed WHERE blob IS NULL").fetchone()[0]
        return bool(gone == sum(oid is None for oid in changes.values()))

    def empty_if_stale(self, source: ObjectSource) -> None:
        """Empty the index if a quarter of its blobs are gone: a table without its texts cannot drop single rows."""
        oids = [Oid(oid) for (oid,) in self._connection.execute("SELECT oid FROM blobs")]
        if sum(not source.exists(oid) for oid in oids) * _DEAD_SHARE <= len(oids):
            return
        with _transaction(self._connection):
            self._connection.execute("INSERT INTO terms (terms) VALUES ('delete-all')")
            for table in ("blobs", "files", "base", "commits", "removals"):
                self._connection.execute(f"DELETE FROM {table}")  # noqa: S608 - a name of ours
        self._connection.execute("VACUUM")


def _spell(terms: Iterable[Term]) -> str:
    return " AND ".join(f'"{term.text}"{"*" if term.is_prefix else ""}' for term in terms)


def prune(path: Path, source: ObjectSource) -> None:
    """Remove what an index has of collected blobs, as far as that can be done."""
    with contextlib.suppress(sqlite3.Error, OSError), Index.open(path) as index:
        index.empty_if_stale(source)


@contextlib.contextmanager
def _transaction(connection: sqlite3.Connection) -> Iterator[None]:
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    finally:
        if connection.in_transaction:
            connection.execute("ROLLBACK")


def _version(connection: sqlite3.Connection) -> int:
    return int(connection.execute("PRAGMA user_version").fetchone()[0])


def _make_tables(connection: sqlite3.Connection) -> None:
    """Make the tables, in place of those of another version."""
    with _transaction(connection):
        if _version(connection) == VERSION:  # another process was faster
            return
        for name in ("terms", "blobs", "trees", "base", "files", "commits", "removals"):
            connection.execute(f"DROP TABLE IF EXISTS {name}")
        for statement in _TABLES.strip().split(";\n"):
            connection.execute(statement.rstrip(";"))
        connection.execute(f"PRAGMA user_version = {VERSION}")
