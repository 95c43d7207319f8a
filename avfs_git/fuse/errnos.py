"""The errno that a program in a live tree gets when a call fails.

Decided here: an OSError of the filesystem has the number that the system would give, which is passed on; so is a full
disk. A quota of avfs is EDQUOT, or EFBIG where one file is too large; a tree bomb is EFBIG. Everything else is a fault
of avfs or of the vault: EIO, and logged with its traceback. Any thread may call.
"""

from __future__ import annotations

import errno

from avfs_git.errors import HostError, QuotaExceeded, TooManyFiles
from avfs_git.lazy import LazyLogger

_LOG = LazyLogger(__name__)
_LIMIT = 512
"""Larger numbers are the kernel's own, which it refuses from a server."""


def errno_of(error: BaseException, doing: str) -> int:
    """Choose the errno that says what happened."""
    if isinstance(error, OSError) and error.errno is not None and 0 < error.errno < _LIMIT:
        if error.errno == errno.EBADF:  # never a program's fault here: it names files by node
            _LOG.error("%s used a closed descriptor", doing, exc_info=error)
            return errno.EIO
        return error.errno
    if isinstance(error, QuotaExceeded):  # a program's own doing, and often many times in a row: not for the log
        return error.errno
    if isinstance(error, HostError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        _LOG.error("%s failed: %s", doing, error.message)
        return error.errno
    if isinstance(error, TooManyFiles):
        _LOG.error("%s failed: %s", doing, error.message)
        return errno.EFBIG
    _LOG.error("%s failed", doing, exc_info=error)
    return errno.EIO
