"""What the log says of undone operations: also after new work, after `prune`, and with another fork at hand."""

from __future__ import annotations

import pytest

from avfs_git.errors import CannotUndo
from avfs_git.sdk import Vault, Workspace

pytestmark = pytest.mark.usefixtures("unsynced")


def _save(work: Workspace, text: str) -> None:
    work.write("file", text.encode())
    work.checkpoint(text)


def _undone(vault: Vault, fork: str | None = None, **limits: int) -> set[str]:
    return {one.description for one in vault.operations(fork=fork, **limits) if one.undone}


def test_an_undone_operation_stays_so_after_new_work(vault: Vault, work: Workspace) -> None:
    """Redo cannot do it again by then."""
    _save(work, "one")
    _save(work, "two")
    work.undo()
    number = next(one.id for one in vault.operations() if one.description == "checkpoint two")
    _save(work, "three")
    assert _undone(vault) == _undone(vault, "main") == {"checkpoint two"}
    assert vault.operation(number).operation.undone
    assert [one.operation.description for one in vault.describe_operations() if one.operation.undone] == [
        "checkpoint two"
    ]
    work.undo()
    work.redo()
    assert _undone(vault) == {"checkpoint two"}


def test_prune_keeps_what_was_undone(vault: Vault, work: Workspace) -> None:
    """Lines stay for what they say of a fork, and cannot be turned any more."""
    _save(work, "base")
    vault.fork("side")
    vault.rename_fork("side", "new", by="new")
    vault.undo(fork="new")
    before = {one.id for one in vault.operations() if one.undone}
    for text in "abcde":
        _save(work, text)
    for keep in (5, 1):
        vault.prune(keep_operations=keep)
        left = {one.id: one.undone for one in vault.operations() if one.id in before}
        assert left
        assert all(left.values())


def test_an_undone_rename_is_not_in_force_after_another(vault: Vault, work: Workspace) -> None:
    """Both were typed with the same other fork at hand."""
    _save(work, "base")
    for name in ("one", "two"):
        vault.fork(name)
    vault.rename_fork("one", "uno")
    vault.undo()
    vault.rename_fork("two", "due")
    assert _undone(vault) == _undone(vault, "one") == {"rename fork one to uno"}
    listed = [(one.description, one.undone) for one in work.operations(at_hand=True)]
    assert ("rename fork one to uno", True) in listed


def test_forks_that_swapped_names_get_them_back(vault: Vault, work: Workspace) -> None:
    """The refusal says which rename comes first."""
    _save(work, "base")
    for name in ("a", "b"):
        _save(vault.fork(name), name)
    for old, new in (("a", "t"), ("b", "a"), ("t", "b")):
        vault.rename_fork(old, new, by=new)
    with pytest.raises(CannotUndo, match="another fork 'b'") as refused:
        vault.undo(fork="a")
    assert "`avfs --vault v undo --fork b`" in (refused.value.hint or "")
    for name in ("b", "a", "t"):
        vault.undo(fork=name)
    assert {name: vault.workspace(name).read("file") for name in ("a", "b")} == {"a": b"a", "b": b"b"}

    with pytest.raises(CannotUndo, match="another fork 'a'") as refused:
        vault.redo(fork="b")
    assert "`avfs --vault v redo --fork a`" in (refused.value.hint or "")
    for name in ("a", "b", "t"):
        vault.redo(fork=name)
    assert {name: vault.workspace(name).read("file") for name in ("a", "b")} == {"a": b"b", "b": b"a"}
    _save(vault.workspace("b"), "more")
    with pytest.raises(CannotUndo) as refused:
        vault.undo(fork="a")
    assert "fork rename b NAME" in (refused.value.hint or "")
