"""The git directory of a live tree: there whole, or not at all, and never taken for somebody else's."""

from __future__ import annotations

import errno
import os
from itertools import count
from pathlib import Path

import pytest

from avfs_git import faults
from avfs_git.errors import HostError
from avfs_git.gitstore.refs.refs import RefChange, RefStore
from avfs_git.gitstore.repository import init_vault_repo
from avfs_git.gitstore.worktree import Worktree, find_checked_out, list_half_made
from avfs_git.paths import Oid
from tests.support.failing import FailAt
from tests.support.faults import die_in

FILES = ["HEAD", "avfs", "commondir", "gitdir", "locked"]
REF = "refs/heads/main"
A, B = Oid(b"a" * 20), Oid(b"b" * 20)


def _names(git_dir: Path) -> list[str]:
    place = git_dir / "worktrees"
    return sorted(os.listdir(place)) if place.exists() else []


@pytest.mark.usefixtures("person")
def test_one_that_dies_leaves_nothing_that_git_sees(tmp_path: Path) -> None:
    """Wherever the first mount dies, git finds all files or no directory, and the next mount makes the same one."""
    for point in count(1):
        git_dir = tmp_path / f"{point}.git"
        init_vault_repo(git_dir)
        died = die_in(lambda git_dir=git_dir: Worktree(git_dir, "main").prepare(REF, tmp_path), point)  # type: ignore[misc]  # a default binds the loop's value

        assert _names(git_dir) == ([] if died else ["main"])
        Worktree(git_dir, "main").prepare(REF, tmp_path)

        assert _names(git_dir) == ["main"]
        assert sorted(os.listdir(git_dir / "worktrees" / "main")) == [*FILES, "logs"]
        assert list((git_dir / "avfs" / "worktrees").iterdir()) == []
        if not died:
            break


def test_a_disk_that_fails_leaves_nothing_that_git_sees(git_dir: Path, tmp_path: Path) -> None:
    """As above, where the process lives on."""
    for point in range(1, 6):
        faults.arm(FailAt(point, lambda: OSError(errno.EIO, "")))
        with pytest.raises(HostError):
            Worktree(git_dir, "main").prepare(REF, tmp_path)
        faults.arm(None)

        assert _names(git_dir) == []
    Worktree(git_dir, "main").prepare(REF, tmp_path)

    assert _names(git_dir) == ["main"]


@pytest.mark.parametrize("lost", [*FILES, "logs/HEAD"])
def test_one_of_ours_that_a_power_cut_left_half_made_is_completed(git_dir: Path, tmp_path: Path, lost: str) -> None:
    """Whichever of its files is missing or empty, it is still ours."""
    for is_emptied in (False, True):
        Worktree(git_dir, "main").prepare(REF, tmp_path)
        path = git_dir / "worktrees" / "main" / lost
        path.unlink()
        if is_emptied:
            path.touch()
        listed = [path.name for path in list_half_made(git_dir)]

        assert listed == (["main"] if lost in ("HEAD", "commondir", "gitdir", "avfs") else [])
        Worktree(git_dir, "main").prepare(REF, tmp_path)

        assert _names(git_dir) == ["main"]
        assert list_half_made(git_dir) == []


@pytest.mark.parametrize("files", [{"HEAD": f"ref: {REF}\n"}, {"HEAD": f"ref: {REF}\n", "gitdir": ""}, {"HEAD": ""}])
def test_half_of_one_without_a_mark_is_in_nobodys_way(git_dir: Path, tmp_path: Path, files: dict[str, str]) -> None:
    """Git writes where a tree is before HEAD: without that it passes over the directory, and so does avfs."""
    for name in ("main", "other"):
        place = git_dir / "worktrees" / name
        place.mkdir(parents=True)
        for file, text in files.items():
            (place / file).write_text(text)

    assert [path.name for path in list_half_made(git_dir)] == ["main", "other"]
    tree = Worktree(git_dir, "main")
    assert find_checked_out(git_dir, REF, but=tree.path) is None
    assert RefStore(git_dir).find_damaged(lambda _: True) == ()
    tree.prepare(REF, tmp_path)

    assert [path.name for path in list_half_made(git_dir)] == ["other"]
    assert _names(git_dir) == ["main", "other"]


def test_one_of_another_program_is_left_alone(git_dir: Path, tmp_path: Path) -> None:
    """A working tree that somebody made by hand, or is making, has the name; ours gets another one."""
    for files in ({"HEAD": "ref: x", "gitdir": "y"}, {"locked": "initializing"}):
        place = git_dir / "worktrees" / "main"
        place.mkdir(parents=True, exist_ok=True)
        for old in place.iterdir():
            old.unlink()
        for name, text in files.items():
            (place / name).write_text(text)
        Worktree(git_dir, "main").prepare(REF, tmp_path)

        assert _names(git_dir) == ["main", "main%avfs"]
        assert sorted(os.listdir(place)) == sorted(files)
        assert list_half_made(git_dir) == []


def _move(git_dir: Path, new: Oid | None) -> None:
    refs = RefStore(git_dir)
    refs.update([RefChange(REF, refs.read(REF), new)])


def test_a_tree_that_stands_aside_leaves_its_branch_to_git(git_dir: Path, tmp_path: Path) -> None:
    """HEAD names a commit until the next mount; if the branch was moved meanwhile the index is known to be behind."""
    tree = Worktree(git_dir, "main")
    tree.prepare(REF, tmp_path)
    tree.step_aside()

    assert tree.branch() == REF  # there is no commit yet
    _move(git_dir, A)
    for new, basis in ((A, (False, None)), (B, (True, A))):
        tree.index.write_bytes(b"DIRC")
        tree.step_aside()

        assert tree.branch() is None
        _move(git_dir, new)
        tree.prepare(REF, tmp_path)

        assert tree.branch() == REF
        assert tree.basis() == basis


def test_a_head_that_git_has_moved_stays(git_dir: Path, tmp_path: Path) -> None:
    """Where somebody switched to another branch or to a commit, the tree is there again at the next mount."""
    tree = Worktree(git_dir, "main")
    tree.prepare(REF, tmp_path)
    _move(git_dir, A)
    for head in (b"ref: refs/heads/other\n", B.hex().encode() + b"\n"):
        (tree.path / "HEAD").write_bytes(head)
        tree.step_aside()
        tree.prepare(REF, tmp_path)

        assert (tree.path / "HEAD").read_bytes() == head


def test_stepping_aside_that_dies_is_completed_or_taken_back(git_dir: Path, tmp_path: Path) -> None:
    """Between its two files: the next mount finds the branch in HEAD."""
    tree = Worktree(git_dir, "main")
    _move(git_dir, A)
    for point in (1, 2):
        tree.prepare(REF, tmp_path)

        assert die_in(tree.step_aside, point)
        tree.prepare(REF, tmp_path)

        assert tree.branch() == REF
