"""What is ended because a process that is gone had started it."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from avfs_git.gitstore.remote.transport import open_exchange
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
    parent = tmp_path / "avfs" / "exchange"
    place = parent / "left"
    place.mkdir(parents=True)
    inode = place.stat().st_ino if is_own else tmp_path.stat().st_ino
    (place / f"started-{other.pid}").write_text(f"{start_time(other.pid)} {inode}")

    with open_exchange(tmp_path, "/nowhere", {}):
        assert [each.name for each in parent.iterdir() if each == place] == []

    assert list(parent.iterdir()) == []
    if is_own:
        assert other.wait(10) != 0
    else:
        assert other.poll() is None
