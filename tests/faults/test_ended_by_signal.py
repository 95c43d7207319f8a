"""`avfs checkpoint save` ended by a signal at any fault point: a short word, the signal's status, nothing half made."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from avfs_git import Avfs, faults
from avfs_git.model import Identity
from tests.support.faults import check_vault
from tests.support.waiting import wait_for

pytestmark = pytest.mark.needs("git", "user-xattrs", "whiteout")

ADA = Identity("Ada Author", "ada@example.org")
PROJECT = Path(__file__).parents[2]
_PROGRAM = """
import os, sys
from avfs_git import faults
from avfs_git.cli.app import main
number, at = int(sys.argv[1]), int(sys.argv[2])
del sys.argv[1:3]
seen = []
def end(point):
    seen.append(point)
    if len(seen) == at:
        os.kill(os.getpid(), number)
faults.arm(end)
main()
"""
MANY = 1000


def run(home: Path, number: signal.Signals, at: int) -> subprocess.CompletedProcess[str]:
    """Save a checkpoint in a program that is sent a signal at its so-many-th fault point."""
    argv = [sys.executable, "-c", _PROGRAM, str(int(number)), str(at), "--vault", "v@work", "checkpoint", "save"]
    environment = {**os.environ, "AVFS_HOME": str(home)}
    return subprocess.run(argv, env=environment, cwd=PROJECT, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    ("number", "status", "word"), [(signal.SIGTERM, 143, "terminated"), (signal.SIGINT, 130, "interrupted")]
)
def test_nothing_half_made_stays(tmp_path: Path, number: signal.Signals, status: int, word: str) -> None:
    """The state is that of before or that of after, and is whole; the next checkpoint is like any other.

    Once the vault is open, the message names the log, which has what was done by then.
    """
    made = tmp_path / "made"
    with Avfs(made, identity=ADA) as avfs, avfs.create_vault("v") as vault:
        work = vault.fork("work")
        for at in range(20):
            work.write(f"/f{at}", os.urandom(3000))
    ended, told = 0, set[str]()
    for at in range(1, MANY):
        home = tmp_path / f"home-{at}"
        shutil.copytree(made, home, symlinks=True)
        done = run(home, number, at)
        if done.returncode == 0:
            break
        ended += 1
        assert (done.returncode, done.stdout) == (status, ""), at
        told.add(done.stderr)
        git_dir = home / "vaults" / "v.git"
        left = [
            path
            for path in git_dir.rglob("*")
            if ".tmp" in path.name or (path.suffix == ".lock" and "refs" in path.parts)
        ]
        assert left == [], at
        with Avfs(home, identity=ADA) as avfs, avfs.open_vault("v") as vault:
            work = vault.workspace("work")
            assert work.read("/f3") is not None
            work.checkpoint()
            assert work.status().changed_files == ()
            check_vault(vault)
        shutil.rmtree(home)
    assert 5 < ended < MANY - 1
    hint = "hint: What it did to forks and their files by then is in `avfs --vault v --fork work op log`.\n"
    assert told <= {f"error: {word}\n", f"error: {word}\n{hint}"}
    assert f"error: {word}\n{hint}" in told


@pytest.mark.needs("fuse")
@pytest.mark.parametrize(("backend", "is_there"), [("fuse", False), ("fuse", True), ("auto", False)])
def test_a_fork_of_a_directory_that_is_interrupted_while_it_is_mounted_is_none(
    tmp_path: Path, mount_dir: Path, backend: str, is_there: bool
) -> None:
    """Neither fork nor mount nor the directory of the mount stays, and the same command can be typed again at once."""
    source, place = mount_dir / "source", mount_dir / "place"
    source.mkdir()
    (source / "file").write_text("1")
    with Avfs(tmp_path / "home", identity=ADA) as avfs:
        avfs.fork_directory(source, place, branch="first", backend=backend).remove()

        def interrupt(point: str) -> None:
            """Raise what Ctrl-C raises, where the caller waits for the session."""
            if point != "session.awaited":
                return
            faults.arm(None)
            if is_there:
                wait_for(lambda: [session.fork for session in avfs.sessions()] == ["again"])
            raise KeyboardInterrupt

        faults.arm(interrupt)
        try:
            with pytest.raises(KeyboardInterrupt):
                avfs.fork_directory(source, place, branch="again", backend=backend)
        finally:
            faults.arm(None)
        with avfs.open_vault("source") as vault:
            assert [session.fork for session in avfs.sessions()] == []
            assert not vault.has_fork("again")
        assert not place.exists()
        avfs.fork_directory(source, place, branch="again", backend=backend).remove()


def test_ctrl_c_ends_the_program_while_it_is_imported() -> None:
    """No trace of Python's is shown; nothing has begun."""
    program = """
import os, runpy, signal, sys

class Interrupting:
    def find_spec(self, name, path=None, target=None):
        if name == "avfs_git.cli.app":
            os.kill(os.getpid(), signal.SIGINT)

sys.meta_path.insert(0, Interrupting())
runpy.run_module("avfs_git", run_name="__main__")
"""
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)

    assert (ended.returncode, ended.stderr) == (-signal.SIGINT, "")
