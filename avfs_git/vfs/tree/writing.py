"""Writing files as a whole: what the library's file operations do, not programs.

Decided here: how a file is replaced. It is made complete in `work` and gets its name in one step, so that no reader
sees half of it, and a kill leaves the old content or the new. Two kinds of files are written in place: one with several
hard links, because its other names must see the change, and one in a directory that is closed to an ordinary user.

`vfs.tree.merged` calls this with a directory and a name, and with the tree's lock held, unless a docstring says
otherwise.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial

from avfs_git import faults
from avfs_git.errors import QuotaExceeded
from avfs_git.host.files.durable import write_all
from avfs_git.values import NamedTuple
from avfs_git.vfs.errnos import fail
from avfs_git.vfs.layer.upper import put_times
from avfs_git.vfs.tree.attributes import Attributes
from avfs_git.vfs.tree.changes import Changes
from avfs_git.vfs.tree.contents import Contents
from avfs_git.vfs.tree.inodes import Node
from avfs_git.vfs.tree.making import Making, Owner
from avfs_git.vfs.tree.namespace import Namespace
from avfs_git.vfs.tree.nodes import Nodes
from avfs_git.vfs.tree.pins import Pins
from avfs_git.vfs.tree.steps import Steps

_COLLECTED_MAX = 1 << 20
"""Contents up to this size are collected in memory."""

Data = bytes | bytearray | memoryview


class Prepared(NamedTuple):
    """A content that is complete in a file in `work`, which has yet to get its name in the tree."""

    temporary: bytes
    fd: int


Content = Data | Prepared | Iterable[bytes]
Xattrs = Sequence[tuple[bytes, bytes]]


class _Old(NamedTuple):
    """What a file keeps when it is replaced."""

    mode: int
    owner: Owner | None
    xattrs: Xattrs
    size: int
    """Its size in the upper layer."""


def _kept(xattrs: Iterable[tuple[bytes, bytes]]) -> Xattrs:
    """Give the attributes that stay when the kernel writes to a file."""
    return tuple(pair for pair in xattrs if pair[0] != b"security.capability")


def _kept_mode(mode: int) -> int:
    """Give the mode that stays when the kernel writes to a file: only root's writes leave set-uid and set-gid."""
    if os.geteuid() == 0:
        return mode
    return mode & ~(stat.S_ISUID | (stat.S_ISGID if mode & stat.S_IXGRP else 0))


class Writing:
    """Writes the files of a tree as a whole."""

    def __init__(
        self,
        nodes: Nodes,
        pins: Pins,
        changes: Changes,
        steps: Steps,
        contents: Contents,
        attributes: Attributes,
        making: Making,
        namespace: Namespace,
    ) -> None:
        self._nodes = nodes
        self._lock = nodes.lock
        self._upper = nodes.upper
        self._dir_fd = nodes.dir_fd
        self._pins = pins
        self._changes = changes
        self._bring_up = steps.bring_up
        self._writable = contents.writable
        self._read_xattrs = attributes.read_xattrs
        self._making = making
        self._detach = namespace.detach
        self._quota = nodes.upper.quota

    def write(self, parent: Node, name: bytes, node: Node | None, data: Content, mode: int | None) -> Node:
        """Make a name hold a file with this content; `node` is what has the name now."""
        if node is None:
            self._making.check_name(parent, name)
            return self._write_new(parent, name, data, mode)
        if node.kind != stat.S_IFREG:
            raise fail(errno.EISDIR if node.is_dir else errno.EINVAL, name)
        if not node.upper:
            self._bring_up(parent)
            entry = node.lower
            if entry is None:
                raise fail(errno.ENOENT, name)
            old, show = _Old(entry.mode, None, _kept(entry.xattrs), 0), self._upper.show
        else:
            directory = self._dir_fd(parent)
            status = os.stat(name, dir_fd=directory.fd, follow_symlinks=False)
            if status.st_nlink > 1:
                return self._write_in_place(node, data, mode)
            xattrs = _kept(self._read_xattrs(node).items()) if node.has_xattrs else ()
            old, show = (
                _Old(status.st_mode, (status.st_uid, status.st_gid), xattrs, status.st_size),
                self._upper.show_instead,
            )
        return self._replace(parent, name, node, old, data, mode, show)

    @contextlib.contextmanager
    def collected(self, data: Content) -> Iterator[Content]:
        """Take a content whole; a large one becomes a file that only needs its name.

        Called without the lock: the source of the pieces may be slow, or wait for this very tree.
        """
        first: list[Data] = []
        size = 0
        source = iter(pieces_of(data))
        for piece in source:
            first.append(piece)
            size += len(piece)
            if size > _COLLECTED_MAX:
                break
        else:
            yield first[0] if len(first) == 1 else b"".join(first)
            return
        temporary, fd = self._upper.make_file(flags=os.O_RDWR)
        try:
            self._write_pieces(fd, first)
            first.clear()
            self._write_pieces(fd, source)
            yield Prepared(temporary, fd)
        finally:
            os.close(fd)
            self._upper.discard(temporary)  # where it did not get its name

    def _make_content(
        self,
        data: Content,
        mode: int | None,
        *,
        owner: Owner | None = None,
        xattrs: Xattrs = (),
    ) -> tuple[bytes, int, int]:
        """Write a new file in `work`; give its name, the descriptor, which the caller closes, and its size in bytes."""
        if isinstance(data, Prepared):
            temporary, fd = data.temporary, os.dup(data.fd)
        else:
            temporary, fd = self._upper.make_file(flags=os.O_RDWR)
        try:
            if isinstance(data, Prepared):
                os.utime(fd)  # it is written now, as programs see it
            else:
                self._write_pieces(fd, pieces_of(data))
            if xattrs:  # before the mode, which may forbid to set them
                self._upper.write_user_xattrs(fd, xattrs)
            if owner is not None and owner != self._nodes.owner:
                try:
                    os.fchown(fd, *owner)
                except PermissionError:
                    pass  # an ordinary user may not give files away; what it writes anew becomes its own
            made = os.fstat(fd)
            if mode is not None and stat.S_IMODE(made.st_mode) != mode & 0o7777:
                os.fchmod(fd, mode & 0o7777)
            faults.reach("write.made")
        except BaseException:
            os.close(fd)
            self._upper.discard(temporary)
            raise
        return temporary, fd, made.st_size

    def _write_new(self, parent: Node, name: bytes, data: Content, mode: int | None) -> Node:
        self._bring_up(parent)
        directory = self._dir_fd(parent)
        temporary, fd, size = self._make_content(data, mode)
        os.close(fd)
        try:
            self._quota.check(grows=size, files=1, size=size)
            if self._making.hands_group_on(parent):
                self._making.give_owner(parent, self._upper.work.fd, temporary, mode, None, hidden=True)
            self._upper.put(temporary, directory.fd, name)
        except BaseException:
            self._upper.discard(temporary)
            raise
        self._quota.add(grows=size, files=1)
        faults.reach("write.shown")
        node = self._nodes.add_made(parent, name, stat.S_IFREG)
        path = self._nodes.path_in(parent, name)
        self._nodes.remember_path(path, node)
        self._changes.of_path(path)
        return node

    def install(self, parent: Node, name: bytes, temporary: bytes) -> Node:
        """Give a file that is complete in `work` a name, in place of a file or symbolic link. Takes the lock.

        On failure the file stays in `work`. The caller has asked the quota for all that it installs.
        """
        with self._lock:
            self._making.check_name(parent, name)
            old = self._nodes.child(parent, name)
            if old is not None and old.is_dir:
                raise fail(errno.EISDIR, name)
            self._bring_up(parent)
            directory = self._dir_fd(parent)
            gone = self._quota.measure(directory.fd, name) if old is not None and old.upper and not old.pins else None
            made = self._quota.measure(self._upper.work.fd, temporary)
            try:
                if old is not None:
                    self._pins.prepare_unlink(old)
                is_up = old is not None and old.upper
                (self._upper.show_instead if is_up else self._upper.put)(temporary, directory.fd, name)
            except BaseException:
                self._pins.cancel_unlink()
                raise
            self._quota.leave(gone)
            if made is not None:
                self._quota.add(grows=made.size_bytes, files=1)
            if old is not None:
                self._detach(parent, name, old)
            node = self._nodes.add_made(parent, name, stat.S_IFREG)
            node.has_xattrs = True
            self._changes.of_node(node)
            return node

    def _replace(
        self,
        parent: Node,
        name: bytes,
        node: Node,
        old: _Old,
        data: Content,
        mode: int | None,
        show: Callable[[bytes, int, bytes], None],
    ) -> Node:
        """Put a new file in place of one; nothing of the old content is copied up."""
        directory = self._dir_fd(parent)
        before = os.stat(directory.fd)
        wanted = _kept_mode(old.mode) if mode is None else mode
        temporary, fd, size = self._make_content(data, wanted, owner=old.owner, xattrs=old.xattrs)
        grows, files = (size - old.size, 0) if node.upper and not node.pins else (size, 1)
        try:
            self._quota.check(grows=grows, files=files, size=size)
        except QuotaExceeded:
            os.close(fd)
            self._upper.discard(temporary)
            raise
        if not self._show_made(node, temporary, fd, mode, partial(show, temporary, directory.fd, name)):
            return node
        self._quota.add(grows=grows, files=files)
        put_times(directory.fd, before)
        if node.pins:  # the old file is still in use
            self._detach(parent, name, node)
            node = self._nodes.add_made(parent, name, stat.S_IFREG)
        else:
            self._nodes.inodes.unlink_from_disk(node)
            node.upper, node.lower, node.links = True, None, 1
            if parent.listing is not None:
                parent.listing[name] = stat.S_IFREG
        node.has_xattrs = bool(old.xattrs)
        node.descriptor = None
        self._changes.of_node(node)
        return node

    def _show_made(self, node: Node, temporary: bytes, fd: int, mode: int | None, show: Callable[[], None]) -> bool:
        """Give a file made in `work` the name of an old one; close its descriptor.

        Where the directory is closed to an ordinary user, write the content into the old file instead, and return
        False: as for any program, the mode of the file decides then.
        """
        try:
            self._pins.prepare_unlink(node)
            show()
        except PermissionError:
            self._pins.cancel_unlink()
            self._upper.discard(temporary)
            self._write_in_place(node, _read_pieces(fd), mode)
            return False
        except BaseException:
            self._pins.cancel_unlink()
            self._upper.discard(temporary)
            raise
        finally:
            os.close(fd)
        faults.reach("write.shown")
        return True

    def _write_in_place(self, node: Node, data: Content, mode: int | None) -> Node:
        held = self._writable(node)
        quota = self._quota
        if quota.limits is None:
            return self._write_over(node, held.fd, data, mode)
        before = os.fstat(held.fd).st_size
        with self.collected(data) as whole:  # so that it is refused before any of it is written
            size = (
                os.fstat(whole.fd).st_size
                if isinstance(whole, Prepared)
                else sum(len(piece) for piece in pieces_of(whole))
            )
            quota.check(grows=size - before, size=size)
            try:
                return self._write_over(node, held.fd, whole, mode)
            finally:
                quota.add(grows=os.fstat(held.fd).st_size - before)

    def _write_over(self, node: Node, fd: int, data: Content, mode: int | None) -> Node:
        offset = 0
        try:
            for piece in pieces_of(data):
                view = memoryview(piece)
                while view:
                    count = os.pwrite(fd, view, offset)
                    offset += count
                    view = view[count:]
            # Cut last: cutting to nothing first makes ext4 write all data out at once (`auto_da_alloc`).
            os.ftruncate(fd, offset)
            if mode is not None:
                os.fchmod(fd, mode & 0o7777)
        finally:
            self._changes.of_node(node)
        return node

    def _write_pieces(self, fd: int, pieces: Iterable[Data]) -> None:
        size, most = 0, self._quota.largest()
        for piece in pieces:
            if most is not None and size + len(piece) > most:
                self._quota.check(grows=size + len(piece), size=size + len(piece))
            size += len(piece)
            write_all(fd, memoryview(piece) if isinstance(piece, bytearray) else piece)


def pieces_of(data: Content) -> Iterable[Data]:
    """Give a content in pieces."""
    if isinstance(data, Prepared):
        return _read_pieces(data.fd)
    return (data,) if isinstance(data, Data) else data


def _read_pieces(fd: int) -> Iterator[bytes]:
    offset = 0
    while piece := os.pread(fd, 1 << 20, offset):
        yield piece
        offset += len(piece)
