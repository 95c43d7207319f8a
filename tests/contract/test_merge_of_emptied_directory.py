"""A merge in which a directory loses its last tracked file, and the other side has ignored files in it."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path

import pytest

from avfs_git import Avfs
from avfs_git.model import Identity


@pytest.mark.parametrize(
    "backend",
    [
        None,
        pytest.param("fuse", marks=pytest.mark.needs("fuse")),
        pytest.param("overlay", marks=pytest.mark.needs("overlayfs", "root")),
    ],
)
def test_ignored_files_come_into_a_directory_that_has_lost_its_tracked_ones(
    mount_dir: Path, backend: str | None
) -> None:
    """They come along as any others do; what the target has there of its own stays, and undo brings all back."""
    with Avfs(mount_dir / "home", identity=Identity("Ada Author", "ada@example.org")) as avfs:
        vault = avfs.create_vault("v")
        work = vault.workspace("main")
        work.write(".gitignore", b"__pycache__/\n*.log\n")
        work.write("pkg/sub/module.py", b"x = 1\n", parents=True)
        work.checkpoint("base")
        side = vault.fork("side", source="main")
        side.write("pkg/sub/__pycache__/module.pyc", b"made\n", parents=True)
        side.write("pkg/their.log", b"theirs\n")
        side.move("pkg/sub/module.py", "module.py")
        side.checkpoint("moved")
        work.write("pkg/own.log", b"ours\n")
        work.checkpoint("log")
        with nullcontext() if backend is None else work.mount(mount_dir / "tree", backend=backend):
            work.merge("side")
            files = {
                "pkg/sub/__pycache__/module.pyc": b"made\n",
                "pkg/their.log": b"theirs\n",
                "pkg/own.log": b"ours\n",
            }
            assert {path: work.read(path) for path in files} == files
            assert work.read("module.py") == b"x = 1\n"
            assert not work.exists("pkg/sub/module.py")
            assert not work.status().changed_files
            work.undo()
            assert work.read("pkg/sub/module.py") == b"x = 1\n"
            assert work.read("pkg/own.log") == b"ours\n"
            assert not work.exists("pkg/their.log")
            assert not work.exists("pkg/sub/__pycache__")
            work.redo()
            assert {path: work.read(path) for path in files} == files
