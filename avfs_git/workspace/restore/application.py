"""Carrying out the steps that lead a workspace from one state to another.

Decided here: in which order entries change, and what is left alone. New files are made whole beside the workspace
first, and so are new directories with all that is in them: a full disk shows before anything has changed. Then what
goes is removed, and what comes gets its name by one rename each. What no state holds (a device, a file too large for
checkpoints) stays where it is, and a warning names it. What changes gets new times, so that build tools notice; but
where all of a state comes back, and with a merge, files beside history have theirs: they are mostly what those tools
have made, and would be newer than the sources that have changed since. Where the settings leave some out, which stay as
they are, the others may be what these were made from, and get new times, too.

Where the kernel shows the workspace, all of it is done through the mounted directory (`OpenWorkspace.changeable`), and
programs write at the same time. Then what is replaced or removed is taken out, and compared with what was saved at the
end (`takenout`). Where a program has moved or removed the place of a step meanwhile, a state that comes back gives way,
with a warning: it is kept elsewhere. What is brought to the files for the first time does not: that fails.

Called with the workspace lock held, within an intent that is on disk (`intent.announced`): a failure or a crash in the
middle leaves whole steps, which the caller or the next process puts back.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial

from avfs_git.errors import FileChanging, HostError, name_some
from avfs_git.faults import reach
from avfs_git.host.files.beneath import open_at, open_dir
from avfs_git.host.files.closing import closing_fd
from avfs_git.host.files.durable import write_all
from avfs_git.host.files.xattrs import entry_of
from avfs_git.model import Warning
from avfs_git.paths import ROOT, TreePath, climb, join, show_path, split
from avfs_git.values import NamedTuple
from avfs_git.vfs.layer.lower import LowerEntry, LowerTree
from avfs_git.vfs.layer.plan import Step
from avfs_git.vfs.layer.quota import Used, count_below
from avfs_git.vfs.layer.readers import Directories
from avfs_git.vfs.scan.steady import KnownContent
from avfs_git.vfs.tree.inodes import Node
from avfs_git.vfs.tree.merged import MergedTree
from avfs_git.workspace.checkpoint.prepare import keeps_all
from avfs_git.workspace.opened.refusal import refusal_explained
from avfs_git.workspace.opened.workspace import LockedWorkspace
from avfs_git.workspace.restore.takenout import keep_taken

KEPT_IN_PLACE = "restore.kept"
"""The code of the warning that something stays which is in no checkpoint."""
CHANGED_MEANWHILE = "restore.changed_meanwhile"
"""The code of the warning that programs changed files while they were restored."""
_MOVED = {errno.ENOENT, errno.ENOTDIR, errno.EEXIST, errno.ENOTEMPTY, errno.EISDIR, errno.ELOOP}
"""What a step meets where a program has moved, removed or replaced a directory that leads there."""
_NAMED = 3
"""Paths that a warning names; the others are counted."""


class _StagedTree(NamedTuple):
    """A new directory that is made beside the workspace, with all that is in it."""

    name: bytes
    """Its name there."""
    known: dict[TreePath, KnownContent]
    """The files below it."""
    steps: Sequence[Step]
    """What makes those, and the directories below it."""


_Staged = dict[TreePath, tuple[bytes, KnownContent]]
"""New files that are made beside the workspace: each one's name there."""


@dataclass(slots=True)
class Application:
    """The steps of a plan, carried out on the merged view.

    Attributes:
        known: The files that were made, so that no capture has to read them.
        warnings: What could not be done.
    """

    locked: LockedWorkspace
    now: LowerTree
    target: LowerTree
    gives_way: bool = True
    """Whether a step is passed over whose place a program has moved or removed; else the operation fails."""
    asks: bool = False
    """Whether it is refused where it would exceed a quota. What puts back a state that was there is not."""
    brings_times: bool = False
    """Whether files beside history come with their times: where all of a state comes back, or what a merge brings."""
    known: dict[TreePath, KnownContent] = field(default_factory=dict)
    warnings: list[Warning] = field(default_factory=list)
    in_the_way: set[TreePath] = field(default_factory=set)
    """Where something that no checkpoint holds stays in the place of what was wanted."""
    _covered: Collection[TreePath] = ()
    _tree: MergedTree = field(init=False)
    """Through which files change."""
    _at: TreePath | None = None
    """The path that changes now."""
    _trees: dict[TreePath, _StagedTree] = field(default_factory=dict)
    """New directories that are staged."""
    _has_times: bool = False
    _passed: list[TreePath] = field(default_factory=list)
    """Where a step was passed over."""

    def apply(self, steps: Sequence[Step]) -> None:
        """Carry the steps out; on failure, only whole steps have been."""
        quota = self.locked.opened.upper.quota
        if self.asks and quota.limits is not None:
            self._ask_for_room(steps)
        with refusal_explained(self.locked.opened.layout), quota.lifted():
            try:
                self._apply(steps)
            except OSError as error:
                what = (
                    "write to the workspace" if self._at is None else f"write '{show_path(self._at)}' in the workspace"
                )
                raise HostError(what, error) from error

    def _apply(self, steps: Sequence[Step]) -> None:
        self._tree = self.locked.opened.changeable
        self._has_times = self.brings_times and keeps_all(self.locked.vault)
        upper = self._tree.upper
        staged: _Staged = {}
        mounted = self.locked.opened.mounted
        if mounted is not None:
            mounted.upper.write_plan(steps)
        try:
            in_trees = self._stage_trees(steps)
            steps = [step for step in steps if step.path not in in_trees]
            for step in steps:
                if step.after is not None and step.after.kind == "file" and self._needs_content(step):
                    staged[step.path] = self._stage_file(step.after)
            reach("restore.staged")
            self._covered = self._tree.list_covered()
            for step in steps:
                if step.is_removal:
                    with self._giving_way(step.path):
                        self._remove(step)
            for step in steps:
                self._put_step(step, staged)
            self._at = None
            if mounted is not None:
                reach("restore.taken")
                self.warnings += keep_taken(self.locked, self.now)
                self._tell_passed()
        finally:
            if mounted is not None:
                mounted.upper.taking = None
            left = [temporary for temporary, _ in staged.values()] + [tree.name for tree in self._trees.values()]
            for temporary in left:
                with contextlib.suppress(OSError):  # what stays behind is removed when the workspace is next opened
                    upper.discard(temporary)

    @contextlib.contextmanager
    def _giving_way(self, path: TreePath) -> Iterator[None]:
        """Pass over a step, or fail by a typed error, where a program has moved or removed its place."""
        self._at, mounted = path, self.locked.opened.mounted
        try:
            yield
        except OSError as error:
            if mounted is None or error.errno not in _MOVED or not mounted.upper.has_staging():
                raise
            if not self.gives_way:
                raise FileChanging(path, "replaced") from error
            self._passed.append(path)

    def _tell_passed(self) -> None:
        if self._passed:
            named = name_some([show_path(path) for path in self._passed], _NAMED)
            text = f"programs moved or removed {named} meanwhile: that stays as they left it"
            self.warnings.append(Warning(CHANGED_MEANWHILE, text, self._passed[0]))

    def _ask_for_room(self, steps: Sequence[Step]) -> None:
        """Ask the quota for all that comes, less what goes, before anything is done."""
        upper = self.locked.opened.upper
        quota = upper.quota
        quota.used()  # so that what goes is measured
        grows = files = largest = 0
        for step in steps:
            if step.after is not None and not self._needs_content(step):
                continue
            gone = quota.measure_path(step.path) or Used(0, 0)
            below = (
                count_below(upper, step.path) if step.is_removal and step.before and step.before.is_dir else Used(0, 0)
            )
            grows -= gone.size_bytes + below.size_bytes
            files -= gone.files + below.files
            if step.after is not None:
                size = self.target.size_of(step.after) if step.after.kind == "file" else 0
                grows, files, largest = grows + size, files + 1, max(largest, size)
        quota.check(grows=grows, files=files, size=largest)

    def _change_in(self, directory: Node, change: Callable[[], object]) -> None:
        """Change the entries of a directory, which is opened for a moment if its mode is closed to its owner.

        No mode keeps a state from coming back: the caches of build tools are read-only. A kill meanwhile leaves another
        mode, which whoever puts the files back puts back, too.
        """
        try:
            change()
        except PermissionError:
            attributes = self._tree.attributes
            mode = stat.S_IMODE(attributes.getattr(directory).mode)
            if mode & 0o300 == 0o300:
                raise
            attributes.chmod(directory, mode | 0o300)
            try:
                change()
            finally:
                attributes.chmod(directory, mode)

    def _needs_content(self, step: Step) -> bool:
        before, after = step.before, step.after
        if before is None or after is None or before.kind != after.kind or before.oid != after.oid:
            return True
        is_odd = (before.mode, before.xattrs) != (after.mode, after.xattrs)
        return after.kind == "file" and is_odd and self._has_other_names(step.path)

    def _has_other_names(self, path: TreePath) -> bool:
        """Whether a file is a hard link: other attributes would be those of its other names, too."""
        try:
            return self._tree.attributes.getattr(self._node(path)).nlink > 1
        except OSError:  # it has gone, or changed
            return False

    def _stage_trees(self, steps: Sequence[Step]) -> set[TreePath]:
        """Make new directories with all that is in them; list what comes with them."""
        in_trees: set[TreePath] = set()
        for top, *below in _group_new_directories(steps):
            if self._can_come_whole(top.path):
                self._stage_tree(top, below)
                in_trees.update(step.path for step in below)
        return in_trees

    def _can_come_whole(self, path: TreePath) -> bool:
        """Whether nothing is in the place of a new directory, whose own directory is there and hands no group on."""
        directory, name = split(path)
        try:
            parent = self._node(directory)
            return self._tree.nodes.find(parent, name) is None and not self._tree.making.hands_group_on(parent)
        except OSError:  # its own directory comes first
            return False

    def _stage_tree(self, top: Step, steps: Sequence[Step]) -> None:
        assert top.after is not None  # noqa: S101 - it comes
        upper = self._tree.upper
        temporary = upper.make_dir()
        known: dict[TreePath, KnownContent] = {}
        self._trees[top.path] = _StagedTree(temporary, known, steps)
        places = Directories(open_dir(upper.work.fd, temporary))
        # its own mode at once, but a closed directory could not be moved
        closed = [(ROOT, top.after)] if top.after.mode & stat.S_IWUSR else []
        try:
            for step in steps:
                assert step.after is not None  # noqa: S101 - they come
                entry, path = step.after, TreePath(step.path[len(top.path) + 1 :])
                directory, name = split(path)
                place = places.get(directory)
                if entry.is_dir:
                    os.mkdir(name, 0o700, dir_fd=place)
                    closed.append((path, entry))
                elif entry.kind == "symlink":
                    os.symlink(self.target.read(entry), name, dir_fd=place)
                else:
                    made = open_at(place, name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, _first_mode(entry))
                    with closing_fd(made) as fd:
                        known[step.path] = self._fill(fd, entry)
            for path, entry in reversed(closed):  # those below first: a directory may be closed to its owner
                target = entry_of(places.get(path), b".")
                upper.write_user_xattrs(target, entry.xattrs)
                os.chmod(target, stat.S_IMODE(entry.mode))
        finally:
            del places  # an open directory in the frames of an error would hold up the end of a mount

    def _stage_file(self, entry: LowerEntry) -> tuple[bytes, KnownContent]:
        name, fd = self._tree.upper.make_file(_first_mode(entry))
        try:
            return name, self._fill(fd, entry)
        except BaseException:
            self._tree.upper.discard(name)
            raise
        finally:
            os.close(fd)

    def _fill(self, fd: int, entry: LowerEntry) -> KnownContent:
        """Give a new file its content and attributes."""
        for piece in self.target.stream(entry) if self.target.size_of(entry) > 1 << 20 else (self.target.read(entry),):
            write_all(fd, piece)
        if entry.xattrs:
            self._tree.upper.write_user_xattrs(fd, entry.xattrs)
        if self._has_times and not entry.tracked:
            os.utime(fd, ns=(time.time_ns(), entry.mtime_ns))
        found = os.fstat(fd)
        if stat.S_IMODE(found.st_mode) != entry.mode & 0o7777:  # the umask, or bits that only chmod sets
            os.fchmod(fd, entry.mode & 0o7777)
        assert entry.oid is not None  # noqa: S101 - files have one
        return KnownContent.of_file(entry.oid, found)

    def _node(self, path: TreePath) -> Node:
        return self._tree.resolve(path, follow_last=False)

    def _remove(self, step: Step) -> None:
        assert step.before is not None  # noqa: S101 - what is removed is there
        parent, name = split(step.path)
        with contextlib.suppress(FileNotFoundError):  # its directory went with an earlier step
            self._remove_entry(self._node(parent), name, step.path, step.before)

    def _remove_entry(self, parent: Node, name: bytes, path: TreePath, entry: LowerEntry) -> None:
        """Remove what the captured state holds; something else in a directory keeps it in place."""
        merged, mounted = self._tree, self.locked.opened.mounted
        kept: set[TreePath] = set()
        # An explicit stack: trees may be deeper than Python's own.
        pending: list[tuple[Node, bytes, TreePath, LowerEntry, bool]] = [(parent, name, path, entry, False)]
        while pending:
            above, here, there, known, is_empty = pending.pop()
            if there in self._covered:
                kept.add(split(there)[0])
                self.warnings.append(
                    Warning(KEPT_IN_PLACE, f"'{show_path(there)}' has something mounted at it and stays", there)
                )
                continue
            if is_empty:
                if there in kept or not self._remove_dir(above, here, there):
                    kept.add(split(there)[0])
                continue
            node = self._find_to_remove(above, here)
            if node is None:
                continue
            if not node.is_dir:
                self._remove_file(above, here, there)
            elif not any(place.startswith(there + b"/") for place in self._covered) and self._holds_nothing_else(
                node, known
            ):
                self._change_in(above, partial(merged.namespace.remove_tree, above, here))
            else:
                pending.append((above, here, there, known, True))
                held = self.now.children(known)
                files = []
                for child, kind in merged.nodes.readdir(node):
                    below = held.get(child)
                    if below is None:
                        # A device, a pipe, a file too large for checkpoints: nothing else has it, so it stays.
                        kept.add(there)
                        self._keep(join(there, child))
                    elif mounted is None or kind == stat.S_IFDIR or join(there, child) in self._covered:
                        pending.append((node, child, join(there, child), below, False))
                    else:
                        files.append(child)
                if mounted is not None and files:
                    directory = merged.nodes.dir_fd(node)
                    self._change_in(node, partial(mounted.upper.take_files, directory.fd, there, files))

    def _holds_nothing_else(self, directory: Node, entry: LowerEntry) -> bool:
        """Tell whether a captured state holds all of a directory and no program can add to it: it goes in one step."""
        if self.locked.opened.mounted is not None:
            return not directory.upper
        nodes = self._tree.nodes
        pending = [(directory, entry)]
        while pending:
            here, known = pending.pop()
            if not here.upper:
                continue
            held = self.now.children(known)
            for name, kind in nodes.readdir(here):
                below = held.get(name)
                if below is None:
                    return False
                if kind == stat.S_IFDIR:
                    pending.append((nodes.lookup(here, name), below))
        return True

    def _find_to_remove(self, parent: Node, name: bytes) -> Node | None:
        try:
            return self._tree.nodes.lookup(parent, name)
        except FileNotFoundError:
            if self.locked.opened.mounted is None:
                raise
            return None  # a program has removed it just now

    def _remove_file(self, parent: Node, name: bytes, path: TreePath) -> None:
        mounted = self.locked.opened.mounted
        unlink = partial(self._tree.namespace.unlink, parent, name)
        if mounted is None:
            self._change_in(parent, unlink)
            return
        mounted.upper.taking = path
        with contextlib.suppress(FileNotFoundError):  # as above
            self._change_in(parent, unlink)

    def _remove_dir(self, parent: Node, name: bytes, path: TreePath) -> bool:
        """Remove a directory that is empty now; tell whether it is gone."""
        try:
            self._change_in(parent, partial(self._tree.namespace.rmdir, parent, name))
        except OSError as error:
            if self.locked.opened.mounted is None or error.errno not in (errno.ENOTEMPTY, errno.ENOENT):
                raise
            if error.errno == errno.ENOTEMPTY:  # a program has put something into it just now
                self._keep(path)
                return False
        return True

    def _put_step(self, step: Step, staged: _Staged) -> None:
        """Do what a step says but for a removal; what a program has put there since it was saved is taken out."""
        if step.after is not None:
            if self.locked.opened.mounted is not None:
                self.locked.opened.mounted.upper.taking = None if step.path in self._trees else step.path
            with self._giving_way(step.path):
                self._put(step, step.after, staged)
        reach("restore.step")

    def _put_tree(self, parent: Node, name: bytes, step: Step, entry: LowerEntry, staged: _Staged) -> None:
        """Show a staged directory; if a program has made one of that name since, what is in it goes there."""
        path, tree = step.path, self._trees[step.path]
        try:
            self._change_in(parent, partial(self._tree.making.show_dir, parent, name, tree.name))
        except FileExistsError:
            del self._trees[path]
            staged |= {below: (tree.name + below[len(path) :], known) for below, known in tree.known.items()}
            self._put(step, entry, staged)
            for below in tree.steps:
                self._put_step(below, staged)
            self._tree.upper.discard(tree.name)
        else:
            del self._trees[path]
            self.known |= tree.known
            self._set_attributes(self._tree.nodes.lookup(parent, name), entry)

    def _put(self, step: Step, entry: LowerEntry, staged: _Staged) -> None:
        merged = self._tree
        path = step.path
        if path == ROOT:
            self._set_attributes(merged.root, entry)
            return
        directory, name = split(path)
        if self.in_the_way and not self.in_the_way.isdisjoint(climb(path)):
            return
        parent = self._node(directory)
        if (step.before is None or step.is_removal) and self._stays(parent, name, path, entry):
            return
        if path in self._trees:
            self._put_tree(parent, name, step, entry, staged)
        elif entry.is_dir:
            with contextlib.suppress(FileExistsError):
                self._change_in(parent, partial(merged.making.mkdir, parent, name, entry.mode & 0o7777))
            self._set_attributes(merged.nodes.lookup(parent, name), entry)
        elif entry.kind == "symlink":
            target = self.target.read(entry)
            if step.before is not None and not step.is_removal:
                self._change_in(parent, partial(merged.namespace.unlink, parent, name))
            self._change_in(parent, partial(merged.making.symlink, parent, name, target))
        elif path in staged:
            temporary, made = staged[path]
            self._change_in(parent, partial(merged.writing.install, parent, name, temporary))
            del staged[path]
            self.known[path] = made
        else:
            node = merged.nodes.lookup(parent, name)
            self._set_attributes(node, entry)
            if step.before is not None and step.before.tracked != entry.tracked:
                # Nothing in it changes, but the next capture has to look at it: it moves between tree and sidecar.
                merged.attributes.utimens(node, mtime_ns=merged.attributes.getattr(node).mtime_ns)

    def _stays(self, parent: Node, name: bytes, path: TreePath, entry: LowerEntry) -> bool:
        """Whether something is in the place of an entry that the state before did not hold: nothing else has it."""
        try:
            there = self._tree.nodes.lookup(parent, name)
        except FileNotFoundError:
            return False
        if there.is_dir and entry.is_dir:
            return False
        self.in_the_way.add(path)
        if not there.is_dir:  # of a directory that stays, what keeps it is named already
            self._keep(path)
        return True

    def _keep(self, path: TreePath) -> None:
        self.warnings.append(Warning(KEPT_IN_PLACE, f"'{show_path(path)}' is in no checkpoint and stays", path))

    def _set_attributes(self, node: Node, entry: LowerEntry) -> None:
        attributes = self._tree.attributes
        mode = stat.S_IMODE(attributes.getattr(node).mode)
        wanted = dict(entry.xattrs)
        there = {key: value for key, value in attributes.read_xattrs(node).items() if key.startswith(b"user.")}
        for key in there.keys() - wanted.keys():
            attributes.remove_xattr(node, key)
        for key, value in wanted.items():
            if there.get(key) != value:
                attributes.set_xattr(node, key, value)
        if mode != stat.S_IMODE(entry.mode):
            attributes.chmod(node, stat.S_IMODE(entry.mode))


def _group_new_directories(steps: Sequence[Step]) -> list[list[Step]]:
    """Find the new directories that are in no other new one, each with what comes below it."""
    found: dict[TreePath, list[Step]] = {}
    for step in steps:
        if step.before is not None or step.after is None:
            continue
        group = found.get(split(step.path)[0])
        if group is not None:
            group.append(step)
        elif step.after.is_dir:
            group = [step]
        if group is not None and step.after.is_dir:
            found[step.path] = group
    return [group for path, group in found.items() if group[0].path == path]


def _first_mode(entry: LowerEntry) -> int:
    """Give the mode with which a file is made: without write permission, the kernel sets no attributes."""
    return 0o600 if entry.xattrs else entry.mode & 0o777
