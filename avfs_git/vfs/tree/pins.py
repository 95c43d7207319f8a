"""Pinned nodes, which a kernel or a program knows by number: they stay usable without a name, and after a process died.

Decided here: what a pin preserves. A pin stands for a user of the node outside: a kernel's reference, an open file. A
node with pins stays usable after its last name goes. A file of the upper layer then gets a name in `work`
(`attic_name`) and loses it with the last pin, so that a process which goes on for a dead one finds it. A directory, and
a file that cannot be linked there, is held by a descriptor, which ends with this process; a removed directory is empty,
so that a new one serves for it.

A process that goes on also needs a ledger that both can reach (`follow`). Each pinned node is noted in it with its
place, after the disk says so and before anybody is told. Nodes are made from the ledger when they are asked for, by
number or by name. `fuse.handover.resume` finds out what the dead process had begun and not noted, and calls
`note_removed`, `note_renamed` and `note_exchanged`.

Methods take the tree's lock, but for `node_at` of a known number, and for those that say "called with the lock".
"""

from __future__ import annotations

import errno
import os
import stat
from array import array
from collections import deque
from collections.abc import Sequence
from struct import Struct

from avfs_git import faults
from avfs_git.host.files.beneath import reopen_at
from avfs_git.vfs.errnos import fail
from avfs_git.vfs.layer.lower import DIRECTORY_MODE, LowerEntry
from avfs_git.vfs.layer.upper import attic_name
from avfs_git.vfs.tree.inodes import Ledger, Node, Noted, Place
from avfs_git.vfs.tree.nodes import Nodes
from avfs_git.vfs.values import LOWER_DIR_SIZE, TYPE

_DEEPEST = 100_000
"""How many directories above each other are followed: more stand only in a damaged ledger."""
_LEAVINGS = 64
"""How many unused files wait to be removed."""
_REMOVED = Struct("=III")
"""Mode, user and group of a directory that was removed while in use."""


class Pins:
    """The pins of a tree's nodes.

    Attributes:
        ledger: Where pinned nodes are noted for a process that goes on after this one died; see `follow`.
        leavings: Unused names in `work`, if a server removes them later (`drop_leaving`); None: they go at once.
        kept: Names in `work` of files that are about to lose their last name, by number; see `prepare_unlink`.
        total: How many pins there are.
    """

    def __init__(self, nodes: Nodes) -> None:
        self.ledger: Ledger | None = None
        self.leavings: deque[bytes] | None = None
        self._nodes = nodes
        self._inodes = nodes.inodes
        self._lock = nodes.lock
        self._upper = nodes.upper
        self._attic = nodes.attic
        self._quota = nodes.upper.quota
        self._quota.drop_unused = self._drop_leavings
        nodes.on_placed = self.note
        nodes.recall_links = self._recall_links
        self.start()

    def start(self) -> None:
        """Begin with no pins but those in the ledger."""
        self.total = 0
        self.kept: dict[int, bytes] = {}
        self._noted_early: list[Node] = []
        """Nodes of the lower layer that are noted as if they had lost their last name."""
        self._noted_below: dict[int, array[int]] = {}
        """Noted numbers, by those of their directories."""
        self._noted_names: dict[int, dict[bytes, int]] = {}
        """Noted numbers without a node in this process, by name, of directories that were looked at."""
        self._noted_links: list[int] = []
        """Noted numbers of files that may have several names."""
        if self.ledger is not None:
            self.follow(self.ledger)

    def close(self) -> None:
        """Remove the files that have a name only in `work`, unless a process that goes on needs them."""
        self._drop_leavings()
        if self.ledger is None:
            for node in self._inodes:
                if node.parent is self._attic:
                    self._nodes.leave_attic(node.name)
        self.total = 0

    # --- pins ------------------------------------------------------------------------------------------------

    def pin(self, node: Node, count: int = 1) -> None:
        """Keep a node usable after its last name goes, as for an open file or a kernel that knows its number."""
        with self._lock:
            node.pins += count
            self.total += count
            ledger = self.ledger
            if ledger is None:
                return
            if node.pins == count:
                self.note(node)
            else:
                ledger.count(node)

    def pin_all(self, nodes: Sequence[Node]) -> None:
        """Pin each of some nodes once."""
        with self._lock:
            for node in nodes:
                self.pin(node)

    def show_lower(self, parent: Node, name: bytes, entry: LowerEntry) -> tuple[Node, int]:
        """Make and pin the node of an entry of the lower layer; give it and its size. Called with the lock.

        Does what `find`, `getattr` and `pin` do one after the other, at half the cost: for listings.

        Raises:
            NotYetHere: If its size is on a server; then there is no node.
        """
        size = LOWER_DIR_SIZE if entry.is_dir else self._nodes.lower.size_of(entry)
        node = self._nodes.add(Node(entry.mode & TYPE, parent, name, entry, upper=False))
        if self.ledger is None or node.pins:  # those of a process before this one
            self.pin(node)
        else:
            node.pins = 1
            self.total += 1
            self.ledger.keep(node)
        return node, size

    @property
    def is_pinned(self) -> bool:
        """Whether any node has a pin."""
        return bool(self.total)

    def unpin(self, node: Node, count: int = 1) -> None:
        """Take back what `pin` did; a node without name and pins is gone."""
        with self._lock:
            count = min(count, node.pins)
            node.pins -= count
            self.total -= count
            if not node.pins and (node.parent is None or node.parent is self._attic) and node is not self._nodes.root:
                self.release(node)
            elif self.ledger is not None:
                if node.pins or node.is_dir:  # a directory stays noted for the known nodes below it
                    self.ledger.count(node)
                else:
                    self.ledger.drop(node.ino)

    def release(self, node: Node) -> None:
        """Forget a node without name and pins, and remove its file from `work`. Called with the lock."""
        if node.held is not None:
            self._quota.distrust()
        node.held = None
        node.descriptor = None
        self._inodes.drop(node)
        if self.ledger is not None:
            self.ledger.drop(node.ino)
        if node.parent is self._attic:
            self._quota.leave(self._quota.measure(self._upper.work.fd, node.name))
            leavings = self.leavings
            # What has other names shows at them how many there are.
            if leavings is None or node.links > 0 or len(leavings) >= _LEAVINGS:
                self._nodes.leave_attic(node.name)
            else:
                leavings.append(node.name)
            node.parent = None

    def drop_leaving(self) -> bool:
        """Remove one of `leavings`, which gives its room on the disk back; tells whether there was any."""
        with self._lock:
            if not self.leavings:
                return False
            self._nodes.leave_attic(self.leavings.popleft())
            return True

    def _drop_leavings(self) -> None:
        while self.drop_leaving():
            pass

    def empty_attic(self) -> None:
        """Remove all files that have a name only in `work`: no program can use them any more."""
        with self._lock:
            if self._attic.descriptor is not None:
                self._upper.clean_attic(lambda _: False)

    def prepare_unlink(self, node: Node) -> None:
        """Prepare a pinned node to stay usable without the name that it is about to lose. Called with the lock.

        The caller takes the name, or calls `cancel_unlink` if that fails.
        """
        if not node.pins or node.held is not None or node.parent is None or node.parent is self._attic:
            return
        if not node.upper:
            if self.ledger is not None and not node.is_dir:  # as long as its path is known
                self.ledger.keep(node, Place.LOWER, self._nodes.lower_path(node.parent, node.name))
                self._noted_early.append(node)
            return
        if node.is_dir:
            node.held = self._nodes.dir_fd(node)
            return
        directory = self._nodes.dir_fd(node.parent)
        try:
            self.kept[node.ino] = self._upper.link_to_attic(directory.fd, node.name, node.ino)
        except OSError:  # too many links, or a file system without: then it lasts as long as this process
            flags = os.O_PATH if node.kind != stat.S_IFREG else os.O_RDWR
            node.held = self._upper.hold(reopen_at(directory.fd, node.name, flags))

    def cancel_unlink(self) -> None:
        """Undo `prepare_unlink` for names that still exist. Called with the lock."""
        for name in self.kept.values():
            try:
                os.unlink(name, dir_fd=self._upper.work.fd)
            except OSError:
                pass
        self.kept.clear()
        for node in self._noted_early:
            self.note(node)
        self._noted_early.clear()

    def prepare_unlink_below(self, node: Node) -> None:
        """Call `prepare_unlink` for a node and the known nodes below it. Called with the lock."""
        if not self.total:
            return
        pending = [node]
        while pending:
            here = pending.pop()
            self.prepare_unlink(here)
            pending.extend(here.children.values())

    def unname(self, node: Node) -> None:
        """Take the last name from a node; it stands in the attic if `prepare_unlink` brought it there.

        Called with the lock.
        """
        kept = self.kept.pop(node.ino, None)
        self._noted_early.clear()
        node.parent = None
        if kept is not None:
            node.parent, node.name = self._attic, kept
        self.note(node)

    def keep_named(self, node: Node) -> None:
        """Undo `prepare_unlink` for a node that has another name. Called with the lock."""
        kept = self.kept.pop(node.ino, None)
        if kept is not None:
            os.unlink(kept, dir_fd=self._upper.work.fd)
        node.held = None
        self.note(node)

    # --- going on for a process that died --------------------------------------------------------------------

    def node_at(self, ino: int) -> Node:
        """Find a node by its number.

        Raises:
            OSError: ESTALE if there is none.
        """
        found = self._inodes.find(ino)
        return self._recall(ino) if found is None else found

    def follow(self, ledger: Ledger) -> None:
        """Note pinned nodes in a ledger from now on, and give nodes the numbers and pins that are noted there.

        Called before the tree is used. A noted node is made when it is asked for.
        """
        with self._lock:
            self.ledger = ledger
            self._noted_below, self._noted_links = ledger.load()
            if self._attic.descriptor is not None:
                self._upper.clean_attic(lambda ino: ledger.read(ino) is not None)
            self._noted_names = {}
            self._inodes.recall_with(self._recall_number, ledger)

    def list_known(self) -> list[int]:
        """List all pinned numbers, with those that an earlier process noted."""
        with self._lock:
            known = {node.ino: None for node in self._inodes if node.pins}
            for noted in self._noted_below.values():
                known.update(dict.fromkeys(noted))
            for names in self._noted_names.values():
                known.update(dict.fromkeys(names.values()))
            return list(known)

    def _recall_number(self, node: Node) -> int | None:
        """Find the number that a node had for a process before this one, and take over its pins."""
        parent = node.parent
        if not (self._noted_below or self._noted_names) or parent is None or self.ledger is None:
            return None
        names = self._names_noted(parent)
        ino = names.pop(node.name, None) if names else None
        if ino is None or self._inodes.find(ino) is not None:
            return None
        about = self.ledger.read(ino)
        if about is None or about.place is not Place.NAMED or about.kind != node.kind or self._upper.is_in_attic(ino):
            return None  # what it stood for is elsewhere by now
        self._take_over(node, about)
        return ino

    def _names_noted(self, parent: Node) -> dict[bytes, int]:
        """List the names in a directory of which the numbers are noted and not yet given to nodes of this process."""
        below = self._noted_below.pop(parent.ino, None) if self._noted_below else None
        if below is not None and self.ledger is not None:
            noted = [(self.ledger.read(ino), ino) for ino in below]
            self._noted_names[parent.ino] = {
                about.text: ino
                for about, ino in noted
                if about is not None and about.place is Place.NAMED and about.parent == parent.ino
            }
        return self._noted_names.get(parent.ino, {})

    def note_removed(self, parent: Node, name: bytes, ino: int) -> None:
        """Note that an earlier process took a name from a node and died before it noted that."""
        with self._lock:
            self._names_noted(parent).pop(name, None)
            ledger = self.ledger
            about = None if ledger is None else ledger.read(ino)
            if about is None or ledger is None or about[:2] != (parent.ino, name) or about.place is not Place.NAMED:
                return  # it had no pins, or was noted in time
            node = Node(about.kind, None, b"", None, upper=False)
            node.ino, node.pins = ino, about.pins
            if ino in self._noted_links:
                node.disk_key = (0, 0)
            below = self._nodes.lower_child(parent, name)
            if self._upper.is_in_attic(ino):
                node.parent = self._attic
                ledger.keep(node, Place.ATTIC, b"")
            elif node.is_dir:
                mode = below.mode if below is not None else DIRECTORY_MODE
                ledger.keep(node, Place.REMOVED, _REMOVED.pack(stat.S_IMODE(mode), *self._nodes.owner))
            elif below is not None:
                ledger.keep(node, Place.LOWER, self._nodes.lower_path(parent, name))
            else:
                ledger.drop(ino)

    def note_renamed(self, parent: Node, name: bytes, ino: int, new_parent: Node, new_name: bytes, over: int) -> None:
        """Note that an earlier process renamed a node and died before it noted that.

        `over` is the number of what had the new name, 0 for nothing.
        """
        with self._lock:
            self._names_noted(parent).pop(name, None)
            self.note_removed(new_parent, new_name, over)
            self._note_moved(ino, new_parent, new_name)

    def note_exchanged(self, parent: Node, name: bytes, ino: int, new_parent: Node, new_name: bytes, over: int) -> None:
        """Note that an earlier process exchanged two nodes and died before it noted that; see `note_renamed`."""
        with self._lock:
            # Before anything is noted: the names of a directory read afterwards would hold the node that left it.
            for above, left in ((parent, name), (new_parent, new_name)):
                self._names_noted(above).pop(left, None)
            self._note_moved(over, parent, name)
            self._note_moved(ino, new_parent, new_name)

    def _note_moved(self, ino: int | None, parent: Node, name: bytes) -> None:
        about = None if ino is None or self.ledger is None else self.ledger.read(ino)
        if ino is None or about is None or self.ledger is None:
            return
        node = Node(about.kind, parent, name, None, upper=False)
        node.ino, node.pins = ino, about.pins
        if ino in self._noted_links:
            node.disk_key = (0, 0)
        self.ledger.keep(node)
        self._names_noted(parent)  # those of the directory come first
        self._noted_names.setdefault(parent.ino, {})[name] = ino

    def _take_over(self, node: Node, about: Noted) -> None:
        node.pins = about.pins
        self.total += about.pins

    def _recall(self, ino: int) -> Node:
        """Find what a process before this one knew by a number."""
        ledger = self.ledger
        if ledger is None:
            raise fail(errno.ESTALE)
        with self._lock:
            missing: list[tuple[int, bytes]] = []
            while (found := self._inodes.find(ino)) is None:
                about = ledger.read(ino)
                if about is None or len(missing) > _DEEPEST:
                    raise fail(errno.ESTALE)
                if about.place is not Place.NAMED or self._upper.is_in_attic(ino):
                    found = self._recall_nameless(ino, about)
                    break
                missing.append((ino, about.text))
                ino = about.parent
            for number, name in reversed(missing):
                found = self._nodes.child(found, name)
                if found is None and number == missing[0][0]:
                    found = self._nodes.git_file if name == b".git" else None
                if found is None or found.ino != number:
                    raise fail(errno.ESTALE, name)
            return found

    def _recall_nameless(self, ino: int, about: Noted) -> Node:
        """Make the node of what lost its name while a process before this one served it."""
        if about.place is Place.REMOVED:
            mode, uid, gid = _REMOVED.unpack(about.text)
            node = Node(stat.S_IFDIR, None, b"", None, upper=True)
            node.held = self._upper.make_removed_dir(mode, uid, gid)
            node.listing = {}
        elif about.place is Place.LOWER:
            entry: LowerEntry | None = self._nodes.lower.root
            for part in about.text.split(b"/"):
                entry = None if entry is None else self._nodes.lower.children(entry).get(part)
            if entry is None:
                raise fail(errno.ESTALE, about.text)
            node = Node(stat.S_IFMT(entry.mode), None, b"", entry, upper=False)
        else:
            name = self._upper.is_in_attic(ino) or attic_name(ino)
            try:
                status = os.stat(name, dir_fd=self._upper.work.fd, follow_symlinks=False)
            except FileNotFoundError:
                raise fail(errno.ESTALE, name) from None
            node = Node(stat.S_IFMT(status.st_mode), self._attic, name, None, upper=True)
            node.links = status.st_nlink - 1
        self._take_over(node, about)
        self._inodes.put(node, ino)
        if node.links and node.parent is self._attic:
            self._inodes.link_to_disk(node, (status.st_dev, status.st_ino))
        return node

    def _recall_links(self) -> bool:
        """Make the nodes of all files that may have several names, so that each name leads to one node.

        Tell if any was noted.
        """
        numbers, self._noted_links = self._noted_links, []
        for ino in numbers:
            try:
                self.node_at(ino)
            except OSError:
                continue
        return bool(numbers)

    def note(self, node: Node) -> None:
        """Note where a node stands, so that a process after this one finds it. Called with the lock."""
        ledger = self.ledger
        if ledger is None or not (node.pins or (node.is_dir and node.parent is not None)):
            return
        if node.parent is self._attic:
            ledger.keep(node, Place.ATTIC, b"")
        elif node.parent is not None:
            ledger.keep(node)
        elif node.held is not None and node.is_dir:
            found = os.stat(node.held.fd)
            ledger.keep(node, Place.REMOVED, _REMOVED.pack(stat.S_IMODE(found.st_mode), found.st_uid, found.st_gid))
        elif node.is_dir and node.lower is not None:
            ledger.keep(node, Place.REMOVED, _REMOVED.pack(stat.S_IMODE(node.lower.mode), *self._nodes.owner))
        elif node.upper or (about := ledger.read(node.ino)) is None or about.place is not Place.LOWER:
            ledger.drop(node.ino)  # it is held by a descriptor, if at all, which ends with this process

    def begin(self, node: Node | None = None, over: Node | None = None, *, on_disk: int = 0) -> None:
        """Note that the disk is about to change, for a process that goes on if this one dies meanwhile.

        Called with the lock.

        `node` loses its name or moves, `over` loses its name to it. `on_disk` is the inode number of the moved file,
        where names alone do not tell whether it has moved.
        """
        if self.ledger is not None:
            self.ledger.begin(0 if node is None else node.ino, 0 if over is None else over.ino, on_disk)
            faults.reach("view.begun")
