"""Pipes in the place of files of a vault: nothing waits for somebody to write into them."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from types import FrameType

import pytest

from avfs_git import Avfs
from avfs_git.errors import AvfsError
from avfs_git.workspace.vault.format import VaultLayout

pytestmark = pytest.mark.needs("git", "user-xattrs", "whiteout")
_PATIENCE_S = 30
"""After which something waits: all of it takes a fraction of a second."""


class Waits(BaseException):
    """Something waits for a pipe."""


@pytest.fixture(autouse=True)
def alarm() -> Iterator[None]:
    """Interrupt what waits."""

    def ring(_number: int, _frame: FrameType | None) -> None:
        raise Waits

    before = signal.signal(signal.SIGALRM, ring)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def use(home: Path) -> None:
    """Look at a vault, change it, and look after it; what it refuses, it refuses with an error of its own."""
    with Avfs(home) as avfs:
        for step in (
            lambda: avfs.open_vault("v").workspace("f").status(),
            lambda: avfs.open_vault("v").workspace("f").write("new", b"new"),
            lambda: avfs.open_vault("v").workspace("f").checkpoint(),
            lambda: avfs.open_vault("v").workspace("f").undo(),
            lambda: avfs.open_vault("v").fork("g", source="f"),
            lambda: avfs.open_vault("v").doctor(),
            lambda: avfs.open_vault("v").gc(),
        ):
            with suppress(AvfsError):
                step()


@pytest.mark.slow
def test_no_pipe_keeps_avfs_waiting(tmp_path: Path) -> None:
    """Whatever file of a vault a pipe replaces, every operation ends: without that file, or with the problem named."""
    home = tmp_path / "home"
    with Avfs(home) as avfs:
        vault = avfs.create_vault("v")
        vault.set_config("exec.notes", "1")
        work = vault.fork("f")
        work.write(".gitignore", b"*.o\n")
        work.write("x.o", b"ignored")
        work.checkpoint("one")
    git_dir = home / "vaults" / "v.git"
    layout = VaultLayout(git_dir).workspace("f")
    layout.copy_note.write_bytes(b"x")
    VaultLayout(git_dir).origin.write_bytes(os.fsencode(tmp_path) + b"\0")
    files = [path for path in sorted(git_dir.rglob("*")) if path.is_file() and layout.upper not in path.parents]
    found = [path.relative_to(git_dir) for path in files]
    assert len(found) > 15
    for number, name in enumerate(found):
        copy = tmp_path / str(number)
        shutil.copytree(home, copy, symlinks=True)
        place = copy / "vaults" / "v.git" / name
        place.unlink()
        os.mkfifo(place)
        signal.alarm(_PATIENCE_S)
        try:
            use(copy)
        except Waits:
            pytest.fail(f"something waits for '{name}'")
        finally:
            signal.alarm(0)
        shutil.rmtree(copy)


@pytest.mark.parametrize("name", ["logs/refs/heads/f", "worktrees/f/logs/HEAD"])
def test_a_command_runs_where_a_pipe_replaces_gits_log(tmp_path: Path, name: str) -> None:
    """Before a command, avfs makes sure that the logs are there, so that git writes to them."""
    with Avfs(tmp_path / "home") as avfs:
        vault = avfs.create_vault("v")
        with vault.fork("f") as work:
            work.write("file", b"")
            work.checkpoint()
            assert work.exec("git", "status").exit_code == 0
            log = vault.path / name
            log.unlink()
            os.mkfifo(log)
            signal.alarm(_PATIENCE_S)
            assert work.exec("true").exit_code == 0
