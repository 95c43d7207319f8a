"""Fixtures of all unit tests."""

from __future__ import annotations

import pytest


@pytest.fixture(autouse=True)
def _unsynced(unsynced: None) -> None:
    """Wait for no disk: what reaches it, and in which order, is checked by tests that look at the calls."""
