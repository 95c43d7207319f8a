"""Faults that are real: a disk that is full, system calls that fail, processes that are killed."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from avfs_git import Avfs, Vault
from avfs_git.host.files.durable import sync_file_system
from tests.support.capabilities import mount
from tests.support.faults import (
    UNCOMMITTED,
    check_vault,
    error_of,
    make_source,
    make_vault,
    reachable_contents,
    read_files,
)
from tests.support.powercut import ROOT, Round, check_acknowledged, image, interrupt_workload
from tests.support.seeds import one_in

pytestmark = [pytest.mark.slow, pytest.mark.needs("git", "user-xattrs", "whiteout")]

BLOCK = 4096
_SYNCS = {"fsync": os.fsync, "fdatasync": os.fdatasync}
"""As they are before a test: the others do not wait for the disk."""


def _fill(point: Path, leave: int) -> Path:
    """Fill a file system but for so many bytes."""
    ballast = point / "ballast"
    with ballast.open("wb", buffering=0) as file:
        size = 1 << 20
        while size >= BLOCK:
            try:
                file.write(b"\xa5" * size)
            except OSError:
                size //= 2
        file.flush()
        length = ballast.stat().st_size
        file.truncate(max(0, length - leave))
    return ballast


FULL_DISK: dict[str, Callable[[Vault], object]] = {
    "checkpoint": lambda vault: vault.workspace("work").checkpoint("three"),
    "restore": lambda vault: vault.workspace("work").restore("one"),
    "fork": lambda vault: vault.fork("task", source="work"),
    "fork delete": lambda vault: vault.delete_fork("work"),
    "write": lambda vault: vault.workspace("work").write("a", b"w" * 300_000),
    "merge": lambda vault: vault.workspace("work").merge("main"),
    "undo": lambda vault: vault.workspace("work").undo(),
    "exec": lambda vault: vault.workspace("work").exec("sh", "-c", "echo 1 > of-command; cat big > copied"),
    "fetch": lambda vault: vault.fetch(),
    "gc": lambda vault: vault.gc(grace_days=0, keep_days=0, keep_operations=1),
}
MAY_CHANGE_FILES = ("fork delete", "exec")
"""What may have changed files when it is refused."""


def _prepare(vault: Vault, remote: Path) -> None:
    """Give each operation something to do."""
    main = vault.workspace("main")
    main.write("of main", b"1")
    main.checkpoint()
    gone = vault.fork("gone")
    gone.write("garbage", bytes(range(256)) * 2000)
    gone.checkpoint()
    vault.delete_fork("gone")
    shutil.rmtree(remote, ignore_errors=True)
    subprocess.run(["git", "clone", "-q", "--bare", vault.path, remote], check=True)
    author = ["-c", "user.name=a", "-c", "user.email=b"]
    blob = subprocess.run(
        ["git", "hash-object", "-w", "--stdin"], cwd=remote, input=os.urandom(100_000), check=True, capture_output=True
    ).stdout.decode()
    tree = subprocess.run(
        ["git", "mktree"],
        cwd=remote,
        input=f"100644 blob {blob.strip()}\tfetched\n",
        text=True,
        check=True,
        capture_output=True,
    ).stdout.strip()
    commit = subprocess.run(
        ["git", *author, "commit-tree", "-m", "theirs", tree], cwd=remote, text=True, check=True, capture_output=True
    ).stdout.strip()
    subprocess.run(["git", "update-ref", "refs/heads/theirs", commit], cwd=remote, check=True)
    vault.add_remote("origin", str(remote))


def _try_on_full_disk(point: Path, name: str, leave: int) -> None:
    home = point / "home"
    vault = make_vault(home, make_source(point / "source"))
    vault.workspace("work").write("big", bytes(range(256)) * 2000)
    _prepare(vault, point.parent / "remote")
    before = read_files(vault.workspace("work"))
    vault.close()
    sync_file_system(point)
    ballast = _fill(point, leave)
    with Avfs(home) as avfs, pytest.MonkeyPatch.context() as patched:
        for call, real in _SYNCS.items():
            patched.setattr(os, call, real)
        vault = avfs.open_vault("v")
        refused = error_of(lambda: FULL_DISK[name](vault))
        if refused is not None:
            is_unsaid = "couldn't write" in str(refused)  # of a ref's file git does not say why
            assert is_unsaid or refused.details.get("errno") == errno.ENOSPC, (refused.code, refused)
            assert name in MAY_CHANGE_FILES or read_files(vault.workspace("work")) == before
    ballast.unlink()
    with Avfs(home) as avfs:
        vault = avfs.open_vault("v")
        check_vault(vault)
        work = vault.workspace("work") if vault._core.has_fork("work") else vault.fork("work")
        work.write("after", b"work goes on\n")

        assert work.checkpoint().outcome == "created"
        trash = [path.read_bytes() for path in (vault.path / "avfs" / "trash").rglob("uncommitted")]

        assert UNCOMMITTED in reachable_contents(vault.path) or trash == [UNCOMMITTED]
        check_vault(vault)
    shutil.rmtree(home)
    shutil.rmtree(point / "source")


@pytest.mark.needs("root", "loop")
@pytest.mark.parametrize("name", FULL_DISK)
def test_a_full_disk_is_a_clear_error_and_loses_nothing(name: str, mount_dir: Path) -> None:
    """With any little space left an operation succeeds or says that the disk is full.

    It works when there is space again.
    """
    with image("ext4", mount_dir, size=24 << 20, options=["-m", "0"]) as disk:
        for blocks in (0, *one_in(2, (1, 2, 4, 8, 16, 32, 64, 128))):
            _try_on_full_disk(disk.point, name, blocks * BLOCK)


@pytest.mark.needs("root")
@pytest.mark.parametrize("name", ["checkpoint", "restore", "merge", "exec", "fetch"])
def test_a_full_tmpfs_is_a_clear_error_and_loses_nothing(name: str, mount_dir: Path) -> None:
    """The same where not even the map of a lock file has room."""
    point = mount_dir / "tmpfs"
    point.mkdir()
    assert mount("tmpfs", point, "tmpfs", "size=8m")
    for blocks in (0, 1, 2, 4, 8, 32):
        _try_on_full_disk(point, name, blocks * BLOCK)


@pytest.mark.needs("root", "loop")
def test_a_vault_that_does_not_fit_is_not_there(mount_dir: Path) -> None:
    """Making a vault on a disk that is too small fails as a whole."""
    with image("ext4", mount_dir, size=24 << 20, options=["-m", "0"]) as disk:
        source = make_source(disk.point / "source")
        (source / "big").write_bytes(bytes(range(256)) * 10_000)
        for blocks in (0, 2, 8, 32, 128):
            ballast = _fill(disk.point, blocks * BLOCK)
            with Avfs(disk.point / "home") as avfs:
                refused = error_of(lambda avfs=avfs: avfs.create_vault("v", source=source))  # type: ignore[misc]  # a default binds
                if refused is not None:
                    assert refused.details.get("errno") == errno.ENOSPC, refused
                    assert avfs.list_vaults() == []
            ballast.unlink()
            with Avfs(disk.point / "home") as avfs:
                if not avfs.list_vaults():
                    avfs.create_vault("v", source=source)

                assert avfs.open_vault("v").workspace().read("big") == bytes(range(256)) * 10_000
            shutil.rmtree(disk.point / "home")


INJECTED = [
    ("write", "error=EIO"),
    ("write", "error=ENOSPC"),
    ("fsync", "error=EIO"),
    ("fdatasync", "error=EIO"),
    ("rename,renameat2", "error=EIO"),
    ("link,linkat", "error=ENOSPC"),
    ("fsync", "signal=KILL"),
    ("rename,renameat2", "signal=KILL"),
    ("link,linkat,unlink,unlinkat", "signal=KILL"),
    ("pwrite64,ftruncate", "signal=KILL"),
]


@pytest.mark.needs("strace")
@pytest.mark.parametrize("operation", ["checkpoint", "restore"])
@pytest.mark.parametrize(("calls", "what"), INJECTED, ids=[f"{calls}-{what}" for calls, what in INJECTED])
def test_a_system_call_that_fails_or_kills_loses_nothing(operation: str, calls: str, what: str, tmp_path: Path) -> None:
    """Whichever system call fails, or is the last one, the state is the old one or the new one and work goes on."""
    strace = ["strace", "-f", "-qq", "-o", "/dev/null", "-e", f"trace={calls}", "-e"]
    for when in (1, *one_in(2, (2, 3, 5, 8))):
        home = tmp_path / str(when)
        vault = make_vault(home, make_source(tmp_path / f"source{when}"))
        before = read_files(vault.workspace("work"))
        vault.close()
        done = subprocess.run(
            [
                *strace,
                f"inject={calls}:{what}:when={when}",
                sys.executable,
                "-B",
                "-m",
                "tests.support.oneshot",
                str(home),
                operation,
            ],
            cwd=ROOT,
            check=False,
            capture_output=True,
            text=True,
        )

        assert "Traceback" not in done.stderr, done.stderr
        with Avfs(home) as avfs:
            vault = avfs.open_vault("v")
            check_vault(vault)
            work = vault.workspace("work")
            files = read_files(work)

            assert files == before or (operation == "restore" and b"only-one" in files and b"uncommitted" not in files)
            assert b"uncommitted" in files or UNCOMMITTED in reachable_contents(vault.path)
            work.write("after", b"work goes on\n")

            assert work.checkpoint().outcome == "created"
            check_vault(vault)


@pytest.mark.parametrize("seed", range(6))
def test_a_process_that_is_killed_at_any_moment_loses_nothing(seed: int, tmp_path: Path) -> None:
    """SIGKILL at a random moment of any work: what was acknowledged is there, and the next process just goes on."""
    result = Round("kill", seed)
    acknowledged = interrupt_workload(tmp_path / "home", result, lambda: None)
    check_acknowledged(tmp_path / "home", acknowledged, result, rebooted=False)

    assert result.bad == []
    assert result.acknowledged
