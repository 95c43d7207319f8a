"""A command in a tree whose server is stopped: refused with the session's name, and nothing is left half done."""

from __future__ import annotations

import marshal
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from avfs_git.errors import WorkspaceBusy
from avfs_git.host.processes.processes import list_family
from avfs_git.host.processes.runner import runner
from avfs_git.host.processes.runner.handle import Runner
from avfs_git.model import SessionBackend, SessionInfo
from avfs_git.sdk import Avfs, Vault

_FUSE = pytest.mark.needs("fuse", "user-xattrs", "whiteout")
_BACKENDS = [
    pytest.param(SessionBackend.FUSE, marks=_FUSE, id="fuse"),
    pytest.param(SessionBackend.OVERLAY, marks=[_FUSE, pytest.mark.needs("root", "overlayfs")], id="overlay"),
]


@pytest.fixture
def vault(mount_dir: Path, tmp_path: Path) -> Iterator[Vault]:
    """A vault with two forks of one commit."""
    (tmp_path / "file").write_bytes(b"content\n")
    with Avfs(mount_dir / "h", lock_timeout_s=2) as avfs, avfs.create_vault("v", source=tmp_path) as vault:
        vault.fork("other")
        yield vault


@contextmanager
def _stopped(vault: Vault, is_meant: Callable[[SessionInfo], bool]) -> Iterator[list[int]]:
    """Stop all processes of one session."""
    (info,) = filter(is_meant, vault.sessions(bases=True))
    pids = list_family(info.pid)
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield pids
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)


@pytest.mark.parametrize("backend", _BACKENDS)
def test_a_command_is_refused_where_the_session_is_stopped(
    vault: Vault, mount_dir: Path, backend: SessionBackend
) -> None:
    """At once, with what continues it, also by a program that has used the session before."""
    work = vault.workspace("main")
    with work.mount(mount_dir / "tree", backend=backend):
        assert work.exec("cat", "file").stdout == b"content\n"
        with _stopped(vault, lambda info: info.at is None) as pids:
            for command in (("cat", "file"), ("sh", "-c", "echo lost >> file")):
                with pytest.raises(WorkspaceBusy, match=r"session .* does not answer") as refused:
                    work.exec(*command)
                assert f"`kill -CONT {' '.join(map(str, pids))}`" in (refused.value.hint or "")
        result = work.exec("sh", "-c", "echo kept >> file")
        assert [change.path for change in result.changed_files] == [b"file"]
        assert work.read("file") == b"content\nkept\n"


@pytest.mark.needs("fuse", "user-xattrs", "whiteout", "root", "overlayfs")
def test_a_command_is_refused_where_the_server_of_the_base_is_stopped(vault: Vault, mount_dir: Path) -> None:
    """Also in a fork that is not mounted and shares the base with one that is."""
    main, other = vault.workspace("main"), vault.workspace("other")
    with main.mount(mount_dir / "tree", backend=SessionBackend.OVERLAY):
        with _stopped(vault, lambda info: info.at is not None):
            for work in (main, other):
                with pytest.raises(WorkspaceBusy, match=r"which shows its base .* does not answer"):
                    work.exec("sh", "-c", "echo lost >> file")
        assert other.exec("sh", "-c", "echo kept >> file").exit_code == 0
        assert other.read("file") == b"content\nkept\n"
        assert main.read("file") == b"content\n"


def test_a_runner_that_does_not_get_on_is_killed_when_its_user_gives_up() -> None:
    """It waits in the kernel and heeds no closed socket: the caller does not wait for it either."""
    asked = 0

    def refuse() -> None:
        nonlocal asked
        asked += 1
        if asked == 2:
            raise WorkspaceBusy("work", "session 1, which does not answer")

    stuck = Runner(on_silence=refuse)
    process = stuck._process
    os.kill(process.pid, signal.SIGSTOP)
    began = time.monotonic()
    with pytest.raises(WorkspaceBusy):
        stuck.isolate()
    assert time.monotonic() - began < 8
    assert process.returncode == -signal.SIGKILL


def test_a_runner_whose_user_is_gone_ends_without_a_word() -> None:
    """It finds that out when it tells that a mount was refused, or made."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    steps = [{"what": "unmount", "target": "/nowhere"}]
    ours.send(marshal.dumps({"pids": False, "mounts": False, "steps": steps}))
    ours.close()
    with theirs:
        line = [sys.executable, "-I", "-S", runner.__file__, str(theirs.fileno())]
        done = subprocess.run(line, pass_fds=[theirs.fileno()], stderr=subprocess.PIPE, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, b"")
