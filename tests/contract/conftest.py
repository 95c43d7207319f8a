"""What the tests of promises share: each module has a vault of its own kind."""

from __future__ import annotations

import pytest

from avfs_git.sdk import Vault, Workspace


@pytest.fixture
def work(vault: Vault) -> Workspace:
    """The workspace of the fork `work`, or else of the default fork."""
    return vault.workspace("work" if vault.has_fork("work") else None)
