"""Keeping the number of nodes that the kernel knows within a bound.

Decided here: how many nodes a server keeps for the kernel, and which of them the kernel is asked to forget when there
are more. The kernel forgets a node when it needs the memory; on a machine with much memory it knows tens of millions by
then, each of which takes some 600 bytes here. Beyond `NODES_MAX` it is asked to forget the names of the files that it
has known for longest; it answers with a FORGET for each that no program has open. Directories are left alone: one may
be a program's working directory, and would count as deleted there.

The serving thread calls `look`. A thread of its own tells the kernel, which takes the lock of a directory for that; a
program may hold that lock and wait for the server. Nothing here survives the server.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from itertools import islice
from typing import Final

from avfs_git.vfs.tree.merged import MergedTree

NODES_MAX: Final = 1_000_000
"""Nodes that are kept; some 600 MB."""
_AT_ONCE: Final = 20_000
"""How many names the kernel is asked to forget at once."""


class Forgetting:
    """Has the kernel forget what is too much of one tree."""

    def __init__(self, tree: MergedTree, forget_name: Callable[[int, bytes], bool], most: int = NODES_MAX) -> None:
        """Prepare; starts no thread."""
        self._tree = tree
        self._forget_name = forget_name
        self._most = most
        self._thread: threading.Thread | None = None
        self._last = 0

    def look(self) -> None:
        """Look whether there is too much. Called when the kernel asks for nodes; takes no lock."""
        if len(self._tree.nodes.inodes) > self._most and (self._thread is None or not self._thread.is_alive()):
            self._thread = threading.Thread(target=self._forget, name="avfs-forgetting", daemon=True)
            self._thread.start()

    def _forget(self) -> None:
        for parent, name in self._choose():
            try:
                self._forget_name(parent, name)
            except OSError:  # whatever it is, the kernel knows it still, and it is tried again
                return

    def _choose(self) -> list[tuple[int, bytes]]:
        """Choose the files that have been known for longest, after those that were chosen the last time."""
        tree = self._tree
        with tree.guard:
            found = list(islice(tree.nodes.inodes.known_after(self._last), _AT_ONCE))
            self._last = found[-1].ino if found else 0
            return [
                (node.parent.ino, node.name)
                for node in found
                if node.pins and not node.is_dir and node.parent is not None and node.parent is not tree.nodes.attic
            ]
