"""Between which states an operation lies, as `op show` and `op undo` tell it, and how long these states are kept."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from avfs_git.errors import (
    CannotUndo,
    CheckpointNotFound,
    CommitConflicts,
    MergeInProgress,
    NotFastForward,
    NothingToUndo,
)
from avfs_git.model import Operation
from avfs_git.sdk import Avfs, Vault, Workspace

pytestmark = pytest.mark.usefixtures("unsynced")
M, A, D = "modified", "added", "deleted"


@pytest.fixture
def vault(tmp_path: Path) -> Iterator[Vault]:
    """An empty vault with the machine's time: garbage counts the age of refs by that of their files."""
    with Avfs(tmp_path / "home") as avfs:
        yield avfs.create_vault("v")


@pytest.fixture
def work(vault: Vault) -> Workspace:
    """A fork that cannot be merged with "theirs" without a conflict, and has something unsaved."""
    work = vault.workspace()
    work.write("both", b"base\n")
    work.checkpoint()
    with vault.fork("theirs") as theirs:
        theirs.write("both", b"theirs\n")
        theirs.write("new", b"new\n")
        theirs.checkpoint()
    work.write("both", b"ours\n")
    work.checkpoint()
    work.write("unsaved", b"")
    return work


def _show(vault: Vault, operation: Operation) -> dict[str, str] | None:
    diff = vault.operation(operation.id).diff
    return {file.change.path.decode(): file.change.kind.value for file in diff.files} if diff is not None else None


def _last(work: Workspace) -> Operation:
    return work.operations(limit=1)[0]


def test_a_merge_that_is_given_up(vault: Vault, work: Workspace) -> None:
    """Its beginning changed what the merge changes, its end changed that back; neither is the making of all files."""
    work.merge("theirs", on_conflict="workspace")
    began = _last(work)
    assert (began.kind, _show(vault, began)) == ("merge_begin", {"both": M, "new": A})
    with pytest.raises(MergeInProgress):
        work.undo_operation(began.id)
    work.write("new", b"changed\n")
    work.abort_merge()
    ended = _last(work)
    assert (ended.kind, _show(vault, ended)) == ("merge_abort", {"both": M, "new": D})
    assert work.undo_operation(began.id).changed_files == ()
    with pytest.raises(CannotUndo, match="the merge is over"):
        work.undo_operation(ended.id)
    assert work.read("both") == b"ours\n"


def test_a_merge_in_which_all_is_as_before(vault: Vault, work: Workspace) -> None:
    """Giving it up changes nothing."""
    work.checkpoint()
    work.merge("theirs", on_conflict="workspace")
    work.write("both", b"ours\n")
    work.remove("new")
    work.abort_merge()
    assert (_last(work).kind, _show(vault, _last(work))) == ("merge_abort", {})


def test_a_rebase_stops(vault: Vault, work: Workspace) -> None:
    """The stop is shown as what it changed in the files."""
    work.checkpoint()
    work.rebase("theirs", on_conflict="workspace")
    assert (_last(work).kind, _show(vault, _last(work))) == ("merge_begin", {"both": M, "new": A, "unsaved": D})
    work.abort_merge()
    assert (_last(work).kind, _show(vault, _last(work))) == ("merge_abort", {"both": M, "new": D, "unsaved": A})


def test_what_turns_a_fork_as_a_whole_has_no_states(vault: Vault, work: Workspace) -> None:
    """As its making, renaming and deletion have none: its files are those of another state."""
    vault.delete_fork("theirs")
    vault.undo()
    vault.redo()
    vault.undo()
    vault.rename_fork("theirs", "other")
    vault.undo()
    for operation in vault.operations(fork="theirs"):
        if operation.kind in ("undo", "redo", "fork_delete", "fork_rename"):
            assert _show(vault, operation) is None
            with pytest.raises(CannotUndo, match="changed no files"):
                vault.undo_operation(operation.id)


def test_an_undone_state_goes_with_the_promise_to_do_it_again(vault: Vault, work: Workspace, tmp_path: Path) -> None:
    """In a fork that rests since, too. The log still says where the branch is."""
    theirs = vault.workspace("theirs")
    start = vault.fork_info("theirs").head
    theirs.write("secret", b"undone\n")
    made = theirs.checkpoint().checkpoint
    theirs.undo()
    theirs.undo()
    undone = _last(theirs)
    work.checkpoint()
    assert made is not None
    kept = vault.prune(keep_operations=1, grace_s=0)
    assert kept.operations > 0
    with pytest.raises(NothingToUndo):
        theirs.redo()
    with Avfs(tmp_path / "home") as other, pytest.raises(CheckpointNotFound):
        other.open_vault("v").diff(None, made.id)
    assert _show(vault, undone) is None
    assert (vault.fork_info("theirs").head, theirs.status().clean) == (start, True)
    assert vault.doctor().problems == ()


def test_an_undone_state_stays_as_long_as_it_can_be_done_again(vault: Vault, work: Workspace) -> None:
    """The undo is among the operations that are kept."""
    work.checkpoint("saved")
    work.undo()
    vault.prune(keep_operations=1, grace_s=0)
    assert work.redo().operation.description == "checkpoint saved"


@pytest.mark.parametrize("how", ["merge", "rebase"])
def test_what_was_only_tried_with_unsaved_work_leaves_it_to_undo(vault: Vault, work: Workspace, how: str) -> None:
    """A refused merge or rebase does not save the other fork's files.

    The next undo there takes them back.
    """
    other = vault.fork("other", source="main" if how == "merge" else "theirs", with_changes=False)
    other.write("unsaved", b"of the other\n")
    work.checkpoint()
    with pytest.raises((NotFastForward, CommitConflicts)):
        work.merge("other", mode="ff_only") if how == "merge" else work.rebase("other")
    assert {change.path for change in other.undo().changed_files} == {b"unsaved"}
