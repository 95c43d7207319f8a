"""How much of a disk directories take.

Decided here: that blocks are counted, also of directories, and that what cannot be read does not count. `sdk` and `gc`
call it; it takes no lock, so that the answer is rough while others write.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path


def disk_usage(*directories: Path) -> int:
    """Count the bytes that directories take on disk, with everything below them."""
    total = 0
    stack = [os.fspath(directory) for directory in directories]
    while stack:
        # It went meanwhile, lies too deep for a path, or may not be read.
        with contextlib.suppress(OSError), os.scandir(stack.pop()) as entries:
            for entry in entries:
                total += entry.stat(follow_symlinks=False).st_blocks * 512
                if entry.is_dir(follow_symlinks=False):
                    stack.append(entry.path)
    return total
