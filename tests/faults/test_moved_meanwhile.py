"""A program moves directories away while an operation replaces files in a workspace that overlayfs shows.

A restore and an undo end with a warning; a merge ends, or is refused as a whole. Nothing is lost, and work goes on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from avfs_git import Avfs, Workspace, faults
from avfs_git.errors import FileChanging
from avfs_git.model import Warning
from tests.support.faults import check_vault, make_source, make_vault, reachable_contents
from tests.support.servers import git
from tests.support.shown import mounted_layers, read_shown, serving

pytestmark = [
    pytest.mark.slow,
    pytest.mark.needs("root", "overlayfs", "git", "user-xattrs", "whiteout"),
]
CHANGED = "restore.changed_meanwhile"


class Mover:
    """What a program does each time that a step is done, from the n-th one on: a fault handler."""

    def __init__(self, tree: Path, first: int) -> None:
        self._tree, self._first, self.count, self.moved = tree, first, 0, 0

    def __call__(self, point: str) -> None:
        """Pass a point: move each directory away, and put a file in the place of every second one."""
        if point not in ("restore.staged", "restore.step"):
            return
        self.count += 1
        if self.count < self._first:
            return
        for directory in sorted(self._tree.iterdir()):
            if directory.is_dir() and not directory.name.startswith("."):
                self.moved += 1
                with suppress(OSError):
                    directory.rename(self._tree / f"moved-{self.moved}")
                    if self.moved % 2:
                        directory.write_bytes(b"in its place\n")


def _restore(work: Workspace) -> tuple[Warning, ...]:
    return work.restore("one").warnings


def _undo(work: Workspace) -> tuple[Warning, ...]:
    return work.undo().warnings


@pytest.fixture
def home(tmp_path: Path, mount_dir: Path) -> Iterator[Path]:
    """A vault whose fork `work` has directories, and is mounted; another fork has more in them."""
    vault = make_vault(tmp_path / "home", make_source(tmp_path / "source"))
    with vault.fork("side", source="work", at="one") as side:
        for name in ("new/deep/file", "dir/theirs", "dir/deep/theirs", "many/theirs"):
            side.write(name, b"theirs\n")
        side.checkpoint("theirs")
    work = vault.workspace("work")
    for name in ("dir2/deep/file", "many/deep/f", "b/c/d"):
        work.write(name, b"of work: %s\n" % name.encode())
    work.checkpoint("three")
    for name in ("dir2/deep/file", "many/deep/f", "b/c/d", "dir2/more"):
        work.write(name, b"uncommitted: %s\n" % name.encode())
    with mounted_layers(vault, tmp_path / "source", mount_dir / "tree"):
        vault.close()
        yield tmp_path / "home"
    with Avfs(tmp_path / "home") as avfs, avfs.open_vault("v") as vault:
        check_vault(vault)


@pytest.mark.parametrize("first", [1, 2, 4])
@pytest.mark.parametrize("run", [_restore, _undo])
def test_a_state_that_comes_back_gives_way(
    run: Callable[[Workspace], tuple[Warning, ...]], first: int, home: Path, mount_dir: Path
) -> None:
    """What could not be put back is told, and what was there is somewhere."""
    point = mount_dir / "tree"
    with serving(home, point) as work:
        before, mover = _contents(point), Mover(point, first)
        faults.arm(mover)
        try:
            told = run(work)
        finally:
            faults.arm(None)
        assert mover.moved
        assert CHANGED in [warning.code for warning in told]
        assert before - _contents(point) <= reachable_contents(work.vault.path)
        _check_work_goes_on(work, point)


@pytest.mark.parametrize("first", [1, 2, 3, 4, 5])
def test_a_merge_is_done_or_refused(first: int, home: Path, mount_dir: Path) -> None:
    """What it brings would be missing in the files, and the next checkpoint would take it from the branch."""
    point = mount_dir / "tree"
    with serving(home, point) as work:
        before, mover, refused = _contents(point), Mover(point, first), False
        faults.arm(mover)
        try:
            work.merge("side")
        except FileChanging:
            refused = True
        finally:
            faults.arm(None)
        assert refused or first > 3  # else it was done when the program began
        held = git("ls-tree", "-r", "--name-only", "work", cwd=work.vault.path)
        assert ("many/theirs" in held.splitlines()) != refused
        assert before - _contents(point) <= reachable_contents(work.vault.path)
        _check_work_goes_on(work, point)


def _contents(tree: Path) -> set[bytes]:
    return {content for _, _, content in read_shown(tree).values()}


def _check_work_goes_on(work: Workspace, point: Path) -> None:
    assert not [entry for entry in point.iterdir() if entry.name.startswith(".avfs")]
    assert work.status().warnings == ()
    work.checkpoint("after")
    work.restore("one")
    assert work.status().changed_files == ()
    assert (point / "a").read_bytes() == b"first\n"
    assert not (point / "dir2").exists()
