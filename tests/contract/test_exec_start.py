"""How a command is started: what it finds around it is what a shell would give it, on every backend."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from avfs_git import Avfs, faults
from avfs_git.model import SessionBackend
from avfs_git.sdk import Workspace
from tests.support.commands import ALLOW_ALL

pytestmark = [pytest.mark.needs("git", "user-xattrs", "whiteout"), pytest.mark.slow]

BACKENDS = pytest.mark.parametrize(
    "backend", [pytest.param("overlay", marks=pytest.mark.needs("fuse", "overlayfs", "root")), "checkout"]
)


@pytest.fixture
def work(mount_dir: Path, tmp_path: Path) -> Iterator[Workspace]:
    """A workspace with a directory in which files have names of programs."""
    source = tmp_path / "source"
    for name in ("dir", "first", "second"):
        (source / name).mkdir(parents=True)
        (source / name / "tool").write_text(f"#!/bin/sh\necho {name}\n")
    (source / "second" / "tool").chmod(0o755)
    (source / "dir" / "tool").chmod(0o755)
    policy = tmp_path / "policy.toml"
    policy.write_text(ALLOW_ALL)
    with Avfs(mount_dir / "h", policy=policy) as avfs:
        yield avfs.create_vault("v", source=source).workspace()


@BACKENDS
def test_nothing_of_avfs_is_left_in_a_process(work: Workspace, backend: str) -> None:
    """No signal is ignored or blocked, no descriptor is open but three, and it leads a session of its own."""
    text = "grep -E '^Sig(Blk|Ign)' /proc/self/status; echo /proc/self/fd/*; cut -d' ' -f1,6 /proc/$$/stat"
    result = work.exec("sh", "-c", text, backend=backend)

    blocked, ignored, opened, session = result.stdout.decode().splitlines()
    ours = sum(
        1 << number - 1 for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGPIPE, signal.SIGCHLD)
    )
    assert int(blocked.split()[1], 16) == 0
    assert int(ignored.split()[1], 16) & ours == 0
    assert [int(Path(name).name) for name in opened.split()][:3] == [0, 1, 2]
    assert len(opened.split()) <= 4  # the shell has the directory itself open
    assert len(set(session.split())) == 1


@BACKENDS
def test_a_command_ends_with_its_status_where_the_caller_ignores_sigchld(
    work: Workspace, mount_dir: Path, tmp_path: Path, backend: str
) -> None:
    """Each process that it starts inherits that; nothing is said about it."""
    work.close()
    code = """
import signal, sys
from pathlib import Path
from avfs_git import Avfs
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
home, policy, backend = sys.argv[1:]
with Avfs(Path(home), policy=Path(policy)) as avfs, avfs.open_vault("v") as vault, vault.workspace() as work:
    print(work.exec("sh", "-c", "exit 3", backend=backend).exit_code)
"""
    arguments = [str(mount_dir / "h"), str(tmp_path / "policy.toml"), backend]
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False)

    assert (done.stdout, done.stderr) == ("3\n", "")


@pytest.mark.parametrize("again", [False, True])
@pytest.mark.parametrize(
    "backend",
    [
        pytest.param("overlay", marks=pytest.mark.needs("overlayfs", "root")),
        pytest.param("fuse", marks=pytest.mark.needs("fuse")),
    ],
)
def test_a_command_never_runs_below_a_mount_that_has_gone(
    work: Workspace, mount_dir: Path, backend: SessionBackend, again: bool
) -> None:
    """Another program unmounts the live tree, and perhaps mounts it again, before the command begins."""
    tree = mount_dir / "tree"
    tree.mkdir()
    sessions = [work.mount(tree, backend=backend)]

    def unmount(point: str) -> None:
        if point == "exec.served" and len(sessions) == 1:
            sessions[0].unmount()
            sessions[0].wait()
            sessions.append(work.mount(tree, backend=backend) if again else sessions[0])

    faults.arm(unmount)
    try:
        result = work.exec("sh", "-c", "echo work > made")
    finally:
        faults.arm(None)
    assert [change.path for change in result.changed_files] == [b"made"]
    assert work.read("made") == b"work\n"
    if again:
        sessions[1].unmount()
        sessions[1].wait()
    assert len(sessions) == 2
    assert not list(tree.iterdir())


@BACKENDS
def test_programs_are_searched_as_a_shell_does(work: Workspace, backend: str) -> None:
    """In the PATH that the command gets.

    What cannot be executed does not hide what can, and an empty part is the directory.
    """
    for path, said in [("first:second", "second"), ("nowhere:second:dir", "second"), (":nowhere", "dir")]:
        parts = [f"/proc/self/cwd/../{part}" if part not in ("", "nowhere") else part for part in path.split(":")]
        result = work.exec("tool", cwd="dir", env={"PATH": ":".join(parts)}, backend=backend)
        assert result.stdout == f"{said}\n".encode()
    assert work.exec("tool", cwd="dir", env={"PATH": "/proc/self/cwd/../first"}, backend=backend).exit_code == 126
    assert work.exec("tool", env={"PATH": "nowhere"}, backend=backend).exit_code == 127
    assert work.exec("dir/tool", backend=backend).stdout == b"dir\n"
    assert work.exec("file/tool", backend=backend).exit_code == 127


@BACKENDS
def test_it_has_the_directory_and_the_umask_of_its_caller(work: Workspace, backend: str) -> None:
    """Also the second of two that differ in them."""
    before = os.umask(0o027)
    try:
        result = work.exec("sh", "-c", "pwd -P; umask; echo $PWD", cwd="dir", backend=backend)
    finally:
        os.umask(before)
    physical, mask, logical = result.stdout.decode().split()
    assert (Path(physical).name, mask, physical) == ("dir", "0027", logical)
    result = work.exec("sh", "-c", "umask", backend=backend)
    assert int(result.stdout, 8) == before


@BACKENDS
def test_what_cannot_be_started_says_why(work: Workspace, backend: str) -> None:
    """An argument that is too long, and a file that is no program, end with what a shell has for them."""
    assert work.exec("true", "x" * 200_000, backend=backend).exit_code == 126
    result = work.exec("./first/tool", backend=backend)
    assert (result.exit_code, [warning.code for warning in result.warnings]) == (126, ["exec.not_started"])
    assert work.exec("true", backend=backend).exit_code == 0
