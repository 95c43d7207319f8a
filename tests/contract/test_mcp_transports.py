"""`avfs mcp` as clients start and reach it: over standard input and output, and over HTTP."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack
from http.client import HTTPConnection
from pathlib import Path

import httpx2
import pytest
import uvicorn
from mcp import Client, StdioServerParameters
from mcp.client.streamable_http import streamable_http_client

from avfs_git.mcp import http
from tests.support import fuzz_http
from tests.support.cli import Cli
from tests.support.mcp import ERAS, Place, code_of, ok, serving, text_of

AVFS = [sys.executable, "-m", "avfs_git"]


@pytest.fixture
def place(hermetic: Path) -> Place:
    """The home of the command line, with two vaults."""
    return Place(hermetic / "avfs")


@pytest.mark.parametrize("era", ERAS)
def test_a_client_starts_the_command(place: Place, era: str) -> None:
    """Over standard input and output, limited to a fork: what it writes is in that fork."""

    async def run() -> str:
        command = StdioServerParameters(
            command=AVFS[0], args=[*AVFS[1:], "mcp", "--vault", "work", "--fork", "side"], env=dict(os.environ)
        )
        async with Client(command, mode=era) as client:
            ok(await client.call_tool("write_file", {"path": "made", "content": "here"}))
            return text_of(await client.call_tool("git_status", {}))

    assert asyncio.run(run()).startswith("On fork side")
    assert place.read("made", "side") == b"here"


def test_the_end_of_the_input_ends_the_server(place: Place) -> None:
    """A client that goes away leaves no process; nothing but the protocol goes to standard output."""
    hello = {
        "jsonrpc": "2.0",
        "id": 1,
        "method": "initialize",
        "params": {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "test", "version": "1"}},
    }

    done = subprocess.run(
        [*AVFS, "mcp"], input=f"not json\n{json.dumps(hello)}\n", capture_output=True, text=True, check=False
    )

    assert done.returncode == 0
    for line in done.stdout.splitlines():
        assert json.loads(line)["jsonrpc"] == "2.0"
    assert '"protocolVersion":"2025-06-18"' in done.stdout


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("options", [(), ("--http",)])
def test_a_signal_ends_the_server_at_once(place: Place, options: tuple[str, ...], number: signal.Signals) -> None:
    """Also in the middle of a call, over HTTP and with a client that keeps its connection.

    Without a word of Python's.
    """
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with serving(*AVFS, "mcp", "--vault", "work", *options, **pipes) as running, ExitStack() as stack:
        assert running.stderr is not None
        assert running.stdin is not None
        assert running.stdout is not None
        if options:
            url = running.stderr.readline().removeprefix("serving ").strip()
            token = running.stderr.readline().removeprefix("token: ").strip()
            port = int(url.rsplit(":", 1)[1].removesuffix("/mcp"))
            calling = stack.enter_context(socket.create_connection(("127.0.0.1", port)))
            head = f"POST /mcp HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nAuthorization: Bearer {token}\r\n"
            calling.sendall(f"{head}Expect: 100-continue\r\nContent-Length: 10\r\n\r\n".encode())
            assert calling.recv(100)
        else:
            running.stdin.write("not json\n")
            running.stdin.flush()
            running.stdout.readline()
        running.send_signal(number)
        assert running.wait() == 128 + number
        assert running.stderr.read() == ""


def test_a_request_that_cannot_be_read_is_answered(place: Place) -> None:
    """With an error and its id, if that can be read; a client would wait for ever.

    Half of a character comes of cut texts.
    """
    call = (
        '{"jsonrpc": "2.0", "id": %s, "method": "tools/call", "params": {"name": "more", "arguments": {"field": '
        '"\\ud83d"}}}'
    )
    lines = [call % 3, call % '"four"', '{"jsonrpc": "1.0", "id": 5, "method": "ping"}', "not json", "[" * 10_000, "7"]
    silent = [
        '{"jsonrpc": "2.0", "method": "x", "params": {"text": "\\ud83d"}}',
        '{"jsonrpc": "2.0", "id": 9, "result": 1}',
    ]
    text = "".join(f"{line}\n" for line in [*lines, *silent])

    done = subprocess.run([*AVFS, "mcp"], input=text, capture_output=True, text=True, check=True)

    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert [(answer["id"], answer["error"]["code"]) for answer in found] == [
        (3, -32700),
        ("four", -32700),
        (5, -32600),
        (None, -32700),
        (None, -32700),
        (None, -32600),
    ]
    assert "half of a character" in found[0]["error"]["message"]


@pytest.fixture
def web(place: Place) -> Iterator[tuple[str, str]]:
    """A server over HTTP: its address and token."""
    with serving(*AVFS, "mcp", "--http", "--vault", "work") as running:
        assert running.stderr is not None
        url = running.stderr.readline().removeprefix("serving ").strip()
        token = running.stderr.readline().removeprefix("token: ").strip()
        assert re.fullmatch(r"http://127\.0\.0\.1:\d+/mcp", url)
        yield url, token


@pytest.mark.parametrize("era", ERAS)
def test_a_client_connects_over_http(web: tuple[str, str], place: Place, era: str) -> None:
    """With the token, all tools of the vault are there."""
    url, token = web

    async def run() -> None:
        async with (
            httpx2.AsyncClient(headers={"Authorization": f"Bearer {token}"}) as http,
            Client(streamable_http_client(url, http_client=http), mode=era) as client,
        ):
            ok(await client.call_tool("write_file", {"path": "web", "content": "x" * (10 << 20)}))
            assert code_of(await client.call_tool("read_text_file", {"path": "../x"})) == "path.escapes"

    asyncio.run(run())
    assert len(place.read("web")) == 10 << 20


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 401),
        ({"Authorization": "Bearer wrong"}, 401),
        ({"Authorization": "Bearer "}, 401),
        ({"Authorization": "Basic TOKEN"}, 401),
        ({"Authorization": "Bearer TOKEN", "Host": "evil.example.com"}, 421),
        ({"Authorization": "Bearer TOKEN", "Host": "127.0.0.1:1"}, 421),
        ({"Authorization": "Bearer TOKEN", "Origin": "http://evil.example.com"}, 403),
        ({"Authorization": "Bearer TOKEN", "Origin": "null"}, 403),
        ({"Authorization": "Bearer TOKEN", "Origin": "http://127.0.0.1:1"}, 403),
    ],
)
def test_strangers_are_refused(web: tuple[str, str], headers: dict[str, str], status: int) -> None:
    """Without the token, under a foreign name, or from a page in a browser, nothing is answered."""
    url, token = web
    given = {name: text.replace("TOKEN", token) for name, text in headers.items()}
    given |= {"Content-Type": "application/json", "Accept": "application/json, text/event-stream"}
    body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "tools/list"}).encode()

    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(urllib.request.Request(url, body, given))
    refused.value.close()

    assert refused.value.code == status


def test_a_request_that_is_too_long_is_refused(web: tuple[str, str]) -> None:
    """A body above the limit is not kept in memory."""
    url, token = web
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json", "Content-Length": str(64 << 20)}

    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(urllib.request.Request(url, b"{}", headers))
    refused.value.close()

    assert refused.value.code == 413


@pytest.mark.slow
def test_hostile_requests_leave_it_serving(tmp_path: Path) -> None:
    """After damaged, slow and unfinished requests the server still serves a good client, in bounded memory.

    `make soak` sends more of them.
    """
    resident, descriptors = fuzz_http.attack(tmp_path, 20, rounds=1, cases=15)

    assert resident < fuzz_http.MAX_RESIDENT
    assert descriptors < 200


@pytest.fixture
def served(tmp_path: Path) -> Iterator[int]:
    """A server in this process: its port."""
    listening = http.listen("127.0.0.1", 0)
    port = int(listening.getsockname()[1])
    server = uvicorn.Server(http.configure(http.make_app(Place(tmp_path / "home").serve(), port=port, token="t" * 32)))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
    thread.start()
    while not server.started:
        time.sleep(0.02)
    yield port
    server.should_exit = True
    thread.join()


def is_closed(connection: socket.socket) -> bool:
    """Wait until the server closes a connection, or answers on it."""
    connection.settimeout(60)
    try:
        return connection.recv(1) == b""
    except ConnectionResetError:
        return True


def test_strangers_do_not_stay(served: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection without the token ends in time, however slowly it sends; one with the token stays."""
    monkeypatch.setattr(http, "_STRANGER_S", 1.0)  # a first request takes 0.3 s on a slow machine
    with (
        socket.create_connection(("127.0.0.1", served)) as silent,
        socket.create_connection(("127.0.0.1", served)) as half,
    ):
        half.sendall(b"POST /mcp HTTP/1.1\r\nHost: 127.0")
        known = HTTPConnection("127.0.0.1", served, timeout=60)
        for _ in range(2):
            known.request("GET", "/nowhere", headers={"Authorization": f"Bearer {'t' * 32}"})
            assert (known.getresponse().read(), known.sock is not None) == (b"Not Found", True)
            assert is_closed(silent)
            assert is_closed(half)
        known.close()


def test_who_had_the_token_once_stays(served: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection on which a request had the token is no stranger's, whatever the next request on it has."""
    monkeypatch.setattr(http, "_STRANGER_S", 1.0)
    known, token = HTTPConnection("127.0.0.1", served, timeout=60), {"Authorization": f"Bearer {'t' * 32}"}
    known.connect()
    with socket.create_connection(("127.0.0.1", served)) as later:
        for headers, body in ((token, b"Not Found"), ({}, None)):
            known.request("GET", "/nowhere", headers=headers)
            answer = known.getresponse().read()
            assert body in (None, answer)
        assert is_closed(later)  # so the time of the other is over, too
        known.request("GET", "/nowhere", headers=token)
        assert known.getresponse().read() == b"Not Found"
    known.close()


def test_many_strangers_make_room(served: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of too many connections without the token, the oldest is closed at once."""
    monkeypatch.setattr(http, "_MAX_STRANGERS", 3)
    with ExitStack() as stack:
        made = [stack.enter_context(socket.create_connection(("127.0.0.1", served))) for _ in range(4)]
        assert is_closed(made[0])
        made[3].sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        assert made[3].recv(12) == b"HTTP/1.1 401"


def test_a_token_from_a_file(place: Place, tmp_path: Path, cli: Cli) -> None:
    """The owner of a token keeps it in a file; a token that can be guessed is refused."""
    (tmp_path / "token").write_text("0123456789abcdef0123456789abcdef\n")
    (tmp_path / "short").write_text("1234\n")

    with serving(*AVFS, "mcp", "--http", "--token-file", str(tmp_path / "token")) as running:
        assert running.stderr is not None
        url = running.stderr.readline().removeprefix("serving ").strip()
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(
                urllib.request.Request(url, headers={"Authorization": f"Bearer {'0123456789abcdef' * 2}"})
            )
        refused.value.close()
        assert refused.value.code in (400, 405, 406)  # let in, and no request that it understands
    assert cli("mcp", "--http", "--token-file", str(tmp_path / "short")).status == 2
    assert cli("mcp", "--http", "--token-file", str(tmp_path / "none")).status == 1


@pytest.mark.parametrize(
    ("line", "status", "error"),
    [
        (["mcp", "--json"], 2, "leave out --json"),
        (["mcp", "--port", "80"], 2, "these options need --http"),
        (["mcp", "--vault", "nope"], 11, "there is no vault 'nope'"),
        (["mcp", "--vault", "work", "--fork", "nope"], 21, "no fork 'nope'"),
        (["mcp", "--http", "--host", "192.0.2.1"], 1, "cannot listen at 192.0.2.1 port 0"),
    ],
)
def test_what_cannot_be_served_is_told_at_once(
    place: Place, cli: Cli, line: list[str], status: int, error: str
) -> None:
    """A server that cannot start says why, as every command does."""
    ran = cli(*line)

    assert ran.status == status
    assert error in ran.stderr + ran.text


def test_missing_packages_are_named(place: Place) -> None:
    """Without the extra, the command says how it is installed."""
    code = "import sys; sys.modules['mcp'] = None; import avfs_git.cli.app as app; sys.exit(app.run(['mcp']))"

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)

    assert done.returncode == 1
    assert "pip install 'avfs-git[mcp]'" in done.stderr
