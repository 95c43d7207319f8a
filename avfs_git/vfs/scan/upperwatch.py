"""Finding what changed in an upper layer that the kernel's overlayfs writes to, without a scan of all of it.

Decided here: which entries are known to equal their record, so that a capture skips them. Every other entry counts as
changed. An entry is known after these steps, in this order (`UpperWatch.prove`):

1. A watch: from now on the kernel reports each open, write and change of attributes (`host.processes.watches`).
2. A lease shows that no process has the file open or mapped for writing. A later writer opens it, which is reported.
3. A stat equals the recorded one; else the file is read.

The kernel reports no write to mapped memory; but the writer opened the file after step 1, or step 2 found it. A file
with several names is never known, and compared each time. Directories are watched before they are listed, so that new
names are reported.

A file that a program opened is compared again, even if it was opened for reading only. If the kernel's queue overflows,
nothing is known, and the next captures compare everything; with each overflow in a row for longer. The same holds where
the kernel has no room for watches, and where it does not report opens through overlayfs (`UpperWatch.end`).

A workspace that the kernel shows has one, and `layers.UpperReader` tells it what a capture reads. One thread at a time,
with the workspace lock held. Nothing survives: another process begins with nothing known.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from avfs_git.host.files.flush import show_later_writes
from avfs_git.host.processes.watches import Watches, read_room
from avfs_git.paths import ROOT, TreePath, climb, join, split
from avfs_git.vfs.scan.scan import FILE, SYMLINK, DirtySet, Found, is_own
from avfs_git.vfs.scan.statcache import Fingerprints, StatCache, is_same_entry, take_fingerprint

_WORTH: Final = 200
"""A layer with fewer entries is scanned each time, once a capture has found that it goes on to be so small."""
_SPARE: Final = 32
"""Begin no watch where programs of this user could not begin so many more (`fs.inotify.max_user_instances`)."""
_PROVEN_MOST: Final = 5000
"""How many recorded files one capture makes known: that takes three times as long as a stat."""
_MOST: Final = 100_000
"""How many entries are watched: each keeps an inode of 1.3 KiB in the kernel's memory."""
_SHARE: Final = 4
"""Use at most a fourth of the user's watches: programs in the tree watch files, too."""
_REFUSED_MOST: Final = 1000
"""Stop watching when more files than that cannot be made known."""
_REST_MOST: Final = 5
_OPEN: Final = os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC

_Names = dict[TreePath, set[bytes]]


class UpperWatch:
    """The known entries of one upper layer."""

    def __init__(self, shown_at: Path) -> None:
        """Begin with nothing known."""
        self._shown_at = shown_at
        self._watches: Watches | None = None
        self._process = os.getpid()
        self._is_off = False
        self._room = 0
        self._is_told = False
        """Whether the kernel has reported an open through overlayfs."""
        self._overflows = 0
        """How many overflows came in a row."""
        self._resting = 0
        """How many captures watch nothing."""
        self._cache: Fingerprints | None = None
        self._is_ahead = False
        """Whether that is not recorded yet."""
        self._start_over()

    def _start_over(self) -> None:
        if self._watches is not None:
            self._watches.close()
        self._watches = None
        self._is_whole = False
        self._was_small = False
        """Whether the last recorded capture found fewer entries than are worth it: what was deleted may come back."""
        self._known: dict[TreePath, dict[bytes, int]] = {}
        """The watches of known entries, by directory and name."""
        self._entries: dict[int, tuple[TreePath, bytes]] = {}
        """The same by their numbers."""
        self._directories: dict[int, TreePath] = {}
        self._unknown: _Names = {}
        """Files and links that each capture compares."""
        self._marked: dict[tuple[TreePath, bytes], bool] = {}
        """Names that came, went or changed since the last recorded capture; whether with everything below."""
        self._told: dict[tuple[TreePath, bytes], bool] = {}
        """Those of which the kernel told when it was last asked."""
        self._proven: set[tuple[TreePath, bytes]] = set()
        """Entries that become known if this capture is recorded."""
        self._refused = 0
        self._left_to_prove = 0

    @property
    def is_on(self) -> bool:
        """Whether captures must report what they read."""
        return self._watches is not None

    def close(self) -> None:
        """Watch nothing any more, for good."""
        self._is_off = True
        self._start_over()

    def distrust(self) -> None:
        """Let the next capture compare everything."""
        self._is_whole = False

    # --- a capture ---------------------------------------------------------------------------------

    def begin(self, cache: StatCache | None, *, lasts: bool) -> DirtySet | None:
        """Begin a capture; give the only entries that can differ from the cache, or None if any can.

        `lasts`: the capture is going to be recorded.
        """
        if self._process != os.getpid():  # made before a fork: reports went to the other process
            self._process = os.getpid()
            self._start_over()
        self._cache, self._is_ahead = cache, False
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

    def extend(self, found: Fingerprints | None) -> DirtySet | None:
        """Begin a further round of a capture.

        Give the only entries that can differ from `found` by now, or None if any can: what the kernel has told of since
        the round before began, and files that could not be proven.

        Args:
            found: What the rounds before have found. Entries that equal it are known when that is recorded, not before.
        """
        self._cache, self._is_ahead = found, True
        if not self._is_whole or self._watches is None:
            return None
        if not self._take_told():
            self._start_over()
            return None
        return self._list_unknown(ahead=True)

    def settle(self) -> None:
        """Let a layer that turns out to be small be watched no more: an operation has made it so."""
        self._was_small = True

    def end(self) -> None:
        """End a recorded capture: reported changes are recorded, and proven entries are known."""
        self._marked.clear()
        for path, name in self._proven:
            self._drop_unknown(path, name)
        entries = sum(map(len, self._known.values())) + sum(map(len, self._unknown.values()))
        if self._refused > _REFUSED_MOST or entries > self._room:
            self.close()
        elif entries < _WORTH and self._was_small:
            self._start_over()
        elif self._watches is not None:
            self._was_small = entries < _WORTH
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
            self._watches = Watches(spare=_SPARE)
        except OSError:
            self._is_off = True

    def _list_unknown(self, *, ahead: bool = False) -> DirtySet:
        """List what may differ from the record or, `ahead` of it, from what the rounds of this capture have found."""
        dirty = DirtySet()
        for (path, name), deep in (self._told if ahead else self._marked).items():
            dirty.add(join(path, name), deep=deep)
        for path, names in self._unknown.items():
            for name in names:
                if not ahead or (path, name) not in self._proven:
                    dirty.add(join(path, name))
        return dirty

    def _see_whether_told(self) -> bool:
        """Open a known file as a program does, and check that the kernel reports it; otherwise watch nothing."""
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

    # --- what the capture reads -----------------------------------------------------------------------

    def see_directory(self, path: TreePath, directory: int) -> None:
        """Watch a directory that is about to be listed."""
        if not self._has_room() or self._watches is None:
            return
        try:
            self._directories[self._watches.add_directory(directory)] = path
        except OSError:
            self.close()

    def see_names(self, path: TreePath, found: Sequence[Found]) -> None:
        """Note the names of a directory."""
        if self._watches is None:
            return
        there = {entry.name for entry in found if entry.kind in (FILE, SYMLINK) and (path or not is_own(entry.name))}
        for name in [name for name in self._known.get(path, ()) if name not in there]:
            self._forget(path, name)
        unknown = there - self._known.get(path, {}).keys() | (self._unknown.pop(path, set()) & there)
        if unknown:
            self._unknown[path] = unknown

    def see_no_file(self, path: TreePath, name: bytes) -> None:
        """Note a name that is free, or that cannot change without a report."""
        self._forget(path, name)
        self._proven.add((path, name))

    def wants(self, path: TreePath, name: bytes) -> bool:
        """Whether to make a listed entry known, if it equals its record; a round before may have proven it."""
        return self._left_to_prove > 0 and name in self._unknown.get(path, ()) and (path, name) not in self._proven

    def is_recorded(self, path: TreePath, found: Found) -> bool:
        """Whether the stat of an entry equals the recorded one."""
        cached = self._cache.directory(path) if self._cache is not None else None
        before = cached.get(found.name) if cached is not None else None
        return before is not None and is_same_entry(before, take_fingerprint(found.stat))

    def reopen(self, path: TreePath, name: bytes) -> None:
        """Remove the watch of a file that the capture is about to open, so that this open is not reported."""
        self._proven.discard((path, name))
        self._forget(path, name)
        self._unknown.setdefault(path, set()).add(name)

    def prove(self, path: TreePath, name: bytes, fd: int) -> None:
        """Try to make an open file known, after `reopen`. The capture reads and stats it afterwards."""
        if not self._has_room() or self._watches is None or not _is_single(fd):
            show_later_writes(fd)
            return
        try:
            number = self._watches.add_file(fd)
        except OSError:
            self.close()
            show_later_writes(fd)
            return
        self._keep(path, name, number)
        self._left_to_prove -= 1
        if show_later_writes(fd) and _is_single(fd):
            self._proven.add((path, name))
        else:
            self._refused += 1
            self._forget(path, name)

    def prove_link(self, path: TreePath, name: bytes, directory: int) -> None:
        """Make a symbolic link known. The capture reads and stats it afterwards."""
        self.reopen(path, name)
        if self._watches is None:
            return
        try:
            self._keep(path, name, self._watches.add_link(directory, name))
        except OSError:  # something else by now, or with several names
            return
        self._proven.add((path, name))

    def doubt(self, path: TreePath, name: bytes) -> None:
        """Undo `prove` for an entry."""
        self._proven.discard((path, name))
        self._forget(path, name)

    def note_equal(self, path: TreePath, name: bytes) -> None:
        """Note that a proven entry equals its record."""
        if (path, name) in self._proven and not self._is_ahead:
            self._drop_unknown(path, name)

    # --- known entries -----------------------------------------------------------------------------

    def _has_room(self) -> bool:
        """Whether one more inode may be watched; if not, stop watching for good."""
        if self._watches is not None and len(self._entries) + len(self._directories) >= self._room:
            self.close()
        return self._watches is not None

    def _drop_unknown(self, path: TreePath, name: bytes) -> None:
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
        """Take over the kernel's reports; False if some were lost."""
        told = self._watches.read() if self._watches is not None else None
        if told is None:
            return False
        moved: set[TreePath] = set()
        self._told.clear()
        for event in told:
            entry = self._entries.get(event.number)
            if entry is not None:
                self._forget(*entry)
                self._proven.discard(entry)  # where a capture goes on
                self._unknown.setdefault(entry[0], set()).add(entry[1])
                continue
            path = self._directories.get(event.number)
            if path is None:  # of a watch that was removed: its entry is unknown, or looked at since
                continue
            if event.is_last:
                del self._directories[event.number]
            elif not event.name:
                self._mark(*split(path), deep=False)  # of the root, the mark of an empty name in it
            elif path != ROOT or not is_own(event.name):
                is_deep = event.is_directory and event.is_name
                self._mark(path, event.name, deep=is_deep)
                if event.is_name:
                    self._forget(path, event.name)
                    self._proven.discard((path, event.name))
                if is_deep:
                    moved.add(join(path, event.name))
        if moved:
            self._forget_below(moved)
        return True

    def _mark(self, path: TreePath, name: bytes, *, deep: bool) -> None:
        at = path, name
        self._marked[at] = self._told[at] = deep or self._marked.get(at, False)

    def _forget_below(self, moved: set[TreePath]) -> None:
        """Forget everything below directories that came or went: they are scanned whole."""
        for path in [path for path in {*self._known, *self._unknown} if not moved.isdisjoint(climb(path))]:
            for name in list(self._known.get(path, ())):
                self._forget(path, name)
            self._unknown.pop(path, None)
        self._proven = {entry for entry in self._proven if moved.isdisjoint(climb(entry[0]))}


def _is_single(fd: int) -> bool:
    found = os.fstat(fd)
    return stat.S_ISREG(found.st_mode) and found.st_nlink == 1
