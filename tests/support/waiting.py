"""Waiting for what comes by itself."""

from __future__ import annotations

import time
from collections.abc import Callable


def wait_for(condition: Callable[[], object]) -> None:
    """Wait until something is so; the suite's own time limit ends a test that waits in vain."""
    while not condition():
        time.sleep(0.01)
