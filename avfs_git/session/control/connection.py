"""A connection to a session: one request at a time, and its answer.

Decided here: which process is believed at the other end, and what the end of a connection says of a request. `client`
and `step` use it, one thread at a time. It needs no vault, so that `step` loads little with it. Nothing of it survives
the process.
"""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

from avfs_git.errors import RequestNotUnderstood, SessionEnding
from avfs_git.host.files.flush import flush_file_system
from avfs_git.host.files.umask import read_umask
from avfs_git.host.processes.descriptors import is_readable, receive_descriptors
from avfs_git.host.processes.peers import is_servers_own, read_peer_pid
from avfs_git.host.processes.processes import list_stopped
from avfs_git.session.control import wire
from avfs_git.session.control.address import socket_address
from avfs_git.session.control.wire import Served


class Unread(Exception):
    """A session did not read a request, and has done nothing."""


class Lost(Exception):
    """A session died, and may have done what it was asked for."""


class Silent(Exception):
    """A session neither answers nor ends: it is stopped, or hangs."""


OnSilence = Callable[["Connection"], object]
"""Called while an answer is waited for; what it raises ends the wait, and the connection."""
SILENCE_S = 0.2
"""After each so many seconds without a word, `OnSilence` is called."""


def give_up_after(seconds: float) -> OnSilence:
    """Make what raises `Silent` when nothing came for so long.

    A wait in which this process was stopped, too, is not counted.
    """
    left = [seconds]

    def count(_: Connection) -> None:
        left[0] -= SILENCE_S
        if left[0] <= 0:
            raise Silent

    return count


class Connection:
    """One connection to a session."""

    def __init__(self, path: Path, wait_s: float, *, on_silence: OnSilence | None = None) -> None:
        """Connect, and ask for the session. Raises OSError if none answers, and what `on_silence` raises."""
        self.pid = os.getpid()
        self.wait_s = wait_s
        self._number = 0
        self._rest = b""
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            with socket_address(path) as address:
                self.socket.connect(address)
            if not is_servers_own(self.socket, path):
                raise PermissionError(errno.EPERM, "another user answers there", os.fspath(path))
            self.served: Served = self.ask(
                "hello", {"umask": int}, {"umask": read_umask()}, Served, on_silence=on_silence
            )
        except (Unread, Lost, SessionEnding) as error:
            self.close()
            raise ConnectionError("the session ended") from error
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Close it. A second call does nothing."""
        self.socket.close()

    def ask(
        self,
        name: str,
        hints: dict[str, Any],
        arguments: dict[str, Any],
        result: Any,
        *,
        flush: Callable[[], object] | None = None,
        on_silence: OnSilence | None = None,
    ) -> Any:
        """Ask for something and wait for the answer.

        `flush` writes out the pages that programs have mapped and changed, whenever the session asks for it meanwhile.
        `on_silence` is called whenever nothing has come for `SILENCE_S`.

        Raises:
            AvfsError: What the operation raised there.
            RequestNotUnderstood: If the other end speaks something else.
        """
        self._number += 1
        out = wire.Outgoing()
        head = {"v": wire.VERSION, "id": self._number, "op": name, "wait_s": self.wait_s, "flushes": flush is not None}
        body = {key: wire.codec_of(hints[key])[0](value, out) for key, value in arguments.items()}
        line, descriptors = wire.pack_message(head, "args", body, out)
        try:
            sent = socket.send_fds(self.socket, [line], descriptors) if descriptors else self.socket.send(line)
            self.socket.sendall(line[sent:])
        except OSError as error:
            raise Unread from error
        finally:
            if len(descriptors) > len(out.handles):
                os.close(descriptors[0])  # the attachment; what the caller hands over is the caller's
        answer, received = self.receive(on_silence)
        while flush is not None and answer == wire.FLUSH:
            flush()
            with suppress(OSError):  # then the next answer does not come either
                self.socket.sendall(wire.FLUSHED + b"\n")
            answer, received = self.receive(on_silence)
        incoming = wire.Incoming(received)
        try:
            message = wire.unpack_message(answer, incoming)
            if message.get("ok") is not True:
                raise wire.decode_error(wire.body_of(message, "error", incoming))
            return wire.codec_of(result)[1](wire.body_of(message, "result", incoming), incoming)
        except wire.NotUnderstood as error:
            self.close()
            raise RequestNotUnderstood(str(error)) from error
        finally:
            incoming.close()

    def list_stopped(self) -> list[int]:
        """List the session's processes that are known to be stopped: waiting is in vain until they are continued."""
        pid = read_peer_pid(self.socket)
        return list_stopped(pid) if pid else []

    def receive(self, on_silence: OnSilence | None = None) -> tuple[bytes, list[int]]:
        """Wait for the next line, and the descriptors that come with it, which the caller closes.

        Raises:
            Unread: If the session left something unread.
            Lost: If the connection ended.
        """
        received: list[int] = []
        buffer = bytearray(self._rest)
        while b"\n" not in buffer:
            try:
                while on_silence is not None and not is_readable(self.socket, SILENCE_S):
                    on_silence(self)
            except BaseException:
                self.close()  # the answer may still come, and belongs to no other request
                for descriptor in received:
                    os.close(descriptor)
                raise
            try:
                data, descriptors, _ = receive_descriptors(self.socket, 1 << 16, wire.DESCRIPTORS_MAX)
            except ConnectionResetError as error:
                raise Unread from error  # the kernel says so where something was left unread
            except OSError as error:
                raise Lost from error
            received += descriptors
            if not data:
                raise Lost
            buffer += data
        line, _, self._rest = bytes(buffer).partition(b"\n")
        return line, received


def flusher_of(served: Served) -> Callable[[], object] | None:
    """Make what writes out mapped pages of a mount; None where the kernel does that by itself."""
    return None if served.device is None else partial(flush_file_system, served.directory, served.device)
