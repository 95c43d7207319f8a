"""A day of work with submodules in a live tree: git's data for it in the vault is the fork's, and in nobody's way."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from avfs_git import Avfs
from avfs_git.sdk import Vault, Workspace
from tests.support.faults import git

pytestmark = [pytest.mark.needs("fuse", "git", "user-xattrs", "whiteout"), pytest.mark.usefixtures("person")]

_ENV = {
    **{f"GIT_{who}_{what}": "ada@example.org" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")},
    "PATH": os.environ.get("PATH", os.defpath),
    "HOME": "/dev/null",
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_CONFIG_COUNT": "1",
    "GIT_CONFIG_KEY_0": "protocol.file.allow",
    "GIT_CONFIG_VALUE_0": "always",
}


def _git_in(place: Path, *arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=place, env=_ENV, capture_output=True, text=True, check=False)
    assert not done.returncode, done.stderr
    return done.stdout


@contextmanager
def _mounted(work: Workspace, tree: Path) -> Iterator[None]:
    session = work.mount(tree)
    try:
        yield
    finally:
        session.unmount(lazy=True)
        session.wait()


def _make_library(place: Path) -> None:
    place.mkdir()
    _git_in(place, "init", "-q", "-b", "main")
    (place / "l").write_text("1\n")
    _git_in(place, "add", "-A")
    _git_in(place, "commit", "-q", "-m", "library")


def test_a_day_of_work_with_a_submodule(tmp_path: Path, mount_dir: Path) -> None:
    """Added, worked in, moved, saved and collected; the fork deleted and brought back; removed.

    Nothing is lost on the way.
    """
    library, tree = tmp_path / "library", mount_dir / "tree"
    _make_library(library)
    tree.mkdir()
    with Avfs(mount_dir / "home") as avfs, avfs.create_vault("v") as vault:
        vault.workspace("main").write("f", b"1\n")
        vault.workspace("main").checkpoint("start")
        work = vault.fork("task", at="main")
        with _mounted(work, tree):
            _git_in(tree, "submodule", "--quiet", "add", str(library), "lib")
            _git_in(tree, "commit", "-q", "-m", "submodule")
            (tree / "lib" / "l").write_text("2\n")
            _git_in(tree / "lib", "commit", "-q", "-a", "-m", "inner")
            inner = _git_in(tree / "lib", "rev-parse", "HEAD").strip()
            _git_in(tree, "add", "lib")
            _git_in(tree, "mv", "lib", "moved")
            _git_in(tree, "commit", "-q", "-m", "moved")
            work.checkpoint("saved")
            vault.gc(keep_days=0, grace_days=0)
            assert _git_in(tree / "moved", "rev-parse", "HEAD").strip() == inner
        assert not vault.doctor().problems

        vault.delete_fork("task")
        vault.gc()
        vault.undo()
        with _mounted(vault.workspace("task"), tree):
            assert _git_in(tree / "moved", "log", "--format=%s") == "inner\nlibrary\n"
            assert (tree / "moved" / "l").read_text() == "2\n"
            assert _git_in(tree / "moved", "status", "--porcelain") == _git_in(tree, "status", "--porcelain") == ""

            _git_in(tree, "submodule", "--quiet", "deinit", "moved")
            _git_in(tree, "submodule", "--quiet", "update", "--init")
            assert (tree / "moved" / "l").read_text() == "2\n"
            _git_in(tree, "rm", "-q", "moved")
            _git_in(tree, "commit", "-q", "-m", "removed")
            assert sorted(os.listdir(tree)) == [".git", ".gitmodules", "f"]
        assert not vault.doctor().problems
        git(vault.path, "fsck", "--strict")


def test_a_submodule_that_came_with_a_clone_is_removed_in_two_steps(tmp_path: Path, mount_dir: Path) -> None:
    """Git would move its repository out of the tree, into the vault: it refuses, and nothing is lost."""
    library, clone, tree = tmp_path / "library", tmp_path / "clone", mount_dir / "tree"
    _make_library(library)
    clone.mkdir()
    tree.mkdir()
    _git_in(clone, "init", "-q", "-b", "main")
    _git_in(clone, "submodule", "--quiet", "add", str(library), "lib")
    _git_in(clone, "commit", "-q", "-m", "submodule")
    with (
        Avfs(mount_dir / "home") as avfs,
        avfs.create_vault("v", source=clone) as vault,
        _mounted(vault.workspace("main"), tree),
    ):
        with pytest.raises(AssertionError, match="cross-device"):
            _git_in(tree, "rm", "lib")
        assert _git_in(tree, "status", "--porcelain") == ""
        assert _git_in(tree / "lib", "log", "--format=%s") == "library\n"

        _git_in(tree, "rm", "--quiet", "--cached", "lib")
        shutil.rmtree(tree / "lib")
        _git_in(tree, "commit", "-q", "-m", "removed")
        assert _git_in(tree, "ls-files") == ".gitmodules\n"


def test_a_vault_outside_the_home_is_opened_with_its_submodules(tmp_path: Path, mount_dir: Path) -> None:
    """Git's data for a submodule of a live tree leaves the vault trusted, mounted or not, here or copied."""
    library, tree, place = tmp_path / "library", mount_dir / "tree", mount_dir / "v.git"
    _make_library(library)
    tree.mkdir()
    with Avfs(mount_dir / "other") as avfs, avfs.create_vault("v") as made:
        made.path.rename(place)
    with Avfs(mount_dir / "home") as avfs:
        with avfs.open_vault(place) as vault, _mounted(vault.workspace("main"), tree):
            _git_in(tree, "submodule", "--quiet", "add", str(library), "lib")
            with avfs.open_vault(place) as again:
                assert again.workspace("main").read("lib/l") == b"1\n"
        with avfs.open_vault(place) as again:
            assert again.workspace("main").read("lib/l") == b"1\n"
        shutil.copytree(place, mount_dir / "copy.git", symlinks=True)
        with avfs.open_vault(mount_dir / "copy.git") as copy:
            assert copy.workspace("main").read("lib/l") == b"1\n"


@pytest.fixture
def with_module(tmp_path: Path, mount_dir: Path) -> Iterator[Vault]:
    """A vault with a fork `a` with a submodule, which git is to check out in a live tree."""
    library, source = tmp_path / "library", tmp_path / "source"
    _make_library(library)
    _make_library(source)
    _git_in(source, "submodule", "--quiet", "add", str(library), "lib")
    _git_in(source, "commit", "-q", "-m", "submodule")
    _git_in(tmp_path, "clone", "-q", "--bare", str(source), "bare.git")
    with Avfs(mount_dir / "home") as avfs, avfs.create_vault("v", source=tmp_path / "bare.git") as vault:
        vault.fork("a", at="main")
        yield vault


def test_a_submodule_works_wherever_its_fork_is_mounted(with_module: Vault, mount_dir: Path) -> None:
    """Git wrote paths for the place of the first mount; at another depth they lead to the same repository."""
    for place in ("first", "deep/er/tree", "first"):
        tree = mount_dir / place
        tree.mkdir(parents=True, exist_ok=True)
        with _mounted(with_module.workspace("a"), tree):
            _git_in(tree, "submodule", "--quiet", "update", "--init")
            assert _git_in(tree, "status", "--porcelain") == ""
            assert _git_in(tree / "lib", "rev-parse", "--show-toplevel").strip() == os.path.realpath(tree / "lib")
            (tree / "lib" / "l").write_text(f"{place}\n")
            assert _git_in(tree / "lib", "status", "--porcelain") == " M l\n"
            _git_in(tree / "lib", "reset", "-q", "--hard")
            assert (tree / "lib" / "l").read_text() == "1\n"


def test_a_fork_has_its_own_repository_of_a_submodule(with_module: Vault, mount_dir: Path) -> None:
    """Git in a fork of a fork touches neither the files nor the branches of the first one's submodule, and works."""
    one, two = mount_dir / "one", mount_dir / "two"
    one.mkdir()
    two.mkdir()
    with _mounted(with_module.workspace("a"), one):
        _git_in(one, "submodule", "--quiet", "update", "--init")
        _git_in(one / "lib", "switch", "-q", "-c", "mine")
        other = with_module.fork("b", source="a")
        with _mounted(other, two):
            (one / "lib" / "l").write_text("work of a\n")
            (two / "lib" / "l").write_text("work of b\n")
            assert _git_in(two / "lib", "rev-parse", "--show-toplevel").strip() == os.path.realpath(two / "lib")
            _git_in(two / "lib", "commit", "-q", "-am", "in b")
            assert _git_in(two / "lib", "log", "--format=%s") == "in b\nlibrary\n"
            assert _git_in(one / "lib", "log", "--format=%s") == "library\n"
            _git_in(two / "lib", "reset", "-q", "--hard", "HEAD~")
            assert (two / "lib" / "l").read_text() == "1\n"
            assert (one / "lib" / "l").read_text() == "work of a\n"
            assert _git_in(one / "lib", "status", "--porcelain") == " M l\n"
    assert not with_module.doctor().problems


def test_a_submodule_works_after_the_home_is_moved(tmp_path: Path, mount_dir: Path) -> None:
    """One that came with a clone, and a fork's own copy of another fork's: both borrow from where the vault is now."""
    library, source, tree = tmp_path / "library", tmp_path / "source", mount_dir / "tree"
    _make_library(library)
    _make_library(source)
    _git_in(source, "submodule", "--quiet", "add", str(library), "came")
    tree.mkdir()
    with Avfs(mount_dir / "home") as avfs, avfs.create_vault("v", source=source) as vault:
        with _mounted(vault.workspace("main"), tree):
            _git_in(tree, "submodule", "--quiet", "add", str(library), "added")
        with _mounted(vault.fork("b", source="main"), tree):
            assert _git_in(tree / "added", "log", "--format=%s") == "library\n"
    (mount_dir / "home").rename(mount_dir / "moved")
    with Avfs(mount_dir / "moved") as avfs, avfs.open_vault("v") as vault:
        work = vault.workspace("b")
        for _ in range(2):
            with _mounted(work, tree):
                for name in ("came", "added"):
                    assert _git_in(tree / name, "log", "--format=%s") == "library\n"
                    assert _git_in(tree / name, "status", "--porcelain") == ""
        work.checkpoint()
        with _mounted(vault.fork("c", source="b"), tree):
            assert _git_in(tree / "came", "fsck") == ""


def test_a_pipe_in_place_of_what_a_submodule_borrows_from(with_module: Vault, mount_dir: Path) -> None:
    """Nothing waits for it: the tree is shown."""
    tree = mount_dir / "tree"
    tree.mkdir()
    work = with_module.workspace("a")
    with _mounted(work, tree):
        _git_in(tree, "submodule", "--quiet", "update", "--init")
    (alternates,) = [place / "objects/info/alternates" for place in with_module.path.glob("worktrees/*/modules/lib")]
    os.mkfifo(alternates)
    with _mounted(work, tree):
        assert (tree / "lib" / "l").read_text() == "1\n"


def test_a_linked_worktree_stays_with_its_fork(with_module: Vault, mount_dir: Path) -> None:
    """A fork of a fork has the files of a linked worktree in it, and git there cannot move the branch of that."""
    one, two = mount_dir / "one", mount_dir / "two"
    one.mkdir()
    two.mkdir()
    with _mounted(with_module.workspace("a"), one):
        _git_in(one, "worktree", "add", "-q", "trees/x", "-b", "x")
        before = _git_in(one, "rev-parse", "x")
    other = with_module.fork("b", source="a")
    with _mounted(other, one):
        assert (one / "trees" / "x" / "l").read_text() == "1\n"
        assert not (one / "trees" / "x" / ".git").exists()
        _git_in(one / "trees" / "x", "commit", "-q", "--allow-empty", "-m", "in b")
    with _mounted(with_module.workspace("a"), two):
        assert _git_in(two / "trees" / "x", "rev-parse", "HEAD") == before
        assert _git_in(two / "trees" / "x", "status", "--porcelain") == ""
        assert str(two / "trees" / "x") in _git_in(two, "worktree", "list")


def test_git_that_looks_at_a_submodule_is_not_in_the_way_of_undo(tmp_path: Path, mount_dir: Path) -> None:
    """A prompt that runs `git status` writes the submodule's index between two undos; what is staged there counts."""
    library, project, clone = (tmp_path / name for name in ("library", "project", "clone"))
    _make_library(library)
    project.mkdir()
    _git_in(project, "init", "-q", "-b", "main")
    _git_in(project, "submodule", "--quiet", "add", str(library), "lib")
    _git_in(project, "commit", "-q", "-m", "submodule")
    _git_in(tmp_path, "clone", "-q", "--recursive", str(project), str(clone))
    tree = mount_dir / "tree"
    with Avfs(mount_dir / "home") as avfs:
        session = avfs.fork_directory(clone, tree)
        try:
            with avfs.open_vault("clone") as vault:
                work = vault.workspace("tree")
                work.write("a", b"1")
                work.checkpoint("saved")
                work.write("b", b"2")
                for done in ("write 'b'", "checkpoint saved", "change 'a'"):
                    _git_in(tree, "status")
                    assert work.undo().operation.description == done
                _git_in(tree, "status")
                assert work.redo().operation.description == "change 'a'"
                (tree / "lib" / "l").write_text("2\n")
                work.checkpoint()
                _git_in(tree / "lib", "add", "l")
                assert "'lib/.git/index'" in work.undo().operation.description
                assert _git_in(tree / "lib", "diff", "--cached") == ""
        finally:
            session.unmount(lazy=True)
            session.wait()
