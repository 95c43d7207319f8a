"""The control socket of a session: what others ask of a mounted workspace, done where the workspace is.

Decided here: who may ask, what a client may hold up (nothing), and in which order things are done to a workspace that programs
are using. docs/reference/control.md is the normative protocol. The process that serves a tree makes a `ControlServer` when it
holds the workspace (`OpenWorkspace.serve`, or `take_over` after a predecessor was killed) and calls `start`; it calls `close`
when the tree is unmounted, before it gives the workspace back. The listening socket belongs to the process above, and outlives
the
server: clients of a server that was killed find the next one.

Two threads: one speaks with all clients and never waits for any of them; one carries out their operations, one after the other.
Neither serves requests of the kernel, which is what allows the second to tell the kernel what to forget. While an
operation runs that changes files, the lock file says so (`is_operating`), and of what client it is: a successor of a server that
was killed in between makes the kernel forget everything, and who waits knows for whom.

What only looks waits `_LOOK_S` for its turn; then it is done beside the operation that runs, in a thread of its own
(`workspace.capture.beside`), with the workspace opened anew. Of locks:

- the workspace lock is held by the thread of the operations, from `_change` on; a look never takes it;
- the guard of the tree keeps one moment together, for programs, operations and looks alike; what is told of changes, and which
  operation keeps programs waiting, is written with it;
- `_wanted` guards what waits, what runs, and which looks are under way; no file is touched with it;
- a client belongs to the thread that speaks, but for the time from its request to its answer, in which only the thread that
  carries that out reads from it or writes to it (`_have_flushed`). `_answers` and `_wake` are how others reach that thread.

A request that changes something waits for its turn for as long as its client said, then it is refused as busy; one whose client
has gone is not begun. Nothing survives but what the operations themselves write.
"""

from __future__ import annotations

import _socket
import contextlib
import logging
import os
import select
import selectors
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
from avfs_git.host.files.umask import USUAL, have_own_umask
from avfs_git.host.locks.locks import LOCK_TIMEOUT_S, Holder
from avfs_git.host.processes.descriptors import receive_descriptors
from avfs_git.host.processes.peers import Peer, identify_peer, read_peer_pid
from avfs_git.model import CheckpointResult
from avfs_git.paths import TreePath
from avfs_git.session.control import wire
from avfs_git.session.control.invalidate import Forgetter, Watch, tell_everything
from avfs_git.session.control.operations import TABLE, Operation, save_checkpoint
from avfs_git.session.control.wire import Handle, Served
from avfs_git.vfs.tree.merged import MergedTree
from avfs_git.workspace.capture.beside import Disturbed, look_beside
from avfs_git.workspace.capture.workspace import OpenWorkspace

_LOG = logging.getLogger(__name__)

CLIENTS_MAX = 256
_HALF_LINE_S = 30.0
"""How long a client may take for the rest of a line, or to take an answer, where others want its place."""
_WAIT_MAX_S = 3600.0
_FLUSHED_WITHIN_S = 10.0
"""How long a client may take to have pages written out."""
_SOON_S = 0.05
_LOOK_S = 0.05
"""How long what only looks waits for the operation before it, which is mostly over by then."""
_RECEIVE = 64 << 10
_Answer = tuple[bytes, list[int]]
_After = Callable[[], object] | None
_Done = tuple[Any, Any, _After]
"""A result, its type, and what is to be done after the answer."""


class _Client:
    """One connection."""

    __slots__ = (
        "buffer",
        "closing",
        "descriptors",
        "is_apart",
        "is_asking",
        "pid",
        "sending",
        "sending_descriptors",
        "since",
        "socket",
        "umask",
    )

    def __init__(self, connection: socket.socket, *, is_apart: bool) -> None:
        self.socket = connection
        self.pid = read_peer_pid(connection)
        self.is_apart = is_apart
        """Whether it is in other namespaces: its first line is answered with an error, unread."""
        self.buffer = bytearray()
        self.descriptors: list[int] = []
        self.sending = b""
        self.sending_descriptors: list[int] = []
        """What goes with the first byte of that."""
        self.is_asking = False
        """Whether a request of it is waiting or being carried out: what it sends meanwhile is not read."""
        self.closing = False
        """Whether it is closed when all is sent."""
        self.since = time.monotonic()
        self.umask = USUAL
        """What it does not want to be allowed where files are made for it."""


class _Request:
    """Something that a client asked for."""

    __slots__ = ("arguments", "beside_at", "client", "deadline", "flushes", "incoming", "name", "number", "operation", "since_ns")

    def __init__(self, client: _Client, number: object, name: str, deadline: float) -> None:
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
        """Who keeps others waiting while it is carried out."""
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

        Args:
            listener: From `address.listen`; it stays open.
            opened: The workspace, served by this process.
            kernel: The channel to the kernel that shows it; None if none does.
            served: What clients are told about the session.
            end: Begins to unmount and returns; called after the answer to a `stop` whose final checkpoint is safe.
            changed: Called after each operation that may have moved the branch, when the workspace is free again.
        """
        self._listener = socket.socket(fileno=os.dup(listener.fileno()))
        self._opened = opened
        self._kernel = kernel
        self._served = served
        self._end = end
        self._changed = changed
        self._clients: dict[int, _Client] = {}
        self._waiting: deque[_Request] = deque()
        self._answers: deque[tuple[_Request, bytes, list[int]]] = deque()
        self._wanted = threading.Condition()
        self._running: _Request | None = None
        self._beside: set[threading.Thread] = set()
        self._has_own_umask = False
        self._is_closing = False
        self._is_settled = False
        """Whether every request that was taken has its answer."""
        self._wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._selector = selectors.DefaultSelector()
        self._threads = [
            threading.Thread(target=self._speak, name="avfs-control", daemon=True),
            threading.Thread(target=self._work, name="avfs-operations", daemon=True),
        ]

    def start(self) -> None:
        """Begin to serve, in threads of its own."""
        if self._kernel is not None and self._opened.lock.is_operating:
            threading.Thread(target=self._forget_all, args=(self._kernel,), name="avfs-forget", daemon=True).start()
        self._listener.setblocking(False)
        self._selector.register(self._listener, selectors.EVENT_READ, None)
        self._selector.register(self._wake, selectors.EVENT_READ, None)
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
            self._answers.append((request, *_error_message(request.number, self._ending())))
        self._is_settled = True
        self._poke()
        self._threads[0].join()
        for client in list(self._clients.values()):
            self._drop(client)
        self._selector.close()
        self._listener.close()
        os.close(self._wake)

    def _poke(self) -> None:
        os.eventfd_write(self._wake, 1)

    # --- speaking ----------------------------------------------------------------------------------------------------

    def _speak(self) -> None:
        while True:
            for key, events in self._selector.select(self._pause()):
                if key.fileobj is self._listener:
                    self._accept()
                elif key.fd == self._wake:
                    os.eventfd_read(self._wake)
                else:
                    client = key.data
                    try:
                        if events & selectors.EVENT_WRITE:
                            self._send_rest(client)
                        elif events & selectors.EVENT_READ:
                            self._receive(client)
                    except OSError:
                        self._drop(client)
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

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except BlockingIOError:
                return
            except OSError as error:  # it was reset meanwhile, or there are no descriptors left
                _LOG.warning("a client could not be let in: %s", error)
                time.sleep(0.01)
                return
            try:
                peer = identify_peer(connection)
            except OSError:
                peer = Peer.ANOTHER_USER
            if peer is Peer.ANOTHER_USER:
                connection.close()
                continue
            connection.setblocking(False)
            if len(self._clients) >= CLIENTS_MAX and not self._make_room():
                connection.close()
                continue
            client = _Client(connection, is_apart=peer is Peer.APART)
            self._clients[connection.fileno()] = client
            self._selector.register(connection, selectors.EVENT_READ, client)

    def _make_room(self) -> bool:
        """Drop the client that has been silent for longest; one in the middle of something only after a while."""
        now = time.monotonic()
        idle = [
            client
            for client in self._clients.values()
            if not client.is_asking and (now - client.since > _HALF_LINE_S or not (client.buffer or client.sending))
        ]
        if not idle:
            return False
        self._drop(min(idle, key=lambda client: client.since))
        return True

    def _drop(self, client: _Client) -> None:
        fd = client.socket.fileno()
        if fd >= 0 and self._clients.pop(fd, None) is not None:
            with contextlib.suppress(KeyError):
                self._selector.unregister(client.socket)
        client.socket.close()
        _close_all(client.descriptors)
        _close_all(client.sending_descriptors)
        client.descriptors, client.sending_descriptors = [], []

    def _receive(self, client: _Client) -> None:
        data, descriptors, is_cut = receive_descriptors(client.socket, _RECEIVE, wire.DESCRIPTORS_MAX)
        client.descriptors += descriptors
        client.since = time.monotonic()
        if not data:
            self._drop(client)
            return
        client.buffer += data
        if is_cut or len(client.descriptors) > wire.DESCRIPTORS_MAX:
            self._refuse(client, RequestNotUnderstood("more descriptors came than a request can have"))
            return
        self._read_lines(client)

    def _read_lines(self, client: _Client) -> None:
        """Take the next requests of a client, as far as they are there, up to the first that has to wait."""
        while not (client.socket.fileno() < 0 or client.closing or client.is_asking or client.sending):
            line, newline, rest = client.buffer.partition(b"\n")
            if len(line) > wire.LINE_MAX:
                self._refuse(client, RequestNotUnderstood(f"a line is longer than {wire.LINE_MAX} bytes"))
            if not newline or client.closing:
                return
            client.buffer = rest
            descriptors, client.descriptors = client.descriptors, []
            self._take_request(client, bytes(line), descriptors)

    def _take_request(self, client: _Client, line: bytes, descriptors: list[int]) -> None:
        incoming = wire.Incoming(descriptors)
        if client.is_apart:
            incoming.close()
            self._refuse(client, PeerRefused(self._opened.fork))
            return
        number: object = None
        try:
            message = wire.unpack_message(line, incoming)
            number = message.get("id")
            request = _read_request(client, message, incoming)
        except wire.NotUnderstood as error:
            incoming.close()
            self._refuse(client, RequestNotUnderstood(str(error)))
            return
        except InvalidInput as error:  # it is a message, but nothing here can be meant
            incoming.close()
            self._begin_send(client, *_error_message(number, error))
            return
        if request.name == "hello":
            incoming.close()
            client.umask = request.arguments["umask"] & 0o777
            body = wire.codec_of(Served)[0](self._served, out := wire.Outgoing())
            self._begin_send(client, *wire.pack_message({"v": wire.VERSION, "id": number, "ok": True}, "result", body, out))
            return
        with self._wanted:
            is_taken = not self._is_closing
            if is_taken:
                client.is_asking = True
                self._selector.unregister(client.socket)  # until it has its answer
                self._waiting.append(request)
                self._wanted.notify_all()
        if not is_taken:
            incoming.close()
            self._begin_send(client, *_error_message(number, self._ending()))

    def _ending(self) -> SessionEnding:
        return SessionEnding(self._opened.fork, "a session that ends", pid=os.getpid())

    def _refuse(self, client: _Client, error: AvfsError) -> None:
        """Answer a client whose requests are not read, and end the conversation."""
        client.closing = True
        client.buffer.clear()
        self._begin_send(client, *_error_message(None, error))

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
            self._answers.append((request, *_error_message(request.number, busy)))

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
            client = request.client
            client.is_asking = False
            if client.socket.fileno() < 0:
                _close_all(descriptors)
                continue
            self._selector.register(client.socket, selectors.EVENT_READ, client)
            try:
                self._begin_send(client, line, descriptors)
                self._read_lines(client)  # it may have sent the next one already
            except OSError:
                self._drop(client)

    def _begin_send(self, client: _Client, line: bytes, descriptors: list[int]) -> None:
        client.sending, client.sending_descriptors = line, descriptors
        try:
            self._send_more(client)
        except OSError:
            self._drop(client)
            return
        self._settle(client)

    def _send_more(self, client: _Client) -> None:
        """Send as much as there is room for: nothing, where the client has not taken the answers before this one."""
        client.since = time.monotonic()
        descriptors = client.sending_descriptors
        try:
            if descriptors:
                sent = socket.send_fds(client.socket, [client.sending], descriptors)
            else:
                sent = client.socket.send(client.sending)
        except BlockingIOError:
            return
        client.sending, client.sending_descriptors = client.sending[sent:], []
        _close_all(descriptors)

    def _send_rest(self, client: _Client) -> None:
        self._send_more(client)
        self._settle(client)
        self._read_lines(client)

    def _settle(self, client: _Client) -> None:
        """Wait for what a client does next: take the rest of an answer, or ask."""
        if not client.sending and client.closing:
            self._drop(client)
        else:
            self._selector.modify(client.socket, selectors.EVENT_WRITE if client.sending else selectors.EVENT_READ, client)

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
            self._poke()
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
        self._poke()

    def _carry_out(self, request: _Request, do: Callable[[_Request], _Done]) -> tuple[_Answer, _After]:
        """Do what was asked, unless nobody waits for it any more; give the answer, and what is to be done after it."""
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
        _close_all(out.handles)
        try:
            return _error_message(request.number, failure), None
        except Exception:  # noqa: BLE001 - without an answer its client would wait for ever
            _LOG.exception("the answer to '%s' cannot be written", request.name)
            unspoken = InternalError(f"'{request.name}' failed in the session, which cannot say how")
            return _error_message(request.number, unspoken), None

    def _look(self, request: _Request) -> _Done:
        """Do what only looks, beside another operation."""
        operation = request.operation
        assert operation is not None  # noqa: S101 - else it has no time for that
        encode = wire.codec_of(operation.signature[1])[0]

        def discard(result: object) -> None:
            encode(result, unused := wire.Outgoing())
            _close_all(unused.handles)

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

    def _have_flushed(self, client: _Client) -> None:
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
        before = after = None
        try:
            with opened.locked():
                before = opened.vault.read_head(opened.fork)
                opened.lock.mark_operating(operating=True)
                with watch:
                    try:
                        return function()
                    finally:
                        after = opened.vault.read_head(opened.fork)
        finally:
            # Also after a failure: what was changed and put back has been changed. Without the workspace: a request for
            # `.git` may wait for that, while the kernel waits for the request before it forgets.
            reach("control.changed")
            if kernel is not None:
                watch.tell(kernel)
                if after != before and opened.merged.git_file is not None:
                    kernel.forget_content(opened.merged.git_file.ino)  # git asks again, and its index is brought up
            opened.lock.mark_operating(operating=False)
            if self._changed is not None:
                self._changed()


def _read_request(client: _Client, message: Mapping[str, Any], incoming: wire.Incoming) -> _Request:
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


def _error_message(number: object, error: AvfsError) -> tuple[bytes, list[int]]:
    head = {"v": wire.VERSION, "id": number if isinstance(number, int | str) else None, "ok": False}
    return wire.pack_message(head, "error", wire.encode_error(error), wire.Outgoing())


def _has_gone(connection: socket.socket) -> bool:
    """Whether a client has closed its end, so that nobody waits for the answer."""
    try:
        return connection.fileno() < 0 or not connection.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
    except BlockingIOError:
        return False
    except OSError:
        return True


def _close_all(descriptors: list[int]) -> None:
    for descriptor in descriptors:
        os.close(descriptor)
