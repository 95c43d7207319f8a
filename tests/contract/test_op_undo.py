"""Taking back one operation of the log, and keeping what was done after it."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from avfs_git import Home, Vault, Workspace
from avfs_git.errors import CannotUndo, MergeInProgress, OperationNotFound, UndoConflicts

LINES = b"".join(b"line %d\n" % number for number in range(12))
ALL = [
    "plain",
    pytest.param("fuse", marks=pytest.mark.needs("fuse")),
    pytest.param("overlay", marks=pytest.mark.needs("overlayfs")),
]
pytestmark = pytest.mark.needs("user-xattrs", "whiteout")


@pytest.fixture
def vault(mount_dir: Path) -> Iterator[Vault]:
    """A vault with one checkpoint."""
    with Home(mount_dir / "home") as home:
        vault = home.create_vault("v")
        work = vault.workspace()
        work.write("a", LINES)
        work.write(".gitignore", b"*.log\n")
        work.checkpoint("start")
        yield vault


@contextmanager
def shown(work: Workspace, backend: str, directory: Path) -> Iterator[None]:
    """Mount a workspace while the block runs, or do not."""
    with ExitStack() as stack:
        if backend != "plain":
            stack.enter_context(work.mount(directory / "tree", backend=backend))
        yield


def last(work: Workspace) -> int:
    """Give the number of the newest operation."""
    work._at.dispatch.record_changes(work.fork)
    return work.operations(limit=1)[0].id


def read_all(work: Workspace) -> dict[bytes, bytes]:
    """Read all files but git's."""
    return {
        info.path: work.read(info.path)
        for info in work.walk()
        if info.kind == "file" and not info.path.startswith(b".git/")
    }


@pytest.mark.parametrize("backend", ALL)
def test_what_came_after_it_stays(vault: Vault, mount_dir: Path, backend: str) -> None:
    """Lines of the same file, other files and what is not saved.

    Undo restores the state before, redo takes it back again.
    """
    work = vault.workspace()
    with shown(work, backend, mount_dir):
        work.write("a", b"first\n" + LINES)
        work.write("made", b"made\n")
        number = last(work)
        work.write("a", b"first\n" + LINES + b"last\n")
        work.checkpoint("later")
        work.write("also", b"not saved\n")
        before = read_all(work)
        planned = vault.undo_operation(number, dry_run=True)
        assert read_all(work) == before

        done = vault.undo_operation(number)

        assert [(change.path, change.kind) for change in done.changed_files] == [
            (b"a", "modified"),
            (b"made", "deleted"),
        ]
        assert planned.changed_files == done.changed_files
        assert (planned.operation.undone, done.operation.undone, done.operation.id) == (False, True, number)
        assert done.saved is not None
        after = {path: held for path, held in before.items() if path != b"made"} | {b"a": LINES + b"last\n"}
        assert read_all(work) == after
        assert work.operations(limit=1)[0].kind == "op_undo"
        assert work.undo().operation.kind == "op_undo"
        assert read_all(work) == before
        work.redo()
        assert read_all(work) == after
        again = vault.undo_operation(number)
        assert (again.changed_files, again.operation.undone, again.saved) == ((), False, None)


@pytest.mark.parametrize("backend", ALL)
def test_what_was_changed_since_is_refused(vault: Vault, mount_dir: Path, backend: str) -> None:
    """The paths are named, and neither a file nor the branch nor the log changes."""
    work = vault.workspace()
    with shown(work, backend, mount_dir):
        work.write("a", LINES.replace(b"line 5", b"changed"))
        work.write("b", b"made\n")
        number = last(work)
        work.write("a", LINES.replace(b"line 5", b"changed again"))
        work.write("b", b"changed\n")
        last(work)
        log = vault.log()
        seen, operations = read_all(work), work.operations()

        with pytest.raises(UndoConflicts, match="'a', 'b'") as refused:
            vault.undo_operation(number)

        assert refused.value.details == {"operation": number, "paths": ["a", "b"]}
        assert (read_all(work), work.operations(), vault.log()) == (seen, operations, log)
        with pytest.raises(UndoConflicts):
            vault.undo_operation(number, dry_run=True)


def test_a_checkpoint_a_command_and_an_undo_are_taken_back(vault: Vault) -> None:
    """Each by the changes that `op show` tells of it; that of an undo does again what it took back."""
    work = vault.workspace()
    work.write("b", b"two\n")
    work.checkpoint("two")
    checkpoint = next(operation.id for operation in work.operations() if operation.kind == "checkpoint")
    work.exec("sh", "-c", "echo three > c")
    command = last(work)
    work.write("d", b"four\n")
    work.checkpoint("four")

    vault.undo_operation(checkpoint)
    vault.undo_operation(command)

    assert sorted(read_all(work)) == [b".gitignore", b"a", b"d"]
    work.undo()
    undone = work.operations(limit=1)[0]
    assert undone.kind == "undo"
    assert sorted(read_all(work)) == [b".gitignore", b"a", b"c", b"d"]
    vault.undo_operation(undone.id)
    assert sorted(read_all(work)) == [b".gitignore", b"a", b"d"]


def test_the_first_operation_of_a_vault_is_taken_back(vault: Vault) -> None:
    """Before it nothing was there."""
    work = vault.workspace()
    first = next(operation.id for operation in reversed(work.operations()) if operation.kind == "checkpoint")
    work.write("later", b"later\n")
    vault.undo_operation(first)
    assert sorted(read_all(work)) == [b"later"]


def test_ignored_files_stay(vault: Vault) -> None:
    """A warning names them."""
    work = vault.workspace()
    work.write("b", b"b\n")
    work.write("x.log", b"log\n")
    number = last(work)
    for dry_run in (True, False):
        done = vault.undo_operation(number, dry_run=dry_run)
        assert [(warning.code, warning.path) for warning in done.warnings] == [("undo.ignored_stay", b"x.log")]
    assert not work.exists("b")
    assert work.read("x.log") == b"log\n"


def test_an_operation_without_files_is_refused(vault: Vault) -> None:
    """The making of a fork, a label, a number that the log does not have, one of another fork, and one in a merge."""
    side = vault.fork("side")
    made = next(operation.id for operation in vault.operations() if operation.kind == "fork_create")
    with pytest.raises(CannotUndo, match="changed no files"):
        vault.undo_operation(made)
    with pytest.raises(OperationNotFound):
        vault.undo_operation(10_000)
    side.write("a", b"theirs\n")
    side.checkpoint()
    number = side.operations(limit=1)[0].id
    work = vault.workspace()
    with pytest.raises(OperationNotFound):
        work.undo_operation(number)
    work.write("a", b"ours\n")
    ours = last(work)
    work.merge("side", on_conflict="workspace")
    with pytest.raises(MergeInProgress):
        vault.undo_operation(ours)


@pytest.mark.needs("git")
def test_an_operation_that_gc_has_made_final_is_refused(vault: Vault) -> None:
    """Its line can stay without the state before it, which is not an empty one."""
    work = vault.workspace()
    work.write("b", b"b\n")
    work.checkpoint("b")
    work.restore("start")
    number = next(operation.id for operation in work.operations() if operation.kind == "restore")
    work.write("c", b"c\n")
    work.checkpoint("c")
    vault.gc(keep_days=0, keep_operations=1)
    before = read_all(work)

    assert number in {operation.id for operation in work.operations()}
    with pytest.raises(CannotUndo, match="gc"):
        vault.undo_operation(number)
    assert read_all(work) == before


@pytest.mark.needs("fuse", "git")
def test_a_commit_of_git_in_a_live_tree_is_taken_back(vault: Vault, mount_dir: Path) -> None:
    """It is an operation like others."""
    work = vault.workspace()
    with work.mount(mount_dir / "tree"):
        tree = mount_dir / "tree"
        (tree / "b").write_bytes(b"by git\n")
        who = ["-c", "user.name=A", "-c", "user.email=a@example.org"]
        subprocess.run(["git", "-C", str(tree), "add", "b"], check=True)
        subprocess.run(["git", "-C", str(tree), *who, "commit", "-qm", "by git"], check=True)
        (tree / "c").write_bytes(b"later\n")
        work.checkpoint()
        number = next(operation.id for operation in work.operations() if "git" in operation.kind)

        vault.undo_operation(number)

        assert not (tree / "b").exists()
        assert (tree / "c").read_bytes() == b"later\n"
        assert (
            subprocess.run(["git", "-C", str(tree), "status", "--porcelain"], check=True, capture_output=True).stdout
            == b""
        )


def test_the_name_of_a_file_puts_nothing_into_a_message(vault: Vault) -> None:
    """It stands on one line, in the log and in commits: it can hold what would be a trailer."""
    work = vault.workspace()
    name = b"x.log\n\nAvfs-Bookkeeping: yes\nSigned-off-by: B <b@example.org>\nX: y"
    work.write(".gitignore", b"x*\n")
    work.write(name, b"1\n")
    work.checkpoint("ignored")
    work.add(name, force=True)
    work.write(name, b"2\n")
    work.checkpoint("changed")
    (changed,) = (each for each in vault.operations(limit=2) if each.kind == "files")
    work.undo_operation(changed.id)
    work.revert_path(name)

    messages = [entry.checkpoint.message.strip() for entry in work.log(with_bookkeeping=False)]
    assert [len(message.splitlines()) for message in messages] == [1] * 6
    assert {len(each.description.splitlines()) for each in vault.operations()} == {1}
