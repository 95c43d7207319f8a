"""The merged view by path: what the library's file operations call.

Decided here: how a path leads to a node (symbolic links are followed inside the workspace and nowhere else), and
how a file is replaced as a whole. `MergedTree` is the one class that the rest of avfs uses: its nodes and names
come from `vfs.tree.view`, `vfs.tree.pins`, `vfs.tree.content`, `vfs.tree.copyup`, `vfs.tree.making` and `vfs.tree.namespace`,
whose assumptions hold here, too.

A file that is written as a whole is made complete in `work` and gets its name in one step, so that nobody reads
half of it and a kill leaves the old content or the new. Written in place is only a file with several hard links,
because its other names must see the change, and one whose directory is closed to an ordinary user.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial

from avfs_git import faults
from avfs_git.errors import PathEscapes
from avfs_git.host.files.durable import write_all
from avfs_git.paths import TreePath
from avfs_git.vfs.layer.upper import put_times
from avfs_git.vfs.tree.copyup import write_pieces
from avfs_git.vfs.tree.inodes import Node
from avfs_git.vfs.tree.making import Owner
from avfs_git.vfs.tree.namespace import Namespace
from avfs_git.vfs.tree.view import Attr, Listed, OnChange, fail

__all__ = ["Attr", "Listed", "MergedTree", "Node", "OnChange"]

MAX_SYMLINKS = 40  # as Linux counts them: path_resolution(7)
_PATHS_KEPT = 100_000
_COLLECTED_MAX = 1 << 20
"""Contents up to this size are collected in memory."""

Data = bytes | bytearray | memoryview
Xattrs = Sequence[tuple[bytes, bytes]]
Found = tuple[Node, bytes, Node | None]
"""The directory, the name in it, and what is there."""


class MergedTree(Namespace):
    """A workspace as a filesystem: its upper layer over its lower one."""

    # --- paths ---------------------------------------------------------------------------------------------

    def resolve(self, path: TreePath, *, follow_last: bool = True) -> Node:
        """Find the node at a path.

        Args:
            path: From the root of the workspace.
            follow_last: Whether a symbolic link at the end is followed.

        Raises:
            FileNotFoundError: If nothing is there.
            NotADirectoryError: If something on the way is no directory.
            PathEscapes: If a symbolic link leads out of the workspace.
            OSError: ELOOP after 40 symbolic links.
        """
        node = self._paths.get(path)
        if node is not None and not (follow_last and node.kind == stat.S_IFLNK):
            return node
        with self._lock:
            found = self._walk(path, follow_last=follow_last)[2]
        if found is None:
            raise fail(errno.ENOENT, path)
        return found

    def locate(self, path: TreePath, *, follow_last: bool = True) -> Found:
        """Find the directory and the name that a path means, and what is there, which may be nothing.

        The arguments and errors are those of `resolve`.
        """
        with self._lock:
            return self._walk(path, follow_last=follow_last)

    def _walk(self, path: TreePath, *, follow_last: bool) -> Found:
        above, _, last = path.rpartition(b"/")
        start = self._paths.get(above)
        if start is not None and start.kind == stat.S_IFDIR and last:
            # The directory is known, and by a path without symbolic links: only the last name is new.
            found = self._child(start, last)
            if found is None or not (follow_last and found.kind == stat.S_IFLNK):
                if found is not None:
                    self._remember_path(path, found)
                return start, last, found
            return self._walk_slowly(path, start, [last], follow_last=follow_last)
        return self._walk_slowly(path, self.root, path.split(b"/")[::-1], follow_last=follow_last)

    def _walk_slowly(self, path: TreePath, start: Node, pending: list[bytes], *, follow_last: bool) -> Found:
        parent, name, here = start, b"", start
        links = 0
        while pending:
            name = pending.pop()
            if here.kind != stat.S_IFDIR:
                raise fail(errno.ENOTDIR, path)
            if name in (b"", b"."):
                continue
            if name == b"..":
                if here is self.root:
                    raise PathEscapes(path)
                if here.parent is None:
                    raise fail(errno.ENOENT, path)
                here = here.parent
                continue
            parent = here
            found = self._child(parent, name)
            if found is None:
                if any(part not in (b"", b".") for part in pending):
                    raise fail(errno.ENOENT, path)
                if not links:
                    self._remember_path(path.rpartition(b"/")[0], parent)
                return parent, name, None
            if found.kind == stat.S_IFLNK and (pending or follow_last):
                links += 1
                if links > MAX_SYMLINKS:
                    raise fail(errno.ELOOP, path)
                pending += self._link_parts(path, found)
                continue
            here = found
        if not links:
            self._remember_path(path, here)
            if here.parent is not None:
                self._remember_path(path.rpartition(b"/")[0], parent)
        if here.parent is None:
            return here, b"", here
        return (parent, name, here) if here.parent is parent and here.name == name else (here.parent, here.name, here)

    def _link_parts(self, path: TreePath, link: Node) -> list[bytes]:
        target = self.readlink(link)
        if target.startswith(b"/"):
            raise PathEscapes(path)
        if not target:
            raise fail(errno.ENOENT, path)
        return target.split(b"/")[::-1]

    def _remember_path(self, path: bytes, node: Node) -> None:
        if len(self._paths) >= _PATHS_KEPT:
            self._forget_paths()
        self._paths[path] = node

    # --- reading -------------------------------------------------------------------------------------------

    def attr(self, path: TreePath, *, follow_last: bool = False) -> Attr:
        """Tell the attributes of what is at a path."""
        with self._lock:
            return self.getattr(self.resolve(path, follow_last=follow_last))

    def read_file(self, path: TreePath) -> bytes:
        """Read a whole file."""
        with self._lock:
            node = self._paths.get(path)
            if node is None or node.kind == stat.S_IFLNK:
                node = self.resolve(path)
            if node.upper or node.kind != stat.S_IFREG or node.lower is None:
                return self.read_all(node)
            entry = node.lower
        return self.lower.read(entry)

    # --- writing whole files -------------------------------------------------------------------------------

    def write_file(self, path: TreePath, data: Data | Iterable[bytes], *, mode: int | None = None) -> Node:
        """Make a file hold exactly this, whether or not it is there; the directory must be.

        Owner, mode and extended attributes of an old file stay, and the times of its directory.

        Args:
            path: Where; a symbolic link there is followed.
            data: Its new content, whole or in pieces. While pieces are taken nobody else can use the tree, unless it is
                shared: then they are collected first.
            mode: Exact permission bits to give it; None keeps, or for a new file leaves it to the umask.

        Raises:
            IsADirectoryError: If a directory is there.
            OSError: EINVAL if something else is there that is no regular file.
        """
        if self.is_shared and not isinstance(data, bytes | bytearray | memoryview):
            with self._collected(data) as pieces:
                return self._write_file(path, pieces, mode)
        return self._write_file(path, data, mode)

    def _write_file(self, path: TreePath, data: Data | Iterable[bytes], mode: int | None) -> Node:
        with self._lock:
            parent, name, node = self._walk(path, follow_last=True)
            if node is None:
                self._check_name(parent, name)
                return self._write_new(parent, name, data, mode)
            if node.kind != stat.S_IFREG:
                raise fail(errno.EISDIR if node.is_dir else errno.EINVAL, path)
            if not node.upper:
                return self._write_over_lower(parent, name, node, data, mode)
            directory = self._dir_fd(parent)
            status = os.stat(name, dir_fd=directory.fd, follow_symlinks=False)
            if status.st_nlink > 1:
                return self._write_in_place(node, data, mode)
            return self._write_over_upper(parent, name, node, status, data, mode)

    @contextlib.contextmanager
    def _collected(self, pieces: Iterable[bytes]) -> Iterator[Data | Iterable[bytes]]:
        """Take all pieces of a content, without the lock: whoever gives them may be slow, or wait for this very tree."""
        first: list[bytes] = []
        size = 0
        source = iter(pieces)
        for piece in source:
            first.append(piece)
            size += len(piece)
            if size > _COLLECTED_MAX:
                break
        else:
            yield b"".join(first)
            return
        fd = self.upper.make_hidden_file()
        try:
            write_pieces(fd, first)
            first.clear()
            write_pieces(fd, source)
            yield _pieces_of(fd)
        finally:
            os.close(fd)

    def _make_content(
        self,
        data: Data | Iterable[bytes],
        mode: int | None,
        *,
        owner: Owner | None = None,
        xattrs: Xattrs = (),
    ) -> tuple[bytes, int]:
        """Write a new file in `work`; give its name and the descriptor, which the caller closes."""
        temporary, fd = self.upper.make_file(flags=os.O_RDWR)
        try:
            if isinstance(data, bytes | bytearray | memoryview):
                if data:
                    write_all(fd, memoryview(data) if isinstance(data, bytearray) else data)
            else:
                write_pieces(fd, data)
            if xattrs:  # before the mode, which may forbid to set them
                self.upper.write_user_xattrs(fd, xattrs)
            if owner is not None and owner != (self._uid, self._gid):
                try:
                    os.fchown(fd, *owner)
                except PermissionError:
                    pass  # an ordinary user may not give files away; what it writes anew becomes its own
            if mode is not None:
                os.fchmod(fd, mode & 0o7777)
            faults.reach("write.made")
        except BaseException:
            os.close(fd)
            self.upper.discard(temporary)
            raise
        return temporary, fd

    def _write_new(self, parent: Node, name: bytes, data: Data | Iterable[bytes], mode: int | None) -> Node:
        self._bring_up(parent)
        directory = self._dir_fd(parent)
        temporary, fd = self._make_content(data, mode)
        os.close(fd)
        try:
            if self._hands_group_on(parent):
                self._settle(parent, self.upper.work.fd, temporary, mode, None, hidden=True)
            try:
                self.upper.show(temporary, directory.fd, name)
            except FileExistsError:  # a whiteout has the name
                self.upper.show_instead(temporary, directory.fd, name)
        except BaseException:
            self.upper.discard(temporary)
            raise
        faults.reach("write.shown")
        node = Node(stat.S_IFREG, parent, name, None, upper=True)
        node.has_xattrs = False
        if parent.listing is not None:
            parent.listing[name] = stat.S_IFREG
        self._add(node)
        path = self._path_in(parent, name)
        self._remember_path(path, node)
        if self.on_change is not None:
            self.on_change(path, False)
        return node

    def install(self, parent: Node, name: bytes, temporary: bytes) -> Node:
        """Give a file that was made complete in `work` a name, in place of any file or symbolic link that has it.

        On failure the file stays in `work`.

        Raises:
            IsADirectoryError: If a directory is there.
        """
        with self._lock:
            self._check_name(parent, name)
            old = self._child(parent, name)
            if old is not None and old.is_dir:
                raise fail(errno.EISDIR, name)
            self._bring_up(parent)
            directory = self._dir_fd(parent)
            try:
                if old is not None:
                    self._hold(old)
                if old is not None and old.upper:
                    self.upper.show_instead(temporary, directory.fd, name)
                else:
                    try:
                        self.upper.show(temporary, directory.fd, name)
                    except FileExistsError:  # a whiteout has the name
                        self.upper.show_instead(temporary, directory.fd, name)
            except BaseException:
                self._let_go()
                raise
            if old is not None:
                self._detach(parent, name, old)
            node = Node(stat.S_IFREG, parent, name, None, upper=True)
            if parent.listing is not None:
                parent.listing[name] = stat.S_IFREG
            self._add(node)
            self._report(node)
            return node

    def _write_over_lower(self, parent: Node, name: bytes, node: Node, data: Data | Iterable[bytes], mode: int | None) -> Node:
        """Replace a file of the lower layer: nothing of its content is copied up."""
        entry = node.lower
        if entry is None:
            raise fail(errno.ENOENT, name)
        self._bring_up(parent)
        directory = self._dir_fd(parent)
        before = os.stat(directory.fd)
        temporary, fd = self._make_content(data, entry.mode if mode is None else mode, xattrs=entry.xattrs)
        if not self._show_made(node, temporary, fd, mode, partial(self.upper.show, temporary, directory.fd, name)):
            return node
        put_times(directory.fd, before)
        if parent.listing is not None:
            parent.listing[name] = stat.S_IFREG
        if node.pins:
            node = self._succeed(parent, name, node)
        else:
            node.upper = True
            node.lower = None
        node.has_xattrs = bool(entry.xattrs)
        node.descriptor = None
        self._report(node)
        return node

    def _write_over_upper(
        self,
        parent: Node,
        name: bytes,
        node: Node,
        status: os.stat_result,
        data: Data | Iterable[bytes],
        mode: int | None,
    ) -> Node:
        directory = self._dir_fd(parent)
        before = os.stat(directory.fd)
        xattrs = tuple(self.read_xattrs(node).items()) if node.has_xattrs else ()
        wanted = status.st_mode if mode is None else mode
        temporary, fd = self._make_content(data, wanted, owner=(status.st_uid, status.st_gid), xattrs=xattrs)
        if not self._show_made(node, temporary, fd, mode, partial(self.upper.show_instead, temporary, directory.fd, name)):
            return node
        put_times(directory.fd, before)
        if node.pins:
            node = self._succeed(parent, name, node)
        self.inodes.unlink_from_disk(node)
        node.links = 1
        node.has_xattrs = bool(xattrs)
        node.descriptor = None
        self._report(node)
        return node

    def _succeed(self, parent: Node, name: bytes, old: Node) -> Node:
        """Make the node of a file that took another's name, while that one is still in use."""
        self._detach(parent, name, old)
        node = Node(stat.S_IFREG, parent, name, None, upper=True)
        return self._add(node)

    def _show_made(self, node: Node, temporary: bytes, fd: int, mode: int | None, show: Callable[[], None]) -> bool:
        """Give what was made in `work` the name of a file; closes its descriptor.

        Where the directory is closed to an ordinary user, the content is written into the old file instead, and the answer is
        no. As for any program there, what counts then is whether the file may be written.
        """
        try:
            self._hold(node)
            show()
        except PermissionError:
            self._let_go()
            self.upper.discard(temporary)
            self._write_in_place(node, _pieces_of(fd), mode)
            return False
        except BaseException:
            self._let_go()
            self.upper.discard(temporary)
            raise
        finally:
            os.close(fd)
        faults.reach("write.shown")
        return True

    def _write_in_place(self, node: Node, data: Data | Iterable[bytes], mode: int | None) -> Node:
        held = self._writable(node)
        offset = 0
        try:
            for piece in (data,) if isinstance(data, bytes | bytearray | memoryview) else data:
                view = memoryview(piece)
                while view:
                    count = os.pwrite(held.fd, view, offset)
                    offset += count
                    view = view[count:]
            # Cut last: cutting to nothing first makes ext4 write all data out at once (`auto_da_alloc`).
            os.ftruncate(held.fd, offset)
            if mode is not None:
                os.fchmod(held.fd, mode & 0o7777)
        finally:
            self._report(node)
        return node

    # --- names by path -------------------------------------------------------------------------------------

    def make_dir(self, path: TreePath, *, parents: bool = False, mode: int | None = None) -> Node:
        """Make a directory.

        Args:
            path: Where.
            parents: Make those above it that are missing, and let it be there already.
            mode: Exact permission bits of it; None leaves them to the umask.

        Raises:
            FileExistsError: If something is there; with `parents`, something that is no directory.
        """
        with self._lock:
            if not parents:
                parent, name, found = self._walk(path, follow_last=False)
                if found is not None:
                    raise fail(errno.EEXIST, path)
                return self.mkdir(parent, name, mode)
            try:
                there = self.resolve(path)
            except FileNotFoundError:
                pass
            else:
                if not there.is_dir:
                    raise fail(errno.EEXIST, path)
                return there
            parts: Sequence[bytes] = path.split(b"/")
            first = len(parts)
            while first > 1:  # from the end: mostly all but the last are there
                with contextlib.suppress(FileNotFoundError):
                    self.resolve(TreePath(b"/".join(parts[: first - 1])))
                    break
                first -= 1
            for count in range(first, len(parts) + 1):
                parent, name, found = self._walk(TreePath(b"/".join(parts[:count])), follow_last=True)
                if found is None:
                    found = self.mkdir(parent, name, mode if count == len(parts) else None)
                elif not found.is_dir:
                    raise fail(errno.ENOTDIR if count < len(parts) else errno.EEXIST, path)
                there = found
            return there

    def is_covered(self, path: TreePath) -> bool:
        """Tell whether the kernel shows something else at a path or below it."""
        return any(place == path or place.startswith(path + b"/") for place in self.list_covered())

    def remove(self, path: TreePath, *, recursive: bool = False) -> None:
        """Remove what is at a path; a directory must be empty unless `recursive`. A symbolic link is not followed."""
        with self._lock:
            parent, name, found = self._walk(path, follow_last=False)
            if found is None:
                raise fail(errno.ENOENT, path)
            if found is self.root or (found.is_dir and self.is_covered(path)):
                raise fail(errno.EBUSY, path)
            if not found.is_dir:
                self.unlink(parent, name)
            elif recursive:
                self.remove_tree(parent, name)
            else:
                self.rmdir(parent, name)

    def move(self, old: TreePath, new: TreePath, *, flags: int = 0) -> None:
        """Rename what is at a path, see `rename`; symbolic links at the ends are not followed."""
        with self._lock:
            parent, name, found = self._walk(old, follow_last=False)
            if found is None:
                raise fail(errno.ENOENT, old)
            new_parent, new_name, target = self._walk(new, follow_last=False)
            if found is self.root or target is self.root or (found.is_dir and self.is_covered(old)):
                raise fail(errno.EBUSY, old)
            self.rename(parent, name, new_parent, new_name, flags=flags)

    def make_symlink(self, path: TreePath, target: bytes) -> Node:
        """Make a symbolic link at a path."""
        with self._lock:
            parent, name, found = self._walk(path, follow_last=False)
            if found is not None:
                raise fail(errno.EEXIST, path)
            return self.symlink(parent, name, target)

    def make_link(self, path: TreePath, new: TreePath) -> Node:
        """Give the file at a path one more name."""
        with self._lock:
            node = self.resolve(path, follow_last=False)
            parent, name, found = self._walk(new, follow_last=False)
            if found is not None:
                raise fail(errno.EEXIST, new)
            return self.link(node, parent, name)


def _pieces_of(fd: int) -> Iterator[bytes]:
    offset = 0
    while piece := os.pread(fd, 1 << 20, offset):
        yield piece
        offset += len(piece)
