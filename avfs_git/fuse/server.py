"""Serving a live tree: receiving the kernel's requests, and answering each in the right thread, once.

Decided here: which thread answers a request, and how a server goes on after the one before it was killed. What a
request means is decided in `fuse.operations`. A session makes a `TreeServer` over its merged tree while it holds the
workspace's lock, and calls `serve`, which returns when the tree is unmounted.

Requests that are answered ENOSYS once, after which the kernel does not ask again:

- OPEN and OPENDIR: opening and closing then need no request. A node that is told to the kernel is pinned until the
  kernel forgets it, which keeps an unlinked file alive while it is open.
- CREATE: the kernel then makes files with MKNOD. A file that CREATE has opened would be closed with a request.
- Extended attributes, where they are turned off; LSEEK, where no file has holes.

Four kinds of threads answer:

- The serving thread, nearly everything. A second one costs a third more processor time a request and gains nothing.
- Helpers, what may wait long for the disk (`_SLOW`), so that an fsync stops no listing.
- Readers, what may wait until a big blob is taken out of its pack, here or by another server (`_READS`): it stops no
  fsync.
- The bringer, what needs an object of a remote server (partial clones), or changes a large file of the lower layer. It
  fetches the object, or copies the file up, without any lock, and then answers. A program that is killed meanwhile gets
  EINTR (`fuse.handover.waiting`).

A file that is removed goes to `work` first, because the kernel still knows it. Removing it from there is the slowest
step on most disks, so the server does it when it is idle. A request that needs room, or tells how much there is, waits
for it.

Nothing is kept here that is not in the tree. A server with a `Handover` may be killed at any moment: the nodes' numbers
and pins, and the requests that it had received, are there. The next server answers those first.
"""

from __future__ import annotations

import errno
from collections import Counter, deque
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from functools import partial
from typing import TYPE_CHECKING

from avfs_git import faults
from avfs_git.fuse import protocol as p
from avfs_git.fuse.channel import Channel, Request
from avfs_git.fuse.errnos import errno_of
from avfs_git.fuse.handover.forgetting import NODES_MAX, Forgetting
from avfs_git.fuse.handover.handover import TRIES, Handover
from avfs_git.fuse.handover.resume import ONCE, find_answer, forget_again
from avfs_git.fuse.handover.waiting import Waiting
from avfs_git.fuse.observing import FileEvents
from avfs_git.fuse.operations import Handler, Operations
from avfs_git.gitstore.source import NotYetHere
from avfs_git.lazy import LazyLogger
from avfs_git.vfs.asked import Allows
from avfs_git.vfs.tree.merged import MergedTree

if TYPE_CHECKING:
    from concurrent.futures import ThreadPoolExecutor

_LOG = LazyLogger(__name__)
_HELPERS = 4
_SLOW = frozenset({p.FSYNC, p.FSYNCDIR, p.FALLOCATE, p.COPY_FILE_RANGE})
_READS = frozenset({p.READ, p.COPY_FILE_RANGE})
_UNANSWERED = frozenset({p.FORGET, p.BATCH_FORGET})
_NEEDS_NO_ROOM = frozenset(
    {
        p.UNLINK,
        p.RMDIR,
        *_UNANSWERED,
        p.LOOKUP,
        p.GETATTR,
        p.GETXATTR,
        p.ACCESS,
        p.READ,
        p.READDIR,
        p.READDIRPLUS,
        p.READLINK,
    }
)
"""What needs no room on the disk: it is answered before removed files are gone."""


class TreeServer:
    """Serves one merged tree on one channel.

    Attributes:
        counts: How many requests of each operation came, by its number; for tests and for people.
        events: What programs do to files of the tree, for listeners.
    """

    def __init__(
        self,
        tree: MergedTree,
        channel: Channel,
        handover: Handover,
        *,
        most_nodes: int | None = NODES_MAX,
        xattr_search: Iterator[bool] | None = None,
        wait_elsewhere: Callable[[], None] | None = None,
        allows: Allows | None = None,
    ) -> None:
        """Prepare to serve.

        Args:
            tree: What is served.
            channel: The channel, negotiated.
            handover: Where the server before this one left what it knew, and where this one leaves it to the next.
            most_nodes: How many nodes the kernel may know before it is asked to forget some
                (`fuse.handover.forgetting`). None below an overlayfs, which keeps all of them as long as its own.
            xattr_search: Searches a read-only tree for extended attributes, piece by piece. The overlayfs above asks
                for a mark of each file; when the search finds none in the whole tree, the kernel is told so and stops
                asking.
            wait_elsewhere: Makes reads of objects in the calling thread raise `NotYetHere` instead of waiting for a
                remote server. Large copies are deferred in any case.
            allows: Asks plug-ins before each change (`fuse.asking`).
        """
        self.tree = tree
        self.channel = channel
        self._guard = tree.guard
        self._handover = handover
        tree.pins.follow(handover)
        channel.follow(handover)
        self.counts: Counter[int] = Counter()
        self._pools: dict[str, ThreadPoolExecutor] = {}
        self._bringer: ThreadPoolExecutor | None = None
        self._wait_elsewhere = wait_elsewhere
        self._waiting = Waiting()
        forgetting = None if most_nodes is None else Forgetting(tree, channel.forget_name, most_nodes)
        self._operations = Operations(tree, channel, forgetting, xattr_search=xattr_search)
        self._handlers = self._operations.handlers
        self._handlers |= {
            p.READ: self._read,
            p.FORGET: self._forget,
            p.BATCH_FORGET: self._forget,
            p.INTERRUPT: self._interrupt,
        }
        for operation in ONCE & self._handlers.keys():
            self._handlers[operation] = partial(self._do_once, self._handlers[operation])
        if allows is not None:
            from avfs_git.fuse.asking import Asking  # noqa: PLC0415 - most trees have no plug-ins

            self._handlers |= Asking(tree, channel, allows).before(self._handlers)
        self.events = FileEvents(tree, self._handlers)

    def serve(self) -> None:
        """Answer requests until the tree is unmounted."""
        receive, counts, handlers = self.channel.receive, self.counts, self._handlers
        request = self._handover.request()
        buffer = request.buffer
        leavings = self.tree.pins.leavings = deque()
        self.channel.spare = self.tree.pins.drop_leaving
        self._defer()
        try:
            self._resume(request)
            while receive(request):
                operation = request.operation
                counts[operation] += 1
                if leavings and operation not in _NEEDS_NO_ROOM:
                    while self.tree.pins.drop_leaving():
                        pass
                if operation in _SLOW:
                    self._pass_on(handlers[operation], request)
                else:
                    self._answer_with(handlers.get(operation, self._refuse), request)
                buffer[p.OPERATION_AT] = 0  # answered, or noted elsewhere: the next server skips it
        finally:
            for pool in (self._bringer, *self._pools.values()):
                if pool is not None:
                    pool.shutdown()
            self.channel.spare = self.tree.pins.leavings = None
        self.tree.pins.empty_attic()

    def _helpers(self, operation: int) -> ThreadPoolExecutor:
        """The threads that answer a slow operation, the readers or the helpers.

        Started by the first request for them.
        """
        kind = "reader" if operation in _READS else "helper"
        pool = self._pools.get(kind)
        if pool is None:
            from concurrent.futures import ThreadPoolExecutor  # noqa: PLC0415 - a tenth of a server's start

            pool = self._pools[kind] = ThreadPoolExecutor(_HELPERS, f"avfs-{kind}", self.tree.steps.defer_copies)
        return pool

    def _defer(self) -> None:
        """Let this thread leave slow work to the bringer."""
        self.tree.steps.defer_copies()
        if self._wait_elsewhere is not None:
            self._wait_elsewhere()

    def _pass_on(self, handler: Handler, request: Request) -> None:
        slot = self._handover.park(request)
        if slot is None:
            self._answer_with(handler, request)
        else:
            self._helpers(request.operation).submit(self._answer_parked, slot, handler, request.copy())

    def _answer_parked(self, slot: int, handler: Handler, request: Request) -> None:
        self._answer_with(handler, request)
        self._handover.unpark(slot)

    def _do_once(self, handler: Handler, request: Request) -> bytes | None:
        """Do an operation that must not be done twice, so that the next server can tell whether it was done."""
        handover = self._handover
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

    def _resume(self, request: Request) -> None:
        """Answer what the server before this one received and did not answer."""
        handover = self._handover
        for slot, parked in handover.parked():
            handler = self._handlers.get(parked.operation, self._refuse)
            if parked.operation == p.READ:
                handler = self._operations.read
            if parked.operation == p.READ or parked.operation in _SLOW:
                self._helpers(parked.operation).submit(self._answer_parked, slot, handler, parked)
            elif not self._answer_if_done(parked):
                self._bring_for(handler, parked, slot, interrupted=True)
            else:
                handover.unpark(slot)
        if handover.has_request:
            request.read_header()
            self._serve_again(request)
            handover.mark_answered()
        handover.is_serving = True

    def _serve_again(self, request: Request) -> None:
        operation, handover = request.operation, self._handover
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
                self._forget(request, forget_again(self.tree, handover, request))
            return
        if not self._answer_if_done(request):
            self._answer_with(self._handlers.get(operation, self._refuse), request)

    def _answer_if_done(self, request: Request) -> bool:
        """Answer an operation that must not be done twice, if the server before this one did it."""
        if request.operation not in ONCE:
            return False
        try:
            with self._guard:
                answer = find_answer(
                    self.tree, self._handover, request, self._operations.told, self._operations.owner(request)
                )
        except OSError:  # its node is gone: serving it says so
            return False
        if answer is not None:
            self.channel.reply(request, answer)
        return answer is not None

    def _refuse(self, request: Request) -> None:
        """Answer ENOSYS: the kernel does not ask again."""
        self.channel.reply_error(request, errno.ENOSYS)

    def _answer_with(self, handler: Handler, request: Request) -> None:
        try:
            body = handler(request)
        except NotYetHere as missing:
            slot = self._handover.park(request)
            if slot is None:  # none is free: answer it before the next one comes
                self._waiting.add(request, _not_parked)
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

    def _bring_for(self, handler: Handler, request: Request, slot: int, *, interrupted: bool = False) -> None:
        """Let the bringer bring what a request needs and answer it, in the order of arrival."""
        self._waiting.add(request, partial(self._give_up, request, slot), interrupted=interrupted)
        if self._bringer is None:
            from concurrent.futures import ThreadPoolExecutor  # noqa: PLC0415 - as for the helpers

            # One thread: what it brings for one request is mostly what the next one needs as well.
            self._bringer = ThreadPoolExecutor(1, "avfs-bringer", self._defer)
        self._bringer.submit(self._bring_and_answer, handler, request, slot)

    def _give_up(self, request: Request, slot: int) -> None:
        self.channel.reply_error(request, errno.EINTR)
        self._handover.unpark(slot)

    def _bring_and_answer(
        self, handler: Handler, request: Request, slot: int | None = None, missing: NotYetHere | None = None
    ) -> None:
        """Bring what a request needs, without any lock, until it can be answered or its program is gone."""
        failed: Exception | None = None
        while self._waiting.is_wanted(request):
            if missing is not None:
                try:
                    _bring(missing.bring)
                except Exception as error:  # noqa: BLE001 - the request may be answered without it
                    failed = error
            if self._waiting.begin_answer(request):
                missing = self._try_again(handler, request, slot, failed)

    def _try_again(
        self, handler: Handler, request: Request, slot: int | None, failed: Exception | None
    ) -> NotYetHere | None:
        """Answer a request after `begin_answer`; return what is missing if that cannot be done yet.

        `failed` says why bringing it failed; it is not brought again then.
        """
        # What must not be done twice is answered before the next operation is noted: the next server knows the last one
        # only.
        with self._guard if request.operation in ONCE else nullcontext():
            try:
                body = handler(request)
            except NotYetHere as missing:
                if failed is None:
                    self._waiting.wait_on(request)
                    return missing
                self._reply_error(request, failed)
            except Exception as error:  # noqa: BLE001 - as above
                self._reply_error(request, error)
            else:
                if body is not None:
                    self.channel.reply(request, body)
            if slot is not None:
                self._handover.unpark(slot)
            self._waiting.remove(request)
        return None

    # --- what the kernel forgets ------------------------------------------------------------------------------

    def _forget(self, request: Request, first: int = 0) -> None:
        for index, (ino, times) in enumerate(request.forgotten()[first:], first):
            self._unpin(request, index, ino, times)

    def _unpin(self, request: Request, index: int, ino: int, times: int) -> None:
        tree, handover = self.tree, self._handover
        with self._guard:
            try:
                node = tree.pins.node_at(ino)
            except OSError:
                handover.drop(ino)
                return
            handover.forgetting(request.unique, index, ino, max(0, node.pins - times))
            tree.pins.unpin(node, times)

    def _interrupt(self, request: Request) -> None:
        """Note that the program of a request got a signal. Only requests that wait for the bringer need that."""
        self._waiting.interrupt(*p.INTERRUPT_IN.unpack_from(request.buffer, p.BODY))

    def _read(self, request: Request) -> bytes | None:
        found = self._operations.read_now(request)
        if found is None:  # other programs must not wait while a big blob is taken out of its pack
            self._pass_on(self.events.telling(p.READ, self._operations.read), request)
        return found


def _not_parked() -> None:
    """Do nothing when a request is given up that was not parked: the caller goes on to the next one."""


def _bring(bring: Callable[[], None]) -> None:
    """Bring what a request needs, and what that needs in turn: a copied file's content may be on a remote server."""
    while True:
        try:
            bring()
        except NotYetHere as missing:
            missing.bring()
        else:
            return
