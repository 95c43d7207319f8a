"""The seal under what avfs keeps where commands can write."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from avfs_git.errors import HostError
from avfs_git.host.files.seal import Seal


def test_a_seal_is_for_one_text_and_one_key(tmp_path: Path) -> None:
    """Another text, another key, another seal: none holds. The key outlives the process."""
    seal = Seal(tmp_path / "home" / "key")
    made = seal.sign(b"text")

    assert Seal(tmp_path / "home" / "key").holds(b"text", made)
    assert not seal.holds(b"texts", made)
    assert not seal.holds(b"text", made[:-1] + ("0" if made[-1] != "0" else "1"))
    assert not seal.holds(b"text", "ä")
    assert not Seal(tmp_path / "other").holds(b"text", made)
    assert Seal(tmp_path / "other").sign(b"text") != made
    assert not Seal(tmp_path / "home" / "key").holds(b"text", Seal(tmp_path / "other").sign(b"text"))


def test_of_many_first_uses_at_once_one_makes_the_key(tmp_path: Path) -> None:
    """What each of them sealed holds, and nothing else is left."""
    with ThreadPoolExecutor(8) as pool:
        seals = set(pool.map(lambda _: Seal(tmp_path / "key").sign(b"text"), range(32)))

    assert len(seals) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["key"]


@pytest.mark.parametrize("content", [b"", b"x" * 31, b"x" * 33])
def test_a_key_of_another_length_is_none(tmp_path: Path, content: bytes) -> None:
    """As after a full disk: nothing is sealed with it, and nothing holds."""
    (tmp_path / "key").write_bytes(content)
    (tmp_path / "key").chmod(0o600)

    assert not Seal(tmp_path / "key").holds(b"text", "")
    with pytest.raises(HostError):
        Seal(tmp_path / "key").sign(b"text")


@pytest.mark.needs("root")
def test_a_key_of_another_user_is_none(tmp_path: Path) -> None:
    """Whoever reads it is asked for one of their own."""
    made = Seal(tmp_path / "key").sign(b"text")
    os.chown(tmp_path / "key", 12345, 12345)

    assert not Seal(tmp_path / "key").holds(b"text", made)
