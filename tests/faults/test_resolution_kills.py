"""Undo of a conflict's resolution, killed at every fault point."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from avfs_git import Avfs, faults
from tests.support.failing import DieAt

pytestmark = [
    pytest.mark.slow,
    pytest.mark.needs("git", "whiteout", "user-xattrs"),
    pytest.mark.usefixtures("person"),
]


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A home whose fork `main` is in the middle of a merge with two files in conflict."""
    with Avfs(tmp_path / "home") as avfs:
        vault = avfs.create_vault("v")
        work = vault.workspace()
        for data in (b"both\n", b"theirs\n", b"ours\n"):
            fork = vault.fork("side") if data == b"theirs\n" else work
            fork.write("a", data)
            fork.write("b", data)
            fork.checkpoint()
        assert work.merge("side", on_conflict="workspace").outcome == "conflicted"
    return tmp_path / "home"


def test_a_kill_leaves_no_conflict_for_resolved(place: Path, tmp_path: Path) -> None:
    """Wherever undo of a resolution ends, a file with its markers waits to be resolved."""
    with Avfs(place) as avfs:
        avfs.open_vault("v").workspace().resolve("a", "theirs")
    for number in range(1, 100):
        home = tmp_path / f"copy{number}"
        shutil.copytree(place, home, symlinks=True)
        pid = os.fork()
        if not pid:
            try:
                with Avfs(home) as avfs:
                    work = avfs.open_vault("v").workspace()
                    faults.arm(DieAt(number))
                    work.undo()
                    os._exit(0)
            finally:
                os._exit(1)
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        with Avfs(home) as avfs:
            work = avfs.open_vault("v").workspace()
            merging = work.status().merging
            assert merging is not None
            has_markers = work.read("a").startswith(b"<<<<<<<")
            assert [one.path for one in merging.unresolved] == ([b"a", b"b"] if has_markers else [b"b"]), number
        if status == 0:
            assert has_markers
            return
        assert status == DieAt.STATUS
    pytest.fail("undo passes more points than that")
