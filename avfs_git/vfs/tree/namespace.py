"""Changing names: removing and renaming entries of the merged view.

Decided here: by which steps on disk each of these becomes visible at once, and what the nodes say afterwards.

    unlink    in place; where the lower layer has the name: a whiteout is renamed over it
    rmdir     in place; where the lower layer has the name: directory and whiteout change places
    rename    what has a lower part is brought up first; then one rename, which leaves a whiteout where the lower
              layer has the old name; a directory is opaque before it gets to where it could merge

A kill between any two system calls leaves the old names or the new ones. A stray whiteout that hides nothing may
stay. Callers and assumptions are those of `vfs.tree.view`. The kernel's overlayfs can mount the result: no
attribute but `opaque` is written.
"""

from __future__ import annotations

import errno
import os
import stat

from avfs_git import faults
from avfs_git.host.files.beneath import RENAME_EXCHANGE, RENAME_NOREPLACE, RENAME_WHITEOUT, chmod_at, rename_at
from avfs_git.host.files.xattrs import entry_of
from avfs_git.vfs.layer.marks import is_whiteout
from avfs_git.vfs.layer.upper import remove_stray
from avfs_git.vfs.tree.inodes import Node
from avfs_git.vfs.tree.making import MakingView
from avfs_git.vfs.tree.view import fail


class Namespace(MakingView):
    """The merged view with everything that changes names."""

    # --- removing ------------------------------------------------------------------------------------------

    def unlink(self, parent: Node, name: bytes) -> None:
        """Remove a name of anything but a directory.

        Raises:
            IsADirectoryError: If it is one.
        """
        with self._lock:
            self._check_name(parent, name)
            node = self.lookup(parent, name)
            if node.is_dir:
                raise fail(errno.EISDIR, name)
            self._remove_name(parent, name, node)
            self._report_name(parent, name)

    def _remove_name(self, parent: Node, name: bytes, node: Node) -> None:
        """Remove a name on disk and from the nodes; a directory with everything below it."""
        hides = self._lower_child(parent, name) is not None
        self._turn_away(parent, name, node)
        self._begin(node)
        try:
            self._remove_on_disk(parent, name, node, hides=hides)
        except BaseException:
            self._let_go()
            raise
        if parent.listing is not None:
            if hides:
                parent.listing[name] = 0
            else:
                parent.listing.pop(name, None)
        self._detach(parent, name, node)

    def _turn_away(self, parent: Node, name: bytes, node: Node) -> None:
        """Let a node with several names stand under another one than that which it is about to lose.

        On disk and for who looks nothing changes; but a process that goes on after this one finds the node.
        """
        if node.aliases and node.parent is parent and node.name == name:
            (node.parent, node.name), *rest = node.aliases
            node.aliases = [*rest, (parent, name)]
            self._note(node)

    def _remove_on_disk(self, parent: Node, name: bytes, node: Node, *, hides: bool) -> None:
        is_kept = bool(node.pins) and node.upper and not node.is_dir and not node.aliases and node.held is None
        if not is_kept and not node.aliases:
            self._hold_below(node)
        if not node.upper:
            self._bring_up(parent)
            directory = self._dir_fd(parent)
            self.upper.add_whiteout(directory.fd, name)
        else:
            directory = self._dir_fd(parent)
            try:
                if is_kept:
                    self._kept[node.ino] = self.upper.move_to_attic(directory.fd, name, node.ino, hide=hides)
                elif hides:
                    self.upper.replace_by_whiteout(directory.fd, name, is_dir=node.is_dir)
                elif not node.is_dir:
                    os.unlink(name, dir_fd=directory.fd)
                else:
                    self._remove_upper_dir(directory.fd, name)
            except FileNotFoundError:
                # Somebody removed it behind our back: forget it, so that the next look tells the truth.
                self._detach(parent, name, node)
                if parent.listing is not None:
                    parent.listing.pop(name, None)
                raise

    def _remove_upper_dir(self, directory: int, name: bytes) -> None:
        try:
            os.rmdir(name, dir_fd=directory)
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise
            self.upper.remove_dir(directory, name)

    def rmdir(self, parent: Node, name: bytes) -> None:
        """Remove an empty directory.

        Raises:
            OSError: ENOTEMPTY if it shows an entry.
        """
        with self._lock:
            self._check_name(parent, name)
            node = self.lookup(parent, name)
            if not node.is_dir:
                raise fail(errno.ENOTDIR, name)
            if not self.is_empty(node):
                raise fail(errno.ENOTEMPTY, name)
            self._remove_name(parent, name, node)
            self._report_name(parent, name)

    def remove_tree(self, parent: Node, name: bytes) -> None:
        """Remove an entry with everything below it, in one visible step."""
        with self._lock:
            self._check_name(parent, name)
            node = self.lookup(parent, name)
            self._remove_name(parent, name, node)
            if node.is_dir:
                self._forget_paths()
            self._report_name(parent, name, deep=node.is_dir)

    def _hold_below(self, node: Node) -> None:
        if not self._pinned:
            return
        pending = [node]
        while pending:
            here = pending.pop()
            self._hold(here)
            pending.extend(here.children.values())

    def _detach(self, parent: Node, name: bytes, node: Node) -> None:
        """Take a name from a node; without names and pins it is gone, and so is what is below it."""
        if self.on_lost is not None:
            self.on_lost(node)
        self._forget_path(parent, name)
        parent.children.pop(name, None)
        if node.aliases:
            rest = [alias for alias in node.names() if alias[0] is not parent or alias[1] != name]
            node.parent, node.name = rest[0]
            node.aliases = rest[1:] or None
            node.links -= 1
            self._keep_named(node)
            return
        self._unname(node)
        node.links -= 1
        if node.is_dir:
            below = list(node.children.items())
            for child_name, child in below:
                self._detach_below(node, child_name, child)
            node.listing = {}
        elif node.links > 0 and node.disk_key is not None:
            # Names that nobody has looked up yet lead to the same file: they are to find this node.
            if not node.pins:
                self._release(node)
            return
        self.inodes.unlink_from_disk(node)
        if not node.pins:
            self._release(node)

    def relist(self) -> None:
        """Believe only the disk about which names there are, after a failure of which not all is known; nodes stay.

        A node whose name means something else now loses it, and lives on for whoever holds it.
        """
        with self._lock:
            self._forget_paths()
            directories = [node for node in self.inodes if node.is_dir]
            for node in directories:
                node.listing = None
            for node in directories:
                if self._is_gone(node) or not node.children:
                    continue
                there = self._upper_names(node)
                for name, child in list(node.children.items()):
                    kind = there.get(name)
                    if (kind != child.kind) if child.upper else (kind is not None and not (kind and child.is_dir)):
                        self._detach(node, name, child)

    def _unname(self, node: Node) -> None:
        """Take the last name from a node; it stands in the attic if `_hold` brought it there."""
        kept = self._kept.pop(node.ino, None)
        self._noted_early.clear()
        node.parent = None
        if kept is not None:
            node.parent, node.name = self.attic, kept
        self._note(node)

    def _keep_named(self, node: Node) -> None:
        """Take back what `_hold` did for a node that has another name."""
        kept = self._kept.pop(node.ino, None)
        if kept is not None:
            os.unlink(kept, dir_fd=self.upper.work.fd)
        node.held = None
        self._note(node)

    def _detach_below(self, parent: Node, name: bytes, node: Node) -> None:
        pending = [(parent, name, node)]
        while pending:
            above, below_name, here = pending.pop()
            pending.extend((here, child_name, child) for child_name, child in here.children.items())
            rest = [alias for alias in here.names() if alias[0] is not above or alias[1] != below_name]
            here.links -= 1
            if rest:
                here.parent, here.name = rest[0]
                here.aliases = rest[1:] or None
                self._keep_named(here)
                continue
            self._unname(here)
            here.aliases = None
            if here.is_dir:
                here.children = {}
                here.listing = {}
            if not here.pins:
                self._release(here)
        parent.children.pop(name, None)

    def _forget_paths(self) -> None:
        self._paths.clear()
        self._paths[b""] = self.root

    # --- renaming ------------------------------------------------------------------------------------------

    def rename(self, parent: Node, name: bytes, new_parent: Node, new_name: bytes, *, flags: int = 0) -> None:
        """Rename an entry, a directory with everything below it.

        Args:
            parent: The directory that holds it.
            name: Its name there.
            new_parent: The directory that gets it.
            new_name: Its name there.
            flags: `RENAME_NOREPLACE` or `RENAME_EXCHANGE` of renameat2(2).

        Raises:
            OSError: As rename(2) does.
        """
        with self._lock:
            if flags not in (0, RENAME_NOREPLACE, RENAME_EXCHANGE):
                raise fail(errno.EINVAL, name)
            self._check_name(parent, name)
            self._check_name(new_parent, new_name)
            node = self.lookup(parent, name)
            target = self._child(new_parent, new_name)
            self._check_rename(node, parent, target, new_parent, new_name, flags)
            if target is node:
                return
            if flags == RENAME_EXCHANGE and target is not None:
                self._exchange(parent, name, node, new_parent, new_name, target)
            else:
                self._move(parent, name, node, new_parent, new_name, target)

    def _check_rename(self, node: Node, parent: Node, target: Node | None, new_parent: Node, new_name: bytes, flags: int) -> None:
        """Refuse what rename(2) refuses, in the order in which Linux looks at it."""
        if target is None and flags == RENAME_EXCHANGE:
            raise fail(errno.ENOENT, new_name)
        if target is not None and flags == RENAME_NOREPLACE:
            raise fail(errno.EEXIST, new_name)
        if node.is_dir and _is_within(new_parent, node):
            raise fail(errno.EINVAL, new_name)
        if target is None or target is node:
            return
        if target.is_dir and _is_within(parent, target):
            raise fail(errno.EINVAL if flags == RENAME_EXCHANGE else errno.ENOTEMPTY, new_name)
        if flags == RENAME_EXCHANGE:
            return
        if node.is_dir and not target.is_dir:
            raise fail(errno.ENOTDIR, new_name)
        if target.is_dir and not node.is_dir:
            raise fail(errno.EISDIR, new_name)
        if target.is_dir and not self.is_empty(target):
            raise fail(errno.ENOTEMPTY, new_name)

    def _prepare_to_move(self, node: Node, new_parent: Node) -> None:
        """Bring up what is to be moved, whole, so that it shows the same wherever it stands."""
        if not node.is_dir:
            self._bring_up(node)
            return
        self._make_pure(node)
        if new_parent.lower is not None:
            self._set_opaque(node)

    def _move(self, parent: Node, name: bytes, node: Node, new_parent: Node, new_name: bytes, target: Node | None) -> None:
        self._bring_up(new_parent)
        self._prepare_to_move(node, new_parent)
        hides = self._lower_child(parent, name) is not None
        try:
            if target is not None:
                self._turn_away(new_parent, new_name, target)
                if not target.aliases:
                    self._hold(target)
                if target.is_dir and target.upper and self._upper_names(target):
                    self._clear_whiteouts(target, new_parent, new_name)
            self._move_on_disk(parent, name, node, new_parent, new_name, target, hides=hides)
        except BaseException:
            self._let_go()
            raise
        if target is not None:
            self._detach(new_parent, new_name, target)
        self._rebind(parent, name, node, new_parent, new_name)
        if parent.listing is not None:
            if hides:
                parent.listing[name] = 0
            else:
                parent.listing.pop(name, None)
        if new_parent.listing is not None:
            new_parent.listing[new_name] = node.kind
        self._after_rename(parent, name, new_parent, new_name, deep=node.is_dir)

    def _move_on_disk(
        self, parent: Node, name: bytes, node: Node, new_parent: Node, new_name: bytes, target: Node | None, *, hides: bool
    ) -> None:
        source, sink = self._dir_fd(parent), self._dir_fd(new_parent)
        faults.reach("namespace.rename_prepared")
        self._begin(node, target)
        if node.is_dir and target is None and self._has_whiteout(new_parent, new_name):
            # A directory cannot be renamed over a device: they change places, and the whiteout stays if needed.
            rename_at(source.fd, name, sink.fd, new_name, RENAME_EXCHANGE)
            faults.reach("namespace.renamed")
            if not hides:
                remove_stray(source.fd, name)
        else:
            rename_at(source.fd, name, sink.fd, new_name, RENAME_WHITEOUT if hides else 0)
            faults.reach("namespace.renamed")

    def _exchange(self, parent: Node, name: bytes, node: Node, new_parent: Node, new_name: bytes, target: Node) -> None:
        self._prepare_to_move(node, new_parent)
        self._prepare_to_move(target, parent)
        source, sink = self._dir_fd(parent), self._dir_fd(new_parent)
        faults.reach("namespace.rename_prepared")
        if self.ledger is not None:
            self._begin(node, target, on_disk=os.stat(name, dir_fd=source.fd, follow_symlinks=False).st_ino)
        rename_at(source.fd, name, sink.fd, new_name, RENAME_EXCHANGE)
        faults.reach("namespace.renamed")
        self._forget_path(parent, name)
        self._forget_path(new_parent, new_name)
        # One note of both: with one of them alone, a process after this one would take one file for the other.
        moved = [
            self._give_name(node, parent, name, new_parent, new_name),
            self._give_name(target, new_parent, new_name, parent, name),
        ]
        if self.ledger is not None and all(moved):
            self.ledger.keep_both(node, target)
        elif any(moved):
            self._note(node if moved[0] else target)
        new_parent.children[new_name] = node
        parent.children[name] = target
        if parent.listing is not None:
            parent.listing[name] = target.kind
        if new_parent.listing is not None:
            new_parent.listing[new_name] = node.kind
        self._after_rename(parent, name, new_parent, new_name, deep=node.is_dir or target.is_dir)

    def _after_rename(self, parent: Node, name: bytes, new_parent: Node, new_name: bytes, *, deep: bool) -> None:
        if deep:
            self._forget_paths()
        self._report_name(parent, name, deep=deep)
        self._report_name(new_parent, new_name, deep=deep)

    def _rebind(self, parent: Node, name: bytes, node: Node, new_parent: Node, new_name: bytes) -> None:
        self._forget_path(parent, name)
        self._forget_path(new_parent, new_name)
        parent.children.pop(name, None)
        new_parent.children[new_name] = node
        self._set_name(node, parent, name, new_parent, new_name)

    def _set_name(self, node: Node, parent: Node, name: bytes, new_parent: Node, new_name: bytes) -> None:
        if self._give_name(node, parent, name, new_parent, new_name):
            self._note(node)

    @staticmethod
    def _give_name(node: Node, parent: Node, name: bytes, new_parent: Node, new_name: bytes) -> bool:
        """Give a node another name instead of one; whether it is the one that is noted."""
        if node.parent is parent and node.name == name:
            node.parent, node.name = new_parent, new_name
            return True
        if node.aliases:
            node.aliases = [
                (new_parent, new_name) if above is parent and alias == name else (above, alias) for above, alias in node.aliases
            ]
        return False

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
        temporary = self.upper.make_dir(0o700)
        self.upper.set_opaque(entry_of(self.upper.work.fd, temporary))
        if (before.st_uid, before.st_gid) != (self._uid, self._gid):
            os.chown(temporary, before.st_uid, before.st_gid, dir_fd=self.upper.work.fd, follow_symlinks=False)
        chmod_at(self.upper.work.fd, temporary, stat.S_IMODE(before.st_mode))
        faults.reach("namespace.empty_made")
        self.upper.show_instead(temporary, directory.fd, name)
        node.descriptor = None
        node.listing = {}
        node.lower = None


def _is_within(node: Node | None, directory: Node) -> bool:
    while node is not None:
        if node is directory:
            return True
        node = node.parent
    return False
