"""`avfs mcp`: serve vaults and forks to agents' clients."""

from __future__ import annotations

import os
import secrets
import shlex
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import click

from avfs_git.cli.context import State
from avfs_git.cli.verb import HOST_PATH, verb
from avfs_git.errors import BadUsage, ExtraMissing, HostError

if TYPE_CHECKING:
    from mcp.server import MCPServer

    from avfs_git.cli.results import Served
    from avfs_git.mcp.scope import Scope

_MIN_TOKEN = 16


@verb(
    "mcp",
    looks=lambda given: given["read_only"],
    view="commands",
    unrecorded=("token_file",),
    example="avfs mcp --read-only",
)
@click.option("--read-only", is_flag=True, help="Offer only tools that change nothing.")
@click.option("--http", is_flag=True, help="Serve over HTTP instead of standard input and output.")
@click.option("--host", default="127.0.0.1", show_default=True, help="With --http: the address to listen at.")
@click.option("--port", type=click.IntRange(0, 65535), default=0, help="With --http: the port; a free one by default.")
@click.option(
    "--token-file", type=HOST_PATH, metavar="FILE", help="With --http: read the token from FILE; by default a new one."
)
@click.option(
    "--allow-host", multiple=True, metavar="NAME", help="With --http: another name that the server is reached by."
)
def command(
    state: State,
    read_only: bool,
    http: bool,
    host: str,
    port: int,
    token_file: Path | None,
    allow_host: tuple[str, ...],
) -> Served:
    """Serve vaults and forks to agents over the Model Context Protocol

    A client starts it and talks to it over standard input and output; with --http, clients connect to it, and the URL
    and the token are on standard error. --vault limits it to a vault, and --vault with a fork, or --fork, to that fork.
    Without them it works where it was started, and calls may name any vault of the home. No mount is needed.
    """
    if not http and (token_file is not None or allow_host or port):
        raise BadUsage("these options need --http")
    if state.json:
        raise BadUsage("a server has no result: leave out --json")
    token = _read_token(token_file) if http else ""
    scope = _find_scope(state, read_only=read_only)
    server = _make_server(scope)
    _join_trace()
    if not http:
        with _ended_by_signals():
            server.run("stdio")
        raise click.exceptions.Exit(0)
    from avfs_git.mcp.http import PATH, listen, serve  # noqa: PLC0415 - see `_make_server`

    listening = listen(host, port)
    shown = f"[{host}]" if ":" in host else host
    url = f"http://{shown}:{listening.getsockname()[1]}{PATH}"
    state.output.note(f"serving {url}")
    if token_file is None:
        state.output.note(f"token: {token}")
    with _ended_by_signals():
        serve(
            server, listening, token=token, hosts=[*allow_host, *([shown] if host not in ("127.0.0.1", "::1") else [])]
        )
    return {"url": url}


@contextmanager
def _ended_by_signals() -> Iterator[None]:
    """Let SIGINT and SIGTERM end this process at once, for as long as the block runs.

    An exception that a handler raises ends anywhere in the event loop, which may swallow it and wait for its threads
    for ever. What a server leaves so is what a crash leaves: each call is an operation that survives one.
    """
    before = {number: signal.signal(number, _leave) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _leave(number: int, _frame: object) -> NoReturn:
    os._exit(128 + number)


def _find_scope(state: State, *, read_only: bool) -> Scope:
    """Say what the server works in: as for every command, and where options name it, there only.

    Raises:
        PlaceDisputed: If directory and environment contradict each other, and the server has tools that change files:
            its calls name neither.
    """
    try:
        from avfs_git.mcp.scope import Reach, Scope  # noqa: PLC0415 - not for the help
    except ModuleNotFoundError as error:
        raise ExtraMissing("avfs mcp", "mcp", error.name or "mcp") from error
    from avfs_git.cli.environment import open_home  # noqa: PLC0415 - not for the help

    choice = state.choose()
    named = state.named()
    reach = Reach.FORK if named.fork is not None else Reach.VAULT if named.vault is not None else Reach.HOME
    if reach < Reach.HOME:
        with state.open_vault_and_fork() as (vault, fork):
            if fork is not None:
                vault.fork_info(fork)  # what is not there is told now
            return Scope(
                partial(open_home), vault.name if choice.vault is None else choice.vault, fork, reach, read_only
            )
    state.check_undisputed()
    return Scope(partial(open_home), choice.vault, choice.fork, reach, read_only)


def _make_server(scope: Scope) -> MCPServer:
    """Make the server.

    Raises:
        ExtraMissing: If its packages are not installed.
    """
    from avfs_git.cli.commands.running.approvals import describe  # noqa: PLC0415 - not for the help

    try:
        from avfs_git.mcp.server import make_server  # noqa: PLC0415 - takes a second to load
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("avfs_git"):
            raise
        raise ExtraMissing("avfs mcp", "mcp", error.name or "mcp") from error
    return make_server(scope, describe)


def _join_trace() -> None:
    from avfs_git.cli.environment import find_trace  # noqa: PLC0415 - not for the help
    from avfs_git.sdk.spans import join  # noqa: PLC0415 - as above

    join(find_trace())


def _read_token(file: Path | None) -> str:
    if file is None:
        return secrets.token_urlsafe(32)
    try:
        token = file.read_text("utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        cause = error if isinstance(error, OSError) else OSError(str(error))
        raise HostError(f"read the token in {shlex.quote(str(file))}", cause) from error
    if len(token) < _MIN_TOKEN or not token.isascii() or not token.isprintable() or " " in token:
        raise BadUsage(
            f"a token has at least {_MIN_TOKEN} letters and digits, and no space",
            hint="`openssl rand -hex 32` makes one.",
        )
    return token
