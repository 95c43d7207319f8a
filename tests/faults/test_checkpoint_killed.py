"""A checkpoint that dies at any of its steps: if it is in the log, so is what file calls changed before it."""

from __future__ import annotations

import shutil
from functools import partial
from pathlib import Path

import pytest

from avfs_git import Home
from tests.support.faults import die_in, git

pytestmark = [pytest.mark.needs("git", "user-xattrs", "whiteout"), pytest.mark.usefixtures("unsynced")]


def _save(home: Path) -> None:
    with Home(home) as avfs:
        work = avfs.open_vault("v").workspace()
        work.write("came", b"since\n")
        work.checkpoint()


def test_undone_and_done_again_all_files_are_back(tmp_path: Path) -> None:
    """The same steps of undo and redo lead to the files that were there.

    Nothing of the killed checkpoint is skipped.
    """
    with Home(tmp_path / "made") as avfs:
        vault = avfs.create_vault("v")
        work = vault.workspace()
        work.write("base", b"saved\n")
        work.checkpoint()
        work.write("also", b"not saved\n")
        before = git(vault.path, "rev-parse", "main")
    has_moved: set[bool] = set()
    point, is_over = 0, False
    while not is_over:
        point += 1
        home = tmp_path / str(point)
        shutil.copytree(tmp_path / "made", home, symlinks=True)
        is_over = not die_in(partial(_save, home), point)
        with Home(home) as avfs:
            vault = avfs.open_vault("v")
            work = vault.workspace()
            has_moved.add(git(vault.path, "rev-parse", "main") != before)
            if git(vault.path, "rev-parse", "main") != before:
                for turn in (vault.undo, vault.undo, vault.redo, vault.redo):
                    turn()
                    assert work.read("also") == b"not saved\n", point
                assert work.read("came") == b"since\n", point
            assert (work.read("base"), work.read("also")) == (b"saved\n", b"not saved\n"), point
        shutil.rmtree(home)
    assert has_moved == {False, True}
