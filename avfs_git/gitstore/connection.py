"""A conversation with a git server in version 2 of its protocol, for the questions that the `git` command does not ask.

Decided here: how a server is reached where git would reach it, what is read of what it says, and how long it is waited for.
Called by `objectinfo`, from one thread, without any lock; blocks for as long as the other side takes, up to a limit.

The way is git's own: for http its remote helper, which knows about credentials, proxies, certificates and redirects; for a
directory of this machine `git upload-pack`; for ssh the program that git would start, with the arguments that git gives it
(`GIT_SSH_COMMAND`, `core.sshCommand`, `GIT_SSH`, `GIT_SSH_VARIANT`, `ssh.variant`); for `git://` a socket. Where that
is not certain (a variant of ssh that cannot pass the version on, `core.gitProxy`, a user who wants an older version of
the protocol) there is no conversation, and the caller does without. An address that `insteadOf` has changed is judged anew.

What is read is bounded: a packet by the format (gitprotocol-common), their number by the caller. Nothing is kept here;
a crash leaves children that end with their pipes.
"""

from __future__ import annotations

import os
import re
import select
import shlex
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from avfs_git.errors import InvalidInput, RemoteDataRefused, RemoteUnreachable
from avfs_git.gitstore.remotegit import Access, Ended, check_ended, end, note, start
from avfs_git.gitstore.remotes import check_url, hide_secret, local_path
from avfs_git.host.durable import host_errors

FLUSH, DELIMITER, RESPONSE_END = b"0000", b"0001", b"0002"
_PACKET_MAX = 65_520
_CAPABILITIES_MAX = 200
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://([^/]*)(/.*)", re.DOTALL)
_BRACKETS = re.compile(r"\[([^\]]*)\](?::(\d*))?")
_GIT_PORT = 9418
_PROBE_S = 10
_VERSION = "version=2"
_SSH, _OTHER_SSH = frozenset({"ssh", "ssh.exe"}), frozenset({"plink", "plink.exe", "putty", "tortoiseplink", "tortoiseplink.exe"})


def packet(data: bytes) -> bytes:
    """Frame a line as the protocol has it."""
    return b"%04x%b" % (len(data) + 4, data)


class Connection:
    """A server that speaks version 2, and has said what it can do.

    Attributes:
        capabilities: What it can do, by name, with what belongs to it.
    """

    def __init__(self, url: str, patience_s: float, source: int, sink: int) -> None:
        """Speak over two descriptors; nothing is said yet.

        Args:
            url: Whom with, for messages.
            patience_s: How long the other side may be silent.
            source: What it says is read from here.
            sink: What it is told is written here.
        """
        self._shown = hide_secret(url)
        self._patience_s = patience_s
        self._source = source
        self._sink = sink
        self._has_ends = False
        self._data = b""
        self.capabilities: Mapping[str, str] = {}
        os.set_blocking(sink, False)

    def greet(self, *, has_ends: bool = False) -> bool:
        """Read what the server can do; False if it speaks another version.

        Args:
            has_ends: Whether git's remote helper marks where an answer ends.

        Raises:
            RemoteUnreachable: If it breaks off or is silent.
            RemoteDataRefused: If what it says makes no sense.
        """
        self._has_ends = has_ends
        line = self._read_packet()
        if line is None or line.rstrip(b"\n") != b"version 2":
            return False
        found = {}
        for line in self._read_until_flush(_CAPABILITIES_MAX):
            name, _, value = line.decode("utf-8", "replace").rstrip("\n").partition("=")
            found[name] = value
        self.capabilities = found
        return True

    def ask(self, command: str, lines: Sequence[bytes], most: int) -> Iterator[bytes]:
        """Give a command, and read the lines of its answer.

        Args:
            command: Its name; one of `capabilities`.
            lines: What it is given.
            most: No more lines than that are read.

        Raises:
            RemoteUnreachable: If the server breaks off or is silent.
            RemoteDataRefused: If what it says makes no sense, or is too much.
        """
        head = packet(b"command=%b" % command.encode("ascii"))
        if "object-format" in self.capabilities:
            head += packet(b"object-format=sha1")
        self.write(b"".join([head, DELIMITER, *map(packet, lines), FLUSH]))
        yield from self._read_until_flush(most)
        if self._has_ends and self._read(4) != RESPONSE_END:
            raise RemoteDataRefused(self._shown, "its answer goes on behind its end")

    def _read_until_flush(self, most: int) -> Iterator[bytes]:
        for _ in range(most):
            line = self._read_packet()
            if line is None:
                return
            yield line
        if self._read_packet() is not None:
            raise RemoteDataRefused(self._shown, f"it says more than {most} lines where it was asked for fewer")

    def _read_packet(self) -> bytes | None:
        """Read a packet; None for the one that ends a section."""
        head = self._read(4)
        if head == FLUSH:
            return None
        try:
            length = int(head, 16) if head.isalnum() else 0
        except ValueError:
            length = 0
        if not 4 <= length <= _PACKET_MAX:
            raise RemoteDataRefused(self._shown, f"it does not speak git's protocol ({head!r})")
        data = self._read(length - 4)
        if data.startswith(b"ERR "):
            raise RemoteUnreachable(self._shown, data[4:].decode("utf-8", "replace").strip()[:300])
        return data

    def _read(self, length: int) -> bytes:
        while len(self._data) < length:
            self._wait(self._source, for_reading=True)
            more = os.read(self._source, 1 << 16)
            if not more:
                raise RemoteUnreachable(self._shown, "it broke off")
            self._data += more
        found, self._data = self._data[:length], self._data[length:]
        return found

    def read_line(self) -> bytes:
        """Read a line that is no packet, as git's remote helper answers."""
        line = b""
        while not line.endswith(b"\n") and len(line) < 100:
            line += self._read(1)
        return line

    def write(self, data: bytes) -> None:
        """Say something.

        Raises:
            RemoteUnreachable: If the other side breaks off or does not listen.
        """
        view = memoryview(data)
        while view:
            self._wait(self._sink, for_reading=False)
            try:
                view = view[os.write(self._sink, view) :]
            except BlockingIOError:
                continue
            except OSError as error:  # it has gone
                raise RemoteUnreachable(self._shown, os.strerror(error.errno or 0)) from error

    def _wait(self, fd: int, *, for_reading: bool) -> None:
        until = time.monotonic() + self._patience_s
        ready = select.poll()
        ready.register(fd, select.POLLIN if for_reading else select.POLLOUT)
        if not ready.poll(max(0.0, until - time.monotonic()) * 1000):
            raise RemoteUnreachable(self._shown, f"it has said nothing for {self._patience_s:.0f} s")


@contextmanager
def connect(
    place: Path, url: str, settings: Sequence[tuple[str, str]], access: Access, *, patience_s: float
) -> Iterator[Connection | None]:
    """Connect with a server; None where that cannot be done as git would, or the server speaks another version.

    Args:
        place: A git directory for this exchange, see `transport.open_exchange`.
        url: The other repository, as `check_url` gave it.
        settings: What of the user's own configuration is obeyed.
        access: What else of the user's own may be used.
        patience_s: How long the other side may be silent.

    Raises:
        RemoteError: If it cannot be reached, lets nobody in, or says what makes no sense.
    """
    values = dict(settings)  # of one that is set twice, the last counts, as with git
    if values.get("protocol.version", "2") != "2":
        yield None
        return
    try:
        url = check_url(_rewrite(url, settings), base=place)
    except InvalidInput:
        yield None
        return
    path, match = local_path(url), _SCHEME.fullmatch(url)
    scheme = match[1].lower() if match is not None else ""
    if path is not None:
        words = ["git", "upload-pack", os.fspath(path)]
        with _started(place, words, url, access, {"GIT_PROTOCOL": _VERSION}, patience_s) as connection:
            yield connection if connection.greet() else None
    elif scheme in {"http", "https"}:
        words = ["git", f"remote-{scheme}", "origin", url]
        with _started(place, words, url, access, {"GIT_DIR": os.fspath(place)}, patience_s) as connection:
            connection.write(b"stateless-connect git-upload-pack\n")
            yield connection if connection.read_line() == b"\n" and connection.greet(has_ends=True) else None
    elif scheme == "git" and match is not None:
        if "core.gitproxy" in values or "GIT_PROXY_COMMAND" in access.environment:
            yield None
            return
        with _dialled(unquote(match[2]), _path_of(match[3]), url, patience_s) as connection:
            yield connection if connection.greet() else None
    else:
        found = _ssh_words(place, url, values, access)
        if found is None:
            yield None
            return
        with _started(place, found, url, access, {"GIT_PROTOCOL": _VERSION}, patience_s) as connection:
            yield connection if connection.greet() else None


def _rewrite(url: str, settings: Sequence[tuple[str, str]]) -> str:
    """Change an address as `url.BASE.insteadOf` says: of those that it begins with, the longest counts."""
    best, base = "", ""
    for key, value in settings:
        if key.startswith("url.") and key.endswith(".insteadof") and url.startswith(value) and len(value) > len(best):
            best, base = value, key[len("url.") : -len(".insteadof")]
    return base + url[len(best) :] if best else url


def _path_of(path: str) -> str:
    """Take the path of an address as git does for `git://` and ssh."""
    path = unquote(path)
    return path[1:] if path.startswith("/~") else path


@contextmanager
def _started(
    place: Path, words: Sequence[str], url: str, access: Access, environment: Mapping[str, str], patience_s: float
) -> Iterator[Connection]:
    """Start what leads to the server; it is gone afterwards."""
    given = {**environment, "GIT_CONFIG_GLOBAL": os.fspath(place / "settings")}
    with host_errors(f"run {words[0]}"):
        process = start(place, words, access, given, given=subprocess.PIPE, noted=True)
    messages: list[str] = []
    reader = threading.Thread(target=_collect, args=(process.stderr, messages), name="git-messages", daemon=True)
    reader.start()
    try:
        yield Connection(url, patience_s, process.stdout.fileno(), process.stdin.fileno())
    except RemoteUnreachable:
        # What git or ssh has said tells more than that it has ended.
        status = _wait_a_moment(process.wait)
        reader.join(1)
        if status:
            check_ended(Ended(status, b"", tuple(messages)), url)
        raise
    finally:
        end(process)
        reader.join(1)


def _collect(pipe: Any, messages: list[str]) -> None:
    try:
        for line in iter(lambda: pipe.readline(4096), b""):
            note(line, messages)
    except (OSError, ValueError):  # it was closed
        return


def _wait_a_moment(wait: Callable[[float], int]) -> int:
    try:
        return wait(1.0)
    except subprocess.TimeoutExpired:
        return 0


@contextmanager
def _dialled(authority: str, path: str, url: str, patience_s: float) -> Iterator[Connection]:
    """Speak with a git daemon; `authority` is the host and perhaps the port."""
    host, port = _host_and_port(authority)
    shown = hide_secret(url)
    if not port.isascii() or not (port or "0").isdigit():
        raise RemoteUnreachable(shown, "its port is no number")
    try:
        dialled = socket.create_connection((host, int(port or _GIT_PORT)), timeout=patience_s)
    except (OSError, OverflowError, UnicodeError) as error:
        raise RemoteUnreachable(shown, str(error)) from error
    with dialled:
        dialled.setblocking(True)
        connection = Connection(url, patience_s, dialled.fileno(), dialled.fileno())
        request = b"git-upload-pack %b\0host=%b\0\0%b\0" % (os.fsencode(path), authority.encode(), _VERSION.encode())
        connection.write(packet(request))
        yield connection


def _host_and_port(authority: str) -> tuple[str, str]:
    """Take apart `HOST`, `HOST:PORT`, `[HOST]` or `[HOST]:PORT`."""
    match = _BRACKETS.fullmatch(authority)
    if match is not None:
        return match[1], match[2] or ""
    if authority.count(":") == 1:
        host, _, port = authority.partition(":")
        return host, port
    return authority, ""


# --- ssh -----------------------------------------------------------------------------------------------------------------


def _ssh_words(place: Path, url: str, values: Mapping[str, str], access: Access) -> list[str] | None:
    """Say how git would call ssh for an address; None where the version would not be passed on."""
    match = _SCHEME.fullmatch(url)
    if match is not None:
        user, at, authority = unquote(match[2]).rpartition("@")
        path = _path_of(match[3])
    else:
        user, at, authority, path = _split_short(url)
    host, port = _host_and_port(authority)
    if not host or host.startswith("-") or user.startswith("-") or (port and not port.isdigit()):
        return None
    program = _ssh_program(place, values, access)
    if program is None:
        return None
    options = ["-o", "SendEnv=GIT_PROTOCOL", *(["-p", port] if port else [])]
    return [*program, *options, f"{user}{at}{host}", f"git-upload-pack {_quote(path)}"]


def _split_short(url: str) -> tuple[str, str, str, str]:
    """Take apart `[USER@]HOST:PATH`, where the host, perhaps with a port, may stand in brackets: user, `@`, host, path."""
    match = re.fullmatch(r"(?:([^@\[\]:]*)(@))?(\[[^\]]*\]|[^:]*):(.*)", url, re.DOTALL)
    if match is None:
        return "", "", "", ""
    host = match[3]
    inner = host[1:-1]
    if host.startswith("[") and inner.count(":") < 2:  # `[host:port]`; else the brackets are those of an IPv6 address
        host = inner
    path = match[4]
    return match[1] or "", match[2] or "", host, path[1:] if path.startswith("/~") else path


def _ssh_program(place: Path, values: Mapping[str, str], access: Access) -> list[str] | None:
    """Say which ssh git would run, if it is one that passes the version on."""
    environment = access.environment
    command = environment.get("GIT_SSH_COMMAND") or values.get("core.sshcommand")
    variant = (environment.get("GIT_SSH_VARIANT") or values.get("ssh.variant") or "auto").lower()
    if command:
        # As git has it: a text for the shell, which is handed what follows.
        words = ["sh", "-c", f'{command} "$@"', command]
        try:
            first = shlex.split(command)[:1] or [""]
        except ValueError:
            return None
    else:
        first = words = [environment.get("GIT_SSH") or "ssh"]
    if variant == "auto":
        name = os.path.basename(first[0]).lower()
        if name in _OTHER_SSH:
            return None
        if name not in _SSH and not _takes_options(place, words, access):
            return None
    elif variant != "ssh":
        return None
    return words


def _takes_options(place: Path, words: Sequence[str], access: Access) -> bool:
    """Tell whether a program of another name takes the options of OpenSSH, as git finds out."""
    with host_errors(f"run {words[0]}"):
        process = start(place, [*words, "-G", "localhost"], access, {})
    try:
        for pipe in (process.stdout, process.stderr):
            threading.Thread(target=_collect, args=(pipe, []), daemon=True).start()
        return bool(process.wait(_PROBE_S) == 0)
    except subprocess.TimeoutExpired:
        return False
    finally:
        end(process)


def _quote(text: str) -> str:
    """Quote a text for the shell of the other side, as git does."""
    return "'" + text.replace("'", "'\\''").replace("!", "'\\!'") + "'"
