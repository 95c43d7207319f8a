"""Unmount and remove what aborted test runs left behind.

A test that mounts does so under `scratch_root()`, whose name holds the pid of its run. `sweep` removes those whose
process is gone, so that runs side by side leave each other alone. `python -m tests.support.sweep` does the same by
hand.
"""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from pathlib import Path

from tests.support.capabilities import unmount

_NAME = re.compile(r"avfs-test-(\d+)-")


def scratch_root() -> Path:
    """Make a directory for mounts of this run, outside pytest's own."""
    return Path(tempfile.mkdtemp(prefix=f"avfs-test-{os.getpid()}-"))


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def mounts_below(directory: Path) -> list[Path]:
    """List the mount points below a directory, the innermost first."""
    try:
        lines = Path("/proc/self/mountinfo").read_bytes().splitlines()
    except OSError:
        return []
    prefix = os.fsencode(directory) + b"/"
    points = []
    for line in lines:
        point = re.sub(rb"\\([0-7]{3})", lambda match: bytes([int(match[1], 8)]), line.split()[4])
        if point.startswith(prefix):
            points.append(Path(os.fsdecode(point)))
    return points[::-1]


def remove(directory: Path) -> None:
    """Unmount everything below a scratch directory and delete it."""
    for point in mounts_below(directory):
        unmount(point)
    if not mounts_below(directory):  # never delete through a mount that stayed
        shutil.rmtree(directory, ignore_errors=True)


def sweep() -> list[Path]:
    """Remove the scratch directories of runs that are over; return them."""
    stale = []
    for entry in Path(tempfile.gettempdir()).iterdir():
        match = _NAME.match(entry.name)
        if match and not _is_alive(int(match[1])):
            stale.append(entry)
            remove(entry)
    return stale


if __name__ == "__main__":
    for path in sweep():
        print(f"removed {path}")
