"""`events` and `audit` of a fork that was renamed: what happened to it under each name, and nothing of other forks."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from avfs_git.model import Event
from avfs_git.sdk import Avfs, Vault
from avfs_git.workspace.vault.log.audit import AuditEntry

pytestmark = pytest.mark.usefixtures("unsynced")

_RULE = 'version = 1\n[[rule]]\nname = "no"\ncommands = ["shutdown"]\naction = "deny"\nreason = "no"\n'


@pytest.fixture
def vault(tmp_path: Path) -> Iterator[Vault]:
    """A vault in which a command is refused, with the time of this machine."""
    with Avfs(tmp_path / "home") as avfs:
        vault = avfs.create_vault("v")
        vault.policy.vault_file.write_text(_RULE)
        vault.workspace().write("base", b"")
        vault.workspace().checkpoint()
        yield vault


def _work(vault: Vault, fork: str, text: str) -> None:
    """Leave an operation and a refusal, which name `text`."""
    work = vault.workspace(fork)
    work.write("file", text.encode())
    work.checkpoint(text)
    vault.policy.check(["shutdown", text], fork=fork, harness="claude")


def _texts(found: list[Event]) -> list[str]:
    return [
        event.operation.description if event.operation is not None else str(event.details["command"]).split()[-1]
        for event in found
        if event.kind not in ("files", "fork_create")
    ]


def _audited(entries: list[AuditEntry]) -> list[str]:
    chosen = [entry for entry in entries if entry.event not in ("files", "fork_create")]
    return [str(entry.details.get("text") or str(entry.details["command"]).split()[-1]) for entry in chosen]


def test_events_follow_the_names_of_a_fork(vault: Vault) -> None:
    """A fork that takes over a name begins with that."""
    vault.fork("a")
    vault.fork("b")
    following = vault.events(fork="a", follow=True)
    heard = vault.policy.follow_audit(last=99, fork="a")
    _work(vault, "a", "one")
    _work(vault, "b", "two")
    before = _audited([next(heard) for _ in range(4)])
    vault.rename_fork("a", "t")
    vault.rename_fork("b", "a")
    _work(vault, "a", "three")
    _work(vault, "t", "four")

    mine = ["checkpoint one", "one", "rename fork a to t", "checkpoint four", "four"]
    other = ["checkpoint two", "two", "rename fork b to a", "checkpoint three", "three"]
    assert _texts(list(vault.events(fork="t"))) == mine
    assert _texts(list(vault.events(fork="a"))) == other
    assert _audited(vault.policy.audit(fork="t")[::-1]) == mine
    assert _audited(vault.policy.audit(fork="a")[::-1]) == other
    assert _texts([next(following) for _ in range(8)]) == mine
    assert before + _audited([next(heard) for _ in range(4)]) == mine
    following.close()

    vault.rename_fork("a", "gone")
    vault.delete_fork("gone")
    assert (
        _texts(list(vault.events(fork="a")))
        == _audited(vault.policy.audit(fork="a")[::-1])
        == [*other, "rename fork a to gone"]
    )
