"""The quota of a whole vault (`quota.vault_bytes`): what it holds, and how much more each fork may write.

Decided here: a vault holds the sizes of the files of its object store, and of its forks what `vfs.layer.quota` counts
of their upper layers. Trash, logs and caches do not count: removing a fork gives its room back at once.

No write walks the vault. A file, the ledger, has the bytes that each fork's upper layer may grow to. A fork that needs
more reserves it there, with at most 1 MiB to spare: so the forks never exceed the limit together. It releases what it
does not use. The name of a fork in it is the inode number of its workspace, which stays through a rename. A fork that
is missing there is counted by a walk of its upper layer.

Called from any process, and within one from any thread; a lock of the file keeps the others out. It is memory, never
forced to disk: what a crash has left of it that cannot be read is counted anew. A fork whose process is killed leaves
what it reserved, which is too much and never too little, until it is next changed.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress

from avfs_git.errors import QuotaExceeded
from avfs_git.host.files.durable import host_errors
from avfs_git.host.files.modes import open_file
from avfs_git.host.locks.flocks import held
from avfs_git.vfs.layer.quota import RESERVED_AHEAD, Used, count_upper
from avfs_git.vfs.layer.upper import UpperLayer
from avfs_git.workspace.vault.format import VaultLayout, WorkspaceLayout
from avfs_git.workspace.vault.vault import OpenVault

_LEDGER_MAX = 1 << 24


class VaultRoom:
    """What a vault holds, and the part of one fork in it."""

    def __init__(self, layout: VaultLayout, fork: str | None = None) -> None:
        self._layout = layout
        self._own = layout.workspace(fork).root if fork is not None else None
        self._loose: dict[str, tuple[int, int]] = {}
        """The sizes of directories of loose objects, each with the time of the directory then."""

    def measure(self) -> int:
        """Tell what the vault holds, with what forks have reserved.

        Raises:
            HostError: If the ledger cannot be used.
        """
        with self._ledger() as forks:
            return sum(forks.values()) + self._measure_objects()

    def reserve(self, used: int, grows: int, least: int, limit: int) -> tuple[int, int]:
        """Reserve room for a fork of `used` bytes: for `grows` more, or what fits if at least `least`, else none.

        Returns the bytes that it may grow by, which may be more than it needs, and what the vault holds without them.

        Raises:
            HostError: If the ledger cannot be used.
        """
        own = self._name_own()
        with self._ledger({own: used}) as forks:
            forks.setdefault(own, used)
            total = sum(forks.values()) + self._measure_objects()
            left = max(0, limit - total)
            room = min(left, grows)
            if room < least:
                return 0, total
            room += min(RESERVED_AHEAD, (left - room) // 16)
            forks[own] += room
            return room, total

    def tell(self, used: int | None) -> None:
        """Say what a fork holds, which reserves no more; None has it counted when that is next needed.

        Raises:
            HostError: If the ledger cannot be used.
        """
        own = self._name_own()
        with self._ledger({own: used or 0}, counts=False) as forks:
            if used is None:
                del forks[own]

    def forget(self) -> None:
        """Have all forks counted anew: nothing was written down while there was no limit."""
        self._layout.room.unlink(missing_ok=True)

    def _name_own(self) -> str:
        assert self._own is not None  # noqa: S101 - asked of a fork only
        with host_errors(f"look at '{self._own}'"):
            return str(os.stat(self._own).st_ino)

    @contextmanager
    def _ledger(self, told: dict[str, int] | None = None, *, counts: bool = True) -> Iterator[dict[str, int]]:
        """Hold the ledger for a block, and write down what the block changes.

        What is `told` of forks replaces what it says.
        """
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        with host_errors(f"write '{self._layout.room}'"), ExitStack() as stack:
            fd = open_file(self._layout.room, flags)
            stack.enter_context(held(fd))
            before = os.pread(fd, _LEDGER_MAX, 0)
            forks = _parse(before) | (told or {})
            if counts:
                forks = self._complete(forks)
            yield forks
            after = json.dumps(forks).encode()
            if after != before:
                os.pwrite(fd, after, 0)
                os.ftruncate(fd, len(after))

    def _complete(self, known: dict[str, int]) -> dict[str, int]:
        """Drop the forks that are gone, and count forks that are missing."""
        found: dict[str, int] = {}
        for fork in self._layout.list_workspaces():
            workspace = self._layout.workspace(fork)
            # it goes at this moment, or another user's cannot be read: that user's avfs writes it down
            with suppress(OSError):
                name = str(os.stat(workspace.root).st_ino)
                found[name] = known[name] if name in known else count_workspace(workspace).size_bytes
        return found

    def _measure_objects(self) -> int:
        total = 0
        with suppress(OSError), os.scandir(self._layout.git_dir / "objects") as entries:
            for entry in entries:
                with suppress(OSError):  # git has just removed it
                    if entry.is_dir(follow_symlinks=False):
                        total += self._measure_directory(entry)
        return total

    def _measure_directory(self, directory: os.DirEntry[str]) -> int:
        """Add up the files of a directory.

        A loose object never grows, so that only the time of its directory is looked at.
        """
        changed_ns = os.stat(directory.path).st_mtime_ns
        when_ns, size = self._loose.get(directory.name, (0, 0))
        if when_ns != changed_ns or directory.name == "pack":
            with os.scandir(directory.path) as files:
                size = sum(
                    file.stat(follow_symlinks=False).st_size for file in files if file.is_file(follow_symlinks=False)
                )
            self._loose[directory.name] = changed_ns, size
        return size


def count_workspace(layout: WorkspaceLayout) -> Used:
    """Count what a fork holds beyond its base: one walk of its upper layer."""
    try:
        return count_upper(UpperLayer(layout.upper, layout.work))
    except FileNotFoundError:  # nothing was ever changed in it
        return Used(0, 0)


def find_full(vault: OpenVault) -> QuotaExceeded | None:
    """Find the quota of a vault that holds all it may, or more. Then nothing begins that stores objects on request.

    What begins below the limit completes, as it is not known before what it stores: that is how far it can pass the
    limit.
    """
    limits = vault.config.read_limits()
    if limits is None or not limits.vault_bytes:
        return None
    used = VaultRoom(vault.layout).measure()
    return QuotaExceeded("quota.vault_bytes", limits.vault_bytes, used) if used >= limits.vault_bytes else None


def check_not_full(vault: OpenVault) -> None:
    """Refuse to begin what stores objects, if the vault holds all it may."""
    full = find_full(vault)
    if full is not None:
        raise full


def _parse(data: bytes) -> dict[str, int]:
    try:
        found = json.loads(data)
    except (ValueError, RecursionError):
        return {}
    is_whole = isinstance(found, dict) and all(type(size) is int and size >= 0 for size in found.values())
    return found if is_whole else {}
