"""Work that goes back to the user's own repository: branches by `push --origin`, files by `apply`."""

from __future__ import annotations

import os
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from avfs_git import faults
from avfs_git.errors import (
    ApplyConflict,
    ForkNotFound,
    HostError,
    InvalidInput,
    PathNotFound,
    PushRejected,
    RemoteNotFound,
)
from avfs_git.sdk import Avfs, Vault
from tests.support.failing import FailAt
from tests.support.servers import git

Shown = dict[str, tuple[int, bytes]]


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A repository with a commit, something staged, something changed and hooks that must not run."""
    root = tmp_path / "project"
    (root / "dir").mkdir(parents=True)
    for name in ("a", "b", "dir/c", "staged", "tool"):
        (root / name).write_text(f"{name}\n")
    git("init", "-q", "-b", "main", cwd=root)
    git("add", ".", cwd=root)
    git("commit", "-q", "-m", "one", cwd=root)
    (root / "staged").write_text("staged\n\n")
    git("add", "staged", cwd=root)
    (root / "b").write_text("mine, not committed\n")
    for name in (
        "pre-receive",
        "update",
        "post-receive",
        "post-update",
        "reference-transaction",
        "push-to-checkout",
        "pre-commit",
    ):
        hook = root / ".git/hooks" / name
        hook.parent.mkdir(exist_ok=True)
        hook.write_text(f"#!/bin/sh\ntouch {tmp_path}/hook-ran\nexit 1\n")
        hook.chmod(0o755)
    git("config", "receive.denyCurrentBranch", "updateInstead", cwd=root)
    return root


@pytest.fixture
def vault(tmp_path: Path, project: Path) -> Iterator[Vault]:
    """A vault made from it."""
    with Avfs(tmp_path / "home") as avfs:
        yield avfs.create_vault("v", source=project)


def look(root: Path) -> Shown:
    """Read every file of a directory, git's own apart from the index and HEAD left out."""
    found: Shown = {}
    for path in sorted(root.rglob("*")):
        name = str(path.relative_to(root))
        if (not name.startswith(".git/") or name in {".git/index", ".git/HEAD", ".git/config"}) and (
            path.is_symlink() or path.is_file()
        ):
            content = os.fsencode(path.readlink()) if path.is_symlink() else path.read_bytes()
            found[name] = (path.lstat().st_mode & 0o7777, content)
    return found


def test_branches_go_back_and_nothing_else_changes(tmp_path: Path, project: Path, vault: Vault) -> None:
    """`push --origin` makes a branch in the user's repository; index, files, HEAD and hooks stay as they were."""
    before = look(project)
    fork = vault.fork("topic")
    fork.write("new", b"1\n")
    fork.checkpoint("one")
    pushed = vault.push_to_origin(["topic"])

    assert [(ref.ref, ref.outcome) for ref in pushed.refs] == [("refs/heads/topic", "new")]
    assert git("rev-parse", "topic", cwd=project) == vault.fork_info("topic").head
    assert look(project) == before
    assert not (tmp_path / "hook-ran").exists()
    assert git("fsck", "--strict", cwd=project) == ""


def test_a_branch_that_is_checked_out_there_is_refused(project: Path, vault: Vault) -> None:
    """The user's checked-out branch never moves, whatever their configuration allows to pushes."""
    before = look(project)
    vault.workspace("main").write("new", b"1\n")
    vault.workspace("main").checkpoint("one")

    with pytest.raises(PushRejected) as refused:
        vault.push_to_origin(["main"])

    assert "is checked out there" in str(refused.value.hint)
    assert look(project) == before


def test_only_a_vault_made_from_a_repository_has_an_origin(tmp_path: Path) -> None:
    """Without one, and with one that is no directory, there is an error and nothing is sent."""
    with Avfs(tmp_path / "home") as avfs:
        vault = avfs.create_vault("v")
        vault.workspace().write("a", b"1")
        vault.workspace().checkpoint()
        with pytest.raises(RemoteNotFound):
            vault.push_to_origin()
        vault.add_remote("origin", "https://example.org/x")
        vault.fork("f").close()
        with pytest.raises(InvalidInput) as refused:
            vault.push_to_origin(["f"])
        assert refused.value.hint == "Push to it with `avfs push --remote origin f`."


def test_changes_are_laid_on_the_working_tree(project: Path, vault: Vault) -> None:
    """Files are added, changed, made executable, replaced by links and removed.

    What the user has besides stays, unstaged.
    """
    before = look(project)
    fork = vault.fork("topic")
    fork.write("a", b"changed\n")
    fork.write("deep/er/new", b"new\n")
    fork.chmod("tool", 0o755)
    fork.remove("dir", recursive=True)
    fork.write("dir", b"a file now\n")
    fork.symlink("link", b"a")
    fork.checkpoint("one")

    planned = vault.apply("topic", project, dry_run=True)
    unchanged = look(project)
    applied = vault.apply("topic", project)
    again = vault.apply("topic", project)

    after = look(project)
    assert unchanged == before
    assert [change.path for change in planned.changed_files] == [
        b"a",
        b"deep/er/new",
        b"dir",
        b"dir/c",
        b"link",
        b"tool",
    ]
    assert applied.changed_files == planned.changed_files
    assert again.changed_files == ()
    assert (after["a"][1], after["deep/er/new"][1], after["dir"][1], after["link"][1]) == (
        b"changed\n",
        b"new\n",
        b"a file now\n",
        b"a",
    )
    assert after["tool"][0] & 0o111
    assert {name: after[name] for name in ("b", "staged", ".git/index", ".git/HEAD")} == {
        name: before[name] for name in ("b", "staged", ".git/index", ".git/HEAD")
    }
    assert git("diff", "--cached", "--name-only", cwd=project) == "staged"


def test_the_users_own_changes_are_never_overwritten(project: Path, vault: Vault) -> None:
    """One file that both have changed stops all of it; work that the fork began with is no change of the user's."""
    fork = vault.fork("topic")
    fork.write("b", b"continued from what was not committed\n")
    fork.write("a", b"changed\n")
    fork.checkpoint("one")
    (project / "a").write_text("mine\n")
    before = look(project)

    with pytest.raises(ApplyConflict) as refused:
        vault.apply("topic", project)
    kept = look(project)
    partly = vault.apply("topic", project, paths=["b"])

    assert refused.value.details["paths"] == ["a"]
    assert kept == before
    assert [change.path for change in partly.changed_files] == [b"b"]
    assert (project / "b").read_bytes() == b"continued from what was not committed\n"


def test_what_a_sparse_checkout_leaves_out_is_no_change_of_the_users(tmp_path: Path) -> None:
    """A file that the fork changed is written; one that it removed is named."""
    root = tmp_path / "sparse"
    git("init", "-q", "-b", "main", str(root), cwd=tmp_path)
    for name in ("d/x", "e/y", "e/z", "e/kept"):
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).write_text(f"{name}\n")
    git("add", ".", cwd=root)
    git("commit", "-qm", "one", cwd=root)
    git("sparse-checkout", "set", "--cone", "--sparse-index", "d", cwd=root)
    with Avfs(tmp_path / "home") as avfs:
        vault = avfs.create_vault("v", source=root)
        fork = vault.fork("topic")
        fork.write("e/y", b"changed\n")
        fork.remove("e/z")
        fork.checkpoint("two")
        result = vault.apply("topic", root)
    assert [(warning.code, warning.path) for warning in result.warnings] == [("apply.left_out", b"e/z")]
    assert [path.name for path in (root / "e").iterdir()] == ["y"]
    assert git("status", "--short", cwd=root).strip() == "M e/y"


def test_a_directory_in_the_place_of_a_file_is_applied_again(project: Path, vault: Vault) -> None:
    """The next times, what stands there is what was written, also after the fork has gone on.

    An edit below is a conflict.
    """
    fork = vault.fork("topic")
    fork.remove("a")
    fork.write("a/q", b"1\n")
    fork.checkpoint("one")
    vault.apply("topic", project)
    assert vault.apply("topic", project).changed_files == ()
    fork.write("a/q", b"2\n")
    fork.write("c", b"new\n")
    fork.checkpoint("two")
    vault.apply("topic", project)
    assert ((project / "a/q").read_bytes(), (project / "c").read_bytes()) == (b"2\n", b"new\n")
    (project / "a/q").write_bytes(b"mine\n")
    with pytest.raises(ApplyConflict, match="a/q"):
        vault.apply("topic", project)
    assert (project / "a/q").read_bytes() == b"mine\n"


def test_what_the_user_has_committed_and_the_fork_has_merged_is_no_edit(tmp_path: Path) -> None:
    """The fork goes on from the user's commit, also of what it had applied before. Edits beside it are conflicts.

    So is a file whose uncommitted state the fork began with, and that the user has taken back: no commit says that.
    """
    root = tmp_path / "clone"
    root.mkdir()
    git("init", "-q", "-b", "main", cwd=root)
    for name in ("a", "b", "gone"):
        (root / name).write_text("".join(f"{number}\n" for number in range(9)))
    git("add", ".", cwd=root)
    git("commit", "-qm", "one", cwd=root)
    (root / "b").write_text("not committed\n")
    with Avfs(tmp_path / "home") as avfs:
        vault = avfs.create_vault("v", source=root)
        fork = vault.fork("topic")
        fork.write("a", fork.read("a").replace(b"4", b"four"))
        fork.checkpoint("two")
        vault.apply("topic", root)
        (root / "a").write_bytes((root / "a").read_bytes().replace(b"0", b"zero"))
        git("rm", "-q", "gone", cwd=root)
        git("commit", "-qm", "three", "a", "gone", cwd=root)
        fork.write("a", fork.read("a").replace(b"four", b"iv"))
        fork.checkpoint("four")
        with pytest.raises(ApplyConflict, match="'a'"):
            vault.apply("topic", root)
        vault.fetch()
        fork.merge("origin/main", strategy="ours")
        fork.write("gone", b"again\n")
        fork.write("a", fork.read("a").replace(b"8", b"eight"))
        fork.checkpoint("five")
        (root / "a").write_text("mine\n")
        with pytest.raises(ApplyConflict, match="'a'"):
            vault.apply("topic", root)
        git("checkout", "-q", "a", cwd=root)
        assert {change.path for change in vault.apply("topic", root).changed_files} == {b"a", b"gone"}
        assert (root / "a").read_text().split() == ["zero", *"123", "iv", *"567", "eight"]
        git("checkout", "-q", "b", cwd=root)
        fork.write("b", b"not committed, and more\n")
        fork.checkpoint("six")
        with pytest.raises(ApplyConflict, match="'b'"):
            vault.apply("topic", root)


@pytest.mark.parametrize("is_fetched", [False, True])
def test_what_the_fork_has_only_merged_is_no_change_of_the_forks(tmp_path: Path, *, is_fetched: bool) -> None:
    """What the user has committed, and reverted since, is not written again; what the fork has made of it is."""
    root = tmp_path / "clone"
    git("init", "-q", "-b", "main", str(root), cwd=tmp_path)
    for name in ("bad", "back", "gone"):
        (root / name).write_text("good\n")
    git("add", ".", cwd=root)
    git("commit", "-qm", "one", cwd=root)
    with Avfs(tmp_path / "home") as avfs:
        vault = avfs.create_vault("v", source=root)
        fork = vault.fork("topic")
        fork.write("mine", b"1\n")
        fork.checkpoint("two")
        for name in ("bad", "back", "leaked"):
            (root / name).write_text("bad\n")
        git("rm", "-q", "gone", cwd=root)
        git("add", ".", cwd=root)
        git("commit", "-qm", "three", cwd=root)
        vault.fetch()
        fork.merge("origin/main")
        fork.write("back", b"good\n")
        fork.write("mine", b"2\n")
        fork.checkpoint("four")
        git("checkout", "-q", "HEAD~1", "bad", "gone", cwd=root)
        git("rm", "-q", "leaked", cwd=root)
        git("commit", "-qm", "five", cwd=root)
        if is_fetched:
            vault.fetch()
        applied = vault.apply("topic", root)
        assert [change.path for change in applied.changed_files] == [b"back", b"mine"]
        assert {name: data for name, (_, data) in look(root).items() if not name.startswith(".git")} == {
            **dict.fromkeys(("back", "bad", "gone"), b"good\n"),
            "mine": b"2\n",
        }
        fork.write("back", b"bad\n")
        fork.checkpoint("after all")
        assert [change.path for change in vault.apply("topic", root).changed_files] == [b"back"]
        assert (root / "back").read_text() == "bad\n"
        fork.write("bad", b"worse\n")
        fork.checkpoint("five")
        with pytest.raises(ApplyConflict, match="'bad'"):
            vault.apply("topic", root)


@pytest.mark.parametrize("how", ["straight", "by a branch"])
def test_what_the_user_has_committed_of_the_forks_and_reverted_to_is_the_users(tmp_path: Path, how: str) -> None:
    """Once the fork has the commit that changed it again, `apply` no longer takes it for what it has written."""
    root = tmp_path / "clone"
    git("init", "-q", "-b", "main", str(root), cwd=tmp_path)
    (root / "edited").write_text("old\n")
    git("add", ".", cwd=root)
    git("commit", "-qm", "one", cwd=root)
    with Avfs(tmp_path / "home") as avfs:
        vault = avfs.create_vault("v", source=root)
        fork = vault.fork("topic")
        fork.write("edited", b"fork's\n")
        fork.write("added", b"fork's\n")
        fork.checkpoint("two")
        vault.apply("topic", root)
        if how == "by a branch":
            git("switch", "-qc", "side", cwd=root)
        git("add", ".", cwd=root)
        git("commit", "-qm", "taken over", cwd=root)
        vault.fetch()
        fork.merge("origin/main" if how == "straight" else "origin/side")
        (root / "edited").write_text("user's\n")
        git("rm", "-q", "added", cwd=root)
        git("commit", "-qam", "other", cwd=root)
        other = git("rev-parse", "HEAD", cwd=root).strip()
        if how == "by a branch":
            git("switch", "-q", "main", cwd=root)
            git("merge", "-q", "--no-ff", "--no-edit", "side", cwd=root)
        vault.fetch()
        assert fork.merge("origin/main").outcome == "clean"
        git("revert", "--no-edit", other, cwd=root)
        fork.write("more", b"1\n")
        fork.checkpoint("and more")
        assert [change.path for change in vault.apply("topic", root).changed_files] == [b"more"]
        assert (root / "edited").read_text() == (root / "added").read_text() == "fork's\n"
        fork.write("edited", b"more\n")
        fork.checkpoint("three")
        with pytest.raises(ApplyConflict, match="'edited'"):
            vault.apply("topic", root)
        git("reset", "-q", "--hard", "HEAD~1", cwd=root)
        assert [change.path for change in vault.apply("topic", root).changed_files] == [b"edited"]
        assert (root / "edited").read_text() == "more\n"


@pytest.mark.parametrize("is_taken_over", [False, True])
def test_what_the_user_has_committed_is_not_taken_out_with_a_merge_that_was_undone(
    tmp_path: Path, *, is_taken_over: bool
) -> None:
    """An earlier `apply` has written it together with what the fork has, and the user may have committed the whole."""
    root = tmp_path / "clone"
    git("init", "-q", "-b", "main", str(root), cwd=tmp_path)
    (root / "both").write_text("one\n\n\n\n\n\ntwo\n")
    git("add", ".", cwd=root)
    git("commit", "-qm", "one", cwd=root)
    with Avfs(tmp_path / "home") as avfs:
        vault = avfs.create_vault("v", source=root)
        fork = vault.fork("topic")
        fork.write("both", b"one\n\n\n\n\n\nfork\n")
        fork.checkpoint("two")
        (root / "both").write_text("user\n\n\n\n\n\ntwo\n")
        git("commit", "-qam", "three", cwd=root)
        vault.fetch()
        fork.merge("origin/main")
        vault.apply("topic", root)
        assert (root / "both").read_text().split() == ["user", "fork"]
        if is_taken_over:
            git("commit", "-qam", "all of it", cwd=root)
        fork.undo()
        with pytest.raises(ApplyConflict, match="'both'"):
            vault.apply("topic", root)
        fork.redo()
        fork.write("both", b"user\n\n\n\n\n\nfork, again\n")
        fork.checkpoint("four")
        assert [change.path for change in vault.apply("topic", root).changed_files] == [b"both"]
        git("commit", "-qam", "taken over", cwd=root)
        assert not vault.apply("topic", root).changed_files
        fork.write("both", b"user\n\n\n\n\n\nfork, at last\n")
        fork.checkpoint("five")
        assert [change.path for change in vault.apply("topic", root).changed_files] == [b"both"]


@pytest.mark.parametrize("line_ends", ["\n", "\r\n"])
@pytest.mark.parametrize("began", ["committed", "uncommitted", "untracked"])
@pytest.mark.parametrize("takes_over", ["", "stages", "commits"])
def test_apply_goes_on_with_what_it_wrote(tmp_path: Path, began: str, takes_over: str, line_ends: str) -> None:
    """Again and again, also where the user takes it over, as long as the files are as it left them."""
    root = tmp_path / "clone"
    git("init", "-q", "-b", "main", str(root), cwd=tmp_path)
    (root / ".gitattributes").write_text("* text eol=crlf\n" if line_ends == "\r\n" else "")
    (root / "other").write_text("0\n")
    if began != "untracked":
        (root / "f").write_bytes(f"0{line_ends}".encode())
    git("add", ".", cwd=root)
    git("commit", "-qm", "one", cwd=root)
    if began != "committed":
        (root / "f").write_bytes(f"0{line_ends}the user's{line_ends}".encode())
    with Avfs(tmp_path / "home") as avfs:
        vault = avfs.create_vault("v", source=root)
        fork = vault.fork("topic")
        for number in range(1, 5):
            data = f"0{line_ends}the user's{line_ends}{number}{line_ends}".encode()
            fork.write("f", data)
            fork.write("added", data)
            fork.checkpoint(str(number))
            assert {change.path for change in vault.apply("topic", root).changed_files} == {b"added", b"f"}
            assert (root / "f").read_bytes() == (root / "added").read_bytes() == data
            if takes_over and number == 1:
                git("add", "-A", cwd=root)
            if takes_over == "commits" and number == 1:
                git("commit", "-qm", "taken over", cwd=root)


@pytest.mark.parametrize("head", ["branch", "detached"])
def test_commits_count_wherever_the_head_of_the_directory_is(tmp_path: Path, head: str) -> None:
    """On a branch that was never fetched, too: what the user reverts there is not written again, nor taken out."""
    root = tmp_path / "clone"
    git("init", "-q", "-b", "main", str(root), cwd=tmp_path)
    text = "{}\n\n\n\n\n\n{}\n"
    (root / "f").write_text(text.format("old", "old"))
    git("add", ".", cwd=root)
    git("commit", "-qm", "one", cwd=root)
    with Avfs(tmp_path / "home") as avfs:
        vault = avfs.create_vault("v", source=root)
        fork = vault.fork("topic")
        fork.write("f", text.format("old", "fork's").encode())
        fork.checkpoint("two")
        (root / "f").write_text(text.format("user's", "old"))
        git("commit", "-qam", "three", cwd=root)
        vault.fetch()
        fork.merge("origin/main")
        assert vault.apply("topic", root).changed_files
        git("switch", "-q", *(["-c", "fix"] if head == "branch" else ["--detach"]), cwd=root)
        git("commit", "-q", "--allow-empty", "-m", "not fetched", cwd=root)
        assert not vault.apply("topic", root).changed_files
        fork.undo()
        with pytest.raises(ApplyConflict, match="'f'"):
            vault.apply("topic", root)
        fork.redo()
        git("commit", "-qam", "taken over", cwd=root)
        git("revert", "--no-edit", "main", cwd=root)
        fork.write("g", b"1\n")
        fork.checkpoint("four")
        with pytest.raises(ApplyConflict, match="'f'"):
            vault.apply("topic", root)
        git("reset", "-q", "--hard", "main", cwd=root)
        git("revert", "--no-edit", "HEAD", cwd=root)
        fork.write("f", text.format("user's", "old").encode())
        fork.checkpoint("five")
        assert [change.path for change in vault.apply("topic", root).changed_files] == [b"g"]
        assert (root / "f").read_text() == text.format("old", "old")


def test_what_the_user_has_taken_over_and_goes_on_with_keeps_nothing_else(tmp_path: Path) -> None:
    """The fork has what the user has committed of it, and nothing of its own at that path any more."""
    root = tmp_path / "clone"
    git("init", "-q", "-b", "main", str(root), cwd=tmp_path)
    (root / "f").write_text("old\n\n\n\n\n")
    git("add", ".", cwd=root)
    git("commit", "-qm", "one", cwd=root)
    with Avfs(tmp_path / "home") as avfs:
        vault = avfs.create_vault("v", source=root)
        fork = vault.fork("topic")
        fork.write("f", b"fork's\n\n\n\n\n")
        fork.checkpoint("two")
        vault.apply("topic", root)
        for text in ("fork's\n\n\n\n\nuser's\n", "fork's\n\n\n\n\n"):  # a line more, and without it again
            (root / "f").write_text(text)
            git("commit", "-qam", "touched up", cwd=root)
            if "user's" in text:
                vault.fetch()
                fork.merge("origin/main")
        fork.write("g", b"1\n")
        fork.checkpoint("three")
        assert [change.path for change in vault.apply("topic", root).changed_files] == [b"g"]
        (root / "f").write_text("the user's own\n")
        fork.write("g", b"2\n")
        fork.checkpoint("four")
        assert [change.path for change in vault.apply("topic", root).changed_files] == [b"g"]
        assert (root / "f").read_text() == "the user's own\n"


@pytest.mark.parametrize("trap", ["link", "directory", "file", "fifo"])
def test_what_stands_in_the_way_is_not_followed_or_removed(
    tmp_path: Path, project: Path, vault: Vault, trap: str
) -> None:
    """What the user has where the fork has something else is a conflict, and no link leads outside."""
    fork = vault.fork("topic")
    fork.write("new/x", b"1\n")
    fork.checkpoint("one")
    outside = tmp_path / "outside"
    outside.mkdir()
    if trap == "link":
        (project / "new").symlink_to(outside)
    elif trap == "directory":
        (project / "new/x/mine").mkdir(parents=True)
    elif trap == "file":
        (project / "new").write_text("mine\n")
    else:
        (project / "new").mkdir()
        os.mkfifo(project / "new/x")
    before = look(project)

    with pytest.raises(ApplyConflict):
        vault.apply("topic", project)

    assert look(project) == before
    assert list(outside.iterdir()) == []


def test_what_a_killed_apply_has_taken_out_is_named(project: Path, vault: Vault) -> None:
    """An edit that was saved in that moment lies in the temporary file and stays there.

    Each apply names it until it is gone.
    """
    fork = vault.fork("topic")
    fork.write("dir/c", b"changed\n")
    fork.checkpoint("one")
    edit, mine = b"saved in this moment\n", project / "dir" / "c"

    def save_and_die(point: str) -> None:
        if point == "apply.made":
            mine.write_bytes(edit)
        elif point == "apply.exchanged":
            os._exit(137)

    child = os.fork()
    if child == 0:
        try:
            faults.arm(save_and_die)
            vault.apply("topic", project)
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 137

    completed, again = vault.apply("topic", project), vault.apply("topic", project, dry_run=True)

    (left,) = project.rglob(".avfs-*")
    assert (left.read_bytes(), mine.read_bytes()) == (edit, b"changed\n")
    for result in (completed, again):
        assert [(told.code, told.path) for told in result.warnings] == [
            ("apply.left", os.fsencode(left.relative_to(project)))
        ]
    mine.write_bytes(b"mine again\n")
    with pytest.raises(ApplyConflict) as refused:
        vault.apply("topic", project)
    assert refused.value.details["left"] == [os.fspath(left.relative_to(project))]
    mine.write_bytes(b"changed\n")
    left.unlink()
    assert vault.apply("topic", project).warnings == ()


def _fail_in_apply(failing: FailAt, point: str) -> None:
    if point.startswith("apply."):
        failing(point)


def _list_modes(project: Path) -> dict[str, int]:
    return {
        name: (project / name).stat().st_mode if (project / name).exists() else 0 for name in ("dir", "empty", "far")
    }


@pytest.mark.parametrize("name", ["nope", "topic@one", "HEAD"])
def test_what_is_no_fork_is_not_applied(project: Path, vault: Vault, name: str) -> None:
    """The message says so; a checkpoint of that name may be there."""
    fork = vault.fork("topic")
    fork.write("new/file", b"of the fork\n")
    fork.checkpoint("one")
    with pytest.raises(ForkNotFound):
        vault.apply(name, project)


def test_a_path_that_the_fork_never_had_is_not_applied(project: Path, vault: Vault) -> None:
    """A typing mistake is no success; what the fork has taken back can be named."""
    fork = vault.fork("topic")
    fork.write("new/file", b"of the fork\n")
    fork.checkpoint("one")
    for path in ("nwe", "new/fiel"):
        with pytest.raises(PathNotFound):
            vault.apply("topic", project, paths=[path])
    vault.apply("topic", project, paths=["new"])
    fork.remove("new", recursive=True)
    fork.checkpoint("two")
    vault.apply("topic", project, paths=["new"])
    assert not (project / "new").exists()


@pytest.mark.parametrize("is_signal", [False, True])
def test_an_apply_that_fails_puts_back_what_it_has_written(project: Path, vault: Vault, is_signal: bool) -> None:
    """Wherever the disk refuses, or Ctrl-C comes, all is as it was, also permissions.

    The same command then writes all.
    """
    (project / "dir/c").chmod(0o600)
    (project / "dir").chmod(0o700)
    (project / "empty").mkdir(mode=0o750)
    before, modes = look(project), _list_modes(project)
    fork = vault.fork("topic")
    fork.make_dir("far")
    fork.make_dir("empty")
    fork.write("empty/new", b"changed\n")
    fork.move("dir/c", "far/away")
    for name in ("a", "tool"):
        fork.write(name, b"changed\n")
    fork.checkpoint("one")
    for step in range(1, 18):
        failing = FailAt(step, lambda: KeyboardInterrupt() if is_signal else OSError(28, "No space left on device"))
        faults.arm(partial(_fail_in_apply, failing))
        told = None if is_signal else r"No space.*nothing was changed there"
        try:
            with pytest.raises(KeyboardInterrupt if is_signal else HostError, match=told):
                vault.apply("topic", project)
        finally:
            faults.arm(None)
        assert (look(project), _list_modes(project)) == (before, modes), step

    vault.apply("topic", project)

    assert [(project / name).read_bytes() for name in ("a", "far/away", "tool")] == [
        b"changed\n",
        b"dir/c\n",
        b"changed\n",
    ]
    assert list(project.rglob(".avfs-*")) == []


@pytest.mark.parametrize("by_git", [False, True])
def test_what_is_closed_in_the_fork_is_closed_in_the_directory(project: Path, vault: Vault, *, by_git: bool) -> None:
    """A new file and a new directory, also after a commit of git's; the umask takes away what it always does."""
    work = vault.fork("topic")
    for name, mode in {"key": 0o600, "open": 0o666, "run": 0o700, "own/deep": 0o640}.items():
        work.write(name, b"new\n")
        work.chmod(name, mode)
    work.chmod("own", 0o750)
    work.checkpoint()
    if by_git:
        tree = git("rev-parse", "topic^{tree}", cwd=vault.path)
        commit = git("commit-tree", "-p", "topic", "-m", "by git", tree, cwd=vault.path)
        git("update-ref", "refs/heads/topic", commit, cwd=vault.path)

    vault.apply("topic", project)

    said = {name: (project / name).stat().st_mode & 0o777 for name in ("key", "open", "run", "own", "own/deep")}
    assert said == {"key": 0o600, "open": 0o644, "run": 0o700, "own": 0o750, "own/deep": 0o640}


def test_modes_and_links_that_a_clone_cannot_show_are_no_changes_of_the_users(tmp_path: Path, project: Path) -> None:
    """The clone has every file executable, and plain files for links.

    A change of the content is a conflict all the same.
    """
    git("config", "core.fileMode", "false", cwd=project)
    git("config", "core.symlinks", "false", cwd=project)
    (project / "link").write_text("a")
    target = git("hash-object", "-w", "link", cwd=project)
    git("update-index", "--add", "--cacheinfo", f"120000,{target},link", cwd=project)
    git("-c", "core.hooksPath=/dev/null", "commit", "-q", "-m", "two", cwd=project)
    for name in ("a", "link", "tool", "dir/c"):
        (project / name).chmod(0o755)
    with Avfs(tmp_path / "home") as avfs:
        vault = avfs.create_vault("v", source=project)
        fork = vault.fork("topic")
        fork.write("a", b"changed\n")
        fork.remove("link")
        fork.symlink("link", b"b")
        fork.write("dir/c", b"changed\n")
        fork.checkpoint("one")
        (project / "dir/c").write_text("mine\n")

        with pytest.raises(ApplyConflict) as refused:
            vault.apply("topic", project)
        vault.apply("topic", project, paths=["a", "link"])
        (project / "a").chmod(0o755)
        again = vault.apply("topic", project, paths=["link"])

    assert refused.value.details["paths"] == ["dir/c"]
    assert again.changed_files == ()
    assert not (project / "link").is_symlink()
    git("add", "a", "link", cwd=project)
    assert git("diff", "--cached", "--raw", "--abbrev=4", "HEAD", "--", "a", "link", cwd=project).count("M\t") == 2
    assert git("ls-files", "-s", "link", cwd=project).startswith("120000")
