"""Restoring, checking out and reverting: what comes back, what stays, and what is remembered."""

from __future__ import annotations

import os

import pytest

from avfs_git.errors import CheckpointNotFound, InvalidInput, PathNotFound, PathUnsuitable
from avfs_git.model import ChangeKind
from avfs_git.paths import TreePath
from avfs_git.sdk import Workspace
from tests.support.trees import describe_tree

pytestmark = pytest.mark.needs("whiteout", "user-xattrs")

OLD_NS = 1_000_000_000_123_456_789


def test_tracked_although_ignored_comes_back_tracked(work: Workspace) -> None:
    """A file that was tracked under a rule that ignores it is tracked again, also when it comes back alone."""
    work.write("x.log", b"1")
    work.checkpoint("c1")
    work.write(".gitignore", b"*.log\n")
    with_file = work.checkpoint("c2").checkpoint
    work.remove("x.log")
    work.checkpoint("c3")
    assert with_file is not None
    whole = work.restore("c2").checkpoint
    assert whole is not None
    assert whole.tree == with_file.tree
    work.restore("c3")
    alone = work.restore("c2", paths=["x.log"]).checkpoint
    assert alone is not None
    assert alone.tree == with_file.tree


def test_same_content_moves_between_tree_and_sidecar(work: Workspace) -> None:
    """A file that is tracked in one state and ignored in the other is so again after a restore, its time unchanged."""
    work.write(".gitignore", b"*.log\n")
    work.write("x.log", b"same\n")
    work.touch("x.log", mtime_ns=OLD_NS)
    ignored = work.checkpoint("ignored").checkpoint
    work.write(".gitignore", b"")
    tracked = work.checkpoint("tracked").checkpoint
    assert ignored is not None
    assert tracked is not None
    assert ignored.tree != tracked.tree
    for _ in range(2):
        for state, label in ((ignored, "ignored"), (tracked, "tracked")):
            found = work.restore(label).checkpoint
            assert found is None or found.tree == state.tree
            assert work.checkpoint_details("HEAD").checkpoint.tree == state.tree
            assert work.stat("x.log").mtime_ns == OLD_NS
            assert work.status().clean


def test_restored_files_get_new_times_and_others_keep_theirs(work: Workspace) -> None:
    """Build tools notice what came back; what is the same in both states is not touched."""
    work.write("same", b"1")
    work.write("changed", b"1")
    for name in ("same", "changed"):
        work.touch(name, mtime_ns=OLD_NS)
    work.checkpoint("c1")
    work.write("changed", b"2")
    work.restore("c1")
    assert work.stat("same").mtime_ns == OLD_NS
    assert work.stat("changed").mtime_ns > OLD_NS
    with work.vault.fork("other", at="c1") as other:
        assert other.stat("changed").mtime_ns == OLD_NS


def test_a_restored_state_is_recorded_with_the_times_of_its_target(work: Workspace) -> None:
    """A fork of it has the times that its files had to each other; in the workspace, sources that come back are new."""
    work.write(".gitignore", b"*.o\n")
    for name, mtime_ns in (("x.c", OLD_NS), ("x.o", OLD_NS + 10), ("gone", OLD_NS)):
        work.write(name, b"1")
        work.touch(name, mtime_ns=mtime_ns)
    target = work.checkpoint("c1").checkpoint
    for name in ("x.c", "x.o", "added"):
        work.write(name, b"2")
    work.remove("gone")
    work.checkpoint("c2")
    restored = work.restore("c1")
    assert target is not None
    assert restored.checkpoint is not None
    assert restored.checkpoint.tree == target.tree
    assert [change.path for change in restored.changed_files] == [b"added", b"gone", b"x.c"]
    assert [change.path for change in restored.sidecar_changed] == [b"x.o"]
    assert not work.exists("added")
    assert min(work.stat(name).mtime_ns for name in ("x.c", "gone")) > OLD_NS + 10 == work.stat("x.o").mtime_ns
    for again in (False, True):
        with work.vault.fork(f"other{again}", source=work.fork) as other:
            assert [other.stat(name).mtime_ns - OLD_NS for name in ("x.c", "x.o", "gone")] == [0, 10, 0]
        assert work.status().clean
        assert work.checkpoint().outcome == "unchanged"
    with work.vault.workspace(work.fork) as anew:
        anew.write("x.c", b"3")
        saved = anew.checkpoint()
        assert [change.path for change in saved.changed_files] == [b"x.c"]
        assert anew.stat("x.c").mtime_ns > OLD_NS


def test_paths_that_come_back_alone_are_recorded_as_new(work: Workspace) -> None:
    """What was built of the files before is older than those that were put back, in a fork as well."""
    for name in ("x.c", "y.c"):
        work.write(name, b"1")
        work.touch(name, mtime_ns=OLD_NS)
    work.checkpoint("c1")
    work.write("x.c", b"2")
    work.restore("c1", paths=["x.c"])
    with work.vault.fork("other", source=work.fork) as other:
        assert other.stat("x.c").mtime_ns == work.stat("x.c").mtime_ns > OLD_NS


def test_uncommitted_work_is_saved_first(work: Workspace) -> None:
    """Whatever a restore replaces can be had again."""
    work.write("a", b"1")
    work.checkpoint("c1")
    work.write("a", b"uncommitted")
    result = work.restore("c1")
    assert work.read("a") == b"1"
    assert result.saved is not None
    assert b"".join(work.open_read("a", at=result.saved)) == b"uncommitted"
    assert [entry.checkpoint.message for entry in work.log()] == [
        "restore c1",
        "save before restore of c1\n\nAvfs-Bookkeeping: yes",
        "checkpoint c1",
    ]


def test_restore_to_the_present_state_does_nothing(work: Workspace) -> None:
    """No commit is made where nothing differs."""
    work.write("a", b"1")
    work.checkpoint("c1")
    assert work.restore("c1").outcome == "unchanged"
    assert len(work.log()) == 1


def test_dry_run_tells_and_changes_nothing(work: Workspace) -> None:
    """A plan names what the restore then does."""
    work.write("a", b"1")
    work.write("d/b", b"1")
    work.write(".gitignore", b"*.log\n")
    work.checkpoint("c1")
    work.write("a", b"2")
    work.remove("d", recursive=True)
    work.write("x.log", b"1")
    before = describe_tree(work._opened.read_view(), times=True)
    plan = work.restore("c1", dry_run=True)
    assert plan.outcome == "planned"
    assert {(change.path, change.kind) for change in plan.changed_files} == {
        (b"a", ChangeKind.MODIFIED),
        (b"d/b", ChangeKind.ADDED),
    }
    assert {(change.path, change.kind) for change in plan.sidecar_changed} == {(b"x.log", ChangeKind.DELETED)}
    assert describe_tree(work._opened.read_view(), times=True) == before
    assert len(work.log()) == 1
    result = work.restore("c1")
    assert {change.path for change in result.changed_files} == {b"a", b"d/b"}
    assert not work.exists("x.log")


def test_one_path_of_a_state(work: Workspace) -> None:
    """Only the path named changes; directories that lead to it are made, and a file in their place makes way."""
    work.write("d/e/f", b"1")
    work.write("d/g", b"1")
    work.write("h", b"1")
    work.chmod("d/e", 0o700)
    work.checkpoint("c1")
    work.remove("d", recursive=True)
    work.write("d", b"a file now\n")
    work.write("h", b"2")
    work.checkpoint("c2")
    work.restore("c1", paths=["d/e/f"])
    assert work.read("d/e/f") == b"1"
    assert work.stat("d/e").mode & 0o777 == 0o700
    assert not work.exists("d/g")
    assert work.read("h") == b"2"
    work.restore("c2", paths=["d"])
    assert work.read("d") == b"a file now\n"


def test_a_path_that_is_not_in_the_target_goes(work: Workspace) -> None:
    """Restoring a path to a state without it removes it; one that is in neither is refused."""
    work.write("a", b"1")
    work.checkpoint("c1")
    work.write("new/b", b"1")
    work.checkpoint("c2")
    work.restore("c1", paths=["new"])
    assert not work.exists("new")
    with pytest.raises(PathNotFound):
        work.restore("c1", paths=["never"])


def test_restore_into_a_fork(work: Workspace) -> None:
    """The state goes into a new fork; this workspace stays as it is."""
    work.write("a", b"1")
    work.checkpoint("c1")
    work.write("a", b"2")
    assert work.restore("c1", into="old").fork == "old"
    assert work.read("a") == b"2"
    assert work.vault.workspace("old").read("a") == b"1"
    with pytest.raises(InvalidInput):
        work.restore("c1", into="older", dry_run=True)


def test_unknown_target(work: Workspace) -> None:
    """A state that is not there is named in one error, and nothing changes."""
    work.write("a", b"1")
    for name in ("nothing", "HEAD~1", "abcd", "-x", "a..b", "x@{1}", ""):
        with pytest.raises((CheckpointNotFound, InvalidInput)):
            work.restore(name)
    assert work.read("a") == b"1"


def test_what_no_checkpoint_holds_stays(work: Workspace) -> None:
    """A pipe in a directory that a restore removes stays where it is, and is named."""
    work.write("a", b"1")
    work.checkpoint("c1")
    work.write("d/b", b"1")
    opened = work._opened
    with opened.locked() as locked, locked.changing() as merged:
        merged.making.mknod(merged.resolve(TreePath(b"d")), b"pipe", 0o010644)
    work.checkpoint("c2")
    result = work.restore("c1")
    assert {warning.path for warning in result.warnings if warning.code == "restore.kept"} == {b"d/pipe"}
    assert not work.exists("d/b")
    assert work.exists("d/pipe")


def test_attributes_come_back(work: Workspace) -> None:
    """The user's extended attributes of files and directories are part of a state."""
    work.write("d/a", b"1")
    opened = work._opened
    with opened.locked() as locked, locked.changing() as merged:
        merged.attributes.set_xattr(merged.resolve(TreePath(b"d/a")), b"user.k=,%", b"\0\xff")
        merged.attributes.set_xattr(merged.resolve(TreePath(b"d")), b"user.d", b"")
    work.checkpoint("c1")
    before = describe_tree(opened.read_view())
    with opened.locked() as locked, locked.changing() as merged:
        merged.attributes.remove_xattr(merged.resolve(TreePath(b"d/a")), b"user.k=,%")
        merged.attributes.set_xattr(merged.resolve(TreePath(b"d")), b"user.d", b"other")
    assert {change.path for change in work.checkpoint("c2").sidecar_changed} == {b"d", b"d/a"}
    work.restore("c1")
    assert describe_tree(opened.read_view()) == before


def test_checkout_and_revert_by_version(work: Workspace) -> None:
    """Version N is the content of the Nth write that was checkpointed; reverting steps to the one before."""
    for number in range(1, 6):
        work.write("f", b"%d" % number)
        work.write("other", b"%d" % number)
        work.checkpoint()
    versions = work.path_versions("f")
    assert [version.number for version in versions] == [5, 4, 3, 2, 1]
    assert versions[-1].change.kind == ChangeKind.ADDED
    for number in range(1, 6):
        assert b"".join(work.open_read("f", version=number)) == b"%d" % number
    work.checkout_path("f", version=2)
    assert work.read("f") == b"2"
    assert work.read("other") == b"5"
    assert [version.number for version in work.path_versions("f", limit=1)] == [6]
    work.revert_path("f")
    assert work.read("f") == b"5"
    work.write("f", b"uncommitted")
    work.revert_path("f")
    assert work.read("f") == b"5"
    with pytest.raises(PathUnsuitable):
        work.checkout_path("f", version=99)
    with pytest.raises(PathNotFound):
        work.path_versions("never")
    with pytest.raises(InvalidInput):
        work.checkout_path("f")


def test_revert_of_a_removal_brings_it_back(work: Workspace) -> None:
    """A removal is a version too; a path with one version has nothing to go back to."""
    work.write("f", b"1")
    work.checkpoint()
    with pytest.raises(PathUnsuitable):
        work.revert_path("f")
    work.remove("f")
    work.checkpoint()
    work.revert_path("f")
    assert work.read("f") == b"1"


def test_fold_keeps_times_and_what_was_only_touched(work: Workspace) -> None:
    """The merged view is the same before and after, times of the root and of directories included."""
    work.write("d/a", b"1")
    work.write("d/b", b"1")
    work.write("c", b"1")
    work.checkpoint()
    work.touch("d/a", mtime_ns=OLD_NS)
    before = describe_tree(work._opened.read_view(), times=True)
    work.fold()
    assert describe_tree(work._opened.read_view(), times=True) == before
    assert sorted(os.listdir(work._opened.layout.upper)) == ["d"]
    assert work.status().clean
    assert not work.fold()


def test_left_out_file_is_not_overwritten(work: Workspace) -> None:
    """A file that checkpoints leave out is held nowhere else: a restore, and its undo, leave the file where it is."""
    work.vault.set_config("sidecar.max_file_bytes", "10")
    work.write(".gitignore", b"*.log\n")
    work.write("x.log", b"small")
    work.write("a", b"1")
    work.checkpoint("c1")
    work.write("x.log", b"y" * 20)
    work.write("a", b"2")
    work.checkpoint("c2")
    result = work.restore("c1")
    assert [warning.path for warning in result.warnings if warning.code == "restore.kept"] == [b"x.log"]
    assert work.read("x.log") == b"y" * 20
    assert work.read("a") == b"1"
    work.undo()
    assert work.read("x.log") == b"y" * 20
    assert work.read("a") == b"2"


@pytest.mark.slow
def test_trees_deeper_than_the_stack(work: Workspace) -> None:
    """A thousand nested directories are saved, folded, removed and brought back."""
    path = "/".join(["d"] * 1050)
    work.make_dir(path, parents=True)
    work.write(f"{path}/f", b"1")
    work.checkpoint("c1")
    work.write("d/x", b"1")
    work.checkpoint("c2")
    work.restore("c1")
    assert not work.exists("d/x")
    work.remove("d", recursive=True)
    work.checkpoint("c3")
    work.restore("c1")
    assert work.read(f"{path}/f") == b"1"
    work.restore("c3")
    assert not work.exists("d")


@pytest.mark.ordinary
def test_read_only_directories_go_and_come_back(work: Workspace) -> None:
    """As the caches of build tools have them: their mode keeps nobody's state from coming back, and is what it was."""
    work.write("kept/changed", b"1")
    work.write("kept/gone", b"1")
    work.chmod("kept", 0o555)
    work.checkpoint("before")
    before = describe_tree(work._opened.read_view())
    work.make_dir("mod/pkg/deep", parents=True)
    work.write("mod/pkg/x.go", b"1")
    work.write("mod/pkg/deep/y.go", b"1")
    work.symlink("mod/pkg/link", b"x.go")
    work.chmod("kept", 0o755)
    work.write("kept/changed", b"2")
    work.remove("kept/gone")
    work.symlink("kept/link", b"x.go")
    for name in ("mod/pkg/deep", "mod/pkg", "mod", "kept"):
        work.chmod(name, 0o555)
    work.checkpoint("after")
    after = describe_tree(work._opened.read_view())

    work.restore("before")
    assert describe_tree(work._opened.read_view()) == before
    assert work.status().clean
    work.undo()
    assert describe_tree(work._opened.read_view()) == after
    assert work.status().clean
    work.redo()
    assert describe_tree(work._opened.read_view()) == before


def test_a_directory_that_comes_back_hides_that_of_the_base(work: Workspace) -> None:
    """A directory comes back whole, and shows nothing of the one of the same name that the workspace began with."""
    work.write("d/old", b"1")
    work.write("d/sub/old", b"1")
    work.checkpoint("base")
    work.fold()
    work.remove("d", recursive=True)
    work.write("d/sub/new", b"2", parents=True)
    work.chmod("d/sub/new", 0o711)
    work.symlink("d/link", b"sub")
    work.chmod("d/sub", 0o700)
    work.checkpoint("c1")
    before = describe_tree(work._opened.read_view())
    work.remove("d", recursive=True)

    work.restore("c1")

    assert describe_tree(work._opened.read_view()) == before
    assert work.status().clean
    work.undo()
    assert not work.exists("d")


def test_a_state_without_anything_comes_back(work: Workspace) -> None:
    """A checkpoint of an empty workspace says that there is nothing beside its files: empty directories go, too."""
    empty = work.checkpoint("empty").checkpoint
    assert empty is not None
    work.make_dir("a")

    work.restore(empty.id)

    assert list(work.walk()) == []
    assert work.status().clean


def test_undo_of_a_restored_directory_removes_it(work: Workspace) -> None:
    """The save before the restore, of a workspace that was empty, is what comes back."""
    work.make_dir("a")
    saved = work.undo().saved
    assert saved is not None
    work.restore(saved, paths=["a"])

    work.undo()

    assert list(work.walk()) == []
