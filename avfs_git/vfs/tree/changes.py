"""What changed in a tree: the one place that tells the observers.

Decided here: which paths a change of a node is reported under, and when a repeated change needs no report. The modules
that change nodes call it, with the tree's lock held, after the change is on disk.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from avfs_git.paths import ROOT, TreePath
from avfs_git.vfs.tree.inodes import Node
from avfs_git.vfs.tree.nodes import Nodes

OnChange = Callable[[TreePath, bool], None]
"""Told each path that changed; with True, everything below it may have changed, too."""


class Observer(Protocol):
    """Sees every change for a while, also a repeated one. Called with the tree's lock held."""

    def see_path(self, path: TreePath, deep: bool) -> None:
        """See that a path changed; deep: and perhaps everything below it."""

    def see_name(self, parent: Node, name: bytes) -> None:
        """See that a name in a directory means something else now, or nothing."""

    def see_lost(self, node: Node) -> None:
        """See that a node loses a name."""


class Changes:
    """Reports the changes of a tree.

    Attributes:
        on_change: Told each path that changes, as long as the tree lasts, if any.
        observer: Told too, for the time of one operation, if any.
        reported: The node whose change was reported last, under all names that it still has. A file mostly changes many
            times in a row (each WRITE, each SETATTR of `tar`), so `node` is reported again only if there is an
            observer.
    """

    def __init__(self, nodes: Nodes) -> None:
        self.on_change: OnChange | None = None
        self.observer: Observer | None = None
        self.reported: Node | None = None
        self._nodes = nodes

    def report_to(self, on_change: OnChange) -> None:
        """Report to another function from now on."""
        self.on_change = on_change
        self.reported = None

    def report_anew(self) -> None:
        """Forget which node was reported last, so that its next change is reported.

        The gatherer of reports calls this, with the lock held, when it begins a new set.
        """
        self.reported = None

    def of_node(self, node: Node) -> None:
        """Report that a node changed, under each of its names."""
        if self.observer is None and (self.on_change is None or node is self.reported):
            return
        nodes = self._nodes
        self.reported = None
        if node.parent is nodes.attic:
            if node.links > 0:  # under names without a lookup so far
                self.of_path(ROOT, deep=True)
            return
        if node.aliases is None and node.parent is not None:  # as most are
            path = nodes.path_in(node.parent, node.name)
            if self.observer is None and self.on_change is not None:
                self.on_change(path, False)
            else:
                self.of_path(path)
            count = 1
        else:
            count = 0
            for parent, name in node.names():
                count += 1
                self.of_path(nodes.path_in(parent, name))
        if node is nodes.root or (count and count < node.links):
            # It has names without a lookup so far: the change shows at unknown paths.
            self.of_path(ROOT, deep=node is not nodes.root)
        self.reported = node

    def of_name(self, parent: Node, name: bytes, *, deep: bool = False) -> None:
        """Report that a name in a directory means something else now; deep: and so may all names below it."""
        self.reported = None  # its path may be another one now
        if self.observer is not None:
            self.observer.see_name(parent, name)
            self.of_path(self._nodes.path_in(parent, name), deep=deep)
        elif self.on_change is not None:
            self.on_change(self._nodes.path_in(parent, name), deep)

    def of_path(self, path: TreePath, *, deep: bool = False) -> None:
        """Report that a path changed; deep: and everything below it may have changed, too."""
        if self.on_change is not None:
            self.on_change(path, deep)
        if self.observer is not None:
            self.observer.see_path(path, deep)
