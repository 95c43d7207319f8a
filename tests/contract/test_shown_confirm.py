"""A restore under overlayfs records the state that it brought back, unless a program has changed anything meanwhile.

The witness is a comparison of everything: whatever a program does while the result is looked at, what is recorded is
what is there.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from avfs_git import Workspace, faults
from avfs_git.vfs.scan import upperwatch
from avfs_git.vfs.scan.scan import DirtySet
from avfs_git.vfs.scan.statcache import Fingerprints
from avfs_git.vfs.scan.upperwatch import UpperWatch
from avfs_git.workspace.capture.captured import Captured
from avfs_git.workspace.checkpoint.confirm import confirm_restored
from avfs_git.workspace.restore import restore
from tests.contract.test_upper_watch import CHANGES, check_recorded, few, tree_of, watch_of, work
from tests.support.failing import armed
from tests.support.shown import read_shown

pytestmark = [pytest.mark.slow, pytest.mark.needs("root", "overlayfs", "git", "user-xattrs", "whiteout")]
__all__ = ["few", "work"]  # fixtures


def _write_what_came_back(tree: Path) -> None:
    (tree / "many" / "two").write_text("after")


def _give_attribute_to_what_came_back(tree: Path) -> None:
    os.setxattr(tree / "back" / "in" / "file", "user.seen", b"yes")


def _link_what_came_back(tree: Path) -> None:
    os.link(tree / "back" / "in" / "file", tree / "linked")


def _add_to_what_came_back(tree: Path) -> None:
    (tree / "back" / "in" / "more").write_text("more")


def _add_directory_to_what_came_back(tree: Path) -> None:
    (tree / "back" / "in" / "empty").mkdir()


def _give_attribute_to_directory_that_came_back(tree: Path) -> None:
    os.setxattr(tree / "back" / "in", "user.seen", b"yes")


def _change_mode_above(tree: Path) -> None:
    (tree / "many").chmod(0o700)


def _give_attribute_above(tree: Path) -> None:
    os.setxattr(tree / "many", "user.seen", b"yes")


def _change_mode_of_root(tree: Path) -> None:
    tree.chmod(0o700)


def _put_something_in_the_place_of_what_went(tree: Path) -> None:
    (tree / "made").mkdir()
    (tree / "made" / "again").write_text("again")


ALL = [
    *CHANGES,
    _write_what_came_back,
    _give_attribute_to_what_came_back,
    _link_what_came_back,
    _add_to_what_came_back,
    _add_directory_to_what_came_back,
    _give_attribute_to_directory_that_came_back,
    _change_mode_above,
    _give_attribute_above,
    _change_mode_of_root,
    _put_something_in_the_place_of_what_went,
]


@pytest.fixture
def confirmed(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Whether each restore was confirmed, in their order."""
    told: list[bool] = []

    def note(*args: object) -> Captured | None:
        confirm: Callable[..., Captured | None] = confirm_restored
        found = confirm(*args)
        told.append(found is not None)
        return found

    monkeypatch.setattr(restore, "confirm_restored", note)
    return told


def _change(work: Workspace) -> str:
    """Let a program change what is recorded, after a checkpoint; give that."""
    tree = tree_of(work)
    (tree / "back" / "in").mkdir(parents=True, exist_ok=True)
    (tree / "back" / "in" / "file").write_text("comes back")
    work.checkpoint()
    saved = work.log()[0].checkpoint.id
    (tree / "many" / "two").write_text("changed")
    (tree / "many" / "one").unlink()
    (tree / "back" / "in" / "file").unlink()
    (tree / "back" / "in").rmdir()
    (tree / "back").rmdir()
    (tree / "made" / "by").mkdir(parents=True)
    (tree / "made" / "by" / "program").write_text("goes")
    return saved


def test_what_nobody_changes_is_confirmed(work: Workspace, confirmed: list[bool]) -> None:
    """Files and directories come back and go: the trees of the target are recorded, and are what is there."""
    for _ in range(3):
        saved = _change(work)
        work.restore(saved)
        assert (tree_of(work) / "back" / "in" / "file").read_text() == "comes back"
        assert not (tree_of(work) / "made").exists()
        newest, *_, target = work.log()[:3]
        assert target.checkpoint.id == saved
        assert newest.checkpoint.tree == target.checkpoint.tree
        check_recorded(work)
        work.checkpoint()
        check_recorded(work)
    assert confirmed == [True] * 3


def test_what_comes_back_after_all_was_deleted_is_confirmed(
    work: Workspace, confirmed: list[bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A layer in which hardly anything is left is watched for one more capture: what was deleted may come back."""
    tree = tree_of(work)
    (tree / "many" / "link").unlink()
    work.checkpoint()
    saved = work.log()[0].checkpoint.id
    before = read_shown(tree)
    monkeypatch.setattr(upperwatch, "_WORTH", sum(map(len, watch_of(work)._known.values())))
    work.remove("many", recursive=True)
    work.restore(saved)
    assert confirmed == [True]
    assert read_shown(tree) == before
    check_recorded(work)


def test_a_layer_that_a_restore_leaves_small_is_watched_no_more(
    work: Workspace, confirmed: list[bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Scanning few entries costs less than watching all that programs make beside them."""
    tree, saved = tree_of(work), work.log()[0].checkpoint.id
    monkeypatch.setattr(upperwatch, "_WORTH", sum(map(len, watch_of(work)._known.values())) + 1)
    (tree / "made").mkdir()
    for name in "abc":
        (tree / "made" / name).write_text(name)
    work.restore(saved)
    assert confirmed == [True]
    assert not watch_of(work).is_on
    check_recorded(work)


@pytest.mark.parametrize("is_late", [False, True], ids=["before", "while"])
@pytest.mark.parametrize("change", ALL)
def test_what_a_program_changes_is_captured(
    work: Workspace,
    confirmed: list[bool],
    monkeypatch: pytest.MonkeyPatch,
    change: Callable[[Path], None],
    is_late: bool,
) -> None:
    """Before the files are looked at, or while they are: the commit holds what the program has made of them."""
    tree, saved = tree_of(work), _change(work)
    extend = UpperWatch.extend
    acts: list[Callable[[Path], None]] = []

    def act(point: str) -> None:
        if point == "restore.applied":
            faults.arm(None)
            if is_late:
                acts.append(change)
            else:
                change(tree)

    def extended(watch: UpperWatch, found: Fingerprints | None) -> DirtySet | None:
        while acts:
            acts.pop()(tree)
        return extend(watch, found)

    monkeypatch.setattr(UpperWatch, "extend", extended)
    with armed(act):
        work.restore(saved)
    assert not acts
    assert confirmed == [False]
    check_recorded(work)
