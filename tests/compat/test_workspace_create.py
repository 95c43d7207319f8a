"""Vaults made of directories and of git repositories, judged by git; the source is never changed."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from avfs_git.errors import HostError, InvalidName, NotAVault, RefDamaged
from avfs_git.model import Identity
from avfs_git.sdk import Avfs, Vault
from avfs_git.workspace.creation.create import create_vault
from avfs_git.workspace.vault.format import find_own
from tests.support.oracle import git
from tests.support.trees import Described, describe_dir, describe_tree

pytestmark = pytest.mark.needs("whiteout", "user-xattrs")


@pytest.fixture
def home(tmp_path: Path) -> Avfs:
    """An empty home."""
    return Avfs(tmp_path / "home", identity=Identity("Ada Author", "ada@example.org"))


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A repository with several branches and tags, and some of everything that is not committed."""
    place = tmp_path / "source"
    git("init", "-q", "-b", "work", place)
    (place / "a").write_bytes(b"one\n")
    (place / "run").write_bytes(b"#!/bin/sh\n")
    (place / "run").chmod(0o755)
    (place / "sub").mkdir()
    (place / "sub" / "b").write_bytes(b"two\n")
    (place / "link").symlink_to("a")
    (place / ".gitignore").write_bytes(b"*.log\nbuild/\n")
    (place / "kept.log").write_bytes(b"tracked although ignored\n")
    git("add", "-f", "-A", cwd=place)
    git("commit", "-q", "-m", "first", cwd=place)
    git("branch", "topic/deep", cwd=place)
    git("tag", "light", cwd=place)
    git("tag", "-a", "-m", "heavy", "heavy", cwd=place)
    (place / "a").write_bytes(b"changed\n")
    git("commit", "-q", "-am", "second", cwd=place)
    (place / "a").write_bytes(b"not committed\n")
    (place / "sub" / "b").unlink()
    (place / "staged").write_bytes(b"staged only\n")
    git("add", "staged", cwd=place)
    (place / "untracked").write_bytes(b"untracked\n")
    (place / "x.log").write_bytes(b"ignored\n")
    (place / "build" / "deep").mkdir(parents=True)
    (place / "build" / "deep" / "out").write_bytes(b"built\n")
    (place / "empty").mkdir(mode=0o700)
    (place / "secret").write_bytes(b"mode\n")
    (place / "secret").chmod(0o600)
    (place / b"\xff\xfe".decode("utf-8", "surrogateescape")).write_bytes(b"bytes\n")
    os.setxattr(place / "a", b"user.note", b"v")
    return place


def everything(directory: Path) -> dict[bytes, Described]:
    """Describe a directory with its times and all of `.git`."""
    return describe_dir(directory, times=True)


def without_git(view: dict[bytes, Described]) -> dict[bytes, Described]:
    """Leave out the repository itself, and which names are links of one file."""
    return {
        path: (*entry[:4], None, entry[5] if path else None)
        for path, entry in view.items()
        if path != b".git" and not path.startswith(b".git/")
    }


def shown(vault: Vault, fork: str | None = None) -> dict[bytes, Described]:
    """Describe what a workspace shows, in the same terms."""
    return without_git(describe_tree(vault.workspace(fork)._opened.read_view(), times=True))


def without_git_of_module(view: dict[bytes, Described]) -> dict[bytes, Described]:
    """Leave out the repository of the submodule `module`."""
    return {path: entry for path, entry in view.items() if not (path + b"/").startswith(b"module/.git/")}


def fsck(vault: Vault) -> bytes:
    """What git finds fault with."""
    return git("fsck", "--strict", "--no-dangling", "--no-progress", cwd=vault.path)


def test_repository_comes_whole_and_stays_as_it_was(home: Avfs, source: Path) -> None:
    """History, branches, tags and everything uncommitted are in the vault; the source is the same byte for byte."""
    before = everything(source)
    heads = git("for-each-ref", "--format=%(refname) %(objectname)", "refs/heads", "refs/tags", cwd=source)
    vault = home.create_vault("v", source=source)
    assert everything(source) == before
    assert shown(vault) == without_git(before)
    assert vault.info().default_fork == "work"
    there = git("for-each-ref", "--format=%(refname) %(objectname)", "refs/heads", "refs/tags", cwd=vault.path)
    differing = set(heads.splitlines()) ^ set(there.splitlines())
    assert {line.split()[0] for line in differing} <= {b"refs/heads/work"}
    assert git("log", "--format=%s", "work", cwd=vault.path).splitlines()[-2:] == [b"second", b"first"]
    git("add", "-A", cwd=source)
    assert git("rev-parse", "work^{tree}", cwd=vault.path) == git("write-tree", cwd=source)
    assert fsck(vault) == b""
    assert vault.workspace().status().clean
    home.close()


def test_history_shows_nothing_of_the_sidecar(home: Avfs, source: Path, tmp_path: Path) -> None:
    """`git log --stat` of the branch and a plain clone know only what git tracks."""
    vault = home.create_vault("v", source=source)
    work = vault.workspace()
    work.write("build/deep/more", b"x")
    work.write("a", b"next\n")
    work.checkpoint("c")
    stat = git("log", "--stat", "--format=%s", "work", cwd=vault.path)
    for name in (b"build", b"x.log", b"empty", b"meta", b"="):
        assert name not in stat, stat
    git("clone", "-q", "--branch", "work", vault.path, tmp_path / "clone")
    assert not (tmp_path / "clone" / "build").exists()
    assert git("-C", tmp_path / "clone", "for-each-ref", "refs/avfs") == b""
    home.close()


@pytest.mark.parametrize("option", ["--bare", "--mirror"])
def test_a_bare_repository_is_taken_as_one(option: str, home: Avfs, source: Path, tmp_path: Path) -> None:
    """A bare repository brings its history and branches; the files that git keeps in it are no state of a workspace."""
    git("clone", "-q", option, source, tmp_path / "bare.git")
    before = everything(tmp_path / "bare.git")
    vault = home.create_vault("v", source=tmp_path / "bare.git")
    names = ("for-each-ref", "--format=%(refname) %(objectname)", "refs/heads", "refs/tags")
    assert vault.warnings == ()
    assert everything(tmp_path / "bare.git") == before
    assert git(*names, cwd=vault.path) == git(*names, cwd=tmp_path / "bare.git")
    assert {info.name for info in vault.list_forks()} == {"work", "topic/deep"}
    work = vault.workspace()
    assert {info.path for info in work.list_dir("/")} == {b".gitignore", b"a", b"kept.log", b"link", b"run", b"sub"}
    assert work.status().clean
    work.write("a", b"next\n")
    assert work.checkpoint().outcome == "created"
    assert fsck(vault) == b""
    assert vault.doctor().problems == ()
    home.close()


def test_the_git_directory_of_a_working_tree_brings_its_history_and_says_what_it_leaves(
    home: Avfs, source: Path
) -> None:
    """Of `.git` itself, what is not committed is not imported, and a warning says so."""
    vault = home.create_vault("v", source=source / ".git")
    assert [warning.code for warning in vault.warnings] == ["import.history_only"]
    assert vault.workspace().read("a") == b"changed\n"
    home.close()


@pytest.mark.parametrize("layout", ["bare", "beside"])
def test_a_bare_repository_has_no_files_to_fork(home: Avfs, source: Path, tmp_path: Path, layout: str) -> None:
    """Its objects and refs are no files of a fork: the refusal says what can be done, alone and below a `.git` file."""
    place = bare = tmp_path / "bare.git"
    if layout == "beside":
        place, bare = tmp_path / "around", tmp_path / "around" / ".bare"
    git("clone", "-q", "--bare", source, bare)
    if layout == "beside":
        (place / ".git").write_text("gitdir: ./.bare\n")
    with pytest.raises(NotAVault, match="bare repository") as refused:
        home.fork_directory(place, tmp_path / "fork")
    assert "avfs vault create NAME --from " in (refused.value.hint or "")
    home.close()


@pytest.mark.parametrize("content", [b"", b"\0" * 41, b"garbage\n"])
def test_a_source_whose_branch_is_damaged_is_refused(home: Avfs, source: Path, content: bytes) -> None:
    """A file of the checked-out branch that holds no id, as after a power cut, is no branch without commits."""
    (source / ".git" / "refs" / "heads" / "work").write_bytes(content)
    with pytest.raises(RefDamaged, match="refs/heads/work") as refused:
        home.create_vault("v", source=source)
    assert "fsck --lost-found" in (refused.value.hint or "")
    assert [info.name for info in home.list_vaults()] == []
    with pytest.raises(RefDamaged, match="refs/heads/work"):
        home.fork_directory(source, source.parent / "fork")
    home.close()


def test_an_empty_bare_repository_is_an_empty_vault(home: Avfs, tmp_path: Path) -> None:
    """A repository without a commit has a first fork without one."""
    git("init", "-q", "--bare", "-b", "first", tmp_path / "bare.git")
    vault = home.create_vault("v", source=tmp_path / "bare.git")
    assert vault.info().default_fork == "first"
    assert vault.workspace().list_dir("/") == []
    home.close()


@pytest.mark.parametrize("is_made", [True, False], ids=["made-from-it", "opened"])
def test_a_clone_of_a_vault_is_one_without_sidecars(is_made: bool, home: Avfs, source: Path, tmp_path: Path) -> None:
    """Git does not clone what a checkpoint keeps beside its tree: the rest is there, and work goes on."""
    vault = home.create_vault("v", source=source)
    vault.workspace().write("a", b"next\n")
    one = vault.workspace().checkpoint("one").checkpoint
    assert one is not None
    git("clone", "-q", "--bare", "--no-local", vault.path, tmp_path / "clone.git")
    clone = (
        home.create_vault("w", source=tmp_path / "clone.git") if is_made else home.open_vault(tmp_path / "clone.git")
    )
    work = clone.workspace()
    assert work.read("a") == b"next\n"
    assert not work.exists("x.log")
    assert clone.show(one.id).checkpoint.sidecar is None
    fork = clone.fork("task")
    fork.write("y.log", b"ignored\n")
    assert fork.checkpoint().outcome == "created"
    fork.restore(one.id)
    assert fork.read("y.log") == b"ignored\n"
    assert fsck(clone) == b""
    assert clone.doctor().problems == ()
    home.close()


def test_clean_repository_gets_no_commit(home: Avfs, tmp_path: Path) -> None:
    """Where nothing differs from the head, the branch is the source's own."""
    place = tmp_path / "source"
    git("init", "-q", "-b", "main", place)
    (place / "a").write_bytes(b"one\n")
    git("add", "-A", cwd=place)
    git("commit", "-q", "-m", "first", cwd=place)
    (place / "empty").mkdir()
    vault = home.create_vault("v", source=place)
    assert git("rev-parse", "main", cwd=vault.path) == git("rev-parse", "main", cwd=place)
    assert vault.workspace().exists("empty")
    assert vault.workspace().status().clean
    with vault.fork("other") as other:
        assert other.exists("empty")
    home.close()


def test_packed_refs_and_packs(home: Avfs, source: Path) -> None:
    """A repository after `git gc` comes like any other."""
    git("gc", "-q", cwd=source)
    git("pack-refs", "--all", cwd=source)
    before = everything(source)
    vault = home.create_vault("v", source=source)
    assert everything(source) == before
    assert {fork.name for fork in vault.list_forks()} == {"work", "topic/deep"}
    assert vault.workspace("topic/deep").read("a") == b"one\n"
    assert fsck(vault) == b""
    home.close()


def test_detached_head(home: Avfs, source: Path) -> None:
    """A head on no branch still gives a vault that holds what the directory shows."""
    git("stash", "-q", cwd=source)
    git("checkout", "-q", "--detach", "work~1", cwd=source)
    before = everything(source)
    vault = home.create_vault("v", source=source)
    assert everything(source) == before
    assert shown(vault) == without_git(before)
    default = vault.info().default_fork
    assert default is not None
    assert vault.workspace().read("a") == b"one\n"
    assert b"first" in git("log", "--format=%s", default, cwd=vault.path)
    assert git("rev-parse", "work", cwd=vault.path) == git("rev-parse", "work", cwd=source)
    assert fsck(vault) == b""
    home.close()


def test_linked_worktree(home: Avfs, source: Path, tmp_path: Path) -> None:
    """A directory whose `.git` is a file brings the branch that is checked out there."""
    git("worktree", "add", "-q", tmp_path / "linked", "topic/deep", cwd=source)
    (tmp_path / "linked" / "new").write_bytes(b"in the linked one\n")
    before = everything(tmp_path / "linked")
    vault = home.create_vault("v", source=tmp_path / "linked")
    assert everything(tmp_path / "linked") == before
    assert shown(vault) == without_git(before)
    assert vault.info().default_fork == "topic/deep"
    assert fsck(vault) == b""
    home.close()


def test_empty_repository(home: Avfs, tmp_path: Path) -> None:
    """A repository without a commit, with and without files in it."""
    git("init", "-q", "-b", "trunk", tmp_path / "empty")
    vault = home.create_vault("v", source=tmp_path / "empty")
    assert vault.info().default_fork == "trunk"
    assert vault.workspace().list_dir() == []
    (tmp_path / "empty" / "a").write_bytes(b"x")
    other = home.create_vault("w", source=tmp_path / "empty")
    assert other.workspace().read("a") == b"x"
    assert fsck(other) == b""
    home.close()


def test_shallow_repository(home: Avfs, source: Path, tmp_path: Path) -> None:
    """A shallow clone stays shallow: its log ends where it ended, and git finds nothing missing."""
    git("clone", "-q", "--depth", "1", f"file://{source}", tmp_path / "shallow")
    before = everything(tmp_path / "shallow")
    vault = home.create_vault("v", source=tmp_path / "shallow")
    assert everything(tmp_path / "shallow") == before
    work = vault.workspace()
    work.write("a", b"next\n")
    work.checkpoint("c")
    assert [entry.checkpoint.message for entry in work.log()][-1] == "second"
    assert len(work.path_versions("a")) == 2
    assert git("log", "--format=%s", "work", cwd=vault.path).splitlines()[-1] == b"second"
    assert fsck(vault) == b""
    home.close()


@pytest.mark.ordinary
def test_what_cannot_be_read_is_named(home: Avfs, source: Path) -> None:
    """What history has, or would get, and is closed to the user: its path is in the error, and no vault is made."""
    (source / "tracked").mkdir()
    (source / "tracked" / "file").write_bytes(b"x")
    git("add", "tracked", cwd=source)
    git("commit", "-q", "-m", "tracked", cwd=source)
    (source / "open").mkdir()
    (source / "open" / "file").write_bytes(b"x")
    for place, named in ((source / "open" / "file", "'open/file'"), (source / "tracked", "'tracked'")):
        place.chmod(0)
        with pytest.raises(HostError, match=f"cannot read {named}") as refused:
            home.create_vault("v", source=source)
        place.chmod(0o700)
        assert "chmod u+rw" in str(refused.value.hint)
    (source / ".git" / "index").chmod(0)
    with pytest.raises(HostError, match="index'"):
        home.create_vault("v", source=source)
    assert home.list_vaults() == []


@pytest.mark.ordinary
@pytest.mark.parametrize("closed", ["index", "refs/heads/work", "refs/heads", "."])
def test_what_cannot_be_read_of_a_submodule_is_named(home: Avfs, source: Path, tmp_path: Path, closed: str) -> None:
    """As of the clone itself: without it, git in the fork would have all files staged as deleted, or as new."""
    outer = tmp_path / "outer"
    git("init", "-q", "-b", "main", outer)
    git("-c", "protocol.file.allow=always", "submodule", "add", "-q", source, "sub", cwd=outer)
    git("commit", "-q", "-m", "one", cwd=outer)
    place = outer / ".git" / "modules" / "sub" / closed
    mode = place.stat().st_mode
    place.chmod(0)
    try:
        with pytest.raises(HostError, match=r"Permission denied at '.*/modules/sub/"):
            home.create_vault("v", source=outer)
    finally:
        place.chmod(mode)
    assert home.list_vaults() == []


@pytest.mark.ordinary
@pytest.mark.parametrize("ignored", [False, True])
def test_what_is_not_tracked_and_cannot_be_read_is_left_out(source: Path, tmp_path: Path, ignored: bool) -> None:
    """As a volume of a container's user: git, too, goes on without it. Each fork tells it, until it can be read."""
    (source / ".gitignore").write_bytes(b"*.key\n" + b"data/\n" * ignored)
    git("add", ".gitignore", cwd=source)
    git("commit", "-q", "-m", "rules", cwd=source)
    (source / "data" / "volume").mkdir(parents=True)
    (source / "data" / "volume" / "file").write_bytes(b"x")
    (source / "data" / "volume").chmod(0)
    (source / "a.key").write_bytes(b"y")
    (source / "a.key").chmod(0)
    with Avfs(tmp_path / "home") as home:
        for name in ("one", "two"):
            fork = home.fork_directory(source, tmp_path / name)
            assert [(each.code, each.path) for each in fork.vault.warnings] == [
                ("capture.closed", b"a.key"),
                ("capture.closed", b"data/volume"),
            ]
            assert not (tmp_path / name / "a.key").exists()
            assert list((tmp_path / name / "data" / "volume").iterdir()) == []
            fork.unmount()
        (source / "data" / "volume").chmod(0o700)
        (source / "a.key").chmod(0o600)
        fork = home.fork_directory(source, tmp_path / "three")
        assert not fork.vault.warnings
        assert (tmp_path / "three" / "data" / "volume" / "file").read_bytes() == b"x"
        assert (tmp_path / "three" / "a.key").read_bytes() == b"y"
        fork.unmount()


def test_submodule_keeps_its_place_and_its_files(home: Avfs, source: Path, tmp_path: Path) -> None:
    """A submodule stays a gitlink in the tree; its files come along and come back, with a repository of their own."""
    git("-c", "protocol.file.allow=always", "submodule", "add", "-q", source, "module", cwd=source)
    git("commit", "-q", "-m", "module", cwd=source)
    (source / "module" / "local").write_bytes(b"in the submodule\n")
    before = everything(source)
    vault = home.create_vault("v", source=source)
    assert everything(source) == before
    assert without_git_of_module(shown(vault)) == without_git_of_module(without_git(before))
    assert git("rev-parse", "work:module", cwd=vault.path) == git("rev-parse", "HEAD:module", cwd=source)
    assert git("ls-tree", "work", "module", cwd=vault.path).startswith(b"160000 commit")
    work = vault.workspace()
    work.checkpoint("c")
    work.remove("module", recursive=True)
    work.checkpoint("gone")
    assert git("ls-tree", "work", "module", cwd=vault.path) == b""
    work.restore("c")
    assert git("ls-tree", "work", "module", cwd=vault.path).startswith(b"160000 commit")
    assert work.read("module/local") == b"in the submodule\n"
    work.export_path("module", tmp_path / "module")
    assert git("rev-parse", "HEAD", cwd=tmp_path / "module") == git("rev-parse", "HEAD", cwd=source / "module")
    assert git("status", "--porcelain", cwd=tmp_path / "module") == b"?? local\n"
    assert git("fsck", "--strict", "--no-dangling", "--no-progress", cwd=tmp_path / "module") == b""
    assert work.status().clean
    assert fsck(vault) == b""
    home.close()


def test_bare_submodule_place_is_an_empty_directory(home: Avfs, source: Path, tmp_path: Path) -> None:
    """A submodule that is not checked out is an empty directory, and stays a gitlink through changes around it."""
    git("-c", "protocol.file.allow=always", "submodule", "add", "-q", source, "module", cwd=source)
    git("commit", "-q", "-m", "module", cwd=source)
    git("clone", "-q", source, tmp_path / "clone")
    vault = home.create_vault("v", source=tmp_path / "clone")
    work = vault.workspace()
    assert [info.path for info in work.list_dir("module")] == []
    work.write("b", b"x")
    assert [change.path for change in work.checkpoint("c").changed_files] == [b"b"]
    assert git("rev-parse", "work:module", cwd=vault.path) == git("rev-parse", "HEAD:module", cwd=source)
    work.fold()
    work.write("module/x", b"in its place\n")
    work.checkpoint("d")
    assert git("ls-tree", "work", "module", cwd=vault.path).startswith(b"160000 commit")
    work.restore("c")
    assert not work.exists("module/x")
    assert fsck(vault) == b""
    home.close()


def test_plain_directory(home: Avfs, source: Path) -> None:
    """A directory without a repository gives one commit of what git would add."""
    shutil.rmtree(source / ".git")
    before = everything(source)
    vault = home.create_vault("v", source=source)
    assert everything(source) == before
    assert shown(vault) == without_git(before)
    git("init", "-q", source)
    git("add", "-A", cwd=source)
    assert git("rev-parse", "main^{tree}", cwd=vault.path) == git("write-tree", cwd=source)
    assert len(vault.workspace().log()) == 1
    home.close()


@pytest.mark.parametrize(("place", "left_out"), [(".avfs", [b".avfs"]), (".", [b"seal.key", b"vaults"])])
@pytest.mark.parametrize("has_git", [True, False])
def test_a_home_in_the_source_is_left_out(source: Path, place: str, left_out: list[bytes], has_git: bool) -> None:
    """A vault takes up neither itself nor the others in the home, and says so; files beside them come along."""
    if not has_git:
        shutil.rmtree(source / ".git")
    (source / "trusted-by-us").write_bytes(b"a file of the project\n")
    with Avfs(source / place) as home:
        home.create_vault("other").workspace().write("secret", b"1\n")
        (source / "current").unlink(missing_ok=True)
        for name in ("first", "again"):
            vault = home.create_vault(name, source=source)
            warned = [warning for warning in vault.warnings if warning.code == "fork.home_left_out"]
            assert sorted(warning.path or b"" for warning in warned if warning.path != b"current") == left_out
            work = vault.workspace()
            assert work.read("trusted-by-us")
            assert not [path for path in left_out if work.exists(path)]
            moved = work.import_path(source, "in", recursive=True)
            assert all(any(str(left, "ascii") in one.message for one in moved.warnings) for left in left_out)
            assert work.read("in/trusted-by-us")
            assert not [path for path in left_out if work.exists(b"in/" + path)]


def test_a_directory_called_like_that_of_a_home_comes_along(tmp_path: Path) -> None:
    """A vault below `vaults` is in a home only if the directory above looks like one; else it alone is left out."""
    top = tmp_path / "top"
    (top / "projects" / "vaults").mkdir(parents=True)
    (top / "projects" / "work").write_bytes(b"hours\n")
    (top / "projects" / "vaults" / "list").write_bytes(b"of bank vaults\n")
    place = top / "projects" / "vaults" / "v.git"
    made = create_vault(place, source=top, identity=Identity("A", "a@b"))
    assert [warning.path for warning in made.warnings] == []
    assert git("ls-tree", "-r", "--name-only", "main", cwd=place) == b"projects/vaults/list\nprojects/work\n"
    assert find_own(top, place) == {b"projects/vaults/v.git"}


def test_nested_repository_works_again_after_a_restore(home: Avfs, tmp_path: Path) -> None:
    """A repository inside a workspace is in no commit of the branch, comes back, and git works in it after export."""
    vault = home.create_vault("v")
    work = vault.workspace()
    inner = tmp_path / "inner"
    git("init", "-q", inner)
    (inner / "f").write_bytes(b"tracked there\n")
    git("add", "-A", cwd=inner)
    git("commit", "-q", "-m", "inner", cwd=inner)
    (inner / "g").write_bytes(b"untracked there\n")
    work.write("a", b"x")
    work.import_path(inner, "vendor/inner")
    assert work.checkpoint("with").changed_files[0].path == b"a"
    assert git("ls-tree", "-r", "--name-only", "main", cwd=vault.path) == b"a\n"
    work.remove("vendor", recursive=True)
    work.checkpoint("without")
    work.restore("with")
    work.export_path("/vendor/inner", tmp_path / "out")
    assert git("-C", tmp_path / "out", "status", "--short") == b"?? g\n"
    assert git("-C", tmp_path / "out", "log", "--format=%s") == b"inner\n"
    work.remove("vendor/inner/.git", recursive=True)
    assert work.checkpoint("stays").changed_files == ()
    changed = {change.path for change in work.add("vendor/inner").changed_files}
    assert changed == {b"vendor/inner/f", b"vendor/inner/g"}
    assert fsck(vault) == b""
    home.close()


def test_first_fork_has_a_name_that_forks_may_have(home: Avfs) -> None:
    """A name that no fork may have is refused before anything is made."""
    for branch in ("../x", "", "-x", "HEAD", "a..b", "x.lock"):
        with pytest.raises(InvalidName):
            home.create_vault("v", branch=branch)
    assert home.list_vaults() == []
    home.close()


@pytest.mark.parametrize("where", ["tree", "below", "info"])
def test_a_file_is_what_it_is_and_not_what_a_filter_stores_for_it(home: Avfs, tmp_path: Path, where: str) -> None:
    """Also where both are of one length, and the index says that nothing has changed."""
    place = tmp_path / "filtered"
    git("init", "-q", "-b", "main", place)
    for name in ("clean", "smudge"):
        git("config", f"filter.turn.{name}", "tr a-z n-za-m", cwd=place)
    attributes = {"tree": ".gitattributes", "below": "sub/.gitattributes", "info": ".git/info/attributes"}[where]
    (place / "sub").mkdir()
    (place / attributes).parent.mkdir(exist_ok=True)
    (place / attributes).write_text("*.txt filter=turn\n")
    (place / "sub" / "a.txt").write_text("hello\n")
    (place / "b").write_text("plain\n")
    git("add", "-A", cwd=place)
    git("commit", "-q", "-m", "first", cwd=place)
    for entry in [place / "sub" / "a.txt", place / "b"]:
        os.utime(entry, (1_600_000_000, 1_600_000_000))
    git("update-index", "--refresh", cwd=place)

    assert git("show", "HEAD:sub/a.txt", cwd=place) == b"uryyb\n"
    with home.create_vault("v", source=place) as vault, vault.workspace() as work:
        assert work.read("sub/a.txt") == b"hello\n"
        assert work.read("b") == b"plain\n"
