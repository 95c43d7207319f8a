"""A power cut loses nothing that was acknowledged."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.powercut import image, run_round

pytestmark = [pytest.mark.slow, pytest.mark.needs("root", "git", "loop")]

ROUNDS = 4
"""`make power` runs 18 on each file system."""


@pytest.mark.parametrize("kind", ["ext4", pytest.param("xfs", marks=pytest.mark.needs("xfs"))])
def test_what_was_acknowledged_survives_a_power_cut(kind: str, mount_dir: Path) -> None:
    """After a power cut every acknowledged checkpoint is there, git finds no fault, and every workspace goes on."""
    with image(kind, mount_dir) as disk:
        rounds = [run_round(disk, seed) for seed in range(ROUNDS)]

    assert [(one.seed, one.bad) for one in rounds if one.bad] == []
    assert sum(one.acknowledged for one in rounds) > ROUNDS


@pytest.mark.parametrize("kind", ["ext4", pytest.param("xfs", marks=pytest.mark.needs("xfs"))])
def test_a_missing_sync_is_noticed(kind: str, mount_dir: Path) -> None:
    """The rounds above mean something: where nothing is forced to disk, they find what is lost."""
    with image(kind, mount_dir) as disk:
        rounds = [run_round(disk, seed, unsynced=True) for seed in range(2)]

    assert [one.seed for one in rounds if one.bad]
