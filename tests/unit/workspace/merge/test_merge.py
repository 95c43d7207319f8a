"""Merging forks: what becomes of files, of the history, of what is ignored, and of conflicts."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from avfs_git.errors import (
    CommitConflicts,
    ConflictsLeft,
    GitFailed,
    InvalidInput,
    MergeInProgress,
    NoMergeInProgress,
    NotFastForward,
    PathUnsuitable,
    UnrelatedHistories,
)
from avfs_git.model import ConflictKind, MergeMode
from avfs_git.sdk import Avfs, Vault, Workspace
from tests.support.faults import check_vault, git, read_files

pytestmark = pytest.mark.needs("git", "whiteout", "user-xattrs")

LINES = b"".join(b"line %d\n" % number for number in range(20))


@pytest.fixture
def side(vault: Vault, work: Workspace) -> Workspace:
    """A fork of a state that both have."""
    work.write(".gitignore", b"*.log\nbuild/\n")
    work.write("text", LINES)
    work.write("deep/er/file", b"deep\n")
    work.write("tool", b"#!/bin/sh\n", executable=True)
    work.write("old.log", b"both\n")
    work.checkpoint("start")
    return vault.fork("side")


@pytest.fixture(params=["libgit2", "git"])
def engine(request: pytest.FixtureRequest, vault: Vault) -> str:
    """Each engine, as the vault's settings name it."""
    vault.set_config("merge.engine", request.param)
    return str(request.param)


def parents(work: Workspace) -> int:
    """Count the parents of the head."""
    return len(work.list_checkpoints(limit=1)[0].parents)


def test_a_fork_moves_on_where_it_has_nothing_of_its_own(work: Workspace, side: Workspace) -> None:
    """The head becomes the source's commit, and the files what they are there; undo and redo lead back and forth."""
    side.write("text", LINES + b"more\n")
    side.remove("deep", recursive=True)
    side.write("new/one", b"1\n")
    before = read_files(work)
    result = work.merge("side")

    assert result.outcome == "fast_forward"
    assert result.commit == result.theirs == side.list_checkpoints(limit=1)[0].id
    assert {change.path for change in result.changed_files} == {b"text", b"deep/er/file", b"new/one"}
    assert not work.exists("deep")
    assert work.status().clean

    after = read_files(work)
    work.undo()

    assert read_files(work) == before

    work.redo()

    assert read_files(work) == after
    assert work.merge("side").outcome == "up_to_date"


def test_a_merge_joins_what_both_did(vault: Vault, work: Workspace, side: Workspace) -> None:
    """Edits of the same file far apart, files that came and went: all are there, with both histories."""
    side.write("text", LINES.replace(b"line 2\n", b"theirs\n"))
    side.remove("tool")
    work.write("text", LINES.replace(b"line 17\n", b"ours\n"))
    work.write("mine", b"uncommitted\n")
    result = work.merge("side", message="join them")

    assert result.outcome == "clean"
    assert result.saved is not None
    assert work.read("text") == LINES.replace(b"line 2\n", b"theirs\n").replace(b"line 17\n", b"ours\n")
    assert not work.exists("tool")
    assert work.read("mine") == b"uncommitted\n"

    head = work.list_checkpoints(limit=1)[0]

    assert (head.id, head.tree, head.parents, head.message) == (result.commit, result.tree, result.parents, "join them")
    assert git(vault.path, "merge-tree", "--write-tree", *head.parents).strip() == head.tree
    assert work.status().clean
    check_vault(vault)


def test_the_modes_of_a_merge(vault: Vault, work: Workspace, side: Workspace) -> None:
    """A commit in any case, only moving on, and all changes as one commit."""
    side.write("new", b"new\n")
    result = work.merge("side", mode=MergeMode.NO_FF)

    assert (result.outcome, parents(work)) == ("clean", 2)

    work.undo()
    work.write("mine", b"mine\n")
    work.checkpoint()
    with pytest.raises(NotFastForward):
        work.merge("side", mode="ff_only")
    result = work.merge("side", mode="squash")

    assert (result.outcome, parents(work)) == ("clean", 1)
    assert work.read("new") == b"new\n"

    other = vault.fork("other", at="start")

    assert other.merge("side", mode="ff_only").outcome == "fast_forward"


def test_ignored_files_of_the_target_win_and_new_ones_come_along(work: Workspace, side: Workspace) -> None:
    """What the target has stays, changed there or not; what the source made since both parted comes.

    What both had is no news.
    """
    side.write("old.log", b"theirs\n")
    side.write("new.log", b"new\n")
    side.write("build/deep/out.o", b"object\n")
    side.make_dir("empty")
    side.write("only-there/x.log", b"x\n")
    side.write("text", LINES + b"more\n")
    work.write("mine.log", b"mine\n")
    result = work.merge("side", mode="no_ff")

    assert work.read("old.log") == b"both\n"
    assert work.read("mine.log") == b"mine\n"
    assert work.read("new.log") == b"new\n"
    assert work.read("build/deep/out.o") == b"object\n"
    assert work.read("only-there/x.log") == b"x\n"
    assert work.exists("empty")
    assert {change.path.split(b"/")[0] for change in result.sidecar_changed} == {
        b"new.log",
        b"build",
        b"empty",
        b"only-there",
    }
    assert work.status().clean

    side.write("again", b"again\n")
    work.remove("new.log")
    work.merge("side")

    assert not work.exists("new.log")


def test_what_only_the_source_ignores_is_left_out(vault: Vault, work: Workspace, side: Workspace) -> None:
    """A file that nothing ignores in the target must not slip into its commit; a warning names it."""
    side.write("new.log", b"ignored there\n")
    side.write("text", LINES + b"more\n")
    work.write(".gitignore", b"build/\n")
    result = work.merge("side")

    told = [("merge.left_out", b"new.log"), ("capture.kept_beside", b"old.log")]
    assert [(warning.code, warning.path) for warning in result.warnings] == told
    assert not work.exists("new.log")
    assert git(vault.path, "merge-tree", "--write-tree", *result.parents).strip() == result.tree
    assert work.status().clean


def test_only_what_nothing_ignores_is_left_out(work: Workspace, side: Workspace) -> None:
    """The rest comes along, and no directory that would be empty."""
    side.write("build/out.o", b"object\n")
    side.write("logs/new.log", b"ignored there\n")
    side.write("both/new.log", b"ignored there\n")
    side.make_dir("both/empty")
    side.write("text", LINES + b"more\n")
    work.write(".gitignore", b"build/\n")
    result = work.merge("side")

    left = {warning.path for warning in result.warnings if warning.code == "merge.left_out"}
    assert left == {b"logs/new.log", b"both/new.log"}
    assert work.read("build/out.o") == b"object\n"
    assert work.exists("both/empty")
    assert not work.exists("both/new.log")
    assert not work.exists("logs")
    assert work.status().clean


@pytest.mark.parametrize("ends", ["continue", "abort"])
def test_ignored_files_come_along_where_conflicts_are_resolved_in_the_workspace(
    vault: Vault, work: Workspace, side: Workspace, ends: str
) -> None:
    """As in a merge without conflicts; giving up takes them away again, and what was there is as it was."""
    side.write("text", LINES.replace(b"line 2\n", b"theirs\n"))
    side.write("old.log", b"theirs\n")
    side.write("new.log", b"new\n")
    side.write("build/deep/out.o", b"object\n")
    side.write("private", b"secret\n")
    side.chmod("private", 0o600)
    side.make_dir("empty")
    work.write("text", LINES.replace(b"line 2\n", b"ours\n"))
    work.write("mine.log", b"mine\n")
    work.checkpoint()
    before = read_files(work)
    result = work.merge("side", on_conflict="workspace")

    assert result.in_workspace
    assert (work.read("old.log"), work.read("mine.log"), work.read("new.log")) == (b"both\n", b"mine\n", b"new\n")
    assert work.read("build/deep/out.o") == b"object\n"
    assert work.exists("empty")
    assert work.stat("private").mode & 0o777 == 0o600

    if ends == "abort":
        work.abort_merge()

        assert read_files(work) == before
        assert not work.exists("empty")
    else:
        work.resolve("text", "theirs")
        done = work.continue_merge()
        paths = git(vault.path, "ls-tree", "-r", "--name-only", done.commit or "").split()

        assert paths == [".gitignore", "deep/er/file", "private", "text", "tool"]
        assert {change.path.split(b"/")[0] for change in done.sidecar_changed} >= {b"new.log", b"build", b"empty"}
        assert work.read("new.log") == b"new\n"
        assert (
            side.list_checkpoints(limit=1)[0].sidecar in git(vault.path, "rev-list", "refs/avfs/sidecar/main").split()
        )
    assert work.status().clean
    check_vault(vault)


def test_conflicts_look_as_the_vault_says(vault: Vault, work: Workspace, side: Workspace) -> None:
    """In files with the base's lines unless its configuration wants them otherwise, in trees as git has them."""
    side.write("text", LINES.replace(b"line 2\n", b"same\ntheirs\n"))
    work.write("text", LINES.replace(b"line 2\n", b"same\nours\n"))
    work.checkpoint()
    for said, base, has_same in (
        ("", True, True),
        ("merge", False, False),
        ("zdiff3", True, False),
        ("nonsense", True, True),
    ):
        if said:
            git(vault.path, "config", "merge.conflictStyle", said)
        work.merge("side", on_conflict="workspace")
        text = work.read("text")

        assert (b"||||||| " in text) == base, said
        assert (b"<<<<<<< main\nsame\n" in text) == has_same, said

        work.abort_merge()
        if said in ("merge", "zdiff3"):
            result = work.merge("side")
            done = subprocess.run(
                ["git", f"--git-dir={vault.path}", "merge-tree", "--write-tree", "main", "side"],
                check=False,
                capture_output=True,
            )

            assert result.tree == done.stdout.decode().split()[0]


def test_markers_of_any_length_are_left_to_resolve(work: Workspace, side: Workspace) -> None:
    """A file that was edited and still has one is not resolved."""
    work.write(".gitattributes", b"text conflict-marker-size=11\n")
    side.write("text", LINES.replace(b"line 2\n", b"theirs\n"))
    work.write("text", LINES.replace(b"line 2\n", b"ours\n"))
    work.checkpoint()
    work.merge("side", on_conflict="workspace")
    text = work.read("text")

    assert b"\n<<<<<<<<<<< main\n" in text

    work.write("text", text + b"more\n")
    with pytest.raises(ConflictsLeft):
        work.continue_merge()
    work.write("text", LINES)

    assert work.continue_merge().outcome == "clean"


def test_a_file_that_is_resolved_as_it_is_is_warned_of_its_markers(work: Workspace, side: Workspace) -> None:
    """The merge would commit them. A side, and a content without markers, leave none."""
    side.write("text", LINES.replace(b"line 2\n", b"theirs\n"))
    work.write("text", LINES.replace(b"line 2\n", b"ours\n"))
    work.checkpoint()
    work.merge("side", on_conflict="workspace")
    told = [work.resolve("text"), work.resolve("text", content=LINES), work.resolve("text", "ours")]

    assert [[warning.code for warning in progress.warnings] for progress in told] == [["merge.markers"], [], []]
    assert work.continue_merge().outcome == "clean"


@pytest.mark.usefixtures("engine")
def test_attributes_decide_how_files_are_merged(vault: Vault, work: Workspace, side: Workspace) -> None:
    """The target's attributes count: lines of both, nothing at all, and a program that is not run.

    A warning tells of that program.
    """
    work.write(".gitattributes", b"text merge=union\ntool -merge\ndeep/** merge=mine\n")
    for one, name in ((work, b"ours"), (side, b"theirs")):
        one.write("text", LINES.replace(b"line 2\n", name + b"\n"))
        one.write("deep/er/file", name + b"\n")
        one.write("tool", b"#!/bin/sh\n" + (b"" if one is work else b"\n" * 9))
        one.checkpoint()
    work.write("tool", b"#!/bin/bash\n")
    work.checkpoint()
    result = work.merge("side", strategy="ours")

    assert result.outcome == "clean"
    assert [(warning.code, warning.path) for warning in result.warnings] == [("merge.driver_not_run", b"deep/er/file")]
    assert work.read("text") == LINES.replace(b"line 2\n", b"ours\ntheirs\n")
    assert work.read("tool") == b"#!/bin/bash\n"

    work.undo()

    assert [(conflict.path, conflict.kind) for conflict in work.merge("side", dry_run=True).conflicts] == [
        (b"deep/er/file", ConflictKind.CONTENT),
        (b"tool", ConflictKind.BINARY),
    ]
    assert [pair.conflicts[0].path for pair in vault.overlap(["main", "side"]).pairs] == [b"deep/er/file"]
    assert len(vault.overlap(["main", "side"]).pairs[0].conflicts) == 2


def test_what_nothing_ignores_is_left_out_of_a_merge_in_the_workspace(work: Workspace, side: Workspace) -> None:
    """Else it would be part of the commit that ends the merge."""
    side.write("text", LINES.replace(b"line 2\n", b"theirs\n"))
    side.write("new.log", b"ignored there\n")
    side.write("build/out.o", b"object\n")
    work.write("text", LINES.replace(b"line 2\n", b"ours\n"))
    work.write(".gitignore", b"build/\n")
    result = work.merge("side", on_conflict="workspace")

    told = [("merge.left_out", b"new.log"), ("capture.kept_beside", b"old.log")]
    assert [(warning.code, warning.path) for warning in result.warnings] == told
    assert (work.exists("new.log"), work.exists("build/out.o")) == (False, True)
    work.resolve("text", "ours")

    assert {change.path for change in work.continue_merge().changed_files} == set()


def test_modes_and_attributes_of_new_files_come_along(work: Workspace, side: Workspace) -> None:
    """Permissions that git does not know are those that the source gave."""
    side.write("private", b"secret\n")
    side.chmod("private", 0o600)
    side.chmod("text", 0o755)
    work.chmod("deep/er/file", 0o640)
    work.merge("side")

    assert work.stat("private").mode & 0o777 == 0o600
    assert work.stat("text").mode & 0o777 == 0o755
    assert work.stat("deep/er/file").mode & 0o777 == 0o640


@pytest.mark.usefixtures("engine")
def test_conflicts_are_told_and_change_nothing(vault: Vault, work: Workspace, side: Workspace) -> None:
    """Each conflict has its kind, what each side has, and the lines; files, branch and log stay as they were."""
    side.write("text", LINES.replace(b"line 2\n", b"theirs\n"))
    side.remove("deep/er/file")
    side.write("new", b"theirs\n")
    work.write("text", LINES.replace(b"line 2\n", b"ours\n"))
    work.write("deep/er/file", b"changed\n")
    work.write("new", b"ours\n")
    work.checkpoint()
    before, done = read_files(work), len(work.operations())
    result = work.merge("side")

    assert result.outcome == "conflicted"
    assert result.commit is None
    assert [(conflict.path, conflict.kind) for conflict in result.conflicts] == [
        (b"deep/er/file", ConflictKind.MODIFY_DELETE),
        (b"new", ConflictKind.ADD_ADD),
        (b"text", ConflictKind.CONTENT),
    ]

    gone, added, text = result.conflicts

    assert gone.theirs is None
    assert gone.ours is not None
    assert added.base is None
    assert [(hunk.line, hunk.base, hunk.ours, hunk.theirs) for hunk in text.hunks] == [
        (3, b"line 2\n", b"ours\n", b"theirs\n")
    ]
    assert read_files(work) == before
    assert len(work.operations()) == done

    argv = ["git", f"--git-dir={vault.path}", "merge-tree", "--write-tree", "main", "side"]
    told = subprocess.run(argv, check=False, capture_output=True, text=True)

    assert result.tree == told.stdout.split()[0]


@pytest.mark.parametrize(
    ("strategy", "expected"), [("ours", b"ours\n"), ("theirs", b"theirs\n"), ("union", b"ours\ntheirs\n")]
)
@pytest.mark.usefixtures("engine")
def test_a_strategy_decides_on_lines(work: Workspace, side: Workspace, strategy: str, expected: bytes) -> None:
    """Lines that both changed are ours, theirs or both, as asked for."""
    side.write("text", LINES.replace(b"line 2\n", b"theirs\n"))
    work.write("text", LINES.replace(b"line 2\n", b"ours\n"))

    assert work.merge("side", strategy=strategy).outcome == "clean"
    assert work.read("text") == LINES.replace(b"line 2\n", expected)


@pytest.mark.usefixtures("engine")
def test_a_dry_run_tells_what_a_merge_does_and_does_nothing(vault: Vault, work: Workspace, side: Workspace) -> None:
    """It sees what the target has not committed, and warns where the source has such; the merge gives what it told."""
    side.write("text", LINES.replace(b"line 2\n", b"theirs\n"))

    assert [warning.code for warning in work.merge("side", dry_run=True).warnings] == ["merge.uncommitted"]

    side.checkpoint()
    work.write("text", LINES.replace(b"line 17\n", b"ours\n"))
    work.write("mine", b"mine\n")
    refs, tree = git(vault.path, "for-each-ref"), read_files(work)
    planned = work.merge("side", dry_run=True)

    assert (git(vault.path, "for-each-ref"), read_files(work)) == (refs, tree)
    assert (planned.outcome, planned.commit) == ("clean", None)

    done = work.merge("side")

    assert (done.tree, done.changed_files) == (planned.tree, planned.changed_files)


@pytest.mark.usefixtures("engine")
@pytest.mark.parametrize("is_saved", [True, False])
@pytest.mark.parametrize("line", [2, 17])
def test_a_dry_run_writes_nothing_into_the_vault(
    vault: Vault, work: Workspace, side: Workspace, line: int, *, is_saved: bool
) -> None:
    """No object, ref, log or note: not for conflicts either, and not for what neither side has saved."""
    side.write("text", LINES.replace(b"line 2\n", b"theirs\n"))
    side.checkpoint()
    work.write("text", LINES.replace(b"line %d\n" % line, b"ours\n"))
    if is_saved:
        work.checkpoint()
    else:
        side.write("unsaved", b"theirs\n")
    before = _read_all(vault.path)

    assert work.merge("side", dry_run=True).outcome == ("conflicted" if line == 2 else "clean")
    assert work.merge_many(["side"], dry_run=True)

    after = _read_all(vault.path)
    assert {path for path in before.keys() | after.keys() if before.get(path) != after.get(path)} == set()


def _read_all(directory: Path) -> dict[Path, bytes | None]:
    """Read all files below a directory but locks, which say who had them last; None stands for a directory."""
    return {path: path.read_bytes() if path.is_file() else None for path in directory.rglob("*") if path.name != "lock"}


def test_a_merge_with_conflicts_saves_both_sides_and_changes_no_file(
    vault: Vault, work: Workspace, side: Workspace
) -> None:
    """What neither had committed is a checkpoint in each, which `undo` takes back; the files stay as they are."""
    side.write("text", LINES.replace(b"line 2\n", b"theirs\n"))
    work.write("text", LINES.replace(b"line 2\n", b"ours\n"))
    before = read_files(work), read_files(side)
    heads = vault.fork_info(work.fork).head, vault.fork_info("side").head

    merged = work.merge("side")

    assert merged.outcome == "conflicted"
    assert merged.saved == vault.fork_info(work.fork).head != heads[0]
    assert vault.fork_info("side").head == merged.theirs != heads[1]
    assert (read_files(work), read_files(side)) == before
    assert not work.status().changed_files
    work.undo()
    assert vault.fork_info(work.fork).head == heads[0]
    assert read_files(work) == before[0]


def test_the_engine_is_one_of_two_and_git_has_to_be_new_enough(
    vault: Vault, work: Workspace, side: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing else merges in its place without a word."""
    with pytest.raises(InvalidInput, match="'libgit2' or 'git'"):
        vault.set_config("merge.engine", "ort")
    vault.set_config("merge.engine", "git")
    monkeypatch.setattr("avfs_git.gitstore.merge.bygit.installed_git", lambda: (2, 37))
    side.write("text", LINES.replace(b"line 2\n", b"theirs\n"))
    work.write("tool", b"ours\n")

    with pytest.raises(GitFailed, match=r"git 2\.38"):
        work.merge("side")

    vault.unset_config("merge.engine")
    assert work.merge("side").outcome == "clean"


def test_unrelated_histories_are_refused(vault: Vault, work: Workspace, side: Workspace) -> None:
    """Two commits without an ancestor in common have no merge."""
    tree = git(vault.path, "rev-parse", "main^{tree}").strip()
    made = git(vault.path, "-c", "user.name=x", "-c", "user.email=x@y", "commit-tree", tree, "-m", "alone").strip()
    with pytest.raises(UnrelatedHistories):
        work.merge(made)


@pytest.mark.usefixtures("engine")
def test_conflicts_in_the_workspace(vault: Vault, work: Workspace, side: Workspace) -> None:
    """Files have markers with the base's lines; nothing can be committed before all is resolved.

    Then there are two parents.
    """
    side.write("text", LINES.replace(b"line 2\n", b"theirs\n"))
    side.remove("tool")
    side.write("new", b"new\n")
    work.write("text", LINES.replace(b"line 2\n", b"ours\n"))
    work.write("tool", b"changed\n")
    result = work.merge("side", on_conflict="workspace")

    assert (result.outcome, result.in_workspace, result.commit) == ("conflicted", True, None)
    assert b"<<<<<<< main\nours\n|||||||" in work.read("text")
    assert b"=======\ntheirs\n>>>>>>> side\n" in work.read("text")
    assert work.read("new") == b"new\n"
    for refused in (
        work.checkpoint,
        work.undo,
        lambda: work.restore("start"),
        lambda: work.merge("side"),
        lambda: work.rebase("side"),
    ):
        with pytest.raises(MergeInProgress):
            refused()
    with pytest.raises(ConflictsLeft) as left:
        work.continue_merge()

    assert left.value.details["paths"] == ["text", "tool"]

    with pytest.raises(PathUnsuitable):
        work.resolve("new", "ours")
    work.write("text", LINES)
    progress = work.resolve("tool", "theirs")

    assert (progress.unresolved, progress.resolved) == ((), 2)

    work.close()  # what is to be decided is on disk
    done = vault.workspace("main").continue_merge(message="decided")

    assert len(done.parents) == 2
    assert not work.exists("tool")
    assert work.status().clean
    assert work.status().merging is None
    assert work.list_checkpoints(limit=1)[0].message == "decided"

    work.undo()

    assert work.read("text") == LINES.replace(b"line 2\n", b"ours\n")
    assert work.read("tool") == b"changed\n"
    check_vault(vault)


def test_a_merge_is_given_up(vault: Vault, work: Workspace, side: Workspace) -> None:
    """Files are what they were before; what was done since is in a commit beside."""
    side.write("text", LINES.replace(b"line 2\n", b"theirs\n"))
    side.write("new", b"new\n")
    work.write("text", LINES.replace(b"line 2\n", b"ours\n"))
    work.checkpoint()
    before = read_files(work)
    work.merge("side", on_conflict="workspace")
    work.write("since", b"since\n")
    done = work.abort_merge()

    assert read_files(work) == before
    assert done.saved is not None
    assert git(vault.path, "cat-file", "blob", f"{done.saved}:since").strip() == "since"
    with pytest.raises(NoMergeInProgress):
        work.abort_merge()
    check_vault(vault)


@pytest.mark.parametrize(
    ("side_taken", "expected"),
    [("ours", b"ours\n"), ("theirs", b"theirs\n"), ("union", b"ours\ntheirs\n"), (None, b"given\n")],
)
def test_a_path_is_resolved(work: Workspace, side: Workspace, side_taken: str | None, expected: bytes) -> None:
    """By either side, by the lines of both, or by a content."""
    side.write("new", b"theirs\n")
    work.write("new", b"ours\n")
    work.merge("side", on_conflict="workspace")
    work.resolve("new", side_taken, content=b"given\n" if side_taken is None else None)
    work.continue_merge()

    assert work.read("new") == expected


@pytest.mark.parametrize("side_taken", ["union", None])
def test_a_resolved_file_keeps_the_mode_of_the_merge(work: Workspace, side: Workspace, side_taken: str | None) -> None:
    """What one side did to the execute bit stands, whatever becomes of the lines."""
    side.write("text", b"theirs\n")
    side.chmod("text", 0o755)
    work.write("text", b"ours\n")
    work.merge("side", on_conflict="workspace")
    work.resolve("text", side_taken, content=b"given\n" if side_taken is None else None)

    assert work.stat("text").mode & 0o777 == 0o755


@pytest.mark.parametrize("side_taken", ["ours", "theirs", "given", "as it is", "by hand"])
@pytest.mark.parametrize("is_edited", [False, True])
def test_a_file_beside_a_link_of_its_name_goes_with_the_decision(
    work: Workspace, side: Workspace, side_taken: str, *, is_edited: bool
) -> None:
    """The merge gave it a name of its own, under which it would be committed; what was edited since stays."""
    side.remove("text")
    side.symlink("text", b"tool")
    work.write("text", b"ours\n")
    (conflict,) = work.merge("side", on_conflict="workspace").conflicts
    assert conflict.ours is not None
    aside = conflict.ours.path.decode()
    assert work.read(aside) == b"ours\n"
    if is_edited:
        work.write(aside, b"edited\n")
    if side_taken == "by hand":
        work.remove("text")
        work.write("text", b"given\n")
    else:
        is_side = side_taken in ("ours", "theirs")
        work.resolve("text", side_taken if is_side else None, content=b"given\n" if side_taken == "given" else None)
    work.continue_merge()

    assert work.exists(aside) == is_edited
    if side_taken in ("theirs", "as it is"):
        assert work.read_link("text") == b"tool"
    else:
        assert work.read("text") == (b"ours\n" if side_taken == "ours" else b"given\n")


def test_many_are_merged_with_the_fewest_conflicts(vault: Vault, work: Workspace, side: Workspace) -> None:
    """One that conflicts with two others comes last, and is reported; a dry run tells the same."""
    side.write("text", LINES.replace(b"line 2\n", b"all\n").replace(b"line 17\n", b"all\n"))
    for name, line in (("first", b"line 2\n"), ("second", b"line 17\n")):
        fork = vault.fork(name, at="start")
        fork.write("text", LINES.replace(line, name.encode() + b"\n"))
        fork.checkpoint()
    side.checkpoint()
    planned = work.merge_many(["side", "first", "second"], dry_run=True)
    done = work.merge_many(["side", "first", "second"])

    assert [(merge.source, merge.outcome) for merge in done] == [
        ("first", "fast_forward"),
        ("second", "clean"),
        ("side", "conflicted"),
    ]
    assert [(merge.source, merge.outcome, merge.tree) for merge in planned] == [
        (m.source, m.outcome, m.tree) for m in done
    ]


@pytest.mark.usefixtures("engine")
def test_overlap_tells_who_touches_what(vault: Vault, work: Workspace, side: Workspace) -> None:
    """Paths by forks, and the conflicts of each two; what was renamed and edited is found, too."""
    side.write("text", LINES.replace(b"line 2\n", b"theirs\n"))
    side.checkpoint()
    near = vault.fork("near", at="start")
    near.write("text", LINES.replace(b"line 2\n", b"near\n"))
    near.checkpoint()
    far = vault.fork("far", at="start")
    far.move("text", "moved")
    far.write("moved", LINES.replace(b"line 17\n", b"far\n"))
    far.checkpoint()
    apart = vault.fork("apart", at="start")
    apart.write("apart", b"apart\n")
    apart.checkpoint()
    found = vault.overlap()

    assert found.forks == ("apart", "far", "main", "near", "side")
    assert [(shared.path, shared.forks) for shared in found.shared] == [(b"text", ("far", "near", "side"))]
    assert [(pair.first, pair.second, [conflict.path for conflict in pair.conflicts]) for pair in found.pairs] == [
        ("far", "near", []),
        ("far", "side", []),
        ("near", "side", [b"text"]),
    ]
    assert vault.overlap(["near", "apart"]).pairs == ()


def test_commits_are_picked(work: Workspace, side: Workspace) -> None:
    """What each changed is put on, with its message; all of them are taken back at once.

    One that does not fit stops all.
    """
    side.write("one", b"1\n")
    side.checkpoint("first")
    side.write("text", LINES.replace(b"line 2\n", b"theirs\n"))
    side.checkpoint("second", description="change the text")
    work.write("mine", b"mine\n")
    work.checkpoint()
    done = work.cherry_pick(["side@second", "side@first"])

    assert [entry.checkpoint.message for entry in work.log(limit=2)] == ["checkpoint first", "change the text"]
    assert done.head == done.commits[-1] == work.list_checkpoints(limit=1)[0].id
    assert work.read("one") == b"1\n"
    assert work.status().clean

    work.undo()

    assert not work.exists("one")

    work.write("text", LINES.replace(b"line 2\n", b"ours\n"))
    with pytest.raises(CommitConflicts):
        work.cherry_pick(["side@first", "side@second"])

    assert not work.exists("one")


@pytest.mark.usefixtures("engine")
def test_a_fork_is_rebased(vault: Vault, work: Workspace, side: Workspace) -> None:
    """Its own commits stand on the other fork's head; what was beside each stays; undo brings the old ones back."""
    side.write("one", b"1\n")
    side.write("beside.log", b"1\n")
    side.checkpoint("first")
    side.write("two", b"2\n")
    side.write("beside.log", b"2\n")
    side.checkpoint("second")
    work.write("mine", b"mine\n")
    old = side.list_checkpoints(limit=1)[0].id
    done = side.rebase("main")

    assert (done.outcome, done.old_head, len(done.commits)) == ("rewritten", old, 2)
    assert [entry.checkpoint.message for entry in side.log(limit=2)] == ["checkpoint second", "checkpoint first"]
    assert git(vault.path, "merge-base", "main", "side").strip() == git(vault.path, "rev-parse", "main").strip()
    assert side.read("mine") == b"mine\n"
    assert side.read("beside.log") == b"2\n"
    assert side.status().clean
    assert side.rebase("main").outcome == "unchanged"

    side.restore("HEAD~1")

    assert side.read("beside.log") == b"1\n"

    side.undo()
    side.undo()

    assert side.list_checkpoints(limit=1)[0].id == old
    assert not side.exists("mine")
    check_vault(vault)


def test_commits_are_squashed(vault: Vault, work: Workspace, side: Workspace) -> None:
    """One commit has what several had; those after it keep their trees; no file changes, and undo brings all back."""
    for number in range(4):
        side.write("text", LINES + b"%d\n" % number)
        side.checkpoint(f"n{number}")
    before, trees = read_files(side), [entry.checkpoint.tree for entry in side.log()]
    done = side.squash("n0", "n2", message="two in one")

    assert [entry.checkpoint.message for entry in side.log(limit=3)] == ["checkpoint n3", "two in one", "checkpoint n0"]
    assert [entry.checkpoint.tree for entry in side.log()] == [trees[0], trees[1], *trees[3:]]
    assert len(done.commits) == 2
    assert read_files(side) == before
    assert side.status().clean

    side.undo()

    assert [entry.checkpoint.tree for entry in side.log()] == trees
    with pytest.raises(InvalidInput):
        side.squash("n2", "n0")
    check_vault(vault)


def test_undo_after_a_squash_takes_back_one_operation(home: Avfs, vault: Vault, work: Workspace) -> None:
    """A squash says nothing of the files.

    Earlier removals and edits stay when a write after the squash is undone.
    """
    for number in range(3):
        work.write("text", b"%d\n" % number)
        work.write("gone", b"%d\n" % number)
        work.checkpoint(f"s{number}")
    work.remove("gone")
    work.write("text", b"edited\n")
    vault.close()
    changes: list[Callable[[Workspace], object]] = [
        lambda main: main.squash("s0", "s2"),
        lambda main: main.write("new", b"new\n"),
        lambda main: main.undo(),
    ]
    for change in changes:
        with Avfs(home.home) as avfs, avfs.open_vault("v") as opened:  # what a program wrote is recorded when it ends
            change(opened.workspace("main"))
    with Avfs(home.home) as avfs, avfs.open_vault("v") as opened:
        main = opened.workspace("main")

        assert not main.exists("new")
        assert not main.exists("gone")
        assert main.read("text") == b"edited\n"


def _commit_submodule(vault: Vault, branch: str, commit: str, parent: str, blob: str) -> str:
    """Commit a tree with a file `text` and a submodule, as the head of a branch."""
    argv = ["git", f"--git-dir={vault.path}", "mktree"]
    listed = f"100644 blob {blob}\ttext\n160000 commit {commit}\tmodule\n"
    tree = subprocess.run(argv, input=listed, check=True, capture_output=True, text=True).stdout.strip()
    who = ["-c", "user.name=x", "-c", "user.email=x@y"]
    made = git(vault.path, *who, "commit-tree", tree, "-p", parent, "-m", branch).strip()
    git(vault.path, "update-ref", f"refs/heads/{branch}", made)
    return made


def test_a_submodule_in_conflict_is_left_where_it_is_by_either_name(vault: Vault, work: Workspace) -> None:
    """Our side is what is there; the other one only git moves it to, and the error says how."""
    work.write("text", b"base\n")
    work.checkpoint("start")
    blob, start = (git(vault.path, "rev-parse", name).strip() for name in ("main:text", "main"))
    base = _commit_submodule(vault, "base", "1" * 40, start, blob)
    for name, commit in (("ours", "2" * 40), ("theirs", "3" * 40)):
        _commit_submodule(vault, name, commit, base, blob)
    ours = vault.workspace("ours")
    assert ours.merge("theirs", on_conflict="workspace").conflicts[0].kind == ConflictKind.SUBMODULE
    with pytest.raises(PathUnsuitable) as refused:
        ours.resolve("module", "theirs")
    assert f"--cacheinfo 160000,{'3' * 40},module" in str(refused.value.hint)
    assert "avfs resolve module" in str(refused.value.hint)

    assert ours.resolve("module", "ours").unresolved == ()
    ours.continue_merge()

    assert git(vault.path, "rev-parse", "ours:module").strip() == "2" * 40
    assert ours.status().clean


@pytest.mark.parametrize("conflicts", [False, True])
def test_a_submodule_goes_to_where_the_source_has_it(vault: Vault, work: Workspace, conflicts: bool) -> None:
    """The commit that git records of a submodule is merged as a file is, though no file of the workspace says it."""
    work.write("text", b"base\n")
    work.checkpoint("start")
    blob = git(vault.path, "rev-parse", "main:text").strip()
    heads = [git(vault.path, "rev-parse", "main").strip()]
    for name, commit in (("ours", "1" * 40), ("theirs", "2" * 40)):
        heads.append(_commit_submodule(vault, name, commit, heads[-1], blob))
    ours, theirs = vault.workspace("ours"), vault.workspace("theirs")
    ours.write("text" if conflicts else "own", b"ours\n")
    theirs.write("text" if conflicts else "other", b"theirs\n")
    if ours.merge("theirs", on_conflict="workspace").outcome == "conflicted":
        ours.resolve("text", "ours")
        ours.continue_merge()

    assert git(vault.path, "rev-parse", "ours:module").strip() == "2" * 40
    assert ours.status().clean

    ours.undo()

    assert git(vault.path, "rev-parse", "ours:module").strip() == "1" * 40
    assert ours.status().clean
