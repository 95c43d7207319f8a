"""Real git servers on this machine: a plain path, `git daemon`, `git http-backend` behind a web server, ssh.

Each serves a directory of bare repositories to this user only (loopback), says by which address a repository is
reached, and is gone when its `with` block is left, however that happens.
"""

from __future__ import annotations

import base64
import os
import queue
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from tests.support.capabilities import find_tool

KINDS = ("path", "daemon", "http", "ssh")
_START_S = 20.0
_ENVIRONMENT = {"PATH": os.defpath, "GIT_CONFIG_NOSYSTEM": "1", "GIT_CONFIG_GLOBAL": "/dev/null", "LC_ALL": "C"}


@dataclass
class Server:
    """A server, and the directory of repositories that it serves."""

    root: Path
    base: str
    environment: dict[str, str] = field(default_factory=dict)
    """What a client needs in its environment."""

    def url(self, name: str) -> str:
        """Give the address of a repository."""
        return f"{self.base}/{name}"

    def make(self, name: str) -> Path:
        """Make an empty repository that takes pushes."""
        return make_bare(self.root / name)


def make_bare(place: Path) -> Path:
    """Make an empty bare repository that takes pushes, also over http, and filters."""
    subprocess.run(["git", "init", "-q", "--bare", "-b", "main", str(place)], check=True, env=_ENVIRONMENT)
    for key in ("http.receivepack", "uploadpack.allowFilter", "uploadpack.allowAnySHA1InWant"):
        subprocess.run(["git", f"--git-dir={place}", "config", key, "true"], check=True, env=_ENVIRONMENT)
    return place


@contextmanager
def serve(kind: str, root: Path) -> Iterator[Server]:
    """Serve a directory of repositories."""
    root.mkdir(parents=True, exist_ok=True)
    with {"path": _path, "daemon": _daemon, "http": _http, "ssh": _ssh}[kind](root) as server:
        yield server


@contextmanager
def _path(root: Path) -> Iterator[Server]:
    yield Server(root, str(root))


@contextmanager
def _daemon(root: Path) -> Iterator[Server]:
    port = free_port()
    argv = [
        "git",
        "daemon",
        "--listen=127.0.0.1",
        f"--port={port}",
        "--export-all",
        "--enable=receive-pack",
        "--reuseaddr",
    ]
    argv += [f"--base-path={root}", str(root)]
    process = subprocess.Popen(argv, env=_ENVIRONMENT, stderr=subprocess.DEVNULL, start_new_session=True)
    try:
        wait_for_port(port)
        yield Server(root, f"git://127.0.0.1:{port}")
    finally:
        _end(process)


@contextmanager
def _http(root: Path) -> Iterator[Server]:
    with serve_http(root) as server:
        yield server


@contextmanager
def serve_http(root: Path, *, credentials: str | None = None) -> Iterator[Server]:
    """Serve a directory of repositories over HTTP, to everybody or to who knows `USER:PASSWORD`."""
    backend = Path(subprocess.run(["git", "--exec-path"], check=True, capture_output=True, text=True).stdout.strip())
    wanted = f"Basic {base64.b64encode(credentials.encode()).decode()}" if credentials is not None else None
    handler = type("Handler", (_Cgi,), {"program": backend / "git-http-backend", "root": root, "wanted": wanted})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield Server(root, f"http://127.0.0.1:{server.server_port}")
    finally:
        server.shutdown()
        server.server_close()
        thread.join(_START_S)


class _Cgi(BaseHTTPRequestHandler):
    """Hands requests to `git http-backend`, as a web server does by CGI."""

    program: Path
    root: Path
    wanted: str | None
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._run(b"")

    def do_POST(self) -> None:
        self._run(self._read_body())

    def _read_body(self) -> bytes:
        if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", "0")))
        pieces = []
        while size := int(self.rfile.readline().split(b";")[0], 16):
            pieces.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(pieces)

    def _run(self, body: bytes) -> None:
        if self.wanted not in (None, self.headers.get("Authorization")):
            self.send_response(401)
            self.send_header("WWW-Authenticate", 'Basic realm="x"')
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        path, _, query = self.path.partition("?")
        environment = {
            **_ENVIRONMENT,
            "GIT_PROJECT_ROOT": str(self.root),
            "GIT_HTTP_EXPORT_ALL": "1",
            "PATH_INFO": path,
            "QUERY_STRING": query,
            "REQUEST_METHOD": self.command,
            "CONTENT_TYPE": self.headers.get("Content-Type", ""),
            "CONTENT_LENGTH": str(len(body)),
            "HTTP_CONTENT_ENCODING": self.headers.get("Content-Encoding", ""),
            "GIT_PROTOCOL": self.headers.get("Git-Protocol", ""),
            "REMOTE_ADDR": "127.0.0.1",
            "REMOTE_USER": "tester",
        }
        done = subprocess.run([str(self.program)], input=body, env=environment, capture_output=True, check=False)
        head, _, content = done.stdout.partition(b"\r\n\r\n")
        status = 200
        headers = []
        for line in head.decode("latin-1").split("\r\n"):
            name, _, value = line.partition(": ")
            if name.lower() == "status":
                status = int(value.split()[0])
            elif name:
                headers.append((name, value))
        self.send_response(status)
        for name, value in headers:
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
        pass


@contextmanager
def _ssh(root: Path) -> Iterator[Server]:
    sshd = find_tool("sshd")
    assert sshd is not None
    place = root.parent / f"{root.name}.sshd"
    place.mkdir()
    for key in ("host", "user"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(place / key)], check=True)
    shutil.copy(place / "user.pub", place / "authorized")
    port = free_port()
    (place / "config").write_text(
        f"ListenAddress 127.0.0.1\nPort {port}\nHostKey {place}/host\nAuthorizedKeysFile "
        f"{place}/authorized\nPidFile none\n"
        "PasswordAuthentication no\nKbdInteractiveAuthentication no\nUsePAM no\nStrictModes no\nAcceptEnv "
        "GIT_PROTOCOL\n"
        "PermitRootLogin yes\n"
    )
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(exist_ok=True)  # where it locks itself up before somebody has logged in
    argv = [sshd, "-D", "-e", "-f", str(place / "config")]
    process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
    command = (
        f"ssh -F none -i {place}/user -oIdentitiesOnly=yes -oStrictHostKeyChecking=no -oUserKnownHostsFile=/dev/null"
    )
    command += " -oBatchMode=yes -oLogLevel=ERROR"
    try:
        wait_for_port(port)
        yield Server(root, f"ssh://127.0.0.1:{port}{root}", {"GIT_SSH_COMMAND": command})
    finally:
        _end(process)


def free_port() -> int:
    """Find a port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for_port(port: int) -> None:
    """Wait until somebody listens."""
    until = time.monotonic() + _START_S
    while time.monotonic() < until:
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        time.sleep(0.02)
    raise AssertionError(f"nobody listens on {port}")


def _end(process: subprocess.Popen[bytes]) -> None:
    """End a server with what it started: it has a session of its own."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, 15)
    try:
        process.wait(5)
    except subprocess.TimeoutExpired:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, 9)
        process.wait(5)


def git(*args: str, cwd: Path, env: Mapping[str, str] | None = None) -> str:
    """Run git by hand, with an author and without anybody's settings."""
    names = {
        f"GIT_{who}_{what}": value
        for who in ("AUTHOR", "COMMITTER")
        for what, value in (("NAME", "A"), ("EMAIL", "a@b"))
    }
    environment = {**_ENVIRONMENT, **names, **(env or {})}
    return subprocess.run(
        ["git", *args], cwd=cwd, check=True, capture_output=True, text=True, env=environment
    ).stdout.strip()


# --- a slow link ------------------------------------------------------------------------------------------------------


@dataclass
class Link:
    """A way to a server that takes time, and what went over it."""

    port: int
    connections: int = 0
    turns: int = 0
    """How often the client said something after it had heard something, or first."""
    received: int = 0
    """Bytes that the client got."""


@contextmanager
def link(port: int, delay_s: float) -> Iterator[Link]:
    """Pass a server on at another port; each direction, and making a connection, takes so long."""
    listener = socket.create_server(("127.0.0.1", 0))
    found = Link(int(listener.getsockname()[1]))
    stopped = threading.Event()

    def carry(source: socket.socket, sink: socket.socket, heard: list[bool], *, is_client: bool) -> None:
        waiting: queue.Queue[tuple[float, bytes]] = queue.Queue()

        def deliver() -> None:
            with suppress(OSError):
                while True:
                    due, data = waiting.get()
                    time.sleep(max(0.0, due - time.monotonic()))
                    if not data:
                        sink.shutdown(socket.SHUT_WR)
                        return
                    sink.sendall(data)

        thread = threading.Thread(target=deliver, daemon=True)
        thread.start()
        with suppress(OSError):
            while data := source.recv(1 << 16):
                if is_client and heard[0]:
                    found.turns += 1
                    heard[0] = False
                elif not is_client:
                    heard[0] = True
                    found.received += len(data)
                waiting.put((time.monotonic() + delay_s, data))
        waiting.put((time.monotonic() + delay_s, b""))
        thread.join(_START_S)

    def accept() -> None:
        while not stopped.is_set():
            try:
                client, _ = listener.accept()
            except OSError:
                return
            found.connections += 1
            time.sleep(2 * delay_s)  # the handshake
            server = socket.create_connection(("127.0.0.1", port))
            heard = [True]
            for ends in ((client, server, True), (server, client, False)):
                threading.Thread(
                    target=carry, args=(*ends[:2], heard), kwargs={"is_client": ends[2]}, daemon=True
                ).start()

    thread = threading.Thread(target=accept, daemon=True)
    thread.start()
    try:
        yield found
    finally:
        stopped.set()
        with suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join(_START_S)
