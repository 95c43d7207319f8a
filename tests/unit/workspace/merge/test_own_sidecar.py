"""After a fast-forward a workspace keeps its own ignored files, though its head names the sidecar of the source."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from avfs_git.sdk import Vault, Workspace
from tests.support.faults import check_vault

pytestmark = pytest.mark.needs("git", "whiteout", "user-xattrs")

LINES = [b"%d\n" % number for number in range(10)]


@pytest.fixture
def target(vault: Vault, work: Workspace) -> Workspace:
    """A fork that has moved on to a commit of the source, which has another `own.log` beside it."""
    work.write(".gitignore", b"*.log\n")
    work.write("own.log", b"ours\n")
    work.write("text", b"".join(LINES))
    work.checkpoint("start")
    fork = vault.fork("target")
    work.write("own.log", b"theirs\n")
    work.write("their.log", b"comes along\n")
    work.checkpoint()
    work.write("tracked", b"1\n")
    work.checkpoint()
    assert fork.merge("main").outcome == "fast_forward"
    return fork


def conflict(work: Workspace, target: Workspace) -> None:
    """Change the same line on both sides."""
    for fork, line in ((target, b"ours\n"), (work, b"theirs\n")):
        fork.write("text", b"".join([line, *LINES[1:]]))
        fork.checkpoint()


def merge(work: Workspace, target: Workspace) -> None:
    """Move on once more."""
    work.write("more", b"")
    work.checkpoint()
    assert target.merge("main").outcome == "fast_forward"
    target.undo()


def rebase(work: Workspace, target: Workspace) -> None:
    """Move on by a rebase of nothing."""
    work.write("more", b"")
    work.checkpoint()
    target.rebase("main")
    target.undo()


def cherry_pick(work: Workspace, target: Workspace) -> None:
    """Take one commit over."""
    work.write("more", b"")
    saved = work.checkpoint().checkpoint
    assert saved is not None
    target.cherry_pick([saved.id])
    target.undo()


def cherry_pick_in_conflict(work: Workspace, target: Workspace, *, ends: Callable[[Workspace], object]) -> None:
    """Take a commit over that does not fit."""
    conflict(work, work)
    target.cherry_pick(["main"], on_conflict="workspace")
    ends(target)


def give_up(work: Workspace, target: Workspace) -> None:
    """Give a cherry-pick up."""
    cherry_pick_in_conflict(work, target, ends=Workspace.abort_merge)


def resolve(work: Workspace, target: Workspace) -> None:
    """Take one side of a cherry-pick, and take that back."""

    def ends(fork: Workspace) -> None:
        fork.resolve("text", "theirs")
        fork.continue_rewrite()
        fork.undo()

    cherry_pick_in_conflict(work, target, ends=ends)


def restore(work: Workspace, target: Workspace) -> None:
    """Bring the head's state back, and before that the one before."""
    target.restore("HEAD~1")
    target.undo()
    target.write("tracked", b"by mistake\n")
    target.restore("HEAD")


def undo_and_redo(work: Workspace, target: Workspace) -> None:
    """Take the fast-forward back, and do it again."""
    target.undo()
    assert not target.exists("their.log")
    target.redo()


def redo_a_merge(work: Workspace, target: Workspace) -> None:
    """Do a merge again that came after the fast-forward."""
    merge(work, target)
    target.redo()
    target.undo()


def squash(work: Workspace, target: Workspace) -> None:
    """Make one commit of those that it has moved on to."""
    target.squash("HEAD~2")


def squash_below(work: Workspace, target: Workspace) -> None:
    """Make one commit of some below, and go back to it."""
    target.write("later", b"")
    target.checkpoint()
    target.squash("HEAD~3", "HEAD~1")
    target.restore("HEAD~1")


def rebase_below(work: Workspace, target: Workspace) -> None:
    """Put the commit that it has moved on to, and one more, on another state, and go back to it."""
    other = work.vault.fork("other", at="HEAD~2")
    other.write("of the other", b"")
    other.checkpoint()
    target.write("later", b"")
    target.checkpoint()
    target.rebase("other")
    target.restore("HEAD~1")


_ACTS = [
    *(merge, rebase, cherry_pick, give_up, resolve, restore, undo_and_redo, redo_a_merge),
    *(squash, squash_below, rebase_below),
]


@pytest.mark.parametrize("act", _ACTS, ids=lambda act: act.__name__)
@pytest.mark.parametrize("known", [True, False], ids=["", "without a stat cache"])
def test_the_own_ignored_files_stay(
    act: Callable[[Workspace, Workspace], None], known: bool, vault: Vault, work: Workspace, target: Workspace
) -> None:
    """Whatever is done after it, and taken back."""
    if not known:  # as on a disk that was full then
        target._opened.layout.statcache.unlink()
        target._opened.forget()
    act(work, target)

    assert (target.read("own.log"), target.read("their.log")) == (b"ours\n", b"comes along\n")
    assert target.status().clean
    assert target.checkpoint().outcome == "unchanged"
    assert vault.fork("next", source="target").read("own.log") == b"ours\n"
    check_vault(vault)


def test_a_fork_of_a_fork_gets_the_files_of_that_one(vault: Vault, target: Workspace) -> None:
    """The fork gets them even if the first fork only began at the commit to which its source was fast-forwarded.

    The name of the first fork does not matter.
    """
    vault.fork("child", source="target")
    vault.rename_fork("child", "renamed")
    grandchild = vault.fork("grandchild", source="renamed")

    assert grandchild.read("own.log") == b"ours\n"
    grandchild.write("own.log", b"by mistake\n")
    grandchild.restore("HEAD")
    assert grandchild.read("own.log") == b"ours\n"
