"""Sessions that die, or find the disk full, at any of their steps: nobody has to clean up by hand.

The claim after each: no mount stays, dead or alive, that no living session stands behind; a plain look at the sessions
leaves nothing on disk; and the fork can be mounted again, with all that was written.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from avfs_git import Avfs, Vault
from avfs_git.errors import AvfsError, HostError, InternalError, SessionFailed
from avfs_git.host.mounts import list_mounts
from avfs_git.model import SessionBackend
from avfs_git.session.record import FoundSession, wait_ended
from avfs_git.session.start import start_session

pytestmark = [pytest.mark.needs("fuse", "git", "user-xattrs", "whiteout"), pytest.mark.slow, pytest.mark.timeout(300)]

PROJECT = Path(__file__).parents[2]
_PROGRAM = (
    f"import sys; sys.path.insert(0, {str(PROJECT)!r}); from tests.support.session_process import main; main(*sys.argv[1:4])"
)
_POINTS_MAX = 80


@pytest.fixture
def vault(mount_dir: Path) -> Iterator[Vault]:
    """A vault with something in it."""
    with Avfs(mount_dir / "home") as avfs, avfs.create_vault("v") as made:
        made.workspace().write("a", b"one\n")
        made.workspace().checkpoint()
        yield made


def start(vault: Vault, tree: Path, kind: str, n: int, flag: Path, backend: SessionBackend = SessionBackend.FUSE) -> FoundSession:
    """Start a session with a fault in it."""
    return start_session(
        vault.path / "avfs" / "sessions",
        git_dir=vault.path,
        vault="v",
        fork="main",
        directory=tree,
        at=None,
        allow_other=False,
        identity=None,
        lock_timeout_s=5,
        backend=backend,
        program=(sys.executable, "-c", _PROGRAM, kind, str(n), str(flag)),
    )


def left_of(vault: Vault) -> set[str]:
    """List what sessions have on disk."""
    sessions = vault.path / "avfs" / "sessions"
    return set(os.listdir(sessions)) if sessions.exists() else set()


def check(vault: Vault, tree: Path, content: bytes) -> None:
    """Look as anybody does; then everything is in order."""
    # A process that dies closes one file after the other, its lock after the pipe: then it is not dead yet.
    while vault.sessions() or not left_of(vault) <= {"guard", "logs"}:
        time.sleep(0.01)
    assert not [mounted for mounted in list_mounts() if mounted.directory == tree]
    assert not tree.exists()
    with vault.workspace().mount(tree):
        assert (tree / "a").read_bytes() == content
    assert not tree.exists()


@pytest.mark.parametrize(
    "backend", [SessionBackend.FUSE, pytest.param(SessionBackend.PORTABLE, marks=pytest.mark.needs("libfuse"))]
)
@pytest.mark.parametrize("kind", ["die", "fail"])
def test_fault_at_each_step_of_a_life(vault: Vault, mount_dir: Path, tmp_path: Path, kind: str, backend: SessionBackend) -> None:
    """Starting, being and ending, interrupted at one point after the other."""
    points: list[str] = []
    for n in range(1, _POINTS_MAX):
        tree, flag = mount_dir / f"tree{n}", tmp_path / str(n)
        content = f"{n}\n".encode()
        vault.workspace().write("a", content)
        try:
            session = start(vault, tree, kind, n, flag, backend)
        except (SessionFailed, HostError, InternalError) as error:
            assert flag.exists(), error.details  # noqa: PT017 - what fails may also not fail
        else:
            content += b"more\n"
            (tree / "a").write_bytes(content)
            os.kill(session.record.pid, signal.SIGTERM)
            wait_ended(session.place)
        check(vault, tree, content)
        if not flag.exists():
            break
        points.append(flag.read_text())
    else:
        raise AssertionError("it never got through")

    assert {
        "session.made",
        "session.recorded",
        "session.point_made",
        "session.opened",
        "session.ready",
        "session.served",
        "session.unmounted",
        "session.discarded",
        *(["session.mounted"] if backend is SessionBackend.FUSE else []),  # libfuse mounts by itself
    } <= set(points)


def test_failure_of_a_start_is_told_as_what_it_is(vault: Vault, mount_dir: Path, tmp_path: Path) -> None:
    """A full disk comes back to whoever asked, as a full disk."""
    with pytest.raises(AvfsError, match="No space left") as caught:
        start(vault, mount_dir / "tree", "fail", 1, tmp_path / "flag")

    assert isinstance(caught.value, HostError)
    assert caught.value.errno == 28
