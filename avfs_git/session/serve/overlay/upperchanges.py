"""Changes of an upper layer, as what a program did to the tree that overlayfs shows.

Decided here: what overlayfs does for a program, and what it does for itself. It makes most files in its work directory
first: a copy of a file of the base, which is no event; a whiteout, whose arrival is the removal of a name; a file or
directory that replaces a whiteout, which is a creation. Attributes of directories are not told, because overlayfs keeps
notes there.

A directory is known by its handle. Where it is, the kernel says when it is first met, and its changes say afterwards.
Where one was before it was renamed or removed, that change says: so all that waits is looked through before the first
of it is told, and the paths are those of the moment of the change. The known directories are a cache, of the whole file
system; a change outside of the upper layer costs a few looks into it. `events` makes one and calls it under a lock.
"""

from __future__ import annotations

import errno
import os
import re
import stat
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from avfs_git.host.fanotify import Change, Changes

Told = tuple[str, bytes | None, bytes | None]
"""The name of an event, the path, and the path before a rename."""
QUEUED: Final = 16_384
"""How many events the kernel lets wait."""
_KNOWN_MAX: Final = 32_768
_NUMBER: Final = re.compile(rb"#\d+")


class UpperChanges:
    """What is known of one upper layer."""

    def __init__(self, changes: Changes, upper: Path, work: Path) -> None:
        """Begin, after `changes` did. Raises OSError."""
        self._changes = changes
        self._root = changes.find_handle(upper)
        self._work = changes.find_handle(work / "work")
        self._directories: dict[bytes, tuple[bytes, bytes] | None] = {}
        """Of each directory: the directory that it is in, and its name there. None: the root of the file system."""
        self._waiting: deque[Change] = deque()
        self._copies: set[bytes] = set()
        """Files in the work directory that have attributes by now: copies."""
        self._whiteouts: set[bytes] = set()

    def read(self) -> Iterator[tuple[Told, int | None, bytes]]:
        """Say what the waiting changes mean in the tree, with process and file.

        `dropped` without process: some are missing.
        """
        self._take()
        moved = set()
        while self._waiting:
            change = self._waiting.popleft()
            try:
                for told in self._read_change(change):
                    yield told, change.pid, change.target
            except OSError as error:
                # A file without a name can be written to in a directory that is gone for long. Else something is not
                # told.
                if error.errno != errno.ESTALE or change.is_made or change.is_removed or change.is_renamed:
                    yield ("dropped", None, None), None, b""
            if change.is_directory and (change.is_removed or change.is_renamed):
                moved.add(change.target)
        for directory in moved:  # the kernel joins equal changes: the last one told is not always where it is
            self._directories.pop(directory, None)
        if len(self._directories) > _KNOWN_MAX:
            self._directories.clear()
        if len(self._whiteouts) > _KNOWN_MAX:
            self._whiteouts.clear()

    def forget(self) -> None:
        """Begin anew with what the kernel tells next: listeners miss what this had taken before."""
        self._waiting.clear()
        self._directories.clear()
        self._copies.clear()

    def _take(self) -> None:
        taken: list[Change] = []
        while len(taken) <= QUEUED and (more := self._changes.read()):
            taken += more
        if not all(change.is_complete for change in taken):
            self._directories.clear()
        for change in taken:
            if change.is_directory and change.parent is not None and change.name != b".":
                before = (
                    (change.parent, change.name) if change.old_parent is None else (change.old_parent, change.old_name)
                )
                self._directories.setdefault(change.target, before)
        self._waiting += taken

    def _learn(self, directory: bytes) -> None:
        try:
            found = self._changes.find_parent(directory)
        except OSError:
            self._take()  # its removal waits by now
            if directory not in self._directories:
                raise
        else:
            self._take()  # where it was renamed just now, that says where it was before
            self._directories.setdefault(directory, found)

    def _find_path(self, parent: bytes | None, name: bytes) -> bytes | None:
        """Give the path of a name in the tree; None if the directory is not one of the upper layer. Raises OSError."""
        parts = [name]
        while parent != self._root:
            if parent is None:
                return None
            if parent not in self._directories:
                self._learn(parent)
            if len(parts) > len(self._directories):  # joined renames can show a circle
                raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
            if (found := self._directories[parent]) is None:
                return None
            parent, name = found
            parts.append(name)
        return b"/".join(reversed(parts))

    def _read_change(self, change: Change) -> Iterator[Told]:
        if not change.is_complete:
            self._copies.clear()  # their ends may be among what is missing
            yield "dropped", None, None
        elif change.is_renamed:
            yield from self._read_rename(change)
        elif change.parent == self._work:
            if change.is_set or change.is_written:
                self._copies.add(change.target)
            elif change.is_removed:
                self._copies.discard(change.target)
        elif change.name != b"." and (path := self._find_path(change.parent, change.name)) is not None:
            yield from self._read_name(change, path)

    def _read_name(self, change: Change, path: bytes) -> Iterator[Told]:
        if change.is_made and change.target in self._copies:
            self._copies.discard(change.target)
        elif change.is_made:
            yield "create", path, None
        named = None if not change.is_made and self._is_nameless(change) else path
        if change.is_written:
            yield "write", named, None
        if change.is_set and not change.is_directory:
            yield "setattr", named, None
        if change.is_removed:
            yield "unlink", path, None

    def _read_rename(self, change: Change) -> Iterator[Told]:
        old_path, path = (
            self._find_path(change.old_parent, change.old_name),
            self._find_path(change.parent, change.name),
        )
        if change.is_directory and change.parent is not None:
            self._directories[change.target] = change.parent, change.name
        is_whiteout = not change.is_directory and (path or old_path) is not None and self._is_whiteout(change.target)
        is_copy = change.target in self._copies
        self._copies.discard(change.target)
        if old_path is not None and path is not None:
            if not is_whiteout:
                yield "rename", path, old_path
        elif path is not None and is_whiteout:
            yield "unlink", path, None
        elif path is not None and not change.is_directory and not is_copy:
            yield "create", path, None
        # a whiteout, for a directory
        elif old_path is not None and not change.is_directory and change.parent == self._work:
            yield "create", old_path, None

    def _is_nameless(self, change: Change) -> bool:
        """Whether a file was made without a name: the kernel calls it by its number, for as long as it is open."""
        if not _NUMBER.fullmatch(change.name):
            return False
        found = self._changes.look_at(change.target)
        return found is None or change.name == b"#%d" % found.st_ino

    def _is_whiteout(self, handle: bytes) -> bool:
        """Whether a file is one. overlayfs uses the same file for many: those found before are a cache."""
        if handle not in self._whiteouts:
            found = self._changes.look_at(handle)
            if found is None or not stat.S_ISCHR(found.st_mode) or found.st_rdev:
                return False
            self._whiteouts.add(handle)
        return True
