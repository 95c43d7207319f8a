"""A live tree: each request of the kernel as a call of the merged tree.

Decided here: how a request becomes a call of `MergedTree` and its result a reply, and nothing else: what a
filesystem is, `vfs` knows. Whoever serves a workspace makes a `TreeServer` over its merged tree while holding
the workspace's lock, and calls `serve`, which returns when the tree is unmounted.

Opening and closing need no request: OPEN and OPENDIR are answered with ENOSYS once, and never asked again. So is CREATE,
after which the kernel makes files with MKNOD: a file that CREATE has opened would be closed with a request. What
keeps an unlinked file that is still open alive is the kernel's reference to its node: each node that is told to the
kernel is pinned, and unpinned when the kernel forgets it. Finding a node and pinning it is one step under the
tree's lock, so that no other thread can drop it in between.

One thread serves: measured, a second one that also waits for requests costs a third more CPU a request, because the
two take the interpreter from each other, and gains nothing. What may wait long for the disk (`_SLOW`) is passed to a few
helpers, so that an fsync does not stop a listing. Requests about names hold the tree's lock for as long as they
take; forcing to disk and copying leave it meanwhile. File locks stay in the kernel.

Nothing is kept here that is not in the tree; a server that is killed takes the pins and the numbers of the nodes
with it.
"""

from __future__ import annotations

import errno
import os
import stat
from collections import Counter
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor

from avfs_git.fuse import protocol as p
from avfs_git.fuse.channel import Channel, Request
from avfs_git.fuse.errnos import errno_of
from avfs_git.fuse.listing import DOT, DOT_DOT, Listing, Listings, make_listing
from avfs_git.host.ranges import fallocate
from avfs_git.vfs.merged import MergedTree, Node
from avfs_git.vfs.view import fail

_HELPERS = 4
_SLOW = frozenset({p.FSYNC, p.FSYNCDIR, p.FALLOCATE, p.COPY_FILE_RANGE})
_COPY_MAX = 64 << 20
"""How much one COPY_FILE_RANGE copies at most: a program that is killed meanwhile waits for no more than that."""
_CAPABILITY = b"security.capability"

Handler = Callable[[Request], bytes | None]


class TreeServer:
    """Serves one merged tree on one channel.

    Attributes:
        counts: How many requests of each operation came, by its number; for tests and for people.
    """

    def __init__(self, tree: MergedTree, channel: Channel) -> None:
        self.tree = tree
        self.channel = channel
        self.counts: Counter[int] = Counter()
        self._listings = Listings()
        self._uid, self._gid = os.geteuid(), os.getegid()
        self._handlers: Mapping[int, Handler] = {
            p.LOOKUP: self._lookup,
            p.FORGET: self._forget,
            p.BATCH_FORGET: self._batch_forget,
            p.GETATTR: self._getattr,
            p.SETATTR: self._setattr,
            p.READLINK: self._readlink,
            p.SYMLINK: self._symlink,
            p.MKNOD: self._mknod,
            p.MKDIR: self._mkdir,
            p.UNLINK: self._unlink,
            p.RMDIR: self._rmdir,
            p.RENAME: self._rename,
            p.RENAME2: self._rename2,
            p.LINK: self._link,
            p.TMPFILE: self._tmpfile,
            p.READ: self._read,
            p.WRITE: self._write,
            p.STATFS: self._statfs,
            p.FSYNC: self._fsync,
            p.FSYNCDIR: self._fsync,
            p.SETXATTR: self._setxattr,
            p.GETXATTR: self._getxattr,
            p.LISTXATTR: self._listxattr,
            p.REMOVEXATTR: self._removexattr,
            p.READDIR: self._readdir,
            p.READDIRPLUS: self._readdirplus,
            p.FALLOCATE: self._fallocate,
            p.LSEEK: self._lseek,
            p.COPY_FILE_RANGE: self._copy_file_range,
            p.INTERRUPT: self._no_answer,
            p.DESTROY: self._destroy,
        }

    def serve(self) -> None:
        """Answer requests until the tree is unmounted."""
        channel, counts = self.channel, self.counts
        request = Request()
        with ThreadPoolExecutor(_HELPERS, "avfs-helper") as helpers:
            while channel.receive(request):
                operation = request.operation
                counts[operation] += 1
                if operation in _SLOW:
                    helpers.submit(self._answer, request.copy())
                else:
                    self._answer(request)

    def _answer(self, request: Request) -> None:
        handler = self._handlers.get(request.operation)
        if handler is None:
            self.channel.reply_error(request, errno.ENOSYS)
            return
        try:
            body = handler(request)
        except Exception as error:  # noqa: BLE001 - one failing request must not end the tree for every program
            doing = f"{p.OPERATION_NAMES.get(request.operation, str(request.operation))} of node {request.ino}"
            self.channel.reply_error(request, errno_of(error, doing))
        else:
            if body is not None:
                self.channel.reply(request, body)

    # --- nodes -----------------------------------------------------------------------------------------------

    def _told(self, node: Node) -> bytes:
        """Describe a node to the kernel, which knows it from now on. Called with the tree's lock held."""
        body = p.pack_entry(self.tree.getattr(node))
        self.tree.pin(node)
        return body

    def _owner(self, request: Request) -> tuple[int, int] | None:
        uid, gid = request.uid, request.gid
        return None if uid == self._uid and gid == self._gid else (uid, gid)

    def _lookup(self, request: Request) -> bytes:
        tree = self.tree
        with tree.guard:
            node = tree.find(tree.node_at(request.ino), request.name_at(p.BODY))
            return p.NO_ENTRY if node is None else self._told(node)

    def _forget(self, request: Request) -> None:
        self._unpin(request.ino, p.FORGET_IN.unpack_from(request.buffer, p.BODY)[0])

    def _batch_forget(self, request: Request) -> None:
        count, _ = p.BATCH_FORGET_IN.unpack_from(request.buffer, p.BODY)
        start = p.BODY + p.BATCH_FORGET_IN.size
        for ino, times in p.FORGET_ONE.iter_unpack(request.view[start : start + count * p.FORGET_ONE.size]):
            self._unpin(ino, times)

    def _unpin(self, ino: int, times: int) -> None:
        node = self.tree.inodes.find(ino)
        if node is not None:
            self.tree.unpin(node, times)

    def _no_answer(self, _request: Request) -> None:
        """Take note of a request that has no reply; one that is interrupted is answered in its own time."""

    def _destroy(self, _request: Request) -> bytes:
        return b""

    # --- attributes ------------------------------------------------------------------------------------------

    def _getattr(self, request: Request) -> bytes:
        tree = self.tree
        return p.pack_attr(tree.getattr(tree.node_at(request.ino)))

    def _setattr(self, request: Request) -> bytes:
        (valid, _, size, _, atime_s, mtime_s, _, atime_ns, mtime_ns, _, mode, _, uid, gid, _) = p.SETATTR_IN.unpack_from(
            request.buffer, p.BODY
        )
        tree = self.tree
        with tree.guard:
            node = tree.node_at(request.ino)
            if valid & p.FATTR_SIZE:
                tree.truncate(node, size)
            if valid & (p.FATTR_UID | p.FATTR_GID):
                tree.chown(node, uid if valid & p.FATTR_UID else -1, gid if valid & p.FATTR_GID else -1)
            if valid & p.FATTR_MODE:  # after the owner, a change of which takes set-uid away
                tree.chmod(node, stat.S_IMODE(mode))
            elif valid & p.FATTR_KILL_SUIDGID:
                self._drop_privileges(node)
            if valid & (p.FATTR_ATIME | p.FATTR_MTIME):  # last, because all of the above set them
                tree.utimens(
                    node,
                    atime_ns=atime_s * 1_000_000_000 + atime_ns if valid & p.FATTR_ATIME else None,
                    mtime_ns=mtime_s * 1_000_000_000 + mtime_ns if valid & p.FATTR_MTIME else None,
                )
            return p.pack_attr(tree.getattr(node))

    def _drop_privileges(self, node: Node) -> None:
        """Take set-uid, set-gid and capabilities from a file that somebody changes who may not give them.

        The system does so by itself when an ordinary user's server writes; for root's it is done here.
        """
        if self._uid != 0:
            return
        tree = self.tree
        mode = stat.S_IMODE(tree.getattr(node).mode)
        kept = mode & ~stat.S_ISUID
        if mode & stat.S_IXGRP:  # without it the bit means mandatory locking
            kept &= ~stat.S_ISGID
        if kept != mode:
            tree.chmod(node, kept)
        if node.has_xattrs and _CAPABILITY in tree.read_xattrs(node):
            tree.remove_xattr(node, _CAPABILITY)

    def _statfs(self, _request: Request) -> bytes:
        found = os.fstatvfs(self.tree.upper.root.fd)
        return p.STATFS_OUT.pack(
            found.f_blocks, found.f_bfree, found.f_bavail, found.f_files, found.f_ffree,
            found.f_bsize, min(found.f_namemax, 255), found.f_frsize, 0,
        )  # fmt: skip

    def _setxattr(self, request: Request) -> bytes:
        size, flags = p.SETXATTR_IN.unpack_from(request.buffer, p.BODY)
        data = bytes(request.view[p.BODY + p.SETXATTR_IN.size : request.end])
        name, _, value = data.partition(b"\0")
        self.tree.set_xattr(self.tree.node_at(request.ino), name, value[:size], flags=flags)
        return b""

    def _getxattr(self, request: Request) -> bytes:
        size, _ = p.GETXATTR_IN.unpack_from(request.buffer, p.BODY)
        tree = self.tree
        value = tree.get_xattr(tree.node_at(request.ino), request.name_at(p.BODY + p.GETXATTR_IN.size))
        return _sized(value, size)

    def _listxattr(self, request: Request) -> bytes:
        size, _ = p.GETXATTR_IN.unpack_from(request.buffer, p.BODY)
        tree = self.tree
        found = tree.read_xattrs(tree.node_at(request.ino))
        return _sized(b"".join(name + b"\0" for name in found), size)

    def _removexattr(self, request: Request) -> bytes:
        tree = self.tree
        tree.remove_xattr(tree.node_at(request.ino), request.name_at(p.BODY))
        return b""

    # --- names -----------------------------------------------------------------------------------------------

    def _readlink(self, request: Request) -> bytes:
        tree = self.tree
        return tree.readlink(tree.node_at(request.ino))

    def _symlink(self, request: Request) -> bytes:
        name, target = request.names_at(p.BODY)
        tree = self.tree
        with tree.guard:
            return self._told(tree.symlink(tree.node_at(request.ino), name, target, owner=self._owner(request)))

    def _mknod(self, request: Request) -> bytes:
        mode, rdev, _, _ = p.MKNOD_IN.unpack_from(request.buffer, p.BODY)
        name = request.name_at(p.BODY + p.MKNOD_IN.size)
        tree = self.tree
        with tree.guard:
            parent = tree.node_at(request.ino)
            return self._told(tree.mknod(parent, name, mode, p.decode_rdev(rdev), owner=self._owner(request)))

    def _mkdir(self, request: Request) -> bytes:
        mode, _ = p.MKDIR_IN.unpack_from(request.buffer, p.BODY)
        name = request.name_at(p.BODY + p.MKDIR_IN.size)
        tree = self.tree
        with tree.guard:
            parent = tree.node_at(request.ino)
            return self._told(tree.mkdir(parent, name, stat.S_IMODE(mode), owner=self._owner(request)))

    def _tmpfile(self, request: Request) -> bytes:
        _, mode, _, _ = p.CREATE_IN.unpack_from(request.buffer, p.BODY)
        tree = self.tree
        with tree.guard:
            parent = tree.node_at(request.ino)
            node = tree.create_unnamed(parent, stat.S_IMODE(mode), owner=self._owner(request))
            return self._told(node) + p.OPEN_OUT.pack(0, 0, 0)

    def _unlink(self, request: Request) -> bytes:
        tree = self.tree
        with tree.guard:
            tree.unlink(tree.node_at(request.ino), request.name_at(p.BODY))
        return b""

    def _rmdir(self, request: Request) -> bytes:
        tree = self.tree
        with tree.guard:
            tree.rmdir(tree.node_at(request.ino), request.name_at(p.BODY))
        return b""

    def _rename(self, request: Request) -> bytes:
        (new_parent,) = p.RENAME_IN.unpack_from(request.buffer, p.BODY)
        return self._move(request, new_parent, p.BODY + p.RENAME_IN.size, 0)

    def _rename2(self, request: Request) -> bytes:
        new_parent, flags = p.RENAME2_IN.unpack_from(request.buffer, p.BODY)
        return self._move(request, new_parent, p.BODY + p.RENAME2_IN.size, flags)

    def _move(self, request: Request, new_parent: int, start: int, flags: int) -> bytes:
        name, new_name = request.names_at(start)
        tree = self.tree
        with tree.guard:
            tree.rename(tree.node_at(request.ino), name, tree.node_at(new_parent), new_name, flags=flags)
        return b""

    def _link(self, request: Request) -> bytes:
        (ino,) = p.LINK_IN.unpack_from(request.buffer, p.BODY)
        tree = self.tree
        with tree.guard:
            node = tree.link(tree.node_at(ino), tree.node_at(request.ino), request.name_at(p.BODY + p.LINK_IN.size))
            return self._told(node)

    # --- listings --------------------------------------------------------------------------------------------

    def _list(self, node: Node, position: int) -> Listing:
        """Find the listing that is being read, or begin one. Called with the tree's lock held."""
        found = self._listings.find(node.ino) if position else None
        return found or self._listings.keep(node.ino, make_listing(self.tree.readdir(node)))

    def _readdir(self, request: Request) -> bytes:
        _, position, size, *_ = p.READ_IN.unpack_from(request.buffer, p.BODY)
        tree = self.tree
        pieces: list[bytes] = []
        with tree.guard:
            node = tree.node_at(request.ino)
            listing = self._list(node, position)
            left = self._add_dots(pieces, node, position, size, b"")
            for index in range(listing.after(position), len(listing.names)):
                name, kind = listing.names[index]
                known = node.children.get(name)
                # The number of what nobody has looked at is not known; 0 would make programs skip the entry.
                piece = _dirent(p.DIRENT.pack(known.ino if known else 1, listing.positions[index], len(name), kind >> 12), name)
                left -= len(piece)
                if left < 0:
                    break
                pieces.append(piece)
            if not pieces:
                self._listings.drop(node.ino)
        return b"".join(pieces)

    def _readdirplus(self, request: Request) -> bytes:
        _, position, size, *_ = p.READ_IN.unpack_from(request.buffer, p.BODY)
        tree = self.tree
        pieces: list[bytes] = []
        with tree.guard:
            node = tree.node_at(request.ino)
            listing = self._list(node, position)
            left = self._add_dots(pieces, node, position, size, p.HIDDEN_ENTRY)
            for index in range(listing.after(position), len(listing.names)):
                name, kind = listing.names[index]
                left -= p.ENTRY_OUT.size + (p.DIRENT.size + len(name) + 7 & ~7)
                if left < 0:
                    break
                child = tree.find(node, name)
                if child is None:  # removed since it was listed
                    continue
                try:
                    entry = self._told(child)
                except FileNotFoundError:
                    continue
                pieces.append(_dirent(entry + p.DIRENT.pack(child.ino, listing.positions[index], len(name), kind >> 12), name))
            if not pieces:
                self._listings.drop(node.ino)
        return b"".join(pieces)

    @staticmethod
    def _add_dots(pieces: list[bytes], node: Node, position: int, size: int, prefix: bytes) -> int:
        """Begin a listing with `.` and `..`; give the room that is left."""
        above = node.parent or node
        for place, name, ino in ((DOT, b".", node.ino), (DOT_DOT, b"..", above.ino)):
            if position < place:
                piece = _dirent(prefix + p.DIRENT.pack(ino, place, len(name), stat.S_IFDIR >> 12), name)
                pieces.append(piece)
                size -= len(piece)
        return size

    # --- content ---------------------------------------------------------------------------------------------

    def _read(self, request: Request) -> bytes:
        _, offset, size, *_ = p.READ_IN.unpack_from(request.buffer, p.BODY)
        tree = self.tree
        return tree.read(tree.node_at(request.ino), size, offset)

    def _write(self, request: Request) -> bytes:
        _, offset, size, flags, *_ = p.WRITE_IN.unpack_from(request.buffer, p.BODY)
        tree = self.tree
        node = tree.node_at(request.ino)
        start = p.BODY + p.WRITE_IN.size
        done = tree.write(node, request.view[start : start + size], offset)
        if flags & p.WRITE_KILL_SUIDGID:
            self._drop_privileges(node)
        return p.WRITE_OUT.pack(done)

    def _fsync(self, request: Request) -> bytes:
        _, flags = p.FSYNC_IN.unpack_from(request.buffer, p.BODY)
        tree = self.tree
        tree.sync(tree.node_at(request.ino), data_only=bool(flags & p.FSYNC_DATA_ONLY))
        return b""

    def _fallocate(self, request: Request) -> bytes:
        _, offset, length, mode = p.FALLOCATE_IN.unpack_from(request.buffer, p.BODY)
        tree = self.tree
        node = tree.node_at(request.ino)
        fd = tree.open_file(node, os.O_RDWR)
        try:
            fallocate(fd, mode, offset, length)
        finally:
            os.close(fd)
            tree.mark_changed(node)
        return b""

    def _lseek(self, request: Request) -> bytes:
        _, offset, whence = p.LSEEK_IN.unpack_from(request.buffer, p.BODY)
        tree = self.tree
        node = tree.node_at(request.ino)
        with tree.guard:
            if not node.upper:  # stored whole: no holes but the one behind its end
                size = tree.getattr(node).size
                if offset >= size:
                    raise fail(errno.ENXIO)
                return p.LSEEK_OUT.pack(size if whence == os.SEEK_HOLE else offset)
            fd = tree.open_file(node, os.O_RDONLY)
        try:
            return p.LSEEK_OUT.pack(os.lseek(fd, offset, whence))
        finally:
            os.close(fd)

    def _copy_file_range(self, request: Request) -> bytes:
        _, offset, target_ino, _, target_offset, length, _ = p.COPY_FILE_RANGE_IN.unpack_from(request.buffer, p.BODY)
        tree = self.tree
        source, target = tree.node_at(request.ino), tree.node_at(target_ino)
        out = tree.open_file(target, os.O_RDWR)  # first: if both are one file, it is brought up before it is read
        try:
            into = tree.open_file(source, os.O_RDONLY)
            try:
                done = os.copy_file_range(into, out, min(length, _COPY_MAX), offset, target_offset)
            finally:
                os.close(into)
        finally:
            os.close(out)
            tree.mark_changed(target)
        return p.WRITE_OUT.pack(done)


def _sized(value: bytes, size: int) -> bytes:
    """Answer with an attribute, or with its size if that is asked for."""
    if not size:
        return p.GETXATTR_OUT.pack(len(value))
    if len(value) > size:
        raise fail(errno.ERANGE)
    return value


def _dirent(head: bytes, name: bytes) -> bytes:
    piece = head + name
    return piece + bytes(-len(piece) % 8)
