"""Rebases and cherry-picks whose conflicts are resolved in the workspace."""

from __future__ import annotations

import pytest

from avfs_git.errors import CommitConflicts, ConflictsLeft, InvalidInput, MergeInProgress, NoMergeInProgress
from avfs_git.sdk import Vault, Workspace
from tests.support.faults import check_vault, git

pytestmark = pytest.mark.needs("git", "whiteout", "user-xattrs")


def lines(**changed: str) -> bytes:
    """Make a file of ten lines, some of them others."""
    return b"".join(f"{changed.get(f'line{number}', f'line {number}')}\n".encode() for number in range(10))


def subjects(vault: Vault, fork: str) -> list[str]:
    """List what the commits of a fork say, the newest first."""
    return git(vault.path, "log", "--format=%s", fork).split("\n")


def commit(work: Workspace, message: str) -> str:
    """Commit, and give the id."""
    made = work.checkpoint(description=message).checkpoint
    assert made is not None
    return made.id


@pytest.fixture
def side(vault: Vault, work: Workspace) -> Workspace:
    """A fork with four commits of its own, of which the second and the fourth do not fit what `main` has."""
    work.write(".gitignore", b"*.log\n")
    work.write("text", lines())
    work.write("more", lines())
    work.checkpoint(description="start")
    side = vault.fork("side")
    side.write("own", b"1\n")
    commit(side, "one")
    side.write("text", lines(line1="side"))
    side.write("side.log", b"ignored\n")
    commit(side, "two")
    side.write("own", b"3\n")
    commit(side, "three")
    side.write("more", lines(line8="side"))
    commit(side, "four")
    work.write("text", lines(line1="main"))
    work.write("more", lines(line8="main"))
    work.checkpoint(description="main's")
    return side


def test_a_rebase_stops_at_each_commit_that_does_not_fit(vault: Vault, side: Workspace) -> None:
    """Each is resolved in turn; then the history is that of git, in one operation that can be undone and done again."""
    before = git(vault.path, "rev-parse", "side").strip()
    files = side.read("text"), side.read("more")

    first = side.rebase("main", on_conflict="workspace")

    assert (first.outcome, first.stopped_at) == ("conflicted", git(vault.path, "rev-parse", "side~2").strip())
    assert [conflict.path for conflict in first.conflicts] == [b"text"]
    assert len(first.commits) == 1
    assert b"||||||| " in side.read("text")
    assert git(vault.path, "rev-parse", "side").strip() == before
    progress = side.status().merging
    assert progress is not None
    assert (progress.operation, len(progress.unresolved)) == ("rebase", 1)
    with pytest.raises(ConflictsLeft):
        side.continue_rewrite()
    with pytest.raises(MergeInProgress, match="in the middle of a rebase") as raised:
        side.continue_merge()
    assert "avfs rebase --continue" in str(raised.value.hint)
    with pytest.raises(MergeInProgress):
        side.abort_merge(operation="merge")
    with pytest.raises(MergeInProgress):
        side.continue_rewrite(operation="cherry_pick")
    with pytest.raises(MergeInProgress):
        side.checkpoint()

    side.write("text", lines(line1="both"))
    side.write("beside", b"also\n")
    second = side.continue_rewrite()

    assert (second.outcome, second.stopped_at) == ("conflicted", before)
    assert len(second.commits) == 3
    assert side.read("text") == lines(line1="both")

    side.resolve("more", "theirs")
    done = side.continue_rewrite()

    assert (done.outcome, len(done.commits), done.old_head) == ("rewritten", 4, before)
    assert subjects(vault, "side")[:6] == ["four", "three", "two", "one", "main's", "start"]
    assert git(vault.path, "show", "--format=%an", "--name-only", "side~2").split() == [
        "Ada",
        "Author",
        "beside",
        "text",
    ]
    assert (side.read("more"), side.read("side.log"), side.read("own")) == (lines(line8="side"), b"ignored\n", b"3\n")
    assert side.status().clean
    assert side.status().merging is None
    check_vault(vault)
    after = git(vault.path, "rev-parse", "side").strip()

    side.undo()

    assert git(vault.path, "rev-parse", "side").strip() == before
    assert (side.read("text"), side.read("more")) == files
    assert side.status().clean

    side.redo()

    assert git(vault.path, "rev-parse", "side").strip() == after
    assert side.status().clean


def test_a_rebase_is_given_up_at_any_stop(vault: Vault, side: Workspace) -> None:
    """The files and the branch are those before it, also after some commits were put on."""
    before = git(vault.path, "rev-parse", "side").strip()
    for stops in (1, 2):
        side.rebase("main", on_conflict="workspace")
        for _ in range(stops - 1):
            side.resolve("text", "ours")
            side.continue_rewrite()

        given_up = side.abort_merge()

        assert given_up.operation.kind == "merge_abort"
        assert git(vault.path, "rev-parse", "side").strip() == before
        assert (side.read("text"), side.read("more")) == (lines(line1="side"), lines(line8="side"))
        assert side.status().clean
        with pytest.raises(NoMergeInProgress):
            side.continue_rewrite()
    check_vault(vault)


def test_commits_that_do_not_fit_are_skipped(vault: Vault, side: Workspace) -> None:
    """Each is left out without being resolved.

    What was done meanwhile is a commit beside, and all of it can be undone.
    """
    before = git(vault.path, "rev-parse", "side").strip()
    side.rebase("main", on_conflict="workspace")
    side.write("half", b"done\n")

    second = side.continue_rewrite(skip=True)

    assert (second.outcome, second.stopped_at) == ("conflicted", before)
    assert second.saved is not None
    assert git(vault.path, "show", f"{second.saved}:half") == "done\n"
    assert (side.exists("half"), side.read("text"), side.read("own")) == (False, lines(line1="main"), b"3\n")

    done = side.continue_rewrite(skip=True)

    assert (done.outcome, len(done.commits)) == ("rewritten", 2)
    assert subjects(vault, "side")[:4] == ["three", "one", "main's", "start"]
    assert (side.read("more"), side.read("side.log")) == (lines(line8="main"), b"ignored\n")
    assert side.status().clean
    check_vault(vault)

    side.undo()

    assert git(vault.path, "rev-parse", "side").strip() == before
    assert side.read("text") == lines(line1="side")

    main = vault.workspace()
    head = git(vault.path, "rev-parse", "main").strip()
    assert main.cherry_pick(["side~2"], on_conflict="workspace").outcome == "conflicted"
    assert main.continue_rewrite(skip=True).outcome == "unchanged"
    assert (git(vault.path, "rev-parse", "main").strip(), main.status().merging) == (head, None)
    with pytest.raises(NoMergeInProgress):
        main.continue_rewrite(skip=True)


def test_a_commit_that_is_resolved_to_nothing_is_left_out(vault: Vault, side: Workspace) -> None:
    """What changes nothing any more is no commit.

    If that goes for all, the fork is as the other state, or as it was.
    """
    side.rebase("main", on_conflict="workspace")
    side.resolve("text", "ours")
    side.continue_rewrite()
    side.resolve("more", "ours")

    done = side.continue_rewrite()

    assert subjects(vault, "side")[:4] == ["three", "one", "main's", "start"]
    assert len(done.commits) == 2
    assert side.status().clean

    picked = git(vault.path, "rev-parse", "side").strip()
    main = vault.workspace()
    main.write("own", b"main's\n")
    head = commit(main, "own")
    assert main.cherry_pick([picked], on_conflict="workspace").outcome == "conflicted"
    main.resolve("own", "ours")

    assert main.continue_rewrite().outcome == "unchanged"
    assert git(vault.path, "rev-parse", "main").strip() == head
    assert main.status().merging is None
    assert main.status().clean


def test_a_cherry_pick_stops_and_goes_on(vault: Vault, work: Workspace, side: Workspace) -> None:
    """Commits of a fork that is gone meanwhile are put on all the same: what is needed stays reachable."""
    picked = git(vault.path, "rev-list", "--reverse", "main..side").split()
    with pytest.raises(CommitConflicts):
        work.cherry_pick(picked)

    stopped = work.cherry_pick(picked, on_conflict="workspace")

    assert (stopped.outcome, stopped.stopped_at) == ("conflicted", picked[1])
    progress = work.status().merging
    assert progress is not None
    assert progress.operation == "cherry_pick"
    with pytest.raises(MergeInProgress, match="in the middle of a cherry-pick"):
        work.merge("side")
    with pytest.raises(MergeInProgress):
        work.rebase("side")

    vault.delete_fork("side")
    git(vault.path, "reflog", "expire", "--expire=now", "--all")
    git(vault.path, "gc", "-q", "--prune=now")
    work.resolve("text", "union")
    work.continue_rewrite()
    work.resolve("more")
    work.write("more", lines(line8="decided"))
    done = work.continue_rewrite()

    assert done.outcome == "rewritten"
    assert subjects(vault, "main")[:5] == ["four", "three", "two", "one", "main's"]
    assert work.read("text") == lines(line1="main\nside")
    assert not work.exists("side.log")
    assert work.status().clean
    check_vault(vault)


def test_many_merges_stop_at_the_first_conflict(vault: Vault, work: Workspace, side: Workspace) -> None:
    """With conflicts in the workspace nothing else can be merged before they are resolved."""
    easy = vault.fork("easy", source="main")
    easy.write("easy", b"1\n")
    easy.checkpoint()
    late = vault.fork("late", source="main")
    late.write("more", lines(line8="late"))
    late.checkpoint()
    work.write("more", lines(line8="mine"))
    work.checkpoint()

    results = work.merge_many(["side", "late", "easy"], on_conflict="workspace")

    assert [(result.source, result.outcome) for result in results] == [("easy", "clean"), ("side", "conflicted")]
    assert results[-1].in_workspace
    work.abort_merge()
    with pytest.raises(InvalidInput):
        work.rebase("side", on_conflict="elsewhere")
