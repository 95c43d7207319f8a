"""The table of the commits whose sidecar counts: found by their ids, whatever their number, and after every crash."""

from __future__ import annotations

import os
import random
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from avfs_git.errors import HostError, ObjectMissing, VaultError
from avfs_git.gitstore.objects.owncommits import NAME, OwnCommits, make_table
from avfs_git.paths import Oid
from tests.support.failing import FailAt, armed


@pytest.fixture
def vault(tmp_path: Path) -> Path:
    """A vault's directory, as far as the table needs it."""
    (tmp_path / "avfs").mkdir()
    make_table(tmp_path)
    (tmp_path / "avfs" / "format").write_bytes(b"1\n")
    return tmp_path


def _nothing(oid: Oid) -> tuple[int, bytes]:
    raise ObjectMissing(oid.hex())


def _open(vault: Path) -> OwnCommits:
    return OwnCommits(vault, _nothing)


def _commits(count: int, seed: int = 1) -> dict[Oid, Oid | None]:
    numbers = random.Random(seed)
    return {
        Oid(numbers.randbytes(20)): Oid(numbers.randbytes(20)) if numbers.random() < 0.7 else None for _ in range(count)
    }


@pytest.mark.parametrize("at_once", [1, 7, 5000])
def test_what_was_added_is_found(vault: Path, at_once: int) -> None:
    """Each commit has its sidecar, in the process that added it and in others, however often the table grew.

    Other commits have none.
    """
    commits = _commits(5000 if at_once > 1 else 700)
    own, before = _open(vault), _open(vault)
    items = list(commits.items())
    for start in range(0, len(items), at_once):
        own.add(dict(items[start : start + at_once]))
        assert before.has(items[start][0])
    others = _commits(1000, seed=2)

    for each in (own, before, _open(vault)):
        assert all(each.find(oid) == sidecar and each.has(oid) for oid, sidecar in commits.items())
        assert not any(each.has(oid) for oid in others)


def test_commits_of_one_place_make_the_table_grow(vault: Path) -> None:
    """Ids that were chosen to be in each other's way are found as others are."""
    commits: dict[Oid, Oid | None] = {
        Oid((256 * number).to_bytes(8, "big") + os.urandom(12)): None for number in range(80)
    }
    own = _open(vault)
    size = (vault / NAME).stat().st_size
    for oid in commits:
        own.add({oid: None})

    assert all(own.has(oid) for oid in commits)
    assert size < (vault / NAME).stat().st_size < 80 * size


def test_a_later_sidecar_is_the_one_that_counts(vault: Path) -> None:
    """A commit that is added again has the sidecar that it was given last."""
    (oid,) = _commits(1)
    own = _open(vault)
    for sidecar in (None, Oid(b"a" * 20), Oid(b"b" * 20)):
        own.add({oid: sidecar})
        assert own.find(oid) == sidecar


def test_a_sidecar_is_never_overwritten_in_place(vault: Path) -> None:
    """A power cut may tear a write: the table with the other sidecar is another file, and the former one is whole."""
    (oid,) = _commits(1)
    own = _open(vault)
    own.add({oid: Oid(b"a" * 20)})
    former = (vault / NAME).open("rb")
    with former:
        own.add({oid: None})

        assert b"a" * 20 in former.read()
    assert own.has(oid)
    assert own.find(oid) is None


def test_many_may_add_at_once(vault: Path) -> None:
    """What each of several adds is there afterwards, also where the table grew under them."""
    parts = [_commits(300, seed) for seed in range(6)]

    def add(part: dict[Oid, Oid | None]) -> None:
        own = _open(vault)
        for oid, sidecar in part.items():
            own.add({oid: sidecar})

    threads = [threading.Thread(target=add, args=(part,)) for part in parts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    own = _open(vault)

    assert all(own.find(oid) == sidecar for part in parts for oid, sidecar in part.items())


def test_half_a_slot_equals_no_commit(vault: Path) -> None:
    """What a power cut has left of a write is no commit, and the next one is written beside it."""
    commits = _commits(100)
    own = _open(vault)
    own.add(commits)
    data = bytearray((vault / NAME).read_bytes())
    torn = list(commits)[:50]
    for oid in torn:
        at = data.index(oid)
        data[at + 10 : at + 40] = bytes(30)
    (vault / NAME).write_bytes(data)

    assert not any(own.has(oid) for oid in torn)
    own.add(commits)
    assert all(own.find(oid) == sidecar for oid, sidecar in commits.items())


def test_a_refused_write_is_written_again(vault: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the disk has failed once, a commit that is added again does not count as written."""
    (oid,) = _commits(1)
    own = _open(vault)
    written: list[int] = []
    write = os.pwrite

    def count(fd: int, data: bytes, at: int) -> int:
        written.append(at)
        return write(fd, data, at)

    monkeypatch.setattr(os, "pwrite", count)
    with armed(FailAt(1, lambda: OSError(5, "the disk"))), pytest.raises(HostError):
        own.add({oid: None})
    own.add({oid: None})

    assert len(written) == 2
    assert len(set(written)) == 1


@pytest.mark.parametrize("damage", [b"", b"avfs-commits 2\n" + bytes(4000), b"x" * 4000])
def test_a_table_that_is_none_is_refused(vault: Path, damage: bytes) -> None:
    """Nothing is guessed from another version, and damage is called so."""
    (vault / NAME).write_bytes(damage)
    asks: list[Callable[[], object]] = [
        lambda: _open(vault).has(Oid(b"a" * 20)),
        lambda: _open(vault).add({Oid(b"a" * 20): None}),
    ]
    for ask in asks:
        with pytest.raises(VaultError, match="knows avfs-commits 1" if damage.startswith(b"avfs") else "is damaged"):
            ask()


def test_a_repository_that_is_no_vault_has_none(tmp_path: Path) -> None:
    """Without avfs's directory nothing counts, and nothing is written."""
    own = _open(tmp_path)
    own.add({Oid(b"a" * 20): None})

    assert not own.has(Oid(b"a" * 20))
    assert list(tmp_path.iterdir()) == []
