"""Sessions that die, or find the disk full, at any of their steps: nobody has to clean up by hand, and nothing is lost.

The claim after each: no mount stays, dead or alive, that no living session stands behind; a plain look at the sessions
leaves nothing on disk; and the fork can be mounted again, with all that was written. A tree on the kernel's overlayfs
may also stand as programs left it: then the next command finds somebody who attends to it, and it can be unmounted.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from avfs_git import Avfs, Vault
from avfs_git.backends.lower import LowerMounts
from avfs_git.backends.tree import on_base
from avfs_git.errors import AvfsError, HostError, InternalError, MountError, SessionFailed
from avfs_git.host.mounts.mounts import list_mounts
from avfs_git.model import SessionBackend, SessionState
from avfs_git.session.life.record import FoundSession, has_ended
from avfs_git.session.life.request import Request
from avfs_git.session.life.stop import end_session
from avfs_git.session.serve.start import start_session
from avfs_git.workspace.vault.vault import OpenVault
from tests.support.seeds import take_points
from tests.support.waiting import wait_for

pytestmark = [pytest.mark.needs("fuse", "git", "user-xattrs", "whiteout"), pytest.mark.slow, pytest.mark.timeout(300)]

PROJECT = Path(__file__).parents[2]
_PROGRAM = (
    f"import sys; sys.path.insert(0, {str(PROJECT)!r}); from tests.support.session_process import main; "
    "main(*sys.argv[1:4])"
)
_POINTS_MAX = 80

BACKENDS = [
    SessionBackend.FUSE,
    pytest.param(SessionBackend.PORTABLE, marks=pytest.mark.needs("libfuse")),
    pytest.param(SessionBackend.OVERLAY, marks=pytest.mark.needs("root", "overlayfs")),
]


@pytest.fixture
def vault(mount_dir: Path) -> Iterator[Vault]:
    """A vault with something in it."""
    with Avfs(mount_dir / "home") as avfs, avfs.create_vault("v") as made:
        made.workspace().write("a", b"one\n")
        made.workspace().checkpoint()
        yield made


Start = Callable[..., FoundSession]


@pytest.fixture
def start(vault: Vault, mount_dir: Path) -> Iterator[Start]:
    """What starts a session with a fault in it."""
    with starting(vault, mount_dir) as start:
        yield start


@contextlib.contextmanager
def starting(vault: Vault, mount_dir: Path) -> Iterator[Start]:
    """Give what starts a session; its base has it as a user until the block ends, as the command that mounts."""
    opened = OpenVault(vault.path, name="v")
    lowers = LowerMounts(opened, mount_dir / "lower" / ".lower", lock_timeout_s=5)

    def start(tree: Path, backend: SessionBackend, kind: str, n: int | str, flag: Path) -> FoundSession:
        request = Request(
            git_dir=os.fspath(vault.path),
            vault="v",
            fork="main",
            directory=os.fspath(tree),
            lock_timeout_s=5,
            backend=backend,
        )
        mount = partial(
            start_session,
            vault.path / "avfs" / "sessions",
            program=(sys.executable, "-c", _PROGRAM, kind, str(n), str(flag)),
        )
        return on_base(opened, lowers, request, mount) if backend is SessionBackend.OVERLAY else mount(request)

    try:
        yield start
    finally:
        lowers.close()


def is_over(found: FoundSession) -> bool:
    """Whether a session ended, or died and left its mount to the next one."""
    return has_ended(found.place) or found.state() is SessionState.UNATTENDED


def is_gone(vault: Vault, tree: Path) -> bool:
    """Look as anybody does: whether nothing is left of a session, on disk either.

    Commits may be mounted as bases of trees.
    """
    found = vault.sessions(bases=True)
    sessions = vault.path / "avfs" / "sessions"
    left = {*os.listdir(sessions)} if sessions.exists() else set()
    ours = left - {info.id for info in found if info.at is not None} - {"guard", "logs"}
    return not (ours or tree.exists() or [info for info in found if info.at is None])


def check(vault: Vault, tree: Path, content: bytes, backend: SessionBackend) -> None:
    """Find what was written, by whoever attends to the tree where it still stands.

    Then nothing is left, and work goes on.
    """
    work = vault.workspace()
    if backend is SessionBackend.OVERLAY:
        assert work.read("a") == content
        assert [change.path for change in work.status().changed_files] == [b"a"]
        for info in vault.sessions(bases=True):
            found = vault.find_session(info.fork)
            if info.at is None and found is not None:
                found.unmount()
    # A process that dies closes one file after the other, its lock after the pipe: then it is not dead yet.
    wait_for(lambda: is_gone(vault, tree))
    assert not [mounted for mounted in list_mounts() if mounted.directory == tree]
    assert work.read("a") == content
    with work.mount(tree, backend="overlay" if backend is SessionBackend.OVERLAY else "auto"):
        assert (tree / "a").read_bytes() == content
    wait_for(lambda: is_gone(vault, tree))


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("kind", ["die", "fail"])
def test_fault_at_each_step_of_a_life(
    vault: Vault, start: Start, mount_dir: Path, tmp_path: Path, kind: str, backend: SessionBackend
) -> None:
    """Starting, being and ending, interrupted at one point after the other."""
    # A tree on overlayfs needs a second mount, of its base.
    refused = MountError if backend is SessionBackend.OVERLAY else SessionFailed
    points: list[str] = []
    for _, n in take_points((kind == "die") + list(SessionBackend).index(backend)):
        assert n < _POINTS_MAX, "it never got through"
        tree, flag = mount_dir / f"tree{n}", tmp_path / str(n)
        content = f"{n}\n".encode()
        vault.workspace().write("a", content)
        try:
            session = start(tree, backend, kind, n, flag)
        except (refused, HostError, InternalError) as error:
            assert flag.exists(), error.details  # noqa: PT017 - what fails may also not fail
        else:
            content += b"more\n"
            (tree / "a").write_bytes(content)
            os.kill(session.record.pid, signal.SIGTERM)
            wait_for(lambda: is_over(session))  # noqa: B023 - it is called before the next is bound
        check(vault, tree, content, backend)
        if not flag.exists():
            break
        points.append(flag.read_text())

    by_name = {
        "session.made",
        "session.recorded",
        "session.point_made",
        "session.opened",
        "session.ready",
        "session.served",
        "session.unmounted",
        "session.discarded",
        *(["session.mounted"] if backend is not SessionBackend.PORTABLE else []),  # libfuse mounts by itself
    }
    assert by_name <= set(points) if len(points) == n - 1 else points


@pytest.mark.needs("root", "overlayfs")
def test_a_session_that_has_ended_uses_no_base(vault: Vault, mount_dir: Path, tmp_path: Path) -> None:
    """An unmount leaves no base behind where the process of the session takes longer to exit."""
    flag = tmp_path / "flag"
    vault.workspace().fold()  # else it stands on no commit
    with starting(vault, mount_dir) as start:
        session = start(mount_dir / "tree", SessionBackend.OVERLAY, "wait", "session.discarded", flag)
    try:
        end_session(session)
        assert flag.exists()
        assert not [mounted for mounted in list_mounts() if mount_dir in mounted.directory.parents]
    finally:
        flag.unlink(missing_ok=True)


def test_failure_of_a_start_is_told_as_what_it_is(start: Start, mount_dir: Path, tmp_path: Path) -> None:
    """A full disk comes back to whoever asked, as a full disk."""
    with pytest.raises(AvfsError, match="No space left") as caught:
        start(mount_dir / "tree", SessionBackend.FUSE, "fail", 1, tmp_path / "flag")

    assert isinstance(caught.value, HostError)
    assert caught.value.errno == 28
