"""Several processes, and several threads, on one vault and on one workspace."""

from __future__ import annotations

import subprocess
import sys
import threading
from itertools import pairwise
from pathlib import Path

import pytest

from avfs_git import Avfs
from avfs_git.errors import ContentChanged, ForkNotFound, WorkspaceBusy
from avfs_git.host.locks.locks import Holder
from tests.support.faults import check_objects, check_vault, git
from tests.support.powercut import ROOT

pytestmark = [pytest.mark.slow, pytest.mark.needs("git", "user-xattrs", "whiteout"), pytest.mark.synced]


def _start(job: str, home: Path, name: str, count: int) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "tests.support.worker", job, str(home), name, str(count)],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def _finish(workers: list[subprocess.Popen[str]]) -> list[str]:
    """Wait for all, also when one fails; give what they printed."""
    done = [worker.communicate() for worker in workers]
    for worker, (_, errors) in zip(workers, done, strict=True):
        assert worker.returncode == 0, errors
    return [output for output, _ in done]


def _vault(home: Path) -> None:
    with Avfs(home) as avfs:
        work = avfs.create_vault("v").workspace()
        work.write("number", b"0")
        work.write("lines", b"")
        work.checkpoint()


def test_two_processes_on_one_fork_lose_no_update(tmp_path: Path) -> None:
    """Writes with `expect`, appends and checkpoints of two processes on one fork interleave without a loss."""
    home, count = tmp_path / "home", 40
    _vault(home)
    _finish([_start("count_up", home, name, count) for name in ("a", "b")])
    with Avfs(home) as avfs:
        vault = avfs.open_vault("v")
        work = vault.workspace()

        assert work.read("number") == b"%d" % (2 * count)
        assert sorted(work.read("lines").decode().splitlines()) == sorted(
            f"{name} {step}" for name in "ab" for step in range(count)
        )
        work.checkpoint()

        assert git(vault.path, "cat-file", "blob", "main:number") == str(2 * count)
        assert git(vault.path, "cat-file", "blob", "main:own/a") == git(vault.path, "cat-file", "blob", "main:own/b")
        assert work.status().changed_files == ()
        check_vault(vault)


def test_an_open_workspace_follows_the_name_of_its_fork(tmp_path: Path) -> None:
    """Deleted by another program, it cannot be read; made anew, the new one is read, as writes go to that."""
    with Avfs(tmp_path / "home") as avfs, Avfs(tmp_path / "home") as other:
        work = avfs.create_vault("v").fork("task")
        work.write("old", b"1")
        work.read("old")

        other.open_vault("v").delete_fork("task")
        for look in (lambda: work.read("old"), lambda: work.exists("old"), lambda: work.list_dir("/"), work.status):
            with pytest.raises(ForkNotFound):
                look()

        other.open_vault("v").fork("task")
        assert not work.exists("old")
        work.write("new", b"2")
        assert other.open_vault("v").workspace("task").read("new") == b"2"


def test_sixteen_processes_on_one_vault_corrupt_nothing(tmp_path: Path) -> None:
    """Sixteen processes, each on a fork of its own, leave every ref right, every object whole and a complete log."""
    home, count = tmp_path / "home", 8
    _vault(home)
    names = [f"task{number}" for number in range(16)]
    _finish([_start("own_fork", home, name, count) for name in names])
    with Avfs(home) as avfs:
        vault = avfs.open_vault("v")
        forks = {info.name: info for info in vault.list_forks()}

        assert set(forks) == {"main", *names, *(f"{name}-{step}" for name in names for step in (3, 7))}

        operations = vault.operations(limit=100_000)

        assert sorted(one.id for one in operations) == list(range(1, len(operations) + 1))
        for name in names:
            kinds = [one.kind for one in reversed(vault.operations(fork=name, limit=1000))]

            assert vault.workspace(name).read("file") == f"{name} is done\n".encode()
            assert kinds.count("fork_create") == 1
            assert kinds.count("checkpoint") == count + 1
            assert kinds.count("restore") == 2
            assert forks[name].head == vault.workspace(name).checkpoint_details("done").checkpoint.id
            assert vault.workspace(name).status().changed_files == ()
        check_vault(vault)


def test_a_busy_workspace_is_reported_with_its_holder(tmp_path: Path) -> None:
    """Whoever cannot have a workspace in time learns which process has it; reading goes on meanwhile."""
    home = tmp_path / "home"
    _vault(home)
    holder = _start("hold", home, "main", 0)
    waited_for: list[tuple[str, Holder | None]] = []
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with Avfs(home, lock_timeout_s=0.5, on_wait=lambda fork, held: waited_for.append((fork, held))) as avfs:
            work = avfs.open_vault("v").workspace()
            with pytest.raises(WorkspaceBusy) as caught:
                work.write("number", b"1")
    finally:
        _finish([holder])

    assert [(fork, held and held.pid) for fork, held in waited_for] == [("main", holder.pid)]
    assert caught.value.details["pid"] == holder.pid
    assert f"pid {holder.pid}" in caught.value.message
    with Avfs(home) as avfs:
        avfs.open_vault("v").workspace().write("number", b"1")


@pytest.mark.parametrize(
    "command", ["gc --prune=now --quiet", "repack -a -d -q", "prune --expire=now", "pack-refs --all"]
)
def test_checkpoints_survive_git_housekeeping(command: str, tmp_path: Path) -> None:
    """Nothing that is acknowledged is lost to git collecting garbage, repacking, pruning or packing refs meanwhile."""
    home, count = tmp_path / "home", 25
    _vault(home)
    workers = [_start("checkpoints", home, name, count) for name in ("a", "b")]
    git_dir = home / "vaults" / "v.git"
    rounds = 0
    while any(worker.poll() is None for worker in workers):
        # Git may find something gone that it has just seen; what counts is what is left.
        subprocess.run(["git", f"--git-dir={git_dir}", *command.split()], check=False, capture_output=True)
        rounds += 1
    said = [line for output in _finish(workers) for line in output.split()]
    kept = set(git(git_dir, "rev-list", "--all").split())

    assert rounds
    assert len(said) == 2 * count
    assert set(said) <= kept
    check_objects(git_dir)
    with Avfs(home) as avfs:
        vault = avfs.open_vault("v")
        for name in ("a", "b"):
            assert vault.workspace(name).status().changed_files == ()
        check_vault(vault)


def test_threads_on_one_workspace_lose_no_update(tmp_path: Path) -> None:
    """Threads may share a workspace object: writes, reads and checkpoints interleave without a loss."""
    home, count, threads = tmp_path / "home", 25, 6
    _vault(home)
    failures: list[BaseException] = []
    with Avfs(home, lock_timeout_s=300) as avfs:  # a slow disk lets the last of them wait
        vault = avfs.open_vault("v")
        work = vault.workspace()

        def run(name: str) -> None:
            try:
                for step in range(count):
                    work.write(f"own/{name}", f"{step}\n".encode())
                    while True:
                        data = work.read("number")
                        try:
                            oid = work.stat("number", with_oid=True).oid
                            if work.read("number") == data:
                                work.write("number", b"%d" % (int(data) + 1), expect=oid)
                                break
                        except ContentChanged:
                            continue
                    work.write("lines", f"{name}\n".encode(), append=True)
                    if step % 5 == 0:
                        work.checkpoint()
                        vault.fork(f"{name}-{step}")
            except BaseException as error:  # noqa: BLE001 - told by the test, where it counts
                failures.append(error)

        running = [threading.Thread(target=run, args=(f"t{number}",)) for number in range(threads)]
        for thread in running:
            thread.start()
        for thread in running:
            thread.join()

        assert failures == []
        assert work.read("number") == b"%d" % (threads * count)
        assert len(work.read("lines").splitlines()) == threads * count
        work.checkpoint()
        check_vault(vault)


def test_sixteen_agents_merge_into_one_target_at_once(tmp_path: Path) -> None:
    """The target ends with every change, its history leads through every merge, and nothing is left uncommitted."""
    home, count = tmp_path / "home", 8
    _vault(home)
    names = [f"agent{number}" for number in range(16)]
    _finish([_start("merge_into_main", home, name, count) for name in names])
    with Avfs(home) as avfs:
        vault = avfs.open_vault("v")
        work = vault.workspace()

        assert work.status().clean

        for name in names:
            assert [work.read(f"own/{name}/{step}") for step in range(count)] == [
                b"%d\n" % step for step in range(count)
            ]
            assert work.read(f"counts/{name}") == b"%d\n" % (count - 1)
            assert git(vault.path, "merge-base", "--is-ancestor", name, "main") == ""

        done = [operation for operation in work.operations(limit=10_000) if operation.kind == "merge"]

        assert len(done) == len(names) * count

        # One after the other on the target's first parents: each merge stands on the one before.
        moves = [move for operation in reversed(done) for move in operation.moves]

        assert all(before.new == after.old for before, after in pairwise(moves))

        check_vault(vault)
