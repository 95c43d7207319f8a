"""SQLite in a live tree: several processes, the write-ahead log, and deaths in the middle."""

from __future__ import annotations

import contextlib
import os
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.workbench import Workbench
from tests.tools.conftest import Begin

pytestmark = [pytest.mark.slow, pytest.mark.needs("fuse", "git", "user-xattrs", "whiteout")]

_ROWS = 150
_WRITER = """
import sqlite3, sys
name, who, rows = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
db = sqlite3.connect(name, timeout=120, isolation_level=None)
for row in range(rows):
    db.execute("begin immediate")
    total = db.execute("select value from total").fetchone()[0]
    db.execute("insert into entry values (?, ?, ?)", (who, row, "x" * (row * 37 % 3000)))
    db.execute("update total set value = ?", (total + 1,))
    if row % 10 == 9:
        db.execute("rollback")
        db.execute("begin immediate")
        db.execute("insert into entry values (?, ?, '')", (who, row))
        db.execute("update total set value = value + 1")
    db.execute("commit")
    if row % 40 == 39:
        db.execute("pragma wal_checkpoint(passive)")
db.close()
"""
_READER = """
import sqlite3, sys
db = sqlite3.connect(sys.argv[1], timeout=120)
most = 0
while most < int(sys.argv[2]):
    with db:
        counted, told = db.execute("select (select count(*) from entry), (select value from total)").fetchone()
    assert counted == told, (counted, told)
    assert counted >= most, (counted, most)
    most = counted
"""


def _fill(place: Path) -> None:
    with _opened(place / "in base.db") as db:
        db.executescript(
            "create table entry (who, row, text); create table total (value); insert into total values (0);"
        )


@pytest.fixture
def bench(begin: Begin) -> Workbench:
    """A database that the lower layer has."""
    return begin(_fill)


def _start(code: str, *argv: str | Path | int) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", code, *map(str, argv)], stdin=subprocess.DEVNULL, cwd="/")


def _checked(name: Path) -> tuple[int, int]:
    with _opened(name) as db:
        assert db.execute("pragma integrity_check").fetchall() == [("ok",)]
        counted, told = db.execute("select (select count(*) from entry), (select value from total)").fetchone()
    return int(counted), int(told)


def _opened(name: Path) -> contextlib.closing[sqlite3.Connection]:
    return contextlib.closing(sqlite3.connect(name, timeout=60))


@pytest.mark.parametrize("journal", ["wal", "delete", "truncate", "persist"])
def test_two_writers_and_a_reader(bench: Workbench, journal: str) -> None:
    """Every transaction is there once, a reader sees only whole ones, and the file is sound.

    The same holds after another mount.
    """
    name = bench.live / "in base.db"
    with _opened(name) as db:
        assert db.execute(f"pragma journal_mode={journal}").fetchone() == (journal,)
    processes = [_start(_WRITER, name, 1, _ROWS), _start(_WRITER, name, 2, _ROWS), _start(_READER, name, 2 * _ROWS)]
    try:
        assert [process.wait(timeout=300) for process in processes] == [0, 0, 0]
    finally:
        for process in processes:
            process.kill()
            process.wait()
    assert _checked(name) == (2 * _ROWS, 2 * _ROWS)
    bench.remount()
    assert _checked(name) == (2 * _ROWS, 2 * _ROWS)


def test_a_killed_writer(bench: Workbench) -> None:
    """A killed writer's commits are there for the next one, and nothing else; the killed writer's locks are gone."""
    name = bench.live / "in base.db"
    with _opened(name) as db:
        db.execute("pragma journal_mode=wal")
    code = _WRITER.replace('db.execute("commit")', 'db.execute("commit"); print(row, flush=True)')
    for who in range(3):
        process = subprocess.Popen(
            [sys.executable, "-c", code, name, str(who), "1000000"], stdout=subprocess.PIPE, cwd="/"
        )
        assert process.stdout is not None
        for _ in range(30):
            assert process.stdout.readline()
        process.send_signal(signal.SIGKILL)
        acknowledged = 30 + len(process.stdout.read().split())
        process.wait()
        process.stdout.close()
        counted, told = _checked(name)
        with _opened(name) as db:
            (of_this,) = db.execute("select count(*) from entry where who = ?", (who,)).fetchone()
        assert counted == told
        assert acknowledged <= of_this <= acknowledged + 1
    bench.go_to_fork("next")
    assert _checked(name) == (counted, told)
    assert os.path.getsize(name) > 0
