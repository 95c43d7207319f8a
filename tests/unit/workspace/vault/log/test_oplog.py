"""The operation log: lines that are announced, and what they mean when nobody said how it ended."""

from __future__ import annotations

import errno
import json
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from unittest.mock import Mock

import pytest

from avfs_git import faults
from avfs_git.errors import HostError
from avfs_git.paths import Oid
from avfs_git.sdk import Avfs, Vault, Workspace
from avfs_git.workspace.vault.log.loglines import index_path
from avfs_git.workspace.vault.log.oplog import Chosen, OpLog
from avfs_git.workspace.vault.log.oprecord import OpRecord, RefMoveRecord
from tests.support.failing import DieAt, FailAt
from tests.support.faults import die_in

A, B, C = (letter * 20 for letter in (b"a", b"b", b"c"))
MAIN = "refs/heads/main"
LABEL = "refs/avfs/checkpoints/main/one"


class Refs:
    """Refs in memory, and a log that asks them."""

    def __init__(self, path: Path) -> None:
        self.held: dict[str, bytes] = {}
        self.path = path
        self.log = OpLog(path, self.read)

    def read(self, name: str) -> Oid | None:
        """Read one."""
        return Oid(self.held[name]) if name in self.held else None

    def announce(self, text: str, *moves: tuple[str, bytes | None, bytes | None], happened: bool | None = None) -> None:
        """Write a line, and say how it ended or leave it open."""
        self.log.announce(_record(text, *moves)).close(happened=happened)

    def happened(self) -> list[str]:
        """List what the log counts, the oldest first."""
        return [record.description for record in self.log.read()][::-1]


def _record(text: str, *moves: tuple[str, bytes | None, bytes | None]) -> OpRecord:
    spelled: list[RefMoveRecord] = [
        (ref, old.hex() if old else None, new.hex() if new else None) for ref, old, new in moves
    ]
    return OpRecord(0, "main", "checkpoint", text, 0, moves=spelled)


@pytest.fixture
def refs(tmp_path: Path) -> Refs:
    """No refs, and no log yet."""
    return Refs(tmp_path / "oplog")


def test_what_was_said_counts(refs: Refs) -> None:
    """A line that says how it ended is believed, wherever the refs are; numbers go on also over what was withdrawn."""
    refs.announce("first", (MAIN, None, A), happened=True)
    refs.announce("failed", (MAIN, A, B), happened=False)
    refs.announce("second", (MAIN, A, C), happened=True)

    assert refs.happened() == ["first", "second"]
    assert [record.id for record in refs.log.read()] == [3, 1]


def test_the_last_line_is_judged_by_the_refs(refs: Refs) -> None:
    """Where nobody said how it ended, the ref tells: its old value, or something else."""
    refs.announce("first", (MAIN, None, A), happened=True)
    refs.announce("second", (MAIN, A, B))
    refs.held = {MAIN: A}

    assert refs.happened() == ["first"]
    for held in (B, C):  # C: git went on from there
        refs.held = {MAIN: held}

        assert refs.happened() == ["first", "second"]


def test_an_earlier_line_is_judged_by_the_next(refs: Refs) -> None:
    """What a ref held in between stands in the next line on it, also where that one never happened."""
    refs.announce("to a", (MAIN, None, A))
    refs.announce("to b", (MAIN, A, B))
    refs.announce("other fork", ("refs/heads/x", None, C))
    refs.announce("to b again", (MAIN, A, B))
    refs.announce("to c", (MAIN, B, C))
    refs.held = {MAIN: B}

    assert refs.happened() == ["to a", "to b again"]
    refs.held = {MAIN: C, "refs/heads/x": C}

    assert refs.happened() == ["to a", "other fork", "to b again", "to c"]


@pytest.mark.slow
def test_undo_finds_its_way_back_far(refs: Refs) -> None:
    """Undo after undo goes back through hundreds of operations, and redo forth again, as if the whole log were read."""
    for number in range(200):
        refs.log.append(_record(str(number), (MAIN, A, B)))
    for number in reversed(range(30, 200)):
        found = refs.log.find_undoable("main")

        assert found is not None
        assert found.description == str(number)
        refs.log.append(OpRecord(0, "main", "undo", "undo", 0, target=found.id))
    for number in range(30, 200):
        found = refs.log.find_redoable("main")

        assert found is not None
        assert found.description == str(number)
        refs.log.append(OpRecord(0, "main", "redo", "redo", 0, target=found.id))

    assert refs.log.find_redoable("main") is None


def test_the_newest_are_read_without_the_rest(refs: Refs) -> None:
    """The end of a long log is enough for its newest operations; all of them are the whole log."""

    def read_bytes() -> int:
        return int(Path("/proc/self/io").read_text().split()[1])

    texts = [f"{number} {'x' * 200}" for number in range(2000)]
    for at in range(0, len(texts), 100):
        refs.log.announce(*map(_record, texts[at : at + 100])).close(happened=True)
    before = read_bytes()
    newest = next(refs.log.read()).description
    taken = read_bytes() - before

    assert newest == texts[-1]
    assert taken < refs.path.stat().st_size / 10
    assert refs.happened() == texts


def test_a_foreign_index_is_ignored(refs: Refs) -> None:
    """An index of another file, one that is cut short, and one with a wrong checksum change no answer."""
    refs.log = OpLog(refs.path, refs.read, indexed_above=0)
    refs.announce("first", (MAIN, None, A), happened=True)
    assert refs.log.write_index()
    whole = index_path(refs.path).read_bytes()
    refs.path.rename(refs.path.with_name("old"))
    refs.announce("second", (MAIN, None, B), happened=True)

    for content in (whole, whole[:-3], whole[:50], b"x" * len(whole), b""):
        index_path(refs.path).write_bytes(content)

        assert [record.description for record in refs.log.read_fork("main")] == ["second"]
        assert refs.log.measure_end() == refs.path.stat().st_size
    assert refs.log.write_index()
    assert refs.log.measure_end() == 0
    assert not refs.log.write_index()


def test_an_index_with_wrong_entries_is_made_anew(refs: Refs) -> None:
    """Maintenance compares the entries with their checksum before it adds to them."""
    refs.log = OpLog(refs.path, refs.read, indexed_above=0)
    refs.announce("first", (MAIN, None, A), happened=True)
    refs.log.write_index()
    good = index_path(refs.path).read_bytes()
    index_path(refs.path).write_bytes(good[:-12] + bytes(12))
    refs.announce("second", (MAIN, A, B), happened=True)
    refs.log.write_index()

    assert [record.description for record in refs.log.read_fork("main")] == ["second", "first"]


def test_the_branch_decides(refs: Refs) -> None:
    """Of several refs the branch says whether it happened: it moves before what depends on it."""
    refs.announce("labelled", (MAIN, A, B), (LABEL, None, B))
    refs.held = {MAIN: A, LABEL: B}

    assert refs.happened() == []
    refs.held = {MAIN: B}

    assert refs.happened() == ["labelled"]
    assert [record.description for record in refs.log.find_unconfirmed("main")] == ["labelled"]
    assert refs.log.find_unconfirmed("x") == []


def test_what_came_later_settles_what_was_before(refs: Refs) -> None:
    """An operation is no longer to be completed when another one on its refs came after it."""
    refs.announce("labelled", (MAIN, A, B), (LABEL, None, B))
    refs.announce("label gone", (LABEL, B, None), happened=True)
    refs.held = {MAIN: B}

    assert refs.log.find_unconfirmed("main") == []


def test_a_damaged_mark_is_damage(refs: Refs) -> None:
    """A line with another mark is passed over, like one whose checksum is wrong."""
    refs.announce("first", (MAIN, None, A), happened=True)
    data = bytearray(refs.path.read_bytes())
    data[8:9] = b"!"
    refs.path.write_bytes(data)

    assert refs.happened() == []


@pytest.mark.parametrize("point", [1, 2])
def test_a_line_that_fails_is_not_there(refs: Refs, point: int) -> None:
    """What could not be written, or not be synced, leaves the log as it was."""
    refs.announce("first", (MAIN, None, A), happened=True)
    before = refs.path.read_bytes()
    faults.arm(FailAt(point, lambda: OSError(errno.EIO, os.strerror(errno.EIO))))
    with pytest.raises(HostError):
        refs.log.announce(_record("second", (MAIN, A, B)))
    faults.arm(None)

    assert refs.path.read_bytes() == before


@pytest.mark.needs("whiteout", "user-xattrs")
class TestDeath:
    """Processes that die between two steps of an operation."""

    @staticmethod
    def _die(home: Avfs, point: str, label: str | None = None, *, times: int = 1) -> None:
        reached: list[str] = []

        def die(here: str) -> None:
            reached.append(here)
            if reached.count(point) == times:
                os._exit(DieAt.STATUS)

        def work_and_die() -> None:
            faults.arm(die)
            with Avfs(home.home) as avfs:
                avfs.open_vault("v").workspace().checkpoint(label)

        assert die_in(work_and_die, 1)

    def test_undo_knows_a_checkpoint_whose_process_died(self, home: Avfs, vault: Vault, work: Workspace) -> None:
        """Right after the branch has moved all can be undone, one after the other, as if the process lived.

        So can the operation that changed the file.
        """
        work.write("a", b"1")
        work.checkpoint()
        work.write("a", b"2")
        self._die(home, "refs.moved")

        assert [each.kind for each in work.operations(limit=3)] == ["checkpoint", "files", "checkpoint"]
        work.undo()
        assert [change.path for change in work.status().changed_files] == [b"a"]
        work.undo()
        assert work.status().clean
        assert work.read("a") == b"1"
        work.undo()
        assert work.log() == []
        for _ in range(3):
            work.redo()
        assert work.status().clean
        assert work.read("a") == b"2"

    def test_a_label_comes_after_its_branch(self, home: Avfs, vault: Vault, work: Workspace) -> None:
        """Who next takes the lock gives the label that a process died over."""
        work.write("a", b"1")
        work.checkpoint()
        work.write("a", b"2")
        self._die(home, "refs.moved_one", "late", times=2)  # sidecar, branch, and not the label
        with Avfs(home.home) as avfs:
            other = avfs.open_vault("v").workspace()
            assert other.status().clean
            assert [point.labels for point in other.list_checkpoints(limit=1)] == [("late",)]
            other.undo()
            assert {label for point in other.list_checkpoints() for label in point.labels} == set()

    def test_going_back_after_a_death_is_no_conflict(self, home: Avfs, vault: Vault, work: Workspace) -> None:
        """What a checkpoint changed whose process died before it marked it can be changed back."""
        work.write("a", b"1")
        work.checkpoint()
        work.write("a", b"2")
        self._die(home, "refs.moved")
        with Avfs(home.home) as avfs:
            other = avfs.open_vault("v").workspace()
            other.write("a", b"1")
            assert other.checkpoint().outcome == "created"
            assert [len(entry.changed_files) for entry in other.log(with_files=True)] == [1, 1, 1]


@pytest.mark.parametrize("size", [10, 5_000, 100_000])
def test_numbers_go_on_after_a_line_of_any_length(refs: Refs, size: int) -> None:
    """The number of the last line is found however long that line is."""
    refs.announce("first", happened=True)
    refs.announce("x" * size, happened=True)
    refs.announce("last", happened=True)

    assert [record.id for record in refs.log.read()] == [3, 2, 1]


# --- forgetting ------------------------------------------------------------------------------------------------


def _keep(
    newest: int, *, whole: set[int] | None = None, facts: set[int] | None = None
) -> Callable[[list[OpRecord]], Chosen]:
    return lambda records: Chosen(newest, whole or set(), set(), facts or set())


def test_what_is_forgotten_is_gone_and_the_rest_is_what_it_was(refs: Refs) -> None:
    """The newest lines stay byte for byte, others as they are or without what could be undone; numbers go on."""
    refs.held[MAIN] = B
    for number in range(6):
        refs.announce(f"op {number}", (MAIN, A, B), happened=number != 2)
    refs.announce("under way", (MAIN, B, C))
    lines = refs.path.read_bytes().splitlines(keepends=True)

    assert refs.log.expire(_keep(2, whole={3}, facts={4})) == 2

    after = refs.path.read_bytes()

    assert after.endswith(b"".join(lines[-3:]))
    assert refs.happened() == ["op 0", "op 1", "op 4", "op 5"]
    assert [bool(record.moves) for record in refs.log.read()] == [True, True, True, False]
    assert refs.log.append(_record("next")).id == 8
    assert refs.log.expire(_keep(100)) == 0


def test_an_append_that_waited_for_a_log_that_was_shortened_is_in_the_new_one(refs: Refs) -> None:
    """Whoever has the old file open, and gets its lock when it has been replaced, looks again."""
    for number in range(5):
        refs.log.append(_record(f"op {number}", (MAIN, A, B)))

    def choose(records: list[OpRecord]) -> Chosen:
        waiting.start()  # while the log is locked
        time.sleep(0.2)
        return Chosen(1, set(), set(), set())

    waiting = threading.Thread(target=lambda: refs.log.append(_record("waited")))
    refs.log.expire(choose)
    waiting.join(60)

    assert refs.happened() == ["op 4", "waited"]


@pytest.mark.parametrize("point", ["oplog.expiring", "durable.begun", "durable.written"])
def test_a_log_that_cannot_be_shortened_is_as_it_was(point: str, refs: Refs) -> None:
    """A disk that fails leaves all lines."""
    for number in range(5):
        refs.log.append(_record(f"op {number}", (MAIN, A, B)))
    before = refs.path.read_bytes()

    def fail(reached: str) -> None:
        if reached == point:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    faults.arm(fail)
    with pytest.raises(HostError):
        refs.log.expire(_keep(1))
    faults.arm(None)

    assert refs.path.read_bytes() == before
    assert [path.name for path in refs.path.parent.iterdir()] == ["oplog"]


def test_a_vault_without_a_log_has_nothing_to_forget(refs: Refs) -> None:
    """Nothing is made where nothing is."""
    assert refs.log.expire(_keep(1)) == 0
    assert not refs.path.exists()


def test_operations_are_found_by_the_objects_that_they_name(refs: Refs) -> None:
    """Those that happened, among the newest lines, judged as where all of them are read."""
    refs.announce("first", (MAIN, None, A), happened=True)
    refs.announce("failed", (MAIN, A, C), happened=False)
    refs.announce("second", (MAIN, A, B))  # the next line tells that it happened
    refs.announce("third", (MAIN, B, C))
    refs.held = {MAIN: C}

    def named(*oids: bytes, newest: int = 10) -> list[str]:
        return [record.description for record in refs.log.read_naming([Oid(oid) for oid in oids], newest)]

    assert named(A) == ["second", "first"]
    assert named(C) == ["third"]
    assert named(B, A) == ["third", "second", "first"]
    assert named(A, newest=2) == ["second"]
    assert named(b"d" * 20) == named() == []
    refs.held = {MAIN: B}

    assert named(C) == []


def test_forks_made_of_a_fork_are_not_read_with_its_own_operations(refs: Refs, monkeypatch: pytest.MonkeyPatch) -> None:
    """Finding the last operation of a fork costs the same after 50 other forks were made of it."""
    refs.announce("one", happened=True)
    for number in range(50):
        refs.log.append(OpRecord(0, f"fork{number}", "fork_create", "fork", 0, more={"by": "main", "parent": "main"}))
    loads = Mock(wraps=json.loads)
    monkeypatch.setattr(json, "loads", loads)

    assert [record.description for record in refs.log.read_fork("main")] == ["one"]
    assert loads.call_count == 1
