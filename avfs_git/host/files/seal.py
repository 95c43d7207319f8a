"""A seal under what avfs keeps where commands can write: who changes it has to know a key that lies elsewhere.

Decided here: what a seal is (HMAC-SHA256) and how its key is kept: 32 random bytes in a file of the user's home of
avfs, mode 0600, made at the first use. `proxy.policy.approvals` seals approvals, `workspace.exchange.userhooks` the
list of hooks that the owner enabled. Any thread and process may use one; the key survives a power cut before the first
seal counts.

A program of the same user that is not isolated can read the key: a seal keeps out edits, not a forger.
"""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from avfs_git.host.files.closing import closing_fd
from avfs_git.host.files.durable import fsync_dir, host_errors, make_dirs_durably, sync_file, write_all
from avfs_git.host.files.plainfile import open_plain
from avfs_git.lazy import LazyModule

if TYPE_CHECKING:
    import hmac
else:
    hmac = LazyModule("hmac")

_KEY_BYTES = 32


class Seal:
    """Seals with the key of one home."""

    def __init__(self, path: Path) -> None:
        """Name the file of the key, which need not exist."""
        self._path = path

    def sign(self, data: bytes) -> str:
        """Seal data; makes the key if there is none.

        Raises:
            HostError: If the key cannot be read or made, or belongs to somebody else.
        """
        with host_errors(f"use the key '{self._path}'"):
            return hmac.digest(self._read() or self._make(), data, "sha256").hex()

    def holds(self, data: bytes, seal: str) -> bool:
        """Whether a seal was made for this data. Without a usable key none was."""
        try:
            key = self._read()
        except OSError:
            return False
        return key is not None and hmac.compare_digest(hmac.digest(key, data, "sha256").hex().encode(), seal.encode())

    def find_fault(self) -> str | None:
        """Tell why the key cannot be used; None if it can, or before the first use."""
        try:
            self._read()
        except OSError as error:
            return error.strerror or str(error)
        return None

    def _read(self) -> bytes | None:
        try:
            fd = open_plain(self._path)
        except FileNotFoundError:
            return None
        with os.fdopen(fd, "rb") as file:
            found = os.fstat(fd)
            key = file.read(_KEY_BYTES + 1)
        if (
            not stat.S_ISREG(found.st_mode)
            or found.st_uid != os.geteuid()
            or found.st_mode & 0o077
            or len(key) != _KEY_BYTES
        ):
            raise PermissionError(1, "it is not a key that only its user can read")
        return key

    def _make(self) -> bytes:
        make_dirs_durably(self._path.parent)
        temporary = self._path.with_name(f".{self._path.name}.{os.urandom(4).hex()}.tmp")
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            with closing_fd(fd):
                write_all(fd, os.urandom(_KEY_BYTES))
                sync_file(fd)
            with suppress(FileExistsError):  # another process made one at the same time: its key counts
                os.link(temporary, self._path)
        finally:
            temporary.unlink()
        fsync_dir(self._path.parent)
        key = self._read()
        if key is None:
            raise FileNotFoundError(2, "it was removed")
        return key
