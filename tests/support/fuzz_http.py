"""Send damaged, hostile, slow and unfinished requests to `avfs mcp --http`: it must go on serving, in bounded memory.

    python -m tests.support.fuzz_http SECONDS [SEED]

A server works in a vault of its own. Several clients at once send cases, each made by a seeded generator; after every
round a good client reads a file, which must be as it was. At the end the server's memory and its open descriptors are
looked at: both must be what a server has that has served only good clients, within bounds. Prints the seed first.
"""

from __future__ import annotations

import http.client
import json
import os
import random
import shutil
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

from avfs_git import Home
from tests.support.mcp import serving

TOKEN = "0123456789abcdef0123456789abcdef"
MAX_RESIDENT = 600 << 20
"""Bytes: a server that has served a large request has some 300 MiB, most of them its allocator's."""
_GOOD_S = 60.0
_HELD = 40
_TEXT = "as it was\n"
_META = {
    "io.modelcontextprotocol/protocolVersion": "2026-07-28",
    "io.modelcontextprotocol/clientInfo": {"name": "fuzz", "version": "1"},
    "io.modelcontextprotocol/clientCapabilities": {},
}


def call(tool: str, **arguments: Any) -> dict[str, Any]:
    """Make a good request: a call of a tool."""
    params = {"name": tool, "arguments": arguments, "_meta": _META}
    return {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}


def headers_of(request: dict[str, Any]) -> dict[str, str]:
    """Give the headers that a good client sends with a request."""
    return {
        "Authorization": f"Bearer {TOKEN}",
        "Content-Type": "application/json",
        "Accept": "application/json, text/event-stream",
        "MCP-Protocol-Version": "2026-07-28",
        "Mcp-Method": str(request["method"]),
        "Mcp-Name": str(request["params"].get("name", "")),
    }


def read_file(port: int) -> str:
    """Read a file as a good client does."""
    request = call("read_text_file", path="kept")
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=_GOOD_S)) as connection:
        connection.request("POST", "/mcp", json.dumps(request), headers_of(request))
        answer = connection.getresponse()
        body = answer.read().decode()
    if answer.status != 200:
        raise AssertionError(f"a good request got {answer.status}: {body[:500]}")
    document = json.loads(body.partition("data: ")[2] if body.startswith(("event:", "data:", "id:")) else body)
    content: str = document["result"]["structuredContent"]["content"]
    return content


class Fuzzer:
    """A client that sends cases to a server."""

    def __init__(self, port: int, seed: int) -> None:
        self.port = port
        self.random = random.Random(seed)
        self.held: list[socket.socket] = []

    def run(self, count: int) -> None:
        """Send cases."""
        kinds: Sequence[Callable[[], None]] = (
            self.send_strange_headers,
            self.send_broken_json,
            self.send_odd_request,
            self.send_bytes,
            self.send_wrong_lengths,
            self.send_slowly,
            self.leave_early,
            self.open_session,
            self.send_other_method,
            self.send_deep,
        )
        for number in range(count):
            with suppress(OSError, http.client.HTTPException):  # the server may end any of these connections
                self.random.choice(kinds)()
            if number % 200 == 100:
                with suppress(OSError, http.client.HTTPException):
                    self.send_long()
        for held in self.held:
            held.close()

    # --- how requests are sent -------------------------------------------------------------------------------

    def _connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=5)

    def _send(self, data: bytes) -> None:
        """Send bytes, and read the begin of what comes."""
        with self._connect() as connection:
            connection.sendall(data)
            connection.settimeout(self.random.choice((0.02, 0.1, 0.3)))
            connection.recv(1 << 16)

    def _post(self, body: bytes, headers: dict[str, str], method: str = "POST", path: str = "/mcp") -> None:
        given = {"Host": f"127.0.0.1:{self.port}", "Content-Length": str(len(body)), **headers}
        head = "".join(f"{name}: {text}\r\n" for name, text in given.items())
        self._send(f"{method} {path} HTTP/1.1\r\n{head}\r\n".encode("latin-1", "replace") + body)

    def _head(self, token: str = TOKEN) -> str:
        """Begin a request, whose head does not end yet."""
        where = f"POST /mcp HTTP/1.1\r\nHost: 127.0.0.1:{self.port}\r\n"
        return f"{where}Authorization: Bearer {token}\r\nContent-Type: application/json\r\n"

    def _text(self, length: int) -> str:
        letters = "aZ09 /\\.:;,%@\"'{}[]\t\u00e4\u2028\ud7ff"
        return "".join(self.random.choice(letters) for _ in range(self.random.randrange(length)))

    def _value(self, depth: int = 0) -> Any:
        """Make any value of JSON."""
        kind = self.random.randrange(8 if depth < 4 else 6)
        if kind == 6:
            return [self._value(depth + 1) for _ in range(self.random.randrange(5))]
        if kind == 7:
            return {self._text(8): self._value(depth + 1) for _ in range(self.random.randrange(5))}
        return (
            None,
            True,
            self.random.getrandbits(80) - (1 << 79),
            self.random.random() * 1e300,
            self._text(40),
            "../../etc",
        )[kind]

    def _request(self) -> dict[str, Any]:
        tools = (
            call("read_text_file", path="kept"),
            call("directory_tree"),
            call("git_log"),
            call("grep", pattern=".*"),
            call("fork_list"),
            {"jsonrpc": "2.0", "id": 2, "method": "tools/list", "params": {"_meta": _META}},
            {
                "jsonrpc": "2.0",
                "id": 3,
                "method": "resources/read",
                "params": {"uri": "avfs://work/main/kept", "_meta": _META},
            },
        )
        chosen: dict[str, Any] = json.loads(json.dumps(self.random.choice(tools)))  # a copy of its own
        return chosen

    # --- kinds of cases --------------------------------------------------------------------------------------

    def send_strange_headers(self) -> None:
        """A wrong token, host, origin, type or version."""
        request = self._request()
        headers = headers_of(request)
        wrong = {
            "Authorization": ("", "Bearer", f"Bearer {TOKEN}x", f"bearer {TOKEN}", "Bearer \u00e4", "Basic eA=="),
            "Host": ("evil.example", "", "127.0.0.1", "127.0.0.1:1", "[::1", "a" * 5000),
            "Origin": ("null", "http://evil.example", "http://127.0.0.1:1", "\u00e4", "file://"),
            "Content-Type": ("", "text/plain", "application/json; charset=utf-7", "x" * 3000),
            "Accept": ("", "*/*", "text/html"),
            "MCP-Protocol-Version": ("", "1999-01-01", "2025-06-18", "9" * 2000),
            "Mcp-Method": ("", "initialize", "\u00e4"),
            "Mcp-Session-Id": ("", "x", "0" * 32, "../../x"),
            "Content-Length": ("0", "-1", "1", "99999999999999999999", "x"),
            "X-Many": ("y" * 60_000, "y" * 70_000),
        }
        for _ in range(self.random.randrange(1, 4)):
            name = self.random.choice(list(wrong))
            headers[name] = self.random.choice(wrong[name])
        self._post(json.dumps(request).encode(), headers)

    def send_broken_json(self) -> None:
        """A good body, with some of its bytes changed, missing or doubled."""
        request = self._request()
        body = bytearray(json.dumps(request).encode())
        for _ in range(self.random.randrange(1, 6)):
            at = self.random.randrange(len(body))
            change = self.random.randrange(3)
            if change == 0:
                body[at] = self.random.randrange(256)
            elif change == 1:
                del body[at : at + self.random.randrange(1, 20)]
            else:
                body[at:at] = body[: self.random.randrange(40)]
            if not body:
                break
        self._post(bytes(body), headers_of(request))

    def send_odd_request(self) -> None:
        """A document whose members have any values."""
        request = self._request()
        headers = headers_of(request)
        where = self.random.choice(
            (request, request["params"], request["params"].get("arguments", {}), request["params"]["_meta"])
        )
        for _ in range(self.random.randrange(1, 4)):
            where[self.random.choice([*where, self._text(8)])] = self._value()
        self._post(json.dumps(self.random.choice((request, [request], self._value()))).encode(), headers)

    def send_bytes(self) -> None:
        """What is no HTTP at all."""
        start = self.random.choice(
            (b"", b"\x16\x03\x01", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"GET / HTTP/9.9\r\n", b"POST /mcp\r\n")
        )
        self._send(start + self.random.randbytes(self.random.randrange(2000)))

    def send_wrong_lengths(self) -> None:
        """Bodies in pieces that are wrong, or of two lengths."""
        head = self._head()
        ends = (
            "Transfer-Encoding: chunked\r\n\r\nfffffffffffff\r\n{}",
            "Transfer-Encoding: chunked\r\n\r\nzz\r\n{}\r\n0\r\n\r\n",
            "Transfer-Encoding: chunked\r\nContent-Length: 2\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
            "Transfer-Encoding: chunked\r\n\r\n" + "1\r\n[\r\n" * 3000 + "0\r\n\r\n",
            "Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}",
            "Content-Length: 100\r\n\r\n{}",
            "Expect: 100-continue\r\nContent-Length: 2\r\n\r\n",
        )
        self._send((head + self.random.choice(ends)).encode())

    def send_slowly(self) -> None:
        """A part of a request, with or without the token; the connection stays open for long."""
        token = TOKEN if self.random.random() < 0.5 else "x"
        whole = (
            f"POST /mcp HTTP/1.1\r\nHost: 127.0.0.1:{self.port}\r\nAuthorization: Bearer "
            f"{token}\r\nContent-Length: 5000\r\n\r\n"
        )
        connection = self._connect()
        self.held.append(connection)
        connection.sendall(whole.encode()[: self.random.randrange(len(whole) + 1)])
        for held in self.random.sample(self.held, min(3, len(self.held))):
            with suppress(OSError):
                held.sendall(b"x")
        while len(self.held) > _HELD:
            self.held.pop(self.random.randrange(len(self.held))).close()

    def leave_early(self) -> None:
        """A good request, whose answer is not waited for."""
        request = self._request()
        body = json.dumps(request).encode()
        with self._connect() as connection:
            head = "".join(f"{name}: {text}\r\n" for name, text in headers_of(request).items())
            length = f"Host: 127.0.0.1:{self.port}\r\nContent-Length: {len(body)}\r\n"
            connection.sendall(f"POST /mcp HTTP/1.1\r\n{length}{head}\r\n".encode() + body)

    def open_session(self) -> None:
        """A session of the protocol before 2026, which is never ended."""
        params = {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "fuzz", "version": "1"}}
        request = {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": params}
        headers = {name: text for name, text in headers_of(request).items() if not name.lower().startswith("mcp")}
        self._post(json.dumps(request).encode(), headers)

    def send_other_method(self) -> None:
        """Another method, or another path."""
        method = self.random.choice(("GET", "DELETE", "PUT", "OPTIONS", "HEAD", "CONNECT", "get", "\u00e4"))
        path = self.random.choice(
            ("/mcp", "/", "/mcp/", "/../etc/passwd", "//evil", "*", "http://evil/mcp", "/mcp?" + "a" * 5000, "/%00")
        )
        headers = {
            "Authorization": f"Bearer {TOKEN}",
            "Accept": "text/event-stream",
            "Upgrade": "websocket",
            "Connection": "Upgrade",
        }
        for name in self.random.sample(sorted(headers), self.random.randrange(4)):
            del headers[name]
        self._post(b"", headers, method, path)

    def send_deep(self) -> None:
        """Lists in lists, or a number of many digits."""
        request = self._request()
        count = self.random.choice((100, 5000, 200_000))
        body = self.random.choice(
            ("[" * count, "[" * count + "]" * count, "9" * count, '{"a":' * count, f'{{"id":{"9" * count}}}')
        )
        self._post(body.encode(), headers_of(request))

    def send_long(self) -> None:
        """More than the server takes, in pieces whose number is not said."""
        head = self._head()
        with self._connect() as connection:
            connection.sendall(f"{head}Transfer-Encoding: chunked\r\n\r\n".encode())
            for _ in range(40):
                connection.sendall(b"100000\r\n" + b"[" * (1 << 20) + b"\r\n")


def measure(pid: int) -> tuple[int, int]:
    """Say how many bytes a process has in memory, and how many descriptors."""
    pages = int(Path(f"/proc/{pid}/statm").read_text("ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE"), len(os.listdir(f"/proc/{pid}/fd"))


def attack(
    root: Path, seed: int, *, rounds: int, cases: int, clients: int = 4, seconds: float = float("inf")
) -> tuple[int, int]:
    """Start a server and send cases to it; gives its memory and descriptors at the end.

    Args:
        root: An empty directory.
        seed: Of the cases.
        rounds: How often a good client looks whether it still serves.
        cases: How many each client sends in a round.
        clients: How many send at once.
        seconds: No round begins after this time.
    """
    with Home(root / "home") as home:
        home.create_vault("work").workspace().write_text("kept", _TEXT)
    (root / "token").write_text(TOKEN)
    command = [sys.executable, "-m", "avfs_git", "mcp", "--http", "--vault", "work", "--read-only"]
    environment = {**os.environ, "AVFS_HOME": str(root / "home")}
    end = time.monotonic() + seconds
    with (
        (root / "log").open("w") as log,
        serving(*command, "--token-file", str(root / "token"), env=environment) as running,
    ):
        assert running.stderr is not None
        port = int(running.stderr.readline().rpartition(":")[2].partition("/")[0])
        reader = threading.Thread(target=shutil.copyfileobj, args=(running.stderr, log))
        reader.start()
        assert read_file(port) == _TEXT
        for number in range(rounds):
            if time.monotonic() > end:
                break
            fuzzers = [Fuzzer(port, seed + number * clients + client) for client in range(clients)]
            threads = [threading.Thread(target=fuzzer.run, args=(cases,)) for fuzzer in fuzzers]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            assert running.poll() is None, "the server ended"
            assert read_file(port) == _TEXT
        found = measure(running.pid)
        running.terminate()
        running.wait(timeout=_GOOD_S)
        reader.join()
    told = (root / "log").read_text()
    at = told.find("Traceback")
    assert at == -1, told[max(0, at - 1000) : at + 8000]
    return found


def main(seconds: str, seed: str = "") -> None:
    """Fuzz for a time."""
    chosen = int(seed) if seed else random.randrange(1 << 32)
    print(f"seed {chosen}", flush=True)
    with tempfile.TemporaryDirectory(prefix="avfs-fuzz-") as place:
        resident, descriptors = attack(
            Path(place), chosen, rounds=1 << 30, cases=200, clients=8, seconds=float(seconds)
        )
    print(f"still serving: {resident >> 20} MiB, {descriptors} descriptors")
    assert resident < MAX_RESIDENT, "the server's memory has grown"


if __name__ == "__main__":
    main(*sys.argv[1:])
