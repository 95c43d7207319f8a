"""Changes of an upper layer, as what a program did to the tree that overlayfs shows.

Decided here: what overlayfs does for a program, and what it does for itself. It makes most files in its work directory first: a
copy of a file of the base, which is no event; a whiteout, whose arrival is the removal of a name; a file or directory that
replaces a whiteout, which is a creation. Attributes of directories are not told, because overlayfs keeps notes there.

Each directory of the upper layer is known by its handle, from one walk at the beginning and from its changes afterwards. So what
else happens on the file system costs a look into a dict, and the paths are those of the moment of the change. `overlayevents`
makes one and calls it from one thread.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from avfs_git.host.fanotify import Change, Changes

Told = tuple[str, bytes | None, bytes | None]
"""The name of an event, the path, and the path before a rename."""


class UpperChanges:
    """What is known of one upper layer."""

    def __init__(self, changes: Changes, upper: Path, work: Path) -> None:
        """Begin, after `changes` did. Raises OSError."""
        self._changes = changes
        self._upper = os.fsencode(upper)
        self._root = changes.find_handle(upper)
        self._work = changes.find_handle(work / "work")
        self._directories: dict[bytes, tuple[bytes, bytes]] = {}
        """Of each directory below the root: the directory that it is in, and its name there."""
        self._copies: set[bytes] = set()
        """Files in the work directory that have attributes by now: copies."""
        self._whiteouts: set[bytes] = set()
        self._learn(self._root, self._upper)

    def _learn(self, parent: bytes, directory: bytes) -> None:
        """Look for directories below one."""
        waiting = [(parent, directory)]
        while waiting:
            parent, directory = waiting.pop()
            with suppress(OSError), os.scandir(directory) as entries:  # a later change tells of what went meanwhile
                for entry in entries:
                    if entry.is_dir(follow_symlinks=False):
                        handle = self._changes.find_handle(entry.path)
                        self._directories[handle] = parent, entry.name
                        waiting.append((handle, entry.path))

    def _find_path(self, parent: bytes | None, name: bytes) -> bytes | None:
        """Give the path of a name in the tree; None if the directory is not one of the upper layer."""
        parts = [name]
        while parent != self._root:
            if parent not in self._directories or len(parts) > len(self._directories):  # a walk beside renames can show a circle
                return None
            parent, name = self._directories[parent]
            parts.append(name)
        return b"/".join(reversed(parts))

    def read(self, change: Change) -> Iterator[Told]:
        """Say what one change means in the tree."""
        if not change.is_complete:
            self._directories.clear()
            self._learn(self._root, self._upper)
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
        if change.is_made and change.is_directory and change.parent is not None:
            self._directories[change.target] = change.parent, change.name
        if change.is_made and change.target in self._copies:
            self._copies.discard(change.target)
        elif change.is_made:
            yield "create", path, None
        if change.is_written:
            yield "write", path, None
        if change.is_set and not change.is_directory:
            yield "setattr", path, None
        if change.is_removed:
            self._directories.pop(change.target, None)
            yield "unlink", path, None

    def _read_rename(self, change: Change) -> Iterator[Told]:
        old_path, path = self._find_path(change.old_parent, change.old_name), self._find_path(change.parent, change.name)
        if change.is_directory:
            self._directories.pop(change.target, None)
            if path is not None and change.parent is not None:
                self._directories[change.target] = change.parent, change.name
                if old_path is None and change.old_parent != self._work:
                    self._learn(change.target, os.path.join(self._upper, path))
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
        elif old_path is not None and is_whiteout:  # in exchange for a directory
            yield "create", old_path, None

    def _is_whiteout(self, handle: bytes) -> bool:
        """Whether a file is one. overlayfs uses the same file for many."""
        if handle not in self._whiteouts:
            found = self._changes.look_at(handle)
            if found is None or not stat.S_ISCHR(found.st_mode) or found.st_rdev:
                return False
            self._whiteouts.add(handle)
        return True
