"""What all tests of faults share."""

from __future__ import annotations

import pytest


@pytest.fixture(autouse=True)
def _short_look(monkeypatch: pytest.MonkeyPatch) -> None:
    """The doctor takes a lock for one that stays after a short look: who held it is dead, and no git is at work."""
    monkeypatch.setattr("avfs_git.workspace.upkeep.checks.objects.LOCK_HELD_S", 0.3)
