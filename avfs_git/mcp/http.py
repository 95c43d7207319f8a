"""The server over HTTP: which requests it answers.

Decided here: each request needs the token, in `Authorization: Bearer`, a `Host` that the server is known by, and an `Origin`, if
it has one, of the same: so that neither other users of the machine nor pages in a browser reach it. A request with more than 32
MiB is refused. There is no TLS: beyond loopback, a proxy in front has that.
"""

from __future__ import annotations

import hmac
import socket
from collections.abc import Sequence
from contextlib import ExitStack

import uvicorn
from mcp.server import MCPServer
from mcp.server.transport_security import TransportSecuritySettings
from starlette.datastructures import Headers
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from avfs_git.errors import HostError

PATH = "/mcp"
_MAX_BODY = 32 << 20
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
        await self._app(scope, receive, send)


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
    app = server.streamable_http_app(streamable_http_path=PATH, max_request_body_size=_MAX_BODY, transport_security=security)
    return app if token is None else TokenGuard(app, token)


def listen(host: str, port: int) -> socket.socket:
    """Open the port, so that a taken one is told before anything else.

    Raises:
        HostError: If it cannot be opened.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        with ExitStack() as stack:
            listening = stack.enter_context(socket.socket(family, kind, protocol))
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listening.bind(address)
            listening.listen(128)
            stack.pop_all()
    except OSError as error:
        raise HostError(f"listen at {host} port {port}", error) from error
    return listening


def serve(server: MCPServer, listening: socket.socket, *, token: str, hosts: Sequence[str] = ()) -> None:
    """Serve until SIGINT or SIGTERM; requests that run get five seconds."""
    app = make_app(server, port=int(listening.getsockname()[1]), token=token, hosts=hosts)
    config = uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=5, server_header=False)
    uvicorn.Server(config).run(sockets=[listening])
