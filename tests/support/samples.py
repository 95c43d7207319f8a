"""Runs of a module of `tests.support` in a process of its own, where its calls are not those of the test's process."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path


def run_sample(module: str, *arguments: str) -> None:
    """Run a module, and show what it prints. It has to end well."""
    done = subprocess.run(
        [sys.executable, "-m", f"tests.support.{module}", *arguments],
        cwd=Path(__file__).parents[2],
        check=False,
        stdout=subprocess.PIPE,
        text=True,
    )
    print(done.stdout)

    assert done.returncode == 0, done.stdout
