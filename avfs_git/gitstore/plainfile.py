"""Reading a small file of a repository that a stranger may have made: a link or a device is refused, and is never followed.

Called by `repository` and `gitconfig`; no state.
"""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from typing import BinaryIO

from avfs_git.errors import NotAVault


def read_plain_file(path: Path, *, limit: int = 64 << 20) -> bytes:
    """Read a file of a repository, at most `limit` bytes of it.

    Raises:
        NotAVault: If it is a symbolic link, or no regular file.
        OSError: If it cannot be read.
    """
    with open_plain_file(path) as file:
        return file.read(limit)


def open_plain_file(path: Path) -> BinaryIO:
    """Open a file of a repository.

    Raises:
        NotAVault, OSError: As `read_plain_file`.
    """
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise NotAVault(str(path.parent), f"its '{path.name}' is a symbolic link") from None
        raise
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise NotAVault(str(path.parent), f"its '{path.name}' is no file")
    return os.fdopen(fd, "rb")
