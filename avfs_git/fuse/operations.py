"""Each request of the kernel as a call of the merged tree: its fields, the call, the body of the reply.

Decided here: which method of `MergedTree` a request calls, with which arguments, and what the reply holds. What a
filesystem does is decided in `vfs.tree`. `_list_calls` lists the requests that are decoded alike: a layout, names, one
call. Requests that come once a file or more (LOOKUP, GETATTR, MKNOD, WRITE, GETXATTR, listings) have code of their own.

`fuse.server` makes one `Operations` for its tree and calls `handlers`, mostly from its serving thread; helper threads
do the slow ones. Finding a node and pinning it is one step under the tree's lock, so that no other thread drops the
node in between. Nothing is kept here but caches.
"""

from __future__ import annotations

import errno
import os
import stat
import threading
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from functools import partial
from struct import Struct
from typing import Final

from avfs_git.errors import AvfsError, ObjectCorrupt, ObjectMissing, RemoteError
from avfs_git.fuse import protocol as p
from avfs_git.fuse.channel import Channel, Request
from avfs_git.fuse.handover.forgetting import Forgetting
from avfs_git.fuse.listing import DOT, DOT_DOT, Answers, Listing, Listings, make_listing
from avfs_git.gitstore.source import NotYetHere
from avfs_git.vfs.errnos import fail
from avfs_git.vfs.tree.merged import MergedTree, Node
from avfs_git.vfs.values import Attr, missing_xattr

Handler = Callable[[Request], bytes | None]
"""Gives the body of the reply; None if the request is answered already, or gets no answer."""

_COPY_MAX = 64 << 20
"""How much one COPY_FILE_RANGE copies at most: a program that is killed meanwhile waits for no more than that."""
_CAPABILITY = b"security.capability"
_SEARCH_AFTER = 32
"""After so many GETXATTR requests the tree is searched for attributes."""
_XATTR_NAME_AT = p.BODY + p.GETXATTR_IN.size
_MKNOD_NAME_AT = p.BODY + p.MKNOD_IN.size
_WRITTEN_AT = p.BODY + p.WRITE_IN.size
"""Where the content of a WRITE begins."""
_UNLOCKED = nullcontext()
_NO_FIELDS: Final = Struct("=")
_NAMES: Final[tuple[Callable[[Request, int], tuple[bytes, ...]], ...]] = (
    lambda _request, _start: (),
    lambda request, start: (request.name_at(start),),
    lambda request, start: request.names_at(start),
)
"""How none, one or two names are read, by where they begin."""

_UNTOLD = (NotYetHere, RemoteError, ObjectMissing, ObjectCorrupt)
"""Why a listing leaves out the size of a file."""


class Operations:
    """The requests about one tree.

    Attributes:
        handlers: What answers each operation, by its number. An operation that is not in it is answered ENOSYS.
    """

    def __init__(
        self,
        tree: MergedTree,
        channel: Channel,
        forgetting: Forgetting | None,
        *,
        xattr_search: Iterator[bool] | None,
    ) -> None:
        """Prepare; see `fuse.server.TreeServer` for the arguments."""
        self.tree = tree
        self._channel = channel
        self._guard = tree.guard
        self._forgetting = forgetting
        self._listings = Listings()
        self._answers = None if tree.may_change else Answers()
        self._xattr_search = xattr_search
        self._xattr_asked = 0
        self._uid, self._gid = os.geteuid(), os.getegid()
        self.handlers: dict[int, Handler] = {
            p.LOOKUP: self._lookup,
            p.GETATTR: self._getattr,
            p.SETATTR: self._setattr,
            p.MKNOD: self._mknod,
            p.READ: self.read,
            p.WRITE: self._write,
            p.STATFS: lambda _: p.pack_statfs(tree.attributes.statvfs()),
            p.SETXATTR: self._setxattr,
            p.GETXATTR: self._getxattr,
            p.LISTXATTR: self._listxattr,
            p.READDIR: self._readdir,
            p.READDIRPLUS: self._readdirplus,
            p.DESTROY: lambda _: b"",
            **self._list_calls(),
        }
        if not tree.may_change:  # its files are stored whole
            del self.handlers[p.LSEEK]

    def _list_calls(self) -> dict[int, Handler]:
        """List the requests that are a layout, then names: the layout, how many names, and what is called with both."""
        plain, locked = self._decoding, partial(self._decoding, is_locked=True)
        attributes, namespace = self.tree.attributes, self.tree.namespace
        return {
            p.ACCESS: plain(p.ACCESS_IN, 0, self._access),
            p.READLINK: plain(_NO_FIELDS, 0, lambda _, node: attributes.readlink(node)),
            p.SYMLINK: locked(_NO_FIELDS, 2, self._symlink),
            p.MKDIR: locked(p.MKDIR_IN, 1, self._mkdir),
            p.TMPFILE: locked(p.CREATE_IN, 0, self._tmpfile),
            p.UNLINK: locked(_NO_FIELDS, 1, lambda _, parent, name: namespace.unlink(parent, name)),
            p.RMDIR: locked(_NO_FIELDS, 1, lambda _, parent, name: namespace.rmdir(parent, name)),
            p.RENAME: locked(p.RENAME_IN, 2, self._rename),
            p.RENAME2: locked(p.RENAME2_IN, 2, self._rename),
            p.LINK: locked(p.LINK_IN, 1, self._link),
            p.REMOVEXATTR: plain(_NO_FIELDS, 1, lambda _, node, name: attributes.remove_xattr(node, name)),
            p.FSYNC: plain(p.FSYNC_IN, 0, self._fsync),
            p.FSYNCDIR: plain(p.FSYNC_IN, 0, self._fsync),
            p.FALLOCATE: plain(p.FALLOCATE_IN, 0, self._fallocate),
            p.LSEEK: plain(p.LSEEK_IN, 0, self._lseek),
            p.COPY_FILE_RANGE: plain(p.COPY_FILE_RANGE_IN, 0, self._copy_file_range),
        }

    def _decoding(
        self, layout: Struct, names: int, do: Callable[..., Node | bytes | None], *, is_locked: bool = False
    ) -> Handler:
        """Make a handler that calls `do` with the request, its node, the names and the fields of the layout.

        `is_locked`: with the tree's lock held, as whatever changes names or tells the kernel of a node has to be.
        """
        names_of, unpack = _NAMES[names], layout.unpack_from
        start, node_at = p.BODY + layout.size, self.tree.pins.node_at
        lock = self._guard if is_locked else _UNLOCKED

        def answer(request: Request) -> bytes:
            given, fields = names_of(request, start), unpack(request.buffer, p.BODY)
            with lock:
                found = do(request, node_at(request.ino), *given, *fields)
                return self.told(found) if isinstance(found, Node) else found or b""

        return answer

    def told(self, node: Node) -> bytes:
        """Describe a node to the kernel, which knows it from now on. Called with the tree's lock held."""
        body = p.pack_entry(self.tree.attributes.getattr(node))
        self.tree.pins.pin(node)
        return body

    def owner(self, request: Request) -> tuple[int, int] | None:
        """Give user and group for a file that a request makes; None if they are this process's."""
        uid, gid = request.uid, request.gid
        return None if uid == self._uid and gid == self._gid else (uid, gid)

    # --- attributes ------------------------------------------------------------------------------------------

    def _lookup(self, request: Request) -> bytes:
        tree = self.tree
        with self._guard:
            node = tree.nodes.find(tree.pins.node_at(request.ino), request.name_at(p.BODY))
            if self._forgetting is not None:
                self._forgetting.look()
            return p.NO_ENTRY if node is None else self.told(node)

    def _getattr(self, request: Request) -> bytes:
        tree = self.tree
        return p.pack_attr(tree.attributes.getattr(tree.pins.node_at(request.ino)))

    def _access(self, _request: Request, node: Node, mask: int) -> None:
        """Answer what the kernel asks for root only, in a mount closed to all other users (`host.mounts.mounts`)."""
        if mask & os.X_OK and node.kind == stat.S_IFREG and not self.tree.attributes.getattr(node).mode & 0o111:
            raise fail(errno.EACCES)

    def _setattr(self, request: Request) -> bytes:
        (valid, _, size, _, atime_s, mtime_s, _, atime_ns, mtime_ns, _, mode, _, uid, gid, _) = (
            p.SETATTR_IN.unpack_from(request.buffer, p.BODY)
        )
        tree = self.tree
        with self._guard:
            node = tree.pins.node_at(request.ino)
            attr = tree.attributes.set_attributes(
                node,
                size=size if valid & p.FATTR_SIZE else None,
                uid=uid if valid & p.FATTR_UID else -1,
                gid=gid if valid & p.FATTR_GID else -1,
                mode=mode & 0o7777 if valid & p.FATTR_MODE else None,
                atime_ns=atime_s * 1_000_000_000 + atime_ns if valid & p.FATTR_ATIME else None,
                mtime_ns=mtime_s * 1_000_000_000 + mtime_ns if valid & p.FATTR_MTIME else None,
            )
            if valid & p.FATTR_KILL_SUIDGID and not valid & p.FATTR_MODE and self._drop_privileges(request, node, attr):
                attr = tree.attributes.getattr(node)
            return p.pack_attr(attr)

    def _drop_privileges(self, request: Request, node: Node, attr: Attr) -> bool:
        """Remove set-uid, set-gid and capabilities when a user changes a file to which that user may not give them.

        The system does that by itself when the server is an ordinary user's; for root's server it is done here. Tells
        whether anything was changed.
        """
        if self._uid != 0 or not (attr.mode & (stat.S_ISUID | stat.S_ISGID) or node.has_xattrs):
            return False
        tree = self.tree
        mode = stat.S_IMODE(attr.mode)
        kept = mode & ~stat.S_ISUID
        if mode & stat.S_IXGRP or (request.uid and request.gid != attr.gid):  # else members of the group may give it
            kept &= ~stat.S_ISGID
        if kept != mode:
            tree.attributes.chmod(node, kept)
        if node.has_xattrs and _CAPABILITY in tree.attributes.read_xattrs(node):
            tree.attributes.remove_xattr(node, _CAPABILITY)
            return True
        return kept != mode

    def _drop_and_tell(self, request: Request, node: Node) -> None:
        """Drop privileges where the reply has no attributes, and let the kernel forget those that it knows.

        A serving thread may do that, unlike forgetting content: the kernel takes no lock of the inode for it.
        """
        if self._drop_privileges(request, node, self.tree.attributes.getattr(node)):
            self._channel.forget_attributes(node.ino)

    def _drop_for_others(self, request: Request, node: Node) -> None:
        """Drop privileges before a change of which the kernel does not say whether its user may give them: root may."""
        if request.uid:
            self._drop_and_tell(request, node)

    # --- extended attributes ---------------------------------------------------------------------------------

    def _setxattr(self, request: Request) -> bytes:
        size, flags = p.SETXATTR_IN.unpack_from(request.buffer, p.BODY)
        data = bytes(request.view[p.BODY + p.SETXATTR_IN.size : request.end])
        name, _, value = data.partition(b"\0")
        self.tree.attributes.set_xattr(self.tree.pins.node_at(request.ino), name, value[:size], flags=flags)
        return b""

    def _getxattr(self, request: Request) -> bytes | None:
        tree = self.tree
        node = tree.pins.node_at(request.ino)
        if not tree.attributes.may_have_xattrs(node):
            # Most requests end here: the kernel looks for `security.capability` before it writes to a file.
            self._xattr_asked += 1
            nothing_has_any = self._xattr_search is not None and self._search_xattrs(self._xattr_search)
            missing = missing_xattr(request.name_at(_XATTR_NAME_AT))
            self._channel.reply_error(request, errno.ENOSYS if nothing_has_any else missing)
            return None
        size, _ = p.GETXATTR_IN.unpack_from(request.buffer, p.BODY)
        return _sized(tree.attributes.get_xattr(node, request.name_at(_XATTR_NAME_AT)), size)

    def _search_xattrs(self, search: Iterator[bool]) -> bool:
        """Search one more directory for attributes; True when the whole tree has none."""
        if self._xattr_asked < _SEARCH_AFTER:
            return False
        try:
            is_over = next(search)
        except StopIteration:
            self._xattr_search = None
            del self.handlers[p.GETXATTR]
            return True
        except AvfsError:  # an object is missing: the program that needs it is told
            is_over = True
        if is_over:
            self._xattr_search = None
        return False

    def _listxattr(self, request: Request) -> bytes:
        size, _ = p.GETXATTR_IN.unpack_from(request.buffer, p.BODY)
        found = self.tree.attributes.read_xattrs(self.tree.pins.node_at(request.ino))
        return _sized(b"".join(name + b"\0" for name in found), size)

    # --- names -----------------------------------------------------------------------------------------------

    def _symlink(self, request: Request, parent: Node, name: bytes, target: bytes) -> Node:
        return self.tree.making.symlink(parent, name, target, owner=self.owner(request))

    def _mknod(self, request: Request) -> bytes:
        mode, rdev, _, _ = p.MKNOD_IN.unpack_from(request.buffer, p.BODY)
        name = request.name_at(_MKNOD_NAME_AT)
        tree = self.tree
        owner = self.owner(request)
        with self._guard:
            parent = tree.pins.node_at(request.ino)
            if stat.S_IFMT(mode) not in (stat.S_IFREG, 0):
                return self.told(tree.making.mknod(parent, name, mode, p.decode_rdev(rdev), owner=owner))
            node, attr = tree.making.create_described(parent, name, stat.S_IMODE(mode), owner=owner)
            tree.pins.pin(node)
            return p.pack_entry(attr)

    def _mkdir(self, request: Request, parent: Node, name: bytes, mode: int, _umask: int) -> Node:
        return self.tree.making.mkdir(parent, name, stat.S_IMODE(mode), owner=self.owner(request))

    def _tmpfile(self, request: Request, parent: Node, _flags: int, mode: int, *_: int) -> bytes:
        node = self.tree.making.create_unnamed(parent, stat.S_IMODE(mode), owner=self.owner(request))
        return self.told(node) + p.OPEN_OUT.pack(0, 0, 0)

    def _rename(
        self, _request: Request, parent: Node, name: bytes, new_name: bytes, new_parent: int, flags: int = 0
    ) -> None:
        self.tree.namespace.rename(parent, name, self.tree.pins.node_at(new_parent), new_name, flags=flags)

    def _link(self, _request: Request, parent: Node, name: bytes, ino: int) -> Node:
        return self.tree.making.link(self.tree.pins.node_at(ino), parent, name)

    # --- listings --------------------------------------------------------------------------------------------

    def _list(self, node: Node, position: int) -> Listing:
        """Find the listing that is being read, or begin one. Called with the tree's lock held."""
        found = self._listings.find(node.ino) if position else None
        return found or self._listings.keep(node.ino, make_listing(self.tree.nodes.readdir_shown(node)))

    def _readdir(self, request: Request) -> bytes:
        _, position, size, *_ = p.READ_IN.unpack_from(request.buffer, p.BODY)
        tree = self.tree
        pieces: list[bytes] = []
        with self._guard:
            node = tree.pins.node_at(request.ino)
            listing = self._list(node, position)
            left = self._add_dots(pieces, node, position, size, b"")
            for index in range(listing.after(position), len(listing.names)):
                name, kind = listing.names[index]
                known = node.children.get(name)
                # The number of an entry that nothing has looked up is not known; with 0, programs would skip the entry.
                piece = p.pack_dirent(
                    p.DIRENT.pack(known.ino if known else 1, listing.positions[index], len(name), kind >> 12), name
                )
                left -= len(piece)
                if left < 0:
                    break
                pieces.append(piece)
            if not pieces:
                self._listings.drop(node.ino)
        return b"".join(pieces)

    def _readdirplus(self, request: Request) -> bytes:
        _, position, size, *_ = p.READ_IN.unpack_from(request.buffer, p.BODY)
        tree, answers = self.tree, self._answers
        with self._guard:
            node = tree.pins.node_at(request.ino)
            if answers is None:
                if self._forgetting is not None:
                    self._forgetting.look()
                return self._list_told(node, position, size)[0]
            found = answers.find(node.ino, position, size)
            if found is not None:
                tree.pins.pin_all(found[1])
                return found[0]
            if self._forgetting is not None:
                self._forgetting.look()
            body, told = self._list_told(node, position, size)
            if told is not None:
                answers.keep(node.ino, position, size, body, told)
            return body

    def _list_told(self, node: Node, position: int, size: int) -> tuple[bytes, list[Node] | None]:
        """Describe the next entries of a directory to the kernel, which knows them from now on.

        Called with the tree's lock held.

        Gives the nodes, too; None where some were left out because their sizes are on another machine.
        """
        tree = self.tree
        pieces: list[bytes] = []
        told: list[Node] = []
        listing = self._list(node, position)
        if not position and node.lower is not None:
            tree.lower.learn_sizes(node.lower)
        left = self._add_dots(pieces, node, position, size, p.HIDDEN_ENTRY)
        known, below = node.children, tree.nodes.lower_children(node)
        is_whole = True
        for index in range(listing.after(position), len(listing.names)):
            name, kind = listing.names[index]
            left -= p.ENTRY_OUT.size + (p.DIRENT.size + len(name) + 7 & ~7)
            if left < 0:
                break
            lower = below.get(name)
            if lower is not None and name not in known:
                try:
                    child, length = tree.pins.show_lower(node, name, lower)
                except _UNTOLD:  # then as below
                    pass
                else:
                    place = listing.positions[index]
                    pieces.append(
                        p.pack_listed(child.ino, lower.mode, tree.nodes.owner, length, lower.mtime_ns, place, name)
                    )
                    told.append(child)
                    continue
            found = tree.nodes.find(node, name)
            if found is None:  # removed since it was listed
                continue
            try:
                entry = self.told(found)
                told.append(found)
            except FileNotFoundError:
                continue
            except _UNTOLD:  # list the name without the size
                entry = p.HIDDEN_ENTRY
                is_whole = False
            pieces.append(
                p.pack_dirent(entry + p.DIRENT.pack(found.ino, listing.positions[index], len(name), kind >> 12), name)
            )
        if not pieces:
            self._listings.drop(node.ino)
        return b"".join(pieces), told if is_whole else None

    @staticmethod
    def _add_dots(pieces: list[bytes], node: Node, position: int, size: int, prefix: bytes) -> int:
        """Begin a listing with `.` and `..`; give the room that is left."""
        above = node.parent or node
        for place, name, ino in ((DOT, b".", node.ino), (DOT_DOT, b"..", above.ino)):
            if position < place:
                piece = p.pack_dirent(prefix + p.DIRENT.pack(ino, place, len(name), stat.S_IFDIR >> 12), name)
                pieces.append(piece)
                size -= len(piece)
        return size

    # --- content ---------------------------------------------------------------------------------------------

    def read_now(self, request: Request) -> bytes | None:
        """Read what can be had at once; None if a big blob has to be taken out of its pack first."""
        _, offset, size, *_ = p.READ_IN.unpack_from(request.buffer, p.BODY)
        return self.tree.contents.read_now(self.tree.pins.node_at(request.ino), size, offset)

    def read(self, request: Request) -> bytes | None:
        """Read, however long it takes. The kernel does not keep a `.git` of which git's index is still behind."""
        _, offset, size, *_ = p.READ_IN.unpack_from(request.buffer, p.BODY)
        node = self.tree.pins.node_at(request.ino)
        found = self.tree.contents.read(node, size, offset)
        if node is not self.tree.nodes.git_file or not self.tree.nodes.is_git_behind:
            return found
        self._channel.reply(request, found)
        # In a thread of its own: the kernel waits there for other reads of the file, which wait for this thread.
        threading.Thread(target=self._channel.forget_content, args=(node.ino,), name="avfs-git", daemon=True).start()
        return None

    def _write(self, request: Request) -> bytes:
        offset, size, flags = p.WRITE_HEAD.unpack_from(request.buffer, p.BODY)
        tree = self.tree
        node = tree.pins.node_at(request.ino)
        # A page that a program has changed already would be lost if a quota refused it.
        with tree.upper.quota.lifted() if flags & p.WRITE_CACHE else nullcontext():
            done = tree.contents.write(node, request.view[_WRITTEN_AT : _WRITTEN_AT + size], offset)
        if flags & p.WRITE_KILL_SUIDGID:
            self._drop_and_tell(request, node)
        return p.WRITE_OUT.pack(done)

    def _fsync(self, _request: Request, node: Node, _handle: int, flags: int) -> None:
        self.tree.contents.sync(node, data_only=bool(flags & p.FSYNC_DATA_ONLY))

    def _fallocate(self, request: Request, node: Node, _handle: int, offset: int, length: int, mode: int) -> None:
        self._drop_for_others(request, node)
        self.tree.contents.allocate(node, mode, offset, length)

    def _lseek(self, _request: Request, node: Node, _handle: int, offset: int, whence: int) -> bytes:
        return p.LSEEK_OUT.pack(self.tree.contents.seek(node, offset, whence))

    def _copy_file_range(self, request: Request, source: Node, *fields: int) -> bytes:
        _, offset, target_ino, _, target_offset, length, _ = fields
        tree = self.tree
        target = tree.pins.node_at(target_ino)
        self._drop_for_others(request, target)
        done = tree.contents.copy_range(source, offset, target, target_offset, min(length, _COPY_MAX))
        return p.WRITE_OUT.pack(done)


def _sized(value: bytes, size: int) -> bytes:
    """Answer with an attribute, or with its size if that is asked for."""
    if not size:
        return p.GETXATTR_OUT.pack(len(value))
    if len(value) > size:
        raise fail(errno.ERANGE)
    return value
