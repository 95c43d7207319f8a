"""The umask of a thread, and of a process that others work for.

Decided here: how a server's thread makes files with the umask of the process that asked for them. On Linux the umask
belongs to a structure that threads share until one of them asks for its own; the other threads, which serve with a
umask of 0, are not disturbed.
"""

from __future__ import annotations

import ctypes
from pathlib import Path

_libc = ctypes.CDLL(None, use_errno=True)
_CLONE_FS = 0x200  # linux/sched.h
USUAL = 0o022


def have_own_umask() -> bool:
    """Give this thread a umask, working directory and root of its own from now on; False if the system does not."""
    return bool(_libc.unshare(_CLONE_FS) == 0)


def read_umask() -> int:
    """Tell the umask of this process without touching it.

    The usual one where the system does not say (Linux before 4.7).
    """
    try:
        status = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
    except OSError:
        return USUAL
    for line in status.splitlines():
        if line.startswith("Umask:"):
            return int(line.split()[1], 8)
    return USUAL
