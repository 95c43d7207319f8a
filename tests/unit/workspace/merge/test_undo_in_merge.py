"""File calls in the middle of a merge are operations until the merge ends."""

from __future__ import annotations

from pathlib import Path

import pytest

from avfs_git import Avfs
from avfs_git.errors import ConflictsLeft, MergeInProgress, NothingToUndo
from tests.support.faults import check_vault

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
        assert work.undo().operation.kind == "checkpoint"
        assert not work.exists("new")
        check_vault(work.vault)
