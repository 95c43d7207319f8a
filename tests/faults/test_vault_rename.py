"""Renaming a vault, interrupted at every fault point: it has the old or the new name; no step by hand is needed."""

from __future__ import annotations

import errno
import os
from itertools import count
from pathlib import Path

import pytest

from avfs_git import Home
from avfs_git.errors import AvfsError, InvalidInput, VaultExists, VaultNotFound, WorkspaceMounted
from tests.support.failing import FailAt, armed
from tests.support.faults import check_vault, die_in

pytestmark = [pytest.mark.needs("user-xattrs", "whiteout"), pytest.mark.usefixtures("unsynced")]


def make(home: Path) -> None:
    """Make a vault with an enabled hook, trust, attempts and unsaved work, and another one."""
    with Home(home) as avfs:
        vault = avfs.create_vault("old")
        vault.workspace().write("a", b"saved\n")
        vault.workspace().checkpoint("one")
        vault.workspace().write("b", b"not saved\n")
        hook = vault.path / "avfs/hooks/post-checkpoint"
        hook.parent.mkdir(exist_ok=True)
        hook.write_bytes(b"#!/bin/sh\n")
        hook.chmod(0o755)
        vault.enable_hook("post-checkpoint")
        avfs.trust_vault(vault.path)
        avfs.create_vault("other")
    record = home / "attempts/old/run.json"
    record.parent.mkdir(parents=True)
    record.write_bytes(b"{}")


def rename(home: Path) -> None:
    """Rename the vault."""
    with Home(home) as avfs:
        avfs.rename_vault("old", "new")


def check(home: Path, *names: str) -> str:
    """Demand a whole vault of one of the names, which is the current one; return its name."""
    with Home(home) as avfs:
        (name,) = {info.name for info in avfs.list_vaults()} - {"other"}
        assert name in names
        assert avfs.current_vault() == name
        vault = avfs.open_vault()
        assert (vault.workspace().read("a"), vault.workspace().read("b")) == (b"saved\n", b"not saved\n")
        assert [hook.state for hook in vault.list_hooks() if hook.name == "post-checkpoint"] == ["enabled"]
        assert vault.path.resolve() in avfs.trusted_vaults()
        check_vault(vault)
    assert (home / "attempts" / name / "run.json").read_bytes() == b"{}"
    return name


def test_a_vault_is_renamed(tmp_path: Path) -> None:
    """With all that the home knows of it; what is taken, mounted, missing or the vault of a directory is refused."""
    make(tmp_path)
    with Home(tmp_path) as avfs:
        for name, kind in (("other", VaultExists), ("old", VaultExists)):
            with pytest.raises(kind):
                avfs.rename_vault("old", name)
        with pytest.raises(VaultNotFound):
            avfs.rename_vault("nosuch", "new")
        with pytest.raises(InvalidInput):
            avfs.rename_vault("old", "a/b")
        info = avfs.rename_vault("old", "new")
        assert (info.name, info.current) == ("new", True)
    check(tmp_path, "new")
    with Home(tmp_path) as avfs:
        assert [path.name for path in avfs.trusted_vaults()] == ["new.git"]
    assert not (tmp_path / "attempts/old").exists()


@pytest.mark.needs("fuse")
def test_a_mounted_vault_keeps_its_name(mount_dir: Path) -> None:
    """Until its fork is unmounted."""
    make(mount_dir / "home")
    with Home(mount_dir / "home") as avfs:
        with avfs.open_vault("old").workspace().mount(mount_dir / "tree"), pytest.raises(WorkspaceMounted):
            avfs.rename_vault("old", "new")
        avfs.rename_vault("old", "new")
    check(mount_dir / "home", "new")


@pytest.mark.needs("git", "fuse")
def test_the_vault_of_a_directory_keeps_its_name(tmp_path: Path) -> None:
    """The directory finds it by that."""
    source = tmp_path / "source"
    source.mkdir()
    with Home(tmp_path / "home") as avfs:
        session = avfs.fork_directory(source, tmp_path / "tree")
        name = session.vault.name
        session.unmount()
        with pytest.raises(InvalidInput, match="finds the vault by this name"):
            avfs.rename_vault(name, "new")


@pytest.mark.parametrize("stay", [False, True], ids=["once", "from-then-on"])
def test_a_failing_step_leaves_the_old_name(stay: bool, tmp_path: Path) -> None:
    """Or, after the rename, the new one; then it can be renamed back."""
    for point in count(1):
        make(home := tmp_path / str(point))
        fault = FailAt(point, lambda: OSError(errno.EIO, os.strerror(errno.EIO)), stay=stay)
        name = "new"
        try:
            with armed(fault):
                rename(home)
        except (AvfsError, OSError):
            name = "old"
        check(home, name)
        with Home(home) as avfs:
            avfs.rename_vault(name, "last")
        check(home, "last")
        if len(fault.seen) < point:
            break
    assert point > 3


def test_a_death_at_any_step_leaves_one_name(tmp_path: Path) -> None:
    """The old one or the new one; the next rename works."""
    seen = set()
    for point in count(1):
        make(home := tmp_path / str(point))
        died = die_in(lambda home=home: rename(home), point)  # type: ignore[misc]  # a default binds the loop's value
        name = check(home, "old", "new")
        seen.add((died, name))
        if name == "old":
            rename(home)
        check(home, "new")
        if not died:
            break
    assert seen == {(True, "old"), (True, "new"), (False, "new")}
