"""What git does in a live tree stands in the operation log at once, and undo takes it back."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from pathlib import Path

import pytest

from avfs_git import Avfs
from avfs_git.errors import (
    CannotUndo,
    ForkExists,
    GitUnderWay,
    GitUnmerged,
    HeadElsewhere,
    MarkedUnchanged,
    NothingToUndo,
    RefConflict,
    SparseCheckout,
    WorkspaceBusy,
)
from avfs_git.model import Warning
from avfs_git.sdk import Workspace
from tests.support.faults import check_vault, git

pytestmark = [
    pytest.mark.slow,
    pytest.mark.needs("fuse", "git", "user-xattrs", "whiteout"),
    pytest.mark.usefixtures("person"),
]


def git_in(tree: Path, *arguments: str) -> str:
    """Run git in a live tree; it must succeed."""
    who = ("-c", "user.name=A", "-c", "user.email=a@b")
    return subprocess.run(["git", *who, *arguments], cwd=tree, check=True, capture_output=True, text=True).stdout


class Others:
    """People who push to the branch that a live tree shows: git refuses that, but for `update-ref` in the vault."""

    def __init__(self, vault: Path, clone: Path) -> None:
        self.vault, self.clone = vault, clone
        git_in(vault, "clone", "-q", str(vault), str(clone))

    def push(self, name: str, data: bytes | None) -> None:
        """Put a commit with a file onto the branch, or without it."""
        git_in(self.clone, "fetch", "-q", "origin")
        git_in(self.clone, "reset", "-q", "--hard", "origin/main")
        (self.clone / name).unlink() if data is None else (self.clone / name).write_bytes(data)
        self._commit()
        git_in(self.clone, "push", "-q", "origin", "+HEAD:refs/heads/incoming")
        git(self.vault, "update-ref", "refs/heads/main", "refs/heads/incoming")

    def push_while_elsewhere(self) -> None:
        """Push what is new in the clone, which git takes while HEAD of the tree is not on the branch."""
        self._commit()
        git_in(self.clone, "push", "-q", "origin", "HEAD:main")

    def _commit(self) -> None:
        git_in(self.clone, "add", ".")
        git_in(self.clone, "commit", "-q", "-m", "of others")


@pytest.fixture
def mounted(mount_dir: Path, request: pytest.FixtureRequest) -> Iterator[tuple[Workspace, Path]]:
    """A fork with two checkpoints, and where it is mounted, by the backend of the parameter, if there is one."""
    with Avfs(mount_dir / "h") as avfs:
        work = avfs.create_vault("v").workspace()
        work.write("file", b"1\n")
        work.checkpoint("one")
        work.write("file", b"2\n")
        work.write("more", b"\n")
        work.checkpoint("two")
        session = work.mount(mount_dir / "tree", backend=getattr(request, "param", "auto"))
        try:
            yield work, session.path
        finally:
            session.unmount()


def stop(work: Workspace, verb: str) -> None:
    """Have a merge or cherry-pick of the fork `side` stop, because both sides have changed the file."""
    side = work.vault.fork("side", source="main")
    for each, text in ((side, b"side\n"), (work, b"main\n")):
        each.write("file", text)
        each.checkpoint("changed")
    if verb == "merge":
        work.merge("side", on_conflict="workspace")
    else:
        work.cherry_pick(["side"], on_conflict="workspace")


def part(work: Workspace, tree: Path) -> None:
    """Save an ignored file, and make the fork `side`, which has another one and is ahead."""
    (tree / ".gitignore").write_bytes(b"*.env\n")
    (tree / "x.env").write_bytes(b"main\n")
    work.checkpoint()
    side = work.vault.fork("side", source="main")
    side.write("x.env", b"side\n")
    side.write("file", b"side\n")
    side.checkpoint()


def test_the_log_has_a_commit_of_git_at_once(mounted: tuple[Workspace, Path]) -> None:
    """With the change that it has in it. The numbers stay, whatever is done next on any fork."""
    work, tree = mounted
    other = work.vault.fork("other")
    before = work.operations()
    (tree / "new").write_bytes(b"")
    git_in(tree, "add", "new")
    git_in(tree, "commit", "-q", "-m", "by git")
    listed = work.operations()

    assert [(one.kind, one.description) for one in listed[: -len(before)]] == [
        ("git", "git commit: by git"),
        ("files", "change 'new'"),
    ]
    other.write("work", b"")
    other.checkpoint()
    assert work.operations(limit=1) == listed[:1]
    assert work.vault.operation(listed[0].id).operation == listed[0]
    undone = work.undo().operation
    assert undone.description == "git commit: by git"
    assert "git commit: by git" in [one.description for one in work.operations() if one.undone]


@pytest.mark.parametrize("commits", [False, True])
def test_a_running_commands_work_stays_one_operation(mounted: tuple[Workspace, Path], commits: bool) -> None:
    """Every look at the log, and every other operation, finds nothing of the command before it ends.

    One undo takes it back.
    """
    work, tree = mounted
    vault, head, before = work.vault, work.vault.fork_info("main").head, work.operations()
    own = "git -c user.name=A -c user.email=a@example.org commit -qm own &&" if commits else ""
    script = f"touch x && git add x && {own} touch made && until test -e go; do sleep 0.02; done"
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(work.exec, "sh", "-c", script)
        try:
            while not (tree / "made").exists() and not running.done():
                time.sleep(0.02)
            planned = vault.undo(dry_run=True)
            with Avfs(vault.path.parents[1], lock_timeout_s=0.5) as hasty, hasty.open_vault("v") as seen:
                for turn in (seen.workspace("main").undo, seen.undo):
                    with pytest.raises(WorkspaceBusy, match="by a command"):
                        turn()
            with vault.fork("other") as other, vault.fork("bare", with_changes=False) as bare:
                assert [(each.exists("made"), each.exists("x")) for each in (other, bare)] == [
                    (True, True),
                    (False, commits),
                ]
            with vault.workspace("main") as beside:
                beside.write("written", b"")
            listed = vault.operations(fork="main")
        finally:
            (tree / "go").touch()
        assert running.result().exit_code == 0
    assert listed == before
    assert (planned.operation, [told.code for told in planned.warnings]) == (before[0], ["undo.command_runs"])
    assert work.undo().operation.description.startswith("exec: sh")
    assert work.vault.fork_info("main").head == head
    assert {info.path.decode() for info in work.list_dir()} == {"file", "more"}


def test_what_is_saved_beside_a_running_command_is_a_part_of_it(mounted: tuple[Workspace, Path]) -> None:
    """No operation takes the files from the command; one undo takes back its work before and after the checkpoints."""
    work, tree = mounted
    vault, head = work.vault, work.vault.fork_info("main").head
    with vault.fork("other") as other:
        other.write("theirs", b"")
        other.checkpoint()
    script = "touch first && until test -e go; do sleep 0.02; done; touch last"
    with ThreadPoolExecutor(1) as pool, vault.workspace("main") as beside:
        running = pool.submit(work.exec, "sh", "-c", script)
        try:
            while not (tree / "first").exists() and not running.done():
                time.sleep(0.02)
            with Avfs(vault.path.parents[1], lock_timeout_s=0.5) as hasty, hasty.open_vault("v") as seen:
                fork = seen.workspace("main")
                replacing = (
                    partial(fork.restore, "one"),
                    partial(fork.merge, "other"),
                    partial(fork.checkout_path, "file", at="one"),
                )
                for replace in replacing:
                    with pytest.raises(WorkspaceBusy, match="by a command"):
                        replace()
            assert [change.path for change in beside.checkpoint().changed_files] == [b"first"]
            assert beside.checkpoint("label").outcome == "unchanged"
            (tree / "second").touch()
            beside.checkpoint()
        finally:
            (tree / "go").touch()
        result = running.result()
    assert {change.path for change in result.changed_files} == {b"go", b"last"}
    assert [told.code for told in result.warnings] == ["exec.saved_beside"]
    assert len(vault.undo(dry_run=True).joined) == 3
    assert work.undo().operation.description.startswith("exec: sh")
    assert {info.path.decode() for info in work.list_dir()} == {"file", "more"}
    assert vault.fork_info("main").head == head
    work.redo()
    assert {info.path.decode() for info in work.list_dir()} == {"file", "more", "first", "second", "go", "last"}
    with vault.workspace("main") as beside:  # after the end, a checkpoint is an operation of its own
        (tree / "after").touch()
        beside.checkpoint()
        assert beside.undo().joined == ()


def test_a_merge_waits_until_a_running_command_has_recorded_its_work(mounted: tuple[Workspace, Path]) -> None:
    """As it waits for a lock: the command's operation is whole, and before the merge."""
    work, tree = mounted
    vault = work.vault
    with vault.fork("other") as other:
        other.write("theirs", b"")
        other.checkpoint()
    with ThreadPoolExecutor(2) as pool, vault.workspace("main") as beside:
        running = pool.submit(work.exec, "sh", "-c", "touch first && until test -e go; do sleep 0.02; done; touch last")
        while not (tree / "first").exists() and not running.done():
            time.sleep(0.02)
        merging = pool.submit(beside.merge, "other")
        time.sleep(0.1)  # so that it is refused at least once, mostly
        (tree / "go").touch()
        assert merging.result().outcome == "clean"
        assert {change.path for change in running.result().changed_files} == {b"first", b"go", b"last"}
    assert [one.kind for one in vault.operations(fork="main", limit=1)] == ["merge"]
    work.undo()
    assert {info.path.decode() for info in work.list_dir()} == {"file", "more", "first", "go", "last"}


def test_the_log_has_a_commit_that_git_took_back(mounted: tuple[Workspace, Path]) -> None:
    """The branch is where it was: both moves are in the log, once each, and undo brings the commit back."""
    work, tree = mounted
    taken: list[str] = []
    expected: list[str] = []
    for name in ("a", "b"):
        (tree / name).write_bytes(b"")
        git_in(tree, "add", name)
        git_in(tree, "commit", "-q", "-m", name)
        taken.append(git_in(tree, "rev-parse", "HEAD").strip())
        git_in(tree, "reset", "-q", "--hard", "HEAD~1")
        expected += [f"git commit: {name}", "git reset: moving to HEAD~1"]
        assert work.status().clean
        if name == "a":
            assert _list_of_git(work) == expected
            work.undo()
            assert work.vault.fork_info("main").head == taken[0]
            work.redo()
            assert _list_of_git(work) == expected
    git(work.vault.path, "reflog", "expire", "--expire=now", "--expire-unreachable=now", "--all")
    work.undo()
    assert _list_of_git(work) == expected[:2]  # git forgot the others before avfs looked
    git_in(tree, "commit", "-q", "--allow-empty", "-m", "c")
    git_in(tree, "commit", "-q", "--allow-empty", "-m", "d", "--amend")
    git_in(tree, "reset", "-q", "--hard", "HEAD~1")
    work.undo()
    git(work.vault.path, "reflog", "expire", "--expire=now", "--expire-unreachable=now", "--all")
    git(work.vault.path, "gc", "-q", "--prune=now")
    for move in (work.undo, work.undo, work.redo, work.redo, work.redo):
        move()
        assert git_in(tree, "cat-file", "-t", "HEAD") == "commit\n"
    assert work.vault.fork_info("main").head == taken[0]
    check_vault(work.vault)


def test_the_log_has_a_commit_that_git_makes_again_in_the_same_second(mounted: tuple[Workspace, Path]) -> None:
    """After an undo, and after a reset by git: its log has the same line twice then, and one object for the commits."""
    work, tree = mounted
    now = f"@{int(time.time())} +0000"
    commit = f"GIT_AUTHOR_DATE='{now}' GIT_COMMITTER_DATE='{now}' git -c user.name=A -c user.email=a@b commit -qam x"

    def commit_again(between: str = "true") -> str:
        subprocess.run(["sh", "-c", f"{commit} && {between}"], cwd=tree, check=True)
        return git_in(tree, "rev-parse", "HEAD")

    (tree / "file").write_bytes(b"3\n")
    made = commit_again()
    assert work.undo().operation.description == "git commit: x"
    assert commit_again() == made
    assert work.undo().operation.description == "git commit: x"
    assert commit_again(f"git reset -q --soft HEAD~ && {commit}") == made

    undone = [work.undo().operation.description for _ in range(5)]
    assert undone[0] == undone[2] == "git commit: x"
    assert undone[3:] == ["change 'file'", "checkpoint two"]


def test_the_log_has_a_commit_whose_time_the_user_gave(mounted: tuple[Workspace, Path]) -> None:
    """Git's log has that time, too, which may be older than the last operation."""
    work, tree = mounted
    (tree / "file").write_bytes(b"3\n")
    dated = f"GIT_COMMITTER_DATE='@{int(time.time()) - 86400} +0000' git -c user.name=A -c user.email=a@b commit -qam x"
    subprocess.run(["sh", "-c", dated], cwd=tree, check=True)

    assert [work.undo().operation.description for _ in range(3)] == ["git commit: x", "change 'file'", "checkpoint two"]


def _list_of_git(work: Workspace) -> list[str]:
    return [one.description for one in reversed(work.operations()) if one.kind == "git"]


def test_the_log_has_a_branch_that_git_deleted(mounted: tuple[Workspace, Path]) -> None:
    """Undo brings it back; until then nothing but the list says so."""
    work, _ = mounted
    vault = work.vault
    vault.fork("task").write("x", b"")
    git(vault.path, "branch", "-D", "task")
    for _ in range(2):
        listed = vault.operations()
        assert [(one.fork, one.description) for one in listed if one.kind == "fork_delete"] == [
            ("task", "delete fork task with git")
        ]
        assert [one.id for one in listed] == list(range(len(listed), 0, -1))
    assert vault.operations(fork="task", limit=1)[0].kind == "fork_delete"
    vault.undo(fork="task")
    assert vault.workspace("task").exists("x")
    check_vault(vault)


@pytest.mark.parametrize("away", ["checkout HEAD~1", "switch -c other HEAD~1"])
def test_undo_of_a_checkout_takes_head_back(mounted: tuple[Workspace, Path], away: str) -> None:
    """With the files, in one step; until then status says where HEAD is.

    Git finds nothing changed or staged afterwards.
    """
    work, tree = mounted
    git_in(tree, "status")
    git_in(tree, *away.split())
    assert (tree / "file").read_bytes() == b"1\n"
    assert [warning.code for warning in work.status().warnings] == ["git.head_elsewhere"]
    assert "checkout: moving from main to" in work.operations(limit=1)[0].description
    done = work.undo()

    assert done.warnings == ()
    assert (tree / "file").read_bytes() == b"2\n"
    assert git_in(tree, "symbolic-ref", "HEAD") == "refs/heads/main\n"
    assert git_in(tree, "status", "--porcelain") == ""
    assert work.status().warnings == ()
    assert [warning.code for warning in work.redo().warnings] == ["git.head_stays"]
    work.undo()
    assert git_in(tree, "status", "--porcelain") == ""


@pytest.mark.parametrize("pushed", [False, True])
def test_undo_of_a_checkout_brings_files_and_index_back(mounted: tuple[Workspace, Path], pushed: bool) -> None:
    """To what git had committed before, also where avfs sees that only afterwards: else the next commit undoes it."""
    work, tree = mounted
    others = Others(work.vault.path, tree.parent / "clone")
    if pushed:
        others.push("theirs", b"theirs\n")
    (tree / "file").write_bytes(b"mine\n")
    (tree / "made").write_bytes(b"mine\n")
    git_in(tree, "add", "file", "made")
    git_in(tree, "commit", "-q", "-m", "by git")
    git_in(tree, "switch", "-q", "-c", "other", "HEAD~1")

    work.undo()

    assert git_in(tree, "symbolic-ref", "--short", "HEAD") == "main\n"
    assert git_in(tree, "diff", "--cached", "--name-only") == ""
    if pushed:  # avfs takes nothing for its own that came after a push: the files are as it recorded them last
        work.update()
    assert ((tree / "file").read_bytes(), (tree / "made").read_bytes()) == (b"mine\n", b"mine\n")
    assert work.status().changed_files == ()


def test_the_state_after_a_commit_of_git_is_restored_whole(mounted: tuple[Workspace, Path]) -> None:
    """What was ignored then comes back, and what came later goes."""
    work, tree = mounted
    (tree / ".gitignore").write_bytes(b"*.log\n")
    (tree / "x.log").write_bytes(b"then\n")
    work.checkpoint("start")
    (tree / "a").write_bytes(b"of git\n")
    git_in(tree, "add", "-A")
    git_in(tree, "commit", "-q", "-m", "one")
    made = next(each for each in work.operations() if each.kind == "git")
    (tree / "x.log").write_bytes(b"later\n")
    (tree / "y.log").write_bytes(b"later\n")
    path = work.vault.path
    before = sorted(path.glob("objects/**/*")), git_in(tree, "for-each-ref")

    planned = work.vault.restore_operation(made.id, dry_run=True)

    assert [change.path for change in planned.sidecar_changed] == [b"x.log", b"y.log"]
    assert (sorted(path.glob("objects/**/*")), git_in(tree, "for-each-ref")) == before

    work.vault.restore_operation(made.id)

    assert (tree / "x.log").read_bytes() == b"then\n"
    assert not (tree / "y.log").exists()


def test_undo_of_a_reset_moves_the_branch_only(mounted: tuple[Workspace, Path]) -> None:
    """The files of the commit come back with a restore, or another undo.

    What was written after the reset goes first.
    """
    work, tree = mounted
    head = work.vault.fork_info("main").head
    git_in(tree, "reset", "-q", "--hard", "HEAD~1")
    (tree / "new").write_bytes(b"new")

    assert work.undo().operation.description == "change 'new'"
    assert (tree / "file").read_bytes() == b"1\n"
    assert work.undo().operation.description == "git reset: moving to HEAD~1"
    assert work.vault.fork_info("main").head == head
    assert (tree / "file").read_bytes() == b"1\n"
    work.restore("HEAD")
    assert (tree / "file").read_bytes() == b"2\n"
    assert (tree / "more").exists()
    assert [work.undo().operation.kind for _ in range(2)] == ["restore", "checkpoint"]
    assert work.undo().operation.description == "change 'file', 'more'"
    assert (tree / "file").read_bytes() == b"2\n"
    assert (tree / "more").exists()


@pytest.mark.parametrize("updates", [False, True])
def test_the_log_has_what_git_committed_before_what_was_changed_after_it(
    mounted: tuple[Workspace, Path], updates: bool
) -> None:
    """Undo takes back the later change first, and then the commit; the committed files are an operation before it."""
    work, tree = mounted
    (tree / "file").write_bytes(b"committed\n")
    git_in(tree, "commit", "-q", "-a", "-m", "by git")
    (tree / "file").write_bytes(b"later\n")
    (tree / "new").write_bytes(b"new\n")

    assert not updates or work.update() == []
    assert work.undo().operation.description == "change 'file', 'new'"
    assert (tree / "file").read_bytes() == b"committed\n"
    assert git_in(tree, "status", "--short") == ""
    assert work.undo().operation.kind == "git"
    assert work.undo().operation.description == "change 'file'"
    assert (tree / "file").read_bytes() == b"2\n"
    assert git_in(tree, "status", "--short") == ""
    for content in (b"committed\n", b"committed\n", b"later\n"):
        work.redo()
        assert (tree / "file").read_bytes() == content
    assert git_in(tree, "status", "--short") == " M file\n?? new\n"
    assert [one.description for one in work.operations(limit=20) if one.kind not in ("undo", "redo")][:3] == [
        "change 'file', 'new'",
        "git commit: by git",
        "change 'file'",
    ]


def test_a_reset_that_leaves_files_alone_makes_no_change_of_files(mounted: tuple[Workspace, Path]) -> None:
    """After `git reset --soft` the log says nothing of the files that the branch had."""
    work, tree = mounted
    git_in(tree, "reset", "-q", "--soft", "HEAD~1")
    (tree / "new").write_bytes(b"new\n")

    assert work.undo().operation.description == "change 'new'"
    assert work.undo().operation.description == "git reset: moving to HEAD~1"
    assert work.undo().operation.kind == "checkpoint"
    assert (tree / "file").read_bytes() == b"2\n"


def test_undo_of_a_detached_head_alone(mounted: tuple[Workspace, Path]) -> None:
    """No file changes: it is an operation all the same, and the one before it stays."""
    work, tree = mounted
    git_in(tree, "checkout", "-q", "--detach")
    assert work.undo().operation.kind == "git"
    assert git_in(tree, "symbolic-ref", "HEAD") == "refs/heads/main\n"
    assert (tree / "more").exists()
    assert git_in(tree, "status", "--porcelain") == ""


def test_undo_of_a_label_comes_before_that_of_an_older_checkout(mounted: tuple[Workspace, Path]) -> None:
    """The log has what git did before the label before the label, also where no file had changed."""
    work, tree = mounted
    git_in(tree, "checkout", "-q", "--detach")
    work.checkpoint("label")
    assert [one.kind for one in work.operations(limit=2)] == ["label", "git"]
    assert work.undo().operation.kind == "label"
    assert work.undo().operation.kind == "git"
    assert git_in(tree, "symbolic-ref", "HEAD") == "refs/heads/main\n"


def _delete_fork(work: Workspace) -> str:
    work.vault.delete_fork("spare", by="main")
    return "fork_delete"


def _fork(work: Workspace) -> str:
    work.vault.fork("task", at="two")
    return "fork_create"


def _delete_label(work: Workspace) -> str:
    work.delete_checkpoint("one")
    return "checkpoint_delete"


def _restore(work: Workspace) -> str:
    work.restore("one")
    return "restore"


@pytest.mark.parametrize("by_git", ["checkout -q --detach", "commit -q --allow-empty -m x"])
@pytest.mark.parametrize("operate", [_delete_label, _fork, _delete_fork, _restore])
def test_the_log_has_what_git_did_before_an_operation_before_it(
    mounted: tuple[Workspace, Path], operate: Callable[[Workspace], str], by_git: str
) -> None:
    """Also before those that change refs alone, so that `undo` takes the newer one back first."""
    work, tree = mounted
    work.vault.fork("spare")
    git_in(tree, *by_git.split())
    kind = operate(work)
    assert [one.kind for one in work.vault.operations(limit=2)] == [kind, "git"]
    assert work.undo().operation.kind == kind
    assert work.undo().operation.kind == "git"


def _fork_with_changes(work: Workspace) -> None:
    work.vault.fork("task", source="main")


def _fork_of_a_name_taken(work: Workspace) -> None:
    with suppress(ForkExists):
        work.vault.fork("spare", source="main")


@pytest.mark.parametrize("mounted", ["auto", "fuse"], indirect=True)
@pytest.mark.parametrize("operate", [_fork_with_changes, _fork_of_a_name_taken])
def test_what_git_committed_is_a_change_of_files_before_any_operation(
    mounted: tuple[Workspace, Path], operate: Callable[[Workspace], None]
) -> None:
    """Undo of the commit leaves the file; the next one takes the change of the file back, and nothing older."""
    work, tree = mounted
    work.vault.fork("spare")
    (tree / "file").write_bytes(b"3\n")
    git_in(tree, "commit", "-q", "-m", "x", "file")
    operate(work)

    found = [one.description for one in work.operations() if one.kind in ("git", "files")]
    assert found[:2] == ["git commit: x", "change 'file'"]
    while (undone := work.undo().operation).kind != "git":
        pass
    assert (undone.description, work.read("file")) == ("git commit: x", b"3\n")
    assert (work.undo().operation.description, work.read("file")) == ("change 'file'", b"2\n")


def test_head_stays_in_the_middle_of_a_rebase(mounted: tuple[Workspace, Path]) -> None:
    """Undo brings the files back and says that HEAD stays; the next one would move the branch, and is refused."""
    work, tree = mounted
    git_in(tree, "branch", "other", "HEAD~1")
    with pytest.raises(subprocess.CalledProcessError):
        git_in(tree, "rebase", "-x", "echo 3 > file; false", "HEAD~1")
    assert [warning.code for warning in work.undo().warnings] == ["git.head_stays"]
    assert (tree / "file").read_bytes() == b"2\n"
    assert [point.labels for point in work.list_checkpoints()] == [("two",), ("one",)]
    with pytest.raises(CannotUndo):
        work.undo()
    git_in(tree, "rebase", "--abort")
    assert [point.labels for point in work.list_checkpoints()] == [("two",), ("one",)]


@pytest.mark.parametrize("away", ["switch other", "checkout --detach"])
def test_nothing_is_merged_while_head_is_elsewhere(mounted: tuple[Workspace, Path], away: str) -> None:
    """The tree holds the files of another branch: saved first, they would take the place of the fork's own."""
    work, tree = mounted
    git_in(tree, "branch", "other", "HEAD~1")
    git_in(tree, *away.split())
    (tree / "more").write_bytes(b"uncommitted\n")
    head = git(work.vault.path, "rev-parse", "main")
    refused: list[Callable[[], object]] = [
        lambda: work.merge("other"),
        lambda: work.merge("other", dry_run=True),
        lambda: work.merge_many(["other"]),
        work.update,
        lambda: work.rebase("other"),
        lambda: work.cherry_pick(["other"]),
    ]
    for operation in refused:
        with pytest.raises(HeadElsewhere) as told:
            operation()
        assert "git switch main" in str(told.value.hint)
        assert git(work.vault.path, "rev-parse", "main") == head

    git_in(tree, "checkout", "-f", "main")
    assert work.merge("other").outcome == "up_to_date"


def test_what_is_saved_while_head_is_elsewhere_carries_a_warning(mounted: tuple[Workspace, Path]) -> None:
    """A checkpoint, also one of a fork that is merged into another, and what a restore saves first."""
    work, tree = mounted
    work.vault.fork("task")
    git_in(tree, "switch", "-c", "other", "HEAD~1")
    told = []
    for outcome in ("created", "unchanged"):
        saved = work.checkpoint(f"is {outcome}")
        assert saved.outcome == outcome
        told.append(saved.warnings)
    (tree / "file").write_bytes(b"more\n")
    told.append(work.vault.workspace("task").merge("main").warnings)
    (tree / "file").write_bytes(b"still more\n")
    told.append(work.restore("two").warnings)

    assert [[warning.code for warning in warnings] for warnings in told] == [["git.head_elsewhere"]] * 4


def test_the_second_way_back_to_the_branch_works_where_git_refuses_the_first(mounted: tuple[Workspace, Path]) -> None:
    """A checkpoint has a new file by then, which git does not write over."""
    work, tree = mounted
    git_in(tree, "switch", "-q", "--detach")
    (tree / "new").write_bytes(b"new\n")
    (warning,) = work.checkpoint("saved").warnings
    told = re.search(r"`(git switch main)` \(or, if git refuses that, `([^`]+)`", warning.message)
    assert told is not None
    first, second = (subprocess.run(["sh", "-c", way], cwd=tree, check=False).returncode for way in told.groups())

    assert (first != 0, second) == (True, 0)
    assert git_in(tree, "status", "--short", "--branch") == "## main\n"


def test_a_commit_of_a_git_that_makes_no_logs_is_an_operation(mounted: tuple[Workspace, Path]) -> None:
    """With `core.logAllRefUpdates = false` git adds to a log that is there."""
    work, tree = mounted
    head = work.vault.fork_info("main").head
    (tree / "file").write_bytes(b"3\n")
    git_in(tree, "-c", "core.logAllRefUpdates=false", "commit", "-qam", "three")

    assert work.operations(limit=1)[0].description == "git commit: three"
    work.undo()
    assert work.vault.fork_info("main").head == head


def test_status_says_nothing_untrue_of_a_commit_that_gits_log_lacks(mounted: tuple[Workspace, Path]) -> None:
    """The files have what it has, so nothing is to be brought in, also beside a later edit."""
    work, tree = mounted
    (tree / "file").write_bytes(b"3\n")
    (work.vault.path / "logs/refs/heads/main").unlink()
    git_in(tree, "-c", "core.logAllRefUpdates=false", "commit", "-qam", "three")
    assert not work.status().warnings
    (tree / "more").write_bytes(b"more\n")
    assert [change.path for change in work.status().changed_files] == [b"more"]
    assert not work.status().warnings
    assert work.checkpoint("four").outcome == "created"
    assert git_in(tree, "show", "--format=", "--name-only", "HEAD") == "more\n"


def test_a_way_back_to_the_branch_works_where_git_switches_none(mounted: tuple[Workspace, Path]) -> None:
    """After a checkpoint the files are those of the fork's branch, and not those of git's HEAD."""
    work, tree = mounted
    git_in(tree, "switch", "-c", "other")
    (tree / "file").write_bytes(b"mine\n")
    (tree / "new").write_bytes(b"")
    work.checkpoint("three")
    with pytest.raises(HeadElsewhere) as told:
        work.update()
    switch, by_hand = re.findall("`(git .*?)`", str(told.value.hint))
    with pytest.raises(subprocess.CalledProcessError):
        git_in(tree, *shlex.split(switch)[1:])
    for command in by_hand.split(" && "):
        git_in(tree, *shlex.split(command)[1:])
    assert work.status().clean
    assert git_in(tree, "status", "-sb") == "## main\n"
    work.vault.fork("task")
    assert work.merge("task").outcome == "up_to_date"


def test_the_way_back_from_a_rebase_is_to_end_it(mounted: tuple[Workspace, Path]) -> None:
    """In the middle of one, git switches no branch: what is told to do works."""
    work, tree = mounted
    begin_rebase(tree)
    with pytest.raises(HeadElsewhere) as refused:
        work.update()
    status = work.status()

    assert "git rebase --continue` or `git rebase --abort`" in str(refused.value.hint)
    assert "git switch" not in str(refused.value.hint)
    assert "; `git rebase --continue` or `git rebase --abort` in the tree brings it back" in status.warnings[0].message
    (tree / "file").write_bytes(b"resolved\n")
    git_in(tree, "add", "file")
    told = work.checkpoint("between").warnings[0].message
    assert "; `avfs undo` of what has moved 'main' since that began, then `git rebase --continue` or" in told
    assert work.undo().operation.kind == "checkpoint"
    git_in(tree, "-c", "core.editor=true", "rebase", "--continue")
    assert not work.status().warnings
    assert (tree / "file").read_bytes() == b"resolved\n"


def test_git_ends_a_rebase_whatever_is_saved_meanwhile(mounted: tuple[Workspace, Path]) -> None:
    """What a hook, a command and a last checkpoint save is recorded beside the branch, and undo takes it back."""
    work, tree = mounted
    begin_rebase(tree)
    head = git(work.vault.path, "rev-parse", "main").strip()
    (tree / "file").write_bytes(b"half\n")
    steps = [work.checkpoint(description="a step", step=True) for _ in range(2)]
    assert [step.outcome for step in steps] == ["recorded", "recorded"]
    assert [step.checkpoint.id if step.checkpoint else None for step in steps] == [head, head]
    assert work.vault.operations(limit=1)[0].description == "a step"
    ran = work.exec(shell="echo resolved > file; git add file; echo new > beside")
    assert (ran.commit, [change.path for change in ran.changed_files]) == (None, [b"beside", b"file"])
    (tree / "later").write_bytes(b"1\n")
    assert work.checkpoint().outcome == "recorded"
    assert work.undo().operation.kind == "files"
    assert not (tree / "later").exists()
    assert git(work.vault.path, "rev-parse", "main").strip() == head
    git_in(tree, "-c", "core.editor=true", "rebase", "--continue")
    assert work.checkpoint().outcome == "created"
    assert (tree / "file").read_bytes() == b"resolved\n"
    assert {"beside", "file"} <= set(git(work.vault.path, "ls-tree", "--name-only", "main").split())
    check_vault(work.vault)


def test_what_an_operation_has_recorded_in_a_merge_is_not_in_the_branch(mounted: tuple[Workspace, Path]) -> None:
    """A save in the middle does not tell that nothing has changed since the commit of the branch."""
    work, tree = mounted
    begin_conflict(tree, "merge")
    assert work.checkpoint().outcome == "recorded"
    git_in(tree, "checkout", "-q", "HEAD", "--", ".")
    assert work.checkpoint().outcome == "recorded"
    assert work.checkpoint().outcome == "unchanged"
    work.exec(shell="echo resolved > file")
    assert work.checkpoint().outcome == "recorded"


@pytest.mark.parametrize("command", ["merge", "cherry-pick", "revert"])
@pytest.mark.parametrize("end", ["--abort", "--continue"])
def test_git_ends_a_merge_whatever_is_saved_meanwhile(mounted: tuple[Workspace, Path], command: str, end: str) -> None:
    """What is saved without a label is recorded beside the branch: giving up brings back what was there before."""
    work, tree = mounted
    if command == "revert":
        (tree / "file").write_bytes(b"later\n")
        git_in(tree, "commit", "-q", "-a", "-m", "later")
        with pytest.raises(subprocess.CalledProcessError):
            git_in(tree, "revert", "HEAD~1")
    else:
        begin_conflict(tree, command)
    head, before = git_in(tree, "rev-parse", "HEAD"), git_in(tree, "show", "HEAD:file")
    steps = [work.checkpoint(description="a step", step=True) for _ in range(2)]
    assert [step.outcome for step in steps] == ["recorded", "recorded"]
    ran = work.exec(shell="echo resolved > file; git add file; echo new > beside")
    assert ran.commit is None
    assert git_in(tree, "rev-parse", "HEAD") == head

    git_in(tree, "-c", "core.editor=true", command, end)

    assert (tree / "file").read_text() == (before if end == "--abort" else "resolved\n")
    saved = work.checkpoint()
    assert saved.outcome == "created"  # the other file
    assert git(work.vault.path, "show", "main:file") == (before if end == "--abort" else "resolved\n")
    assert git(work.vault.path, "show", "main:beside") == "new\n"
    check_vault(work.vault)


@pytest.mark.parametrize("command", ["merge", "rebase", "stash pop", "apply"])
def test_what_git_has_not_merged_is_told_with_a_checkpoint(mounted: tuple[Workspace, Path], command: str) -> None:
    """Git commits no conflict.

    A checkpoint saves the file with its markers, and says so until git knows that it is resolved.
    """
    work, tree = mounted
    if command == "rebase":
        begin_rebase(tree)
    else:
        begin_conflict(tree, command)
    status, saved = work.status(), work.checkpoint("in conflict")

    for warnings in (status.warnings, saved.warnings):
        told = [warning.message for warning in warnings if warning.code == "git.unmerged"]
        assert len(told) == 1
        assert "'file'" in told[0]
    assert saved.checkpoint is not None
    assert b"<<<<<<<" in work.read("file")
    (tree / "file").write_bytes(b"resolved\n")
    git_in(tree, "add", "file")
    assert "git.unmerged" not in [warning.code for warning in work.checkpoint("resolved").warnings]


@pytest.mark.parametrize("command", ["stash pop", "apply"])
@pytest.mark.parametrize("kind", ["--index-version 2", "--index-version 4", "--split-index"])
def test_nothing_is_merged_into_conflicts_that_git_left(
    mounted: tuple[Workspace, Path], command: str, kind: str
) -> None:
    """Their markers would be committed with it, though no command of git's is under way after `git stash pop`."""
    work, tree = mounted
    work.vault.fork("side")
    git_in(tree, "update-index", *kind.split())
    begin_conflict(tree, command)
    Others(work.vault.path, tree.parent / "clone").push("theirs", b"theirs\n")
    head = git(work.vault.path, "rev-parse", "main")

    for merging in (work.update, partial(work.merge, "side"), partial(work.rebase, "side")):
        with pytest.raises(GitUnmerged, match="'file'"):
            merging()

    assert git(work.vault.path, "rev-parse", "main") == head
    (tree / "file").write_bytes(b"resolved\n")
    git_in(tree, "add", "file")
    work.update()
    assert ((tree / "file").read_bytes(), (tree / "theirs").read_bytes()) == (b"resolved\n", b"theirs\n")


def begin_conflict(tree: Path, command: str) -> None:
    """Let git merge a file that both sides have changed."""
    if command in ("stash pop", "apply"):
        (tree / "file").write_bytes(b"stashed\n")
        (tree.parent / "patch").write_text(git_in(tree, "diff"))
        git_in(tree, "stash")
        (tree / "file").write_bytes(b"ours\n")
        git_in(tree, "commit", "-q", "-a", "-m", "ours")
        command = f"apply -3 {tree.parent}/patch" if command == "apply" else command
    else:
        git_in(tree, "switch", "-q", "-c", "other", "HEAD~1")
        (tree / "file").write_bytes(b"theirs\n")
        git_in(tree, "commit", "-q", "-a", "-m", "theirs")
        git_in(tree, "switch", "-q", "main")
        command = f"{command} other"
    with pytest.raises(subprocess.CalledProcessError):
        git_in(tree, *command.split())


def begin_rebase(tree: Path) -> None:
    """Let git stop in the middle of a rebase of the fork's branch."""
    git_in(tree, "branch", "other", "HEAD~1")
    git_in(tree, "switch", "-q", "other")
    (tree / "file").write_bytes(b"theirs\n")
    git_in(tree, "commit", "-q", "-a", "-m", "theirs")
    git_in(tree, "switch", "-q", "main")
    with pytest.raises(subprocess.CalledProcessError):
        git_in(tree, "rebase", "other")


def test_a_rewrite_goes_on_only_on_the_branch_of_the_fork(mounted: tuple[Workspace, Path]) -> None:
    """As it begins only there: the tree holds the files of another branch."""
    work, tree = mounted
    task = work.vault.fork("task", at="main~1")
    task.write("file", b"theirs\n")
    task.checkpoint("theirs")
    assert work.rebase("task", on_conflict="workspace").outcome == "conflicted"
    work.resolve("file", "theirs")
    head = git(work.vault.path, "rev-parse", "main")
    git_in(tree, "checkout", "-q", "--detach")
    for skip in (False, True):
        with pytest.raises(HeadElsewhere):
            work.continue_rewrite(skip=skip)
    assert git(work.vault.path, "rev-parse", "main") == head
    git_in(tree, "switch", "-q", "main")
    assert work.continue_rewrite().outcome in ("rewritten", "unchanged")


def test_undo_leaves_a_branch_that_git_is_rebasing(mounted: tuple[Workspace, Path]) -> None:
    """Git could not end the rebase if the branch were elsewhere.

    What a checkpoint moved meanwhile can be taken back.
    """
    work, tree = mounted
    (tree / "file").write_bytes(b"by git\n")
    git_in(tree, "commit", "-q", "-a", "-m", "by git")
    begin_rebase(tree)
    head = git(work.vault.path, "rev-parse", "main")
    assert work.undo().operation.kind == "files"  # what the rebase has put into the tree
    with pytest.raises(CannotUndo) as refused:
        work.undo()
    assert "git rebase --abort" in str(refused.value.hint)
    work.redo()
    assert git(work.vault.path, "rev-parse", "main") == head
    (tree / "file").write_bytes(b"resolved\n")
    git_in(tree, "add", "file")
    work.checkpoint("in between")
    assert work.undo().operation.kind == "checkpoint"
    assert git(work.vault.path, "rev-parse", "main") == head
    git_in(tree, "-c", "core.editor=true", "rebase", "--continue")
    assert (tree / "file").read_bytes() == b"resolved\n"
    assert git_in(tree, "status", "--short") == ""
    check_vault(work.vault)


def test_what_git_stashed_comes_back_whatever_avfs_does_in_between(mounted: tuple[Workspace, Path]) -> None:
    """`git stash -u` and its end around restores, undo and redo."""
    work, tree = mounted
    (tree / "more").write_bytes(b"uncommitted\n")
    (tree / "new").write_bytes(b"untracked\n")
    git_in(tree, "stash", "-u")
    assert work.status().clean
    assert work.restore("one").outcome == "restored"
    assert work.undo().operation.kind == "restore"
    work.redo()
    work.undo()
    git_in(tree, "stash", "pop")
    assert (tree / "more").read_bytes() == b"uncommitted\n"
    assert (tree / "new").read_bytes() == b"untracked\n"
    work.undo()
    assert not (tree / "new").exists()
    work.redo()
    assert (tree / "new").read_bytes() == b"untracked\n"
    assert git_in(tree, "status", "--short") == " M more\n?? new\n"


def test_git_goes_on_from_a_checkpoint_made_while_its_index_was_locked(mounted: tuple[Workspace, Path]) -> None:
    """Once the lock is gone, the next git waits for an index of the branch's head, whatever read `.git` before."""
    work, tree = mounted
    git_in(tree, "status")
    lock = Path(git_in(tree, "rev-parse", "--git-path", "index.lock").strip())
    lock.touch()
    (tree / "file").write_bytes(b"3\n")
    work.checkpoint("three")
    assert git_in(tree, "status", "--short") == "MM file\n"
    lock.unlink()
    (tree / "more").write_bytes(b"more\n")
    git_in(tree, "add", "more")
    git_in(tree, "commit", "-q", "-m", "more")
    assert git_in(tree, "show", "--format=", "--name-only", "HEAD") == "more\n"


@pytest.mark.parametrize("kind", ["split", "sparse"])
def test_git_goes_on_from_a_checkpoint_with_any_kind_of_index(mounted: tuple[Workspace, Path], kind: str) -> None:
    """Its next commit holds what avfs has saved meanwhile."""
    work, tree = mounted
    (tree / "dir").mkdir()
    (tree / "dir" / "below").write_bytes(b"")
    work.checkpoint("three")
    if kind == "split":
        git_in(tree, "update-index", "--split-index")
    else:
        git_in(tree, "status")
        git_in(tree, "sparse-checkout", "set", "--cone", "--sparse-index", "none")
        (tree / "dir").mkdir()
        (tree / "dir" / "below").write_bytes(b"")  # so that nothing is missing
    (tree / "file").write_bytes(b"3\n")
    work.checkpoint("four")
    (tree / "more").write_bytes(b"more\n")
    git_in(tree, "add", "more")
    git_in(tree, "commit", "-q", "-m", "more")
    assert git_in(tree, "show", "--format=", "--name-only", "HEAD") == "more\n"
    assert git_in(tree, "show", "HEAD:file") == "3\n"


@pytest.mark.parametrize(
    ("mark", "index"),
    [
        ("skip-worktree", "--index-version=4"),
        ("skip-worktree", "--split-index"),
        ("assume-unchanged", "--index-version=2"),
        ("assume-unchanged", "--split-index"),
    ],
)
def test_what_git_keeps_out_of_commits_is_in_no_checkpoint(
    mounted: tuple[Workspace, Path], mark: str, index: str
) -> None:
    """Its edit stays in the tree, and the way on that is named works."""
    work, tree = mounted
    git_in(tree, "update-index", index)
    git_in(tree, "update-index", f"--{mark}", "file")
    (tree / "file").write_bytes(b"a secret\n")
    (tree / "more").write_bytes(b"more\n")
    with pytest.raises(MarkedUnchanged) as told:
        work.checkpoint("three")
    assert git(work.vault.path, "show", "main:file") == "2\n"
    assert (tree / "file").read_bytes() == b"a secret\n"
    assert f"`git update-index --no-{mark} file`" in str(told.value.hint)
    git_in(tree, "update-index", f"--no-{mark}", "file")
    work.checkpoint("three")
    assert git(work.vault.path, "show", "main:file") == "a secret\n"


@pytest.mark.parametrize(
    "how", ["sparse-checkout set --no-sparse-index here", "sparse-checkout set --sparse-index here", "update-index"]
)
def test_what_git_leaves_out_of_the_tree_is_not_removed(mounted: tuple[Workspace, Path], how: str) -> None:
    """A sparse checkout lacks files that nobody removed: no checkpoint takes them off the branch."""
    work, tree = mounted
    for name in ("here", "there"):
        (tree / name).mkdir()
        (tree / name / "file").write_bytes(b"1\n")
    work.checkpoint("both")
    if how == "update-index":
        git_in(tree, "update-index", "--skip-worktree", "there/file")
        (tree / "there" / "file").unlink()
    else:
        git_in(tree, "status")  # git leaves a file that its index does not know to be unchanged
        git_in(tree, *how.split())
    (tree / "here" / "file").write_bytes(b"2\n")

    assert not (tree / "there" / "file").exists()
    with pytest.raises(SparseCheckout, match="there/file"):
        work.checkpoint("less")
    assert "there/file" in git(work.vault.path, "ls-tree", "-r", "--name-only", "main")
    if how == "update-index":
        git_in(tree, "update-index", "--no-skip-worktree", "there/file")
        work.checkpoint("removed")
        assert "there/file" not in git(work.vault.path, "ls-tree", "-r", "--name-only", "main")
    else:
        git_in(tree, "sparse-checkout", "disable")
        work.checkpoint("changed")
        assert "there/file" in git(work.vault.path, "ls-tree", "-r", "--name-only", "main")


def test_what_git_has_committed_despite_an_ignore_rule_stays_in_history(mounted: tuple[Workspace, Path]) -> None:
    """Git tracks a file that its own commit has, whether or not an earlier checkpoint had it beside history."""
    work, tree = mounted
    (tree / ".gitignore").write_text("*.log\n")
    (tree / "before.log").write_bytes(b"1\n")
    work.checkpoint("three")
    (tree / "new.log").write_bytes(b"2\n")
    git_in(tree, "add", "-f", "before.log", "new.log")
    git_in(tree, "commit", "-q", "-m", "logs, on purpose")

    assert work.status().changed_files == ()
    (tree / "more").write_bytes(b"4\n")
    work.checkpoint("four")
    assert git_in(tree, "show", "--name-only", "--format=", "HEAD").split() == ["more"]


@pytest.mark.parametrize("verb", ["merge", "cherry-pick"])
def test_what_git_committed_stays_where_a_merge_is_given_up_over_a_push(
    verb: str, mounted: tuple[Workspace, Path]
) -> None:
    """The way on over a push keeps git's own commit in the files, though the push is on top of it."""
    work, tree = mounted
    stop(work, verb)
    (tree / "own").write_bytes(b"own\n")
    git_in(tree, "add", "own")
    git_in(tree, "commit", "-q", "-m", "own")
    pushed = git(work.vault.path, "commit-tree", "main^{tree}", "-p", "main", "-m", "pushed").strip()
    git(work.vault.path, "update-ref", "refs/heads/main", pushed)

    work.abort_merge()
    assert (tree / "own").read_bytes() == b"own\n"
    work.update()
    assert git(work.vault.path, "show", "main:own").strip() == "own"
    assert git(work.vault.path, "merge-base", "main", pushed).strip() == pushed


def test_a_rebase_takes_along_what_git_has_committed_since_it_stopped(mounted: tuple[Workspace, Path]) -> None:
    """The commit stands on the others, with its own changes; undo brings the branch back to it."""
    work, tree = mounted
    with work.vault.fork("side") as side:
        side.write("file", b"theirs\n")
        side.checkpoint("theirs")
    (tree / "file").write_bytes(b"mine\n")
    work.checkpoint("mine")
    work.rebase("side", on_conflict="workspace")
    (tree / "more").write_bytes(b"by git\n")
    git_in(tree, "commit", "-q", "-m", "by git", "more")
    work.resolve("file", "theirs")
    before = git_in(tree, "rev-parse", "HEAD")

    assert work.continue_rewrite().outcome == "rewritten"
    assert git_in(tree, "log", "-3", "--format=", "--name-only").split() == ["more", "file", "file"]
    assert work.status().clean
    work.undo()
    assert git_in(tree, "rev-parse", "HEAD") == before


@pytest.mark.parametrize("is_seen", [False, True])
def test_what_git_has_taken_out_of_history_stays_out(is_seen: bool, mounted: tuple[Workspace, Path]) -> None:
    """It is in the live tree as before, ignored, and beside the checkpoint; without a rule it is added again."""
    work, tree = mounted
    (tree / "deep/er").mkdir(parents=True)
    for name in ("secret.env", "deep/er/secret.env", "deep/er/other"):
        (tree / name).write_bytes(b"KEY=1\n")
    work.checkpoint("with secrets")
    (tree / ".gitignore").write_text("secret.env\n")
    if is_seen:
        assert work.checkpoint("rule").outcome == "created"
    git_in(tree, "rm", "-q", "--cached", "secret.env", "deep/er/secret.env", "deep/er/other")
    git_in(tree, "add", ".gitignore")
    git_in(tree, "commit", "-q", "-m", "no secrets")

    (tree / "more").write_bytes(b"4\n")
    made = work.checkpoint("four")

    assert git_in(tree, "show", "--name-only", "--format=", "HEAD").split() == ["deep/er/other", "more"]
    assert (tree / "secret.env").read_bytes() == (tree / "deep/er/secret.env").read_bytes() == b"KEY=1\n"
    assert {b"secret.env", b"deep/er/secret.env"} <= {change.path for change in made.sidecar_changed}
    assert work.status().clean


@pytest.mark.parametrize("kind", ["as it is", "version 4", "split", "of no known tree"])
@pytest.mark.parametrize("is_mounted", [False, True])
def test_what_git_has_taken_out_of_its_index_leaves_history(
    kind: str, is_mounted: bool, mounted: tuple[Workspace, Path]
) -> None:
    """Where a rule ignores it, as with `git add -A`, though no file changes. Undo of the checkpoint leaves it staged."""
    work, tree = mounted
    (tree / "deep/er").mkdir(parents=True)
    secrets = {"secret.env", "deep/er/secret.env", "gone.env"}
    for name in (*secrets, "deep/er/other"):
        (tree / name).write_bytes(b"KEY=1\n")
    work.checkpoint("with secrets")
    (tree / ".gitignore").write_text("*.env\n")
    work.checkpoint("rule")
    if kind == "of no known tree":
        git_in(tree, "read-tree", "--empty")
        git_in(tree, "add", ".gitignore", "file", "more")
    else:
        kinds = {"version 4": ["--index-version", "4"], "split": ["--split-index"]}
        git_in(tree, "update-index", *kinds.get(kind, ["--refresh"]))
        git_in(tree, "rm", "-q", "--cached", "deep/er/other", *secrets)
    (tree / "gone.env").unlink()
    session = work.vault.find_session("main")
    assert session is not None
    if not is_mounted:
        session.unmount()

    before = work.status()
    assert {change.path.decode() for change in before.changed_files} == secrets
    made = work.checkpoint("no secrets")

    assert work.read("secret.env") == work.read("deep/er/secret.env") == b"KEY=1\n"
    assert {change.path for change in made.sidecar_changed} == {b"secret.env", b"deep/er/secret.env"}
    held = git(work.vault.path, "ls-tree", "-r", "--name-only", "main").split()
    assert set(held) == {".gitignore", "deep/er/other", "file", "more"}
    assert work.status().clean
    for look in (False, True):
        work.undo()
        if is_mounted and look:
            assert {line[3:] for line in git_in(tree, "status", "--porcelain").splitlines()} >= secrets - {"gone.env"}
        assert work.status().changed_files == before.changed_files
        work.redo()
        assert work.status().clean
    assert set(git(work.vault.path, "ls-tree", "-r", "--name-only", "main").split()) == set(held)


def _undo_and_redo_all(work: Workspace, tree: Path) -> None:
    """Undo down to the first state, with a look at each, and redo; each is as it was."""

    def look() -> tuple[str, bytes]:
        git_in(tree, "status")
        file = tree / "file"
        return git(work.vault.path, "for-each-ref", "refs/heads/main"), file.read_bytes() if file.exists() else b""

    seen = [look()]
    with suppress(NothingToUndo):
        while len(seen) < 20:
            work.undo()
            seen.append(look())
    assert seen[-1] == ("", b"")
    for state in seen[-2::-1]:
        work.redo()
        assert look() == state


@pytest.mark.parametrize("how", ["only staged", "staged", "committed", "with more"])
def test_undo_goes_on_past_what_git_has_taken_out(how: str, mounted: tuple[Workspace, Path]) -> None:
    """Down to the first state and up again; that the file is in history no more is no work of its own."""
    work, tree = mounted
    (tree / "secret.env").write_bytes(b"KEY=1\n")
    (tree / ".gitignore").write_text("*.env\n")
    git_in(tree, "add", "-f", ".")
    git_in(tree, "commit", "-q", "-m", "with it")
    (tree / "file").write_bytes(b"3\n")
    work.checkpoint("three")
    git_in(tree, "rm", "-q", "--cached", "secret.env")
    if how == "committed":
        git_in(tree, "commit", "-q", "-m", "without it")
    else:
        (tree / "more").write_bytes(b"more\n") if how == "with more" else None
        work.checkpoint("without it") if how != "only staged" else None
    _undo_and_redo_all(work, tree)
    held = git(work.vault.path, "ls-tree", "-r", "--name-only", "main").split()
    assert ("secret.env" in held) == (how == "only staged")
    assert (tree / "secret.env").read_bytes() == b"KEY=1\n"


@pytest.mark.parametrize("how", ["by force", "without a rule"])
@pytest.mark.parametrize("goes_on", [False, True])
def test_undo_goes_on_past_what_git_has_taken_in(how: str, goes_on: bool, mounted: tuple[Workspace, Path]) -> None:
    """A file that was beside history, by a commit of git's: the same, down and up again."""
    work, tree = mounted
    (tree / ".gitignore").write_text("*.log\n")
    (tree / "a.log").write_bytes(b"1\n")
    work.checkpoint("beside")
    if how == "without a rule":
        (tree / ".gitignore").write_text("")
    git_in(tree, "add", "-A")
    git_in(tree, "add", "-f", "a.log")
    git_in(tree, "commit", "-q", "-m", "with it")
    if goes_on:
        (tree / "file").write_bytes(b"3\n")
        work.checkpoint("three")
    _undo_and_redo_all(work, tree)
    assert "a.log" in git(work.vault.path, "ls-tree", "-r", "--name-only", "main").split()
    assert work.status().changed_files == ()


def test_a_removal_outlasts_undo_and_redo_of_a_commit_before_it(mounted: tuple[Workspace, Path]) -> None:
    """What git committed before is redone without what the checkpoint after it took out of history."""
    work, tree = mounted
    (tree / "secret.env").write_bytes(b"KEY=1\n")
    work.checkpoint("with it")
    (tree / ".gitignore").write_text("*.env\n")
    work.checkpoint("rule")
    (tree / "file").write_bytes(b"9\n")
    git_in(tree, "commit", "-q", "-a", "-m", "edit")
    git_in(tree, "rm", "-q", "--cached", "secret.env")
    (tree / "secret.env").write_bytes(b"KEY=2\n")
    work.checkpoint("without it")
    for turn in (work.undo, work.redo):
        for _ in range(3):
            turn()
            git_in(tree, "status")

    assert work.status().changed_files == ()
    work.checkpoint("next")
    assert "secret.env" not in git(work.vault.path, "ls-tree", "-r", "--name-only", "main").split()
    assert git_in(tree, "status", "--porcelain") == ""


@pytest.mark.parametrize("how", [("restore", "--staged"), ("reset", "-q"), ("add", "-f")])
def test_a_removal_that_is_staged_no_more_counts_no_more(how: tuple[str, str], mounted: tuple[Workspace, Path]) -> None:
    """After the undo of its checkpoint, which leaves it staged."""
    work, tree = mounted
    (tree / "secret.env").write_bytes(b"KEY=1\n")
    work.checkpoint("with it")
    (tree / ".gitignore").write_text("*.env\n")
    work.checkpoint("rule")
    git_in(tree, "rm", "-q", "--cached", "secret.env")
    work.checkpoint("without it")
    work.undo()
    assert [change.path for change in work.status().changed_files] == [b"secret.env"]
    git_in(tree, *how, "secret.env")

    assert work.status().changed_files == ()
    (tree / "more").write_bytes(b"3\n")
    work.checkpoint("three")
    assert "secret.env" in git(work.vault.path, "ls-tree", "-r", "--name-only", "main").split()


@pytest.mark.parametrize("option", ["-f", "-fN"])
@pytest.mark.parametrize("is_seen", [False, True])
@pytest.mark.parametrize("is_mounted", [False, True])
def test_what_git_has_added_to_its_index_comes_into_history(
    is_seen: bool, is_mounted: bool, option: str, mounted: tuple[Workspace, Path]
) -> None:
    """Also an ignored file, new or beside history before; only what was added; undo of the checkpoint leaves it so."""
    work, tree = mounted
    (tree / ".gitignore").write_text("dist/\n")
    (tree / "dist/deep").mkdir(parents=True)
    for name in ("dist/deep/new.js", "dist/deep/other.js", "dist/promised.js"):
        (tree / name).write_bytes(b"1\n")
    if is_seen:
        work.checkpoint("beside")
    git_in(tree, "add", option, "dist/deep/new.js")
    session = work.vault.find_session("main")
    assert session is not None
    if not is_mounted:
        session.unmount()

    before = work.status()
    assert b"dist/deep/new.js" in {change.path for change in before.changed_files}
    work.checkpoint("added")
    held = git(work.vault.path, "ls-tree", "-r", "--name-only", "main").split()
    assert set(held) == {".gitignore", "dist/deep/new.js", "file", "more"}
    assert work.status().clean
    work.undo()
    assert work.status().changed_files == before.changed_files
    if is_mounted:
        left = " A" if option == "-fN" else "A "
        assert f"{left} dist/deep/new.js" in git_in(tree, "status", "--porcelain").splitlines()
    work.redo()
    assert git(work.vault.path, "ls-tree", "-r", "--name-only", "main").split() == held
    if is_mounted:
        assert git_in(tree, "status", "--porcelain", "-uno") == ""


@pytest.mark.parametrize("case", ["staged", "recorded", "undone", "undone, seen", "committed, undone"])
@pytest.mark.parametrize("is_seen", [False, True])
def test_what_git_has_taken_out_of_its_index_again_is_beside_history(
    case: str, is_seen: bool, mounted: tuple[Workspace, Path]
) -> None:
    """No commit of the branch has it: what was added by mistake is not published."""
    work, tree = mounted
    (tree / ".gitignore").write_text(".env\n")
    (tree / ".env").write_bytes(b"SECRET\n")
    if is_seen:
        work.checkpoint("beside")
    git_in(tree, "add", "-f", ".env")
    if case == "recorded":
        work.write("other", b"1\n")
        work.vault.fork("side", source="main")
    elif case != "staged":
        if case == "committed, undone":
            git_in(tree, "add", ".gitignore")
            git_in(tree, "commit", "-q", "-m", "too much")
        else:
            work.checkpoint("too much")
        assert ".env" in git(work.vault.path, "ls-tree", "-r", "--name-only", "main").split()
        work.undo()
        if case == "undone, seen":
            assert b".env" in {change.path for change in work.status().changed_files}
        # A commit of git's that was the first thing to have it is undone with what it was made from.
        is_staged = "A  .env" in git_in(tree, "status", "--porcelain").splitlines()
        assert is_staged or (case == "committed, undone" and not is_seen)
    git_in(tree, "rm", "-q", "--cached", "--ignore-unmatch", ".env")
    work.checkpoint("without")
    assert ".env" not in git(work.vault.path, "ls-tree", "-r", "--name-only", "main").split()
    assert work.read(".env") == b"SECRET\n"
    assert work.status().clean
    work.write("other", b"2\n")
    work.checkpoint("later")
    assert ".env" not in git(work.vault.path, "ls-tree", "-r", "--name-only", "main").split()


@pytest.mark.parametrize("mounted", ["auto", "fuse"], indirect=True)
def test_what_a_checkpoint_took_out_of_history_is_out_of_it_when_that_is_done_again(
    mounted: tuple[Workspace, Path],
) -> None:
    """Also where undos before brought it back, and git has looked at each state."""
    work, tree = mounted
    (tree / "secret.env").write_bytes(b"KEY=1\n")
    (tree / ".gitignore").write_text("*.env\n")
    git_in(tree, "add", "-f", ".")
    git_in(tree, "commit", "-q", "-m", "with")
    (tree / "file").write_bytes(b"9\n")
    git_in(tree, "commit", "-q", "-a", "-m", "edit")
    git_in(tree, "rm", "-q", "--cached", "secret.env")
    (tree / "secret.env").write_bytes(b"KEY=2\n")
    work.checkpoint("without")
    for turn in (work.undo,) * 3 + (work.redo,) * 3:
        git_in(tree, "status")
        turn()
    assert work.status().changed_files == ()
    assert work.read("secret.env") == b"KEY=2\n"
    work.write("other", b"1\n")
    work.checkpoint("later")
    assert "secret.env" not in git(work.vault.path, "ls-tree", "-r", "--name-only", "main").split()


@pytest.mark.parametrize("mounted", ["auto", "fuse"], indirect=True)
@pytest.mark.parametrize("is_seen", [False, True])
def test_what_a_reset_took_out_of_history_is_out_of_it_when_that_is_done_again(
    is_seen: bool, mounted: tuple[Workspace, Path]
) -> None:
    """Undo of the checkpoint that had it leaves it staged; the redo of git's reset does not."""
    work, tree = mounted
    (tree / ".gitignore").write_text("*.env\n")
    work.checkpoint("rule")
    (tree / "secret.env").write_bytes(b"KEY=1\n")
    if is_seen:
        work.checkpoint("beside")
    git_in(tree, "add", "-f", "secret.env")
    work.checkpoint("too much")
    git_in(tree, "reset", "-q", "HEAD~1")
    (tree / "file").write_bytes(b"9\n")
    work.checkpoint("later")
    for turn in (work.undo,) * 4 + (work.redo,) * 3:
        turn()
        git_in(tree, "status")
    (tree / "secret.env").write_bytes(b"KEY=2\n")
    work.checkpoint("last")
    assert "secret.env" not in git(work.vault.path, "ls-tree", "-r", "--name-only", "main").split()


def test_a_file_renamed_to_an_ignored_name_stays_in_history(mounted: tuple[Workspace, Path]) -> None:
    """As git says: it is in its index by that name."""
    work, tree = mounted
    (tree / ".gitignore").write_text("*.log\n")
    work.checkpoint("rule")
    git_in(tree, "mv", "file", "file.log")
    work.checkpoint("renamed")
    assert set(git(work.vault.path, "ls-tree", "-r", "--name-only", "main").split()) == {
        ".gitignore",
        "file.log",
        "more",
    }


@pytest.mark.parametrize("how", ["save", "command"])
def test_what_an_undone_checkpoint_lacked_is_in_history_again(how: str, mounted: tuple[Workspace, Path]) -> None:
    """A file that was removed, or taken out of git's index, and that a rule ignores; git brings the first one back."""
    work, tree = mounted
    (tree / "secret.env").write_bytes(b"KEY=1\n")
    work.checkpoint("with it")
    (tree / ".gitignore").write_text("*.env\n")
    work.checkpoint("rule")
    git_in(tree, "status")
    if how == "save":
        (tree / "secret.env").unlink()
        work.checkpoint("without it")
    else:
        assert work.exec(shell="git rm -q --cached secret.env").exit_code == 0
    assert "secret.env" not in git(work.vault.path, "ls-tree", "-r", "--name-only", "main").split()
    work.undo()
    git_in(tree, "checkout", "--", "secret.env")

    assert git_in(tree, "status", "--porcelain") == ""
    assert work.status().clean
    (tree / "more").write_bytes(b"5\n")
    assert [change.path for change in work.checkpoint("more").changed_files] == [b"more"]


@pytest.mark.parametrize("how", ["add", "restore"])
def test_what_git_has_taken_out_of_its_index_can_come_back(how: str, mounted: tuple[Workspace, Path]) -> None:
    """By avfs, after the checkpoint without it: git's index follows, so that the next checkpoint has it still."""
    work, tree = mounted
    (tree / "secret.env").write_bytes(b"KEY=1\n")
    work.checkpoint("with it")
    (tree / ".gitignore").write_text("*.env\n")
    rule = work.checkpoint("rule").checkpoint
    assert rule is not None
    git_in(tree, "rm", "-q", "--cached", "secret.env")

    if how == "add":
        work.add("secret.env", force=True)
    else:
        work.checkpoint("without it")
        work.restore(rule.id)

    for name in ("three", "four"):
        (tree / name).write_bytes(b"1\n")
        work.checkpoint(name)
        assert git_in(tree, "status", "--porcelain") == ""
        assert "secret.env" in git(work.vault.path, "ls-tree", "-r", "--name-only", "main").split()


@pytest.mark.parametrize("how", ["abort", "undo"])
def test_what_git_has_committed_in_a_merge_stays_in_the_files(mounted: tuple[Workspace, Path], how: str) -> None:
    """The commit stays on the branch where the merge is given up, or undone; so do its changes in the tree."""
    work, tree = mounted
    with work.vault.fork("side") as side:
        side.write("file", b"theirs\n")
        side.checkpoint("theirs")
    (tree / "file").write_bytes(b"mine\n")
    work.merge("side", on_conflict="workspace")
    (tree / "more").write_bytes(b"by git\n")
    git_in(tree, "commit", "-q", "-m", "by git", "more")
    if how == "undo":
        work.resolve("file", "theirs")
        work.continue_merge()
        work.undo()
    else:
        work.abort_merge()

    assert git_in(tree, "log", "-1", "--format=%s") == "by git\n"
    assert ((tree / "file").read_bytes(), (tree / "more").read_bytes()) == (b"mine\n", b"by git\n")


@pytest.mark.parametrize("verb", ["merge", "cherry_pick"])
@pytest.mark.parametrize("how", ["amend", "squash", "commit and reset"])
def test_what_git_has_put_in_place_of_a_commit_stays_where_a_merge_is_given_up(
    mounted: tuple[Workspace, Path], verb: str, how: str
) -> None:
    """It is of the branch as a commit on it is; a commit that git took back is not."""
    work, tree = mounted
    stop(work, verb)
    (tree / "own").write_bytes(b"own\n")
    git_in(tree, "add", "own")
    if how == "amend":
        git_in(tree, "commit", "-q", "--amend", "-m", "amended")
    else:
        git_in(tree, "commit", "-q", "-m", "own")
    if how == "squash":
        git_in(tree, "reset", "-q", "--soft", "HEAD~2")
        git_in(tree, "commit", "-q", "-m", "both")
    elif how == "commit and reset":
        git_in(tree, "reset", "-q", "HEAD~1")

    if verb == "cherry_pick" and how == "amend":
        with pytest.raises(RefConflict, match="git in this tree has replaced the commit"):
            work.continue_rewrite()
    work.abort_merge()

    assert (tree / "own").exists() == (how != "commit and reset")
    assert (tree / "file").read_bytes() == b"main\n"
    if how != "commit and reset":
        assert not work.status().changed_files


@pytest.mark.parametrize("verb", ["merge", "cherry_pick"])
@pytest.mark.parametrize("was_file", [False, True])
@pytest.mark.parametrize("ends", ["abort", "continue"])
def test_a_directory_that_git_replaces_by_a_file_stays_so_when_a_merge_ends(
    mounted: tuple[Workspace, Path], verb: str, ends: str, *, was_file: bool
) -> None:
    """Or a file by a directory: what stands at a path before and after is not of one kind."""
    work, tree = mounted
    first, then = ("x", "x/below") if was_file else ("x/below", "x")
    work.write(first, b"first\n")
    work.checkpoint("first")
    stop(work, verb)
    git_in(tree, "rm", "-q", "-r", "x")
    (tree / then).parent.mkdir(exist_ok=True)
    (tree / then).write_bytes(b"then\n")
    git_in(tree, "add", then)
    git_in(tree, "commit", "-q", "-m", "by git")

    if ends == "abort":
        work.abort_merge()
    else:
        work.resolve("file", "theirs")
        (work.continue_merge if verb == "merge" else work.continue_rewrite)()

    assert (tree / then).read_bytes() == b"then\n"
    assert not work.status().changed_files
    if verb == "cherry_pick" and ends == "continue":
        assert git_in(tree, "show", "--format=", "--name-only", "HEAD~1") == "file\n"
        assert git_in(tree, "log", "-1", "--format=%s") == "by git\n"


@pytest.mark.parametrize("verb", ["merge", "cherry_pick", "rebase"])
@pytest.mark.parametrize("untracks", [False, True])
@pytest.mark.parametrize("ends", ["abort", "abort later", "undo"])
def test_what_lay_beside_a_commit_of_gits_is_there_when_a_merge_is_taken_back(
    mounted: tuple[Workspace, Path], verb: str, ends: str, *, untracks: bool
) -> None:
    """Such a commit says nothing of it; what the merge has put in its place, and what git untracks, changes nothing.

    What the merge brought is in the commit with which it ends, as where nothing is in conflict.
    """
    work, tree = mounted
    (tree / ".gitignore").write_bytes(b"secret\nbuild/\n")
    git_in(tree, "add", ".gitignore")
    git_in(tree, "commit", "-q", "-m", "rules")
    side = work.vault.fork("side", source="main")
    (tree / "secret").write_bytes(b"ours\n")
    (tree / "build").mkdir()
    (tree / "build" / "made").write_bytes(b"made\n")
    work.checkpoint("secret")
    side.write(".gitignore", b"build/\n")
    side.write("secret", b"theirs\n")
    side.write("file", b"side\n")
    first = side.checkpoint("side").checkpoint
    side.write("file", b"side again\n")
    second = side.checkpoint("again").checkpoint
    assert first is not None
    assert second is not None
    for text in (b"main\n", b"main again\n"):
        (tree / "file").write_bytes(text)
        git_in(tree, "commit", "-q", "-a", "-m", "by git")

    if verb == "merge":
        work.merge("side", on_conflict="workspace")
    elif verb == "rebase":
        work.rebase("side", on_conflict="workspace")
    else:
        work.cherry_pick([first.id, second.id], on_conflict="workspace")
    assert (tree / "secret").read_bytes() == b"theirs\n"
    if untracks:
        with (tree / ".gitignore").open("ab") as rules:
            rules.write(b"more\n")
        git_in(tree, "add", ".gitignore")
        git_in(tree, "rm", "-q", "--cached", "more")
        git_in(tree, "commit", "-q", "-m", "untracked")
    go_on = work.continue_merge if verb == "merge" else work.continue_rewrite
    if ends == "abort later" and verb != "merge":
        (tree / "file").write_bytes(b"resolved\n")
        assert go_on().outcome == "conflicted"
    if ends == "undo":
        (tree / "file").write_bytes(b"resolved\n")
        while go_on().outcome == "conflicted":
            (tree / "file").write_bytes(b"resolved again\n")
        assert git_in(tree, "show", "HEAD:secret") == "theirs\n"
        work.undo()
    else:
        work.abort_merge()

    assert (tree / "file").read_bytes() == b"main again\n"
    assert (tree / "secret").read_bytes() == b"ours\n"
    assert (tree / "build" / "made").read_bytes() == b"made\n"
    assert (tree / "more").exists()
    assert not work.status().changed_files


@pytest.mark.parametrize("verb", ["merge", "cherry_pick"])
def test_a_file_that_git_adds_in_a_merge_that_is_given_up_is_beside_history_no_more(
    mounted: tuple[Workspace, Path], verb: str
) -> None:
    """Else undo would find the same change again and again."""
    work, tree = mounted
    (tree / ".gitignore").write_bytes(b"secret\n")
    (tree / "secret").write_bytes(b"ours\n")
    stop(work, verb)
    git_in(tree, "add", "-f", "secret")
    git_in(tree, "commit", "-q", "-m", "secret")

    work.abort_merge()

    assert not work.status().changed_files
    assert not work.status().sidecar_changed
    assert work.undo().operation.kind == "merge_abort"
    work.abort_merge()
    assert (tree / "secret").read_bytes() == b"ours\n"
    assert not work.status().changed_files


@pytest.mark.parametrize("mounted", ["auto", "fuse"], indirect=True)
def test_what_git_commits_at_the_last_stop_of_a_rebase_is_the_resolution(mounted: tuple[Workspace, Path]) -> None:
    """The commit that is put on is the branch's head. Of two commits of git's the second changes the first."""
    work, tree = mounted
    side = work.vault.fork("side", source="main")
    side.write("file", b"side\n")
    side.checkpoint()
    work.write("file", b"main\n")
    work.checkpoint("first")
    work.rebase("side", on_conflict="workspace")
    for text in (b"almost\n", b"resolved\n"):
        (tree / "file").write_bytes(text)
        git_in(tree, "commit", "-q", "-a", "-m", text.decode())

    assert work.continue_rewrite().outcome == "rewritten"
    assert (tree / "file").read_bytes() == b"resolved\n"
    assert work.status().clean


@pytest.mark.parametrize("ends", ["continued", "stopped again", "given up"])
@pytest.mark.parametrize("own", [False, True])
def test_a_resolution_that_git_commits_takes_nothing_back_that_is_yet_to_be_put_on(
    mounted: tuple[Workspace, Path], ends: str, *, own: bool
) -> None:
    """The branch is at the last commit while a rebase stops at the first: `git commit -a` has all between as a change.

    What else git commits is put on, and stays where the rebase is given up.
    """
    work, tree = mounted
    side = work.vault.fork("side", source="main")
    side.write("file", b"side\n")
    side.write("late", b"side\n" if ends == "stopped again" else b"")
    side.checkpoint()
    work.write("late", b"")
    work.write("file", b"main\n")
    work.checkpoint("first")
    work.write("later", b"later\n")
    work.write("more", b"later\n")
    work.write("late", b"main\n" if ends == "stopped again" else b"")
    work.checkpoint("second")
    work.rebase("side", on_conflict="workspace")
    (tree / "file").write_bytes(b"resolved\n")
    if own:
        (tree / "own").write_bytes(b"own\n")
        git_in(tree, "add", "own")
    git_in(tree, "commit", "-q", "-a", "-m", "resolved")

    if ends == "given up":
        work.abort_merge()
    else:
        assert work.continue_rewrite().outcome == ("rewritten" if ends == "continued" else "conflicted")
        if ends == "stopped again":
            work.resolve("late", "theirs")
            work.vault.gc(grace_days=0, keep_days=0, keep_operations=1)
            work.continue_rewrite()
        subjects = git_in(tree, "log", "--format=%s", "side..main").split("\n")[:-1]
        assert subjects == (["resolved"] if own else []) + ["checkpoint second", "checkpoint first"]
        assert work.status().clean

    names = ("file", "later", "more", *(["own"] if own else []))
    assert [(tree / name).read_bytes() for name in names] == [b"resolved\n", b"later\n", b"later\n", b"own\n"][
        : len(names)
    ]
    assert (tree / "own").exists() == own


def test_a_resolution_that_git_commits_is_in_no_other_commit_where_the_stop_is_skipped(
    mounted: tuple[Workspace, Path],
) -> None:
    """It is put on as git has it, and does not fit without the commit that it was for."""
    work, tree = mounted
    side = work.vault.fork("side", source="main")
    side.write("file", b"side\n")
    side.checkpoint()
    work.write("file", b"main\n")
    work.checkpoint("first")
    work.write("later", b"later\n")
    work.checkpoint("second")
    work.rebase("side", on_conflict="workspace")
    (tree / "file").write_bytes(b"resolved\n")
    git_in(tree, "commit", "-q", "-a", "-m", "resolved")

    assert work.continue_rewrite(skip=True).outcome == "conflicted"
    work.resolve("file", "theirs")
    work.continue_rewrite()

    assert git_in(tree, "log", "--format=%s", "side..main").split("\n")[:-1] == ["resolved", "checkpoint second"]
    assert [(tree / name).read_bytes() for name in ("file", "later")] == [b"resolved\n", b"later\n"]


@pytest.mark.parametrize("verb", ["merge", "cherry_pick"])
@pytest.mark.parametrize("ends", ["given up", "concluded"])
def test_a_closed_file_that_git_commits_in_a_stop_stays_closed(
    mounted: tuple[Workspace, Path], verb: str, ends: str
) -> None:
    """A file that is new or was ignored has its mode still where the merge is given up, or undone."""
    work, tree = mounted
    (tree / ".gitignore").write_bytes(b"*.env\n")
    (tree / "x.env").write_bytes(b"")
    (tree / "x.env").chmod(0o600)
    stop(work, verb)
    (tree / "key").write_bytes(b"")
    (tree / "key").chmod(0o600)
    git_in(tree, "add", "-f", "key", "x.env")
    git_in(tree, "commit", "-q", "-m", "key", "--", "key", "x.env")

    if ends == "given up":
        work.abort_merge()
    else:
        work.resolve("file", "theirs")
        (work.continue_merge if verb == "merge" else work.continue_rewrite)()
        work.undo()

    assert [(tree / name).stat().st_mode & 0o777 for name in ("key", "x.env")] == [0o600, 0o600]
    assert not work.status().changed_files


@pytest.mark.parametrize("verb", ["merge", "cherry_pick"])
@pytest.mark.parametrize("ends", ["given up", "concluded"])
def test_undo_gets_past_a_closed_file_that_git_removes_in_a_stop(
    mounted: tuple[Workspace, Path], verb: str, ends: str
) -> None:
    """The state to which undo leads has nothing of it left."""
    work, tree = mounted
    (tree / "more").chmod(0o600)
    stop(work, verb)
    git_in(tree, "rm", "-q", "more")
    git_in(tree, "commit", "-q", "-m", "without", "--", "more")
    (tree / "file").write_bytes(b"resolved\n")

    if ends == "given up":
        work.abort_merge()
        assert work.undo().operation.kind == "merge_abort"
        assert (tree / "file").read_bytes() == b"resolved\n"
    (work.continue_merge if verb == "merge" else work.continue_rewrite)()

    assert [work.undo().operation.kind for _ in range(3)] == [verb, "git", "files"]
    assert (tree / "more").stat().st_mode & 0o777 == 0o600
    assert work.undo().operation.kind == "checkpoint"


@pytest.mark.parametrize("verb", ["merge", "cherry_pick"])
@pytest.mark.parametrize("resolved", ["by a word", "by hand"])
def test_undo_past_a_merge_brings_no_conflicts_back(mounted: tuple[Workspace, Path], verb: str, resolved: str) -> None:
    """What git committed in the middle of it, while they were in the files, is taken back and done again without."""
    work, tree = mounted
    stop(work, verb)
    (tree / "own").write_bytes(b"own\n")
    git_in(tree, "add", "own")
    git_in(tree, "commit", "-q", "-m", "own")
    if resolved == "by a word":
        work.resolve("file", "theirs")
    else:
        (tree / "file").write_bytes(b"resolved\n")
    (work.continue_merge if verb == "merge" else work.continue_rewrite)()

    head = git_in(tree, "rev-parse", "HEAD")

    done = []
    while (tree / "file").read_bytes() != b"2\n":
        done.append(work.undo().operation.kind)
        assert b"<<<<" not in (tree / "file").read_bytes(), done
        assert (tree / "own").exists() == (len(done) < 3)
        if len(done) == 3:
            assert work.status().clean
    assert done[:3] == [verb, "git", "files"]
    for _ in done:
        work.redo()
    assert (git_in(tree, "rev-parse", "HEAD"), (tree / "own").read_bytes()) == (head, b"own\n")
    assert work.status().clean


@pytest.mark.parametrize("mounted", ["auto", "fuse"], indirect=True)
def test_what_git_commits_of_a_merge_comes_and_goes_with_its_files(mounted: tuple[Workspace, Path]) -> None:
    """Also files that the merge brought, and that are as it left them."""
    work, tree = mounted
    side = work.vault.fork("side", source="main")
    for each, text in ((side, b"side\n"), (work, b"main\n")):
        each.write("file", text)
        if each is side:
            each.write("more", text)
        each.checkpoint("changed")
    work.merge("side", on_conflict="workspace")
    (tree / "file").write_bytes(b"resolved\n")
    git_in(tree, "commit", "-q", "-a", "-m", "all")
    git_in(tree, "commit", "-q", "--allow-empty", "-m", "another")
    work.continue_merge()

    count = 0
    while git_in(tree, "log", "-1", "--format=%s") != "checkpoint changed\n":
        assert git_in(tree, "status", "--porcelain") == ""
        work.undo()
        count += 1
    while work.status().changed_files:
        work.undo()
        count += 1
    assert [(tree / name).read_bytes() for name in ("file", "more")] == [b"main\n", b"\n"]
    for _ in range(count):
        work.redo()
        if git_in(tree, "log", "-1", "--format=%s") != "checkpoint changed\n":
            assert git_in(tree, "status", "--porcelain") == ""


@pytest.mark.parametrize("mounted", ["auto", "fuse"], indirect=True)
def test_a_fork_at_a_commit_of_gits_has_what_its_source_has_beside_it(mounted: tuple[Workspace, Path]) -> None:
    """Also after a fast-forward, whose commit names what the other fork had there; a diff says the same."""
    work, tree = mounted
    part(work, tree)
    work.merge("side")
    for name in ("first", "second"):
        (tree / name).write_bytes(b"")
        git_in(tree, "add", name)
        git_in(tree, "commit", "-q", "-m", name)

    for number, at in enumerate((None, "HEAD", "HEAD~1", "HEAD~2")):
        assert work.vault.fork(f"own-{number}", source="main", at=at).read("x.env") == b"main\n"
    assert not work.diff("HEAD~2").sidecar
    assert not work.diff("HEAD~1").sidecar
    assert work.vault.fork("theirs", at="side").read("x.env") == b"side\n"


@pytest.mark.parametrize("mounted", ["auto", "fuse"], indirect=True)
def test_a_fork_at_a_commit_of_gits_has_nothing_that_was_taken_away_by_hand(mounted: tuple[Workspace, Path]) -> None:
    """Though the log has it, as a change before git's commit."""
    work, tree = mounted
    (tree / ".gitignore").write_bytes(b"*.env\n")
    (tree / "y.env").write_bytes(b"kept\n")
    work.checkpoint()
    (tree / "x.env").write_bytes(b"secret\n")
    work.undo(dry_run=True)  # records it
    (tree / "x.env").unlink()
    (tree / "new").write_bytes(b"")
    git_in(tree, "add", "new")
    git_in(tree, "commit", "-q", "-m", "new")

    for number, at in enumerate((None, "HEAD")):
        with work.vault.fork(f"fork-{number}", source="main", at=at) as fork:
            assert (fork.exists("x.env"), fork.read("y.env")) == (False, b"kept\n")


@pytest.mark.parametrize("mounted", ["auto", "fuse"], indirect=True)
@pytest.mark.parametrize("how", ["merge --ff-only", "rebase"])
def test_a_fork_of_what_git_has_moved_to_another_forks_commit_has_the_sources_own(
    mounted: tuple[Workspace, Path], how: str
) -> None:
    """Git brings no ignored files, and the commit names those of the other fork."""
    work, tree = mounted
    part(work, tree)
    git_in(tree, *how.split(), "-q", "side")

    for number, at in enumerate((None, "HEAD", "main")):
        assert work.vault.fork(f"own-{number}", source="main", at=at).read("x.env") == b"main\n"


@pytest.mark.parametrize("how", ["merge --ff-only", "rebase"])
def test_so_has_a_fork_of_a_vault_in_which_nothing_was_saved_since_it_was_made(
    tmp_path: Path, mount_dir: Path, how: str
) -> None:
    """What the workspace began with counts."""
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / ".gitignore").write_bytes(b"*.env\n")
    (tmp_path / "source" / "x.env").write_bytes(b"main\n")
    with Avfs(tmp_path / "home") as avfs, avfs.create_vault("v", source=tmp_path / "source") as vault:
        side = vault.fork("side", source="main")
        side.write("x.env", b"side\n")
        side.write("file", b"side\n")
        side.checkpoint()
        with vault.workspace("main").mount(mount_dir / "tree") as session:
            git_in(session.path, *how.split(), "-q", "side")
            for number, at in enumerate((None, "HEAD")):
                assert vault.fork(f"own-{number}", source="main", at=at).read("x.env") == b"main\n"


@pytest.mark.parametrize("mounted", ["auto", "fuse"], indirect=True)
def test_what_git_committed_is_newer_in_a_fork_than_what_was_built_before(mounted: tuple[Workspace, Path]) -> None:
    """The time that a checkpoint recorded is of what the file was: `make` would take the output for built from it."""
    work, tree = mounted
    (tree / ".gitignore").write_bytes(b"*.o\n")
    (tree / "file.o").write_bytes(b"built\n")
    (tree / "file").chmod(0o600)
    work.checkpoint()
    (tree / "file").write_bytes(b"edited\n")
    (tree / "dir").mkdir()
    (tree / "dir" / "new").write_bytes(b"new\n")
    git_in(tree, "add", "dir")
    git_in(tree, "commit", "-q", "-a", "-m", "edited")
    (tree / "file").touch()  # so that a fork finds nothing to save

    for number, at in enumerate((None, "HEAD")):
        fork = work.vault.fork(f"fork-{number}", source="main", at=at)
        built = fork.stat("file.o").mtime_ns
        assert built == (tree / "file.o").stat().st_mtime_ns
        assert built < min(fork.stat(name).mtime_ns for name in ("file", "dir/new"))
        assert fork.stat("more").mtime_ns < built
        assert fork.stat("file").mode & 0o777 == 0o600
        assert fork.status().clean


def test_a_directory_of_a_commit_of_gits_is_open_in_place_of_a_closed_file(mounted: tuple[Workspace, Path]) -> None:
    """Such a commit says nothing of modes, and what is recorded of the file shuts no directory.

    It opens none to others either.
    """
    work, tree = mounted
    git_in(tree, "rm", "-q", "more")
    (tree / "more").mkdir()
    (tree / "more" / "in").write_bytes(b"in\n")
    git_in(tree, "add", "more")
    git_in(tree, "commit", "-q", "-m", "directory")
    commit = git_in(tree, "rev-parse", "HEAD").strip()
    (tree / "more" / "in").unlink()
    (tree / "more").rmdir()
    (tree / "more").write_bytes(b"closed\n")
    (tree / "more").chmod(0o600)
    work.checkpoint("file")

    work.restore(commit)

    assert (tree / "more" / "in").read_bytes() == b"in\n"
    assert (tree / "more").stat().st_mode & 0o777 == 0o700
    work.undo()
    assert (tree / "more").stat().st_mode & 0o777 == 0o600
    git_in(tree, "rm", "-q", "--cached", "more")
    (tree / "more").unlink()
    (tree / "more").mkdir()
    (tree / "more" / "in").write_bytes(b"in\n")
    git_in(tree, "add", "more")
    git_in(tree, "commit", "-q", "-m", "again")
    fork = work.vault.fork("fork", at="HEAD")
    assert (fork.read("more/in"), fork.stat("more").mode & 0o700) == (b"in\n", 0o700)


@pytest.mark.parametrize("verb", ["merge", "cherry_pick"])
@pytest.mark.parametrize("commits", [False, True])
def test_a_file_that_a_merge_brings_stays_in_history_whatever_the_rules_say(
    mounted: tuple[Workspace, Path], verb: str, *, commits: bool
) -> None:
    """Git's commits lack it until the merge ends: that does not say that git has taken it out."""
    work, tree = mounted
    (tree / ".gitignore").write_bytes(b"*.env\n")
    git_in(tree, "add", ".gitignore")
    git_in(tree, "commit", "-q", "-m", "rules")
    side = work.vault.fork("side", source="main")
    add = "echo theirs > x.env; git add -f x.env; echo side > file; git commit -q -a -m side"
    assert side.exec(shell=add).exit_code == 0
    (tree / "file").write_bytes(b"main\n")
    git_in(tree, "commit", "-q", "-a", "-m", "main")
    if verb == "merge":
        work.merge("side", on_conflict="workspace")
    else:
        work.cherry_pick(["side"], on_conflict="workspace")
    work.status()
    if commits:
        (tree / "own").write_bytes(b"own\n")
        git_in(tree, "add", "own")
        git_in(tree, "commit", "-q", "-m", "own")
    (tree / "file").write_bytes(b"both\n")

    (work.continue_merge if verb == "merge" else work.continue_rewrite)()

    assert git_in(tree, "show", "HEAD:x.env") == "theirs\n"
    assert work.status().clean


def test_a_merge_that_is_given_up_twice_has_what_git_committed_since(mounted: tuple[Workspace, Path]) -> None:
    """Also of a file that it had committed before the first time."""
    work, tree = mounted
    stop(work, "merge")
    for text in (b"first\n", b"second\n"):
        (tree / "own").write_bytes(text)
        git_in(tree, "add", "own")
        git_in(tree, "commit", "-q", "-m", "own")
        work.abort_merge()
        if text == b"first\n":
            work.undo()

    assert (tree / "own").read_bytes() == b"second\n"
    assert not work.status().changed_files


@pytest.mark.parametrize("how", ["--amend", "--allow-empty"])
def test_a_commit_of_gits_that_was_undone_hides_no_later_one(mounted: tuple[Workspace, Path], how: str) -> None:
    """Git's own log has no undo of avfs's: of two commits on one, the branch has the second."""
    work, tree = mounted
    side = work.vault.fork("side", source="main")
    for each, text in ((side, b"side\n"), (work, b"main\n")):
        each.write("file", text)
        each.checkpoint("changed")
    git_in(tree, "commit", "-q", how, "-m", "words")
    work.undo()
    work.merge("side", on_conflict="workspace")
    (tree / "own").write_bytes(b"own\n")
    git_in(tree, "add", "own")
    git_in(tree, "commit", "-q", "-m", "own")

    work.abort_merge()

    assert (tree / "own").read_bytes() == b"own\n"
    assert not work.status().changed_files


@pytest.mark.parametrize("verb", ["merge", "cherry_pick"])
@pytest.mark.parametrize("how", ["--amend", "--allow-empty"])
def test_a_merge_that_was_given_up_comes_back_first(mounted: tuple[Workspace, Path], verb: str, how: str) -> None:
    """A commit by git in it that changes no file is older, and stays."""
    work, tree = mounted
    stop(work, verb)
    git_in(tree, "commit", "-q", how, "-m", "words")
    head = git(work.vault.path, "rev-parse", "main")

    work.abort_merge()
    assert work.undo().operation.kind == "merge_abort"

    assert git(work.vault.path, "rev-parse", "main") == head
    assert b"<<<<<<<" in (tree / "file").read_bytes()
    assert work.status().merging is not None


@pytest.mark.parametrize("verb", ["merge", "cherry_pick"])
@pytest.mark.parametrize("rule", ["before", "meanwhile"])
@pytest.mark.parametrize("secret", [".env", "deep/in/.env"])
def test_what_git_took_out_of_history_stays_in_the_files_where_a_merge_is_given_up(
    mounted: tuple[Workspace, Path], verb: str, rule: str, secret: str
) -> None:
    """`git rm --cached` of an ignored file leaves it in the tree, and so does giving up; it is not in history again.

    A rule that was made in the merge, and not committed, goes with it.
    """
    work, tree = mounted
    side = work.vault.fork("side", source="main")
    side.write("file", b"side\n")
    side.checkpoint("changed")
    (tree / ".gitignore").write_bytes(b".env\n" if rule == "before" else b"\n")
    (tree / secret).parent.mkdir(parents=True, exist_ok=True)
    (tree / secret).write_bytes(b"secret\n")
    (tree / "file").write_bytes(b"main\n")
    git_in(tree, "add", "-f", secret, ".gitignore")
    git_in(tree, "commit", "-q", "-a", "-m", "with .env")
    if verb == "merge":
        work.merge("side", on_conflict="workspace")
    else:
        work.cherry_pick(["side"], on_conflict="workspace")
    (tree / ".gitignore").write_bytes(b".env\n")
    git_in(tree, "rm", "-q", "--cached", secret)
    git_in(tree, "commit", "-q", "-m", "without .env")

    work.abort_merge()

    assert (tree / secret).read_bytes() == b"secret\n"
    assert (tree / ".gitignore").read_bytes() == (b".env\n" if rule == "before" else b"\n")
    (tree / secret).write_bytes(b"another\n")
    (tree / "more").write_bytes(b"more\n")
    work.checkpoint("more")
    assert git(work.vault.path, "ls-tree", "-r", "--name-only", "main").split() == [".gitignore", "file", "more"]
    check_vault(work.vault)


@pytest.mark.parametrize("mounted", ["auto", "fuse"], indirect=True)
@pytest.mark.parametrize("first", ["restored", "reset", "stashed", "reset and saved", "updated"])
@pytest.mark.parametrize("commits", [False, True])
def test_what_others_push_twice_comes_in_twice(mounted: tuple[Workspace, Path], first: str, *, commits: bool) -> None:
    """What came in by the first of two pushes, and what git in the tree has committed on it, is not the fork's own."""
    work, tree = mounted
    work.write("file", b"own\n")
    work.checkpoint("own")
    others = Others(work.vault.path, tree.parent / "clone")
    others.push("theirs", b"once\n")
    if first == "restored":
        work.restore("HEAD")
    elif first == "updated":
        work.update()
    else:
        (tree / "file").write_bytes(b"edited\n")
        git_in(tree, "stash") if first == "stashed" else git_in(tree, "reset", "-q", "--hard")
    if first == "reset and saved":
        assert work.checkpoint().outcome == "unchanged"
    if commits:
        (tree / "mine").write_bytes(b"by git\n")
        git_in(tree, "add", "mine")
        git_in(tree, "commit", "-q", "-m", "by git")
    others.push("mine" if commits else "theirs", b"twice\n")

    assert [merged.outcome for merged in work.update()] == ["fast_forward"]
    assert (tree / ("mine" if commits else "theirs")).read_bytes() == b"twice\n"
    assert git_in(tree, "status", "--short") == ""
    head = git(work.vault.path, "rev-parse", "main")
    work.undo()
    assert git(work.vault.path, "rev-parse", "main") == head
    assert (tree / "theirs").read_bytes() == b"once\n"
    work.redo()
    assert (tree / ("mine" if commits else "theirs")).read_bytes() == b"twice\n"
    assert git_in(tree, "status", "--short") == ""


@pytest.mark.parametrize("mounted", ["auto", "fuse"], indirect=True)
@pytest.mark.parametrize("how", ["commit", "amend", "cherry-pick", "merge"])
def test_a_commit_in_the_tree_says_nothing_of_files_pushed_before_it(mounted: tuple[Workspace, Path], how: str) -> None:
    """Git commits what is staged and brings no other file: a checkpoint after it would take back what others pushed."""
    work, tree = mounted
    with work.vault.fork("side") as side:
        side.write("picked", b"")
        side.checkpoint("picked")
    if how == "amend":
        (tree / "mine").write_bytes(b"")
        git_in(tree, "add", "mine")
        git_in(tree, "commit", "-q", "-m", "by git")
    work.write("file", b"own\n")
    work.checkpoint("own")  # git's index is brought up to what is on the branch when git asks next
    Others(work.vault.path, tree.parent / "clone").push("theirs", b"theirs\n")
    assert git_in(tree, "status", "--short") == " D theirs\n"
    if how == "cherry-pick":
        git_in(tree, "cherry-pick", "side")
    elif how == "merge":
        git_in(tree, "merge", "-q", "-m", "merged", "side")
    else:
        (tree / "mine").write_bytes(b"by git\n")
        git_in(tree, "add", "mine")
        git_in(tree, "commit", "-q", "-m", "by git", *(["--amend"] if how == "amend" else []))

    with pytest.raises(RefConflict):
        work.checkpoint()
    assert [told.code for told in work.status().warnings] == ["fork.moved_outside"]
    work.update()
    assert (tree / "theirs").read_bytes() == b"theirs\n"
    assert git_in(tree, "status", "--short") == ""
    work.checkpoint()
    assert git(work.vault.path, "show", "main:theirs") == "theirs\n"


@pytest.mark.parametrize("mounted", ["auto", "fuse"], indirect=True)
def test_a_switch_back_brings_nothing_of_what_the_tree_lacked_before(mounted: tuple[Workspace, Path]) -> None:
    """Git carries it over as it does any edit: an update brings it, and no commit takes it back."""
    work, tree = mounted
    others = Others(work.vault.path, tree.parent / "clone")
    others.push("first", b"theirs\n")  # unseen by the tree when HEAD leaves the branch
    git_in(tree, "switch", "-q", "--detach")
    (others.clone / "then").write_bytes(b"theirs\n")
    others.push_while_elsewhere()
    git_in(tree, "switch", "-q", "main")
    (tree / "mine").write_bytes(b"")

    with pytest.raises(RefConflict):
        work.checkpoint()
    work.update()
    assert ((tree / "first").read_bytes(), (tree / "then").read_bytes()) == (b"theirs\n", b"theirs\n")
    assert git_in(tree, "status", "--short") == ""


@pytest.mark.parametrize("mounted", ["auto", "fuse"], indirect=True)
def test_a_switch_to_the_branch_that_head_is_on_brings_nothing(mounted: tuple[Workspace, Path]) -> None:
    """Git logs it as it logs the way back from another branch, with the commit that others have put there."""
    work, tree = mounted
    others = Others(work.vault.path, tree.parent / "clone")
    git_in(tree, "switch", "-q", "--detach")
    (others.clone / "theirs").write_bytes(b"theirs\n")
    others.push_while_elsewhere()
    work.undo()
    git_in(tree, "switch", "-q", "main")
    (tree / "mine").write_bytes(b"")

    with pytest.raises(RefConflict):
        work.checkpoint()
    work.update()
    assert (tree / "theirs").read_bytes() == b"theirs\n"
    assert git_in(tree, "status", "--short") == ""


@pytest.mark.parametrize("again", [False, True])
@pytest.mark.parametrize("what", ["-a", "file"])
def test_a_commit_over_what_others_pushed_is_an_operation(
    mounted: tuple[Workspace, Path], what: str, *, again: bool
) -> None:
    """Undo takes back git's commit and then the edit, and leaves what others pushed before, which an update brings."""
    work, tree = mounted
    others = Others(work.vault.path, tree.parent / "clone")
    (tree / "file").write_bytes(b"mine\n")
    others.push("theirs", b"theirs\n")
    theirs = git(work.vault.path, "rev-parse", "main")
    git_in(tree, "commit", "-q", "-m", "mine", what)  # `-a` takes back what others pushed, as git shows
    if again:
        others.push("then", b"theirs\n")
        git_in(tree, "commit", "-q", "-m", "again", "--allow-empty")
        assert work.undo().operation.description == "git commit: again"
        git(work.vault.path, "update-ref", "refs/heads/main", "main~1")

    assert work.undo().operation.description == "git commit: mine"
    assert git(work.vault.path, "rev-parse", "main") == theirs
    assert (tree / "file").read_bytes() == b"mine\n"
    assert [warning.code for warning in work.status().warnings] == ["fork.moved_outside"]
    work.redo()
    assert bool(work.status().warnings) == (what != "-a")
    work.undo()
    assert work.undo().operation.description == "change 'file'"
    work.update()
    assert ((tree / "file").read_bytes(), (tree / "theirs").read_bytes()) == (b"2\n", b"theirs\n")
    assert git(work.vault.path, "rev-parse", "main") == theirs
    assert git_in(tree, "status", "--short") == ""


@pytest.mark.parametrize("saves", ["checkpoint", "update"])
@pytest.mark.parametrize("commits", [False, True])
@pytest.mark.parametrize("looks", [False, True])
def test_a_switch_back_brings_what_others_pushed(
    mounted: tuple[Workspace, Path], saves: str, *, commits: bool, looks: bool
) -> None:
    """Git takes a push while HEAD is on another branch; edits after the way back are none of what others did.

    Nor are they once the log has them as an operation, as when an undo is planned.
    """
    work, tree = mounted
    others = Others(work.vault.path, tree.parent / "clone")
    git_in(tree, "switch", "-q", "-c", "other")
    for name in ("file", "theirs"):
        (others.clone / name).write_bytes(b"theirs\n")
    others.push_while_elsewhere()
    git_in(tree, "switch", "-q", "main")
    if commits:
        (tree / "made").write_bytes(b"")
        git_in(tree, "add", "made")
        git_in(tree, "commit", "-q", "-m", "by git")
    (tree / "file").write_bytes(b"mine\n")
    if looks:
        work.undo(dry_run=True)
    (tree / "theirs").write_bytes(b"mine\n")

    assert work.status().warnings == ()
    if saves == "update":
        assert work.update() == []
    assert work.checkpoint().outcome == "created"
    assert git(work.vault.path, "show", "main:theirs") == "mine\n"
    assert git_in(tree, "status", "--short") == ""
    for _ in range(3 if looks else 2):
        work.undo()
    assert not (tree / "theirs").exists()
    (tree / "more").write_bytes(b"mine\n")
    with pytest.raises(RefConflict):
        work.checkpoint()
    work.update()
    assert ((tree / "file").read_bytes(), (tree / "theirs").read_bytes()) == (b"theirs\n", b"theirs\n")


@pytest.mark.parametrize("mounted", ["auto", "fuse"], indirect=True)
def test_a_switch_back_is_known_where_git_writes_its_log_a_second_before_head(mounted: tuple[Workspace, Path]) -> None:
    """And where that was the second of the last checkpoint: git reads the clock before it writes either."""
    work, tree = mounted
    others = Others(work.vault.path, tree.parent / "clone")
    git_in(tree, "switch", "-q", "-c", "other")
    (others.clone / "theirs").write_bytes(b"theirs\n")
    others.push_while_elsewhere()
    git_in(tree, "switch", "-q", "main")
    last_s = work.operations()[0].created_at_ns // 1_000_000_000
    git_dir = Path(git_in(tree, "rev-parse", "--absolute-git-dir").strip())
    log = (git_dir / "logs/HEAD").read_text().splitlines()
    log[-1] = re.sub(r" [0-9]+ ([-+][0-9]{4}\t)", rf" {last_s} \1", log[-1])
    (git_dir / "logs/HEAD").write_text("\n".join(log) + "\n")
    os.utime(git_dir / "HEAD", ns=(0, (last_s + 1) * 1_000_000_000))
    (tree / "theirs").write_bytes(b"mine\n")

    assert work.status().warnings == ()
    assert work.checkpoint().outcome == "created"


@pytest.mark.parametrize("mounted", ["auto", "fuse"], indirect=True)
@pytest.mark.parametrize("then", ["on", "back", "wholly back"])
@pytest.mark.parametrize("edits", [False, True])
def test_what_others_push_after_a_switch_back_comes_in(
    mounted: tuple[Workspace, Path], then: str, *, edits: bool
) -> None:
    """What git brought by the way back is none of the fork's own: others may change it again, or take it back."""
    work, tree = mounted
    others = Others(work.vault.path, tree.parent / "clone")
    git_in(tree, "switch", "-q", "-c", "other")
    for name in ("file", "theirs"):
        (others.clone / name).write_bytes(b"once\n")
    others.push_while_elsewhere()
    git_in(tree, "switch", "-q", "main")
    if edits:
        (tree / "mine").write_bytes(b"mine\n")
    if then == "wholly back":
        others.push("theirs", None)
    others.push("file", b"twice\n" if then == "on" else b"2\n")

    with pytest.raises(RefConflict):
        work.checkpoint()
    assert [merged.outcome for merged in work.update()] == ["clean" if edits else "fast_forward"]
    assert (tree / "file").read_bytes() == (b"twice\n" if then == "on" else b"2\n")
    assert (tree / "theirs").exists() == (then != "wholly back")
    assert git_in(tree, "status", "--short") == ""
    assert work.checkpoint().outcome == "unchanged"


def test_what_others_take_back_twice_is_gone(mounted: tuple[Workspace, Path]) -> None:
    """A file that came with `git reset --hard` is none of the fork's own, also where others have pushed more since."""
    work, tree = mounted
    others = Others(work.vault.path, tree.parent / "clone")
    others.push("theirs", b"once\n")
    git_in(tree, "reset", "-q", "--hard")
    for name in ("more", "file"):
        others.push(name, b"unseen\n")
        git_in(tree, "commit", "-q", "--allow-empty", "-m", "by git")
    others.push("theirs", None)

    work.update()

    assert not (tree / "theirs").exists()
    assert git_in(tree, "status", "--short") == ""


@pytest.mark.parametrize("then", ["update", "update, edited", "mount"])
@pytest.mark.parametrize("commits", [1, 2])
def test_a_commit_of_a_path_leaves_the_index_without_what_others_pushed(
    mounted: tuple[Workspace, Path], then: str, commits: int
) -> None:
    """`git commit -- PATH` is made of HEAD and the path: the index, which gets the path, lacks what HEAD has by then."""
    work, tree = mounted
    others = Others(work.vault.path, tree.parent / "clone")
    for number in range(commits):
        others.push(f"theirs{number}", b"theirs\n")
        (tree / "file").write_bytes(b"mine %d\n" % number)
        git_in(tree, "commit", "-q", "-m", "by git", "file")
    if then == "update, edited":
        (tree / "more").write_bytes(b"staged\n")
        git_in(tree, "add", "more")
    if then == "mount":
        session = work.vault.find_session("main")
        assert session is not None
        session.unmount()
        work.update()
        work.mount(tree)
    else:
        work.update()
    git_in(tree, "commit", "-q", "--allow-empty", "-m", "by git")

    assert git(work.vault.path, "show", "main:theirs0") == "theirs\n"
    assert git(work.vault.path, "show", "main:file") == f"mine {commits - 1}\n"
    assert git_in(tree, "status", "--short") == ""
    assert work.checkpoint().outcome == "unchanged"


@pytest.mark.parametrize("mounted", ["auto", "fuse"], indirect=True)
@pytest.mark.parametrize("how", ["update", "update of two", "restore", "by hand"])
def test_what_the_files_lacked_is_not_staged_as_removed(mounted: tuple[Workspace, Path], how: str) -> None:
    """`git add -A` stages that the files lack what others have pushed; no commit after they have it takes it back."""
    work, tree = mounted
    git_in(tree, "status")
    (tree / "mine").write_bytes(b"1\n")
    work.checkpoint("mine")  # git's index is brought up to what is on the branch when git asks next
    others = Others(work.vault.path, tree.parent / "clone")
    others.push("file", b"theirs\n")
    others.push("theirs", b"theirs\n")
    (tree / "mine").write_bytes(b"2\n")
    git_in(tree, "add", "-A")
    assert git_in(tree, "status", "--short") == "M  file\nM  mine\nD  theirs\n"
    if how.startswith("update"):
        if how == "update of two":
            others.push("more", b"theirs\n")
        work.update()
    elif how == "restore":
        work.restore("HEAD")
    else:
        for name in ("file", "theirs"):
            (tree / name).write_bytes(b"theirs\n")
        work.checkpoint()

    git_in(tree, "commit", "-q", "--allow-empty", "-m", "by git")

    assert git_in(tree, "ls-tree", "--name-only", "HEAD").split() == ["file", "mine", "more", "theirs"]
    assert git_in(tree, "show", "HEAD:file") == "theirs\n"
    assert git_in(tree, "show", "HEAD:mine") == "2\n"


@pytest.mark.parametrize("mark", ["sparse-checkout", "--skip-worktree", "--assume-unchanged"])
def test_an_update_commits_nothing_that_git_was_told_to_keep_out(mounted: tuple[Workspace, Path], mark: str) -> None:
    """As a checkpoint: the branch keeps files that git has left out of the tree, and gets no edits of marked ones."""
    work, tree = mounted
    work.write("d/file", b"1\n")
    work.checkpoint("three")
    if mark == "sparse-checkout":
        git_in(tree, "status")  # git leaves out only files that it has looked at
        git_in(tree, "sparse-checkout", "set", "no-directory")
        assert not (tree / "d/file").exists()
    else:
        git_in(tree, "update-index", mark, "d/file")
        (tree / "d/file").write_bytes(b"local\n")
    Others(work.vault.path, tree.parent / "clone").push("theirs", b"theirs\n")
    head = git(work.vault.path, "rev-parse", "main")

    with pytest.raises(SparseCheckout if mark == "sparse-checkout" else MarkedUnchanged):
        work.update()
    assert git(work.vault.path, "rev-parse", "main") == head
    if mark == "sparse-checkout":
        git_in(tree, "checkout", "HEAD", "--", "theirs")
        git_in(tree, "sparse-checkout", "disable")
    else:
        git_in(tree, "update-index", mark.replace("--", "--no-"), "d/file")
    work.update()
    held = b"1\n" if mark == "sparse-checkout" else b"local\n"
    assert ((tree / "d/file").read_bytes(), (tree / "theirs").read_bytes()) == (held, b"theirs\n")


@pytest.mark.parametrize("command", ["merge", "cherry-pick", "revert"])
def test_nothing_is_merged_in_the_middle_of_a_command_of_gits(mounted: tuple[Workspace, Path], command: str) -> None:
    """The conflicts that git left would become a commit, markers and all, and giving up would not bring files back."""
    work, tree = mounted
    with work.vault.fork("side") as side:
        side.write("file", b"side\n")
        side.checkpoint("side")
    (tree / "file").write_bytes(b"mine\n")
    git_in(tree, "commit", "-q", "-a", "-m", "by git")
    with pytest.raises(subprocess.CalledProcessError):
        git_in(tree, command, "HEAD~1" if command == "revert" else "side")
    Others(work.vault.path, tree.parent / "clone").push("theirs", b"theirs\n")
    head = git(work.vault.path, "rev-parse", "main")

    picking, rebasing = partial(work.cherry_pick, ["side"]), partial(work.rebase, "side")
    restoring, adding = partial(work.restore, "side", paths=["file"]), partial(work.add, "file")
    for moving in (work.update, partial(work.merge, "side"), picking, rebasing, restoring, adding):
        with pytest.raises(GitUnderWay, match=command):
            moving()

    assert git(work.vault.path, "rev-parse", "main") == head
    git_in(tree, "reset", "-q", "--hard")
    work.update()
    assert ((tree / "file").read_bytes(), (tree / "theirs").read_bytes()) == (b"mine\n", b"theirs\n")


def test_a_fork_of_a_tree_on_another_branch_warns_of_it(mounted: tuple[Workspace, Path]) -> None:
    """What is saved first goes to the fork's own branch."""
    work, tree = mounted
    git_in(tree, "switch", "-q", "-c", "feature")
    (tree / "file").write_bytes(b"feature\n")
    told: list[Warning] = []
    with Avfs(work.vault.path.parents[1], on_warnings=told.extend) as home:
        home.open_vault(work.vault.name).fork("other", source="main").close()
    assert [warning.code for warning in told] == ["git.head_elsewhere"]


@pytest.mark.parametrize("command", ["merge", "cherry-pick", "revert", "rebase"])
def test_a_fork_in_the_middle_of_a_command_of_gits_leaves_the_branch(
    mounted: tuple[Workspace, Path], command: str
) -> None:
    """It has the files as they are; git goes back as if there were no fork."""
    work, tree = mounted
    with work.vault.fork("side") as side:
        side.write("file", b"side\n")
        side.checkpoint("side")
    (tree / "file").write_bytes(b"mine\n")
    git_in(tree, "commit", "-q", "-a", "-m", "by git")
    head = git(work.vault.path, "rev-parse", "main")
    with pytest.raises(subprocess.CalledProcessError):
        git_in(tree, command, "HEAD~1" if command == "revert" else "side")
    (tree / "file").write_bytes(b"half resolved\n")

    with work.vault.fork("other", source="main") as other:
        assert other.read("file") == b"half resolved\n"

    assert git(work.vault.path, "rev-parse", "main") == head
    git_in(tree, command, "--abort")
    assert (tree / "file").read_bytes() == b"mine\n"
    assert git(work.vault.path, "rev-parse", "main") == head


@pytest.mark.parametrize("mounted", ["auto", "fuse"], indirect=True)
@pytest.mark.parametrize("again", [False, True])
def test_a_staged_file_gets_what_others_pushed(mounted: tuple[Workspace, Path], again: bool) -> None:
    """What is staged stays so where the file has changed again; the next commit takes nothing back that others did."""
    work, tree = mounted
    lines = [b"%d\n" % number for number in range(40)]
    work.write("file", b"".join(lines))
    work.checkpoint("lines")
    (tree / "file").write_bytes(b"".join([b"staged\n", *lines[1:]]))
    git_in(tree, "add", "file")
    if again:
        (tree / "file").write_bytes(b"".join([b"mine\n", *lines[1:20], b"more\n", *lines[21:]]))
    Others(work.vault.path, tree.parent / "clone").push("file", b"".join([*lines[:-1], b"theirs\n"]))

    work.update()

    changed = [line for line in git_in(tree, "diff", "--cached", "-U0").splitlines() if line[:2] in ("-m", "+s", "-t")]
    assert changed == (["-mine", "+staged"] if again else [])
    git_in(tree, "commit", "-q", "--allow-empty", "-m", "by git")
    assert git_in(tree, "show", "HEAD:file").splitlines()[::39] == ["staged", "theirs"]
    assert git_in(tree, "status", "--short") == (" M file\n" if again else "")


@pytest.mark.parametrize("mounted", ["auto", "fuse"], indirect=True)
def test_a_file_that_git_has_moved_gets_what_others_pushed(mounted: tuple[Workspace, Path]) -> None:
    """The new name is staged with the old content: the next commit would take back what others did to the old one."""
    work, tree = mounted
    lines = [b"%d\n" % number for number in range(40)]
    work.write("file", b"".join(lines))
    work.checkpoint("lines")
    git_in(tree, "mv", "file", "moved")
    Others(work.vault.path, tree.parent / "clone").push("file", b"".join([*lines[:-1], b"theirs\n"]))

    work.update()

    assert git_in(tree, "status", "--short") == ""
    assert git_in(tree, "show", "HEAD:moved").splitlines()[-1] == "theirs"
    assert git_in(tree, "ls-tree", "--name-only", "HEAD").split() == ["more", "moved"]


@pytest.mark.parametrize("mounted", ["auto", "fuse"], indirect=True)
@pytest.mark.parametrize("case", ["moved and edited", "moved by others", "binary", "link"])
def test_what_is_staged_follows_a_rename(mounted: tuple[Workspace, Path], case: str) -> None:
    """A move and an edit, of one side or of each, are in the next commit; nothing of others is taken back."""
    work, tree = mounted
    lines = [b"%d\n" % number for number in range(40)]
    was, theirs = b"".join(lines), b"".join([*lines[:-1], b"theirs\n"])
    if case == "binary":
        was, theirs = b"\0" + was, b"\0" + theirs
    others = Others(work.vault.path, tree.parent / "clone")
    if case == "link":
        (tree / "moving").symlink_to("file")
    else:
        (tree / "moving").write_bytes(was)
    work.checkpoint("before")
    if case != "moved by others":
        git_in(tree, "mv", "moving", "moved")
    if case.startswith("moved"):
        name = "moved" if case == "moved and edited" else "moving"
        (tree / name).write_bytes(b"".join([b"staged\n", *lines[1:]]))
        git_in(tree, "add", name)
    git_in(others.clone, "pull", "-q")
    if case == "moved by others":
        git_in(others.clone, "mv", "moving", "moved")
        git_in(others.clone, "commit", "-q", "-m", "moved by others")
        git_in(others.clone, "push", "-q", "origin", "+HEAD:refs/heads/incoming")
        git(work.vault.path, "update-ref", "refs/heads/main", "refs/heads/incoming")
        others.push("moved", theirs)
    elif case == "link":
        (others.clone / "moving").unlink()
        (others.clone / "moving").symlink_to("more")
        git_in(others.clone, "commit", "-q", "-a", "-m", "of others")
        git_in(others.clone, "push", "-q", "origin", "+HEAD:refs/heads/incoming")
        git(work.vault.path, "update-ref", "refs/heads/main", "refs/heads/incoming")
    else:
        others.push("moving", theirs)

    work.update()

    assert git_in(tree, "status", "--short") == ""
    assert git_in(tree, "ls-files").split() == ["file", "more", "moved"]
    assert git_in(tree, "show", ":moved").splitlines()[-1] == ("more" if case == "link" else "theirs")


@pytest.mark.parametrize("mounted", ["auto", "fuse"], indirect=True)
def test_git_has_what_came_in_while_nothing_was_mounted(mounted: tuple[Workspace, Path]) -> None:
    """Its index is still that of its own last commit, and not that of the branch as it was at the unmount."""
    work, tree = mounted
    (tree / "file").write_bytes(b"mine\n")
    git_in(tree, "commit", "-q", "-a", "-m", "by git")
    Others(work.vault.path, tree.parent / "clone").push("theirs", b"theirs\n")
    session = work.vault.find_session("main")
    assert session is not None
    backend = session.info().backend
    session.unmount()
    work.update()

    with work.mount(tree, backend=backend):
        assert git_in(tree, "status", "--short") == ""
        git_in(tree, "commit", "-q", "--allow-empty", "-m", "by git, too")
        assert git_in(tree, "show", "HEAD:theirs") == "theirs\n"


@pytest.mark.parametrize("mounted", ["auto", "fuse"], indirect=True)
def test_what_a_checkpoint_saved_is_not_dirty_for_git_that_does_not_look(mounted: tuple[Workspace, Path]) -> None:
    """As scripts ask (`git diff-index`) that tell whether a build is of a commit; what is changed since, is."""
    work, tree = mounted
    git_in(tree, "status")
    (tree / "file").write_bytes(b"3\n")
    (tree / "d").mkdir()
    (tree / "d" / "run").write_bytes(b"run\n")
    (tree / "d" / "run").chmod(0o755)
    (tree / "link").symlink_to("file")
    (tree / "more").unlink()
    time.sleep(0.1)  # what is saved in the moment of its change, git has to look at
    work.checkpoint("three")

    assert git_in(tree, "diff-index", "HEAD") == ""
    (tree / "file").write_bytes(b"4\n")
    assert git_in(tree, "diff-index", "--name-only", "HEAD") == "file\n"
    work.undo()
    assert git_in(tree, "status", "--short") == ""


@pytest.mark.parametrize("mounted", ["auto", "fuse"], indirect=True)
@pytest.mark.parametrize("command", ["reset --soft HEAD~1", "commit --amend -m by-git"])
def test_what_is_staged_as_an_earlier_checkpoint_has_it_stays_so(mounted: tuple[Workspace, Path], command: str) -> None:
    """Over a mount, as git in the tree moved the branch itself: its index is not behind."""
    work, tree = mounted
    git_in(tree, *command.split())
    if "amend" in command:
        (tree / "file").write_bytes(b"3\n")
        git_in(tree, "commit", "-q", "-a", "-m", "by git")
        (tree / "file").write_bytes(b"2\n")
        git_in(tree, "add", "file")
    staged = git_in(tree, "status", "--short")
    session = work.vault.find_session("main")
    assert session is not None
    backend = session.info().backend
    session.unmount()

    with work.mount(tree, backend=backend):
        assert git_in(tree, "status", "--short") == staged
        assert "M  file" in staged


@pytest.mark.parametrize("how", ["restore", "undo"])
@pytest.mark.parametrize("edits", [False, True])
def test_a_move_that_git_has_staged_gets_what_others_pushed(
    mounted: tuple[Workspace, Path], how: str, *, edits: bool
) -> None:
    """Also where the branch has the file at its old place: the next commit removes that, with what others did to it."""
    work, tree = mounted
    lines = [b"%d\n" % number for number in range(40)]
    work.write("file", b"".join(lines))
    work.checkpoint("lines")
    git_in(tree, "mv", "file", "moved")
    if edits:
        (tree / "moved").write_bytes(b"".join([b"staged\n", *lines[1:]]))
        git_in(tree, "add", "moved")
    Others(work.vault.path, tree.parent / "clone").push("file", b"".join([*lines[:-1], b"theirs\n"]))
    if how == "restore":
        work.restore("HEAD")
    else:
        work.update()
        work.undo()

    git_in(tree, "commit", "-q", "-m", "by git")

    assert git_in(tree, "ls-tree", "--name-only", "HEAD").split() == ["more", "moved"]
    assert git_in(tree, "show", "HEAD:moved").splitlines()[::39] == ["staged" if edits else "0", "theirs"]


@pytest.mark.parametrize("how", ["update", "restore", "checkpoint"])
def test_a_commit_after_undo_says_nothing_of_files_that_undo_took_back(
    mounted: tuple[Workspace, Path], how: str
) -> None:
    """The files lack again what others pushed: a commit of git's on that does not make it the workspace's own."""
    work, tree = mounted
    (tree / "mine").write_bytes(b"")
    git_in(tree, "add", "mine")
    git_in(tree, "commit", "-q", "-m", "by git")
    Others(work.vault.path, tree.parent / "clone").push("theirs", b"theirs\n")
    if how == "update":
        work.update()
    elif how == "restore":
        work.restore("HEAD")
    else:
        (tree / "theirs").write_bytes(b"theirs\n")
        work.checkpoint()
    work.undo()
    (tree / "mine").write_bytes(b"by git\n")
    git_in(tree, "add", "mine")
    git_in(tree, "commit", "-q", "-m", "by git, too")

    with pytest.raises(RefConflict):
        work.checkpoint()
    work.update()
    assert ((tree / "theirs").read_bytes(), git_in(tree, "status", "--short")) == (b"theirs\n", "")
    work.checkpoint()
    assert git(work.vault.path, "show", "main:theirs") == "theirs\n"


def test_undo_takes_from_the_files_what_was_seen_of_others(mounted: tuple[Workspace, Path]) -> None:
    """A checkpoint that finds the files as others have put them on the branch is an operation of its own."""
    work, tree = mounted
    work.write("file", b"own\n")
    work.checkpoint("own")
    others = Others(work.vault.path, tree.parent / "clone")
    others.push("theirs", b"theirs\n")
    (tree / "theirs").write_bytes(b"theirs\n")
    head = git(work.vault.path, "rev-parse", "main")

    assert work.checkpoint().outcome == "unchanged"

    work.undo()
    assert ((tree / "theirs").exists(), (tree / "file").read_bytes()) == (False, b"own\n")
    assert git(work.vault.path, "rev-parse", "main") == head
    work.redo()
    assert (tree / "theirs").read_bytes() == b"theirs\n"


@pytest.mark.parametrize("mounted", ["auto", "fuse"], indirect=True)
@pytest.mark.parametrize(
    "how", ["moved on", "looked at", "checked out", "merged", "resolved", "after a commit", "restored", "dropped"]
)
def test_git_has_what_came_from_the_branch(mounted: tuple[Workspace, Path], how: str) -> None:
    """With the index of the commit before, the next commit in the tree would take back what others committed."""
    work, tree = mounted
    vault, clone = work.vault.path, tree.parent / "clone"
    if how in ("after a commit", "dropped"):
        (tree / "new").write_bytes(b"")
        git_in(tree, "add", "new")
        git_in(tree, "commit", "-q", "-m", "by git")
    assert git_in(tree, "status", "--short") == ""
    git_in(tree.parent, "clone", "-q", str(vault), str(clone))
    for name in ("file", "theirs", "more"):
        (clone / name).write_bytes(b"of others\n")
    git_in(clone, "add", ".")
    git_in(clone, "commit", "-q", "-m", "of others")
    git_in(clone, "push", "-q", "origin", "HEAD:refs/heads/incoming")
    if how == "checked out":
        git_in(tree, "checkout", "-q", "--detach", "incoming")
        git_in(tree, "checkout", "-q", "main")
    # git refuses a push to a branch that a tree shows
    git(vault, "update-ref", "refs/heads/main", "refs/heads/incoming")
    if how == "looked at":
        (tree / "mine").write_bytes(b"")
        with pytest.raises(RefConflict):
            work.checkpoint()
        assert git_in(tree, "status", "--short") != ""
    elif how == "merged":
        (tree / "mine").write_bytes(b"")
    elif how == "resolved":
        (tree / "file").write_bytes(b"mine\n")
    merged = work.update(on_conflict="workspace") if how != "restored" else []
    if how == "restored":
        work.restore("HEAD")
    elif how == "resolved":
        assert merged[0].outcome == "conflicted"
        work.resolve("file", "theirs")
        work.continue_merge()

    assert (tree / "theirs").read_bytes() == b"of others\n"
    assert git_in(tree, "status", "--short") == ""
    if how == "dropped":  # others take it back, to a commit at which git in the tree was before
        git(vault, "update-ref", "refs/heads/main", "main~1")
        work.restore("HEAD")
        assert (git_in(tree, "status", "--short"), (tree / "theirs").exists()) == ("", False)
    work.undo()
    work.redo()
    assert git_in(tree, "status", "--short") == ""


@pytest.mark.parametrize("how", ["reset", "checkout"])
def test_what_others_take_back_stays_taken_back(mounted: tuple[Workspace, Path], how: str, tmp_path: Path) -> None:
    """Git has brought the files to a push that others take back: a checkpoint does not put it on the branch again."""
    work, tree = mounted
    others = Others(work.vault.path, tmp_path / "clone")
    (tree / "own").write_bytes(b"own\n")
    work.checkpoint("own")
    git_in(tree, "status")
    others.push("file", b"of others\n")
    git_in(tree, *(("reset", "-q", "--hard") if how == "reset" else ("checkout", "-q", "HEAD", "--", "file")))
    assert (tree / "file").read_bytes() == b"of others\n"
    others.push("file", b"2\n")

    with pytest.raises(RefConflict):
        work.checkpoint("again")
    work.update()
    assert (tree / "file").read_bytes() == b"2\n"
    work.checkpoint("again")
    assert git_in(work.vault.path, "show", "main:file") == "2\n"


@pytest.mark.parametrize("how", ["reset", "checkout"])
@pytest.mark.parametrize("to", ["main", "main~1", "amended"])
def test_what_others_drop_stays_dropped(mounted: tuple[Workspace, Path], how: str, to: str, tmp_path: Path) -> None:
    """They force the branch back to a commit that the tree had before git there brought up a file of a later one."""
    work, tree = mounted
    others, vault = Others(work.vault.path, tmp_path / "clone"), work.vault.path
    git_in(tree, "status")
    at, back = (
        git_in(vault, "rev-parse", commit).strip() for commit in ("main", "main~1" if to == "main~1" else "main")
    )
    others.push("theirs", b"of others\n")
    if to == "amended":
        git_in(others.clone, "commit", "-q", "--amend", "-m", "amended")
        (others.clone / "theirs").write_bytes(b"amended\n")
        git_in(others.clone, "commit", "-q", "--amend", "-a", "-m", "amended")
        git_in(others.clone, "push", "-q", "origin", "+HEAD:refs/heads/incoming")
        git(vault, "update-ref", "refs/heads/main", "refs/heads/incoming")
    git_in(tree, *(("reset", "-q", "--hard") if how == "reset" else ("checkout", "-q", "HEAD", "--", "theirs")))
    assert (tree / "theirs").exists()
    git(vault, "update-ref", "refs/heads/main", back)

    for bring in (partial(work.restore, "HEAD"), work.update):
        assert [warning.code for warning in work.status().warnings] == ["fork.moved_outside"]
        with pytest.raises(RefConflict):
            work.checkpoint("again")
        bring()
        assert not (tree / "theirs").exists()
        assert git_in(tree, "status", "--short") == ""
        work.undo()
        assert (tree / "theirs").exists()
    with pytest.raises(RefConflict):
        work.checkpoint("again")
    work.redo()
    assert git_in(vault, "diff", at, "main") == ""  # what came after `main~1` is ours


def test_a_push_that_others_take_back_unseen_is_nothing(mounted: tuple[Workspace, Path], tmp_path: Path) -> None:
    """The branch is where the tree has it: nothing is refused, and an update commits no edit."""
    work, tree = mounted
    others = Others(work.vault.path, tmp_path / "clone")
    git_in(tree, "status")
    head = git_in(work.vault.path, "rev-parse", "main")
    (tree / "file").write_bytes(b"own\n")
    others.push("theirs", b"of others\n")
    git(work.vault.path, "update-ref", "refs/heads/main", "main~1")

    assert (work.status().warnings, work.update()) == ((), [])
    assert git_in(work.vault.path, "rev-parse", "main") == head
    assert git_in(tree, "status", "--short") == " M file\n"
    work.checkpoint()
    work.undo()
    assert git_in(work.vault.path, "rev-parse", "main") == head
    assert (tree / "file").read_bytes() == b"own\n"
    work.undo()
    assert (tree / "file").read_bytes() == b"2\n"


@pytest.mark.parametrize("how", ["edited", "renamed", "edited before"])
@pytest.mark.parametrize("takes_back", ["revert", "drop"])
def test_an_edit_of_what_others_take_back_has_none_of_it(
    mounted: tuple[Workspace, Path], how: str, takes_back: str, tmp_path: Path
) -> None:
    """A file that git brought up over a push, and we changed, follows where others take the push back."""
    work, tree = mounted
    others, file = Others(work.vault.path, tmp_path / "clone"), tree / "more"
    lines = b"".join(b"%d\n" % number for number in range(9))
    file.write_bytes(lines)
    work.checkpoint("lines")
    git_in(tree, "status")
    others.push("more", lines + b"of others\n")
    if how != "edited before":
        git_in(tree, "reset", "-q", "--hard")
    if how == "renamed":
        file = file.rename(tree / "named")
    else:
        file.write_bytes(b"own\n" + file.read_bytes())
    if takes_back == "drop":
        git(work.vault.path, "update-ref", "refs/heads/main", "main~1")
    else:
        others.push("more", lines)

    with pytest.raises(RefConflict):
        work.checkpoint()
    assert [result.outcome for result in work.update()] == ["clean"]
    work.checkpoint()
    assert file.read_bytes() == (lines if how == "renamed" else b"own\n" + lines)
    assert git_in(tree, "diff", "HEAD") == ""


def test_what_git_restored_of_a_push_follows_it(mounted: tuple[Workspace, Path], tmp_path: Path) -> None:
    """Of two files that others changed one was brought up, and they go on: it is no edit, and no conflict."""
    work, tree = mounted
    others = Others(work.vault.path, tmp_path / "clone")
    git_in(tree, "status")
    others.push("more", b"1 of others\n")
    others.push("file", b"1 of others\n")
    git_in(tree, "checkout", "-q", "HEAD", "--", "file")
    others.push("file", b"2 of others\n")

    assert [result.outcome for result in work.update()] == ["clean"]
    assert [(tree / name).read_bytes() for name in ("file", "more")] == [b"2 of others\n", b"1 of others\n"]


@pytest.mark.parametrize("how", ["--soft", "--mixed"])
def test_an_update_brings_nothing_back_that_git_has_reset_away(
    mounted: tuple[Workspace, Path], how: str, tmp_path: Path
) -> None:
    """Nor what that took back of others: a commit that a reset has left is no side of the update."""
    work, tree = mounted
    others = Others(work.vault.path, tmp_path / "clone")
    git_in(tree, "status")
    others.push("theirs", b"of others\n")
    (tree / "file").write_bytes(b"own\n")
    git_in(tree, "add", "-A")
    git_in(tree, "commit", "-q", "-m", "reset away")
    work.status()
    git_in(tree, "reset", "-q", how, "HEAD~1")
    others.push("more", b"of others\n")

    work.update()
    assert "reset away" not in git_in(work.vault.path, "log", "--format=%s", "main")
    assert (tree / "theirs").read_bytes() == (tree / "more").read_bytes() == b"of others\n"
    assert (tree / "file").read_bytes() == b"own\n"


def test_an_index_follows_from_a_commit_that_the_log_leads_past(
    mounted: tuple[Workspace, Path], tmp_path: Path
) -> None:
    """Git does not log what avfs does to the branch; its own commit before that is not staged against what came later."""
    work, tree = mounted
    others = Others(work.vault.path, tmp_path / "clone")
    others.push("theirs", b"of others\n")
    git_in(tree, "commit", "-q", "-a", "-m", "takes it back")
    work.restore("HEAD~1")
    others.push("more", b"of others\n")
    work.update()

    assert git_in(tree, "status", "--short") == ""
    git_in(tree, "commit", "-q", "--allow-empty", "-m", "by git")
    assert git_in(tree, "show", "HEAD:theirs") == "of others\n"


@pytest.mark.parametrize("command", [("checkout", "-B"), ("switch", "-C"), ("update-ref", "")])
def test_a_branch_put_to_a_commit_brings_nothing_of_what_the_tree_lacked(
    mounted: tuple[Workspace, Path], command: tuple[str, str], tmp_path: Path
) -> None:
    """Git carries over what the files lack, where it puts the branch that HEAD is on to a commit."""
    work, tree = mounted
    others = Others(work.vault.path, tmp_path / "clone")
    git_in(tree, "status")
    others.push("theirs", b"of others\n")
    git_in(tree, "branch", "other", "main")
    others.push("more", b"of others\n")
    if command[0] == "update-ref":
        git_in(tree, "update-ref", "refs/heads/main", "other")
    else:
        git_in(tree, command[0], "-q", command[1], "main", "other")

    assert [warning.code for warning in work.status().warnings] == ["fork.moved_outside"]
    with pytest.raises(RefConflict):
        work.checkpoint()
    work.update()
    assert (tree / "theirs").read_bytes() == b"of others\n"
    work.checkpoint()
    assert git_in(work.vault.path, "show", "main:theirs") == "of others\n"
