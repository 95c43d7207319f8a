"""The connections of a control socket: who may connect, how many clients there are, and lines in and out.

Decided here: no client can hold up another. A connection of another user is closed; one of another namespace gets an error
(`host.processes.peers`). A client that is too many takes the place of the one that was silent for longest. A line, a request's
descriptors and the time for half a line are bounded. A client with a request under way is not read until it has its answer.

`control.ControlServer` makes one `Clients` and calls it from the one thread that speaks; `poke` may be called from any thread. A
client belongs to that thread, but from `hold` to `answer`: then only the thread that carries its request out reads from its
socket or writes to it.
"""

from __future__ import annotations

import _socket
import contextlib
import logging
import os
import selectors
import socket
import time
from collections.abc import Callable
from typing import Final

from avfs_git.errors import AvfsError, RequestNotUnderstood
from avfs_git.host.files.umask import USUAL
from avfs_git.host.processes.descriptors import receive_descriptors
from avfs_git.host.processes.peers import Peer, identify_peer, read_peer_pid
from avfs_git.session.control import wire

_LOG = logging.getLogger(__name__)

CLIENTS_MAX = 256
_HALF_LINE_S: Final = 30.0
"""How long a client may take for the rest of a line, or to take an answer, when others want its place."""
_RECEIVE: Final = 64 << 10


class Client:
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
        """They go with the first byte of `sending`."""
        self.is_asking = False
        """Whether a request of it waits or is carried out: what it sends meanwhile is not read."""
        self.closing = False
        """Whether it is closed when all is sent."""
        self.since = time.monotonic()
        self.umask = USUAL
        """The umask for files that are made for it."""


class Clients:
    """The clients of one control socket."""

    def __init__(self, listener: _socket.socket, take: Callable[[Client, bytes, list[int]], object]) -> None:
        """Prepare.

        `take` is called with each line of a client and the descriptors that came with it. The listener stays open.
        """
        self._listener = socket.socket(fileno=os.dup(listener.fileno()))
        self._take = take
        self._clients: dict[int, Client] = {}
        self._wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._selector = selectors.DefaultSelector()
        self._listener.setblocking(False)
        self._selector.register(self._listener, selectors.EVENT_READ, None)
        self._selector.register(self._wake, selectors.EVENT_READ, None)

    def close(self) -> None:
        """Drop every client."""
        for client in list(self._clients.values()):
            self._drop(client)
        self._selector.close()
        self._listener.close()
        os.close(self._wake)

    def poke(self) -> None:
        """Let `attend` return, from any thread."""
        os.eventfd_write(self._wake, 1)

    def attend(self, pause_s: float | None) -> None:
        """Wait for clients, for so long at the most, and do what they are ready for."""
        for key, events in self._selector.select(pause_s):
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

    def hold(self, client: Client) -> None:
        """Read nothing of a client until it has its answer."""
        client.is_asking = True
        self._selector.unregister(client.socket)

    def answer(self, client: Client, line: bytes, descriptors: list[int]) -> None:
        """Answer a client that is held, and go on with it."""
        client.is_asking = False
        if client.socket.fileno() < 0:
            close_all(descriptors)
            return
        self._selector.register(client.socket, selectors.EVENT_READ, client)
        try:
            self.send(client, line, descriptors)
            self._read_lines(client)  # it may have sent the next one already
        except OSError:
            self._drop(client)

    def refuse(self, client: Client, error: AvfsError) -> None:
        """Answer a client whose requests are not read, and end the conversation."""
        client.closing = True
        client.buffer.clear()
        self.send(client, *wire.pack_error(None, error))

    def send(self, client: Client, line: bytes, descriptors: list[int]) -> None:
        """Begin to send a line to a client that is not held."""
        client.sending, client.sending_descriptors = line, descriptors
        try:
            self._send_more(client)
        except OSError:
            self._drop(client)
            return
        self._await_next(client)

    # --- coming and going ------------------------------------------------------------------------------------

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
            client = Client(connection, is_apart=peer is Peer.APART)
            self._clients[connection.fileno()] = client
            self._selector.register(connection, selectors.EVENT_READ, client)

    def _make_room(self) -> bool:
        """Drop the client that was silent for longest; one in the middle of a line or an answer only after a while."""
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

    def _drop(self, client: Client) -> None:
        fd = client.socket.fileno()
        if fd >= 0 and self._clients.pop(fd, None) is not None:
            with contextlib.suppress(KeyError):
                self._selector.unregister(client.socket)
        client.socket.close()
        close_all(client.descriptors)
        close_all(client.sending_descriptors)
        client.descriptors, client.sending_descriptors = [], []

    # --- lines -----------------------------------------------------------------------------------------------

    def _receive(self, client: Client) -> None:
        data, descriptors, is_cut = receive_descriptors(client.socket, _RECEIVE, wire.DESCRIPTORS_MAX)
        client.descriptors += descriptors
        client.since = time.monotonic()
        if not data:
            self._drop(client)
            return
        client.buffer += data
        if is_cut or len(client.descriptors) > wire.DESCRIPTORS_MAX:
            self.refuse(client, RequestNotUnderstood("more descriptors came than a request can have"))
            return
        self._read_lines(client)

    def _read_lines(self, client: Client) -> None:
        """Take the next lines of a client, as far as they are there, up to the first whose answer has to wait."""
        while not (client.socket.fileno() < 0 or client.closing or client.is_asking or client.sending):
            line, newline, rest = client.buffer.partition(b"\n")
            if len(line) > wire.LINE_MAX:
                self.refuse(client, RequestNotUnderstood(f"a line is longer than {wire.LINE_MAX} bytes"))
            if not newline or client.closing:
                return
            client.buffer = rest
            descriptors, client.descriptors = client.descriptors, []
            self._take(client, bytes(line), descriptors)

    def _send_more(self, client: Client) -> None:
        """Send as much as there is room for: nothing, when the client has not taken the answers before this one."""
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
        close_all(descriptors)

    def _send_rest(self, client: Client) -> None:
        self._send_more(client)
        self._await_next(client)
        self._read_lines(client)

    def _await_next(self, client: Client) -> None:
        """Wait for what a client does next: take the rest of an answer, or ask."""
        if not client.sending and client.closing:
            self._drop(client)
        else:
            self._selector.modify(client.socket, selectors.EVENT_WRITE if client.sending else selectors.EVENT_READ, client)


def close_all(descriptors: list[int]) -> None:
    """Close descriptors that came with a line, or were to go with one."""
    for descriptor in descriptors:
        os.close(descriptor)
