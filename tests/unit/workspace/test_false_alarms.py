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
    assert _codes(vault) == [("audit.unreadable", "note")]
