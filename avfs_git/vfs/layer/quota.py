"""The quota of an upper layer: what is counted, what a change may add, and what is refused.

Decided here: the counts are those of what the upper layer holds, so that they follow what a fork has changed, not its
size. The sum of the sizes of its files, holes included, and the number of its entries: files, links and directories,
but no whiteouts. A file with several names counts once, one without a name until the last program closes it. Files are
counted by size and not by block: so a page of a mapped file, which the kernel writes out later, needs no more than was
granted, or the copy of a file of the base, which is never refused then: the program has changed it already.

`vfs.tree` calls this with the lock of the tree held: it asks before a change on disk (`check`, `room`), tells of it
afterwards (`add`, `leave`). The counts are made by one walk of the layer when they are first needed. A change that is
not followed exactly (`distrust`) may leave them too high, never too low: then they are made again before anything is
refused. They are memory only: a process that goes on after a crash makes them anew. Without a limit nothing is counted.

Where the vault has a limit, too, a layer reserves room of it (`VaultShare`) before it grows, and gives back what it did
not use when a change ends (`settle`), or when it shrinks.
"""

from __future__ import annotations

import itertools
import os
import stat
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from threading import get_ident
from typing import Protocol

from avfs_git.errors import HostError, QuotaExceeded
from avfs_git.host.files.beneath import Descriptor
from avfs_git.paths import ROOT, TreePath, split
from avfs_git.values import NamedTuple
from avfs_git.vfs.layer.marks import is_whiteout

RESERVED_AHEAD = 1 << 20
"""So many bytes a layer may have reserved of its vault that it does not use yet."""


class Limits(NamedTuple):
    """What a fork may hold beyond its base, and what its vault may hold; 0 for no limit."""

    size_bytes: int = 0
    files: int = 0
    file_bytes: int = 0
    vault_bytes: int = 0


class Used(NamedTuple):
    """What an upper layer holds."""

    size_bytes: int
    files: int


class Counted(Protocol):
    """The upper layer that a quota counts."""

    def open_dir(self, path: TreePath) -> Descriptor:
        """Open a directory of it; raises `FileNotFoundError` or `NotADirectoryError` where it holds none."""

    def list_nameless(self) -> Iterator[os.stat_result]:
        """Stat each file without a name that is still in use."""

    def list_below(self, top: TreePath) -> Iterator[os.stat_result]:
        """Stat each entry below a directory but whiteouts."""


class VaultShare(Protocol):
    """The part of one upper layer in what its vault may hold."""

    def reserve(self, used: int, grows: int, least: int, limit: int) -> tuple[int, int]:
        """Reserve room for a layer of `used`: `grows` more, or what fits if that is `least`; tell also the total."""

    def tell(self, used: int | None) -> None:
        """Say what a layer holds, which reserves no more; None if that is not known."""


class Quota:
    """The quota of one upper layer.

    Attributes:
        limits: What the layer may hold; None for no limit, which is all that a change asks then.
        drop_unused: Removes the files without a name that nothing uses any more, before a count.
        refuse: Makes what is raised of a refusal.
        vault: Where room of the vault is reserved; there where the limits have one for the vault.
    """

    def __init__(self, upper: Counted) -> None:
        self.limits: Limits | None = None
        self.drop_unused: Callable[[], object] = lambda: None
        self.refuse: Callable[[QuotaExceeded], Exception] = lambda refused: refused
        self.vault: VaultShare | None = None
        self._reserved_to = self._vault_holds = 0
        self._lifted_in: set[int] = set()
        self._upper = upper
        self._used: Used | None = None
        self._is_exact = False
        self.given_back = 0
        """How often something was given back."""

    def limit(self, limits: Limits | None) -> None:
        """Set the limits. What is there already stays, also above a limit: then nothing may grow."""
        if self.limits is None or limits is None:
            self._used = None
        if self.limits != limits:
            self._reserved_to = 0
        self.limits = limits

    @contextmanager
    def lifted(self) -> Iterator[None]:
        """Let this thread exceed the limits.

        To bring back a state that was there, or that was asked for as a whole, or to store what a program has changed
        already.
        """
        self._lifted_in.add(get_ident())
        try:
            yield
        finally:
            self._lifted_in.discard(get_ident())

    def forget(self) -> None:
        """Count anew when a count is next needed: another process may have changed the layer."""
        self._used = None

    def distrust(self) -> None:
        """Say that something went away that was not followed."""
        self._is_exact = False

    # --- before a change -------------------------------------------------------------------------------------

    def check(self, *, grows: int = 0, files: int = 0, size: int = 0) -> None:
        """Make sure that a layer may grow by some bytes and files, and that a file may have a size.

        Raises:
            QuotaExceeded: If it may not.
        """
        limits = self.limits
        if limits is None or get_ident() in self._lifted_in:
            return
        if limits.file_bytes and size > limits.file_bytes and grows > 0:
            raise QuotaExceeded("quota.file_bytes", limits.file_bytes, size)
        if grows > 0 and limits.size_bytes and self._use(grows, 0, limits).size_bytes + grows > limits.size_bytes:
            raise self.refuse(QuotaExceeded("quota.fork_bytes", limits.size_bytes, self.used().size_bytes))
        if files > 0 and limits.files and self._use(0, files, limits).files + files > limits.files:
            raise self.refuse(QuotaExceeded("quota.fork_files", limits.files, self.used().files))
        if grows > 0 and limits.vault_bytes and self._reserve(grows, grows, limits.vault_bytes) < grows:
            raise self.refuse(QuotaExceeded("quota.vault_bytes", limits.vault_bytes, self._vault_holds))

    def check_present(self, largest: int) -> None:
        """Make sure that what is there keeps to the limits, where the kernel has changed the layer.

        The largest file is told.

        Raises:
            QuotaExceeded: If it does not.
        """
        self.forget()
        self.check_held(largest)
        limits = self.limits
        self._reserved_to = 0
        if limits is not None and limits.vault_bytes:
            self._reserve(1, 1, limits.vault_bytes)
            if self._vault_holds > limits.vault_bytes:
                raise QuotaExceeded("quota.vault_bytes", limits.vault_bytes, self._vault_holds)

    def check_held(self, largest: int) -> None:
        """Make sure that what is counted keeps to the limits of the fork. The largest file is told.

        Raises:
            QuotaExceeded: If it does not.
        """
        limits = self.limits
        if limits is None:
            return
        used = self.used()
        for setting, limit, found in (
            ("quota.file_bytes", limits.file_bytes, largest),
            ("quota.fork_bytes", limits.size_bytes, used.size_bytes),
            ("quota.fork_files", limits.files, used.files),
        ):
            if limit and found > limit:
                raise QuotaExceeded(setting, limit, found)

    def room(self, before: int, offset: int, size: int) -> int:
        """Tell how much of a write of `size` bytes may be done in a file of `before` bytes: all, or what fits.

        Raises:
            QuotaExceeded: If nothing fits.
        """
        limits = self.limits if get_ident() not in self._lifted_in else None
        end = offset + size
        if limits is None or end <= before:
            return size
        most = end
        if limits.file_bytes:
            most = min(most, max(before, limits.file_bytes))
        if limits.size_bytes:
            used = self._use(most - before, 0, limits).size_bytes
            most = min(most, before + max(0, limits.size_bytes - used))
        if limits.vault_bytes and most > before:
            most = min(most, before + max(0, self._reserve(most - before, 1, limits.vault_bytes)))
        if size and most <= offset:
            self.check(grows=offset + 1 - before, size=offset + 1)
        return max(0, most - offset)

    def largest(self) -> int | None:
        """Tell which size no file can exceed; None for no such limit."""
        limits = self.limits if get_ident() not in self._lifted_in else None
        bounds = (limits.size_bytes, limits.file_bytes, limits.vault_bytes) if limits is not None else ()
        return min(filter(None, bounds), default=None)

    # --- after it --------------------------------------------------------------------------------------------

    def add(self, *, grows: int = 0, files: int = 0) -> None:
        """Count what a change has added or, below 0, taken away."""
        used = self._used
        if used is not None:
            self._used = Used(max(0, used.size_bytes + grows), max(0, used.files + files))
            if self._reserved_to - self._used.size_bytes > 2 * RESERVED_AHEAD:
                self.settle()

    def settle(self) -> None:
        """Release the unused part of the reservation, at the end of a change. Where that fails, it stays reserved."""
        if self.vault is None or self.limits is None or not self.limits.vault_bytes:
            return
        self._reserved_to = 0
        with suppress(HostError):  # then too much stays reserved
            self.vault.tell(self._used.size_bytes if self._used is not None and self._is_exact else None)

    def measure(self, directory: int, name: bytes, *, deep: bool = False) -> Used | None:
        """Tell what is given back if a name goes away, and nothing holds its file; None for nothing.

        `deep`: what is below it goes, too.
        """
        if self._used is None:
            return None
        if deep:
            self._is_exact = False
        try:
            found = os.stat(name, dir_fd=directory, follow_symlinks=False)
        except OSError:
            return None
        if stat.S_ISDIR(found.st_mode):
            return Used(0, 1)
        return Used(_size_of(found), 1) if found.st_nlink == 1 and not is_whiteout(found) else None

    def measure_path(self, path: TreePath) -> Used | None:
        """Do the same for a path, on which no symbolic link is followed."""
        above, name = split(path)
        try:
            directory = self._upper.open_dir(above)
        except OSError:  # it holds no such directory
            return None
        return self.measure(directory.fd, name)

    def leave(self, gone: Used | None) -> None:
        """Give back what `measure` told."""
        if gone is not None:
            self.given_back += 1
            self.add(grows=-gone.size_bytes, files=-gone.files)

    # --- counting --------------------------------------------------------------------------------------------

    def used(self) -> Used:
        """Tell what the layer holds; counts it, if that is not known."""
        if self._used is None:
            self._count()
        assert self._used is not None  # noqa: S101 - it was just counted
        return self._used

    def _use(self, grows: int, files: int, limits: Limits) -> Used:
        """Tell what the layer holds, exactly if that could refuse a change."""
        used = self.used()
        is_over = (limits.size_bytes and used.size_bytes + grows > limits.size_bytes) or (
            limits.files and used.files + files > limits.files
        )
        if is_over and not self._is_exact:
            self._count()
        return self.used()

    def _reserve(self, grows: int, least: int, limit: int) -> int:
        """Tell how much of some bytes the vault has room for, which is reserved then.

        Return 0 if that is less than the least.
        """
        used = self.used().size_bytes
        if used + grows > self._reserved_to and self.vault is not None:
            if not self._is_exact:
                self._count()
                used = self.used().size_bytes
            room, self._vault_holds = self.vault.reserve(used, grows, least, limit)
            self._reserved_to = used + room
        return self._reserved_to - used

    def _count(self) -> None:
        self.drop_unused()
        self._used = count_upper(self._upper)
        self._is_exact = True


def count_upper(upper: Counted) -> Used:
    """Count what an upper layer holds: one walk of it."""
    return _count_all(itertools.chain(upper.list_nameless(), upper.list_below(ROOT)))


def count_below(upper: Counted, top: TreePath) -> Used:
    """Count what an upper layer holds below a directory."""
    return _count_all(upper.list_below(top))


def _count_all(entries: Iterable[os.stat_result]) -> Used:
    size_bytes = files = 0
    linked: set[int] = set()
    for found in entries:
        if found.st_nlink > 1 and not stat.S_ISDIR(found.st_mode):
            if found.st_ino in linked:
                continue
            linked.add(found.st_ino)
        files += 1
        size_bytes += _size_of(found)
    return Used(size_bytes, files)


def _size_of(found: os.stat_result) -> int:
    return found.st_size if stat.S_ISREG(found.st_mode) else 0
