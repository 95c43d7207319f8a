"""Undo of what programs did in a live tree, from inside avfs and from outside, on each kind of mount."""

from __future__ import annotations

import os
import shutil
import signal
import stat
import subprocess
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from avfs_git import Avfs
from avfs_git.errors import NothingToUndo
from avfs_git.sdk import Workspace
from avfs_git.session.life.record import has_ended, is_unattended
from tests.support.waiting import wait_for

pytestmark = [pytest.mark.slow, pytest.mark.needs("fuse", "user-xattrs", "whiteout")]


BACKENDS: list[object] = ["fuse", pytest.param("overlay", marks=pytest.mark.needs("root", "overlayfs"))]


@pytest.fixture(params=BACKENDS)
def mounted(request: pytest.FixtureRequest, tmp_path: Path, mount_dir: Path) -> Iterator[tuple[Workspace, Path]]:
    """A workspace with a checkpoint, and where it is mounted."""
    with Avfs(tmp_path / "home") as avfs:
        work = avfs.create_vault("v").workspace()
        work.write(".gitignore", b"*.o\n")
        work.write("src/a", b"a\n")
        work.write("a.o", b"object\n")
        work.checkpoint("start")
        session = work.mount(mount_dir / "tree", backend=request.param)
        try:
            yield work, session.path
        finally:
            session.unmount()


def test_edits_of_programs_are_one_operation(mounted: tuple[Workspace, Path]) -> None:
    """All that was done between two operations, ignored files included, is taken back and done again at once."""
    work, tree = mounted
    shutil.rmtree(tree / "src")
    (tree / "a.o").unlink()
    (tree / "new.o").write_bytes(b"new\n")
    (tree / "b").write_bytes(b"b\n")
    done = work.undo()

    assert done.operation.kind == "files"
    assert (tree / "src" / "a").read_bytes() == b"a\n"
    assert (tree / "a.o").read_bytes() == b"object\n"
    assert sorted(path.name for path in tree.iterdir() if path.name != ".git") == [".gitignore", "a.o", "src"]
    assert [point.labels for point in work.list_checkpoints()] == [("start",)]
    work.redo()
    assert (tree / "b").read_bytes() == b"b\n"
    assert not (tree / "src").exists()


@pytest.mark.parametrize("way", ["undo", "restore"])
def test_what_a_build_made_is_older_than_the_sources_again(mounted: tuple[Workspace, Path], way: str) -> None:
    """Else `make` would take the former output for newer than a source that was edited since.

    Sources get the present time, and so does what is restored by itself.
    """
    work, tree = mounted
    (tree / "out").mkdir()
    (tree / "out" / "b.o").write_bytes(b"object\n")
    work.checkpoint("before")
    outputs = [tree / "a.o", tree / "out" / "b.o"]
    built = [path.stat().st_mtime_ns for path in outputs]
    for path in outputs:
        path.write_bytes(b"another\n")
    if way == "restore":
        (tree / "src" / "a").write_bytes(b"edited\n")
        work.checkpoint("after")
    began_ns = time.time_ns()

    work.undo() if way == "undo" else work.restore("before")

    assert [path.read_bytes() for path in outputs] == [b"object\n"] * 2
    assert [path.stat().st_mtime_ns for path in outputs] == built
    assert not work.status().sidecar_changed
    if way == "restore":
        assert (tree / "src" / "a").stat().st_mtime_ns >= began_ns
        work.restore("after", paths=["a.o"])
        assert (tree / "a.o").stat().st_mtime_ns >= began_ns
        work.vault.set_config("sidecar.exclude", "target")  # may be built from what is ignored
        work.restore("after")
        assert (tree / "out" / "b.o").stat().st_mtime_ns >= began_ns


def test_nothing_is_done_again_over_what_programs_wrote_since(mounted: tuple[Workspace, Path]) -> None:
    """Redo works until something new is done, by whomever.

    That stays, and undo and redo take it back and bring it again.
    """
    work, tree = mounted
    (tree / "src" / "a").write_bytes(b"older\n")
    work.undo()
    (tree / "newer").write_bytes(b"an hour of work\n")
    (tree / "src" / "a").write_bytes(b"mine\n")
    with pytest.raises(NothingToUndo):
        work.redo()

    assert (tree / "newer").read_bytes() == b"an hour of work\n"
    assert (tree / "src" / "a").read_bytes() == b"mine\n"
    work.undo()
    assert not (tree / "newer").exists()
    work.redo()
    assert (tree / "src" / "a").read_bytes() == b"mine\n"


@pytest.mark.parametrize("beside", ["fork", "label"])
def test_edits_before_a_deletion_are_taken_back_after_it(mounted: tuple[Workspace, Path], beside: str) -> None:
    """A deletion changes no file, and is newer than what programs did before it."""
    work, tree = mounted
    work.vault.fork("spare", source="main")
    (tree / "newer").write_bytes(b"an hour of work\n")
    if beside == "fork":
        work.vault.delete_fork("spare", by="main")
    else:
        work.delete_checkpoint("start")

    assert work.undo().operation.kind == ("fork_delete" if beside == "fork" else "checkpoint_delete")
    assert (tree / "newer").read_bytes() == b"an hour of work\n"
    assert work.undo().operation.kind == "files"
    assert not (tree / "newer").exists()


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_deletion_is_newer_than_work_in_the_one_fork_that_is_left(
    tmp_path: Path, mount_dir: Path, backend: str
) -> None:
    """In a clone with two forks none is the default; after the deletion of one, undo without a name means the other."""
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "a").write_bytes(b"a\n")
    with Avfs(tmp_path / "home") as avfs:
        avfs.fork_directory(tmp_path / "folder", mount_dir / "two").unmount()
        with avfs.fork_directory(tmp_path / "folder", mount_dir / "one", backend=backend) as session:
            vault = avfs.open_vault("folder")
            (session.path / "newer").write_bytes(b"an hour of work\n")
            vault.delete_fork("two")

            assert vault.undo().operation.kind == "fork_delete"
            assert (session.path / "newer").read_bytes() == b"an hour of work\n"
            assert vault.has_fork("two")


def test_another_fork_that_is_mounted_neither_blocks_undo_nor_goes(mounted: tuple[Workspace, Path]) -> None:
    """Undo takes back the fork's own operation while the other is mounted, and after programs changed files there."""
    work, tree = mounted
    main = work.vault.fork("away", source="main")
    assert main.vault.undo(fork="main").operation.fork == "away"  # nobody has used it
    other = work.vault.fork("other", source="main")
    session = other.mount(tree.parent / "other")
    try:
        assert work.undo().operation.fork == "main"
        work.redo()
        (session.path / "work").write_bytes(b"hours\n")
    finally:
        session.unmount()
    assert work.undo().operation.fork == "main"
    assert other.read("work") == b"hours\n"


def test_no_unmount_is_asked_for_where_nothing_would_be_undone(mounted: tuple[Workspace, Path]) -> None:
    """The making of a fork is not taken back for a caller that works in it, mounted or not."""
    work, _ = mounted
    with work.vault.fork("task") as task, task.mount():
        with pytest.raises(NothingToUndo):
            task.undo(dry_run=True)
        with pytest.raises(NothingToUndo):
            task.undo()


def test_fork_whose_mount_was_killed_goes_if_nothing_was_changed_in_it(mounted: tuple[Workspace, Path]) -> None:
    """What a dead session has left in the lock is no use of the fork; a file that was written there is."""
    work, tree = mounted
    for written in (False, True):
        other = work.vault.fork("other", source="main")
        session = other.mount(tree.parent / "other", backend="fuse")
        if written:
            (session.path / "kept").write_bytes(b"hours\n")
        place = session._found.place
        os.kill(session.info().pid, signal.SIGKILL)
        wait_for(partial(has_ended, place))
        assert work.undo().operation.fork == ("main" if written else "other")
        assert work.vault.has_fork("other") == written
    assert other.read("kept") == b"hours\n"


@pytest.mark.needs("root", "overlayfs")
def test_fork_whose_mount_outlives_its_session_stays(mounted: tuple[Workspace, Path]) -> None:
    """Programs go on in it; without its mount it goes, if nothing was changed in it."""
    work, tree = mounted
    other = work.vault.fork("other", source="main")
    session = other.mount(tree.parent / "other", backend="overlay")
    os.kill(session.info().pid, signal.SIGKILL)
    wait_for(partial(is_unattended, session._found.place))
    assert work.undo().operation.fork == "main"
    session.unmount()

    assert work.undo().operation.fork == "other"
    assert not work.vault.has_fork("other")


def test_edits_before_a_checkpoint_are_taken_back_after_it(mounted: tuple[Workspace, Path]) -> None:
    """First the checkpoint goes, then what it saved; file calls of a client are taken back like edits."""
    work, tree = mounted
    (tree / "src" / "a").write_bytes(b"edited\n")
    work.checkpoint("two")
    work.write("called", b"by a client\n")
    work.undo()
    assert not (tree / "called").exists()
    work.undo()
    assert (tree / "src" / "a").read_bytes() == b"edited\n"
    work.undo()
    assert (tree / "src" / "a").read_bytes() == b"a\n"


def test_what_programs_did_is_not_said_to_be_of_file_calls_before_it(mounted: tuple[Workspace, Path]) -> None:
    """A checkpoint has recorded those: what comes after it has other names."""
    work, tree = mounted
    work.write("by a call", b"\n")
    work.checkpoint("two")
    (tree / "by a program").write_bytes(b"\n")

    assert work.undo().operation.description == "change 'by a program'"


@pytest.mark.parametrize("backend", BACKENDS)
def test_an_update_tells_what_the_work_before_it_leaves_out(tmp_path: Path, mount_dir: Path, backend: str) -> None:
    """Also where there is nothing to merge, if the log has that work as an operation: else the next one tells it."""
    with Avfs(tmp_path / "home") as avfs:
        vault = avfs.create_vault("v")
        vault.set_config("sidecar.max_file_bytes", "10")
        work = vault.workspace()
        work.write(".gitignore", b"*.o\n")
        work.checkpoint("start")
        fork = vault.fork("task")
        work.write("more", b"")
        work.checkpoint("more")
        session = fork.mount(mount_dir / "tree", backend=backend)
        try:
            for name, outcome in (("a.o", "clean"), ("b.o", "up_to_date")):
                (session.path / name).write_bytes(b"too long to be kept\n")
                (session.path / "next").write_bytes(name.encode())
                (done,) = fork.update()
                told = done.warnings
                if (outcome, backend) == ("up_to_date", "overlay"):
                    assert not told  # nothing was recorded
                    told = fork.checkpoint("next").warnings
                assert (done.outcome, {warning.path for warning in told}) == (outcome, {name.encode()})
        finally:
            session.unmount()


def test_attributes_of_what_git_committed_keep_undo_from_nothing(mounted: tuple[Workspace, Path]) -> None:
    """The mode of a directory and the attributes of files go and come with the files that a commit of git's took."""
    work, tree = mounted
    (tree / "src").chmod(0o700)
    os.setxattr(tree / "src" / "a", "user.owner", b"ada")
    (tree / "kind").write_bytes(b"file\n")
    (tree / "kind").chmod(0o600)
    work.checkpoint("attributes")
    shutil.rmtree(tree / "src")
    (tree / "kind").unlink()
    (tree / "kind").mkdir()
    (tree / "kind" / "new").write_bytes(b"1\n")
    (tree / "kind" / "new").chmod(0o640)
    _commit_all(tree)

    assert [work.undo().operation.kind for _ in range(2)] == ["git", "files"]
    assert stat.S_IMODE((tree / "src").stat().st_mode) == 0o700
    assert os.getxattr(tree / "src" / "a", "user.owner") == b"ada"
    assert stat.S_IMODE((tree / "kind").stat().st_mode) == 0o600
    assert work.undo().operation.kind == "checkpoint"
    for _ in range(3):
        work.redo()
    assert not (tree / "src").exists()
    assert stat.S_IMODE((tree / "kind" / "new").stat().st_mode) == 0o640


def test_a_squash_comes_after_the_commits_of_git_before_it(mounted: tuple[Workspace, Path]) -> None:
    """What git did in the tree stands in the log before the squash, so that undo gets to it."""
    work, tree = mounted
    first = work.log()[0].checkpoint.id
    (tree / "b").write_bytes(b"b\n")
    work.checkpoint("second")
    (tree / "c").write_bytes(b"c\n")
    _commit_all(tree)
    (tree / "d").write_bytes(b"not saved\n")
    work.squash(first)
    assert work.log()[0].checkpoint.parents == (first,)

    kinds = [work.undo().operation.kind for _ in range(6)]
    assert kinds == ["squash", "files", "git", "files", "checkpoint", "files"]
    assert sorted(path.name for path in tree.iterdir() if path.name != ".git") == [".gitignore", "a.o", "src"]


def _commit_all(tree: Path) -> None:
    who = ("-c", "user.name=A", "-c", "user.email=a@b")
    for arguments in (("add", "-A"), ("commit", "-q", "-m", "by git")):
        subprocess.run(["git", *who, *arguments], cwd=tree, check=True)
