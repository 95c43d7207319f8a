"""What is uncommitted stays so where an operation is refused or has no effect.

Where it is saved first, the result says so.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager

import pytest

from avfs_git import faults
from avfs_git.errors import (
    AvfsError,
    CheckpointNotFound,
    CommitConflicts,
    InvalidName,
    MergeInProgress,
    NotFastForward,
    NothingToUndo,
    PathNotFound,
    PathUnsuitable,
    RefConflict,
    UnrelatedHistories,
)
from avfs_git.model import MergeOptions, MergeStrategy, RestoreResult, RewriteResult
from avfs_git.paths import Oid, TreePath
from avfs_git.sdk import Vault, Workspace
from avfs_git.session.control import operations
from avfs_git.workspace.history import undo
from avfs_git.workspace.opened.workspace import OpenWorkspace
from avfs_git.workspace.restore import restore
from avfs_git.workspace.vault.log.oprecord import REDO
from tests.support.failing import armed
from tests.support.faults import git

pytestmark = pytest.mark.needs("git", "whiteout", "user-xattrs")


@pytest.fixture
def side(vault: Vault, work: Workspace) -> Workspace:
    """A fork with uncommitted work, of a state whose fork has gone on."""
    work.write(".gitignore", b"*.log\n")
    work.write("a", b"1\n")
    work.write("b", b"1\n")
    work.checkpoint("start")
    fork = vault.fork("side")
    work.write("a", b"of main\n")
    work.checkpoint("main's")
    fork.write("b", b"2\n")
    fork.checkpoint("side's")
    fork.write("a", b"uncommitted\n")
    fork.write("new", b"uncommitted, too\n")
    return fork


def unrelated(work: Workspace) -> str:
    """Make a commit without a past."""
    tree = git(work.vault.path, "rev-parse", "HEAD^{tree}").strip()
    return git(work.vault.path, "-c", "user.name=a", "-c", "user.email=b", "commit-tree", "-m", "alone", tree).strip()


REFUSED: dict[str, tuple[type[AvfsError], Callable[[Workspace], object]]] = {
    "revert of nothing": (PathNotFound, lambda side: side.revert_path("nothing")),
    "revert of what is new": (PathUnsuitable, lambda side: side.revert_path("new")),
    "revert of what never changed": (PathUnsuitable, lambda side: side.revert_path(".gitignore")),
    "restore of nothing": (PathNotFound, lambda side: side.restore("main~1", paths=["nothing"])),
    "cherry-pick of a commit in conflict": (CommitConflicts, lambda side: side.cherry_pick(["main"])),
    "rebase in conflict": (CommitConflicts, lambda side: side.rebase("main")),
    "fast-forward": (NotFastForward, lambda side: side.merge("main", mode="ff_only")),
    "merge of what has no common past": (UnrelatedHistories, lambda side: side.merge(unrelated(side))),
    "fork below a fork": (InvalidName, lambda side: side.vault.fork("main/more", source="side")),
    "fork above a fork": (InvalidName, lambda side: side.vault.fork("deep", source="side")),
    "merge of several, one of which is not there": (
        CheckpointNotFound,
        lambda side: side.merge_many(["main", "nowhere"]),
    ),
}


@pytest.mark.parametrize("refused", REFUSED)
def test_what_is_refused_saves_nothing(refused: str, vault: Vault, side: Workspace) -> None:
    """The branch is where it was, and what was uncommitted is so."""
    error, act = REFUSED[refused]
    vault.fork("deep/inside", source="main")
    head, before = git(vault.path, "rev-parse", "side"), side.status().changed_files
    with pytest.raises(error):
        act(side)

    assert git(vault.path, "rev-parse", "side") == head
    assert side.status().changed_files == before


def _pushed(side: Workspace) -> None:
    """Put a commit on the branch as a push does."""
    vault = side.vault.path
    made = git(
        vault, "-c", "user.name=a", "-c", "user.email=b", "commit-tree", "-p", "side", "-m", "theirs", "main~1^{tree}"
    )
    git(vault, "update-ref", "refs/heads/side", made.strip())


def _begin_merge(side: Workspace) -> None:
    assert side.merge("main", on_conflict="workspace").in_workspace


def _make_unrelated(side: Workspace) -> None:
    git(side.vault.path, "update-ref", "refs/heads/main", unrelated(side).strip())
    side.vault.workspace("main").update()


_MERGES: list[Callable[[Workspace], object]] = [
    lambda side: side.merge("main"),
    lambda side: side.merge_many(["main"]),
    lambda side: side.rebase("main"),
]
UNSAVED: dict[str, tuple[type[AvfsError], Callable[[Workspace], object], list[Callable[[Workspace], object]]]] = {
    "in the middle of a merge": (MergeInProgress, _begin_merge, _MERGES),
    "a branch that others have moved": (RefConflict, _pushed, _MERGES),
    "no common past": (UnrelatedHistories, _make_unrelated, _MERGES[:2]),
    "commits of its own": (NotFastForward, lambda _: None, [lambda side: side.merge("main", mode="ff_only")]),
}
"""What makes a fork refuse another one, and the operations that it refuses."""


@pytest.mark.parametrize("why", UNSAVED)
def test_what_the_target_refuses_saves_nothing_of_the_source(why: str, vault: Vault, side: Workspace) -> None:
    """No commit is made in the other fork, and no hook is run."""
    error, prepare, operations = UNSAVED[why]
    prepare(side)
    main = vault.workspace("main")
    main.write("later", b"uncommitted in the source\n")
    ran = vault.path / "ran"
    hook = vault.path / "avfs" / "hooks" / "pre-merge"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text(f"#!/bin/sh\ntouch {ran}\n")
    hook.chmod(0o755)
    vault.enable_hook("pre-merge")
    heads = git(vault.path, "for-each-ref", "refs/heads")
    for refused in operations:
        with pytest.raises(error):
            refused(side)

    assert git(vault.path, "for-each-ref", "refs/heads") == heads
    assert [change.path for change in main.status().changed_files] == [b"later"]
    assert not ran.exists()


@pytest.mark.parametrize("own", [True, False], ids=["committed", "uncommitted"])
def test_what_changes_of_the_source_refuse_saves_nothing(vault: Vault, side: Workspace, own: bool) -> None:
    """The uncommitted changes of the other fork are asked, too, before they are saved there."""
    main, ahead = vault.workspace("main"), vault.fork("ahead", source="main")
    ahead.write("more", b"")
    ahead.checkpoint("ahead")
    side.write("a", b"1\n")  # as main had it: what main has committed fits
    if own:
        side.checkpoint("all")
    main.write("b", b"uncommitted in the source\n")
    heads, before = git(vault.path, "for-each-ref", "refs/heads"), side.status().changed_files
    with pytest.raises(CommitConflicts):
        side.rebase("main")
    with pytest.raises(NotFastForward):
        ahead.merge("main", mode="ff_only")
    with pytest.raises(NotFastForward):
        side.merge_many(["main"], mode="ff_only")

    assert git(vault.path, "for-each-ref", "refs/heads") == heads
    assert side.status().changed_files == before
    assert [change.path for change in main.status().changed_files] == [b"b"]


def test_uncommitted_work_is_named_where_it_is_in_conflict(side: Workspace) -> None:
    """It has no commit that could be named, because it is not saved."""
    with pytest.raises(
        CommitConflicts, match=r"^what is not committed is in conflict with what is there: 'a'"
    ) as caught:
        side.rebase("main")
    assert caught.value.details["commit"] is None


UNCHANGED: dict[str, Callable[[Workspace], RestoreResult | RewriteResult]] = {
    "restore of a path": lambda side: side.restore("HEAD", paths=["b"]),
    "cherry-pick of what is there": lambda side: side.cherry_pick(["side"]),
    "rebase onto its own past": lambda side: side.rebase("main~1"),
}


@pytest.mark.parametrize("act", UNCHANGED)
def test_what_has_no_effect_saves_nothing(act: str, vault: Vault, side: Workspace) -> None:
    """It says that nothing changed, and so it is."""
    head, before = git(vault.path, "rev-parse", "side"), side.status().changed_files
    done = UNCHANGED[act](side)

    assert (done.outcome, done.saved) == ("unchanged", None)
    assert git(vault.path, "rev-parse", "side") == head
    assert side.status().changed_files == before


def test_a_restore_to_what_is_there_saves_nothing(vault: Vault, side: Workspace) -> None:
    """Also where that was made by hand, and is not committed."""
    side.remove("new")
    side.write("a", b"1\n")
    side.write("b", b"1\n")
    head = git(vault.path, "rev-parse", "side")
    assert side.restore("main~1").outcome == "unchanged"
    assert git(vault.path, "rev-parse", "side") == head
    assert [change.path for change in side.status().changed_files] == [b"b"]


CHANGED: dict[str, Callable[[Workspace], RestoreResult | RewriteResult]] = {
    "revert": lambda side: side.revert_path("b"),
    "revert of what is uncommitted": lambda side: side.revert_path("a"),
    "revert of all": lambda side: side.revert_path("/"),
    "restore": lambda side: side.restore("HEAD"),
    "restore of a path": lambda side: side.restore("main~1", paths=["b"]),
    "cherry-pick": lambda side: side.cherry_pick(["main"], strategy="theirs"),
    "rebase": lambda side: side.rebase("main", strategy="theirs"),
}


@pytest.mark.parametrize("act", CHANGED)
def test_what_is_saved_is_named(act: str, vault: Vault, side: Workspace) -> None:
    """In the result; it holds what was uncommitted."""
    done = CHANGED[act](side)

    assert done.outcome in ("restored", "rewritten")
    assert done.saved is not None
    assert git(vault.path, "show", f"{done.saved}:a", f"{done.saved}:new") == "uncommitted\nuncommitted, too\n"


def test_revert_goes_back_from_what_is_uncommitted(side: Workspace) -> None:
    """The version before it is the last that was committed; then come the older ones."""
    side.write("b", b"3\n")
    side.revert_path("b")
    assert side.read("b") == b"2\n"
    side.restore("main~1", paths=["b"])
    side.remove("b")
    side.revert_path("b")
    assert side.read("b") == b"1\n"


def test_what_is_uncommitted_is_read_once(side: Workspace) -> None:
    """A file that has not changed and differs from the state tells that there is work to do.

    No capture looks for more.
    """
    read = []
    with armed(lambda point: read.append(point) if point == "capture.file_read" else None):
        result = side.restore("main~1")
    assert (result.outcome, len(read)) == ("restored", 2)
    assert result.saved is not None
    assert git(side.vault.path, "show", f"{result.saved}:a") == "uncommitted\n"


def test_what_programs_change_until_they_wait_is_saved(vault: Vault, side: Workspace) -> None:
    """A live tree is saved while programs go on, and what they change before they wait is saved then."""
    main = Oid(bytes.fromhex(git(vault.path, "rev-parse", "main").strip()))
    opened = side._opened

    def barrier(going: Collection[TreePath]) -> AbstractContextManager[object]:
        assert set(going) == {b"a", b"b", b"new"}
        with opened.merged.guard:
            opened.merged.write_file(TreePath(b"late"), b"late\n")
        return opened.standstill.held(opened.merged.guard)

    opened.serve("session")
    try:
        with opened.locked() as locked:
            result = restore.restore_state(locked, main, barrier=barrier)
    finally:
        opened.stop_serving()
    held = [git(vault.path, "show", f"{result.saved}:{name}") for name in ("a", "new", "late")]
    assert held == ["uncommitted\n", "uncommitted, too\n", "late\n"]
    assert side.read("a") == b"of main\n"
    assert not side.exists("late")


def _resolved(side: Workspace, begin: Callable[[], object]) -> None:
    begin()
    side.resolve("a", "ours")


def _undone(side: Workspace) -> None:
    side.checkpoint("two")
    side.undo()


def _catch_up(opened: OpenWorkspace) -> None:
    theirs = operations.find_behind(opened)
    assert theirs is not None
    operations.catch_up(opened, theirs, MergeOptions("", MergeStrategy.THEIRS))


STOPPING: dict[str, tuple[Callable[[Workspace], object], Callable[[OpenWorkspace, Oid], object]]] = {
    "restore": (
        lambda _: None,
        lambda opened, main: operations.restore_state(opened, main, [], False, "main", "restore"),
    ),
    "merge": (
        lambda _: None,
        lambda opened, main: operations.merge_commit(opened, main, MergeOptions("main", MergeStrategy.THEIRS)),
    ),
    "update": (_pushed, lambda opened, _: _catch_up(opened)),
    "rebase": (
        lambda _: None,
        lambda opened, main: operations.rebase(opened, main, "main", MergeStrategy.THEIRS, False),
    ),
    "resolve": (
        lambda side: side.merge("main", on_conflict="workspace"),
        lambda opened, _: operations.resolve_path(opened, TreePath(b"a"), "theirs", None),
    ),
    "continue of a merge": (
        lambda side: _resolved(side, lambda: side.merge("main", on_conflict="workspace")),
        lambda opened, _: operations.conclude_merge(opened, None),
    ),
    "continue of a rebase": (
        lambda side: _resolved(side, lambda: side.rebase("main", on_conflict="workspace")),
        lambda opened, _: operations.continue_rewrite(opened, False),
    ),
    "abort": (
        lambda side: side.merge("main", on_conflict="workspace"),
        lambda opened, _: operations.abort_merge(opened),
    ),
    "redo": (_undone, lambda opened, _: _refused(opened)),
    "add": (
        lambda side: side.write("x.log", b"kept beside\n"),
        lambda opened, _: operations.add_paths(opened, [TreePath(b"x.log")], True),
    ),
}
"""What makes a workspace ready, and an operation that makes programs in a live tree wait."""


def _next_redo(opened: OpenWorkspace) -> int:
    found = undo.find_next(opened.vault, opened.fork, REDO)
    assert found is not None
    return found.id


def _refused(opened: OpenWorkspace) -> None:
    """Nothing is done again over what was changed since it was undone."""
    with pytest.raises(NothingToUndo):
        operations.turn(opened, _next_redo(opened), False)


@pytest.mark.parametrize("act", STOPPING)
def test_what_a_live_tree_has_uncommitted_is_read_while_programs_go_on(act: str, vault: Vault, side: Workspace) -> None:
    """What programs changed before an operation is read, and stored, before that keeps programs waiting."""
    prepare, operate = STOPPING[act]
    main = Oid(bytes.fromhex(git(vault.path, "rev-parse", "main").strip()))
    opened, waited = side._opened, []

    def has_its_turn() -> bool:
        if is_free := opened.merged.guard.acquire(timeout=0.1):
            opened.merged.guard.release()
        return is_free

    def look(point: str) -> None:
        # What the operation itself has made is not read again, though it passes here.
        if point == "capture.file_read" and not opened.standstill.is_moving:
            with ThreadPoolExecutor(1) as program:
                waited.append(not program.submit(has_its_turn).result())

    prepare(side)
    side.write("large", b"".join(b"%d\n" % number for number in range(100_000)))
    opened.serve("session")
    try:
        opened.merged.write_file(TreePath(b"by a program"), b"while it is mounted\n")
        faults.arm(look)
        operate(opened, main)
    finally:
        faults.arm(None)
        opened.stop_serving()
    assert len(waited) >= 2
    assert not any(waited)
