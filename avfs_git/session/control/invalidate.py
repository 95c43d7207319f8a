"""What a kernel that shows a workspace must forget after the workspace changed other than through the mount.

Decided here: which names and nodes those are. `session.control.control` makes a `Watch` for each operation; while it
watches, it notes what the merged view reports from this thread, under the guard of the view; `tell` sends it to the
kernel afterwards, from a thread that serves no request and *without* the guard: the kernel takes the lock of a
directory for it, which a program may hold that waits for a request that waits for the guard.

What an operation is about to replace is forgotten before that, too (`forget_files`): the kernel opens a file that it
knows without a word, also while the guard is held.

A name is forgotten where it means something else than before: a directory that only has another mode or time stays, for
it may be a program's working directory. What the kernel answers meanwhile from its cache is sound: it
holds a directory's lock while it looks a name up, and ignores attributes that are older than the order to forget them.
"""

from __future__ import annotations

import threading
from collections.abc import Collection
from typing import Protocol, Self

from avfs_git.errors import AvfsError
from avfs_git.paths import ROOT, TreePath, split
from avfs_git.vfs.tree.inodes import ROOT_INO
from avfs_git.vfs.tree.merged import MergedTree, Node


class Forgetter(Protocol):
    """What a kernel is told through; a `fuse.channel.Channel` is one."""

    def forget_content(self, ino: int) -> bool:
        """Let the kernel forget attributes and content of a node."""
        ...

    def forget_attributes(self, ino: int) -> bool:
        """Let the kernel forget attributes of a node, and keep its content."""
        ...

    def forget_name(self, parent: int, name: bytes) -> bool:
        """Let the kernel forget what a name in a directory means."""
        ...


class Watch:
    """Notes what one thread changes in a merged view, for as long as its block runs."""

    def __init__(self, merged: MergedTree) -> None:
        self._merged = merged
        self._thread = threading.get_ident()
        self._names: dict[tuple[int, bytes], None] = {}
        self._paths: dict[TreePath, None] = {}
        self._lost: dict[int, None] = {}

    def __enter__(self) -> Self:
        with self._merged.guard:
            self._merged.changes.observer = self
        return self

    def __exit__(self, *_: object) -> None:
        with self._merged.guard:
            self._merged.changes.observer = None

    def see_path(self, path: TreePath, deep: bool) -> None:
        """Note a path."""
        del deep
        if threading.get_ident() == self._thread:
            self._paths[path] = None

    def see_name(self, parent: Node, name: bytes) -> None:
        """Note a name."""
        if threading.get_ident() == self._thread:
            self._names[parent.ino, name] = None

    def see_lost(self, node: Node) -> None:
        """Note a node that the kernel knows and that loses a name."""
        if node.pins and threading.get_ident() == self._thread:
            self._lost[node.ino] = None

    def tell(self, kernel: Forgetter) -> None:
        """Let the kernel forget what was noted. Called after the block, without the guard."""
        if self._merged.nodes.git_file is not None:
            # so that the next git asks, and its index follows the branch
            kernel.forget_content(self._merged.nodes.git_file.ino)
        if not self._paths and not self._names:
            return
        names, contents = self._names, {ino: None for ino, _ in self._names}
        with self._merged.guard:
            for path in self._paths:
                if path == ROOT:
                    contents[ROOT_INO] = None
                    continue
                try:
                    parent, name, node = self._merged.locate(path, follow_last=False)
                except (OSError, AvfsError):
                    continue  # a directory above it went, and that was noted, too
                if node is not None and node.pins:
                    contents[node.ino] = None
                else:
                    # The kernel does not know what has the name now, so what it believes is something else.
                    names[parent.ino, name] = None
                    contents[parent.ino] = None
        for ino, name in names:
            kernel.forget_name(ino, name)
        for ino in self._lost.keys() - contents.keys():
            kernel.forget_attributes(ino)  # it has a name less; a program that has it open keeps its content
        for ino in contents:
            kernel.forget_content(ino)


def forget_files(merged: MergedTree, kernel: Forgetter, paths: Collection[TreePath], patience_s: float) -> None:
    """Let the kernel forget the names of files, so that it asks before a program opens them. With the guard or without.

    A thread tells it, and is waited for no longer than `patience_s`, see above. What it tells later does no harm.
    """
    names: list[tuple[int, bytes]] = []
    with merged.guard:
        for path in paths:
            directory, name = split(path)
            above = _find_known(merged, directory)
            here = above.children.get(name) if above is not None else None
            if above is not None and path != ROOT and (here is None or not here.is_dir):
                names.append((above.ino, name))

    def forget() -> None:
        for ino, name in names:
            kernel.forget_name(ino, name)

    if names:
        thread = threading.Thread(target=forget, name="avfs-forget", daemon=True)
        thread.start()
        thread.join(patience_s)


def _find_known(merged: MergedTree, path: TreePath) -> Node | None:
    """Find a node, if there is one of each directory that leads to it: else the kernel knows nothing there."""
    here: Node | None = merged.root
    for name in path.split(b"/") if path else ():
        here = here.children.get(name) if here is not None else None
    return here


def tell_everything(merged: MergedTree, kernel: Forgetter) -> None:
    """Let the kernel forget all that it may believe of a view, where it is not known what has changed.

    Cost: the entries that the kernel knows plus all entries of those directories.
    """
    names: dict[tuple[int, bytes], None] = {}
    with merged.guard:
        contents = [ROOT_INO, *merged.pins.list_known()]
    for ino in contents:
        # One at a time, so that programs are served meanwhile: what changes by the mount now, the kernel knows.
        with merged.guard:
            try:
                node = merged.pins.node_at(ino)
                names.update(((parent.ino, name), None) for parent, name in node.names() if not node.is_dir)
                for name, _ in merged.nodes.readdir(node) if node.is_dir else ():
                    child = merged.nodes.find(node, name)
                    # It may believe that there is no such name. A directory that it knows is where it was.
                    if child is None or not child.is_dir or not child.pins:
                        names[node.ino, name] = None
            except (OSError, AvfsError):
                continue  # it is not there any more, which its name says
    for parent_ino, name in names:
        kernel.forget_name(parent_ino, name)
    for ino in contents:
        kernel.forget_content(ino)
