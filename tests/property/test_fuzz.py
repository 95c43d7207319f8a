"""Whatever reads bytes of others raises typed errors only, in bounded memory: a sample of what `make soak` runs for longer."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.support.limited import PROJECT

SECONDS = 8


@pytest.mark.slow
@pytest.mark.needs("git")
def test_damaged_and_hostile_bytes_raise_typed_errors() -> None:
    """Objects, packs, indexes, sidecars, logs, control messages and settings; the seed is another one each time, and is shown."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.support.fuzz", str(SECONDS)], cwd=PROJECT, capture_output=True, text=True, check=False
    )

    assert done.returncode == 0, done.stdout + done.stderr[-3000:]
