"""Directories of avfs's own that something else removed: told, and never taken for files that nobody changed."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from avfs_git.errors import NotAVault, WorkspaceDamaged
from avfs_git.host.mounts.mounts import list_mounts
from avfs_git.sdk import Avfs, Vault
from tests.support.servers import git
from tests.support.waiting import wait_for

pytestmark = pytest.mark.needs("user-xattrs")


@pytest.fixture
def vault(tmp_path: Path) -> Iterator[Vault]:
    """A vault with a fork that has a checkpoint and a file that is not saved."""
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "file").write_bytes(b"first\n")
    with Avfs(tmp_path / "home") as home, home.create_vault("v", source=tmp_path / "source") as vault:
        work = vault.fork("work")
        work.write("file", b"second\n")
        work.checkpoint("saved")
        work.write("new", b"not saved\n")
    with Avfs(tmp_path / "home") as home, home.open_vault("v") as vault:
        yield vault


def _codes(vault: Vault, *, repair: bool = False) -> list[tuple[str, bool]]:
    return [(problem.code, problem.fixed) for problem in vault.doctor(repair=repair).problems]


def test_a_workspace_without_its_upper_layer_is_refused(vault: Vault) -> None:
    """It would show the base, and commit it. What the log knows can be brought back."""
    shutil.rmtree(vault.path / "avfs" / "workspaces" / "work" / "upper")
    steps: list[Callable[[], object]] = [
        lambda: vault.workspace("work").status(),
        lambda: vault.workspace("work").read("file"),
        lambda: vault.workspace("work").checkpoint("wrong"),
        lambda: vault.workspace("work").write("file", b"third\n"),
    ]
    for step in steps:
        with pytest.raises(WorkspaceDamaged, match="is gone, with every file that changed since the fork began"):
            step()
    assert _codes(vault) == [("workspace.upper_lost", False)]
    assert _codes(vault, repair=True) == [("workspace.upper_lost", True)]
    work = vault.workspace("work")
    assert (work.read("file"), work.read("new")) == (b"second\n", b"not saved\n")
    assert {change.path for change in work.status().changed_files} == {b"new"}
    assert {(problem.code, problem.remedy) for problem in vault.doctor().problems} == {
        ("workspace.recovered", "Look whether all is there; the next checkpoint ends this warning.")
    }
    work.checkpoint()
    assert _codes(vault) == []


def test_a_damaged_configuration_names_a_way_on(vault: Vault) -> None:
    """The doctor does not begin, either."""
    vault.close()
    config = vault.path / "config"
    config.write_bytes(b"[core\nfoo")
    with Avfs(vault.path.parents[1]) as avfs, pytest.raises(NotAVault) as refused:
        avfs.open_vault(vault.name)
    assert refused.value.hint == f"Correct '{config}', or copy it from a backup."


def test_a_workspace_that_is_new_or_unused_is_whole(vault: Vault) -> None:
    """A fork that was never opened has no upper layer either."""
    vault.fork("fresh", source="work")
    assert not (vault.path / "avfs" / "workspaces" / "fresh" / "upper").exists()
    assert _codes(vault) == []
    assert vault.workspace("fresh").read("file") == b"second\n"


def test_a_deleted_fork_that_is_not_in_the_trash_is_named(vault: Vault) -> None:
    """By doctor, and by the undo, which brings back the commits."""
    vault.delete_fork("work")
    assert _codes(vault) == []
    (trashed,) = (vault.path / "avfs" / "trash").iterdir()
    shutil.rmtree(trashed)
    assert _codes(vault) == [("trash.missing", False)]
    done = vault.undo()
    assert [warning.code for warning in done.warnings] == ["undo.workspace_missing"]
    assert "fork 'work' is not in the trash" in done.warnings[0].message
    assert vault.workspace("work").read("file") == b"second\n"
    assert _codes(vault) == []


@pytest.mark.parametrize("left", [(), ("state", "lock"), ("state", "marked")])
def test_a_deleted_fork_that_is_not_whole_in_the_trash_is_named(vault: Vault, left: tuple[str, ...]) -> None:
    """Its directory is there, and what was in it is not, or not its upper layer."""
    vault.delete_fork("work")
    (trashed,) = (vault.path / "avfs" / "trash").iterdir()
    for entry in trashed.iterdir():
        if entry.name not in left:
            shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
    is_told = "marked" in left or not left  # without that file, nothing says that there was an upper layer
    assert _codes(vault) == ([("trash.missing", False)] if is_told else [])
    assert [warning.code for warning in vault.undo().warnings] == (["undo.workspace_missing"] if is_told else [])


def test_an_undo_that_finds_all_says_nothing(vault: Vault) -> None:
    """The fork may be deleted and brought back again and again."""
    for _ in range(2):
        vault.delete_fork("work")
        assert _codes(vault) == []
        assert vault.undo().warnings == ()
        assert vault.workspace("work").read("new") == b"not saved\n"


@pytest.mark.needs("fuse", "git")
@pytest.mark.parametrize("backend", ["fuse", pytest.param("overlay", marks=pytest.mark.needs("root", "overlayfs"))])
def test_gits_directory_of_a_mounted_tree_is_made_anew(mount_dir: Path, backend: str) -> None:
    """`git worktree remove -f -f` deletes files, then cannot remove `.git`.

    The next operation says so, and all can come back.
    """
    told: list[str] = []
    with Avfs(mount_dir / "home", on_warnings=lambda warnings: told.extend(each.code for each in warnings)) as home:
        vault = home.create_vault("v")
        work = vault.workspace()
        files = {name: name.encode() for name in ("a", "dir/b", "z")}
        for name, content in files.items():
            work.write(name, content)
        work.checkpoint("one")
        with work.mount(mount_dir / "tree", backend=backend) as session:
            tree = session.path
            assert git("status", "--porcelain", cwd=tree) == ""
            removed = ["git", f"--git-dir={vault.path}", "worktree", "remove", "-f", "-f", str(tree)]
            assert subprocess.run(removed, capture_output=True, check=False).returncode != 0
            assert not list((vault.path / "worktrees").glob("*"))

            gone = {change.path.decode() for change in work.status().changed_files}
            assert told == ["git.worktree_removed"]
            listed = git("status", "--porcelain", cwd=tree).splitlines()
            assert {line.strip() for line in listed} == {f"D {name}" for name in gone}
            if gone:
                work.undo()
            assert {name: (tree / name).read_bytes() for name in files} == files
            assert git("status", "--porcelain", cwd=tree) == ""
            (tree / "z").write_bytes(b"new")
            work.checkpoint("two")
            assert git("status", "--porcelain", cwd=tree) == ""
            assert vault.doctor().healthy
        assert told == ["git.worktree_removed"]


@pytest.mark.needs("fuse")
@pytest.mark.parametrize("backend", ["fuse", pytest.param("overlay", marks=pytest.mark.needs("root", "overlayfs"))])
def test_a_mount_whose_vault_and_server_are_gone_ends(mount_dir: Path, backend: str) -> None:
    """The mount goes, as where only the vault is gone, since no process could go on with it.

    What was written is in the moved vault.
    """
    with Avfs(mount_dir / "home") as home, home.create_vault("v") as vault:
        work, tree = vault.workspace(), mount_dir / "tree"
        pid = work.mount(tree, backend=backend).info().pid
        (tree / "new").write_bytes(b"kept")
        vault.path.rename(moved := vault.path.with_name("moved.git"))
        for server in Path(f"/proc/{pid}/task/{pid}/children").read_text("ascii").split():
            os.kill(int(server), signal.SIGKILL)

        wait_for(lambda: not [mount for mount in list_mounts() if mount.directory == tree])

        moved.rename(vault.path)
        assert work.read("new") == b"kept"
        assert work.checkpoint().outcome == "created"
        assert vault.sessions() == []
