"""The operation log read through its index: the same as read whole, wherever the index ends, whatever is damaged."""

from __future__ import annotations

import tempfile
from itertools import islice
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from avfs_git.paths import Oid
from avfs_git.workspace.vault.log.loglines import index_path
from avfs_git.workspace.vault.log.oplog import OpLog
from avfs_git.workspace.vault.log.oprecord import OpRecord

FORKS = ("main", "a", "a/b", 'q"é')
VALUES = (None, "aa" * 20, "bb" * 20, "cc" * 20)
KINDS = ("checkpoint", "files", "fork_create", "fork_delete", "undo", "redo", "merge")


@st.composite
def records(draw: st.DrawFn) -> tuple[OpRecord, str]:
    """An operation, and how its line ends up: said to have happened, announced, withdrawn, or damaged."""
    fork, kind = draw(st.sampled_from(FORKS)), draw(st.sampled_from(KINDS))
    value = st.sampled_from(VALUES)
    refs = draw(
        st.lists(
            st.sampled_from([f"refs/heads/{fork}", "refs/heads/main", f"refs/avfs/checkpoints/{fork}/x"]), unique=True
        )
    )
    more: dict[str, Any] = draw(st.fixed_dictionaries({}, optional={"by": st.sampled_from(FORKS), "base": value}))
    more |= draw(st.fixed_dictionaries({}, optional={"git_head": st.just([None, "x"]), "since_ns": st.integers(1, 9)}))
    target = draw(st.integers(1, 30)) if kind in ("undo", "redo") else None
    moves = [(ref, draw(value), draw(value)) for ref in refs]
    record = OpRecord(0, fork, kind, draw(st.text(max_size=5)), 7, moves, draw(value), draw(value), target, more)
    return record, draw(st.sampled_from(("happened", "happened", "happened", "announced", "withdrawn", "damaged")))


def _write(log: OpLog, path: Path, record: OpRecord, end: str) -> None:
    start = path.stat().st_size if path.exists() else 0
    if end == "announced":
        log.announce(record).close(happened=None)
    elif end == "withdrawn":
        log.announce(record).close(happened=False)
    else:
        log.append(record)
        if end == "damaged":
            data = bytearray(path.read_bytes())
            data[start + 20] ^= 1  # the size stays
            path.write_bytes(data)


def _answers(log: OpLog) -> dict[str, object]:
    """Ask everything."""
    found: dict[str, object] = {"all": list(log.read()), "listed": log.list_operations(None, 5)}
    for fork in FORKS:
        ref = f"refs/heads/{fork}"
        found[fork] = (
            list(log.read_fork(fork)),
            log.find_unconfirmed(fork),
            log.find_last_state(fork),
            log.find_bases([fork]),
            log.find_last_fact(fork, "git_head"),
            log.find_last_value(ref),
            log.find_last_position(ref),
            log.list_operations(fork, 3),
            log.find_undoable(fork),
            log.find_redoable(fork),
        )
    found["bases"] = log.find_bases(FORKS * 4)
    return found


@settings(max_examples=150, deadline=None)
@given(
    st.lists(records(), max_size=40),
    st.integers(0, 40),
    st.dictionaries(st.sampled_from([f"refs/heads/{fork}" for fork in FORKS]), st.sampled_from(VALUES[1:])),
)
def test_an_index_changes_no_answer(written: list[tuple[OpRecord, str]], covered: int, held: dict[str, str]) -> None:
    """Every question gets the same answer without an index, with an index of a part of the log, and of all of it."""
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "oplog"

        def read(ref: str) -> Oid | None:
            value = held.get(ref)
            return Oid(bytes.fromhex(value)) if value else None

        log = OpLog(path, read, indexed_above=0)
        for number, (record, end) in enumerate(written):
            if number == covered:
                log.write_index()
            _write(log, path, record, end)
        partly = _answers(log)
        log.write_index()
        wholly = _answers(log)
        index_path(path).unlink(missing_ok=True)
        plain = _answers(log)

        assert partly == plain
        assert wholly == plain


@settings(max_examples=100, deadline=None)
@given(st.lists(records(), max_size=40))
def test_lines_of_a_fork_are_those_of_the_whole_log(written: list[tuple[OpRecord, str]]) -> None:
    """What is read of one fork is what reading all gives for it, in the same order."""
    with tempfile.TemporaryDirectory() as name:
        log = OpLog(Path(name) / "oplog", lambda _: None, indexed_above=0)
        for record, end in written:
            _write(log, Path(name) / "oplog", record, end)
        log.write_index()

        for fork in FORKS:
            assert list(log.read_fork(fork)) == [record for record in log.read() if record.fork == fork]
            assert list(islice(log.read_fork(fork), 1)) == list(islice(log.read_fork(fork), 10))[:1]
