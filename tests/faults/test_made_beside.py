"""What a living process makes is its own, also for a process in another PID namespace, where the first has no PID."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from avfs_git import Avfs, faults
from avfs_git.host.locks.making import directory_filled, remove_abandoned
from tests.support.faults import check_objects

pytestmark = [pytest.mark.needs("git", "user-xattrs", "whiteout")]


def _create(avfs: Avfs, source: Path, name: str) -> None:
    avfs.create_vault(name, source=source)


def _clone(avfs: Avfs, source: Path, name: str) -> None:
    avfs.clone_vault(str(source), name)


def _fetch(avfs: Avfs, source: Path, name: str) -> None:
    vault = avfs.open_vault("first")
    vault.add_remote(name, str(source))
    assert vault.fetch(name).moves


@pytest.mark.parametrize(
    ("act", "point"),
    [(_create, "import.synced"), (_create, "vault.filled"), (_clone, "vault.filled"), (_fetch, "transport.fetched")],
)
def test_two_that_do_not_see_each_other(
    act: Callable[[Avfs, Path, str], None], point: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One does the same while the other is in the middle of it: both are done, and whole."""
    source = tmp_path / "source"
    subprocess.run(["git", "init", "-q", "-b", "main", source], check=True)
    (source / "a").write_bytes(b"1\n")
    subprocess.run(["git", "-C", source, "add", "a"], check=True)
    person = ["-c", "user.name=A", "-c", "user.email=a@b"]
    subprocess.run(["git", "-C", source, *person, "commit", "-q", "-m", "one"], check=True)
    with Avfs(tmp_path / "home") as avfs, Avfs(tmp_path / "home") as other:
        avfs.create_vault("first")
        gone = subprocess.Popen(["true"])
        gone.wait()
        monkeypatch.setattr(os, "getpid", lambda: gone.pid)  # as it looks from the other namespace

        def meet(passed: str) -> None:
            if passed == point:
                faults.arm(None)
                act(other, source, "theirs")

        faults.arm(meet)
        try:
            act(avfs, source, "ours")
        finally:
            faults.arm(None)
        for info in avfs.list_vaults():
            check_objects(info.path)
        assert [entry.name for entry in (tmp_path / "home" / "vaults").iterdir() if entry.name.startswith(".")] == []


def test_what_a_dead_process_was_making_goes(tmp_path: Path) -> None:
    """As soon as it is dead, and not before."""
    reading, writing = os.pipe()
    pid = os.fork()
    if not pid:
        with directory_filled(tmp_path) as place:
            (place / "half").mkdir()
            os.write(writing, b"1")
            signal.pause()
    os.read(reading, 1)
    remove_abandoned(tmp_path)
    assert [each.name for each in tmp_path.glob("*/*")] == ["half"]

    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    remove_abandoned(tmp_path)
    assert list(tmp_path.iterdir()) == []
