"""Undo, redo and the operation log."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from avfs_git import faults
from avfs_git.errors import CannotUndo, NothingToUndo
from avfs_git.gitstore.refs.refs import RefChange
from avfs_git.model import UndoResult
from avfs_git.paths import Oid
from avfs_git.sdk import Avfs, Vault, Workspace
from avfs_git.workspace.history import asleft
from tests.support.failing import armed
from tests.support.faults import git
from tests.support.trees import describe_tree

pytestmark = pytest.mark.needs("whiteout", "user-xattrs")


def test_undo_of_a_checkpoint_leaves_files(work: Workspace) -> None:
    """The branch goes back and the files stay, uncommitted; the next checkpoint holds them again."""
    work.write("a", b"1")
    first = work.checkpoint("c1").checkpoint
    work.write("a", b"2")
    work.checkpoint("c2")
    work.undo()
    assert first is not None
    assert work.checkpoint_details("HEAD").checkpoint.id == first.id
    assert work.read("a") == b"2"
    assert [change.path for change in work.status().changed_files] == [b"a"]
    assert work.checkpoint("again").outcome == "created"
    with pytest.raises(NothingToUndo):
        work.redo()


def test_undo_takes_the_label_back(work: Workspace) -> None:
    """A label goes with its checkpoint, and comes back with it."""
    work.write("a", b"1")
    work.checkpoint("c1")
    work.undo()
    assert work.list_checkpoints() == []
    assert not work.status().clean
    work.redo()
    assert [point.labels for point in work.list_checkpoints()] == [("c1",)]
    assert work.status().clean


def test_undo_all_the_way_and_back(work: Workspace) -> None:
    """Every state is passed again, in both directions, any number of times."""
    states: list[tuple[object, object]] = []

    def look() -> tuple[object, object]:
        return work.log() and work.log()[0].checkpoint.id, work.exists("a") and work.read("a")

    for number in range(4):
        work.write("a", b"%d" % number)
        work.write("x.log", b"%d" % number)
        work.checkpoint()
    work.restore("HEAD~3")
    work.restore("HEAD~2")
    for _ in range(2):
        states.clear()
        undone = 0
        while True:
            states.append(look())
            try:
                work.undo()
            except NothingToUndo:
                break
            undone += 1
        assert undone == 4 * 2 + 2  # what each checkpoint saves is an operation of its own
        assert states[-1] == ([], False)
        for state in reversed(states[:-1]):
            work.redo()
            assert look() == state
    assert [operation.kind for operation in work.operations(limit=3)] == ["redo", "redo", "redo"]


def test_undo_after_a_restore_takes_back_what_was_written_since(work: Workspace) -> None:
    """What was written since goes first, kept as a commit that the result names; then the restore goes."""
    work.write("a", b"1")
    work.checkpoint("c1")
    work.write("a", b"2")
    work.checkpoint("c2")
    work.restore("c1")
    work.write("b", b"since")
    result = work.undo()
    assert (work.read("a"), work.exists("b")) == (b"1", False)
    assert result.saved is not None
    assert b"".join(work.open_read("b", at=result.saved)) == b"since"
    work.undo()
    assert work.read("a") == b"2"
    assert work.status().clean


def test_a_branch_moved_by_other_hands_is_not_undone(work: Workspace) -> None:
    """Undo refuses where the branch is no longer where the operation left it; nothing changes."""
    for number in range(3):
        work.write("a", b"%d" % number)
        work.checkpoint()
    core = work.vault._core
    head = core.read_head("main")
    earlier = Oid(bytes.fromhex(work.checkpoint_details("HEAD~2").checkpoint.id))
    core.refs.update([RefChange("refs/heads/main", head, earlier)])
    before = describe_tree(work._opened.read_view(), times=True)
    with pytest.raises(CannotUndo):
        work.undo()
    assert describe_tree(work._opened.read_view(), times=True) == before
    assert core.read_head("main") == earlier


def test_forks_have_histories_of_their_own(vault: Vault, work: Workspace) -> None:
    """Undo in one fork leaves the others alone; for the vault it takes back the last operation of any."""
    work.write("a", b"1")
    work.checkpoint()
    other = vault.fork("other")
    other.write("a", b"2")
    other.checkpoint()
    work.write("a", b"3")
    work.checkpoint()
    other.undo()
    assert len(work.log()) == 2
    assert len(other.log()) == 1
    vault.undo()
    assert len(work.log()) == 1
    assert {operation.fork for operation in other.operations()} == {"other"}


def test_deleted_fork_comes_back_with_everything(vault: Vault, work: Workspace) -> None:
    """Commits, labels, uncommitted and ignored files of a deleted fork come back with undo, and go again with redo."""
    work.write(".gitignore", b"*.log\n")
    work.checkpoint()
    other = vault.fork("other")
    other.write("x.log", b"ignored")
    other.checkpoint("kept")
    other.write("new", b"uncommitted")
    before = describe_tree(other._opened.read_view(), times=True)
    vault.delete_fork("other")
    assert [fork.name for fork in vault.list_forks()] == ["main"]
    vault.undo()
    back = vault.workspace("other")
    assert describe_tree(back._opened.read_view(), times=True) == before
    assert [point.labels for point in back.list_checkpoints(limit=1)] == [("kept",)]
    assert [change.path for change in back.status().changed_files] == [b"new"]
    vault.redo()
    assert [fork.name for fork in vault.list_forks()] == ["main"]
    vault.undo()
    assert vault.workspace("other").read("new") == b"uncommitted"


def test_a_restored_fork_was_made_where_it_was_made(vault: Vault, work: Workspace) -> None:
    """The log tells it also when work in the fork has followed, so that the deletion can no longer be redone."""
    vault.fork("other")
    made = vault._core.oplog.find_making("other")
    assert made is not None
    vault.delete_fork("other")
    assert vault._core.oplog.find_making("other") is None
    vault.undo()
    assert vault._core.oplog.find_making("other") == made
    vault.workspace("other").write("new", b"work")
    assert vault._core.oplog.find_making("other") == made


def test_another_fork_with_unsaved_work_is_not_undone(home: Avfs, vault: Vault, work: Workspace) -> None:
    """A user's writes to a fork keep undo elsewhere away from it before anything is recorded.

    The fork's own operation comes next.
    """
    work.write("a", b"1")
    work.checkpoint("c1")
    other = vault.fork("other")
    other.write("kept", b"acknowledged")
    with Avfs(home.home) as elsewhere:
        done = elsewhere.open_vault("v").undo(fork="main")
    assert (done.operation.fork, done.operation.kind) == ("main", "checkpoint")
    other.write("later", b"goes on")
    assert (other.read("kept"), other.read("later")) == (b"acknowledged", b"goes on")


def test_another_fork_that_git_moved_does_not_block_undo(vault: Vault, work: Workspace) -> None:
    """A push to another fork's branch is in no log: undo takes back the fork's own operation, and leaves the other."""
    work.write("a", b"1")
    work.checkpoint("c1")
    head = vault._core.read_head("main")
    work.write("a", b"2")
    work.checkpoint("c2")
    vault.fork("other")
    vault._core.refs.update([RefChange("refs/heads/other", vault._core.read_head("other"), head)])
    done = vault.undo(fork="main")
    assert (done.operation.fork, done.operation.kind) == ("main", "checkpoint")
    assert vault._core.read_head("other") == head


def test_another_fork_that_nobody_used_is_undone(vault: Vault, work: Workspace) -> None:
    """Looking at a fork is no use of it: its making is taken back, and done again."""
    work.write("a", b"1")
    work.checkpoint("c1")
    assert vault.fork("other").read("a") == b"1"
    assert vault.undo(fork="main").operation.fork == "other"
    assert not vault.has_fork("other")
    vault.redo(fork="main")
    assert vault.workspace("other").read("a") == b"1"


def test_deletion_of_a_fork_that_was_used_since_is_not_done_again(home: Avfs, vault: Vault, work: Workspace) -> None:
    """Unsaved work in a fork that undo brought back keeps redo from it, wherever redo is called."""
    work.write("a", b"1")
    work.checkpoint("c1")
    vault.fork("other").write("before", b"uncommitted")
    vault.delete_fork("other", by="main")
    vault.undo(fork="main")
    other = vault.workspace("other")
    other.write("since", b"acknowledged")
    with Avfs(home.home) as elsewhere:
        for fork in ("main", "other", None):
            with pytest.raises(NothingToUndo):
                elsewhere.open_vault("v").redo(fork=fork)
    other.write("later", b"goes on")
    assert [other.read(name) for name in ("before", "since", "later")] == [b"uncommitted", b"acknowledged", b"goes on"]


def test_deletion_of_a_fork_that_was_only_looked_at_is_done_again(home: Avfs, vault: Vault, work: Workspace) -> None:
    """Reading is no use of a fork, whether or not everything in it was saved, and whether or not it was ever opened."""
    work.write("a", b"1")
    work.checkpoint("c1")
    vault.fork("unsaved").write("a", b"uncommitted")
    saved = vault.fork("saved")
    saved.write("a", b"2")
    saved.checkpoint("c2")
    vault.fork("unopened")
    for name in ("unsaved", "saved", "unopened"):
        vault.delete_fork(name, by="main")
        vault.undo(fork="main")
        with Avfs(home.home) as elsewhere:
            there = elsewhere.open_vault("v").workspace(name)
            there.status()
            assert there.read("a")
        vault.redo(fork="main")
        assert not vault.has_fork(name)
        vault.undo(fork="main")


def test_fork_in_which_another_process_writes_meanwhile_is_not_undone(
    home: Avfs, vault: Vault, work: Workspace
) -> None:
    """Undo of the making of the fork at hand finds a write that no log has yet: the fork stays."""
    work.write("a", b"1")
    work.checkpoint("c1")
    other = vault.fork("other")
    with Avfs(home.home) as elsewhere:  # until it closes, its file calls are in no log

        def write(point: str) -> None:
            if point == "undo.found":
                faults.arm(None)
                elsewhere.open_vault("v").workspace("other").write("kept", b"acknowledged")

        with armed(write), pytest.raises(CannotUndo, match="works in 'other'"):
            vault.undo(fork="other")
    assert other.read("kept") == b"acknowledged"
    other.undo()
    assert vault.undo(fork="other").operation.kind == "fork_create"


def test_redo_deletes_no_fork_after_another_boot(
    vault: Vault, work: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A power cut may have taken the counters that tell whether anything was written there since."""
    work.write("file", b"1")
    work.checkpoint()
    vault.fork("task")
    vault.delete_fork("task", by="main")
    vault.undo(fork="main")
    with monkeypatch.context() as patched:
        patched.setattr(asleft, "read_boot_id", lambda: "another")
        with pytest.raises(NothingToUndo):
            vault.redo(fork="main")
    assert vault.has_fork("task")
    vault.redo(fork="main")
    assert not vault.has_fork("task")


def test_the_doctor_tells_of_a_damaged_line_of_the_log(vault: Vault, work: Workspace) -> None:
    """What a crash left of a line is no damage: it was never acknowledged."""
    for text in (b"1", b"2", b"3"):
        work.write("file", text)
        work.checkpoint()
    log = vault.path / "avfs" / "oplog"
    lines = log.read_bytes().splitlines(keepends=True)
    log.write_bytes(b"".join([*lines[:2], lines[2][:40] + b"\n", *lines[2:]]))
    assert "log.damaged" not in [problem.code for problem in vault.doctor().problems]
    log.write_bytes(b"".join([*lines[:2], lines[2].replace(b'"kind"', b'"kinf"'), *lines[3:]]))
    assert [problem.code for problem in vault.doctor().problems if problem.is_left] == ["log.damaged"]


@pytest.mark.parametrize("left", [None, b"", bytes(4096)])
def test_the_doctor_tells_of_a_log_that_is_lost(vault: Vault, work: Workspace, left: bytes | None) -> None:
    """A vault in which something was saved has had one."""
    log = vault.path / "avfs" / "oplog"
    work.write("file", b"1")
    work.checkpoint("one")
    log.unlink()
    if left is not None:
        log.write_bytes(left)
    problems = vault.doctor().problems

    assert [(problem.code, problem.severity) for problem in problems] == [("log.damaged", "error")]


@pytest.mark.parametrize("goes_on", [False, True])
@pytest.mark.parametrize("way", ["older", "cut"])
def test_the_doctor_tells_of_a_log_that_lacks_its_end(
    vault: Vault, work: Workspace, way: str, *, goes_on: bool
) -> None:
    """The audit log has the numbers of the operations that the log has no more."""
    log = vault.path / "avfs" / "oplog"
    work.write("file", b"1")
    work.checkpoint("one")
    older = log.read_bytes()
    for label in ("two", "three", "four"):
        work.write("file", label.encode())
        work.checkpoint(label)
    assert vault.doctor().healthy
    if way == "older":
        log.write_bytes(older)
    else:
        os.truncate(log, len(older))
    if goes_on:
        work.write("file", b"5")
        work.checkpoint("five")

    told = [problem for problem in vault.doctor().problems if problem.code == "log.cut_short"]

    assert [(problem.severity, problem.fixable) for problem in told] == [("warning", False)]
    assert f"ends with operation {vault.operations(limit=1)[0].id}" in told[0].description


def test_a_deleted_fork_whose_name_is_taken_says_so(vault: Vault, work: Workspace) -> None:
    """A branch that git made has the fork's name, or one below it: undo names it, and what can be done is true."""
    work.write("a", b"1")
    head = work.checkpoint("c1").checkpoint
    assert head is not None
    vault.fork("task").write("unsaved", b"2")
    vault.delete_fork("task", by="main")
    below = RefChange("refs/heads/task/below", None, Oid(bytes.fromhex(head.id)))
    vault._core.refs.update([below])
    with pytest.raises(CannotUndo, match="another branch 'task/below'") as refused:
        vault.undo(fork="task")
    assert "branch -m task/below NAME" in (refused.value.hint or "")
    vault._core.refs.update([RefChange(below.name, below.new, None)])
    vault.undo(fork="task")
    assert vault.workspace("task").read("unsaved") == b"2"

    vault.delete_fork("task", by="main")
    vault._core.refs.update([RefChange("refs/heads/task", None, below.new)])
    with pytest.raises(CannotUndo, match="another branch 'task'") as refused:
        vault.undo(fork="task")
    hint = refused.value.hint or ""
    assert f"--at {head.id[:12]}" in hint
    assert (Path(hint.rsplit("'", 2)[1]) / "unsaved").read_bytes() == b"2"


def test_deleted_label_comes_back(work: Workspace) -> None:
    """Taking a label away is an operation like any other."""
    work.write("a", b"1")
    work.checkpoint("c1")
    work.delete_checkpoint("c1")
    assert [point.labels for point in work.list_checkpoints()] == [()]
    work.undo()
    assert [point.labels for point in work.list_checkpoints()] == [("c1",)]


def test_labelled_checkpoint_off_the_branch_is_still_listed(work: Workspace) -> None:
    """A label whose commit left the branch can be listed and restored."""
    work.write("a", b"1")
    work.checkpoint("c1")
    work.write("a", b"2")
    work.checkpoint()
    work.checkpoint("late")  # a label for the head, which stays when the head goes
    work.restore("c1")
    assert {label for point in work.list_checkpoints() for label in point.labels} == {"c1", "late"}
    work.restore("late")
    assert work.read("a") == b"2"


def test_log_survives_a_torn_line(vault: Vault, work: Workspace) -> None:
    """A line that a power cut tore is passed over, and the next operation does not go with it."""
    work.write("a", b"1")
    work.checkpoint("c1")
    with vault._core.layout.oplog.open("ab") as file:
        file.write(b'00000000 {"id": 7, "fo')
    work.write("a", b"2")
    work.checkpoint("c2")
    done = [operation.description for operation in work.operations(limit=3)]
    assert done == ["checkpoint c2", "change 'a'", "checkpoint c1"]
    for _ in range(3):
        work.undo()
    assert work.log() == []


def test_deletion_of_a_fork_whose_name_is_taken_again_is_passed_over(vault: Vault, work: Workspace) -> None:
    """Undo goes on with what comes before, and leaves the new fork, also where it is as the old one was made."""
    work.write("a", b"1")
    work.checkpoint("c1")
    vault.fork("x", source="main")
    vault.delete_fork("x", by="main")
    vault.fork("x", source="main").write("w", b"own")

    assert "c1" in work.undo().operation.description
    assert vault.has_fork("x")


def _make_branch(vault: Vault, name: str) -> None:
    """Make a branch as git does: the log of operations does not know it."""
    vault._core.refs.update([RefChange("refs/heads/" + name, None, vault._core.read_head("main"))])


@pytest.mark.parametrize("is_plan", [False, True])
def test_a_branch_of_git_in_the_way_of_a_deleted_fork_is_no_reason_to_undo_something_else(
    vault: Vault, work: Workspace, *, is_plan: bool
) -> None:
    """Undo names the branch, and brings the fork back as soon as that has another name."""
    work.write("a", b"1")
    work.checkpoint("c1")
    vault.fork("x", source="main").write("unsaved", b"2")
    vault.delete_fork("x", by="main")
    _make_branch(vault, "x")
    before = vault.operations()
    turns: list[Callable[[], UndoResult]] = [
        lambda: work.undo(dry_run=is_plan),
        lambda: vault.undo(dry_run=is_plan),
        lambda: vault.undo(fork="main", dry_run=is_plan),
    ]
    for turn in turns:
        with pytest.raises(CannotUndo, match="another branch 'x'") as caught:
            turn()
        assert "branch -m x NAME" in str(caught.value.hint)
    assert vault.operations() == before
    assert work.read("a") == b"1"

    git(vault._core.git_dir, "branch", "-m", "x", "y")
    assert work.undo().operation.kind == "fork_delete"
    assert vault.workspace("x").read("unsaved") == b"2"


def test_a_branch_of_git_in_the_way_that_is_in_use_gets_no_advice_that_loses_it(vault: Vault, work: Workspace) -> None:
    """Undo would bring that one back: what is said then makes a fork of the deleted one's commit."""
    work.write("a", b"1")
    work.checkpoint("c1")
    vault.fork("x", source="main")
    vault.delete_fork("x", by="main")
    _make_branch(vault, "x")
    assert vault.workspace("x").read("a") == b"1"
    with pytest.raises(CannotUndo, match="another branch 'x'") as caught:
        work.undo()
    assert "branch -m" not in str(caught.value.hint)
    assert "fork create NAME --at" in str(caught.value.hint)


def test_a_branch_of_git_in_the_way_of_a_renamed_fork_is_no_reason_to_undo_something_else(
    vault: Vault, work: Workspace
) -> None:
    """Undo of a rename names the branch as well."""
    work.write("a", b"1")
    work.checkpoint("c1")
    vault.fork("x", source="main")
    vault.rename_fork("x", "y", by="main")
    _make_branch(vault, "x")
    with pytest.raises(CannotUndo, match="another fork 'x'") as caught:
        work.undo()
    hint = caught.value.hint or ""
    assert "fork rename x NAME`, then `avfs --vault v undo --fork y`" in hint
    assert [point.labels for point in work.list_checkpoints()] == [("c1",)]
    vault.rename_fork("x", "z", by="main")
    vault.undo(fork="y")
    assert [info.name for info in vault.list_forks()] == ["main", "x", "z"]


def test_a_fork_whose_branch_is_there_already_is_not_made_again(vault: Vault, work: Workspace) -> None:
    """Redo refuses what it would only say, and names the commit of the branch that it cannot make."""
    work.write("a", b"1")
    work.checkpoint("c1")
    head = vault._core.read_head("main")
    assert head is not None
    vault.fork("x", source="main")
    work.undo()
    vault._core.refs.update([RefChange("refs/heads/x", None, head)])
    before = vault.operations()
    with pytest.raises(CannotUndo, match="another branch 'x'") as caught:
        work.redo()
    assert f"--at {head.hex()[:12]}`" in str(caught.value.hint)
    assert vault.operations() == before


def test_nothing_older_than_an_expired_operation_is_undone(vault: Vault, work: Workspace) -> None:
    """The last move of a branch stays in the log for what it says.

    Undo does not reach it past newer operations that are gone.
    """
    task = vault.fork("task", source="main")
    task.write("a", b"1")
    task.checkpoint("one")
    task.write("a", b"2")
    task.checkpoint("two")
    task.restore("one")
    task.write("b", b"newer")
    task.undo()
    task.redo()
    work.write("x", b"y")
    work.checkpoint()
    assert vault.gc(keep_days=0, keep_operations=1).operations > 1
    with pytest.raises(NothingToUndo):
        task.undo()
    assert task.read("b") == b"newer"
    assert vault.gc(keep_days=0, keep_operations=1).operations <= 1
