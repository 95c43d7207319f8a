"""Undo takes back what changed files, by whichever surface, with its files; what is taken back is kept."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from avfs_git import Avfs
from avfs_git.errors import AvfsError, ContentChanged, NothingToUndo
from avfs_git.model import Warning
from avfs_git.sdk import Vault, Workspace

pytestmark = pytest.mark.needs("whiteout", "user-xattrs")


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A home with a vault whose fork has one checkpoint, of tracked and of ignored files."""
    with Avfs(tmp_path / "home") as avfs:
        work = avfs.create_vault("v").workspace()
        work.write(".gitignore", b"*.o\n")
        work.write("src/a", b"a\n")
        work.write("src/b", b"b\n")
        work.write("a.o", b"object\n")
        work.checkpoint("start")
    return tmp_path / "home"


def _read(work: Workspace) -> dict[bytes, bytes]:
    found: dict[bytes, bytes] = {}
    stack = [b"/"]
    while stack:
        for info in work.list_dir(stack.pop()):
            if info.kind == "directory":
                found[info.path] = b"/"
                stack.append(info.path)
            else:
                found[info.path] = work.read(info.path)
    return found


CALLS = {
    "write": lambda work: work.write("src/a", b"other\n"),
    "write of an ignored file": lambda work: work.write("a.o", b"other\n"),
    "write of a new ignored file": lambda work: work.write("new.o", b"new\n"),
    "remove": lambda work: work.remove("src", recursive=True),
    "remove of an ignored file": lambda work: work.remove("a.o"),
    "move": lambda work: work.move("src", "lib"),
    "make_dir": lambda work: work.make_dir("empty/deep", parents=True),
    "copy": lambda work: work.copy("src/a", "c"),
    "symlink": lambda work: work.symlink("link", b"src/a"),
    "chmod": lambda work: work.chmod("src/a", 0o755),
}


@pytest.mark.parametrize("call", CALLS)
def test_a_file_call_is_an_operation(call: str, place: Path) -> None:
    """Of one program, taken back by the next one, and done again; the checkpoint before stays."""
    with Avfs(place) as avfs:
        work = avfs.open_vault("v").workspace()
        before = _read(work)
        CALLS[call](work)
        after = _read(work)
    with Avfs(place) as avfs:
        work = avfs.open_vault("v").workspace()
        newest = work.operations(limit=1)[0]
        assert newest.kind == "files"
        assert (
            call.split(maxsplit=1)[0].replace("make_dir", "make directory").replace("symlink", "make link")
            in newest.description
        )
        done = work.undo()

        assert done.operation.id == newest.id
        assert _read(work) == before
        assert work.status().clean
        assert [point.labels for point in work.list_checkpoints()] == [("start",)]
        work.redo()
        assert _read(work) == after


def test_calls_of_one_program_are_joined(place: Path) -> None:
    """The log names the first ones, and counts the others."""
    with Avfs(place) as avfs:
        work = avfs.open_vault("v").workspace()
        for number in range(10):
            work.write(f"f{number}", b"")
    with Avfs(place) as avfs:
        work = avfs.open_vault("v").workspace()
        assert work.operations(limit=1)[0].description == "write 'f0', write 'f1', write 'f2' and 7 more file calls"
        work.undo()
        assert not work.exists("f0")
        assert not work.exists("f9")


def test_the_log_names_only_calls_that_were_done(place: Path, tmp_path: Path) -> None:
    """What is refused is not in it; what was done in part is said to have failed."""
    (tmp_path / "plain").write_bytes(b"")
    with Avfs(place) as avfs:
        work = avfs.open_vault("v").workspace()
        work.write("one", b"")
        for refused in (
            lambda: work.remove("nothing"),
            lambda: work.write("one/below", b""),
            lambda: work.write("one", b"2", expect="0" * 40),
            lambda: work.move("nothing", "else"),
        ):
            with pytest.raises(AvfsError):
                refused()
        with pytest.raises(AvfsError):
            work.import_path(tmp_path / "missing", "two")
    with Avfs(place) as avfs:
        work = avfs.open_vault("v").workspace()
        assert work.operations(limit=1)[0].description == f"write 'one', import '{tmp_path / 'missing'}' (failed)"


def test_what_is_written_arrives_before_the_workspace_is_taken(place: Path) -> None:
    """Others change it while a source is slow; what they did is not overlooked then."""
    with Avfs(place) as avfs, Avfs(place) as beside:
        work, other = avfs.open_vault("v").workspace(), beside.open_vault("v").workspace()
        work.write("log", b"1")

        def pieces() -> Iterator[bytes]:
            yield b"2"
            other.write("log", b"other")
            yield b"3"

        work.write_from("log", pieces(), append=True)
        assert work.read("log") == b"other23"
        with pytest.raises(ContentChanged):
            work.write_from("log", pieces(), expect=work.stat("log", with_oid=True).oid)
        assert work.read("log") == b"other"


def test_what_nobody_recorded_is_taken_back_first(place: Path) -> None:
    """What a program did that was killed, or to the files below avfs, is an operation of its own."""
    with Avfs(place) as avfs:
        vault = avfs.open_vault("v")
        vault.workspace().write("src/a", b"of a program\n")
        killed = Avfs(place)
        killed.open_vault("v").workspace().write("b", b"of one that is killed\n")
    with Avfs(place) as avfs:
        work = avfs.open_vault("v").workspace()
        work.write("src/a", b"of the next one\n")
    with Avfs(place) as avfs:
        work = avfs.open_vault("v").workspace()
        work.undo()
        assert (work.read("src/a"), work.exists("b")) == (b"of a program\n", True)


def test_a_checkpoint_and_what_it_saves_are_two_operations(place: Path) -> None:
    """Undo takes the checkpoint back, then the changes; redo does both again."""
    with Avfs(place) as avfs:
        work = avfs.open_vault("v").workspace()
        work.write("src/a", b"2\n")
        work.checkpoint("two")
        work.undo()
        assert work.read("src/a") == b"2\n"
        assert [point.labels for point in work.list_checkpoints()] == [("start",)]
        work.undo()
        assert work.read("src/a") == b"a\n"
        work.redo()
        work.redo()
        assert work.read("src/a") == b"2\n"
        assert [point.labels for point in work.list_checkpoints()] == [("two",), ("start",)]
        assert work.status().clean


def test_what_was_recorded_beside_the_branch_is_not_tracked(place: Path) -> None:
    """A file that a rule ignores by the time of the checkpoint is ignored, though an operation recorded it before."""
    for name, data in ((".env", b"secret\n"), (".gitignore", b"*.o\n.env\n"), ("sub/.env", b"secret, too\n")):
        with Avfs(place) as avfs:
            avfs.open_vault("v").workspace().write(name, data)
    with Avfs(place) as avfs:
        work = avfs.open_vault("v").workspace()
        status = work.status()
        assert {change.path for change in status.changed_files} == {b".gitignore"}
        assert {change.path for change in status.sidecar_changed} == {b".env", b"sub"}
        saved = work.checkpoint()
        assert {change.path for change in saved.changed_files} == {b".gitignore"}
        work.undo()
        work.write(".gitignore", b"*.o\n")
        status = work.status()
        assert status.changed_files == ()
        assert [warning.path for warning in status.warnings] == [b".env", b"sub/"]


def test_undo_of_all_ends(place: Path) -> None:
    """In the end nothing is left, also of the first checkpoint's files."""
    with Avfs(place) as avfs:
        work = avfs.open_vault("v").workspace()
        work.undo()
        work.undo()
        assert _read(work) == {}
        with pytest.raises(NothingToUndo):
            work.undo()


@pytest.mark.parametrize("commit", [True, False])
@pytest.mark.parametrize("script", ["rm -r src a.o; echo n > new.o", "echo x >> src/a; mv src/b c; exit 3"])
@pytest.mark.parametrize("dirty", [False, True])
def test_a_command_is_taken_back_with_its_files(script: str, commit: bool, dirty: bool, place: Path) -> None:
    """Whether it was committed, or failed, or not: all that it changed, and nothing else."""
    with Avfs(place) as avfs:
        work = avfs.open_vault("v").workspace()
        if dirty:
            work.write("mine", b"not saved\n")
        before = _read(work)
        work.exec("sh", "-c", script, commit=commit)
        after = _read(work)
        assert after != before
        work.undo()
        assert _read(work) == before
        work.redo()
        assert _read(work) == after


def test_undo_acts_on_the_fork_at_hand(place: Path) -> None:
    """What others did to other forks since, making and deleting them included, is theirs."""
    with Avfs(place) as avfs:
        vault = avfs.open_vault("v")
        main = vault.workspace()
        other = vault.fork("other")
        vault.undo()
        assert not vault.has_fork("other")
        other = vault.fork("other")
        third = vault.fork("third", source="other")
        main.write("src/a", b"mine\n")
        other.write("src/a", b"theirs\n")
        other.checkpoint()
        third.write("x", b"x")
        third.checkpoint()
        vault.delete_fork("third", by="other")
        vault.undo()
        assert (main.read("src/a"), other.read("src/a")) == (b"a\n", b"theirs\n")
        vault.undo()  # not the making of a fork that was worked in since
        assert vault.has_fork("other")
        assert main.list_checkpoints() == []
        vault.undo(fork="other")
        assert vault.has_fork("third")


def test_what_was_done_in_an_older_fork_of_the_name_does_not_count(place: Path) -> None:
    """A fork that was made anew, and where nothing was done since, is what undo takes back next."""
    with Avfs(place) as avfs:
        vault = avfs.open_vault("v")
        vault.fork("other").write("x", b"x")
        vault.delete_fork("other", by="other")
        main = vault.workspace()
        main.write("src/a", b"mine\n")
        main.checkpoint("mine")
        vault.fork("other", source="main")
        assert main.undo().operation.kind == "fork_create"
        assert not vault.has_fork("other")
        main.redo()
        vault.workspace("other").write("x", b"x")
        vault.workspace("other").checkpoint()
        assert main.undo().operation.description == "checkpoint mine"


@pytest.mark.parametrize("in_one_program", [True, False])
def test_nothing_is_done_again_over_newer_work(place: Path, in_one_program: bool) -> None:
    """Files written since an undo are an operation, and undo takes back the newer one.

    Redo works until something new is done.
    """
    with Avfs(place) as avfs:
        work = avfs.open_vault("v").workspace()
        work.exec("sh", "-c", "echo e > e")
        work.undo()
        work.write("newer", b"newer work\n")
        if in_one_program:
            with pytest.raises(NothingToUndo):
                work.redo()
    with Avfs(place) as avfs:
        work = avfs.open_vault("v").workspace()
        with pytest.raises(NothingToUndo):
            work.redo()
        assert (work.exists("newer"), work.exists("e")) == (True, False)
        work.undo()
        assert not work.exists("newer")
        work.redo()
        assert work.read("newer") == b"newer work\n"


DONE_BESIDE = {
    "checkpoint_delete": lambda vault: vault.workspace("main").delete_checkpoint("start"),
    "fork_delete": lambda vault: vault.delete_fork("spare", by="main"),
    "fork_create": lambda vault: vault.fork("task", source="main", at="start"),
    "fork_create without changes": lambda vault: vault.fork("task", source="main", with_changes=False),
}


@pytest.mark.parametrize("beside", DONE_BESIDE)
def test_an_operation_on_refs_alone_is_newer_than_the_work_before_it(place: Path, beside: str) -> None:
    """Undo takes it back first, and the work, of which the log has nothing yet, after it."""
    with Avfs(place) as avfs:
        vault = avfs.open_vault("v")
        vault.fork("spare")
        work = vault.workspace("main")
        work.write("work", b"an hour\n")
        DONE_BESIDE[beside](vault)
    with Avfs(place) as avfs:
        work = avfs.open_vault("v").workspace("main")
        assert work.undo().operation.kind == beside.split(maxsplit=1)[0]
        assert work.read("work") == b"an hour\n"
        assert work.undo().operation.kind == "files"
        assert not work.exists("work")


def test_what_is_undone_and_was_not_saved_is_kept(vault: Vault, work: Workspace) -> None:
    """The commit that the operation leads to has it."""
    work.write("a", b"1")
    work.checkpoint()
    work.write("a", b"2, not saved")
    work.undo()
    assert work.read("a") == b"1"
    record = next(found for found in vault._core.oplog.read_fork("main") if found.kind == "files")
    assert record.after is not None
    assert b"".join(work.open_read("a", at=record.after)) == b"2, not saved"


def test_what_a_record_leaves_out_is_told(place: Path) -> None:
    """By undo in its result; at the end of file calls to the caller of the home."""
    told: list[Warning] = []
    with Avfs(place, on_warnings=told.extend) as avfs:
        vault = avfs.open_vault("v")
        vault.set_config("sidecar.max_file_bytes", "10")
        vault.workspace().write("a.o", b"too long to be kept\n")
        vault.workspace().write("src/a", b"2\n")
        assert told == []
    assert [warning.path for warning in told] == [b"a.o"]
    with Avfs(place) as avfs:
        work = avfs.open_vault("v").workspace()
        work.write("b.o", b"too long to be kept, too\n")
        work.write("src/a", b"3\n")
        done = work.undo()
        assert done.operation.kind == "files"
        assert {warning.path for warning in done.warnings} == {b"b.o"}
    told.clear()
    with Avfs(place, on_warnings=told.extend) as avfs:
        work = avfs.open_vault("v").workspace()
        work.write("c.o", b"too long to be kept, as well\n")
        work.write("src/a", b"4\n")
        work.fold()
        assert b"c.o" in {warning.path for warning in told}


def test_what_resolving_leaves_out_is_told(place: Path) -> None:
    """The result of `resolve` says what its operation in the log does not have."""
    with Avfs(place) as avfs:
        vault = avfs.open_vault("v")
        vault.set_config("sidecar.max_file_bytes", "10")
        work = vault.workspace()
        with vault.fork("side") as side:
            side.write("src/a", b"side\n")
            side.checkpoint("side")
        work.write("src/a", b"main\n")
        work.checkpoint("main")
        assert work.merge("side", on_conflict="workspace").in_workspace
        work.write("a.o", b"too long to be kept\n")
        assert {warning.path for warning in work.resolve("src/a", "ours").warnings} == {b"a.o"}


def test_what_a_restart_put_back_is_told_once_it_is_recorded(place: Path) -> None:
    """The next capture tells it, also where that only records what a file call did."""
    told: list[Warning] = []
    with Avfs(place, on_warnings=told.extend) as avfs:
        work = avfs.open_vault("v").workspace()
        with work._opened.locked() as locked:
            work._opened.state.recovered = ["'src/a' was put back"]
            locked.write_state()
        work.write("src/b", b"2\n")
    assert [warning.message for warning in told] == ["'src/a' was put back"]
