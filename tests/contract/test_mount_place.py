"""One directory and two homes: the second mount is refused, and names the first."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pytest

from avfs_git.errors import MountPointUnusable
from avfs_git.host.files.removal import remove_tree
from avfs_git.host.mounts.mounts import list_mounts
from avfs_git.model import SessionBackend
from avfs_git.sdk import Avfs, Vault
from avfs_git.session.life.request import Request
from avfs_git.session.serve.start import start_session
from tests.support.capabilities import mount as mount_file_system
from tests.support.capabilities import unmount as unmount_file_system
from tests.support.waiting import wait_for

PROJECT = Path(__file__).parents[2]
_PROGRAM = (
    f"import sys; sys.path.insert(0, {str(PROJECT)!r}); from tests.support.session_process import main; "
    "main(*sys.argv[1:4])"
)
_BACKENDS = [
    pytest.param(SessionBackend.FUSE, id="fuse"),
    pytest.param(SessionBackend.PORTABLE, marks=pytest.mark.needs("libfuse"), id="portable"),
]
pytestmark = pytest.mark.needs("fuse", "user-xattrs", "whiteout")


@pytest.fixture
def vaults(mount_dir: Path) -> Iterator[tuple[Vault, Vault]]:
    """A vault in each of two homes."""
    with Avfs(mount_dir / "h1") as one, Avfs(mount_dir / "h2") as other:
        vaults = one.create_vault("v"), other.create_vault("w")
        for vault in vaults:
            vault.workspace("main").write("file", vault.name.encode())
        yield vaults
        for vault in vaults:
            if (found := vault.find_session("main")) is not None:
                found.unmount(force=True)


def test_the_mount_of_another_home_is_named(vaults: tuple[Vault, Vault], mount_dir: Path) -> None:
    """By its fork and its vault."""
    first, second = vaults
    with first.workspace("main").mount(mount_dir / "tree"):
        with pytest.raises(
            MountPointUnusable, match=f"fork 'main' of the vault at '{first.path}' is mounted there already"
        ):
            second.workspace("main").mount(mount_dir / "tree")
        assert (mount_dir / "tree" / "file").read_bytes() == b"v"


@pytest.mark.parametrize("backend", _BACKENDS)
def test_of_two_that_have_found_the_directory_free_one_mounts(
    vaults: tuple[Vault, Vault], mount_dir: Path, backend: SessionBackend
) -> None:
    """They share no lock but that of the directory itself."""
    flags = [mount_dir / "one", mount_dir / "other"]

    def mount(vault: Vault, flag: Path) -> object:
        request = Request(
            git_dir=os.fspath(vault.path),
            vault=vault.name,
            fork="main",
            directory=os.fspath(mount_dir / "tree"),
            lock_timeout_s=5,
            backend=backend,
        )
        program = (sys.executable, "-c", _PROGRAM, "wait", "session.point_made", str(flag))
        begin = partial(start_session, vault.path / "avfs" / "sessions", program=program)
        try:
            return begin(request)
        except MountPointUnusable as error:
            return error

    with ThreadPoolExecutor(2) as pool:
        started = [pool.submit(mount, vault, flag) for vault, flag in zip(vaults, flags, strict=True)]
        wait_for(lambda: all(flag.exists() for flag in flags))
        for flag in flags:
            flag.unlink()
        outcomes = [each.result(60) for each in started]
    refused = [outcome for outcome in outcomes if isinstance(outcome, MountPointUnusable)]
    assert len(refused) == 1
    assert len([mounted for mounted in list_mounts() if mounted.directory == mount_dir / "tree"]) == 1
    assert "is mounted there already" in refused[0].message


@pytest.mark.needs("root")
def test_a_removal_does_not_enter_what_is_mounted_below(mount_dir: Path) -> None:
    """Its files are none of the directory's, which stays."""
    inner = mount_dir / "top" / "below" / "inner"
    inner.mkdir(parents=True)
    assert mount_file_system("another's", inner, "tmpfs")
    try:
        (inner / "kept").touch()
        with pytest.raises(OSError, match="busy"):
            remove_tree(mount_dir / "top")
        assert (inner / "kept").exists()
    finally:
        assert unmount_file_system(inner)
