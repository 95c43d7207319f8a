"""Removing and renaming entries.

Decided here: what rename(2), unlink(2) and rmdir(2) refuse, and what the nodes say afterwards. The steps on disk are
those of `vfs.tree.steps`, which says what a kill leaves.

The server calls this by node, `vfs.tree.merged` by path. Public methods take the tree's lock, unless they say
otherwise. A change is on disk first, then in the nodes, then it is reported.
"""

from __future__ import annotations

import errno
import os

from avfs_git import faults
from avfs_git.host.files.beneath import RENAME_EXCHANGE, RENAME_NOREPLACE, rename_at
from avfs_git.vfs.errnos import fail
from avfs_git.vfs.layer.quota import Used
from avfs_git.vfs.tree.changes import Changes
from avfs_git.vfs.tree.inodes import Node
from avfs_git.vfs.tree.making import Making
from avfs_git.vfs.tree.nodes import Nodes
from avfs_git.vfs.tree.pins import Pins
from avfs_git.vfs.tree.steps import Steps


class Namespace:
    """Removes and renames the entries of a tree."""

    def __init__(self, nodes: Nodes, pins: Pins, changes: Changes, steps: Steps, making: Making) -> None:
        self._nodes = nodes
        self._lock = nodes.lock
        self._dir_fd = nodes.dir_fd
        self._pins = pins
        self._changes = changes
        self._steps = steps
        self._check_name = making.check_name
        self._quota = nodes.upper.quota

    # --- removing --------------------------------------------------------------------------------------------

    def unlink(self, parent: Node, name: bytes) -> None:
        """Remove a name of anything but a directory."""
        with self._lock:
            self._check_name(parent, name)
            node = self._nodes.child(parent, name)
            if node is None:
                raise fail(errno.ENOENT, name)
            if node.is_dir:
                raise fail(errno.EISDIR, name)
            self._remove_name(parent, name, node)
            self._changes.of_name(parent, name)

    def rmdir(self, parent: Node, name: bytes) -> None:
        """Remove an empty directory."""
        with self._lock:
            self._check_name(parent, name)
            node = self._nodes.lookup(parent, name)
            if not node.is_dir:
                raise fail(errno.ENOTDIR, name)
            if self._steps.is_alone and not self._nodes.is_empty(node):  # else only the disk knows
                raise fail(errno.ENOTEMPTY, name)
            self._remove_name(parent, name, node)
            self._changes.of_name(parent, name)

    def remove_tree(self, parent: Node, name: bytes) -> None:
        """Remove an entry with everything below it; in an upper layer of its own in one visible step."""
        with self._lock:
            self._check_name(parent, name)
            node = self._nodes.lookup(parent, name)
            self._remove_name(parent, name, node, deep=True)
            self._changes.of_name(parent, name, deep=node.is_dir)

    def _remove_name(self, parent: Node, name: bytes, node: Node, *, deep: bool = False) -> None:
        hides = self._nodes.lower_child(parent, name) is not None
        gone = self._measure(parent, name, node, deep=deep)
        self._turn_away(parent, name, node)
        self._pins.begin(node)
        try:
            self._steps.remove(parent, name, node, hides=hides, deep=deep)
        except FileNotFoundError:
            if node.upper:  # another process removed it: forget it, so that the next lookup tells the truth
                self.detach(parent, name, node)
                _unlist(parent, name, hides=False)
            self._pins.cancel_unlink()
            raise
        except BaseException:
            self._pins.cancel_unlink()
            raise
        self._quota.leave(gone)
        _unlist(parent, name, hides=hides)
        self.detach(parent, name, node)

    def _measure(self, parent: Node, name: bytes, node: Node, *, deep: bool = False) -> Used | None:
        """Tell what the quota gets back when a name goes; a file that is in use gives it back when it is released."""
        if self._quota.limits is None or not node.upper or (node.pins and not node.is_dir):
            return None
        return self._quota.measure(self._dir_fd(parent).fd, name, deep=deep)

    def _turn_away(self, parent: Node, name: bytes, node: Node) -> None:
        """Let a node with several names stand under another one than the one that it is about to lose.

        Programs see no difference; but a process that goes on after this one finds the node.
        """
        if node.aliases and node.parent is parent and node.name == name:
            (node.parent, node.name), *rest = node.aliases
            node.aliases = [*rest, (parent, name)]
            self._pins.note(node)

    def detach(self, parent: Node, name: bytes, node: Node) -> None:
        """Take a name from a node, which is dropped without names and pins, with all below it. Called with the lock."""
        observer = self._changes.observer
        if observer is not None:
            observer.see_lost(node)
        self._nodes.forget_path(parent, name)
        parent.children.pop(name, None)
        if node.aliases:
            rest = [alias for alias in node.names() if alias[0] is not parent or alias[1] != name]
            node.parent, node.name = rest[0]
            node.aliases = rest[1:] or None
            node.links -= 1
            self._pins.keep_named(node)
            return
        self._pins.unname(node)
        node.links -= 1
        if node.is_dir:
            below = list(node.children.items())
            if below:
                self._nodes.forget_paths()
            for child_name, child in below:
                self._detach_below(node, child_name, child)
            node.listing = {}
        elif node.links > 0 and node.disk_key is not None:
            # Names without a lookup so far lead to the same file, and must find this node.
            if not node.pins:
                self._pins.release(node)
            return
        self._nodes.inodes.unlink_from_disk(node)
        if not node.pins:
            self._pins.release(node)

    def relist(self) -> None:
        """Read all names from the disk again, after a failure that may have changed some.

        Nodes stay; a node whose name means something else now loses that name.
        """
        with self._lock:
            self._nodes.forget_paths()
            self._quota.forget()
            directories = [node for node in self._nodes.inodes if node.is_dir]
            for node in directories:
                node.listing = None
            for node in directories:
                if self._nodes.is_gone(node) or not node.children:
                    continue
                there = self._nodes.upper_names(node)
                for name, child in list(node.children.items()):
                    kind = there.get(name)
                    if (kind != child.kind) if child.upper else (kind is not None and not (kind and child.is_dir)):
                        self.detach(node, name, child)

    def _detach_below(self, parent: Node, name: bytes, node: Node) -> None:
        pending = [(parent, name, node)]
        while pending:
            above, below_name, here = pending.pop()
            if self._changes.observer is not None:
                self._changes.observer.see_lost(here)
                if here.is_dir and here.pins:  # it may be a program's working directory
                    self._changes.observer.see_name(above, below_name)
            pending.extend((here, child_name, child) for child_name, child in here.children.items())
            rest = [alias for alias in here.names() if alias[0] is not above or alias[1] != below_name]
            here.links -= 1
            if rest:
                here.parent, here.name = rest[0]
                here.aliases = rest[1:] or None
                self._pins.keep_named(here)
                continue
            self._pins.unname(here)
            here.aliases = None
            if here.is_dir:
                here.children = {}
                here.listing = {}
            if not here.pins:
                self._pins.release(here)
        parent.children.pop(name, None)

    # --- renaming ------------------------------------------------------------------------------------------

    def rename(self, parent: Node, name: bytes, new_parent: Node, new_name: bytes, *, flags: int = 0) -> None:
        """Rename an entry, a directory with everything below it.

        The flags are `RENAME_NOREPLACE` or `RENAME_EXCHANGE` of renameat2(2).
        """
        with self._lock:
            if flags not in (0, RENAME_NOREPLACE, RENAME_EXCHANGE):
                raise fail(errno.EINVAL, name)
            self._check_name(parent, name)
            self._check_name(new_parent, new_name)
            node = self._nodes.lookup(parent, name)
            target = self._nodes.child(new_parent, new_name)
            self._check_rename(node, parent, target, new_parent, new_name, flags)
            if target is node:
                return
            if flags == RENAME_EXCHANGE and target is not None:
                self._exchange(parent, name, node, new_parent, new_name, target)
            else:
                self._move(parent, name, node, new_parent, new_name, target)

    def _check_rename(
        self, node: Node, parent: Node, target: Node | None, new_parent: Node, new_name: bytes, flags: int
    ) -> None:
        """Refuse what rename(2) refuses, in Linux's order."""
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
        if target.is_dir and not self._nodes.is_empty(target):
            raise fail(errno.ENOTEMPTY, new_name)

    def _move(
        self, parent: Node, name: bytes, node: Node, new_parent: Node, new_name: bytes, target: Node | None
    ) -> None:
        self._steps.bring_up(new_parent)
        self._steps.prepare_to_move(node, new_parent)
        hides = self._nodes.lower_child(parent, name) is not None
        gone = self._measure(new_parent, new_name, target) if target is not None else None
        try:
            if target is not None:
                self._turn_away(new_parent, new_name, target)
                if not target.aliases:
                    self._pins.prepare_unlink(target)
            is_same = self._steps.move(parent, name, node, new_parent, new_name, target, hides=hides)
        except BaseException:
            self._pins.cancel_unlink()
            raise
        if not is_same:
            for child_name, child in list(node.children.items()):
                self.detach(node, child_name, child)
            node.listing = None
            node.descriptor = None
        if target is not None:
            self._quota.leave(gone)
            self.detach(new_parent, new_name, target)
        self._nodes.forget_path(parent, name)
        self._nodes.forget_path(new_parent, new_name)
        parent.children.pop(name, None)
        new_parent.children[new_name] = node
        if _give_name(node, parent, name, new_parent, new_name):
            self._pins.note(node)
        _unlist(parent, name, hides=hides)
        if new_parent.listing is not None:
            new_parent.listing[new_name] = node.kind
        self._after_rename(parent, name, new_parent, new_name, deep=node.is_dir)

    def _exchange(self, parent: Node, name: bytes, node: Node, new_parent: Node, new_name: bytes, target: Node) -> None:
        self._steps.prepare_to_move(node, new_parent)
        self._steps.prepare_to_move(target, parent)
        source, sink = self._dir_fd(parent), self._dir_fd(new_parent)
        faults.reach("namespace.rename_prepared")
        if self._pins.ledger is not None:
            self._pins.begin(node, target, on_disk=os.stat(name, dir_fd=source.fd, follow_symlinks=False).st_ino)
        rename_at(source.fd, name, sink.fd, new_name, RENAME_EXCHANGE)
        faults.reach("namespace.renamed")
        self._nodes.forget_path(parent, name)
        self._nodes.forget_path(new_parent, new_name)
        # One note of both: with one of them alone, a process after this one would take one file for the other.
        moved = [
            _give_name(node, parent, name, new_parent, new_name),
            _give_name(target, new_parent, new_name, parent, name),
        ]
        if self._pins.ledger is not None and all(moved):
            self._pins.ledger.keep_both(node, target)
        elif any(moved):
            self._pins.note(node if moved[0] else target)
        new_parent.children[new_name] = node
        parent.children[name] = target
        if parent.listing is not None:
            parent.listing[name] = target.kind
        if new_parent.listing is not None:
            new_parent.listing[new_name] = node.kind
        self._after_rename(parent, name, new_parent, new_name, deep=node.is_dir or target.is_dir)

    def _after_rename(self, parent: Node, name: bytes, new_parent: Node, new_name: bytes, *, deep: bool) -> None:
        if deep:
            self._nodes.forget_paths()
        self._changes.of_name(parent, name, deep=deep)
        self._changes.of_name(new_parent, new_name, deep=deep)


def _give_name(node: Node, parent: Node, name: bytes, new_parent: Node, new_name: bytes) -> bool:
    """Replace one name of a node; tell whether it is the one that the ledger has."""
    if node.parent is parent and node.name == name:
        node.parent, node.name = new_parent, new_name
        return True
    if node.aliases:
        node.aliases = [
            (new_parent, new_name) if above is parent and alias == name else (above, alias)
            for above, alias in node.aliases
        ]
    return False


def _unlist(parent: Node, name: bytes, *, hides: bool) -> None:
    """Take a removed name from the list of a directory's names in the upper layer."""
    if parent.listing is not None:
        if hides:
            parent.listing[name] = 0
        else:
            parent.listing.pop(name, None)


def _is_within(node: Node | None, directory: Node) -> bool:
    while node is not None:
        if node is directory:
            return True
        node = node.parent
    return False
