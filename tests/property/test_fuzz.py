"""Readers of foreign bytes: typed errors only, in bounded memory; a sample of what `make soak` runs for longer."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.support.limited import PROJECT
from tests.support.seeds import choose_seed

SECONDS = 5


@pytest.mark.slow
@pytest.mark.needs("git")
def test_damaged_and_hostile_bytes_raise_typed_errors() -> None:
    """Objects, packs, indexes, sidecars, logs, control messages and settings."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.support.fuzz", str(SECONDS), str(choose_seed())],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stdout + done.stderr[-3000:]
