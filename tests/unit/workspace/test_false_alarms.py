"""What doctor says of a vault in which nothing is wrong, and of what it could not look at."""

from __future__ import annotations

import pytest

from avfs_git.sdk import Vault, Workspace

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
