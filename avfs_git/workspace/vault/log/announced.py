"""Operations that the log has announced, before it is known whether they happen.

Decided here: how a line of the log says what became of its operation. Made by `oplog`, which holds the log locked until
`close`. A crash before that leaves the mark of an announcement, and the next reader finds out.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import suppress

from avfs_git.workspace.vault.log.loglines import (
    HAPPENED,
    MARK_AT,
    WITHDRAWN,
)


class Announced:
    """Lines that were written before what they speak of. Used by one thread; closed when the outcome is known."""

    def __init__(self, fd: int, offsets: Sequence[int], note: Callable[[], None]) -> None:
        self._fd = fd
        self._offsets = offsets
        self._note = note

    def close(self, *, happened: bool | None) -> None:
        """Say whether it happened; None leaves that to the refs. A second call does nothing.

        Not forced to disk, and no failure counts: the refs say the same.
        """
        fd, self._fd = self._fd, -1
        if fd < 0:
            return
        with suppress(OSError):
            if happened is not None:
                for offset in self._offsets:
                    os.pwrite(fd, HAPPENED if happened else WITHDRAWN, offset + MARK_AT)
        os.close(fd)
        if happened:
            self._note()
