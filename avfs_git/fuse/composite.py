"""Many read-only trees on one mount, below directories that are on no disk.

Decided here: how trees share the numbers of one mount, and what the directories above them are to the kernel. Each tree
has a range of its own, so that a request finds its tree by the number of its node; the first range is
that of the directories above. A tree is opened when its name is looked up and closed when the kernel has forgotten all
of it, so that memory follows what is looked at.

What the directories hold is asked of `Folder`s, which `session.catalogue` makes. Forks and labels come and go without
notice: their names are good for `NAMES_S`, and a directory whose content changed gets a new time, by which the kernel
knows that its own copy of the listing is old. Commits never change; what is below their names is good for ever.

One thread serves, as in `fuse.server`. Nothing is kept here that is not found again by asking. When a server dies and
another goes on, what programs hold open is stale; names work on.
"""

from __future__ import annotations

import errno
import os
import stat
import time
from collections import Counter
from collections.abc import Callable, Iterable
from typing import NamedTuple, Protocol

from avfs_git.errors import MountError
from avfs_git.fuse import protocol as p
from avfs_git.fuse.channel import Channel, Request
from avfs_git.fuse.errnos import errno_of
from avfs_git.fuse.handover import Handover
from avfs_git.fuse.listing import Listings, make_listing
from avfs_git.fuse.server import Handler, TreeServer
from avfs_git.vfs.inodes import ROOT_INO
from avfs_git.vfs.merged import MergedTree
from avfs_git.vfs.view import Attr, fail

NAMES_S = 1
"""How long the kernel may believe a name of a directory that is on no disk, in seconds."""
_RANGE_BITS = 32
"""A number is that of a range, and below it these bits of a number within."""
_GENERATION_BITS = 24
"""Each server begins to number directories and ranges where no server before it can have come."""
_GENERATIONS = 128
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


class _OneThread(TreeServer):
    """Serves one of the trees. What takes long is not left to helpers: nobody would know of it after the server's death."""

    def _pass_on(self, handler: Handler, request: Request) -> None:
        self._answer_with(handler, request)


class CompositeServer:
    """Serves a folder, and the trees below it, on one channel.

    Attributes:
        counts: How many requests of each operation came, by its number.
    """

    def __init__(
        self, root: Folder, channel: Channel, handover: Handover | None = None, *, statvfs: Callable[[], os.statvfs_result]
    ) -> None:
        """Prepare to serve.

        Args:
            root: What the mount shows; the trees below it have to be read-only.
            channel: On which channel, negotiated; the mount is read-only.
            handover: Where a server before this one left the request that it died over. What it numbered is not known here:
                it is stale, and found again under its name; its numbers are not given to anything else.
            statvfs: Tells the sizes of the disk that all of it is on.

        Raises:
            MountError: If more than 127 servers died.
        """
        generation = 0 if handover is None else handover.generation
        if generation >= _GENERATIONS:
            raise MountError(f"the server of this mount died {generation} times")
        self._handover = handover
        self.channel = channel
        self.counts: Counter[int] = Counter()
        self._statvfs = statvfs
        self._root = _Place(ROOT_INO, ROOT_INO, b"", root)
        self._places: dict[int, _Place] = {ROOT_INO: self._root}
        self._by_name: dict[tuple[int, bytes], _Place] = {}
        self._next_place = ROOT_INO + 1 + (generation << _GENERATION_BITS)
        self._trees: dict[int, TreeServer] = {}
        self._by_entrance: dict[tuple[int, bytes, bytes], int] = {}
        self._next_range = 1 + (generation << _GENERATION_BITS)
        self._listings = Listings()
        self._uid, self._gid = os.geteuid(), os.getegid()
        self._handlers: dict[int, Callable[[Request], bytes | None]] = {
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
        request = Request() if handover is None else handover.request()
        try:
            if handover is not None and handover.has_request:
                request.read_header()
                self._answer_again(handover, request)
                handover.mark_answered()
            while channel.receive(request):
                self.counts[request.operation] += 1
                self._answer(request)
                request.buffer[p.OPERATION_AT] = 0  # answered: a server after this one leaves it alone
        finally:
            for index in list(self._trees):
                self._close(index)

    def _answer_again(self, handover: Handover, request: Request) -> None:
        if not handover.is_deadly(request.unique):
            self._answer(request)
        elif request.operation not in (p.FORGET, p.BATCH_FORGET):
            self.channel.reply_error(request, errno.EIO)

    def _answer(self, request: Request) -> None:
        operation, index = request.operation, request.ino >> _RANGE_BITS
        if operation == p.BATCH_FORGET:
            self._batch_forget(request)
        elif operation == p.FORGET:
            self._forget(request.ino, p.FORGET_IN.unpack_from(request.buffer, p.BODY)[0])
        elif operation == p.INTERRUPT:
            return
        elif index:
            server = self._trees.get(index)
            if server is None:
                self.channel.reply_error(request, errno.ESTALE)
            elif operation in _ELSEWHERE and int.from_bytes(request.view[p.BODY : p.BODY + 8], "little") >> _RANGE_BITS != index:
                self.channel.reply_error(request, errno.EXDEV)
            else:
                server.handle(request)
        else:
            handler = self._handlers.get(operation)
            # Not ENOSYS but where a tree says so, too: the kernel would not ask any tree again.
            if handler is None:
                unknown = operation in (p.OPEN, p.OPENDIR, p.FLUSH, p.RELEASE, p.RELEASEDIR)
                self.channel.reply_error(request, errno.ENOSYS if unknown else errno.EROFS)
                return
            try:
                body = handler(request)
            except Exception as error:  # noqa: BLE001 - one failing request must not end the mount for every program
                self.channel.reply_error(request, errno_of(error, f"operation {operation} of folder {request.ino}"))
            else:
                self.channel.reply(request, body or b"")

    # --- what the kernel knows -------------------------------------------------------------------------------

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
            below = _Place(self._next_place, place.ino, name, found)
            self._next_place += 1
            self._places[below.ino] = self._by_name[place.ino, name] = below
        below.looked_up += 1
        return p.pack_entry(self._attr(below), NAMES_S)

    def _enter(self, place: _Place, name: bytes, entrance: Entrance) -> Attr:
        """Find or open the tree behind a name; the kernel knows its root from now on."""
        key = (place.ino, name, entrance.identity)
        index = self._by_entrance.get(key)
        if index is None:
            index = self._next_range
            tree = entrance.open(index << _RANGE_BITS)
            self._next_range += 1
            self._trees[index] = _OneThread(tree, self.channel)
            self._by_entrance[key] = index
        tree = self._trees[index].tree
        with tree.guard:
            attr = tree.getattr(tree.root)
            tree.pin(tree.root)
        return attr

    def _batch_forget(self, request: Request) -> None:
        count, _ = p.BATCH_FORGET_IN.unpack_from(request.buffer, p.BODY)
        start = p.BODY + p.BATCH_FORGET_IN.size
        for ino, times in list(p.FORGET_ONE.iter_unpack(request.view[start : start + count * p.FORGET_ONE.size])):
            self._forget(ino, times)

    def _forget(self, ino: int, times: int) -> None:
        index = ino >> _RANGE_BITS
        if not index:
            place = self._places.get(ino)
            if place is not None and place is not self._root:
                place.looked_up -= times
                if place.looked_up <= 0:
                    del self._places[ino]
                    if self._by_name.get((place.parent, place.name)) is place:
                        del self._by_name[place.parent, place.name]
            return
        server = self._trees.get(index)
        if server is not None:
            tree = server.tree
            node = tree.inodes.find(ino)
            if node is not None:
                tree.unpin(node, times)
            if not tree.is_pinned:
                self._close(index)

    def _close(self, index: int) -> None:
        server = self._trees.pop(index)
        self._by_entrance = {key: held for key, held in self._by_entrance.items() if held != index}
        server.tree.close()

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
