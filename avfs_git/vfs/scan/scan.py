"""Finding what changed in a layer: the upper layer of a workspace, or a plain directory that is imported.

Decided here: what a capture may ask of a layer (`Layer`), how the paths that a process knows it changed are
kept (`DirtySet`), and which names of one directory need another look (`scan_directory`). Only the directory
at hand is held in memory. Callers hold the workspace lock; files may still change under a scan when a live
tree is mounted, which the capture detects file by file.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Sequence
from typing import Protocol

from avfs_git.paths import TreePath, components
from avfs_git.values import NamedTuple
from avfs_git.vfs.scan.statcache import FINGERPRINT_SIZE, DirCache, Fingerprint, is_same_entry, take_fingerprint

FILE, DIRECTORY, SYMLINK, WHITEOUT, OTHER = "file", "dir", "symlink", "whiteout", "other"

WHITEOUT_PRINT: Fingerprint = b"whiteout".ljust(FINGERPRINT_SIZE, b"\0")
"""The fingerprint of every whiteout."""

STAGING = b".avfs-staging-"
"""How the name of a directory begins in which files are made that a mounted tree is to get; see `is_staging`."""
_STAGING_DIGITS = 16


def is_own(name: bytes) -> bool:
    """Tell whether a name at a workspace's root is avfs's own, in no checkpoint: the link to the vault, or staging."""
    return name == b".git" or is_staging(name)


def is_staging(name: bytes) -> bool:
    """Tell whether a name at a workspace's root is a directory of `vfs.layer.mounted`, which no checkpoint holds."""
    if not name.startswith(STAGING) or len(name) != len(STAGING) + _STAGING_DIGITS:
        return False
    return not name[len(STAGING) :].strip(b"0123456789abcdef")


class Found(NamedTuple):
    """One entry of a layer's directory, as lstat shows it."""

    name: bytes
    stat: os.stat_result
    kind: str
    opaque: bool
    """Whether it is a directory that hides what the lower layer has there."""
    redirect: bytes | None = None
    """A directory that shows another one of the lower layer: which, see `vfs.layer.marks`."""


class Layer(Protocol):
    """What a capture asks of a directory on disk. Nothing here follows a symbolic link."""

    def list_dir(self, path: TreePath) -> Sequence[Found]:
        """List a directory. Raises LayerNotUnderstood for marks that cannot be read."""
        ...

    def find(self, path: TreePath, name: bytes) -> Found | None:
        """Look at one entry; None if nothing is there."""
        ...

    def open_listed(self, path: TreePath, name: bytes) -> int:
        """Open what was listed as a regular file for reading.

        The caller sees to it that it still is one, and closes it.
        """
        ...

    def read_link(self, path: TreePath, name: bytes) -> bytes:
        """Read a symbolic link."""
        ...

    def file_xattrs(self, fd: int, path: TreePath) -> tuple[tuple[bytes, bytes], ...]:
        """Read the user's own extended attributes of an open file, sorted.

        Raises LayerNotUnderstood if a mark says that the file is not what it seems; its content is not to be used then.
        """
        ...

    def dir_xattrs(self, path: TreePath) -> tuple[tuple[bytes, bytes], ...]:
        """Read the user's own extended attributes of a directory, sorted."""
        ...

    def dir_stat(self, path: TreePath) -> os.stat_result:
        """Stat a directory."""
        ...

    def forget_dir(self, path: TreePath) -> None:
        """Open a directory and those below it again when they are next read: they may be other ones by now."""
        ...


def kind_of_mode(mode: int) -> str:
    """Name what an st_mode is, whiteouts aside."""
    if stat.S_ISREG(mode):
        return FILE
    if stat.S_ISDIR(mode):
        return DIRECTORY
    return SYMLINK if stat.S_ISLNK(mode) else OTHER


class DirtySet:
    """Paths that may have changed, as a tree of names.

    A name whose value is None may have changed with everything below it.
    """

    __slots__ = ("has_root", "names")

    def __init__(self) -> None:
        self.names: dict[bytes, DirtySet | None] = {}
        self.has_root = False
        """Whether the root itself may have changed: its mode, say."""

    def add(self, path: TreePath, *, deep: bool = False) -> None:
        """Note that the entry at a path may have changed, or with `deep` all that is below it too."""
        parts = components(path)
        if not parts:
            self.has_root = True
            return
        here = self
        for part in parts[:-1]:
            if part not in here.names:
                here.names[part] = DirtySet()
            below = here.names[part]
            if below is None:
                return
            here = below
        last = parts[-1]
        if deep:
            here.names[last] = None
        elif last not in here.names:
            here.names[last] = DirtySet()

    def update(self, other: DirtySet) -> None:
        """Note all that another set holds. The other one is not to be used afterwards."""
        self.has_root = self.has_root or other.has_root
        pending = [(self, other)]
        while pending:
            mine, theirs = pending.pop()
            for name, below in theirs.names.items():
                here = mine.names.get(name, below)
                if below is None or here is None:
                    mine.names[name] = None
                elif here is below:
                    mine.names[name] = below
                else:
                    pending.append((here, below))

    def has_name(self, name: bytes) -> bool:
        """Whether an entry of that name is in the set, in any directory."""
        pending = [self]
        while pending:
            here = pending.pop()
            if name in here.names:
                return True
            pending += [below for below in here.names.values() if below is not None]
        return False

    def may_hold(self, path: TreePath) -> bool:
        """Whether the entry at a path may have changed."""
        here: DirtySet | None = self
        for part in components(path):
            if here is None:
                return True
            if part not in here.names:
                return False
            here = here.names[part]
        return True

    def __bool__(self) -> bool:
        return bool(self.names) or self.has_root

    def __iter__(self) -> Iterator[bytes]:
        return iter(self.names)


class Suspect(NamedTuple):
    """A name that needs another look."""

    name: bytes
    found: Found | None
    fingerprint: Fingerprint | None
    cached: Fingerprint | None
    below: DirtySet | None
    """For a directory: the only names in it that can have changed; None if any can."""


def scan_directory(
    layer: Layer, path: TreePath, cached: DirCache, only: DirtySet | None, *, racy_after_ns: int
) -> Iterator[Suspect]:
    """Yield the names of one directory that differ from the cache, directories always among them.

    With `only`, those names only.
    """
    if only is not None:
        for name, below in only.names.items():
            found_one = layer.find(path, name)
            if found_one is None:
                yield Suspect(name, None, None, cached.get(name), None)
                continue
            before, now = cached.get(name), _take_print(found_one, racy_after_ns)
            if before is None or found_one.kind == DIRECTORY or not is_same_entry(before, now):
                yield Suspect(name, found_one, now, before, below)
        return
    listed = layer.list_dir(path)
    for found in listed:
        name = found.name
        before, now = cached.get(name), _take_print(found, racy_after_ns)
        if before is None or found.kind == DIRECTORY or not is_same_entry(before, now):
            yield Suspect(name, found, now, before, None)
    if cached:
        seen = {found.name for found in listed}
        for name in [name for name in cached if name not in seen and name != b"."]:
            yield Suspect(name, None, None, cached[name], None)


def _take_print(found: Found, racy_after_ns: int) -> Fingerprint:
    if found.kind == WHITEOUT:
        return WHITEOUT_PRINT  # a layer's whiteouts may be links to one device: their times and number tell nothing
    return take_fingerprint(found.stat, opaque=found.opaque, redirect=found.redirect, racy_after_ns=racy_after_ns)
