"""The control socket of a session: operations on a mounted workspace, carried out where the workspace is.

Decided here: in which order and in which thread requests are carried out, while programs use the workspace.
`connections` decides who may ask, `operations` what there is to ask for; docs/reference/control.md is the normative
protocol. The process that serves a tree makes a `ControlServer` when it holds the workspace (`OpenWorkspace.serve`, or
`take_over` after a server was killed) and calls `start`; it calls `close` when the tree is unmounted, before it gives
the workspace back. The listening socket belongs to the process above and outlives the server: clients of a server that
was killed find the next one.

A thread of each client carries out what the client asks for, one request after the other, in the order in which they
came. None of these threads serves requests of the kernel, so that they may tell the kernel what to forget. While an
operation changes files, the lock file says so (`is_operating`), and for which client: the next server, after a kill,
makes the kernel forget everything, and a process that waits for the workspace can name the client.

An operation that only looks waits `_LOOK_S` for its turn; then it is done beside the one that runs
(`workspace.opened.beside`), with the workspace opened anew. Locks:

- the workspace lock is held by the thread whose turn it is, from `_change` on; a look never takes it;
- the guard of the tree keeps one moment together, for programs, operations and looks; what is reported of changes, and
  which operation keeps programs waiting, is written with it;
- `_lock` guards which requests wait and which one runs; no file is touched with it.

A request that changes something waits for its turn for as long as its client said, then it is refused as busy; one
whose client has gone is not begun, and a git that runs for it is killed. Nothing survives but what the operations
write.
"""

from __future__ import annotations

import _socket
import logging
import os
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from functools import partial
from typing import Any

from avfs_git.errors import (
    AvfsError,
    HostError,
    InternalError,
    InvalidInput,
    NoFileEvents,
    PeerRefused,
    RequestNotUnderstood,
    SessionEnding,
    WorkspaceBusy,
)
from avfs_git.faults import reach
from avfs_git.host.files.umask import have_own_umask
from avfs_git.host.locks.locks import LOCK_TIMEOUT_S, Holder
from avfs_git.host.processes.descriptors import is_readable
from avfs_git.host.processes.ended import ended_when
from avfs_git.model import CheckpointResult
from avfs_git.session.control import wire
from avfs_git.session.control.connections import Client, Clients, close_all
from avfs_git.session.control.invalidate import Forgetter, Watch, forget_files, tell_everything
from avfs_git.session.control.listening import EventSource, Listeners
from avfs_git.session.control.operations import save_checkpoint
from avfs_git.session.control.table import TABLE, Operation
from avfs_git.session.control.wire import Served
from avfs_git.workspace.opened.beside import Disturbed, look_beside
from avfs_git.workspace.opened.workspace import OpenWorkspace

_LOG = logging.getLogger(__name__)

_WAIT_MAX_S = 3600.0
_FLUSHED_WITHIN_S = 10.0
"""How long a client may take to have pages written out."""
_LOOK_S = 0.05
"""How long a look waits for the operation before it, which is mostly over by then."""
_Answer = tuple[bytes, list[int]]
_After = Callable[[], object] | None
_Done = tuple[Any, Any, _After]
"""A result, its type, and what is to be done after the answer."""


class _Request:
    __slots__ = (
        "arguments",
        "client",
        "deadline",
        "flushes",
        "looks",
        "name",
        "number",
        "operation",
        "since_ns",
        "turn",
    )

    def __init__(self, client: Client, number: object, name: str, deadline: float) -> None:
        self.client = client
        self.number = number
        self.name = name
        self.deadline = deadline
        self.operation: Operation | None = None
        self.arguments: dict[str, Any] = {}
        self.flushes = False
        """Whether the client answers `wire.FLUSH`."""
        self.looks = False
        """Whether it may be done beside another one, as it only looks."""
        self.turn = threading.Event()
        """Set when it is its turn, or when it gets none."""
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
        events: EventSource | None = None,
    ) -> None:
        """Prepare to serve.

        `end` begins to unmount and returns; it is called after the answer to a `stop` whose final checkpoint is safe.
        `changed` is called after each operation that may have moved the branch, when the workspace is free again.
        `events` tells what programs do to files; None if that is not known. The listener stays open.
        """
        self._clients = Clients(listener, self._serve)
        self._opened = opened
        self._kernel = kernel
        if kernel is not None:
            opened.standstill.forget_names = lambda paths, wait_s: forget_files(opened.merged, kernel, paths, wait_s)
        self._served = served
        self._end = end
        self._changed = changed
        self._listeners = Listeners(opened.fork, events)
        self._lock = threading.Lock()
        self._calm = threading.Condition(self._lock)
        self._waiting: deque[_Request] = deque()
        self._running: _Request | None = None
        self._taken = 0
        """How many requests have no answer yet."""
        self._is_closing = False

    def start(self) -> None:
        """Begin to serve, in threads of its own."""
        if self._kernel is not None and self._opened.lock.is_operating:
            threading.Thread(target=self._forget_all, args=(self._kernel,), name="avfs-forget", daemon=True).start()
        self._clients.start()

    def _forget_all(self, kernel: Forgetter) -> None:
        """Make good that a server was killed before it had told the kernel what an operation changed."""
        tell_everything(self._opened.merged, kernel)
        self._opened.lock.mark_operating(operating=False)

    def close(self) -> None:
        """Stop serving: what is being done is finished and answered, what waits is not begun.

        A second call does nothing.
        """
        if self._is_closing:
            return
        with self._lock:
            self._is_closing = True
            for request in self._waiting:
                request.turn.set()
            self._calm.wait_for(lambda: not self._taken)
        self._listeners.close()
        self._clients.close()

    # --- a client ----------------------------------------------------------------------------------------------------

    def _serve(self, client: Client) -> None:
        """Answer a client until it goes. In a thread of its own."""
        if has_umask := have_own_umask():
            os.umask(client.umask)
        try:
            while (came := client.read_line()) is not None:
                client.is_asking = True
                answer, then = self._answer(client, *came)
                if has_umask:
                    os.umask(client.umask)  # a first answer may have said which
                try:
                    client.send(*answer)
                finally:
                    client.is_asking = False
                    if then is not None:
                        then()
        except RequestNotUnderstood as error:
            client.send(*wire.pack_error(None, error))

    def _answer(self, client: Client, line: bytes, descriptors: list[int]) -> tuple[_Answer, _After]:
        """Do what a line asks for; give the answer, and what is to be done after it."""
        incoming = wire.Incoming(descriptors)
        number: object = None
        try:
            if client.is_apart:
                raise PeerRefused(self._opened.fork)
            message = wire.unpack_message(line, incoming)
            number = message.get("id")
            request = _read_request(client, message, incoming)
            if request.name == "hello":
                client.umask = request.arguments["umask"] & 0o777
                body = wire.codec_of(Served)[0](self._served, out := wire.Outgoing())
                return wire.pack_message({"v": wire.VERSION, "id": number, "ok": True}, "result", body, out), None
            if request.name == "listen":
                queued = self._listeners.begin()
                answer = wire.pack_message(
                    {"v": wire.VERSION, "id": number, "ok": True}, "result", None, wire.Outgoing()
                )
                return answer, partial(self._listeners.serve, client, queued)
            with self._lock:
                self._taken += 1
            try:
                return self._take_turn(request)
            finally:
                with self._lock:
                    self._taken -= 1
                    self._calm.notify_all()
        except (PeerRefused, wire.NotUnderstood) as error:
            client.is_over = True
            refusal = error if isinstance(error, PeerRefused) else RequestNotUnderstood(str(error))
            return wire.pack_error(None, refusal), None
        except (InvalidInput, NoFileEvents, SessionEnding, WorkspaceBusy) as error:
            return wire.pack_error(number, error), None
        finally:
            incoming.drop()

    # --- turns -------------------------------------------------------------------------------------------------------

    def _take_turn(self, request: _Request) -> tuple[_Answer, _After]:
        """Do what was asked when its turn has come, or beside another request.

        Raises:
            SessionEnding: If the session ends before that.
            WorkspaceBusy: If the turn does not come in time.
        """
        other = self._await_turn(request, time.monotonic() + _LOOK_S if request.looks else request.deadline)
        if other is not None and request.looks:
            try:
                return self._carry_out(request, self._look)
            except Disturbed:
                other = self._await_turn(request, request.deadline, is_first=True)
        if other is not None:
            raise WorkspaceBusy(self._opened.fork, other.describe(), pid=other.pid)
        request.since_ns = time.time_ns()
        try:
            with self._opened.lock.signed(request.holder):
                return self._carry_out(request, self._do)
        finally:
            self._opened.flush_pages = None
            with self._lock:
                self._running = self._waiting.popleft() if self._waiting and not self._is_closing else None
                if self._running is not None:
                    self._running.turn.set()

    def _await_turn(self, request: _Request, until: float, *, is_first: bool = False) -> Holder | None:
        """Wait for the turn of a request; gives the client whose turn it is instead if that takes too long."""
        with self._lock:
            if self._running is None and not self._is_closing:
                self._running = request
                return None
            (self._waiting.appendleft if is_first else self._waiting.append)(request)
        if not self._is_closing:
            request.turn.wait(max(until - time.monotonic(), 0))
        with self._lock:
            if self._running is request:
                return None
            self._waiting.remove(request)
            if self._is_closing or self._running is None:
                raise SessionEnding(self._opened.fork, "a session that ends", pid=os.getpid())
            return self._running.holder

    def _carry_out(self, request: _Request, do: Callable[[_Request], _Done]) -> tuple[_Answer, _After]:
        """Do what was asked, unless the client has gone; give the answer, and what is to be done after it."""
        out = wire.Outgoing()
        try:
            has_gone = partial(_has_gone, request.client.socket)
            if has_gone():
                return (b"\n", []), None
            only_reads = request.operation is not None and not request.operation.changes
            with ended_when(has_gone) if only_reads else nullcontext():
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
        operation, arguments = request.operation, request.arguments
        assert operation is not None  # noqa: S101 - else it has no time for that

        result = look_beside(
            self._opened,
            lambda looking: operation.function(looking, **arguments),
            flush=partial(self._have_flushed, request.client) if request.flushes else None,
            discard=operation.discard,
        )
        return result, operation.signature[1], None

    def _do(self, request: _Request) -> _Done:
        """Do what was asked; give the result, its type, and what is to be done after the answer."""
        operation, arguments = request.operation, request.arguments
        self._opened.flush_pages = partial(self._have_flushed, request.client) if request.flushes else None
        if operation is not None:
            function = operation.function
            done = self._change(lambda: function(self._opened, **arguments), operation)
            return done, operation.signature[1], None
        saved = None
        if arguments["checkpoint"]:
            saved = self._change(lambda: save_checkpoint(self._opened), TABLE["save_checkpoint"])
        return saved, CheckpointResult | None, self._end

    def _have_flushed(self, client: Client) -> None:
        """Have the client write out what programs have changed in memory, and wait for that, but not for ever."""
        try:
            client.socket.send(wire.FLUSH + b"\n", socket.MSG_DONTWAIT)
            end = time.monotonic() + _FLUSHED_WITHIN_S
            said = bytearray()
            while b"\n" not in said and len(said) <= len(wire.FLUSHED):
                if not is_readable(client.socket, end - time.monotonic()):
                    break
                if not (data := client.socket.recv(len(wire.FLUSHED) + 1 - len(said))):
                    break
                said += data
        except OSError:
            said = bytearray()
        if bytes(said) != wire.FLUSHED + b"\n":
            client.is_over = True  # what it sends from now on cannot be told from the rest of its answer
            _LOG.warning(
                "a client did not write out what programs have mapped; a checkpoint may hold older pages of that"
            )

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
            # Also after a failure: what was changed and put back has been changed. Without the workspace's lock: a
            # request for `.git` may wait for that, while the kernel waits for the request before it forgets.
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
    request.flushes = message.get("flushes") is True
    given = wire.body_of(message, "args", incoming)
    if not isinstance(given, dict):
        raise wire.NotUnderstood("'args' is not an object")
    request.operation = TABLE.get(name)
    if request.operation is not None:
        hints, needed = request.operation.signature[0], request.operation.needed
    elif name in OWN:
        hints, needed = OWN[name], frozenset(OWN[name])
    else:
        raise InvalidInput(f"this session knows no operation '{name[:100]}'", hint="Is it of an older version of avfs?")
    if not needed <= given.keys() <= hints.keys():
        raise InvalidInput(
            f"'{name}' does not take these arguments", details={"arguments": sorted(map(str, given))[:50]}
        )
    try:
        request.arguments = {key: wire.codec_of(hints[key])[1](value, incoming) for key, value in given.items()}
    except wire.NotUnderstood as error:
        raise InvalidInput(f"an argument of '{name}' cannot be read: {error}") from error
    request.looks = request.operation is not None and request.operation.only_looks((), request.arguments)
    return request


OWN: dict[str, dict[str, Any]] = {
    "hello": {"umask": int},
    "listen": {},
    "stop": {"checkpoint": bool},
}
"""What is asked of the session itself, with the types of the arguments."""


def _has_gone(connection: socket.socket) -> bool:
    try:
        return connection.fileno() < 0 or not connection.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
    except BlockingIOError:
        return False
    except OSError:
        return True
