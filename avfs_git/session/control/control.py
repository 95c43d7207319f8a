"""The control socket of a session: operations on a mounted workspace, carried out where the workspace is.

Decided here: in which order and in which thread requests are carried out, while programs use the workspace. `connections` decides
who may ask, `operations` what there is to ask for; docs/reference/control.md is the normative protocol. The process that serves a
tree makes a `ControlServer` when it holds the workspace (`OpenWorkspace.serve`, or `take_over` after a server was killed) and
calls `start`; it calls `close` when the tree is unmounted, before it gives the workspace back. The listening socket belongs to
the process above and outlives the server: clients of a server that was killed find the next one.

Two threads: one speaks with all clients and waits for none of them; one carries out their operations, one after the other.
Neither serves requests of the kernel, so the second may tell the kernel what to forget. While an operation changes files, the
lock file says so (`is_operating`), and for which client: the next server, after a kill, makes the kernel forget everything, and
a process that waits for the workspace can name the client.

An operation that only looks waits `_LOOK_S` for its turn; then it is done beside the one that runs, in a thread of its own
(`workspace.opened.beside`), with the workspace opened anew. Locks:

- the workspace lock is held by the thread of operations, from `_change` on; a look never takes it;
- the guard of the tree keeps one moment together, for programs, operations and looks; what is reported of changes, and which
  operation keeps programs waiting, is written with it;
- `_wanted` guards which requests wait, run, or look; no file is touched with it;
- `_answers` is how other threads reach the thread that speaks, after which they call `Clients.poke`.

A request that changes something waits for its turn for as long as its client said, then it is refused as busy; one whose client
has gone is not begun. Nothing survives but what the operations write.
"""

from __future__ import annotations

import _socket
import contextlib
import logging
import os
import select
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from avfs_git.errors import (
    AvfsError,
    HostError,
    InternalError,
    InvalidInput,
    PeerRefused,
    RequestNotUnderstood,
    SessionEnding,
    WorkspaceBusy,
)
from avfs_git.faults import reach
from avfs_git.host.files.umask import have_own_umask
from avfs_git.host.locks.locks import LOCK_TIMEOUT_S, Holder
from avfs_git.model import CheckpointResult
from avfs_git.paths import TreePath
from avfs_git.session.control import wire
from avfs_git.session.control.connections import Client, Clients, close_all
from avfs_git.session.control.invalidate import Forgetter, Watch, tell_everything
from avfs_git.session.control.operations import TABLE, Operation, save_checkpoint
from avfs_git.session.control.wire import Handle, Served
from avfs_git.vfs.tree.merged import MergedTree
from avfs_git.workspace.opened.beside import Disturbed, look_beside
from avfs_git.workspace.opened.workspace import OpenWorkspace

_LOG = logging.getLogger(__name__)

_WAIT_MAX_S = 3600.0
_FLUSHED_WITHIN_S = 10.0
"""How long a client may take to have pages written out."""
_SOON_S = 0.05
_LOOK_S = 0.05
"""How long a look waits for the operation before it, which is mostly over by then."""
_Answer = tuple[bytes, list[int]]
_After = Callable[[], object] | None
_Done = tuple[Any, Any, _After]
"""A result, its type, and what is to be done after the answer."""


class _Request:
    """Something that a client asked for."""

    __slots__ = ("arguments", "beside_at", "client", "deadline", "flushes", "incoming", "name", "number", "operation", "since_ns")

    def __init__(self, client: Client, number: object, name: str, deadline: float) -> None:
        self.client = client
        self.number = number
        self.name = name
        self.deadline = deadline
        self.operation: Operation | None = None
        self.arguments: dict[str, Any] = {}
        self.incoming = wire.Incoming()
        self.flushes = False
        """Whether the client answers `wire.FLUSH`."""
        self.beside_at: float | None = None
        """When it is done beside another one, as it only looks."""
        self.since_ns = 0
        """When it was begun."""

    @property
    def holder(self) -> Holder:
        """The client that others wait for while the request is carried out."""
        return Holder(self.client.pid, self.since_ns, f"'{self.name}'")


class ControlServer:
    """Serves the control socket of one mounted workspace."""

    def __init__(
        self,
        listener: _socket.socket,
        opened: OpenWorkspace,
        kernel: Forgetter | None,
        *,
        served: Served,
        end: Callable[[], object],
        changed: Callable[[], object] | None = None,
    ) -> None:
        """Prepare to serve.

        `end` begins to unmount and returns; it is called after the answer to a `stop` whose final checkpoint is safe. `changed`
        is called after each operation that may have moved the branch, when the workspace is free again. The listener stays open.
        """
        self._clients = Clients(listener, self._take_request)
        self._opened = opened
        self._kernel = kernel
        self._served = served
        self._end = end
        self._changed = changed
        self._waiting: deque[_Request] = deque()
        self._answers: deque[tuple[_Request, bytes, list[int]]] = deque()
        self._wanted = threading.Condition()
        self._running: _Request | None = None
        self._beside: set[threading.Thread] = set()
        self._has_own_umask = False
        self._is_closing = False
        self._is_settled = False
        """Whether every request that was taken has its answer."""
        self._threads = [
            threading.Thread(target=self._speak, name="avfs-control", daemon=True),
            threading.Thread(target=self._work, name="avfs-operations", daemon=True),
        ]

    def start(self) -> None:
        """Begin to serve, in threads of its own."""
        if self._kernel is not None and self._opened.lock.is_operating:
            threading.Thread(target=self._forget_all, args=(self._kernel,), name="avfs-forget", daemon=True).start()
        for thread in self._threads:
            thread.start()

    def _forget_all(self, kernel: Forgetter) -> None:
        """Make good that a server was killed before it had told the kernel what an operation changed."""
        tell_everything(self._opened.merged, kernel)
        self._opened.lock.mark_operating(operating=False)

    def close(self) -> None:
        """Stop serving: what is being done is finished and answered, what waits is not begun. A second call does nothing."""
        if self._is_closing:
            return
        with self._wanted:
            self._is_closing = True
            self._wanted.notify_all()
        self._threads[1].join()
        for thread in list(self._beside):
            thread.join()
        while self._waiting:
            request = self._waiting.popleft()
            request.incoming.close()
            self._answers.append((request, *wire.pack_error(request.number, self._ending())))
        self._is_settled = True
        self._clients.poke()
        self._threads[0].join()
        self._clients.close()

    # --- speaking ----------------------------------------------------------------------------------------------------

    def _speak(self) -> None:
        while True:
            self._clients.attend(self._pause())
            self._refuse_late()
            self._look_beside()
            self._send_answers()
            if self._is_settled and not self._answers:
                return

    def _pause(self) -> float | None:
        """Tell how long nothing can happen by itself."""
        with self._wanted:
            soonest = min((request.beside_at or request.deadline for request in self._waiting), default=None)
            is_idle = self._running is None
        if soonest is None:
            return None
        return _SOON_S if is_idle else max(soonest - time.monotonic(), 0)

    def _take_request(self, client: Client, line: bytes, descriptors: list[int]) -> None:
        incoming = wire.Incoming(descriptors)
        if client.is_apart:
            incoming.close()
            self._clients.refuse(client, PeerRefused(self._opened.fork))
            return
        number: object = None
        try:
            message = wire.unpack_message(line, incoming)
            number = message.get("id")
            request = _read_request(client, message, incoming)
        except wire.NotUnderstood as error:
            incoming.close()
            self._clients.refuse(client, RequestNotUnderstood(str(error)))
            return
        except InvalidInput as error:  # it is a message, but nothing here can be meant
            incoming.close()
            self._clients.send(client, *wire.pack_error(number, error))
            return
        if request.name == "hello":
            incoming.close()
            client.umask = request.arguments["umask"] & 0o777
            body = wire.codec_of(Served)[0](self._served, out := wire.Outgoing())
            self._clients.send(client, *wire.pack_message({"v": wire.VERSION, "id": number, "ok": True}, "result", body, out))
            return
        with self._wanted:
            is_taken = not self._is_closing
            if is_taken:
                self._clients.hold(client)
                self._waiting.append(request)
                self._wanted.notify_all()
        if not is_taken:
            incoming.close()
            self._clients.send(client, *wire.pack_error(number, self._ending()))

    def _ending(self) -> SessionEnding:
        return SessionEnding(self._opened.fork, "a session that ends", pid=os.getpid())

    def _refuse_late(self) -> None:
        """Answer those whose turn does not come in time."""
        now = time.monotonic()
        with self._wanted:
            if self._running is None:  # the next one is about to be begun
                return
            late = [request for request in self._waiting if request.deadline <= now and request.beside_at is None]
            for request in late:
                self._waiting.remove(request)
            holder = self._running.holder
        for request in late:
            request.incoming.close()
            busy = WorkspaceBusy(self._opened.fork, holder.describe(), pid=holder.pid)
            self._answers.append((request, *wire.pack_error(request.number, busy)))

    def _look_beside(self) -> None:
        """Let those that only look go on, each in a thread of its own, where their turn has not come soon."""
        now = time.monotonic()
        with self._wanted:
            if self._running is None or self._is_closing:
                return
            for request in [each for each in self._waiting if each.beside_at is not None and each.beside_at <= now]:
                self._waiting.remove(request)
                thread = threading.Thread(target=self._work_beside, args=(request,), name="avfs-look", daemon=True)
                self._beside.add(thread)
                thread.start()

    def _send_answers(self) -> None:
        while self._answers:
            request, line, descriptors = self._answers.popleft()
            self._clients.answer(request.client, line, descriptors)

    # --- working -----------------------------------------------------------------------------------------------------

    def _work(self) -> None:
        self._has_own_umask = have_own_umask()
        while True:
            with self._wanted:
                self._wanted.wait_for(lambda: self._waiting or self._is_closing)
                if self._is_closing:
                    return
                request = self._running = self._waiting.popleft()
                request.since_ns = time.time_ns()
            with self._opened.lock.signed(request.holder):
                answer, then = self._carry_out(request, self._do)
            request.incoming.close()
            self._opened.flush_pages = None
            with self._wanted:
                self._running = None
            self._answers.append((request, *answer))
            self._clients.poke()
            if then is not None:
                then()

    def _work_beside(self, request: _Request) -> None:
        if have_own_umask():
            os.umask(request.client.umask)
        try:
            answer, _ = self._carry_out(request, self._look)
            request.incoming.close()
            self._answers.append((request, *answer))
        except Disturbed:
            with self._wanted:
                request.beside_at = None
                self._waiting.appendleft(request)
                self._wanted.notify_all()
        with self._wanted:
            self._beside.discard(threading.current_thread())
        self._clients.poke()

    def _carry_out(self, request: _Request, do: Callable[[_Request], _Done]) -> tuple[_Answer, _After]:
        """Do what was asked, unless the client has gone; give the answer, and what is to be done after it."""
        out = wire.Outgoing()
        try:
            if _has_gone(request.client.socket):
                return (b"\n", []), None
            result, hint, then = do(request)
            body = wire.codec_of(hint)[0](result, out)
            return wire.pack_message({"v": wire.VERSION, "id": request.number, "ok": True}, "result", body, out), then
        except Disturbed:
            raise
        except AvfsError as error:
            failure = error
        except OSError as error:  # the disk's, at a step that has no words of its own for it
            failure = HostError(f"carry out '{request.name}'", error)
        except Exception as error:  # noqa: BLE001 - whatever it is, the session goes on
            _LOG.exception("'%s' failed", request.name)
            failure = InternalError(f"'{request.name}' failed in the session: {error!r}")
        close_all(out.handles)
        try:
            return wire.pack_error(request.number, failure), None
        except Exception:  # noqa: BLE001 - without an answer its client would wait for ever
            _LOG.exception("the answer to '%s' cannot be written", request.name)
            unspoken = InternalError(f"'{request.name}' failed in the session, which cannot say how")
            return wire.pack_error(request.number, unspoken), None

    def _look(self, request: _Request) -> _Done:
        """Do what only looks, beside another operation."""
        operation = request.operation
        assert operation is not None  # noqa: S101 - else it has no time for that
        encode = wire.codec_of(operation.signature[1])[0]

        def discard(result: object) -> None:
            encode(result, unused := wire.Outgoing())
            close_all(unused.handles)

        result = look_beside(
            self._opened,
            lambda looking: operation.function(looking, **request.arguments),
            flush=partial(self._have_flushed, request.client) if request.flushes else None,
            discard=discard,
        )
        return result, operation.signature[1], None

    def _do(self, request: _Request) -> _Done:
        """Do what was asked; give the result, its type, and what is to be done after the answer."""
        operation, arguments = request.operation, request.arguments
        if self._has_own_umask:
            os.umask(request.client.umask)
        self._opened.flush_pages = partial(self._have_flushed, request.client) if request.flushes else None
        if operation is not None:
            return self._change(lambda: operation.function(self._opened, **arguments), operation), operation.signature[1], None
        if request.name == "invalidate":
            if self._kernel is not None:
                _invalidate(self._opened.merged, self._kernel, arguments["paths"])
            return None, None, None
        saved = None
        if arguments["checkpoint"]:
            saved = self._change(lambda: save_checkpoint(self._opened), TABLE["save_checkpoint"])
        return saved, CheckpointResult | None, self._end

    def _have_flushed(self, client: Client) -> None:
        """Have the client write out what programs have changed in memory, and wait for that, but not for ever."""
        try:
            client.socket.send(wire.FLUSH + b"\n")
            poll = select.poll()
            poll.register(client.socket, select.POLLIN)
            end = time.monotonic() + _FLUSHED_WITHIN_S
            said = bytearray()
            while b"\n" not in said and len(said) <= len(wire.FLUSHED):
                if not poll.poll(max(0.0, end - time.monotonic()) * 1000):
                    break
                if not (data := client.socket.recv(len(wire.FLUSHED) + 1 - len(said))):
                    break
                said += data
        except OSError:
            said = bytearray()
        if bytes(said) != wire.FLUSHED + b"\n":
            client.closing = True  # what it sends from now on cannot be told from the rest of its answer
            _LOG.warning("a client did not write out what programs have mapped; a checkpoint may hold older pages of that")

    def _change(self, function: Callable[[], Any], operation: Operation) -> Any:
        """Do something to the workspace, then tell the kernel what it must forget."""
        opened, kernel = self._opened, self._kernel
        if opened.is_distrusted:
            with opened.locked():  # which looks at the disk again, and puts back what was left half done
                pass
            if kernel is not None:
                tell_everything(opened.merged, kernel)
        if not operation.changes:
            return function()
        watch = Watch(opened.merged)
        try:
            with opened.locked():
                opened.lock.mark_operating(operating=True)
                with watch:
                    return function()
        finally:
            # Also after a failure: what was changed and put back has been changed. Without the workspace's lock: a request for
            # `.git` may wait for that, while the kernel waits for the request before it forgets.
            reach("control.changed")
            if kernel is not None:
                watch.tell(kernel)
            opened.lock.mark_operating(operating=False)
            if self._changed is not None:
                self._changed()


def _read_request(client: Client, message: Mapping[str, Any], incoming: wire.Incoming) -> _Request:
    """Read what a message asks for.

    Raises:
        NotUnderstood: If it is not in the form that the protocol says.
        InvalidInput: If there is no such operation, or its arguments are not of its types.
    """
    name, wait_s = message.get("op"), message.get("wait_s", LOCK_TIMEOUT_S)
    if not isinstance(name, str) or not isinstance(wait_s, int | float) or isinstance(wait_s, bool):
        raise wire.NotUnderstood("'op' or 'wait_s' is missing or of the wrong type")
    request = _Request(client, message.get("id"), name, time.monotonic() + min(max(wait_s, 0.0), _WAIT_MAX_S))
    request.incoming = incoming
    request.flushes = message.get("flushes") is True
    given = wire.body_of(message, "args", incoming)
    if not isinstance(given, dict):
        raise wire.NotUnderstood("'args' is not an object")
    request.operation = TABLE.get(name)
    if request.operation is not None:
        hints, _, needed = request.operation.signature
    elif name in OWN:
        hints, needed = OWN[name], frozenset(OWN[name])
    else:
        raise InvalidInput(f"this session knows no operation '{name[:100]}'", hint="Is it of an older version of avfs?")
    if not needed <= given.keys() <= hints.keys():
        raise InvalidInput(f"'{name}' does not take these arguments", details={"arguments": sorted(map(str, given))[:50]})
    try:
        request.arguments = {key: wire.codec_of(hints[key])[1](value, incoming) for key, value in given.items()}
    except wire.NotUnderstood as error:
        raise InvalidInput(f"an argument of '{name}' cannot be read: {error}") from error
    # What takes over a descriptor is done once.
    if request.operation is not None and request.operation.only_looks((), request.arguments) and Handle not in hints.values():
        request.beside_at = time.monotonic() + _LOOK_S
    return request


OWN: dict[str, dict[str, Any]] = {
    "hello": {"umask": int},
    "invalidate": {"paths": tuple[TreePath, ...]},
    "stop": {"checkpoint": bool},
}
"""What is asked of the session itself, with the types of the arguments."""


def _invalidate(merged: MergedTree, kernel: Forgetter, paths: tuple[TreePath, ...]) -> None:
    """Let the kernel forget some paths; everything, if none are named."""
    if not paths:
        tell_everything(merged, kernel)
    for path in paths:
        with contextlib.suppress(OSError, AvfsError):
            parent, name, node = merged.locate(path, follow_last=False)
            if node is None or not node.is_dir:
                kernel.forget_name(parent.ino, name)
            kernel.forget_content((node or parent).ino)


def _has_gone(connection: socket.socket) -> bool:
    """Whether a client has closed its end."""
    try:
        return connection.fileno() < 0 or not connection.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
    except BlockingIOError:
        return False
    except OSError:
        return True
