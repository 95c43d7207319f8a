"""Many read-only trees on one mount, below directories that are on no disk.

Decided here: how a request finds its tree, by the number of its node (`fuse.handover.register`), and what the
directories above the trees are to the kernel. A tree is opened when its name is looked up and closed when the kernel
has forgotten all of it, so that memory follows what is looked at.

`session.serve.catalogue` makes the `Folder`s, which know what the directories hold. Forks and labels come and go
without notice: their names are good for `NAMES_S`, and a directory whose content changed gets a new time, by which the
kernel drops its cached listing. Commits never change, so the kernel may cache everything below their names without a
limit.

One thread serves, as in `fuse.server`. After a server was killed, the next one opens each tree again when the kernel
asks for something in it, by what was noted of its root, so that open files go on; a note is complete before the kernel
is told. A directory above the trees that is gone meanwhile (a fork was deleted) is ESTALE for a program that holds it.
"""

from __future__ import annotations

import errno
import os
import stat
import time
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Protocol

from avfs_git.fuse import protocol as p
from avfs_git.fuse.channel import Channel, Request
from avfs_git.fuse.errnos import errno_of
from avfs_git.fuse.handover.handover import Handover
from avfs_git.fuse.handover.register import Register, TreeLedger, split
from avfs_git.fuse.listing import Listings, make_listing
from avfs_git.fuse.operations import Handler, Operations
from avfs_git.values import NamedTuple
from avfs_git.vfs.errnos import fail
from avfs_git.vfs.tree.inodes import ROOT_INO
from avfs_git.vfs.tree.merged import MergedTree
from avfs_git.vfs.values import Attr

NAMES_S = 1
"""How long the kernel may believe a name of a directory that is on no disk, in seconds."""
_ELSEWHERE = frozenset({p.RENAME, p.RENAME2, p.LINK})
"""Operations whose body begins with the number of a second node."""


class Folder(Protocol):
    """A directory that is on no disk."""

    def names(self) -> Iterable[bytes]:
        """List its names; it may hold others that can only be looked up."""
        ...

    def find(self, name: bytes) -> Entry | None:
        """Find what has a name; None if nothing has it."""
        ...


class Entrance(NamedTuple):
    """Where a tree begins."""

    identity: bytes
    """What it shows: a name that leads to another one leads to another tree."""
    open: Callable[[int], MergedTree]
    """Opens the tree; told the number of its root."""


class Link(NamedTuple):
    """A symbolic link."""

    target: bytes


Entry = Folder | Entrance | Link


class _Place:
    """A folder or link that the kernel knows."""

    def __init__(self, ino: int, parent: int, name: bytes, entry: Folder | Link) -> None:
        self.ino = ino
        self.parent = parent
        self.name = name
        self.entry = entry
        self.looked_up = 0
        self.names: frozenset[bytes] | None = None
        self.changed_ns = time.time_ns()


class CompositeServer:
    """Serves a folder, and the trees below it, on one channel.

    Attributes:
        counts: How many requests of each operation came, by its number.
    """

    def __init__(
        self,
        root: Folder,
        channel: Channel,
        handover: Handover,
        *,
        statvfs: Callable[[], os.statvfs_result],
        reopen: Callable[[bytes], Entrance | None],
    ) -> None:
        """Prepare to serve.

        The mount and the trees are read-only. `statvfs` tells the sizes of the disk that all of it is on; `reopen`
        finds a tree by its identity, whatever name leads there now.
        """
        self._handover = handover
        self._reopen = reopen
        self._register = Register(handover)
        self.channel = channel
        self.counts: Counter[int] = Counter()
        self._statvfs = statvfs
        self._root = _Place(ROOT_INO, ROOT_INO, b"", root)
        self._places: dict[int, _Place] = {ROOT_INO: self._root}
        self._by_name: dict[tuple[int, bytes], _Place] = {}
        self._trees: dict[int, Operations] = {}
        """By the numbers of their roots."""
        self._recalled: set[int] = set()
        """Those of which more may be noted than this server has met."""
        self._by_entrance: dict[tuple[int, bytes, bytes], int] = {}
        self._listings = Listings()
        self._uid, self._gid = os.geteuid(), os.getegid()
        self._handlers: dict[int, Handler] = {
            p.LOOKUP: self._lookup,
            p.GETATTR: self._getattr,
            p.READLINK: self._readlink,
            p.READDIR: lambda request: self._list(request, b""),
            p.READDIRPLUS: lambda request: self._list(request, p.HIDDEN_ENTRY),
            p.STATFS: self._statfs,
            p.GETXATTR: self._getxattr,
            p.LISTXATTR: self._listxattr,
            p.ACCESS: lambda _: b"",
            p.FSYNCDIR: lambda _: b"",
            p.DESTROY: lambda _: b"",
        }

    def serve(self) -> None:
        """Answer requests until it is unmounted."""
        channel, handover = self.channel, self._handover
        request = handover.request()
        try:
            if handover.has_request:
                request.read_header()
                self._answer_again(request)
                handover.mark_answered()
            while channel.receive(request):
                self.counts[request.operation] += 1
                self._answer(request)
                request.buffer[p.OPERATION_AT] = 0  # answered: a server after this one leaves it alone
        finally:
            for root in list(self._trees):
                self._close(root)

    def _answer_again(self, request: Request) -> None:
        is_deadly = self._handover.is_deadly(request.unique)
        if request.operation in (p.FORGET, p.BATCH_FORGET):
            if not is_deadly:
                self._forget_from(request, self._forget_again(request.unique))
        elif is_deadly:
            self.channel.reply_error(request, errno.EIO)
        else:
            self._answer(request)

    def _answer(self, request: Request) -> None:
        operation = request.operation
        if operation in (p.FORGET, p.BATCH_FORGET):
            self._forget_from(request, 0)
            return
        if operation == p.INTERRUPT:
            return
        try:
            body = self._find_handler(request)(request)
        except Exception as error:  # noqa: BLE001 - one failing request must not end the mount for every program
            self.channel.reply_error(request, errno_of(error, f"operation {operation} of node {request.ino}"))
        else:
            if body is not None:
                self.channel.reply(request, body)

    def _find_handler(self, request: Request) -> Handler:
        """Find what answers a request: the tree that it is about, or this server.

        No helper does: the next server would not know.

        Raises:
            OSError: The answer, if nothing can be done about the request.
        """
        operation = request.operation
        root = self._root_of(request.ino)
        if root is None:
            handler = self._handlers.get(operation)
            # Not ENOSYS but where a tree says so, too: the kernel would not ask any tree again.
            unknown = operation in (p.OPEN, p.OPENDIR, p.FLUSH, p.RELEASE, p.RELEASEDIR)
        else:
            other = (
                int.from_bytes(request.view[p.BODY : p.BODY + 8], "little") if operation in _ELSEWHERE else request.ino
            )
            if self._register.roots.get(other) != root:
                raise fail(errno.EXDEV)
            handler, unknown = self._trees[root].handlers.get(operation), True
        if handler is None:
            raise fail(errno.ENOSYS if unknown else errno.EROFS)
        return handler

    # --- what the kernel knows -------------------------------------------------------------------------------

    def _root_of(self, ino: int) -> int | None:
        """Find the tree that a number belongs to, by that of its root; None for what is above the trees.

        Raises:
            OSError: ESTALE if the number is not known, or what it stood for is no more.
        """
        if ino in self._places:
            return None
        root = self._register.roots.get(ino)
        if root is None:
            self._recall(ino)
            root = self._register.roots.get(ino)
        return root

    def _recall(self, ino: int) -> None:
        """Find again what a server before this one knew by a number."""
        register, places = self._register, self._places
        for number, about in register.way_to(ino, places):
            place = places.get(about.parent)
            if place is None:  # within a tree, which finds it by itself
                register.roots[number] = register.roots[about.parent]
                continue
            if isinstance(place.entry, Link):
                raise fail(errno.ESTALE, place.name)
            name, identity = split(about.text)
            found = place.entry.find(name) if identity is None else self._reopen(identity)
            if found is None or isinstance(found, Entrance) != (identity is not None):
                raise fail(errno.ESTALE, name)
            if isinstance(found, Entrance):
                self._open(place, name, found, number, about.pins)
            else:
                self._add_place(number, place, name, found).looked_up = about.pins

    def _place(self, request: Request) -> _Place:
        found = self._places.get(request.ino)
        if found is None:
            raise fail(errno.ESTALE)
        return found

    def _folder(self, request: Request) -> tuple[_Place, Folder]:
        place = self._place(request)
        if isinstance(place.entry, Link):
            raise fail(errno.ENOTDIR, place.name)
        return place, place.entry

    def _lookup(self, request: Request) -> bytes:
        place, folder = self._folder(request)
        name = request.name_at(p.BODY)
        found = folder.find(name)
        if found is None:
            return p.pack_no_entry(NAMES_S)
        if isinstance(found, Entrance):
            return p.pack_entry(self._enter(place, name, found), NAMES_S)
        below = self._by_name.get((place.ino, name))
        if below is None or (isinstance(found, Link) and found != below.entry):
            ino, known = self._register.recall(place.ino, name) or (self._register.take(), 0)
            below = self._add_place(ino, place, name, found)
            below.looked_up = known
        below.looked_up += 1
        self._register.note(below.ino, _kind(found), place.ino, name, below.looked_up)
        return p.pack_entry(self._attr(below), NAMES_S)

    def _add_place(self, ino: int, parent: _Place, name: bytes, entry: Folder | Link) -> _Place:
        made = _Place(ino, parent.ino, name, entry)
        self._places[ino] = self._by_name[parent.ino, name] = made
        return made

    def _enter(self, place: _Place, name: bytes, entrance: Entrance) -> Attr:
        """Find or open the tree behind a name; the kernel knows its root from now on."""
        root = self._by_entrance.get((place.ino, name, entrance.identity))
        if root is None:
            root, known = self._register.recall(place.ino, name, entrance.identity) or (self._register.take(), None)
            self._open(place, name, entrance, root, known)
        tree = self._trees[root].tree
        with tree.guard:
            attr = tree.attributes.getattr(tree.root)
            tree.pins.pin(tree.root)
        return attr

    def _open(self, place: _Place, name: bytes, entrance: Entrance, root: int, known: int | None) -> None:
        """Open a tree; a server before this one has told the kernel its root so many times, or nothing of it at all."""
        tree = entrance.open(root)
        with tree.guard:
            tree.pins.follow(TreeLedger(self._register, root, place.ino, name, entrance.identity))
            tree.pins.pin(tree.root, known or 0)
        self._register.roots[root] = root
        self._trees[root] = Operations(tree, self.channel, None, xattr_search=None)
        self._by_entrance[place.ino, name, entrance.identity] = root
        if known is not None:
            self._recalled.add(root)

    def _forget_from(self, request: Request, first: int) -> None:
        for index, (ino, times) in enumerate(request.forgotten()[first:], first):
            known = self._known(ino)
            if known is None:
                self._register.drop(ino)
                continue
            left = max(0, known - times)
            self._handover.forgetting(request.unique, index, ino, left)
            self._forget_to(ino, left)

    def _forget_again(self, unique: int) -> int:
        """Complete the entry of a FORGET in which a server died; gives the index of the next one."""
        last = self._handover.forgotten(unique)
        if last is None:
            return 0
        index, ino, left = last
        if self._handover.read(ino) is not None:
            if self._known(ino) is None:
                self._register.drop(ino)
            else:
                self._forget_to(ino, left)
        return index + 1

    def _known(self, ino: int) -> int | None:
        """Tell how often the kernel knows a number; None if nothing is found by it any more."""
        try:
            root = self._root_of(ino)
            return self._places[ino].looked_up if root is None else self._trees[root].tree.pins.node_at(ino).pins
        except Exception:  # noqa: BLE001 - a FORGET has no answer
            return None

    def _forget_to(self, ino: int, left: int) -> None:
        """Note that the kernel knows a number only so many times any more."""
        root = self._register.roots.get(ino)
        if root is not None:
            tree = self._trees[root].tree
            node = tree.pins.node_at(ino)
            tree.pins.unpin(node, max(0, node.pins - left))
            if not tree.pins.is_pinned:
                self._close(root)
            return
        place = self._places[ino]
        place.looked_up = left
        if place is self._root:
            return
        if left:
            self._register.note(ino, _kind(place.entry), place.parent, place.name, left)
            return
        del self._places[ino]
        if self._by_name.get((place.parent, place.name)) is place:
            del self._by_name[place.parent, place.name]
        self._register.drop(ino)

    def _close(self, root: int) -> None:
        tree = self._trees.pop(root).tree
        self._by_entrance = {key: held for key, held in self._by_entrance.items() if held != root}
        # What a server before this one has noted, and the kernel may know, is needed to find it.
        self._register.drop_tree(root, None if root in self._recalled else iter(tree.nodes.inodes))
        self._recalled.discard(root)
        tree.close()

    # --- attributes ------------------------------------------------------------------------------------------

    def _attr(self, place: _Place) -> Attr:
        if isinstance(place.entry, Link):
            mode, size = stat.S_IFLNK | 0o777, len(place.entry.target)
        else:
            mode, size = stat.S_IFDIR | 0o555, 4096
            names = frozenset(place.entry.names())
            if names != place.names:
                if place.names is not None:
                    place.changed_ns = time.time_ns()
                place.names = names
        when = place.changed_ns
        return Attr(place.ino, mode, 1, self._uid, self._gid, 0, size, (size + 511) >> 9, when, when, when)

    def _getattr(self, request: Request) -> bytes:
        return p.pack_attr(self._attr(self._place(request)), NAMES_S)

    @staticmethod
    def _listxattr(request: Request) -> bytes:
        size, _ = p.GETXATTR_IN.unpack_from(request.buffer, p.BODY)
        return b"" if size else p.GETXATTR_OUT.pack(0)

    def _readlink(self, request: Request) -> bytes:
        entry = self._place(request).entry
        if not isinstance(entry, Link):
            raise fail(errno.EINVAL)
        return entry.target

    def _statfs(self, _request: Request) -> bytes:
        return p.pack_statfs(self._statvfs())

    def _getxattr(self, _request: Request) -> bytes:
        raise fail(errno.ENODATA)

    # --- listings --------------------------------------------------------------------------------------------

    def _list(self, request: Request, prefix: bytes) -> bytes:
        _, position, size, *_ = p.READ_IN.unpack_from(request.buffer, p.BODY)
        place, folder = self._folder(request)
        listing = self._listings.find(place.ino) if position else None
        if listing is None:
            dots = [(b".", stat.S_IFDIR), (b"..", stat.S_IFDIR)]
            listing = self._listings.keep(place.ino, make_listing([*dots, *((name, 0) for name in folder.names())]))
        pieces: list[bytes] = []
        for index in range(listing.after(position), len(listing.names)):
            name, kind = listing.names[index]
            known = self._by_name.get((place.ino, name))
            head = p.DIRENT.pack(known.ino if known else ROOT_INO, listing.positions[index], len(name), kind >> 12)
            piece = p.pack_dirent(prefix + head, name)
            size -= len(piece)
            if size < 0:
                break
            pieces.append(piece)
        if not pieces:
            self._listings.drop(place.ino)
        return b"".join(pieces)


def _kind(entry: Folder | Link) -> int:
    return stat.S_IFLNK if isinstance(entry, Link) else stat.S_IFDIR
