"""Folds of a few entries, as in maintenance: after each slice the workspace shows and knows what it did before."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from avfs_git import Workspace
from avfs_git.workspace.forks.fold import fold_some
from tests.support.faults import make_source, make_vault, read_files


def _fold_one(work: Workspace) -> int:
    with work._opened.locked() as locked:
        return fold_some(locked, 0.0)


def test_each_slice_changes_nothing(tmp_path: Path) -> None:
    """A scan after each slice finds the same files and no change, even with hiding directories and removed names."""
    with make_vault(tmp_path / "home", make_source(tmp_path / "source")) as vault:
        work = vault.workspace("work")
        work.write("dir/new", b"hides what the base has in dir\n")
        work.checkpoint("three")
        upper, before = vault._core.layout.workspace("work").upper, read_files(work)
        slices = 0
        while _fold_one(work):
            slices += 1
            with work._opened.locked() as locked, locked.changing():
                pass  # so that nothing is known

            assert work.status().changed_files == ()
            assert work.status().sidecar_changed == ()
            assert read_files(work) == before
            assert work.checkpoint().outcome == "unchanged"

        assert slices > 4
        assert list(upper.iterdir()) == []
        assert read_files(work) == before


def test_a_fold_takes_no_name_and_no_owner(tmp_path: Path) -> None:
    """A file with two names does not go, nor does a file of another user.

    The base would show two files, and of one user.
    """
    with make_vault(tmp_path / "home", make_source(tmp_path / "source")) as vault:
        work = vault.workspace("work")
        work.write("dir/one", b"1\n")
        work.link("dir/one", "two")
        work.write("dir/other", b"goes\n")
        work.write("owned", b"of another user\n")
        upper = vault._core.layout.workspace("work").upper
        if os.geteuid() == 0:
            os.chown(upper / "owned", 12345, 12345)
        work.checkpoint()
        assert vault.maintain(every_step=True).warnings == ()
        assert not work.fold()

        assert not (upper / "dir" / "other").exists()
        assert work.stat("two").nlink == 2
        work.write("two", b"written in place\n")
        assert work.read("dir/one") == b"written in place\n"
        if os.geteuid() == 0:
            assert (upper / "owned").stat().st_uid == 12345


@pytest.mark.needs("root")
@pytest.mark.parametrize("name", ["security.capability", "trusted.of-root"])
def test_a_fold_takes_no_attribute_that_no_checkpoint_holds(tmp_path: Path, name: str) -> None:
    """A program with capabilities keeps them when maintenance folds its fork."""
    value = bytes.fromhex("0100000200040000000000000000000000000000")
    with make_vault(tmp_path / "home", make_source(tmp_path / "source")) as vault:
        work = vault.workspace("work")
        upper = vault._core.layout.workspace("work").upper
        for place in ("ping", "dir"):
            work.write("ping", b"program\n") if place == "ping" else work.make_dir("dir")
            if place == "ping" or name != "security.capability":
                os.setxattr(upper / place, name, value)
        work.write("other", b"goes\n")
        work.checkpoint()
        assert vault.maintain(every_step=True).warnings == ()
        work.fold()

        assert not (upper / "other").exists()
        assert os.getxattr(upper / "ping", name) == value
        if name != "security.capability":
            assert os.getxattr(upper / "dir", name) == value


def test_a_slice_lasts_as_long_as_the_look_before_it(tmp_path: Path) -> None:
    """However short a slice and large a directory: many entries go in each, because each lists the directory anew."""
    with make_vault(tmp_path / "home", make_source(tmp_path / "source")) as vault:
        work = vault.workspace("work")
        for number in range(500):
            work.write(f"flat/{number}", b"1")
        work.checkpoint()
        with work._opened.locked() as locked:
            assert fold_some(locked, 1e-9) > 1


def test_nothing_is_folded_that_is_not_saved(tmp_path: Path) -> None:
    """With unsaved files nothing is folded, nor saved; after the next checkpoint it goes on."""
    with make_vault(tmp_path / "home", make_source(tmp_path / "source")) as vault:
        work = vault.workspace("work")
        head = vault.fork_info("work").head

        assert _fold_one(work) == 0
        work.checkpoint()

        assert _fold_one(work) == 1
        work.write("a", b"between\n")

        assert _fold_one(work) == 0
        assert vault.fork_info("work").base not in (None, head)
        assert [change.path for change in work.status().changed_files] == [b"a"]
