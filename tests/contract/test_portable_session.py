"""A session through libfuse: it lives and ends as any other, and says what it cannot do."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from avfs_git.errors import InvalidInput, MountPointUnusable, WorkspaceMounted
from avfs_git.host.mounts.mounts import list_mounts
from avfs_git.model import SessionBackend
from avfs_git.sdk import Avfs, Vault, Workspace
from tests.support.waiting import wait_for

pytestmark = [pytest.mark.needs("fuse", "libfuse", "git", "user-xattrs", "whiteout"), pytest.mark.slow]

_BY = SessionBackend.PORTABLE


@pytest.fixture
def vault(mount_dir: Path, tmp_path: Path) -> Iterator[Vault]:
    """A vault with a fork."""
    source = tmp_path / "source"
    source.mkdir()
    (source / "file").write_text("content\n")
    with Avfs(mount_dir / "h") as avfs, avfs.create_vault("v", source=source) as vault:
        vault.fork("work").close()
        yield vault
        for info in vault.sessions():
            with contextlib.suppress(ProcessLookupError):  # one that was about to end when it was listed
                os.kill(info.pid, signal.SIGKILL)
        wait_for(lambda: not vault.sessions())
    wait_for(lambda: not [mount for mount in list_mounts() if mount_dir in mount.directory.parents])


@pytest.mark.usefixtures("person")
def test_it_is_a_session_like_any_other(vault: Vault, work: Workspace, mount_dir: Path) -> None:
    """It says what it is, refuses a second one, works with git, and stops with a last checkpoint."""
    tree = mount_dir / "m"
    session = work.mount(tree, backend="portable")
    assert session.info().backend is _BY
    assert [info.backend for info in vault.sessions()] == [_BY]
    with pytest.raises(WorkspaceMounted):
        work.mount(mount_dir / "other")
    (tree / "new").write_text("new\n")
    said = subprocess.run(["git", "status", "--short"], cwd=tree, capture_output=True, text=True, check=True).stdout
    assert said == "?? new\n"
    ended = session.stop()
    assert ended.checkpoint is not None
    assert ended.checkpoint.outcome == "created"
    assert vault.sessions() == []
    assert not tree.exists()
    assert work.read("new") == b"new\n"
    with work.mount(tree, backend="fuse") as again:
        assert again.info().backend is SessionBackend.FUSE
        assert (tree / "new").read_text() == "new\n"


@pytest.mark.parametrize("way", ["umount", "SIGTERM", "SIGINT"])
def test_whatever_ends_the_mount_ends_the_session(vault: Vault, work: Workspace, mount_dir: Path, way: str) -> None:
    """The workspace is free then, and what was written is in it."""
    tree = mount_dir / "m"
    session = work.mount(tree, backend="portable")
    (tree / "new").write_text("new\n")
    if way == "umount":
        subprocess.run(
            ["umount" if not os.geteuid() else "fusermount3", *([] if not os.geteuid() else ["-u"]), tree], check=True
        )
    else:
        os.kill(session.info().pid, getattr(signal, way))
    session.wait()
    assert vault.sessions() == []
    assert work.read("new") == b"new\n"
    assert not tree.exists()


@pytest.mark.usefixtures("person")
def test_a_mount_that_is_used_is_served_to_the_end(vault: Vault, work: Workspace, mount_dir: Path) -> None:
    """Detached, it goes on for who is in it; by force, it is taken away."""
    tree = mount_dir / "m"
    session = work.mount(tree, backend="portable")
    fd = os.open(tree / "file", os.O_RDWR)
    try:
        assert session.unmount(lazy=True).outcome == "detached"
        os.write(fd, b"written later")
        assert session.unmount(force=True).outcome == "cut_off"
        with pytest.raises(OSError, match=r"not connected|abort|Input/output"):
            os.pread(fd, 10, 0)
    finally:
        with contextlib.suppress(OSError):  # the kernel asks at a close, too
            os.close(fd)
    session.wait()
    assert work.read("file") == b"written later"


@pytest.mark.usefixtures("person")
def test_a_session_that_is_killed_is_cleaned_up_by_whoever_comes_next(
    vault: Vault, work: Workspace, mount_dir: Path
) -> None:
    """No other server goes on.

    What was written is in the workspace, and the next mount stands where the dead one was.
    """
    tree = mount_dir / "m"
    session = work.mount(tree, backend="portable")
    (tree / "new").write_text("new\n")
    os.kill(session.info().pid, signal.SIGKILL)
    session.wait()
    with pytest.raises(OSError, match=r"not connected"):
        os.stat(tree)
    with work.mount(tree, backend="portable"):
        assert (tree / "new").read_text() == "new\n"
        assert [change.path for change in work.status().changed_files] == [b"new"]


def test_what_it_cannot_do_is_told(vault: Vault, work: Workspace, mount_dir: Path) -> None:
    """A place that is no good, and a name that is none, are told."""
    tree = mount_dir / "m"
    (mount_dir / "full").mkdir()
    (mount_dir / "full" / "file").touch()
    with pytest.raises(MountPointUnusable):
        work.mount(mount_dir / "full", backend="portable")
    with pytest.raises(InvalidInput, match="sftp"):
        work.mount(tree, backend="sftp")
    assert vault.sessions() == []
    with work.mount(tree, backend="portable"):
        assert (tree / "file").read_text() == "content\n"


def test_commits_are_shown_too(vault: Vault, work: Workspace, mount_dir: Path) -> None:
    """Read-only, as often as one likes; on a leash it ends with who holds that."""
    reading, writing = os.pipe()
    one = work.mount(mount_dir / "one", readonly=True, backend="portable")
    two = work.mount(mount_dir / "two", readonly=True, backend="portable", leash_fd=reading)
    os.close(reading)
    for session in (one, two):
        assert (session.path / "file").read_text() == "content\n"
        with pytest.raises(OSError, match="Read-only"):
            (session.path / "new").touch()
    os.close(writing)
    two.wait()
    one.unmount()
    assert vault.sessions() == []


def test_a_machine_without_libfuse_is_told_what_it_lacks(vault: Vault, mount_dir: Path, tmp_path: Path) -> None:
    """The error comes back to who asked, and nothing is left."""
    (tmp_path / "mfusepy.py").write_text("raise OSError('no libfuse in this test')\n")
    code = """
import sys
from pathlib import Path
from avfs_git import Avfs
from avfs_git.errors import MountError
with Avfs(Path(sys.argv[1])) as avfs, avfs.open_vault("v") as vault:
    try: vault.workspace("work").mount(sys.argv[2], backend="portable")
    except MountError as error: print(error.code, error.message, vault.sessions())
"""
    env = {**os.environ, "PYTHONPATH": f"{tmp_path}:{Path(__file__).parents[2]}"}
    argv = (sys.executable, "-c", code, mount_dir / "h", mount_dir / "m")
    said = subprocess.run(argv, capture_output=True, text=True, check=True, env=env).stdout
    assert said == "mount.failed libfuse cannot be used here: no libfuse in this test []\n"
    assert not (mount_dir / "m").exists()
