"""Cases in which another thing could be done than was asked: what is done instead."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from avfs_git import faults
from avfs_git.errors import ApplyConflict, ForkNotFound, InvalidInput
from avfs_git.gitstore.refs.refs import RefChange
from avfs_git.paths import Oid
from avfs_git.sdk import Avfs, Vault, Workspace
from avfs_git.workspace.vault.log.oprecord import OpRecord
from tests.support.servers import git

pytestmark = pytest.mark.needs("whiteout", "user-xattrs")


def test_an_interrupted_operation_behind_many_others_is_completed(vault: Vault, work: Workspace) -> None:
    """Of an operation whose process died between two refs, the second one moves, however much was logged since."""
    work.write("a", b"1")
    first = work.checkpoint("one").checkpoint
    assert first is not None
    core, head = vault._core, Oid(bytes.fromhex(first.id))
    refs = {"refs/avfs/checkpoints/main/x": head, "refs/avfs/checkpoints/main/y": head}
    record = OpRecord(0, "main", "label", "two labels", 0, moves=[(ref, None, oid.hex()) for ref, oid in refs.items()])
    core.oplog.announce(record)  # and never said how it ended
    core.refs.update([RefChange("refs/avfs/checkpoints/main/x", None, head)])
    for number in range(400):
        core.oplog.append(
            OpRecord(0, "other", "checkpoint", f"checkpoint {number} " + "x" * 200, 0, moves=[], after=head.hex())
        )
    assert core.layout.oplog.stat().st_size > 1 << 16
    work.write("b", b"2")
    work.checkpoint()

    assert {ref: core.refs.read(ref) for ref in refs} == refs


def _fork_for_apply(vault: Vault, work: Workspace, directory: Path) -> None:
    """Fill a directory with what a fork began with, and let the fork change, add and remove."""
    for name in ("changed", "gone", "run"):
        work.write(name, b"old\n")
        (directory / name).write_bytes(b"old\n")
    work.checkpoint()
    task = vault.fork("task")
    task.write("changed", b"new\n")
    task.write("run", b"new\n")
    task.write("added/deep", b"new\n")
    task.remove("gone")
    task.checkpoint()


@pytest.mark.parametrize("path", ["changed", "gone", "added/deep"])
@pytest.mark.parametrize("point", ["apply.next", "apply.made", "apply.exchanged", "apply.taken_out"])
def test_what_is_saved_while_apply_runs_stays(
    path: str, point: str, vault: Vault, work: Workspace, tmp_path: Path
) -> None:
    """An editor that saves a file at any moment keeps what it saved.

    The error names the file, and how much else was written.
    """
    directory = tmp_path / "tree"
    directory.mkdir()
    _fork_for_apply(vault, work, directory)
    edited = directory / path
    saved: list[int] = []

    def save(reached: str) -> None:
        if reached != point or saved:
            return
        if point == "apply.taken_out" and edited.exists():
            return
        saved.append(1)
        edited.parent.mkdir(exist_ok=True)
        beside = directory.parent / "beside"
        beside.write_bytes(b"edited\n")
        os.replace(beside, edited)

    faults.arm(save)
    try:
        vault.apply("task", directory)
        refused = None
    except ApplyConflict as error:
        refused = error
    finally:
        faults.arm(None)
    assert not saved or edited.read_bytes() == b"edited\n"
    if point == "apply.next":
        assert refused is not None
        assert refused.details["paths"] == [path]
        assert refused.details["written"] == 3
    assert not list(directory.rglob(".avfs-*"))


def test_an_edit_between_look_and_exchange_is_put_back(vault: Vault, work: Workspace, tmp_path: Path) -> None:
    """Each save of an editor that goes on saving is newer than what is applied."""
    directory = tmp_path / "tree"
    directory.mkdir()
    _fork_for_apply(vault, work, directory)
    count = 0

    def save(reached: str) -> None:
        nonlocal count
        if reached in ("apply.made", "apply.exchanged"):
            count += 1
            beside = directory.parent / "beside"
            beside.write_bytes(b"edited %d\n" % count)
            os.replace(beside, directory / "changed")

    faults.arm(save)
    with pytest.raises(ApplyConflict):
        vault.apply("task", directory, paths=["changed"])
    faults.arm(None)

    assert (directory / "changed").read_bytes() == b"edited 2\n"


@pytest.mark.parametrize(
    ("path", "edits_at", "point"),
    [("changed", "apply.made", "apply.exchanged"), ("gone", "apply.next", "apply.taken_out")],
)
def test_an_apply_that_is_stopped_puts_back_what_it_took_out(
    path: str, edits_at: str, point: str, vault: Vault, work: Workspace, tmp_path: Path
) -> None:
    """After Ctrl-C while apply looks at a file that an editor has just saved, the file is as it was saved."""
    directory = tmp_path / "tree"
    directory.mkdir()
    _fork_for_apply(vault, work, directory)

    def stop(reached: str) -> None:
        if reached == edits_at:
            (directory / path).write_bytes(b"edited\n")
        if reached == point:
            raise KeyboardInterrupt

    faults.arm(stop)
    with pytest.raises(KeyboardInterrupt):
        vault.apply("task", directory, paths=[path])
    faults.arm(None)

    assert (directory / path).read_bytes() == b"edited\n"
    assert not list(directory.rglob(".avfs-*"))


@pytest.mark.parametrize("executable", [False, True])
def test_apply_keeps_permissions(executable: bool, vault: Vault, work: Workspace, tmp_path: Path) -> None:
    """A file that only its owner may read stays so, also where it becomes executable."""
    directory = tmp_path / "mine"
    directory.mkdir()
    _fork_for_apply(vault, work, directory)
    (directory / "changed").chmod(0o600)
    if executable:
        task = vault.workspace("task")
        task.chmod("changed", 0o755)
        task.checkpoint()

    vault.apply("task", directory)

    assert (directory / "changed").stat().st_mode & 0o777 == (0o700 if executable else 0o600)


def test_apply_follows_what_the_fork_takes_back(vault: Vault, work: Workspace, tmp_path: Path) -> None:
    """The second time the directory has what the fork has.

    A crash in between changes nothing about that, nor does `--path`.
    """
    directory = tmp_path / "mine"
    directory.mkdir()
    _fork_for_apply(vault, work, directory)
    before = {path: path.read_bytes() for path in directory.rglob("*") if path.is_file()}
    task = vault.workspace("task")
    task.write("changed", b"second\n")
    task.checkpoint("second")

    def stop(reached: str) -> None:
        if reached == "apply.made":
            raise KeyboardInterrupt

    faults.arm(stop)
    with pytest.raises(KeyboardInterrupt):
        vault.apply("task", directory)
    faults.arm(None)
    vault.apply("task", directory)
    task.write("changed", b"third\n")
    task.checkpoint("third")
    assert [change.path for change in vault.apply("task", directory).changed_files] == [b"changed"]
    task.restore(vault.fork_info("task").forked_at or "")
    task.checkpoint("as before")
    assert vault.apply("task", directory, dry_run=True, paths=["changed"]).changed_files[0].path == b"changed"
    vault.apply("task", directory, paths=["changed"])
    assert (directory / "changed").read_bytes() == before[directory / "changed"]
    vault.apply("task", directory)
    assert {path: path.read_bytes() for path in directory.rglob("*") if path.is_file()} == before
    assert vault.apply("task", directory).changed_files == ()


def test_apply_takes_back_nothing_that_the_user_wrote(vault: Vault, work: Workspace, tmp_path: Path) -> None:
    """An edit of what was applied is refused, also where the fork has taken that back.

    What the user wrote alone stays.
    """
    directory = tmp_path / "mine"
    directory.mkdir()
    _fork_for_apply(vault, work, directory)
    task = vault.workspace("task")
    task.write("same", b"same\n")
    task.checkpoint()
    (directory / "same").write_bytes(b"same\n")
    vault.apply("task", directory)
    (directory / "changed").write_bytes(b"my own\n")
    task.restore(vault.fork_info("task").forked_at or "")
    task.checkpoint()
    with pytest.raises(ApplyConflict) as refused:
        vault.apply("task", directory)
    assert refused.value.details["paths"] == ["changed"]
    (directory / "changed").write_bytes(work.read("changed"))
    vault.apply("task", directory)
    assert (directory / "same").read_bytes() == b"same\n"


def test_apply_writes_nothing_inside_what_the_vault_was_made_of(home: Avfs, tmp_path: Path) -> None:
    """The paths of a fork begin at the top: those of a subdirectory would be written once more below it."""
    source = tmp_path / "project"
    (source / "src").mkdir(parents=True)
    (source / "src" / "a").write_bytes(b"1")
    for place in (["init", "-q"], ["add", "."], ["commit", "-q", "-m", "one"]):
        git(*place, cwd=source)
    vault = home.create_vault("p", source=source)
    side = vault.fork("side")
    side.write("src/a", b"2")
    side.checkpoint()
    with pytest.raises(InvalidInput) as refused:
        vault.apply("side", source / "src")
    assert f"--to {source}" in (refused.value.hint or "")
    assert [change.path for change in vault.apply("side", source).changed_files] == [b"src/a"]


def test_apply_does_not_count_from_an_older_fork_of_that_name(vault: Vault, work: Workspace, tmp_path: Path) -> None:
    """What a deleted fork began with says nothing of the branch that git makes under its name."""
    work.write("a", b"1")
    work.checkpoint()
    older = vault._core.read_head("main")
    work.write("a", b"2")
    work.checkpoint()
    (tmp_path / "a").write_bytes(b"2")
    vault.fork("x", source="main")
    vault.delete_fork("x")
    vault._core.refs.update([RefChange("refs/heads/x", None, older)])
    with pytest.raises(InvalidInput):
        vault.apply("x", tmp_path)
    assert (tmp_path / "a").read_bytes() == b"2"


def test_a_resolution_by_content_keeps_the_executable_bit(vault: Vault, work: Workspace) -> None:
    """What somebody gives as the content of a script is a script."""
    work.write("tool", b"#!/bin/sh\n", executable=True)
    work.checkpoint()
    side = vault.fork("side")
    side.write("tool", b"#!/bin/sh\necho theirs\n")
    side.checkpoint()
    work.write("tool", b"#!/bin/sh\necho ours\n")
    assert work.merge("side", on_conflict="workspace").outcome == "conflicted"
    work.resolve("tool", content=b"#!/bin/sh\necho both\n")
    assert work.stat("tool").mode & 0o111 == 0o111
    work.continue_merge()
    assert work.stat("tool").mode & 0o111 == 0o111


def test_a_merge_of_a_fork_merges_the_fork(vault: Vault, work: Workspace) -> None:
    """A label of the same name stands for something else; `FORK@LABEL` names it."""
    work.write("a", b"1")
    work.checkpoint("fix")
    work.write("b", b"2")
    work.checkpoint()
    fix = vault.fork("fix")
    fix.write("c", b"3")
    fix.checkpoint()
    merged = work.merge("fix")

    assert merged.outcome == "fast_forward"
    assert work.read("c") == b"3"
    assert work.merge("main@fix").outcome == "up_to_date"


def test_a_fork_that_was_made_anew_is_not_the_one_to_throw_away(vault: Vault, work: Workspace) -> None:
    """An ephemeral fork was deleted, and another process works in one of its name."""
    work.write("a", b"1")
    work.checkpoint()
    with vault.fork("side", ephemeral=True):
        vault.delete_fork("side")
        vault.fork("side").write("own", b"work")
    assert vault.workspace("side").read("own") == b"work"
    with vault.fork("gone", ephemeral=True) as gone:
        gone.write("b", b"2")
    assert not vault.has_fork("gone")


def test_an_ignored_directory_of_the_base_that_was_emptied_stays_empty(vault: Vault, work: Workspace) -> None:
    """Where only what is beside history went, a checkpoint records that, and a fork of it does not bring it back."""
    work.write(".gitignore", b"built/\n")
    work.write("built/deep/file", b"old\n")
    work.checkpoint()
    task = vault.fork("task")
    task.remove("built", recursive=True)
    task.make_dir("built")

    assert [change.path for change in task.status().sidecar_changed] == [b"built/deep"]
    assert task.checkpoint().outcome == "created"
    assert vault.fork("next", source="task").list_dir("built") == []


def test_a_directory_of_the_base_that_was_made_again_has_the_modes_that_it_shows(vault: Vault, work: Workspace) -> None:
    """If only modes differ, which no tree of git holds, a checkpoint records them.

    A fork of the checkpoint has no other modes.
    """
    work.write("private/deep/file", b"text\n")
    work.chmod("private/deep", 0o700)
    work.chmod("private/deep/file", 0o600)
    work.checkpoint()
    task = vault.fork("task")
    task.remove("private", recursive=True)
    task.write("private/deep/file", b"text\n")

    assert [change.path for change in task.status().sidecar_changed] == [b"private/deep", b"private/deep/file"]
    assert task.checkpoint().outcome == "created"
    task.restore("HEAD", into="next")
    shown = [vault.workspace("next").stat(path).mode & 0o777 for path in ("private/deep", "private/deep/file")]
    assert shown == [0o755, 0o644]


def test_the_modes_of_a_removed_directory_are_gone_at_each_status(home: Avfs, vault: Vault, work: Workspace) -> None:
    """A status that goes on from the one after the removal tells the same as one that begins anew."""
    work.write("private/file", b"text\n")
    work.chmod("private/file", 0o600)
    work.checkpoint()
    work.remove("private", recursive=True)
    assert [change.path for change in work.status().sidecar_changed] == [b"private/file"]
    work.write("private/file", b"other text\n")

    with home.open_vault(vault.name) as other:
        assert work.status() == other.workspace().status()
    assert [change.path for change in work.status().sidecar_changed] == [b"private/file"]


def test_a_fork_that_was_deleted_has_no_empty_history(vault: Vault) -> None:
    """What is asked of it names the fork as missing, whoever deleted it, and by the name that it has since."""
    work = vault.fork("gone")
    work.write("a", b"1")
    work.checkpoint("one")
    vault.rename_fork("gone", "new")
    looks: list[Callable[[Workspace], object]] = [
        Workspace.log,
        Workspace.list_checkpoints,
        Workspace.draw_log,
        lambda work: work.path_versions("a"),
        lambda work: work.blame("a"),
        lambda work: work.checkpoint_details("one"),
        lambda work: work.delete_checkpoint("one"),
        lambda work: vault.log(fork=work.fork),
        lambda work: vault.diff("one", "HEAD", fork=work.fork),
    ]
    for look in looks:
        with pytest.raises(ForkNotFound, match="it is called 'new' now"):
            look(work)
    other = vault.workspace("new")
    vault.delete_fork("new")
    for look in looks:
        with pytest.raises(ForkNotFound, match="there is no fork 'new' in vault"):
            look(other)
