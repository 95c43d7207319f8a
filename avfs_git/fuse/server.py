"""A live tree: each request of the kernel as a call of the merged tree.

Decided here: how a request becomes a call of `MergedTree` and its result a reply, and nothing else: what a
filesystem is, `vfs` knows. Whoever serves a workspace makes a `TreeServer` over its merged tree while holding
the workspace's lock, and calls `serve`, which returns when the tree is unmounted.

Opening and closing need no request: OPEN and OPENDIR are answered with ENOSYS once, and never asked again. So is CREATE,
after which the kernel makes files with MKNOD: a file that CREATE has opened would be closed with a request. Extended
attributes are refused in the same way where they are not wanted, and LSEEK where no file has holes: what the kernel then says by
itself is the same, and `grep` asks five times a megabyte in a file with zeros in it. What
keeps an unlinked file that is still open alive is the kernel's reference to its node: each node that is told to the
kernel is pinned, and unpinned when the kernel forgets it. Finding a node and pinning it is one step under the
tree's lock, so that no other thread can drop it in between.

One thread serves: measured, a second one that also waits for requests costs a third more CPU a request, because the
two take the interpreter from each other, and gains nothing. What may wait long for the disk (`_SLOW`) is passed to a few
helpers, so that an fsync does not stop a listing. What needs something that is still on another machine (lazy vaults) is left to
a thread that brings it, without any lock, and answers then; programs that need nothing of the kind go on, and one that is
killed meanwhile is let go (`fuse.handover.waiting`). The same thread copies a large file up before it is changed. Requests
about names hold the tree's lock for as long as they take; forcing to disk and copying leave it meanwhile. File locks stay in
the kernel.

A file that is removed goes to `work` first, because the kernel still knows it, and from there when the kernel has forgotten it,
right after. That last step is the dearest on most disks, and is left for when nobody asks for anything: while the program
that removes many files is being woken. Whatever needs room, or tells of it, finds all done.

Nothing is kept here that is not in the tree. A server with a `Handover` may be killed at any moment: the numbers and
pins of the nodes and the requests that it had received are there, and the next server begins by answering those.
"""

from __future__ import annotations

import errno
import os
import stat
from collections import Counter, deque
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from functools import partial
from typing import TYPE_CHECKING

from avfs_git import faults
from avfs_git.errors import AvfsError, ObjectCorrupt, ObjectMissing, RemoteError
from avfs_git.fuse import protocol as p
from avfs_git.fuse.channel import Channel, Request
from avfs_git.fuse.errnos import errno_of
from avfs_git.fuse.handover.forgetting import NODES_MAX, Forgetting
from avfs_git.fuse.handover.handover import TRIES, Handover
from avfs_git.fuse.handover.resume import ONCE, forget_again, settle
from avfs_git.fuse.handover.waiting import Waiting
from avfs_git.fuse.listing import DOT, DOT_DOT, Answers, Listing, Listings, make_listing
from avfs_git.gitstore.source import NotYetHere
from avfs_git.host.files.ranges import fallocate
from avfs_git.lazy import LazyLogger
from avfs_git.vfs.tree.merged import MergedTree, Node
from avfs_git.vfs.tree.view import Attr, fail, missing_xattr

if TYPE_CHECKING:
    from concurrent.futures import ThreadPoolExecutor

_LOG = LazyLogger(__name__)
_HELPERS = 4
_SLOW = frozenset({p.FSYNC, p.FSYNCDIR, p.FALLOCATE, p.COPY_FILE_RANGE})
_COPY_MAX = 64 << 20
"""How much one COPY_FILE_RANGE copies at most: a program that is killed meanwhile waits for no more than that."""
_UNANSWERED = frozenset({p.FORGET, p.BATCH_FORGET})
_NEEDS_NO_ROOM = frozenset(
    {p.UNLINK, p.RMDIR, *_UNANSWERED, p.LOOKUP, p.GETATTR, p.GETXATTR, p.ACCESS, p.READ, p.READDIR, p.READDIRPLUS, p.READLINK}
)
"""What can be done before the room of files that were removed is there again."""
_CAPABILITY = b"security.capability"
_SEARCH_AFTER = 32
"""After so many questions for attributes it is worth while to find out whether there are any."""
_XATTR_NAME_AT = p.BODY + p.GETXATTR_IN.size
_WRITTEN_AT = p.BODY + p.WRITE_IN.size
"""Where the content of a WRITE begins."""

Handler = Callable[[Request], bytes | None]

_UNTOLD = (NotYetHere, RemoteError, ObjectMissing, ObjectCorrupt)
"""Why the size of a file is not told."""


class TreeServer:
    """Serves one merged tree on one channel.

    Attributes:
        counts: How many requests of each operation came, by its number; for tests and for people.
    """

    def __init__(
        self,
        tree: MergedTree,
        channel: Channel,
        handover: Handover | None = None,
        *,
        most_nodes: int | None = NODES_MAX,
        has_xattrs: bool = True,
        xattr_search: Iterator[bool] | None = None,
        wait_elsewhere: Callable[[], None] | None = None,
    ) -> None:
        """Prepare to serve.

        Args:
            tree: What is served.
            channel: On which channel, negotiated.
            handover: Where a server before this one left what it knew, and this one leaves it to the next.
            most_nodes: How many nodes the kernel may know before it is asked to forget some (`fuse.handover.forgetting`); None
                where it would not: an overlayfs above keeps all of them for as long as it has its own.
            has_xattrs: Whether programs find and set extended attributes. If not, the kernel is told so once, and does not look
                for `security.capability` before it writes to a file or changes its owner: each of these is a request else.
            xattr_search: Of a tree that never changes and that overlayfs stands on, which asks for a mark of each file that it
                meets, in each of its mounts: whether anything in it has attributes, told piece by piece. Where nothing has, the
                kernel is told so as soon as that is known, and does not ask any more.
            wait_elsewhere: Has what reads objects in the calling thread raise `NotYetHere` instead of waiting for a server.
                Large copies are deferred in any case.
        """
        self.tree = tree
        self.channel = channel
        self._guard = tree.guard
        self._handover = handover
        if handover is not None:
            tree.follow(handover)
            channel.follow(handover)
        self._xattr_search = xattr_search
        self.counts: Counter[int] = Counter()
        self._forgetting = None if most_nodes is None else Forgetting(tree, channel.forget_name, most_nodes)
        self._listings = Listings()
        self._answers = None if tree.may_change else Answers()
        self._pool: ThreadPoolExecutor | None = None
        self._bringer: ThreadPoolExecutor | None = None
        self._wait_elsewhere = wait_elsewhere
        self._waiting = Waiting()
        """Whether names were listed without their sizes: who then looks one up wants to know that."""
        self._uid, self._gid = os.geteuid(), os.getegid()
        self._handlers: dict[int, Handler] = {
            p.LOOKUP: self._lookup,
            p.FORGET: self._forget,
            p.BATCH_FORGET: self._batch_forget,
            p.GETATTR: self._getattr,
            p.SETATTR: self._setattr,
            p.ACCESS: self._access,
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
            p.INTERRUPT: self._interrupt,
            p.DESTROY: self._destroy,
        }
        if handover is not None:
            for operation in ONCE:
                self._handlers[operation] = partial(self._do_once, handover, self._handlers[operation])
        if not has_xattrs:
            for operation in (p.GETXATTR, p.LISTXATTR, p.SETXATTR, p.REMOVEXATTR):
                del self._handlers[operation]
        if not tree.may_have_holes:
            del self._handlers[p.LSEEK]

    def serve(self) -> None:
        """Answer requests until the tree is unmounted."""
        receive, counts, handlers = self.channel.receive, self.counts, self._handlers
        request = Request() if self._handover is None else self._handover.request()
        buffer = request.buffer
        leavings = self.tree.leavings = deque()
        self.channel.spare = self.tree.tidy
        self._defer()
        try:
            if self._handover is not None:
                self._resume(self._handover, request)
            while receive(request):
                operation = request.operation
                counts[operation] += 1
                if leavings and operation not in _NEEDS_NO_ROOM:
                    while self.tree.tidy():
                        pass
                if operation in _SLOW:
                    self._pass_on(handlers[operation], request)
                else:
                    self._answer_with(handlers.get(operation, self._refuse), request)
                buffer[p.OPERATION_AT] = 0  # answered, or noted elsewhere: a server after this one leaves it alone
        finally:
            for pool in (self._bringer, self._pool):
                if pool is not None:
                    pool.shutdown()
            self.channel.spare = self.tree.leavings = None
        self.tree.empty_attic()

    def handle(self, request: Request) -> None:
        """Answer one request that somebody else received, as `serve` does with each."""
        if request.operation in _SLOW:
            self._pass_on(self._handlers[request.operation], request)
        else:
            self._answer(request)

    @property
    def _helpers(self) -> ThreadPoolExecutor:
        """Those who answer what may take long; they come when the first such request does."""
        if self._pool is None:
            from concurrent.futures import ThreadPoolExecutor  # noqa: PLC0415 - with what it loads a tenth of a server's start

            self._pool = ThreadPoolExecutor(_HELPERS, "avfs-helper", self.tree.defer_copies)
        return self._pool

    def _defer(self) -> None:
        """Have this thread leave to another what takes long."""
        self.tree.defer_copies()
        if self._wait_elsewhere is not None:
            self._wait_elsewhere()

    def _pass_on(self, handler: Handler, request: Request) -> None:
        """Let a helper answer a request."""
        if self._handover is None:
            self._helpers.submit(self._answer_with, handler, request.copy())
            return
        slot = self._handover.park(request)
        if slot is None:
            self._answer_with(handler, request)
        else:
            self._helpers.submit(self._answer_parked, self._handover, slot, handler, request.copy())

    def _answer_parked(self, handover: Handover, slot: int, handler: Handler, request: Request) -> None:
        self._answer_with(handler, request)
        handover.unpark(slot)

    def _do_once(self, handover: Handover, handler: Handler, request: Request) -> bytes | None:
        """Do what must not be done again, so that a server after this one can tell whether it was done."""
        with self._guard:
            handover.arm(request.unique)
            try:
                body = handler(request)
            except BaseException:
                handover.give_up()
                raise
            faults.reach("server.once_done")
            handover.finish(body or b"")
            faults.reach("server.once_noted")
            return body

    def _resume(self, handover: Handover, request: Request) -> None:
        """Answer what the server before this one had received and left unanswered."""
        for slot, parked in handover.parked():
            handler = self._handlers.get(parked.operation, self._refuse)
            if parked.operation == p.READ:
                self._helpers.submit(self._answer_parked, handover, slot, self._read_fetched, parked)
            elif parked.operation in _SLOW:
                self._helpers.submit(self._answer_parked, handover, slot, handler, parked)
            elif not self._settle(handover, parked):
                self._bring_for(handler, parked, slot, interrupted=True)
            else:
                handover.unpark(slot)
        if handover.has_request:
            request.read_header()
            self._serve_again(handover, request)
            handover.mark_answered()
        handover.is_serving = True

    def _serve_again(self, handover: Handover, request: Request) -> None:
        operation, tree = request.operation, self.tree
        if operation in _SLOW:
            self._pass_on(self._handlers[operation], request)
            return
        if handover.is_deadly(request.unique):
            name = p.OPERATION_NAMES.get(operation, str(operation))
            _LOG.error("%s of node %d was not survived %d times: it is given up", name, request.ino, TRIES)
            if operation not in _UNANSWERED:
                self.channel.reply_error(request, errno.EIO)
            return
        if operation in _UNANSWERED:
            with self._guard:
                self._forget_from(request, forget_again(tree, handover, request))
            return
        if not self._settle(handover, request):
            self._answer(request)

    def _settle(self, handover: Handover, request: Request) -> bool:
        """Answer what must not be done twice, if the server before this one has done it."""
        if request.operation not in ONCE:
            return False
        try:
            with self._guard:
                answer = settle(self.tree, handover, request, self._told, self._owner(request))
        except OSError:  # what it is about is gone: it is told so like anybody else
            return False
        if answer is not None:
            self.channel.reply(request, answer)
        return answer is not None

    def _answer(self, request: Request) -> None:
        self._answer_with(self._handlers.get(request.operation, self._refuse), request)

    def _refuse(self, request: Request) -> None:
        """Answer what is not served, so that the kernel does not ask for it again."""
        self.channel.reply_error(request, errno.ENOSYS)

    def _answer_with(self, handler: Handler, request: Request) -> None:
        try:
            body = handler(request)
        except NotYetHere as missing:
            slot = None if self._handover is None else self._handover.park(request)
            if slot is None and self._handover is not None:  # it is nowhere but where the next one is received
                self._waiting.add(request, _no_wish)
                self._bring_and_answer(handler, request, missing=missing)
            else:
                self._bring_for(handler, request.copy(), slot)
        except Exception as error:  # noqa: BLE001 - one failing request must not end the tree for every program
            self._reply_error(request, error)
        else:
            if body is not None:
                self.channel.reply(request, body)

    def _reply_error(self, request: Request, error: Exception) -> None:
        doing = f"{p.OPERATION_NAMES.get(request.operation, str(request.operation))} of node {request.ino}"
        self.channel.reply_error(request, errno_of(error, doing))

    def _bring_for(self, handler: Handler, request: Request, slot: int | None, *, interrupted: bool = False) -> None:
        """Have what a request needs brought, and the request answered then, in the order in which they came."""
        self._waiting.add(request, partial(self._give_up, request, slot), interrupted=interrupted)
        if self._bringer is None:
            from concurrent.futures import ThreadPoolExecutor  # noqa: PLC0415 - as for the helpers

            # One: who brings things does so one after the other, and mostly what the next one waits for as well.
            self._bringer = ThreadPoolExecutor(1, "avfs-bringer", self._defer)
        self._bringer.submit(self._bring_and_answer, handler, request, slot)

    def _give_up(self, request: Request, slot: int | None) -> None:
        """Answer who is being killed, and sees no answer any more."""
        self.channel.reply_error(request, errno.EINTR)
        self._unpark(slot)

    def _unpark(self, slot: int | None) -> None:
        if slot is not None and self._handover is not None:
            self._handover.unpark(slot)

    def _bring_and_answer(
        self, handler: Handler, request: Request, slot: int | None = None, missing: NotYetHere | None = None
    ) -> None:
        """Bring what a request needs, which takes no lock, until it can be answered or nobody wants that any more."""
        failed: Exception | None = None
        while self._waiting.is_wanted(request):
            if missing is not None:
                try:
                    _bring(missing.bring)
                except Exception as error:  # noqa: BLE001 - what can be told without it is told all the same
                    failed = error
            if self._waiting.hold(request):
                missing = self._try_again(handler, request, slot, failed)

    def _try_again(self, handler: Handler, request: Request, slot: int | None, failed: Exception | None) -> NotYetHere | None:
        """Answer a request that is held; give what is missing if that cannot be done yet.

        Called after what was missing was asked for; where that failed, it is not asked for again.
        """
        # What must not be done twice is answered before another operation is noted: a server after this one knows the last one.
        with self._guard if request.operation in ONCE else nullcontext():
            try:
                body = handler(request)
            except NotYetHere as missing:
                if failed is None:
                    self._waiting.let_go(request)
                    return missing
                self._reply_error(request, failed)
            except Exception as error:  # noqa: BLE001 - as above
                self._reply_error(request, error)
            else:
                if body is not None:
                    self.channel.reply(request, body)
            self._unpark(slot)
            self._waiting.remove(request)
        return None

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
        with self._guard:
            node = tree.find(tree.node_at(request.ino), request.name_at(p.BODY))
            if self._forgetting is not None:
                self._forgetting.look()
            return p.NO_ENTRY if node is None else self._told(node)

    def _forget(self, request: Request) -> None:
        self._unpin(request, 0, request.ino, p.FORGET_IN.unpack_from(request.buffer, p.BODY)[0])

    def _batch_forget(self, request: Request) -> None:
        count, _ = p.BATCH_FORGET_IN.unpack_from(request.buffer, p.BODY)
        start = p.BODY + p.BATCH_FORGET_IN.size
        pairs = p.FORGET_ONE.iter_unpack(request.view[start : start + count * p.FORGET_ONE.size])
        for index, (ino, times) in enumerate(pairs):
            self._unpin(request, index, ino, times)

    def _forget_from(self, request: Request, first: int) -> None:
        """Do what is left of a FORGET."""
        if request.operation == p.FORGET:
            if not first:
                self._forget(request)
            return
        count, _ = p.BATCH_FORGET_IN.unpack_from(request.buffer, p.BODY)
        for index in range(first, count):
            at = p.BODY + p.BATCH_FORGET_IN.size + index * p.FORGET_ONE.size
            self._unpin(request, index, *p.FORGET_ONE.unpack_from(request.buffer, at))

    def _unpin(self, request: Request, index: int, ino: int, times: int) -> None:
        tree, handover = self.tree, self._handover
        node = tree.inodes.find(ino)
        if handover is None:
            if node is not None:
                tree.unpin(node, times)
            return
        with self._guard:
            if node is None:
                try:
                    node = tree.node_at(ino)
                except OSError:
                    handover.drop(ino)
                    return
            handover.forgetting(request.unique, index, ino, max(0, node.pins - times))
            tree.unpin(node, times)

    def _interrupt(self, request: Request) -> None:
        """Take note that who waits for an answer got a signal. What does not wait for another machine is answered soon anyway."""
        self._waiting.interrupt(*p.INTERRUPT_IN.unpack_from(request.buffer, p.BODY))

    def _destroy(self, _request: Request) -> bytes:
        return b""

    # --- attributes ------------------------------------------------------------------------------------------

    def _getattr(self, request: Request) -> bytes:
        tree = self.tree
        return p.pack_attr(tree.getattr(tree.node_at(request.ino)))

    def _access(self, request: Request) -> bytes:
        """Answer what only a mount is asked that nobody but root may look into (`host.mounts.mounts`): what root may not do."""
        (mask,) = p.ACCESS_IN.unpack_from(request.buffer, p.BODY)
        tree = self.tree
        node = tree.node_at(request.ino)
        if mask & os.X_OK and node.kind == stat.S_IFREG and not tree.getattr(node).mode & 0o111:
            raise fail(errno.EACCES)
        return b""

    def _setattr(self, request: Request) -> bytes:
        (valid, _, size, _, atime_s, mtime_s, _, atime_ns, mtime_ns, _, mode, _, uid, gid, _) = p.SETATTR_IN.unpack_from(
            request.buffer, p.BODY
        )
        tree = self.tree
        with self._guard:
            node = tree.node_at(request.ino)
            attr = tree.set_attributes(
                node,
                size=size if valid & p.FATTR_SIZE else None,
                uid=uid if valid & p.FATTR_UID else -1,
                gid=gid if valid & p.FATTR_GID else -1,
                mode=mode & 0o7777 if valid & p.FATTR_MODE else None,
                atime_ns=atime_s * 1_000_000_000 + atime_ns if valid & p.FATTR_ATIME else None,
                mtime_ns=mtime_s * 1_000_000_000 + mtime_ns if valid & p.FATTR_MTIME else None,
            )
            if valid & p.FATTR_KILL_SUIDGID and not valid & p.FATTR_MODE and self._drop_privileges(request, node, attr):
                attr = tree.getattr(node)
            return p.pack_attr(attr)

    def _drop_privileges(self, request: Request, node: Node, attr: Attr) -> bool:
        """Take set-uid, set-gid and capabilities from a file that somebody changes who may not give them.

        The system does so by itself when an ordinary user's server writes; for root's it is done here. Tells whether
        anything was changed.
        """
        if self._uid != 0 or not (attr.mode & (stat.S_ISUID | stat.S_ISGID) or node.has_xattrs):
            return False
        tree = self.tree
        mode = stat.S_IMODE(attr.mode)
        kept = mode & ~stat.S_ISUID
        if mode & stat.S_IXGRP or (request.uid and request.gid != attr.gid):  # else it is for members of the group to give
            kept &= ~stat.S_ISGID
        if kept != mode:
            tree.chmod(node, kept)
        if node.has_xattrs and _CAPABILITY in tree.read_xattrs(node):
            tree.remove_xattr(node, _CAPABILITY)
            return True
        return kept != mode

    def _drop_and_tell(self, request: Request, node: Node) -> None:
        """The same, where the answer has no attributes: the kernel would go on showing those that it knows.

        It may be told so from here, unlike of content: it takes no lock of the inode for that.
        """
        if self._drop_privileges(request, node, self.tree.getattr(node)):
            self.channel.forget_attributes(node.ino)

    def _drop_for_others(self, request: Request, node: Node) -> None:
        """The same before a change of which the kernel does not say whether who makes it may give them: root may."""
        if request.uid:
            self._drop_and_tell(request, node)

    def _statfs(self, _request: Request) -> bytes:
        return p.pack_statfs(self.tree.statvfs())

    def _setxattr(self, request: Request) -> bytes:
        size, flags = p.SETXATTR_IN.unpack_from(request.buffer, p.BODY)
        data = bytes(request.view[p.BODY + p.SETXATTR_IN.size : request.end])
        name, _, value = data.partition(b"\0")
        self.tree.set_xattr(self.tree.node_at(request.ino), name, value[:size], flags=flags)
        return b""

    def _getxattr(self, request: Request) -> bytes | None:
        tree = self.tree
        node = tree.node_at(request.ino)
        if not tree.may_have_xattrs(node):
            # Most of what is asked: the kernel looks for `security.capability` before it writes to a file.
            nothing_has_any = self._xattr_search is not None and self._search_xattrs(self._xattr_search)
            missing = missing_xattr(request.name_at(_XATTR_NAME_AT))
            self.channel.reply_error(request, errno.ENOSYS if nothing_has_any else missing)
            return None
        size, _ = p.GETXATTR_IN.unpack_from(request.buffer, p.BODY)
        return _sized(tree.get_xattr(node, request.name_at(_XATTR_NAME_AT)), size)

    def _search_xattrs(self, search: Iterator[bool]) -> bool:
        """Look a little further whether anything has attributes; True when nothing has. Costs one directory a request."""
        if self.counts[p.GETXATTR] < _SEARCH_AFTER:
            return False
        try:
            is_over = next(search)
        except StopIteration:
            self._xattr_search = None
            del self._handlers[p.GETXATTR]
            return True
        except AvfsError:  # an object is missing: who needs it is told
            is_over = True
        if is_over:
            self._xattr_search = None
        return False

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
        with self._guard:
            return self._told(tree.symlink(tree.node_at(request.ino), name, target, owner=self._owner(request)))

    def _mknod(self, request: Request) -> bytes:
        mode, rdev, _, _ = p.MKNOD_IN.unpack_from(request.buffer, p.BODY)
        name = request.name_at(p.BODY + p.MKNOD_IN.size)
        tree = self.tree
        owner = self._owner(request)
        with self._guard:
            parent = tree.node_at(request.ino)
            if stat.S_IFMT(mode) not in (stat.S_IFREG, 0):
                return self._told(tree.mknod(parent, name, mode, p.decode_rdev(rdev), owner=owner))
            node, attr = tree.create_described(parent, name, stat.S_IMODE(mode), owner=owner)
            tree.pin(node)
            return p.pack_entry(attr)

    def _mkdir(self, request: Request) -> bytes:
        mode, _ = p.MKDIR_IN.unpack_from(request.buffer, p.BODY)
        name = request.name_at(p.BODY + p.MKDIR_IN.size)
        tree = self.tree
        with self._guard:
            parent = tree.node_at(request.ino)
            return self._told(tree.mkdir(parent, name, stat.S_IMODE(mode), owner=self._owner(request)))

    def _tmpfile(self, request: Request) -> bytes:
        _, mode, _, _ = p.CREATE_IN.unpack_from(request.buffer, p.BODY)
        tree = self.tree
        with self._guard:
            parent = tree.node_at(request.ino)
            node = tree.create_unnamed(parent, stat.S_IMODE(mode), owner=self._owner(request))
            return self._told(node) + p.OPEN_OUT.pack(0, 0, 0)

    def _unlink(self, request: Request) -> bytes:
        tree = self.tree
        with self._guard:
            tree.unlink(tree.node_at(request.ino), request.name_at(p.BODY))
        return b""

    def _rmdir(self, request: Request) -> bytes:
        tree = self.tree
        with self._guard:
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
        with self._guard:
            tree.rename(tree.node_at(request.ino), name, tree.node_at(new_parent), new_name, flags=flags)
        return b""

    def _link(self, request: Request) -> bytes:
        (ino,) = p.LINK_IN.unpack_from(request.buffer, p.BODY)
        tree = self.tree
        with self._guard:
            node = tree.link(tree.node_at(ino), tree.node_at(request.ino), request.name_at(p.BODY + p.LINK_IN.size))
            return self._told(node)

    # --- listings --------------------------------------------------------------------------------------------

    def _list(self, node: Node, position: int) -> Listing:
        """Find the listing that is being read, or begin one. Called with the tree's lock held."""
        found = self._listings.find(node.ino) if position else None
        return found or self._listings.keep(node.ino, make_listing(self.tree.readdir_shown(node)))

    def _readdir(self, request: Request) -> bytes:
        _, position, size, *_ = p.READ_IN.unpack_from(request.buffer, p.BODY)
        tree = self.tree
        pieces: list[bytes] = []
        with self._guard:
            node = tree.node_at(request.ino)
            listing = self._list(node, position)
            left = self._add_dots(pieces, node, position, size, b"")
            for index in range(listing.after(position), len(listing.names)):
                name, kind = listing.names[index]
                known = node.children.get(name)
                # The number of what nobody has looked at is not known; 0 would make programs skip the entry.
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
            node = tree.node_at(request.ino)
            if answers is None:
                if self._forgetting is not None:
                    self._forgetting.look()
                return self._list_told(node, position, size)[0]
            found = answers.find(node.ino, position, size)
            if found is not None:
                tree.pin_all(found[1])
                return found[0]
            if self._forgetting is not None:
                self._forgetting.look()
            body, told = self._list_told(node, position, size)
            if told is not None:
                answers.keep(node.ino, position, size, body, told)
            return body

    def _list_told(self, node: Node, position: int, size: int) -> tuple[bytes, list[Node] | None]:
        """Describe the next entries of a directory to the kernel, which knows them from now on. Called with the tree's lock held.

        Gives the nodes, too; None where some were left out, because their sizes are on another machine.
        """
        tree = self.tree
        pieces: list[bytes] = []
        told: list[Node] = []
        listing = self._list(node, position)
        if not position and node.lower is not None:
            tree.lower.learn_sizes(node.lower)
        left = self._add_dots(pieces, node, position, size, p.HIDDEN_ENTRY)
        known, below = node.children, tree.lower_children(node)
        is_whole = True
        for index in range(listing.after(position), len(listing.names)):
            name, kind = listing.names[index]
            left -= p.ENTRY_OUT.size + (p.DIRENT.size + len(name) + 7 & ~7)
            if left < 0:
                break
            lower = below.get(name)
            if lower is not None and name not in known:
                try:
                    child, length = tree.show_lower(node, name, lower)
                except _UNTOLD:  # then as below
                    pass
                else:
                    place = listing.positions[index]
                    pieces.append(p.pack_listed(child.ino, lower.mode, tree.owner, length, lower.mtime_ns, place, name))
                    told.append(child)
                    continue
            found = tree.find(node, name)
            if found is None:  # removed since it was listed
                continue
            try:
                entry = self._told(found)
                told.append(found)
            except FileNotFoundError:
                continue
            except _UNTOLD:  # its size is with a server, or nowhere: the name is known all the same
                entry = p.HIDDEN_ENTRY
                is_whole = False
            pieces.append(p.pack_dirent(entry + p.DIRENT.pack(found.ino, listing.positions[index], len(name), kind >> 12), name))
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

    def _read(self, request: Request) -> bytes | None:
        _, offset, size, *_ = p.READ_IN.unpack_from(request.buffer, p.BODY)
        tree = self.tree
        found = tree.read_now(tree.node_at(request.ino), size, offset)
        if found is None:  # a big blob is taken out of its pack first: others shall not wait for that
            self._pass_on(self._read_fetched, request)
        return found

    def _read_fetched(self, request: Request) -> bytes:
        _, offset, size, *_ = p.READ_IN.unpack_from(request.buffer, p.BODY)
        tree = self.tree
        return tree.read(tree.node_at(request.ino), size, offset)

    def _write(self, request: Request) -> bytes:
        offset, size, flags = p.WRITE_HEAD.unpack_from(request.buffer, p.BODY)
        tree = self.tree
        node = tree.node_at(request.ino)
        done = tree.write(node, request.view[_WRITTEN_AT : _WRITTEN_AT + size], offset)
        if flags & p.WRITE_KILL_SUIDGID:
            self._drop_and_tell(request, node)
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
        fd = tree.open_file(node, os.O_RDWR, judged=True)
        try:
            self._drop_for_others(request, node)
            fallocate(fd, mode, offset, length)
        finally:
            os.close(fd)
            tree.mark_changed(node)
        return b""

    def _lseek(self, request: Request) -> bytes:
        _, offset, whence = p.LSEEK_IN.unpack_from(request.buffer, p.BODY)
        tree = self.tree
        return p.LSEEK_OUT.pack(tree.seek(tree.node_at(request.ino), offset, whence))

    def _copy_file_range(self, request: Request) -> bytes:
        _, offset, target_ino, _, target_offset, length, _ = p.COPY_FILE_RANGE_IN.unpack_from(request.buffer, p.BODY)
        tree = self.tree
        source, target = tree.node_at(request.ino), tree.node_at(target_ino)
        out = tree.open_file(target, os.O_RDWR, judged=True)  # first: if both are one file, it is brought up before it is read
        try:
            into = tree.open_file(source, os.O_RDONLY, judged=True)
            try:
                self._drop_for_others(request, target)
                done = os.copy_file_range(into, out, min(length, _COPY_MAX), offset, target_offset)
            finally:
                os.close(into)
        finally:
            os.close(out)
            tree.mark_changed(target)
        return p.WRITE_OUT.pack(done)


def _no_wish() -> None:
    """Do nothing: everything is here."""


def _bring(bring: Callable[[], None]) -> None:
    """Bring something, and before it what it needs in turn: the content of what is copied may be on a server."""
    while True:
        try:
            bring()
        except NotYetHere as missing:
            missing.bring()
        else:
            return


def _sized(value: bytes, size: int) -> bytes:
    """Answer with an attribute, or with its size if that is asked for."""
    if not size:
        return p.GETXATTR_OUT.pack(len(value))
    if len(value) > size:
        raise fail(errno.ERANGE)
    return value
