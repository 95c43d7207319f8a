"""A live tree for libfuse, which names files by path: for kernels whose protocol `fuse.channel` does not speak.

Decided here: how the calls of libfuse's high-level interface become calls of the merged tree, which names files by
node. What a filesystem does is decided in `vfs.tree`; `fuse.libfuse` makes the calls arrive whole. The kernel caches
nothing beyond one call, because libfuse shows hard links as different files: right and slow, where `fuse.server` is
right and fast.

libfuse renames a file that is removed while it is open to a name of its own (`.fuse_hidden` and 16 digits), and removes
that when the file is closed. Here that rename removes the name, and keeps the node for calls under the hidden one: so
the file is in no listing and no checkpoint, a crash does not leave it behind, and its link count is right. Such names
are libfuse's own: a program that gives one to an open file removes it.

libfuse calls from one thread, and other threads use the tree meanwhile: `fuse.libfuse` holds its lock for each call in
which finding a node and using it must be one step. Only open files are kept here; they end with the process.
"""

from __future__ import annotations

import errno
import os
import re
import stat
from collections.abc import Callable, Iterator

from avfs_git.host.files.beneath import RENAME_NOREPLACE
from avfs_git.paths import TreePath, split
from avfs_git.vfs.errnos import fail
from avfs_git.vfs.tree.merged import Attr, MergedTree, Node

_HIDDEN = re.compile(r"\.fuse_hidden[0-9a-f]{16}")
_KILL_PRIVILEGES = 1 << 20
"""FUSE_CAP_HANDLE_KILLPRIV: that the kernel leaves it to us to take set-uid away. It is on unless asked off."""

Times = tuple[int | None, int | None]


class PortableOperations:
    """The merged tree with the interface that libfuse's binding calls; paths are text with a leading slash.

    A handle is the number of a node, which is pinned while it is open. `path` is None where libfuse knows no path: then
    there is a handle.
    """

    use_ns = True
    flag_utime_omit_ok = 1
    """For libfuse 2: one of two times can be set."""

    def __init__(
        self, tree: MergedTree, caller: Callable[[], tuple[int, int]], ready: Callable[[], None] | None = None
    ) -> None:
        """Serve a tree.

        `caller` tells the user and group that the present call comes from; `ready` is called when programs can use the
        tree.
        """
        self.tree = tree
        self._caller = caller
        self._ready = ready
        self._hidden: dict[str, Node] = {}
        self._own = (os.geteuid(), os.getegid())

    def init_with_config(self, conn: object, _config: object) -> None:
        """Refuse what libfuse would take on in our name, and say that the tree is ready."""
        want = getattr(conn, "want", None)
        if want is not None:
            conn.want = want & ~_KILL_PRIVILEGES  # type: ignore[attr-defined]
        if self._ready is not None:
            self._ready()

    # --- nodes -----------------------------------------------------------------------------------------------

    def _node(self, path: str | None, handle: int | None = None) -> Node:
        if handle is not None:
            return self.tree.pins.node_at(handle)
        if path is None:
            raise fail(errno.ESTALE)
        hidden = self._find_hidden(path)
        if hidden is None and path == "/.git":  # programs see one that is not in the workspace
            found = self.tree.nodes.find(self.tree.root, b".git")
            if found is None:
                raise fail(errno.ENOENT)
            return found
        return hidden or self.tree.resolve(_tree_path(path), follow_last=False)

    def _find_hidden(self, path: str) -> Node | None:
        # By the name alone: it is used once, and the directory may have another path meanwhile.
        return self._hidden.get(path.rpartition("/")[2]) if self._hidden else None

    def _place(self, path: str) -> tuple[Node, bytes]:
        above, name = split(_tree_path(path))
        return self.tree.resolve(above), name

    def _owner(self) -> tuple[int, int] | None:
        caller = self._caller()
        return None if caller == self._own else caller

    def _open_node(self, node: Node) -> int:
        self.tree.pins.pin(node)
        return node.ino

    def _close_node(self, handle: int) -> None:
        node = self.tree.nodes.inodes.find(handle)
        if node is not None:
            self.tree.pins.unpin(node)

    # --- attributes ------------------------------------------------------------------------------------------

    def getattr(self, path: str | None, handle: int | None = None) -> dict[str, int]:
        """Tell the attributes of a file."""
        return _stat_of(self.tree.attributes.getattr(self._node(path, handle)))

    def chmod(self, path: str | None, mode: int, handle: int | None = None) -> None:
        """Set the permission bits."""
        self.tree.attributes.chmod(self._node(path, handle), stat.S_IMODE(mode))

    def chown(self, path: str | None, uid: int, gid: int, handle: int | None = None) -> None:
        """Set owner and group; -1 keeps."""
        self.tree.attributes.chown(self._node(path, handle), uid, gid)

    def utimens(self, path: str | None, times: Times, handle: int | None = None) -> None:
        """Set the times of access and change, in nanoseconds; None keeps."""
        self.tree.attributes.utimens(self._node(path, handle), atime_ns=times[0], mtime_ns=times[1])

    def truncate(self, path: str | None, length: int, handle: int | None = None) -> None:
        """Set the size of a file."""
        self.tree.contents.truncate(self._node(path, handle), length)

    def statfs(self, _path: str) -> dict[str, int]:
        """Tell the sizes of the disk."""
        found = self.tree.attributes.statvfs()
        return {
            "f_bsize": found.f_bsize, "f_frsize": found.f_frsize, "f_blocks": found.f_blocks, "f_bfree": found.f_bfree,
            "f_bavail": found.f_bavail, "f_files": found.f_files, "f_ffree": found.f_ffree, "f_favail": found.f_favail,
            "f_namemax": min(found.f_namemax, 255),
        }  # fmt: skip

    def getxattr(self, path: str, name: str) -> bytes:
        """Read an extended attribute."""
        return self.tree.attributes.get_xattr(self._node(path), _bytes(name))

    def listxattr(self, path: str) -> list[str]:
        """List the names of extended attributes."""
        return [_text(name) for name in self.tree.attributes.read_xattrs(self._node(path))]

    def setxattr(self, path: str, name: str, value: bytes, flags: int) -> None:
        """Set an extended attribute."""
        self.tree.attributes.set_xattr(self._node(path), _bytes(name), value, flags=flags)

    def removexattr(self, path: str, name: str) -> None:
        """Remove an extended attribute."""
        self.tree.attributes.remove_xattr(self._node(path), _bytes(name))

    # --- names -----------------------------------------------------------------------------------------------

    def readlink(self, path: str) -> str:
        """Read a symbolic link."""
        return _text(self.tree.attributes.readlink(self._node(path)))

    def symlink(self, path: str, target: str) -> None:
        """Make a symbolic link."""
        self.tree.making.symlink(*self._place(path), _bytes(target), owner=self._owner())

    def mknod(self, path: str, mode: int, rdev: int) -> None:
        """Make a file, fifo, socket or device."""
        self.tree.making.mknod(*self._place(path), mode, rdev, owner=self._owner())

    def mkdir(self, path: str, mode: int) -> None:
        """Make a directory."""
        self.tree.making.mkdir(*self._place(path), stat.S_IMODE(mode), owner=self._owner())

    def link(self, path: str, source: str) -> None:
        """Give a file one more name."""
        self.tree.making.link(self._node(source), *self._place(path))

    def unlink(self, path: str) -> None:
        """Remove a name of anything but a directory; a hidden one when its file is closed."""
        hidden = self._find_hidden(path)
        if hidden is None:
            self.tree.namespace.unlink(*self._place(path))
        else:
            del self._hidden[path.rpartition("/")[2]]
            self.tree.pins.unpin(hidden)

    def rmdir(self, path: str) -> None:
        """Remove an empty directory."""
        self.tree.namespace.rmdir(*self._place(path))

    def rename(self, old: str, new: str, flags: int = 0) -> None:
        """Rename, with the flags of renameat2(2); or hide, see the head of this module."""
        tree = self.tree
        parent, name = self._place(old)
        hidden = new.rpartition("/")[2]
        if flags in (0, RENAME_NOREPLACE) and _HIDDEN.fullmatch(hidden) is not None:
            node = tree.nodes.find(parent, name)
            if node is not None and node.pins and not node.is_dir:
                tree.pins.pin(node)
                try:
                    tree.namespace.unlink(parent, name)
                except BaseException:
                    tree.pins.unpin(node)
                    raise
                self._hidden[hidden] = node
                return
        tree.namespace.rename(parent, name, *self._place(new), flags=flags)

    # --- listings --------------------------------------------------------------------------------------------

    def opendir(self, path: str) -> int:
        """Open a directory."""
        return self._open_node(self._node(path))

    def readdir(self, _path: str | None, handle: int) -> Iterator[tuple[str, dict[str, int], int]]:
        """List a directory whole; libfuse keeps the list while the directory is open."""
        tree = self.tree
        node = tree.pins.node_at(handle)
        above = node.parent or node
        found = [(".", node.ino, stat.S_IFDIR), ("..", above.ino, stat.S_IFDIR)]
        for name, kind in tree.nodes.readdir_shown(node):
            child = tree.nodes.find(node, name)
            if child is not None:  # else removed behind our back
                found.append((_text(name), child.ino, kind))
        return ((name, {"st_ino": ino, "st_mode": mode}, 0) for name, ino, mode in found)

    def releasedir(self, _path: str | None, handle: int) -> None:
        """Close a directory."""
        self._close_node(handle)

    def fsyncdir(self, _path: str | None, data_only: int, handle: int) -> None:
        """Force a directory to disk."""
        self.fsync(None, data_only, handle)

    # --- content ---------------------------------------------------------------------------------------------

    def create(self, path: str, mode: int, _flags: int) -> int:
        """Make a file and open it."""
        return self._open_node(self.tree.making.create(*self._place(path), stat.S_IMODE(mode), owner=self._owner()))

    def open(self, path: str, flags: int) -> int:
        """Open a file; the kernel has looked at its permissions.

        One that is gone since it was looked up is told as such, so that the kernel looks again: what opens it may make
        it.
        """
        try:
            node = self._node(path)
        except FileNotFoundError:
            raise fail(errno.ESTALE) from None
        if flags & os.O_TRUNC:
            self.tree.contents.truncate(node, 0)
        return self._open_node(node)

    def release(self, _path: str | None, handle: int) -> None:
        """Close a file."""
        self._close_node(handle)

    def read(self, _path: str | None, size: int, offset: int, handle: int) -> bytes:
        """Read a piece of a file."""
        return self.tree.contents.read(self.tree.pins.node_at(handle), size, offset)

    def write(self, _path: str | None, data: bytes, offset: int, handle: int) -> int:
        """Write a piece of a file."""
        return self.tree.contents.write(self.tree.pins.node_at(handle), data, offset)

    def fsync(self, _path: str | None, data_only: int, handle: int) -> None:
        """Force a file to disk."""
        self.tree.contents.sync(self.tree.pins.node_at(handle), data_only=bool(data_only))

    def lseek(self, _path: str | None, offset: int, whence: int, handle: int) -> int:
        """Find the next data or hole."""
        return self.tree.contents.seek(self.tree.pins.node_at(handle), offset, whence)

    def fallocate(self, _path: str | None, mode: int, offset: int, length: int, handle: int) -> None:
        """Give a file room on the disk, or take it."""
        self.tree.contents.allocate(self.tree.pins.node_at(handle), mode, offset, length)


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "surrogateescape")


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def _tree_path(path: str) -> TreePath:
    return TreePath(_bytes(path[1:]))


def _stat_of(attr: Attr) -> dict[str, int]:
    return {
        "st_ino": attr.ino, "st_mode": attr.mode, "st_nlink": attr.nlink, "st_uid": attr.uid, "st_gid": attr.gid,
        "st_rdev": attr.rdev, "st_size": attr.size, "st_blocks": attr.blocks, "st_blksize": 4096,
        "st_atime": attr.atime_ns, "st_mtime": attr.mtime_ns, "st_ctime": attr.ctime_ns,
    }  # fmt: skip
