"""How changes reach the upper layer on disk: copy-up, removing and renaming.

Decided here: the steps on disk by which each change becomes visible at once.

    copy-up   the entry is made complete in `work`, with mode, times and attributes, and shown by one rename; the times
              of the directory that gains it are put back, because copy-up is no change that a program may see
    unlink    in place; where the lower layer has the name, a whiteout is renamed over it
    rmdir     in place; where the lower layer has the name, directory and whiteout change places
    rename    the parts of the lower layer are copied up first; then one rename, which leaves a whiteout where the lower
              layer has the old name; a directory becomes opaque before it moves to where it could merge. In a layer
              whose marks may redirect (`Marks.is_trusted`), only the directory itself is copied up, and marked with its
              place

A kill between any two system calls leaves the old state or the new one; a stray whiteout that hides nothing may stay.
The kernel's overlayfs can mount the result: `opaque` and `redirect` are the only marks written.

`Steps` is what differs between kinds of trees: `UpperSteps` for a workspace with an upper layer of its own,
`vfs.tree.mounted.MountedSteps` where the kernel's overlayfs shows it, `vfs.tree.readonly.ReadOnly` for a commit. The
other modules of this package call it with the tree's lock held. Copy-up happens under that lock, but for large files in
threads that serve programs (`defer_copies`): they get `NotYetHere`, the copy is made without the lock, and the second
try shows it. A copy that was not used stays in `work` until the next one is made.
"""

from __future__ import annotations

import errno
import os
import stat
import threading
import time
from functools import partial
from typing import Protocol

from avfs_git import faults
from avfs_git.errors import QuotaExceeded
from avfs_git.gitstore.source import NotYetHere
from avfs_git.host.files.beneath import RENAME_EXCHANGE, RENAME_WHITEOUT, change_in, chmod_at, rename_at
from avfs_git.host.files.durable import write_all
from avfs_git.host.files.freeing import unlink_last
from avfs_git.host.files.xattrs import entry_of
from avfs_git.vfs.errnos import fail
from avfs_git.vfs.layer.lower import LowerEntry
from avfs_git.vfs.layer.marks import is_whiteout
from avfs_git.vfs.layer.upper import attic_name, put_times, remove_stray
from avfs_git.vfs.tree.inodes import Node
from avfs_git.vfs.tree.nodes import Nodes
from avfs_git.vfs.tree.pins import Pins
from avfs_git.vfs.values import SPOOL_ABOVE

_PLACE_MAX = 1024
"""Bytes of a place that a directory can be marked with: file systems have room for few kilobytes of attributes."""


_LETS_GO_S = 0.1
"""How long the kernel may take to let go of a file that no program has open."""


class Steps(Protocol):
    """What the changes of a tree do on disk. The nodes are updated by the caller, but for copy-up."""

    is_alone: bool
    """Whether nobody else changes what is on disk, so that a name without a node that is taken is a whiteout's."""

    def defer_copies(self) -> None:
        """Have this thread get `NotYetHere` instead of copying a large file up under the lock."""

    def bring_up(self, node: Node, *, with_data: bool = True) -> None:
        """Make a node changeable on disk: copy it up, with the directories above it, and empty if without data."""

    def remove(self, parent: Node, name: bytes, node: Node, *, hides: bool, deep: bool) -> None:
        """Remove a name.

        `hides`: the lower layer has the name, too. `deep`: with everything below it.

        Raises:
            FileNotFoundError: If another process has removed it.
        """

    def prepare_to_move(self, node: Node, new_parent: Node) -> None:
        """Make sure that a node shows the same after a rename into another directory."""

    def move(
        self,
        parent: Node,
        name: bytes,
        node: Node,
        new_parent: Node,
        new_name: bytes,
        target: Node | None,
        *,
        hides: bool,
    ) -> bool:
        """Rename an entry, in place of `target` if there is one; False if the entries below it are other files now."""
        ...


class UpperSteps:
    """The steps in an upper layer that belongs to this tree alone."""

    is_alone = True

    def __init__(self, nodes: Nodes, pins: Pins) -> None:
        self._nodes = nodes
        self._pins = pins
        self._lock = nodes.lock
        self._lower = nodes.lower
        self._upper = nodes.upper
        self._dir_fd = nodes.dir_fd
        self._quota = nodes.upper.quota
        self._quota.refuse = self._refuse
        self._ahead: tuple[LowerEntry, bytes] | None = None
        """A lower file that is copied already, and the name of the copy in `work`."""
        self._deferring = threading.local()

    # --- the quota -------------------------------------------------------------------------------------------

    def _refuse(self, refused: QuotaExceeded) -> Exception:
        """Let a program that may just have removed a file wait for a moment: the kernel releases it a little later."""
        if not getattr(self._deferring, "is_on", False) or not any(self._upper.list_nameless()):
            return refused
        return NotYetHere(partial(self._wait_for_room, refused, self._quota.given_back))

    def _wait_for_room(self, refused: QuotaExceeded, given_back: int) -> None:
        """Wait without the lock until something is given back, or a program seems to have open what it removed."""
        end_s = time.monotonic() + _LETS_GO_S
        while self._quota.given_back == given_back:
            if time.monotonic() >= end_s:
                raise refused
            time.sleep(_LETS_GO_S / 20)

    # --- copy-up ---------------------------------------------------------------------------------------------

    def defer_copies(self) -> None:
        """Have this thread get `NotYetHere` instead of copying a large file up under the lock."""
        self._deferring.is_on = True

    def _copy_ahead(self, node: Node, entry: LowerEntry) -> None:
        """Copy a lower file into `work`, without the lock; one at a time."""
        with self._lock:
            if node.upper or (self._ahead is not None and self._ahead[0] is entry):
                return
            unused, self._ahead = self._ahead, None
        if unused is not None:
            self._upper.discard(unused[1])
        temporary, fd = self._upper.make_file(0o600)
        self._fill_copy(temporary, fd, entry, with_data=True)
        os.close(fd)
        with self._lock:
            self._ahead = entry, temporary

    def _make_copy(self, node: Node, entry: LowerEntry, *, with_data: bool) -> bytes:
        """Copy a lower file into `work`, or take the copy that is there; give its name.

        NotYetHere if this thread defers that.
        """
        if with_data:
            if self._ahead is not None and self._ahead[0] is entry:
                temporary, self._ahead = self._ahead[1], None
                return temporary
            if getattr(self._deferring, "is_on", False) and self._lower.size_of(entry) > SPOOL_ABOVE:
                raise NotYetHere(partial(self._copy_ahead, node, entry))
        temporary, fd = self._upper.make_file(0o600)
        self._fill_copy(temporary, fd, entry, with_data=with_data)
        os.close(fd)
        return temporary

    def bring_up(self, node: Node, *, with_data: bool = True) -> None:
        """Copy a node up, with the directories above it; without data: as an empty file."""
        if node.upper:
            return
        if node is self._nodes.git_file:
            raise fail(errno.EPERM, node.name)
        missing: list[Node] = []
        here: Node = node
        while not here.upper:
            missing.append(here)
            if here.parent is None:
                if here is node and node.lower is not None and not node.is_dir:
                    self._bring_up_nameless(node, node.lower, with_data=with_data)
                    return
                raise fail(errno.ENOENT, here.name)
            here = here.parent
        for child in reversed(missing):
            self._copy_up(child, with_data=with_data or child is not node)

    def _copy_up(self, node: Node, *, with_data: bool = True) -> None:
        parent, entry = node.parent, node.lower
        assert parent is not None  # noqa: S101 - the root is always up
        assert entry is not None  # noqa: S101 - an entry that is not in the upper layer is in the lower one
        directory = self._dir_fd(parent)
        before = os.stat(directory.fd)
        kind = node.kind
        grows = self._ask_for(entry, with_data=with_data)
        if kind == stat.S_IFDIR:
            temporary = self._copy_dir(entry)
        elif kind == stat.S_IFLNK:
            temporary = self._copy_symlink(entry)
        else:
            temporary = self._make_copy(node, entry, with_data=with_data)
        faults.reach("copy_up.made")
        self._show_copy(temporary, directory.fd, node)
        faults.reach("copy_up.shown")
        self._quota.add(grows=grows, files=1)
        put_times(directory.fd, before)
        if parent.listing is not None:
            parent.listing[node.name] = kind
        node.upper = True
        node.descriptor = None
        if kind == stat.S_IFDIR:
            node.listing = {}
        else:
            node.lower = None
            node.links = 1
            node.has_xattrs = bool(entry.xattrs)

    def _ask_for(self, entry: LowerEntry, *, with_data: bool) -> int:
        """Ask the quota for the copy of an entry; give its bytes.

        Directories are never refused: removing a name needs them.
        """
        quota = self._quota
        if quota.limits is None or entry.is_dir:
            return 0
        grows = self._lower.size_of(entry) if with_data and stat.S_ISREG(entry.mode) else 0
        quota.check(grows=grows, files=1, size=grows)
        return grows

    def _bring_up_nameless(self, node: Node, entry: LowerEntry, *, with_data: bool) -> None:
        """Copy a file up that was unlinked while in use: into `work`."""
        name = attic_name(node.ino)
        grows = self._ask_for(entry, with_data=with_data)
        temporary = self._make_copy(node, entry, with_data=with_data)
        os.rename(temporary, name, src_dir_fd=self._upper.work.fd, dst_dir_fd=self._upper.work.fd)
        self._quota.add(grows=grows, files=1)
        node.parent, node.name = self._nodes.attic, name
        node.links = 0
        node.upper = True
        node.lower = None
        node.descriptor = None
        self._pins.note(node)

    def _fill_copy(self, temporary: bytes, fd: int, entry: LowerEntry, *, with_data: bool) -> None:
        """Make an open file equal to a lower one; on failure remove it."""
        try:
            if with_data:
                if self._lower.size_of(entry) <= SPOOL_ABOVE:
                    write_all(fd, self._lower.read(entry))
                else:
                    for piece in self._lower.stream(entry):
                        write_all(fd, piece)
                faults.reach("copy_up.written")
            if entry.xattrs:
                self._upper.write_user_xattrs(fd, entry.xattrs)
            os.fchmod(fd, entry.mode & 0o7777)
            if with_data:
                os.utime(fd, ns=(entry.mtime_ns, entry.mtime_ns))
        except BaseException:
            os.close(fd)
            self._upper.discard(temporary)
            raise

    def _copy_dir(self, entry: LowerEntry) -> bytes:
        temporary = self._upper.make_dir()
        place = entry_of(self._upper.work.fd, temporary)
        try:
            if entry.xattrs:
                self._upper.write_user_xattrs(place, entry.xattrs)
            chmod_at(self._upper.work.fd, temporary, entry.mode & 0o7777)
            os.utime(place, ns=(entry.mtime_ns, entry.mtime_ns), follow_symlinks=False)
        except BaseException:
            self._upper.discard(temporary)
            raise
        return temporary

    def _copy_symlink(self, entry: LowerEntry) -> bytes:
        target = self._lower.read(entry)
        work = self._upper.work.fd
        while True:
            temporary = self._upper.new_name()
            try:
                os.symlink(target, temporary, dir_fd=work)
            except FileExistsError:
                continue
            break
        os.utime(temporary, ns=(entry.mtime_ns, entry.mtime_ns), dir_fd=work, follow_symlinks=False)
        return temporary

    def _show_copy(self, temporary: bytes, directory: int, node: Node) -> None:
        """Give a copy in `work` its name, also in a closed directory: no mode forbids a copy-up."""
        try:
            change_in(directory, partial(self._upper.show, temporary, directory, node.name))
        except BaseException:
            self._upper.discard(temporary)
            raise

    def _make_pure(self, node: Node) -> None:
        """Copy a directory up with everything below it, and mark it opaque. Every step shows the same as before."""
        self.bring_up(node)
        if node.lower is None:
            return
        joined: list[Node] = []
        pending = [node]
        bound = self._nodes.bound_below(node)
        bound.ask()
        while pending:
            here = pending.pop()
            joined.append(here)
            if here.lower is None:
                continue
            names = set(self._lower.children(here.lower))
            bound.meet(len(names))
            # Directories that were moved here may show a part of the lower layer, too.
            for name in names.union(
                name for name, kind in self._nodes.upper_names(here).items() if kind == stat.S_IFDIR
            ):
                child = self._nodes.child(here, name)
                if child is None:
                    continue
                if not child.upper:
                    self._copy_up(child)
                if child.is_dir and child.lower is not None:
                    pending.append(child)
        faults.reach("copy_up.tree_copied")
        hidden = [(here, name) for here in joined for name, kind in self._nodes.upper_names(here).items() if not kind]
        # The kernel lists the whiteouts of an opaque directory, so that they have to go, but not before they hide
        # nothing any more. After a kill in between, `clean_work` removes them.
        note = self._upper.note_leftover_whiteouts(self._nodes.path_of(node)) if hidden else None
        for here in joined:
            if here.moved_from is not None and here is not node:  # it shows what it shows wherever its parents are
                self._set_opaque(here)
        self._set_opaque(node)
        for here in joined:
            here.lower = here.moved_from = None
        for here, name in hidden:
            directory = self._dir_fd(here)
            before = os.stat(directory.fd)
            remove_stray(directory.fd, name)
            put_times(directory.fd, before)
            self._nodes.upper_names(here).pop(name, None)
        if note is not None:
            faults.reach("copy_up.whiteouts_removed")
            self._upper.discard(note)

    def _set_opaque(self, node: Node) -> None:
        keep, target = self._nodes.target(node)
        self._upper.set_opaque(target)
        del keep

    # --- removing and renaming -------------------------------------------------------------------------------

    def remove(self, parent: Node, name: bytes, node: Node, *, hides: bool, deep: bool) -> None:
        """Remove a name; a pinned file moves to `work`. An empty directory may hold whiteouts, and goes with them."""
        del deep
        is_kept = bool(node.pins) and node.upper and not node.is_dir and not node.aliases and node.held is None
        if not is_kept and not node.aliases:
            self._pins.prepare_unlink_below(node)
        if not node.upper:
            self.bring_up(parent)
            directory = self._dir_fd(parent)
            self._upper.add_whiteout(directory.fd, name)
            return
        directory = self._dir_fd(parent)
        if is_kept:
            self._pins.kept[node.ino] = self._upper.move_to_attic(directory.fd, name, node.ino, hide=hides)
        elif hides:
            self._upper.replace_by_whiteout(directory.fd, name, is_dir=node.is_dir)
        elif not node.is_dir:
            unlink_last(directory.fd, name)
        else:
            self._remove_upper_dir(directory.fd, name)

    def _remove_upper_dir(self, directory: int, name: bytes) -> None:
        try:
            os.rmdir(name, dir_fd=directory)
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise
            self._upper.remove_dir(directory, name)

    def prepare_to_move(self, node: Node, new_parent: Node) -> None:
        """Copy up everything that is to be moved, so that it shows the same in any directory."""
        if not node.is_dir:
            self.bring_up(node)
            return
        if not self._mark_place(node):
            self._make_pure(node)
        if node.lower is None and new_parent.lower is not None:
            self._set_opaque(node)

    def _mark_place(self, node: Node) -> bool:
        """Mark a directory with the place of what it shows of the lower layer; False if that cannot be marked."""
        parent = node.parent
        if not (self._upper.marks.is_trusted and self._upper.follows_redirects) or parent is None:
            return False
        if node.lower is None and node.upper:
            return True
        self.bring_up(node)
        place = node.moved_from if node.moved_from is not None else self._nodes.lower_path(parent, node.name)
        if len(place) > _PLACE_MAX:
            return False
        keep, target = self._nodes.target(node)
        self._upper.redirect(target, place)
        del keep
        node.moved_from = place
        faults.reach("copy_up.redirected")
        return True

    def move(
        self,
        parent: Node,
        name: bytes,
        node: Node,
        new_parent: Node,
        new_name: bytes,
        target: Node | None,
        *,
        hides: bool,
    ) -> bool:
        """Rename an entry that was prepared."""
        if target is not None and target.is_dir and target.upper and self._nodes.upper_names(target):
            self._clear_whiteouts(target, new_parent, new_name)
        source, sink = self._dir_fd(parent), self._dir_fd(new_parent)
        faults.reach("namespace.rename_prepared")
        self._pins.begin(node, target)
        if node.is_dir and target is None and self._has_whiteout(new_parent, new_name):
            # A directory cannot be renamed over a device: they change places, and the whiteout stays if needed.
            rename_at(source.fd, name, sink.fd, new_name, RENAME_EXCHANGE)
            faults.reach("namespace.renamed")
            if not hides:
                remove_stray(source.fd, name)
        else:
            rename_at(source.fd, name, sink.fd, new_name, RENAME_WHITEOUT if hides else 0)
            faults.reach("namespace.renamed")
        return True

    def _has_whiteout(self, parent: Node, name: bytes) -> bool:
        if parent.listing is not None:
            return parent.listing.get(name) == 0
        directory = self._dir_fd(parent)
        try:
            found = os.stat(name, dir_fd=directory.fd, follow_symlinks=False)
        except FileNotFoundError:
            return False
        return is_whiteout(found) or not stat.S_ISDIR(found.st_mode)

    def _clear_whiteouts(self, node: Node, parent: Node, name: bytes) -> None:
        """Put a really empty directory in place of one that shows no entry, so that a rename can replace it."""
        directory = self._dir_fd(parent)
        before = os.stat(name, dir_fd=directory.fd, follow_symlinks=False)
        temporary = self._upper.make_dir()
        self._upper.set_opaque(entry_of(self._upper.work.fd, temporary))
        if (before.st_uid, before.st_gid) != self._nodes.owner:
            os.chown(temporary, before.st_uid, before.st_gid, dir_fd=self._upper.work.fd, follow_symlinks=False)
        chmod_at(self._upper.work.fd, temporary, stat.S_IMODE(before.st_mode))
        faults.reach("namespace.empty_made")
        self._upper.show_instead(temporary, directory.fd, name)
        node.descriptor = None
        node.listing = {}
        node.lower = node.moved_from = None
