"""The audit log: whole lines, one after the other, tied together."""

from __future__ import annotations

import errno
import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pytest

from avfs_git import Avfs, faults
from avfs_git.errors import AuditDamaged, AvfsError, HostError, PushRejected
from avfs_git.paths import oid_of
from avfs_git.workspace.vault.log.audit import MAX_TEXT, AuditLog
from avfs_git.workspace.vault.log.oplog import OpLog
from avfs_git.workspace.vault.log.oprecord import OpRecord
from tests.support.failing import FailAt
from tests.support.faults import die_in


@pytest.fixture
def log(tmp_path: Path) -> AuditLog:
    """An empty log."""
    return AuditLog(tmp_path / "avfs")


def fill(log: AuditLog, count: int) -> None:
    """Write events."""
    for number in range(count):
        log.append("test", fork="f", details={"n": number})


def test_events_come_back_newest_first(log: AuditLog) -> None:
    """With number, time, fork and details; as many as asked for."""
    assert log.read() == []
    assert log.verify() == 0
    fill(log, 5)

    assert [(entry.seq, entry.details["n"]) for entry in log.read()] == [(5, 4), (4, 3), (3, 2), (2, 1), (1, 0)]
    assert len(log.read(limit=2)) == 2
    since = log.read()[1].at_ns
    assert {entry.seq for entry in log.read(since_ns=since)} >= {4, 5}
    assert log.verify() == 5
    assert log.path.stat().st_mode & 0o077 == 0


def test_every_line_is_one_document(log: AuditLog) -> None:
    """Also with line breaks, bytes that are not UTF-8 and megabytes in the details; long texts are cut."""
    log.append(
        "test",
        fork=None,
        details={"command": "a\nb\udcff\u2028", "long": "x" * 10**6, "deep": {"list": ["y" * 10**5] * 1000}},
    )

    (line,) = log.path.read_bytes().splitlines()
    assert json.loads(line)["details"]["command"] == "a\nb\udcff\u2028"
    assert len(json.loads(line)["details"]["long"]) == MAX_TEXT + 1
    assert len(line) < 2_000_000


@pytest.mark.parametrize(
    ("attack", "named"),
    [
        ("change", "line 3 was changed, or line 4"),
        ("garble", "line 3 was changed"),
        ("remove", "line 3 does not follow"),
        ("swap", "line 3 does not follow"),
        ("insert", "line 3 does not follow"),
        ("first", "line 1 does not follow"),
    ],
)
def test_changed_lines_show(log: AuditLog, attack: str, named: str) -> None:
    """A line that was changed, taken out, moved or put in: the error names the first that does not fit."""
    fill(log, 6)
    lines = log.path.read_bytes().splitlines(keepends=True)
    if attack == "change":
        lines[2] = lines[2].replace(b'"n": 2', b'"n": 9')
    elif attack == "garble":
        lines[2] = b"x" + lines[2]
    elif attack == "remove":
        del lines[2]
    elif attack == "swap":
        lines[2], lines[3] = lines[3], lines[2]
    elif attack == "first":
        lines[0] = lines[0].replace(b'"prev": "00', b'"prev": "11')
    else:
        lines.insert(2, lines[1])
    log.path.write_bytes(b"".join(lines))

    with pytest.raises(AuditDamaged, match=named):
        log.verify()


def test_half_a_line_is_passed_over(log: AuditLog) -> None:
    """Of a write that was cut short; what comes later is whole and tied to the last whole one."""
    fill(log, 3)
    whole = log.path.read_bytes()
    for cut in (1, 30, len(whole.splitlines()[-1])):
        log.path.write_bytes(whole[:-cut])
        log.append("later", fork=None, details={})
        assert log.verify() == (4 if cut == 1 else 3)  # a line that lacks its end alone is whole
        assert log.read()[0].event == "later"


def test_a_full_file_is_put_aside(tmp_path: Path) -> None:
    """The chain goes on over files, and no line goes; older vaults numbered the files from the newest."""
    log = AuditLog(tmp_path, max_file_bytes=2000)
    fill(log, 30)
    one, two = (tmp_path / f"audit.{number}.ndjson" for number in (1, 2))
    one.rename(tmp_path / "away")
    two.rename(one)
    (tmp_path / "away").rename(two)
    fill(log, 70)

    files = list(tmp_path.glob("audit*.ndjson"))
    assert len(files) > 5
    assert all(path.stat().st_size < 2600 for path in files)
    assert [entry.seq for entry in log.read()] == list(range(100, 0, -1))
    assert log.verify() == 100


def test_dying_between_two_files_breaks_no_chain(tmp_path: Path) -> None:
    """The file was put aside, and the next never begun."""
    log = AuditLog(tmp_path)
    fill(log, 3)
    log.path.rename(tmp_path / "audit.1.ndjson")
    fill(log, 1)

    assert [entry.seq for entry in log.read()] == [4, 3, 2, 1]
    assert log.verify() == 4


_KILLED = """
import os, signal, sys
from pathlib import Path
from avfs_git.workspace.vault.log import audit
def write_half(fd, data):
    os.write(fd, data[: len(data) // 2])
    os.kill(os.getpid(), signal.SIGKILL)
audit.write_all = write_half
audit.AuditLog(Path(sys.argv[1])).append("killed", fork=None, details={})
"""


def test_a_kill_in_the_middle_of_a_line(log: AuditLog) -> None:
    """The half line is passed over, and the chain goes on from the last whole one."""
    fill(log, 2)
    assert (
        subprocess.run([sys.executable, "-c", _KILLED, str(log.path.parent)], check=False).returncode == -signal.SIGKILL
    )
    assert not log.path.read_bytes().endswith(b"\n")
    fill(log, 1)

    assert [entry.event for entry in log.read()] == ["test"] * 3
    assert log.verify() == 3


def test_threads_and_logs_at_once(tmp_path: Path) -> None:
    """Lines of many writers stand one after the other."""

    def write(number: int) -> None:
        AuditLog(tmp_path, max_file_bytes=20_000).append("test", fork=str(number), details={"text": "x" * 300})

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(write, range(120)))

    assert AuditLog(tmp_path).verify() == 120
    assert {entry.fork for entry in AuditLog(tmp_path).read()} == {str(number) for number in range(120)}


_WRITER = """
import sys
import time
from pathlib import Path
from avfs_git.workspace.vault.log.audit import AuditLog
for number in range(50):
    AuditLog(Path(sys.argv[1])).append("test", fork=sys.argv[2], details={"n": number})
"""


def test_processes_at_once(tmp_path: Path) -> None:
    """The same with processes."""
    writers = [subprocess.Popen([sys.executable, "-c", _WRITER, str(tmp_path), str(number)]) for number in range(3)]

    assert [writer.wait(timeout=60) for writer in writers] == [0, 0, 0]
    assert AuditLog(tmp_path).verify() == 150


def test_what_cannot_be_written_is_an_error(log: AuditLog) -> None:
    """The caller must know: a command that is not recorded does not run."""
    fill(log, 1)
    faults.arm(FailAt(1, lambda: OSError(28, "full")))

    with pytest.raises(HostError):
        log.append("test", fork=None, details={})
    faults.arm(None)
    assert log.verify() == 1


def test_operations_get_a_line_each(tmp_path: Path) -> None:
    """When they have happened.

    After the death of its process, an operation gets its line from the next reader, once.
    """
    audit = AuditLog(tmp_path)
    log = OpLog(tmp_path / "oplog", lambda _: oid_of("22" * 20), audit=audit)
    log.append(OpRecord(0, "main", "checkpoint", "save", 1, before="11" * 20))
    withdrawn = log.announce(OpRecord(0, "main", "merge", "merge", 1, [("refs/heads/main", "22" * 20, "33" * 20)]))
    withdrawn.close(happened=False)
    died = log.announce(OpRecord(0, "main", "undo", "undo", 1, [("refs/heads/main", "11" * 20, "22" * 20)]))
    died.close(happened=None)
    assert [entry.event for entry in audit.read()] == ["checkpoint"]

    for _ in range(2):
        audit.note_missing(log.read(), 10**12)
        assert [(entry.event, entry.details["operation"]) for entry in audit.read()] == [("undo", 3), ("checkpoint", 1)]
    assert audit.verify() == 2


def test_an_operation_does_not_fail_with_its_line(log: AuditLog) -> None:
    """The operation log has it, and the audit log gets it later."""
    log.path.mkdir(parents=True)
    operations = OpLog(log.path.parent / "oplog", lambda _: None, audit=log)

    assert operations.append(OpRecord(0, "main", "checkpoint", "save", 1)).id == 1


@pytest.mark.parametrize("number", [errno.EROFS, errno.EACCES])
def test_a_log_that_can_only_be_read_is_checked(log: AuditLog, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    """No lock can be made there; a changed line shows all the same."""
    fill(log, 3)

    def refuse(*_: object) -> int:
        raise OSError(number, "refused")

    monkeypatch.setattr("avfs_git.workspace.vault.log.audit.open_file", refuse)
    assert log.verify() == 3
    log.path.write_bytes(log.path.read_bytes().replace(b'"seq": 2', b'"seq": 7', 1))
    with pytest.raises(AuditDamaged):
        log.verify()


def test_a_refused_operation_has_a_line(tmp_path: Path) -> None:
    """With the code of the error, once for each call; a look, a dry run and a call on a file have none."""
    with Avfs(tmp_path / "home") as home:
        vault = home.create_vault("v")
        work = vault.workspace()
        work.write("a", b"1")
        work.checkpoint("one")
        refused: list[Callable[[], object]] = [
            lambda: vault.fork("a b"),
            lambda: vault.delete_fork("none"),
            lambda: work.checkpoint("HEAD"),
            lambda: work.restore("none"),
            lambda: work.merge("none"),
            lambda: vault.push(["main"]),
        ]
        codes = []
        for call in refused:
            with pytest.raises(AvfsError) as error:
                call()
            codes.append(error.value.code)
        for look in (lambda: work.restore("none", dry_run=True), lambda: work.read("none"), lambda: work.diff("none")):
            with pytest.raises(AvfsError):
                look()
        entries = vault.policy.audit(outcomes=["refused"])
        assert [entry.details["refused"] for entry in reversed(entries)] == codes
        kinds = ["fork_create", "fork_delete", "checkpoint", "restore", "merge", "push"]
        assert [entry.event for entry in reversed(entries)] == kinds
        assert [entry.fork for entry in reversed(entries)] == [None, "none", "main", "main", "main", "main"]
        assert vault.policy.verify_audit() > len(entries)


def test_what_left_the_vault_has_a_line(tmp_path: Path) -> None:
    """A line for each fork that was pushed or applied; none where all was there already, and none for a dry run."""
    place, server = tmp_path / "place", tmp_path / "server.git"
    place.mkdir()
    subprocess.run(["git", "init", "--quiet", "--bare", server], check=True)
    with Avfs(tmp_path / "home") as home:
        vault = home.create_vault("v")
        vault.add_remote("origin", str(server))
        for name in ("main", "other"):
            work = vault.workspace(name) if name == "main" else vault.fork(name)
            work.write(name, b"1")
            work.checkpoint("one")
        for _ in range(2):
            vault.push(["main", "other"])
            vault.apply("other", place, dry_run=True)
            vault.apply("other", place)
        entries = vault.policy.audit(events=["push", "apply"])
        told = [(entry.fork, entry.event, entry.outcome, entry.details["text"]) for entry in reversed(entries)]
        assert told == [
            ("main", "push", "done", "push main to origin"),
            ("other", "push", "done", "push other to origin"),
            ("other", "apply", "done", f"apply to {place}"),
        ]
        assert entries[-1].details["new"] == vault.workspace("main").list_checkpoints()[0].id

        # What the server took of a push that it rejected is no refusal.
        vault.workspace("other").undo()
        vault.workspace("other").write("theirs", b"2")
        vault.workspace("other").checkpoint("two")
        vault.workspace("main").write("more", b"2")
        vault.workspace("main").checkpoint("two")
        with pytest.raises(PushRejected):
            vault.push(["main", "other"])
        with pytest.raises(AvfsError):
            vault.redo(fork="other")
        entries = vault.policy.audit(events=["push", "redo"], limit=3)
        assert [(entry.fork, entry.event, entry.outcome) for entry in reversed(entries)] == [
            ("main", "push", "done"),
            ("other", "push", "refused"),
            ("other", "redo", "refused"),
        ]


def _time_of(log: AuditLog, seq: int) -> int:
    return next(entry.at_ns for entry in log.read() if entry.seq == seq)


def _spread(log: AuditLog, count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Write events a second apart, the first of the second 1."""
    seconds = iter(range(1, 10**6))
    monkeypatch.setattr("avfs_git.workspace.vault.log.audit.time.time_ns", lambda: next(seconds) * 10**9)
    fill(log, count)


def test_released_lines_are_named_and_the_rest_is_checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whole files and the lines of one go.

    The log still tells of each change of what is left, and of further missing lines.
    """
    log = AuditLog(tmp_path, max_file_bytes=2000)
    _spread(log, 100, monkeypatch)
    assert log.find_release() is None
    planned = log.release(43 * 10**9, dry_run=True)
    assert planned is not None
    assert log.verify() == 100
    done = log.release(43 * 10**9)
    assert done is not None
    assert done.details == planned.details
    assert (done.details["first"], done.details["last"], done.details["lines"]) == (1, 42, 42)
    assert [entry.seq for entry in log.read()] == list(range(101, 42, -1))
    assert log.verify() == 59
    assert log.release(43 * 10**9) is None

    fill(log, 30)
    again = log.release(61 * 10**9)
    assert again is not None
    assert (again.details["first"], again.details["last"]) == (43, 60)
    assert log.verify() == log.read()[0].seq - 60
    assert log.find_release() == again
    oldest = min(tmp_path.glob("audit.*.ndjson"), key=lambda path: json.loads(path.read_bytes().splitlines()[0])["seq"])
    whole = oldest.read_bytes()
    first, rest = whole.split(b"\n", 1)
    oldest.write_bytes(first.replace(b'"prev": "', b'"prev": "0') + b"\n" + rest)
    with pytest.raises(AuditDamaged):
        log.verify()
    oldest.write_bytes(rest)
    with pytest.raises(AuditDamaged, match="lines 61 to 61 are gone"):
        log.verify()
    oldest.write_bytes(whole)
    oldest.write_bytes(whole.replace(b'"n": 63', b'"n": 99'))
    with pytest.raises(AuditDamaged):
        log.release(80 * 10**9)  # what was changed stays to be seen


def test_missing_lines_that_nobody_released(tmp_path: Path) -> None:
    """A file that was taken away is damage, until a release says so."""
    log = AuditLog(tmp_path, max_file_bytes=2000)
    fill(log, 30)
    (tmp_path / "audit.1.ndjson").unlink()
    with pytest.raises(AuditDamaged, match="are gone, and were not released"):
        log.verify()
    log.release(log.read()[0].at_ns)
    assert log.verify() > 0


def test_a_release_leaves_what_is_newer(log: AuditLog, monkeypatch: pytest.MonkeyPatch) -> None:
    """All can go; a release alone is not released again; numbers go on."""
    _spread(log, 5, monkeypatch)
    assert log.release(10**9) is None
    released = log.release(10**18)
    assert released is not None
    assert released.details["last"] == 5
    assert log.release(10**18) is None
    assert (log.verify(), [entry.seq for entry in log.read()]) == (1, [6])
    assert log.path.stat().st_mode & 0o077 == 0
    fill(log, 2)
    assert [entry.seq for entry in log.read()] == [8, 7, 6]
    assert log.verify() == 3
    assert log.find_oldest_ns() == _time_of(log, 7)


def test_a_kill_in_a_release(tmp_path: Path) -> None:
    """At each point the log is whole or says what was released, and other writers go on.

    The next release completes it.
    """
    for point in range(1, 100):
        place = tmp_path / str(point)
        log = AuditLog(place, max_file_bytes=1000)
        fill(log, 20)
        before_ns = _time_of(log, 15)
        is_killed = die_in(partial(log.release, before_ns), point)
        log.verify()
        fill(log, 1)
        log.verify()
        log.release(before_ns)
        assert min(entry.seq for entry in log.read()) >= 15 - 5  # of lines within one tick of the clock some may stay
        released = log.find_release()
        assert released is not None
        assert log.verify() == log.read()[0].seq - int(str(released.details["last"]))
        if not is_killed:
            break
    assert point > 8


def test_writers_and_readers_beside_releases(tmp_path: Path) -> None:
    """No line is lost but the released ones.

    A reader meets each line at most once, and no gap between those it meets.
    """
    log = AuditLog(tmp_path, max_file_bytes=1500)

    def release() -> None:
        for _ in range(10):
            log.release(log.read(limit=1)[0].at_ns if log.read(limit=1) else 0)
            seen = [entry.seq for entry in log.read()]
            assert seen == sorted(set(seen), reverse=True)

    with ThreadPoolExecutor(4) as pool:
        for done in [
            pool.submit(fill, log, 60),
            pool.submit(fill, log, 60),
            pool.submit(release),
            pool.submit(release),
        ]:
            done.result()
    seen = [entry.seq for entry in log.read()]
    released = log.find_release()
    assert seen == list(range(seen[0], int(str(released.details["last"])) if released is not None else 0, -1))
    assert log.verify() == len(seen)


def test_following_goes_on_over_full_files_and_releases(tmp_path: Path) -> None:
    """A follower that has read what goes gets each later line once."""
    with Avfs(tmp_path / "home") as avfs:
        vault = avfs.create_vault("v")
        log = AuditLog(vault.path / "avfs", max_file_bytes=1000)
        fill(log, 5)
        heard = vault.policy.follow_audit(last=99, events=["test"])
        assert [next(heard).details["n"] for _ in range(5)] == [0, 1, 2, 3, 4]
        for number in range(3):
            fill(log, 10)
            assert [next(heard).details["n"] for _ in range(10)] == list(range(10)), number
            assert vault.policy.release_audit(keep_days=0) is not None
        assert vault.policy.verify_audit() < 10
        assert vault.policy.last_release() is not None


def test_maintenance_releases_only_what_the_setting_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By default nothing."""
    with Avfs(tmp_path / "home") as avfs:
        vault = avfs.create_vault("v")
        fill(AuditLog(vault.path / "avfs"), 5)
        now_ns = time.time_ns() + 40 * 86_400 * 10**9
        monkeypatch.setattr("avfs_git.workspace.vault.log.audit.time.time_ns", lambda: now_ns)
        fill(AuditLog(vault.path / "avfs"), 5)
        lines = vault.policy.verify_audit()
        vault.maintain(every_step=True)
        assert vault.policy.verify_audit() == lines
        vault.set_config("audit.keep_days", "20")
        done = {step.name: step.handled for step in vault.maintain(every_step=True).steps if step.is_due}
        assert done["audit"] == lines - 5
        assert vault.policy.verify_audit() == 6


def test_lines_of_file_events_go_earlier(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are a log of their own, with a setting of its own."""
    with Avfs(tmp_path / "home") as avfs:
        vault = avfs.create_vault("v")
        fill(AuditLog(vault.path / "avfs", "audit-files"), 5)
        vault.set_config("audit.files_keep_days", "20")
        now_ns = time.time_ns() + 40 * 86_400 * 10**9
        monkeypatch.setattr("avfs_git.workspace.vault.log.audit.time.time_ns", lambda: now_ns)
        lines = vault.policy.verify_audit()
        assert {step.name: step.handled for step in vault.maintain(every_step=True).steps}["audit"] == 5
        assert (vault.policy.verify_audit(), vault.policy.verify_audit(files=True)) == (lines, 1)
