"""Asking plug-ins before programs change a live tree.

Decided here: which requests are changes, and what plug-ins are told of each. `fuse.server` puts these handlers before
its own where the session has plug-ins. They are asked without the tree's lock, by the thread that answers the request,
so that other requests wait meanwhile. A refusal is EPERM. A change in a file with several names is asked about under
each name, so that a hard link is no way past a plug-in. A file without a name is not asked about: nothing of it gets
into the workspace.

A request that is tried again, because an object had to be fetched first, is not asked about twice. Nothing survives the
server: the next one asks again.
"""

from __future__ import annotations

import errno
import threading
from collections.abc import Callable, Mapping
from functools import partial

from avfs_git.fuse import protocol as p
from avfs_git.fuse.channel import Channel, Request
from avfs_git.fuse.operations import Handler
from avfs_git.gitstore.source import NotYetHere
from avfs_git.host.files.beneath import RENAME_EXCHANGE
from avfs_git.host.processes.processes import process_of
from avfs_git.paths import TreePath
from avfs_git.vfs.asked import Allows, Change
from avfs_git.vfs.errnos import fail
from avfs_git.vfs.tree.merged import MergedTree, Node

_Facts = Mapping[str, int | str | bool]


class Asking:
    """Asks about the changes of one tree."""

    def __init__(self, tree: MergedTree, channel: Channel, allows: Allows) -> None:
        self._tree = tree
        self._channel = channel
        self._allows = allows
        self._allowed: set[int] = set()
        """Requests that were allowed, and wait for what they need."""
        self._looks: dict[int, Callable[[Request], list[Change]]] = {
            p.MKNOD: partial(self._in_directory, "create", p.MKNOD_IN.size),
            p.MKDIR: partial(self._in_directory, "mkdir", p.MKDIR_IN.size),
            p.SYMLINK: self._symlink,
            p.UNLINK: partial(self._in_directory, "unlink", 0),
            p.RMDIR: partial(self._in_directory, "rmdir", 0),
            p.RENAME: self._rename,
            p.RENAME2: self._rename,
            p.LINK: self._link,
            p.SETATTR: self._setattr,
            p.SETXATTR: partial(self._xattr, p.SETXATTR_IN.size),
            p.REMOVEXATTR: partial(self._xattr, 0),
            p.WRITE: self._write,
            p.FALLOCATE: self._fallocate,
            p.COPY_FILE_RANGE: self._copy_file_range,
        }

    def before(self, handlers: Mapping[int, Handler]) -> dict[int, Handler]:
        """Give the handlers that ask first, by their operations."""
        return {number: partial(self._ask, handlers[number]) for number in self._looks.keys() & handlers.keys()}

    def _ask(self, handler: Handler, request: Request) -> bytes | None:
        unique = request.unique
        if unique not in self._allowed:
            if not all(map(self._allows, self._looks[request.operation](request))):
                if request.operation == p.WRITE and _is_late(request):
                    # The kernel keeps the page as the program has changed it. In a thread: it waits for this request.
                    threading.Thread(target=self._channel.forget_content, args=(request.ino,), daemon=True).start()
                raise fail(errno.EPERM)
            self._allowed.add(unique)
        try:
            body = handler(request)
        except NotYetHere:
            raise
        except BaseException:
            self._allowed.discard(unique)
            raise
        self._allowed.discard(unique)
        return body

    # --- what is asked for ---------------------------------------------------------------------------------------

    def _node(self, ino: int) -> Node:
        return self._tree.pins.node_at(ino)

    def _path_in(self, ino: int, name: bytes) -> TreePath:
        with self._tree.guard:
            return self._tree.nodes.path_in(self._node(ino), name)

    def _of_node(self, request: Request, ino: int, operation: str, facts: _Facts) -> list[Change]:
        paths = self._tree.nodes.paths_of(self._node(ino))
        return [_change(request, operation, path, facts=facts) for path in paths]

    def _in_directory(self, operation: str, start: int, request: Request) -> list[Change]:
        return [_change(request, operation, self._path_in(request.ino, request.name_at(p.BODY + start)))]

    def _symlink(self, request: Request) -> list[Change]:
        name, target = request.names_at(p.BODY)
        return [_change(request, "symlink", self._path_in(request.ino, name), facts={"target": _text(target)})]

    def _rename(self, request: Request) -> list[Change]:
        name, above, new_name, flags = request.renamed()
        path, new_path = self._path_in(request.ino, name), self._path_in(above, new_name)
        return [_change(request, "rename", path, new_path, {"exchange": bool(flags & RENAME_EXCHANGE)})]

    def _link(self, request: Request) -> list[Change]:
        (ino,) = p.LINK_IN.unpack_from(request.buffer, p.BODY)
        new_path = self._path_in(request.ino, request.name_at(p.BODY + p.LINK_IN.size))
        paths = self._tree.nodes.paths_of(self._node(ino))
        if not paths:  # a file that was made without a name gets one
            return [_change(request, "create", new_path)]
        return [_change(request, "link", path, new_path) for path in paths]

    def _setattr(self, request: Request) -> list[Change]:
        valid, _, size, *_ = p.SETATTR_IN.unpack_from(request.buffer, p.BODY)
        if valid & p.FATTR_SIZE:
            return self._of_node(request, request.ino, "truncate", {"size": size})
        return self._of_node(request, request.ino, "setattr", {})

    def _xattr(self, start: int, request: Request) -> list[Change]:
        name = request.name_at(p.BODY + start).partition(b"\0")[0]
        return self._of_node(request, request.ino, "setxattr", {"name": _text(name)})

    def _write(self, request: Request) -> list[Change]:
        offset, size, _ = p.WRITE_HEAD.unpack_from(request.buffer, p.BODY)
        return self._of_node(request, request.ino, "write", {"offset": offset, "size": size})

    def _fallocate(self, request: Request) -> list[Change]:
        _, offset, length, _ = p.FALLOCATE_IN.unpack_from(request.buffer, p.BODY)
        return self._of_node(request, request.ino, "write", {"offset": offset, "size": length})

    def _copy_file_range(self, request: Request) -> list[Change]:
        _, _, target, _, offset, length, _ = p.COPY_FILE_RANGE_IN.unpack_from(request.buffer, p.BODY)
        return self._of_node(request, target, "write", {"offset": offset, "size": length})


def _change(
    request: Request, operation: str, path: TreePath, new_path: TreePath | None = None, facts: _Facts | None = None
) -> Change:
    # the kernel does not know which program has changed the page
    if request.operation == p.WRITE and _is_late(request):
        return Change(operation, path, new_path, facts or {})
    pid = process_of(request.thread) if request.thread else None
    return Change(operation, path, new_path, facts or {}, pid, request.uid)


def _is_late(request: Request) -> bool:
    flags: int = p.WRITE_HEAD.unpack_from(request.buffer, p.BODY)[2]
    return bool(flags & p.WRITE_CACHE)


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "surrogateescape")
