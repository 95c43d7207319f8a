"""A full disk is named also where git fails without its reason: when it writes the file of a ref."""

from __future__ import annotations

import errno
import os
import subprocess
from pathlib import Path

import pytest

from avfs_git.errors import HostError, RemoteError
from avfs_git.gitstore.remote.runner import Ended, check_received
from tests.support.capabilities import mount

pytestmark = pytest.mark.needs("root", "git")


def test_a_ref_that_does_not_fit_names_the_full_disk(tmp_path: Path, mount_dir: Path) -> None:
    """What git says is no failure of the remote; once there is room, the same words are one."""
    disk, source = mount_dir / "tmpfs", tmp_path / "source"
    disk.mkdir()
    assert mount("tmpfs", disk, "tmpfs", "size=2m")
    git("init", "-q", os.fspath(source))
    git("-C", os.fspath(source), "commit", "-q", "--allow-empty", "-m", "one")
    git("init", "-q", "--bare", os.fspath(disk / "v"))
    fetch = ["-C", os.fspath(disk / "v"), "fetch", "--no-write-fetch-head", os.fspath(source)]
    git(*fetch, "HEAD")
    with pytest.raises(OSError, match="No space left"):
        fill(disk / "ballast")
    ran = subprocess.run(["git", *fetch, "HEAD:refs/heads/main"], check=False, capture_output=True, text=True)
    assert ran.returncode
    ended = Ended(ran.returncode, b"", tuple(ran.stderr.splitlines()))

    with pytest.raises(HostError) as raised:
        check_received(ended, "url")
    assert raised.value.errno == errno.ENOSPC
    (disk / "ballast").unlink()
    with pytest.raises(RemoteError):
        check_received(ended, "url")


def fill(ballast: Path) -> None:
    """Write to a file until its disk is full."""
    with ballast.open("wb", buffering=0) as file:
        while True:
            file.write(bytes(4096))


def git(*arguments: str) -> None:
    """Run git."""
    subprocess.run(["git", "-c", "user.name=x", "-c", "user.email=x@y", *arguments], check=True, capture_output=True)
