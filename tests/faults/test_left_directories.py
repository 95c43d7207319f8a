"""Temporary directories of a killed process: the next one removes them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from avfs_git.host.mounts.mounts import list_mounts_below

_KILL = "import os, signal; os.kill(os.getpid(), signal.SIGKILL)\n"
_TRACE = """
from avfs_git.proxy.exec.gittrace import GitTrace
trace = GitTrace(is_shared=True, may_commit=True, named=())
"""
_CONFIG = """
from pathlib import Path
from avfs_git.gitstore.config.gitconfig import edit_config
edit_config(Path("v"), ("--add", "remote.x.url", "https://ada:secret@example.org/x"))
"""
_MOUNT = """
from pathlib import Path
from avfs_git.host.lockedplace import locked_directory
from avfs_git.host.mounts.mounts import mount_fuse
with locked_directory(Path(".")) as place:
    place = place.resolve() / "on"
    place.mkdir()
    fd = mount_fuse(place, source="avfs-test", subtype="avfs", max_read=131072)
"""
_LOOK = """
from pathlib import Path
from avfs_git.host.probes import examine_host
examine_host(Path("."))
"""


def _run(code: str, place: Path, **more: str) -> int:
    environment = {**os.environ, "TMPDIR": str(place), **more}
    project = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(project)!r})\n{code}"],
        cwd=place,
        env=environment,
        stderr=subprocess.PIPE,
        check=False,
    )
    assert done.returncode in (0, -signal.SIGKILL), done.stderr.decode()
    return done.returncode


def _left(place: Path) -> list[str]:
    return [name for name in os.listdir(place) if name.startswith(".avfs-")]


def test_traces_of_git(tmp_path: Path) -> None:
    """Those of a command's gits, which another command removes."""
    assert _run(_TRACE + _KILL, tmp_path) == -signal.SIGKILL
    assert _left(tmp_path)

    assert _run(_TRACE + "trace.end()", tmp_path) == 0
    assert not _left(tmp_path)


@pytest.mark.needs("git")
def test_a_copy_of_a_configuration(tmp_path: Path) -> None:
    """It may hold a password: no other user reads it, and the next change removes it."""
    (tmp_path / "v").mkdir()
    (tmp_path / "v" / "config").write_bytes(b"[core]\n\tbare = true\n")
    (tmp_path / "bin").mkdir()
    killing = tmp_path / "bin" / "git"
    killing.write_text("#!/bin/sh\nkill -KILL $PPID\n")
    killing.chmod(0o755)
    assert _run(_CONFIG, tmp_path, PATH=f"{killing.parent}:{os.defpath}") == -signal.SIGKILL
    (left,) = _left(tmp_path)
    assert (tmp_path / left).stat().st_mode & 0o077 == 0
    assert (tmp_path / left / "in" / "config").read_bytes() == b"[core]\n\tbare = true\n"

    assert _run(_CONFIG, tmp_path) == 0
    assert not _left(tmp_path)
    assert b"secret" in (tmp_path / "v" / "config").read_bytes()


def _check_mounted(tmp_path: Path) -> None:
    assert _run(_MOUNT + "    " + _KILL, tmp_path) == -signal.SIGKILL
    assert list_mounts_below(tmp_path)

    assert _run(_LOOK, tmp_path) == 0
    assert not _left(tmp_path)
    assert not list_mounts_below(tmp_path)


@pytest.mark.needs("fuse")
def test_a_mount(tmp_path: Path) -> None:
    """The next look at the machine takes away what a killed one had mounted."""
    _check_mounted(tmp_path)


@pytest.mark.ordinary
@pytest.mark.needs("fuse")
def test_a_mount_of_an_ordinary_user(tmp_path: Path) -> None:
    """The same, where the helper mounts and unmounts."""
    _check_mounted(tmp_path)
