"""The index of a vault's texts: which blobs have a term, and how well they fit.

Decided here: the SQLite database `avfs/cache/search`, and when it is believed. A row stands for one blob, so that forks,
checkpoints and history share it; what a blob holds never changes, and a row never has to. It is a cache: a database that is
damaged, or of another version, is made anew, and where none can be written or read, a temporary one takes its place.

The journal is a rollback journal, not a WAL: a vault that may only be read can be searched, and nothing else stands beside the
database. A process that is killed leaves a journal, which the next one rolls back; the blobs of that batch are indexed again.
Connections are opened for one search and closed, because a process that forks must not hand one on. Several processes may
search and index at once: writers take turns, each for one batch. No lock of avfs is taken.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Iterable, Iterator
from pathlib import Path

from avfs_git.gitstore.source import ObjectSource
from avfs_git.host.files.modes import make_dir
from avfs_git.paths import Oid
from avfs_git.workspace.search.words import Splitter, Term

VERSION = 1
"""Of the tables and of the terms in them."""
LARGEST = 2 << 20
"""Bytes of the largest text that is indexed."""
_BATCH = 2000
_BATCH_BYTES = 16 << 20
_BINARY_PEEK = 8000
"""A file with a NUL byte in so many first bytes is binary, as for git."""
_WAIT_S = 1.0
_DEAD_SHARE = 4
_TABLES = """
CREATE TABLE blobs (id INTEGER PRIMARY KEY, oid BLOB NOT NULL UNIQUE, is_text INTEGER NOT NULL);
CREATE TABLE trees (oid BLOB PRIMARY KEY) WITHOUT ROWID;
CREATE VIRTUAL TABLE terms USING fts5(text, content='', tokenize="ascii tokenchars '_'");
"""


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
        connection = sqlite3.connect(str(path) if path is not None else "", timeout=_WAIT_S, isolation_level=None)
        try:
            if path is None:
                connection.execute("PRAGMA journal_mode=MEMORY")
            else:
                connection.execute("PRAGMA cache_spill=OFF")  # else a writer shuts readers out before it is done
            if _version(connection) != VERSION:
                _make_tables(connection)
            yield cls(connection)
        finally:
            connection.close()

    def has_tree(self, tree: Oid) -> bool:
        """Tell whether all texts of a tree are known to be here."""
        return self._connection.execute("SELECT 1 FROM trees WHERE oid = ?", (tree,)).fetchone() is not None

    def add_tree(self, tree: Oid) -> None:
        """Note that all texts of a tree are here."""
        self._connection.execute("INSERT OR IGNORE INTO trees VALUES (?)", (tree,))

    def add_missing(self, source: ObjectSource, oids: Iterable[Oid]) -> None:
        """Index those of some blobs that are not here yet; they can be read from `source`."""
        wanted = set(oids)
        wanted.difference_update(oid for (oid,) in self._connection.execute("SELECT oid FROM blobs"))
        splitter, batch, held = Splitter(), list[tuple[Oid, str | None]](), 0
        for oid in sorted(wanted):
            data = source.read_blob(oid)
            text = None if b"\0" in data[:_BINARY_PEEK] else splitter.spell(data.decode("utf-8", "replace"))
            batch.append((oid, text))
            held += len(data)
            if len(batch) >= _BATCH or held >= _BATCH_BYTES:
                self._add(batch)
                batch, held = [], 0
        self._add(batch)

    def _add(self, batch: list[tuple[Oid, str | None]]) -> None:
        if not batch:
            return
        with _transaction(self._connection):
            for oid, text in batch:
                new = self._connection.execute(
                    "INSERT OR IGNORE INTO blobs (oid, is_text) VALUES (?, ?)", (oid, text is not None)
                )
                if new.rowcount and text is not None:
                    self._connection.execute("INSERT INTO terms (rowid, text) VALUES (?, ?)", (new.lastrowid, text))

    def find(self, terms: Iterable[Term]) -> list[tuple[Oid, float]]:
        """Find the blobs that have all terms, of any tree, with their scores."""
        spelled = " AND ".join(f'"{term.text}"{"*" if term.is_prefix else ""}' for term in terms)
        rows = self._connection.execute(
            "SELECT oid, -bm25(terms) FROM terms JOIN blobs ON blobs.id = terms.rowid WHERE terms MATCH ?", (spelled,)
        )
        return [(Oid(oid), score) for oid, score in rows]

    def empty_if_stale(self, source: ObjectSource) -> None:
        """Empty the index if a quarter of its blobs are gone: rows of a table without its texts cannot be removed one by one."""
        oids = [Oid(oid) for (oid,) in self._connection.execute("SELECT oid FROM blobs")]
        if sum(not source.exists(oid) for oid in oids) * _DEAD_SHARE <= len(oids):
            return
        with _transaction(self._connection):
            self._connection.execute("INSERT INTO terms (terms) VALUES ('delete-all')")
            self._connection.execute("DELETE FROM blobs")
            self._connection.execute("DELETE FROM trees")
        self._connection.execute("VACUUM")


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
        for (name,) in connection.execute("SELECT name FROM sqlite_schema WHERE name IN ('terms', 'blobs', 'trees')").fetchall():
            connection.execute(f'DROP TABLE "{name}"')
        for statement in _TABLES.strip().split(";\n"):
            connection.execute(statement.rstrip(";"))
        connection.execute(f"PRAGMA user_version = {VERSION}")
