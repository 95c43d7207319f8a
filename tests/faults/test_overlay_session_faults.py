"""Sessions over the kernel's overlayfs that die, or find the disk full, at any of their steps.

The claim after each: either nothing is left, or the tree stands as programs left it and the next command finds somebody
who attends to it; in both cases nothing that was written is lost, and the fork can be unmounted and mounted again.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from avfs_git import Avfs, Vault
from avfs_git.backends.lower import LowerMounts
from avfs_git.backends.tree import on_base
from avfs_git.errors import HostError, InternalError, MountError, SessionFailed
from avfs_git.host.mounts import list_mounts
from avfs_git.model import SessionBackend, SessionState
from avfs_git.session.record import FoundSession, has_ended
from avfs_git.session.start import start_session
from avfs_git.workspace.vault import OpenVault

pytestmark = [
    pytest.mark.needs("root", "fuse", "overlayfs", "git", "user-xattrs", "whiteout"),
    pytest.mark.slow,
    pytest.mark.timeout(300),
]

PROJECT = Path(__file__).parents[2]
_PROGRAM = (
    f"import sys; sys.path.insert(0, {str(PROJECT)!r}); from tests.support.session_process import main; main(*sys.argv[1:4])"
)
_POINTS_MAX = 80
_GUARD_S = 60


@pytest.fixture
def vault(mount_dir: Path) -> Iterator[Vault]:
    """A vault with something in it."""
    with Avfs(mount_dir / "home") as avfs, avfs.create_vault("v") as made:
        made.workspace().write("a", b"one\n")
        made.workspace().checkpoint()
        yield made


@pytest.fixture
def lowers(vault: Vault, mount_dir: Path) -> Iterator[LowerMounts]:
    """Where its commits are mounted."""
    found = LowerMounts(OpenVault(vault.path, name="v"), mount_dir / "lower" / ".lower", lock_timeout_s=5)
    yield found
    found.close()


def start(vault: Vault, lowers: LowerMounts, tree: Path, kind: str, n: int, flag: Path) -> FoundSession:
    """Start a session with a fault in it."""
    mount = partial(
        start_session,
        vault.path / "avfs" / "sessions",
        git_dir=vault.path,
        vault="v",
        fork="main",
        directory=tree,
        at=None,
        allow_other=False,
        identity=None,
        lock_timeout_s=5,
        backend=SessionBackend.OVERLAY,
        program=(sys.executable, "-c", _PROGRAM, kind, str(n), str(flag)),
    )
    return on_base(OpenVault(vault.path, name="v"), "main", lowers, mount, at=None)


def is_over(found: FoundSession) -> bool:
    """Whether a session ended, or died and left its mount to the next one."""
    return has_ended(found.place) or found.state() is SessionState.UNATTENDED


def wait_for(vault: Vault, tree: Path) -> None:
    """Wait until nothing is left of a mount."""
    end = time.monotonic() + _GUARD_S
    while [info for info in vault.sessions() if info.at is None] or tree.exists():
        assert time.monotonic() < end
        time.sleep(0.01)
    assert not [mounted for mounted in list_mounts() if mounted.directory == tree]


@pytest.mark.parametrize("kind", ["die", "fail"])
def test_fault_at_each_step_of_a_life(vault: Vault, lowers: LowerMounts, mount_dir: Path, tmp_path: Path, kind: str) -> None:
    """Starting, being and ending, interrupted at one point after the other."""
    points: list[str] = []
    for n in range(1, _POINTS_MAX):
        tree, flag = mount_dir / f"tree{n}", tmp_path / str(n)
        content = f"{n}\n".encode()
        vault.workspace().write("a", content)
        try:
            session = start(vault, lowers, tree, kind, n, flag)
        except (SessionFailed, HostError, InternalError, MountError) as error:
            assert flag.exists(), error.details  # noqa: PT017 - what fails may also not fail
        else:
            content += b"more\n"
            (tree / "a").write_bytes(content)
            os.kill(session.record.pid, signal.SIGTERM)
            end = time.monotonic() + _GUARD_S
            while not is_over(session):
                assert time.monotonic() < end
                time.sleep(0.01)
        work = vault.workspace()
        assert work.read("a") == content  # by another process, where the tree stands
        assert [change.path for change in work.status().changed_files] == [b"a"]
        for info in vault.sessions():
            found = vault.find_session(info.fork)
            if info.at is None and found is not None:
                found.unmount()
        wait_for(vault, tree)
        assert work.read("a") == content
        with work.mount(tree, backend="overlay"):
            assert (tree / "a").read_bytes() == content
        wait_for(vault, tree)
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
        "session.mounted",
        "session.ready",
        "session.served",
        "session.unmounted",
        "session.discarded",
    } <= set(points)
