"""File events: what programs do to the files of a live tree, told while it happens.

Decided here: which requests of the kernel are events, and what an event says. While nothing listens, the handlers of
the server are its own, and an event costs nothing; while something does, the handler of each event stands behind
another, which tells its outcome. An event is told before the kernel gets the answer, so the events of one program come
in the order of its calls.

What never reaches the server is no event: a read that the kernel answers from its page cache, and what avfs itself
changes over the control socket. The kernel reads ahead, so a `read` says what it fetched, for which program. A write of
mapped memory comes when the kernel writes the page out, and names neither process nor user. A request that is answered
again after the death of a server is not told twice: the next server has no listeners (`session.control.listening`).

`TreeServer` makes one `FileEvents` for its tree. `add` and `remove` may be called from any thread. A listener is called
by the thread that answers the request, mostly the serving thread: it must return at once, wait for nothing, and raise
nothing. Nothing survives a crash.
"""

from __future__ import annotations

import errno
import threading
import time
from collections.abc import Callable, Iterable
from functools import partial
from typing import Final, Literal

from avfs_git.fuse import protocol as p
from avfs_git.fuse.channel import Request
from avfs_git.fuse.operations import Handler
from avfs_git.gitstore.source import NotYetHere
from avfs_git.host.files.beneath import RENAME_EXCHANGE
from avfs_git.host.processes.processes import process_of
from avfs_git.model import FileEvent
from avfs_git.paths import TreePath
from avfs_git.vfs.tree.merged import MergedTree

Listener = Callable[[FileEvent], object]
_OF_SIZE, _OF_TIMES = p.FATTR_SIZE, p.FATTR_ATIME | p.FATTR_MTIME
_NAME_AT: Final = {
    p.MKNOD: p.BODY + p.MKNOD_IN.size,
    p.MKDIR: p.BODY + p.MKDIR_IN.size,
    p.LINK: p.BODY + p.LINK_IN.size,
    p.UNLINK: p.BODY,
    p.RMDIR: p.BODY,
}
"""Where a request names an entry of the directory that it is about."""


class _Told:
    """One event without its time, process and outcome."""

    __slots__ = ("old_path", "op", "path", "size")

    def __init__(
        self, op: str, path: TreePath | None, size: int | None = None, old_path: TreePath | None = None
    ) -> None:
        self.op = op
        self.path = path
        self.size = size
        self.old_path = old_path


class FileEvents:
    """The listeners of one live tree."""

    def __init__(self, tree: MergedTree, handlers: dict[int, Handler]) -> None:
        """Prepare. `handlers` is what the server looks requests up in; it is changed while something listens."""
        self._tree = tree
        self._handlers = handlers
        self._lock = threading.Lock()
        self._listeners: tuple[Listener, ...] = ()
        self._own: dict[int, Handler] = {}
        """The handlers that others stand in front of."""
        self._describing: dict[int, Callable[[Request, bytes | None], Iterable[_Told]]] = {
            p.MKNOD: self._create,
            p.MKDIR: self._create,
            p.SYMLINK: lambda request, _: [_Told("create", self._entry(request.ino, request.names_at(p.BODY)[0]))],
            p.LINK: self._link,
            p.TMPFILE: lambda _request, _: [_Told("create", None)],
            p.UNLINK: self._unlink,
            p.RMDIR: self._unlink,
            p.RENAME: self._rename,
            p.RENAME2: self._rename,
            p.SETATTR: self._setattr,
            p.SETXATTR: lambda request, _: [_Told("setattr", self._path(request.ino))],
            p.REMOVEXATTR: lambda request, _: [_Told("setattr", self._path(request.ino))],
            p.READ: self._read,
            p.WRITE: self._write,
            p.FALLOCATE: self._fallocate,
            p.COPY_FILE_RANGE: self._copy_file_range,
        }

    def add(self, listener: Listener) -> None:
        """Call a function with each event from now on."""
        with self._lock:
            self._listeners = (*self._listeners, listener)
            if not self._own:
                for operation in self._describing.keys() & self._handlers.keys():
                    self._own[operation] = self._handlers[operation]
                    self._handlers[operation] = partial(self._tell, operation, self._own[operation])

    def remove(self, listener: Listener) -> None:
        """Call it no more; what is being told by another thread may still come."""
        with self._lock:
            self._listeners = tuple(other for other in self._listeners if other != listener)
            if not self._listeners:
                self._handlers.update(self._own)
                self._own = {}

    def telling(self, operation: int, handler: Handler) -> Handler:
        """Give a handler that tells what it does, for a request that another thread answers.

        The same if nothing listens.
        """
        return partial(self._tell, operation, handler) if self._own else handler

    def _tell(self, operation: int, handler: Handler, request: Request) -> bytes | None:
        try:
            body = handler(request)
        except NotYetHere:  # it is answered again when the content is there
            raise
        except Exception as error:
            self._say(operation, request, None, error)
            raise
        if body is not None:  # else another thread answers it
            self._say(operation, request, body, None)
        return body

    def _say(self, operation: int, request: Request, body: bytes | None, error: Exception | None) -> None:
        listeners, now = self._listeners, time.time_ns()
        name = None
        if error is not None:
            number = error.errno if isinstance(error, OSError) and error.errno else errno.EIO
            name = errno.errorcode.get(number, str(number))
        pid: int | None = None
        uid: int | None = None
        if operation != p.WRITE or not p.WRITE_HEAD.unpack_from(request.buffer, p.BODY)[2] & p.WRITE_CACHE:
            pid, uid = process_of(request.thread) if request.thread else None, request.uid
        verdict: Literal["allowed", "refused"] = "allowed" if name is None else "refused"
        for told in self._describing[operation](request, body):
            event = FileEvent(now, told.op, told.path, told.old_path, pid, uid, told.size, verdict, name)
            for listener in listeners:
                listener(event)

    # --- paths -----------------------------------------------------------------------------------------------

    def _path(self, ino: int) -> TreePath | None:
        """Give the path of a node; None if it has none any more."""
        try:
            return self._tree.nodes.path_of(self._tree.pins.node_at(ino))
        except OSError:
            return None

    def _entry(self, ino: int, name: bytes) -> TreePath | None:
        """Give the path of a name in a directory; None if that has none any more."""
        above = self._path(ino)
        return above if above is None else TreePath(above + b"/" + name if above else name)

    # --- what requests say -----------------------------------------------------------------------------------

    def _create(self, request: Request, _body: bytes | None) -> list[_Told]:
        return [_Told("create", self._entry(request.ino, request.name_at(_NAME_AT[request.operation])))]

    def _unlink(self, request: Request, _body: bytes | None) -> list[_Told]:
        return [_Told("unlink", self._entry(request.ino, request.name_at(_NAME_AT[request.operation])))]

    def _link(self, request: Request, _body: bytes | None) -> list[_Told]:
        (ino,) = p.LINK_IN.unpack_from(request.buffer, p.BODY)
        made = self._entry(request.ino, request.name_at(_NAME_AT[p.LINK]))
        return [_Told("create", made, old_path=self._path(ino))]

    def _rename(self, request: Request, _body: bytes | None) -> list[_Told]:
        name, ino, new_name, flags = request.renamed()
        old, new = self._entry(request.ino, name), self._entry(ino, new_name)
        found = [_Told("rename", new, old_path=old)]
        if flags & RENAME_EXCHANGE:
            found.append(_Told("rename", old, old_path=new))
        return found

    def _setattr(self, request: Request, _body: bytes | None) -> list[_Told]:
        valid, _, size, *_ = p.SETATTR_IN.unpack_from(request.buffer, p.BODY)
        path = self._path(request.ino)
        found = [_Told("truncate", path, size)] if valid & _OF_SIZE else []
        # The times that a truncation sets are part of it.
        rest = p.FATTR_MODE | p.FATTR_UID | p.FATTR_GID | (0 if found else _OF_TIMES | p.FATTR_KILL_SUIDGID)
        if valid & rest:
            found.append(_Told("setattr", path))
        return found

    def _read(self, request: Request, body: bytes | None) -> list[_Told]:
        return [_Told("read", self._path(request.ino), None if body is None else len(body))]

    def _write(self, request: Request, body: bytes | None) -> list[_Told]:
        return [_Told("write", self._path(request.ino), _done(body))]

    def _fallocate(self, request: Request, body: bytes | None) -> list[_Told]:
        _, _, length, _ = p.FALLOCATE_IN.unpack_from(request.buffer, p.BODY)
        return [_Told("write", self._path(request.ino), None if body is None else length)]

    def _copy_file_range(self, request: Request, body: bytes | None) -> list[_Told]:
        _, _, target, *_ = p.COPY_FILE_RANGE_IN.unpack_from(request.buffer, p.BODY)
        size = _done(body)
        return [_Told("read", self._path(request.ino), size), _Told("write", self._path(target), size)]


def _done(body: bytes | None) -> int | None:
    """Read how much was written from an answer."""
    return None if body is None else int(p.WRITE_OUT.unpack(body)[0])
