"""A live tree's promises on the kernel's overlayfs: nobody else enters, git comes back, nothing is lost."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from avfs_git.errors import MountCovered, WorkspaceMounted
from avfs_git.host.mounts.mounts import list_mounts
from avfs_git.model import Identity, SessionState
from avfs_git.sdk import Avfs, Vault, Workspace
from tests.support.capabilities import mount as mount_file_system
from tests.support.capabilities import unmount as unmount_file_system
from tests.support.users import ALICE, as_user
from tests.support.waiting import wait_for

pytestmark = [pytest.mark.needs("root", "fuse", "overlayfs", "git", "user-xattrs", "whiteout"), pytest.mark.slow]

ADA = Identity("Ada Author", "ada@example.org")


@pytest.fixture
def vault(mount_dir: Path, tmp_path: Path) -> Iterator[Vault]:
    """A vault with a fork."""
    source = tmp_path / "source"
    source.mkdir()
    for number in range(20):
        (source / f"f{number}").write_text(f"base {number}\n")
    with Avfs(mount_dir / "h", identity=ADA) as avfs, avfs.create_vault("v", source=source) as vault:
        vault.fork("work").close()
        yield vault
    wait_for(lambda: not [mount for mount in list_mounts() if mount_dir in mount.directory.parents])


def test_what_it_stands_on_is_no_mount_of_the_user_s(vault: Vault, work: Workspace, tree: Path) -> None:
    """It is listed only for who asks."""
    with work.mount(tree, backend="overlay") as session:
        assert [info.id for info in vault.sessions()] == [session.id]
        assert [info.readonly for info in vault.sessions(bases=True)] == [True, False]
    assert vault.sessions() == []


# --- other users ------------------------------------------------------------------------------------------------------


def test_nobody_else_enters_it_and_no_state_knows(vault: Vault, work: Workspace, tree: Path, mount_dir: Path) -> None:
    """The root is closed to others for as long as overlayfs shows it.

    Checkpoints, forks and the next mount have its own mode.
    """
    mount_dir.chmod(0o755)

    def read() -> str:
        return (tree / "f1").read_text()

    work.checkpoint("before")
    with work.mount(tree, backend="overlay"):
        assert as_user(ALICE, read).startswith("PermissionError")
        (tree / "new").write_text("new\n")
        work.checkpoint("within")
        assert not [change for change in work.diff("before", "within").files if change.change.path != b"new"]
        assert stat.S_IMODE(work.stat("").mode) == 0o755
        with (
            vault.fork("other", source="work") as other,
            other.mount(tree.with_name("other"), backend="fuse") as session,
        ):
            assert stat.S_IMODE(os.stat(session.path).st_mode) == 0o755
    assert stat.S_IMODE(os.stat(vault.path / "avfs" / "workspaces" / "work" / "upper").st_mode) == 0o755
    with work.mount(tree, backend="fuse", allow_other=True):
        assert as_user(ALICE, read) == "base 1\n"
    assert work.status().clean
    with work.mount(tree, backend="overlay", allow_other=True):
        assert as_user(ALICE, read) == "base 1\n"


def test_a_death_leaves_no_other_mode(vault: Vault, work: Workspace, tree: Path) -> None:
    """If session and mount are both gone, the next process that needs the workspace gives the root its mode."""
    session = work.mount(tree, backend="overlay")
    os.kill(session.info().pid, signal.SIGKILL)
    wait_for(lambda: session.info().state is SessionState.UNATTENDED)
    subprocess.run(["umount", tree], check=True)
    assert work.status().clean
    assert stat.S_IMODE(os.stat(vault.path / "avfs" / "workspaces" / "work" / "upper").st_mode) == 0o755


def test_a_mode_that_a_program_gives_the_root_counts(work: Workspace, tree: Path) -> None:
    """It is in checkpoints; a restore brings the one before, without opening the tree to others."""
    with work.mount(tree, backend="overlay"):
        work.checkpoint("closed")
        tree.chmod(0o750)
        work.checkpoint("group")
        assert stat.S_IMODE(work.stat("").mode) == 0o750
        work.restore("closed")
        assert stat.S_IMODE(work.stat("").mode) == 0o755
    with work.mount(tree, backend="fuse"):
        assert stat.S_IMODE(tree.stat().st_mode) == 0o755


# --- what it cannot do is said ----------------------------------------------------------------------------------------


def test_a_tree_that_another_mount_covers_is_named(work: Workspace, tree: Path) -> None:
    """A change goes through the tree, and so waits until that mount is gone.

    Also where the session has died meanwhile.
    """
    with work.mount(tree, backend="overlay") as session:
        (tree / ".git").unlink()
        assert mount_file_system("another's", tree, "tmpfs")
        try:
            with pytest.raises(MountCovered, match="another's"):
                work.write("b", b"one")
            os.kill(session.info().pid, signal.SIGKILL)
            wait_for(lambda: session.info().state is SessionState.UNATTENDED)
            with pytest.raises(MountCovered, match="another's"):
                work.write("b", b"one")
            assert list(tree.iterdir()) == []
        finally:
            assert unmount_file_system(tree)
        work.write("b", b"two")
        assert (tree / ".git").exists()
        assert (tree / "b").read_bytes() == b"two"


def test_nobody_is_told_to_take_it_by_force(work: Workspace, tree: Path, mount_dir: Path) -> None:
    """Detached and in use, it stays in use until its users are done; the error says so."""
    session = work.mount(tree, backend="overlay")
    with open(tree / "f1", "rb"):
        assert session.unmount(lazy=True).outcome == "detached"
        with Avfs(mount_dir / "h", lock_timeout_s=0.1) as other, pytest.raises(WorkspaceMounted) as caught:
            other.open_vault("v").workspace("work").mount(tree)
        assert caught.value.hint == "End them: a tree on overlayfs cannot be taken from programs."
    session.wait()


# --- git --------------------------------------------------------------------------------------------------------------


def test_a_removed_link_of_git_is_told_and_comes_back(work: Workspace, tree: Path) -> None:
    """What was staged and committed is as it was.

    A repository in its place stays, and is named until it is moved away.
    """
    with work.mount(tree, backend="overlay"):
        (tree / "staged").write_text("staged\n")
        subprocess.run(["git", "add", "staged"], cwd=tree, check=True)
        (tree / ".git").unlink()
        assert [warning.code for warning in work.status().warnings] == ["git.link_removed"]
        work.write("x", b"x")
        assert work.status().warnings == ()
        said = subprocess.run(["git", "status", "--short"], cwd=tree, capture_output=True, text=True, check=True).stdout
        assert said == "A  staged\n?? x\n"

        (tree / ".git").unlink()
        subprocess.run(["git", "init", "-q"], cwd=tree, check=True)
        subprocess.run(
            ["git", "-c", "user.name=a", "-c", "user.email=a@b", "commit", "-q", "--allow-empty", "-m", "own"],
            cwd=tree,
            check=True,
        )
        assert "git.own_repository" in {warning.code for warning in work.checkpoint("one").warnings}
        (tree / ".git").rename(tree / "own.git")
        work.write("x", b"y")
        assert work.status().warnings == ()
        assert subprocess.check_output(["git", "log", "--format=%s", "-1"], cwd=tree) == b"checkpoint one\n"
        assert subprocess.check_output(["git", "--git-dir=own.git", "log", "--format=%s"], cwd=tree) == b"own\n"


@pytest.mark.parametrize("kind", ["link", "broken link", "pipe"])
def test_what_a_program_puts_in_place_of_git_is_told(work: Workspace, tree: Path, kind: str) -> None:
    """Also where it is no directory: it stays until it is removed; then git works again."""
    with work.mount(tree, backend="overlay"):
        place = tree / ".git"
        place.unlink()
        if kind == "pipe":
            os.mkfifo(place)
        else:
            place.symlink_to(work.vault.path if kind == "link" else "nowhere")
        assert "git.own_repository" in {warning.code for warning in work.status().warnings}
        assert "git.own_repository" in {warning.code for warning in work.checkpoint("one").warnings}
        place.unlink()
        work.write("x", b"y")
        assert work.status().warnings == ()
        assert place.is_file()


# --- nothing is lost --------------------------------------------------------------------------------------------------

_WRITER = """
import itertools, os, sys
tree, log = sys.argv[1], open(sys.argv[2], "ab", buffering=0)
for turn in itertools.count():
    if os.path.exists(sys.argv[3]):
        break
    for number in range(20):
        said = f"{turn}.{number}"
        for name in (f"f{number}", f"new{said}"):
            mine = os.path.join(tree, f".{name}.mine")
            try:
                with open(mine, "w") as file:
                    file.write(f"{name} {said}" + chr(10))
                    file.flush()
                    os.fsync(file.fileno())
                os.rename(mine, os.path.join(tree, name))
            except FileNotFoundError:  # a restore has taken away what nobody was told of
                continue
            try:
                with open(os.path.join(tree, name), "rb") as file:
                    if not file.read():  # a restore took its file, and an undo brought it back as saved: unwritten
                        continue
            except FileNotFoundError:  # taken away after it had its name
                pass
            log.write(f"{name} {said}".encode() + bytes([10]))
"""


@pytest.mark.parametrize("backend", ["overlay", "fuse"])
def test_a_restore_takes_nothing_from_a_program_that_never_pauses(
    work: Workspace, tree: Path, tmp_path: Path, backend: str
) -> None:
    """Each new file that the program was told of is in a commit or in the tree.

    So is the last content of each file that the program replaces.
    """
    log, stop = tmp_path / "log", tmp_path / "stop"
    log.touch()
    work.checkpoint("start")
    with work.mount(tree, backend=backend):
        with subprocess.Popen([sys.executable, "-c", _WRITER, tree, log, stop]):
            try:
                for turn in range(4):
                    before = log.stat().st_size
                    wait_for(partial(_has_grown, log, before + 1_000))
                    work.restore("start")
                    if turn % 2:
                        work.undo()
                wait_for(partial(_has_grown, log, log.stat().st_size + 1_000))
            finally:
                stop.touch()  # it ends when it was told of all that it wrote
        work.checkpoint("end")
    told = dict(line.split(b" ") for line in log.read_bytes().splitlines())
    everything = ["git", "cat-file", "--batch-all-objects", "--batch", "--buffer"]
    kept = set(subprocess.check_output(everything, cwd=work.vault.path).split(b"\n"))
    assert len(told) > 20
    assert [name for name, said in told.items() if name + b" " + said not in kept] == []


def _has_grown(log: Path, size: int) -> bool:
    return log.stat().st_size > size


@pytest.mark.parametrize("backend", ["overlay", "fuse"])
def test_a_checkpoint_leaves_the_times_of_last_access(work: Workspace, tree: Path, backend: str) -> None:
    """A checkpoint reads new files and lists their directories, but no program has read them."""
    long_ago = 1_000_000_000
    with work.mount(tree, backend=backend):
        (tree / "d").mkdir()
        (tree / "d" / "f").write_text("new\n")
        for path in (tree / "d" / "f", tree / "d"):
            os.utime(path, (long_ago, long_ago))
        work.checkpoint("read")
    with work.mount(tree, backend=backend):  # the kernel knows no times any more
        assert [(tree / name).stat().st_atime for name in ("d/f", "d")] == [long_ago] * 2
