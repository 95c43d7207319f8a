"""A damaged table of the vault's own commits: the doctor makes it again, and nothing goes before that."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from avfs_git import Avfs, Vault
from avfs_git.errors import VaultError
from avfs_git.gitstore.objects.owncommits import NAME
from tests.support.faults import git, make_source

pytestmark = pytest.mark.needs("git", "whiteout", "user-xattrs")

_SLOT = 40
"""Bytes of a slot; see docs/design/format.md."""
DAMAGES: dict[str, Callable[[bytes], bytes | None]] = {
    "gone": lambda _: None,
    "empty": lambda _: b"",
    "zeros": lambda table: bytes(len(table)),
    "cut short": lambda table: table[: len(table) // 2],
    "all but one": lambda table: _keep_one(table),  # noqa: PLW0108 - it stands below
}


def _keep_one(table: bytes) -> bytes:
    """Zero all slots but the header and the first that is taken."""
    slots = [table[at : at + _SLOT] for at in range(0, len(table), _SLOT)]
    first = next(number for number, slot in enumerate(slots) if number and any(slot))
    return b"".join(slot if number in (0, first) else bytes(_SLOT) for number, slot in enumerate(slots))


@pytest.fixture
def vault(tmp_path: Path) -> Iterator[Vault]:
    """A vault whose fork has three states with other ignored files."""
    with Avfs(tmp_path / "home") as avfs, avfs.create_vault("v", source=make_source(tmp_path / "source")) as made:
        with made.fork("work") as work:
            for number in range(3):
                work.write("secret.log", b"%d\n" % number)
                work.checkpoint(f"s{number}")
        yield made


def _damage(vault: Vault, how: str) -> None:
    table = vault.path / NAME
    left = DAMAGES[how](table.read_bytes())
    table.unlink()
    if left is not None:
        table.write_bytes(left)


@pytest.mark.parametrize("how", DAMAGES)
def test_what_it_has_lost_comes_back(vault: Vault, how: str) -> None:
    """Each state has its ignored files again; until then gc refuses and says what helps."""
    assert vault.doctor().problems == ()
    _damage(vault, how)

    with pytest.raises(VaultError) as refused:
        vault.gc(grace_days=0)
    assert "doctor --repair" in str(refused.value.hint)
    found = [problem for problem in vault.doctor().problems if problem.code == "vault.commits_damaged"]
    assert [problem.fixable for problem in found] == [True]
    vault.doctor(repair=True)

    assert vault.doctor().problems == ()
    vault.gc(grace_days=0, keep_days=0, keep_operations=1)
    with vault.workspace("work") as work:
        for number in range(3):
            work.restore(f"s{number}")
            assert work.read("secret.log") == b"%d\n" % number


def test_a_commit_from_elsewhere_counts_no_more_than_before(vault: Vault) -> None:
    """What others made, and a merge that brought it, is not noted: its header may name any sidecar."""
    work = vault.workspace("work")
    own = git(vault.path, "cat-file", "commit", "refs/heads/work")
    sidecar = next(line for line in own.splitlines() if line.startswith("avfs-sidecar"))
    tree = git(vault.path, "rev-parse", "refs/heads/work^{tree}").strip()
    parent = git(vault.path, "rev-parse", "refs/heads/work").strip()
    who = "A <a@b> 1700000000 +0000"
    forged = f"tree {tree}\nparent {parent}\nauthor {who}\ncommitter {who}\n{sidecar}\n\nforged\n"
    text = vault.path.parent / "forged"
    text.write_text(forged)
    oid = git(vault.path, "hash-object", "-t", "commit", "-w", str(text)).strip()
    git(vault.path, "update-ref", "refs/heads/theirs", oid)
    work.merge("theirs")
    _damage(vault, "gone")
    vault.doctor(repair=True)

    assert git(vault.path, "rev-parse", "refs/heads/work").strip() == oid
    assert not vault._core.store.own_commits.has(bytes.fromhex(oid))  # type: ignore[arg-type]  # an id is these bytes
