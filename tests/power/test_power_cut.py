"""A power cut loses nothing that was acknowledged."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from avfs_git import Avfs, Vault
from tests.support.faults import check_vault, git, make_source, make_vault
from tests.support.powercut import Disk, cut_at_sync, image, pretend_reboot, run_round
from tests.support.seeds import take_points

pytestmark = [pytest.mark.slow, pytest.mark.needs("root", "git", "loop"), pytest.mark.synced]

ROUNDS = 4
"""`make power` runs 18 on each file system."""


@pytest.mark.parametrize("kind", ["ext4", pytest.param("xfs", marks=pytest.mark.needs("xfs"))])
def test_what_was_acknowledged_survives_a_power_cut(kind: str, mount_dir: Path) -> None:
    """After a power cut every acknowledged checkpoint is there, git finds no fault, and every workspace goes on."""
    with image(kind, mount_dir) as disk:
        rounds = [run_round(disk, seed) for seed in range(ROUNDS)]

    assert [(one.seed, one.bad) for one in rounds if one.bad] == []
    assert sum(one.acknowledged for one in rounds) > ROUNDS


@pytest.mark.parametrize("kind", ["ext4", pytest.param("xfs", marks=pytest.mark.needs("xfs"))])
def test_a_missing_sync_is_noticed(kind: str, mount_dir: Path) -> None:
    """The rounds above mean something: where nothing is forced to disk, they find what is lost."""
    with image(kind, mount_dir) as disk:
        rounds = [run_round(disk, seed, unsynced=True) for seed in range(2)]

    assert [one.seed for one in rounds if one.bad]


def _merge(vault: Vault) -> None:
    main = vault.workspace("main")
    main.write("of main", b"1")
    main.checkpoint()
    vault.workspace("work").merge("main")


def _bring_back(vault: Vault) -> None:
    vault.delete_fork("work")
    vault.undo()


SYNCING: dict[str, tuple[Callable[[Vault], object], Callable[[Vault], object]]] = {
    "checkpoint": (
        lambda vault: vault.workspace("work").checkpoint("three"),
        lambda vault: vault.workspace("work").list_checkpoints()[0].labels == ("three",),
    ),
    "restore": (
        lambda vault: vault.workspace("work").restore("one"),
        lambda vault: vault.workspace("work").read("a") == b"first\n",
    ),
    "undo": (
        lambda vault: vault.workspace("work").undo(),
        lambda vault: vault.workspace("work").read("a") != b"third, uncommitted\n",
    ),
    "fork": (lambda vault: vault.fork("task", source="work"), lambda vault: vault.fork_info("task").head),
    "merge": (_merge, lambda vault: vault.workspace("work").exists("of main")),
    "gc": (lambda vault: vault.gc(grace_days=0, keep_days=0, keep_operations=1), lambda vault: vault.has_fork("work")),
    "undo of fork delete": (_bring_back, lambda vault: vault.has_fork("work")),
    "fork delete": (
        lambda vault: vault.delete_fork("work"),
        lambda vault: "work" not in [info.name for info in vault.list_forks()],
    ),
}
"""What is done, and how to see that it is in force."""


@pytest.mark.parametrize("name", SYNCING)
@pytest.mark.parametrize("kind", ["ext4", pytest.param("xfs", marks=pytest.mark.needs("xfs"))])
def test_nothing_is_acknowledged_that_a_cut_before_a_sync_takes(kind: str, name: str, mount_dir: Path) -> None:
    """When the disk goes right before an operation's n-th sync, the operation fails, or what it acknowledged is there.

    The two file systems have different ones of the syncs.
    """
    act, is_in_force = SYNCING[name]
    with image(kind, mount_dir) as disk:
        for _, number in take_points(list(SYNCING).index(name) + (kind == "xfs")):
            home = disk.point / f"home{number}"
            vault = make_vault(home, make_source(disk.point / f"source{number}"))
            vault.close()
            outcome = cut_at_sync(disk, home, act, number)
            disk.unmount()
            disk.mount()
            pretend_reboot(home / "vaults" / "v.git")
            with Avfs(home) as avfs:
                vault = avfs.open_vault("v")

                assert outcome == "cut" or is_in_force(vault), (
                    f"the sync {number} of {name} was acknowledged and is gone"
                )
                check_vault(vault)
            if outcome == "done":
                break

    assert number > 2


@pytest.mark.parametrize("kind", ["ext4", pytest.param("xfs", marks=pytest.mark.needs("xfs"))])
def test_what_git_committed_is_whole_after_a_power_cut(kind: str, mount_dir: Path) -> None:
    """A commit by git in a vault's tree is there with all its objects once avfs has acknowledged anything after it.

    Without the vault's settings, git leaves a branch that names what the disk has not.
    """
    with image(kind, mount_dir) as disk:
        found = [
            _commit_and_cut(disk, name, *settings)
            for name, settings in (("ours", ()), ("none", ("-c", "core.fsync=none")))
        ]

    assert found == [True, False]


def _commit_and_cut(disk: Disk, name: str, *settings: str) -> bool:
    home, tree = disk.point / name, disk.point / f"tree-{name}"
    vault = make_vault(home, make_source(disk.point / f"source-{name}"))
    git(vault.path, "worktree", "add", "-q", "-b", "beside", str(tree), "work")
    for number in range(30):
        (tree / f"{number}").write_bytes(b"%d\n" % number)
    of_tree = vault.path / "worktrees" / tree.name
    git(of_tree, f"--work-tree={tree}", *settings, "add", "-A")
    git(of_tree, *settings, "-c", "user.name=Ada", "-c", "user.email=ada@example.org", "commit", "-q", "-m", "by git")
    commit = git(of_tree, "rev-parse", "HEAD")
    vault.workspace("work").checkpoint("three")
    vault.close()
    disk.cut_power()
    disk.unmount()
    disk.mount()
    fsck = subprocess.run(["git", "-C", str(vault.path), "fsck", "--strict"], check=False, capture_output=True)
    return fsck.returncode == 0 and git(vault.path, "rev-parse", "refs/heads/beside") == commit
