"""A vault that goes while it is open: each call says so, with its path, and nothing is made in its place."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from avfs_git import Home
from avfs_git.errors import AvfsError, VaultGone
from avfs_git.sdk import Vault, Workspace
from tests.support.waiting import wait_for


@pytest.fixture
def vault(mount_dir: Path) -> Iterator[Vault]:
    """A vault with a file that is saved, and another one that is not."""
    with Home(mount_dir / "home") as home:
        vault = home.create_vault("v")
        work = vault.workspace()
        work.write("a", b"1")
        work.checkpoint("one")
        work.write("b", b"2")
        yield vault


def _calls(vault: Vault, work: Workspace) -> list[Callable[[], object]]:
    return [
        lambda: work.read("a"),
        lambda: work.exists("b"),
        lambda: work.write("c", b"3"),
        lambda: work.list_dir("/"),
        work.status,
        lambda: work.checkpoint("two"),
        lambda: work.restore("one"),
        work.undo,
        work.log,
        lambda: work.exec("true"),
        lambda: work.grep("1"),
        work.mount,
        lambda: vault.fork("z"),
        vault.list_forks,
        vault.workspace,
        vault.operations,
        vault.doctor,
        vault.gc,
        lambda: vault.set_config("gc.keep_days", "3"),
        vault.policy.approvals,
    ]


def _remove(vault: Vault, home: Path, way: str) -> None:
    with Home(home) as other:
        if way == "deleted":
            other.delete_vault("v")
        elif way == "renamed":
            other.rename_vault("v", "w")
        else:
            shutil.rmtree(vault.path)
        if way == "replaced":
            other.create_vault("v").close()


@pytest.mark.parametrize("way", ["deleted", "renamed", "removed", "replaced"])
def test_each_call_says_that_the_vault_is_gone(vault: Vault, mount_dir: Path, way: str) -> None:
    """Also where the file is in memory, and where another vault has its place: that one is left alone."""
    work = vault.workspace()
    assert work.read("a") == b"1"
    _remove(vault, mount_dir / "home", way)

    before = sorted(vault.path.rglob("*"))
    for call in _calls(vault, work):
        with pytest.raises(VaultGone) as caught:
            call()
        assert caught.value.details["path"] == str(vault.path)
    vault.close()
    assert sorted(vault.path.rglob("*")) == before
    assert vault.path.exists() == (way == "replaced")


@pytest.mark.slow
@pytest.mark.needs("fuse", "git", "user-xattrs", "whiteout")
def test_a_call_for_a_mounted_fork_says_so_as_well(vault: Vault, mount_dir: Path) -> None:
    """A person has removed the directory of a vault that is mounted: its session ends."""
    work = vault.workspace()
    session = work.mount(mount_dir / "m", backend="fuse")
    try:
        shutil.rmtree(vault.path, ignore_errors=True)
        for call in (lambda: work.read("a"), work.status, lambda: work.checkpoint("two")):
            with pytest.raises(VaultGone):
                call()
        assert not vault.path.exists()
    finally:
        with suppress(AvfsError):
            session.unmount(lazy=True)
        wait_for(lambda: not (mount_dir / "m" / "a").exists())
