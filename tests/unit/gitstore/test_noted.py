"""What is ended because a process that is gone had started it."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from avfs_git.gitstore.remote.transport import remove_abandoned
from avfs_git.host.processes.processes import start_time


@pytest.fixture
def other() -> Iterator[subprocess.Popen[bytes]]:
    """Some program of the user's."""
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE) as process:
        yield process
        process.kill()


@pytest.mark.parametrize("is_own", [True, False])
def test_a_note_counts_where_it_was_written(tmp_path: Path, other: subprocess.Popen[bytes], is_own: bool) -> None:
    """One in a copy of a vault, or in a stranger's, may name any process; that one lives on. What is abandoned goes."""
    gone = subprocess.Popen(["true"])
    gone.wait()
    place = tmp_path / f"{gone.pid}-x"
    place.mkdir()
    inode = place.stat().st_ino if is_own else tmp_path.stat().st_ino
    (place / f"started-{other.pid}").write_text(f"{start_time(other.pid)} {inode}")

    remove_abandoned(tmp_path)

    assert list(tmp_path.iterdir()) == []
    if is_own:
        assert other.wait(10) != 0
    else:
        assert other.poll() is None
