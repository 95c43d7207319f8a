"""Knowing what changed in an upper layer that the kernel's overlayfs writes to, without looking at all of it.

Decided here: of which entries it is known that they are what they were when they were last recorded, so that a capture need not
look at them. Everything else counts as changed. An entry is known when this holds, in this order (`UpperWatch.prove`):

1. The kernel tells whoever opens it, writes to it or changes its attributes from now on (`host.processes.watches`).
2. Nobody has it open for writing, or mapped for that: a lease says so. Whoever comes later opens it, and is told of.
3. Its stat is looked at, and it is read if that is not the one that was recorded.

So what is written to mapped memory, which is never told, is of a file that was opened since, or that was open in 2. A file with
several names is never known, and compared each time. Directories are watched before they are listed, so that a name that is not
in the list is told of.

What a program opens is looked at again, also if it was opened for reading alone. When the kernel has forgotten something, because
more was opened than it notes, nothing is known, and the next captures compare everything; the more often that happens, the longer
it is left at that. So it is where the kernel has no room for watches, and where it turns out (`UpperWatch.end`) not to tell what
is opened through overlayfs.

`workspace.OpenWorkspace` has one while the kernel shows the workspace, and `layers.UpperReader` tells it what a capture looks
at. One thread at a time, with the workspace lock held. Nothing survives: another process begins with nothing known.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from avfs_git.host.files.flush import settle_file
from avfs_git.host.processes.watches import Watches, read_room
from avfs_git.paths import ROOT, TreePath, join, split
from avfs_git.vfs.scan.scan import FILE, SYMLINK, DirtySet, Found, is_staging
from avfs_git.vfs.scan.statcache import StatCache, is_same_entry, take_fingerprint

_WORTH: Final = 1000
"""Where the layer holds fewer entries, all of them are looked at."""
_PROVEN_MOST: Final = 5000
"""So many files that were recorded before are made known by one capture: that takes three times as long as a look."""
_MOST: Final = 100_000
"""Of more entries the kernel would have to keep too many inodes in memory: 1.3 KiB each."""
_SHARE: Final = 4
"""No more than this part of what the user may watch: programs in the tree watch files, too."""
_REFUSED_MOST: Final = 1000
"""Where more files than that cannot be known, there is nothing to be gained."""
_REST_MOST: Final = 5
_OPEN: Final = os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC

_Names = dict[TreePath, set[bytes]]


class UpperWatch:
    """What is known of the entries of one upper layer."""

    def __init__(self, shown_at: Path) -> None:
        """Begin with nothing known.

        Args:
            shown_at: Where the layer is mounted.
        """
        self._shown_at = shown_at
        self._watches: Watches | None = None
        self._process = os.getpid()
        self._is_off = False
        self._room = 0
        self._is_told = False
        """Whether the kernel was seen to tell what is opened through overlayfs."""
        self._overflows = 0
        """How often in a row something was forgotten before anything was gained."""
        self._resting = 0
        """For so many captures nothing is watched."""
        self._cache: StatCache | None = None
        self._start_over()

    def _start_over(self) -> None:
        if self._watches is not None:
            self._watches.close()
        self._watches = None
        self._is_whole = False
        self._known: dict[TreePath, dict[bytes, int]] = {}
        """The watches of known entries, by directory and name."""
        self._entries: dict[int, tuple[TreePath, bytes]] = {}
        """The same by their numbers."""
        self._directories: dict[int, TreePath] = {}
        self._unknown: _Names = {}
        """Files and links that are there and have to be looked at each time."""
        self._marked: dict[tuple[TreePath, bytes], bool] = {}
        """What came, went or changed since the last capture that was recorded; whether with all that is below it."""
        self._is_root_marked = False
        self._proven: set[tuple[TreePath, bytes]] = set()
        """What this capture has made known, if it is recorded."""
        self._refused = 0
        self._left_to_prove = 0

    @property
    def is_on(self) -> bool:
        """Whether captures are to say what they look at."""
        return self._watches is not None

    def close(self) -> None:
        """Watch nothing any more, for good."""
        self._is_off = True
        self._start_over()

    def distrust(self) -> None:
        """Let the next capture compare everything: what was recorded is in doubt."""
        self._is_whole = False

    # --- a capture ---------------------------------------------------------------------------------

    def begin(self, cache: StatCache | None, *, lasts: bool) -> DirtySet | None:
        """Begin a capture; gives the only entries that can differ from the cache, or None if any can.

        Args:
            cache: What was last recorded.
            lasts: Whether the capture is going to be recorded.
        """
        if self._process != os.getpid():  # made before a fork: what the other process was told, nobody knows here
            self._process = os.getpid()
            self._start_over()
        self._cache = cache
        self._proven.clear()
        self._refused = 0
        self._left_to_prove = _PROVEN_MOST
        if self._watches is None:
            self._try_to_watch(cache, lasts=lasts)
            return None
        if not self._take_told():
            self._resting = (1 << self._overflows) - 1
            self._overflows = min(self._overflows + 1, _REST_MOST)
            self._start_over()
            return None
        if not self._is_whole or cache is None:
            self._is_whole = False
            return None
        if sum(map(len, self._unknown.values())) > _PROVEN_MOST:
            return None  # listing directories takes less time than looking at each name
        self._overflows = 0
        return self._list_unknown()

    def end(self) -> None:
        """End a capture that is recorded: what it was told is settled, and what it proved is known."""
        self._marked.clear()
        self._is_root_marked = False
        for path, name in self._proven:
            self._settle(path, name)
        entries = sum(map(len, self._known.values())) + sum(map(len, self._unknown.values()))
        if self._refused > _REFUSED_MOST or entries > self._room:
            self.close()
        elif entries < _WORTH:
            self._start_over()
        elif self._watches is not None:
            self._is_whole = self._is_told or self._see_whether_told()
        self._proven.clear()

    def _try_to_watch(self, cache: StatCache | None, *, lasts: bool) -> None:
        if self._is_off or not lasts:
            return
        if cache is not None and sum(map(len, cache.directories.values())) < _WORTH:
            return
        if self._resting:
            self._resting -= 1
            return
        self._room = min(_MOST, read_room() // _SHARE)
        try:
            self._watches = Watches()
        except OSError:
            self._is_off = True

    def _list_unknown(self) -> DirtySet:
        dirty = DirtySet()
        dirty.has_root = self._is_root_marked
        for (path, name), deep in self._marked.items():
            dirty.add(join(path, name), deep=deep)
        for path, names in self._unknown.items():
            for name in names:
                dirty.add(join(path, name))
        return dirty

    def _see_whether_told(self) -> bool:
        """Open a known file as a program does, and see whether that is told; where it is not, nothing can be known."""
        found = next(((path, name) for path, name in self._proven if name in self._known.get(path, ())), None)
        if found is None:
            return False
        path, name = found
        place = os.path.join(os.fsencode(self._shown_at), join(path, name))
        try:
            before = os.stat(place, follow_symlinks=False)
            if not stat.S_ISREG(before.st_mode):
                return False
            os.close(os.open(place, _OPEN))
        except OSError:
            return False
        if not self._take_told():
            self._start_over()
            return False
        self._is_told = name in self._unknown.get(path, ())
        if not self._is_told:
            self.close()
        return self._is_told

    # --- what the capture looks at --------------------------------------------------------------------

    def see_directory(self, path: TreePath, directory: int) -> None:
        """Take notice of a directory that is about to be listed."""
        if not self._has_room() or self._watches is None:
            return
        try:
            self._directories[self._watches.add_directory(directory)] = path
        except OSError:
            self.close()

    def see_names(self, path: TreePath, found: Sequence[Found]) -> None:
        """Take notice of what a directory holds."""
        if self._watches is None:
            return
        there = {entry.name for entry in found if entry.kind in (FILE, SYMLINK)}
        for name in [name for name in self._known.get(path, ()) if name not in there]:
            self._forget(path, name)
        unknown = there - self._known.get(path, {}).keys() | (self._unknown.pop(path, set()) & there)
        if unknown:
            self._unknown[path] = unknown

    def see_no_file(self, path: TreePath, name: bytes) -> None:
        """Take notice of a name that nothing has, or that cannot change without being told of."""
        self._forget(path, name)
        self._proven.add((path, name))

    def wants(self, path: TreePath, name: bytes) -> bool:
        """Whether a listed entry is to be made known, if it is what was recorded."""
        return self._left_to_prove > 0 and name in self._unknown.get(path, ())

    def is_recorded(self, path: TreePath, found: Found) -> bool:
        """Whether an entry looks as it did when it was last recorded."""
        cached = self._cache.directory(path) if self._cache is not None else None
        before = cached.get(found.name) if cached is not None else None
        return before is not None and is_same_entry(before, take_fingerprint(found.stat))

    def reopen(self, path: TreePath, name: bytes) -> None:
        """Forget what is known of a file that is about to be opened by the capture, which is not to be told of."""
        self._proven.discard((path, name))
        self._forget(path, name)
        self._unknown.setdefault(path, set()).add(name)

    def prove(self, path: TreePath, name: bytes, fd: int) -> None:
        """Try to make a file known that is open for reading, after `reopen`. What is read or asked of it later holds then."""
        if not self._has_room() or self._watches is None or not _is_single(fd):
            settle_file(fd)
            return
        try:
            number = self._watches.add_file(fd)
        except OSError:
            self.close()
            settle_file(fd)
            return
        self._keep(path, name, number)
        self._left_to_prove -= 1
        if settle_file(fd) and _is_single(fd):
            self._proven.add((path, name))
        else:
            self._refused += 1
            self._forget(path, name)

    def prove_link(self, path: TreePath, name: bytes, directory: int) -> None:
        """Make a symbolic link known. What is asked of it later holds then."""
        self.reopen(path, name)
        if self._watches is None:
            return
        try:
            self._keep(path, name, self._watches.add_link(directory, name))
        except OSError:  # something else by now, or with several names
            return
        self._proven.add((path, name))

    def doubt(self, path: TreePath, name: bytes) -> None:
        """Take back what was proven of an entry in this capture."""
        self._proven.discard((path, name))
        self._forget(path, name)

    def settle(self, path: TreePath, name: bytes) -> None:
        """Take notice that what was proven of an entry is what was recorded."""
        if (path, name) in self._proven:
            self._settle(path, name)

    # --- what is known -----------------------------------------------------------------------------

    def _has_room(self) -> bool:
        """Whether one more inode may be watched; if not, none is, for good."""
        if len(self._entries) + len(self._directories) >= self._room:
            self.close()
        return self._watches is not None

    def _settle(self, path: TreePath, name: bytes) -> None:
        names = self._unknown.get(path)
        if names is not None:
            names.discard(name)
            if not names:
                del self._unknown[path]

    def _keep(self, path: TreePath, name: bytes, number: int) -> None:
        self._entries[number] = (path, name)
        self._known.setdefault(path, {})[name] = number

    def _forget(self, path: TreePath, name: bytes) -> None:
        number = self._known.get(path, {}).pop(name, None)
        if number is not None and self._entries.get(number) == (path, name):  # else it has another name by now
            del self._entries[number]
            if self._watches is not None:
                self._watches.remove(number)

    def _take_told(self) -> bool:
        """Take over what the kernel tells; False if some of that is lost."""
        told = self._watches.read() if self._watches is not None else None
        if told is None:
            return False
        moved: set[TreePath] = set()
        for event in told:
            entry = self._entries.get(event.number)
            if entry is not None:
                self._forget(*entry)
                self._unknown.setdefault(entry[0], set()).add(entry[1])
                continue
            path = self._directories.get(event.number)
            if path is None:  # of a watch that was removed: its entry is unknown, or looked at since
                continue
            if event.is_last:
                del self._directories[event.number]
            elif not event.name:
                self._mark_directory(path)
            elif path != ROOT or not is_staging(event.name):
                is_deep = event.is_directory and event.is_name
                self._marked[path, event.name] = self._marked.get((path, event.name), False) or is_deep
                if event.is_name:
                    self._forget(path, event.name)
                if is_deep:
                    moved.add(join(path, event.name))
        if moved:
            self._forget_below(moved)
        return True

    def _mark_directory(self, path: TreePath) -> None:
        if path == ROOT:
            self._is_root_marked = True
        else:
            self._marked.setdefault(split(path), False)

    def _forget_below(self, moved: set[TreePath]) -> None:
        """Forget all that directories held which came or went: they are looked at whole."""
        for path in [path for path in {*self._known, *self._unknown} if _is_in(path, moved)]:
            for name in list(self._known.get(path, ())):
                self._forget(path, name)
            self._unknown.pop(path, None)


def _is_single(fd: int) -> bool:
    """Whether an open file is a regular one with no more than one name."""
    found = os.fstat(fd)
    return stat.S_ISREG(found.st_mode) and found.st_nlink == 1


def _is_in(path: TreePath, tops: set[TreePath]) -> bool:
    here = path
    while here:
        if here in tops:
            return True
        here, _ = split(here)
    return False
