"""Turning what a layer holds into a git tree and a sidecar: the heart of every checkpoint.

Decided here: what is read of a layer, what is left out, and when a file counts as read whole; which of tree and sidecar
a path goes into is `workspace.capture.placing`. Called with the workspace lock held, by checkpoints, status, restores
and imports. Reads the layer, writes objects to a sink, and changes nothing else: a capture that is abandoned leaves
nothing behind. One directory after the other is held in memory; unchanged ones are not even read.

While programs go on, what was listed may go, or become something else, before it is read. It is then taken for what it
is by that time: a name is looked at again, and a directory that went is dropped with what was found in it so far.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager

from avfs_git.errors import FileChanging, HostError
from avfs_git.gitstore.formats.packfile import KIND_BLOB
from avfs_git.gitstore.formats.trees import MODE_EXEC, MODE_FILE, MODE_GITLINK, MODE_SYMLINK, MODE_TREE
from avfs_git.gitstore.source import ObjectSink
from avfs_git.paths import ROOT, Oid, TreePath, join, show_path
from avfs_git.progress import listener
from avfs_git.vfs.layer.lower import DIRECTORY_MODE, LowerEntry, LowerTree, find_redirected
from avfs_git.vfs.layer.sidecar import SELF, Meta, Record, format_record, plain_record
from avfs_git.vfs.scan.scan import (
    DIRECTORY,
    FILE,
    SYMLINK,
    WHITEOUT,
    WHITEOUT_PRINT,
    DirtySet,
    Found,
    Layer,
    Suspect,
    is_own,
    scan_directory,
)
from avfs_git.vfs.scan.statcache import (
    RACY_NS,
    Fingerprints,
    StatCacheUpdate,
    is_same_entry,
    show_alike,
    take_fingerprint,
)
from avfs_git.vfs.scan.steady import PATIENT_TRIES, READ_TRIES, KnownContent, read_steadily
from avfs_git.workspace.capture.captured import Captured
from avfs_git.workspace.capture.placing import GIT, Frame, IgnoreRules, Placing, Standing
from avfs_git.workspace.capture.requests import SidecarLimits

COARSE_NS = 3_000_000_000
"""`RACY_NS` where the file system may be any: some tell the time by 2 s, and some have it from another machine."""

_GONE = frozenset(
    {errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ELOOP, errno.ENXIO, errno.EINVAL, errno.ESPIPE, errno.ESTALE}
)
"""The errors for a name that is no longer what it was: a file is now a symbolic link, a link a file, and so on."""
_TOLD_STEPS = 512
_LOOKS_MAX = 10_000
"""So many names may go while they are captured; more than that only where something is wrong."""

IGNORE = b".gitignore"


class _GoneError(Exception):
    """A directory went, or became something else, while it was captured."""

    def __init__(self, frame: Frame) -> None:
        super().__init__(frame.path)
        self.frame = frame


@contextlib.contextmanager
def _host_errors() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        place = error.filename
        named = isinstance(place, bytes) and place not in (b"", b".")
        raise HostError(f"read '{show_path(place)}'" if named else "read the workspace", error) from error


class Capture:
    """One capture of one layer."""

    def __init__(
        self,
        layer: Layer,
        sink: ObjectSink,
        ignore: IgnoreRules,
        *,
        lower: LowerTree | None = None,
        cache: Fingerprints | None = None,
        limits: SidecarLimits | None = None,
        known: Mapping[TreePath, KnownContent] | None = None,
        index: Oid | None = None,
        standing: Standing | None = None,
        remember_blobs: bool = False,
        learn: bool = True,
        racy_ns: int = RACY_NS,
        postponed: DirtySet | None = None,
        skips_unreadable: bool = False,
        copies: bool = False,
        mode_of: Callable[[TreePath, int], int] | None = None,
    ) -> None:
        """Prepare a capture.

        Args:
            layer: What to capture.
            sink: Where objects go.
            ignore: The ignore rules of the state that is captured.
            lower: What shows where the layer holds nothing; None for a directory that stands alone.
            cache: What the layer looked like at the previous state; None to read everything.
            limits: What the sidecar may hold.
            known: What files were made from, by path; those need not be read.
            index: The tree whose paths are tracked; that of the previous state if not given.
            standing: What has been decided of paths that no rule ignores; nothing if not given.
            remember_blobs: Fill `Captured.blob_paths`.
            learn: Fill `Captured.update`, which takes memory for each entry that was looked at.
            racy_ns: How long before this an entry must have been left alone to be known by its times.
            postponed: Gets the paths of files that a program is writing to; those are left as they were. None to wait
                for each.
            skips_unreadable: Leave a directory as it was at the previous state if its mode keeps its owner out, and
                warn of it. For captures that only record: an operation that replaces or removes files has to know all
                of them.
            copies: The layer is a directory of the host that stays as it is: leave out, with a warning, a directory
                that this user may not read, if nothing in it is tracked, as git does, and files beside history.
            mode_of: Tells as what git takes a file, from the mode that it shows; that mode if not given.
        """
        self._layer = layer
        self._sink = sink
        self._placing = Placing(sink, ignore, standing or Standing())
        self._lower = lower
        self._cache = cache
        self._limits = limits or SidecarLimits()
        self._known = known or {}
        self._index = index
        self._remember = remember_blobs
        self._learn = learn
        self._postponed = postponed
        self._skips_unreadable = skips_unreadable
        self._copies = copies
        self._mode_of = mode_of
        self._racy_after_ns = time.time_ns() - racy_ns
        self._looks_left = _LOOKS_MAX
        self._result = Captured(None, None, StatCacheUpdate())
        self._looked: list[Frame] | None = None
        """The directories to write later, each after those below it; None to write each at once."""

    def run(self, dirty: DirtySet | None = None) -> Captured:
        """Capture the layer.

        Args:
            dirty: The only paths that can differ from the cache; None to compare everything.

        Raises:
            FileChanging: If a file cannot be read without it changing.
            LayerNotUnderstood: If the layer carries a mark that avfs does not know.
            HostError: If the disk fails.
        """
        with _host_errors():
            self._walk(self._begin(dirty))
        return self._conclude()

    def deflating_later(self) -> AbstractContextManager[None]:
        """Deflate what is read in the block at its end; also what other captures read into the same sink."""
        return self._sink.deflating_later()

    def look(self, dirty: DirtySet) -> Callable[[], Captured]:
        """Read the layer now and write the trees later, by the function that this returns: so programs wait for less.

        Takes the arguments of `run` and raises what that raises. Holds each directory that changed in memory.
        """
        looked = self._looked = []
        with _host_errors():
            self._walk(self._begin(dirty))

        def write() -> Captured:
            with _host_errors():
                for frame in looked:
                    self._write(frame)
            return self._conclude()

        return write

    def _begin(self, dirty: DirtySet | None) -> Frame:
        lower_root = self._lower.root if self._lower else None
        if self._cache is not None:
            prev = (self._cache.tree, self._cache.sidecar)
        else:
            prev = (lower_root.tree, lower_root.sidecar) if lower_root else (None, None)
        takes_lower = self._cache is None and lower_root is not None and self._index not in (None, lower_root.tree)
        root = Frame(ROOT, b"", None, (None, None) if takes_lower else prev, self._index or prev[0], lower_root)
        root.takes_lower = takes_lower
        self._placing.sidecar_touched = takes_lower  # then it is compared with nothing that was there
        root.ignored = root.nested = False
        root.only = dirty
        if self._cache is not None:
            root.cached = self._cache.directory(ROOT) or {}
        return root

    def _conclude(self) -> Captured:
        self._result.sidecar_touched = self._placing.sidecar_touched
        return self._result

    # --- walking ---------------------------------------------------------------------------------

    def _walk(self, root: Frame) -> None:
        # An explicit stack: trees may be deeper than Python's own.
        self._enter(root)
        stack = [root]
        told, steps = listener(), 0
        while stack:
            steps += 1
            if told is not None and not steps % _TOLD_STEPS:
                told("looking at directories", steps // 2, 0)
            try:
                self._step(stack)
            except _GoneError as gone:
                self._drop(stack, gone)

    def _step(self, stack: list[Frame]) -> None:
        """Enter the next directory below the last one of a stack, or finish that one."""
        frame = stack[-1]
        try:
            if frame.pending:
                frame = frame.pending.pop()
                self._enter(frame)
                stack.append(frame)
                return
            if self._learn and (frame.fresh_prints or frame.gone_prints):
                self._result.update.set_directory(frame.path, frame.fresh_prints, frame.gone_prints)
            if frame.parent is not None and frame.own_stat is not None:
                self._take_meta(frame, frame.parent, frame.own_stat)
            if self._looked is None:
                self._write(frame)
            else:
                self._looked.append(frame)
            stack.pop()
        except OSError as error:
            if frame.parent is None or error.errno not in _GONE:
                raise
            raise _GoneError(frame) from error

    def _write(self, frame: Frame) -> None:
        """Write a directory's tree and sidecar (its subdirectories are written) and add them to its parent."""
        tree, sidecar = self._placing.write(frame)
        if frame.parent is None:
            self._result.tree, self._result.sidecar = tree, sidecar
            self._result.warn_of_kept(sorted(frame.stays))
            return
        if frame.stays:
            frame.parent.stays |= {frame.path + b"/"} if tree is None else frame.stays
        self._placing.join(frame.parent, frame, tree, sidecar)

    def _take_meta(self, frame: Frame, parent: Frame, status: os.stat_result) -> None:
        try:
            xattrs = self._layer.dir_xattrs(frame.path)
        except PermissionError as error:
            self._skip_unreadable(frame, error)
        else:
            self._placing.set_meta(parent, frame.name, self._record_of(status, DIRECTORY_MODE, xattrs))

    def _skip_unreadable(self, frame: Frame, error: PermissionError) -> None:
        """Leave a directory that this user may not read as it was at the previous state; a new one of a copy is empty.

        Raises:
            HostError: If that is not wanted, or the previous state is not known.
        """
        is_new = self._copies and frame.prev_tree is None and frame.index is None
        is_lowers = self._lower is not None and self._index == self._lower.root.tree  # then that is the previous state
        if frame.parent is None or not (is_new or (self._skips_unreadable and (self._cache is not None or is_lowers))):
            raise self._refuse(frame.path, frame.own_stat, error) from error
        frame.own_stat = None
        frame.parent.fresh_prints.pop(frame.name, None)
        if is_new:
            self._result.warn("capture.closed", frame.path, "cannot be read by this user, and is empty in the copy")
            return
        if not self._result.is_partial or all(told.path != frame.path for told in self._result.warnings):
            had = (
                "is saved as it was in the last checkpoint"
                if any((frame.prev_tree, frame.prev_sidecar))
                else "is left out"
            )
            what = f"cannot be read by its owner, and {had}; let avfs in with `chmod u+rwx`"
            self._result.warn("capture.unreadable", frame.path, what)
        self._result.is_partial = True

    @staticmethod
    def _refuse(path: TreePath, status: os.stat_result | None, error: PermissionError) -> HostError:
        """Say that this user may not read a file or directory, and what lets it in."""
        refused = HostError(f"read '{show_path(path)}'", error)
        mode = "u+rw" if status is None or not stat.S_ISDIR(status.st_mode) else "u+rwx"
        refused.hint = f"Let its owner in: `chmod {mode}` on '{show_path(path)}'."
        if status is not None and status.st_uid != os.geteuid():
            refused.hint = "It belongs to another user: have that one, or root, let this one read it."
        return refused

    def _drop(self, stack: list[Frame], gone: _GoneError) -> None:
        """Forget what was found of a directory, and take its name for what it is now."""
        while True:
            frame, parent = gone.frame, gone.frame.parent
            assert parent is not None  # noqa: S101 - the root does not go
            while stack[-1] is not parent:
                stack.pop()
            self._result.update.drop_subtree(frame.path)
            try:
                self._placing.load(parent)
                self._take(parent, self._look_again(parent, frame.name))
            except _GoneError as above:
                gone = above
            else:
                return

    def _look_again(self, frame: Frame, name: bytes) -> Suspect:
        """Look at a name that is not what it was when its directory was listed.

        Raises:
            _GoneError: If the directory itself is not.
            FileChanging: If that happens without an end.
        """
        path = join(frame.path, name)
        self._looks_left -= 1
        if self._looks_left < 0:
            raise FileChanging(path)
        self._layer.forget_dir(path)
        if frame.parent is not None:
            try:
                is_gone = not self._layer.dir_stat(frame.path).st_nlink
            except OSError:
                is_gone = True
            if is_gone:
                raise _GoneError(frame)
        found = self._layer.find(frame.path, name)
        frame.fresh_prints.pop(name, None)
        if found is None:
            return Suspect(name, None, None, None, None)
        fingerprint = take_fingerprint(
            found.stat, opaque=found.opaque, redirect=found.redirect, racy_after_ns=self._racy_after_ns
        )
        return Suspect(name, found, WHITEOUT_PRINT if found.kind == WHITEOUT else fingerprint, None, None)

    def _take(self, frame: Frame, suspect: Suspect) -> None:
        """Take a name that needs another look."""
        while True:
            try:
                if suspect.found is not None and suspect.found.kind == DIRECTORY:
                    self._expect_directory(frame, suspect)
                else:
                    self._take_entry(frame, suspect)
            except OSError as error:
                if error.errno not in _GONE:
                    error.filename = join(frame.path, suspect.name)  # not a descriptor, or the last name alone
                    raise
                suspect = self._look_again(frame, suspect.name)
            else:
                return

    def _enter(self, frame: Frame) -> None:
        if frame.path == ROOT and (frame.only is None or frame.only or self._cache is None):
            self._look_at_root(frame)
        suspects = []
        if frame.has_layer and not (frame.only is not None and not frame.only):
            try:
                found = scan_directory(
                    self._layer, frame.path, frame.cached, frame.only, racy_after_ns=self._racy_after_ns
                )
                suspects = list(found)
            except PermissionError as error:
                self._skip_unreadable(frame, error)
                return
            except OSError as error:
                error.filename = frame.path
                raise
        if frame.takes_lower and frame.lower is not None and self._lower is not None:
            held = {suspect.name for suspect in suspects}
            names = self._lower.children(frame.lower).keys() - held
            suspects += [Suspect(name, None, None, None, None) for name in sorted(names)]
        looks_again = frame.reclassify or self._placing.leads_to_moved(frame.path)
        if not suspects and not looks_again:
            return
        # What decides on the other names of the directory comes first.
        suspects.sort(key=lambda suspect: suspect.name not in (GIT, IGNORE))
        for suspect in suspects:
            if frame.path == ROOT and is_own(suspect.name):
                continue
            self._take(frame, suspect)
        if looks_again or frame.reclassify:
            self._reclassify(frame)
        for child in frame.pending:
            child.reclassify = child.reclassify or frame.reclassify

    def _look_at_root(self, frame: Frame) -> None:
        found = self._layer.dir_stat(ROOT)
        fingerprint = take_fingerprint(found, racy_after_ns=self._racy_after_ns)
        if not is_same_entry(frame.cached.get(SELF), fingerprint):
            self._placing.load(frame)
            self._placing.set_meta(frame, SELF, self._record_of(found, DIRECTORY_MODE, self._layer.dir_xattrs(ROOT)))
            frame.fresh_prints[SELF] = fingerprint

    def _expect_directory(self, frame: Frame, suspect: Suspect) -> None:
        """Queue a directory that the layer holds."""
        name, found, fingerprint, cached = suspect.name, suspect.found, suspect.fingerprint, suspect.cached
        assert found is not None and fingerprint is not None  # noqa: S101, PT018 - what the caller looked at
        path = join(frame.path, name)
        lower = self._shown_below(frame, found, path)
        same = cached is not None and show_alike(cached, fingerprint)
        is_moved = found.redirect is not None or (frame.is_moved and lower is not None)
        # In a directory that was moved, one that was not in the layer is what it was placed as when that was captured.
        is_placed = same or (is_moved and found.redirect is None and cached is None and not frame.takes_lower)
        index = self._placing.index_tree(frame, name)
        takes_lower = not is_placed and lower is not None and (is_moved or index != lower.tree)
        shown = (lower.tree, lower.sidecar) if lower is not None and not takes_lower else (None, None)
        prev = self._placing.previous_directory(frame, name) if is_placed else shown
        child = Frame(path, name, frame, prev, index, lower)
        child.is_moved = is_moved
        child.takes_lower = takes_lower
        if same:
            child.only = suspect.below
            child.cached = (self._cache.directory(path) if self._cache else None) or {}
        else:
            frame.changed = True
            self._placing.load(frame)
            # What stood at this name before is not what is below it now.
            assert frame.tree is not None  # noqa: S101 - just loaded
            if name == IGNORE and self._placing.held(frame, name) is not None:
                frame.reclassify = True  # it may have been a file until now, with rules in it
            if frame.tree.get(name, (MODE_TREE,))[0] not in (MODE_TREE, MODE_GITLINK):
                del frame.tree[name]
            held = self._placing.index_entry(frame, name)
            if held is not None and held[0] == MODE_GITLINK:
                frame.tree[name] = held
            if cached is not None:
                self._result.update.drop_subtree(path)
        if not is_same_entry(cached, fingerprint):
            child.own_stat = found.stat
            frame.fresh_prints[name] = fingerprint
        if name == GIT and frame.path != ROOT:
            self._placing.note_git(frame, present=True)
        frame.pending.append(child)

    def _take_entry(self, frame: Frame, suspect: Suspect) -> None:
        """Take a name that is no directory of the layer."""
        name, found = suspect.name, suspect.found
        path = join(frame.path, name)
        if found is None:
            if not frame.takes_lower:
                frame.gone_prints.append(name)
        else:
            assert suspect.fingerprint is not None  # noqa: S101 - found things have one
            frame.fresh_prints[name] = suspect.fingerprint
        if suspect.cached is not None and stat.S_ISDIR(int.from_bytes(suspect.cached[:4], "little")):  # its mode
            self._result.update.drop_subtree(path)
        if frame.tree is None:
            self._placing.load(frame)
        if found is not None and found.kind == FILE and name not in (GIT, IGNORE):  # most of all
            self._take_file(frame, name, path, found)
            return
        if name == GIT:
            is_revealed = found is None and self._lower_child(frame, name) is not None
            self._placing.note_git(frame, present=is_revealed or (found is not None and found.kind != WHITEOUT))
        before = self._placing.held(frame, name)
        if found is None:
            self._reveal(frame, name, path)
        elif found.kind == WHITEOUT:
            self._placing.set_absent(frame, name)
        elif found.kind == FILE:
            self._take_file(frame, name, path, found)
        elif found.kind == SYMLINK:
            target = self._layer.read_link(frame.path, name)
            oid = self._sink.add(KIND_BLOB, target, keep=True)  # no file holds it
            self._placing.place(frame, name, path, MODE_SYMLINK, oid, plain_record(found.stat.st_mtime_ns))
        else:
            self._placing.set_absent(frame, name)
            self._result.warn("capture.left_out", path, "is a device, socket or pipe, which no checkpoint can hold")
        if name == IGNORE and self._placing.held(frame, name) != before:
            frame.reclassify = True

    def _reveal(self, frame: Frame, name: bytes, path: TreePath) -> None:
        """Take what the lower layer shows at a name that the layer holds no longer."""
        lower = self._lower_child(frame, name)
        if lower is None:
            self._placing.set_absent(frame, name)
            return
        mode = lower.mode & 0o7777
        if lower.is_dir:
            self._placing.set_absent(frame, name)
            index = self._placing.index_tree(frame, name)
            takes_lower = frame.is_moved or (frame.takes_lower and index != lower.tree)
            prev = (None, None) if takes_lower else (lower.tree, lower.sidecar)
            child = Frame(path, name, frame, prev, index, lower)
            child.has_layer = False
            child.is_moved, child.takes_lower = frame.is_moved, takes_lower
            child.reclassify = not (frame.is_moved or frame.takes_lower)
            if lower.kind == "gitlink" and lower.oid is not None:
                assert frame.tree is not None  # noqa: S101 - the caller that found the change has loaded it
                frame.tree[name] = (MODE_GITLINK, lower.oid)
            record = format_record(Meta(lower.mtime_ns, None if mode == DIRECTORY_MODE else mode, lower.xattrs))
            self._placing.set_meta(frame, name, record)
            frame.pending.append(child)
            return
        assert lower.oid is not None  # noqa: S101 - files and symlinks have one
        if lower.kind == "symlink":
            self._placing.place(frame, name, path, MODE_SYMLINK, lower.oid, plain_record(lower.mtime_ns))
            return
        git_mode = MODE_EXEC if mode & 0o100 else MODE_FILE
        odd = mode != (0o755 if git_mode == MODE_EXEC else 0o644)
        record = format_record(Meta(lower.mtime_ns, mode if odd else None, lower.xattrs))
        self._placing.place(frame, name, path, git_mode, lower.oid, record)

    def _take_file(self, frame: Frame, name: bytes, path: TreePath, found: Found) -> None:
        to_sidecar = self._placing.goes_to_sidecar(frame, name, path, MODE_FILE)
        if to_sidecar and self._leave_out(frame, name, path, found.stat.st_size):
            return
        try:
            oid, final, xattrs = read_steadily(
                self._layer,
                frame.path,
                name,
                found.stat,
                self._sink,
                self._known.get(path),
                tries=READ_TRIES + PATIENT_TRIES if self._postponed is None else 1,
            )
        except FileChanging:
            if self._postponed is None:
                raise
            self._postponed.add(path)
            del frame.fresh_prints[name]
            return
        except PermissionError as error:
            if not (self._copies and to_sidecar):
                raise self._refuse(path, found.stat, error) from error
            self._placing.set_absent(frame, name)
            del frame.fresh_prints[name]
            self._result.warn("capture.closed", path, "cannot be read by this user, and is left out of the copy")
            return
        if self._learn:
            self._result.sizes[oid] = final.st_size
        if self._remember:
            self._result.blob_paths[oid] = path
        if final is not found.stat:
            frame.fresh_prints[name] = take_fingerprint(final, racy_after_ns=self._racy_after_ns)
        mode = final.st_mode if to_sidecar or self._mode_of is None else self._mode_of(path, final.st_mode)
        if stat.S_ISLNK(mode):
            self._placing.place(frame, name, path, MODE_SYMLINK, oid, plain_record(final.st_mtime_ns))
            return
        git_mode, usual = (MODE_EXEC, 0o755) if mode & 0o100 else (MODE_FILE, 0o644)
        record = format_record(Meta(final.st_mtime_ns, mode & 0o7777 if mode & 0o7777 != usual else None, xattrs))
        self._placing.place(frame, name, path, git_mode, oid, record, sidecar=to_sidecar)

    def _leave_out(self, frame: Frame, name: bytes, path: TreePath, size: int) -> bool:
        """Leave a file out that the sidecar may not hold; tell whether it is one."""
        limit = self._limits.max_file_bytes
        excluded = self._limits.exclude is not None and self._limits.exclude.is_ignored(path, is_dir=False)
        if not excluded and (limit is None or size <= limit):
            return False
        self._placing.set_absent(frame, name)
        self._result.warn(
            "sidecar.left_out", path, "is excluded from checkpoints" if excluded else "is larger than checkpoints hold"
        )
        return True

    # --- looking up ------------------------------------------------------------------------------

    def _reclassify(self, frame: Frame) -> None:
        """Look again at what is held here where rules changed, or something was added to history or taken out of it."""
        for name in self._placing.reclassify(frame):
            prev, index = self._placing.previous_directory(frame, name), self._placing.index_tree(frame, name)
            child = Frame(join(frame.path, name), name, frame, prev, index, self._lower_child(frame, name))
            child.has_layer = False
            frame.pending.append(child)

    @staticmethod
    def _record_of(found: os.stat_result, usual_mode: int, xattrs: tuple[tuple[bytes, bytes], ...]) -> Record:
        permissions = stat.S_IMODE(found.st_mode)
        return format_record(Meta(found.st_mtime_ns, None if permissions == usual_mode else permissions, xattrs))

    def _lower_child(self, frame: Frame, name: bytes) -> LowerEntry | None:
        if self._lower is None or frame.lower is None:
            return None
        return self._lower.children(frame.lower).get(name)

    def _shown_below(self, frame: Frame, found: Found, path: TreePath) -> LowerEntry | None:
        """Find the directory of the lower layer that one of the layer shows.

        Raises:
            LayerNotUnderstood: If a mark leads to none.
        """
        if found.opaque or self._lower is None:
            return None
        if found.redirect is not None:
            return find_redirected(self._lower, frame.lower, found.redirect, path)
        lower = self._lower_child(frame, found.name)
        return lower if lower is not None and lower.is_dir else None
