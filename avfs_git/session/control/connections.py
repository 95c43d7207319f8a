"""The connections of a control socket: which clients are let in, how many, and lines in and out.

Decided here: no client can hold up another: a thread serves each. A connection of another user is closed; one of
another namespace is told so (`host.processes.peers`). A client that is too many takes the place of the one that was
silent for longest. A line and a request's descriptors are bounded, and so is the time for half a line where others want
the place.

`control.ControlServer` makes one `Clients`. A `Client` belongs to its thread, but for `cut`, which any thread may call.
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
from collections.abc import Callable
from typing import Final

from avfs_git.errors import RequestNotUnderstood
from avfs_git.host.files.umask import USUAL
from avfs_git.host.processes.descriptors import receive_descriptors
from avfs_git.host.processes.peers import Peer, identify_peer, read_peer_pid
from avfs_git.session.control import wire

_LOG = logging.getLogger(__name__)

CLIENTS_MAX = 256
_HALF_LINE_S: Final = 30.0
"""How long a client may take for the rest of a line when others want its place."""
_LAST_S: Final = 1.0
"""How long clients may take their last answers at the end."""
_RECEIVE: Final = 64 << 10


class Client:
    """One connection.

    Attributes:
        is_apart: Whether it is in other namespaces: its first line is answered with an error, unread.
        is_asking: Whether it waits for an answer: what it sends meanwhile is not read.
        is_over: Whether nothing that it sends is read any more.
        umask: The umask for files that are made for it.
    """

    def __init__(self, connection: socket.socket, *, is_apart: bool) -> None:
        self.socket = connection
        self.pid = read_peer_pid(connection)
        self.is_apart = is_apart
        self.is_asking = False
        self.is_over = False
        self.umask = USUAL
        self._buffer = bytearray()
        self._descriptors: list[int] = []
        self._since = time.monotonic()

    def read_line(self) -> tuple[bytes, list[int]] | None:
        """Wait for the next line, and the descriptors that came with it; None if there is no other one.

        Raises:
            RequestNotUnderstood: If it is too long, or too many descriptors came.
        """
        while not self.is_over:
            line, newline, rest = self._buffer.partition(b"\n")
            if len(line) > wire.LINE_MAX:
                raise RequestNotUnderstood(f"a line is longer than {wire.LINE_MAX} bytes")
            if newline:
                self._buffer = rest
                descriptors, self._descriptors = self._descriptors, []
                return bytes(line), descriptors
            data, received, is_cut = receive_descriptors(self.socket, _RECEIVE, wire.DESCRIPTORS_MAX)
            self._since = time.monotonic()
            self._descriptors += received
            if not data:
                break
            self._buffer += data
            if is_cut or len(self._descriptors) > wire.DESCRIPTORS_MAX:
                raise RequestNotUnderstood("more descriptors came than a request can have")
        return None

    def send(self, line: bytes, descriptors: list[int]) -> None:
        """Send a line, however long the client takes; the descriptors are closed. Raises OSError if it is gone."""
        try:
            sent = socket.send_fds(self.socket, [line], descriptors) if descriptors else 0
        finally:
            close_all(descriptors)
        self.socket.sendall(memoryview(line)[sent:])
        self._since = time.monotonic()

    def silent_since(self) -> float | None:
        """Tell since when nothing was heard of it; None for one that is in the middle of something."""
        is_busy = self.is_asking or (self._buffer and time.monotonic() - self._since <= _HALF_LINE_S)
        return None if is_busy else self._since

    def cut(self) -> None:
        """Have its thread come to an end."""
        with contextlib.suppress(OSError):  # it has
            self.socket.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Close the connection."""
        self.socket.close()
        close_all(self._descriptors)


class Clients:
    """The clients of one control socket."""

    def __init__(self, listener: _socket.socket, serve: Callable[[Client], object]) -> None:
        """Prepare. `serve` is called with each client, in a thread of its own; the listener stays open."""
        self._listener = socket.socket(fileno=os.dup(listener.fileno()))
        self._listener.setblocking(False)
        self._serve = serve
        self._lock = threading.Lock()
        self._clients: dict[Client, threading.Thread] = {}
        self._wake = os.eventfd(0, os.EFD_CLOEXEC)
        self._thread = threading.Thread(target=self._let_in, name="avfs-control", daemon=True)

    def start(self) -> None:
        """Begin to let clients in."""
        self._thread.start()

    def close(self) -> None:
        """Let the clients take the answers that are under way, and drop them.

        Called when no request is carried out any more.
        """
        os.eventfd_write(self._wake, 1)
        self._thread.join()
        self._listener.close()
        os.close(self._wake)
        with self._lock:
            left = list(self._clients.items())
        end = time.monotonic() + _LAST_S
        while any(client.is_asking for client, _ in left) and time.monotonic() < end:
            time.sleep(0.001)
        for client, thread in left:
            client.cut()
            thread.join()

    def _let_in(self) -> None:
        poll = select.poll()
        poll.register(self._listener, select.POLLIN)
        poll.register(self._wake, select.POLLIN)
        while not any(fd == self._wake for fd, _ in poll.poll()):
            try:
                connection, _ = self._listener.accept()
            except BlockingIOError:
                continue
            except OSError as error:  # it was reset meanwhile, or there are no descriptors left
                _LOG.warning("a client could not be let in: %s", error)
                time.sleep(0.01)
                continue
            try:
                peer = identify_peer(connection)
            except OSError:
                peer = Peer.ANOTHER_USER
            if peer is Peer.ANOTHER_USER or not self._begin(Client(connection, is_apart=peer is Peer.APART)):
                connection.close()

    def _begin(self, client: Client) -> bool:
        """Begin to serve a client, if there is room for it."""
        thread = threading.Thread(target=self._talk, args=(client,), name="avfs-client", daemon=True)
        with self._lock:
            if len(self._clients) >= CLIENTS_MAX:
                silent = {other: since for other in self._clients if (since := other.silent_since()) is not None}
                if not silent:
                    return False
                longest = min(silent, key=silent.__getitem__)
                del self._clients[longest]
                longest.cut()
            try:
                thread.start()
            except RuntimeError:  # the system has no more threads
                return False
            self._clients[client] = thread
        return True

    def _talk(self, client: Client) -> None:
        try:
            with contextlib.suppress(OSError):  # it is gone
                self._serve(client)
        finally:
            with self._lock:
                self._clients.pop(client, None)
            client.close()


def close_all(descriptors: list[int]) -> None:
    """Close descriptors that came with a line, or were to go with one."""
    for descriptor in descriptors:
        os.close(descriptor)
