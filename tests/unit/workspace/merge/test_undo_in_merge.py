"""File calls in the middle of a merge are operations until the merge ends."""

from __future__ import annotations

from pathlib import Path

import pytest

from avfs_git import Avfs, Workspace
from avfs_git.errors import ConflictsLeft, MergeInProgress, NothingToUndo
from tests.support.faults import check_vault, git

pytestmark = pytest.mark.needs("git", "whiteout", "user-xattrs")


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A home whose fork `main` is in the middle of a merge with two files in conflict."""
    with Avfs(tmp_path / "home") as avfs:
        vault = avfs.create_vault("v")
        work = vault.workspace()
        for data in (b"both\n", b"theirs\n", b"ours\n"):
            fork = vault.fork("side") if data == b"theirs\n" else work
            fork.write("a", data)
            fork.write("b", data)
            fork.checkpoint()
        assert work.merge("side", on_conflict="workspace").outcome == "conflicted"
    return tmp_path / "home"


def test_file_calls_are_undone_one_program_after_the_other(place: Path) -> None:
    """Then the merge is in the way; the merge itself goes on with what is there."""
    for name in ("new", "other"):
        with Avfs(place) as avfs:
            avfs.open_vault("v").workspace().write(name, b"")
    with Avfs(place) as avfs:
        work = avfs.open_vault("v").workspace()
        assert work.operations(limit=1)[0].description == "write 'other'"
        work.undo()
        assert (work.exists("new"), work.exists("other")) == (True, False)
        work.redo()
        assert work.exists("other")
        work.undo()
        work.undo()
        assert not work.exists("new")
        with pytest.raises(MergeInProgress):
            work.undo()
        with pytest.raises(ConflictsLeft):
            work.continue_merge()
        check_vault(work.vault)


def test_a_resolution_is_undone(place: Path) -> None:
    """The conflict waits again, however it was resolved; redo resolves it."""
    with Avfs(place) as avfs:
        work = avfs.open_vault("v").workspace()
        assert [one.path for one in work.resolve("a", "theirs").unresolved] == [b"b"]
        assert work.operations(limit=1)[0].description == "resolve 'a'"
        work.undo()
        assert work.read("a").startswith(b"<<<<<<<")
        merging = work.status().merging
        assert merging is not None
        assert [one.path for one in merging.unresolved] == [b"a", b"b"]
        work.redo()
        assert work.read("a") == b"theirs\n"
        merging = work.status().merging
        assert merging is not None
        assert [one.path for one in merging.unresolved] == [b"b"]


@pytest.mark.parametrize("ends", ["continue", "abort"])
def test_they_end_with_the_merge(place: Path, ends: str) -> None:
    """Undo takes the whole merge back, or what was before it; none of its states comes back without it."""
    with Avfs(place) as avfs:
        work = avfs.open_vault("v").workspace()
        work.write("new", b"")
        work.undo()
        work.redo()
        work.resolve("a", "ours")
        work.resolve("b", "theirs")
        if ends == "continue":
            work.continue_merge()
            assert work.undo().operation.kind == "merge"
        else:
            work.abort_merge()
            with pytest.raises(NothingToUndo):
                work.redo()
        assert (work.read("a"), work.read("b"), work.exists("new")) == (b"ours\n", b"ours\n", False)
        if ends == "abort":
            return
        assert work.undo().operation.kind == "checkpoint"
        assert not work.exists("new")
        check_vault(work.vault)


def test_a_merge_that_was_given_up_goes_on_after_undo(place: Path) -> None:
    """With its files, and with what was resolved; redo gives it up again, and undo goes on again."""
    with Avfs(place) as avfs:
        work = avfs.open_vault("v").workspace()
        work.resolve("a", "ours")
        work.write("notes", b"")
        work.abort_merge()
        planned = work.vault.undo(dry_run=True)
        done = work.undo()
        assert done.changed_files == planned.changed_files
        assert ([change.path for change in done.changed_files], done.operation.kind) == (
            [b"b", b"notes"],
            "merge_abort",
        )
        _check_goes_on(work)
        work.redo()
    with Avfs(place) as avfs:
        work = avfs.open_vault("v").workspace()
        assert (work.read("b"), work.exists("notes"), work.status().merging) == (b"ours\n", False, None)
        work.undo()
        _check_goes_on(work)
        with pytest.raises(MergeInProgress):
            work.undo()
        work.resolve("b", "theirs")
        assert len(work.continue_merge().parents) == 2
        check_vault(work.vault)
        assert work.undo().operation.kind == "merge"
        assert not work.exists("notes")
        assert work.undo().operation.kind == "checkpoint"


def _check_goes_on(work: Workspace) -> None:
    merging = work.status().merging
    assert merging is not None
    assert ([one.path for one in merging.unresolved], merging.resolved) == ([b"b"], 1)
    assert (work.read("a"), work.read("b")[:7], work.read("notes")) == (b"ours\n", b"<<<<<<<", b"")


def test_giving_up_after_undo_brings_back_what_was_there_at_first(place: Path) -> None:
    """Also where another merge began and was undone meanwhile: its files before it are not those of the first."""
    with Avfs(place) as avfs:
        vault = avfs.open_vault("v")
        work = vault.workspace()
        work.abort_merge()
        work.write("later", b"")
        work.merge("side", on_conflict="workspace")
        for path in ("a", "b"):
            work.resolve(path, "theirs")
        work.continue_merge()
        while work.status().merging is None:
            work.undo()
        assert not work.exists("later")
        work.abort_merge()
        assert not work.exists("later")
        check_vault(vault)


def test_redo_does_not_give_up_what_went_on(place: Path) -> None:
    """At the next commit in conflict, more is done than what redo would take away."""
    with Avfs(place) as avfs:
        vault = avfs.open_vault("v")
        work, side = vault.workspace(), vault.workspace("side")
        work.abort_merge()
        side.write("a", b"theirs again\n")
        side.checkpoint()
        commits = git(vault.path, "rev-list", "--reverse", "main..side").split()
        work.cherry_pick(commits, on_conflict="workspace")
        work.abort_merge()
        work.undo()
        for path in ("a", "b"):
            work.write(path, b"both\n")
        assert work.continue_rewrite().outcome == "conflicted"
        with pytest.raises(NothingToUndo):
            work.redo()
        work.abort_merge()
        work.undo()
        merging = work.status().merging
        assert merging is not None
        assert merging.theirs == commits[1]
        check_vault(vault)


def test_what_is_needed_to_go_on_is_kept(place: Path) -> None:
    """Also where nothing else leads to the commit that was in conflict by then."""
    with Avfs(place) as avfs:
        vault = avfs.open_vault("v")
        work, side = vault.workspace(), vault.workspace("side")
        work.abort_merge()
        picked = git(vault.path, "rev-parse", "side").strip()
        side.write("a", b"theirs again\n")
        side.checkpoint()
        work.cherry_pick([picked], on_conflict="workspace")
        work.resolve("a", "theirs")
        vault.delete_fork("side")
        work.abort_merge()
        vault.gc(keep_days=0, keep_operations=1, grace_days=0)
        git(vault.path, "reflog", "expire", "--expire=now", "--all")
        git(vault.path, "gc", "-q", "--prune=now")
        assert work.undo().operation.kind == "merge_abort"
        work.resolve("b", "theirs")
        assert work.continue_rewrite().outcome == "rewritten"
        assert (work.read("a"), work.read("b")) == (b"theirs\n", b"theirs\n")
        check_vault(vault)
