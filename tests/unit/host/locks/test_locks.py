"""What a lock that names a session that died is to who goes on with that session, and to everybody else."""

from __future__ import annotations

import errno
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from avfs_git.errors import HostError
from avfs_git.host.locks.locks import LockFile


@pytest.fixture
def locks(tmp_path: Path) -> Iterator[tuple[LockFile, LockFile]]:
    """Two who want one lock, in which a session stands that died."""
    path = tmp_path / "lock"
    dead = LockFile(path, owner="a session")
    assert dead.acquire(0)
    dead.keep("4449850c")
    dead.release()
    dead.close()
    first, second = LockFile(path, owner="who looks"), LockFile(path, owner="who wants it")
    yield first, second
    first.close()
    second.close()


def test_a_lock_that_a_session_keeps_is_not_waited_for(locks: tuple[LockFile, LockFile]) -> None:
    """The session can be asked instead."""
    first, second = locks
    assert first.acquire(0)
    assert first.session == second.session == "4449850c"

    began = time.monotonic()
    assert not second.acquire(600)
    assert time.monotonic() - began < 600
    first.release()


def test_who_goes_on_with_a_dead_session_waits_for_who_looks_after_it(locks: tuple[LockFile, LockFile]) -> None:
    """It is not there to be asked, and whoever has its lock gives it back at once."""
    first, second = locks
    second.left = "4449850c"
    assert first.acquire(0)
    got: list[bool] = []
    waiting = threading.Thread(target=lambda: got.append(second.acquire(60)))
    waiting.start()
    time.sleep(0.05)
    assert not got

    first.release()
    waiting.join()
    assert got == [True]


def test_a_path_is_no_session(locks: tuple[LockFile, LockFile]) -> None:
    """Whoever looks for its socket would follow it out of the vault."""
    first, second = locks
    with first:
        first.acquire(1)
        first.keep("/tmp/elsewhere")
        assert second.session is None
        first.stop_keeping()
        first.release()


def test_a_full_disk_is_an_error_and_not_the_end_of_the_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On btrfs a write needs room also for bytes that are there: a write through a map kills the process, a call can fail."""

    def full(*_: object) -> int:
        raise OSError(errno.EDQUOT, os.strerror(errno.EDQUOT))

    with LockFile(tmp_path / "lock", owner="who writes") as lock:
        assert lock.acquire(0)
        monkeypatch.setattr(os, "pwrite", full)
        lock.sign()  # only messages need it
        with pytest.raises(HostError, match="quota"):
            lock.begin_change()
        with pytest.raises(HostError, match="quota"):
            lock.mark_operating(operating=True)
        lock.mark_operating(operating=False)
        refused = lock.mark_clean(2, bytes(20))
        assert refused is not None
        assert refused.errno == errno.EDQUOT
        assert lock.epoch == 0
        assert not lock.is_operating
        monkeypatch.undo()
        assert (lock.begin_change(), lock.epoch, lock.end_change()) == (0, 1, 2)
        lock.release()
