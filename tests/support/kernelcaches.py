"""The kernel's caches of names, attributes and pages, which all tests of a machine share.

Decided here: who counts on what is cached (`kept`) keeps out who drops it (`drop`), in whichever process of the run
that is. Each holds a lock on this file, which everybody can open.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def kept() -> Iterator[None]:
    """Let nobody drop them meanwhile."""
    with _locked(fcntl.LOCK_SH):
        yield


def drop() -> None:
    """Let the kernel forget what it can, of all file systems: names and what is known of files, and pages.

    Root only.
    """
    with _locked(fcntl.LOCK_EX):
        Path("/proc/sys/vm/drop_caches").write_text("3", "ascii")


@contextmanager
def _locked(how: int) -> Iterator[None]:
    fd = os.open(__file__, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(fd, how)
        yield
    finally:
        fcntl.flock(fd, fcntl.LOCK_UN)  # a process that was forked meanwhile may have it open still
        os.close(fd)
