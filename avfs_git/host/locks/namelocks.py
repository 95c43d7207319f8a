"""Locks of names: one thread of one process at a time holds a name, and all names are in one file.

Decided here: a name is a byte of the lock file, chosen by the name's hash, under an open file description lock
(fcntl_locking(2), F_OFD_SETLK). The kernel releases it when its holder dies, and no file is left for each name that was
ever used. Two names with the same byte wait for each other and do no other harm. The file stays empty.

Called from any thread. A thread may take a name again that it holds.
"""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from avfs_git.host.files.closing import closing_fd
from avfs_git.host.files.modes import open_file
from avfs_git.host.locks.flocks import take_number

_BYTES = 1 << 62
"""Offsets are below this: off_t is signed."""


class NameLocks:
    """The locks of all names in one file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._held = threading.local()

    def is_held(self, name: str) -> bool:
        """Whether this thread holds a name."""
        return name in vars(self._held)

    @contextmanager
    def held(self, name: str, timeout_s: float) -> Iterator[bool]:
        """Hold a name for a block; yield False if another thread or process kept it for that long."""
        if self.is_held(name):
            yield True
            return
        with closing_fd(open_file(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW)) as fd:
            if not take_number(fd, _byte_of(name), wait_s=timeout_s):
                yield False
                return
            vars(self._held)[name] = fd
            try:
                yield True
            finally:
                del vars(self._held)[name]


def _byte_of(name: str) -> int:
    return int.from_bytes(hashlib.sha256(os.fsencode(name)).digest()[:8], "little") % _BYTES
