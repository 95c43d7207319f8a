"""What the log says of a renamed fork: all that was done to it, under each name, and nothing of other forks."""

from __future__ import annotations

import pytest

from avfs_git.errors import NothingToUndo, OperationNotFound
from avfs_git.sdk import Vault, Workspace

pytestmark = pytest.mark.usefixtures("unsynced")


@pytest.fixture
def old(vault: Vault) -> Workspace:
    """A fork with two checkpoints that has the name "old", and is about to get another."""
    main = vault.workspace()
    main.write("base", b"")
    main.checkpoint()
    old = vault.fork("old")
    for number in ("one", "two"):
        old.write("file", number.encode())
        old.checkpoint(number)
    return old


def _list(vault: Vault, fork: str) -> list[str]:
    return [one.description for one in vault.operations(fork=fork)]


def test_the_log_of_a_fork_follows_its_names(vault: Vault, old: Workspace) -> None:
    """The next fork of the old name begins with its making, and one that takes over the new name, too."""
    before = _list(vault, "old")
    vault.rename_fork("old", "new")
    assert _list(vault, "new") == ["rename fork old to new", *before]
    assert _list(vault, "old") == ["rename fork old to new", *before]  # no fork has that name: this one had it last
    detailed = vault.describe_operations(fork="new")
    assert [one.operation.description for one in detailed] == _list(vault, "new")
    assert detailed[1].diff is not None
    assert [file.change.path for file in detailed[1].diff.files] == [b"file"]

    vault.fork("old", source="main")
    assert _list(vault, "old") == ["fork old from main"]
    vault.rename_fork("new", "newest")
    vault.rename_fork("old", "new")
    assert _list(vault, "new") == ["rename fork old to new", "fork old from main"]
    assert _list(vault, "newest")[2:] == before
    assert vault.workspace("new").operations(at_hand=True)[1:] == vault.operations(fork="new")[1:]


def test_operations_of_before_are_restored_and_undone_by_number(vault: Vault, old: Workspace) -> None:
    """In the fork that they were on, and not in the next one of its name of then."""
    first, second = (one.id for one in reversed(old.operations()) if one.kind == "checkpoint")
    vault.rename_fork("old", "new")
    vault.fork("old", source="main")
    shown = vault.operation(second).diff
    assert shown is not None
    assert [file.change.path for file in shown.files] == [b"file"]
    for turn in (vault.undo_operation, vault.restore_operation):
        with pytest.raises(OperationNotFound):
            turn(second, fork="old")
    with pytest.raises(OperationNotFound):
        vault.workspace("old").undo_operation(second)
    vault.workspace("new").undo_operation(second)
    assert vault.workspace("new").read("file") == b"one"
    vault.restore_operation(second, fork="new")
    assert vault.workspace("new").read("file") == b"two"
    vault.restore_operation(first)
    assert vault.workspace("new").read("file") == b"one"
    assert not vault.workspace("old").exists("file")


def test_an_operation_by_number_names_its_fork_as_it_is_called(vault: Vault, old: Workspace) -> None:
    """Also where another fork has the old name since."""
    number = vault.operations(fork="old")[0].id
    vault.rename_fork("old", "new")
    vault.fork("old", source="main")
    assert vault.operation(number).operation.fork == "new"
    for dry_run in (True, False):
        assert vault.undo_operation(number, dry_run=dry_run).operation.fork == "new"


def test_what_was_undone_before_a_rename_is_done_again_after_it(vault: Vault, old: Workspace) -> None:
    """The rename was typed in another fork. Then each undo goes on, through the rename."""
    start = vault.fork_info("old").head
    old.undo()
    vault.rename_fork("old", "new")
    new = vault.workspace("new")
    assert new.redo().operation.description == "checkpoint two"
    assert (new.read("file"), vault.fork_info("new").head) == (b"two", start)
    done = [vault.undo(fork="new").operation.description for _ in range(2)]
    assert done == ["checkpoint two", "rename fork old to new"]
    assert [vault.undo(fork="old").operation.kind for _ in range(2)] == ["files", "checkpoint"]
    assert vault.redo(fork="old").operation.description == "checkpoint one"


def test_the_next_fork_of_the_old_name_undoes_only_its_own(vault: Vault, old: Workspace) -> None:
    """The renamed fork keeps its files."""
    vault.rename_fork("old", "new")
    made = vault.fork("old", source="main")
    with pytest.raises(NothingToUndo):
        made.undo()
    made.write("x", b"")
    made.checkpoint()
    made.undo()
    made.undo()
    with pytest.raises(NothingToUndo):
        made.undo()
    assert vault.workspace("new").read("file") == b"two"


def test_the_making_of_a_fork_that_has_gone_since_is_passed_over(vault: Vault) -> None:
    """It was renamed or deleted with another fork at hand, where that is taken back."""
    main = vault.workspace()
    main.write("base", b"")
    main.checkpoint("base")
    for name in ("gone", "renamed"):
        vault.fork(name)
    vault.delete_fork("gone", by="renamed")
    vault.rename_fork("renamed", "here", by="renamed")
    assert main.undo().operation.description == "checkpoint base"
    assert {info.name for info in vault.list_forks()} == {"main", "here"}
    vault.undo(fork="here")
    assert vault.undo(fork="renamed").operation.description == "delete fork gone"
    assert {info.name for info in vault.list_forks()} == {"main", "gone", "renamed"}


def test_prune_takes_the_names_of_a_fork_for_one(vault: Vault, old: Workspace) -> None:
    """With the rename it forgets what came before, which undo would else take back without what came between."""
    vault.rename_fork("old", "new")
    vault.workspace("new").write("file", b"three")
    vault.workspace("new").checkpoint()
    vault.workspace().write("base", b"more")
    vault.workspace().checkpoint()
    vault.prune(keep_operations=1)
    assert [vault.undo(fork="new").operation.description for _ in range(1)] == ["checkpoint"]
    with pytest.raises(NothingToUndo):
        vault.undo(fork="new")
    assert vault.workspace("new").read("file") == b"three"


def test_a_label_is_done_again_under_the_new_name(vault: Vault, old: Workspace) -> None:
    """Also one that git writes otherwise in a ref."""
    old.write("file", b"three")
    old.checkpoint("three/of 3")
    old.undo()
    vault.rename_fork("old", "new")
    vault.workspace("new").redo()
    assert [each.checkpoint.labels for each in vault.workspace("new").log()][:2] == [("three/of 3",), ("two",)]


def test_undo_under_a_name_that_is_given_up_takes_nothing_back(vault: Vault, old: Workspace) -> None:
    """The fork is worked in under its new name, so it keeps that."""
    vault.rename_fork("old", "new")
    vault.workspace("new").write("file", b"three")
    vault.workspace("new").checkpoint()
    before = _list(vault, "new")
    with pytest.raises(NothingToUndo):
        vault.undo(fork="old")
    assert _list(vault, "new") == before
    assert vault.operations(limit=1)[0].kind == "checkpoint"


@pytest.mark.parametrize("is_renamed", [True, False])
def test_a_deletion_is_not_done_again_on_a_fork_that_has_gone_since(
    vault: Vault, old: Workspace, is_renamed: bool
) -> None:
    """It was renamed, or deleted, with another fork at hand: undo there brings back all of it."""
    vault.fork("other", source="main")
    old.write("unsaved", b"1")
    vault.delete_fork("old")
    vault.undo()
    if is_renamed:
        vault.rename_fork("old", "new", by="new")
    else:
        vault.delete_fork("old", by="other")
    with pytest.raises(NothingToUndo):
        vault.redo()
    vault.undo(fork="new" if is_renamed else "other")
    assert vault.workspace("old").read("unsaved") == b"1"


def test_a_deletion_is_not_done_again_after_work_under_another_name(vault: Vault, old: Workspace) -> None:
    """What counts changes of files begins anew with each name."""
    vault.rename_fork("old", "new")
    vault.delete_fork("new")
    vault.undo()
    vault.undo()
    vault.workspace("old").write("unsaved", b"1")
    assert vault.redo().operation.kind == "fork_rename"
    with pytest.raises(NothingToUndo):
        vault.redo()
    assert vault.workspace("new").read("unsaved") == b"1"


def test_prune_keeps_that_a_name_was_given_up(vault: Vault, old: Workspace) -> None:
    """Else the name would look as if git had deleted its branch, and undo would bring back a fork that never was."""
    vault.rename_fork("old", "new", by="new")
    vault.undo(fork="new")
    for _ in range(3):
        vault.workspace("old").write("file", b"more")
        vault.workspace("old").checkpoint()
    vault.prune(keep_operations=2)
    vault.fork("new", source="old")
    assert not [one.description for one in vault.operations() if "with git" in one.description]


def test_the_making_of_a_fork_is_undone_once(vault: Vault, old: Workspace) -> None:
    """It was made with a fork at hand that had another name when the undo was typed in the new one."""
    vault.fork("made", source="old")
    vault.rename_fork("old", "new", by="new")
    assert vault.undo(fork="made").operation.description == "fork made from old"
    assert vault.undo(fork="new").operation.description == "rename fork old to new"
    assert vault.undo(fork="old", dry_run=True).operation.description == "checkpoint two"
    vault.redo(fork="old")
    assert vault.redo(fork="new").operation.description == "fork made from old"
    assert {info.name for info in vault.list_forks()} == {"main", "new", "made"}


def test_a_rename_that_is_turned_tells_the_name_that_the_fork_has_by_it(vault: Vault, old: Workspace) -> None:
    """What is printed of undo and redo names that fork."""
    vault.rename_fork("old", "new", by="new")
    assert vault.undo(fork="new", dry_run=True).operation.fork == "new"
    assert vault.undo(fork="new").operation.fork == "old"
    assert vault.redo(fork="old").operation.fork == "new"


def test_another_fork_of_a_former_name_is_not_taken_for_the_renamed_one(vault: Vault, old: Workspace) -> None:
    """Undo and redo of the rename leave lines of the fork under its old name, newer than the other one's creation."""
    vault.rename_fork("old", "new", by="old")
    vault.fork("old", source="new")
    for kind in ("fork_create", "fork_rename"):
        assert vault.undo(fork="new").operation.kind == kind
    assert vault.redo(fork="old").operation.kind == "fork_rename"
    for turn in (vault.redo, vault.undo, vault.redo):
        made = turn(fork="new").operation
        assert (made.fork, made.description) == ("old", "fork old from new")
    assert {info.name for info in vault.list_forks()} == {"main", "new", "old"}
    assert [vault.workspace(name).read("file") for name in ("old", "new")] == [b"two", b"two"]


def test_undo_by_a_name_that_undo_took_from_a_fork_turns_nothing_of_that_fork(vault: Vault) -> None:
    """The fork is there under its old name: what was done to it is undone there."""
    vault.fork("task", source="main")
    vault.rename_fork("task", "task2")
    vault.undo()
    before = vault.operations()
    with pytest.raises(NothingToUndo):
        vault.undo(fork="task2")

    assert vault.operations() == before
    assert vault.undo(fork="task").operation.description == "fork task from main"
    assert not vault.has_fork("task")


@pytest.mark.parametrize("again", [False, True])
def test_undo_by_a_name_restores_the_fork_that_had_it_before_one_that_undo_renamed_back(
    vault: Vault, again: bool
) -> None:
    """The name was another's for a time only."""
    vault.fork("new", source="main").write("a", b"new's")
    vault.delete_fork("new")
    vault.fork("old", source="main")
    vault.rename_fork("old", "new")
    vault.undo(fork="old")
    if again:
        vault.redo(fork="old")
        vault.undo(fork="new")
    vault.undo(fork="old")
    assert vault.undo(fork="new").operation.description == "delete fork new"

    assert vault.workspace("new").read("a") == b"new's"
