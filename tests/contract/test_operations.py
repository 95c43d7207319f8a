"""What an operation of the log did, going to the state after it, and what undo would take back."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from avfs_git import Home, Vault, Workspace
from avfs_git.errors import (
    AvfsError,
    CannotUndo,
    ForkNotFound,
    InvalidInput,
    InvalidPath,
    MergeInProgress,
    NothingToUndo,
    OperationNotFound,
    RefConflict,
    WorkspaceMounted,
)
from avfs_git.model import Operation, RestoreResult
from tests.support.commands import BACKENDS
from tests.support.servers import git


@pytest.fixture
def vault(tmp_path: Path) -> Iterator[Vault]:
    """A vault with a checkpoint and two changes of one file, each an operation."""
    with Home(tmp_path / "home") as home:
        vault = home.create_vault("v")
        work = vault.workspace()
        work.write(".gitignore", b"*.log\n")
        work.write("a", b"one\n")
        work.checkpoint("first")
        work.write("a", b"one\ntwo\n")
        work.write("x.log", b"log\n")
        work.checkpoint("second")
        work.write("a", b"three\n")
        work.restore("second", paths=["a"])
        yield vault


def newest(vault: Vault, kind: str) -> Operation:
    """Give the newest operation of a kind."""
    return next(operation for operation in vault.operations() if operation.kind == kind)


def test_a_fork_that_never_was_has_no_empty_history(vault: Vault) -> None:
    """A wrong name is told as one; a fork that is gone has what was done to it, and what is to come can be followed."""
    with vault.fork("gone") as gone:
        gone.write("b", b"")
        gone.checkpoint("b")
    vault.delete_fork("gone")

    assert vault.operations(fork="gone")
    assert list(vault.events(fork="gone"))
    assert vault.policy.audit(fork="gone")
    for look in (vault.operations, vault.describe_operations, vault.events, vault.policy.audit):
        with pytest.raises(ForkNotFound):
            look(fork="none")
    vault.events(fork="none", follow=True).close()


def test_an_empty_path_replaces_nothing(work: Workspace) -> None:
    """A program gives one by mistake, and would have everything replaced; the root is `/`."""
    calls: list[Callable[[str], RestoreResult]] = [
        lambda path: work.restore("first", paths=[path]),
        lambda path: work.checkout_path(path, at="first"),
        work.revert_path,
    ]
    held = work.read("a")
    for call in calls:
        with pytest.raises(InvalidPath):
            call("")
    assert work.read("a") == held
    assert work.checkout_path("/", at="first").outcome == "restored"
    assert work.read("a") == b"one\n"


def test_an_operation_shows_what_it_changed(vault: Vault) -> None:
    """Between the states before and after it, with ignored files; each of the list as by itself."""
    listed = vault.describe_operations()
    assert [each.operation for each in listed] == vault.operations()
    for each in listed:
        found = vault.operation(each.operation.id)
        assert (found.operation.id, found.after) == (each.operation.id, each.after)
        assert (found.diff is None) == (each.diff is None)
    point = next(point for point in vault.workspace().list_checkpoints() if "second" in point.labels)
    (saved,) = (each for each in listed if each.operation.kind == "checkpoint" and each.after == point.id)
    assert saved.diff is not None
    assert [(file.change.path, file.additions, file.deletions) for file in saved.diff.files] == [(b"a", 1, 0)]
    assert [change.path for change in saved.diff.sidecar] == [b"x.log"]
    with pytest.raises(OperationNotFound):
        vault.operation(10_000)


def test_the_state_after_an_operation_is_restored(vault: Vault, work: Workspace) -> None:
    """The files of then are there, undo takes it back, and an operation on forks has no state."""
    work.write("a", b"mine\n")
    first = next(each for each in vault.describe_operations()[::-1] if each.diff is not None and each.after is not None)
    planned = vault.restore_operation(first.operation.id, dry_run=True)
    assert planned.outcome == "planned"
    assert work.read("a") == b"mine\n"

    vault.restore_operation(first.operation.id)
    assert work.read("a") == b"one\n"
    work.undo()
    assert work.read("a") == b"mine\n"

    vault.fork("side").close()
    assert vault.restore_operation(newest(vault, "fork_create").id).outcome == "unchanged"
    vault.delete_fork("side")
    with pytest.raises(InvalidInput, match="led to no state"):
        vault.restore_operation(newest(vault, "fork_delete").id)
    with pytest.raises(OperationNotFound):
        vault.restore_operation(10_000)


def test_a_dry_run_of_undo_tells_what_undo_does(vault: Vault, work: Workspace) -> None:
    """Back to the beginning, each dry run tells the same operation and the same files as undo and changes no file."""
    work.write("a", b"not saved\n")
    work.write("y.log", b"log\n")
    told = 0
    while True:
        try:
            before = {info.path: work.read(info.path) for info in work.list_dir("/")}
        except InvalidInput:
            before = {}
        try:
            planned = work.undo(dry_run=True)
        except NothingToUndo:
            break
        assert {info.path: work.read(info.path) for info in work.list_dir("/")} == before
        done = work.undo()
        assert planned.operation.id == done.operation.id
        assert {change.path for change in planned.changed_files} == {change.path for change in done.changed_files}
        assert {change.path for change in planned.sidecar_changed} == {change.path for change in done.sidecar_changed}
        told += 1
    assert told >= 4


def test_a_dry_run_names_the_fork_that_would_go(vault: Vault) -> None:
    """A fork that was made and not used is what undo takes away; the dry run leaves it."""
    vault.fork("side").close()
    planned = vault.undo(fork="main", dry_run=True)
    assert (planned.operation.kind, planned.operation.fork, planned.changed_files) == ("fork_create", "side", ())
    assert vault.has_fork("side")


def test_a_dry_run_of_undo_is_refused_as_undo_is(vault: Vault) -> None:
    """Undo is refused for a name that another fork or a branch has since, and for a branch that others moved.

    It is refused also while the conflicts of a merge wait.
    """

    def check(fork: str | None, error: type[AvfsError]) -> None:
        for dry_run in (True, False):
            with pytest.raises(error):
                vault.undo(fork=fork, dry_run=dry_run)

    vault.fork("old").close()
    vault.rename_fork("old", "new", by="new")
    vault.fork("old").close()
    check("new", CannotUndo)
    vault.delete_fork("old")
    git("update-ref", "refs/heads/new", "main~1", cwd=vault.path)
    check("new", RefConflict)
    git("update-ref", "refs/heads/new", "main", cwd=vault.path)
    git("branch", "old", "main", cwd=vault.path)
    check("old", CannotUndo)
    work = vault.workspace("new")
    for name in ("main", "new"):
        vault.workspace(name).write("a", name.encode())
        vault.workspace(name).checkpoint()
    assert work.merge("main", on_conflict="workspace").outcome == "conflicted"
    check("new", MergeInProgress)


@pytest.mark.needs("fuse", "user-xattrs", "whiteout")
def test_a_dry_run_of_undo_is_refused_as_undo_is_where_the_fork_is_mounted(vault: Vault, mount_dir: Path) -> None:
    """A fork has to be unmounted before it gets its former name."""
    vault.fork("old").close()
    vault.rename_fork("old", "new", by="new")
    with vault.workspace("new").mount(mount_dir / "tree"):
        for dry_run in (True, False):
            with pytest.raises(WorkspaceMounted):
                vault.undo(fork="new", dry_run=dry_run)


@pytest.mark.needs("git", "user-xattrs", "whiteout")
@pytest.mark.parametrize("backend", BACKENDS)
def test_a_dry_run_of_undo_is_not_refused_for_what_a_running_command_does(mount_dir: Path, backend: str) -> None:
    """A commit of the command's has moved the branch: undo takes that back first, and then what was planned."""
    with Home(mount_dir / "home") as home:
        work = home.create_vault("v").workspace()
        work.write("a", b"")
        work.checkpoint("first")
        before, made, go = work.operations(), mount_dir / "made", mount_dir / "go"
        who = "-c user.name=A -c user.email=a@example.org"
        script = f"touch x; git add x; git {who} commit -qm own; touch {made}; until test -e {go}; do sleep 0.02; done"
        with ThreadPoolExecutor(1) as pool:
            running = pool.submit(work.exec, "sh", "-c", script, backend=backend)
            try:
                while not made.exists() and not running.done():
                    time.sleep(0.02)
                with Home(mount_dir / "home") as other, other.open_vault("v") as seen:
                    planned = seen.undo(dry_run=True)
            finally:
                go.touch()
        assert running.result().exit_code == 0
        assert (planned.operation, len(planned.warnings)) == (before[0], 1)
        assert work.undo().operation.description.startswith("exec: sh")
        assert work.undo().operation.id == before[0].id


@pytest.mark.needs("fuse", "user-xattrs", "whiteout")
def test_a_mounted_fork_tells_what_programs_wrote(mount_dir: Path) -> None:
    """What a program wrote since is the operation that undo takes back, also for a dry run."""
    with Home(mount_dir / "h") as home:
        work = home.create_vault("v").workspace()
        work.write("a", b"one\n")
        work.checkpoint()
        with work.mount(mount_dir / "tree") as session:
            (mount_dir / "tree" / "a").write_text("by a program\n")
            planned = work.undo(dry_run=True)
            assert (planned.operation.kind, [change.path for change in planned.changed_files]) == ("files", [b"a"])
            assert (mount_dir / "tree" / "a").read_text() == "by a program\n"
            assert work.undo().operation.id == planned.operation.id
            session.unmount()
