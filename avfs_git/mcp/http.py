"""The server over HTTP: which requests it answers.

Decided here: each request needs the token, in `Authorization: Bearer`, a `Host` that the server is known by, and an
`Origin`, if it has one, of the same: so that neither other users of the machine nor pages in a browser reach it. A
request with more than 32 MiB is refused. A connection that has not shown the token after ten seconds is closed, and the
oldest of them at once where there are more than 200: clients that send slowly, or nothing, keep no other client out.
There is no TLS: beyond loopback, a proxy in front has that.
"""

from __future__ import annotations

import asyncio
import hmac
import socket
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager

import uvicorn
from mcp.server import MCPServer
from mcp.server.transport_security import TransportSecuritySettings
from starlette.datastructures import Headers
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from avfs_git.errors import HostError

PATH = "/mcp"
_MAX_BODY = 32 << 20
_MAX_SESSIONS = 1000
"""Of clients before 2026-07-28 that do not end theirs; one costs some 50 kB until it has been idle for half an hour."""
_STRANGER_S = 10.0
_MAX_STRANGERS = 200
_ADMITTED = "avfs.admitted"
"""In the scope of a request: it had the token."""
_LOOPBACK = ("127.0.0.1", "localhost", "[::1]")


class TokenGuard:
    """Refuses each request without the token."""

    def __init__(self, app: ASGIApp, token: str) -> None:
        self._app = app
        self._expected = f"Bearer {token}".encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request, or refuse it."""
        if scope["type"] != "lifespan":
            given = Headers(scope=scope).get("authorization", "").encode("latin-1", "replace")
            if not hmac.compare_digest(given, self._expected):
                refusal = PlainTextResponse("a token is needed\n", 401, headers={"WWW-Authenticate": "Bearer"})
                await refusal(scope, receive, send)
                return
            scope[_ADMITTED] = True
        await self._app(scope, receive, send)


class Connection(H11Protocol):
    """A connection, which is a stranger's until a request on it has had the token."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as its parent has it
        """Begin the time of a stranger; make room if there are too many."""
        super().connection_made(transport)
        self.is_admitted = False
        self.began = time.monotonic()
        self._deadline = self.loop.call_later(_STRANGER_S, self._refuse_stranger)
        strangers = [other for other in self.connections if isinstance(other, Connection) and other.is_stranger()]
        if len(strangers) > _MAX_STRANGERS:
            min(strangers, key=lambda other: other.began)._refuse_stranger()  # noqa: SLF001 - of the same class

    def connection_lost(self, exc: Exception | None) -> None:
        """End the time of a stranger."""
        self._deadline.cancel()
        super().connection_lost(exc)

    def handle_events(self) -> None:
        """Take a request; what the one before it had is remembered, because the new one's scope replaces its own."""
        self.is_stranger()
        super().handle_events()

    def is_stranger(self) -> bool:
        """Whether no request has had the token."""
        self.is_admitted = self.is_admitted or (bool(self.scope) and _ADMITTED in self.scope)
        return not self.is_admitted

    def _refuse_stranger(self) -> None:
        if self.is_stranger():
            self.transport.abort()


def make_app(server: MCPServer, *, port: int, token: str | None, hosts: Sequence[str] = ()) -> ASGIApp:
    """Make the application that serves a server.

    Args:
        server: The server.
        port: Where it is reached.
        token: What each request must give; None only for tests behind other walls.
        hosts: Names beside those of loopback that it is reached by.
    """
    names = [*_LOOPBACK, *hosts]
    security = TransportSecuritySettings(
        allowed_hosts=[f"{name}:{port}" for name in names] + list(hosts),
        allowed_origins=[f"http://{name}:{port}" for name in names] + [f"https://{name}" for name in hosts],
    )
    app = server.streamable_http_app(
        streamable_http_path=PATH,
        max_request_body_size=_MAX_BODY,
        max_sessions=_MAX_SESSIONS,
        transport_security=security,
    )
    return app if token is None else TokenGuard(app, token)


def listen(host: str, port: int) -> socket.socket:
    """Open the port, so that a taken one is told before anything else.

    Raises:
        HostError: If it cannot be opened.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        with ExitStack() as stack:
            listening = stack.enter_context(socket.socket(family, kind, protocol))
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listening.bind(address)
            listening.listen(128)
            stack.pop_all()
    except OSError as error:
        raise HostError(f"listen at {host} port {port}", error) from error
    return listening


class _Server(uvicorn.Server):
    """Leaves the handlers of signals as they are."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Take none."""
        yield


def serve(server: MCPServer, listening: socket.socket, *, token: str, hosts: Sequence[str] = ()) -> None:
    """Serve until the process ends; its signals are the caller's."""
    app = make_app(server, port=int(listening.getsockname()[1]), token=token, hosts=hosts)
    _Server(configure(app)).run(sockets=[listening])


def configure(app: ASGIApp) -> uvicorn.Config:
    """Say how an application is served: by `Connection`, and without WebSockets."""
    return uvicorn.Config(
        app, http=Connection, ws="none", log_level="warning", timeout_graceful_shutdown=5, server_header=False
    )
