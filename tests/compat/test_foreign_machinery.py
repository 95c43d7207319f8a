"""Git's machinery in repositories that work comes from or goes to: nothing of it runs, and none of it comes along."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from avfs_git import Avfs
from avfs_git.errors import NotAVault, RemoteAccessDenied
from avfs_git.gitstore.foreign.rebuild import rebuild_git_dir
from tests.support.servers import git
from tests.support.users import ALICE, MALLORY, as_user, give, make_traces, open_way


@pytest.fixture
def traces(tmp_path: Path) -> Path:
    """Where programs of traps leave their names."""
    return make_traces(tmp_path)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A repository with two commits."""
    root = tmp_path / "project"
    root.mkdir()
    git("init", "-q", "-b", "main", cwd=root)
    for name in ("a", "b"):
        (root / name).write_text(f"{name}\n")
        git("add", ".", cwd=root)
        git("commit", "-q", "-m", name, cwd=root)
    return root


def borrow(tmp_path: Path, source: Path, name: str) -> Path:
    """Clone a repository so that the clone borrows its objects."""
    clone = tmp_path / name
    git("clone", "-q", "--shared", str(source), str(clone), cwd=tmp_path)
    (clone / name).write_text(f"{name}\n")
    git("add", ".", cwd=clone)
    git("commit", "-q", "-m", name, cwd=clone)
    return clone


# --- alternates ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["absolute", "relative", "quoted"])
def test_what_a_source_borrows_is_in_the_vault(kind: str, project: Path, tmp_path: Path) -> None:
    """Through several repositories, however they are named; it is said, and the vault is whole when they are gone."""
    odd = borrow(tmp_path, project, 'o"dd')
    top = borrow(tmp_path, odd, "top")
    alternates = top / ".git/objects/info/alternates"
    if kind == "relative":
        alternates.write_text('../../../o"dd/.git/objects\n')
    elif kind == "quoted":
        quoted = str(odd / ".git/objects").replace('"', '\\"').replace("dd", "\\144d")
        alternates.write_text(f'# comment\n"{quoted}"\n')
    (top / ".git/objects/info/http-alternates").write_text("http://127.0.0.1:1/objects\n")
    assert git("fsck", cwd=top) is not None
    with Avfs(tmp_path / "home") as avfs, avfs.create_vault("v", source=top) as vault:
        said = [warning for warning in vault.warnings if warning.code == "import.borrowed"]
        shutil.rmtree(odd)
        shutil.rmtree(project)

        assert len(said) == 1
        assert str(tmp_path / "project/.git/objects") in said[0].message
        assert not list((vault.path / "objects/info").glob("*alternates"))
        assert vault.doctor().healthy
        assert len(vault.workspace().log()) >= 4


def test_what_is_not_there_is_said(project: Path, tmp_path: Path) -> None:
    """Objects that are lent by nobody are missed when they are needed; where they should be is told at once."""
    (project / ".git/objects/info").mkdir(exist_ok=True)
    (project / ".git/objects/info/alternates").write_text("/nowhere/objects\n")
    with Avfs(tmp_path / "home") as avfs, avfs.create_vault("v", source=project) as vault:
        assert [warning.code for warning in vault.warnings] == ["import.borrowed_missing"]


def test_borrowing_deeper_than_git_goes_is_refused(project: Path, tmp_path: Path) -> None:
    """Else history would be missing without a word."""
    above = project
    for number in range(7):
        deeper = tmp_path / f"deeper{number}"
        git("init", "-q", str(deeper), cwd=tmp_path)
        (deeper / ".git/objects/info/alternates").write_text(f"{above}/.git/objects\n")
        above = deeper
    with Avfs(tmp_path / "home") as avfs, pytest.raises(NotAVault, match="deep"):
        avfs.create_vault("v", source=above)


def test_a_quoted_alternate_leads_a_vault_nowhere(tmp_path: Path, project: Path) -> None:
    """A repository that borrows is no vault, also where git's quotes make its path look like one inside."""
    git("clone", "-q", "--bare", "--shared", str(project), "bare.git", cwd=tmp_path)
    (tmp_path / "bare.git/objects/info/alternates").write_text(f'"{project}/.git/objects"\n')
    with Avfs(tmp_path / "home") as avfs, pytest.raises(NotAVault, match="borrows"):
        avfs.open_vault(tmp_path / "bare.git")


# --- pushing into a repository of this machine ------------------------------------------------------------------


def test_a_push_to_the_origin_runs_nothing_of_it(project: Path, tmp_path: Path, traces: Path) -> None:
    """Neither hooks nor the program that lists the refs of what it borrows from."""
    clone = borrow(tmp_path, project, "clone")
    git("config", "core.alternateRefsCommand", f"touch {traces}/alternates; true", cwd=clone)
    git("config", "core.fsmonitor", f"touch {traces}/fsmonitor", cwd=clone)
    with Avfs(tmp_path / "home") as avfs, avfs.create_vault("v", source=clone) as vault:
        with vault.fork("topic") as topic:
            topic.write("new", b"new\n")
            topic.checkpoint()
        vault.push_to_origin(["topic"])
        assert git("log", "-1", "--format=%H", "topic", cwd=clone).strip() == vault.fork_info("topic").head
    assert os.listdir(traces) == []


@pytest.mark.needs("root")
@pytest.mark.parametrize("is_origin", [True, False])
def test_a_push_into_a_repository_of_another_user_is_refused(
    is_origin: bool, project: Path, tmp_path: Path, traces: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What takes it runs here, with its hooks and settings; a user whose git trusts it goes on."""
    bare = tmp_path / "bare.git"
    git("clone", "-q", "--bare", str(project), str(bare), cwd=tmp_path)
    (bare / "hooks").mkdir(exist_ok=True)
    (bare / "hooks/pre-receive").write_text(f"#!/bin/sh\ntouch {traces}/hook\n")
    (bare / "hooks/pre-receive").chmod(0o755)
    environment = {"HOME": str(tmp_path), "PATH": os.environ["PATH"]}
    with (
        Avfs(tmp_path / "home", remote_environment=environment) as avfs,
        avfs.create_vault("v", source=bare) as vault,
    ):
        vault.fork("topic").close()
        give(bare, MALLORY)
        with pytest.raises(RemoteAccessDenied, match="dubious ownership") as strange:
            avfs.clone_vault(str(bare), "again")
        assert f"safe.directory {bare}" in str(strange.value.hint)

        def push() -> None:
            if is_origin:
                vault.push_to_origin(["topic"])
            else:
                vault.push(["topic"], "origin")

        with pytest.raises(RemoteAccessDenied, match="belongs to") as denied:
            push()
        assert "safe.directory" in str(denied.value.hint)
        assert os.listdir(traces) == []
        if not is_origin:
            (tmp_path / ".gitconfig").write_text(f"[safe]\n\tdirectory = {bare}\n")
            push()
            assert os.listdir(traces) == ["hook"]


# --- submodules ------------------------------------------------------------------------------------------------


def test_a_rebuilt_repository_holds_what_the_other_does_and_runs_nothing(
    project: Path, tmp_path: Path, traces: Path
) -> None:
    """History, branches, index, stash and remotes are there; hooks, settings that run programs and links are not."""
    trap = f"touch {traces}/ran"
    (project / "a").write_text("stashed\n")
    git("stash", "-q", cwd=project)
    git("branch", "topic", cwd=project)
    (project / "staged").write_text("staged\n")
    git("add", "staged", cwd=project)
    git("remote", "add", "up", "https://example.org/x.git", cwd=project)
    git("remote", "add", "bad", f"ext::{trap}", cwd=project)
    git("config", "branch.topic.remote", "up", cwd=project)
    git("config", "branch.topic.merge", "refs/heads/topic", cwd=project)
    git("config", "branch.main.remote", f"ext::{trap}", cwd=project)
    for key in (
        "core.fsmonitor",
        "core.sshCommand",
        "core.pager",
        "filter.x.clean",
        "diff.external",
        "alias.st",
        "core.editor",
    ):
        git("config", key, trap, cwd=project)
    git("config", "include.path", str(tmp_path / "more"), cwd=project)
    (tmp_path / "more").write_text(f"[core]\n\tfsmonitor = {trap}\n")
    (project / ".git/hooks/post-checkout").write_text(f"#!/bin/sh\n{trap}\n")
    (project / ".git/hooks/post-checkout").chmod(0o755)
    (project / ".git/refs/heads/link").symlink_to("/etc/passwd")
    (project / ".git/rebase-merge").mkdir()
    (project / ".git/rebase-merge/git-rebase-todo").write_text(f"exec {trap}\n")
    (project / ".git/info/attributes").write_text("* filter=x\n")
    target = tmp_path / "new"

    rebuild_git_dir(project / ".git", target, project / ".git/objects")

    assert set(os.listdir(target)) <= {
        "HEAD",
        "ORIG_HEAD",
        "config",
        "index",
        "info",
        "logs",
        "objects",
        "packed-refs",
        "refs",
    }
    work = tmp_path / "work"
    work.mkdir()
    target.rename(work / ".git")
    for name in ("a", "b", "staged"):
        (work / name).write_text(f"{name}\n")
    assert git("status", "--short", cwd=work).strip() == "A  staged"
    assert git("stash", "list", "--format=%s", cwd=work).startswith("WIP on main")
    assert git("config", "branch.topic.remote", cwd=work).strip() == "up"
    assert set(git("remote", "-v", cwd=work).split()) == {"up", "https://example.org/x.git", "(fetch)", "(push)"}
    git("checkout", "-q", "topic", cwd=work)
    assert "touch" not in git("config", "--list", cwd=work)
    assert os.listdir(traces) == []


def test_a_submodule_of_a_source_brings_nothing_that_runs(project: Path, tmp_path: Path, traces: Path) -> None:
    """A fork of a clone has its submodules, and git there obeys nothing of the clone's."""
    outer = tmp_path / "outer"
    outer.mkdir()
    git("init", "-q", "-b", "main", cwd=outer)
    git("-c", "protocol.file.allow=always", "submodule", "add", "-q", str(project), "sub", cwd=outer)
    git("commit", "-q", "-m", "one", cwd=outer)
    git("config", "core.fsmonitor", f"touch {traces}/ran", cwd=outer / "sub")
    hook = outer / ".git/modules/sub/hooks/post-checkout"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text(f"#!/bin/sh\ntouch {traces}/hook\n")
    hook.chmod(0o755)
    with Avfs(tmp_path / "home") as avfs, avfs.create_vault("v", source=outer) as vault, vault.workspace() as work:
        assert "fsmonitor" not in work.read("sub/.git/config").decode()
        assert not work.exists("sub/.git/hooks")
        ran = work.exec(shell="git status --short; cd sub && git log --format=%s && git status --short")
        assert ran.exit_code == 0, ran
        assert b"a\n" in ran.stdout
    assert os.listdir(traces) == []


@pytest.mark.needs("root")
@pytest.mark.parametrize("is_clone", [True, False])
@pytest.mark.parametrize("kind", ["directory", "link", "pointer", "no repository"])
def test_a_nested_repository_of_another_user_brings_nothing_that_runs(
    kind: str, is_clone: bool, project: Path, tmp_path: Path, traces: Path
) -> None:
    """What is copied becomes the user's own, and git obeys that: so it is made anew, or left out and named."""
    top = tmp_path / "top"
    nested = top / "dir" / "nested"
    nested.parent.mkdir(parents=True)
    if is_clone:
        git("init", "-q", cwd=top)
    shutil.copytree(project, nested)
    git("config", "core.fsmonitor", f"touch {traces}/ran", cwd=nested)
    if kind in {"link", "pointer"}:
        (nested / ".git").rename(nested / "evil")
        if kind == "link":
            (nested / ".git").symlink_to("evil")
        else:
            (nested / ".git").write_text("gitdir: evil\n")
    elif kind == "no repository":
        shutil.rmtree(nested / ".git/refs")
    give(nested, MALLORY)
    with Avfs(tmp_path / "home") as avfs, avfs.create_vault("v", source=top) as vault, vault.workspace() as work:
        assert work.exists("dir/nested/.git") == (kind == "directory")
        assert work.exists("dir/nested/a")
        ran = work.exec(shell="cd dir/nested && git log --format=%s 2>&1 && git status --short")
        assert (ran.stdout.startswith(b"b\na\n")) == (kind == "directory")
        assert [warning.code for warning in vault.warnings if warning.code.startswith("fork.")] == [
            "fork.foreign_repository" if kind == "directory" else "fork.submodule"
        ]
    assert os.listdir(traces) == []


@pytest.mark.needs("root")
@pytest.mark.parametrize(
    "closed", [("objects",), ("config",), ("objects/pack", "index"), ("index",), ("refs/heads",), ()]
)
def test_a_nested_repository_that_another_user_has_half_closed_is_left_out(
    closed: tuple[str, ...], project: Path, tmp_path: Path
) -> None:
    """As one that is closed as a whole: the files are there, and a warning names the repository; so of each of two."""
    top = tmp_path / "top"
    for name in ("one", "two"):
        shutil.copytree(project, top / name)
        give(top / name, MALLORY)
        for inside in closed:
            (top / name / ".git" / inside).chmod(0)
    open_way(tmp_path)
    (tmp_path / "alice").mkdir()
    os.chown(tmp_path / "alice", ALICE, ALICE)

    def make() -> str:
        with Avfs(tmp_path / "alice" / "home") as avfs, avfs.create_vault("v", source=top) as vault:
            work = vault.workspace()
            assert work.exists("one/a")
            assert work.exists("one/.git") == work.exists("two/.git") == (not closed)
            return str(sorted((each.code, each.path) for each in vault.warnings if each.code.startswith("fork.")))

    code = "fork.submodule" if closed else "fork.foreign_repository"
    assert as_user(ALICE, make) == str([(code, b"one"), (code, b"two")])
