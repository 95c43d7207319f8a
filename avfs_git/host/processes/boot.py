"""Which boot of the machine this is.

Called when a workspace is opened: after another boot than the one in which it was last written to, what was
not forced to disk may be gone. Assumes nothing; never fails.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path


@cache
def read_boot_id() -> str:
    """Get an identifier of this boot; a constant where the system has none (Documentation: random(4))."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
    except OSError:
        return "unknown"
