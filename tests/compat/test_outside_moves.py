"""Branches that somebody else moves under a workspace, such as by a push: shown, and never silently different."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from avfs_git.errors import (
    BranchCheckedOut,
    CannotUndo,
    ForkIsAlias,
    InvalidInput,
    NoUpstream,
    RefConflict,
    WorkspaceMounted,
)
from avfs_git.sdk import Avfs, Vault, Workspace
from tests.support.failing import armed
from tests.support.faults import check_vault, die_in
from tests.support.seeds import take_points
from tests.support.servers import git, make_bare


@pytest.fixture(params=["plain", pytest.param("mounted", marks=pytest.mark.needs("fuse"))])
def work(request: pytest.FixtureRequest, tmp_path: Path, mount_dir: Path) -> Iterator[Workspace]:
    """A workspace with two files and a change of its own, onto whose branch somebody has pushed; mounted, and not."""
    with Avfs(tmp_path / "home") as avfs:
        vault = avfs.create_vault("v")
        work = vault.workspace()
        for name in ("a", "b"):
            work.write(name, b"1\n")
        work.checkpoint("one")
        session = work.mount(mount_dir / "tree") if request.param == "mounted" else None
        try:
            work.write("b", b"mine\n")
            clone = tmp_path / "clone"
            git("clone", "-q", str(vault.path), str(clone), cwd=tmp_path)
            (clone / "a").write_bytes(b"theirs\n")
            git("commit", "-qam", "theirs", cwd=clone)
            if session is None:
                git("push", "-q", "origin", "HEAD:main", cwd=clone)
            else:  # git refuses a push to a branch that is checked out in a live tree; by hand it can be moved all the same
                with pytest.raises(subprocess.CalledProcessError, match="returned non-zero"):
                    git("push", "-q", "origin", "HEAD:main", cwd=clone)
                git("fetch", "-q", str(clone), "HEAD", cwd=vault.path)
                git("update-ref", "refs/heads/main", git("rev-parse", "HEAD", cwd=clone), cwd=vault.path)
            yield work
        finally:
            if session is not None:
                session.unmount()


def test_update_takes_none_of_several_remotes_for_the_one(tmp_path: Path) -> None:
    """Without an `origin` among them, a fork follows the one it was made from.

    One made from none is told what to type.
    """
    with Avfs(tmp_path / "home") as avfs:
        vault = avfs.create_vault("v")
        main = vault.workspace()
        main.write("a", b"1\n")
        main.checkpoint("one")
        task = vault.fork("task")
        main.write("b", b"2\n")
        main.checkpoint("two")
        for name in ("one", "two"):
            vault.add_remote(name, str(make_bare(tmp_path / f"{name}.git")))
        assert [merge.source for merge in task.update()] == ["main"]
        assert task.read("b") == b"2\n"
        with pytest.raises(InvalidInput) as refused:
            main.update()
        assert "`avfs pull main --remote one`" in (refused.value.hint or "")


def test_a_branch_that_is_a_symbolic_ref_is_no_fork(tmp_path: Path) -> None:
    """Nothing is written there that could not be saved, and the way on that is named works."""
    with Avfs(tmp_path / "home") as avfs:
        vault = avfs.create_vault("v")
        vault.workspace().write("a", b"1\n")
        vault.workspace().checkpoint("one")
        git("symbolic-ref", "refs/heads/other", "refs/heads/main", cwd=vault.path)
        assert [fork.name for fork in vault.list_forks()] == ["main"]
        with pytest.raises(ForkIsAlias, match="'main'") as told:
            vault.workspace("other").write("a", b"2\n")
        with pytest.raises(ForkIsAlias):
            vault.delete_fork("other")
        subprocess.run(shlex.split(re.findall("`(.*?)`", str(told.value.hint))[1]), check=True)
        vault.workspace("other").write("a", b"2\n")
        assert vault.workspace("other").checkpoint("two").outcome == "created"
        assert vault.workspace().read("a") == b"1\n"


@pytest.mark.parametrize("gone", [False, True])
def test_a_branch_that_another_working_tree_has_checked_out_stays(tmp_path: Path, gone: bool) -> None:
    """As for git: else its next commit would take back what avfs put on the branch. The way on that is named works."""
    with Avfs(tmp_path / "home") as avfs:
        vault = avfs.create_vault("v")
        vault.workspace().write("a", b"1\n")
        vault.workspace().checkpoint("one")
        work, main = vault.fork("task"), vault.workspace()
        main.write("b", b"2\n")
        main.checkpoint("two")
        head = git("rev-parse", "task", cwd=vault.path)
        git("worktree", "add", "-q", str(tmp_path / "there"), "task", cwd=vault.path)
        work.write("a", b"mine\n")
        refused: list[Callable[[], object]] = [
            lambda: work.checkpoint("mine"),
            lambda: work.merge("main"),
            lambda: work.restore(head),
            lambda: vault.delete_fork("task"),
        ]
        if gone:
            shutil.rmtree(tmp_path / "there")
        for operation in refused:
            with pytest.raises(BranchCheckedOut) as told:
                operation()
        assert work.read("a") == b"mine\n"
        assert git("rev-parse", "task", cwd=vault.path) == head
        way_on = re.findall("`(.*?)`", str(told.value.hint))
        subprocess.run(shlex.split(way_on[0]), check=True, capture_output=True)
        assert work.checkpoint("mine").outcome == "created"
        vault.delete_fork("task")


@pytest.mark.parametrize("command", ["bisect", "rebase"])
def test_a_branch_to_which_git_goes_back_elsewhere_stays(tmp_path: Path, command: str) -> None:
    """As for git: HEAD names no branch in the middle of a bisection or rebase, which ends with the branch."""
    with Avfs(tmp_path / "home") as avfs:
        vault = avfs.create_vault("v")
        vault.workspace().write("a", b"1\n")
        vault.workspace().checkpoint("one")
        for name in ("below", "task"):
            vault.workspace().write("a", name.encode())
            vault.workspace().checkpoint(name)
            git("branch", name, "main", cwd=vault.path)
        there = tmp_path / "there"
        git("worktree", "add", "-q", str(there), "task", cwd=vault.path)
        if command == "bisect":
            git("bisect", "start", "HEAD", "HEAD~2", cwd=there)
            used, end = ["task"], ["bisect", "reset"]
        else:
            editor = ["-c", "sequence.editor=sed -i 1s/pick/edit/"]
            git(*editor, "rebase", "-q", "-i", "--update-refs", "HEAD~2", cwd=there)
            used, end = ["task", "below"], ["rebase", "--abort"]
        for name in used:
            with pytest.raises(BranchCheckedOut) as told:
                vault.delete_fork(name)
            assert " ".join(["git", *end]) in str(told.value.hint)
        git(*end, cwd=there)
        git("switch", "-q", "--detach", cwd=there)
        for name in used:
            vault.delete_fork(name)


def test_doctor_knows_the_tree_that_git_has_built_in(tmp_path: Path) -> None:
    """A commit of the empty tree, which git stores nowhere, is as sound for it as for git."""
    git("init", "-q", str(tmp_path / "clone"), cwd=tmp_path)
    (tmp_path / "clone" / "a").write_bytes(b"1\n")
    git("add", "a", cwd=tmp_path / "clone")
    git("commit", "-qm", "one", cwd=tmp_path / "clone")
    with Avfs(tmp_path / "home") as avfs:
        vault = avfs.create_vault("v", source=tmp_path / "clone")
        empty = "4b825dc642cb6eb9a060e54bf8d69288fbee4904"
        git("branch", "empty", git("commit-tree", "-m", "empty", empty, cwd=vault.path).strip(), cwd=vault.path)
        assert vault.doctor().problems == ()


def test_a_push_into_a_fork_is_shown(work: Workspace) -> None:
    """Status says that the branch was moved and what to do, and no checkpoint takes back what was pushed."""
    status = work.status()
    with pytest.raises(RefConflict) as refused:
        work.checkpoint("two")

    assert [warning.code for warning in status.warnings] == ["fork.moved_outside"]
    assert str(refused.value.hint) == "Bring in what was put there with `avfs update main`."
    assert work.read("a") == b"1\n"


def test_a_dry_run_of_undo_is_refused_as_undo_is(work: Workspace) -> None:
    """What was pushed onto the checkpoint is in the way of both."""
    work.undo()  # of the change that is not saved
    for dry_run in (True, False):
        with pytest.raises(CannotUndo, match="has moved since") as refused:
            work.undo(dry_run=dry_run)
        assert "`avfs op undo" in str(refused.value.hint)


def test_what_undo_refuses_under_a_push_is_taken_back_on_top_of_it(tmp_path: Path) -> None:
    """The hint of that undo works, and what was pushed stays."""
    with Avfs(tmp_path / "home") as avfs:
        vault = avfs.create_vault("v")
        work = vault.workspace()
        for name in (b"a", b"mine"):
            work.write(name, name)
            work.checkpoint()
        clone = tmp_path / "clone"
        git("clone", "-q", str(vault.path), str(clone), cwd=tmp_path)
        (clone / "theirs").write_bytes(b"theirs\n")
        git("add", "theirs", cwd=clone)
        git("commit", "-qm", "theirs", cwd=clone)
        git("push", "-q", cwd=clone)
        with pytest.raises(CannotUndo) as refused:
            work.undo()
        number = int(str(refused.value.hint).split("`avfs op undo ")[1].split()[0])
        work.update()
        work.undo_operation(number)
        assert git("ls-tree", "--name-only", "main", cwd=vault.path).split() == ["a", "theirs"]


def test_a_checkpoint_takes_nothing_back_from_a_file_that_both_have_changed(work: Workspace) -> None:
    """The workspace has another version of the file than the one that was pushed, and it is no later one of that."""
    theirs = git("rev-parse", "main", cwd=work.vault.path)
    work.write("a", b"mine, too\n")
    status = work.status()
    with pytest.raises(RefConflict):
        work.checkpoint("two")

    assert [warning.code for warning in status.warnings] == ["fork.moved_outside"]
    assert git("rev-parse", "main", cwd=work.vault.path) == theirs
    assert work.read("a") == b"mine, too\n"


def test_update_brings_in_what_was_pushed(work: Workspace) -> None:
    """Both changes are there afterwards, in the files and in one history.

    A checkpoint goes on from there, and undo goes back.
    """
    theirs = git("rev-parse", "main", cwd=work.vault.path)
    merges = work.update()
    status = work.status()
    head = git("rev-parse", "main", cwd=work.vault.path)
    again = work.update()

    assert [merge.outcome for merge in merges] == ["clean"]
    assert (work.read("a"), work.read("b")) == (b"theirs\n", b"mine\n")
    assert status.clean
    assert status.warnings == ()
    assert theirs in git("rev-list", head, cwd=work.vault.path).split()
    assert again == []
    work.undo()
    assert (work.read("a"), work.read("b")) == (b"1\n", b"mine\n")


def test_an_update_in_conflict_changes_nothing(work: Workspace) -> None:
    """What was pushed stays on the branch, what the workspace has stays in its files."""
    theirs = git("rev-parse", "main", cwd=work.vault.path)
    work.write("a", b"mine, too\n")

    merges = work.update()

    assert [merge.outcome for merge in merges] == ["conflicted"]
    assert git("rev-parse", "main", cwd=work.vault.path) == theirs
    assert (work.read("a"), work.read("b")) == (b"mine, too\n", b"mine\n")
    assert [warning.code for warning in work.status().warnings] == ["fork.moved_outside"]


def is_ancestor(work: Workspace, commit: str) -> bool:
    """Tell whether the branch holds a commit."""
    return commit in git("rev-list", "main", cwd=work.vault.path).split()


def push_more(work: Workspace, name: str) -> str:
    """Put another commit on the branch, as a push does that git takes; give its id."""
    place = work.vault.path
    blob = subprocess.run(
        ["git", "hash-object", "-w", "--stdin"], cwd=place, input=b"more\n", capture_output=True, check=True
    )
    listed = git("ls-tree", "main", cwd=place) + f"\n100644 blob {blob.stdout.decode().strip()}\t{name}\n"
    tree = subprocess.run(["git", "mktree"], cwd=place, input=listed.encode(), capture_output=True, check=True)
    made = git("commit-tree", "-p", "main", "-m", name, tree.stdout.decode().strip(), cwd=place)
    git("update-ref", "refs/heads/main", made, cwd=place)
    return made


@pytest.mark.usefixtures("person")
@pytest.mark.parametrize("changed", [True, False], ids=["changed", "unchanged"])
def test_undo_takes_back_our_side_only(work: Workspace, changed: bool) -> None:
    """After the undo of an update the push is still on the branch, no checkpoint undoes it, and it comes in again."""
    theirs = git("rev-parse", "main", cwd=work.vault.path)
    if not changed:
        work.write("b", b"1\n")
    mine = work.read("b")
    work.update()
    work.undo()

    assert git("rev-parse", "main", cwd=work.vault.path) == theirs
    assert (work.read("a"), work.read("b")) == (b"1\n", mine)
    assert [warning.code for warning in work.status().warnings] == ["fork.moved_outside"]
    work.write("c", b"more of mine\n")
    with pytest.raises(RefConflict):
        work.checkpoint()

    assert [merge.outcome for merge in work.update()] == ["clean"]
    assert is_ancestor(work, theirs)
    assert (work.read("a"), work.read("b"), work.read("c")) == (b"theirs\n", mine, b"more of mine\n")
    work.undo()

    assert git("rev-parse", "main", cwd=work.vault.path) == theirs
    work.redo()

    assert is_ancestor(work, theirs)
    assert (work.read("a"), work.read("c")) == (b"theirs\n", b"more of mine\n")
    assert work.status().clean


def test_a_conflict_in_the_workspace_leaves_the_push_on_the_branch(work: Workspace) -> None:
    """While it is resolved, after it is, and after that is undone, the branch has what was pushed."""
    theirs = git("rev-parse", "main", cwd=work.vault.path)
    work.write("a", b"mine, too\n")
    (merge,) = work.update(on_conflict="workspace")

    assert merge.in_workspace
    assert work.status().warnings == ()  # the merge in the workspace is the update that a warning would name
    assert git("rev-parse", "main", cwd=work.vault.path) == theirs
    work.abort_merge()

    assert (work.read("a"), work.read("b")) == (b"mine, too\n", b"mine\n")
    assert git("rev-parse", "main", cwd=work.vault.path) == theirs
    work.update(on_conflict="workspace")
    work.resolve("a", content=b"both\n")
    work.continue_merge()

    assert is_ancestor(work, theirs)
    assert (work.read("a"), work.read("b"), work.status().clean) == (b"both\n", b"mine\n", True)
    work.undo()

    assert git("rev-parse", "main", cwd=work.vault.path) == theirs
    assert (work.read("a"), work.read("b")) == (b"mine, too\n", b"mine\n")
    assert [warning.code for warning in work.status().warnings] == ["fork.moved_outside"]


def test_a_push_beside_a_conflict_in_the_workspace_is_told_with_the_way_on(work: Workspace) -> None:
    """The merge does not bring it in, and cannot end any more: it is given up first."""
    work.write("a", b"mine, too\n")
    work.update(on_conflict="workspace")
    push_more(work, "later")
    (warning,) = work.status().warnings
    work.resolve("a", content=b"both\n")
    with pytest.raises(RefConflict):
        work.continue_merge()

    assert warning.code == "fork.moved_outside"
    assert "`avfs --fork main merge --abort` and then `avfs update main`" in warning.message
    work.abort_merge()
    work.update(on_conflict="workspace")
    work.resolve("a", content=b"both\n")
    work.continue_merge()
    assert (work.read("a"), work.read("later")) == (b"both\n", b"more\n")


@pytest.mark.needs("fuse")
def test_undo_takes_back_no_push_that_gits_log_has(tmp_path: Path, mount_dir: Path) -> None:
    """Once git has committed in a live tree, its branch log has later pushes, too: these are no fork operations."""
    with Avfs(tmp_path / "home") as avfs:
        vault = avfs.create_vault("v")
        vault.workspace().write("a", b"1\n")
        vault.workspace().checkpoint("one")
        work = vault.fork("t")
        with work.mount(mount_dir / "tree") as session:
            (session.path / "own").write_bytes(b"")
            git("add", "own", cwd=session.path)
            git("commit", "-q", "-m", "own", cwd=session.path)
        clone = tmp_path / "clone"
        git("clone", "-q", "-b", "t", str(vault.path), str(clone), cwd=tmp_path)
        (clone / "a").write_bytes(b"theirs\n")
        git("commit", "-qam", "theirs", cwd=clone)
        git("push", "-q", "origin", "t", cwd=clone)
        theirs = git("rev-parse", "t", cwd=vault.path)
        assert "push" in (vault.path / "logs" / "refs" / "heads" / "t").read_text()
        assert [one.description for one in work.operations() if one.kind == "git"] == ["git commit: own"]
        with pytest.raises(CannotUndo):
            work.undo()
        assert git("rev-parse", "t", cwd=vault.path) == theirs
        assert [warning.code for warning in work.status().warnings] == ["fork.moved_outside"]
        work.update()
        assert theirs in git("rev-list", "t", cwd=vault.path).split()


@pytest.mark.needs("fuse")
@pytest.mark.parametrize("how", ["looked at", "made"])
def test_a_push_of_what_head_was_at_in_the_live_tree_is_a_push(tmp_path: Path, mount_dir: Path, how: str) -> None:
    """Git in the live tree knew the commit before it was pushed.

    The files do not have it, and no checkpoint takes it back.
    """
    with Avfs(tmp_path / "home") as avfs:
        vault = avfs.create_vault("v")
        vault.workspace().write("a", b"1\n")
        vault.workspace().checkpoint("one")
        work = vault.fork("t")
        clone = tmp_path / "clone"
        git("clone", "-q", "-b", "t", str(vault.path), str(clone), cwd=tmp_path)
        with work.mount(mount_dir / "tree") as session:
            if how == "looked at":
                (clone / "a").write_bytes(b"theirs\n")
                git("commit", "-qam", "theirs", cwd=clone)
                git("fetch", "-q", str(clone), "t", cwd=session.path)
                git("checkout", "-q", "FETCH_HEAD", cwd=session.path)
            else:
                git("checkout", "-q", "--detach", cwd=session.path)
                (session.path / "a").write_bytes(b"theirs\n")
                git("commit", "-qam", "theirs", cwd=session.path)
                git("fetch", "-q", str(vault.path), git("rev-parse", "HEAD", cwd=session.path).strip(), cwd=clone)
                git("reset", "-q", "--hard", "FETCH_HEAD", cwd=clone)
            git("checkout", "-q", "t", cwd=session.path)
        work.status()
        git("push", "-q", "origin", "t", cwd=clone)
        theirs = git("rev-parse", "t", cwd=vault.path)

        assert work.read("a") == b"1\n"
        assert [warning.code for warning in work.status().warnings] == ["fork.moved_outside"]
        work.write("b", b"mine\n")
        with pytest.raises(RefConflict):
            work.checkpoint()
        assert work.update()[0].outcome == "clean"
        assert (work.read("a"), work.read("b")) == (b"theirs\n", b"mine\n")
        work.undo()
        assert git("rev-parse", "t", cwd=vault.path) == theirs


@pytest.mark.needs("fuse")
def test_a_mount_tells_what_its_tree_lacks(tmp_path: Path, mount_dir: Path) -> None:
    """Git in the tree would commit the files without what was pushed.

    Where git there made the commit, nothing is told.
    """
    told: list[str] = []
    with Avfs(tmp_path / "home", on_warnings=lambda warnings: told.extend(each.code for each in warnings)) as avfs:
        vault = avfs.create_vault("v")
        vault.workspace().write("a", b"1\n")
        vault.workspace().checkpoint("one")
        work = vault.fork("t")
        with work.mount(mount_dir / "tree") as session:
            (session.path / "a").write_bytes(b"mine\n")
            git("commit", "-qam", "mine", cwd=session.path)
        with work.mount(mount_dir / "tree"):
            pass
        assert told == []
        clone = tmp_path / "clone"
        git("clone", "-q", "-b", "t", str(vault.path), str(clone), cwd=tmp_path)
        (clone / "a").write_bytes(b"theirs\n")
        git("commit", "-qam", "theirs", cwd=clone)
        git("push", "-q", "origin", "t", cwd=clone)
        with work.mount(mount_dir / "tree"):
            assert told == ["fork.moved_outside"]


@pytest.mark.needs("fuse")
def test_a_branch_that_others_make_anew_has_what_the_files_lack(tmp_path: Path, mount_dir: Path) -> None:
    """Git deletes its log of a branch with that: HEAD's log in the tree has one commit there, and no push before it."""
    with Avfs(tmp_path / "home") as avfs:
        vault = avfs.create_vault("v")
        vault.workspace().write("a", b"1\n")
        vault.workspace().checkpoint("one")
        work = vault.fork("t")
        with work.mount(mount_dir / "tree"):
            pass
        clone = tmp_path / "clone"
        git("clone", "-q", "-b", "t", str(vault.path), str(clone), cwd=tmp_path)
        (clone / "a").write_bytes(b"theirs\n")
        git("commit", "-qam", "theirs", cwd=clone)
        git("push", "-q", "origin", "t", cwd=clone)
        with work.mount(mount_dir / "tree") as session:
            git("commit", "-q", "--allow-empty", "-m", "own", cwd=session.path)
        git("pull", "-q", "origin", "t", cwd=clone)
        git("push", "-q", "origin", ":t", cwd=clone)
        git("push", "-q", "origin", "t", cwd=clone)

        with pytest.raises(RefConflict):
            work.checkpoint()
        work.update()
        assert work.read("a") == b"theirs\n"


@pytest.fixture
def pushed(tmp_path: Path) -> Iterator[tuple[Path, str]]:
    """A home whose workspace has a change, and a commit that was pushed onto its branch."""
    with Avfs(tmp_path / "home") as avfs:
        work = avfs.create_vault("v").workspace()
        work.write("a", b"1\n")
        work.checkpoint("one")
        work.write("b", b"mine\n")
        yield tmp_path / "home", push_more(work, "theirs")


def test_undo_of_a_deletion_by_git_has_what_was_pushed_before(work: Workspace) -> None:
    """A fork whose update was undone, and whose branch git deleted then, comes back with the push on its branch."""
    vault, theirs = work.vault, git("rev-parse", "main", cwd=work.vault.path)
    work.update()
    work.undo()
    git("branch", "other", "main", cwd=vault.path)
    git("symbolic-ref", "HEAD", "refs/heads/other", cwd=vault.path)
    git("update-ref", "-d", "refs/heads/main", cwd=vault.path)
    try:
        vault.undo(fork="main")
    except WorkspaceMounted:  # a fork comes back as a whole, which no mount looks on at
        session = vault.find_session("main")
        assert session is not None
        session.unmount()
        vault.undo(fork="main")

    assert git("rev-parse", "main", cwd=vault.path) == theirs
    assert work.read("b") == b"mine\n"


@pytest.mark.parametrize("undoes_update", [False, True])
def test_a_fork_that_comes_back_lacks_what_it_lacked(pushed: tuple[Path, str], undoes_update: bool) -> None:
    """Undo of a deletion brings back the branch with what others had put on it; no checkpoint takes that back."""
    with Avfs(pushed[0]) as avfs:
        vault = avfs.open_vault("v")
        if undoes_update:
            vault.workspace("main").update()
            vault.undo(fork="main")
        vault.fork("other", at="one")
        git("symbolic-ref", "HEAD", "refs/heads/other", cwd=vault.path)
        vault.delete_fork("main")
        vault.undo(fork="main")
        vault.redo(fork="main")
        vault.undo(fork="main")
        work = vault.workspace("main")
        with pytest.raises(RefConflict):
            work.checkpoint("two")

        assert [warning.code for warning in work.status().warnings] == ["fork.moved_outside"]
        work.update()
        assert (work.read("b"), work.read("theirs")) == (b"mine\n", b"more\n")


@pytest.mark.parametrize("is_forgotten", [False, True], ids=["known", "forgotten"])
@pytest.mark.parametrize("how", ["restore", "by hand"])
def test_undo_of_what_went_on_from_a_push_lacks_the_push_again(work: Workspace, how: str, is_forgotten: bool) -> None:
    """The branch stays where others put it; no checkpoint of the files from before takes that back, nor does an update.

    So it is where the log does not have the operations any more.
    """
    if how == "restore":
        work.write("b", b"1\n")
        work.chmod("a", 0o600)  # beside history: restore makes a commit of it
        work.restore("HEAD")
        work.undo()
    else:
        work.write("a", b"theirs\n")
        work.checkpoint("two")
        for _ in range(2):
            work.undo()
    work.write("c", b"later\n")
    if is_forgotten:
        work.vault.prune(keep_operations=1, grace_s=0)
    with pytest.raises(RefConflict):
        work.checkpoint("three")

    assert work.read("a") == b"1\n"
    assert work.update()[0].outcome == "clean"
    assert (work.read("a"), work.read("c")) == (b"theirs\n", b"later\n")


@pytest.mark.parametrize("how", ["update", "restore"])
def test_what_was_done_before_the_files_of_others_came_in_is_undone_by_itself(work: Workspace, how: str) -> None:
    """What programs did before a conflicting update or before a restore is no part of the operation before that."""
    work.write("a", b"mine, too\n")
    work.undo()
    work.redo()
    work.write("c", b"later\n")
    if how == "update":
        assert work.update()[0].outcome == "conflicted"
    else:
        work.restore("HEAD")
        work.undo()
    planned = work.undo(dry_run=True)
    done = work.undo()

    assert planned.operation.id == done.operation.id
    assert [change.path for change in planned.changed_files] == [change.path for change in done.changed_files] == [b"c"]
    assert (work.read("a"), work.exists("c")) == (b"mine, too\n", False)


def test_an_update_that_dies_leaves_the_push_on_the_branch(pushed: tuple[Path, str], tmp_path: Path) -> None:
    """Wherever it dies, the branch has what was pushed, and the next update brings both together."""
    home, theirs = pushed
    for _, point in take_points(0):
        copy = tmp_path / f"home{point}"
        subprocess.run(["cp", "-a", home, copy], check=True)

        def update(copy: Path = copy) -> None:
            with Avfs(copy) as avfs:
                avfs.open_vault("v").workspace().update()

        died = die_in(update, point)
        with Avfs(copy) as avfs:
            work = avfs.open_vault("v").workspace()

            assert is_ancestor(work, theirs), point
            work.update()

            assert is_ancestor(work, theirs)
            assert (work.read("a"), work.read("b"), work.read("theirs")) == (b"1\n", b"mine\n", b"more\n")
            assert work.status().clean
            check_vault(work.vault)
        if not died:
            break


def test_a_push_at_any_step_of_an_update_stays(pushed: tuple[Path, str], tmp_path: Path) -> None:
    """Whenever git takes another push meanwhile, the branch has both, and so do the files after the next update."""
    home, theirs = pushed
    for _, point in take_points(1):
        copy = tmp_path / f"home{point}"
        subprocess.run(["cp", "-a", home, copy], check=True)
        with Avfs(copy) as avfs:
            work = avfs.open_vault("v").workspace()
            more: list[str] = []
            seen = 0

            def push(_name: str, work: Workspace = work, more: list[str] = more, point: int = point) -> None:
                nonlocal seen
                seen += 1
                if seen == point:
                    with suppress(subprocess.CalledProcessError):  # git finds the branch locked, and says so
                        more.append(push_more(work, "later"))

            with armed(push):
                work.update()
            work.update()

            assert all(is_ancestor(work, commit) for commit in (theirs, *more)), point
            assert (work.read("b"), work.read("theirs"), work.exists("later")) == (b"mine\n", b"more\n", bool(more))
            assert work.status().clean
        if seen < point:
            break


def save(vault: Vault, fork: str, path: str, data: bytes) -> None:
    """Write a file and make a checkpoint."""
    vault.workspace(fork).write(path, data)
    vault.workspace(fork).checkpoint()


def test_update_follows_the_remote_or_the_fork_it_was_made_from(tmp_path: Path) -> None:
    """Without a remote branch of its name a fork follows its parent; with one, that."""
    bare = make_bare(tmp_path / "served.git")
    with Avfs(tmp_path / "home") as avfs:
        vault = avfs.create_vault("v")
        save(vault, "main", "a", b"1\n")
        vault.fork("topic")
        save(vault, "main", "a", b"2\n")
        vault.workspace("topic").write("own", b"1\n")
        followed = vault.workspace("topic").update()
        vault.add_remote("origin", str(bare))
        vault.push(["topic"])
        avfs.clone_vault(str(bare), "w", branch="topic")
        other = avfs.open_vault("w")
        save(other, "topic", "b", b"3\n")
        other.push()
        save(vault, "main", "c", b"4\n")
        fetched = vault.workspace("topic").update()
        nothing = vault.workspace("main").update()

        assert [(merge.source, merge.outcome) for merge in followed] == [("main", "clean")]
        assert [(merge.source, merge.outcome) for merge in fetched] == [("origin/topic", "fast_forward")]
        assert nothing == []
        assert [vault.workspace("topic").exists(name) for name in ("a", "own", "b", "c")] == [True, True, True, False]


@pytest.mark.needs("fuse")
def test_an_update_from_a_branch_without_a_commit_claims_no_past(tmp_path: Path, mount_dir: Path) -> None:
    """The remote never had the branch."""
    clone = tmp_path / "clone"
    git("init", "-q", "-b", "main", str(clone), cwd=tmp_path)
    with (
        Avfs(mount_dir / "home") as avfs,
        avfs.fork_directory(clone, mount_dir / "work") as session,
        pytest.raises(NoUpstream, match=r"'origin' has no branch 'main', which fork 'work' follows$"),
    ):
        session.vault.workspace("work").update()


@pytest.mark.needs("fuse")
def test_an_update_says_that_the_branch_it_comes_from_is_gone(tmp_path: Path, mount_dir: Path) -> None:
    """And what else the clone has; where it goes on from another branch, it warns."""
    clone = tmp_path / "clone"
    git("init", "-q", "-b", "main", str(clone), cwd=tmp_path)
    git("commit", "-q", "--allow-empty", "-m", "one", cwd=clone)
    warned: list[str] = []
    with (
        Avfs(mount_dir / "home", on_warnings=lambda warnings: warned.extend(one.code for one in warnings)) as avfs,
        avfs.fork_directory(clone, mount_dir / "work") as session,
    ):
        vault = session.vault
        work = vault.workspace("work")
        git("branch", "-m", "main", "trunk", cwd=clone)

        with pytest.raises(NoUpstream) as gone:
            work.update()
        vault.push(["work"])
        merges = work.update()
        git("commit", "-q", "--allow-empty", "-m", "two", cwd=clone)
        with pytest.raises(NoUpstream, match="'origin' has no branch 'gone'"):
            work.update(upstream="gone")
        command = shlex.split(re.findall("`avfs (.*?)`", gone.value.hint or "")[0])
        followed = work.update(upstream=command[2])
        again = work.update()

    assert gone.value.message == "'origin' has no branch 'main', which fork 'work' follows"
    assert command == ["update", "--upstream", "origin/trunk", "work"]
    assert [merge.source for merge in followed] == [merge.source for merge in again] == ["origin/work", "origin/trunk"]
    assert [merge.source for merge in merges] == ["origin/work"]
    assert warned == ["update.upstream_gone"]


def test_a_merge_of_nothing_new_commits_nothing(tmp_path: Path) -> None:
    """Update, pull and merge leave uncommitted work uncommitted where nothing comes in."""
    bare = make_bare(tmp_path / "served.git")
    with Avfs(tmp_path / "home") as avfs:
        vault = avfs.create_vault("v")
        save(vault, "main", "a", b"1\n")
        work = vault.fork("work")
        save(vault, "work", "b", b"1\n")
        vault.add_remote("origin", str(bare))
        vault.push(["work"])
        work.write("a", b"not committed\n")
        head = vault.fork_info("work").head
        done = [*work.update(), work.merge("main"), vault.pull("work").merge]

        assert [merge.outcome for merge in done if merge is not None] == ["up_to_date"] * 3
        assert vault.fork_info("work").head == head
        assert [change.path for change in work.status().changed_files] == [b"a"]
        assert work.operations(limit=1)[0].kind == "checkpoint"


@pytest.mark.usefixtures("person")
def test_undo_brings_back_a_fork_that_git_deleted(tmp_path: Path) -> None:
    """`git push --delete` takes the branch only.

    Undo brings the fork back with its history, labels and uncommitted work.
    """
    with Avfs(tmp_path / "home") as avfs:
        vault = avfs.create_vault("v")
        save(vault, "main", "a", b"1\n")
        work = vault.fork("work")
        work.write("b", b"1\n")
        work.checkpoint("one")
        work.write("c", b"not committed\n")
        head = vault.fork_info("work").head
        for _ in range(2):
            git("push", "-q", str(vault.path), "--delete", "work", cwd=vault.path)

            assert not vault.has_fork("work")
            vault.undo(fork="work")
            work = vault.workspace("work")

            assert vault.fork_info("work").head == head
            assert (work.read("b"), work.read("c")) == (b"1\n", b"not committed\n")
            assert next(each.labels for each in work.list_checkpoints()) == ("one",)
            check_vault(vault)
        vault.redo(fork="work")

        assert not vault.has_fork("work")


@pytest.mark.parametrize("meanwhile", ["repaired", "gc", "another"])
def test_a_fork_that_git_deleted_comes_back_later(tmp_path: Path, meanwhile: str) -> None:
    """The doctor, gc and a new fork of its name leave undo all that the fork had, unsaved work and labels included."""
    with Avfs(tmp_path / "home") as avfs:
        vault = avfs.create_vault("v")
        save(vault, "main", "a", b"1\n")
        work = vault.fork("work", source="main")
        work.write(".gitignore", b"*.o\n")
        work.write("a.o", b"ignored\n")
        work.checkpoint("one")
        work.write("c", b"not committed\n")
        refs = {ref: oid for ref, oid in vault._core.refs.list("refs/").items() if "/work" in ref}
        git("branch", "-q", "-D", "work", cwd=vault.path)
        if meanwhile == "repaired":
            vault.doctor(repair=True)
        elif meanwhile == "another":
            vault.fork("work", source="main").write("other", b"")
            vault.undo(fork="work")
            vault.undo(fork="work")
        vault.gc(grace_days=0)
        assert vault.undo(fork="work").operation.description == "delete fork work with git"

        work = vault.workspace("work")
        assert (work.read("a.o"), work.read("c")) == (b"ignored\n", b"not committed\n")
        assert {ref: oid for ref, oid in vault._core.refs.list("refs/").items() if "/work" in ref} == refs
        check_vault(vault)


@pytest.mark.needs("fuse")
def test_a_fork_of_a_clone_follows_the_branch_it_was_made_from(tmp_path: Path, mount_dir: Path) -> None:
    """What is committed in the clone afterwards comes with an update, also where its branch is another one by then."""
    clone = tmp_path / "clone"
    git("init", "-q", "-b", "trunk", str(clone), cwd=tmp_path)
    (clone / "a").write_text("1\n")
    git("add", ".", cwd=clone)
    git("commit", "-qm", "one", cwd=clone)
    with Avfs(tmp_path / "home") as avfs:
        session = avfs.fork_directory(clone, mount_dir / "fix")
        (mount_dir / "fix" / "own").write_text("1\n")
        (clone / "a").write_text("2\n")
        git("commit", "-qam", "two", cwd=clone)
        git("switch", "-qc", "other", cwd=clone)
        (clone / "b").write_text("3\n")
        git("add", ".", cwd=clone)
        git("commit", "-qm", "three", cwd=clone)
        try:
            work = avfs.open_vault(avfs.list_vaults()[0].name).workspace("fix")
            merges = work.update()

            assert [(merge.source, merge.outcome) for merge in merges] == [("origin/trunk", "clean")]
            assert (work.read("a"), work.read("own"), work.exists("b")) == (b"2\n", b"1\n", False)
        finally:
            session.unmount()


@pytest.mark.usefixtures("person")
@pytest.mark.parametrize("shown", ["exec", pytest.param("mount", marks=pytest.mark.needs("fuse"))])
def test_a_fork_that_was_shown_once_takes_pushes(tmp_path: Path, mount_dir: Path, shown: str) -> None:
    """Git may move and delete the branch when nothing shows the fork.

    In the next mount git sees where the branch is.
    """
    with Avfs(tmp_path / "home") as avfs:
        vault = avfs.create_vault("v")
        save(vault, "main", "a", b"1\n")
        work = vault.fork("work")
        save(vault, "work", "b", b"1\n")
        if shown == "exec":
            assert work.exec("git", "status").exit_code == 0
        else:
            session = work.mount(mount_dir / "tree")
            git("status", cwd=mount_dir / "tree")
            session.unmount()
        clone = tmp_path / "clone"
        git("clone", "-q", "-b", "work", str(vault.path), str(clone), cwd=tmp_path)
        (clone / "c").write_bytes(b"theirs\n")
        git("add", ".", cwd=clone)
        git("commit", "-qm", "theirs", cwd=clone)
        git("push", "-q", "origin", "HEAD:work", cwd=clone)

        assert [merge.outcome for merge in work.update()][:1] == ["fast_forward"]
        result = work.exec("git", "status", "--porcelain", "--branch")

        assert result.stdout.splitlines() == [b"## work"]
        git("push", "-q", "origin", "--delete", "work", cwd=clone)

        assert not vault.has_fork("work")


def test_update_of_a_branch_that_git_made_adds_one_commit_of_ours(tmp_path: Path) -> None:
    """Records of file calls, also of ignored files, are on no branch: an update does not bring them into history."""
    with Avfs(tmp_path / "home") as avfs:
        vault = avfs.create_vault("v")
        vault.workspace().write(".gitignore", b"*.log\n")
        vault.workspace().checkpoint("one")
        clone = tmp_path / "clone"
        git("clone", "-q", str(vault.path), str(clone), cwd=tmp_path)
        (clone / "theirs").write_bytes(b"1\n")
        git("add", "theirs", cwd=clone)
        git("commit", "-qm", "first push", cwd=clone)
        git("push", "-q", "origin", "HEAD:topic", cwd=clone)
    for name in ("x.log", "mine", "more"):
        with Avfs(tmp_path / "home") as avfs:  # each records what was done at its end
            avfs.open_vault("v").workspace("topic").write(name, b"1\n")
    (clone / "theirs").write_bytes(b"2\n")
    git("commit", "-qam", "second push", cwd=clone)
    git("push", "-q", "origin", "HEAD:topic", cwd=clone)
    with Avfs(tmp_path / "home") as avfs:
        vault = avfs.open_vault("v")
        work = vault.workspace("topic")
        assert [merge.outcome for merge in work.update()] == ["clean"]
        subjects = git("log", "--format=%s", "--first-parent", "topic", cwd=vault.path).splitlines()
        assert subjects[1:] == ["save before update", "first push", *subjects[3:]]
        assert [work.read(name) for name in ("x.log", "mine", "more", "theirs")] == [b"1\n", b"1\n", b"1\n", b"2\n"]
        check_vault(vault)


@pytest.mark.parametrize("verb", ["merge", "cherry-pick"])
def test_a_push_while_conflicts_are_resolved_names_a_way_on(verb: str, work: Workspace) -> None:
    """Neither can be concluded over the push: the way that is named keeps the resolution, and works."""
    work.update()
    other = work.vault.fork("other", source="main")
    for each, text in ((work, b"ours\n"), (other, b"others\n")):
        each.write("a", text)
        each.checkpoint("changed")
    if verb == "merge":
        work.merge("other", on_conflict="workspace")
    else:
        work.cherry_pick(["other"], on_conflict="workspace")
    work.write("a", b"resolved\n")
    work.resolve("a")
    pushed = push_more(work, "pushed")

    with pytest.raises(RefConflict) as refused:
        (work.continue_merge if verb == "merge" else work.continue_rewrite)()
    assert f"`avfs {verb} --abort`" in str(refused.value.hint)
    kept = work.abort_merge().saved
    work.update()

    assert is_ancestor(work, pushed)
    assert kept is not None
    assert git("show", f"{kept}:a", cwd=work.vault.path) == "resolved"
    assert (work.read("a"), work.read("pushed")) == (b"ours\n", b"more\n")
    check_vault(work.vault)


def test_a_branch_that_was_taken_back_is_shown(work: Workspace) -> None:
    """A forced push to an older commit is told; no checkpoint brings back what it dropped, before the user says so."""
    work.update()
    work.write("b", b"mine, too\n")
    work.checkpoint("two")
    here = git("rev-parse", "main", cwd=work.vault.path)
    back = git("rev-parse", "main~1", cwd=work.vault.path)
    git("update-ref", "refs/heads/main", back, cwd=work.vault.path)

    (told,) = work.status().warnings
    work.write("c", b"new\n")
    with pytest.raises(RefConflict):
        work.checkpoint("three")
    (merge,) = work.update()

    assert told.code == "fork.moved_outside"
    assert f"back to {back[:12]}" in told.message
    head = git("rev-parse", "main", cwd=work.vault.path)
    assert (merge.outcome, merge.ours, merge.theirs, merge.commit) == ("fast_forward", back, head, head)
    assert merge.source == head[:12]
    assert here in git("rev-list", "main", cwd=work.vault.path).split()
    assert (work.read("a"), work.read("b"), work.read("c")) == (b"theirs\n", b"mine, too\n", b"new\n")
    assert work.status().warnings == ()
    work.undo()
    assert git("rev-parse", "main", cwd=work.vault.path) == back
    assert work.read("c") == b"new\n"
    check_vault(work.vault)


def _named_commits(vault: Vault) -> set[str]:
    """List the commits that the log and the workspaces of a vault name."""
    log = (vault.path / "avfs" / "oplog").read_text()
    states = [path.read_text() for path in (vault.path / "avfs" / "workspaces").glob("*/state")]
    return set(re.findall(r"(?<![0-9a-f])[0-9a-f]{40}(?![0-9a-f])", "\n".join([log, *states])))


_BEFORE: dict[str, Callable[[Workspace, Callable[[str], object]], object]] = {
    "opened": lambda work, _: work.status(),
    "checkpoint": lambda work, _: (work.write("c", b"c\n"), work.checkpoint("two")),
    "file calls": lambda work, _: (work.write("c", b"c\n"), work.status(), work.write("d", b"d\n"), work.undo()),
    "undo": lambda work, _: (work.write("c", b"c\n"), work.checkpoint("two"), work.undo()),
    "update": lambda work, push: (push("pushed"), work.update()),
    "update of both": lambda work, push: (push("pushed"), work.write("c", b"c\n"), work.update()),
    "restore": lambda work, _: (work.write("c", b"c\n"), work.checkpoint("two"), work.restore("HEAD~1")),
}


@pytest.mark.parametrize("moved", ["back", "elsewhere", "away"])
@pytest.mark.parametrize("before", _BEFORE)
def test_what_avfs_knows_stays_when_others_move_the_branch_and_git_collects(
    tmp_path: Path, before: str, moved: str
) -> None:
    """After a forced push or a deletion, git's own gc drops no commit that the log or a workspace names."""
    with Avfs(tmp_path / "home") as avfs:
        vault = avfs.create_vault("v")
        main = vault.workspace()
        main.write("a", b"1\n")
        main.checkpoint("one")
        git("update-ref", "refs/heads/fix", "main", cwd=vault.path)  # a fork that only git made
        push_more(main, "unrelated")
        work = vault.workspace("fix")

        def push(name: str) -> None:
            _push_to(vault, "fix", name)

        push("first")
        _BEFORE[before](work, push)
        work.close()
        target = {
            "back": ["refs/heads/fix", "main~1"],
            "elsewhere": ["refs/heads/fix", "main"],
            "away": ["-d", "refs/heads/fix"],
        }
        git("update-ref", *target[moved], cwd=vault.path)
        named = _named_commits(vault)
        git("gc", "--quiet", "--prune=now", cwd=vault.path)

        left = git("cat-file", "--batch-all-objects", "--batch-check=%(objectname)", cwd=vault.path).split()
        assert named, "the test looks at something"
        assert named - set(left) == set()
        assert not [each for each in vault.doctor().problems if each.severity == "error"]
        if moved == "away":
            vault.undo(fork="fix")
        restored = vault.workspace("fix")
        restored.write("more", b"more\n")
        with suppress(RefConflict):  # what others put on the branch comes in first
            restored.checkpoint("three")
        restored.update()
        restored.checkpoint("four")
        for operation in vault.operations():
            with suppress(CannotUndo, InvalidInput):  # not all of them led to a state
                vault.restore_operation(operation.id, dry_run=True)
        check_vault(vault)


def _push_to(vault: Vault, branch: str, name: str) -> None:
    """Put another commit on a branch, as a push does that git takes."""
    made = git("commit-tree", "-p", branch, "-m", name, f"{branch}^{{tree}}", cwd=vault.path)
    git("update-ref", f"refs/heads/{branch}", made, cwd=vault.path)
