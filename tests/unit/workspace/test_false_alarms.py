"""What doctor says of a vault in which nothing is wrong, and of what it could not look at."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from avfs_git.sdk import Avfs, Vault, Workspace

pytestmark = pytest.mark.usefixtures("unsynced")


def _codes(vault: Vault) -> list[tuple[str, str]]:
    return [(found.code, found.severity) for found in vault.doctor().problems]


def test_a_deletion_that_was_undone_needs_no_trash(vault: Vault, work: Workspace) -> None:
    """Also where the fork has another name since."""
    work.write("a", b"")
    work.checkpoint()
    vault.fork("old").write("b", b"")
    for _ in range(2):
        vault.delete_fork("old")
        vault.undo()
    vault.rename_fork("old", "new")
    assert vault.workspace("new").read("b") == b""
    assert _codes(vault) == []
    vault.delete_fork("new")
    assert _codes(vault) == []


def test_a_file_that_stays_beside_history_is_no_problem(vault: Vault, work: Workspace) -> None:
    """It is there, as the tenets say."""
    work.write(".gitignore", b".env\n")
    work.write(".env", b"secret\n")
    work.checkpoint()
    work.remove(".gitignore")
    assert [warning.code for warning in work.status().warnings] == ["capture.kept_beside"]
    assert _codes(vault) == []


def test_an_audit_log_that_cannot_be_read_is_named(vault: Vault, work: Workspace) -> None:
    """Doctor says that it did not check it."""
    work.write("a", b"")
    work.checkpoint()
    (log,) = vault.path.rglob("audit.ndjson")
    log.rename(log.with_name("moved"))
    log.mkdir()
    assert _codes(vault) == [("vault.no_file", "error"), ("audit.unreadable", "note")]


@pytest.mark.parametrize("name", ["prune.lock", "forklocks", "audit.lock", "audit.ndjson", "notes.lock"])
def test_what_is_no_file_is_no_healthy_vault(vault: Vault, work: Workspace, name: str) -> None:
    """A directory where avfs has a file: what needs that is refused, so the doctor says so."""
    work.write("a", b"")
    work.checkpoint()
    place = vault.path / "avfs" / name
    place.unlink(missing_ok=True)
    place.mkdir()

    assert ("vault.no_file", "error") in _codes(vault)


def test_a_vault_without_its_format_is_not_healthy(vault: Vault, work: Workspace) -> None:
    """Avfs refuses to write there, so the doctor makes it again."""
    work.write("a", b"")
    work.checkpoint()
    vault.path.joinpath("avfs", "format").unlink()

    assert _codes(vault) == [("vault.no_format", "error")]
    assert [found.fixed for found in vault.doctor(repair=True).problems] == [True]
    assert _codes(vault) == []


@pytest.mark.parametrize("is_emptied", [False, True])
def test_a_vault_that_lost_all_of_avfs_is_not_healthy(vault: Vault, work: Workspace, is_emptied: bool) -> None:
    """Its refs are there, so other commands take it for another vault's; an empty state in its place would hide that."""
    work.write("a", b"")
    work.checkpoint()
    root = vault.path / "avfs"
    shutil.rmtree(root)
    if is_emptied:
        root.mkdir()

    assert _codes(vault) == [("vault.no_format", "error")]
    assert [found.fixed for found in vault.doctor(repair=True).problems] == [False]
    assert not (root / "format").exists()


def test_a_repository_that_avfs_never_wrote_to_is_healthy(home: Avfs, tmp_path: Path) -> None:
    """It has no format, nor refs of avfs's."""
    git_dir = tmp_path / "plain.git"
    subprocess.run(["git", "init", "-q", "--bare", str(git_dir)], check=True)

    assert _codes(home.open_vault(git_dir)) == []


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("avfs/trash/1-main/state", "vault.no_file"),
        ("avfs/workspaces/main/gitlink", "vault.no_directory"),
        ("avfs/workspaces/main/gitlink/.git", "vault.no_file"),
        ("avfs/workspaces/main/statcache", "vault.no_file"),
        ("avfs/workspaces/main/work/work", "vault.no_directory"),
        ("avfs/workspaces/other", "vault.no_directory"),
        ("worktrees/main", "vault.no_directory"),
        ("worktrees/main/avfs", "vault.no_file"),
        ("worktrees/main/locked", "vault.no_file"),
    ],
)
@pytest.mark.parametrize("has_pipe", [False, True])
def test_what_is_of_another_kind_is_told(vault: Vault, work: Workspace, name: str, code: str, has_pipe: bool) -> None:
    """A pipe, or a directory in place of a file and the other way around; once it is elsewhere, all is well."""
    work.write("a", b"")
    work.checkpoint()
    subprocess.run(["git", "branch", "other"], cwd=vault.path, check=True)
    place = vault.path / name
    place.unlink(missing_ok=True)
    place.parent.mkdir(parents=True, exist_ok=True)
    if has_pipe:
        os.mkfifo(place)
    elif code == "vault.no_file":
        place.mkdir()
    else:
        place.touch()

    told = [found for found in vault.doctor().problems if found.code == code]
    assert [found.severity for found in told] == ["error"]
    assert f"'{place}'" in told[0].remedy
    place.rename(vault.path / "elsewhere")
    assert ("vault.no_file", "error") not in _codes(vault)
    assert ("vault.no_directory", "error") not in _codes(vault)


@pytest.mark.parametrize("name", [".DS_Store", "notes"])
def test_a_file_of_another_program_among_workspaces_is_no_problem(vault: Vault, work: Workspace, name: str) -> None:
    """No fork can have its name, or none has it."""
    work.write("a", b"")
    work.checkpoint()
    (vault.path / "avfs" / "workspaces" / name).touch()

    assert _codes(vault) == []


@pytest.mark.slow
def test_a_check_that_fails_hides_no_other(vault: Vault, work: Workspace) -> None:
    """The log is a directory: what needs it cannot be checked, and the rest is."""
    work.write("a", b"")
    work.checkpoint()
    log = vault.path / "avfs" / "oplog"
    log.rename(log.with_name("moved"))
    log.mkdir()
    (vault.path / "objects" / "pack" / "pack-1.pack").touch()
    os.utime(vault.path / "objects" / "pack" / "pack-1.pack", (0, 0))

    codes = _codes(vault)
    assert codes[0] == ("vault.no_file", "error")
    assert ("host.failed", "error") in codes
    assert ("objects.pack_without_index", "warning") in codes


@pytest.mark.ordinary
@pytest.mark.parametrize(
    ("name", "mode", "codes"),
    [
        ("avfs/workspaces/main/work", 0, [("vault.closed", "error")]),
        ("avfs/workspaces", 0, [("vault.closed", "error"), ("host.failed", "error")]),
        ("avfs/notes.lock", 0, [("vault.closed", "error")]),
        ("avfs/oplog", 0o400, [("vault.closed", "error")]),
    ],
)
def test_what_is_closed_to_its_owner_is_told(
    vault: Vault, work: Workspace, name: str, mode: int, codes: list[tuple[str, str]]
) -> None:
    """Commands fail there, and the remedy mends it."""
    work.write("a", b"")
    work.checkpoint()
    place = vault.path / name
    if place.suffix:
        place.touch()
    place.chmod(mode)
    try:
        told = vault.doctor().problems
        assert sorted({(found.code, found.severity) for found in told}) == sorted(codes)
        (remedy,) = [found.remedy for found in told if found.code == "vault.closed"]
        subprocess.run(remedy.split("`")[1], shell=True, check=True)
    finally:
        place.chmod(0o700)
    assert _codes(vault) == []
