"""What a workspace is known to hold after a checkpoint that found nothing new."""

from __future__ import annotations

from pathlib import Path

import pytest

from avfs_git import Avfs

pytestmark = pytest.mark.needs("git", "user-xattrs", "whiteout")


def test_a_file_that_was_too_young_does_not_stay_so(tmp_path: Path) -> None:
    """It is read once more after a command that changed nothing.

    Then the workspace is known to hold what its head does.
    """
    with Avfs(tmp_path / "h") as avfs:
        work = avfs.create_vault("v").workspace()
        work.write("file", b"written just before the checkpoint\n")
        work.checkpoint()
        opened = work._opened
        with opened.locked() as locked:  # as around a command
            locked.begin()
            locked.end()
            opened.look_anew()
        head = opened.vault.read_head(opened.fork)
        assert not opened.is_recorded_by(head)

        assert work.checkpoint().outcome == "unchanged"
        assert opened.is_recorded_by(head)


def test_new_times_are_not_forgotten(tmp_path: Path) -> None:
    """A checkpoint that finds only a new time makes no commit and does not count the time as recorded.

    The next checkpoint has it.
    """
    with Avfs(tmp_path / "h") as avfs:
        vault = avfs.create_vault("v")
        work = vault.workspace()
        work.write("file", b"content\n")
        work.checkpoint()
        work.touch("file", mtime_ns=1_000_000_000)
        opened = work._opened

        assert work.checkpoint().outcome == "unchanged"
        assert not opened.is_recorded_by(opened.vault.read_head(opened.fork))
        work.write("other", b"content\n")
        work.checkpoint()
        assert vault.fork("task").stat("file").mtime_ns == 1_000_000_000
