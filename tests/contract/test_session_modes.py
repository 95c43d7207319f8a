"""Access to what a session leaves in its vault: as the umask of the user who mounted it says, not its programs'."""

from __future__ import annotations

import os
import stat
import subprocess
from pathlib import Path

import pytest

from avfs_git.sdk import Avfs

pytestmark = [
    pytest.mark.needs("fuse", "git", "user-xattrs", "whiteout"),
    pytest.mark.slow,
    pytest.mark.usefixtures("person"),
]


def test_nothing_that_a_session_writes_is_open_to_everybody(mount_dir: Path) -> None:
    """Only the owner may write refs, packs, the log, locks and workspaces of a live tree and of git in it."""
    before = os.umask(0o022)
    try:
        with Avfs(mount_dir / "home") as avfs:
            vault = avfs.create_vault("v")
            vault.workspace().write("top", b"top\n")
            vault.workspace().checkpoint()
            subprocess.run(["git", "-C", vault.path, "branch", "plain"], check=True)  # the session makes its workspace
            work = vault.workspace("plain")
            tree = mount_dir / "tree"
            session = work.mount(tree)
            (tree / "dir").mkdir()
            (tree / "dir" / "file").write_bytes(bytes(300_000))
            identity = ["-c", "user.name=a", "-c", "user.email=b"]
            subprocess.run(["git", *identity, "add", "-A"], cwd=tree, check=True)
            subprocess.run(["git", *identity, "commit", "-q", "-m", "inside"], cwd=tree, check=True)
            work.checkpoint("one")
            work.write("new", b"new\n")
            work.restore("one")
            work.undo()
            (tree / "last").write_bytes(b"last\n")
            session.stop()
            work.write("after", b"after\n")
            vault.delete_fork("plain")
    finally:
        os.umask(before)
    kinds = (stat.S_ISREG, stat.S_ISDIR)
    found = {path: path.lstat().st_mode for path in (mount_dir / "home").rglob("*")}
    is_open = [path for path, mode in found.items() if any(kind(mode) for kind in kinds) and mode & 0o022]

    assert is_open == []
